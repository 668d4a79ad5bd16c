//! What a queue is called in labels: its prefix and its name as users write them. Only for display: keys are never made
//! from these.

/// Prefix and name of a queue. `bull:{tasks:critical}` is `tasks:critical` of `bull`, `{bull}:emails` is `emails` of
/// `{bull}`, `my:app:emails` is `emails` of `my:app`: the colon that divides is the last one outside of braces.
///
/// `taken` says of a qualified name whether another queue has it: of `bull:{emails}` and `bull:emails` only the second
/// is `emails`.
pub fn split(qualified: &str, taken: impl Fn(&str) -> bool) -> (String, String) {
    let mut depth = 0_u32;
    let mut divide = None;
    for (at, byte) in qualified.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            b':' if depth == 0 => divide = Some(at),
            _ => {}
        }
    }
    let Some(divide) = divide.or_else(|| qualified.find(':')) else { return (String::new(), qualified.to_owned()) };
    let (prefix, name) = (&qualified[..divide], &qualified[divide + 1..]);
    let bare = name.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    let bare =
        bare.filter(|bare| !bare.is_empty() && !bare.contains(['{', '}']) && !taken(&format!("{prefix}:{bare}")));
    (prefix.to_owned(), bare.unwrap_or(name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_called_as_users_call_them() {
        for (qualified, prefix, name) in [
            ("bull:emails", "bull", "emails"),
            ("bull:{tasks:critical}", "bull", "tasks:critical"),
            ("bull:{tasks-critical}", "bull", "tasks-critical"),
            ("{bull}:emails", "{bull}", "emails"),
            ("bull:{h1}:emails", "bull:{h1}", "emails"),
            ("my:app:emails", "my:app", "emails"),
            (":q", "", "q"),
            // Nothing is outside of braces, or braces do not close.
            ("{a:b}", "{a", "b}"),
            ("bull:{}", "bull", "{}"),
            ("bull:{a}{b}", "bull", "{a}{b}"),
            ("bull:{a", "bull", "{a"),
            ("bull:}a{", "bull", "}a{"),
        ] {
            assert_eq!(split(qualified, |_| false), (prefix.to_owned(), name.to_owned()), "{qualified}");
        }
    }

    #[test]
    fn no_two_queues_share_their_labels() {
        let taken = |name: &str| name == "bull:emails";
        assert_eq!(split("bull:{emails}", taken).1, "{emails}");
        assert_eq!(split("bull:emails", |_| true).1, "emails");
    }
}
