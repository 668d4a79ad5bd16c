//! Swaps while commands come in at a fixed rate: what a swap takes of the main thread by the server's own clock, and how long
//! any command waits, beside the same rate without swaps.
//!
//! Two kinds of swaps: by CONFIG, which works on a thread for a moment, and by LOAD, which compiles. Where cores are few the
//! compiling thread has one while a command waits for it; that is LOAD's, not the swap's, so there a wait counts without
//! the time in which the main thread or the sender had no core.
//!
//! Each LOAD puts in the next version, and each reply names the version that gave it: on no connection may one be older than
//! the one before. Between the swaps are LOADs that fail, whose versions nobody may ever see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bull_tests::checks::{load, try_load};
use bull_tests::cores::Others;
use bull_tests::probe::{Beat, Latency, Probe};
use bull_tests::{Client, Reply, Server, guests};

use super::info;

/// Commands a second: so many connections, each with so many in a write, a write a millisecond.
pub const RATE: usize = CONNECTIONS * BATCH * 1000;
const CONNECTIONS: usize = 2;
const BATCH: usize = 25;
/// Swaps of a turn, and time between two of them.
const SWAPS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(30);
/// One LOAD in so many fails.
const FAILING: u32 = 4;
/// No swap may keep the main thread for longer, nor a command wait so much longer than one does without swaps.
const LONGEST: Duration = Duration::from_millis(1);
/// Turns that count, and at most.
const TURNS: usize = 3;
const TRIES: usize = 6;
/// Where other programs used so many cores a turn says nothing.
const FOREIGN_CORES: f64 = 0.1;

pub fn swaps() {
    let versions: Vec<Vec<u8>> = (1..=SWAPS + 1).map(guests::versioned).collect();
    let failing = [
        guests::Guest::new("never").rejecting(b"v9999").configure("unreachable").build(),
        guests::noise(7, 20_000),
        guests::refusing_configuration(),
    ];
    let mut counted = 0;
    for _ in 0..TRIES {
        let server = Server::start();
        let mut client = server.client();
        load(&mut client, "swap", &[], &versions[0]);
        let others = Others::than(&[server.process()]);
        let calm = under_load(&server, || thread::sleep(BETWEEN * SWAPS));
        let configured = under_load(&server, || {
            for at in 0..SWAPS {
                thread::sleep(BETWEEN);
                client.ok(&["BULL.POLICY", "CONFIG", "swap", &format!("{{\"at\":{at}}}")]);
            }
        });
        let loaded = under_load(&server, || {
            for (at, wasm) in (1..).zip(&versions[1..]) {
                thread::sleep(BETWEEN);
                if at % FAILING == 0 {
                    let reply = try_load(&mut client, "swap", &[], &failing[(at / FAILING) as usize % failing.len()]);
                    assert_eq!(reply.code().as_deref(), Some("BULLPOLICY"), "{reply:?}");
                    assert_eq!(version(&client.cmd(&call())), u64::from(at), "the old one serves");
                }
                load(&mut client, "swap", &[], wasm);
                assert_eq!(version(&client.cmd(&call())), u64::from(at) + 1, "once LOAD has answered");
            }
        });
        let foreign = others.cores();
        let longest = Duration::from_micros(number(&mut client, "bull_longest_policy_swap_us"));
        assert_eq!(number(&mut client, "bull_policy_swaps"), 2 * u64::from(SWAPS) + 1);
        println!("without swaps:        {calm}");
        println!("{SWAPS} swaps by CONFIG:  {configured}");
        println!("{SWAPS} swaps by LOAD:    {loaded}");
        println!("longest swap: {longest:?} of the main thread; other programs used {foreign:.2} cores");
        let held = longest < LONGEST && configured.own < calm.own + LONGEST && loaded.served < calm.served + LONGEST;
        if foreign >= FOREIGN_CORES {
            println!("does not count: other programs were in the way");
            continue;
        }
        assert!(held, "a swap delayed commands by more than {LONGEST:?}");
        counted += 1;
        if counted == TURNS {
            return;
        }
    }
    panic!("the machine is too busy: {counted} of {TURNS} turns counted");
}

fn call() -> Vec<&'static str> {
    vec!["BULL.ADD", "bull:load", "job", "{}"]
}

fn number(client: &mut Client, field: &str) -> u64 {
    info(client, "bull", field).trim().parse().expect("a number")
}

/// The version that refused.
fn version(reply: &Reply) -> u64 {
    let text = reply.error().unwrap_or_else(|| panic!("admitted: {reply:?}"));
    let number = text.strip_prefix("BULLREJECT swap v").and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("not of any version: {text}"))
}

/// What came of some seconds of load: the longest waits of any command, PINGs included.
struct Seen {
    rate: f64,
    max: Duration,
    /// Without what other programs took.
    own: Duration,
    /// Without the time that a core was wanted.
    served: Duration,
    commands: Latency,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rate, max, own, served, commands } = self;
        let (p50, p99) = (commands.p50, commands.p99);
        write!(
            f,
            "{rate:.0} commands a second, {BATCH} of them p50 {p50:?} p99 {p99:?}; longest wait {max:?}, without other \
             programs {own:?}, without waiting for a core {served:?}"
        )
    }
}

fn under_load(server: &Server, work: impl FnOnce()) -> Seen {
    let answered = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let senders: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (answered, mut newest) = (Arc::clone(&answered), 0);
            let seen = move |reply: Reply| {
                let version = version(&reply);
                assert!(version >= newest && version <= u64::from(SWAPS) + 1, "v{version} after v{newest}");
                newest = version;
                answered.fetch_add(1, Ordering::Relaxed);
            };
            Probe::beating(server.port(), server.process(), Beat::new(&vec![call(); BATCH], seen))
        })
        .collect();
    let ping = Probe::watching(server.port(), server.process());
    work();
    let ping = ping.stop();
    let senders: Vec<_> = senders.into_iter().map(Probe::stop).collect();
    let rate = answered.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    let longest = |of: fn(&Latency) -> Duration| senders.iter().chain([&ping]).map(of).max().unwrap_or_default();
    Seen {
        rate,
        max: longest(|seen| seen.max),
        own: longest(|seen| seen.own),
        served: longest(|seen| seen.served),
        commands: senders[0],
    }
}
