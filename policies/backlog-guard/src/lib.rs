//! `backlog-guard`: a policy that bounds the backlog of each queue.
//!
//! The backlog is what stands ready for a worker: `waiting` plus `prioritized`. When it has reached `max-jobs`, a job
//! that asks to enter is rejected, deferred, let in at the cost of the oldest waiting job, or only observed, as the
//! configuration says for that queue. On each tick the policy tells once when a queue goes over one of its limits and
//! once when it comes back; where the configuration says so, it pauses queues and lets them go on.
//!
//! What it never does: look at a job's name or data, or count delayed jobs and parents that wait for their children. A
//! delayed job is judged like any other, by the backlog at the moment it is added.
//!
//! - [`config`]: the configuration and what of it holds for a queue;
//! - [`decide`]: what becomes of a job;
//! - [`watch`]: the notices;
//! - [`pause`]: which queues are paused, and when they go on.

pub mod config;
pub mod decide;
pub mod pause;
pub mod watch;

use bull_policy_sdk::{Action, Description, Job, Node, Policy, Queue, Verdict, export_policy};

use config::{Config, Marks};
use pause::Holds;
use watch::Watch;

/// One configuration in force, and what has been told and done under it.
pub struct BacklogGuard {
    config: Config,
    watch: Watch,
    holds: Holds,
}

impl Policy for BacklogGuard {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Bounds each queue's backlog: rejects, defers, displaces or only observes jobs over max-jobs."
                .into(),
            config_schema: include_str!("../config.schema.json").into(),
        }
    }

    fn configure(config: &str) -> Result<Self, String> {
        // Both start empty: under new limits, what is over is told again.
        Ok(Self { config: Config::read(config)?, watch: Watch::default(), holds: Holds::default() })
    }

    fn admit(&mut self, _node: &Node, queue: &Queue, _job: &Job) -> Verdict {
        decide::admit(&self.config, queue)
    }

    fn tick(&mut self, node: &Node, queues: &[Queue]) -> Vec<Action> {
        // What is done goes before what is only told: an answer is cut at its end.
        let marks: Vec<Marks> = queues.iter().map(|queue| self.config.marks(queue)).collect();
        let mut actions = self.holds.tick(node.now_ms, queues, &marks);
        actions.extend(self.watch.tick(node.now_ms, queues, &marks).into_iter().map(Action::Notice));
        actions
    }
}

export_policy!(BacklogGuard);

#[cfg(test)]
mod tests {
    use super::*;
    use bull_policy_sdk::test_kit;

    #[test]
    fn the_description_carries_the_crate_s_version_and_a_schema_of_every_key() {
        let description = BacklogGuard::describe();
        assert_eq!(description.name, "backlog-guard");
        assert_eq!(description.version, env!("CARGO_PKG_VERSION"));
        assert!(!description.summary.contains('\n'));

        let schema: serde_json::Value = serde_json::from_str(&description.config_schema).expect("the schema is JSON");
        let keys = |at: &str| {
            let mut keys: Vec<&str> =
                schema.pointer(at).and_then(|v| v.as_object()).expect(at).keys().map(String::as_str).collect();
            keys.sort_unstable();
            keys
        };
        let sorted = |keys: &[&'static str]| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            keys
        };
        let with = |key: &'static str| sorted(&[&config::RULE_KEYS[..], &[key]].concat());
        assert_eq!(keys("/properties"), with("queues"));
        assert_eq!(keys("/properties/queues/items/properties"), with("match"));
        assert_eq!(schema.pointer("/properties/max-jobs/default"), Some(&config::DEFAULT_MAX_JOBS.into()));
        assert_eq!(schema.pointer("/properties/defer-ms/default"), Some(&config::DEFAULT_DEFER_MS.into()));
        for (key, default) in [
            ("max-failed-per-hour", config::DEFAULT_MAX_FAILED),
            ("active-factor", config::DEFAULT_ACTIVE_FACTOR),
            ("resume-percent", config::DEFAULT_RESUME_PERCENT),
            ("pause-min-ms", config::DEFAULT_PAUSE_MIN_MS),
        ] {
            assert_eq!(schema.pointer(&format!("/properties/{key}/default")), Some(&default.into()), "{key}");
        }
        assert_eq!(schema.pointer("/$defs/factor/maximum"), Some(&config::FACTOR.end().to_owned().into()));
        assert_eq!(schema.pointer("/$defs/percent/maximum"), Some(&config::PERCENT.end().to_owned().into()));
        assert_eq!(schema.pointer("/$defs/names/maxItems"), Some(&config::MAX_PAUSED.into()));
        assert_eq!(schema.pointer("/$defs/jobs/maximum"), Some(&config::JOBS.end().to_owned().into()));
        assert_eq!(schema.pointer("/$defs/milliseconds/maximum"), Some(&config::MILLISECONDS.end().to_owned().into()));
        assert_eq!(schema.pointer("/properties/queues/maxItems"), Some(&config::MAX_ENTRIES.into()));
    }

    #[test]
    fn the_parts_work_together() {
        let mut guard = BacklogGuard::configure(r#"{"max-jobs":5}"#).map_err(drop).expect("a good configuration");
        let full = Queue { waiting: 5, ..test_kit::queue("bull:mail") };
        let verdict = guard.admit(&test_kit::node(), &full, &test_kit::job());
        assert!(matches!(verdict, Verdict::Reject(reason) if reason == "waiting 5 of at most 5 jobs"));
        let actions = guard.tick(&test_kit::node(), &[full]);
        assert!(matches!(&actions[..], [Action::Notice(notice)] if notice.queue == "bull:mail"));
    }
}
