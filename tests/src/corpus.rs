//! Hostile components and byte strings, each with the words that its refusal must hold: what LOAD refuses, and what it
//! takes and a call contains.

use crate::guests::{self, Guest, component};

/// A hostile policy.
#[derive(Clone, Debug)]
pub struct Hostile {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    /// Words of the error or of the reason.
    pub words: &'static str,
}

fn hostile(name: &'static str, bytes: Vec<u8>, words: &'static str) -> Hostile {
    Hostile { name, bytes, words }
}

/// A guest whose text is altered, to do what [`Guest`] does not offer.
fn altered(name: &'static str, from: &str, to: &str) -> Vec<u8> {
    let core = Guest::new(name).core();
    assert!(core.contains(from), "{name}: no {from} in {core}");
    component(&core.replacen(from, to, 1))
}

const ENDLESS: &str = "(loop $again (br $again)) (unreachable)";
const DESCRIBE: &str = "(func (export \"describe\") (result i32) (i32.const 16))";

/// `describe` with this body.
fn describing(name: &'static str, body: &str) -> Vec<u8> {
    altered(name, DESCRIBE, &format!("(func (export \"describe\") (result i32) {body})"))
}

fn recursing_describe() -> Vec<u8> {
    let deep = "(func $deep (export \"describe\") (result i32) (i32.add (call $deep) (i32.const 1)))";
    altered("describe", DESCRIBE, deep)
}

/// A component of text.
fn text(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Core code that a component carries without use.
fn carrying(core: &str) -> Vec<u8> {
    text(&format!("(component (core module {core}))"))
}

/// What LOAD refuses; the words stand behind `BULLPOLICY `.
pub fn refused() -> Vec<Hostile> {
    let whole = guests::admit_all();
    let functions = "(func)".repeat(5000);
    let body = format!("(func {})", "(drop (i32.const 1))".repeat(40_000));
    let modules = "(core module)".repeat(40);
    vec![
        hostile("nothing", vec![], "does not start as WebAssembly does"),
        hostile("noise", guests::noise(7, 100_000), "not a WebAssembly component"),
        hostile("noise behind a header", [&whole[..8], &guests::noise(8, 100_000)].concat(), "not a WebAssembly component"),
        hostile("a component cut short", whole[..whole.len() / 2].to_vec(), "not a WebAssembly component"),
        hostile("a core module", text("(module)"), "it is a core module"),
        hostile("too many bytes", vec![0; 600 * 1024], "policy-max-bytes"),
        hostile("too many functions", carrying(&functions), "more than 4000 functions"),
        hostile("a function too long", carrying(&body), "a function of"),
        hostile("too many locals", carrying(&format!("(func {})", "(local i64)".repeat(3000))), "more than 1000 locals"),
        hostile("too many parts", text(&format!("(component {modules})")), "more than 16 modules"),
        hostile("an empty component", text("(component)"), "does not fit the world"),
        hostile("wasi", text("(component (import \"wasi:cli/environment@0.2.0\" (instance)))"), "does not fit the world"),
        hostile(
            "an import of its own",
            text("(component (import \"host\" (func)))"),
            "does not fit the world",
        ),
        hostile(
            "an old world",
            text(
                "(component (core module $m (func (export \"f\") (result i32) (i32.const 0))) (core instance $i (instantiate $m))
                   (func $f (result u32) (canon lift (core func $i \"f\")))
                   (export \"describe\" (func $f)) (export \"configure\" (func $f)) (export \"admit\" (func $f))
                   (export \"tick\" (func $f)))",
            ),
            "does not fit the world",
        ),
        hostile("memory64", carrying("(memory i64 1)"), "memory64"),
        hostile("two memories", carrying("(memory 1) (memory 1)"), "memories"),
        hostile("simd", carrying("(func (drop (v128.const i64x2 0 0)))"), "SIMD"),
        hostile("threads", carrying("(memory 1 1 shared)"), "thread"),
        hostile("tail calls", carrying("(func $f (return_call $f))"), "tail call"),
        hostile("garbage collection", carrying("(type (struct))"), "does not compile"),
        hostile("exceptions", carrying("(tag)"), "exceptions"),
        hostile("bad types", carrying("(func (result i32) (i64.const 1))"), "does not compile"),
        hostile("an endless start", altered("start", "(global $heap", &format!("(start $s) (func $s {ENDLESS}) (global $heap")), "start-up ran out of fuel"),
        hostile("a trapping start", altered("start", "(global $heap", "(start $s) (func $s unreachable) (global $heap"), "start-up trapped"),
        hostile("a large memory", altered("memory", "(memory (export \"memory\") 4)", "(memory (export \"memory\") 100)"), "start-up wanted more memory"),
        hostile("a large table", Guest::new("table").extra("(table 100000 funcref)").build(), "start-up wanted more memory"),
        hostile("an endless describe", describing("describe", ENDLESS), "describe ran out of fuel"),
        hostile("a trapping describe", describing("describe", "unreachable"), "describe trapped"),
        hostile("a describe that recurses", recursing_describe(), "describe overflowed its stack"),
        hostile("a giant describe", describing("describe", "(i32.store offset=12 (i32.const 16) (i32.const 131072)) (i32.const 16)"), "describe gave a reply of more than 64 KiB"),
        hostile("a describe out of bounds", describing("describe", "(i32.store (i32.const 16) (i32.const -16)) (i32.const 16)"), "describe gave an invalid reply"),
        hostile("a describe that is not UTF-8", describing("describe", "(i32.store8 (i32.const 256) (i32.const 255)) (i32.const 16)"), "describe gave an invalid reply"),
        hostile("an endless configure", guests::looping_configure(), "configure ran out of fuel"),
        hostile("a trapping configure", Guest::new("configure").configure("unreachable").build(), "configure trapped"),
        hostile("a configure that refuses", guests::refusing_configuration(), "configuration refused: no"),
        hostile("a configure with a wrong result", Guest::new("configure").configure("(i32.store8 (i32.const 64) (i32.const 9)) (i32.const 64)").build(), "configure gave an invalid reply"),
        hostile("no memory for the configuration", altered("realloc", "(local.get $at))", "unreachable)"), "configure trapped"),
    ]
}

/// What LOAD takes, and what each call of `admit` contains; the words stand in the reason of ONERROR reject.
pub fn contained() -> Vec<Hostile> {
    let admit = |name: &'static str, body: &str, words| hostile(name, Guest::new(name).admit(body).build(), words);
    let extra = |name: &'static str, extra: &str, body: &str, words| {
        hostile(name, Guest::new(name).extra(extra).admit(body).build(), words)
    };
    vec![
        hostile("looping", guests::looping(), "ran out of fuel"),
        hostile("trapping", guests::trapping(), "trapped"),
        hostile("growing", guests::growing(), "wanted more memory"),
        hostile("recursing", guests::recursing(), "overflowed its stack"),
        hostile("out-of-bounds", guests::oob(), "trapped: out of bounds"),
        hostile("bad-verdict", guests::bad_verdict(), "invalid reply"),
        hostile("bad-terms", guests::bad_terms(), "invalid reply"),
        hostile("bad-reason", guests::bad_reason(), "invalid reply"),
        hostile("not-utf8", guests::rejecting(b"\xff\xfe"), "invalid reply"),
        admit("divided-by-zero", "(i32.div_u (i32.const 1) (i32.const 0))", "trapped: integer divide by zero"),
        admit("overflowing", "(i32.trunc_f64_s (f64.const 1e300))", "trapped: integer overflow"),
        admit("not-a-number", "(i32.trunc_f64_s (f64.div (f64.const 0) (f64.const 0)))", "trapped: invalid conversion"),
        admit("answer-far-away", "(i32.const -8)", "invalid reply"),
        admit("answer-askew", "(i32.const 97)", "invalid reply"),
        admit(
            "filling",
            "(loop $again (memory.fill (i32.const 65536) (i32.const 1) (i32.const 131072)) (br $again)) (unreachable)",
            "ran out of fuel",
        ),
        admit(
            "growing-far",
            "(loop $again (drop (memory.grow (i32.const 60000))) (br $again)) (unreachable)",
            "wanted more memory",
        ),
        extra(
            "calling-null",
            "(table $t 4 funcref) (type $f (func (result i32)))",
            "(call_indirect $t (type $f) (i32.const 1))",
            "trapped",
        ),
        extra(
            "calling-wrongly",
            "(table $t 1 funcref) (elem (i32.const 0) $g) (type $f (func (result i32))) (func $g (param i64))",
            "(call_indirect $t (type $f) (i32.const 0))",
            "trapped",
        ),
        extra(
            "growing-tables",
            "(table $t 1 funcref)",
            "(loop $again (drop (table.grow $t (ref.null func) (i32.const 500))) (br $again)) (unreachable)",
            "wanted more memory",
        ),
        hostile("giant-reason", giant_reason(), "more than 64 KiB"),
        hostile(
            "trapping-afterwards",
            altered(
                "post",
                "(func $free (param i32) ",
                "(func $free (param i32) (if (i32.eq (local.get 0) (i32.const 96)) (then unreachable)) ",
            ),
            "trapped",
        ),
        hostile(
            "stingy",
            altered(
                "stingy",
                "(local.set $at (i32.and",
                "(if (i32.gt_u (local.get $size) (i32.const 2)) (then unreachable)) (local.set $at (i32.and",
            ),
            "trapped",
        ),
        hostile(
            "misplacing",
            altered(
                "misplacing",
                "(local.get $at))",
                "(if (result i32) (i32.gt_u (local.get $size) (i32.const 2)) (then (i32.const -16)) (else (local.get $at))))",
            ),
            "invalid reply",
        ),
    ]
}

/// Rejects with a reason of 200 KiB.
fn giant_reason() -> Vec<u8> {
    Guest::new("giant-reason")
        .admit(
            "(i32.store8 (i32.const 96) (i32.const 1)) (i32.store (i32.const 104) (i32.const 1024))
             (i32.store (i32.const 108) (i32.const 204800)) (i32.const 96)",
        )
        .build()
}

/// What fails at each tick, by the words of the last error.
pub fn ticking() -> Vec<Hostile> {
    let tick = |name: &'static str, body: &str, words| hostile(name, Guest::new(name).tick(body).build(), words);
    vec![
        hostile("looping-tick", guests::looping_tick(), "ran out of fuel"),
        tick("trapping-tick", "(unreachable)", "trapped"),
        // A list of 4 Gi actions.
        tick("endless-list", "(i32.store offset=4 (i32.const 192) (i32.const -1)) (i32.const 192)", "invalid reply"),
        // 2,000 notices that all name the same 100 KiB: 200 MB for the host.
        tick(
            "forged-list",
            "(local $at i32) (local.set $at (i32.const 40000))
             (loop $next
               (i32.store offset=8 (local.get $at) (i32.const 1024)) (i32.store offset=12 (local.get $at) (i32.const 102400))
               (local.set $at (i32.add (local.get $at) (i32.const 96)))
               (br_if $next (i32.lt_u (local.get $at) (i32.const 232000))))
             (i32.store (i32.const 192) (i32.const 40000)) (i32.store offset=4 (i32.const 192) (i32.const 2000)) (i32.const 192)",
            "more than 64 KiB",
        ),
        tick("unknown-action", "(i32.store8 (i32.const 1024) (i32.const 99)) (i32.store (i32.const 192) (i32.const 1024)) (i32.store offset=4 (i32.const 192) (i32.const 1)) (i32.const 192)", "invalid reply"),
    ]
}
