//! `test` and `bench`: a policy on the host and in a throw-away server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::node::Node;
use crate::nodes::name_of;
use crate::scratch::{Parts, Scratch};
use crate::{inspect, transcript};

/// What is put to the test.
#[derive(Args, Debug)]
pub struct Subject {
    /// The policy's crate, or a component.
    path: PathBuf,
    #[command(flatten)]
    parts: Parts,
}

/// Unit tests of a crate, the sandbox, then the transcript in a server.
pub fn test(root: &Path, subject: &Subject, script: Option<&Path>) -> Result<()> {
    if subject.path.is_dir() {
        let manifest = subject.path.join("Cargo.toml");
        let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
        // The checkout's target folder has most of it built already.
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        run(command.env("CARGO_TARGET_DIR", target).args(["test", "--release", "--manifest-path"]).arg(manifest))?;
    }
    let component = component(root, &subject.path)?;
    inspect::run(&component)?;
    let script = match script {
        Some(script) => script.to_owned(),
        None if subject.path.is_dir() => subject.path.join("tests/server.txt"),
        None => bail!("a component alone has no transcript: name one with --script"),
    };
    let text = fs::read_to_string(&script).with_context(|| format!("cannot read {}", script.display()))?;
    let wasm = fs::read(&component)?;
    let server = Scratch::start(root, &subject.parts)?;
    let steps = transcript::play(&text, &mut server.client()?, &wasm)
        .with_context(|| script.display().to_string())
        .inspect_err(|_| eprintln!("the server's log ends:\n{}", server.last_lines()))?;
    println!("{}: {steps} commands, as expected", script.display());
    Ok(())
}

/// Jobs in a batch, and batches of each kind. The first of each kind warms up.
const BATCH: usize = 200;
const BATCHES: usize = 51;

/// The cost of a call, in the policy and to a client.
///
/// Two queues take turns in one server, and the policy covers one of them: what else goes on at the time falls on both.
/// It runs in observe, so that what it refuses is written like the rest.
pub fn bench(root: &Path, subject: &Subject, config: &str, data_bytes: usize) -> Result<()> {
    let component = component(root, &subject.path)?;
    let (name, wasm) = (name_of(&component)?, fs::read(&component)?);
    let server = Scratch::start(root, &subject.parts)?;
    let mut node = server.client()?;
    let words = ["BULL.POLICY", "LOAD", &name, "MODE", "observe", "QUEUES", "bull:with", "CONFIG", config];
    let mut load: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    load.push(&wasm);
    let loaded = node.ask(&load)?;
    let data = format!("\"{}\"", "x".repeat(data_bytes.saturating_sub(2)));
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for batch in 0..BATCHES {
        // Each goes first in turn.
        let queues = if batch % 2 == 0 { ["bull:with", "bull:without"] } else { ["bull:without", "bull:with"] };
        for queue in queues {
            let micros = add_batch(&mut node, queue, &data)?;
            if batch > 0 {
                if queue == "bull:with" { with.push(micros) } else { without.push(micros) }
            }
        }
    }
    if with.iter().chain(&without).any(|micros| *micros <= 0.0) {
        bail!("the server's commandstats do not count BULL.ADD");
    }
    let info = node.ask(&["BULL.POLICY", "INFO", &name])?;
    let number = |key: &str| info.text(key).parse::<f64>().unwrap_or(f64::NAN);
    if number("faults") > 0.0 {
        bail!("the policy failed {} times, the last time: {}", info.text("faults"), info.text("last-error"));
    }
    let [with, without] = [&mut with, &mut without].map(|times| median(times));
    println!("{name} {}: {} bytes, compiled in {} ms", info.text("version"), wasm.len(), loaded.text("compile-ms"));
    println!(
        "admit     p50 {:.1} us, p99 {:.1} us over {} calls; {} jobs met its terms and needed none",
        number("p50-ns") / 1e3,
        number("p99-ns") / 1e3,
        number("calls") - number("unasked"),
        number("unasked")
    );
    println!("BULL.ADD  {with:.1} us with it, {without:.1} us without: {:+.1} us", with - without);
    Ok(())
}

/// The server's time for a job, microseconds.
fn add_batch(node: &mut Node, queue: &str, data: &str) -> Result<f64> {
    let before = spent(node)?;
    for _ in 0..BATCH {
        node.ask(&["BULL.ADD", queue, "job", data])?;
    }
    Ok((spent(node)? - before) / BATCH as f64)
}

/// Microseconds that BULL.ADD has taken so far.
fn spent(node: &mut Node) -> Result<f64> {
    let text = node.ask(&["INFO", "commandstats"])?.line();
    let named = |line: &&str| line.get(..17).is_some_and(|name| name.eq_ignore_ascii_case("cmdstat_bull.add:"));
    let Some(stats) = text.lines().find(named).map(|line| &line[17..]) else { return Ok(0.0) };
    let usec = stats.split(',').find_map(|part| part.strip_prefix("usec="));
    usec.and_then(|usec| usec.parse().ok()).context("INFO commandstats has no usec for BULL.ADD")
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The component: the file itself, or what the crate is built to.
fn component(root: &Path, path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    let folder = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))
        .with_context(|| format!("{} is neither a component nor a crate", path.display()))?;
    run(Command::new(root.join("scripts/build-policies")).arg(&folder))?;
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).unwrap_or_default().trim_matches('"');
    Ok(folder.join(format!("{}.wasm", name.replace('-', "_"))))
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot start {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    Ok(())
}
