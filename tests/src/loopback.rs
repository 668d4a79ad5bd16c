//! The cluster of `scripts/cluster` under test: six nodes on ports of its own, which are gone at the end.

use std::fs;
use std::net::TcpListener;
use std::process::Output;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::client::{Client, Reply};
use crate::clients;
use crate::deploy::{Site, all};
use crate::engine;

/// Ports that a cluster of a test may need: six nodes, and those that runbooks add.
const PORTS: u16 = 10;
/// The cluster bus is that much above.
const BUS: u16 = 10000;

/// A cluster that `scripts/cluster up` made.
#[derive(Debug)]
pub struct Loopback {
    pub site: Site,
    port: u16,
}

impl Loopback {
    /// Six nodes on the engine of this run, with the policy `payload-cap`.
    ///
    /// # Panics
    /// Where `up` fails.
    pub fn up(words: &[&str]) -> Loopback {
        let mut site = Site::new();
        let policies = site.dir().join("policies");
        let wasm = crate::workspace().join("target/policies/payload_cap.wasm");
        assert!(wasm.exists(), "{} is missing: run scripts/build-policies", wasm.display());
        fs::write(&policies, format!("# one\npayload-cap {} 10 enforce -\n", wasm.display())).expect("a file");
        let port = free_ports();
        site.set("BULL_CLUSTER_PORT", port.to_string());
        site.set("BULL_ENGINE", engine::chosen());
        // By another name, which may come to mean another build.
        let module = site.dir().join("libbull.so");
        std::os::unix::fs::symlink(engine::module(), &module).expect("a link");
        site.set("BULL_MODULE", module.display().to_string());
        site.set("BULL_POLICIES", policies.display().to_string());
        let cluster = Loopback { site, port };
        let words: Vec<&str> = ["up"].into_iter().chain(words.iter().copied()).collect();
        cluster.script(&words);
        cluster
    }

    /// The port of a node, 1 to 6.
    pub fn port(&self, node: u16) -> u16 {
        self.port + node - 1
    }

    /// The folder of this cluster in `target`.
    pub fn folder(&self) -> std::path::PathBuf {
        crate::workspace().join("target/cluster").join(self.port.to_string())
    }

    /// The file for `--env`.
    pub fn env(&self) -> String {
        self.folder().join("env").display().to_string()
    }

    /// A connection to a node, as the admin where the cluster has users.
    pub fn client(&self, node: u16) -> Client {
        self.try_client(node).unwrap_or_else(|error| panic!("no connection to node {node}: {error}"))
    }

    fn try_client(&self, node: u16) -> std::io::Result<Client> {
        let mut client = Client::connect(self.port(node))?;
        if let Some(password) = self.variable("BULL_PASSWORD_ADMIN") {
            client.ok(&["AUTH", "admin", &password]);
        }
        Ok(client)
    }

    /// A variable of the file for `--env`.
    pub fn variable(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.env()).ok()?;
        let line =
            text.lines().find_map(|line| line.trim_start_matches("export ").strip_prefix(&format!("{name}=")))?;
        Some(line.trim_matches('\'').to_owned())
    }

    /// Changes the file for `--env`, as an operator does.
    ///
    /// # Panics
    /// Where `from` is not in it.
    pub fn edit_env(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.env()).expect("the file of up");
        assert!(text.contains(from), "no {from} in {text}");
        fs::write(self.env(), text.replace(from, to)).expect("the file of up");
    }

    /// `scripts/cluster` with words, which must succeed; what it prints.
    pub fn script(&self, words: &[&str]) -> String {
        self.site.run("scripts/cluster", words)
    }

    /// A runbook, which must succeed; what it prints.
    pub fn runbook(&self, name: &str, words: &[&str]) -> String {
        let output = self.try_runbook(name, words);
        assert!(output.status.success(), "{name} {words:?}: {}\n{}", output.status, all(&output));
        all(&output)
    }

    /// A runbook, however it ends.
    pub fn try_runbook(&self, name: &str, words: &[&str]) -> Output {
        let env = self.env();
        let words: Vec<&str> = ["--env", &env].into_iter().chain(words.iter().copied()).collect();
        self.site.try_run(&format!("deploy/runbooks/{name}"), &words)
    }

    /// Everything is as the files say.
    pub fn verify(&self) {
        self.runbook("verify", &[]);
    }

    /// The facts that `verify` finds wrong; there must be some.
    pub fn wrong(&self) -> String {
        let output = self.try_runbook("verify", &[]);
        let text = all(&output);
        assert!(!output.status.success(), "verify was to fail:\n{text}");
        text.lines().filter(|line| line.starts_with("WRONG")).collect::<Vec<_>>().join("\n")
    }

    /// A script of `tests/bullmq` with the cluster's env file; what it prints.
    ///
    /// # Panics
    /// Where it fails.
    pub fn node_script(&self, script: &str, words: &[&str]) -> String {
        clients::install();
        let path = format!("tests/bullmq/{script}");
        let env = self.env();
        let words: Vec<&str> = [path.as_str(), "--env", &env].into_iter().chain(words.iter().copied()).collect();
        self.site.run("node", &words)
    }

    /// The node that serves a key as a primary, 1 to 6 and those added.
    pub fn node_of(&self, key: &str) -> u16 {
        for node in 1..=PORTS {
            let Ok(mut client) = self.try_client(node) else { continue };
            if let Reply::Int(_) = client.cmd(&["EXISTS", key])
                && client.cmd(&["ROLE"]).items()[0].text() == "master"
            {
                return node;
            }
        }
        panic!("nobody serves {key}");
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let output = self.site.try_run("scripts/cluster", &["down", "--wipe"]);
        assert!(output.status.success() || std::thread::panicking(), "down: {}", all(&output));
    }
}

/// The first of some ports in a row that are free, and so are their bus ports, all below those that the system gives out.
fn free_ports() -> u16 {
    let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let taken = TAKEN.fetch_add(PORTS, Ordering::Relaxed);
    let start = 11000 + u16::try_from(std::process::id() % 700).expect("small") * PORTS + taken;
    (start..20000)
        .step_by(usize::from(PORTS))
        .find(|first| (*first..first + PORTS).all(|port| free(port) && free(port + BUS)))
        .expect("ports in a row")
}
