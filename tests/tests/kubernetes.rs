//! `deploy/kubernetes`: the manifests against their schemas and themselves, and what runs in the containers against real
//! servers, six nodes with addresses of their own.

use std::fs;
use std::path::{Path, PathBuf};

use bull_tests::client::{Client, encode};
use bull_tests::deploy::{Site, all};
use bull_tests::pods::{Background, NODES, Pods};
use bull_tests::server::free_port;
use bull_tests::soak::Seed;
use bull_tests::{engine, workspace};

const QUEUE: &str = "bull:{tasks:normal}";

fn jobs(pods: &Pods) -> String {
    let node = pods.node_of(&format!("{QUEUE}:wait"));
    pods.cli(node, &["LLEN", &format!("{QUEUE}:wait")])
}

/// The file for the Job with the one policy that the tests build in any case.
fn policies(pods: &Pods) -> String {
    let wasm = workspace().join("target/policies/payload_cap.wasm");
    let path = pods.site.path("policies");
    fs::write(&path, format!("payload-cap {} 10 enforce -\n", wasm.display())).expect("a file");
    path
}

#[test]
fn the_job_makes_the_cluster_twice_the_same_roles_move_and_new_addresses_heal() {
    let mut pods = Pods::new();
    let list = policies(&pods);
    let list = [("BULL_POLICIES", list.as_str())];
    for node in 1..=NODES {
        pods.start(node);
    }
    // Without a cluster every node is alive, and none is ready.
    for node in 1..=NODES {
        pods.site.wait_until("the node lives", || pods.probe(node, "live").is_none());
        let said = pods.probe(node, "ready").expect("not ready");
        assert!(said.contains("cluster_state is fail, 1 nodes known"), "{said}");
    }
    pods.init(&list);
    pods.await_ready();
    let story = pods.story();
    let loaded = pods.cli(4, &["BULL.POLICY", "LIST"]);
    assert_eq!(story.matches("slave").count(), 3, "{story}");
    let said = pods.init(&list);
    assert!(!said.contains("has loaded") && !said.contains("to move"), "the second run changes nothing: {said}");
    assert_eq!(pods.story(), story);
    assert_eq!(pods.cli(4, &["BULL.POLICY", "LIST"]), loaded);

    // The role goes to the replica before the node does.
    let before = pods.node_of(&format!("{QUEUE}:wait"));
    for _ in 0..22 {
        pods.cli(before, &["BULL.ADD", QUEUE, "n", "{}"]);
    }
    let replica =
        (1..=NODES).find(|node| pods.cli(*node, &["ROLE"]).contains(&pods.address(before).replace(':', "\n")));
    let replica = replica.expect("its replica");
    let output = pods.run(replica, "hand-over", &[], &[]);
    assert!(output.status.success() && output.stdout.is_empty(), "a replica has nothing to give: {}", all(&output));
    let output = pods.run(before, "hand-over", &[], &[]);
    assert!(output.status.success(), "{}", all(&output));
    assert!(pods.is_primary(replica) && !pods.is_primary(before));
    pods.await_ready();
    assert_eq!(jobs(&pods), "22");
    // Two primaries are in one zone now. The Job spreads them.
    if engine::chosen() == engine::DEFAULT {
        let said = pods.init(&list);
        assert!(said.contains(&format!("{} in zone-b is the primary", pods.address(before))), "{said}");
        assert!(pods.is_primary(before) && !pods.is_primary(replica));
        let output = pods.run(before, "hand-over", &[], &[]);
        assert!(output.status.success(), "{}", all(&output));
    }

    // With its replica away a primary waits for it, until its time is up.
    pods.stop(before, "TERM");
    let output = pods.run(replica, "hand-over", &[], &[("BULL_HAND_OVER", "2")]);
    assert!(!output.status.success() && all(&output).contains("no replica took over within 2 s"), "{}", all(&output));
    let waiting = pods.spawn(replica, "hand-over", &[], &[("BULL_HAND_OVER", "100")]);
    pods.start(before);
    let said = waiting.ended_well();
    assert!(said.contains("has the slots"), "{said}");
    assert!(pods.is_primary(before));
    pods.await_ready();

    // A node that answers nobody is neither alive nor ready. The cluster has its replica long before somebody kills it.
    pods.signal(before, "STOP");
    let output = pods.run(before, "probe", &["live"], &[("BULL_TIMEOUT", "1")]);
    assert!(!output.status.success() && all(&output).contains("no answer"), "{}", all(&output));
    pods.site.wait_until("the replica is promoted", || pods.is_primary(replica));
    pods.signal(before, "CONT");
    pods.site.wait_until("it follows the other", || !pods.is_primary(before));
    pods.await_ready();

    // All pods come back elsewhere: nobody finds anybody, until the names are asked.
    let story = pods.story();
    pods.move_all();
    for node in 1..=NODES {
        pods.site.wait_until("the node lives", || pods.probe(node, "live").is_none());
    }
    // It takes the node timeout until a node knows that it is alone.
    pods.site.wait_until("nobody is ready", || (1..=NODES).all(|node| pods.probe(node, "ready").is_some()));
    for node in 1..=NODES {
        let seen = pods.cli(node, &["CLUSTER", "NODES"]);
        assert_eq!(seen.matches(" connected").count(), 1, "node {node} has found another than itself: {seen}");
    }
    let keepers: Vec<Background> =
        (1..=NODES).map(|node| pods.spawn(node, "peers", &[], &[("BULL_PEERS_EVERY", "1")])).collect();
    pods.await_ready();
    if pods.renew_certificate() {
        let served = |pods: &Pods| pods.served_certificate(1).is_some_and(|serial| serial == pods.certificate());
        pods.site.wait_until("the server shows its new certificate", || served(&pods));
    }
    let mut said = String::new();
    for keeper in keepers {
        pods.site.run("kill", &["-TERM".to_owned(), keeper.id().to_string()]);
        said.push_str(&keeper.ended_well());
    }
    assert!(said.contains(&format!("{} was at 127.0.", Pods::name(1))), "{said}");
    let ids = |story: &str| story.lines().map(|line| line[..40].to_owned()).collect::<Vec<_>>();
    assert_eq!(ids(&pods.story()), ids(&story), "the same nodes");
    assert_eq!(jobs(&pods), "22");
    assert!(pods.run(1, "peers", &["--once"], &[]).stdout.is_empty(), "there is nothing left to do");
    if engine::chosen() == engine::DEFAULT {
        pods.init(&list);
    }
}

/// One server by itself, without users and without the module: what it says to the probes is the server's own.
struct Alone {
    site: Site,
    port: u16,
}

impl Alone {
    fn start() -> Alone {
        let mut site = Site::new();
        let port = free_port();
        site.set("BULL_PORT", port.to_string());
        site.set("BULL_PASSWORDS", site.path("none"));
        site.set("BULL_TIMEOUT", "10");
        let mut alone = Alone { site, port };
        alone.serve(&[]);
        alone.site.wait_until("the server answers", || alone.probe("ready").is_ok());
        alone
    }

    fn serve(&mut self, words: &[&str]) {
        let fixed =
            ["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir", &self.site.path("")];
        let words: Vec<&str> = fixed.into_iter().chain(words.iter().copied()).collect();
        self.site.serve(&engine::binary(&engine::chosen()), &words);
    }

    fn client(&self) -> Client {
        Client::connect(self.port).expect("a connection")
    }

    fn probe(&self, question: &str) -> Result<(), String> {
        let output = self.site.try_run("deploy/kubernetes/bin/probe", &[question]);
        if output.status.success() { Ok(()) } else { Err(all(&output)) }
    }

    fn is(&self, state: &str, says: &str) {
        let mut last = Ok(());
        let there = self.site.holds(|| {
            last = self.probe("ready");
            last.as_ref().is_err_and(|said| said.contains(says))
        });
        assert!(there, "{state}: the probe says {last:?}, not {says}");
        assert_eq!(self.probe("live"), Ok(()), "{state}");
    }

    fn is_ready(&self) {
        self.site.wait_until("it is ready again", || self.probe("ready").is_ok());
    }
}

#[test]
fn a_server_that_loads_or_is_busy_or_cannot_write_is_alive_and_not_ready() {
    let mut alone = Alone::start();
    let mut client = alone.client();
    assert_eq!(alone.probe("live"), Ok(()));

    client.ok(&["CONFIG", "SET", "lua-time-limit", "50"]);
    let mut other = alone.client();
    other.send(&encode(&["EVAL", "while true do end", "0"])).expect("a script that does not end");
    alone.is("a script is too slow", "BUSY");
    client.ok(&["SCRIPT", "KILL"]);
    alone.is_ready();

    client.ok(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    alone.is("the primary is not there", "no link to the primary 127.0.0.1:");
    client.ok(&["REPLICAOF", "NO", "ONE"]);
    alone.is_ready();

    drop(other);
    alone.site.wait_until("the other client is gone", || client.ok(&["CLIENT", "LIST"]).text().lines().count() == 1);
    client.ok(&["CONFIG", "SET", "maxclients", "1"]);
    alone.is("there are too many clients", "");
    client.ok(&["CONFIG", "SET", "maxclients", "1000"]);

    // Where its file shall be lies a folder.
    fs::create_dir(alone.site.dir().join("dump.rdb")).expect("a folder");
    client.ok(&["CONFIG", "SET", "save", "3600 1"]);
    client.ok(&["BGSAVE"]);
    alone.is("the disk refuses a save", "MISCONF");
    client.ok(&["CONFIG", "SET", "save", ""]);
    fs::remove_dir(alone.site.dir().join("dump.rdb")).expect("the folder");
    alone.is_ready();

    // Values that cannot be compressed: the server answers after so many bytes of the file.
    let mut random = Seed(1);
    for n in 0..300 {
        let value: String = (0..32).map(|_| format!("{:016x}", random.draw())).collect();
        client.ok(&["SET", &format!("key-{n}"), &value]);
    }
    client.ok(&["SAVE"]);
    client.send(&encode(&["SHUTDOWN", "NOSAVE"])).expect("sent");
    alone.site.wait_until("nobody listens", || alone.probe("live").is_err_and(|said| said.contains("no answer")));
    assert!(alone.probe("ready").is_err());
    alone.site.wait_ended();
    // Twenty milliseconds a key.
    alone.serve(&["--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024"]);
    alone.is("it loads", "LOADING");
    alone.is_ready();
    assert_eq!(alone.client().ok(&["DBSIZE"]).int(), 300);
}

/// No engine builds images here: what can go wrong without anybody's notice is a file that the context does not have.
#[test]
fn the_image_is_built_from_what_the_context_has() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    let site = Site::new();
    let ignore = fs::read_to_string(workspace().join(".dockerignore")).expect("a file of ours");
    assert_eq!(ignore.lines().find(|line| !line.starts_with('#')), Some("*"), "nothing comes in that is not named");
    let context = site.path("context");
    let out: Vec<&str> = ignore.lines().filter_map(|line| line.strip_prefix("**/")).collect();
    for named in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        copy(&workspace().join(named), &site.dir().join("context").join(named), &out);
    }
    // The workspace is whole: no member and no target is missing.
    let manifest = format!("{context}/Cargo.toml");
    site.run(
        "cargo",
        &["metadata", "--no-deps", "--offline", "--locked", "--format-version=1", "--manifest-path", &manifest],
    );

    let recipe = fs::read_to_string(workspace().join("Dockerfile")).expect("a file of ours");
    for line in recipe.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from"))
    {
        let source = line.split(' ').next().expect("a source");
        assert!(site.dir().join("context").join(source).exists(), "COPY {line}");
    }
    let programs: Vec<&str> = recipe.split('"').filter_map(|word| word.strip_prefix("/opt/redis-bull/")).collect();
    assert_eq!(programs.len(), 2, "{programs:?}");
    for program in programs.into_iter().chain(["scripts/build"]) {
        assert!(site.dir().join("context").join(program).exists(), "{program}");
    }
}

/// Copies a file, or a folder without what is `out`, as a build's context takes it in.
fn copy(from: &Path, to: &Path, out: &[&str]) {
    if !from.is_dir() {
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        return;
    }
    for entry in fs::read_dir(from).expect("a folder of ours") {
        let name = entry.expect("an entry").file_name();
        if !out.iter().any(|out| name == *out) {
            copy(&from.join(&name), &to.join(&name), out);
        }
    }
}

/// A kustomization on top of `small` or `three-zones`, with patches; the test's own folder.
struct Mine(PathBuf);

impl Mine {
    fn new(name: &str, overlay: &str, rest: &str) -> Mine {
        let folder = workspace().join("target").join(format!("manifests-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let head = format!("resources: [../../deploy/kubernetes/{overlay}]\nnamespace: redis-bull\n");
        fs::write(folder.join("kustomization.yaml"), format!("{head}{rest}\n")).expect("a file");
        Mine(folder)
    }

    fn path(&self) -> String {
        self.0.display().to_string()
    }

    /// Where scripts/manifests leaves what it built.
    fn built(&self) -> PathBuf {
        self.0.with_file_name("manifests").join(self.0.file_name().expect("a name")).with_extension("yaml")
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_file(self.built());
    }
}

/// A JSON patch of each StatefulSet.
fn of_sets(operation: &str) -> String {
    format!("patches: [{{target: {{kind: StatefulSet}}, patch: '[{operation}]'}}]")
}

#[test]
fn the_manifests_are_valid_and_what_is_wrong_in_them_is_found() {
    if engine::chosen() != engine::DEFAULT {
        return;
    }
    let site = Site::new();
    let said = site.run::<&str>("scripts/manifests", &[]);
    for overlay in ["small", "small-monitored", "three-zones", "three-zones-monitored"] {
        assert!(said.contains(&format!("{overlay}: ")), "{said}");
    }
    assert!(said.contains("Dockerfile: no complaint"), "{said}");

    // A policy of one's own, as deploy/README.md adds it: the component is in the ConfigMap, by its name alone.
    let more = "configMapGenerator: [{name: redis-bull-files, namespace: redis-bull, behavior: merge, \
                files: [policies, my_policy.wasm]}]";
    let mine = Mine::new("policy", "small", more);
    fs::copy(workspace().join("target/policies/payload_cap.wasm"), mine.0.join("my_policy.wasm")).expect("a component");
    fs::write(mine.0.join("policies"), "my-policy my_policy.wasm 40 observe -\n").expect("a file");
    site.run("scripts/manifests", &[mine.path()]);
    let built = fs::read_to_string(mine.built()).expect("what is built");
    assert!(
        built.contains("\nbinaryData:\n  my_policy.wasm: ") && built.contains("  policies: |\n    my-policy "),
        "{built}"
    );

    let container = "/spec/template/spec/containers/0";
    let replace = |path: &str, value: &str| of_sets(&format!(r#"{{"op":"replace","path":"{path}","value":{value}}}"#));
    let node_map = "configMapGenerator: [{name: redis-bull-node, behavior: merge, literals:";
    // The specification's own rule, and others that look right.
    let zones = r#"{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"topology.kubernetes.io/zone","labelSelector":{"matchLabels":{"app.kubernetes.io/name":"redis-bull"}}}]}"#;
    let cases = [
        ("three-zones", replace("/spec/template/spec/affinity/podAntiAffinity", zones), "finds no host"),
        ("small", replace(&format!("{container}/resources/limits/memory"), r#""256Mi""#), "its memory limit is 256 MiB"),
        ("small", format!("{node_map} [BULL_MAXMEMORY=2gb]}}]"), "its memory limit is 640 MiB"),
        ("small", format!("{node_map} [BULL_PROFILES=/etc/redis-bull/profiles/other.json]}}]"), "is no file of"),
        ("small", format!("{node_map} [BULL_HAND_OVER=600]}}]"), "its end is granted 120 s"),
        ("small", replace("/spec/serviceName", r#""redis-bull""#), "must be a headless service"),
        ("small", replace("/spec/replicas", "5"), "BULL_NODES are"),
        ("small", replace("/spec/podManagementPolicy", r#""OrderedReady""#), "wait for each other"),
        ("small", replace(&format!("{container}/livenessProbe/failureThreshold"), "2"), "less than two minutes"),
        ("small", replace(&format!("{container}/command/0"), r#""/opt/redis-bull/deploy/x""#), "no program of the repository"),
        ("small", replace(&format!("{container}/envFrom/0/configMapRef/name"), r#""other""#), "configMapRef other is nowhere"),
        ("small", replace("/spec/template/spec/volumes/2/secret/items/0/key", r#""ROOT""#), "has no key ROOT"),
        ("small", replace("/spec/template/spec/volumes/2/secret/secretName", r#""passwords""#), "secret passwords is nowhere"),
        ("small", replace("/spec/template/metadata/labels/app.kubernetes.io~1component", r#""x""#), "its selector takes pods of"),
        ("small", of_sets(&format!(r#"{{"op":"remove","path":"{container}/securityContext/capabilities"}}"#)), "rights that it does not need"),
        ("small", of_sets(&format!(r#"{{"op":"add","path":"{container}/privileged","value":true}}"#)), "refuses it"),
        (
            "three-zones",
            "patches: [{target: {kind: PodDisruptionBudget}, patch: '[{\"op\":\"replace\",\"path\":\"/spec/maxUnavailable\",\"value\":6}]'}]".into(),
            "6 of 6 nodes may be away",
        ),
    ];
    for (at, (overlay, rest, finds)) in cases.iter().enumerate() {
        let mine = Mine::new(&at.to_string(), overlay, rest);
        let said = site.refused("scripts/manifests", &[mine.path()]);
        assert!(said.contains(finds), "{rest}\nwas to be found as \"{finds}\": {said}");
    }
}
