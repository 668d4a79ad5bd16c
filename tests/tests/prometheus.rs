//! deploy/prometheus and deploy/grafana against the real thing: promtool, a Prometheus that scrapes a node and Debian's
//! exporter beside it, Grafana's schema. Skipped with a line where Debian's packages are not installed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bull_tests::checks::{add, load};
use bull_tests::exposition::try_get;
use bull_tests::server::free_port;
use bull_tests::{Server, engine, workspace};
use serde_json::Value;

/// A folder below deploy/.
fn deploy(name: &str) -> PathBuf {
    workspace().join("deploy").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Nothing here depends on the engine: once is enough. The programs are those of Debian's packages.
fn skipped(program: &str, package: &str) -> bool {
    if engine::chosen() != engine::DEFAULT {
        return true;
    }
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        println!("skipped: {program} is missing; apt-get install {package}");
    }
    !there
}

fn promtool(arguments: &[&str], folder: &Path) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output().expect("promtool runs");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// Names of metrics in a text with queries.
fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| ["bull_", "bullmq_", "redis_"].iter().any(|start| word.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_alert_fires_and_resolves() {
    let folder = deploy("prometheus");
    let (rules, tests) = (read(&folder.join("alerts.yaml")), read(&folder.join("alerts_test.yaml")));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "no test sees {name} firing");
        assert!(tests.contains(&format!("alertname: {name}, exp_alerts: []}}")), "no test sees {name} resolved");
    }
    if skipped("promtool", "prometheus") {
        return;
    }
    promtool(&["check", "rules", "alerts.yaml"], &folder);
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], &folder);
    promtool(&["test", "rules", "alerts_test.yaml"], &folder);
}

/// Queries of the dashboard, with its variables filled in.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let filled = |expr: &str| {
        ["$instance", "$prefix", "$queue"].iter().fold(expr.to_owned(), |expr, name| expr.replace(name, ".*"))
    };
    targets.map(|target| filled(target["expr"].as_str().expect("an expr")).replace("$__rate_interval", "1m")).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&read(&deploy("grafana").join("redis-bull.json"))).expect("JSON")
}

#[test]
fn the_dashboard_is_sound() {
    let dashboard = dashboard();
    assert!(dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64() && dashboard["uid"].is_string());
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{} has the id of another", panel["title"]);
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{}", panel["title"]));
        assert!(place("x") + place("w") <= 24, "{} is too far right", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{}", panel["title"]);
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let name = variable["name"].as_str().expect("a name");
        assert!(dashboard.to_string().contains(&format!("${name}")) || name == "datasource", "${name} is not used");
    }
    let text = queries(&dashboard).join("\n");
    assert!(!text.contains('$'), "a variable that is none: {text}");
    if engine::chosen() == engine::DEFAULT {
        let check = workspace().join("tests/grafana");
        if check.join("node_modules").exists() {
            let output = Command::new("node").arg(check.join("check.mjs")).output().expect("node runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        } else {
            println!("skipped: Grafana's schema is missing; npm ci in tests/grafana");
        }
    }
    if skipped("promtool", "prometheus") {
        return;
    }
    // Each query as the rule of a file: promtool parses it.
    let rules: String = queries(&dashboard)
        .iter()
        .enumerate()
        .map(|(at, query)| format!("      - record: panel:{at}\n        expr: '{}'\n", query.replace('\'', "''")))
        .collect();
    let folder = std::env::temp_dir().join(format!("bull-dashboard-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("rules.yaml"), format!("groups:\n  - name: panels\n    rules:\n{rules}")).expect("a file");
    promtool(&["check", "rules", "rules.yaml"], &folder);
    fs::remove_dir_all(&folder).expect("our folder");
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn start(program: &str, arguments: &[String]) -> Running {
        let child = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Running(child.unwrap_or_else(|error| panic!("{program}: {error}")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An answer of Prometheus' API.
fn api(port: u16, path: &str) -> Option<Value> {
    let (status, body) = try_get(port, &format!("/api/v1/{path}"))?;
    (status == 200).then(|| serde_json::from_str::<Value>(&body).expect("JSON")["data"].clone())
}

/// The value of a query that has one series.
fn value(port: u16, query: &str) -> Option<f64> {
    let found =
        api(port, &format!("query?query={}", query.replace('{', "%7B").replace('}', "%7D").replace('"', "%22")))?;
    found["result"][0]["value"][1].as_str()?.parse().ok()
}

#[test]
fn prometheus_scrapes_a_node_under_load_and_finds_all_that_alerts_and_dashboard_name() {
    if skipped("prometheus", "prometheus") || skipped("prometheus-redis-exporter", "prometheus-redis-exporter") {
        return;
    }
    let (metrics_port, exporter_port, port) = (free_port(), free_port(), free_port());
    let server = Server::builder()
        .config("cluster-enabled yes")
        .config("maxmemory 1gb")
        .config("maxmemory-policy noeviction")
        .config(format!("bull.metrics-addr {metrics_port}"))
        .start();
    let mut client = server.client();
    client.ok(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    server
        .wait_until("the cluster is up", |client| client.ok(&["CLUSTER", "INFO"]).text().contains("cluster_state:ok"));
    let wasm = fs::read(workspace().join("target/policies/backlog_guard.wasm")).expect("run scripts/build-policies");
    let config = r#"{"queues":[{"match":"bull:{low}","max-jobs":3}]}"#;
    load(&mut client, "backlog-guard", &["CONFIG", config, "QUEUES", "bull:{low}"], &wasm);
    client.ok(&[
        "BULL.PROFILE",
        "SET",
        "bull:{tasks:critical}",
        "max-jobs",
        "100000",
        "max-bytes",
        "1gb",
        "concurrency",
        "9",
    ]);

    let folder = std::env::temp_dir().join(format!("bull-prometheus-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    // The files that ship, with other targets and a shorter interval.
    let mut targets = [metrics_port, exporter_port].into_iter();
    let config: String = read(&deploy("prometheus").join("prometheus.yml"))
        .lines()
        .map(|line| match line.trim() {
            text if text.starts_with("- targets:") => {
                format!("      - targets: [\"127.0.0.1:{}\"]\n", targets.next().expect("two jobs"))
            }
            text if text.starts_with("scrape_interval") || text.starts_with("evaluation_interval") => {
                format!("{}\n", line.replace("15s", "1s"))
            }
            _ => format!("{line}\n"),
        })
        .collect();
    assert_eq!(targets.next(), None, "prometheus.yml has two jobs");
    fs::write(folder.join("prometheus.yml"), config).expect("a file");
    fs::copy(deploy("prometheus").join("alerts.yaml"), folder.join("alerts.yaml")).expect("a copy");
    let _exporter = Running::start(
        "prometheus-redis-exporter",
        &[
            format!("-redis.addr=redis://127.0.0.1:{}", server.port()),
            format!("-web.listen-address=127.0.0.1:{exporter_port}"),
            "-is-cluster".to_owned(),
        ],
    );
    let _prometheus = Running::start(
        "prometheus",
        &[
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ],
    );

    let mut wanted = metrics(&read(&deploy("prometheus").join("alerts.yaml")));
    wanted.extend(metrics(&queries(&dashboard()).join(" ")));
    assert!(wanted.len() > 30, "{wanted:?}");
    let deadline = Instant::now() + Duration::from_secs(120);
    let mut added = 0;
    let mut missing = wanted.clone();
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "not in the scrapes: {missing:?}; {:?}", api(port, "targets"));
        for _ in 0..200 {
            add(&mut client, "bull:{tasks:critical}", "{}", &[]);
            let low = client.cmd(&["BULL.ADD", "bull:{low}", "job", "{}"]);
            added += 1 + u32::from(low.error().is_none());
        }
        std::thread::sleep(Duration::from_millis(100));
        if let Some(names) = api(port, "label/__name__/values") {
            names.as_array().into_iter().flatten().filter_map(Value::as_str).for_each(|name| {
                missing.remove(name);
            });
        }
    }
    // What Prometheus has is what was added.
    while value(port, "sum(bullmq_jobs_added_total)") != Some(f64::from(added)) {
        assert!(Instant::now() < deadline, "{:?} of {added}", value(port, "sum(bullmq_jobs_added_total)"));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(value(port, "bullmq_queue_waiting{prefix=\"bull\",queue=\"low\"}"), Some(3.0));
    assert_eq!(value(port, "redis_cluster_slots_ok*on(instance)bull_primary"), Some(16384.0), "one instance");
    let rules = api(port, "rules").expect("rules").to_string();
    assert!(rules.contains("BullMQStalledJobs") && !rules.contains("\"health\":\"err\""), "{rules}");
    fs::remove_dir_all(&folder).expect("our folder");
}
