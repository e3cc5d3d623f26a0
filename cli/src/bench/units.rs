//! Numbers for people.

/// Nanoseconds, with a unit that keeps three digits.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", digits(ns)),
        ns if ns < 999_500.0 => format!("{} µs", digits(ns / 1e3)),
        ns => format!("{} ms", digits(ns / 1e6)),
    }
}

/// Messages a second.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 999.5 => format!("{} /s", digits(rate)),
        rate if rate < 999_500.0 => format!("{} k/s", digits(rate / 1e3)),
        rate => format!("{} M/s", digits(rate / 1e6)),
    }
}

/// Bytes a second.
pub fn bandwidth(bytes_per_second: f64) -> String {
    match bytes_per_second {
        bytes if bytes < 999.5e3 => format!("{} kB/s", digits(bytes / 1e3)),
        bytes if bytes < 999.5e6 => format!("{} MB/s", digits(bytes / 1e6)),
        bytes => format!("{} GB/s", digits(bytes / 1e9)),
    }
}

/// Bytes of a message.
pub fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes % (1 << 20) == 0 => format!("{} MiB", bytes >> 20),
        bytes if bytes >= 10 << 10 && bytes % 1024 == 0 => format!("{} KiB", bytes >> 10),
        bytes => format!("{bytes} B"),
    }
}

fn digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value if value < 1e9 => format!("{value:.0}"),
        value => format!("{value:.2e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(time(54.04), "54.0 ns");
        assert_eq!(time(999.9), "1.00 µs");
        assert_eq!(time(3_450_000.0), "3.45 ms");
        assert_eq!(rate(130_200_000.0), "130 M/s");
        assert_eq!(rate(950.0), "950 /s");
        assert_eq!(bandwidth(45.6e9), "45.6 GB/s");
        assert_eq!(bandwidth(12.3e6), "12.3 MB/s");
        assert_eq!(bandwidth(98.7e3), "98.7 kB/s");
        assert_eq!(
            (size(8), size(4096), size(65536), size(1 << 20)),
            ("8 B".into(), "4096 B".into(), "64 KiB".into(), "1 MiB".into())
        );
    }
}
