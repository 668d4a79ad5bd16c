//! `memory-budget`: a policy that sheds load as memory fills, the least important queues first, and keeps each queue
//! within its bytes.
//!
//! What it never does: touch unfinished jobs, or act on a queue by itself. It refuses, and it asks the module to trim.
//!
//! - [`config`]: the configuration;
//! - [`decide`]: what becomes of a job;
//! - [`relief`]: what a tick asks for.

pub mod config;
pub mod decide;
pub mod relief;

use bull_policy_sdk::{Action, Description, Job, Node, Policy, Queue, Verdict, export_policy};

use config::Config;
use relief::Relief;

/// One configuration in force, and what was asked for under it.
pub struct MemoryBudget {
    config: Config,
    relief: Relief,
}

impl Policy for MemoryBudget {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Sheds the least important queues as memory fills; bounds each queue's bytes.".into(),
            config_schema: include_str!("../config.schema.json").into(),
        }
    }

    fn configure(config: &str) -> Result<Self, String> {
        Ok(Self { config: Config::read(config)?, relief: Relief::default() })
    }

    fn admit(&mut self, node: &Node, queue: &Queue, job: &Job) -> Verdict {
        decide::admit(&self.config, node, queue, job)
    }

    fn tick(&mut self, node: &Node, queues: &[Queue]) -> Vec<Action> {
        self.relief.tick(&self.config, node, queues)
    }
}

export_policy!(MemoryBudget);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_key_default_and_range() {
        let text = MemoryBudget::describe().config_schema;
        let schema: serde_json::Value = serde_json::from_str(&text).expect("the schema is JSON");
        let keys = |at: &str| -> Vec<String> {
            schema.pointer(at).and_then(|value| value.as_object()).expect(at).keys().cloned().collect()
        };
        assert_eq!(keys("/properties"), config::TOP_KEYS);
        assert_eq!(keys("/properties/queues/items/properties"), config::QUEUE_KEYS);
        for (key, default) in [
            ("soft-percent", config::DEFAULT_SOFT),
            ("hard-percent", config::DEFAULT_HARD),
            ("soft-passes", config::DEFAULT_SOFT_PASSES),
            ("default-priority", config::DEFAULT_PRIORITY),
            ("trim-completed-ms", config::DEFAULT_TRIM_COMPLETED_MS),
            ("trim-failed-ms", config::DEFAULT_TRIM_FAILED_MS),
            ("keep-events", config::DEFAULT_KEEP_EVENTS),
            ("trim-queues", config::DEFAULT_TRIM_QUEUES),
        ] {
            assert_eq!(schema.pointer(&format!("/properties/{key}/default")), Some(&default.into()), "{key}");
        }
        for (def, range) in [
            ("priority", config::PRIORITY),
            ("bytes", config::BYTES),
            ("milliseconds", config::MILLISECONDS),
            ("events", config::EVENTS),
        ] {
            assert_eq!(schema.pointer(&format!("/$defs/{def}/minimum")), Some(&(*range.start()).into()), "{def}");
            assert_eq!(schema.pointer(&format!("/$defs/{def}/maximum")), Some(&(*range.end()).into()), "{def}");
        }
        assert_eq!(schema.pointer("/properties/queues/maxItems"), Some(&config::MAX_ENTRIES.into()));
    }
}
