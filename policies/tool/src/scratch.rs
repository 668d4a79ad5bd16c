//! A throw-away server with the module: a free loopback port, a folder of its own, gone when dropped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::node::Node;

/// How long the server may take to answer.
const START: Duration = Duration::from_secs(20);

/// What the server is made of.
#[derive(Args, Debug)]
pub struct Parts {
    /// The server's program.
    #[arg(long, env = "BULL_SERVER", default_value = "redis-server")]
    server: PathBuf,
    /// The module; without it the one that scripts/build makes.
    #[arg(long, env = "BULL_MODULE")]
    module: Option<PathBuf>,
}

/// A running server.
pub struct Scratch {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Scratch {
    /// Starts it and waits until it answers.
    pub fn start(root: &Path, parts: &Parts) -> Result<Self> {
        let module = parts.module.clone().unwrap_or_else(|| root.join("target/release/libbull.so"));
        if !module.exists() {
            bail!("{} is missing: run scripts/build", module.display());
        }
        let module = module.canonicalize()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = std::env::temp_dir().join(format!("bull-policy-{}-{port}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let config = folder.join("redis.conf");
        let lines = [
            format!("port {port}"),
            "bind 127.0.0.1".into(),
            format!("dir \"{}\"", folder.display()),
            "logfile server.log".into(),
            "save \"\"".into(),
            format!("loadmodule \"{}\"", module.display()),
        ];
        fs::write(&config, lines.join("\n") + "\n")?;
        let child = Command::new(&parts.server)
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}; name another with --server", parts.server.display()))?;
        let mut server = Self { child, folder, port };
        let until = Instant::now() + START;
        while Instant::now() < until {
            if let Some(status) = server.child.try_wait()? {
                bail!("the server ended ({status}): {}", server.last_lines());
            }
            if server.client().is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the server did not answer within {START:?}: {}", server.last_lines())
    }

    /// A new connection.
    pub fn client(&self) -> Result<Node> {
        Node::plain(&format!("127.0.0.1:{}", self.port))
    }

    /// The end of its log.
    pub fn last_lines(&self) -> String {
        let log = fs::read(self.folder.join("server.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
