//! When a job that was added with a delay becomes due.

use serde::Deserialize;

/// The delay in a job's stored `opts`, milliseconds; 0 where it has none. The field `delay` of the job does not tell:
/// promotion sets it to 0 (promoteDelayedJobs, BullMQ 4 to 6).
pub fn stored_delay_ms(opts: &[u8]) -> f64 {
    #[derive(Deserialize)]
    struct Delay {
        delay: Option<f64>,
    }
    const WORD: &[u8] = b"\"delay\"";
    // Most jobs have none; a backoff has one too, so the text alone does not decide.
    if !opts.windows(WORD.len()).any(|window| window == WORD) {
        return 0.0;
    }
    serde_json::from_slice::<Delay>(opts).ok().and_then(|opts| opts.delay).map_or(0.0, |delay| delay.max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_jobs_own_delay_counts() {
        for (opts, delay) in [
            (r#"{"attempts":0}"#, 0.0),
            (r#"{"backoff":{"delay":1000,"type":"fixed"},"attempts":3}"#, 0.0),
            (r#"{"backoff":{"delay":1000},"delay":250.5}"#, 250.5),
            (r#"{"delay":60000,"attempts":0}"#, 60_000.0),
            (r#"{"delay":-5}"#, 0.0),
            (r#"{"delay":"500"}"#, 0.0),
            (r#"{"delay":"#, 0.0),
            ("", 0.0),
        ] {
            assert_eq!(stored_delay_ms(opts.as_bytes()), delay, "{opts}");
        }
    }
}
