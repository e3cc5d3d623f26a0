//! The answer in short: what the ladder comes to, and a line for each mechanism.

use maud::{Markup, html};

use super::super::row::{Row, marked, mechanisms};
use super::super::shape::{Measure, Wait};
use super::super::units;
use super::charts::usual_size;
use super::ladder::{Ladder, Step};

/// A column: what it is called, which rows are in it, and what of them.
struct Column {
    head: String,
    chosen: Box<dyn Fn(&Row) -> bool>,
    kind: Kind,
}

/// What of a row: how it is read, which of two is the better one, how it is written.
#[derive(Clone, Copy)]
struct Kind {
    figure: fn(&Row) -> Option<f64>,
    better: fn(f64, f64) -> f64,
    unit: fn(f64) -> String,
}

const TIME: Kind = Kind { figure: |row| row.p50_ns, better: f64::min, unit: units::time };
const RATE: Kind = Kind { figure: |row| row.messages_per_s, better: f64::max, unit: units::rate };
const BANDWIDTH: Kind = Kind { figure: |row| row.bytes_per_s, better: f64::max, unit: units::bandwidth };

/// A sentence for each ladder, from the first of the kernel's queues to the best of the ring.
pub fn answers(ladders: &[Ladder]) -> Vec<String> {
    ladders.iter().filter_map(answer).collect()
}

fn answer(ladder: &Ladder) -> Option<String> {
    let first = ladder.steps.first().filter(|step| !step.name.starts_with("ring"))?;
    // As the first one does: who polls is not held against who blocks.
    let blocks = |step: &&Step| step.name.starts_with("ring") && !step.name.ends_with("spinning");
    let rings = ladder.steps.iter().filter(blocks);
    let best = rings.min_by(|a, b| a.ns.total_cmp(&b.ns))?;
    let (less, more) = (first.ns / best.ns, best.ns / first.ns);
    let times = match less >= 1.0 {
        true => format!("{less:.1} times as fast"),
        false => format!("{more:.1} times as slow"),
    };
    Some(format!(
        "{}: {} through the {}, {} through the {}: {times}.",
        ladder.title(),
        units::time(first.ns),
        first.name,
        units::time(best.ns),
        best.name,
    ))
    .filter(|_| less.is_finite() && more.is_finite())
}

/// A line for each mechanism: the best of its variants, in the placement class that it was met in most.
pub fn overview(rows: &[Row]) -> Markup {
    let columns = columns(rows);
    let names = mechanisms(rows.iter().filter(|row| row.measure != Measure::Limit && row.sweep.is_none()));
    let lines = names.into_iter().map(|name| {
        let best = |column: &Column| {
            let here = |row: &&Row| {
                row.mechanism == name && row.error.is_none() && row.sweep.is_none() && (column.chosen)(row)
            };
            best(rows.iter().filter(here), column.kind)
        };
        (name, columns.iter().map(best).collect::<Vec<_>>())
    });
    let lines: Vec<_> = lines.filter(|(_, cells)| cells.iter().any(Option::is_some)).collect();
    html! {
        @if !lines.is_empty() {
            div.scroll { table.short {
                thead { tr { th { "mechanism" } @for column in &columns { th.number { (column.head) } } } }
                @for (name, cells) in lines {
                    tr.ring[name.starts_with("ring")] {
                        td { (marked(name, rows)) }
                        @for cell in cells { td.number { (cell.unwrap_or_else(|| "–".into())) } }
                    }
                }
            } }
            p { "The best variant of each (ring: copying, in place, batched), a median over the rounds. Latency: one way, half of a \
                 round trip. Spinning: both sides poll. Sleeping: both sides block. The sections below have each by itself." }
        }
    }
}

fn columns(rows: &[Row]) -> Vec<Column> {
    let size = usual_size(rows);
    let streams = || rows.iter().filter(|row| row.measure == Measure::Throughput && row.sweep.is_none());
    let large = streams().map(|row| row.size).filter(|&size| size <= 64 << 10).max().unwrap_or(size);
    let column = |size, what: &str, kind, chosen| Column {
        head: format!("{}, {what}", units::size(size)),
        chosen,
        kind,
    };
    let latency = |what, wait, one_core| {
        let chosen = move |row: &Row| {
            (row.measure, row.wait, row.size) == (Measure::Latency, Some(wait), size)
                && row.on_one_core() == one_core
        };
        column(size, what, TIME, Box::new(chosen))
    };
    let stream = |size, what, wait, kind| {
        let of = (Measure::Throughput, Some(wait), size);
        column(size, what, kind, Box::new(move |row: &Row| (row.measure, row.wait, row.size) == of))
    };
    let mut columns = vec![
        latency("latency, spinning", Wait::Spin, false),
        latency("latency, sleeping, one core", Wait::Sleep, true),
        stream(size, "stream, spinning", Wait::Spin, RATE),
        stream(size, "stream, sleeping", Wait::Sleep, RATE),
    ];
    if large != size {
        columns.push(stream(large, "stream, spinning", Wait::Spin, BANDWIDTH));
        columns.push(stream(large, "stream, sleeping", Wait::Sleep, BANDWIDTH));
    }
    columns
}

fn best<'a>(rows: impl Iterator<Item = &'a Row> + Clone, kind: Kind) -> Option<String> {
    let class = rows.clone().max_by_key(|row| row.samples)?.class;
    let figures = rows.filter(|row| row.class == class).filter_map(kind.figure);
    figures.filter(|figure| figure.is_finite()).reduce(kind.better).map(kind.unit)
}

#[cfg(test)]
mod tests {
    use super::super::ladder::ladders;
    use super::*;
    use crate::bench::anchor::Class;
    use crate::bench::shape::Variant;

    fn stream(mechanism: &'static str, variant: Variant, rate: f64) -> Row {
        Row {
            variant: Some(variant),
            wait: Some(Wait::Sleep),
            class: Some(Class::Far),
            messages_per_s: Some(rate),
            bytes_per_s: Some(64.0 * rate),
            samples: 3,
            ..Row::blank(Measure::Throughput, mechanism, 64)
        }
    }

    #[test]
    fn the_best_of_the_ring_stands_beside_the_first_of_the_kernels_queues() {
        let mut rows = vec![
            stream("sysv", Variant::Copy, 1e6),
            stream("ring-spsc", Variant::Copy, 5e6),
            stream("ring-spsc", Variant::InPlace, 1e7),
            stream("ring-spsc", Variant::Batch, 4e6),
        ];
        let polls = Row { wait: Some(Wait::Spin), ..stream("ring-spsc", Variant::Batch, 1e8) };
        let text = overview(&rows).into_string();
        assert!(text.contains("10.0 M/s") && !text.contains("5.00 M/s"), "{text}");
        assert!(
            text.contains("64 B, stream, sleeping") && text.contains("<td class=\"number\">–</td>"),
            "{text}"
        );
        let answers = |rows: &[Row]| answers(&ladders(rows)).join("");
        let said = answers(&rows);
        assert!(
            said.contains(
                "1.00 µs through the System V queue, 100 ns through the ring, in place: 10.0 times as fast"
            ),
            "{said}"
        );
        assert_eq!(
            answers(&[&rows[..], &[polls]].concat()),
            said,
            "who polls is not held against who blocks"
        );
        rows[0].messages_per_s = Some(2e7);
        assert!(answers(&rows).ends_with("2.0 times as slow."), "{}", answers(&rows));
        assert_eq!(
            answers(&rows[1..]),
            "",
            "without a queue of the kernel there is nothing to hold it against"
        );
    }
}
