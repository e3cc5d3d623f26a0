//! A row in words.

use super::super::row::Row;
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
    words.extend(row.capacity.map(|bytes| format!("ring of {}", units::size(bytes as usize))));
    words.extend(row.batch.map(|batch| format!("batch of {batch}")));
    words.extend(row.senders.map(|senders| format!("{senders} sender(s)")));
    words.extend(row.strategy.map(|strategy| format!("{strategy:?}")));
    words.join(", ")
}
