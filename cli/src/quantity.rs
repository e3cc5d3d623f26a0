//! Numbers as they are given on the command line.

use std::time::Duration;

/// Bytes: a number, with K, M or G behind it for powers of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err("the unit of bytes is K, M or G".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "it must be a number of bytes, such as 65536 or 64K")?;
    number.checked_mul(1 << shift).ok_or_else(|| "this is more than there can be".into())
}

/// Bytes of a chunk: at least one.
pub fn chunk(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        0 => Err("a chunk has at least one byte".into()),
        size => usize::try_from(size).map_err(|error| error.to_string()),
    }
}

/// Seconds, also fractions.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 5 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The time between two messages, from how many there are a second: `100` or `100/s`.
pub fn interval(text: &str) -> Result<Duration, String> {
    let rate: f64 =
        text.trim_end_matches("/s").parse().map_err(|_| "it must be messages a second, such as 100/s")?;
    let days = 86_400.0 * 365.0;
    match rate.recip() {
        interval if rate.is_finite() && (0.0..days).contains(&interval) => Ok(Duration::from_secs_f64(interval)),
        _ => Err("it must be a number from one message a year up, without an end: leave --rate out to send as fast \
                  as there is room"
            .into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_a_binary_unit() {
        assert_eq!((bytes("0"), bytes("4096")), (Ok(0), Ok(4096)));
        assert_eq!((bytes("64K"), bytes("3m"), bytes("2G")), (Ok(64 << 10), Ok(3 << 20), Ok(2 << 30)));
        for wrong in ["", "K", "-1", "1.5M", "1T", "1KB", "18446744073709551615K", "64 K", "1µ"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(chunk("0").is_err() && chunk("1") == Ok(1));
    }

    #[test]
    fn times_are_positive_and_finite() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(
            (interval("4/s"), interval("0.5")),
            (Ok(Duration::from_millis(250)), Ok(Duration::from_secs(2)))
        );
        for wrong in ["", "-1", "nan", "inf", "1s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-3", "nan", "inf", "1e-30", "1/m"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
