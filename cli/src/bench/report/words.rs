//! A row in words.

use super::super::row::{Row, Strategy, Sweep};
use super::super::units;

/// The median latency, or the messages a second where there is none.
pub fn figure(row: &Row) -> Option<f64> {
    row.p50_ns.or(row.messages_per_s)
}

/// How its figure is written.
pub fn unit(row: &Row) -> fn(f64) -> String {
    if row.p50_ns.is_some() { units::time } else { units::rate }
}

/// A cell in words.
pub fn cell(row: &Row) -> String {
    let mut words = vec![row.mechanism.to_string(), row.measure.to_string()];
    words.extend(row.variant.map(|variant| variant.to_string()));
    words.extend(row.wait.map(|wait| wait.to_string()));
    words.push(units::size(row.size));
    words.extend(row.class.map(|class| class.to_string()));
    words.extend(row.sweep.map(|sweep| match sweep {
        Sweep::Capacity => {
            format!("by ring size: {}", units::size(row.capacity.unwrap_or_default() as usize))
        }
        Sweep::Batch => format!("by batch: {}", several(row.batch.unwrap_or_default(), "message")),
        Sweep::FanIn => format!("by senders: {}", row.senders.unwrap_or_default()),
        Sweep::Waiting => format!("by waiting: {}", row.strategy.map(strategy).unwrap_or_default()),
    }));
    words.join(", ")
}

/// How a ring waits.
pub fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Spin => "spin",
        Strategy::SpinThenSleep => "spin, then sleep",
        Strategy::Sleep => "sleep",
    }
}

/// So many of them.
pub fn several(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How often something happened.
pub fn count(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2} M", value / 1e6),
        value if value >= 999.5 => format!("{:.1} k", value / 1e3),
        0.0 => "0".into(),
        value => format!("{value:.1}"),
    }
}

/// Seconds, with a unit.
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 9.9995 => format!("{value:.3} s"),
        value if value < 99.95 => format!("{value:.1} s"),
        value => format!("{value:.0} s"),
    }
}

/// With a minus where it is less than nothing.
pub fn signed(ns: f64) -> String {
    if ns < 0.0 { format!("−{}", units::time(-ns)) } else { units::time(ns) }
}
