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
