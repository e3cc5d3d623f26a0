//! Running one model through all its interleavings.

use crate::{mortal, sys};
use loom::model::Builder;
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

/// Preemptions in one interleaving, unless `LOOM_MAX_PREEMPTIONS` says otherwise. Most faults need two at most.
const PREEMPTIONS: usize = 2;
/// The same for the models that take longest.
const PREEMPTIONS_OF_LARGE: usize = 1;

/// Most steps of one interleaving: one that takes more goes round in circles.
const BRANCHES: usize = 5_000;

/// Runs `model` in every interleaving and says how many there were.
pub(crate) fn explore(model: impl Fn() + Send + Sync + 'static) {
    report(count(PREEMPTIONS, model));
}

/// The same for a model that is too large for the usual bound.
pub(crate) fn explore_large(model: impl Fn() + Send + Sync + 'static) {
    report(count(PREEMPTIONS_OF_LARGE, model));
}

/// Runs `model(n)` in every interleaving for each n.
pub(crate) fn explore_each(range: Range<u64>, model: impl Fn(u64) + Copy + Send + Sync + 'static) {
    report(range.map(|n| count(PREEMPTIONS, move || model(n))).sum());
}

/// Runs `model(n)` in every interleaving for n = 0, 1, 2, ... until the process that it kills at access n has ended
/// before, in every interleaving. The model says whether it was killed.
pub(crate) fn explore_every_kill(model: impl Fn(u32) -> bool + Send + Sync + 'static) {
    let model = Arc::new(model);
    let mut runs = 0;
    for accesses in 0.. {
        let (model, killed) = (Arc::clone(&model), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&killed);
        runs += count(PREEMPTIONS, move || {
            if model(accesses) {
                noted.store(true, Relaxed);
            }
        });
        if !killed.load(Relaxed) {
            assert!(accesses > 0, "nobody was ever killed");
            break;
        }
    }
    report(runs);
}

fn count(preemptions: usize, model: impl Fn() + Send + Sync + 'static) -> usize {
    let mut builder = Builder::new();
    builder.preemption_bound.get_or_insert(preemptions);
    builder.max_branches = BRANCHES;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        mortal::prepare();
        sys::prepare();
        model();
    });
    runs.load(Relaxed)
}

fn report(runs: usize) {
    let thread = std::thread::current();
    println!("{runs:>9} interleavings of {}", thread.name().unwrap_or_default());
}
