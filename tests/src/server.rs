//! A server of its own for a test: a free loopback port, a folder that goes with it, and a look
//! into its log at the end. A server that crashed fails its test, whatever the test saw.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Reply};
use crate::engine;
use crate::mode::{self, Mode};

/// How long a server may take to answer its first PING, or to go.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a server writes to its log when it has crashed.
const CRASH_MARKS: [&str; 3] = ["BUG REPORT", "crashed by signal", "ASSERTION FAILED"];

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Builder {
    engine: String,
    module: bool,
    appendonly: bool,
    mode: Mode,
    lines: Vec<String>,
    files: Vec<(String, PathBuf)>,
    environment: Vec<(String, String)>,
    file_limit: Option<u64>,
}

impl Builder {
    /// Names the engine; by default that of `BULL_ENGINE`.
    pub fn engine(mut self, name: &str) -> Self {
        name.clone_into(&mut self.engine);
        self
    }

    /// `false` for a stock server.
    pub fn with_module(mut self, on: bool) -> Self {
        self.module = on;
        self
    }

    /// An AOF, written and synced at each command.
    pub fn appendonly(mut self, on: bool) -> Self {
        self.appendonly = on;
        self
    }

    /// A server that `BULL_MODE` does not change: for tests of what the mode itself would disturb.
    pub fn plain(mut self) -> Self {
        self.mode = Mode::Plain;
        self
    }

    /// One more line of configuration, after all others.
    pub fn config(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// A replica of `primary`.
    pub fn replica_of(self, primary: &Server) -> Self {
        self.config(format!("replicaof 127.0.0.1 {}", primary.port))
    }

    /// Copies a file or a folder into the server's own folder under this name before it starts.
    pub fn with_file(mut self, name: &str, from: impl Into<PathBuf>) -> Self {
        self.files.push((name.to_owned(), from.into()));
        self
    }

    /// A variable of the server's environment.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// No file of the server may grow beyond so many bytes, as if the disk were full; [`Server::free_disk`] lifts it.
    pub fn full_disk_at(mut self, bytes: u64) -> Self {
        self.file_limit = Some(bytes);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// Where the engine or the module is missing, or the server does not come up.
    pub fn start(mut self) -> Server {
        let sets = |word: &str| self.lines.iter().any(|line| line.split_ascii_whitespace().next() == Some(word));
        // A replica follows its primary, and who asks for a cluster makes it.
        if !self.module || ["replicaof", "cluster-enabled"].into_iter().any(sets) {
            self.mode = Mode::Plain;
        }
        let binary = engine::binary(&self.engine);
        let module = self.module.then(engine::module);
        let dir = fresh_dir();
        for (name, from) in &self.files {
            copy(from, &dir.join(name));
        }
        let mut server = Server { builder: self, binary, module, dir, port: 0, child: None, logged: 0, replica: None };
        // A free port may be taken by another test before the server binds it.
        for _ in 0..5 {
            server.port = free_port();
            match server.launch() {
                Ok(()) => {
                    server.enter_mode();
                    return server;
                }
                Err(text) if text.contains("Address already in use") => server.wait_gone(),
                Err(text) => panic!("{}", server.failed_start(&text)),
            }
        }
        panic!("no free port in five tries");
    }
}

/// A running server. Killed when dropped.
#[derive(Debug)]
pub struct Server {
    builder: Builder,
    binary: PathBuf,
    module: Option<PathBuf>,
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    /// How much of the log was there before the last start.
    logged: usize,
    /// A stock server that follows this one, where the mode wants it.
    replica: Option<Box<Server>>,
}

impl Server {
    /// A server with the module, without AOF, on the engine of this run.
    pub fn builder() -> Builder {
        Builder {
            engine: engine::chosen(),
            module: true,
            appendonly: false,
            mode: Mode::chosen(),
            lines: vec![],
            files: vec![],
            environment: vec![],
            file_limit: None,
        }
    }

    /// A server with the module and nothing else.
    pub fn start() -> Server {
        Server::builder().start()
    }

    /// A stock server, without the module.
    pub fn stock() -> Server {
        Server::builder().with_module(false).start()
    }

    /// The process id, as the kernel knows it.
    ///
    /// # Panics
    /// Where the server does not run.
    pub fn process(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("a running server")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's folder: `dump.rdb`, `appendonlydir`, `bull-policies`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("no connection to port {}: {error}", self.port))
    }

    /// All that this server has logged, over restarts too.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.dir.join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Stops the server as an operator would, and starts it again in the same folder and port.
    pub fn restart(&mut self) {
        self.shutdown();
        self.start_again();
    }

    /// SHUTDOWN, without a snapshot unless save points are configured.
    pub fn shutdown(&mut self) {
        if let Ok(mut client) = Client::connect(self.port) {
            let reply = client.try_cmd(&["SHUTDOWN"]);
            assert!(!matches!(reply, Ok(Reply::Error(_))), "SHUTDOWN was refused: {reply:?}");
        }
        self.wait_gone();
    }

    /// Kills the process without any warning.
    pub fn kill9(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().expect("a process of ours");
        }
        self.wait_gone();
    }

    /// Starts a server that was stopped, in the same folder and port.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the server still runs");
        if let Err(text) = self.launch() {
            panic!("{}", self.failed_start(&text));
        }
        if self.builder.mode == Mode::Cluster {
            mode::take_all_slots(&mut self.client());
        }
    }

    /// As [`Self::start_again`], where the server may refuse to start.
    ///
    /// # Errors
    /// What its log says.
    pub fn try_start_again(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the server still runs");
        let started = self.launch();
        if started.is_err() {
            self.kill9();
        }
        started
    }

    /// Lifts the limit of [`Builder::full_disk_at`], for later starts too.
    ///
    /// # Panics
    /// Where prlimit does not run.
    pub fn free_disk(&mut self) {
        self.builder.file_limit = None;
        let id = self.process().to_string();
        let output = Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited"]).output();
        let done = output.unwrap_or_else(|error| panic!("prlimit does not run ({error}): install util-linux"));
        assert!(done.status.success(), "prlimit: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The exit status, where the process has ended.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("a process of ours")
    }

    /// The server runs, answers, and has no crash in its log.
    pub fn assert_alive(&mut self) {
        let status = self.exit_status();
        assert!(status.is_none(), "the server ended ({status:?}):\n{}", self.log_tail());
        assert_eq!(self.client().cmd(&["PING"]), Reply::Simple("PONG".into()));
        assert!(!self.crashed(), "the server crashed:\n{}", self.log_tail());
    }

    /// Polls `done` on a connection of its own until it holds.
    ///
    /// # Panics
    /// With `what` where it does not hold within 20 s.
    pub fn wait_until(&self, what: &str, mut done: impl FnMut(&mut Client) -> bool) {
        let mut client = self.client();
        let deadline = Instant::now() + PATIENCE;
        while !done(&mut client) {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}:\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the server has logged `told`: what a tick or another thread logs comes after what it did.
    ///
    /// # Panics
    /// With `told` where it is not there within 20 s.
    pub fn wait_for_log(&self, told: &str) {
        self.wait_until(&format!("the log tells: {told}"), |_| self.log().contains(told));
    }

    fn crashed(&self) -> bool {
        let log = self.log();
        CRASH_MARKS.iter().any(|mark| log.contains(mark))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn failed_start(&self, text: &str) -> String {
        format!("{} did not start: {text}\n{}", self.binary.display(), self.log_tail())
    }

    fn config_text(&self) -> String {
        let mut lines = vec![
            format!("port {}", self.port),
            "bind 127.0.0.1".to_owned(),
            format!("dir \"{}\"", self.dir.display()),
            "logfile server.log".to_owned(),
            "save \"\"".to_owned(),
            "enable-debug-command yes".to_owned(),
            "repl-diskless-sync-delay 0".to_owned(),
            format!("appendonly {}", if self.appendonly() { "yes" } else { "no" }),
            "appendfsync always".to_owned(),
        ];
        if let Some(module) = &self.module {
            lines.push(format!("loadmodule \"{}\"", module.display()));
        }
        if self.builder.mode == Mode::Cluster {
            lines.extend(["cluster-enabled yes".to_owned(), format!("cluster-port {}", cluster_port(self.port))]);
        }
        lines.extend(self.builder.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    fn appendonly(&self) -> bool {
        self.builder.appendonly || self.builder.mode == Mode::Aof
    }

    fn enter_mode(&mut self) {
        match self.builder.mode {
            Mode::Cluster => mode::take_all_slots(&mut self.client()),
            Mode::Replica => {
                let replica = Server::builder().engine(&self.builder.engine).with_module(false).replica_of(self);
                self.replica = Some(Box::new(replica.start()));
            }
            Mode::Plain | Mode::Aof | Mode::Rdb => {}
        }
    }

    /// What the mode finds wrong with what the test left. Nothing where the server is gone or does not let us in.
    fn leave_mode(&mut self) -> Option<String> {
        if self.builder.mode == Mode::Plain || self.exit_status().is_some() {
            return None;
        }
        let mut client = Client::connect(self.port).ok()?;
        match &self.replica {
            Some(replica) => mode::compare(&mut client, &mut replica.client()),
            None => mode::reload(self.builder.mode, &mut client),
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        self.logged = self.log().len();
        let config = self.dir.join("redis.conf");
        fs::write(&config, self.config_text()).map_err(|error| error.to_string())?;
        let child = self
            .command()
            .arg(&config)
            .envs(self.builder.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status() {
                return Err(format!("{status}: {}", &self.log()[self.logged..]));
            }
            let pong = Client::connect(self.port).and_then(|mut client| client.try_cmd(&["PING"]));
            if matches!(pong, Ok(Reply::Simple(_))) && self.owns_port() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Err(format!("no PONG within {PATIENCE:?}"))
    }

    /// The server, where it is limited through prlimit (util-linux): a write beyond the limit is an error, not a signal.
    fn command(&self) -> Command {
        let Some(bytes) = self.builder.file_limit else { return Command::new(&self.binary) };
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec prlimit --fsize=\"$0\":unlimited \"$@\""]);
        command.arg(bytes.to_string()).arg(&self.binary);
        command
    }

    /// The server that answers is this one, not another test's on the same port.
    fn owns_port(&self) -> bool {
        let id = self.child.as_ref().map(Child::id);
        let info = self.client().cmd(&["INFO", "server"]).text();
        info.lines().any(|line| line.strip_prefix("process_id:").and_then(|v| v.trim().parse().ok()) == id)
    }

    fn wait_gone(&mut self) {
        if let Some(mut child) = self.child.take() {
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().expect("a process of ours").is_none() {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the server did not end within {PATIENCE:?}:\n{}", self.log_tail());
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let fault = if thread::panicking() || self.child.is_none() { None } else { self.leave_mode() };
        self.replica = None;
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let crashed = self.crashed();
        if thread::panicking() {
            eprintln!("--- log of the server on port {} ---\n{}", self.port, self.log_tail());
        }
        let tail = if crashed { self.log_tail() } else { String::new() };
        let _ = fs::remove_dir_all(&self.dir);
        assert!(!crashed || thread::panicking(), "the server crashed:\n{tail}");
        assert!(fault.is_none() || thread::panicking(), "{}", fault.unwrap_or_default());
    }
}

/// The bus of a cluster of one, which nobody calls: a port that [`free_port`] gives to nobody.
fn cluster_port(port: u16) -> u16 {
    port - 10_000
}

fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("bull-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    dir
}

/// A port of loopback that nobody has at this moment. Below those that the system gives to connections, so that none of
/// these takes it before it is used; given to nobody else of this process until all others were, so that no other test does.
///
/// # Panics
/// Where all are taken.
pub fn free_port() -> u16 {
    const FIRST: u32 = 30_000;
    const COUNT: u32 = 2_700;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests of other processes begin elsewhere.
    let start = std::process::id().wrapping_mul(997);
    let candidates = (0..COUNT).map(|_| start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST);
    let mut ports = candidates.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port of loopback")
}

fn copy(from: &Path, to: &Path) {
    let result = if from.is_dir() { copy_dir(from, to) } else { fs::copy(from, to).map(|_| ()) };
    result.unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()));
    }
    Ok(())
}
