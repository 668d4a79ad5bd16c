//! What an older build of the module left on the disk: its RDB and its AOF, recorded with `record` below, open in the server
//! of today, with the module and without it, hold the same, and go on.
//!
//! To record the files of another build: `BULL_MODULE=/path/to/libbull.so cargo test --release -p bull-tests --test
//! previous_release -- --ignored record`, with `BULL_RECORD` naming the folder under `tests/fixtures/releases`.

use std::fs;
use std::path::PathBuf;

use bull_tests::checks::{add, finish, now_ms};
use bull_tests::dump::assert_same;
use bull_tests::soak::oracle::structure;
use bull_tests::{Client, Dump, Server, workspace};

const QUEUES: [&str; 2] = ["bull:emails", "bull:{tasks:critical}"];
/// Counts of each queue that BULL.STATS must tell: waiting, prioritized, delayed, waiting-children, completed, failed.
const COUNTS: [(&str, i64); 6] =
    [("waiting", 9), ("prioritized", 2), ("delayed", 2), ("waiting-children", 1), ("completed", 2), ("failed", 1)];
const PARENT: &str = r#"{"parent":{"id":"p1","queue":"QUEUE"},"failParentOnFailure":true}"#;

fn fixtures() -> PathBuf {
    workspace().join("tests/fixtures/releases")
}

/// Jobs of all kinds and in all states, trims, profiles.
fn mixed(client: &mut Client) {
    for queue in QUEUES {
        let waiting: Vec<_> =
            (0..8).map(|n| add(client, queue, &format!(r#"{{"n":{n},"text":"\u4e00 é"}}"#), &[])).collect();
        add(client, queue, "{}", &["LIFO"]);
        add(client, queue, "[]", &["DELAY", "1h", "OPTS", r#"{"attempts":3,"backoff":500}"#]);
        add(client, queue, "1", &["DELAY", "2h", "PRIORITY", "2"]);
        add(client, queue, "1", &["PRIORITY", "7"]);
        add(client, queue, "2", &["PRIORITY", "3", "TIMESTAMP", "1795000000000"]);
        add(client, queue, "null", &["ID", "order-1"]);
        add(client, queue, "{}", &["OPTS", r#"{"deduplication":{"id":"simple"}}"#]);
        add(client, queue, "{}", &["ID", "p1"]);
        client.ok(&["LREM", &format!("{queue}:wait"), "1", "p1"]);
        client.ok(&["ZADD", &format!("{queue}:waiting-children"), "1795000000000", "p1"]);
        add(client, queue, "{}", &["OPTS", &PARENT.replace("QUEUE", queue)]);
        client.ok(&["BULL.MADD", queue, "a", "1", "-"]);
        let now = now_ms(client);
        for (at, state, age) in
            [(0, "completed", 9000), (1, "completed", 1000), (2, "completed", 500), (3, "failed", 700)]
        {
            finish(client, queue, &waiting[at], state, now - age);
        }
        client.ok(&["BULL.TRIM", queue, "COMPLETED", "5s"]);
        client.ok(&["BULL.PROFILE", "SET", queue, "max-jobs", "500", "keep-completed", "50"]);
    }
}

/// Writes the files of a build. Not a test of anything.
#[test]
#[ignore = "writes tests/fixtures/releases"]
fn record() {
    let name = std::env::var("BULL_RECORD").expect("BULL_RECORD names the folder");
    let mut server = Server::builder().plain().appendonly(true).config("appendfsync always").start();
    let mut client = server.client();
    mixed(&mut client);
    client.ok(&["SAVE"]);
    server.kill9();
    let to = fixtures().join(name);
    fs::create_dir_all(to.join("appendonlydir")).expect("a folder of ours");
    for file in ["dump.rdb"].into_iter().map(PathBuf::from).chain(names(&server.dir().join("appendonlydir"))) {
        fs::copy(server.dir().join(&file), to.join(&file)).expect("a file of ours");
    }
}

fn names(folder: &std::path::Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    files.map(|file| PathBuf::from("appendonlydir").join(file.expect("a file").file_name())).collect()
}

#[test]
fn files_of_older_builds_open_and_go_on() {
    let mut builds = 0;
    for folder in fs::read_dir(fixtures()).expect("the folder is kept") {
        let folder = folder.expect("a folder").path();
        builds += 1;
        let of = |builder: bull_tests::server::Builder, appendonly: bool| match appendonly {
            true => builder.appendonly(true).with_file("appendonlydir", folder.join("appendonlydir")).start(),
            false => builder.with_file("dump.rdb", folder.join("dump.rdb")).start(),
        };
        let stock = of(Server::builder().with_module(false), false);
        let wanted = Dump::take(&mut stock.client());
        let what = folder.display();
        for appendonly in [false, true] {
            let mut server = of(Server::builder().plain(), appendonly);
            let mut client = server.client();
            assert_same(&wanted, &Dump::take(&mut client), ["a stock server from the RDB", "ours"]);
            for queue in QUEUES {
                let stats = client.ok(&["BULL.STATS", queue]);
                let counts = COUNTS.map(|(field, _)| (field, stats.get(field).map_or(-1, |count| count.int())));
                assert_eq!(counts, COUNTS, "{what}: {queue}");
                let profile = client.ok(&["BULL.PROFILE", "GET", queue]);
                assert_eq!(profile.get("max-jobs").map(|value| value.int()), Some(500), "{what}: {queue}");
                let check = client.ok(&["BULL.CHECK", queue]);
                assert_eq!(check.get("found").map(|found| found.int()), Some(0), "{what}: {queue}: {check:?}");
                // It goes on: ids where they were, dedup keys, trims.
                add(&mut client, queue, "{}", &[]);
                add(&mut client, queue, "{}", &["OPTS", r#"{"deduplication":{"id":"simple"}}"#]);
                client.ok(&["BULL.TRIM", queue, "COMPLETED", "0", "FAILED", "0"]);
                let stats = client.ok(&["BULL.STATS", queue]);
                let left =
                    ["waiting", "completed", "failed"].map(|field| stats.get(field).map_or(-1, |count| count.int()));
                assert_eq!(left, [10, 0, 0], "{what}: {queue}");
                let found = structure(&Dump::take(&mut client), queue);
                assert!(found.is_clean(), "{what}: {queue}:\n{}", found.text());
            }
            server.assert_alive();
        }
    }
    assert!(builds > 0, "there are files of older builds");
}
