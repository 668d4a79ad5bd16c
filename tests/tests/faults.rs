//! The faults of `scripts/soak`, short: each scenario ends by itself and says its seed where it fails.

use bull_tests::soak::kills::{Keeping, kills};
use bull_tests::soak::trims::{self, Wanted};
use bull_tests::soak::{calls, faults, torn};

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
    println!("{}", faults::memory(8, 5000, 14).markdown());
}

#[test]
fn an_aof_cut_anywhere_has_no_torn_job() {
    println!("{}", torn::truncations(10_000, 40, 15).markdown());
}

#[test]
fn random_calls_get_a_sane_answer() {
    println!("{}", calls::calls(200_000, 16).markdown());
}
