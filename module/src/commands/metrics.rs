//! BULL.METRICS: what `/metrics` serves, as a reply. The text is made on a thread of its own, from the snapshot.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::answer;
use super::parse::Cursor;
use crate::entry::guarded;
use crate::error::{Error, Result};
use crate::metrics::render;
use crate::metrics::snapshot::{self, Snapshot};
use crate::redis::Context;
use crate::redis::block::{Waiting, wait};
use crate::redis::context::{Access, Setting};
use crate::redis::reply::Reply;
use crate::redis::string::Args;

/// What is to be made of a snapshot, and for whom.
struct Work {
    snapshot: Arc<Snapshot>,
    only: Option<Vec<usize>>,
    waiting: Waiting,
}

pub fn run(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(start(context, args))
}

fn start(context: Context, args: Args<'_>) -> Result<Option<Reply>> {
    Cursor::new(args, 1).finish()?;
    let snapshot = snapshot::newest();
    let only = readable(context, &snapshot);
    // A client that cannot wait gets its text here.
    if context.setting() == Setting::Nested {
        return Ok(Some(Reply::Text(render::text(snapshot, only))));
    }
    hand_over(Work { snapshot, only, waiting: wait(context) })?;
    Ok(None)
}

/// Indices of the queues that the caller may read; None for all.
fn readable(context: Context, snapshot: &Snapshot) -> Option<Vec<usize>> {
    let names = snapshot.queues.iter().map(|queue| queue.name.as_bytes());
    context.first_denied(names, Access::Read)?;
    let may = |name: &[u8]| context.first_denied([name], Access::Read).is_none();
    Some((0..snapshot.queues.len()).filter(|&at| may(snapshot.queues[at].name.as_bytes())).collect())
}

/// Gives the work to the thread, which is made with the first piece.
fn hand_over(work: Work) -> Result<()> {
    static THREAD: Mutex<Option<Sender<Work>>> = Mutex::new(None);
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match &*thread {
        Some(sender) => sender,
        None => {
            let (sender, works) = channel::<Work>();
            std::thread::Builder::new()
                .name("bull-text".into())
                .spawn(move || works.iter().for_each(|work| guarded("BULL.METRICS", || make(work)).unwrap_or(())))
                .map_err(|error| Error::bad(format!("no thread for the text: {error}")))?;
            thread.insert(sender)
        }
    };
    sender.send(work).map_err(|_| Error::bad("the thread that makes the text has ended; restart the server"))
}

fn make(work: Work) {
    let reply = match work.only {
        None => Reply::Bulk(render::newest().to_vec()),
        only => Reply::Text(render::text(work.snapshot, only)),
    };
    work.waiting.answer(reply);
}
