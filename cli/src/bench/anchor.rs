//! The anchor: what the hardware (or, on one core, the kernel) takes to carry a word from one process to the other
//! at this very moment.
//!
//! A host may move virtual cores between placements within seconds without the guest seeing any of it. So each
//! sample lies between two anchors, is dropped when they fall into different classes, and is reported as a ratio.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::futex;
use super::measure;
use super::memory::Line;
use super::shape::Wait;
use super::station::{Bench, PAIRS, Station};

/// Below: two hardware threads of one core. They meet in the first-level cache: 10 to 25 ns.
pub const SMT_BELOW_NS: f64 = 35.0;
/// Below: two cores that share a last-level cache, 40 to 90 ns. Above: another cluster, die or socket, from 130 ns.
pub const CCX_BELOW_NS: f64 = 110.0;

/// Where the two processes were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// One core in turns; the anchor is the raw futex ping-pong.
    SameCore,
    /// Two hardware threads of one core.
    Smt,
    /// One last-level cache.
    Ccx,
    /// Farther apart.
    Far,
}

impl Class {
    /// The class that a line ping-pong of so many nanoseconds one way belongs to.
    pub fn of_line(one_way_ns: f64) -> Self {
        if one_way_ns < SMT_BELOW_NS {
            Self::Smt
        } else if one_way_ns < CCX_BELOW_NS {
            Self::Ccx
        } else {
            Self::Far
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// Which ping-pong anchors a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Polling a cache line, on two cores.
    Line,
    /// Sleeping on a futex, on one core.
    Futex,
}

/// Round trips over one pair of lines before it is the next one's turn.
const TRIPS_A_PAIR: u64 = 64;
const LINE_TRIPS: u64 = 2 * PAIRS as u64 * TRIPS_A_PAIR;
const FUTEX_TRIPS: u64 = 256;

/// Runs the ping-pong; both processes call it. One way in nanoseconds, in the leader: the median, timed exactly as a
/// latency sample is timed, so that both have the same overhead. 0 in the follower.
pub fn measure(bench: &mut Bench<'_>, kind: Kind) -> Result<f64> {
    match kind {
        Kind::Line => ping_pong(bench, Wait::Spin, LINE_TRIPS, line_pass, line_await),
        Kind::Futex => ping_pong(bench, Wait::Sleep, FUTEX_TRIPS, futex_pass, futex_await),
    }
}

fn ping_pong(
    bench: &mut Bench<'_>,
    wait: Wait,
    trips: u64,
    pass: impl Fn(&mut Station<'_>),
    wait_for: impl Fn(&Station<'_>),
) -> Result<f64> {
    if bench.leads() {
        let send = |bench: &mut Bench<'_>| {
            pass(&mut bench.station);
            Ok(())
        };
        let recv = |bench: &mut Bench<'_>| {
            wait_for(&bench.station);
            Ok(())
        };
        return measure::short_round_trips(bench, trips, wait, send, recv);
    }
    measure::answers(bench, |bench| {
        wait_for(&bench.station);
        pass(&mut bench.station);
        Ok(())
    })?;
    Ok(0.0)
}

/// The lines of a turn.
#[inline]
fn pair<'a>(station: &Station<'a>, turn: u64) -> &'a [Line<AtomicU64>; 2] {
    &station.board.lines[(turn / TRIPS_A_PAIR) as usize % PAIRS]
}

/// Writes this side's word.
#[inline]
pub fn line_pass(station: &mut Station<'_>) {
    station.turns.line += 1;
    // ORDERING: Release, as a message would need, though the word is all that is carried; pairs with `line_await`.
    pair(station, station.turns.line)[station.role as usize].0.store(station.turns.line, Ordering::Release);
}

/// Polls the other side's word with exactly one pause between two looks.
#[inline]
pub fn line_await(station: &Station<'_>) {
    // The leader waits for the answer to what it wrote, the follower for one more than it has answered.
    let turn = station.turns.line + station.role as u64;
    let word = &pair(station, turn)[1 - station.role as usize].0;
    // ORDERING: Acquire, pairs with `line_pass`.
    while word.load(Ordering::Acquire) != turn {
        spin_loop();
    }
}

/// Counts this side's word up and wakes whoever sleeps on it.
pub fn futex_pass(station: &mut Station<'_>) {
    station.turns.futex = station.turns.futex.wrapping_add(1);
    let word = &station.board.futex[station.role as usize].0;
    // ORDERING: Release, pairs with Acquire in `futex_await`.
    word.store(station.turns.futex, Ordering::Release);
    futex::wake(word);
}

/// Sleeps until the other side's word has come up.
pub fn futex_await(station: &Station<'_>) {
    let turn = station.turns.futex.wrapping_add(station.role as u32);
    let old = turn.wrapping_sub(1);
    let word = &station.board.futex[1 - station.role as usize].0;
    // ORDERING: Acquire, pairs with Release in `futex_pass`.
    while word.load(Ordering::Acquire) != turn {
        futex::sleep(word, old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_boundaries() {
        assert_eq!(Class::of_line(20.0), Class::Smt);
        assert_eq!(Class::of_line(34.9), Class::Smt);
        assert_eq!(Class::of_line(35.0), Class::Ccx);
        assert_eq!(Class::of_line(54.0), Class::Ccx);
        assert_eq!(Class::of_line(110.0), Class::Far);
        assert_eq!(Class::of_line(f64::INFINITY), Class::Far);
        assert_eq!(Class::SameCore.to_string(), "same-core");
    }
}
