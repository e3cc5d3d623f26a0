//! Numbers as they are given on the command line.

use std::time::Duration;

pub use ringpost::limits::parse_bytes as bytes;

/// Bytes of a chunk: at least one.
pub fn chunk(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        0 => Err("a chunk has at least one byte".into()),
        size => usize::try_from(size).map_err(|error| error.to_string()),
    }
}

/// A whole number within bounds.
pub fn whole<T: TryFrom<u64>>(least: u64, most: u64) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("it must be a whole number from {least} to {most}"))
    }
}

/// Seconds, also fractions.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds, such as 5 or 0.5")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        "it must be a number of seconds from 0 up, and with an end: leave it out to wait for ever".into()
    })
}

/// The time between two messages, from how many there are a second: `100` or `100/s`.
pub fn interval(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate: f64 = number.parse().map_err(|_| "it must be messages a second, such as 100/s")?;
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
    fn a_chunk_has_at_least_one_byte() {
        assert!(chunk("0").is_err() && chunk("1") == Ok(1) && chunk("64K") == Ok(64 << 10));
    }

    #[test]
    fn whole_numbers_have_bounds_and_say_them() {
        let senders = whole::<u8>(1, 255);
        assert_eq!((senders("1"), senders("255")), (Ok(1), Ok(255)));
        for wrong in ["", "0", "256", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(senders(wrong), Err("it must be a whole number from 1 to 255".into()), "{wrong}");
        }
        let any = whole::<u64>(0, u64::MAX);
        assert_eq!(any("18446744073709551615"), Ok(u64::MAX));
        let beyond = any("18446744073709551616").unwrap_err();
        assert_eq!(beyond, "it must be a whole number from 0 to 18446744073709551615");
    }

    #[test]
    fn times_are_positive_and_finite() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(
            (interval("4/s"), interval("0.5")),
            (Ok(Duration::from_millis(250)), Ok(Duration::from_secs(2)))
        );
        for wrong in ["", "-1", "nan", "inf", "1e30", "1s"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "0", "-3", "nan", "inf", "1e400", "1e-30", "1/m", "1/s/s"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
