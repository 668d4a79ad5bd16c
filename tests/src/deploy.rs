//! The scripts and configurations of `deploy/` and `scripts/cluster` under test: a folder that goes at the end, an
//! environment of made-up passwords, servers that end with the test. Never touches anything outside its folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::workspace;

/// The users of `deploy/acl/users.acl.in` that have a password, as in the names of the variables.
pub const USERS: [&str; 8] = ["ADMIN", "REPLICA", "PROBE", "WORKER", "API", "API_BULLMQ", "METRICS", "OPERATOR"];
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The password of a user, in its own name or that of its variable.
pub fn password(user: &str) -> String {
    format!("of-{}", user.to_lowercase().replace('_', "-"))
}

/// A folder for one test, and the environment of the scripts that run in it.
#[derive(Debug)]
pub struct Site {
    dir: PathBuf,
    env: Vec<(String, String)>,
    servers: Vec<Child>,
}

impl Site {
    /// An empty folder; every user of the ACL file has a password in the environment.
    pub fn new() -> Site {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("bull-site-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let env = USERS.iter().map(|user| (format!("BULL_PASSWORD_{user}"), password(user))).collect();
        Site { dir, env, servers: vec![] }
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in the folder, as text.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Sets a variable for all scripts from here on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.into()));
    }

    /// Takes a variable away.
    pub fn unset(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// A script or program of the workspace with the environment of this site and no standard input.
    pub fn command(&self, program: &str) -> Command {
        let path = workspace().join(program);
        let mut command = Command::new(if path.exists() { path } else { PathBuf::from(program) });
        command.current_dir(workspace()).stdin(Stdio::null()).envs(self.env.iter().cloned());
        command
    }

    /// Runs it to its end.
    pub fn try_run<W: AsRef<OsStr>>(&self, program: &str, words: &[W]) -> Output {
        self.command(program).args(words).output().unwrap_or_else(|error| panic!("{program} does not run: {error}"))
    }

    /// Runs it, and gives what it prints.
    ///
    /// # Panics
    /// Where it fails, with all that it printed.
    pub fn run<W: AsRef<OsStr> + std::fmt::Debug>(&self, program: &str, words: &[W]) -> String {
        let output = self.try_run(program, words);
        assert!(output.status.success(), "{program} {words:?}: {}\n{}", output.status, all(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs it, and gives what it says as it fails.
    ///
    /// # Panics
    /// Where it does not fail.
    pub fn refused<W: AsRef<OsStr> + std::fmt::Debug>(&self, program: &str, words: &[W]) -> String {
        let output = self.try_run(program, words);
        assert!(!output.status.success(), "{program} {words:?} was to fail:\n{}", all(&output));
        all(&output)
    }

    /// Starts a server in the foreground, to end with this site.
    pub fn serve<W: AsRef<OsStr>>(&mut self, binary: &Path, words: &[W]) {
        let child = Command::new(binary)
            .args(words)
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", binary.display()));
        self.servers.push(child);
    }

    /// Waits until the server that was started last has ended: one that nobody reaches may still hold its port.
    pub fn wait_ended(&mut self) {
        let mut child = self.servers.pop().expect("a server was started");
        self.wait_until("the server ends", || child.try_wait().expect("a process of ours").is_some());
    }

    /// Polls until it holds.
    ///
    /// # Panics
    /// With `what` where it does not within 20 s.
    pub fn wait_until(&self, what: &str, done: impl FnMut() -> bool) {
        assert!(self.holds(done), "{what}: not within {PATIENCE:?}");
    }

    /// Polls until it holds, for 20 s at most. Whether it does.
    pub fn holds(&self, mut done: impl FnMut() -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Both outputs of a program.
pub fn all(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}
