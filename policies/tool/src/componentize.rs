//! A component out of a core module.
//!
//! The module carries the world it was written for in a custom section, put there by `bull-policy-sdk`; the encoder
//! reads it, checks the module's functions against it and adds the outer layer. A module in another language may come
//! without that section: then the world is read from its WIT.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wasmparser::{Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Reads the core module, writes the component, prints both sizes.
pub fn run(core: &Path, output: &Path, wit: Option<&Path>) -> Result<()> {
    let mut module = fs::read(core).with_context(|| format!("cannot read {}", core.display()))?;
    if let Some(wit) = wit {
        name_world(&mut module, wit).with_context(|| format!("no world from {}", wit.display()))?;
    }
    let component = encode(&module).with_context(|| format!("{} does not become a component", core.display()))?;
    write(output, &component).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes, from a core module of {} bytes", output.display(), component.len(), module.len());
    Ok(())
}

/// Adds the section that names the only world of this WIT package, which the module must not have yet.
fn name_world(module: &mut Vec<u8>, wit: &Path) -> Result<()> {
    let (_, bindgen) = wit_component::metadata::decode(module)?;
    if !bindgen.resolve.worlds[bindgen.world].exports.is_empty() {
        bail!("the module names a world already; leave --wit out");
    }
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit)?;
    let world = resolve.select_world(&[package], None)?;
    embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
}

/// The component for this core module, validated.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    match Parser::new(0).parse_all(module).next() {
        Some(Ok(Payload::Version { encoding: Encoding::Module, .. })) => {}
        Some(Ok(_)) => bail!("it is a component already"),
        _ => bail!("it is not a wasm module"),
    }
    let (_, bindgen) = wit_component::metadata::decode(module)?;
    if bindgen.resolve.worlds[bindgen.world].exports.is_empty() {
        bail!("it names no world: is export_policy! in the crate?");
    }
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

/// Writes beside the target and renames, so that a reader sees the old file or the new one.
fn write(output: &Path, bytes: &[u8]) -> Result<()> {
    let Some(name) = output.file_name() else { bail!("it has no file name") };
    if let Some(parent) = output.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let mut partial = name.to_owned();
    partial.push(".part");
    let partial = output.with_file_name(partial);
    fs::write(&partial, bytes)?;
    fs::rename(&partial, output).inspect_err(|_| match fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            eprintln!("cannot remove {}: {error}", partial.display())
        }
        _ => {}
    })?;
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use wit_component::{StringEncoding, dummy_module, embed_component_metadata};
    use wit_parser::{ManglingAndAbi, Resolve};

    /// A core module with the functions of the only world in this WIT text, each of which traps.
    pub fn core_module(wit: &str) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = resolve.push_str("test.wit", wit).expect("good WIT");
        let world = resolve.select_world(&[package], None).expect("one world");
        let mut module = dummy_module(&resolve, world, ManglingAndAbi::Legacy(wit_parser::LiftLowerAbi::Sync));
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
        module
    }

    /// The world that policies are written for.
    pub const GUARD: &str = include_str!("../../../wit/1.0.0/policy.wit");

    fn refusal(module: &[u8]) -> String {
        format!("{:#}", encode(module).expect_err("no component"))
    }

    #[test]
    fn a_module_for_the_guard_world_becomes_a_component() {
        let component = encode(&core_module(GUARD)).expect("a component");
        assert!(Parser::is_component(&component));
    }

    #[test]
    fn what_is_no_core_module_is_named() {
        assert_eq!(refusal(b""), "it is not a wasm module");
        assert_eq!(refusal(b"#!/bin/sh"), "it is not a wasm module");
        let component = encode(&core_module(GUARD)).expect("a component");
        assert_eq!(refusal(&component), "it is a component already");
    }

    #[test]
    fn a_module_without_a_world_is_told_what_is_missing() {
        let module = wat::parse_str("(module (func (export \"admit\")))").expect("good text");
        assert_eq!(refusal(&module), "it names no world: is export_policy! in the crate?");
    }

    #[test]
    fn a_module_that_reaches_for_the_host_is_refused() {
        let mut module = wat::parse_str("(module (import \"env\" \"now\" (func)))").expect("good text");
        let mut resolve = Resolve::default();
        let package = resolve.push_str("test.wit", GUARD).expect("good WIT");
        let world = resolve.select_world(&[package], None).expect("one world");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
        assert!(refusal(&module).contains("env"), "{}", refusal(&module));
    }

    #[test]
    fn the_file_is_written_whole_and_into_a_new_folder() {
        let folder = std::env::temp_dir().join(format!("bull-policy-test-{}", std::process::id()));
        let file = folder.join("deep/out.wasm");
        write(&file, b"one").expect("written");
        write(&file, b"two").expect("replaced");
        assert_eq!(fs::read(&file).expect("read"), b"two");
        assert_eq!(fs::read_dir(folder.join("deep")).expect("listed").count(), 1);
        fs::remove_dir_all(&folder).expect("removed");
    }
}
