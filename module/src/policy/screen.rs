//! Bounds checked before anything is compiled: a small file can cost seconds of compiling.

use wasmparser::{Encoding, Parser, Payload};

use super::faults::LoadError;

const MAX_FUNCTIONS: u32 = 4000;
const MAX_BODY: usize = 64 * 1024;
const MAX_LOCALS: u32 = 1000;
/// Core modules and nested components of one file.
const MAX_PARTS: u32 = 16;

/// Refuses what is too large or not a component.
pub fn screen(wasm: &[u8], max_bytes: usize) -> Result<(), LoadError> {
    if wasm.len() > max_bytes {
        return Err(LoadError::TooLarge { bytes: wasm.len(), max: max_bytes });
    }
    let refuse = |what: String| Err(LoadError::Screened(what));
    // Some of the parser's texts have many lines.
    let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let broken = |error: wasmparser::BinaryReaderError| LoadError::NotComponent(one_line(error.to_string()));
    let (mut functions, mut parts, mut is_component) = (0u32, 0u32, None);
    if !wasm.starts_with(b"\0asm") {
        return Err(LoadError::NotComponent("it does not start as WebAssembly does".into()));
    }
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(broken)? {
            Payload::Version { encoding, .. } => {
                is_component.get_or_insert(encoding == Encoding::Component);
                parts += 1;
                if parts > MAX_PARTS {
                    return refuse(format!("more than {MAX_PARTS} modules and components"));
                }
            }
            Payload::CodeSectionStart { count, .. } => {
                functions = functions.saturating_add(count);
                if functions > MAX_FUNCTIONS {
                    return refuse(format!("more than {MAX_FUNCTIONS} functions"));
                }
            }
            Payload::CodeSectionEntry(body) => {
                let length = body.range().len();
                if length > MAX_BODY {
                    return refuse(format!("a function of {length} bytes, at most {MAX_BODY} are allowed"));
                }
                let mut locals = 0u32;
                for group in body.get_locals_reader().map_err(broken)? {
                    locals = locals.saturating_add(group.map_err(broken)?.0);
                    if locals > MAX_LOCALS {
                        return refuse(format!("a function with more than {MAX_LOCALS} locals"));
                    }
                }
            }
            _ => {}
        }
    }
    match is_component {
        Some(true) => Ok(()),
        Some(false) => Err(LoadError::NotComponent(
            "it is a core module; make it a component with scripts/build-policies or `wasm-tools component new`".into(),
        )),
        None => Err(LoadError::NotComponent("it has no header".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_component_are_told_apart() {
        for (bytes, word) in [(&b""[..], "component"), (b"hello", "component"), (b"\0asm\x01\0\0\0", "core module")] {
            let text = screen(bytes, 1024).unwrap_err().to_string();
            assert!(text.contains(word), "{text}");
        }
        // A module within that has another magic number.
        let nested = b"\0asm\x0d\0\x01\0\x04\x1d\0\0\0\0\0\0\0\0(";
        let text = screen(nested, 1024).unwrap_err().to_string();
        assert!(text.contains("magic") && !text.contains('\n'), "{text}");
        assert!(screen(&[0; 2000], 1024).unwrap_err().to_string().contains("policy-max-bytes"));
    }
}
