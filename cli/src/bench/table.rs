//! The result for people: limits first, then one table a question, fastest first within a size.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};

use super::glance;
use super::row::Row;
use super::shape::{Measure, Wait};
use super::units;

/// A title, and which rows belong under it.
pub type Section = (&'static str, fn(&Row) -> bool);

/// All tables, and below them what was not measured and why.
pub fn render(rows: &[Row]) -> String {
    let mut text = String::new();
    let sections: [Section; 6] = [
        ("Limits: what the hardware and the kernel allow", |row| row.measure == Measure::Limit),
        ("Latency, both sides spinning", |row| row.is(Measure::Latency, Wait::Spin)),
        ("Latency, both sides sleeping, two cores", |row| {
            row.is(Measure::Latency, Wait::Sleep) && !row.on_one_core()
        }),
        ("Latency, both sides sleeping, one core (anchor: raw futex)", |row| {
            row.is(Measure::Latency, Wait::Sleep) && row.on_one_core()
        }),
        ("Throughput, both sides spinning", |row| row.is(Measure::Throughput, Wait::Spin)),
        ("Throughput, both sides sleeping", |row| row.is(Measure::Throughput, Wait::Sleep)),
    ];
    for (title, belongs) in sections {
        let mut chosen: Vec<&Row> = rows.iter().filter(|row| row.error.is_none() && belongs(row)).collect();
        if chosen.is_empty() {
            continue;
        }
        if chosen[0].measure != Measure::Limit {
            chosen.sort_by(|a, b| a.size.cmp(&b.size).then(cost(a).total_cmp(&cost(b))));
        }
        let table = if chosen[0].measure == Measure::Throughput { rates(&chosen) } else { times(&chosen) };
        text.push_str(&format!("\n{title}\n{table}\n"));
    }
    text.push_str(&not_measured(rows));
    text.push_str(&glance::render(rows));
    if rows.iter().any(|row| row.error.is_none()) {
        text.push_str(LEGEND);
    }
    text
}

const LEGEND: &str = "
p50, p99, p99.9: half of the round trip. anchor: one way of a ping-pong between the same two processes around each
sample (a cache line; on one core a futex). x anchor: p50 divided by it. class: smt below 35 ns, ccx below 110 ns, far
above. Values are medians over the samples; n + d: samples that count + dropped because the class changed.
";

fn cost(row: &Row) -> f64 {
    row.p50_ns.unwrap_or_else(|| -row.messages_per_s.unwrap_or(0.0))
}

fn times(rows: &[&Row]) -> Table {
    let limits = rows[0].measure == Measure::Limit;
    let mut table = plain(&[
        "size",
        "mechanism",
        "variant",
        "class",
        "p50",
        "x anchor",
        "p99",
        "p99.9",
        "min..max",
        "n + d",
    ]);
    let mut size = None;
    for row in rows {
        let bandwidth = row.bytes_per_s.map(units::bandwidth);
        table.add_row([
            size_once(&mut size, row, limits),
            format!("{}{}", row.mechanism, row.mark()),
            row.variant.map(|variant| variant.to_string()).unwrap_or_default(),
            row.class.map(|class| class.to_string()).unwrap_or_default(),
            bandwidth.or(row.p50_ns.map(units::time)).unwrap_or_default(),
            row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            row.p99_ns.map(units::time).unwrap_or_default(),
            row.p999_ns.map(units::time).unwrap_or_default(),
            match row.p50_ns {
                Some(_) => spread(row, 1.0, units::time),
                None => spread(row, row.size as f64, units::bandwidth),
            },
            format!("{} + {}", row.samples, row.dropped),
        ]);
    }
    table
}

fn rates(rows: &[&Row]) -> Table {
    let mut table = plain(&[
        "size",
        "mechanism",
        "variant",
        "class",
        "messages",
        "payload",
        "min..max",
        "anchor",
        "n + d",
    ]);
    let mut size = None;
    for row in rows {
        table.add_row([
            size_once(&mut size, row, false),
            format!("{}{}", row.mechanism, row.mark()),
            row.variant.map(|variant| variant.to_string()).unwrap_or_default(),
            row.class.map(|class| class.to_string()).unwrap_or_default(),
            row.messages_per_s.map(units::rate).unwrap_or_default(),
            row.bytes_per_s.map(units::bandwidth).unwrap_or_default(),
            spread(row, 1.0, units::rate),
            row.anchor_ns.map(units::time).unwrap_or_default(),
            format!("{} + {}", row.samples, row.dropped),
        ]);
    }
    table
}

/// A table without lines, numbers to the right.
pub fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(header.to_vec());
    for (column, name) in table.column_iter_mut().zip(header) {
        if !["mechanism", "variant", "class", "cell"].contains(name) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        column.set_padding((1, 1));
    }
    table
}

/// The size where it begins, so that the eye finds the blocks.
fn size_once(last: &mut Option<usize>, row: &Row, always: bool) -> String {
    match last.replace(row.size) == Some(row.size) && !always {
        true => String::new(),
        false => units::size(row.size),
    }
}

fn spread(row: &Row, factor: f64, unit: fn(f64) -> String) -> String {
    match (row.min, row.max) {
        (Some(min), Some(max)) => {
            let (least, most) = (unit(min * factor), unit(max * factor));
            let same_unit = least.split_once(' ').filter(|(_, unit)| most.ends_with(unit));
            format!("{}..{most}", same_unit.map_or(least.as_str(), |(number, _)| number))
        }
        _ => String::new(),
    }
}

/// One line a mechanism and reason: at which sizes, and what of them.
pub fn reasons(rows: &[Row]) -> Vec<String> {
    let mut reasons: BTreeMap<(&str, &str, usize), Vec<String>> = BTreeMap::new();
    for row in rows {
        let Some(error) = &row.error else { continue };
        let series = match row.wait {
            Some(wait) => format!("{} {wait}", row.measure),
            None => row.measure.to_string(),
        };
        let known = reasons.entry((&*row.mechanism, error, row.size)).or_default();
        if !known.contains(&series) {
            known.push(series);
        }
    }
    let mut lines: BTreeMap<(&str, &str, Vec<String>), Vec<usize>> = BTreeMap::new();
    for ((mechanism, error, size), series) in reasons {
        lines.entry((mechanism, error, series)).or_default().push(size);
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by(|((one, ..), sizes), ((other, ..), others)| one.cmp(other).then(sizes.cmp(others)));
    let line = |((mechanism, error, series), sizes): ((&str, &str, Vec<String>), Vec<usize>)| {
        let all = series.len() >= 4;
        let which = if all { String::new() } else { format!(" ({})", series.join(", ")) };
        let sizes: Vec<_> = sizes.into_iter().map(units::size).collect();
        format!("{mechanism} at {}: {error}{which}", sizes.join(", "))
    };
    lines.into_iter().map(line).collect()
}

fn not_measured(rows: &[Row]) -> String {
    let lines: String = reasons(rows).iter().map(|line| format!(" {line}\n")).collect();
    if lines.is_empty() { lines } else { format!("\nNot measured\n{lines}") }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::anchor::Class;
    use crate::bench::shape::Variant;

    /// A measured row.
    pub fn row(mechanism: &'static str, size: usize, p50_ns: f64) -> Row {
        Row {
            variant: Some(Variant::Copy),
            wait: Some(Wait::Spin),
            class: Some(Class::Ccx),
            anchor_ns: Some(50.0),
            p50_ns: Some(p50_ns),
            p99_ns: Some(p50_ns),
            p999_ns: Some(p50_ns),
            ratio: Some(p50_ns / 50.0),
            samples: 3,
            dropped: 1,
            min: Some(p50_ns - 1.0),
            max: Some(p50_ns + 1.0),
            ..Row::blank(Measure::Latency, mechanism, size)
        }
    }

    #[test]
    fn what_has_one_reason_is_one_line_with_all_its_sizes() {
        let refused = |size, wait, error: &str| Row {
            error: Some(error.into()),
            wait: Some(wait),
            ..Row::blank(Measure::Latency, "pipe", size)
        };
        let rows = [
            refused(1 << 20, Wait::Spin, "no"),
            refused(8, Wait::Spin, "no"),
            refused(64, Wait::Spin, "a lack"),
            refused(64, Wait::Sleep, "a lack"),
        ];
        let lines =
            ["pipe at 8 B, 1 MiB: no (latency spin)", "pipe at 64 B: a lack (latency spin, latency sleep)"];
        assert_eq!(reasons(&rows), lines);
    }

    #[test]
    fn fastest_first_within_a_size_and_the_reasons_below() {
        let mut refused = row("sysv", 65536, 0.0);
        refused.error =
            Some("a message of 65536 bytes is above the limit /proc/sys/kernel/msgmax = 8192".into());
        let text =
            render(&[row("tcp", 8, 4000.0), row("pipe", 64, 900.0), row("sem-shm", 8, 500.0), refused]);
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is not in {text}"));
        assert!(at("spinning") < at("sem-shm") && at("sem-shm") < at("tcp") && at("tcp") < at("pipe"));
        assert!(at("899..901 ns") > at("pipe") && at("18.00") > at("pipe"));
        assert!(at("msgmax = 8192 (latency spin)") > at("Not measured"));
        assert!(!text.contains("sleeping"));
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    }
}
