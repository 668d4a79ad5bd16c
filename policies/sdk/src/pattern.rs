//! Patterns for names of queues: `*` is any text, also none, and `?` is one character. Everything else stands for
//! itself, brackets and braces included, so `bull:{mail}` matches that queue and nothing else. Case counts.
//!
//! A crate for this walks characters; a policy pays for each step with the fuel of a decision, so this one walks
//! bytes and looks for the byte after a `*` directly. It allocates nothing when it matches.

/// A pattern.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    /// Bytes that a name needs at least.
    least: usize,
}

impl Pattern {
    #[must_use]
    pub fn new(text: &str) -> Self {
        let least = text.bytes().filter(|byte| *byte != b'*').count();
        Self { text: text.to_owned(), least }
    }

    /// Whether it matches the whole name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let mut steps = u32::MAX;
        self.matches_within(name, &mut steps)
    }

    /// The same for a decision, whose fuel is bounded while names are as long and as odd as a producer likes: each
    /// step is taken from `steps`, and with none left nothing matches. A step costs about 100 units of fuel; an
    /// ordinary name takes about ten, one that repeats what the pattern looks for many more.
    #[must_use]
    pub fn matches_within(&self, name: &str, steps: &mut u32) -> bool {
        let (pattern, name) = (self.text.as_bytes(), name.as_bytes());
        if name.len() < self.least {
            return false;
        }
        let (mut p, mut n) = (0, 0);
        // Where the pattern goes on after its last `*`, and where in the name that was tried last.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            let Some(left) = steps.checked_sub(1) else { return false };
            *steps = left;
            match pattern.get(p) {
                Some(b'*') => {
                    p += 1;
                    let Some(next) = pattern.get(p) else { return true };
                    let Some(at) = find(name, n, *next, steps) else { return false };
                    star = Some((p, at));
                    n = at;
                }
                Some(b'?') if starts_character(name[n]) => {
                    p += 1;
                    n += 1;
                    while n < name.len() && !starts_character(name[n]) {
                        n += 1;
                    }
                }
                Some(byte) if *byte == name[n] && *byte != b'?' => {
                    p += 1;
                    n += 1;
                }
                _ => {
                    // Only the last `*` has to give way: a longer text for an earlier one finds nothing new.
                    let Some((after, tried)) = star else { return false };
                    let Some(at) = find(name, tried + 1, pattern[after], steps) else { return false };
                    star = Some((after, at));
                    p = after;
                    n = at;
                }
            }
        }
        pattern[p..].iter().all(|byte| *byte == b'*')
    }
}

/// The first place from `from` on where a pattern that goes on with this byte could match. Eight bytes are a step;
/// where the steps do not reach, the search ends.
fn find(name: &[u8], from: usize, next: u8, steps: &mut u32) -> Option<usize> {
    if matches!(next, b'*' | b'?') {
        return Some(from);
    }
    let end = name.len().min(from.saturating_add((*steps as usize).saturating_mul(8)));
    let found = name[from..end].iter().position(|byte| *byte == next);
    let walked = found.unwrap_or(end - from);
    *steps = steps.saturating_sub(u32::try_from(walked / 8).unwrap_or(u32::MAX));
    found.map(|offset| from + offset)
}

/// Whether a character of UTF-8 text starts with this byte.
fn starts_character(byte: u8) -> bool {
    byte & 0xC0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(pattern).matches(name)
    }

    /// The rule as one would write it down, far too slow for long names.
    fn plainly(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) if plainly(rest, name) => true,
            (Some(('*', _)), Some((_, rest))) => plainly(pattern, rest),
            (Some(('?', pattern)), Some((_, name))) => plainly(pattern, name),
            (Some((sign, pattern)), Some((found, name))) => sign == found && plainly(pattern, name),
            _ => false,
        }
    }

    #[test]
    fn star_is_any_text_and_question_mark_one_character() {
        assert!(matches("*", "") && matches("*", "bull:mail") && matches("**", "x"));
        assert!(matches("*critical*", "bull:{tasks:critical}") && !matches("*critical*", "bull:critica"));
        assert!(matches("bull:?", "bull:é") && !matches("bull:?", "bull:") && !matches("bull:?", "bull:ab"));
        assert!(matches("*?", "é") && !matches("*??", "é"));
        assert!(matches("", "") && !matches("", "x"));
    }

    #[test]
    fn nothing_else_is_special() {
        assert!(matches("bull:{mail}", "bull:{mail}") && !matches("{a,b}", "a"));
        assert!(matches("[ab]", "[ab]") && !matches("[ab]", "a"));
        assert!(!matches("Mail", "mail") && !matches("a\\*", "a*"));
    }

    #[test]
    fn a_match_ends_with_its_steps() {
        let pattern = Pattern::new("*aaaaaaaaaab");
        let name = format!("{}b", "a".repeat(500));
        assert!(pattern.matches(&name));
        let mut steps = 100;
        assert!(!pattern.matches_within(&name, &mut steps));
        assert_eq!(steps, 0);

        let mut steps = 100;
        assert!(Pattern::new("*mail*").matches_within("bull:{tasks:mail}", &mut steps));
        assert!(steps >= 90, "{steps}");

        let mut steps = 100;
        assert!(!Pattern::new("*x").matches_within(&"y".repeat(100_000), &mut steps));
        assert_eq!(steps, 0);
    }

    #[test]
    fn every_short_pattern_agrees_with_the_rule() {
        let texts = |signs: &[char], most: usize| {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..most {
                let until = all.len();
                for index in from..until {
                    for sign in signs {
                        let longer = format!("{}{sign}", all[index]);
                        all.push(longer);
                    }
                }
                from = until;
            }
            all
        };
        let names = texts(&['a', 'b', 'é'], 5);
        for pattern in texts(&['a', 'é', '*', '?'], 5) {
            let signs: Vec<char> = pattern.chars().collect();
            let made = Pattern::new(&pattern);
            for name in &names {
                let characters: Vec<char> = name.chars().collect();
                assert_eq!(made.matches(name), plainly(&signs, &characters), "{pattern:?} and {name:?}");
            }
        }
    }
}
