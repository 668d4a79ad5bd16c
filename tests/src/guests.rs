//! Policies made to measure, most of them hostile: components for the world `guard` in `wit/`,
//! built from WebAssembly text, so that each does exactly the one thing that a test is about.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

use crate::workspace;

/// Results lie at fixed places below the strings, the strings below the heap.
const DESCRIBED: usize = 16;
const CONFIGURED: usize = 64;
const JUDGED: usize = 96;
const TICKED: usize = 192;
const STRINGS: usize = 256;
/// Where the bump allocator starts; 4 pages are 256 KiB.
const HEAP: usize = 32 * 1024;
const PAGES: usize = 4;

/// A guest under construction: it describes itself, takes any configuration, admits all jobs and
/// does nothing at a tick, until told otherwise.
#[derive(Clone, Debug)]
pub struct Guest {
    name: String,
    version: String,
    admit: String,
    configure: String,
    tick: String,
    extra: String,
    reason: Vec<u8>,
}

impl Guest {
    pub fn new(name: &str) -> Guest {
        Guest {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            admit: format!("(i32.const {JUDGED})"),
            configure: format!("(i32.const {CONFIGURED})"),
            tick: format!("(i32.const {TICKED})"),
            extra: String::new(),
            reason: b"no".to_vec(),
        }
    }

    /// The version that `describe` tells.
    pub fn version(mut self, version: &str) -> Guest {
        version.clone_into(&mut self.version);
        self
    }

    /// Instructions of `admit`, which leave the address of the verdict.
    pub fn admit(mut self, body: &str) -> Guest {
        body.clone_into(&mut self.admit);
        self
    }

    /// Instructions of `configure`.
    pub fn configure(mut self, body: &str) -> Guest {
        body.clone_into(&mut self.configure);
        self
    }

    /// Instructions of `tick`.
    pub fn tick(mut self, body: &str) -> Guest {
        body.clone_into(&mut self.tick);
        self
    }

    /// Further fields of the module, such as functions.
    pub fn extra(mut self, fields: &str) -> Guest {
        fields.clone_into(&mut self.extra);
        self
    }

    /// Rejects every job with these bytes as the reason.
    pub fn rejecting(mut self, reason: &[u8]) -> Guest {
        assert!(reason.len() < HEAP - 2 * STRINGS, "a reason that fits below the heap");
        self.reason = reason.to_vec();
        let verdict = verdict(
            1,
            &format!("(i64.or (i64.const {}) (i64.shl (i64.const {}) (i64.const 32)))", self.reason_at(), reason.len()),
        );
        self.admit(&verdict)
    }

    fn reason_at(&self) -> usize {
        STRINGS + [&self.name, &self.version, SUMMARY, SCHEMA].iter().map(|text| text.len()).sum::<usize>()
    }

    /// The text of the core module.
    pub fn core(&self) -> String {
        let texts = [&self.name, &self.version, SUMMARY, SCHEMA].map(str::as_bytes);
        let mut at = STRINGS;
        let mut described = Vec::new();
        for text in texts {
            described.extend_from_slice(&u32::try_from(at).expect("small").to_le_bytes());
            described.extend_from_slice(&u32::try_from(text.len()).expect("small").to_le_bytes());
            at += text.len();
        }
        let strings = [&texts.concat(), self.reason.as_slice()].concat();
        let Guest { admit, configure, tick, extra, .. } = self;
        format!(
            r#"(module
  (memory (export "memory") {PAGES})
  (global $heap (mut i32) (i32.const {HEAP}))
  (data (i32.const {DESCRIBED}) "{described}")
  (data (i32.const {TICKED}) "\08\00\00\00\00\00\00\00")
  (data (i32.const {STRINGS}) "{strings}")
  (func (export "cabi_realloc") (param $old i32) (param $had i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (global.get $heap) (i32.shl (memory.size) (i32.const 16))) (then unreachable))
    (local.get $at))
  (func $free (param i32) (global.set $heap (i32.const {HEAP})))
  (export "cabi_post_describe" (func $free))
  (export "cabi_post_configure" (func $free))
  (export "cabi_post_admit" (func $free))
  (export "cabi_post_tick" (func $free))
  (func (export "describe") (result i32) (i32.const {DESCRIBED}))
  (func (export "configure") (param i32 i32) (result i32) {configure})
  (func (export "admit") (param i32) (result i32) {admit})
  (func (export "tick") (param i64 i64 i64 i32 i32 i32) (result i32) {tick})
  {extra})"#,
            described = escaped(&described),
            strings = escaped(&strings),
        )
    }

    /// The component.
    pub fn build(&self) -> Vec<u8> {
        component(&self.core())
    }
}

const SUMMARY: &str = "A guest of the tests.";
const SCHEMA: &str = "{}";

/// Instructions that store a verdict and leave its address.
fn verdict(case: u8, payload: &str) -> String {
    format!(
        "(i32.store8 (i32.const {JUDGED}) (i32.const {case})) (i64.store offset=8 (i32.const {JUDGED}) {payload}) (i32.const {JUDGED})"
    )
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

/// Makes a component for the world `guard` of a core module's text. It must export what
/// [`Guest::core`] exports.
///
/// # Panics
/// Where the text or its exports do not fit.
pub fn component(core: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(workspace().join("wit/1.0.0")).expect("the policy package");
    let world = resolve.select_world(&[package], Some("guard")).expect("the world guard");
    let mut module = wat::parse_str(core).unwrap_or_else(|error| panic!("{error}"));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let encoder = ComponentEncoder::default().validate(true).module(&module).expect("a module of that world");
    { encoder }.encode().unwrap_or_else(|error| panic!("{error:?}"))
}

/// Admits everything.
pub fn admit_all() -> Vec<u8> {
    Guest::new("admit-all").build()
}

/// Admits everything and says that it is version `<n>.0.0`.
pub fn admitting(n: u32) -> Vec<u8> {
    Guest::new("admitting").version(&format!("{n}.0.0")).build()
}

/// Rejects everything with the reason `v<n>` and says that it is version `<n>.0.0`.
pub fn versioned(n: u32) -> Vec<u8> {
    Guest::new("versioned").version(&format!("{n}.0.0")).rejecting(format!("v{n}").as_bytes()).build()
}

/// Rejects everything with this reason.
pub fn rejecting(reason: &[u8]) -> Vec<u8> {
    Guest::new("rejecting").rejecting(reason).build()
}

/// Defers everything by so many milliseconds.
pub fn deferring(ms: u64) -> Vec<u8> {
    Guest::new("deferring").admit(&verdict(2, &format!("(i64.const {ms})"))).build()
}

/// Asks that so many of the oldest waiting jobs make room.
pub fn displacing(jobs: u32) -> Vec<u8> {
    Guest::new("displacing").admit(&verdict(3, &format!("(i64.const {jobs})"))).build()
}

/// Rejects jobs of a queue in which so many jobs wait; below that it admits on exactly these terms.
pub fn bounded(jobs: u32) -> Vec<u8> {
    let full = Guest::new("bounded").rejecting(b"full").admit;
    // `waiting` and `prioritized` of the queue's record, which lies behind the node's 32 bytes; the only term is the first.
    let backlog = "(i64.add (i64.load offset=40 (local.get 0)) (i64.load offset=64 (local.get 0)))";
    let terms = format!("(i64.store (i32.const {}) (i64.const {jobs})) {}", JUDGED + 16, verdict(4, "(i64.const 1)"));
    let body = format!("(if (result i32) (i64.lt_u {backlog} (i64.const {jobs})) (then {terms}) (else {full}))");
    Guest { admit: body, ..Guest::new("bounded").rejecting(b"full") }.build()
}

/// Admits on terms of which one is neither there nor not there.
pub fn bad_terms() -> Vec<u8> {
    Guest::new("bad-terms").admit(&verdict(4, "(i64.const 2)")).build()
}

/// Never comes back from `admit`.
pub fn looping() -> Vec<u8> {
    Guest::new("looping").admit("(loop $again (br $again)) (unreachable)").build()
}

/// Never comes back from `tick`.
pub fn looping_tick() -> Vec<u8> {
    Guest::new("looping-tick").tick("(loop $again (br $again)) (unreachable)").build()
}

/// Never comes back from `configure`.
pub fn looping_configure() -> Vec<u8> {
    Guest::new("looping-configure").configure("(loop $again (br $again)) (unreachable)").build()
}

/// Traps in `admit`.
pub fn trapping() -> Vec<u8> {
    Guest::new("trapping").admit("(unreachable)").build()
}

/// Takes a page more, touches it, and again, for ever.
pub fn growing() -> Vec<u8> {
    let body = "(loop $again (drop (memory.grow (i32.const 1)))
        (i32.store (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 4)) (i32.const -1))
        (br $again)) (unreachable)";
    Guest::new("growing").admit(body).build()
}

/// Calls itself without end.
pub fn recursing() -> Vec<u8> {
    Guest::new("recursing")
        .extra("(func $deeper (param i32) (result i32) (i32.add (call $deeper (local.get 0)) (i32.const 1)))")
        .admit("(call $deeper (local.get 0))")
        .build()
}

/// Admits everything, and takes the compiler about a second: so many functions of eight loops each.
pub fn slow_to_compile(functions: usize) -> Vec<u8> {
    let step = "(loop $again (local.set 0 (i64.add (i64.mul (local.get 0) (local.get 1)) (i64.popcnt (local.get 0))))
        (local.set 1 (i64.xor (local.get 1) (i64.rotl (local.get 0) (i64.const 7))))
        (br_if $again (i64.lt_u (local.get 0) (local.get 1))))";
    let function = format!("(func (param i64 i64) (result i64) {} (local.get 0))", step.repeat(8));
    Guest::new("slow-to-compile").extra(&function.repeat(functions)).build()
}

/// Traps on a job whose data has just so many bytes, a number that nothing else is, and rejects all others.
pub fn trapping_at(bytes: u32) -> Vec<u8> {
    let guest = Guest::new("trapping-at").rejecting(b"alive");
    let rejects = guest.admit.clone();
    // Where the canonical form of the arguments has the job's bytes is found by their value alone.
    let traps = format!("(if (call $found (local.get 0) (i64.const {bytes})) (then unreachable))");
    guest
        .extra(
            "(func $found (param $at i32) (param $wanted i64) (result i32) (local $end i32)
               (local.set $end (i32.add (local.get $at) (i32.const 400)))
               (loop $next
                 (if (i64.eq (i64.load (local.get $at)) (local.get $wanted)) (then (return (i32.const 1))))
                 (local.set $at (i32.add (local.get $at) (i32.const 8)))
                 (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
               (i32.const 0))",
        )
        .admit(&format!("{traps} {rejects}"))
        .build()
}

/// Reads outside of its memory.
pub fn oob() -> Vec<u8> {
    Guest::new("oob").admit("(i32.load (i32.const -4))").build()
}

/// Answers with a verdict that does not exist.
pub fn bad_verdict() -> Vec<u8> {
    Guest::new("bad-verdict").admit(&verdict(77, "(i64.const -1)")).build()
}

/// Rejects with a reason that lies outside of its memory.
pub fn bad_reason() -> Vec<u8> {
    Guest::new("bad-reason").admit(&verdict(1, "(i64.const 0x00010000fffffff0)")).build()
}

/// Refuses every configuration with the reason `no`.
pub fn refusing_configuration() -> Vec<u8> {
    let guest = Guest::new("refusing-configuration");
    let at = guest.reason_at();
    let body = format!(
        "(i32.store8 (i32.const {CONFIGURED}) (i32.const 1)) (i32.store offset=4 (i32.const {CONFIGURED}) (i32.const {at}))
         (i32.store offset=8 (i32.const {CONFIGURED}) (i32.const 2)) (i32.const {CONFIGURED})"
    );
    guest.configure(&body).build()
}

/// Guests that fail, each in its own way, whenever a job asks to enter.
pub fn failing() -> [(&'static str, Vec<u8>); 9] {
    [
        ("looping", looping()),
        ("trapping", trapping()),
        ("growing", growing()),
        ("recursing", recursing()),
        ("oob", oob()),
        ("bad-verdict", bad_verdict()),
        ("bad-terms", bad_terms()),
        ("bad-reason", bad_reason()),
        ("not-utf8", rejecting(b"\xff\xfe")),
    ]
}

/// Bytes that are no component: the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guest_is_a_valid_component() {
        let others = [
            ("admit_all", admit_all()),
            ("versioned", versioned(2)),
            ("rejecting", rejecting(b"%s\\ \"")),
            ("deferring", deferring(u64::MAX)),
            ("displacing", displacing(u32::MAX)),
            ("looping_tick", looping_tick()),
            ("looping_configure", looping_configure()),
            ("refusing_configuration", refusing_configuration()),
        ];
        for (name, bytes) in failing().into_iter().chain(others) {
            assert_eq!(&bytes[..8], b"\0asm\x0d\0\x01\0", "{name} is a component");
            let checked = wasmparser::Validator::new().validate_all(&bytes);
            assert_eq!(checked.err().map(|error| error.to_string()), None, "{name}");
            assert!(bytes.len() < 64 * 1024, "{name} has {} bytes", bytes.len());
        }
    }

    #[test]
    fn versions_differ_and_are_reproducible() {
        assert_eq!(versioned(1), versioned(1));
        assert_ne!(versioned(1), versioned(2));
    }

    #[test]
    fn noise_depends_on_its_seed_only() {
        assert_eq!(noise(7, 1001), noise(7, 1001));
        assert_ne!(noise(7, 64), noise(8, 64));
        assert_eq!(noise(7, 1001).len(), 1001);
    }
}
