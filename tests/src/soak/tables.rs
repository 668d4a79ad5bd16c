//! The tables of docs/trust.md and the README, from the lines that runs left. Touches no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

/// Seeds that a row of the table names.
const SEEDS: usize = 4;
/// Characters of a failure that are shown.
const FAILURE: usize = 240;
/// Scenarios whose "faults" are told by themselves.
const CALLS: &str = "random calls";
/// The one whose slope the summary tells.
const MEMORY: &str = "add and trim";
const CUTS: &str = "AOF cut at each byte of its tail";

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

impl Sum {
    fn take(&mut self, run: &Value) {
        self.runs += 1;
        self.failed += u64::from(run["failed"].is_string());
        for (at, name) in SUMMED.iter().enumerate() {
            self.sums[at] += run[*name].as_u64().unwrap_or(0);
        }
        self.seconds += run["seconds"].as_u64().unwrap_or(0);
        self.seeds.extend(run["seed"].as_u64());
        if let Some(note) = run["note"].as_str().filter(|note| !note.is_empty()) {
            self.note = note.to_owned();
        }
        self.slope = run["slope"].as_i64().or(self.slope);
    }
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
    let mut failures = Vec::new();
    for line in lines.lines() {
        let run: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        dates.insert(text("date"));
        machines.insert(text("machine"));
        commits.insert(text("commit"));
        if !run["probe"].is_null() {
            probes.insert(text("engine"), run["probe"].clone());
        }
        sums.entry((text("scenario"), text("engine"))).or_default().take(&run);
        if let Some(failed) = run["failed"].as_str() {
            failures.push(failure(&run, failed));
        }
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
    if !failures.is_empty() {
        out += &format!("\nRuns that failed, and are not in the sums but as failed:\n\n{}", failures.concat());
    }
    Ok(out)
}

/// A run that failed, in a line.
fn failure(run: &Value, text: &str) -> String {
    let name = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(FAILURE).collect();
    let dots = if short.len() < text.len() { " …" } else { "" };
    format!("- {}, {}, {}: {short}{dots}\n", name("date"), name("commit"), name("engine"))
}

/// Of each engine what was done to it and found, and the probe; then what was called and executed in all.
///
/// # Errors
/// A line that is no JSON.
pub fn summary(lines: &str) -> Result<String, String> {
    let mut engines: BTreeMap<String, Sum> = BTreeMap::new();
    let mut probes: BTreeMap<String, Value> = BTreeMap::new();
    let (mut calls, mut fuzz, mut cuts) = (0, 0, 0);
    let (mut slopes, mut dates, mut machines) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
    for line in lines.lines() {
        let mut run: Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        let text = |name: &str| run[name].as_str().unwrap_or_default().to_owned();
        let (engine, scenario) = (text("engine"), text("scenario"));
        dates.insert(text("date"));
        machines.insert(text("machine"));
        fuzz += run["executions"].as_u64().unwrap_or(0);
        if engine == "host" {
            continue;
        }
        if let Some(slope) = run["slope"].as_i64().filter(|_| scenario == MEMORY) {
            slopes.insert(engine.clone(), slope);
        }
        if !run["probe"].is_null() {
            probes.insert(engine.clone(), run["probe"].clone());
        }
        // Calls are no faults.
        if scenario == CALLS {
            calls += run["faults"].take().as_u64().unwrap_or(0);
        } else if scenario == CUTS {
            cuts += run["faults"].as_u64().unwrap_or(0);
        }
        engines.entry(engine).or_default().take(&run);
    }
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(", ");
    let mut out =
        "| engine | runs | of these failed | faults | acknowledged jobs | lost | doubled | diverged or torn | crashes \
        | probe at rest: p99, p99.9, max, ms | under load |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for (engine, sum) in &engines {
        let [faults, acked, lost, doubled, diverged, crashes, _] = sum.sums.map(grouped);
        let [rest, load] = [0, 1].map(|at| probes.get(engine).map_or(String::new(), |probe| in_short(&probe[at])));
        let (runs, failed) = (sum.runs, sum.failed);
        let _ = writeln!(
            out,
            "| {engine} | {runs} | {failed} | {faults} | {acked} | {lost} | {doubled} | {diverged} | {crashes} | {rest} | {load} |"
        );
    }
    let slopes: Vec<String> = slopes.iter().map(|(engine, slope)| format!("{slope} ({engine})")).collect();
    let _ = write!(
        out,
        "\n{} random calls, {} executions of fuzzers, {} AOFs cut; a round of 5,000 jobs added and trimmed \
         leaves {} bytes more than on a stock server with the same keys. {}; {}.\n",
        grouped(calls),
        grouped(fuzz),
        grouped(cuts),
        slopes.join(", "),
        list(&dates),
        list(&machines)
    );
    Ok(out)
}

fn in_short(probe: &Value) -> String {
    ["p99", "p999", "max"].map(|name| milliseconds(&probe[name])).join(", ")
}

fn milliseconds(micros: &Value) -> String {
    format!("{:.2}", micros.as_f64().unwrap_or(f64::NAN) / 1000.0)
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
            let ms = |name: &str| milliseconds(&what[name]);
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
    fn the_summary_tells_engines_apart_and_calls_from_faults() {
        let probe = r#"{"engine":"e","scenario":"probe of 1 kHz","probe":[{"p99":100,"p999":1000,"max":2500},{"p99":200,"p999":3000,"max":9999}]}"#;
        let calls = r#"{"engine":"f","scenario":"random calls","faults":1000000}"#;
        let text = summary(&format!("{RUNS}{probe}\n{calls}\n")).expect("lines of JSON");
        assert!(
            text.contains("| e | 4 | 1 | 1,234 | 11 | 0 | 0 | 0 | 1 | 0.10, 1.00, 2.50 | 0.20, 3.00, 10.00 |"),
            "{text}"
        );
        assert!(text.contains("| f | 1 | 0 | 0 | 0 |"), "{text}");
        assert!(text.contains("1,000,000 random calls, 1,234,567 executions"), "{text}");
        assert!(tables(RUNS).expect("lines of JSON").contains("- 2026-11-25, b, e: the server crashed\n"));
    }
}
