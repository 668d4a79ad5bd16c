//! Threads for what takes longer than a command may: one piece of work after the other, in the order in which it came.
//!
//! A thread starts with its first piece. None of them touches a key; what they find out goes back by `on_main_thread`.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};

use crate::entry::guarded;
use crate::error::{Error, Result};
use crate::redis::block::lower_priority;

/// Compiling is deep recursion.
const STACK: usize = 8 << 20;

pub type Work = Box<dyn FnOnce() + Send>;

pub struct Thread {
    name: &'static str,
    queue: Mutex<Option<Sender<Work>>>,
}

impl Thread {
    pub const fn new(name: &'static str) -> Self {
        Self { name, queue: Mutex::new(None) }
    }

    /// Hands over a piece of work, from any thread. Errors: the system gives no thread; the work is dropped.
    pub fn run(&self, work: Work) -> Result<()> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let work = match queue.as_ref() {
            None => work,
            Some(sender) => match sender.send(work) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
        };
        let (sender, receiver) = channel::<Work>();
        let name = self.name;
        let spawned = std::thread::Builder::new().name(name.into()).stack_size(STACK).spawn(move || {
            lower_priority();
            for work in receiver {
                guarded(name, work);
            }
        });
        match (spawned, sender.send(work)) {
            (Ok(_), Ok(())) => {
                *queue = Some(sender);
                Ok(())
            }
            _ => Err(Error::Policy(format!("the thread {name} could not be started"))),
        }
    }
}
