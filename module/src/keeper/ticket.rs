//! A client that waits for a change, and the one moment at which it is decided whether the change comes in time.
//!
//! The work decides before its first step that others could see; the timer decides when the time is up. Whoever is first
//! wins: a client that was told of a timeout knows that nothing was changed, and a change that began is answered, late or not.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::redis::Context;
use crate::redis::block::{Waiting, wait};
use crate::redis::reply::Reply;

/// Longest wait for a change to begin.
const PATIENCE: Duration = Duration::from_secs(10);

const OPEN: u8 = 0;
const BEGUN: u8 = 1;
const LATE: u8 = 2;

pub struct Ticket {
    client: Mutex<Option<Waiting>>,
    state: AtomicU8,
    deadline: Instant,
}

static TICKETS: Mutex<Vec<Weak<Ticket>>> = Mutex::new(Vec::new());

/// Makes the calling client wait. A ticket that is dropped unanswered answers with an internal error.
pub fn open(context: Context) -> Arc<Ticket> {
    let ticket = Arc::new(Ticket {
        client: Mutex::new(Some(wait(context))),
        state: AtomicU8::new(OPEN),
        deadline: Instant::now() + PATIENCE,
    });
    TICKETS.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&ticket));
    ticket
}

impl Ticket {
    /// The change begins now. False: its client has been told that it does not.
    #[must_use]
    pub fn begin(&self) -> bool {
        self.move_on(BEGUN)
    }

    /// Nothing is to be done for this ticket any more.
    pub fn is_late(&self) -> bool {
        self.state.load(Ordering::Acquire) == LATE
    }

    fn move_on(&self, to: u8) -> bool {
        self.state.compare_exchange(OPEN, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Answers, once; later answers go nowhere. Any thread.
    pub fn answer(&self, reply: Result<Reply>) {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(client) = client {
            client.answer(reply.unwrap_or_else(Reply::from));
        }
    }
}

/// Tells the clients whose time is up. Main thread, at each turn of the timer.
pub fn expire() {
    let now = Instant::now();
    let mut late = Vec::new();
    TICKETS.lock().unwrap_or_else(PoisonError::into_inner).retain(|ticket| match ticket.upgrade() {
        Some(ticket) if ticket.deadline <= now => {
            late.push(ticket);
            false
        }
        ticket => ticket.is_some(),
    });
    for ticket in late {
        if ticket.move_on(LATE) {
            let text = format!("not done within {} s; nothing was changed", PATIENCE.as_secs());
            ticket.answer(Err(Error::Policy(text)));
        }
    }
}
