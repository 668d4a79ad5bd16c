//! What the runs of `scripts/soak` and `scripts/fuzz` leave behind, a line of JSON each, and the tables of docs/trust.md
//! that are written from them. Nothing in those tables is written by hand: `tests/tests/docs.rs` compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Row;
use crate::{engine, workspace};

/// The tables stand between these lines of docs/trust.md.
const MARKS: [&str; 2] = ["<!-- figures: scripts/soak report -->", "<!-- end of figures -->"];
/// Seeds that a row of the table names.
const SEEDS: usize = 4;

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

/// Takes the runs' lines over into [`kept`] and writes the tables. Says how many lines came.
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
    let save = |path: &Path, text: &str| fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()));
    save(&kept(), &all)?;
    save(&document(), &document_text)?;
    Ok(came.len())
}

/// A document with these tables in their place.
///
/// # Errors
/// Where it has no place for them.
pub fn put(document: &str, tables: &str) -> Result<String, String> {
    let missing = || format!("docs/trust.md has no lines {MARKS:?}");
    let (before, rest) = document.split_once(MARKS[0]).ok_or_else(missing)?;
    let (_, after) = rest.split_once(MARKS[1]).ok_or_else(missing)?;
    Ok(format!("{before}{}\n\n{tables}\n{}{after}", MARKS[0], MARKS[1]))
}

/// All runs of one scenario on one engine.
#[derive(Default)]
struct Sum {
    runs: u64,
    failed: u64,
    sums: [u64; 7],
    seeds: Vec<u64>,
    note: String,
    slope: Option<i64>,
    seconds: u64,
}

/// What is summed up, in the order of the table's columns.
const SUMMED: [&str; 7] = ["faults", "acked", "lost", "doubled", "diverged", "crashes", "executions"];

/// The tables, from lines of JSON.
///
/// # Errors
/// A line that is no JSON.
pub fn tables(lines: &str) -> Result<String, String> {
    let mut sums: BTreeMap<(String, String), Sum> = BTreeMap::new();
    let mut probes: BTreeMap<String, Value> = BTreeMap::new();
    let (mut dates, mut machines, mut commits) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in lines.lines() {
        let run: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        dates.insert(text("date"));
        machines.insert(text("machine"));
        commits.insert(text("commit"));
        if !run["probe"].is_null() {
            probes.insert(text("engine"), run["probe"].clone());
        }
        let sum = sums.entry((text("scenario"), text("engine"))).or_default();
        sum.runs += 1;
        sum.failed += u64::from(run["failed"].is_string());
        for (at, name) in SUMMED.iter().enumerate() {
            sum.sums[at] += run[*name].as_u64().unwrap_or(0);
        }
        sum.seconds += run["seconds"].as_u64().unwrap_or(0);
        sum.seeds.extend(run["seed"].as_u64());
        if !text("note").is_empty() {
            sum.note = text("note");
        }
        sum.slope = run["slope"].as_i64().or(sum.slope);
    }
    let between = match (dates.first(), dates.last()) {
        (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
        (first, _) => first.cloned().unwrap_or_default(),
    };
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut out = format!("{}; {between}; commits {}.\n", list(&machines), list(&commits));
    out += "\n| scenario | engine | runs | of these failed | faults or calls | acknowledged jobs | lost | doubled \
            | diverged or torn | crashes | slope, bytes | seconds | seeds | latest |\n\
            |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for ((scenario, engine), sum) in sums.iter().filter(|(_, sum)| sum.sums[6] == 0) {
        let [faults, acked, lost, doubled, diverged, crashes, _] = sum.sums.map(grouped);
        let slope = sum.slope.map_or(String::new(), |slope| slope.to_string());
        let _ = writeln!(
            out,
            "| {scenario} | {engine} | {} | {} | {faults} | {acked} | {lost} | {doubled} | {diverged} | {crashes} | {slope} | {} | {} | {} |",
            sum.runs,
            sum.failed,
            sum.seconds,
            seeds(&sum.seeds),
            sum.note
        );
    }
    out += &probe_table(&probes);
    out += "\n| fuzzer | runs | of these failed | executions | seconds | seeds |\n|---|---|---|---|---|---|\n";
    for ((scenario, _), sum) in sums.iter().filter(|(_, sum)| sum.sums[6] > 0) {
        let (runs, executions) = (sum.runs, grouped(sum.sums[6]));
        let _ = writeln!(
            out,
            "| {scenario} | {runs} | {} | {executions} | {} | {} |",
            sum.failed,
            sum.seconds,
            seeds(&sum.seeds)
        );
    }
    Ok(out)
}

fn probe_table(probes: &BTreeMap<String, Value>) -> String {
    if probes.is_empty() {
        return String::new();
    }
    let mut out = "\nA PING a millisecond beside it, milliseconds:\n\n\
        | engine | | samples | p50 | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|\n"
        .to_owned();
    for (engine, probe) in probes {
        for what in probe.as_array().into_iter().flatten() {
            let ms = |name: &str| format!("{:.2}", what[name].as_f64().unwrap_or(f64::NAN) / 1000.0);
            let _ = writeln!(
                out,
                "| {engine} | {} | {} | {} | {} | {} | {} |",
                what["what"].as_str().unwrap_or_default(),
                what["samples"],
                ms("p50"),
                ms("p99"),
                ms("p999"),
                ms("max")
            );
        }
    }
    out
}

fn seeds(seeds: &[u64]) -> String {
    let named: Vec<String> = seeds.iter().take(SEEDS).map(u64::to_string).collect();
    let rest = seeds.len().saturating_sub(SEEDS);
    named.join(", ") + &(if rest > 0 { format!(" and {rest} more") } else { String::new() })
}

/// 65536 as 65,536.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(workspace()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn commit() -> String {
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

    const RUNS: &str = r#"{"date":"2026-11-24","machine":"m","commit":"a","engine":"e","scenario":"kills","seed":1,"faults":1000,"acked":5,"seconds":2,"note":"old"}
{"date":"2026-11-25","machine":"m","commit":"b","engine":"e","scenario":"kills","seed":2,"faults":234,"acked":6,"seconds":3,"note":"new"}
{"date":"2026-11-25","machine":"m","commit":"b","engine":"e","scenario":"kills","failed":"the server crashed","crashes":1}
{"date":"2026-11-25","machine":"m","commit":"b","engine":"host","scenario":"options","seed":3,"executions":1234567,"seconds":20}
"#;

    #[test]
    fn runs_are_summed_up_and_failures_are_not_hidden() {
        let text = tables(RUNS).expect("lines of JSON");
        assert!(text.contains("| kills | e | 3 | 1 | 1,234 | 11 | 0 | 0 | 0 | 1 |  | 5 | 1, 2 | new |"), "{text}");
        assert!(text.contains("| options | 1 | 0 | 1,234,567 | 20 | 3 |"), "{text}");
        assert!(text.contains("2026-11-24 to 2026-11-25; commits a, b"), "{text}");
        assert!(tables("no JSON").is_err());
    }

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
