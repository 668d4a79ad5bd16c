//! BULL.POLICY TEST: what a policy would say of a job now. Changes nothing.
//!
//! The facts are those of this moment; the policy is asked in an instance of its own, off the main thread, so that its
//! counters, its warm instance and what that one remembers stay as they are.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::parse::Cursor;
use super::policy::{open, policy_name};
use super::{answer, queue};
use crate::config;
use crate::error::{Error, Result};
use crate::keeper::admission::trial_facts;
use crate::keeper::changes;
use crate::policy::Source;
use crate::queue::job::{NewJob, QueueKeys};
use crate::queue::opts::{JobOptions, Words};
use crate::redis::Context;
use crate::redis::context::now_ms;
use crate::redis::reply::Reply;
use crate::redis::string::Args;

/// The job that a test asks about.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
struct Sample<'a> {
    #[serde(default)]
    name: Option<String>,
    /// Any JSON; its length is what counts.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    /// BullMQ's JobsOptions.
    #[serde(borrow, default)]
    opts: Option<&'a RawValue>,
    #[serde(default)]
    source: Sender,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Sender {
    #[default]
    Command,
    Script,
}

pub fn test(context: Context, args: Args<'_>) -> Option<Reply> {
    answer(start(context, args).map(|()| None))
}

fn start(context: Context, args: Args<'_>) -> Result<()> {
    let mut cursor = Cursor::new(args, 2);
    let name = policy_name(&mut cursor)?;
    let queue = queue(context, cursor.required("the queue")?)?;
    let sample = cursor.optional().unwrap_or(b"{}");
    cursor.finish()?;
    // An array would pass as the fields in their order.
    if !sample.trim_ascii_start().starts_with(b"{") {
        return Err(Error::bad("the job must be an object of name, data, opts and source"));
    }
    let sample: Sample<'_> = serde_json::from_slice(sample)
        .map_err(|error| Error::bad(format!("the job must be an object of name, data, opts and source: {error}")))?;
    let opts = sample.opts.map(|opts| opts.get().as_bytes());
    let options = JobOptions::parse(opts, Words::default())?;
    let data = sample.data.map_or("{}", RawValue::get).as_bytes();
    let job_name = sample.name.unwrap_or_else(|| "test".into());
    let job = NewJob::new(job_name.as_bytes(), data, options, now_ms(), config::data_check())?;
    let source = match sample.source {
        Sender::Command => Source::Command,
        Sender::Script => Source::Script,
    };
    let (node, facts, job) = trial_facts(context, &queue, &QueueKeys::of(&queue), &job, source);
    changes::test(open(context, "TEST")?, name, node, facts, job);
    Ok(())
}
