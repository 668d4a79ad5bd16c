//! The way in, for one command that adds jobs to one queue: checks of the queue once, then job by job the checks, the
//! policies and the writes.

use super::prepared::Prepared;
use crate::error::{Error, Result};
use crate::keeper::admission::{Asker, Facts};
use crate::keeper::rates;
use crate::metrics;
use crate::policy::registry::Decision;
use crate::queue::add::{Added, Plan};
use crate::queue::displace::displace;
use crate::queue::error::QueueError;
use crate::queue::job::{NewJob, QueueKeys};
use crate::queue::keys::slot;
use crate::queue::number::Style;
use crate::redis::Context;
use crate::redis::context::{Access, server_version};
use crate::redis::queue_store::QueueStore;
use crate::redis::string::Args;
use crate::text::short;

/// An open way into a queue. What it wrote is told to AOF, replicas and listeners when it is dropped.
pub struct Gate<'a> {
    context: Context,
    prepared: &'a Prepared,
    command: &'static str,
    store: QueueStore<'a>,
    plan: Plan<'a>,
    asker: Asker<'a>,
    added: u32,
}

impl<'a> Gate<'a> {
    /// Checks what all jobs share. Errors: a key of another type, keys that the caller has no right to.
    pub fn open(command: &'static str, context: Context, args: Args<'a>, prepared: &'a Prepared) -> Result<Self> {
        let Prepared { queue, keys, names, any_job } = prepared;
        let store = QueueStore::new(context, args, keys, names);
        let plan = Plan::check(&store, queue, keys, style())?;
        let shared = names.at(QueueKeys::ANY_ADD).into_iter().chain([any_job]);
        let denied = context.user().and_then(|user| user.first_denied_name(shared, Access::Write).ok().flatten());
        if let Some(denied) = denied {
            return Err(QueueError::NoPermission(short(denied.as_bytes(), 128)).into());
        }
        let asker = Asker::new(context, queue, keys);
        Ok(Self { context, prepared, command, store, plan, asker, added: 0 })
    }

    /// Checks of the queue that only jobs like this one need, and the caller's right to the job's own keys.
    pub fn may_enter(&self, job: &NewJob<'_>) -> Result<()> {
        self.plan.check_route(&self.store, job)?;
        let keys = Plan::touched_by(&self.prepared.queue, &self.prepared.keys, job);
        if keys.is_empty() {
            return Ok(());
        }
        match self.context.first_denied(keys.iter().map(Vec::as_slice), Access::Write) {
            None => Ok(()),
            Some(denied) => Err(QueueError::NoPermission(short(denied, 128)).into()),
        }
    }

    /// One job enters, and its id is the answer; or nothing of it is written. `at`: where its name lies among the
    /// arguments, its data behind it.
    pub fn enter(&mut self, mut job: NewJob<'_>, at: usize) -> Result<Vec<u8>> {
        let Prepared { queue, keys, .. } = self.prepared;
        self.plan.check_job(&self.store, &job)?;
        if self.context.is_cluster()
            && let Some(parent) = &job.options.parent
            && slot(&parent.key()) != queue.slot()
        {
            let parent = short(&parent.key(), 128);
            let text = format!("parent '{parent}' lies in another slot than the queue; give both the same hash tag");
            return Err(QueueError::CrossSlot(text).into());
        }
        let mut displaced = 0;
        match self.asker.judge(&self.store, &Facts::of(&job)) {
            Decision::Admit => {}
            Decision::Reject { policy, reason } => {
                metrics::REFUSED.add(1);
                return Err(Error::Reject { policy, reason });
            }
            Decision::Defer { millis, .. } => {
                job.defer(millis);
                // The job goes elsewhere now: check the way there.
                self.plan.check_job(&self.store, &job)?;
            }
            Decision::Displace { jobs, .. } => displaced = jobs,
        }
        self.store.job_at(at);
        let added = self.plan.write(&mut self.store, &job);
        let added = added.inspect_err(|error| metrics::late_error(self.command, &error.to_string()))?;
        metrics::ADDED.add(1);
        if let Added::Stored(id) = &added {
            self.added += 1;
            // A job that was there already, or is deduplicated, costs nobody a place.
            if let Err(error) = displace(&mut self.store, queue, keys, displaced, id, job.now_ms) {
                metrics::late_error("a displacement", &error.to_string());
            }
        }
        if displaced > 0 || job.options.deduplication.is_some() || job.options.parent.is_some() {
            self.asker.forget();
        } else if let Added::Stored(_) = added {
            self.asker.entered(job.route(), job.data.len() as u64);
        }
        Ok(added.into_id())
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        // The meta hash of a new queue is told of before its jobs are counted.
        self.store.settle();
        self.asker.tell();
        if self.added > 0 {
            rates::added(self.context, &self.prepared.queue, self.added);
        }
    }
}

/// How this server prints numbers that are not whole, in Lua too, which BullMQ's data follows.
pub(super) fn style() -> Style {
    if server_version() >= 0x0007_0200 { Style::Shortest } else { Style::Digits17 }
}
