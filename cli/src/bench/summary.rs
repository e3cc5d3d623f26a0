//! From samples to rows: medians over the rounds, one row for each placement class that a cell was met in.

use super::anchor::Class;
use super::link::Figures;
use super::plan::Cell;
use super::registry;
use super::row::{Row, SCHEMA};

/// One sample that counts.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The same before and after.
    pub class: Class,
    /// Mean of before and after.
    pub anchor_ns: f64,
    /// What was measured.
    pub figures: Figures,
}

/// What has become of one cell so far.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Those that count.
    pub samples: Vec<Sample>,
    /// How many were thrown away.
    pub dropped: usize,
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
    Row {
        schema: SCHEMA,
        measure: cell.offer.measure,
        mechanism: registry::entry(cell.entry).name,
        variant: cell.offer.variant,
        wait: cell.offer.wait,
        size: cell.size,
        class: None,
        anchor_ns: None,
        p50_ns: None,
        p99_ns: None,
        p999_ns: None,
        ratio: None,
        messages_per_s: None,
        bytes_per_s: None,
        samples: 0,
        dropped: findings.dropped,
        min: None,
        max: None,
        error: None,
    }
}

fn row(cell: &Cell, findings: &Findings, class: Class) -> Row {
    let samples: Vec<_> = findings.samples.iter().filter(|sample| sample.class == class).collect();
    let median_of = |value: &dyn Fn(&Sample) -> Option<f64>| -> Option<f64> {
        median(samples.iter().filter_map(|sample| value(sample)).collect())
    };
    let p50 = |sample: &Sample| match sample.figures {
        Figures::Latency { p50_ns, .. } => Some(p50_ns),
        Figures::Throughput { .. } => None,
    };
    let rate = |sample: &Sample| match sample.figures {
        Figures::Throughput { messages_per_s, .. } => Some(messages_per_s),
        Figures::Latency { .. } => None,
    };
    let main: Vec<f64> = samples.iter().filter_map(|sample| p50(sample).or(rate(sample))).collect();
    Row {
        class: Some(class),
        anchor_ns: median_of(&|sample| Some(sample.anchor_ns)).map(rounded),
        p50_ns: median_of(&p50).map(rounded),
        p99_ns: median_of(&|sample| match sample.figures {
            Figures::Latency { p99_ns, .. } => Some(p99_ns),
            Figures::Throughput { .. } => None,
        })
        .map(rounded),
        p999_ns: median_of(&|sample| match sample.figures {
            Figures::Latency { p999_ns, .. } => Some(p999_ns),
            Figures::Throughput { .. } => None,
        })
        .map(rounded),
        ratio: median_of(&|sample| Some(p50(sample)? / sample.anchor_ns))
            .map(|ratio| (ratio * 1000.0).round() / 1000.0),
        messages_per_s: median_of(&rate).map(f64::round),
        bytes_per_s: median_of(&|sample| match sample.figures {
            Figures::Throughput { bytes_per_s, .. } => Some(bytes_per_s),
            Figures::Latency { .. } => None,
        })
        .map(f64::round),
        samples: samples.len(),
        min: main.iter().copied().reduce(f64::min).map(rounded),
        max: main.iter().copied().reduce(f64::max).map(rounded),
        ..blank(cell, findings)
    }
}

/// To a tenth: more digits are not measured.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The middle one; of an even number the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
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
    use crate::bench::registry::find;
    use crate::bench::shape::{Offer, Place, Variant, Wait};

    fn cell() -> Cell {
        let offer = Offer::latency(Variant::Copy, Wait::Spin);
        Cell { entry: find("pipe").unwrap(), offer, size: 8, place: Place::Apart, error: None }
    }

    fn sample(class: Class, anchor_ns: f64, p50_ns: f64) -> Sample {
        let figures = Figures::Latency { p50_ns, p99_ns: p50_ns * 2.0, p999_ns: p50_ns * 3.0 };
        Sample { class, anchor_ns, figures }
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
        let rows = rows(&cell(), &Findings { samples, dropped: 2, error: None });
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
