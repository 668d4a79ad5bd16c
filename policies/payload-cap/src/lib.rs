//! `payload-cap`: a policy that refuses a job whose data is larger than its queue's cap.
//!
//! What it never does: look into the data, count what a job grows by later, or act on jobs already in a queue.
//!
//! - [`config`]: the configuration and the cap it sets for a queue;
//! - [`decide`]: what becomes of a job.

pub mod config;
pub mod decide;

use bull_policy_sdk::{Description, Job, Node, Policy, Queue, Verdict, export_policy};

use config::Config;

/// One configuration in force.
pub struct PayloadCap {
    config: Config,
}

impl Policy for PayloadCap {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Refuses jobs whose data is over max-job-bytes.".into(),
            config_schema: include_str!("../config.schema.json").into(),
        }
    }

    fn configure(config: &str) -> Result<Self, String> {
        Ok(Self { config: Config::read(config)? })
    }

    fn admit(&mut self, _node: &Node, queue: &Queue, job: &Job) -> Verdict {
        decide::admit(&self.config, queue, job)
    }
}

export_policy!(PayloadCap);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_every_key_and_range() {
        let text = PayloadCap::describe().config_schema;
        let schema: serde_json::Value = serde_json::from_str(&text).expect("the schema is JSON");
        let keys = |at: &str| -> Vec<String> {
            schema.pointer(at).and_then(|value| value.as_object()).expect(at).keys().cloned().collect()
        };
        assert_eq!(keys("/properties"), config::TOP_KEYS);
        assert_eq!(keys("/properties/queues/items/properties"), config::QUEUE_KEYS);
        assert_eq!(schema.pointer("/$defs/bytes/minimum"), Some(&(*config::BYTES.start()).into()));
        assert_eq!(schema.pointer("/$defs/bytes/maximum"), Some(&(*config::BYTES.end()).into()));
        assert_eq!(schema.pointer("/properties/queues/maxItems"), Some(&config::MAX_ENTRIES.into()));
    }
}
