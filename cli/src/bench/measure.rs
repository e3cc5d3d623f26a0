//! The measuring loops, one for all mechanisms. The leader holds the clock and decides how many messages a phase has.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;

use super::link::{Figures, RecvHalf, SendHalf, Setup};
use super::shape::Wait;
use super::station::Bench;
use super::usage::Usage;

/// Messages of the first phase; later ones grow until a phase is long enough to count.
const FIRST: u64 = 4;
const GROWTH: u64 = 16;
/// Time stamps that are kept at most: 8 bytes each.
const STAMPS: u64 = 1 << 18;

/// The leader's part of a latency sample.
pub fn ping(
    bench: &mut Bench<'_>,
    setup: &Setup,
    sender: &mut impl SendHalf,
    receiver: &mut impl RecvHalf,
) -> Result<Figures> {
    let (mut filler, mut checker) = (bench.window.filler(), bench.window.checker());
    let size = setup.size;
    round_trips(
        bench,
        setup.wait,
        |_| sender.send(size, |message| filler.fill(message)),
        |_| receiver.recv(size, |message| checker.check(message)),
    )
}

/// The follower's part of a latency sample: it answers each message with the same piece of the input.
pub fn pong(
    bench: &mut Bench<'_>,
    setup: &Setup,
    sender: &mut impl SendHalf,
    receiver: &mut impl RecvHalf,
) -> Result<()> {
    let (mut filler, mut checker) = (bench.window.filler(), bench.window.checker());
    let size = setup.size;
    answers(bench, |_| {
        receiver.recv(size, |message| checker.check(message))?;
        sender.send(size, |message| filler.fill(message))
    })
}

/// Times round trips that `send` starts and `recv` ends, for as long as the budget says.
pub fn round_trips<'b>(
    bench: &mut Bench<'b>,
    wait: Wait,
    mut send: impl FnMut(&mut Bench<'b>) -> Result<()>,
    mut recv: impl FnMut(&mut Bench<'b>) -> Result<()>,
) -> Result<Figures> {
    // Written, so that none of its pages is new while the clock runs.
    bench.stamps.resize(STAMPS as usize + 1, 0);
    let phase = |bench: &mut Bench<'b>, count| phase_of_trips(bench, count, wait, &mut send, &mut recv);
    in_phases(bench, STAMPS, 0, phase)?;
    // There and back.
    bench.usage.messages *= 2.0;
    Ok(figures(&bench.stamps))
}

/// Times `count` round trips; the median of one way.
pub fn short_round_trips<'b>(
    bench: &mut Bench<'b>,
    count: u64,
    wait: Wait,
    mut send: impl FnMut(&mut Bench<'b>) -> Result<()>,
    mut recv: impl FnMut(&mut Bench<'b>) -> Result<()>,
) -> Result<f64> {
    bench.station.announce(count);
    phase_of_trips(bench, count, wait, &mut send, &mut recv)?;
    bench.station.announce(0);
    match figures(&bench.stamps) {
        Figures::Latency { p50_ns, .. } => Ok(p50_ns),
        Figures::Throughput { .. } => unreachable!("stamps are round trips"),
    }
}

#[inline]
fn phase_of_trips<'b>(
    bench: &mut Bench<'b>,
    count: u64,
    wait: Wait,
    send: &mut impl FnMut(&mut Bench<'b>) -> Result<()>,
    recv: &mut impl FnMut(&mut Bench<'b>) -> Result<()>,
) -> Result<Duration> {
    let mut stamps = std::mem::take(&mut bench.stamps);
    stamps.clear();
    let start = Instant::now();
    match wait {
        // While the message is on its way the clock is read for free: what lies between two stamps is one round
        // trip, and no more.
        Wait::Spin => {
            for _ in 0..count {
                send(bench)?;
                stamps.push(start.elapsed().as_nanos() as u64);
                recv(bench)?;
            }
        }
        // A send may hand the core to the receiver, so here the clock is read before it.
        Wait::Sleep => {
            for _ in 0..count {
                stamps.push(start.elapsed().as_nanos() as u64);
                send(bench)?;
                recv(bench)?;
            }
        }
    }
    let took = start.elapsed();
    bench.stamps = stamps;
    Ok(took)
}

/// Percentiles of what lies between the stamps, halved.
fn figures(stamps: &[u64]) -> Figures {
    let mut trips = histogram();
    for pair in stamps.windows(2) {
        trips.saturating_record(pair[1] - pair[0]);
    }
    Figures::of(&trips, 2.0)
}

/// From a nanosecond to a minute, with three digits.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("these bounds are legal")
}

/// The follower's part of [`round_trips`] and [`short_round_trips`].
pub fn answers<'b>(
    bench: &mut Bench<'b>,
    mut answer: impl FnMut(&mut Bench<'b>) -> Result<()>,
) -> Result<()> {
    follow(bench, |bench, count| (0..count).try_for_each(|_| answer(bench)))
}

/// Runs phases of as many messages as the leader announces.
fn follow<'b>(bench: &mut Bench<'b>, mut phase: impl FnMut(&mut Bench<'b>, u64) -> Result<()>) -> Result<()> {
    let start = Usage::now();
    loop {
        let count = bench.station.hear();
        if count == 0 {
            bench.usage = Usage::since(start, 0);
            return Ok(());
        }
        bench.phase(|bench| phase(bench, count))?;
    }
}

/// The leader's part of a throughput sample: it receives, and its clock runs from the first message to the last.
pub fn drain(bench: &mut Bench<'_>, size: usize, receiver: &mut impl RecvHalf) -> Result<Figures> {
    let mut checker = bench.window.checker();
    let (count, took) = in_phases(bench, u64::MAX, 1, |_, count| {
        receiver.recv(size, |message| checker.check(message))?;
        let start = Instant::now();
        receiver.recv_many(count, size, |message| checker.check(message))?;
        Ok(start.elapsed())
    })?;
    let messages_per_s = count as f64 / took.as_secs_f64();
    Ok(Figures::Throughput { messages_per_s, bytes_per_s: messages_per_s * size as f64 })
}

/// The follower's part of a throughput sample.
pub fn pour(bench: &mut Bench<'_>, size: usize, sender: &mut impl SendHalf) -> Result<()> {
    let mut filler = bench.window.filler();
    follow(bench, |_, count| sender.send_many(count + 1, size, |message| filler.fill(message)))
}

/// Runs phases of growing length until one has lasted for a good part of the budget; that one counts. Each passes
/// `untimed` messages more than it times. Where system calls are counted, there is one phase, of the length asked for.
fn in_phases<'b>(
    bench: &mut Bench<'b>,
    most: u64,
    untimed: u64,
    mut phase: impl FnMut(&mut Bench<'b>, u64) -> Result<Duration>,
) -> Result<(u64, Duration)> {
    let (mut count, mut all) = (bench.counted.unwrap_or(FIRST), 0);
    let mut last = bench.counted.is_some();
    let start = Usage::now();
    loop {
        bench.station.announce(count);
        let took = bench.phase(|bench| phase(bench, count))?;
        all += count + untimed;
        if last || took * 3 >= bench.budget || count >= most {
            bench.station.announce(0);
            bench.usage = Usage::since(start, all);
            return Ok((count, took));
        }
        let fits = bench.budget.as_secs_f64() * 0.7 / took.as_secs_f64().max(1e-9) * count as f64;
        last = fits < (count * GROWTH) as f64;
        count = (fits as u64).clamp(count + 1, count * GROWTH).min(most);
    }
}
