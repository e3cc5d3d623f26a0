//! Which rows become which picture. A series never mixes placement classes, nor spinning and sleeping.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::super::anchor::Class;
use super::super::plan::USUAL;
use super::super::row::{Row, Strategy, Sweep};
use super::super::shape::{Measure, Variant, Wait};
use super::super::units;
use super::svg::{Bar, Bars, Chart, Limit, Lines, Point, Series, Source};

/// What a field of a row is called and how it is read and written.
#[derive(Clone, Copy)]
pub struct Field {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    unit: fn(f64) -> String,
}

const MEDIAN: Field = Field { name: "p50_ns", of: |row| row.p50_ns, unit: units::time };
const RATE: Field = Field { name: "messages_per_s", of: |row| row.messages_per_s, unit: units::rate };
const BANDWIDTH: Field = Field { name: "bytes_per_s", of: |row| row.bytes_per_s, unit: units::bandwidth };
/// What a million messages cost.
const COSTS: [(&str, &str, Field); 4] = [
    (
        "cpu",
        "processor seconds of both processes",
        Field {
            name: "cpu_s_per_million",
            of: |row| row.cpu_s_per_million,
            unit: |value| format!("{value:.3} s"),
        },
    ),
    (
        "switches",
        "times that a process gave up its core",
        Field { name: "waits_per_million", of: |row| row.waits_per_million, unit: count },
    ),
    (
        "calls",
        "system calls",
        Field { name: "calls_per_million", of: |row| row.calls_per_million, unit: count },
    ),
    (
        "copies",
        "bytes copied for a message, by construction",
        Field {
            name: "copied_bytes",
            of: |row| row.copied_bytes.map(|bytes| bytes as f64),
            unit: |value| format!("{value} B"),
        },
    ),
];

fn count(value: f64) -> String {
    match value {
        value if value >= 999_500.0 => format!("{:.2} M", value / 1e6),
        value if value >= 999.5 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.1}"),
    }
}

/// A heading, and the pictures below it.
pub struct Section {
    /// The heading.
    pub title: &'static str,
    /// What to know when looking at them.
    pub text: Cow<'static, str>,
    /// The pictures.
    pub charts: Vec<Chart>,
}

/// All pictures but the ladders; those of which nothing was measured are left out.
pub fn sections(rows: &[Row]) -> Vec<Section> {
    let size = usual_size(rows);
    let mut sections = vec![
        Section {
            title: "Latency by message size",
            text: "One way: half of a round trip. The line is the median. The bands reach to the 99.9th percentile: of the ring \
                   in place, the pipe and semaphores alone, since those of all would cover each other. The next pictures \
                   have the percentiles of each mechanism, and the table at the end has them at each size."
                .into(),
            charts: vec![
                by_size("latency-spin", "Latency, both sides spinning, two cores", MEDIAN, rows, |row| {
                    is(row, Measure::Latency, Wait::Spin) && !one_core(row)
                }),
                by_size("latency-sleep", "Latency, both sides sleeping, two cores", MEDIAN, rows, |row| {
                    is(row, Measure::Latency, Wait::Sleep) && !one_core(row)
                }),
                by_size("latency-one-core", "Latency, both sides sleeping, one core", MEDIAN, rows, |row| {
                    is(row, Measure::Latency, Wait::Sleep) && one_core(row)
                }),
            ],
        },
        Section {
            title: "Percentiles of the latency",
            text: "Of all round trips of a sample; the median over the samples.".into(),
            charts: vec![
                percentiles("percentiles-spin", "Percentiles, both sides spinning", rows, size, Wait::Spin),
                percentiles("percentiles-sleep", "Percentiles, both sides sleeping", rows, size, Wait::Sleep),
            ],
        },
        Section {
            title: "Throughput by message size",
            text: "One direction, by the receiver's clock. The dashed line is a bare stream through shared memory, \
                   measured in the same run."
                .into(),
            charts: [("spin", Wait::Spin), ("sleep", Wait::Sleep)]
                .into_iter()
                .flat_map(|(word, wait)| {
                    let id = |what| format!("{what}-{word}");
                    let chosen = move |row: &Row| is(row, Measure::Throughput, wait);
                    let verb = if wait == Wait::Spin { "spinning" } else { "sleeping" };
                    let title = |what| format!("{what}, both sides {verb}");
                    [
                        by_size(&id("messages"), &title("Messages a second"), RATE, rows, chosen),
                        by_size(&id("bytes"), &title("Payload"), BANDWIDTH, rows, move |row| {
                            chosen(row) || row.mechanism == "memcpy" && wait == Wait::Spin
                        }),
                    ]
                })
                .collect(),
        },
        Section {
            title: "What a million messages cost",
            text: cost_text(rows).into(),
            charts: [("spin", Wait::Spin), ("sleep", Wait::Sleep)]
                .into_iter()
                .flat_map(|(word, wait)| {
                    let verb = if wait == Wait::Spin { "spinning" } else { "sleeping" };
                    COSTS.map(|(what, title, field)| {
                        let title = format!("{}, {verb}: {title}", units::size(size));
                        bars(&format!("cost-{what}-{word}"), title, field, rows, |row| {
                            is(row, Measure::Throughput, wait) && row.size == size
                        })
                    })
                })
                .collect(),
        },
        Section {
            title: "The ring alone",
            text: "One thing is varied, all else stays. Bars marked “oversubscribed” had more processes than cores."
                .into(),
            charts: sweeps(rows),
        },
    ];
    for section in &mut sections {
        section.charts.retain(|chart| !chart.is_empty());
    }
    sections.retain(|section| !section.charts.is_empty());
    sections
}

/// How the costs were counted, and of whom they were not.
fn cost_text(rows: &[Row]) -> String {
    let mut text = "Of the throughput. Processor time and context switches are the kernel’s count for both processes; copies \
                    are known by construction. System calls were counted in samples of their own, which nobody timed, \
                    because counting stops a process at each of its calls: who polls by system calls polls less often there, and who \
                    sleeps on a futex sleeps more often. Of the latter it also stands there how many they were about \
                    while nobody counted: two for each time that it slept."
        .to_string();
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for row in rows {
        if let Some(reason) = &row.calls_error {
            missing.entry(reason).or_default().insert(&row.mechanism);
        }
    }
    for (reason, mechanisms) in missing {
        let names: Vec<&str> = mechanisms.into_iter().collect();
        text.push_str(&format!(" Not counted, at one size or more: {} ({reason}).", names.join(", ")));
    }
    text
}

/// 64 bytes where they were measured, else the smallest size.
pub fn usual_size(rows: &[Row]) -> usize {
    let sizes = || rows.iter().filter(|row| row.measure != Measure::Limit && row.sweep.is_none());
    let smallest = || sizes().map(|row| row.size).min().unwrap_or(USUAL);
    if sizes().any(|row| row.size == USUAL) { USUAL } else { smallest() }
}

fn is(row: &Row, measure: Measure, wait: Wait) -> bool {
    row.measure == measure && row.wait == Some(wait) && row.sweep.is_none()
}

fn one_core(row: &Row) -> bool {
    row.class == Some(Class::SameCore)
}

/// The style's class of a mechanism: its family, and a dash for its variant.
fn tone(row: &Row) -> &'static str {
    match (&*row.mechanism, row.variant) {
        ("ring-spsc", Some(Variant::Copy)) => "ring second",
        ("ring-spsc", Some(Variant::Batch)) => "ring third",
        ("ring-spsc", _) => "ring",
        ("ring-mpsc", Some(Variant::Copy)) => "mpsc second",
        ("ring-mpsc", Some(Variant::Batch)) => "mpsc third",
        ("ring-mpsc", _) => "mpsc",
        ("pipe", _) => "pipe",
        ("fifo", _) => "pipe second",
        ("sysv", _) => "queue",
        ("posix-mq", _) => "queue second",
        ("unix-stream", _) => "socket",
        ("unix-seqpacket" | "unix-dgram", _) => "socket second",
        ("tcp", _) => "socket third",
        ("sem-shm", _) => "shm",
        ("futex-shm", _) => "shm second",
        (name, _) if name.ends_with("-shm") => "shm third",
        _ => "limit",
    }
}

/// A mechanism, with its variant where it has several, and its class where several were met.
fn name(row: &Row, classes: bool) -> String {
    let mut name = row.mechanism.to_string();
    if let (true, Some(variant)) = (name.starts_with("ring"), row.variant) {
        name.push_str(&format!(" {variant}"));
    }
    if let (true, Some(class)) = (classes, row.class) {
        name.push_str(&format!(" ({class})"));
    }
    name
}

fn source(index: usize, row: &Row, field: Field) -> Source {
    let value = (field.of)(row).map(field.unit).unwrap_or_default();
    let mut text = format!("{}, {}: {value}", name(row, true), units::size(row.size));
    if let (Some(min), Some(max)) = (row.min, row.max) {
        let unit: fn(f64) -> String = if row.p50_ns.is_some() { units::time } else { units::rate };
        text.push_str(&format!(" ({} to {} in {} samples)", unit(min), unit(max), row.samples));
    }
    Source { row: index, mechanism: row.mechanism.to_string(), size: row.size, text }
}

/// The rows that are chosen and have the field, with their index.
fn choose<'a>(rows: &'a [Row], field: Field, chosen: impl Fn(&Row) -> bool) -> Vec<(usize, &'a Row, f64)> {
    let fits = |(index, row): (usize, &'a Row)| {
        Some((index, row, (field.of)(row)?)).filter(|_| row.error.is_none() && chosen(row))
    };
    rows.iter().enumerate().filter_map(fits).collect()
}

fn several_classes(rows: &[(usize, &Row, f64)]) -> bool {
    rows.iter().any(|(_, row, _)| row.class != rows[0].1.class)
}

fn by_size(id: &str, title: &str, field: Field, rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Chart {
    let limits = choose(rows, field, |row| limit_of(id, row));
    let rows = choose(rows, field, chosen);
    let classes = several_classes(&rows);
    let limit = |(index, row, value)| Limit { value, source: source(index, row, field) };
    let mut chart =
        lines(id, title, "message size", field, &rows, |row| row.size as u64, |row| name(row, classes));
    if let (Chart::Lines(lines), false) = (&mut chart, rows.is_empty()) {
        lines.limits = limits.into_iter().map(limit).collect();
    }
    chart
}

/// Which limits are drawn across which picture: those that have to do with it, in its place.
fn limit_of(chart: &str, row: &Row) -> bool {
    let asked = match chart {
        "latency-spin" => &["line", "syscall"][..],
        "latency-sleep" | "latency-one-core" => &["futex", "syscall"],
        _ => &[],
    };
    let here = row.mechanism == "syscall" || one_core(row) == (chart == "latency-one-core");
    row.measure == Measure::Limit && asked.contains(&&*row.mechanism) && here
}

/// One series for each `name`, over the steps that `step` counts in bytes.
fn lines(
    id: &str,
    title: &str,
    axis: &'static str,
    field: Field,
    rows: &[(usize, &Row, f64)],
    step: impl Fn(&Row) -> u64,
    name: impl Fn(&Row) -> String,
) -> Chart {
    let mut steps: Vec<u64> = rows.iter().map(|(_, row, _)| step(row)).collect();
    steps.sort_unstable();
    steps.dedup();
    let mut series: Vec<Series> = Vec::new();
    for &(index, row, value) in rows {
        let point = Point {
            step: steps.binary_search(&step(row)).unwrap_or_default(),
            value,
            band: row.p999_ns.map(|high| (value, high.max(value))),
            source: source(index, row, field),
        };
        let name = name(row);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => {
                let banded = matches!(tone(row), "ring" | "pipe" | "shm");
                series.push(Series { name, tone: tone(row), banded, points: vec![point] })
            }
        }
    }
    for series in &mut series {
        series.points.sort_by_key(|point| point.step);
    }
    // What is to be seen is drawn last.
    series.sort_by_key(|series| series.tone.starts_with("ring"));
    let bytes = axis.contains("size") || axis.contains("bytes");
    let label = |step: &u64| if bytes { units::size(*step as usize) } else { step.to_string() };
    Chart::Lines(Lines {
        id: id.into(),
        title: title.into(),
        field: field.name,
        axis,
        steps: steps.iter().map(label).collect(),
        unit: field.unit,
        series,
        limits: Vec::new(),
    })
}

type Percentile = (&'static str, fn(&Row) -> Option<f64>);
const PERCENTILES: [Percentile; 6] = [
    ("p50", |row| row.p50_ns),
    ("p90", |row| row.p90_ns),
    ("p99", |row| row.p99_ns),
    ("p99.9", |row| row.p999_ns),
    ("p99.99", |row| row.p9999_ns),
    ("longest", |row| row.max_ns),
];

fn percentiles(id: &str, title: &str, rows: &[Row], size: usize, wait: Wait) -> Chart {
    let chosen =
        choose(rows, MEDIAN, |row| is(row, Measure::Latency, wait) && row.size == size && !one_core(row));
    let classes = several_classes(&chosen);
    let mut series: Vec<Series> = chosen
        .iter()
        .map(|&(index, row, _)| {
            let points = PERCENTILES.iter().enumerate().filter_map(|(step, (what, of))| {
                let value = of(row)?;
                let text = format!("{}, {what}: {}", name(row, true), units::time(value));
                let source = Source { text, ..source(index, row, MEDIAN) };
                Some(Point { step, value, band: None, source })
            });
            Series { name: name(row, classes), tone: tone(row), banded: false, points: points.collect() }
        })
        .collect();
    series.sort_by_key(|series| series.tone.starts_with("ring"));
    Chart::Lines(Lines {
        id: id.into(),
        title: format!("{title}, {}", units::size(size)),
        field: "percentiles",
        axis: "share of the round trips that were at most so long",
        steps: PERCENTILES.iter().map(|(name, _)| name.to_string()).collect(),
        unit: units::time,
        series,
        limits: Vec::new(),
    })
}

/// What is to be known of a bar beside its value.
fn note(field: Field, row: &Row) -> String {
    let untraced = row.untraced_calls_per_million().filter(|_| field.name == "calls_per_million");
    untraced.map(|calls| format!("about {} while nobody counted", count(calls))).unwrap_or_default()
}

/// The least first; rows of which nobody is marked otherwise are told apart by `name`.
fn bars(id: &str, title: String, field: Field, rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Chart {
    let mut rows = choose(rows, field, chosen);
    let classes = several_classes(&rows);
    rows.sort_by(|a, b| a.2.total_cmp(&b.2));
    let bar = |&(index, row, value): &(usize, &Row, f64)| Bar {
        name: name(row, classes),
        note: note(field, row),
        tone: tone(row),
        value,
        source: source(index, row, field),
    };
    Chart::Bars(Bars {
        id: id.into(),
        title,
        field: field.name,
        unit: field.unit,
        bars: rows.iter().map(bar).collect(),
    })
}

fn sweeps(rows: &[Row]) -> Vec<Chart> {
    let of = |sweep| choose(rows, RATE, move |row: &Row| row.sweep == Some(sweep));
    let by = |id: &str, title: &str, axis, sweep, step: fn(&Row) -> u64| {
        let rows = of(sweep);
        lines(id, title, axis, RATE, &rows, step, |row| units::size(row.size))
    };
    let strategy = |field: Field, id: &str, title: &str| {
        let chosen = choose(rows, field, |row: &Row| row.sweep == Some(Sweep::Waiting));
        named_bars(id, title, field, &chosen, |row| match row.strategy {
            Some(Strategy::Spin) => "spin".into(),
            Some(Strategy::SpinThenSleep) => "spin, then sleep".into(),
            _ => "sleep".into(),
        })
    };
    vec![
        named_bars(
            "sweep-fan-in",
            "Senders into one ring, 64 B: messages a second",
            RATE,
            &of(Sweep::FanIn),
            |row| match row.senders {
                Some(1) => "1 sender".into(),
                senders => format!("{} senders", senders.unwrap_or_default()),
            },
        ),
        by(
            "sweep-capacity",
            "Messages a second by the size of the ring",
            "bytes of the ring",
            Sweep::Capacity,
            |row| row.capacity.unwrap_or_default(),
        ),
        by(
            "sweep-batch",
            "Messages a second by messages of a batch",
            "messages of a batch",
            Sweep::Batch,
            |row| row.batch.unwrap_or_default() as u64,
        ),
        strategy(RATE, "sweep-waiting", "How both sides wait, 64 B: messages a second"),
        strategy(
            COSTS[0].2,
            "sweep-waiting-cpu",
            "How both sides wait, 64 B: processor seconds for a million",
        ),
    ]
}

fn named_bars(
    id: &str,
    title: &str,
    field: Field,
    rows: &[(usize, &Row, f64)],
    name: impl Fn(&Row) -> String,
) -> Chart {
    let bar = |&(index, row, value): &(usize, &Row, f64)| Bar {
        name: name(row),
        note: if row.oversubscribed { "oversubscribed".into() } else { String::new() },
        tone: tone(row),
        value,
        source: source(index, row, field),
    };
    Chart::Bars(Bars {
        id: id.into(),
        title: title.into(),
        field: field.name,
        unit: field.unit,
        bars: rows.iter().map(bar).collect(),
    })
}
