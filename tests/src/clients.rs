//! Unmodified BullMQ clients from npm and PyPI, installed as the lock files of `tests/bullmq` and `tests/python` say.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::workspace;

/// Where the scripts and packages of BullMQ lie.
const OURS: &str = "tests/bullmq";

/// A client as a test names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    V4,
    V5,
    V6,
    Python,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::V4, Kind::V5, Kind::V6, Kind::Python];

    /// The package's name in `tests/bullmq`, or `python`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::V4 => "bullmq4",
            Kind::V5 => "bullmq5",
            Kind::V6 => "bullmq",
            Kind::Python => "python",
        }
    }

    /// The command that runs this client's script of that name: `tests/bullmq/<script>.mjs`, or `tests/python/<script>.py`.
    pub fn command(self, script: &str) -> Command {
        if self == Kind::Python {
            let mut command = Command::new(python());
            command.arg(workspace().join("tests/python").join(format!("{script}.py")));
            return command;
        }
        let mut command = node(&format!("{script}.mjs"));
        command.args(["--client", self.name()]);
        command
    }
}

/// The command that runs a script of `tests/bullmq`.
pub fn node(script: &str) -> Command {
    install();
    let mut command = Command::new("node");
    command.arg(folder().join(script));
    command
}

/// Runs a command to its end.
///
/// # Panics
/// Where it cannot be started.
pub fn output(mut command: Command) -> (Output, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not run: {error}"));
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
    (output, text)
}

fn folder() -> PathBuf {
    workspace().join(OURS)
}

/// Installs the packages of `tests/bullmq`, once.
pub fn install() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| install_in(OURS));
}

/// Installs the packages of a folder's lock file, unless that very lock file is installed already.
///
/// # Panics
/// Where npm is missing or fails.
pub fn install_in(place: &str) {
    let folder = workspace().join(place);
    let lock = fs::read(folder.join("package-lock.json")).unwrap_or_else(|error| panic!("{place}: {error}"));
    let stamp = folder.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return;
    }
    let output = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(&folder)
        .output()
        .unwrap_or_else(|error| panic!("npm does not run ({error}): install Node 20 and npm"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "npm ci in {place} failed:\n{errors}");
    fs::write(stamp, lock).expect("node_modules is writable");
}

/// The Python that has the client: `scripts/python-client` installs it.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let (done, text) = output(Command::new(workspace().join("scripts/python-client")));
        assert!(done.status.success(), "scripts/python-client failed:\n{text}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    })
}
