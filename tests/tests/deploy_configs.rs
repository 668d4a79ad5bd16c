//! The configurations of `redis.conf` and `deploy/`: each boots on this engine, without a warning that a configuration
//! could avoid, and means what it says.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use bull_tests::deploy::{Site, password};
use bull_tests::server::free_port;
use bull_tests::{engine, workspace};

/// Warnings about the host, which no configuration of the server takes away; deploy/README.md names their remedies.
const HOSTS: [&str; 4] = ["vm.overcommit_memory", "somaxconn", "Transparent Huge Pages", "defrag callbacks"];
/// What a line that complains has in it.
const COMPLAINTS: [&str; 6] = ["WARNING", "Warning", "rror", "nrecognized", "ailed", "deprecated"];

fn port() -> String {
    // The cluster bus, 10000 above, has the port that is free; the one below must be so too.
    let mut ports = std::iter::repeat_with(|| free_port() - 10_000);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("endless").to_string()
}

struct Booted {
    site: Site,
    tls: bool,
    acl: bool,
    port: String,
}

impl Booted {
    fn cli(&self, words: &[&str]) -> String {
        let mut all = vec!["-e".to_owned(), "-p".to_owned(), self.port.clone()];
        if self.acl {
            all.extend(["--user".to_owned(), "admin".to_owned(), "--pass".to_owned(), password("admin")]);
            all.push("--no-auth-warning".to_owned());
        }
        if self.tls {
            let file = |name: &str| self.site.path(&format!("tls/{name}"));
            let files = [("--cacert", "ca.crt"), ("--cert", "client-admin.crt"), ("--key", "client-admin.key")];
            all.push("--tls".to_owned());
            all.extend(files.iter().flat_map(|(word, name)| [(*word).to_owned(), file(name)]));
        }
        all.extend(words.iter().map(|word| (*word).to_owned()));
        self.site.run("redis-cli", &all)
    }

    fn is_up(&self) -> bool {
        let log = fs::read_to_string(self.site.dir().join("server.log")).unwrap_or_default();
        log.contains("Ready to accept connections")
    }

    /// No line of the log complains of what is ours.
    fn assert_quiet(&self) {
        let log = fs::read_to_string(self.site.dir().join("server.log")).expect("a log");
        let ours = |line: &&str| {
            COMPLAINTS.iter().any(|mark| line.contains(mark)) && !HOSTS.iter().any(|mark| line.contains(mark))
        };
        let lines: Vec<&str> = log.lines().filter(ours).collect();
        assert!(log.contains("Ready to accept connections"), "{log}");
        assert!(lines.is_empty(), "{lines:#?}");
    }

    fn setting(&self, name: &str) -> String {
        self.cli(&["CONFIG", "GET", name]).lines().nth(1).unwrap_or_default().to_owned()
    }
}

fn binary() -> PathBuf {
    engine::binary(&engine::chosen())
}

/// Renders a node's files, and starts a server with them.
fn boot(settings: &[(&str, &str)]) -> Booted {
    let mut site = Site::new();
    let port = port();
    let tls = settings.iter().any(|(name, _)| *name == "BULL_TLS");
    let acl = settings.contains(&("BULL_ACL", "yes"));
    fs::create_dir(site.dir().join("data")).expect("a folder");
    let fixed = [
        ("BULL_DIR", site.path("data")),
        ("BULL_MODULE", engine::module().display().to_string()),
        ("BULL_SERVER", binary().display().to_string()),
        ("BULL_LOGFILE", site.path("server.log")),
        ("BULL_PROFILES", workspace().join("deploy/profiles/tasks.json").display().to_string()),
        ("BULL_PORT", port.clone()),
    ];
    for (name, value) in fixed {
        site.set(name, value);
    }
    for (name, value) in settings {
        site.set(name, *value);
    }
    if tls {
        site.set("BULL_TLS", site.path("tls"));
        site.run("deploy/tls/certs", &[site.path("tls"), "localhost".into(), "127.0.0.1".into()]);
    }
    site.run("deploy/redis/render", &[site.path("etc")]);
    site.serve(&binary(), &[site.path("etc/redis.conf")]);
    let booted = Booted { site, tls, acl, port };
    booted.site.wait_until("the server answers", || booted.is_up());
    booted
}

/// Every line `name value` of a file of deploy/redis is in force.
fn assert_in_force(booted: &Booted, file: &str) {
    let text = fs::read_to_string(workspace().join("deploy/redis").join(file)).expect("a file of ours");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    for line in lines {
        let (name, value) = line.split_once(' ').expect("a name and a value");
        // Several lines with one name, and sizes, have another form in CONFIG GET.
        if matches!(name, "client-output-buffer-limit" | "save") {
            continue;
        }
        let seen = booted.setting(name);
        let value = value.trim_matches('"');
        let bytes = |text: &str| {
            let unit = [("gb", 1u64 << 30), ("mb", 1 << 20), ("kb", 1 << 10)];
            let found = unit.iter().find_map(|(end, size)| Some((text.strip_suffix(end)?, *size)));
            found.and_then(|(number, size)| Some(number.parse::<u64>().ok()? * size)).map(|n| n.to_string())
        };
        assert_eq!(seen, bytes(value).unwrap_or_else(|| value.to_owned()), "{file}: {name}");
    }
}

#[test]
fn the_configuration_at_the_top_boots() {
    let mut site = Site::new();
    let port = port();
    std::os::unix::fs::symlink(workspace().join("target"), site.dir().join("target")).expect("a link");
    let module = engine::module();
    assert!(module.ends_with("target/release/libbull.so"), "redis.conf names the release build, not {module:?}");
    let dir = site.dir().display().to_string();
    site.serve(&binary(), &["redis.conf", "--port", &port, "--dir", &dir, "--logfile", "server.log"]);
    let booted = Booted { site, tls: false, acl: false, port };
    booted.site.wait_until("the server answers", || booted.is_up());
    assert!(booted.cli(&["BULL.ADD", "bull:q", "n", "{}"]).starts_with('1'));
    assert_eq!(booted.setting("maxmemory-policy"), "noeviction");
    booted.assert_quiet();
}

#[test]
fn a_node_alone_boots_with_its_users() {
    let booted = boot(&[("BULL_ACL", "yes")]);
    assert_in_force(&booted, "node.conf");
    let buffers = booted.setting("client-output-buffer-limit");
    assert!(buffers.contains("slave 4294967296 2147483648 300") || buffers.contains("replica 4294967296"), "{buffers}");
    assert_eq!(booted.setting("save"), "3600 1 300 100 60 10000");
    let limits = booted.cli(&["BULL.PROFILE", "GET", "bull:{tasks:critical}"]);
    assert!(limits.contains("max-jobs"), "{limits}");
    booted.assert_quiet();
}

#[test]
fn a_node_of_the_cluster_boots_with_its_users() {
    let booted = boot(&[("BULL_ACL", "yes"), ("BULL_CLUSTER", "yes"), ("BULL_ANNOUNCE_IP", "127.0.0.1")]);
    assert_in_force(&booted, "cluster.conf");
    if engine::chosen() != engine::DEFAULT {
        assert_in_force(&booted, "since-7.2.conf");
    }
    booted.assert_quiet();
}

#[test]
fn what_is_in_the_aof_is_there_again_with_users() {
    let mut booted = boot(&[("BULL_ACL", "yes")]);
    for n in 0..3 {
        booted.cli(&["BULL.ADD", "bull:mail", "n", &format!(r#"{{"n":{n}}}"#)]);
    }
    let script = "for n = 1, 3 do redis.call('SET', KEYS[1] .. n, n) end";
    booted.cli(&["EVAL", script, "1", "bull:key"]);
    let keys = booted.cli(&["DBSIZE"]);
    booted
        .site
        .try_run("redis-cli", &["-p", &booted.port, "--user", "admin", "--pass", &password("admin"), "SHUTDOWN"]);
    fs::remove_file(booted.site.dir().join("server.log")).expect("a log");
    let config = booted.site.path("etc/redis.conf");
    booted.site.serve(&binary(), &[config]);
    booted.site.wait_until("the server is back", || booted.is_up());
    assert_eq!(booted.cli(&["DBSIZE"]), keys, "all of {keys}");
    assert_eq!(booted.cli(&["LLEN", "bull:mail:wait"]).trim(), "3");
    let said = booted.site.refused("redis-cli", &["-e", "-p", &booted.port, "DBSIZE"]);
    assert!(said.contains("NOAUTH"), "the default user is nobody's: {said}");
    booted.site.refused("redis-cli", &["-e", "-p", &booted.port, "--user", "default", "--pass", "", "DBSIZE"]);
    booted.assert_quiet();
}

/// The servers of the wheels are built without TLS; Debian's has it.
#[test]
fn a_node_of_the_cluster_boots_with_tls() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    let booted =
        boot(&[("BULL_ACL", "yes"), ("BULL_CLUSTER", "yes"), ("BULL_TLS", ""), ("BULL_ANNOUNCE_HOST", "localhost")]);
    assert_in_force(&booted, "tls.conf");
    assert_eq!(booted.setting("port"), "0");
    booted.assert_quiet();
    // Without a certificate of its own nobody comes in, whatever the password.
    let words = ["-e", "-p", &booted.port, "--tls", "--cacert", &booted.site.path("tls/ca.crt"), "PING"];
    booted.site.refused("redis-cli", &words);
}

#[test]
fn what_is_rendered_is_for_its_owner_only_and_passwords_are_hashes() {
    use std::os::unix::fs::PermissionsExt as _;
    let booted = boot(&[("BULL_ACL", "yes"), ("BULL_PASSWORD_WORKER_NEXT", "the next one")]);
    for file in ["redis.conf", "users.acl"] {
        let mode = fs::metadata(booted.site.dir().join("etc").join(file)).expect("rendered").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let acl = fs::read_to_string(booted.site.dir().join("etc/users.acl")).expect("rendered");
    assert!(!acl.contains("of-") && !acl.contains('$'), "{acl}");
    let worker = acl.lines().find(|line| line.starts_with("user worker ")).expect("a line");
    assert_eq!(worker.matches(" #").count(), 2, "both passwords hold while they are changed: {worker}");
}

#[test]
fn a_password_that_is_missing_is_named_and_nothing_is_written() {
    let mut site = Site::new();
    site.set("BULL_DIR", site.path("data"));
    site.set("BULL_MODULE", "/no/module");
    site.set("BULL_SERVER", binary().display().to_string());
    site.set("BULL_ACL", "yes");
    site.unset("BULL_PASSWORD_API_BULLMQ");
    let said = site.refused("deploy/redis/render", &[site.path("etc")]);
    assert!(said.contains("BULL_PASSWORD_API_BULLMQ is not set"), "{said}");
    assert!(!site.dir().join("etc/redis.conf").exists());
    site.set("BULL_ACL", "maybe");
    let said = site.refused("deploy/redis/render", &[site.path("etc")]);
    assert!(said.contains("BULL_ACL=maybe: yes or no"), "{said}");
}
