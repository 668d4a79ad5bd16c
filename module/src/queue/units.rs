//! Durations and sizes as people write them, in commands, profiles and files.

/// Longest duration, milliseconds: what JavaScript and Lua hold exactly.
const MAX_DURATION: u64 = 9_007_199_254_740_991;

/// Milliseconds: a whole number, alone or with `ms s m h d` behind it.
pub fn duration(text: &[u8]) -> Option<u64> {
    scaled(text, |unit| match unit {
        "" | "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        "d" => Some(86_400_000),
        _ => None,
    })
    .filter(|&ms| ms <= MAX_DURATION)
}

/// Bytes: a whole number, alone or with a unit behind it as redis.conf has them: `k` is 1000, `kb` 1024.
pub fn size(text: &[u8]) -> Option<u64> {
    scaled(text, |unit| match unit {
        "" | "b" => Some(1),
        "k" => Some(1000),
        "kb" => Some(1 << 10),
        "m" => Some(1_000_000),
        "mb" => Some(1 << 20),
        "g" => Some(1_000_000_000),
        "gb" => Some(1 << 30),
        _ => None,
    })
    .filter(|&bytes| i64::try_from(bytes).is_ok())
}

fn scaled(text: &[u8], factor: impl FnOnce(&str) -> Option<u64>) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let factor = factor(&text[digits..].to_ascii_lowercase())?;
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(duration(b"1500"), Some(1500));
        assert_eq!(duration(b"90S"), Some(90_000));
        assert_eq!(duration(b"7d"), Some(604_800_000));
        for wrong in
            [&b""[..], b"-1", b"1w", b"d", b"1.5s", b"99999999999999999999", b"999999999999999d", b"+5", b"\xff"]
        {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_are_those_of_redis_conf() {
        assert_eq!(
            (size(b"10"), size(b"1k"), size(b"1KB"), size(b"2gb")),
            (Some(10), Some(1000), Some(1024), Some(2 << 30))
        );
        for wrong in [&b""[..], b"1tb5", b"-1", b"mb", b"1.5mb", b"99999999999gb"] {
            assert_eq!(size(wrong), None, "{wrong:?}");
        }
    }
}
