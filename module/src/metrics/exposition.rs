//! The snapshot as Prometheus metrics: which series there are, their names, help and labels.
//!
//! Queue series carry `prefix` and `queue`, and `db` outside of database 0. What is not shown one by one is summed under
//! `queue="_other"`.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::snapshot::{PolicyFacts, QueueFacts, Snapshot, Standing};
use super::times::{BOUNDS_US, Times};
use crate::keeper::rates::{Happened, Totals};
use crate::policy::times::Times as PolicyTimes;
use crate::queue::profile::FIELDS;

/// The `queue` of what is summed.
pub const OTHERS: &str = "_other";

/// Bounds of the policies' run times: powers of two, nanoseconds, from 1 us to 16 ms.
const POLICY_POWERS: std::ops::RangeInclusive<u32> = 10..=24;

type Done = Result<(), Error>;

/// Shows a snapshot, or a part of its queues.
#[derive(Debug)]
pub struct Shown {
    pub snapshot: Arc<Snapshot>,
    /// Indices of the queues that may be seen; None for all, and the sum of the others.
    pub only: Option<Vec<usize>>,
}

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder) -> Done {
        let mut out = Out(encoder);
        self.queue_states(&mut out)?;
        self.queue_events(&mut out)?;
        self.policies(&mut out)?;
        self.node(&mut out)
    }
}

/// Writes one metric after the other.
struct Out<'a>(DescriptorEncoder<'a>);

/// Labels of one series.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Out<'_> {
    fn metric<'s>(&'s mut self, name: &'s str, help: &str, kind: MetricType) -> Result<MetricEncoder<'s>, Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }

    /// A metric with one series, without labels.
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> Done {
        self.metric(name, help, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// As `gauge`; the name gets `_total` behind it.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> Done {
        self.metric(name, help, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }
}

fn gauge(metric: &mut MetricEncoder<'_>, labels: &Labels<'_>, value: f64) -> Done {
    metric.encode_family(labels)?.encode_gauge(&value)
}

fn counter(metric: &mut MetricEncoder<'_>, labels: &Labels<'_>, value: u64) -> Done {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn histogram(metric: &mut MetricEncoder<'_>, labels: &Labels<'_>, times: &Times) -> Done {
    let bounds = BOUNDS_US.iter().map(|&bound| bound as f64 / 1e6).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
    let sum = times.sum_us as f64 / 1e6;
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, times.count(), &buckets, None)
}

/// Name and help of what each queue has and the others have together, and how it is read.
type Of<From, Value> = (&'static str, &'static str, fn(&From) -> Value);

const SECONDS: f64 = 1000.0;

const STATES: [Of<Standing, f64>; 11] = [
    ("bullmq_queue_waiting", "Jobs that wait, those of a paused queue included", |now| {
        (now.counts.waiting + now.counts.paused) as f64
    }),
    ("bullmq_queue_active", "Jobs that run", |now| now.counts.active as f64),
    ("bullmq_queue_delayed", "Jobs that wait for their time", |now| now.counts.delayed as f64),
    ("bullmq_queue_prioritized", "Jobs with a priority that wait", |now| now.counts.prioritized as f64),
    ("bullmq_queue_waiting_children", "Jobs that wait for their children", |now| now.counts.waiting_children as f64),
    ("bullmq_queue_completed", "Completed jobs that are kept", |now| now.counts.completed as f64),
    ("bullmq_queue_failed", "Failed jobs that are kept", |now| now.counts.failed as f64),
    ("bullmq_queue_stalled", "Of the ten longest running jobs those whose lock has run out", |now| {
        now.ages.stalled as f64
    }),
    ("bullmq_queue_oldest_waiting_seconds", "For how long the oldest waiting job has been due", |now| {
        now.ages.oldest_waiting_ms as f64 / SECONDS
    }),
    ("bullmq_queue_oldest_active_seconds", "For how long the longest running job has run", |now| {
        now.ages.oldest_active_ms as f64 / SECONDS
    }),
    ("bullmq_queue_failed_last_hour", "Jobs that failed for good within the last hour", |now| {
        now.failed_last_hour as f64
    }),
];

const TOTALS: [Of<Totals, u64>; 4] = [
    ("bullmq_jobs_added", "Jobs added", |totals| totals.added),
    ("bullmq_jobs_completed", "Jobs completed, those that were removed at once included", |totals| totals.completed),
    ("bullmq_jobs_failed", "Jobs failed for good", |totals| totals.failed),
    ("bullmq_jobs_stalled", "Times that a job was taken back from a silent worker", |totals| totals.stalled),
];

const TIMES: [Of<Happened, Times>; 2] = [
    ("bullmq_job_wait_seconds", "From when a job is due to its first start", |all| all.wait),
    ("bullmq_job_duration_seconds", "From a job's last start to its end", |all| all.run),
];

impl Shown {
    fn queues(&self) -> impl Iterator<Item = &QueueFacts> {
        let all = &self.snapshot.queues;
        let every = if self.only.is_some() { 0 } else { all.len() };
        all[..every].iter().chain(self.only.iter().flatten().filter_map(|&at| all.get(at)))
    }

    /// There are others, and the reader may see their sum.
    fn with_others(&self) -> bool {
        self.snapshot.node.primary && self.only.is_none()
    }

    /// Each queue, and the others as one more where the reader may see them.
    fn all<'a>(&'a self, dbs: &'a Dbs) -> impl Iterator<Item = (Labels<'a>, &'a Standing, &'a Happened)> {
        let rest = self.with_others().then_some(&self.snapshot.rest);
        self.queues()
            .map(|queue| (dbs.labels(queue), &queue.standing, &queue.happened))
            .chain(rest.map(|rest| (others(), &rest.standing, &rest.happened)))
    }

    fn queue_states(&self, out: &mut Out<'_>) -> Done {
        let dbs = Dbs::default();
        for (name, help, of) in STATES {
            let mut metric = out.metric(name, help, MetricType::Gauge)?;
            for (labels, standing, _) in self.all(&dbs) {
                gauge(&mut metric, &labels, of(standing))?;
            }
        }
        let mut metric = out.metric("bullmq_queue_paused", "1 where the queue is paused", MetricType::Gauge)?;
        for queue in self.queues() {
            gauge(&mut metric, &dbs.labels(queue), f64::from(u8::from(queue.standing.counts.is_paused)))?;
        }
        let help = "Bytes that the queue takes, estimated by samples";
        let mut metric = out.metric("bullmq_queue_bytes", help, MetricType::Gauge)?;
        for (labels, standing, _) in self.all(&dbs) {
            for (class, bytes) in standing.size.classes() {
                gauge(&mut metric, &[&labels[..], &[("class", class)]].concat(), bytes as f64)?;
            }
        }
        let help = "Limits of the queue's profile; retention in seconds, sizes in bytes";
        let mut metric = out.metric("bullmq_queue_limit", help, MetricType::Gauge)?;
        for queue in self.queues() {
            for (field, value) in FIELDS.iter().zip(queue.limits.values()) {
                if let Some(value) = value {
                    let mut labels = dbs.labels(queue);
                    labels.push(("limit", field));
                    let scale = if field.starts_with("retain-") { SECONDS } else { 1.0 };
                    gauge(&mut metric, &labels, value as f64 / scale)?;
                }
            }
        }
        Ok(())
    }

    fn queue_events(&self, out: &mut Out<'_>) -> Done {
        let dbs = Dbs::default();
        for (name, help, of) in TOTALS {
            let mut metric = out.metric(name, help, MetricType::Counter)?;
            for (labels, _, happened) in self.all(&dbs) {
                counter(&mut metric, &labels, of(&happened.totals))?;
            }
        }
        for (name, help, of) in TIMES {
            let mut metric = out.metric(name, help, MetricType::Histogram)?;
            for (labels, _, happened) in self.all(&dbs) {
                histogram(&mut metric, &labels, &of(happened))?;
            }
        }
        Ok(())
    }

    fn policies(&self, out: &mut Out<'_>) -> Done {
        let dbs = Dbs::default();
        let help = "Jobs of the queue that a policy did not simply admit";
        let mut metric = out.metric("bull_policy_queue_verdicts", help, MetricType::Counter)?;
        for queue in self.queues() {
            for (policy, verdicts) in &queue.verdicts {
                for (verdict, count) in [
                    ("reject", verdicts.rejected),
                    ("defer", verdicts.deferred),
                    ("displace", verdicts.displaced),
                    ("observed", verdicts.observed),
                ] {
                    let mut labels = dbs.labels(queue);
                    labels.extend([("policy", policy.as_str()), ("verdict", verdict)]);
                    counter(&mut metric, &labels, count)?;
                }
            }
        }
        let all = &self.snapshot.policies;
        let mut metric = out.metric("bull_policy_info", "1 for each policy in force", MetricType::Gauge)?;
        for policy in all {
            let labels = vec![
                ("policy", policy.name.as_str()),
                ("version", policy.version.as_str()),
                ("mode", policy.mode),
                ("digest", policy.digest.as_str()),
            ];
            gauge(&mut metric, &labels, 1.0)?;
        }
        let mut metric = out.metric(
            "bull_policy_suspended",
            "1 where it is not asked: suspended, or its files cannot be used",
            MetricType::Gauge,
        )?;
        for policy in all {
            gauge(&mut metric, &named(policy), f64::from(u8::from(policy.suspended)))?;
        }
        let mut metric =
            out.metric("bull_policy_calls", "Jobs that the policy was asked about", MetricType::Counter)?;
        for policy in all {
            counter(&mut metric, &named(policy), policy.calls)?;
        }
        let mut metric = out.metric("bull_policy_verdicts", "Verdicts of the policy", MetricType::Counter)?;
        for policy in all {
            for (verdict, count) in [
                ("admit", policy.admitted),
                ("reject", policy.rejected),
                ("defer", policy.deferred),
                ("displace", policy.displaced),
                ("observed", policy.observed),
            ] {
                counter(&mut metric, &vec![("policy", policy.name.as_str()), ("verdict", verdict)], count)?;
            }
        }
        let mut metric = out.metric("bull_policy_faults", "Failures of the policy", MetricType::Counter)?;
        for policy in all {
            counter(&mut metric, &named(policy), policy.faults)?;
        }
        let help = "How long decisions of the policy take";
        let mut metric = out.metric("bull_policy_duration_seconds", help, MetricType::Histogram)?;
        for policy in all {
            let (sum, buckets) = policy_buckets(&policy.times);
            let labels = named(policy);
            metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, policy.times.count(), &buckets, None)?;
        }
        Ok(())
    }

    fn node(&self, out: &mut Out<'_>) -> Done {
        let Snapshot { node, guard, rest, .. } = &*self.snapshot;
        let flag = |on: bool| f64::from(u8::from(on));
        let mut metric = out.metric("bull_info", "1, with the version of the module", MetricType::Gauge)?;
        gauge(&mut metric, &vec![("version", env!("CARGO_PKG_VERSION"))], 1.0)?;
        out.gauge("bull_primary", "1 where this node is a primary; a replica shows no queues", flag(node.primary))?;
        out.gauge(
            "bull_snapshot_timestamp_seconds",
            "When these numbers were put together",
            self.snapshot.taken_ms as f64 / SECONDS,
        )?;
        out.gauge(
            "bull_snapshot_round_seconds",
            "From the first queue that was read to the last",
            self.snapshot.round_ms as f64 / SECONDS,
        )?;
        out.gauge("bull_memory_used_bytes", "Memory that the server uses", node.used_memory as f64)?;
        out.gauge("bull_memory_max_bytes", "Its maxmemory, 0 for no limit", node.max_memory as f64)?;
        out.gauge("bull_queues", "Queues of this node", node.queues as f64)?;
        out.gauge("bull_queues_summed", "Queues without series of their own, summed as _other", rest.queues as f64)?;
        out.gauge("bull_queues_followed", "Queues whose events are counted", node.queues_followed as f64)?;
        out.gauge("bull_running_jobs_timed", "Running jobs whose start is known", node.running_jobs_timed as f64)?;
        out.gauge("bull_queue_scan_running", "1 while queues are looked for after a load", flag(node.scanning))?;
        out.counter("bull_adds", "Jobs added by BULL.ADD and BULL.MADD", node.jobs_added)?;
        out.counter("bull_adds_refused", "Jobs of BULL.ADD and BULL.MADD that policies refused", node.jobs_refused)?;
        let help = "Add scripts of unmodified clients by what became of them";
        let mut metric = out.metric("bull_guard_scripts", help, MetricType::Counter)?;
        for (outcome, count) in guard.fields() {
            counter(&mut metric, &vec![("outcome", outcome)], count)?;
        }
        out.counter("bull_trim_jobs", "Jobs that trims removed", node.jobs_trimmed)?;
        out.counter("bull_trim_bytes", "Bytes that trims freed", node.bytes_trimmed)?;
        out.gauge("bull_trim_running", "Trims under way", node.trims_running as f64)?;
        out.counter("bull_slices", "Pieces of background work on the main thread", node.slices)?;
        let mut metric = out.metric("bull_slice_seconds", "Time that they took together", MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&(node.slices_us as f64 / 1e6), None)?;
        out.gauge("bull_slice_longest_seconds", "The longest of them", node.longest_slice_us as f64 / 1e6)?;
        out.counter("bull_panics", "Internal errors", node.panics)?;
        out.counter("bull_errors_after_first_write", "Errors between the writes of an operation", node.late_errors)
    }
}

fn named(policy: &PolicyFacts) -> Labels<'_> {
    vec![("policy", policy.name.as_str())]
}

fn others() -> Labels<'static> {
    vec![("prefix", ""), ("queue", OTHERS)]
}

fn policy_buckets(times: &PolicyTimes) -> (f64, Vec<(f64, u64)>) {
    let mut before = 0;
    let mut buckets: Vec<(f64, u64)> = POLICY_POWERS
        .map(|power| {
            let below = times.below(power);
            let count = below - before;
            before = below;
            ((1_u64 << power) as f64 / 1e9, count)
        })
        .collect();
    buckets.push((f64::INFINITY, times.count() - before));
    (times.sum() as f64 / 1e9, buckets)
}

/// Names of databases, which labels borrow.
struct Dbs(Vec<String>);

impl Default for Dbs {
    fn default() -> Self {
        Self((0..64).map(|db| db.to_string()).collect())
    }
}

impl Dbs {
    fn labels<'a>(&'a self, queue: &'a QueueFacts) -> Labels<'a> {
        let mut labels = vec![("prefix", queue.prefix.as_str()), ("queue", queue.queue.as_str())];
        if queue.db > 0 {
            labels.push(("db", self.0.get(queue.db as usize).map_or("64 or more", String::as_str)));
        }
        labels
    }
}
