//! The steps of writing and removing a policy's files. A build for the tests may end the process at any of them.

/// A point between two changes of the disk, or of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
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

    pub const ALL: [Step; 14] = [
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

    static ARMED: Mutex<Option<(Step, fn())>> = Mutex::new(None);

    /// Runs `end` when the step is reached next.
    pub fn arm(step: Step, end: fn()) {
        *ARMED.lock().expect("nothing panics under this lock") = Some((step, end));
    }

    pub fn reached(step: Step) {
        let armed = *ARMED.lock().expect("nothing panics under this lock");
        if let Some((at, end)) = armed
            && at == step
        {
            end();
        }
    }
}
