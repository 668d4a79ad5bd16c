//! Estimates of queues in the store of the tests.

use super::*;
use crate::queue::fake::Fake;
use crate::queue::fields::Word;
use crate::queue::store::End;

fn queue() -> QueueName {
    QueueName::parse(b"bull:q").unwrap()
}

/// Jobs with as many fields as `size` says; a field is ten bytes of the fake store.
fn job(store: &mut Fake, id: &str, size: usize) {
    let fields: Vec<String> = (0..size).map(|field| field.to_string()).collect();
    let fields: Vec<(Word, Word)> = fields.iter().map(|field| (field.as_str().into(), "x".into())).collect();
    store.hset(&queue().key(id), &fields).unwrap();
}

fn measure(store: &Fake, estimate: &mut Estimate, target: f64) -> (Size, u64) {
    let keys = QueueKeys::of(&queue());
    let counts = Counts::read(store, &keys);
    let (name, mut rounds) = (queue(), 0);
    let subject = Subject { queue: &name, keys: &keys, counts: &counts };
    let over = || {
        rounds += 1;
        rounds >= 10_000
    };
    estimate.measure(store, subject, target, &mut Lot(7), over).unwrap();
    (estimate.size(&counts), rounds)
}

#[test]
fn a_small_queue_is_measured_to_the_byte() {
    let mut store = Fake::default();
    for id in ["1", "2", "3"] {
        job(&mut store, id, 4);
        store.zadd(b"bull:q:completed", 1.0, id.as_bytes()).unwrap();
    }
    store.push(b"bull:q:3:logs", End::Right, b"line").unwrap();
    job(&mut store, "4", 6);
    store.push(b"bull:q:wait", End::Left, b"4").unwrap();
    let (size, _) = measure(&store, &mut Estimate::default(), 0.05);
    let wanted = Size { unfinished: 70, finished: 150, logs: 10, finished_logs: 10, ..Size::default() };
    assert_eq!(size, wanted);
    assert_eq!((size.total(), size.retained()), (230, 160));
}

#[test]
fn a_foreign_value_under_a_key_leaves_nothing_to_measure() {
    let mut store = Fake::default();
    job(&mut store, "1", 4);
    store.push(b"bull:q:wait", End::Left, b"1").unwrap();
    store.push(b"bull:q:completed", End::Left, b"2").unwrap();
    let (size, rounds) = measure(&store, &mut Estimate::default(), 0.05);
    assert_eq!((size.total(), size.error, rounds), (50, 0, 0));
}

#[test]
fn a_large_queue_is_measured_to_within_its_own_bound() {
    let mut store = Fake::default();
    let mut lot = Lot(3);
    let mut bytes = 0;
    for id in 0..3000 {
        let size = 1 + lot.below(20) as usize * lot.below(20) as usize;
        bytes += 10 * size as u64 + 10;
        job(&mut store, &id.to_string(), size);
        store.zadd(b"bull:q:failed", f64::from(id), id.to_string().as_bytes()).unwrap();
    }
    let mut estimate = Estimate::default();
    let (size, rounds) = measure(&store, &mut estimate, 0.05);
    assert!(size.error_part() <= 0.05 && rounds < 10_000, "{size:?} after {rounds} rounds");
    assert!(size.total().abs_diff(bytes) <= size.error, "{size:?}, in truth {bytes}");
    // Half of the jobs are new: what was measured of the old ones counts for half.
    let counts = Counts::read(&store, &QueueKeys::of(&queue()));
    let before = estimate.strata[0].1;
    estimate.turn_over(&counts, 0, 0, 1500);
    let after = estimate.strata[0].1;
    assert_eq!((after.number() * 2.0, after.bodies(1)), (before.number(), before.bodies(1)));
    assert!(estimate.size(&counts).error > size.error);
}

/// Adds jobs to `wait`, and tells of them: eleven fields beside four stand for 100 bytes of data, which take 110.
fn add(store: &mut Fake, estimate: &mut Estimate, ids: std::ops::Range<u32>, fields: usize) {
    let mut arrivals = Arrivals::default();
    for id in ids {
        job(store, &id.to_string(), fields);
        store.push(b"bull:q:wait", End::Left, id.to_string().as_bytes()).unwrap();
        arrivals.count((fields as u64 - 4) / 11 * 100);
    }
    estimate.arrived(Route::Standard, arrivals);
}

fn truth(store: &Fake) -> u64 {
    let ids = store.lrange(b"bull:q:wait", 0, -1).unwrap();
    ids.iter().map(|id| store.memory(&queue().key(id)).unwrap() + 10).sum()
}

fn counts(store: &Fake) -> Counts {
    Counts::read(store, &QueueKeys::of(&queue()))
}

#[test]
fn jobs_whose_data_was_seen_count_at_once_and_leave_no_error() {
    let (mut store, mut estimate) = (Fake::default(), Estimate::default());
    add(&mut store, &mut estimate, 0..30, 4);
    measure(&store, &mut estimate, 0.05);
    // All are measured. Then come others that differ a lot, in several rounds.
    for round in 0..5u32 {
        add(&mut store, &mut estimate, 1000 * (round + 1)..1000 * (round + 1) + 200, 15 + 44 * round as usize);
        assert_eq!(estimate.size(&counts(&store)).total(), truth(&store), "before the next visit of round {round}");
        estimate.turn_over(&counts(&store), 200, 0, 0);
        let size = estimate.size(&counts(&store));
        assert!(size.total().abs_diff(truth(&store)) <= 1 && size.error == 0, "{size:?}, in truth {}", truth(&store));
    }
    // What is drawn by lot on top makes an error that is told.
    let (size, _) = measure(&store, &mut estimate, 0.0);
    assert!(size.error > 0 && size.total().abs_diff(truth(&store)) <= size.error, "{size:?}, {}", truth(&store));
}

#[test]
fn few_measured_jobs_and_many_seen_ones_keep_their_parts() {
    let (mut store, mut estimate) = (Fake::default(), Estimate::default());
    // 2,000 jobs that nobody saw come, of which a part is measured.
    add(&mut store, &mut Estimate::default(), 0..2000, 4);
    measure(&store, &mut estimate, 0.05);
    // Ten times as large as those, and a tenth of them: seen.
    add(&mut store, &mut estimate, 5000..5200, 59);
    estimate.turn_over(&counts(&store), 200, 0, 0);
    let size = estimate.size(&counts(&store));
    assert!(size.total().abs_diff(truth(&store)) * 100 <= truth(&store), "{size:?}, in truth {}", truth(&store));
    assert!(size.error > 0, "the first ones are known by some of them");
    // Half of all go before the next visit: what is known is known of those that stay.
    let ids = store.lrange(b"bull:q:wait", 0, -1).unwrap();
    for id in ids.iter().step_by(2) {
        store.lrem(b"bull:q:wait", 1, id).unwrap();
    }
    estimate.turn_over(&counts(&store), 0, 0, 0);
    let size = estimate.size(&counts(&store));
    assert!(size.total().abs_diff(truth(&store)) * 100 <= truth(&store), "{size:?}, in truth {}", truth(&store));
}

#[test]
fn jobs_that_were_drawn_many_times_count_no_more_than_they_are() {
    let (mut store, mut estimate) = (Fake::default(), Estimate::default());
    add(&mut store, &mut Estimate::default(), 0..40, 4);
    // Some hundred times by lot, of forty jobs.
    measure(&store, &mut estimate, -1.0);
    add(&mut store, &mut estimate, 100..200, 59);
    estimate.turn_over(&counts(&store), 100, 0, 0);
    let size = estimate.size(&counts(&store));
    assert!(size.total().abs_diff(truth(&store)) * 100 <= truth(&store), "{size:?}, in truth {}", truth(&store));
}

#[test]
fn what_was_not_measured_is_said_to_be_unknown() {
    let mut counts = Counts::default();
    assert_eq!(Estimate::default().size(&counts).error, 0);
    counts.waiting = 1;
    let size = Estimate::default().size(&counts);
    assert_eq!((size.error, size.error_part()), (u64::MAX, 1.0));
}

#[test]
fn counts_older_than_the_keys_do_not_make_places_larger() {
    let (mut store, mut estimate) = (Fake::default(), Estimate::default());
    add(&mut store, &mut Estimate::default(), 0..1, 4);
    let before = counts(&store);
    add(&mut store, &mut Estimate::default(), 1..5000, 4);
    let (name, keys) = (queue(), QueueKeys::of(&queue()));
    let subject = Subject { queue: &name, keys: &keys, counts: &before };
    estimate.measure(&store, subject, 0.05, &mut Lot(7), || true).unwrap();
    let size = estimate.size(&counts(&store));
    assert!(size.total().abs_diff(truth(&store)) * 50 <= truth(&store), "{size:?}, in truth {}", truth(&store));
}

#[test]
fn what_a_place_takes_is_looked_at_again_when_there_are_many_more() {
    let mut stratum = Stratum::default();
    assert!(stratum.has_outgrown_its_entry(1));
    stratum.look_at_places(100, 1500);
    let outgrown = [49, 50, 200, 201].map(|places| stratum.has_outgrown_its_entry(places));
    assert_eq!((outgrown, stratum.entry), ([true, false, false, true], 15.0));
    assert!(!stratum.with_places_only().has_outgrown_its_entry(100));
}
