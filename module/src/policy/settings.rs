//! How a policy is used: what LOAD, CONFIG and MODE set, and what its file keeps.

use serde::{Deserialize, Serialize};

/// Whether a verdict binds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Enforce,
    /// Verdicts are counted as what would have happened.
    Observe,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// The verdict where a policy gives none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    #[default]
    Admit,
    Reject,
}

impl OnError {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Reject => "reject",
        }
    }
}

/// ORDER is from -MAX_ORDER to MAX_ORDER.
pub const MAX_ORDER: i64 = 1_000_000;
/// Longest configuration, bytes.
pub const MAX_CONFIG: usize = 64 * 1024;
/// Longest pattern, bytes.
pub const MAX_PATTERN: usize = 512;

/// How a policy is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub mode: Mode,
    pub on_error: OnError,
    /// Pattern on qualified names; `*` and `?`.
    pub queues: String,
    /// Lower runs first; equals run by name.
    pub order: i64,
    /// JSON text of an object.
    pub config: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            on_error: OnError::default(),
            queues: "*".into(),
            order: 100,
            config: "{}".into(),
        }
    }
}

impl Settings {
    /// What is out of its range, one line.
    pub fn check(&self) -> Result<(), String> {
        check_config(&self.config)?;
        check_pattern(&self.queues)?;
        if !(-MAX_ORDER..=MAX_ORDER).contains(&self.order) {
            return Err(format!("the order must be from -{MAX_ORDER} to {MAX_ORDER}, not {}", self.order));
        }
        Ok(())
    }
}

/// A configuration is the text of a JSON object.
pub fn check_config(text: &str) -> Result<(), String> {
    if text.len() > MAX_CONFIG {
        return Err(format!("the configuration has {} bytes, at most {MAX_CONFIG} are allowed", text.len()));
    }
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
        .map(drop)
        .map_err(|error| format!("the configuration must be a JSON object: {error}"))
}

pub fn check_pattern(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MAX_PATTERN {
        return Err(format!("the pattern on queues must have 1 to {MAX_PATTERN} bytes, not {}", text.len()));
    }
    Ok(())
}

/// Names of policies are names of files, too: 1 to 64 of `a-z 0-9 - _ .`, not starting with a dot.
pub fn is_name(name: &[u8]) -> bool {
    (1..=64).contains(&name.len())
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(byte))
        && !name.starts_with(b".")
}

/// What a LOAD says; what it does not say stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub mode: Option<Mode>,
    pub on_error: Option<OnError>,
    pub queues: Option<String>,
    pub order: Option<i64>,
    pub config: Option<String>,
}

impl Wanted {
    /// These settings over those that are there.
    pub fn over(self, settings: Settings) -> Settings {
        Settings {
            mode: self.mode.unwrap_or(settings.mode),
            on_error: self.on_error.unwrap_or(settings.on_error),
            queues: self.queues.unwrap_or(settings.queues),
            order: self.order.unwrap_or(settings.order),
            config: self.config.unwrap_or(settings.config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_as_names_of_files() {
        for (name, fine) in [
            (&b"a"[..], true),
            (b"backlog-guard_2.1", true),
            (b"", false),
            (b".hidden", false),
            (b"../up", false),
            (b"Upper", false),
            (b"nul\0", false),
            (&[b'a'; 65], false),
        ] {
            assert_eq!(is_name(name), fine, "{}", name.escape_ascii());
        }
    }

    #[test]
    fn what_is_not_said_stays() {
        let there = Settings { order: 7, config: "{\"a\":1}".into(), mode: Mode::Observe, ..Settings::default() };
        let wanted = Wanted { order: Some(9), ..Wanted::default() };
        assert_eq!(wanted.over(there.clone()), Settings { order: 9, ..there });
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (settings, word) in [
            (Settings { config: "[]".into(), ..Settings::default() }, "JSON object"),
            (Settings { config: format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CONFIG)), ..Settings::default() }, "65536"),
            (Settings { queues: String::new(), ..Settings::default() }, "pattern"),
            (Settings { order: MAX_ORDER + 1, ..Settings::default() }, "order"),
        ] {
            let text = settings.check().unwrap_err();
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(Settings::default().check(), Ok(()));
    }
}
