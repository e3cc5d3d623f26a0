//! This run against an older one, cell by cell.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::super::environment::Run;
use super::super::row::Row;
use super::super::table::plain;
use super::saved::Recorded;
use super::words::{cell, figure, several, unit};

/// A cell in both runs.
pub struct Pair {
    /// Index of the row in the new run.
    pub row: usize,
    /// Its figure then.
    pub old: f64,
    /// Its figure now.
    pub new: f64,
    /// How the spreads of its samples lie to each other.
    pub spreads: Spreads,
}

/// How the spreads of the samples of two runs lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spreads {
    /// The difference is more than chance.
    Apart,
    /// The difference says nothing.
    Overlap,
    /// One of the runs has a single sample, which has no spread: the difference says nothing.
    Single,
}

/// The older run.
pub struct Older {
    /// Where it was saved.
    pub path: PathBuf,
    /// What was.
    pub recorded: Recorded,
}

/// This run beside the older one.
pub struct Comparison {
    /// What the older one was, in words.
    pub older: String,
    /// The cells of both, in the order of this run.
    pub pairs: Vec<Pair>,
    /// Cells of this run that the older one has not.
    pub new_cells: usize,
    /// Cells of the older run that this one has not.
    pub gone_cells: usize,
}

impl Older {
    /// Whether its machine is this one, as far as that is known.
    pub fn comparable(&self, machine: Option<&str>) -> Result<()> {
        let old = self.recorded.run.as_ref().map(Run::machine);
        if let (Some(old), Some(new)) = (old, machine) {
            ensure!(
                old == new,
                "{} is of another machine ({old}; this is {new}): figures of two machines, or builds, can't be compared; measure \
                 both runs on one",
                self.path.display(),
            );
        }
        Ok(())
    }

    /// The cells of both.
    pub fn against(&self, new: &Recorded) -> Result<Comparison> {
        self.comparable(new.run.as_ref().map(Run::machine).as_deref())?;
        let pair = |(index, row): (usize, &Row)| {
            let old = self.recorded.rows.iter().find(|old| same_cell(old, row))?;
            let spreads = match () {
                () if old.samples < 2 || row.samples < 2 => Spreads::Single,
                () if old.min? <= row.max? && row.min? <= old.max? => Spreads::Overlap,
                () => Spreads::Apart,
            };
            Some(Pair { row: index, old: figure(old)?, new: figure(row)?, spreads })
        };
        let pairs: Vec<_> = new.rows.iter().enumerate().filter_map(pair).collect();
        ensure!(
            !pairs.is_empty(),
            "{} has no cell in common with this run, in the same placement class: measure the same mechanisms and sizes \
             with the same --pin",
            self.path.display()
        );
        let measured = |run: &Recorded| run.rows.iter().filter(|row| figure(row).is_some()).count();
        Ok(Comparison {
            older: self.words(),
            new_cells: measured(new).saturating_sub(pairs.len()),
            gone_cells: measured(&self.recorded).saturating_sub(pairs.len()),
            pairs,
        })
    }

    fn words(&self) -> String {
        let path = self.path.display();
        match &self.recorded.run {
            Some(run) => {
                let Run { command, kernel, version, .. } = run;
                format!("{path}: {command}; Linux {kernel}, ringpost {version}, measured: {}", run.when())
            }
            None => format!("{path}, which does not say on which machine it was measured"),
        }
    }
}

impl Comparison {
    /// The cells whose spreads lie so.
    pub fn of(&self, spreads: Spreads) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(move |pair| pair.spreads == spreads)
    }

    /// How it comes out.
    pub fn summary(&self, rows: &[Row]) -> String {
        let (apart, single) = (self.of(Spreads::Apart).count(), self.of(Spreads::Single).count());
        let faster = self.of(Spreads::Apart).filter(|pair| pair.faster(&rows[pair.row])).count();
        let mut text = format!(
            "{apart} of {} cells differ by more than the spread of the samples: {faster} faster, {} slower",
            self.pairs.len(),
            apart - faster,
        );
        if single > 0 {
            text += &format!("; {} had a single sample, and so no spread", several(single, "cell"));
        }
        if self.new_cells + self.gone_cells > 0 {
            text += &format!(
                "; not in both: {} of this run, {} of the older one",
                several(self.new_cells, "cell"),
                self.gone_cells
            );
        }
        text
    }

    /// For people: what is beyond the spread, and how much is not.
    pub fn table(&self, rows: &[Row]) -> String {
        let mut table = plain(&["cell", "old", "new", "new / old", "now"]);
        for pair in self.of(Spreads::Apart) {
            let (row, unit) = (&rows[pair.row], unit(&rows[pair.row]));
            table.add_row([cell(row), unit(pair.old), unit(pair.new), pair.ratio(), pair.now(row)]);
        }
        let table = if table.row_count() > 0 { format!("{table}\n") } else { String::new() };
        format!("\nAgainst the older run: {}\n({})\n{table}", self.summary(rows), self.older)
    }
}

impl Pair {
    /// Whether this run is the better one: it takes less time, or more passes.
    fn faster(&self, row: &Row) -> bool {
        (self.new < self.old) == row.p50_ns.is_some()
    }

    /// New by old; of nothing there is none.
    pub fn ratio(&self) -> String {
        if self.is_comparable() { format!("{:.3}", self.new / self.old) } else { "–".into() }
    }

    fn is_comparable(&self) -> bool {
        let ratios = [self.new / self.old, self.old / self.new];
        ratios.into_iter().all(|ratio| ratio.is_normal() && ratio > 0.0)
    }

    /// By how much it has become faster or slower.
    pub fn now(&self, row: &Row) -> String {
        if self.new == self.old {
            return "the same".into();
        }
        if !self.is_comparable() {
            return "–".into();
        }
        let ratio = (self.new / self.old).max(self.old / self.new);
        format!("{ratio:.2} × {}", if self.faster(row) { "faster" } else { "slower" })
    }
}

fn same_cell(one: &Row, other: &Row) -> bool {
    let what = |row: &Row| (row.measure, row.mechanism.clone(), row.variant, row.wait, row.size, row.class);
    let sweep = |row: &Row| (row.sweep, row.strategy, row.capacity, row.batch, row.senders);
    what(one) == what(other) && sweep(one) == sweep(other)
}

#[cfg(test)]
mod tests {
    use super::super::super::table::tests::row;
    use super::*;

    fn run(processor: &str, p50_ns: f64) -> Recorded {
        let run = Run { processor: processor.into(), ..Run::default() };
        Recorded { run: Some(run), rows: vec![row("pipe", 8, p50_ns)] }
    }

    fn older(p50_ns: f64) -> Older {
        Older { path: "old.json".into(), recorded: run("a", p50_ns) }
    }

    #[test]
    fn a_difference_counts_beyond_the_spread() {
        let pair = |old| older(old).against(&run("a", 100.0)).unwrap().pairs.remove(0);
        assert_eq!(
            [101.5, 103.0, 97.0].map(|old| pair(old).spreads),
            [Spreads::Overlap, Spreads::Apart, Spreads::Apart]
        );
        assert_eq!((pair(103.0).old, pair(103.0).new), (103.0, 100.0));
    }

    #[test]
    fn faster_is_less_time_and_more_messages() {
        let mut rate = row("pipe", 8, 0.0);
        (rate.p50_ns, rate.messages_per_s) = (None, Some(1.0));
        let pair = Pair { row: 0, old: 100.0, new: 50.0, spreads: Spreads::Apart };
        assert_eq!(pair.now(&row("pipe", 8, 50.0)), "2.00 × faster");
        assert_eq!(pair.now(&rate), "2.00 × slower");
        let same = Pair { old: 50.0, ..pair };
        assert_eq!([same.now(&row("pipe", 8, 50.0)), same.now(&rate)], ["the same"; 2]);
        let from_nothing = Pair { row: 0, old: 0.0, new: 50.0, spreads: Spreads::Apart };
        assert_eq!([from_nothing.now(&rate), from_nothing.ratio()], ["–"; 2]);
    }

    #[test]
    fn a_single_sample_has_no_spread_and_cells_of_one_run_are_counted() {
        let mut new = run("a", 200.0);
        new.rows[0].samples = 1;
        new.rows.push(row("sysv", 8, 100.0));
        let found = older(100.0).against(&new).unwrap();
        assert_eq!((found.pairs[0].spreads, found.new_cells, found.gone_cells), (Spreads::Single, 1, 0));
        let text = found.table(&new.rows);
        assert!(text.contains("0 of 1 cells") && text.contains("1 cell had a single sample"), "{text}");
        assert!(text.contains("old.json") && text.contains("1 cell of this run"), "{text}");
    }

    #[test]
    fn other_machines_and_other_cells_are_refused() {
        let error = older(100.0).against(&run("b", 100.0)).err().unwrap().to_string();
        assert!(error.contains("another machine") && error.contains("old.json"), "{error}");
        let mut other = run("a", 100.0);
        other.rows[0].size = 64;
        assert!(older(100.0).against(&other).err().unwrap().to_string().contains("--pin"));
    }
}
