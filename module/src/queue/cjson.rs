//! JSON as Redis' cjson writes a Lua table that was read from msgpack: how BullMQ's scripts store a job's options.
//!
//! It decides nothing about options; what they may be is `opts`.

use serde_json::{Map, Value};

use super::error::{QueueError, Result};
use super::number;

/// cjson of a Lua table made from a map: pairs with nil are gone, an empty table is `{}`.
pub(super) fn encode_map(map: &Map<String, Value>, out: &mut String) -> Result<()> {
    out.push('{');
    let mut first = true;
    for (name, value) in map {
        if value.is_null() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(',');
        }
        encode_string(name, out);
        out.push(':');
        encode(value, out)?;
    }
    out.push('}');
    Ok(())
}

fn encode(value: &Value, out: &mut String) -> Result<()> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(on) => out.push_str(if *on { "true" } else { "false" }),
        Value::Number(value) => out.push_str(&number::json(value.as_f64().unwrap_or(0.0))),
        Value::String(text) => encode_string(text, out),
        Value::Object(map) => encode_map(map, out)?,
        Value::Array(items) => encode_array(items, out)?,
    }
    Ok(())
}

/// An empty Lua table is written as an object, trailing nils do not exist, and cjson refuses sparse arrays.
fn encode_array(items: &[Value], out: &mut String) -> Result<()> {
    let length = items.iter().rposition(|item| !item.is_null()).map_or(0, |last| last + 1);
    if length == 0 {
        out.push_str("{}");
        return Ok(());
    }
    let filled = items[..length].iter().filter(|item| !item.is_null()).count();
    if length > 10 && length > filled * 2 {
        return Err(QueueError::bad("an array in the options has too many nulls; BullMQ cannot store it"));
    }
    out.push('[');
    for (index, item) in items[..length].iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        encode(item, out)?;
    }
    out.push(']');
    Ok(())
}

fn encode_string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control @ ('\0'..='\u{1f}' | '\u{7f}') => {
                use std::fmt::Write;
                let _ = write!(out, "\\u{:04x}", control as u32);
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(json: &str) -> Result<String> {
        let mut out = String::new();
        encode_map(&serde_json::from_str(json).expect(json), &mut out)?;
        Ok(out)
    }

    #[test]
    fn lua_tables_have_no_empty_arrays_and_no_long_numbers() {
        let cases = [
            (r#"{"x":[],"y":[1,null,3,null],"z":{"a":null}}"#, r#"{"x":{},"y":[1,null,3],"z":{}}"#),
            (r#"{"u":"a/b\u0001\u007f\"\\"}"#, r#"{"u":"a\/b\u0001\u007f\"\\"}"#),
            (r#"{"n":123456789012345,"f":0.1}"#, r#"{"n":1.2345678901234e+14,"f":0.1}"#),
        ];
        for (json, written) in cases {
            assert_eq!(encoded(json).expect(json), written);
        }
        let sparse = encoded(r#"{"x":[1,null,null,null,null,null,null,null,null,null,null,2]}"#);
        assert!(sparse.expect_err("a sparse array").to_string().contains("nulls"));
    }
}
