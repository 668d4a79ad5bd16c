//! Rows of the fault matrix, short: disks, clocks, links, roles, databases, children. docs/trust.md says which test has which
//! row; `scripts/soak matrix` is the long form.

use bull_tests::engine;
use bull_tests::soak::matrix;

#[test]
fn a_full_disk_refuses_adds_and_loses_none() {
    println!("{}", matrix::disk(1, 21).markdown());
}

#[test]
fn a_clock_that_jumps_stops_nothing() {
    println!("{}", matrix::clock(1, 22).markdown());
}

#[test]
fn partitions_and_lag_leave_all_copies_equal() {
    println!("{}", matrix::links(1, 23).markdown());
}

#[test]
fn a_node_that_became_a_replica_writes_nothing() {
    println!("{}", matrix::roles(1, 24).markdown());
}

#[test]
fn swapped_databases_lose_no_job() {
    println!("{}", matrix::databases(1, 25).markdown());
}

#[test]
fn a_flush_takes_what_was_there_and_nothing_later() {
    println!("{}", matrix::flushes(1, 26).markdown());
}

#[test]
fn snapshots_end_while_policies_are_compiled() {
    // The compiler is the same on every engine, and takes most of the time.
    if engine::chosen() == engine::DEFAULT {
        println!("{}", matrix::children(1, 27).markdown());
    }
}
