//! Which cells are measured, in which order, and for how long.

use std::collections::BTreeSet;
use std::time::Duration;

use super::arguments::BenchArguments;
use super::cores::{self, Cores};
use super::link::Mechanism;
use super::registry;
use super::shape::{Measure, Offer, Place, Sizes, Wait};

/// At these sizes sleeping is also measured with both processes on one core.
const SAME_CORE_SIZES: &[usize] = &[8, 64];
/// The size that is shown where only one is.
pub const USUAL: usize = 64;
/// How much passes, about, while system calls are counted.
const COUNTED_BYTES: usize = 64 << 10;
/// How many messages, at most; of those who poll less will do, as each of them may poll often.
const COUNTED: usize = 512;
/// So many may take turns on one core: that is a class of its own, and not called oversubscribed.
const TURNS: usize = 2;
/// What a sample costs beside its budget: two anchors, attaching, reports.
const OVERHEAD: Duration = Duration::from_millis(5);

/// One cell of the table.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its mechanism, as its place in [`registry::entries`].
    pub entry: usize,
    /// Its series.
    pub offer: Offer,
    /// Bytes of a message.
    pub size: usize,
    /// Apart or on one core.
    pub place: Place,
    /// Whether it has more threads at work than there are cores for them.
    pub oversubscribed: bool,
    /// Why it is not measured.
    pub error: Option<String>,
}

impl Cell {
    /// Round trips (or messages) of the sample in which its system calls are counted.
    pub fn counted(&self) -> u64 {
        let most = if self.offer.wait == Some(Wait::Spin) { COUNTED / 16 } else { COUNTED };
        (COUNTED_BYTES / self.size).clamp(16, most) as u64
    }

    /// Of the limits they are known.
    fn is_counted(&self) -> bool {
        self.offer.measure != Measure::Limit && self.error.is_none()
    }
}

/// The run.
pub struct Plan {
    /// Every cell, neighbours being what is to be compared.
    pub cells: Vec<Cell>,
    /// How often each is measured.
    pub rounds: u32,
    /// How long a sample lasts.
    pub budget: Duration,
    /// After this no sample is repeated and, unless the rounds were asked for, none is taken beyond the first round.
    pub patience: Duration,
    /// After this they are counted at no other size than the usual one.
    pub counting: Duration,
    /// Cores of the samples that run apart.
    pub apart: Cores,
    /// Core of those that share one.
    pub shared: usize,
}

/// The mechanisms of a run: made, or the reason why not; `None` where nobody asked.
pub type Made = Vec<Option<Result<Box<dyn Mechanism>, String>>>;

impl Plan {
    /// Lays out the run.
    pub fn new(arguments: &BenchArguments, made: &Made, usable: &[usize]) -> Self {
        let apart = cores::apart(arguments.pin, usable);
        // Threads stay on the core of the process that has started them.
        let cores = if apart.leader.is_some() { TURNS } else { usable.len() };
        let cells = cells(&arguments.sizes, made, apart.same(), cores);
        let (whole, most, usual) = match arguments.quick {
            true => (Duration::from_secs(46), Duration::from_millis(60), 3),
            false => (Duration::from_secs(230), Duration::from_millis(200), 5),
        };
        let samples = cells.iter().filter(|cell| cell.error.is_none()).count().max(1) as u32 * usual;
        // `--rounds` makes a run longer or shorter; a sample stays what it is.
        let budget = (whole / samples).saturating_sub(OVERHEAD).clamp(Duration::from_millis(8), most);
        let rounds = arguments.rounds.unwrap_or(usual);
        let patience = whole.mul_f64(f64::from(rounds.max(usual)) / f64::from(usual) * 1.15);
        Self { cells, rounds, budget, patience, counting: whole / 6, apart, shared: usable[0] }
    }

    /// The size of the messages in the page's pictures of what is counted.
    pub fn usual(&self) -> Option<usize> {
        let sizes = || self.cells.iter().filter(|cell| cell.is_counted()).map(|cell| cell.size);
        sizes().find(|&size| size == USUAL).or(sizes().min())
    }

    /// The cells of which system calls are counted, those of the usual size first.
    pub fn counted(&self) -> Vec<usize> {
        let usual = self.usual();
        let mut counted: Vec<usize> =
            (0..self.cells.len()).filter(|&index| self.cells[index].is_counted()).collect();
        counted.sort_by_key(|&index| Some(self.cells[index].size) != usual);
        counted
    }

    /// The cores of a cell.
    pub fn cores(&self, cell: &Cell) -> Cores {
        match cell.place {
            Place::Apart => self.apart,
            Place::SameCore => Cores::on(self.shared),
        }
    }
}

fn cells(asked: &[usize], made: &Made, one_core: bool, cores: usize) -> Vec<Cell> {
    // Each once, however often it was asked for.
    let asked: Vec<usize> = BTreeSet::from_iter(asked.iter().copied()).into_iter().collect();
    let mut cells = Vec::new();
    for (entry, mechanism) in made.iter().enumerate() {
        let Some(mechanism) = mechanism else { continue };
        for offer in registry::entry(entry).offers {
            let sizes = match offer.sizes {
                Sizes::Asked => &asked,
                Sizes::Fixed(sizes) => sizes,
            };
            for &size in sizes {
                let error = match mechanism {
                    Err(reason) => Some(reason.clone()),
                    Ok(_) if one_core && offer.wait == Some(Wait::Spin) => {
                        Some("both processes are on one core: polling would measure the scheduler".into())
                    }
                    Ok(mechanism) => mechanism.refuses(size),
                };
                let threads = mechanism.as_ref().map_or(TURNS, |mechanism| mechanism.threads());
                let oversubscribed = threads > cores;
                let cell = Cell { entry, offer: *offer, size, place: Place::Apart, oversubscribed, error };
                if !one_core && on_one_core_too(&cell) {
                    let oversubscribed = threads > TURNS;
                    cells.push(Cell { place: Place::SameCore, oversubscribed, ..cell.clone() });
                }
                cells.push(cell);
            }
        }
    }
    cells.sort_by_key(|cell| (cell.offer.measure, cell.place, cell.offer.wait, cell.size));
    cells
}

fn on_one_core_too(cell: &Cell) -> bool {
    cell.offer.wait == Some(Wait::Sleep)
        && match cell.offer.measure {
            Measure::Latency => SAME_CORE_SIZES.contains(&cell.size),
            Measure::Limit => true,
            Measure::Throughput => false,
        }
}

#[cfg(test)]
mod tests {
    use super::super::link::{Figures, Setup};
    use super::super::station::Bench;
    use super::*;

    fn all(ask: impl Fn(&str) -> bool) -> Made {
        let made = registry::entries().map(|entry| ask(entry.name).then(|| Err("not here".to_string())));
        made.collect()
    }

    #[test]
    fn what_cannot_be_made_keeps_its_cells() {
        let cells = cells(&[8, 4096], &all(|name| name == "pipe"), false, 2);
        // 2 sizes x (2 latencies, 2 throughputs), and sleeping at 8 bytes on one core.
        assert_eq!(cells.len(), 9);
        assert!(cells.iter().all(|cell| cell.error.as_deref() == Some("not here")));
        assert_eq!(cells.iter().filter(|cell| cell.place == Place::SameCore).count(), 1);
    }

    #[test]
    fn a_size_that_is_asked_for_twice_is_measured_once() {
        let cells = |sizes| cells(sizes, &all(|name| name == "pipe"), false, 2).len();
        assert_eq!(cells(&[64, 8, 64]), cells(&[8, 64]));
    }

    #[test]
    fn neighbours_are_what_is_compared() {
        let cells = cells(&[8, 64], &all(|_| true), false, 2);
        let key = |cell: &Cell| (cell.offer.measure, cell.place, cell.offer.wait, cell.size);
        assert!(cells.is_sorted_by_key(key));
        assert_eq!(cells[0].offer.measure, Measure::Limit);
    }

    #[test]
    fn on_one_core_nothing_polls() {
        let made: Made = registry::entries()
            .map(|entry| (entry.name == "pipe").then(|| Ok((entry.make)().unwrap())))
            .collect();
        for cell in cells(&[8], &made, true, 2) {
            assert_eq!(cell.error.is_some(), cell.offer.wait == Some(Wait::Spin));
            assert_eq!(cell.place, Place::Apart);
        }
    }

    #[test]
    fn threads_of_a_mechanisms_own_oversubscribe_cores_that_have_no_room_for_them() {
        struct Busy;
        impl Mechanism for Busy {
            fn threads(&self) -> usize {
                4
            }
            fn run(&self, _: Measure, _: &Setup, _: &mut Bench<'_>) -> anyhow::Result<Option<Figures>> {
                unreachable!("it is only planned")
            }
        }
        let made = || -> Made {
            let busy = |name| (name == "pipe").then(|| Ok(Box::new(Busy) as Box<dyn Mechanism>));
            registry::entries().map(|entry| busy(entry.name)).collect()
        };
        for (one_core, cores, expected) in [(false, 2, true), (true, 2, true), (false, 4, false)] {
            for cell in cells(&[8], &made(), one_core, cores) {
                assert_eq!(cell.oversubscribed, expected || cell.place == Place::SameCore, "{cores} cores");
            }
        }
    }
}
