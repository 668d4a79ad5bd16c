//! The commands of an AOF's last file, as the server wrote them: where they end, and what became of one job.

use crate::printable;

/// Lines that a job's history has at most.
const HISTORY: usize = 24;
/// Bytes of a word that a history shows.
const SHOWN: usize = 60;

/// A command and where it ends.
#[derive(Clone, Debug)]
pub struct Command<'a> {
    pub words: Vec<&'a [u8]>,
    pub end: usize,
}

impl Command<'_> {
    pub fn is(&self, name: &str) -> bool {
        self.words[0].eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The commands of a file, up to one that is cut off.
///
/// # Panics
/// Where this is no AOF of commands.
pub fn commands(whole: &[u8]) -> impl Iterator<Item = Command<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        // Annotations of the server.
        while whole.get(at) == Some(&b'#') {
            at += whole[at..].iter().position(|byte| *byte == b'\n')? + 1;
        }
        let count = number(whole, b'*', &mut at)?;
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let length = number(whole, b'$', &mut at)?;
            words.push(whole.get(at..at + length)?);
            at += length + 2;
        }
        (at <= whole.len()).then_some(Command { words, end: at })
    })
}

fn number(whole: &[u8], kind: u8, at: &mut usize) -> Option<usize> {
    let rest = whole.get(*at..)?;
    let line = &rest[..rest.windows(2).position(|two| two == b"\r\n")?];
    assert_eq!(line.first(), Some(&kind), "not an AOF at byte {at}");
    *at += line.len() + 2;
    Some(std::str::from_utf8(&line[1..]).ok().and_then(|text| text.parse().ok()).expect("a number of an AOF"))
}

/// Where commands end that are outside of a MULTI, and where MULTIs end; the beginning too.
pub fn good_ends(whole: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    let mut multi = false;
    for command in commands(whole) {
        multi = (multi || command.is("MULTI")) && !command.is("EXEC");
        if !multi {
            ends.push(command.end);
        }
    }
    ends
}

/// The last commands that name a job of a queue, one a line, with their place.
pub fn history(whole: &[u8], queue: &str, id: &str) -> String {
    let (key, base) = (format!("{queue}:{id}").into_bytes(), format!("{queue}:").into_bytes());
    let names = |command: &Command<'_>| {
        let word =
            |word: &&[u8]| *word == key || word.strip_prefix(&key[..]).is_some_and(|part| part.starts_with(b":"));
        command.words.iter().any(word)
            || command.words.contains(&id.as_bytes()) && command.words.iter().any(|word| word.starts_with(&base))
    };
    let text = |command: Command<'_>| {
        let words = command.words.iter().map(|word| printable(&word[..word.len().min(SHOWN)]));
        format!("  {:>9}  {}\n", command.end, words.collect::<Vec<_>>().join(" "))
    };
    let lines: Vec<String> = commands(whole).filter(names).map(text).collect();
    lines[lines.len().saturating_sub(HISTORY)..].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::encode;

    #[test]
    fn a_multi_ends_where_its_exec_does() {
        let set: Vec<u8> = encode(&["SET", "a", "1"]);
        let whole = [set.clone(), encode(&["MULTI"]), set.clone(), encode(&["EXEC"]), set.clone()].concat();
        let ends = good_ends(&whole);
        assert_eq!(ends, [0, set.len(), whole.len() - set.len(), whole.len()]);
        assert_eq!(commands(&whole[..whole.len() - 1]).count(), 4);
    }

    #[test]
    fn a_job_s_history_is_what_names_it() {
        let words: [&[&str]; 5] = [
            &["HSET", "q:1", "name", "j"],
            &["HSET", "q:12", "name", "1"],
            &["LPUSH", "q:wait", "1"],
            &["SET", "other", "1"],
            &["DEL", "q:1:logs"],
        ];
        let whole: Vec<u8> = words.iter().flat_map(|words| encode(words)).collect();
        let text = history(&whole, "q", "1");
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(!text.contains("other"), "{text}");
    }
}
