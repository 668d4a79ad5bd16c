//! scripts/policy against servers: pushes to one node and to a cluster, drift, users, TLS, and the page that tells
//! people how to write a policy, followed word by word.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bull_tests::checks::{add, load};
use bull_tests::cluster::Cluster;
use bull_tests::server::free_port;
use bull_tests::{Client, Server, engine, guests, workspace};

/// A folder that goes at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(what: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("bull-kit-{}-{what}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    /// A file with these bytes.
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn shown(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// scripts/policy with these words, and a password where there is one.
fn kit(words: &[&str], password: Option<&str>) -> Output {
    let mut command = Command::new(workspace().join("scripts/policy"));
    command.args(words).env_remove("REDISCLI_AUTH");
    if let Some(password) = password {
        command.env("REDISCLI_AUTH", password);
    }
    command.output().expect("scripts/policy starts")
}

#[track_caller]
fn succeeds(words: &[&str], password: Option<&str>) -> String {
    let output = kit(words, password);
    assert!(output.status.success(), "scripts/policy {words:?}: {}", shown(&output));
    shown(&output)
}

#[track_caller]
fn fails(words: &[&str], password: Option<&str>) -> String {
    let output = kit(words, password);
    assert!(!output.status.success(), "scripts/policy {words:?} succeeded: {}", shown(&output));
    shown(&output)
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

fn digest(client: &mut Client, name: &str) -> Option<String> {
    let reply = client.cmd(&["BULL.POLICY", "INFO", name]);
    reply.error().is_none().then(|| reply.get("digest").expect("a digest").text())
}

/// The lines of a table that show a node, as words.
fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|line| line.starts_with("  127.0.0.1:"));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn a_push_reaches_every_node_of_a_cluster_and_status_finds_drift() {
    let folder = Folder::new("cluster");
    let files = [1, 2].map(|version| folder.file(&format!("v{version}.wasm"), &guests::versioned(version)));
    let cluster = Cluster::start(3, &Server::builder());
    let replica = Server::builder()
        .config("cluster-enabled yes")
        .config("cluster-announce-ip 127.0.0.1")
        .config(format!("cluster-port {}", free_port()))
        .start();
    let first = &cluster.nodes[0];
    let id = first.client().ok(&["CLUSTER", "MYID"]).text();
    let bus = first.client().ok(&["CONFIG", "GET", "cluster-port"]).items()[1].text();
    replica.client().ok(&["CLUSTER", "MEET", "127.0.0.1", &first.port().to_string(), &bus]);
    replica.wait_until("the replica knows its primary", |client| {
        client.cmd(&["CLUSTER", "REPLICATE", &id]).error().is_none()
    });
    // One that still loads its primary's data refuses all commands.
    replica.wait_until("the replica follows", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    for node in cluster.nodes.iter().chain([&replica]) {
        node.wait_until("all know the replica", |client| {
            client.ok(&["CLUSTER", "SHARDS"]).strings().iter().filter(|text| *text == "replica").count() == 1
        });
    }
    let node = address(&cluster.nodes[1]);

    let text = succeeds(&["push", &files[0], "--name", "swap", "--all", "--node", &node], None);
    let table = rows(&text);
    assert_eq!(table.len(), 4, "{text}");
    assert_eq!(table.iter().filter(|row| row[1] == "primary").count(), 3, "{text}");
    assert_eq!(table.iter().filter(|row| row[1] == "replica").count(), 1, "{text}");
    let one = table[0][3].clone();
    assert!(table.iter().all(|row| row[2] == "-" && row[3] == one), "{text}");
    assert!(text.ends_with("the same on 4 nodes\n"), "{text}");
    let held: Vec<_> =
        cluster.nodes.iter().chain([&replica]).map(|server| digest(&mut server.client(), "swap")).collect();
    assert!(held.iter().all(|held| held.as_ref().is_some_and(|digest| digest.starts_with(&one))), "{held:?}");

    // One node alone, then all: before and after.
    let text = succeeds(&["push", &files[1], "--name", "swap", "--node", &node], None);
    assert_eq!(rows(&text).len(), 1, "{text}");
    let two = rows(&text)[0][3].clone();
    assert_ne!(one, two);
    let text = fails(&["status", "--all", "--node", &address(&replica)], None);
    assert!(text.contains("swap: DRIFT: digest"), "{text}");
    assert_eq!(rows(&text).iter().filter(|row| row[2] == two).count(), 1, "{text}");
    let text = succeeds(&["push", &files[1], "--name", "swap", "--all", "--node", &address(&replica)], None);
    let table = rows(&text);
    assert_eq!(table.iter().filter(|row| row[2] == one).count(), 3, "{text}");
    assert!(table.iter().all(|row| row[3] == two), "{text}");
    let text = succeeds(&["status", "--all", "--node", &node], None);
    assert!(text.contains("swap: the same on 4 nodes"), "{text}");

    // Settings may drift as well.
    cluster.nodes[2].client().ok(&["BULL.POLICY", "MODE", "swap", "observe"]);
    let text = fails(&["status", "swap", "--all", "--node", &node], None);
    assert!(text.contains("swap: DRIFT: mode"), "{text}");
    succeeds(&["push", &files[1], "--name", "swap", "--mode", "enforce", "--all", "--node", &node], None);
    succeeds(&["status", "--all", "--node", &node], None);

    // What one node refuses is loaded nowhere.
    let broken = folder.file("broken.wasm", b"\0asm no component");
    let text = fails(&["push", &broken, "--name", "swap", "--all", "--node", &node], None);
    assert!(text.contains("BULLPOLICY "), "{text}");
    assert_eq!(rows(&text).iter().filter(|row| row[4..].join(" ") == "not tried").count(), 3, "{text}");
    assert!(rows(&text).iter().all(|row| row[3] == two), "{text}");

    let text = succeeds(&["remove", "swap", "--all", "--node", &node], None);
    assert!(rows(&text).iter().all(|row| row[2] == two && row[3] == "-") && rows(&text).len() == 4, "{text}");
    assert_eq!(digest(&mut replica.client(), "swap"), None);
}

#[test]
fn a_push_that_cannot_reach_every_node_changes_none() {
    let folder = Folder::new("unreached");
    let file = folder.file("one.wasm", &guests::versioned(1));
    let (server, mut gone) = (Server::start(), Server::start());
    let nodes = [address(&server), address(&gone)];
    gone.kill9();
    let words = |command: &'static str| [command, "--node", &nodes[0], "--node", &nodes[1]].map(str::to_owned);
    let push: Vec<String> = [words("push").to_vec(), vec![file.clone()]].concat();
    let text = fails(&push.iter().map(String::as_str).collect::<Vec<_>>(), None);
    assert!(text.contains("nothing was changed") && text.contains(&nodes[1]), "{text}");
    assert_eq!(digest(&mut server.client(), "one"), None);
    let text = fails(&words("status").iter().map(String::as_str).collect::<Vec<_>>(), None);
    assert!(text.contains(&format!("not reached: {}", nodes[1])), "{text}");

    let stock = Server::stock();
    let text = fails(&["push", &file, "--node", &address(&server), "--node", &address(&stock)], None);
    assert!(text.contains("is the module loaded there?"), "{text}");
    assert_eq!(digest(&mut server.client(), "one"), None);
}

#[test]
fn a_primary_s_replicas_belong_to_it_without_a_cluster() {
    let folder = Folder::new("replica");
    let file = folder.file("one.wasm", &guests::versioned(1));
    let primary = Server::start();
    let replica = Server::builder().replica_of(&primary).start();
    primary.wait_until("the replica is there", |client| {
        client.ok(&["INFO", "replication"]).text().contains("state=online")
    });
    replica.wait_until("it has all data", |client| {
        client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
    });
    for from in [&primary, &replica] {
        let text = succeeds(&["push", &file, "--all", "--node", &address(from)], None);
        assert_eq!(rows(&text).len(), 2, "{text}");
    }
    assert!(digest(&mut replica.client(), "one").is_some());
    // One server under two names is one.
    let localhost = format!("localhost:{}", primary.port());
    let text = succeeds(&["status", "--all", "--node", &localhost, "--node", &address(&primary)], None);
    assert!(text.contains("one: the same on 2 nodes"), "{text}");
}

#[test]
fn a_user_s_password_comes_from_the_environment_or_a_file() {
    let folder = Folder::new("acl");
    let file = folder.file("one.wasm", &guests::versioned(1));
    let server = Server::start();
    let kit = "-@all +info +cluster +bull.policy|load +bull.policy|info +bull.policy|list";
    for (user, rights) in [("operator", kit), ("nobody", "-@all +info +cluster")] {
        let password = format!(">of-{user}");
        let words = ["ACL", "SETUSER", user, "on", &password].into_iter().chain(rights.split(' '));
        server.client().ok(&words.collect::<Vec<_>>());
    }
    let node = address(&server);
    succeeds(&["push", &file, "--node", &node, "--user", "operator"], Some("of-operator"));
    let password = folder.file("password", b"of-operator\n");
    let text = succeeds(&["status", "--node", &node, "--user", "operator", "--password-file", &password], None);
    assert!(text.contains("one: the same on 1 nodes"), "{text}");
    let text = fails(&["push", &file, "--node", &node, "--user", "nobody"], Some("of-nobody"));
    assert!(text.contains("NOPERM"), "{text}");
    let text = fails(&["status", "--node", &node, "--user", "operator"], Some("wrong"));
    assert!(text.contains("not reached"), "{text}");
    let text = fails(&["remove", "one", "--node", &node, "--user", "operator"], Some("of-operator"));
    assert!(text.contains("NOPERM"), "{text}");
}

#[test]
fn nodes_are_reached_by_tls_with_a_client_s_certificate() {
    if engine::chosen() != engine::DEFAULT {
        return; // The other engines here are built without TLS.
    }
    let folder = Folder::new("tls");
    let certs = folder.0.join("certs");
    let made = Command::new(workspace().join("deploy/tls/certs")).arg(&certs).args(["localhost", "127.0.0.1"]).output();
    assert!(made.as_ref().is_ok_and(|output| output.status.success()), "{made:?}");
    let cert = |name: &str| certs.join(name).display().to_string();
    let port = free_port();
    let server = Server::builder()
        .config(format!("tls-port {port}"))
        .config(format!("tls-cert-file {}", cert("node.crt")))
        .config(format!("tls-key-file {}", cert("node.key")))
        .config(format!("tls-ca-cert-file {}", cert("ca.crt")))
        .start();
    let file = folder.file("one.wasm", &guests::versioned(1));
    let node = format!("127.0.0.1:{port}");
    let [ca, own, key] = ["ca.crt", "client-operator.crt", "client-operator.key"].map(cert);
    let tls = ["--tls", "--cacert", &ca, "--cert", &own, "--key", &key];
    succeeds(&[&["push", &file, "--node", &node][..], &tls].concat(), None);
    assert!(digest(&mut server.client(), "one").is_some());
    for (words, why) in [(&tls[..3], "no certificate of its own"), (&["--tls"][..], "an unknown authority")] {
        let text = fails(&[&["status", "--node", &node][..], words].concat(), None);
        assert!(text.contains("not reached"), "{why}: {text}");
    }
}

/// The commands of docs/policies.md in a row, as a reader would type them: a line of output that the page shows after
/// `#>` must be in what the command before it prints.
#[test]
fn the_page_on_writing_a_policy_works_word_by_word() {
    if engine::chosen() != engine::DEFAULT {
        return; // Compilers are the same for all engines.
    }
    let mut server = Server::start();
    let home = Folder::new("page");
    let bin = home.0.join("bin");
    fs::create_dir_all(&bin).expect("a folder");
    let cli = bin.join("redis-cli");
    fs::write(&cli, format!("#!/bin/sh\nexec {} -p {} \"$@\"\n", which("redis-cli"), server.port())).expect("written");
    make_executable(&cli);

    let page = fs::read_to_string(workspace().join("docs/policies.md")).expect("the page");
    let steps = steps(&page);
    assert!(steps.len() >= 8, "the page has {} commands", steps.len());
    let real_home = std::env::var("HOME").expect("a home");
    let within = |name: &str, folder: &str| std::env::var(name).unwrap_or_else(|_| format!("{real_home}/{folder}"));
    for (command, expected) in &steps {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(workspace())
            .env("HOME", &home.0)
            .env("CARGO_HOME", within("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", within("RUSTUP_HOME", ".rustup"))
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").expect("a path")))
            .env("BULL_NODE", address(&server))
            .env("BULL_SERVER", engine::binary(&engine::chosen()))
            .env("BULL_MODULE", engine::module())
            .output()
            .expect("bash starts");
        let text = shown(&output);
        assert!(output.status.success(), "{command}\n{text}");
        for line in expected {
            assert!(text.contains(line), "{command}\nthe page says: {line}\nit was: {text}");
        }
    }
    let refused = server.client().cmd(&["BULL.ADD", "bull:mail", "welcome", "{}", "OPTS", r#"{"attempts":20}"#]);
    assert_eq!(refused.error().as_deref(), Some("BULLREJECT my-policy 20 attempts of at most 10"));
    server.assert_alive();
}

/// Commands in the page's blocks, each with the output that it shows.
fn steps(page: &str) -> Vec<(String, Vec<String>)> {
    let mut steps = Vec::<(String, Vec<String>)>::new();
    let mut inside = false;
    for line in page.lines() {
        match (inside, line) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("#> ") {
                Some(shown) => steps.last_mut().expect("a command first").1.push(shown.to_owned()),
                None if !line.trim().is_empty() => steps.push((line.to_owned(), vec![])),
                None => {}
            },
            _ => {}
        }
    }
    steps
}

fn which(program: &str) -> String {
    let found = Command::new("bash").args(["-c", &format!("command -v {program}")]).output().expect("bash starts");
    String::from_utf8(found.stdout).expect("a path").trim().to_owned()
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
}

#[test]
fn a_transcript_that_does_not_hold_fails_with_its_line() {
    let folder = Folder::new("transcript");
    let file = folder.file("swap.wasm", &guests::versioned(1));
    let server = engine::binary(&engine::chosen()).display().to_string();
    let module = engine::module().display().to_string();
    let play = |text: &str| {
        let script = folder.file("script.txt", text.as_bytes());
        kit(&["test", &file, "--script", &script, "--server", &server, "--module", &module], None)
    };
    let loading = "> BULL.POLICY LOAD swap {wasm}\nname swap *\n> BULL.ADD bull:q job {}\n";
    let output = play(&format!("{loading}BULLREJECT swap v1\n"));
    assert!(output.status.success(), "{}", shown(&output));
    let output = play(&format!("{loading}1\n"));
    let text = shown(&output);
    assert!(!output.status.success() && text.contains("line 3: > BULL.ADD bull:q job {}: expected: 1"), "{text}");
    assert!(text.contains("the server said: BULLREJECT swap v1"), "{text}");
    let output = play(loading);
    assert!(!output.status.success(), "an error without a pattern passed: {}", shown(&output));
}

#[test]
fn a_policy_that_fails_has_no_cost_to_show() {
    let folder = Folder::new("bench");
    let server = engine::binary(&engine::chosen()).display().to_string();
    let module = engine::module().display().to_string();
    let bench = |wasm: &[u8]| {
        let file = folder.file("measured.wasm", wasm);
        kit(&["bench", &file, "--server", &server, "--module", &module], None)
    };
    let output = bench(&guests::versioned(1));
    let text = shown(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("over 10200 calls") && text.contains("us with it"), "{text}");
    let output = bench(&guests::trapping());
    assert!(!output.status.success() && shown(&output).contains("the policy failed"), "{}", shown(&output));
}

#[test]
fn a_push_says_what_it_keeps() {
    let folder = Folder::new("keeps");
    let file = folder.file("one.wasm", &guests::versioned(1));
    let server = Server::start();
    let mut client = server.client();
    load(&mut client, "one", &["QUEUES", "bull:a*", "ORDER", "7"], &guests::versioned(2));
    succeeds(&["push", &file, "--node", &address(&server), "--order", "-3", "--onerror", "reject"], None);
    let info = client.ok(&["BULL.POLICY", "INFO", "one"]);
    let value = |key: &str| info.get(key).expect(key).text();
    assert_eq!([value("queues"), value("order"), value("onerror")], ["bull:a*", "-3", "reject"]);
    add(&mut client, "bull:b", "{}", &[]);
}
