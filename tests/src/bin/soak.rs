//! The long form of `tests/tests/faults.rs` and `fault_matrix.rs`: the same scenarios with more faults, for as long as asked.
//! Each leaves a line in target/soak/results.jsonl, from which `soak report` writes the tables of
//! docs/trust.md and the README.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bull_tests::soak::kills::{Keeping, kills};
use bull_tests::soak::trims::{self, Wanted};
use bull_tests::soak::{HEADER, Row, Seed, calls, faults, matrix, memory, pace, report, torn};
use clap::{Parser, Subcommand, ValueEnum};

/// Faults under a real load, from a seed. Stops at the first job lost, doubled or torn.
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// Seed of the schedule; the clock's where it is not given.
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Begins rounds until so many minutes have passed; one round by default.
    #[arg(long, global = true, default_value_t = 0)]
    minutes: u64,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// A round of everything, some minutes.
    All,
    /// Cuts an AOF at each byte of its tail.
    Truncate {
        #[arg(long, default_value_t = 65_536)]
        bytes: usize,
        /// One cut of so many bytes.
        #[arg(long, default_value_t = 1)]
        every: u64,
    },
    /// Kill -9 under load, so often by each way of keeping data.
    Kills {
        #[arg(long, default_value_t = 200)]
        count: u64,
        /// One way alone.
        #[arg(long, value_enum)]
        keeping: Option<Keeping>,
    },
    /// The rows of the fault matrix: disk, clock, links, roles, databases, children.
    Matrix {
        /// How much longer than in the tests.
        #[arg(long, default_value_t = 10)]
        times: u64,
    },
    /// Random calls of every command.
    Calls {
        #[arg(long, default_value_t = 10_000_000)]
        count: u64,
    },
    /// Failovers, also in the middle of trims, pauses, reloads, resynchronisations.
    Roles {
        #[arg(long, default_value_t = 100)]
        count: u64,
    },
    /// Rounds of adding and trimming 5,000 jobs: the slope of used memory, less that of a stock server beside it.
    Memory {
        #[arg(long, default_value_t = 60)]
        rounds: u64,
    },
    /// The same with 1,000 jobs and a policy that is replaced in each round.
    Swaps {
        #[arg(long, default_value_t = 60)]
        rounds: u64,
    },
    /// A PING a millisecond at rest and under load.
    Pace {
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Writes the tables of docs/trust.md and the README from what the runs left.
    Report,
}

type Scenario = (&'static str, Box<dyn Fn(u64) -> Row>);

fn scenarios(what: &What) -> Vec<Scenario> {
    fn one(name: &'static str, run: impl Fn(u64) -> Row + 'static) -> Scenario {
        (name, Box::new(run))
    }
    match what.clone() {
        What::All => {
            let parts = [
                What::Kills { count: 15, keeping: None },
                What::Roles { count: 10 },
                What::Matrix { times: 2 },
                What::Memory { rounds: 12 },
                What::Swaps { rounds: 12 },
                What::Truncate { bytes: 20_000, every: 30 },
                What::Calls { count: 200_000 },
            ];
            parts.iter().flat_map(scenarios).collect()
        }
        What::Truncate { bytes, every } => vec![one("truncate", move |seed| torn::truncations(bytes, every, seed))],
        What::Kills { count, keeping } => Keeping::value_variants()
            .iter()
            .copied()
            .filter(|one| keeping.is_none_or(|only| only == *one))
            .map(|keeping| one("kills", move |seed| kills(count, seed, keeping)))
            .collect(),
        What::Matrix { times } => {
            matrix::ALL.into_iter().map(|(name, run)| one(name, move |seed| run(times, seed))).collect()
        }
        What::Calls { count } => vec![one("calls", move |seed| calls::calls(count, seed))],
        What::Roles { count } => vec![
            one("failovers", move |seed| faults::failovers(count, seed)),
            one("trims", move |seed| trims::trims(count, seed, Wanted::ByClient)),
            one("retention", move |seed| trims::trims(count, seed, Wanted::ByProfile)),
            one("disturbances", move |seed| faults::disturbances(3 * count, seed)),
        ],
        What::Memory { rounds } => vec![one("memory", move |seed| memory::memory(rounds, seed))],
        What::Swaps { rounds } => vec![one("swaps", move |seed| memory::swapped(rounds, seed))],
        What::Pace { seconds } => vec![one("pace", move |seed| pace::pace(seconds, seed))],
        What::Report => vec![],
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let what = options.what.unwrap_or(What::All);
    if matches!(what, What::Report) {
        return match report::write() {
            Ok(came) => {
                println!("{came} runs came to {}", report::document().display());
                ExitCode::SUCCESS
            }
            Err(text) => {
                eprintln!("soak: {text}");
                ExitCode::FAILURE
            }
        };
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs());
    let mut seed = Seed(options.seed.unwrap_or_else(clock));
    println!("seed {}\n{HEADER}", seed.0);
    let end = Instant::now() + Duration::from_secs(options.minutes * 60);
    loop {
        for (name, run) in scenarios(&what) {
            let seed = seed.draw() >> 32;
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed))).map_err(|panic| {
                let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
                format!("seed {seed}: {}", text.unwrap_or("a panic without a text"))
            });
            report::record(name, &outcome);
            match outcome {
                Ok(row) => println!("{}", row.markdown()),
                Err(text) => {
                    eprintln!("soak: {name} failed: {text}");
                    return ExitCode::FAILURE;
                }
            }
            if options.minutes > 0 && Instant::now() >= end {
                return ExitCode::SUCCESS;
            }
        }
        if Instant::now() >= end {
            return ExitCode::SUCCESS;
        }
    }
}
