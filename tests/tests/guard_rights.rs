//! Who may add with the guard on: just who may add without it, given the one documented grant.

use bull_tests::adds::{Add, DELAYED, PARENT, SCRIPT, STANDARD};
use bull_tests::checks::load;
use bull_tests::dump::assert_same;
use bull_tests::{Client, Dump, Reply, Server, guests};

const QUEUE: &str = "bull:{q}";

/// KEYS of addParentJob, BullMQ 4.14.2 to 5.55: the shortest of all adds.
const OLD_PARENT: &[&str] = &["meta", "id", "completed", "events"];

/// Rules about commands. `EVAL` and `EVALSHA` stand for the right and, on the guarded server, for the documented grant.
const COMMANDS: [&str; 8] = [
    "+@all",
    "+@all -EVAL -EVALSHA",
    "EVAL EVALSHA +@write +@read",
    "EVAL +@write +@read",
    "EVALSHA +@write +@read",
    // One of what the script calls is missing: the first write, one after it, the last.
    "EVAL EVALSHA +@write +@read -incr",
    "EVAL EVALSHA +incr +hset",
    "-@all",
];
/// Rules about keys.
const KEYS: [&str; 5] = [
    "~*",
    "~bull:{q}:*",
    // Read only, then without what the script writes beyond its KEYS, then of another queue.
    "%R~bull:*",
    "~bull:{q}:?????* ~bull:{q}:id ~bull:{q}:wait ~bull:{q}:meta",
    "~bull:{other}:*",
];

/// The rules of a user, as the words of ACL SETUSER.
fn rules(commands: &str, keys: &str, guarded: bool) -> Vec<String> {
    let words = commands.split(' ').chain(keys.split(' '));
    words
        .flat_map(|word| match (word, guarded) {
            ("EVAL" | "EVALSHA", false) => vec![format!("+{}", word.to_lowercase())],
            ("EVAL" | "EVALSHA", true) => {
                vec![format!("+{}", word.to_lowercase()), format!("+bull.{}", word.to_lowercase())]
            }
            _ => vec![word.to_lowercase()],
        })
        .collect()
}

/// A command over one of the three ways.
#[derive(Clone, Copy, Debug)]
enum Way {
    Direct,
    Multi,
    /// From a script, where no script may be run, by its own name and by ours.
    Script(&'static str),
}

fn send(client: &mut Client, way: Way, command: &[Vec<u8>]) -> Vec<Reply> {
    match way {
        Way::Direct => vec![client.cmd(command)],
        Way::Multi => vec![client.cmd(&["MULTI"]), client.cmd(command), client.cmd(&["EXEC"])],
        Way::Script(prefix) => {
            let name = format!("{prefix}{}", String::from_utf8_lossy(&command[0]));
            let text = format!("return redis.pcall('{name}', unpack(ARGV))");
            let mut call = vec![b"EVAL".to_vec(), text.into_bytes(), b"0".to_vec()];
            call.extend_from_slice(&command[1..]);
            vec![client.cmd(&call)]
        }
    }
}

fn is_error(reply: &Reply) -> bool {
    match reply {
        Reply::Array(items) => items.iter().any(is_error),
        reply => reply.error().is_some(),
    }
}

/// A denial in one form: Redis words it in several ways, and names our command where the guard renamed it.
fn shown(reply: &Reply) -> String {
    match reply {
        Reply::Error(line) if line.starts_with(b"NOPERM") => "NOPERM".to_owned(),
        reply => format!("{reply:?}"),
    }
}

struct Side {
    /// Kept running.
    server: Server,
    admin: Client,
    guarded: bool,
}

impl Side {
    fn start(guarded: bool) -> Side {
        let builder = Server::builder().with_module(guarded);
        let server = if guarded { builder.config("bull.guard enforce") } else { builder }.start();
        let admin = server.client();
        Side { server, admin, guarded }
    }

    fn login(&mut self, name: &str, commands: &str, keys: &str) -> Client {
        let mut command: Vec<String> = ["ACL", "SETUSER", name, "reset", "on", "nopass"].map(String::from).to_vec();
        command.extend(rules(commands, keys, self.guarded));
        command.extend(["+multi", "+exec", "+ping", "+auth"].map(String::from));
        self.admin.ok(&command);
        let mut client = self.server.client();
        client.ok(&["AUTH", name, "x"]);
        client
    }
}

#[test]
fn who_may_add_is_not_changed_by_the_guard() {
    let (mut stock, mut guarded) = (Side::start(false), Side::start(true));
    load(&mut guarded.admin, "yes", &[], &guests::admit_all());
    let digest = [&mut stock, &mut guarded].map(|side| side.admin.ok(&["SCRIPT", "LOAD", SCRIPT]).text())[0].clone();
    // The script finds its keys by their places in KEYS of a standard job.
    let other = "return redis.call('INCR', KEYS[3])";
    let paths = [
        Add::standard(QUEUE).eval(SCRIPT),
        Add::standard(QUEUE).evalsha(&digest),
        Add::new(QUEUE, STANDARD).parent("bull:{q}:p").eval(SCRIPT),
        Add::new(QUEUE, DELAYED).option("delay", 5).eval(other),
        Add::new(QUEUE, PARENT).eval(other),
        Add::standard(QUEUE).scheduler("s").option("repeat.count", 2).eval(SCRIPT),
    ];
    let ways = [Way::Direct, Way::Multi, Way::Script(""), Way::Script("BULL.")];
    let mut outcomes = [0, 0];
    for (nth, (commands, keys)) in COMMANDS.iter().flat_map(|one| KEYS.map(|two| (*one, two))).enumerate() {
        let name = format!("user{nth}");
        let mut sides = [&mut stock, &mut guarded].map(|side| side.login(&name, commands, keys));
        for (path, command) in paths.iter().enumerate() {
            for way in ways {
                let [left, right] = sides.each_mut().map(|client| send(client, way, command));
                let what = format!("{commands} {keys}, path {path}, {way:?}: {left:?} and {right:?}");
                let [denied, denied_too] = [&left, &right].map(|replies| replies.iter().any(is_error));
                assert_eq!(denied, denied_too, "{what}");
                // With all commands but EVAL, ours is granted and EVAL refused when it is to run, not when it is queued; the
                // unknown BULL.EVAL of a stock server has an error of its own.
                let comparable = !(commands.contains("-EVAL") || matches!(way, Way::Script("BULL.")));
                if comparable {
                    assert_eq!(
                        left.iter().map(shown).collect::<Vec<_>>(),
                        right.iter().map(shown).collect::<Vec<_>>(),
                        "{what}"
                    );
                }
                outcomes[usize::from(denied)] += 1;
            }
        }
        let dumps = [&mut stock, &mut guarded].map(|side| {
            let dump = Dump::take(&mut side.admin);
            side.admin.ok(&["FLUSHALL"]);
            dump
        });
        assert_same(&dumps[0], &dumps[1], ["stock", "guarded"]);
    }
    let [allowed, denied] = outcomes;
    assert!(allowed > 60 && denied > 400, "{allowed} allowed, {denied} denied");
    guarded.server.assert_alive();
}

#[test]
fn without_the_grant_nobody_adds() {
    let mut side = Side::start(true);
    load(&mut side.admin, "yes", &[], &guests::admit_all());
    side.admin.ok(&["ACL", "SETUSER", "u", "on", "nopass", "~*", "+eval", "+evalsha", "+@write", "+@read", "+auth"]);
    let mut client = side.server.client();
    client.ok(&["AUTH", "u", "x"]);
    for command in [Add::standard(QUEUE).eval(SCRIPT), Add::standard(QUEUE).evalsha("00")] {
        assert_eq!(client.cmd(&command).code().as_deref(), Some("NOPERM"));
    }
    assert!(!is_error(&client.cmd(&["EVAL", "return 1", "0"])), "other scripts are left alone");
    // Nor does the grant give more than it says.
    side.admin.ok(&["ACL", "SETUSER", "u", "-eval", "-evalsha", "+bull.eval", "+bull.evalsha"]);
    for name in ["EVAL", "BULL.EVAL"] {
        let reply = client.cmd(&Add::standard(QUEUE).command(name, SCRIPT));
        assert_eq!(reply.code().as_deref(), Some("NOPERM"), "{name}: {reply:?}");
    }
    assert_eq!(side.admin.ok(&["DBSIZE"]).int(), 0);
    side.server.assert_alive();
}

#[test]
fn floods_without_a_password_change_nothing() {
    let mut server = Server::builder().config("bull.guard enforce").start();
    // Whoever was there before stays.
    let mut root = server.client();
    root.ok(&["CONFIG", "SET", "requirepass", "secret"]);
    load(&mut root, "no", &[], &guests::rejecting(b"no"));
    let state = |client: &mut Client| {
        // All but what the timer has done meanwhile, such as slices and the time spent on them.
        let told =
            ["bull_guard_", "bull_jobs_", "bull_bytes_", "bull_queues", "bull_polic", "bull_panics", "bull_errors"];
        let info = client.ok(&["INFO", "everything"]).text();
        let ours: Vec<String> =
            info.lines().filter(|line| told.iter().any(|start| line.starts_with(start))).map(String::from).collect();
        assert!(ours.len() > 15, "{info}");
        let policy = client.ok(&["BULL.POLICY", "INFO", "no"]);
        (ours, format!("{policy:?}"), client.ok(&["DBSIZE"]))
    };
    let before = state(&mut root);
    // Ten words, all that a stranger may send in one command; with more the server hangs up before the guard sees them.
    let mut unreadable = Add::new(QUEUE, OLD_PARENT).eval(SCRIPT);
    assert_eq!(unreadable.len(), 10);
    unreadable[7] = vec![0x90];
    let flood: Vec<Vec<Vec<u8>>> = (0..2000)
        .flat_map(|n| {
            let add = Add::new(QUEUE, OLD_PARENT).data(&"x".repeat(n));
            let text = format!("return {n}");
            [add.eval(&text), add.evalsha("00"), add.command("BULL.EVAL", &text), unreadable.clone()]
        })
        .collect();
    for _ in 0..4 {
        let mut stranger = server.client();
        for part in flood.chunks(500) {
            for reply in stranger.pipeline(part).expect("answers") {
                assert_eq!(reply.code().as_deref(), Some("NOAUTH"), "{reply:?}");
            }
        }
        let longer = stranger.try_cmd(&Add::standard(QUEUE).eval(SCRIPT));
        assert!(longer.as_ref().map_or(true, is_error), "{longer:?}");
    }
    assert_eq!(before, state(&mut root));
    assert!(!server.log().contains("cannot read"), "no line in the log");
    root.ok(&["CONFIG", "SET", "requirepass", ""]);
    server.assert_alive();
}
