//! The containers of `deploy/kubernetes` without Kubernetes: six nodes started by `bin/entry`, each with a loopback address,
//! a name and a volume of its own, and a change of all addresses. Ends its servers with the test.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::deploy::{Site, USERS, all, password};
use crate::engine;

/// Nodes of the cluster.
pub const NODES: u8 = 6;
const BIN: &str = "deploy/kubernetes/bin";

/// A program of the image that runs beside the test, and ends with it at the latest.
#[derive(Debug)]
pub struct Background(Child);

impl Background {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits for its end, which must be a success. What it said.
    pub fn ended_well(mut self) -> String {
        let mut said = String::new();
        self.0.stdout.take().expect("its output").read_to_string(&mut said).expect("text");
        self.0.stderr.take().expect("its output").read_to_string(&mut said).expect("text");
        assert!(self.0.wait().expect("its end").success(), "{said}");
        said
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Both fail where it has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Six pods.
#[derive(Debug)]
pub struct Pods {
    pub site: Site,
    port: u16,
    /// The third byte of the addresses: 127.0.<net>.<node>.
    net: u8,
    tls: bool,
    running: Vec<Option<Child>>,
}

impl Pods {
    /// The volumes and secrets of six pods; none runs yet. With TLS where the engine of this run has it.
    pub fn new() -> Pods {
        let mut site = Site::new();
        for user in USERS {
            site.unset(&format!("BULL_PASSWORD_{user}"));
        }
        fs::create_dir(site.dir().join("passwords")).expect("a folder");
        for user in USERS {
            fs::write(site.dir().join("passwords").join(user), format!("{}\n", password(user))).expect("a file");
        }
        let tls = engine::chosen() == engine::DEFAULT;
        if tls {
            site.run("deploy/tls/certs", &[site.path("tls"), "localhost".into()]);
            site.set("BULL_TLS", site.path("tls"));
        }
        for node in 1..=NODES {
            fs::create_dir(site.dir().join(format!("data-{node}"))).expect("a folder");
        }
        // The names of the pods are in no DNS: what answers instead is a file.
        fs::create_dir(site.dir().join("bin")).expect("a folder");
        let getent = site.dir().join("bin/getent");
        let text =
            "#!/bin/sh\nawk -v name=\"$2\" '$1 == name || $2 == name { print $2; found = 1 } END { exit !found }' ";
        fs::write(&getent, format!("{text}{}\n", site.path("names"))).expect("a file");
        fs::set_permissions(&getent, fs::Permissions::from_mode(0o755)).expect("a program");
        let path = format!("{}:{}", site.path("bin"), std::env::var("PATH").expect("a PATH"));
        let port = free_port();
        for (name, value) in [
            ("PATH", path),
            ("BULL_PASSWORDS", site.path("passwords")),
            ("BULL_SERVER", engine::binary(&engine::chosen()).display().to_string()),
            ("BULL_MODULE", engine::module().display().to_string()),
            ("BULL_PORT", port.to_string()),
            ("BULL_CLUSTER", "yes".into()),
            ("BULL_ACL", "yes".into()),
            ("BULL_NODE_TIMEOUT", "2000".into()),
            ("BULL_MAXMEMORY", "256mb".into()),
            ("BULL_BACKLOG", "16mb".into()),
            ("BULL_REPLICA_BUFFER", "128mb 64mb 60".into()),
        ] {
            site.set(name, value);
        }
        // Two tests at a time have addresses of their own.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let net = NEXT.fetch_add(20, Ordering::Relaxed);
        let pods = Pods { site, port, net, tls, running: (0..NODES).map(|_| None).collect() };
        pods.write_names();
        pods
    }

    /// The address of a node, 1 to 6.
    pub fn address(&self, node: u8) -> String {
        format!("127.0.{}.{node}:{}", self.net, self.port)
    }

    fn host(&self, node: u8) -> String {
        format!("127.0.{}.{node}", self.net)
    }

    /// The name that a node announces.
    pub fn name(node: u8) -> String {
        format!("node-{node}.pods.test")
    }

    fn write_names(&self) {
        let rows = (1..=NODES).map(|node| format!("{} {}\n", Pods::name(node), self.host(node)));
        fs::write(self.site.dir().join("names"), rows.collect::<String>()).expect("a file");
    }

    fn etc(&self, node: u8) -> PathBuf {
        self.site.dir().join(format!("etc-{node}"))
    }

    /// A program of the image as a node's container has it.
    fn program(&self, node: u8, program: &str) -> Command {
        let mut command = self.site.command(&format!("{BIN}/{program}"));
        command
            .env("BULL_HOST", self.host(node))
            .env("BULL_BIND", self.host(node))
            .env("BULL_ANNOUNCE_IP", self.host(node))
            .env("BULL_ANNOUNCE_HOST", Pods::name(node))
            .env("BULL_ETC", self.etc(node))
            .env("BULL_DIR", self.site.path(&format!("data-{node}")));
        command
    }

    /// Starts a node: the init container, then the server.
    pub fn start(&mut self, node: u8) {
        let _ = fs::remove_dir_all(self.etc(node));
        let output = self.program(node, "entry").arg("render").output().expect("entry runs");
        assert!(output.status.success(), "{}", all(&output));
        let log = fs::File::options().create(true).append(true).open(self.site.dir().join(format!("log-{node}")));
        let child = self.program(node, "entry").stdout(log.expect("a file")).spawn().expect("entry runs");
        self.running[usize::from(node - 1)] = Some(child);
    }

    /// Ends a node by a signal (`TERM`, `KILL`), and waits for it.
    pub fn stop(&mut self, node: u8, signal: &str) {
        let mut child = self.running[usize::from(node - 1)].take().expect("a node that runs");
        self.site.run("kill", &[format!("-{signal}"), child.id().to_string()]);
        child.wait().expect("its end");
    }

    /// Sends a signal to a node that goes on.
    pub fn signal(&self, node: u8, signal: &str) {
        let child = self.running[usize::from(node - 1)].as_ref().expect("a node that runs");
        self.site.run("kill", &[format!("-{signal}"), child.id().to_string()]);
    }

    /// All pods are made anew, at other addresses, with the volumes that they had.
    pub fn move_all(&mut self) {
        for node in 1..=NODES {
            self.stop(node, "TERM");
        }
        self.net += 1;
        self.write_names();
        for node in 1..=NODES {
            self.start(node);
        }
    }

    /// A program of the image with a node's settings, and words; how it ends.
    pub fn run(&self, node: u8, program: &str, words: &[&str], settings: &[(&str, &str)]) -> Output {
        self.program(node, program).args(words).envs(settings.iter().copied()).output().expect("a program of the image")
    }

    /// The same in the background.
    pub fn spawn(&self, node: u8, program: &str, words: &[&str], settings: &[(&str, &str)]) -> Background {
        let mut command = self.program(node, program);
        command.args(words).envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Background(command.spawn().expect("a program of the image"))
    }

    /// What `probe` says: nothing for yes, its words for no.
    pub fn probe(&self, node: u8, question: &str) -> Option<String> {
        let output = self.run(node, "probe", &[question], &[]);
        (!output.status.success()).then(|| all(&output))
    }

    /// All nodes are ready.
    pub fn await_ready(&self) {
        for node in 1..=NODES {
            self.site.wait_until(&format!("node {node} is ready"), || self.probe(node, "ready").is_none());
        }
    }

    /// A command to a node as admin.
    pub fn try_cli(&self, node: u8, words: &[&str]) -> Output {
        let mut command = self.site.command("redis-cli");
        command.args(["-e", "-h", &self.host(node), "-p", &self.port.to_string(), "--user", "admin"]);
        command.env("REDISCLI_AUTH", password("admin"));
        if self.tls {
            let file = |name: &str| self.site.path(&format!("tls/{name}"));
            command.args([
                "--tls",
                "--cacert",
                &file("ca.crt"),
                "--cert",
                &file("node.crt"),
                "--key",
                &file("node.key"),
            ]);
        }
        command.args(words).output().expect("redis-cli runs")
    }

    /// The same, which must succeed; what it says, without the last line's end.
    pub fn cli(&self, node: u8, words: &[&str]) -> String {
        let output = self.try_cli(node, words);
        assert!(output.status.success(), "{words:?}: {}", all(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().replace('\r', "")
    }

    /// Runs the Job to its end.
    pub fn init(&self, settings: &[(&str, &str)]) -> String {
        let nodes: Vec<String> = [1, 2, 3, 5, 6, 4].map(|node| format!("{}/{}", self.address(node), zone(node))).into();
        let nodes = nodes.join(" ");
        let fixed = [("BULL_NODES", nodes.as_str()), ("BULL_PATIENCE", "120")];
        let settings: Vec<(&str, &str)> = fixed.iter().chain(settings).copied().collect();
        let output = self.run(1, "init", &[], &settings);
        assert!(output.status.success(), "{}", all(&output));
        all(&output)
    }

    /// A new certificate for all nodes, of the same CA; false where there is no TLS.
    pub fn renew_certificate(&self) -> bool {
        if self.tls {
            fs::remove_file(self.site.dir().join("tls/node.crt")).expect("a certificate");
            self.site.run("deploy/tls/certs", &[self.site.path("tls"), "localhost".into()]);
        }
        self.tls
    }

    /// The serial number of the certificate in the folder.
    pub fn certificate(&self) -> String {
        self.site.run("openssl", &["x509", "-noout", "-serial", "-in", &self.site.path("tls/node.crt")])
    }

    /// The serial number of the certificate that a node shows.
    pub fn served_certificate(&self, node: u8) -> Option<String> {
        let mut command = self.site.command("sh");
        command.args([
            "-c",
            "openssl s_client -connect \"$1\" </dev/null 2>/dev/null | openssl x509 -noout -serial",
            "-",
        ]);
        let output = command.arg(self.address(node)).output().expect("a shell");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether a node is a primary.
    pub fn is_primary(&self, node: u8) -> bool {
        self.cli(node, &["ROLE"]).starts_with("master")
    }

    /// The node that serves a key as a primary.
    pub fn node_of(&self, key: &str) -> u8 {
        (1..=NODES)
            .find(|node| self.is_primary(*node) && self.try_cli(*node, &["EXISTS", key]).status.success())
            .unwrap_or_else(|| panic!("nobody serves {key}"))
    }

    /// The cluster as one text: id, role, primary and slots of each node, without addresses and epochs.
    pub fn story(&self) -> String {
        let nodes = self.cli(1, &["CLUSTER", "NODES"]);
        let mut rows: Vec<String> = nodes
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let flags = words[2].replace("myself,", "");
                format!("{} {flags} {} {}", words[0], words[3], words[8..].join(" "))
            })
            .collect();
        rows.sort();
        rows.join("\n")
    }
}

/// The zone that the test puts a node into: two nodes each.
fn zone(node: u8) -> &'static str {
    ["zone-a", "zone-b", "zone-c"][usize::from((node - 1) % 3)]
}

impl Default for Pods {
    fn default() -> Pods {
        Pods::new()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for child in self.running.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            println!("logs of the nodes: {}", self.site.dir().display());
        }
    }
}

/// A port that is free on all loopback addresses, and so is the one for the cluster bus.
fn free_port() -> u16 {
    let free = |port: u16| TcpListener::bind(("0.0.0.0", port)).is_ok();
    (0..100)
        .map(|_| crate::server::free_port() % 8000 + 12000)
        .find(|port| free(*port) && free(port + 10000))
        .expect("a free port")
}
