//! The guard among what else a server does: another module's command filter and calls, threads for reading, an AOF and a
//! primary that hold adds as scripts.

use std::fs;
use std::thread;

use bull_tests::adds::{Add, DELAYED, PARENT, SCRIPT};
use bull_tests::checks::load;
use bull_tests::client::encode;
use bull_tests::dump::assert_same;
use bull_tests::primary::FakePrimary;
use bull_tests::server::Builder;
use bull_tests::{Client, Dump, Reply, Server, engine, guests};

const QUEUE: &str = "bull:{q}";

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// A counter of INFO.
fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ok(&["INFO", "everything"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bull_guard_{field}:")));
    line.unwrap_or_else(|| panic!("no bull_guard_{field} in INFO")).trim().parse().expect("a number")
}

fn rejected(reply: &Reply) -> bool {
    reply.error().as_deref() == Some("BULLREJECT no no")
}

/// A server that loads these modules in this order.
fn with_modules(modules: &[&str]) -> Builder {
    modules.iter().fold(Server::builder().with_module(false), |builder, name| {
        let path = if *name == "bull" { engine::module() } else { engine::neighbour() };
        let builder = builder.config(format!("loadmodule \"{}\"", path.display()));
        if *name == "bull" { builder.config("bull.guard enforce") } else { builder }
    })
}

#[test]
fn filters_run_in_the_order_of_loading() {
    for (modules, guarded) in [(["neighbour", "bull"], true), (["bull", "neighbour"], false)] {
        let mut server = with_modules(&modules).start();
        let mut client = server.client();
        load(&mut client, "no", &[], &guests::rejecting(b"no"));
        let digest = client.ok(&["SCRIPT", "LOAD", SCRIPT]).text();
        let add = Add::standard(QUEUE);
        assert!(rejected(&client.cmd(&add.eval(SCRIPT))) && rejected(&client.cmd(&add.evalsha(&digest))));
        // What another filter makes an add of is one, where ours comes behind.
        for command in [add.command("NEIGHBOUR.EVAL", SCRIPT), add.command("neighbour.evalsha", &digest)] {
            let reply = client.cmd(&command);
            assert_eq!(rejected(&reply), guarded, "{modules:?}: {reply:?}");
            client.ok(&["MULTI"]);
            client.ok(&command);
            assert_eq!(rejected(&client.ok(&["EXEC"]).items()[0]), guarded, "{modules:?}");
        }
        assert_eq!(client.cmd(&["NEIGHBOUR.GET", "nothing"]), Reply::Null);
        assert_eq!(client.cmd(&["NEIGHBOUR.EVAL", "return 7", "0"]), Reply::Int(7));
        server.assert_alive();
    }
}

/// An RM_Call of another module passes our filter too.
#[test]
fn calls_of_other_modules_are_answered_as_without_the_guard() {
    for order in [["neighbour", "bull"], ["bull", "neighbour"]] {
        let (bare, guarded) = (with_modules(&["neighbour"]).start(), with_modules(&order).start());
        load(&mut guarded.client(), "yes", &[], &guests::admit_all());
        let mut clients = [bare.client(), guarded.client()];
        let mut both = |command: &[Vec<u8>]| {
            let [left, right] = clients.each_mut().map(|client| client.cmd(command));
            assert_eq!(left, right, "{}", command[0].escape_ascii());
            left
        };
        let digest = both(&[b"SCRIPT".to_vec(), b"LOAD".to_vec(), SCRIPT.into()]).text();
        let calls = |add: &Add, format: &str| {
            let scripts = [
                SCRIPT,
                "return -5",
                "return {1, 'two', {3, false}}",
                "return {err = 'MINE no'}",
                "return redis.call('NOSUCH')",
            ];
            let mut calls: Vec<Vec<Vec<u8>>> = scripts.iter().map(|script| add.eval(script)).collect();
            calls.extend([add.evalsha(&digest), add.evalsha("ffffffffffffffffffffffffffffffffffffffff")]);
            let call = |command| [words(&format!("NEIGHBOUR.CALL {format}")), command].concat();
            calls.into_iter().map(call).collect::<Vec<_>>()
        };
        for format in ["!", "!E", "!C", "!CE", "!EM", "3!E", "0!E"] {
            for add in [Add::standard(QUEUE), Add::new(QUEUE, DELAYED), Add::new(QUEUE, PARENT)] {
                for call in calls(&add, format) {
                    both(&call);
                }
            }
        }
        both(&words("MULTI"));
        for call in calls(&Add::standard(QUEUE), "!E") {
            both(&call);
        }
        assert_eq!(both(&words("EXEC")).items().len(), 7);
        let dumps = [&bare, &guarded].map(|server| Dump::take(&mut server.client()));
        assert_same(&dumps[0], &dumps[1], ["with the neighbour alone", "guarded"]);
        let mut client = guarded.client();
        assert!(info(&mut client, "admitted") > 20);
        load(&mut client, "no", &[], &guests::rejecting(b"no"));
        for format in ["!E", "!CE"] {
            let call = [words(&format!("NEIGHBOUR.CALL {format}")), Add::standard(QUEUE).eval(SCRIPT)].concat();
            let reply = client.cmd(&call);
            assert!(rejected(&reply), "{format}: {reply:?}");
        }
        for mut server in [bare, guarded] {
            server.assert_alive();
        }
    }
}

#[test]
fn threads_that_read_and_parse_change_nothing() {
    const CLIENTS: usize = 12;
    const ADDS: usize = 600;
    // With the default of 1 everything is on one thread.
    let mut server = Server::builder().config("bull.guard enforce").config("io-threads 4").start();
    let mut root = server.client();
    // Newer servers always read in these threads.
    root.cmd(&["CONFIG", "SET", "io-threads-do-reads", "yes"]);
    load(&mut root, "no", &["QUEUES", "bull:{shut}"], &guests::rejecting(b"no"));
    let threads: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = server.client();
            thread::spawn(move || {
                let adds: Vec<_> = (0..ADDS)
                    .map(|n| match n % 3 {
                        0 => Add::standard("bull:{open}").eval(SCRIPT),
                        1 => Add::standard("bull:{shut}").eval(SCRIPT),
                        _ => words("INCR other"),
                    })
                    .collect();
                let replies: Vec<Reply> =
                    adds.chunks(60).flat_map(|part| client.pipeline(part).expect("answers")).collect();
                for (n, reply) in replies.iter().enumerate() {
                    assert_eq!(rejected(reply), n % 3 == 1, "{n}: {reply:?}");
                    assert!(n % 3 == 1 || reply.error().is_none(), "{n}: {reply:?}");
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a client"));
    let each = i64::try_from(CLIENTS * ADDS / 3).expect("a few");
    assert_eq!(root.ok(&["LLEN", "bull:{open}:wait"]).int(), each);
    assert_eq!(root.ok(&["GET", "bull:{open}:id"]).int(), each);
    assert_eq!(root.ok(&["GET", "other"]).int(), each);
    assert_eq!(root.ok(&["KEYS", "bull:{shut}*"]).items().len(), 0);
    let counted = ["guarded", "admitted", "refused"].map(|name| i64::try_from(info(&mut root, name)).expect("a count"));
    assert_eq!(counted, [2 * each, each, each]);
    server.assert_alive();
}

/// Adds as old servers wrote them into their AOF, and as no primary of today sends them.
fn recorded() -> Vec<Vec<Vec<u8>>> {
    let add = Add::standard(QUEUE);
    let mut all = vec![words("SELECT 0")];
    all.extend((0..20).map(|n| add.clone().data(&"x".repeat(1000 * n)).eval(SCRIPT)));
    all.push([words("SCRIPT LOAD"), vec![b"return redis.call('INCR', KEYS[3])".to_vec()]].concat());
    all.push(words("MULTI"));
    all.extend((0..3).map(|_| add.eval(SCRIPT)));
    all.push(words("EXEC"));
    all.push(add.clone().parent("bull:{q}:p").eval(SCRIPT));
    all.push(Add::new(QUEUE, DELAYED).eval("return redis.call('INCR', KEYS[3])"));
    let mut unreadable = add.eval(SCRIPT);
    unreadable[12] = vec![0x90];
    all.push(unreadable);
    all.push(words("SET end 1"));
    all
}

#[test]
fn an_aof_with_scripts_is_loaded_as_it_stands() {
    let file = std::env::temp_dir().join(format!("bull-test-{}.aof", std::process::id()));
    fs::write(&file, recorded().iter().flat_map(|command| encode(command)).collect::<Vec<u8>>()).expect("a file");
    // More than maxmemory, which loading does not heed.
    let start = |builder: Builder| {
        builder.appendonly(true).with_file("appendonly.aof", file.clone()).config("maxmemory 1mb").start()
    };
    let stock = start(Server::builder().with_module(false));
    let mut guarded = start(Server::builder().config("bull.guard enforce"));
    let (left, right) = (Dump::take(&mut stock.client()), Dump::take(&mut guarded.client()));
    assert_same(&left, &right, ["stock", "guarded"]);
    assert!(left.0.len() > 25, "{} keys", left.0.len());
    let mut client = guarded.client();
    let counted = ["guarded", "admitted", "refused", "passed", "unreadable"].map(|name| info(&mut client, name));
    assert_eq!(counted, [0; 5], "nothing that was accepted before is judged");
    // What the load made of the file is made of core commands from now on.
    client.ok(&["CONFIG", "SET", "maxmemory", "0"]);
    client.ok(&["BGREWRITEAOF"]);
    fs::remove_file(&file).expect("our own file");
    guarded.assert_alive();
}

#[test]
fn what_comes_from_a_primary_is_not_judged() {
    let stream = recorded();
    let dumps = [false, true].map(|module| {
        let primary = FakePrimary::listen();
        let builder = Server::builder().with_module(module).config("maxmemory 1mb");
        let builder = if module { builder.config("bull.guard enforce") } else { builder };
        let mut replica = builder.start();
        let mut client = replica.client();
        if module {
            client.ok(&["CONFIG", "SET", "maxmemory", "0"]);
            load(&mut client, "no", &[], &guests::rejecting(b"no"));
            client.ok(&["CONFIG", "SET", "maxmemory", "1mb"]);
        }
        client.ok(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()]);
        let mut link = primary.accept();
        link.send(&stream);
        replica.wait_until("all has come", |client| client.cmd(&["EXISTS", "end"]) == Reply::Int(1));
        if module {
            let counted =
                ["guarded", "admitted", "refused", "passed", "unreadable"].map(|name| info(&mut client, name));
            assert_eq!(counted, [0; 5]);
            // Its own clients are told that it is a replica, as by EVALSHA.
            let reply = client.cmd(&Add::standard(QUEUE).eval(SCRIPT));
            assert!(reply.error().is_some_and(|text| text.contains("READONLY")), "{reply:?}");
        }
        replica.assert_alive();
        Dump::take(&mut client)
    });
    assert_same(&dumps[0], &dumps[1], ["a stock replica", "a guarded replica"]);
    assert!(dumps[0].0.len() > 25, "{} keys", dumps[0].0.len());
}
