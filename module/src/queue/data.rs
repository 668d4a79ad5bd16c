//! The check of a job's data: one JSON text that every worker can parse.
//!
//! The parser keeps no frame a level, so no input overflows the stack here; the bound on nesting is for the workers, whose
//! parsers do.

use super::error::{QueueError, Result};

/// Most levels of arrays and objects: where Lua's cjson stops, and Python's json shortly before its own end.
pub const MAX_DEPTH: usize = 1000;

/// Errors: invalid UTF-8, anything but one JSON text, more than [`MAX_DEPTH`] levels.
pub fn check(data: &[u8]) -> Result<()> {
    // The parser passes over strings without looking at their encoding.
    let text = std::str::from_utf8(data).map_err(|_| QueueError::bad("data is not valid UTF-8, so not JSON"))?;
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map_err(|error| QueueError::bad(format!("data is not one valid JSON text: {error}")))?;
    // Data with fewer brackets than that, nearly all there is, needs no second look.
    if brackets(data) > MAX_DEPTH && depth(data) > MAX_DEPTH {
        return Err(QueueError::bad(format!("data has more than {MAX_DEPTH} levels of arrays and objects")));
    }
    Ok(())
}

/// How many opening brackets there are, those in strings among them.
fn brackets(json: &[u8]) -> usize {
    // Counted in single bytes, so that the compiler takes a register's worth at a time. The two differ in one bit.
    let few = |part: &[u8]| part.iter().map(|byte| u8::from(byte | 0x20 == b'{')).sum::<u8>();
    json.chunks(usize::from(u8::MAX)).map(|part| usize::from(few(part))).sum()
}

/// The deepest level of a valid JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut level, mut deepest) = (0_usize, 0_usize);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                level += 1;
                deepest = deepest.max(level);
            }
            b']' | b'}' => level -= 1,
            b'"' => {
                while let Some(inside) = bytes.next() {
                    match inside {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(open: &str, middle: &str, close: &str, levels: usize) -> String {
        [&open.repeat(levels), middle, &close.repeat(levels)].concat()
    }

    #[test]
    fn brackets_of_both_kinds_are_counted() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(brackets(&all), 2);
        for count in [0, 1, 254, 255, 256, 511, 5000] {
            assert_eq!(brackets(&b"[".repeat(count)), count);
            assert_eq!(brackets(&b"{x".repeat(count)), count);
        }
    }

    #[test]
    fn levels_are_bounded() {
        for (open, middle, close) in [("[", "", "]"), (r#"{"a":"#, "1", "}"), (r#"["]\"",["#, "{}", "]]")] {
            let each = if open.len() > 5 { 2 } else { 1 };
            let inside = usize::from(middle == "{}");
            let fits = (MAX_DEPTH - inside) / each;
            check(nested(open, middle, close, fits).as_bytes()).expect(open);
            let error = check(nested(open, middle, close, fits + 1).as_bytes()).expect_err(open).to_string();
            assert!(error.contains("levels"), "{error}");
        }
        // Many brackets, few levels; brackets in strings are none.
        check(format!("[{}[]]", "[],".repeat(5000)).as_bytes()).unwrap();
        check(format!(r#"["{}"]"#, "[".repeat(5000)).as_bytes()).unwrap();
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        for text in ["[".repeat(1 << 20), r#"{"a":"#.repeat(1 << 18), nested("[", "", "]", 1 << 20)] {
            assert!(check(text.as_bytes()).is_err());
        }
    }
}
