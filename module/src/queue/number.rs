//! Numbers as BullMQ's scripts print them.
//!
//! Lua has one number type. cjson prints it with `%.14g`, `redis.call` with `%.17g` (Redis 7.0) or the shortest
//! digits that read back the same (Redis 7.2 and later). Only numbers that are not whole show the difference.

/// How this server's `redis.call` prints a number that is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `%.17g`: Redis 7.0 and Valkey 7.2.
    Digits17,
    /// The shortest text that reads back the same: Redis 7.2 and later.
    Shortest,
}

/// A number as an argument of `redis.call`.
pub fn call_argument(value: f64, style: Style) -> String {
    if let Some(whole) = whole(value) {
        return whole;
    }
    match style {
        Style::Digits17 => general(value, 17),
        Style::Shortest => shortest(value),
    }
}

/// A number in the JSON that cjson writes: `%.14g`.
pub fn json(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e14 && !(value == 0.0 && value.is_sign_negative()) {
        return (value as i64).to_string();
    }
    general(value, 14)
}

/// Plain digits for a whole number below 1e17, which both styles print alike.
fn whole(value: f64) -> Option<String> {
    let negative_zero = value == 0.0 && value.is_sign_negative();
    (value.fract() == 0.0 && value.abs() < 1e17 && !negative_zero).then(|| (value as i64).to_string())
}

/// C's `%.{precision}g`.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{:.*e}", precision - 1, value);
    let (mantissa, exponent) = split(&scientific);
    if exponent < -4 || exponent >= precision as i32 {
        let mantissa = strip_zeros(mantissa);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent) as usize;
    strip_zeros(&format!("{value:.decimals$}")).to_string()
}

/// The shortest text, laid out as Redis' `fpconv_dtoa` does.
fn shortest(value: f64) -> String {
    if value == 0.0 {
        return if value.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = split(&scientific);
    if (-7..21).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{}", exponent.abs())
}

fn split(scientific: &str) -> (&str, i32) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    (mantissa, exponent.parse().unwrap_or(0))
}

fn strip_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_plain_digits_in_both_styles() {
        for style in [Style::Digits17, Style::Shortest] {
            assert_eq!(call_argument(1_795_000_000_000.0, style), "1795000000000");
            assert_eq!(call_argument(0.0, style), "0");
            assert_eq!(call_argument(-5.0, style), "-5");
        }
    }

    #[test]
    fn fractions_follow_the_server() {
        assert_eq!(call_argument(0.1, Style::Digits17), "0.10000000000000001");
        assert_eq!(call_argument(0.1, Style::Shortest), "0.1");
        assert_eq!(call_argument(1.0 / 3.0, Style::Digits17), "0.33333333333333331");
        assert_eq!(call_argument(1e21, Style::Digits17), "1e+21");
        assert_eq!(call_argument(1e21, Style::Shortest), "1e+21");
    }

    #[test]
    fn json_numbers_round_to_fourteen_digits() {
        assert_eq!(json(123_456_789_012_345.0), "1.2345678901234e+14");
        assert_eq!(json(1e14), "1e+14");
        assert_eq!(json(0.5), "0.5");
        assert_eq!(json(-3.0), "-3");
        assert_eq!(json(1e-7), "1e-07");
        assert_eq!(json(99_999_999_999_999.0), "99999999999999");
    }
}
