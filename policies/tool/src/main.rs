//! `bull-policy`: works on policies as files, without a server.
//!
//! - `componentize` wraps the core module that rustc made in a component, the form that BULL.POLICY LOAD takes.
//! - `inspect` shows what a component imports and exports, so that anybody can see that it reaches nothing.
//!
//! It never runs a policy and never talks to Redis.

mod componentize;
mod inspect;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Works on redis-bull policies as files.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a component of the core wasm module that a policy crate compiles to.
    Componentize {
        /// The core module, such as target/wasm32-unknown-unknown/guest/my_policy.wasm.
        core: PathBuf,
        /// Where the component goes.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Shows a component's imports, exports, size and memory. Fails if it imports a function.
    Inspect {
        /// The component.
        component: PathBuf,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Componentize { core, output } => componentize::run(&core, &output),
        Command::Inspect { component } => inspect::run(&component),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bull-policy: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes on one line, as the libraries' own texts run over several.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}
