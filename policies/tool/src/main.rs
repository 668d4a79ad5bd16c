//! `bull-policy`, run by scripts/policy: the author's kit for policies.
//!
//! - `new`, `test`, `bench`: from an empty folder to a policy whose cost is known;
//! - `push`, `status`, `remove`: a policy on one node or on all of a cluster;
//! - `componentize`, `inspect`: the component as a file.
//!
//! It never runs a policy itself: only a server with the module does.

mod componentize;
mod inspect;
mod new;
mod nodes;
mod scratch;
mod transcript;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use bull_policy::node;
use node::Reach;
use nodes::Settings;
use trial::Subject;

/// Makes, tests, measures and distributes redis-bull policies.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The checkout of redis-bull; scripts/policy sets it.
    #[arg(long, env = "BULL_ROOT", default_value = ".", global = true, hide = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a crate with a policy that builds and passes its tests.
    New {
        /// The new folder, outside the checkout; its name is the policy's.
        folder: PathBuf,
    },
    /// Runs a policy's unit tests, then its transcript in a throw-away server.
    Test {
        #[command(flatten)]
        subject: Subject,
        /// The transcript; without it the crate's tests/server.txt.
        #[arg(long, value_name = "FILE")]
        script: Option<PathBuf>,
    },
    /// Measures what a call costs, in a throw-away server.
    Bench {
        #[command(flatten)]
        subject: Subject,
        /// The configuration, a JSON object.
        #[arg(long, value_name = "JSON", default_value = "{}")]
        config: String,
        /// Bytes of each job's data.
        #[arg(long, default_value_t = 100)]
        data_bytes: usize,
    },
    /// Loads a policy on the nodes; nothing is changed unless all of them are reached.
    Push {
        /// The component.
        component: PathBuf,
        /// The policy's name; without it the file's, with - for _.
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        settings: Settings,
        #[command(flatten)]
        reach: Reach,
    },
    /// Shows which policies the nodes have. Fails if they differ.
    Status {
        /// Only this policy.
        name: Option<String>,
        #[command(flatten)]
        reach: Reach,
    },
    /// Removes a policy from the nodes.
    Remove {
        /// The policy.
        name: String,
        #[command(flatten)]
        reach: Reach,
    },
    /// Makes a component of the core wasm module that a policy compiles to.
    Componentize {
        /// The core module, such as target/wasm32-unknown-unknown/guest/my_policy.wasm.
        core: PathBuf,
        /// Where the component goes.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The folder of the world, such as wit/1.0.0, for a module that does not name it.
        #[arg(long, value_name = "FOLDER")]
        wit: Option<PathBuf>,
    },
    /// Shows a component's imports, exports, size and memory. Fails if it imports a function.
    Inspect {
        /// The component.
        component: PathBuf,
    },
}

fn main() -> ExitCode {
    let Cli { root, command } = Cli::parse();
    let result = match &command {
        Command::New { folder } => new::run(&root, folder),
        Command::Test { subject, script } => trial::test(&root, subject, script.as_deref()),
        Command::Bench { subject, config, data_bytes } => trial::bench(&root, subject, config, *data_bytes),
        Command::Push { component, name, settings, reach } => nodes::push(reach, component, name.as_deref(), settings),
        Command::Status { name, reach } => nodes::status(reach, name.as_deref()),
        Command::Remove { name, reach } => nodes::remove(reach, name),
        Command::Componentize { core, output, wit } => componentize::run(core, output, wit.as_deref()),
        Command::Inspect { component } => inspect::run(component),
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
