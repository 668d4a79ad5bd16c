//! `bull-top`, run by scripts/top: the queues of one or more nodes, live.
//!
//! A thread asks the nodes; the screen is drawn whenever there is news, a key or another size. The terminal is put back
//! as it was on `q`, Escape, Ctrl-C, SIGTERM and on a panic.

mod data;
mod draw;
mod print;

use std::io::{IsTerminal, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bull_policy::node::Reach;
use clap::{Parser, ValueEnum};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGTERM};

use data::Picture;
use print::Colour;

/// The queues of nodes with redis-bull: depth, age, pace, bytes against budget, policies and their last decisions.
///
/// Quit with q.
#[derive(Parser)]
#[command(name = "top", version)]
struct Cli {
    #[command(flatten)]
    reach: Reach,
    /// Queues whose qualified name fits: * is any text, ? one character.
    #[arg(long = "match", value_name = "PATTERN", default_value = "*")]
    pattern: String,
    /// Seconds between two looks.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// Queues shown at most.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rows: u16,
    /// Print once and end.
    #[arg(long)]
    once: bool,
    /// Colours of --once.
    #[arg(long, value_enum, default_value = "auto")]
    color: When,
    /// Columns of --once; by default those of the terminal, or 150.
    #[arg(long, value_parser = clap::value_parser!(u16).range(20..=500))]
    width: Option<u16>,
    /// With --once: write the picture as SVG into this file instead.
    #[arg(long, value_name = "FILE", requires = "once")]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    /// Where the output is a terminal.
    Auto,
    Always,
    Never,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = if cli.once { once(&cli) } else { live(cli) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ");
            eprintln!("top: {text}");
            ExitCode::FAILURE
        }
    }
}

fn look(cli: &Cli) -> Result<Picture> {
    let (mut nodes, lost) = cli.reach.nodes()?;
    Ok(data::read(&mut nodes, lost, &cli.pattern, usize::from(cli.rows)))
}

fn once(cli: &Cli) -> Result<()> {
    let picture = look(cli)?;
    let width = cli.width.or_else(|| stdout().is_terminal().then(crossterm::terminal::size)?.ok().map(|size| size.0));
    let buffer = print::buffer(&picture, width.unwrap_or(150));
    if let Some(path) = &cli.svg {
        std::fs::write(path, print::svg(&buffer)).with_context(|| format!("cannot write {}", path.display()))?;
    } else {
        let colour = match cli.color {
            When::Always => Colour::Ansi,
            When::Auto if stdout().is_terminal() => Colour::Ansi,
            _ => Colour::No,
        };
        print!("{}", print::lines(&buffer, colour));
    }
    if picture.nodes.is_empty() {
        bail!("no node answered: {}", picture.lost.join("; "));
    }
    Ok(())
}

fn live(cli: Cli) -> Result<()> {
    if !stdout().is_terminal() {
        bail!("the output is no terminal; --once prints one picture");
    }
    // What cannot work is said before the screen is taken.
    let first = look(&cli)?;
    if first.nodes.is_empty() {
        bail!("no node answered: {}", first.lost.join("; "));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, ended.clone())?;
    }
    let (sender, pictures) = sync_channel(1);
    thread::spawn(move || ask(&cli, &sender));
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let result = screen(&mut terminal, first, &pictures, &ended);
    ratatui::try_restore().context("the terminal could not be put back")?;
    result
}

/// The thread: asks until nobody takes the pictures any more.
fn ask(cli: &Cli, pictures: &SyncSender<Picture>) {
    let mut nodes = Vec::new();
    let mut lost = vec![String::new()];
    loop {
        // Nodes that went come back, and those of a cluster change.
        if !lost.is_empty() || nodes.is_empty() {
            (nodes, lost) = match cli.reach.nodes() {
                Ok(found) => found,
                Err(error) => (Vec::new(), vec![format!("{error:#}")]),
            };
        }
        let picture = data::read(&mut nodes, lost, &cli.pattern, usize::from(cli.rows));
        lost = picture.lost.clone();
        if pictures.send(picture).is_err() {
            return;
        }
        thread::sleep(Duration::from_secs(cli.interval));
    }
}

fn screen(
    terminal: &mut ratatui::DefaultTerminal,
    mut picture: Picture,
    pictures: &Receiver<Picture>,
    ended: &AtomicBool,
) -> Result<()> {
    while !ended.load(Ordering::Relaxed) {
        terminal.draw(|frame| draw::draw(frame, &picture))?;
        if event::poll(Duration::from_millis(100))? && quits(&event::read()?) {
            break;
        }
        while let Ok(newer) = pictures.try_recv() {
            picture = newer;
        }
    }
    Ok(())
}

fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press
        && match key.code {
            KeyCode::Char('q') | KeyCode::Esc => true,
            KeyCode::Char('c' | 'd') => control,
            _ => false,
        }
}
