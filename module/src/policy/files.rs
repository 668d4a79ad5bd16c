//! The folder of policies: what outlives the server.
//!
//! A policy is `<name>.json`, its settings and which component it is, and the component itself, written as
//! `<name>.<16 hex digits of its digest>.wasm`. The JSON file is what counts: it is renamed into its place when the
//! component that it names is on the disk, and a component that no JSON file names is nobody's. So at any moment the folder
//! holds wholly the old policy or wholly the new one. Any `wasm` name of the same folder may stand in a JSON file, so files
//! may be put there by hand. Blocks on the disk: only for background threads, but for [`Folder::read`] at load.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::settings::{Mode, OnError, Settings, is_name};
use super::steps::{Step, reached};
use crate::text::quoted;

/// Longest JSON file that is read, bytes.
const MAX_JSON: u64 = 256 * 1024;
/// Most policies that are read.
pub const MAX_POLICIES: usize = 64;
/// Longest reason, and longest name of a file, in an error: characters.
const MAX_REASON: usize = 300;
/// Digits of the digest in a component's name.
const DIGITS: usize = 16;

/// What is wrong with a file: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("{file} {action}: {reason}")]
    System { file: String, action: &'static str, reason: String },
    #[error("{file} is broken: {reason}")]
    Broken { file: String, reason: String },
}

impl FileError {
    fn system(file: &str, action: &'static str, error: &std::io::Error) -> Self {
        Self::System { file: quoted(file, MAX_REASON), action, reason: error.to_string() }
    }

    /// The reason may quote the file, and the file may name another: both may be anything.
    fn broken(file: &str, reason: &str) -> Self {
        Self::Broken { file: quoted(file, MAX_REASON), reason: quoted(reason, MAX_REASON) }
    }
}

/// A policy as its JSON file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Name of the component's file, in the same folder.
    pub wasm: String,
    /// Hex SHA-256 that the component must have, where the file says it.
    pub digest: Option<String>,
    pub settings: Settings,
}

/// The JSON file. A field that is not known is an error: it may be the wish of a newer version, or a typing error.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk<'a> {
    wasm: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    onerror: OnError,
    #[serde(default = "all_queues")]
    queues: String,
    #[serde(default = "usual_order")]
    order: i64,
    #[serde(borrow, default)]
    config: Option<&'a RawValue>,
}

fn all_queues() -> String {
    Settings::default().queues
}

fn usual_order() -> i64 {
    Settings::default().order
}

/// A JSON file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub record: Result<Record, FileError>,
}

/// The folder; it is made when the first policy is written.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All policies by name, the first [`MAX_POLICIES`]. A folder that does not exist has none.
    pub fn read(&self) -> Result<Vec<Found>, FileError> {
        let mut names: Vec<String> = self
            .names()?
            .into_iter()
            .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
            .filter(|name| is_name(name.as_bytes()))
            .collect();
        names.sort_unstable();
        names.truncate(MAX_POLICIES);
        Ok(names
            .into_iter()
            .map(|name| {
                let record = self.record(&json_name(&name));
                Found { name, record }
            })
            .collect())
    }

    fn names(&self) -> Result<Vec<String>, FileError> {
        let shown = self.path.display().to_string();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(FileError::system(&shown, "cannot be listed", &error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| FileError::system(&shown, "cannot be listed", &error))?;
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn record(&self, file: &str) -> Result<Record, FileError> {
        let bytes = self.bytes(file, MAX_JSON)?;
        let broken = |reason: String| FileError::broken(file, &reason);
        let on_disk: OnDisk<'_> = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
        let fine = !on_disk.wasm.contains('/') && !on_disk.wasm.starts_with('.') && on_disk.wasm.ends_with(".wasm");
        if !fine {
            return Err(broken("wasm must be the name of a .wasm file in the same folder".into()));
        }
        let settings = Settings {
            mode: on_disk.mode,
            on_error: on_disk.onerror,
            queues: on_disk.queues,
            order: on_disk.order,
            config: on_disk.config.map_or_else(|| Settings::default().config, |config| config.get().to_owned()),
        };
        settings.check().map_err(broken)?;
        Ok(Record { wasm: on_disk.wasm, digest: on_disk.digest, settings })
    }

    /// The component that a record names; at most `max` bytes.
    pub fn component(&self, record: &Record, max: usize) -> Result<Vec<u8>, FileError> {
        self.bytes(&record.wasm, max as u64)
    }

    fn bytes(&self, file: &str, max: u64) -> Result<Vec<u8>, FileError> {
        let path = self.path.join(file);
        let unreadable = |error: &std::io::Error| FileError::system(file, "cannot be read", error);
        let about = fs::metadata(&path).map_err(|error| unreadable(&error))?;
        let broken = |reason: String| FileError::broken(file, &reason);
        // A pipe would never end, and would block the server's start.
        if !about.is_file() {
            return Err(broken("it is not a file".into()));
        }
        if about.len() > max {
            return Err(broken(format!("it has {} bytes, at most {max} are allowed", about.len())));
        }
        fs::read(&path).map_err(|error| unreadable(&error))
    }

    /// Puts a policy in the place of the one of its name. After an error the old one is there, whole.
    pub fn put(&self, name: &str, settings: &Settings, digest: &str, component: &[u8]) -> Result<Record, FileError> {
        self.make()?;
        let old = self.record(&json_name(name)).ok();
        let wasm = component_name(name, digest);
        let replaced = old.map(|old| old.wasm).filter(|old| *old != wasm && is_ours(name, old));
        self.write(&wasm, component, [Step::ComponentOpened, Step::ComponentWritten, Step::ComponentSynced])?;
        reached(Step::ComponentRenamed);
        self.sync()?;
        reached(Step::ComponentSafe);
        let record = self.settle(name, &wasm, digest, settings)?;
        if let Some(old) = replaced {
            // What stays behind by mischance is tidied up at the next start.
            let _ = fs::remove_file(self.path.join(old));
        }
        reached(Step::OldRemoved);
        Ok(record)
    }

    /// Gives a policy that is there other settings. After an error it has the old ones.
    pub fn settle(&self, name: &str, wasm: &str, digest: &str, settings: &Settings) -> Result<Record, FileError> {
        let config = RawValue::from_string(settings.config.clone())
            .map_err(|error| FileError::broken(&json_name(name), &error.to_string()))?;
        let on_disk = OnDisk {
            wasm: wasm.to_owned(),
            digest: Some(digest.to_owned()),
            mode: settings.mode,
            onerror: settings.on_error,
            queues: settings.queues.clone(),
            order: settings.order,
            config: Some(&config),
        };
        let mut text = serde_json::to_vec_pretty(&on_disk)
            .map_err(|error| FileError::broken(&json_name(name), &error.to_string()))?;
        text.push(b'\n');
        self.write(&json_name(name), &text, [Step::SettingsOpened, Step::SettingsWritten, Step::SettingsSynced])?;
        reached(Step::SettingsRenamed);
        // The rename has taken place: from here on the new policy is the one that a start would find.
        let _ = self.sync();
        reached(Step::SettingsSafe);
        Ok(Record { wasm: wasm.to_owned(), digest: Some(digest.to_owned()), settings: settings.clone() })
    }

    /// Takes a policy out, broken or not. After an error it is still there.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        let json = json_name(name);
        let wasm = self.record(&json).ok().map(|record| record.wasm).filter(|wasm| is_ours(name, wasm));
        match fs::remove_file(self.path.join(&json)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(FileError::system(&json, "cannot be removed", &error));
            }
            _ => {}
        }
        reached(Step::SettingsRemoved);
        let _ = self.sync();
        reached(Step::RemovalSafe);
        if let Some(wasm) = wasm {
            let _ = fs::remove_file(self.path.join(wasm));
        }
        reached(Step::OldRemoved);
        Ok(())
    }

    /// Removes what a kill left behind: temporary files, and components of ours that no JSON file names.
    pub fn tidy(&self) -> Result<(), FileError> {
        let found = self.read()?;
        for file in self.names()? {
            let owner = file.strip_suffix(".wasm").and_then(|stem| Some(stem.rsplit_once('.')?.0));
            let orphan = owner.is_some_and(|owner| {
                is_ours(owner, &file)
                    && match found.iter().find(|found| found.name == owner) {
                        None => !self.path.join(json_name(owner)).exists(),
                        Some(Found { record: Ok(record), .. }) => record.wasm != file,
                        // Which component a broken file means is not known.
                        Some(Found { record: Err(_), .. }) => false,
                    }
            });
            if orphan || is_temporary(&file) {
                fs::remove_file(self.path.join(&file))
                    .map_err(|error| FileError::system(&file, "cannot be removed", &error))?;
            }
        }
        Ok(())
    }

    fn make(&self) -> Result<(), FileError> {
        let shown = self.path.display().to_string();
        fs::create_dir_all(&self.path).map_err(|error| FileError::system(&shown, "cannot be made", &error))
    }

    /// Writes a file beside its place and renames it into it.
    fn write(&self, file: &str, bytes: &[u8], steps: [Step; 3]) -> Result<(), FileError> {
        let temporary = self.path.join(format!(".{file}.tmp"));
        let unwritten = |error: &std::io::Error| FileError::system(file, "cannot be written", error);
        let write = || {
            let mut open = File::create(&temporary)?;
            reached(steps[0]);
            open.write_all(bytes)?;
            reached(steps[1]);
            open.sync_all()?;
            reached(steps[2]);
            fs::rename(&temporary, self.path.join(file))
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            unwritten(&error)
        })
    }

    fn sync(&self) -> Result<(), FileError> {
        let shown = self.path.display().to_string();
        let sync = || File::open(&self.path)?.sync_all();
        sync().map_err(|error: std::io::Error| FileError::system(&shown, "cannot be synced", &error))
    }
}

fn json_name(name: &str) -> String {
    format!("{name}.json")
}

fn component_name(name: &str, digest: &str) -> String {
    format!("{name}.{}.wasm", &digest[..DIGITS.min(digest.len())])
}

/// A component's name as [`component_name`] makes it, and not one that somebody chose.
fn is_ours(name: &str, file: &str) -> bool {
    file.strip_prefix(name)
        .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".wasm"))
        .is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_temporary(file: &str) -> bool {
    let path = Path::new(file);
    file.starts_with('.')
        && path.extension() == Some(OsStr::new("tmp"))
        && path.file_stem().is_some_and(|stem| {
            let stem = Path::new(stem);
            stem.extension() == Some(OsStr::new("json")) || stem.extension() == Some(OsStr::new("wasm"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    const OTHER: &str = "ff112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    /// A folder that goes with the test.
    struct Scratch(Folder);

    impl Scratch {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bull-files-{}-{test}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(Folder::new(path))
        }

        fn files(&self) -> Vec<String> {
            let mut names = self.0.names().unwrap();
            names.sort_unstable();
            names
        }

        fn put(&self, file: &str, text: &str) {
            self.0.make().unwrap();
            fs::write(self.0.path.join(file), text).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0.path);
        }
    }

    fn settings() -> Settings {
        Settings {
            mode: Mode::Observe,
            on_error: OnError::Reject,
            queues: "bull:*".into(),
            order: -7,
            // Digits that a float would lose, and spaces.
            config: r#"{"n": 12345678901234567890.10}"#.into(),
        }
    }

    #[test]
    fn what_was_put_is_read_byte_for_byte_and_replaced_without_a_trace() {
        let scratch = Scratch::new("put");
        assert_eq!(scratch.0.read(), Ok(vec![]));
        let record = scratch.0.put("a.b", &settings(), DIGEST, b"one").unwrap();
        let found = scratch.0.read().unwrap();
        assert_eq!(found, vec![Found { name: "a.b".into(), record: Ok(record.clone()) }]);
        assert_eq!(record.settings, settings());
        assert_eq!(scratch.0.component(&record, 3), Ok(b"one".to_vec()));
        assert!(scratch.0.component(&record, 2).unwrap_err().to_string().contains("at most 2"));

        scratch.0.put("a.b", &settings(), OTHER, b"two").unwrap();
        assert_eq!(scratch.files(), ["a.b.ff11223344556677.wasm", "a.b.json"]);
        let other = Settings { order: 3, ..settings() };
        scratch.0.settle("a.b", "a.b.ff11223344556677.wasm", OTHER, &other).unwrap();
        assert_eq!(scratch.0.read().unwrap()[0].record.as_ref().unwrap().settings, other);
        scratch.0.remove("a.b").unwrap();
        assert_eq!(scratch.files(), [""; 0]);
    }

    #[test]
    fn broken_files_are_told_apart() {
        let scratch = Scratch::new("broken");
        for (file, text, word) in [
            ("a.json", "", "EOF"),
            ("b.json", r#"{"wasm":"../b.wasm"}"#, "same folder"),
            ("c.json", r#"{"wasm":"c.wasm","mode":"maybe"}"#, "maybe"),
            ("d.json", r#"{"wasm":"d.wasm","colour":1}"#, "colour"),
            ("e.json", r#"{"wasm":"e.wasm","config":[1]}"#, "JSON object"),
            ("f.json", r#"{"wasm":"f.wasm","order":99999999}"#, "order"),
        ] {
            scratch.put(file, text);
            let found = scratch.0.read().unwrap();
            let text = found.last().unwrap().record.as_ref().unwrap_err().to_string();
            assert!(text.starts_with(file) && text.contains(word), "{text}");
        }
        fs::create_dir(scratch.0.path.join("g.json")).unwrap();
        assert!(scratch.0.read().unwrap()[6].record.as_ref().unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn what_an_error_quotes_stays_one_short_line() {
        let scratch = Scratch::new("quotes");
        let long = "x".repeat(100_000);
        for text in
            [r#"{"wasm\n\u001b[2J":1}"#.to_owned(), format!(r#"{{"{long}":1}}"#), format!(r#"{{"mode":"{long}"}}"#)]
        {
            scratch.put("a.json", &text);
            let text = scratch.0.read().unwrap()[0].record.as_ref().unwrap_err().to_string();
            assert!(text.len() < 400 && !text.contains(char::is_control), "{text}");
        }
        scratch.put("a.json", r#"{"wasm":"b\nc.wasm"}"#);
        let record = scratch.0.read().unwrap().remove(0).record.unwrap();
        let text = scratch.0.component(&record, 100).unwrap_err().to_string();
        assert!(text.starts_with(r"b\nc.wasm cannot be read"), "{text}");
    }

    #[test]
    fn a_file_written_by_hand_needs_only_the_name_of_its_component() {
        let scratch = Scratch::new("hand");
        scratch.put("guard.json", r#"{"wasm":"my-guard.wasm"}"#);
        let record = scratch.0.read().unwrap().remove(0).record.unwrap();
        assert_eq!(record, Record { wasm: "my-guard.wasm".into(), digest: None, settings: Settings::default() });
    }

    #[test]
    fn only_what_a_kill_leaves_is_tidied_up() {
        let scratch = Scratch::new("tidy");
        scratch.0.put("a", &settings(), DIGEST, b"one").unwrap();
        let kept = ["my.wasm", "README", ".hidden", "b.json", "b.0011223344556677.wasm", "c.xyz.wasm"];
        let left =
            [".a.json.tmp", ".a.0011223344556677.wasm.tmp", "a.ff11223344556677.wasm", "c.0011223344556677.wasm"];
        kept.iter().chain(&left).for_each(|file| scratch.put(file, "{"));
        scratch.0.tidy().unwrap();
        let mut expected: Vec<_> = kept.to_vec();
        expected.extend(["a.json", "a.0011223344556677.wasm"]);
        expected.sort_unstable();
        assert_eq!(scratch.files(), expected);
    }

    #[test]
    fn a_folder_that_cannot_be_written_changes_nothing() {
        let scratch = Scratch::new("refused");
        fs::write(&scratch.0.path, "a file").unwrap();
        let text = scratch.0.put("a", &settings(), DIGEST, b"one").unwrap_err().to_string();
        assert!(text.contains("cannot be made"), "{text}");
        assert_eq!(fs::read_to_string(&scratch.0.path).unwrap(), "a file");
        fs::remove_file(&scratch.0.path).unwrap();
    }
}
