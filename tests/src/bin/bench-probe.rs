//! The probe of `scripts/bench`: a PING a millisecond, until its input ends; then it prints one line of JSON, in milliseconds:
//! `p50`, `p99`, `max` of all waits, `ownP99`, `ownMax` without what other programs took, and `others`, the cores they used.

use std::io::Read;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bull_tests::arrivals;
use bull_tests::cores::Others;
use clap::Parser;

#[derive(Debug, Parser)]
#[command(name = "bench-probe")]
struct Options {
    #[arg(long)]
    port: u16,
    /// The server's process id.
    #[arg(long)]
    process: u32,
    /// Further processes that are no others': those that load the server.
    #[arg(long)]
    ours: Vec<u32>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        // Whatever ends the input ends the probe.
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        end.store(true, Ordering::Relaxed);
    });
    let others = Others::than(&[&[options.process], options.ours.as_slice()].concat());
    let seen = match arrivals::watch(options.port, options.process, || ended.load(Ordering::Relaxed)) {
        Ok(seen) => seen,
        Err(error) => {
            eprintln!("bench-probe: port {}: {error}", options.port);
            return ExitCode::FAILURE;
        }
    };
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let line = serde_json::json!({
        "count": seen.samples, "p50": ms(seen.p50), "p99": ms(seen.p99), "max": ms(seen.max),
        "ownP99": ms(seen.own_p99), "ownMax": ms(seen.own), "others": others.cores(),
    });
    println!("{line}");
    ExitCode::SUCCESS
}
