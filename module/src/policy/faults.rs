//! What can go wrong with a policy: at load, in a call.

#[cfg(feature = "server")]
use wasmtime::Trap;

/// Why a call gave no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("ran out of fuel")]
    Fuel,
    #[error("wanted more memory than it may have")]
    Memory,
    #[error("overflowed its stack")]
    Stack,
    #[error("trapped: {0}")]
    Trap(String),
    #[error("gave a reply of more than 64 KiB")]
    Large,
    #[error("gave an invalid reply: {0}")]
    Reply(String),
}

#[cfg(feature = "server")]
impl Fault {
    pub fn of(error: &wasmtime::Error) -> Self {
        let text = format!("{:#}", error.root_cause());
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Self::Fuel,
            Some(Trap::StackOverflow) => Self::Stack,
            Some(trap) => Self::Trap(trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
            // A refused growth is an error without a trap code.
            None if text.contains("hostcalls") => Self::Large,
            None if text.contains("grow") || text.contains("limit") => Self::Memory,
            None => Self::Reply(text),
        }
    }
}

/// Why a policy was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{bytes} bytes are more than bull.policy-max-bytes allows ({max})")]
    TooLarge { bytes: usize, max: usize },
    #[error("not a WebAssembly component: {0}")]
    NotComponent(String),
    #[error("refused before compiling: {0}")]
    Screened(String),
    #[error("does not compile: {0}")]
    Compile(String),
    #[error("does not fit the world bull:policy/guard@1.0.0: {0}")]
    World(String),
    #[error("{call} {fault}")]
    Call { call: &'static str, fault: Fault },
    #[error("configuration refused: {0}")]
    Config(String),
    #[error("the engine could not start: {0}")]
    Engine(String),
}
