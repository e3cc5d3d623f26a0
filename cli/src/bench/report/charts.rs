//! Which rows become which picture. A series never mixes placement classes, nor spinning and sleeping.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::USUAL;
use super::super::row::{Row, Sweep};
use super::super::shape::{Measure, Variant, Wait};
use super::super::units;
use super::panels::Panels;
use super::svg::{Bar, Bars, Chart, Limit, Lines, Point, Series, Source};
use super::words;

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
const CPU: Field = Field { name: "cpu_s_per_million", of: |row| row.cpu_s_per_million, unit: words::seconds };
/// What a million messages cost: a word for it, its title, its field.
const COSTS: [(&str, &str, Field); 4] = [
    ("cpu", "processor seconds of both processes", CPU),
    (
        "switches",
        "context switches (a process gave up its core)",
        Field { name: "waits_per_million", of: |row| row.waits_per_million, unit: words::count },
    ),
    (
        "calls",
        "system calls",
        Field { name: "calls_per_million", of: |row| row.calls_per_million, unit: words::count },
    ),
    (
        "copies",
        "bytes copied, by construction",
        Field {
            name: "copied_bytes",
            of: |row| row.copied_bytes.map(|bytes| bytes as f64),
            // A byte of each message is a megabyte of a million.
            unit: |value| format!("{value} MB"),
        },
    ),
];
/// How both sides wait: in names of pictures, in titles.
const WAITS: [(&str, &str, Wait); 2] = [("spin", "spinning", Wait::Spin), ("sleep", "sleeping", Wait::Sleep)];
/// What is measured with both sides waiting so, and whether on one core: in names of pictures, in titles.
const PLACES: [(&str, &str, Wait, bool); 3] = [
    ("spin", "both sides spinning, two cores", Wait::Spin, false),
    ("sleep", "both sides sleeping, two cores", Wait::Sleep, false),
    ("one-core", "both sides sleeping, one core", Wait::Sleep, true),
];

/// A heading, and the pictures below it.
pub struct Section {
    /// Names it in the page.
    pub id: &'static str,
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
    let latency = move |wait: Wait, shared: bool| {
        move |row: &Row| is(row, Measure::Latency, wait) && row.on_one_core() == shared
    };
    let mut sections = vec![
        Section {
            id: "latency",
            title: "Latency by message size",
            text: "One way: half of a round trip, the median. The dashed lines across are limits of the same run: a cache \
                   line to and fro, two futexes by themselves, an empty system call."
                .into(),
            charts: PLACES
                .map(|(word, place, wait, shared)| {
                    let (id, title) = (format!("latency-{word}"), format!("Latency, {place}"));
                    by_size(&id, &title, MEDIAN, rows, latency(wait, shared))
                })
                .into(),
        },
        Section {
            id: "bands",
            title: "How far the latency reaches: from the median to the 99.9th percentile",
            text: "A panel for each mechanism, all on one scale: the line is the median, the band reaches to the 99.9th \
                   percentile, the thin dashed line is the first mechanism again. Where a sample has few round trips, as with \
                   large messages, its 99.9th percentile is little else than its longest one."
                .into(),
            charts: PLACES
                .map(|(word, place, wait, shared)| {
                    bands(&format!("bands-{word}"), &format!("p50 to p99.9, {place}"), rows, latency(wait, shared))
                })
                .into(),
        },
        Section {
            id: "percentiles",
            title: "Percentiles of the latency",
            text: "One way: of all round trips of a sample, halved; the median over the samples. At p99, 99 of 100 took at most so \
                   long. Dashed in grey, the limit of the same run: the bare line, the bare futexes."
                .into(),
            charts: PLACES
                .map(|(word, place, wait, shared)| {
                    let chosen = latency(wait, shared);
                    percentiles(word, place, rows, size, move |row| chosen(row) && row.size == size)
                })
                .into(),
        },
        Section {
            id: "throughput",
            title: "Throughput by message size",
            text: "One direction, by the receiver’s clock. The dashed lines across are limits of the same run. For the messages: how \
                   many would pass if each needed one such thing (a cache line handed over, a futex handed over, a system call) \
                   and one came after the other; what lies above needs less than one for a message, or has several under way \
                   at a time. For the payload: a bare stream through shared memory."
                .into(),
            charts: WAITS
                .into_iter()
                .flat_map(|(word, verb, wait)| {
                    let chosen = move |row: &Row| is(row, Measure::Throughput, wait);
                    [("messages", "Messages a second", RATE), ("bytes", "Payload", BANDWIDTH)].map(
                        |(what, title, field)| {
                            let title = format!("{title}, both sides {verb}");
                            by_size(&format!("{what}-{word}"), &title, field, rows, chosen)
                        },
                    )
                })
                .collect(),
        },
        Section {
            id: "cost",
            title: "What a million messages cost",
            text: cost_text(rows).into(),
            charts: WAITS
                .into_iter()
                .flat_map(|(word, verb, wait)| {
                    let chosen = move |row: &Row| is(row, Measure::Throughput, wait);
                    let of_usual = COSTS.map(|(what, title, field)| {
                        let title = format!("{}, {verb}, for a million messages: {title}", units::size(size));
                        bars(&format!("cost-{what}-{word}"), title, field, rows, |row| {
                            chosen(row) && row.size == size
                        })
                    });
                    let title = format!("Processor seconds for a million messages, both sides {verb}, by message size");
                    let growth = by_size(&format!("growth-cpu-{word}"), &title, CPU, rows, chosen);
                    of_usual.into_iter().chain([growth])
                })
                .collect(),
        },
        Section {
            id: "ring-alone",
            title: "The ring alone",
            text: "One thing is varied, all else stays: what passes in a second, and what a million messages cost. Unless it is \
                   what varies: one sender and one receiver on two cores that spin (with a single core: that sleep), \
                   messages of 64 B in place, each published by itself, through a ring of 1 MiB. Senders into one ring wait \
                   as by default: they spin a while, then sleep. Marked “oversubscribed” is what had more processes than \
                   cores."
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
    let mut text = "Of the stream; a rendezvous has none. Processor time and context switches are the kernel’s count for both processes; copies \
                    are known by construction. System calls were counted in samples of their own, which nobody timed, \
                    because counting stops a process at each of its calls: who polls by system calls polls less often there, and who \
                    sleeps on a futex sleeps more often, or, where the two take turns, less often. Beside the bars of the latter stands about how many there were while \
                    nobody counted: two for each time that a process slept."
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
    row.is(measure, wait) && row.sweep.is_none()
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
        ("unix-seqpacket", _) => "socket second",
        ("tcp", _) => "socket third",
        ("unix-dgram", _) => "socket fourth",
        ("sem-shm", _) => "shm",
        ("futex-shm", _) => "shm second",
        (name, _) if name.ends_with("-shm") => "shm third",
        ("mailbox", _) => "mail",
        ("rendezvous", _) => "mail second",
        _ if row.measure == Measure::Limit => "limit",
        (name, _) => PEERS.iter().find(|(peer, _)| *peer == name).map_or("other fourth", |(_, tone)| tone),
    }
}

/// The peers, by what they go through: memory, a queue, sockets, threads. They are measured elsewhere, but a run of them can be drawn here.
const PEERS: [(&str, &str); 10] = [
    ("iceoryx2", "shm"),
    ("iceoryx2-waitset", "shm second"),
    ("shmring", "mail"),
    ("boost-mq", "queue"),
    ("zeromq", "socket"),
    ("nng", "socket second"),
    ("ipc-channel", "socket third"),
    ("rtrb-threads", "other"),
    ("crossbeam-threads", "other second"),
    ("kanal-threads", "other third"),
];

/// A mechanism, with its variant where it has several, its class where several were met, and whether it had too few cores.
fn name(row: &Row, classes: bool) -> String {
    let mut name = row.mechanism.to_string();
    if let (true, Some(variant)) = (name.starts_with("ring"), row.variant) {
        name.push_str(&format!(" {variant}"));
    }
    let class = row.class.filter(|_| classes).map(|class| class.to_string());
    let marks: Vec<_> = class.into_iter().chain(oversubscribed(row)).collect();
    if !marks.is_empty() {
        name.push_str(&format!(" ({})", marks.join(", ")));
    }
    name
}

fn oversubscribed(row: &Row) -> Option<String> {
    row.oversubscribed.then(|| "oversubscribed".into())
}

fn source(index: usize, row: &Row, field: Field) -> Source {
    let value = (field.of)(row).map(field.unit).unwrap_or_default();
    let mut text = format!("{}, {}: {value}", name(row, true), units::size(row.size));
    // They are the least and the most of the row's own figure.
    let spread = row.min.zip(row.max).filter(|_| [MEDIAN.name, RATE.name].contains(&field.name));
    if let Some((min, max)) = spread {
        let unit = words::unit(row);
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
    let limits = rows.iter().enumerate().filter(|(_, row)| row.error.is_none() && limit_of(id, row));
    let limit = |(index, row): (usize, &Row)| {
        let name = limit_name(row, rows);
        let value =
            (field.of)(row).or_else(|| row.p50_ns.map(|ns| 1e9 / ns)).filter(|value| value.is_finite())?;
        let text = format!("{name}: {}", (field.unit)(value));
        Some(Limit { name, value, source: Source { text, ..source(index, row, field) } })
    };
    let limits = limits.filter_map(limit).collect();
    let rows = choose(rows, field, chosen);
    let classes = several_classes(&rows);
    let mut chart =
        lines(id, title, "message size", field, &rows, |row| row.size as u64, |row| name(row, classes));
    if let (Chart::Lines(lines), false) = (&mut chart, rows.is_empty()) {
        lines.limits = limits;
    }
    chart
}

/// Which limits are drawn across which picture: those that have to do with it, in its place.
fn limit_of(chart: &str, row: &Row) -> bool {
    let asked = match chart {
        "latency-spin" | "messages-spin" => &["line", "syscall"][..],
        "latency-sleep" | "latency-one-core" | "messages-sleep" => &["futex", "syscall"],
        "bytes-spin" | "bytes-sleep" => &["memcpy"],
        "percentiles-spin" => &["line"],
        "percentiles-sleep" | "percentiles-one-core" => &["futex"],
        _ => &[],
    };
    let here =
        matches!(&*row.mechanism, "syscall" | "memcpy") || row.on_one_core() == chart.ends_with("one-core");
    row.measure == Measure::Limit && asked.contains(&&*row.mechanism) && here
}

/// With its class where it was met in several.
fn limit_name(row: &Row, rows: &[Row]) -> String {
    let what = match &*row.mechanism {
        "line" => "line ping-pong".into(),
        "futex" => "raw futex".into(),
        "syscall" => "empty system call".into(),
        "memcpy" => format!("stream of {}", units::size(row.size)),
        other => other.to_string(),
    };
    let same = |other: &Row| {
        (other.measure, &other.mechanism, other.size) == (row.measure, &row.mechanism, row.size)
            && other.on_one_core() == row.on_one_core()
    };
    let several = rows.iter().any(|other| same(other) && other.class != row.class);
    match row.class.filter(|_| several) {
        Some(class) => format!("limit: {what} ({class})"),
        None => format!("limit: {what}"),
    }
}

/// The median and the 99.9th percentile of each mechanism.
fn bands(id: &str, title: &str, rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Chart {
    let chart = by_size(id, title, MEDIAN, rows, |row| row.p999_ns.is_some() && chosen(row));
    let Chart::Lines(Lines { id, title, steps, unit, mut series, .. }) = chart else { return chart };
    // In the order of the registry, the ring first.
    series.sort_by_key(|series| series.points.first().map(|point| point.source.row));
    for point in series.iter_mut().flat_map(|series| &mut series.points) {
        point.high = rows[point.source.row].p999_ns;
        let high = point.high.map(units::time).unwrap_or_default();
        point.source.text.push_str(&format!("; p99.9: {high}"));
    }
    let is_ring = |series: &Series| series.name.starts_with("ring-spsc in-place");
    let reference = series.iter().position(is_ring).unwrap_or(0);
    // The one that all are held against stands first.
    if let Some(before) = series.get_mut(..=reference) {
        before.rotate_right(1);
    }
    Chart::Panels(Panels { id, title, fields: "p50_ns p999_ns", steps, unit, series })
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
            high: None,
            source: source(index, row, field),
        };
        let name = name(row);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series { name, tone: tone(row), points: vec![point] }),
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

fn percentiles(word: &str, place: &str, rows: &[Row], size: usize, chosen: impl Fn(&Row) -> bool) -> Chart {
    let id = format!("percentiles-{word}");
    let mechanisms = choose(rows, MEDIAN, chosen);
    let classes = several_classes(&mechanisms);
    let limits = match mechanisms.is_empty() {
        true => Vec::new(),
        false => choose(rows, MEDIAN, |row| limit_of(&id, row)),
    };
    let mut series: Vec<Series> = (mechanisms.iter().chain(&limits))
        .map(|&(index, row, _)| {
            let name = if row.measure == Measure::Limit { limit_name(row, rows) } else { name(row, classes) };
            let points = PERCENTILES.iter().enumerate().filter_map(|(step, (what, of))| {
                let value = of(row)?;
                let text = format!("{name}, {what}: {}", units::time(value));
                let source = Source { text, ..source(index, row, MEDIAN) };
                Some(Point { step, value, high: None, source })
            });
            Series { points: points.collect(), tone: tone(row), name }
        })
        .collect();
    series.sort_by_key(|series| series.tone.starts_with("ring"));
    Chart::Lines(Lines {
        id,
        title: format!("Percentiles, {place}, {}", units::size(size)),
        field: "percentiles",
        axis: "share of the round trips that were at most so long",
        steps: PERCENTILES.iter().map(|(name, _)| name.to_string()).collect(),
        unit: units::time,
        series,
        limits: Vec::new(),
    })
}

/// What is to be known of a bar beside its value.
fn notes(field: Field, row: &Row) -> Vec<String> {
    let untraced = row.untraced_calls_per_million().filter(|_| field.name == "calls_per_million");
    let untraced = untraced.map(|calls| format!("about {} while nobody counted", words::count(calls)));
    // The others have it in their names.
    untraced.into_iter().chain(oversubscribed(row).filter(|_| row.sweep.is_some())).collect()
}

/// The least first.
fn bars(id: &str, title: String, field: Field, rows: &[Row], chosen: impl Fn(&Row) -> bool) -> Chart {
    let mut rows = choose(rows, field, chosen);
    let classes = several_classes(&rows);
    rows.sort_by(|a, b| a.2.total_cmp(&b.2));
    named_bars(id, title, field, &rows, |row| name(row, classes))
}

/// In their order, each by its name.
fn named_bars(
    id: &str,
    title: String,
    field: Field,
    rows: &[(usize, &Row, f64)],
    name: impl Fn(&Row) -> String,
) -> Chart {
    let bar = |&(index, row, value): &(usize, &Row, f64)| Bar {
        name: name(row),
        notes: notes(field, row),
        tone: tone(row),
        value,
        source: source(index, row, field),
    };
    let bars = rows.iter().map(bar).collect();
    Chart::Bars(Bars { id: id.into(), title, field: field.name, unit: field.unit, bars })
}

fn sweeps(rows: &[Row]) -> Vec<Chart> {
    let fields = [("", "messages a second", RATE), ("-cpu", "processor seconds for a million messages", CPU)];
    let each =
        |draw: &dyn Fn(&str, &str, Field) -> Chart| fields.map(|(end, what, field)| draw(end, what, field));
    let of = |sweep, field| choose(rows, field, move |row: &Row| row.sweep == Some(sweep));
    let by = |name: &str, title: &str, axis: &'static str, sweep, step: fn(&Row) -> u64| {
        each(&|end, what, field| {
            let (id, title) = (format!("sweep-{name}{end}"), format!("{title}: {what}"));
            lines(&id, &title, axis, field, &of(sweep, field), step, |row| units::size(row.size) + row.mark())
        })
    };
    let bars = |name: &str, title: &str, sweep, label: fn(&Row) -> String| {
        each(&|end, what, field| {
            let title = format!("{title}: {what}");
            named_bars(&format!("sweep-{name}{end}"), title, field, &of(sweep, field), label)
        })
    };
    [
        bars("waiting", "How both sides wait, 64 B", Sweep::Waiting, |row| {
            row.strategy.map(words::strategy).unwrap_or_default().into()
        }),
        bars("fan-in", "Senders into one ring, 64 B", Sweep::FanIn, |row| {
            words::several(row.senders.unwrap_or_default(), "sender")
        }),
        by("capacity", "The ring by its size", "bytes of the ring", Sweep::Capacity, |row| {
            row.capacity.unwrap_or_default()
        }),
        by("batch", "The ring by the messages of a batch", "messages of a batch", Sweep::Batch, |row| {
            row.batch.unwrap_or_default() as u64
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::registry;
    use super::*;

    #[test]
    fn no_two_mechanisms_of_a_run_look_alike() {
        let own = registry::entries().filter(|entry| entry.offers[0].measure != Measure::Limit);
        let compared = ["ring-spsc", "ring-mpsc", "pipe"].into_iter();
        let beside_peers = compared.chain(PEERS.map(|(name, _)| name));
        for names in [own.map(|entry| entry.name).collect::<Vec<_>>(), beside_peers.collect()] {
            let tones: BTreeSet<_> =
                names.iter().map(|name| tone(&Row::blank(Measure::Latency, *name, 64))).collect();
            assert_eq!(tones.len(), names.len(), "{names:?}");
        }
    }

    #[test]
    fn a_mark_tells_the_spread_of_no_other_figure_than_its_own() {
        let row = Row {
            messages_per_s: Some(2e6),
            min: Some(1e6),
            max: Some(3e6),
            samples: 3,
            cpu_s_per_million: Some(0.5),
            ..Row::blank(Measure::Throughput, "pipe", 64)
        };
        let text = |field| source(0, &row, field).text;
        assert!(text(RATE).ends_with("in 3 samples)"), "{}", text(RATE));
        assert!(text(CPU).ends_with("0.500 s"), "{}", text(CPU));
    }
}
