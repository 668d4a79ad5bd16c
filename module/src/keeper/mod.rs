//! What goes on by itself: finding queues, trimming in slices, the policies' ticks, sampling the server's memory.
//!
//! Writes only where this node is a primary and no client is paused; otherwise the work waits.

mod actions;
pub mod admission;
pub mod background;
mod behind;
mod by_queue;
pub mod changes;
pub mod checks;
pub mod emergency;
pub mod guard;
pub mod node;
pub mod profiles;
pub mod queues;
pub mod rates;
pub mod retention;
pub mod sizes;
mod standing;
mod starts;
mod sub_keys;
mod survey;
pub mod ticket;
pub mod ticks;
pub mod torn;
pub mod trims;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::config;
use crate::redis::Context;
use crate::redis::events::{Change, Handlers};

/// Period of the timer where nothing waits, milliseconds.
const IDLE_MS: u64 = 100;
/// Where work waits: the event loop serves clients in between.
const BUSY_MS: u64 = 1;

/// One turn. Answers when the next one should come.
pub fn tick(context: Context) -> u64 {
    node::turn(context);
    ticket::expire();
    torn::slice(context);
    rates::set_primary(context.is_primary());
    guard::set_primary(context.is_primary());
    let start = Instant::now();
    let first = FIRST.swap(0, Ordering::Relaxed);
    let mut next = IDLE_MS;
    for step in 0..SLICED.len() {
        let at = (first + step) % SLICED.len();
        // Clients wait for all that a turn does: what would come on top of a slice has the next turn.
        if step > 0 && start.elapsed() >= config::slice() / 4 {
            FIRST.store(at, Ordering::Relaxed);
            return BUSY_MS;
        }
        next = next.min(SLICED[at](context).unwrap_or(IDLE_MS));
    }
    next
}

/// Work that may take a slice; answers in how many milliseconds it has more to do. What ticks began is over before the
/// retention looks at the queue: a policy that trims each time would keep it out.
const SLICED: [fn(Context) -> Option<u64>; 8] = [
    |context| {
        survey::slice(context);
        None
    },
    |context| queues::scan_slice(context).then_some(BUSY_MS),
    |context| {
        sizes::slice(context);
        None
    },
    |context| {
        trims::slice(context);
        trims::next(context)
    },
    |context| {
        let keeping = retention::slice(context);
        // It may have begun a trim.
        [keeping, trims::next(context)].into_iter().flatten().min()
    },
    |context| checks::slice(context).then_some(BUSY_MS),
    |context| emergency::slice(context).then_some(BUSY_MS),
    |context| ticks::slice(context).then_some(BUSY_MS),
];

/// What the next turn begins with, a place in [`SLICED`]. Main thread only.
static FIRST: AtomicUsize = AtomicUsize::new(0);

pub const HANDLERS: Handlers = Handlers { on_key, on_sub_key: sub_keys::on_key, on_entry: rates::on_entry, on_change };

/// A key that ends with `:meta` or `:guard:profile` was written or went.
fn on_key(context: Context, key: &[u8], gone: bool) {
    queues::on_key(context, key, gone);
    if gone && let Some(queue) = queues::name_of(key) {
        guard::forget(context.db(), &queue);
    }
    profiles::on_key(context, key);
}

fn on_change(change: Change) {
    checks::on_change(change);
    emergency::on_change(change);
    queues::on_change(change);
    rates::on_change(change);
    survey::on_change();
    standing::on_change();
    sub_keys::on_change(change);
    profiles::on_change(change);
    guard::on_change(change);
    trims::on_change(change);
    sizes::on_change(change);
    torn::on_change(change);
}
