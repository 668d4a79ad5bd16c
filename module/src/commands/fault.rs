//! BULL.PANIC: a panic on purpose, for the tests. Only in builds with the feature `fault-injection`.

use crate::redis::Context;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

pub fn run(_context: Context, _args: Args<'_>) -> Option<Reply> {
    panic!("asked for by BULL.PANIC: 一 %s%n")
}
