//! The guard: add scripts of clients that were not changed, seen at the level of the protocol.
//!
//! The scripts here have the shape of BullMQ's and a text of our own; `guard_bullmq.rs` has the real clients.

use bull_tests::adds::{Add, DELAYED, PARENT, SCRIPT};
use bull_tests::checks::load;
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

fn guarded(mode: &str) -> Server {
    Server::builder().config(format!("bull.guard {mode}")).start()
}

fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// A counter of INFO.
fn info(client: &mut Client, field: &str) -> u64 {
    let text = client.ok(&["INFO", "everything"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("bull_{field}:")));
    line.unwrap_or_else(|| panic!("no bull_{field} in INFO")).trim().parse().expect("a number")
}

fn rejected(reply: &Reply) -> bool {
    reply.error().as_deref() == Some("BULLREJECT no no")
}

fn load_rejecting(client: &mut Client) {
    load(client, "no", &[], &guests::rejecting(b"no"));
}

#[test]
fn the_switch_decides_and_works_live() {
    let mut server = guarded("off");
    let mut client = server.client();
    load_rejecting(&mut client);
    let add = Add::standard(QUEUE).eval(SCRIPT);
    let ran = |client: &mut Client, command: &str| {
        client.ok(&["INFO", "commandstats"]).text().contains(&format!("cmdstat_{command}:"))
    };
    assert_eq!(client.cmd(&add), bulk("1"));
    assert!(!ran(&mut client, "BULL.EVAL"), "the guard is off");

    client.ok(&["CONFIG", "SET", "bull.guard", "observe"]);
    assert_eq!(client.cmd(&add), bulk("2"));
    assert!(ran(&mut client, "BULL.EVAL"), "the guard looks at adds");
    assert_eq!(info(&mut client, "guard_observed"), 1);

    client.ok(&["CONFIG", "SET", "bull.guard", "enforce"]);
    let before = Dump::take(&mut client);
    assert!(rejected(&client.cmd(&add)));
    assert_same(&before, &Dump::take(&mut client), ["before the refusal", "after it"]);
    assert!(client.cmd(&["CONFIG", "SET", "bull.guard", "on"]).error().is_some());

    client.ok(&["CONFIG", "SET", "bull.guard", "off"]);
    assert_eq!(client.cmd(&add), bulk("3"));
    let counts = ["guarded", "admitted", "refused", "observed", "passed", "unreadable"];
    assert_eq!(counts.map(|name| info(&mut client, &format!("guard_{name}"))), [2, 1, 1, 1, 0, 0]);
    let policy = client.ok(&["BULL.POLICY", "INFO", "no"]);
    let counter = |name: &str| policy.get(name).expect(name).int();
    assert_eq!([counter("calls"), counter("rejected"), counter("observed")], [2, 1, 1]);
    server.assert_alive();
}

#[test]
fn what_is_no_add_is_left_alone() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    load_rejecting(&mut client);
    let key = format!("{QUEUE}:wait");
    for call in [
        vec!["EVAL", "return 1", "0"],
        vec!["EVAL", "return #KEYS", "1", &key],
        vec!["EVAL", "return #ARGV", "0", "a", "b", "c", "d", "e", "f", "g", "h", "i"],
        vec!["FCALL", "nosuch", "0"],
        vec!["EVALSHA_RO", "nosuch", "0"],
    ] {
        assert!(!rejected(&client.cmd(&call)), "{call:?}");
    }
    // A worker's script: moveToActive has eleven keys of its own.
    let keys =
        ["wait", "active", "prioritized", "events", "stalled", "limiter", "delayed", "paused", "meta", "pc", "marker"];
    let mut call: Vec<String> = ["EVAL", "return #KEYS", "11"].map(String::from).to_vec();
    call.extend(keys.map(|suffix| format!("{QUEUE}:{suffix}")));
    call.extend(["bull:{q}:", "1", "x", "y", "z", "a", "b", "c", "d"].map(String::from));
    assert_eq!(client.cmd(&call), Reply::Int(11));
    assert_eq!(info(&mut client, "guard_guarded"), 0);
    server.assert_alive();
}

#[test]
fn our_commands_run_nothing_but_adds() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    let key = format!("{QUEUE}:x");
    for call in [
        vec!["BULL.EVAL", "return redis.call('SET', KEYS[1], 1)", "1", &key],
        vec!["BULL.EVALSHA", "e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0"],
        vec!["bull.eval", "return 1", "-1"],
        vec!["bull.eval", "return 1", "999999999999999999999"],
        vec!["BULL.EVAL", "return 1", "5", "a"],
    ] {
        let error = client.cmd(&call).error().unwrap_or_else(|| panic!("{call:?} ran"));
        assert!(error.starts_with("ERR BULL.EVAL"), "{error}");
    }
    assert_eq!(client.cmd(&["DBSIZE"]), Reply::Int(0));
    // What the filter would have made of it may also be sent as it is, guard or not.
    let add = Add::standard(QUEUE);
    assert_eq!(client.cmd(&add.command("BULL.EVAL", SCRIPT)), bulk("1"));
    load_rejecting(&mut client);
    assert!(rejected(&client.cmd(&add.command("BULL.EVAL", SCRIPT))));
    client.ok(&["CONFIG", "SET", "bull.guard", "off"]);
    assert_eq!(client.cmd(&add.command("BULL.EVAL", SCRIPT)), bulk("2"));
    server.assert_alive();
}

/// Sends the same to a stock server and to a guarded one whose policy admits all; the replies must be equal.
fn twins(resp3: bool, config: &[&str]) -> (Server, Server, impl FnMut(&[Vec<u8>]) -> Reply + use<>) {
    let with = |module: bool| {
        let mut builder = Server::builder().with_module(module);
        if module {
            builder = builder.config("bull.guard enforce");
        }
        config.iter().fold(builder, |builder, line| builder.config(*line)).start()
    };
    let (stock, guarded) = (with(false), with(true));
    load(&mut guarded.client(), "yes", &[], &guests::admit_all());
    let connect = |server: &Server| if resp3 { server.client().resp3() } else { server.client() };
    let (mut left, mut right) = (connect(&stock), connect(&guarded));
    let both = move |command: &[Vec<u8>]| {
        let (stock, guarded) = (left.cmd(command), right.cmd(command));
        assert_eq!(stock, guarded, "stock and guarded server answer {:?}", command[0].escape_ascii().to_string());
        stock
    };
    (stock, guarded, both)
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

#[test]
fn replies_of_every_kind_are_the_scripts_own() {
    for resp3 in [false, true] {
        let (stock, guarded, mut both) = twins(resp3, &[]);
        let add = Add::standard(QUEUE);
        for script in [
            SCRIPT,
            "return -5",
            "return false",
            "return true",
            "return {1, 'two', {3, false}}",
            "return {err = 'MINE of the script'}",
            "return {ok = 'fine'}",
            "return redis.error_reply('-7 %s \u{4e00}')",
            "redis.setresp(3) return {double = 3.5}",
            "redis.setresp(3) return {map = {a = 1}}",
            "return redis.call('LPUSH', KEYS[4], 1)",
            "return redis.call('NOSUCH')",
            "return redis.call('SET', KEYS[3], 'x') .. error('later')",
            "return redis.pcall('LPUSH', KEYS[3], 1)",
            "return nosuch.field",
            "syntax error",
            "return string.rep('x', 100000)",
        ] {
            both(&add.eval(script));
        }
        both(&add.evalsha("ffffffffffffffffffffffffffffffffffffffff"));
        both(&add.evalsha("short"));
        let digest = both(&words(&format!("SCRIPT LOAD {}", SCRIPT.replace(' ', "\t")))).text();
        both(&add.evalsha(&digest));
        both(&add.evalsha(&digest.to_uppercase()));
        both(&words("SCRIPT FLUSH"));
        both(&add.evalsha(&digest));
        // In MULTI, and queued with an error before it.
        both(&words("MULTI"));
        both(&add.eval(SCRIPT));
        both(&add.eval("return -5"));
        both(&add.eval("return redis.call('NOSUCH')"));
        both(&words("EXEC"));
        both(&words("MULTI"));
        both(&words("NOSUCH"));
        both(&add.eval(SCRIPT));
        both(&words("EXEC"));
        // From Lua, where no script may run.
        for command in ["EVAL", "EVALSHA"] {
            let nested = format!("return redis.pcall('{command}', '{digest}', 9, unpack(ARGV))");
            let mut call = vec![b"EVAL".to_vec(), nested.into_bytes(), b"0".to_vec()];
            call.extend(add.eval(SCRIPT).into_iter().skip(3));
            both(&call);
        }
        let dumps = [&stock, &guarded].map(|server| Dump::take(&mut server.client()));
        assert_same(&dumps[0], &dumps[1], ["stock", "guarded"]);
    }
}

#[test]
fn a_server_that_may_not_write_says_so_in_its_own_words() {
    let (stock, guarded, mut both) = twins(false, &["min-replicas-to-write 0"]);
    let add = Add::standard(QUEUE);
    both(&add.eval(SCRIPT));
    for (line, back) in [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ] {
        both(&words(line));
        let reply = both(&add.eval(SCRIPT));
        assert!(reply.error().is_some(), "{line}: {reply:?}");
        if !line.contains("maxmemory") {
            both(&words("MULTI"));
            both(&add.eval(SCRIPT));
            both(&words("EXEC"));
        }
        both(&words(back));
    }
    both(&add.eval(SCRIPT));
    let dumps = [&stock, &guarded].map(|server| Dump::take(&mut server.client()));
    assert_same(&dumps[0], &dumps[1], ["stock", "guarded"]);
}

#[test]
fn in_multi_each_job_has_its_own_answer() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    load(&mut client, "no", &["QUEUES", "bull:{q}:shut"], &guests::rejecting(b"no"));
    let add = |queue: &str| Add::standard(&format!("{QUEUE}:{queue}")).eval(SCRIPT);
    client.ok(&["MULTI"]);
    for queue in ["open", "shut", "open", "shut"] {
        assert_eq!(client.cmd(&add(queue)), Reply::Simple("QUEUED".into()));
    }
    let replies = client.ok(&["EXEC"]);
    let [first, second, third, fourth] = replies.items() else { panic!("{replies:?}") };
    assert_eq!((first, third), (&bulk("1"), &bulk("2")));
    assert!(rejected(second) && rejected(fourth), "{replies:?}");
    assert!(Dump::take(&mut client).starting_with("bull:{q}:shut").0.is_empty());
    // Judged when it runs, not when it is queued.
    client.ok(&["MULTI"]);
    client.ok(&add("shut"));
    server.client().ok(&["CONFIG", "SET", "bull.guard", "off"]);
    assert_eq!(client.ok(&["EXEC"]).items()[0], bulk("1"));
    server.assert_alive();
}

#[test]
fn what_was_accepted_before_is_not_asked_about() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    load_rejecting(&mut client);
    let parent = format!("{QUEUE}:root");
    // A child, whether its parent is there or not: the script finds out.
    assert_eq!(client.cmd(&Add::standard(QUEUE).parent(&parent).eval("return -5")), Reply::Int(-5));
    // A repeatable job's next iteration passes, its first is judged.
    let iteration = |count| Add::new(QUEUE, DELAYED).scheduler("s").option("repeat.count", count).eval("return 'ok'");
    assert!(rejected(&client.cmd(&iteration(1))));
    assert_eq!(client.cmd(&iteration(2)), bulk("ok"));
    assert!(rejected(&client.cmd(&Add::new(QUEUE, PARENT).eval("return 'ok'"))), "the root of a flow is judged");
    assert_eq!(info(&mut client, "guard_passed"), 2);
    assert_eq!(info(&mut client, "guard_refused"), 2);
    server.assert_alive();
}

#[test]
fn an_add_that_cannot_be_read_passes_and_is_counted() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    load_rejecting(&mut client);
    let mut add = Add::standard(QUEUE).eval("return 'ran'");
    for spoilt in [vec![0x90], vec![0x9a, 0xc0], b"\x92\xa1x\xa1y".to_vec(), vec![0xdd, 0xff, 0xff, 0xff, 0xff]] {
        add[12] = spoilt;
        assert_eq!(client.cmd(&add), bulk("ran"));
    }
    assert_eq!(info(&mut client, "guard_unreadable"), 4);
    assert_eq!(server.log().matches("add script pass that it cannot read").count(), 1, "logged at a bounded rate");
    server.assert_alive();
}

/// Clients send EVAL once on a connection and rely on EVALSHA afterwards, in a MULTI without any way back.
#[test]
fn the_script_of_a_refused_eval_is_known_afterwards() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    let digest = client.ok(&["SCRIPT", "LOAD", SCRIPT]).text();
    client.ok(&["SCRIPT", "FLUSH"]);
    load_rejecting(&mut client);
    let add = Add::standard(QUEUE);
    assert!(rejected(&client.cmd(&add.eval(SCRIPT))));
    assert!(rejected(&client.cmd(&add.eval("this is not Lua"))));
    load(&mut client, "no", &[], &guests::admit_all());
    client.ok(&["MULTI"]);
    client.ok(&add.evalsha(&digest));
    assert_eq!(client.ok(&["EXEC"]).items()[0], bulk("1"));

    // Their number has an end: the server keeps them for ever.
    load_rejecting(&mut client);
    let text = |n: usize| format!("return {n}");
    let digests: Vec<String> = (0..300).map(|n| client.ok(&["SCRIPT", "LOAD", &text(n)]).text()).collect();
    client.ok(&["SCRIPT", "FLUSH"]);
    for n in 0..300 {
        assert!(rejected(&client.cmd(&add.eval(&text(n)))));
    }
    let exist = [vec!["SCRIPT".to_owned(), "EXISTS".to_owned()], digests].concat();
    let known = client.ok(&exist).items().iter().filter(|known| known.int() == 1).count();
    assert!((200..=256).contains(&known), "{known} of 300 scripts are kept");
    server.assert_alive();
}

#[test]
fn defer_names_the_delay_and_displace_makes_room() {
    let mut server = guarded("enforce");
    let mut client = server.client();
    load(&mut client, "one", &[], &guests::deferring(5000));
    let error = client.cmd(&Add::standard(QUEUE).eval(SCRIPT)).error().expect("a refusal");
    assert!(error.starts_with("BULLREJECT one ") && error.contains("5000 ms"), "{error}");
    let delayed = |ms| Add::new(QUEUE, DELAYED).option("delay", ms).eval("return 'late'");
    assert!(client.cmd(&delayed(4999)).error().is_some());
    assert_eq!(client.cmd(&delayed(5000)), bulk("late"));
    assert_eq!(client.cmd(&["DBSIZE"]), Reply::Int(0));

    load(&mut client, "one", &[], &guests::admit_all());
    for id in ["1", "2", "3"] {
        assert_eq!(client.cmd(&Add::standard(QUEUE).eval(SCRIPT)), bulk(id));
    }
    load(&mut client, "one", &[], &guests::displacing(1));
    let waiting = |client: &mut Client| client.ok(&["LRANGE", &format!("{QUEUE}:wait"), "0", "-1"]).strings();
    // A script that fails, or adds nothing, costs nobody a place.
    for script in ["return -5", "return {err = 'ERR no'}", "return '2'"] {
        client.cmd(&Add::standard(QUEUE).eval(script));
        assert_eq!(waiting(&mut client), ["3", "2", "1"], "{script}");
    }
    assert_eq!(client.cmd(&Add::standard(QUEUE).eval(SCRIPT)), bulk("4"));
    assert_eq!(waiting(&mut client), ["4", "3", "2"]);
    assert_eq!(client.ok(&["EXISTS", &format!("{QUEUE}:1")]).int(), 0);
    // The newcomer that enters at the workers' end stays.
    let lifo = SCRIPT.replace("LPUSH", "RPUSH");
    assert_eq!(client.cmd(&Add::standard(QUEUE).eval(&lifo)), bulk("5"));
    assert_eq!(waiting(&mut client), ["4", "3", "5"]);
    server.assert_alive();
}

#[test]
fn replicas_and_the_aof_get_core_commands() {
    let mut primary = Server::builder().config("bull.guard enforce").appendonly(true).start();
    let mut client = primary.client();
    load(&mut client, "room", &[], &guests::admit_all());
    let mut replica = Server::builder().config("bull.guard enforce").replica_of(&primary).start();
    let mut stock = Server::builder().with_module(false).replica_of(&primary).start();
    for server in [&replica, &stock] {
        server.wait_until("the replica is linked", |client| {
            client.ok(&["INFO", "replication"]).text().contains("master_link_status:up")
        });
    }
    client.ok(&Add::standard(QUEUE).eval(SCRIPT));
    client.ok(&["MULTI"]);
    for _ in 0..3 {
        client.ok(&Add::standard(QUEUE).eval(SCRIPT));
    }
    client.ok(&["EXEC"]);
    load(&mut client, "room", &[], &guests::displacing(1));
    client.ok(&Add::standard(QUEUE).eval(SCRIPT));
    // A script that fails half way leaves what it wrote, as it does without us.
    client.cmd(&Add::standard(QUEUE).eval("redis.call('SET', KEYS[9], 'half') return redis.call('NOSUCH')"));
    assert_eq!(client.ok(&["WAIT", "2", "10000"]).int(), 2);
    let left = Dump::take(&mut client);
    assert_same(&left, &Dump::take(&mut replica.client()), ["primary", "replica with the module"]);
    assert_same(&left, &Dump::take(&mut stock.client()), ["primary", "replica without it"]);
    primary.restart();
    assert_same(&left, &Dump::take(&mut primary.client()), ["before the restart", "after it"]);
    let from_aof = Server::builder().with_module(false).with_file("appendonlydir", primary.dir().join("appendonlydir"));
    let mut from_aof = from_aof.appendonly(true).start();
    assert_same(&left, &Dump::take(&mut from_aof.client()), ["primary", "a stock server from its AOF"]);
    for server in [&mut primary, &mut replica, &mut stock, &mut from_aof] {
        server.assert_alive();
    }
}
