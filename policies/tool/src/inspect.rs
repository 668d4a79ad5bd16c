//! What a component imports and exports, read from the file alone.
//!
//! A policy may import the interface that holds the world's records: that is a list of types and reaches nothing. A
//! function, a resource or a world beyond that would be a way out of the sandbox; the server refuses it, and so does
//! this command.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};
use wit_component::DecodedWasm;
use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind, WorldItem, WorldKey};

/// Prints the report; an error where the component could reach something.
pub fn run(file: &Path) -> Result<()> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let report = inspect(&bytes).with_context(|| format!("cannot inspect {}", file.display()))?;
    println!("{}: {} bytes", file.display(), bytes.len());
    print!("{}", report.text);
    if report.reaches_out {
        bail!("{} imports more than types: a policy may not", file.display());
    }
    Ok(())
}

/// What there is to say of a component.
pub struct Report {
    pub text: String,
    /// It imports something that is not a type.
    pub reaches_out: bool,
}

/// The report on this component.
pub fn inspect(bytes: &[u8]) -> Result<Report> {
    if !Parser::is_component(bytes) {
        bail!("it is not a wasm component");
    }
    let memory = start_memory(bytes)?;
    let decoded = wit_component::decode(bytes)?;
    let DecodedWasm::Component(resolve, world) = &decoded else {
        bail!("it is a WIT package, not a component with code");
    };
    let world = &resolve.worlds[*world];

    let mut text = format!("memory at start: {memory} bytes\nimports:\n");
    let mut reaches_out = false;
    for (key, item) in &world.imports {
        let line = item_line(resolve, key, item);
        reaches_out |= !line.only_types;
        writeln!(text, "  {}", line.text)?;
    }
    if world.imports.is_empty() {
        text.push_str("  none\n");
    }
    text.push_str("exports:\n");
    for (key, item) in &world.exports {
        writeln!(text, "  {}", item_line(resolve, key, item).text)?;
    }
    if world.exports.is_empty() {
        text.push_str("  none\n");
    }
    Ok(Report { text, reaches_out })
}

struct Line {
    text: String,
    only_types: bool,
}

fn item_line(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Line {
    let name = resolve.name_world_key(key);
    match item {
        WorldItem::Interface { id, .. } => {
            let only_types = is_types_only(resolve, *id);
            let count = resolve.interfaces[*id].functions.len();
            let what = if only_types { "types only".to_owned() } else { format!("{count} functions") };
            Line { text: format!("{name} ({what})"), only_types }
        }
        WorldItem::Function(function) => Line { text: signature(resolve, function), only_types: false },
        WorldItem::Type { id, .. } => {
            let only_types = !matches!(resolve.types[*id].kind, TypeDefKind::Resource);
            Line { text: format!("type {name}"), only_types }
        }
    }
}

fn is_types_only(resolve: &Resolve, id: InterfaceId) -> bool {
    let interface = &resolve.interfaces[id];
    interface.functions.is_empty()
        && interface.types.values().all(|id| !matches!(resolve.types[*id].kind, TypeDefKind::Resource))
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<String> =
        function.params.iter().map(|param| format!("{}: {}", param.name, type_name(resolve, &param.ty))).collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", type_name(resolve, ty))).unwrap_or_default();
    format!("{}({}){result}", function.name, params.join(", "))
}

/// The type as WIT writes it, as far as policies use it; others by their kind.
fn type_name(resolve: &Resolve, ty: &Type) -> String {
    let Type::Id(id) = ty else {
        return format!("{ty:?}").to_lowercase();
    };
    let def = &resolve.types[*id];
    if let Some(name) = &def.name {
        return name.clone();
    }
    let or_none = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| type_name(resolve, ty));
    match &def.kind {
        TypeDefKind::List(item) => format!("list<{}>", type_name(resolve, item)),
        TypeDefKind::Option(item) => format!("option<{}>", type_name(resolve, item)),
        TypeDefKind::Result(result) => {
            format!("result<{}, {}>", or_none(&result.ok), or_none(&result.err))
        }
        other => other.as_str().to_owned(),
    }
}

/// Bytes of linear memory that the component's modules ask for before they run, against the server's limit on it.
fn start_memory(bytes: &[u8]) -> Result<u64> {
    const PAGE: u64 = 64 * 1024;
    let mut memory = 0u64;
    for payload in Parser::new(0).parse_all(bytes) {
        if let Payload::MemorySection(section) = payload? {
            for declared in section {
                memory = memory.saturating_add(declared?.initial.saturating_mul(PAGE));
            }
        }
    }
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::componentize::{encode, tests::GUARD, tests::core_module};

    fn report(wit: &str) -> Report {
        inspect(&encode(&core_module(wit)).expect("a component")).expect("a report")
    }

    #[test]
    fn a_policy_imports_types_only_and_exports_the_world() {
        let report = report(GUARD);
        assert!(!report.reaches_out, "{}", report.text);
        for line in [
            "bull:policy/types@1.0.0 (types only)",
            "describe() -> description",
            "configure(config: string) -> result<_, string>",
            "admit(node: node, queue: queue, job: job) -> verdict",
            "tick(node: node, queues: list<queue>) -> list<action>",
        ] {
            assert!(report.text.lines().any(|found| found.trim() == line), "{line}\n{}", report.text);
        }
    }

    #[test]
    fn a_function_from_the_host_is_a_way_out() {
        let world = "package a:b; world w { import now: func() -> u64; export run: func(); }";
        let report = report(world);
        assert!(report.reaches_out);
        assert!(report.text.contains("imports:\n  now() -> u64\n"), "{}", report.text);
    }

    #[test]
    fn so_is_an_interface_with_functions() {
        let world =
            "package a:b; interface clock { now: func() -> u64; } world w { import clock; export run: func(); }";
        let report = report(world);
        assert!(report.reaches_out);
        assert!(report.text.contains("a:b/clock (1 functions)"), "{}", report.text);
    }

    #[test]
    fn a_component_without_imports_says_so() {
        let report = report("package a:b; world w { export run: func(); }");
        assert!(!report.reaches_out);
        assert!(report.text.contains("imports:\n  none\nexports:\n  run()\n"), "{}", report.text);
    }

    #[test]
    fn what_is_no_component_is_named() {
        for bytes in [&b""[..], b"text", &core_module(GUARD)] {
            let error = inspect(bytes).map(|report| report.text).expect_err("no report");
            assert_eq!(error.to_string(), "it is not a wasm component");
        }
    }
}
