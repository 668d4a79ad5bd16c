//! Transcripts: commands and the replies they must get, as `tests/server.txt` of a policy has them.
//!
//! - `> COMMAND`: sent as it is, in redis-cli's quoting; the word `{wasm}` becomes the component.
//! - the line below: the reply, as a pattern with `*` and `?`. Without one the command must not be an error.
//! - `~ PATTERN` instead: the command is repeated until the pattern matches, for ten seconds at most.
//! - empty lines and lines with `#` first count for nothing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use wildmatch::WildMatch;

use crate::node::{Node, Reply};

const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// The word that stands for the component.
const WASM: &str = "{wasm}";

#[derive(Debug, PartialEq, Eq)]
enum Expect {
    Success,
    Now(String),
    InTime(String),
}

#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    words: Vec<String>,
    expect: Expect,
}

/// Plays it and returns the number of steps; the error of the first that fails names its line.
pub fn play(text: &str, node: &mut Node, wasm: &[u8]) -> Result<usize> {
    let steps = read(text)?;
    for step in &steps {
        step.play(node, wasm).with_context(|| format!("line {}: > {}", step.line, step.words.join(" ")))?;
    }
    Ok(steps.len())
}

fn read(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::<Step>::new();
    for (at, line) in text.lines().enumerate() {
        let (number, line) = (at + 1, line.trim());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(command) = line.strip_prefix("> ") {
            let words = shlex::split(command).with_context(|| format!("line {number}: a quote is not closed"))?;
            steps.push(Step { line: number, words, expect: Expect::Success });
            continue;
        }
        let expect = match line.strip_prefix("~ ") {
            Some(pattern) => Expect::InTime(pattern.to_owned()),
            None => Expect::Now(line.to_owned()),
        };
        match steps.last_mut() {
            Some(step) if step.expect == Expect::Success => step.expect = expect,
            _ => bail!("line {number}: a reply without a command"),
        }
    }
    if steps.is_empty() {
        bail!("no command in it");
    }
    Ok(steps)
}

impl Step {
    fn play(&self, node: &mut Node, wasm: &[u8]) -> Result<()> {
        let words: Vec<&[u8]> =
            self.words.iter().map(|word| if word == WASM { wasm } else { word.as_bytes() }).collect();
        let until = Instant::now() + PATIENCE;
        loop {
            let reply = node.send(&words)?;
            let line = reply.line();
            match &self.expect {
                Expect::Success if matches!(reply, Reply::Error(_)) => bail!("the server said: {line}"),
                Expect::Success => return Ok(()),
                Expect::Now(pattern) | Expect::InTime(pattern) if WildMatch::new(pattern).matches(&line) => {
                    return Ok(());
                }
                Expect::InTime(_) if Instant::now() < until => thread::sleep(PAUSE),
                Expect::Now(pattern) | Expect::InTime(pattern) => {
                    bail!("expected: {pattern}\nthe server said: {line}")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_replies_are_told_apart() {
        let steps = read("# note\n\n> SET a 'b c'\nOK\n> GET a\n> GET a\n~ b *\n").unwrap();
        let step = |line, words: &[&str], expect| Step {
            line,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            expect,
        };
        assert_eq!(
            steps,
            [
                step(3, &["SET", "a", "b c"], Expect::Now("OK".into())),
                step(5, &["GET", "a"], Expect::Success),
                step(6, &["GET", "a"], Expect::InTime("b *".into())),
            ]
        );
    }

    #[test]
    fn what_cannot_be_played_is_named_by_its_line() {
        for (text, error) in [
            ("OK", "line 1: a reply without a command"),
            ("> PING\nPONG\nPONG", "line 3: a reply without a command"),
            ("> SET a 'b", "line 1: a quote is not closed"),
            ("# nothing", "no command in it"),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), error, "{text}");
        }
    }

    #[test]
    fn the_transcript_of_a_new_policy_is_one() {
        assert!(read(include_str!("../template/server.txt")).unwrap().len() >= 7);
    }
}
