//! What the runs of `scripts/soak` and `scripts/fuzz` leave behind, a line of JSON each, and where the tables go that are made
//! of them: docs/trust.md and the README. Nothing in those is written by hand: `tests/tests/trust.rs` compares.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Row;
use super::tables::{summary, tables};
use crate::{engine, workspace};

/// The tables stand between these lines.
pub const MARKS: [&str; 2] = ["<!-- figures: scripts/soak report -->", "<!-- end of figures -->"];

/// Where runs leave their lines.
pub fn results() -> PathBuf {
    workspace().join("target/soak/results.jsonl")
}

/// The lines that the tables are made of, kept with the source.
pub fn kept() -> PathBuf {
    workspace().join("docs/trust.jsonl")
}

/// The document with the tables.
pub fn document() -> PathBuf {
    workspace().join("docs/trust.md")
}

/// The document with the summary.
pub fn readme() -> PathBuf {
    workspace().join("README.md")
}

/// Adds the line of a run that ended well, or of one that found something, to [`results`].
///
/// # Panics
/// Where the file cannot be written.
pub fn record(scenario: &str, outcome: &Result<Row, String>) {
    let mut line = json!({
        "date": date(),
        "machine": machine(),
        "commit": commit(),
        "engine": engine::chosen(),
        "scenario": scenario,
    });
    let fields = match outcome {
        Ok(row) => json!({
            "scenario": row.scenario,
            "seed": row.seed,
            "faults": row.faults,
            "acked": row.acked,
            "lost": row.lost,
            "doubled": row.doubled,
            "diverged": row.diverged,
            "crashes": 0,
            "slope": row.slope,
            "probe": row.probe,
            "seconds": row.took.as_secs(),
            "note": row.note,
        }),
        Err(text) => json!({ "failed": text, "crashes": u64::from(text.contains("crashed")) }),
    };
    let (Value::Object(line), Value::Object(fields)) = (&mut line, fields) else { unreachable!("two objects") };
    line.extend(fields);
    let path = results();
    fs::create_dir_all(path.parent().expect("a folder")).expect("target can be written");
    let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).expect("target can be written");
    writeln!(file, "{}", Value::Object(line.clone())).expect("target can be written");
}

/// Takes the runs' lines over into [`kept`] and writes the tables and the summary. Says how many lines came.
///
/// # Errors
/// A file that cannot be read or written, or a line that is no JSON.
pub fn write() -> Result<usize, String> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
    let old = text(&kept()).unwrap_or_default();
    let new = text(&results())?;
    let there: BTreeSet<&str> = old.lines().collect();
    let came: Vec<&str> = new.lines().filter(|line| !line.is_empty() && !there.contains(line)).collect();
    let all = old.lines().chain(came.iter().copied()).map(|line| format!("{line}\n")).collect::<String>();
    let document_text = put(&text(&document())?, &tables(&all)?)?;
    let readme_text = put(&text(&readme())?, &summary(&all)?)?;
    let save = |path: &Path, text: &str| fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    save(&kept(), &all)?;
    save(&document(), &document_text)?;
    save(&readme(), &readme_text)?;
    Ok(came.len())
}

/// A document with these tables in their place.
///
/// # Errors
/// Where it has no place for them.
pub fn put(document: &str, tables: &str) -> Result<String, String> {
    let missing = || format!("the document has no lines {MARKS:?}");
    let (before, rest) = document.split_once(MARKS[0]).ok_or_else(missing)?;
    let (_, after) = rest.split_once(MARKS[1]).ok_or_else(missing)?;
    Ok(format!("{before}{}\n\n{tables}\n{}{after}", MARKS[0], MARKS[1]))
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(workspace()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// What was run: `BULL_COMMIT` where `BULL_MODULE` is an older build than the tree.
fn commit() -> String {
    let given = std::env::var("BULL_COMMIT").ok().filter(|commit| !commit.is_empty());
    given.unwrap_or_else(head)
}

fn head() -> String {
    said("git", &["rev-parse", "--short", "HEAD"])
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value =
        |name: &str| release.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_matches('"').to_owned()));
    let system = value("NAME=").unwrap_or_default().replace(" GNU/Linux", "");
    format!("{cores} vCPUs, {system} {}", value("VERSION_ID=").unwrap_or_default())
}

/// The day, by the civil calendar.
fn date() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() / 86_400);
    // Howard Hinnant's days_from_civil, the other way round.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_go_where_the_marks_are() {
        let text = format!("above\n{}\nold\n{}\nbelow\n", MARKS[0], MARKS[1]);
        let new = put(&text, "new\n").expect("marks");
        assert!(
            new.starts_with("above\n") && new.ends_with("\nbelow\n") && new.contains("new") && !new.contains("old")
        );
        assert_eq!(put(&new, "new\n").expect("marks"), new);
        assert!(put("nothing", "new").is_err());
    }

    #[test]
    fn days_have_their_dates() {
        let today = said("date", &["-u", "+%Y-%m-%d"]);
        assert_eq!(date(), today);
    }
}
