//! The trait a policy implements, and the macro that exports it.

use std::cell::RefCell;

use crate::{Action, Description, Job, Node, Queue, Terms, Verdict};

impl Terms {
    /// Nothing matters: all jobs of the queue are admitted. A policy adds what it looks at:
    /// `Terms { backlog_below: Some(100), ..Terms::NONE }`.
    pub const NONE: Self =
        Self { backlog_below: None, job_bytes: None, queue_bytes: None, used_memory_below: None, until_ms: None };
}

/// A policy: one value is one configuration in force, with what the policy remembers under it.
///
/// A panic is a trap. The server contains it, answers with the policy's ONERROR and starts a new instance, so what
/// the policy remembered is gone.
pub trait Policy: Sized + 'static {
    /// What the policy says of itself. Called before any configuration exists.
    fn describe() -> Description;

    /// A policy with this configuration: a JSON text, `{}` where none was given. An error is one line for people; the
    /// policy that ran before stays in force then.
    fn configure(config: &str) -> Result<Self, String>;

    /// What becomes of the job. Called for each job on the server's main thread, so it should be cheap. Cheapest is not to
    /// be called: [`Verdict::AdmitWhile`] says when all further jobs of the queue may enter unasked.
    fn admit(&mut self, node: &Node, queue: &Queue, job: &Job) -> Verdict;

    /// Called at a fixed pace with the queues that the policy covers. Does nothing unless a policy says otherwise.
    fn tick(&mut self, _node: &Node, _queues: &[Queue]) -> Vec<Action> {
        Vec::new()
    }
}

/// Where an exported policy lives between calls. For [`export_policy!`](crate::export_policy) only.
#[doc(hidden)]
pub struct Slot<P>(RefCell<Option<P>>);

impl<P: Policy> Slot<P> {
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn configure(&self, config: &str) -> Result<(), String> {
        let policy = P::configure(config)?;
        self.0.replace(Some(policy));
        Ok(())
    }

    pub fn admit(&self, node: &Node, queue: &Queue, job: &Job) -> Verdict {
        self.run(|policy| policy.admit(node, queue, job))
    }

    pub fn tick(&self, node: &Node, queues: &[Queue]) -> Vec<Action> {
        self.run(|policy| policy.tick(node, queues))
    }

    fn run<T>(&self, call: impl FnOnce(&mut P) -> T) -> T {
        // The world promises a successful configure before any other call. A host that breaks it gets a trap, which
        // it answers with ONERROR; admitting everything instead would hide the fault.
        call(self.0.borrow_mut().as_mut().expect("the host calls configure first"))
    }
}

impl<P: Policy> Default for Slot<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// Exports a [`Policy`] as the world `guard`. Once in a crate, at its root; the crate is a `cdylib`.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        const _: () = {
            // A guest has one thread, so this is a plain static without a lock.
            ::std::thread_local! {
                static SLOT: $crate::Slot<$policy> = const { $crate::Slot::new() };
            }

            struct Exported;

            impl $crate::bindings::Guest for Exported {
                fn describe() -> $crate::Description {
                    <$policy as $crate::Policy>::describe()
                }

                fn configure(config: ::std::string::String) -> ::core::result::Result<(), ::std::string::String> {
                    SLOT.with(|slot| slot.configure(&config))
                }

                fn admit(node: $crate::Node, queue: $crate::Queue, job: $crate::Job) -> $crate::Verdict {
                    SLOT.with(|slot| slot.admit(&node, &queue, &job))
                }

                fn tick(node: $crate::Node, queues: ::std::vec::Vec<$crate::Queue>) -> ::std::vec::Vec<$crate::Action> {
                    SLOT.with(|slot| slot.tick(&node, &queues))
                }
            }

    $crate::bindings::export!(Exported with_types_in $crate::bindings);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(String);

    impl Policy for Echo {
        fn describe() -> Description {
            Description {
                name: String::new(),
                version: String::new(),
                summary: String::new(),
                config_schema: String::new(),
            }
        }

        fn configure(config: &str) -> Result<Self, String> {
            if config == "bad" { Err("bad config".into()) } else { Ok(Self(config.into())) }
        }

        fn admit(&mut self, _: &Node, _: &Queue, _: &Job) -> Verdict {
            Verdict::Reject(self.0.clone())
        }
    }

    fn reason(slot: &Slot<Echo>) -> String {
        match slot.run(|policy| Verdict::Reject(policy.0.clone())) {
            Verdict::Reject(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_configuration_replaces_the_old_one() {
        let slot = Slot::<Echo>::new();
        assert_eq!(slot.configure("one"), Ok(()));
        assert_eq!(slot.configure("two"), Ok(()));
        assert_eq!(reason(&slot), "two");
    }

    #[test]
    fn a_refused_configuration_leaves_the_old_one_in_force() {
        let slot = Slot::<Echo>::new();
        assert_eq!(slot.configure("one"), Ok(()));
        assert_eq!(slot.configure("bad"), Err("bad config".into()));
        assert_eq!(reason(&slot), "one");
    }

    #[test]
    #[should_panic(expected = "the host calls configure first")]
    fn a_call_before_configure_is_a_trap() {
        reason(&Slot::new());
    }
}
