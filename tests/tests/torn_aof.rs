//! An AOF that was cut within a MULTI: servers before Valkey 9.1 leave the MULTI open, and what they add behind it is lost
//! at the next start. With the module it is not.

use std::fs::{self, OpenOptions};
use std::io::Write;

use bull_tests::checks::add;
use bull_tests::client::encode;
use bull_tests::soak::oracle::structure;
use bull_tests::{Client, Dump, Server};

const QUEUE: &str = "bull:q";
const FILE: &str = "appendonlydir/appendonly.aof.1.incr.aof";

/// A job as a cut left it: in the list, and not yet whole.
fn torn() -> Vec<u8> {
    let whole = [
        encode(&["MULTI"]),
        encode(&["RPUSH", "bull:q:wait", "torn"]),
        encode(&["HSET", "bull:q:torn", "name", "j", "data", "{}"]),
        encode(&["EXEC"]),
    ];
    let mut bytes = whole.concat();
    bytes.truncate(bytes.len() - whole[3].len() - 3);
    bytes
}

fn waiting(client: &mut Client) -> Vec<String> {
    let mut ids = client.ok(&["LRANGE", "bull:q:wait", "0", "-1"]).strings();
    ids.sort_unstable();
    ids
}

#[test]
fn what_is_added_behind_a_torn_multi_outlives_the_next_start() {
    let mut server = Server::builder().plain().appendonly(true).start();
    let mut ids = vec![add(&mut server.client(), QUEUE, "{}", &[])];
    server.kill9();
    let mut file = OpenOptions::new().append(true).open(server.dir().join(FILE)).expect("the AOF");
    file.write_all(&torn()).expect("a file of ours");

    server.start_again();
    server.wait_until("the file is whole or new", |client| {
        let info = client.ok(&["INFO", "persistence"]).text();
        let rewritten = info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrites:1");
        let left = fs::read(server.dir().join(FILE)).unwrap_or_default();
        rewritten || (!left.is_empty() && !left.windows(4).any(|window| window == b"torn"))
    });
    let mut client = server.client();
    // Single commands, and a MULTI, which would end the torn one.
    client.ok(&["SET", "plain", "1"]);
    ids.extend((0..3).map(|_| add(&mut client, QUEUE, "{}", &[])));
    assert_eq!(waiting(&mut client), ids);
    let before = Dump::take(&mut client);

    server.kill9();
    server.start_again();
    let mut client = server.client();
    let diff = before.diff(&Dump::take(&mut client), ["before the second kill", "after it"]);
    assert!(diff.is_empty(), "{diff}");
    assert!(structure(&before, QUEUE).is_clean());
}

/// A kill while the file is written anew: half the MULTI is in the file before the last, which is fatal to servers. They
/// cut it off all the same, and the start after that has all the rest.
#[test]
fn a_kill_in_the_middle_of_the_rewrite_costs_a_start_and_no_job() {
    let mut server = Server::builder().plain().appendonly(true).start();
    let mut ids = vec![add(&mut server.client(), QUEUE, "{}", &[])];
    server.kill9();
    let whole = fs::read(server.dir().join(FILE)).expect("the AOF");
    let mut file = OpenOptions::new().append(true).open(server.dir().join(FILE)).expect("the AOF");
    file.write_all(&torn()).expect("a file of ours");
    // What came while the server wrote the file anew goes to the next one.
    let folder = server.dir().join("appendonlydir");
    let next = [encode(&["SELECT", "0"]), encode(&["RPUSH", "bull:q:wait", "later"])].concat();
    fs::write(folder.join("appendonly.aof.2.incr.aof"), next).expect("a file of ours");
    let manifest = folder.join("appendonly.aof.manifest");
    let text = fs::read_to_string(&manifest).expect("the manifest");
    fs::write(&manifest, format!("{text}file appendonly.aof.2.incr.aof seq 2 type i\n")).expect("a file of ours");
    ids.push("later".to_owned());

    let refused = server.try_start_again().expect_err("the file before the last was cut");
    assert!(refused.contains("the truncated file is not the last file"), "{refused}");
    let left = fs::read(server.dir().join(FILE)).expect("the AOF");
    // Servers before Valkey 9.1 leave whole commands of it at the first start, and cut them off at the second.
    assert!(left.starts_with(&whole), "more than the MULTI is gone");
    if server.try_start_again().is_err() {
        server.start_again();
    }
    assert_eq!(waiting(&mut server.client()), ids);
}

#[test]
fn an_aof_that_is_whole_is_not_written_anew() {
    let mut server = Server::builder().plain().appendonly(true).start();
    for _ in 0..5 {
        add(&mut server.client(), QUEUE, "{}", &[]);
    }
    server.kill9();
    server.start_again();
    // A turn of the timer, which would have asked.
    let calls = |client: &mut Client| client.ok(&["INFO", "commandstats"]).text().contains("cmdstat_bgrewriteaof");
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!calls(&mut server.client()), "asked for no reason");
    assert!(!server.log().contains("ended within a MULTI"), "said for no reason");
}
