//! What the hardware and the kernel allow at best: the anchors themselves and the empty system call.

use std::hint::black_box;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use anyhow::Result;

use crate::bench::anchor;
use crate::bench::link::{Figures, Mechanism, Setup};
use crate::bench::measure;
use crate::bench::shape::{Measure, Wait};
use crate::bench::station::{Bench, Role, Station};

/// A cache line between two cores.
pub fn line() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Turns { wait: Wait::Spin, pass: anchor::line_pass, wait_for: anchor::line_await }))
}

/// Two futexes, each side asleep until it is woken.
pub fn futex() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Turns { wait: Wait::Sleep, pass: anchor::futex_pass, wait_for: anchor::futex_await }))
}

/// An empty system call.
pub fn syscall() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Burst { once: call }))
}

/// A full fence.
pub fn full_fences() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Burst { once: full_fence }))
}

/// A copy of [`COPIED`] bytes within the first-level cache.
pub fn copy() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Burst { once: copy_once }))
}

struct Turns<P, W> {
    wait: Wait,
    pass: P,
    wait_for: W,
}

impl<P: Fn(&mut Station<'_>), W: Fn(&Station<'_>)> Mechanism for Turns<P, W> {
    fn run(&self, _measure: Measure, _setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        match bench.station.role {
            Role::Leader => measure::round_trips(
                bench,
                self.wait,
                |bench| {
                    (self.pass)(&mut bench.station);
                    Ok(())
                },
                |bench| {
                    (self.wait_for)(&bench.station);
                    Ok(())
                },
            )
            .map(Some),
            Role::Follower => measure::answers(bench, |bench| {
                (self.wait_for)(&bench.station);
                (self.pass)(&mut bench.station);
                Ok(())
            })
            .map(|()| None),
        }
    }
}

/// A thing of one process that is over in no time.
struct Burst {
    once: fn(),
}

const TIMES: u32 = 64;

impl Mechanism for Burst {
    /// Bursts in the leader; the percentiles are over the bursts, since a clock costs as much as what is measured.
    fn run(&self, _measure: Measure, _setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        let mut figures = None;
        if bench.leads() {
            let mut bursts = measure::histogram();
            let start = Instant::now();
            while start.elapsed() < bench.budget / 4 {
                let burst = Instant::now();
                (0..TIMES).for_each(|_| (self.once)());
                bursts.saturating_record(burst.elapsed().as_nanos() as u64);
            }
            figures = Some(Figures::of(&bursts, f64::from(TIMES)));
        }
        bench.station.meet();
        Ok(figures)
    }
}

fn call() {
    // SAFETY: takes and changes nothing.
    unsafe { libc::syscall(libc::SYS_getppid) };
}

fn full_fence() {
    // ORDERING: SeqCst, the dearest there is; it has no partner, its price is all that is asked for.
    fence(Ordering::SeqCst);
}

/// Bytes of a message that is copied.
pub const COPIED: usize = 64;

fn copy_once() {
    let from = black_box([7u8; COPIED]);
    let mut to = black_box([0u8; COPIED]);
    black_box(&mut to).copy_from_slice(black_box(&from));
    black_box(&to);
}
