//! Which server binary a test runs, and where the module lies.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::workspace;

/// The engine that Debian 12 ships, and the default.
pub const DEFAULT: &str = "redis-7.0";

/// The engine of this run: `BULL_ENGINE`, such as `valkey-9.1`, or the default.
pub fn chosen() -> String {
    std::env::var("BULL_ENGINE").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT.to_owned())
}

/// The server binary of an engine.
///
/// # Panics
/// Where the engine is not on this machine; the text says what to run.
pub fn binary(engine: &str) -> PathBuf {
    let fetched = workspace().join("target/engines").join(engine).join("bin/redis-server");
    if fetched.exists() {
        return fetched;
    }
    assert!(engine == DEFAULT, "engine {engine} is not in target/engines: run scripts/engines");
    let path = PathBuf::from("redis-server");
    let runs = Command::new(&path).arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(runs, "redis-server is not in PATH: install the package redis-server");
    path
}

/// The module of `tests/neighbour`, built when a test first asks for it.
///
/// # Panics
/// Where it does not build.
pub fn neighbour() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build("bull-neighbour"));
    workspace().join("target/release/libbull_neighbour.so")
}

/// The library of `tests/clock`, built when a test first asks for it.
///
/// # Panics
/// Where it does not build.
pub fn clock() -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| build("bull-clock"));
    workspace().join("target/release/libbull_clock.so")
}

fn build(package: &str) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--quiet", "--locked", "-p", package]).current_dir(workspace());
    let output = build.output().unwrap_or_else(|error| panic!("{build:?} does not run: {error}"));
    assert!(output.status.success(), "{build:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The module: `BULL_MODULE`, or the release build.
///
/// # Panics
/// Where it has not been built.
pub fn module() -> PathBuf {
    let path =
        std::env::var_os("BULL_MODULE").map_or_else(|| workspace().join("target/release/libbull.so"), PathBuf::from);
    assert!(path.exists(), "{} is missing: run scripts/build", path.display());
    path.canonicalize().expect("a path that exists")
}
