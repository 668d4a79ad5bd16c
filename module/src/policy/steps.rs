//! The steps of writing and removing a policy's files. A build for the tests may end the process at any of them.

/// A point between two changes of the disk, or of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// The component is compiled, and the change has not begun.
    Compiled,
    ComponentOpened,
    ComponentWritten,
    ComponentSynced,
    ComponentRenamed,
    ComponentSafe,
    SettingsOpened,
    SettingsWritten,
    SettingsSynced,
    SettingsRenamed,
    SettingsSafe,
    SettingsRemoved,
    RemovalSafe,
    OldRemoved,
    /// In force in memory, and the client not yet answered.
    InForce,
}

#[cfg(not(feature = "fault-injection"))]
pub const fn reached(_step: Step) {}

#[cfg(feature = "fault-injection")]
pub use armed::{ALL, arm, reached};

#[cfg(feature = "fault-injection")]
mod armed {
    use std::sync::Mutex;

    use super::Step;

    pub const ALL: [Step; 15] = [
        Step::Compiled,
        Step::ComponentOpened,
        Step::ComponentWritten,
        Step::ComponentSynced,
        Step::ComponentRenamed,
        Step::ComponentSafe,
        Step::SettingsOpened,
        Step::SettingsWritten,
        Step::SettingsSynced,
        Step::SettingsRenamed,
        Step::SettingsSafe,
        Step::SettingsRemoved,
        Step::RemovalSafe,
        Step::OldRemoved,
        Step::InForce,
    ];

    type Act = Box<dyn Fn() + Send>;

    static ARMED: Mutex<Option<(Step, Act)>> = Mutex::new(None);

    /// Does this when the step is reached next.
    pub fn arm(step: Step, act: Act) {
        *ARMED.lock().expect("nothing panics under this lock") = Some((step, act));
    }

    pub fn reached(step: Step) {
        let due = {
            let mut armed = ARMED.lock().expect("nothing panics under this lock");
            if armed.as_ref().is_some_and(|(at, _)| *at == step) { armed.take() } else { None }
        };
        if let Some((_, act)) = due {
            act();
        }
    }
}
