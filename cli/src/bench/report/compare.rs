//! This run against an older one, cell by cell.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::super::row::Row;
use super::super::table::plain;
use super::saved::Recorded;
use super::words::{cell, figure, unit};

/// A cell in both runs.
pub struct Pair {
    /// Index of the row in the new run.
    pub row: usize,
    /// Its figure then.
    pub old: f64,
    /// Its figure now.
    pub new: f64,
    /// Whether the spreads of the two overlap: then the difference says nothing.
    pub within: bool,
}

/// An older run.
pub struct Older {
    /// Where it was saved.
    pub path: PathBuf,
    /// What was.
    pub recorded: Recorded,
}

impl Older {
    /// The cells of both, in the order of the new run.
    pub fn against(&self, new: &Recorded) -> Result<Vec<Pair>> {
        let path = self.path.display();
        if let (Some(old), Some(new)) = (&self.recorded.run, &new.run) {
            ensure!(
                old.machine() == new.machine(),
                "{path} is of another machine ({}; this is {}): figures of two machines can't be compared; measure both \
                 runs on one",
                old.machine(),
                new.machine(),
            );
        }
        let pair = |(index, row): (usize, &Row)| {
            let old = self.recorded.rows.iter().find(|old| same_cell(old, row))?;
            let within = old.min? <= row.max? && row.min? <= old.max?;
            Some(Pair { row: index, old: figure(old)?, new: figure(row)?, within })
        };
        let pairs: Vec<_> = new.rows.iter().enumerate().filter_map(pair).collect();
        ensure!(
            !pairs.is_empty(),
            "{path} has no cell in common with this run, in the same placement class: measure the same mechanisms and sizes \
             with the same --pin"
        );
        Ok(pairs)
    }
}

/// The comparison for people: what is beyond the spread, and how much is not.
pub fn table(rows: &[Row], pairs: &[Pair]) -> String {
    let mut table = plain(&["cell", "old", "new", "new / old"]);
    let apart = || pairs.iter().filter(|pair| !pair.within);
    for pair in apart() {
        let (row, unit) = (&rows[pair.row], unit(&rows[pair.row]));
        table.add_row([cell(row), unit(pair.old), unit(pair.new), format!("{:.3}", pair.new / pair.old)]);
    }
    let (all, apart) = (pairs.len(), apart().count());
    let table = if apart > 0 { format!("{table}\n") } else { String::new() };
    format!(
        "\nAgainst the older run: {apart} of {all} cells differ by more than the spread of the samples\n{table}"
    )
}

fn same_cell(one: &Row, other: &Row) -> bool {
    let what = |row: &Row| (row.measure, row.mechanism.clone(), row.variant, row.wait, row.size, row.class);
    let sweep = |row: &Row| (row.sweep, row.strategy, row.capacity, row.batch, row.senders);
    what(one) == what(other) && sweep(one) == sweep(other)
}

#[cfg(test)]
mod tests {
    use super::super::super::environment::Run;
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
        let pairs = |old| older(old).against(&run("a", 100.0)).unwrap();
        assert!(pairs(101.5)[0].within && !pairs(103.0)[0].within && !pairs(97.0)[0].within);
        assert_eq!((pairs(103.0)[0].old, pairs(103.0)[0].new), (103.0, 100.0));
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
