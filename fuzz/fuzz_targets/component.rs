//! The bytes of BULL.POLICY LOAD before anything is compiled: the screen ends, and what it refuses it refuses in one line.

#![no_main]

use bull::policy::screen::screen;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Err(error) = screen(input, 512 * 1024) {
        let text = error.to_string();
        assert!(!text.contains('\n') && text.len() < 1000, "{text:?}");
    }
});
