//! The file `bull.profiles`, and single limits as BULL.PROFILE SET takes them. What is taken can be read again, and an error
//! is one line.

#![no_main]

use bull::queue::profile::{Defaults, Limits};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match Defaults::parse(input) {
        Ok(defaults) => drop(defaults.of(|pattern| pattern == "*").values()),
        Err(text) => assert!(!text.contains('\n'), "two lines: {text:?}"),
    }
    let (field, value) = input.split_at(input.iter().position(|byte| *byte == b' ').unwrap_or(input.len()));
    let Ok(field) = std::str::from_utf8(field) else { return };
    let mut limits = Limits::default();
    match limits.set(field, value.get(1..).unwrap_or_default()) {
        Ok(()) => assert!(limits.values().iter().any(Option::is_some), "taken, and not there: {field}"),
        Err(text) => assert!(!text.contains('\n'), "two lines: {text:?}"),
    }
});
