//! The answer at a glance: one line a mechanism, one column a size.

use comfy_table::Table;

use super::row::{Row, marked, mechanisms};
use super::shape::{Measure, Wait};
use super::table::{Section, plain};
use super::units;

/// Median latency polling, asleep, and throughput, of the best variant each. Empty for a single size.
pub fn render(rows: &[Row]) -> String {
    let mut sizes: Vec<usize> =
        rows.iter().filter(|row| row.measure != Measure::Limit).map(|row| row.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut text = String::new();
    if sizes.len() < 2 {
        return text;
    }
    let parts: [Section; 5] = [
        ("latency, spinning", |row| row.is(Measure::Latency, Wait::Spin)),
        ("latency, sleeping, two cores", |row| row.is(Measure::Latency, Wait::Sleep) && !row.on_one_core()),
        ("latency, sleeping, one core", |row| row.is(Measure::Latency, Wait::Sleep) && row.on_one_core()),
        ("throughput, spinning", |row| row.is(Measure::Throughput, Wait::Spin)),
        ("throughput, sleeping", |row| row.is(Measure::Throughput, Wait::Sleep)),
    ];
    for (title, belongs) in parts {
        let chosen: Vec<&Row> = rows.iter().filter(|row| row.error.is_none() && belongs(row)).collect();
        if !chosen.is_empty() {
            text.push_str(&format!("\nAt a glance: {title}\n{}\n", table(&chosen, &sizes)));
        }
    }
    text
}

fn table(rows: &[&Row], sizes: &[usize]) -> Table {
    let sizes: Vec<usize> =
        sizes.iter().copied().filter(|size| rows.iter().any(|row| row.size == *size)).collect();
    let mut header = vec!["mechanism".to_string()];
    header.extend(sizes.iter().map(|size| units::size(*size)));
    let mut table = plain(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for name in mechanisms(rows.iter().copied()) {
        let mut line = vec![marked(name, rows.iter().copied())];
        line.extend(sizes.iter().map(|size| {
            let here = rows.iter().filter(|row| row.mechanism == name && row.size == *size);
            best(here.copied()).unwrap_or_else(|| "-".into())
        }));
        table.add_row(line);
    }
    table
}

/// The best of the rows in the class that was met most often.
fn best<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Option<String> {
    let class = rows.clone().max_by_key(|row| row.samples)?.class;
    let mut rows = rows.filter(|row| row.class == class).peekable();
    match rows.peek()?.measure {
        Measure::Throughput => rows.filter_map(|row| row.bytes_per_s).reduce(f64::max).map(units::bandwidth),
        _ => rows.filter_map(|row| row.p50_ns).reduce(f64::min).map(units::time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::table::tests::row;

    #[test]
    fn the_best_variant_stands_for_its_mechanism() {
        let rows =
            [row("pipe", 8, 900.0), row("pipe", 8, 800.0), row("pipe", 64, 950.0), row("tcp", 8, 4000.0)];
        let text = render(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("spinning"));
        assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["mechanism", "8", "B", "64", "B"]);
        assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>(), ["pipe", "800", "ns", "950", "ns"]);
        assert_eq!(lines[4].split_whitespace().collect::<Vec<_>>(), ["tcp", "4.00", "µs", "-"]);
        assert_eq!(render(&rows[..2]), "", "one size needs no overview");
    }
}
