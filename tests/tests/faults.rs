//! The faults of `scripts/soak`, short: each scenario ends by itself and says its seed where it fails.

use bull_tests::soak::kills::{Keeping, kills};
use bull_tests::soak::trims::{self, Wanted};
use bull_tests::soak::{calls, faults, memory, torn};

#[test]
fn kills_lose_no_acknowledged_job() {
    println!("{}", kills(6, 11, Keeping::Always).markdown());
}

#[test]
fn kills_with_snapshots_alone_lose_only_what_came_after_the_last() {
    println!("{}", kills(4, 18, Keeping::Snapshots).markdown());
}

#[test]
fn failovers_in_the_middle_of_trims_lose_nothing() {
    println!("{}", faults::failovers(5, 12).markdown());
}

#[test]
fn the_new_primary_finishes_a_trim() {
    println!("{}", trims::trims(trims::turns(), 16, Wanted::ByClient).markdown());
}

#[test]
fn the_new_primary_goes_on_with_the_retention() {
    println!("{}", trims::trims(trims::turns(), 17, Wanted::ByProfile).markdown());
}

#[test]
fn pauses_reloads_and_resyncs_change_nothing() {
    println!("{}", faults::disturbances(14, 13).markdown());
}

#[test]
fn memory_comes_back() {
    println!("{}", memory::memory(8, 14).markdown());
}

#[test]
fn swapped_policies_leave_nothing() {
    println!("{}", memory::swapped(6, 19).markdown());
}

#[test]
fn a_leak_would_show() {
    // A key of 4 KB a round takes 5 KB of the allocator, its name and place some bytes more; a table that grows on the way adds to it.
    let measured = memory::measure(0, 10, 1000, |client, round| {
        client.ok(&["SET", &format!("leak:{round}"), &"x".repeat(4096)]);
    });
    assert!((3500..20_000).contains(&measured.own.used), "{measured:?}");
}

#[test]
fn an_aof_cut_anywhere_has_no_torn_job() {
    println!("{}", torn::truncations(10_000, 40, 15).markdown());
}

#[test]
fn random_calls_get_a_sane_answer() {
    println!("{}", calls::calls(200_000, 16).markdown());
}
