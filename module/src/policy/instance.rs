//! A running policy: warm, with its configuration, thrown away at the first fault.

use wasmtime::Store;

use super::bindings::{Guard, GuardPre};
use super::compiled::Compiled;
use super::engine::{Held, Limits, store};
use super::faults::{Fault, LoadError};
use super::{Action, Job, Node, Queue, Verdict};

/// `configure` may parse JSON: it gets this many times the fuel of a decision.
const CONFIGURE_FUEL: u64 = 100;

/// An instance that took its configuration.
pub struct Instance {
    store: Store<Held>,
    guard: Guard,
    fuel: u64,
}

/// What `describe` returns.
pub type RawDescription = super::bindings::bull::policy::types::Description;

impl Instance {
    /// Makes an instance and configures it. Errors leave nothing behind.
    pub fn new(compiled: &Compiled, config: &str) -> Result<Self, LoadError> {
        let mut instance = Self::raw(&compiled.pre, compiled.limits)?;
        instance.configure(config)?;
        Ok(instance)
    }

    pub(super) fn raw(pre: &GuardPre<Held>, limits: Limits) -> Result<Self, LoadError> {
        let mut store = store(limits)?;
        refill(&mut store, limits.fuel.saturating_mul(CONFIGURE_FUEL));
        let guard = pre.instantiate(&mut store).map_err(|error| failed("start-up", &error))?;
        Ok(Self { store, guard, fuel: limits.fuel })
    }

    pub(super) fn describe(&mut self, limits: Limits) -> Result<RawDescription, LoadError> {
        refill(&mut self.store, limits.fuel.saturating_mul(CONFIGURE_FUEL));
        self.guard.call_describe(&mut self.store).map_err(|error| failed("describe", &error))
    }

    fn configure(&mut self, config: &str) -> Result<(), LoadError> {
        refill(&mut self.store, self.fuel.saturating_mul(CONFIGURE_FUEL));
        self.guard
            .call_configure(&mut self.store, config)
            .map_err(|error| failed("configure", &error))?
            .map_err(|text| LoadError::Config(text.chars().take(256).collect()))
    }

    /// One decision. After an error the instance must be dropped: its memory may be half written.
    pub fn admit(&mut self, node: Node, queue: &Queue, job: &Job) -> Result<Verdict, Fault> {
        refill(&mut self.store, self.fuel);
        self.guard.call_admit(&mut self.store, node, queue, job).map_err(|error| Fault::of(&error))
    }

    /// Fuel that the last decision took. After a fault it says nothing.
    pub fn fuel_used(&self) -> u64 {
        self.fuel.saturating_sub(self.store.get_fuel().unwrap_or(0))
    }

    /// One call of a tick, with the fuel of a decision for each queue.
    pub fn tick(&mut self, node: Node, queues: &[Queue]) -> Result<Vec<Action>, Fault> {
        refill(&mut self.store, self.fuel.saturating_mul(1 + queues.len() as u64));
        self.guard.call_tick(&mut self.store, node, queues).map_err(|error| Fault::of(&error))
    }
}

fn refill(store: &mut Store<Held>, fuel: u64) {
    // Fuel is on in the engine's settings, the only thing this can fail for.
    let _ = store.set_fuel(fuel);
}

fn failed(call: &'static str, error: &wasmtime::Error) -> LoadError {
    LoadError::Call { call, fault: Fault::of(error) }
}
