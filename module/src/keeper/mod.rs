//! What goes on by itself: finding queues, trimming in slices, the policies' ticks, sampling the server's memory.
//!
//! Writes only where this node is a primary and no client is paused; otherwise the work waits.

mod actions;
pub mod admission;
pub mod background;
mod behind;
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
mod starts;
mod survey;
pub mod ticket;
pub mod ticks;
pub mod torn;
pub mod trims;

use crate::redis::Context;
use crate::redis::events::{Change, Handlers};

/// Period of the timer where nothing waits, milliseconds.
const IDLE_MS: u64 = 100;
/// Where work waits: the event loop serves clients in between.
const BUSY_MS: u64 = 1;

/// One turn. Answers when the next one should come.
pub fn tick(context: Context) -> u64 {
    node::sample(context);
    ticket::expire();
    torn::slice(context);
    rates::set_primary(context.is_primary());
    guard::set_primary(context.is_primary());
    survey::slice(context);
    let scanning = queues::scan_slice(context);
    sizes::slice(context);
    // What ticks began is over before the retention looks at the queue: a policy that trims each time would keep it out.
    trims::slice(context);
    let keeping = retention::slice(context);
    let trimming = trims::next(context);
    let checking = checks::slice(context) | emergency::slice(context);
    let ticking = ticks::slice(context);
    let next = if scanning || checking || ticking { BUSY_MS } else { IDLE_MS };
    keeping.unwrap_or(IDLE_MS).min(trimming.unwrap_or(IDLE_MS)).min(next)
}

pub const HANDLERS: Handlers = Handlers { on_key, on_entry: rates::on_entry, on_change };

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
    profiles::on_change(change);
    guard::on_change(change);
    trims::on_change(change);
    sizes::on_change(change);
    torn::on_change(change);
}
