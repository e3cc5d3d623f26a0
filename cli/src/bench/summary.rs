//! From samples to rows: medians over the rounds, one row for each placement class that a cell was met in.

use super::anchor::Class;
use super::link::Figures;
use super::plan::Cell;
use super::registry;
use super::row::Row;
use super::shape::Variant;
use super::usage::Usage;

/// One sample that counts.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The same before and after.
    pub class: Class,
    /// Mean of before and after.
    pub anchor_ns: f64,
    /// What was measured.
    pub figures: Figures,
    /// What both processes used.
    pub usage: Usage,
}

/// What has become of one cell so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Those that count.
    pub samples: Vec<Sample>,
    /// How many were thrown away.
    pub dropped: usize,
    /// System calls for a million messages, or why they were not counted; `None` of what has none to count.
    pub calls: Option<Result<f64, String>>,
    /// Why it could not be measured.
    pub error: Option<String>,
}

/// The rows of a cell: at least one.
pub fn rows(cell: &Cell, findings: &Findings) -> Vec<Row> {
    let mut classes: Vec<Class> = findings.samples.iter().map(|sample| sample.class).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.is_empty() {
        let changed = || format!("the placement of the cores changed under all {} samples", findings.dropped);
        let error = findings.error.clone().or_else(|| cell.error.clone()).unwrap_or_else(changed);
        return vec![Row { error: Some(error), ..blank(cell, findings) }];
    }
    classes.into_iter().map(|class| row(cell, findings, class)).collect()
}

fn blank(cell: &Cell, findings: &Findings) -> Row {
    let name = registry::entry(cell.entry).name;
    Row {
        variant: cell.offer.variant,
        wait: cell.offer.wait,
        copied_bytes: copied_bytes(cell.offer.variant, cell.size),
        oversubscribed: cell.oversubscribed,
        dropped: findings.dropped,
        ..Row::blank(cell.offer.measure, name, cell.size)
    }
}

/// By construction: the kernel copies a message in and out, and so does a ring that is used through buffers of the
/// caller. What lies in shared memory is not copied.
fn copied_bytes(variant: Option<Variant>, size: usize) -> Option<usize> {
    Some(if variant? == Variant::Copy { 2 * size } else { 0 })
}

/// Reads one of the times of a latency.
macro_rules! times {
    ($time:ident) => {
        |figures: &Figures| match figures {
            Figures::Latency { $time, .. } => Some(*$time),
            Figures::Throughput { .. } => None,
        }
    };
}

fn row(cell: &Cell, findings: &Findings, class: Class) -> Row {
    let samples: Vec<_> = findings.samples.iter().filter(|sample| sample.class == class).collect();
    let median_of = |value: &dyn Fn(&Sample) -> Option<f64>| -> Option<f64> {
        median(samples.iter().filter_map(|sample| value(sample)).collect())
    };
    let time = |pick: fn(&Figures) -> Option<f64>| median_of(&|sample| pick(&sample.figures)).map(rounded);
    let rate = |sample: &Sample| match sample.figures {
        Figures::Throughput { messages_per_s, .. } => Some(messages_per_s),
        Figures::Latency { .. } => None,
    };
    let p50 = |sample: &Sample| times!(p50_ns)(&sample.figures);
    let used = |pick| used(samples.iter().map(|sample| &sample.usage), pick);
    let calls = findings.calls.as_ref();
    let main: Vec<f64> = samples.iter().filter_map(|sample| p50(sample).or(rate(sample))).collect();
    Row {
        class: Some(class),
        anchor_ns: median_of(&|sample| Some(sample.anchor_ns)).map(rounded),
        p50_ns: time(times!(p50_ns)),
        p90_ns: time(times!(p90_ns)),
        p99_ns: time(times!(p99_ns)),
        p999_ns: time(times!(p999_ns)),
        p9999_ns: time(times!(p9999_ns)),
        max_ns: time(times!(max_ns)),
        ratio: median_of(&|sample| Some(p50(sample)? / sample.anchor_ns)).map(|ratio| to_places(ratio, 3)),
        messages_per_s: median_of(&rate).map(f64::round),
        bytes_per_s: median_of(&|sample| match sample.figures {
            Figures::Throughput { bytes_per_s, .. } => Some(bytes_per_s),
            Figures::Latency { .. } => None,
        })
        .map(f64::round),
        cpu_s_per_million: used(|usage| usage.cpu_s),
        waits_per_million: used(|usage| usage.waits),
        preemptions_per_million: used(|usage| usage.preemptions),
        calls_per_million: calls.and_then(|calls| calls.as_ref().ok()).map(|calls| calls.round()),
        calls_error: calls.and_then(|calls| calls.as_ref().err()).cloned(),
        samples: samples.len(),
        min: main.iter().copied().reduce(f64::min).map(rounded),
        max: main.iter().copied().reduce(f64::max).map(rounded),
        ..blank(cell, findings)
    }
}

/// The median of a figure for a million messages.
pub fn used<'a>(usages: impl Iterator<Item = &'a Usage>, pick: fn(&Usage) -> f64) -> Option<f64> {
    median(usages.filter_map(|usage| usage.per_million(pick(usage))).collect())
        .map(|value| to_places(value, 4))
}

/// Rounded to so many digits behind the point.
fn to_places(value: f64, places: i32) -> f64 {
    (value * 10f64.powi(places)).round() / 10f64.powi(places)
}

/// To a tenth: more digits are not measured.
fn rounded(value: f64) -> f64 {
    to_places(value, 1)
}

/// The middle one; of an even number the mean of the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure;
    use crate::bench::registry::find;
    use crate::bench::shape::{Offer, Place, Wait};

    fn cell() -> Cell {
        let offer = Offer::latency(Variant::Copy, Wait::Spin);
        Cell {
            entry: find("pipe").unwrap(),
            offer,
            size: 8,
            place: Place::Apart,
            oversubscribed: false,
            error: None,
        }
    }

    fn sample(class: Class, anchor_ns: f64, p50_ns: f64) -> Sample {
        let mut times = measure::histogram();
        times.record(p50_ns as u64).unwrap();
        Sample { class, anchor_ns, figures: Figures::of(&times, 1.0), usage: Usage::default() }
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
    }

    #[test]
    fn classes_are_never_mixed() {
        let samples = vec![
            sample(Class::Ccx, 50.0, 100.0),
            sample(Class::Far, 200.0, 300.0),
            sample(Class::Ccx, 60.0, 90.0),
            sample(Class::Ccx, 50.0, 110.0),
        ];
        let rows = rows(&cell(), &Findings { samples, dropped: 2, ..Findings::default() });
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].class, rows[0].samples, rows[0].dropped), (Some(Class::Ccx), 3, 2));
        assert_eq!((rows[0].p50_ns, rows[0].ratio), (Some(100.0), Some(2.0)));
        assert_eq!((rows[0].min, rows[0].max), (Some(90.0), Some(110.0)));
        assert_eq!((rows[1].class, rows[1].ratio), (Some(Class::Far), Some(1.5)));
    }

    #[test]
    fn what_was_not_measured_says_why() {
        let none = Findings { dropped: 9, ..Findings::default() };
        assert!(rows(&cell(), &none)[0].error.as_deref().unwrap().contains("all 9 samples"));
        let planned = Cell { error: Some("too long".into()), ..cell() };
        assert_eq!(rows(&planned, &Findings::default())[0].error.as_deref(), Some("too long"));
    }
}
