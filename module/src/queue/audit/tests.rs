use super::*;
use crate::queue::fake::{Fake, Value};
use crate::queue::store::Expiry;

const NOW: u64 = 1_795_000_000_000;

/// Slices of one step.
struct Short;

impl Around for Short {
    fn expired(&mut self) -> bool {
        true
    }

    fn may_release(&mut self, parent: &Parent) -> bool {
        parent.base != b"bull:forbidden:"
    }
}

fn name(text: &str) -> QueueName {
    QueueName::parse(text.as_bytes()).unwrap()
}

fn job(store: &mut Fake, id: &str, more: &[(&str, &str)]) {
    let known = [("name", "n"), ("data", "{}"), ("opts", "{}"), ("timestamp", "5"), ("delay", "0"), ("priority", "0")];
    for (field, value) in known.iter().chain(more) {
        store.hset(&name("bull:q").key(id), &[((*field).into(), (*value).into())]).unwrap();
    }
}

/// A queue with a job in every state, a scheduler, deduplication, logs, a flow and BullMQ 4's pseudo ids.
fn sound() -> Fake {
    let mut store = Fake::default();
    let key = |suffix: &str| name("bull:q").key(suffix);
    store.hset(&key("meta"), &[("opts.maxLenEvents".into(), "10000".into())]).unwrap();
    store.set(&key("id"), b"20", Expiry::Clear).unwrap();
    for (id, list) in [("1", "wait"), ("2", "wait"), ("3", "active"), ("4", "paused")] {
        job(&mut store, id, &[]);
        store.push(&key(list), End::Left, id.as_bytes()).unwrap();
    }
    store.push(&key("wait"), End::Left, b"0:0").unwrap();
    store.zadd(&key("marker"), 0.0, b"0").unwrap();
    let scored =
        [("5", "completed"), ("6", "failed"), ("7", "delayed"), ("8", "prioritized"), ("9", "waiting-children")];
    for (id, set) in scored {
        job(&mut store, id, &[]);
        store.zadd(&key(set), 7.0, id.as_bytes()).unwrap();
    }
    store.set(&key("3:lock"), b"t", Expiry::Millis(500)).unwrap();
    store.push(&key("5:logs"), End::Right, b"row").unwrap();
    store.sadd(&key("9:dependencies"), b"bull:q:1").unwrap();
    store.hset(&key("9:processed"), &[("bull:q:5".into(), "1".into())]).unwrap();
    store.zadd(&key("repeat"), 900.0, b"s:x").unwrap();
    store.hset(&key("repeat:s:x"), &[("name".into(), "n".into()), ("data".into(), "{}".into())]).unwrap();
    job(&mut store, "repeat:s:x:900", &[("rjk", "s:x")]);
    store.zadd(&key("delayed"), 900.0, b"repeat:s:x:900").unwrap();
    store.set(&key("de:d"), b"1", Expiry::Clear).unwrap();
    store.set(&key("de:gone"), b"77", Expiry::Millis(5)).unwrap();
    store.hset(&key("guard:profile"), &[("priority".into(), "3".into())]).unwrap();
    store.hset(&key("metrics:completed"), &[("count".into(), "3".into())]).unwrap();
    store
}

fn check_as(store: &mut Fake, mode: Mode, limit: Option<u64>) -> Audit {
    let mut audit = Audit::new(store, name("bull:q"), mode, Scope::Everything, limit, Style::Shortest).unwrap();
    let mut now = NOW;
    loop {
        match audit.slice(store, now, &mut Short).unwrap() {
            Step::Done => return audit,
            Step::More => {}
            Step::Later(due) => now = due,
        }
    }
}

fn check(store: &mut Fake, mode: Mode) -> Tally {
    check_as(store, mode, None).tally
}

/// Finds this and nothing else, changes nothing in finding it, mends it, and then finds nothing.
fn found_and_mended(mut store: Fake, fault: Fault, count: u64) -> Fake {
    let before = store.clone();
    let tally = check(&mut store, Mode::Find);
    assert_eq!((tally.count(fault), tally.found()), (count, count), "{:?}", tally.named);
    assert_eq!(store, before, "a check without REPAIR wrote");
    let tally = check(&mut store, Mode::Repair);
    assert_eq!((tally.found(), tally.repaired), (count, count), "{:?}", tally.named);
    let tally = check(&mut store, Mode::Find);
    assert_eq!((tally.found(), tally.unsure), (0, 0), "{:?}", tally.named);
    store
}

#[test]
fn a_sound_queue_is_sound_and_stays_as_it_is() {
    let mut store = sound();
    let before = store.clone();
    for mode in [Mode::Find, Mode::Repair] {
        let tally = check(&mut store, mode);
        assert_eq!((tally.found(), tally.unsure), (0, 0), "{:?}", tally.named);
        assert!(tally.examined > 20);
    }
    assert_eq!(store, before);
}

#[test]
fn ids_without_a_job_go_from_every_state() {
    let mut store = sound();
    for list in ["wait", "paused", "active"] {
        store.push(&name("bull:q").key(list), End::Right, format!("x-{list}").as_bytes()).unwrap();
    }
    for set in ["completed", "failed", "delayed", "prioritized", "waiting-children"] {
        store.zadd(&name("bull:q").key(set), 1.0, format!("x-{set}").as_bytes()).unwrap();
    }
    let store = found_and_mended(store, Fault::Dangling, 8);
    assert_eq!(store, sound());
}

#[test]
fn ghosts_go_with_their_ids() {
    let mut store = sound();
    for id in ["g1", "g2", "g3"] {
        store.hset(&name("bull:q").key(id), &[("processedOn".into(), "1".into()), ("ats".into(), "1".into())]).unwrap();
    }
    store.push(b"bull:q:wait", End::Left, b"g1").unwrap();
    store.zadd(b"bull:q:failed", 1.0, b"g2").unwrap();
    assert_eq!(found_and_mended(store, Fault::Ghost, 3), sound());
}

#[test]
fn a_locked_one_is_told_and_left_to_its_worker() {
    let mut store = sound();
    store.push(b"bull:q:active", End::Left, b"x").unwrap();
    store.set(b"bull:q:x:lock", b"t", Expiry::Millis(500)).unwrap();
    let before = store.clone();
    let tally = check(&mut store, Mode::Repair);
    assert_eq!((tally.count(Fault::Dangling), tally.repaired), (1, 0));
    assert_eq!(store, before);
}

#[test]
fn a_finished_orphan_goes_whole_and_an_unfinished_one_is_put_back() {
    let mut store = sound();
    job(&mut store, "a", &[("finishedOn", "9"), ("returnvalue", "1")]);
    store.push(b"bull:q:a:logs", End::Right, b"row").unwrap();
    job(&mut store, "b", &[]);
    job(&mut store, "c", &[("priority", "3")]);
    job(&mut store, "d", &[("delay", "100")]);
    job(&mut store, "e", &[]);
    store.sadd(b"bull:q:e:dependencies", b"bull:q:1").unwrap();
    // Replaced by the scheduler's next one.
    job(&mut store, "repeat:s:x:800", &[("rjk", "s:x")]);
    let store = found_and_mended(store, Fault::OrphanHash, 6);
    assert_eq!(
        [b"bull:q:a".as_slice(), b"bull:q:a:logs", b"bull:q:repeat:s:x:800"].map(|k| store.kind(k)),
        [Kind::None; 3]
    );
    assert_eq!(store.lindex(b"bull:q:wait", -1).unwrap().as_deref(), Some(&b"b"[..]));
    for (set, id) in [("prioritized", b"c"), ("delayed", b"d"), ("waiting-children", b"e")] {
        assert!(store.zscore(&name("bull:q").key(set), id).is_some(), "{set}");
    }
}

#[test]
fn parts_of_jobs_that_are_gone_go() {
    let mut store = sound();
    store.push(b"bull:q:x:logs", End::Right, b"row").unwrap();
    store.sadd(b"bull:q:x:dependencies", b"bull:q:1").unwrap();
    store.hset(b"bull:q:x:processed", &[("k".into(), "v".into())]).unwrap();
    store.hset(b"bull:q:x:failed", &[("k".into(), "v".into())]).unwrap();
    store.zadd(b"bull:q:x:unsuccessful", 1.0, b"k").unwrap();
    assert_eq!(found_and_mended(store, Fault::OrphanPart, 5), sound());
}

#[test]
fn a_job_in_two_states_stays_in_one_and_is_never_lost() {
    // Id, its states, fields beyond a plain job's, and the state that remains.
    type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    const CASES: [Case; 7] = [
        ("a", &["wait", "completed"], &[("finishedOn", "9"), ("returnvalue", "1")], "completed"),
        ("b", &["wait", "failed"], &[], "wait"),
        ("c", &["delayed", "wait"], &[("delay", "50")], "delayed"),
        ("d", &["prioritized", "paused"], &[("priority", "2")], "prioritized"),
        ("e", &["active", "wait"], &[], "wait"),
        ("f", &["completed", "failed"], &[("finishedOn", "9"), ("failedReason", "no")], "failed"),
        ("g", &["wait", "wait"], &[], "wait"),
    ];
    let mut store = sound();
    for (id, states, more, _) in CASES {
        job(&mut store, id, more);
        for state in states {
            let key = name("bull:q").key(state);
            if ["wait", "paused", "active"].contains(state) {
                store.push(&key, End::Left, id.as_bytes()).unwrap();
            } else {
                store.zadd(&key, 1.0, id.as_bytes()).unwrap();
            }
        }
    }
    let store = found_and_mended(store, Fault::TwoStates, CASES.len() as u64);
    for (id, _, _, left) in CASES {
        let all = ["wait", "paused", "active", "prioritized", "delayed", "waiting-children", "completed", "failed"];
        let in_state = |state: &&str| match store.0.get(&name("bull:q").key(state)) {
            Some(Value::List(list)) => list.iter().any(|one| one == id.as_bytes()),
            Some(Value::ZSet(set)) => set.contains_key(id.as_bytes()),
            _ => false,
        };
        assert_eq!(all.iter().copied().filter(in_state).collect::<Vec<_>>(), [left], "{id}");
    }
}

#[test]
fn an_active_job_with_its_lock_stays_with_its_worker() {
    let mut store = sound();
    store.push(b"bull:q:wait", End::Left, b"3").unwrap();
    assert_eq!(found_and_mended(store, Fault::TwoStates, 1), sound());
}

#[test]
fn deduplication_keys_of_jobs_that_are_gone_go() {
    let mut store = sound();
    store.set(b"bull:q:de:x", b"77", Expiry::Clear).unwrap();
    store.hset(b"bull:q:dn:x", &[("name".into(), "n".into())]).unwrap();
    store.hset(b"bull:q:dn:y", &[("name".into(), "n".into())]).unwrap();
    // Found by its owner or by itself; which of the two is seen first is chance.
    let tally = check(&mut store, Mode::Find);
    assert_eq!(tally.count(Fault::StaleDedup), 2);
    assert_eq!(found_and_mended(store, Fault::StaleDedup, 2), sound());
}

#[test]
fn what_an_active_job_will_queue_next_stays() {
    let mut store = sound();
    store.hset(b"bull:q:dn:y", &[("name".into(), "n".into())]).unwrap();
    store.hset(b"bull:q:3", &[("deid".into(), "y".into())]).unwrap();
    assert_eq!(check(&mut store, Mode::Repair).found(), 0);
}

#[test]
fn parents_of_children_that_are_gone_are_let_go() {
    let mut store = sound();
    job(&mut store, "p", &[("priority", "4")]);
    job(&mut store, "r", &[]);
    for id in [&b"p"[..], b"r"] {
        store.zadd(b"bull:q:waiting-children", 1.0, id).unwrap();
    }
    store.sadd(b"bull:q:p:dependencies", b"bull:other:77").unwrap();
    store.sadd(b"bull:q:p:dependencies", b"bull:q:78").unwrap();
    store.sadd(b"bull:q:9:dependencies", b"bull:q:78").unwrap();
    // p waits for the gone, r for none, 9 for one that is there and one that is gone.
    let store = found_and_mended(store, Fault::StuckParent, 3);
    assert_eq!(store.zscore(b"bull:q:prioritized", b"p"), Some(4.0 * 4_294_967_296.0 + 1.0));
    assert_eq!(store.lindex(b"bull:q:wait", -1).unwrap().as_deref(), Some(&b"r"[..]));
    assert!(store.zscore(b"bull:q:waiting-children", b"9").is_some());
}

#[test]
fn children_in_other_slots_are_not_judged_in_a_cluster() {
    let mut store = sound();
    store.sadd(b"bull:q:9:dependencies", b"bull:other:77").unwrap();
    let mut audit = Audit::new(&store, name("bull:q"), Mode::Repair, Scope::OwnSlot, None, Style::Shortest).unwrap();
    while audit.slice(&mut store, NOW, &mut Short).unwrap() != Step::Done {}
    assert_eq!(audit.tally.found(), 0);
}

#[test]
fn a_marker_is_missed_only_where_it_should_be() {
    let mut store = sound();
    store.del(&[b"bull:q:marker"]).unwrap();
    let missing = store.clone();
    store = found_and_mended(store, Fault::MissingMarker, 1);
    assert_eq!(store, sound());
    for (field, value) in [("paused", "1"), ("concurrency", "1"), ("version", "bullmq:4.18.3")] {
        let mut store = missing.clone();
        store.hset(b"bull:q:meta", &[(field.into(), value.into())]).unwrap();
        assert_eq!(check(&mut store, Mode::Find).found(), 0, "{field}");
    }
    let mut limited = missing.clone();
    limited.set(b"bull:q:limiter", b"9", Expiry::Millis(50)).unwrap();
    assert_eq!(check(&mut limited, Mode::Find).found(), 0);
}

#[test]
fn a_marker_that_comes_back_between_two_looks_was_never_missing() {
    let mut store = sound();
    store.del(&[b"bull:q:marker"]).unwrap();
    let mut audit = Audit::new(&store, name("bull:q"), Mode::Find, Scope::Everything, None, Style::Shortest).unwrap();
    let mut now = NOW;
    let mut looks = 0;
    loop {
        match audit.slice(&mut store, now, &mut Short).unwrap() {
            Step::Done => break,
            Step::More => {}
            Step::Later(due) => {
                now = due;
                looks += 1;
                if looks == 3 {
                    store.zadd(b"bull:q:marker", 0.0, b"0").unwrap();
                }
            }
        }
    }
    assert_eq!((audit.tally.found(), looks), (0, 3));
}

#[test]
fn queues_that_share_a_beginning_leave_each_other_alone() {
    let mut store = sound();
    // bull:q:b, a queue of its own with a job in each kind of place and damage of its own.
    store.hset(b"bull:q:b:meta", &[("version".into(), "bullmq:5.1.0".into())]).unwrap();
    for (id, more) in [("b:1", &[][..]), ("b:2", &[("finishedOn", "1")])] {
        job(&mut store, id, more);
    }
    store.push(b"bull:q:b:wait", End::Left, b"1").unwrap();
    store.push(b"bull:q:b:9:logs", End::Left, b"row").unwrap();
    store.set(b"bull:q:b:de:z", b"99", Expiry::Clear).unwrap();
    let before = store.clone();
    assert_eq!(check(&mut store, Mode::Repair).found(), 0);
    assert_eq!(store, before);
    // And the other way: jobs b:c:d and repeat:s:x:900 of bull:q, seen from bull:q:b and bull:q:repeat.
    job(&mut store, "b:c:d", &[]);
    store.push(b"bull:q:wait", End::Left, b"b:c:d").unwrap();
    for (queue, found) in [("bull:q:b", 4), ("bull:q:repeat", 0)] {
        store.hset(&name(queue).key("meta"), &[("version".into(), "bullmq:5.1.0".into())]).unwrap();
        let mut audit = Audit::new(&store, name(queue), Mode::Find, Scope::Everything, None, Style::Shortest).unwrap();
        let mut now = NOW;
        loop {
            match audit.slice(&mut store, now, &mut Short).unwrap() {
                Step::Done => break,
                Step::More => {}
                Step::Later(due) => now = due,
            }
        }
        assert_eq!(audit.tally.found(), found, "{queue}: {:?}", audit.tally.named);
    }
}

#[test]
fn it_stops_at_its_limit() {
    let mut store = sound();
    for at in 0..100 {
        store.zadd(b"bull:q:failed", 1.0, format!("x{at}").as_bytes()).unwrap();
    }
    let audit = check_as(&mut store, Mode::Repair, Some(7));
    assert_eq!((audit.tally.found(), audit.tally.repaired), (7, 7));
    assert_eq!(store.len(b"bull:q:failed"), 94);
}

#[test]
fn a_finished_orphan_of_a_parent_that_is_not_the_callers_stays() {
    let mut store = sound();
    let link = r#"{"id":"p","queueKey":"bull:forbidden"}"#;
    job(&mut store, "a", &[("finishedOn", "9"), ("parentKey", "bull:forbidden:p"), ("parent", link)]);
    let tally = check(&mut store, Mode::Repair);
    assert_eq!((tally.count(Fault::OrphanHash), tally.repaired), (1, 0));
    assert_eq!(store.kind(b"bull:q:a"), Kind::Hash);
}

#[test]
fn a_clock_that_is_set_back_puts_nothing_off() {
    use crate::queue::audit::is_due;
    assert!(!is_due(1500, 1000) && is_due(1500, 1500) && is_due(1500, 9000));
    // Put off by half a second at a time that comes again in a day.
    assert!(is_due(86_401_500, 1000));
}

/// Enough waiting jobs that a search through all of them is too long.
const MANY: u32 = 17_000;

/// A check of a queue with [`MANY`] waiting jobs, during which `client` acts once, in the middle of the walk of the list.
fn check_beside(client: impl Fn(&mut Fake)) -> Tally {
    let mut store = Fake::default();
    store.hset(b"bull:q:meta", &[("opts.maxLenEvents".into(), "10000".into())]).unwrap();
    store.zadd(b"bull:q:marker", 0.0, b"0").unwrap();
    for id in 0..MANY {
        store.push(b"bull:q:wait", End::Right, id.to_string().as_bytes()).unwrap();
    }
    // Hashes of those that the walk must not take for lost ones; the others are told as missing, and left.
    let known = [0, 100, 8_000, 8_510, 8_540, 8_600, 8_700, 8_900, MANY - 1];
    for id in known {
        job(&mut store, &id.to_string(), &[]);
    }
    let mut audit = Audit::new(&store, name("bull:q"), Mode::Find, Scope::Everything, None, Style::Shortest).unwrap();
    let (mut now, mut steps) = (NOW, 0);
    loop {
        match audit.slice(&mut store, now, &mut Short).unwrap() {
            Step::Done => break,
            Step::More => {}
            Step::Later(due) => now = due,
        }
        steps += 1;
        if steps == 8_500 {
            assert!(matches!(audit.stage, Stage::List(_)));
            client(&mut store);
        }
    }
    audit.tally
}

#[test]
fn jobs_of_a_long_list_are_not_lost_ones_when_others_before_them_go() {
    let tally = check_beside(|store| {
        for id in 200..260 {
            store.lrem(b"bull:q:wait", 0, id.to_string().as_bytes()).unwrap();
        }
    });
    assert_eq!((tally.count(Fault::OrphanHash), tally.unsure), (0, 0), "{:?}", tally.named.last());
}

#[test]
fn jobs_of_a_long_queue_that_is_paused_meanwhile_are_not_lost_ones() {
    let tally = check_beside(|store| {
        let waiting = store.0.remove(&b"bull:q:wait"[..]).unwrap();
        store.0.insert(b"bull:q:paused".to_vec(), waiting);
        store.hset(b"bull:q:meta", &[("paused".into(), "1".into())]).unwrap();
    });
    assert_eq!(tally.count(Fault::OrphanHash), 0, "{:?}", tally.named.last());
}
