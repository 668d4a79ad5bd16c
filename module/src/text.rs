//! Text that leaves the module: error lines, log lines, names shown to people.
//!
//! Redis' error replies and the crate's log calls break on bytes outside printable ASCII, so everything is escaped
//! here before it goes out.

use std::fmt::Write;

/// Printable ASCII: other bytes become `\xNN`, line breaks and tabs their usual escapes.
pub fn printable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x20..=0x7e => out.push(byte as char),
            _ => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out
}

/// Text of others with its control characters escaped: a terminal shows all of it and obeys none.
pub fn visible(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// [`visible`], cut at `max` characters with `...` behind: an error of a library that quotes what it was given.
pub fn quoted(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => visible(&text[..end]) + "...",
        None => visible(text),
    }
}

/// [`printable`], cut at `max` bytes of input with `...` behind.
pub fn short(bytes: &[u8], max: usize) -> String {
    if bytes.len() <= max { printable(bytes) } else { printable(&bytes[..max]) + "..." }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_comes_out() {
        assert_eq!(printable("a\0一%s\r\n".as_bytes()), "a\\x00\\xe4\\xb8\\x80%s\\r\\n");
        assert_eq!(short(b"abcdef", 3), "abc...");
        assert_eq!((quoted("é\nx", 2), quoted("é\nx", 3)), ("é\\n...".into(), "é\\nx".into()));
        assert_eq!(visible("é\u{1b}[2J\n\u{9b}x"), "é\\u{1b}[2J\\n\\u{9b}x");
    }
}
