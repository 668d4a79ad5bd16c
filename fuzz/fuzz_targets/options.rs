//! OPTS and data of a job. What is taken must be stored as JSON that reads back.

#![no_main]

use bull::queue::job::{DataCheck, NewJob};
use bull::queue::opts::{JobOptions, Words};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (flags, rest) = input.split_first().map_or((0, input), |(flags, rest)| (*flags, rest));
    let words = Words {
        id: (flags & 1 != 0).then_some(&rest[..rest.len().min(8)]),
        delay_ms: (flags & 2 != 0).then_some(u64::from(flags) << 40),
        priority: (flags & 4 != 0).then_some(u32::from(flags) << 12),
        lifo: flags & 8 != 0,
        timestamp_ms: (flags & 16 != 0).then_some(u64::MAX >> 11),
    };
    let Ok(options) = JobOptions::parse(Some(rest), words) else { return };
    let text = options.text();
    serde_json::from_str::<serde_json::Value>(&text).expect("stored options are JSON");
    if let Ok(job) = NewJob::new(b"name", rest, options, 1, DataCheck::Json) {
        serde_json::from_slice::<serde_json::Value>(job.data).expect("accepted data is JSON");
    }
});
