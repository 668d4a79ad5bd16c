//! The long form of `tests/tests/faults.rs`: the same scenarios with more faults, for as long as asked.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bull_tests::soak::trims::{self, Wanted};
use bull_tests::soak::{HEADER, Row, Seed, calls, faults, torn};
use clap::Parser;

/// Faults under a real load, from a seed. Stops at the first job lost, doubled or torn.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// Seed of the schedule; the clock's where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Kills in each round, half of them with appendfsync always.
    #[arg(long, default_value_t = 20)]
    kills: u64,
    /// Failovers in each round.
    #[arg(long, default_value_t = 20)]
    failovers: u64,
    /// Failovers in the middle of a trim, and as many in the middle of the retention, in each round.
    #[arg(long, default_value_t = 20)]
    trim_failovers: u64,
    /// Pauses, reloads and resynchronisations in each round.
    #[arg(long, default_value_t = 60)]
    disturbances: u64,
    /// Rounds of adding and trimming 5,000 jobs.
    #[arg(long, default_value_t = 20)]
    cycles: u64,
    /// Bytes of an AOF's tail to cut at, each of them.
    #[arg(long, default_value_t = 2000)]
    truncations: usize,
    /// Random calls in each round.
    #[arg(long, default_value_t = 1_000_000)]
    calls: u64,
    /// Begins rounds until so many minutes have passed; one round by default.
    #[arg(long, default_value_t = 0)]
    minutes: u64,
}

fn main() {
    let options = Options::parse();
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let mut seed = Seed(options.seed.unwrap_or_else(clock));
    println!("seed {}\n{HEADER}", seed.0);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    loop {
        round(&options, &mut seed);
        if Instant::now() >= end {
            break;
        }
    }
}

fn round(options: &Options, seed: &mut Seed) {
    let half = options.kills / 2;
    let scenarios: [(bool, &dyn Fn(u64) -> Row); 9] = [
        (half > 0, &|seed| faults::kills(half, seed, "always")),
        (half > 0, &|seed| faults::kills(options.kills - half, seed, "everysec")),
        (options.failovers > 0, &|seed| faults::failovers(options.failovers, seed)),
        (options.trim_failovers > 0, &|seed| trims::trims(options.trim_failovers, seed, Wanted::ByClient)),
        (options.trim_failovers > 0, &|seed| trims::trims(options.trim_failovers, seed, Wanted::ByProfile)),
        (options.disturbances > 0, &|seed| faults::disturbances(options.disturbances, seed)),
        (options.cycles > 5, &|seed| faults::memory(options.cycles, 5000, seed)),
        (options.truncations > 0, &|seed| torn::truncations(options.truncations, seed)),
        (options.calls > 0, &|seed| calls::calls(options.calls, seed)),
    ];
    for (_, run) in scenarios.iter().filter(|(wanted, _)| *wanted) {
        println!("{}", run(seed.draw() >> 32).markdown());
    }
}
