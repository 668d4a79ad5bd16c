//! Code that was checked and compiled, ready to make instances of. The work of a background thread.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};

use super::bindings::GuardPre;
use super::engine::{Held, Limits, engine};
use super::faults::LoadError;
use super::instance::Instance;
use super::screen::screen;
use crate::text::visible;

/// Longest text taken over from `describe`, bytes.
const MAX_TEXT: usize = 256;

/// Longest schema taken over from `describe`, bytes.
const MAX_SCHEMA: usize = 16 * 1024;

/// What the policy says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub version: String,
    pub summary: String,
    /// JSON Schema of the configuration; whole, or empty where it is longer than [`MAX_SCHEMA`].
    pub config_schema: String,
}

/// A policy that compiled, answered `describe` and took its configuration.
pub struct Compiled {
    pub(super) pre: GuardPre<Held>,
    pub limits: Limits,
    pub description: Description,
    /// Hex SHA-256 of the component.
    pub digest: String,
    pub bytes: usize,
}

impl Compiled {
    /// Screens, compiles, links and asks `describe`.
    pub fn new(wasm: &[u8], limits: Limits) -> Result<Self, LoadError> {
        screen(wasm, limits.wasm_bytes)?;
        let engine = engine()?;
        let component = Component::new(engine, wasm).map_err(|error| LoadError::Compile(one_line(&error)))?;
        // No imports: a policy knows nothing but its arguments.
        let pre = Linker::new(engine)
            .instantiate_pre(&component)
            .and_then(GuardPre::new)
            .map_err(|error| LoadError::World(one_line(&error)))?;
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(wasm) {
            let _ = write!(digest, "{byte:02x}");
        }
        let description = Instance::raw(&pre, limits)?.describe(limits)?;
        let cut = |text: String| visible(&text.chars().take(MAX_TEXT).collect::<String>());
        let description = Description {
            name: cut(description.name),
            version: cut(description.version),
            summary: cut(description.summary),
            config_schema: Some(description.config_schema).filter(|text| text.len() <= MAX_SCHEMA).unwrap_or_default(),
        };
        Ok(Self { pre, limits, description, digest, bytes: wasm.len() })
    }
}

fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}").replace('\n', " ");
    text.chars().take(400).collect()
}
