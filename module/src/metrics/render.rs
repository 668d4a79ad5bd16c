//! The text that Prometheus reads, made once for each snapshot.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::body::Bytes;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;

use super::exposition::Shown;
use super::snapshot::{self, Snapshot};

/// Its content type.
pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

static LAST: Mutex<(u64, Bytes)> = Mutex::new((0, Bytes::new()));

/// The newest snapshot as text; any thread.
pub fn newest() -> Bytes {
    let snapshot = snapshot::newest();
    // Whoever comes meanwhile waits for this text instead of making the same one.
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.0 != snapshot.number || last.1.is_empty() {
        *last = (snapshot.number, Bytes::from(text(snapshot, None)));
    }
    last.1.clone()
}

/// A snapshot as text: all of it, or the queues at these indices and what is not about queues.
pub fn text(snapshot: Arc<Snapshot>, only: Option<Vec<usize>>) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shown { snapshot, only }));
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}
