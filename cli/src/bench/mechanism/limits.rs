//! What the hardware and the kernel allow at best: the anchors themselves and the empty system call.

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
    Ok(Box::new(EmptyCall))
}

struct Turns<P, W> {
    wait: Wait,
    pass: P,
    wait_for: W,
}

impl<P: Fn(&mut Station<'_>), W: Fn(&Station<'_>)> Mechanism for Turns<P, W> {
    fn refuses(&self, _size: usize) -> Option<String> {
        None
    }

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

struct EmptyCall;

const CALLS: u32 = 64;

impl Mechanism for EmptyCall {
    fn refuses(&self, _size: usize) -> Option<String> {
        None
    }

    /// Bursts of calls in the leader; the percentiles are over the bursts, since a clock costs as much as a call.
    fn run(&self, _measure: Measure, _setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        let mut figures = None;
        if bench.leads() {
            let mut bursts = measure::histogram();
            let start = Instant::now();
            while start.elapsed() < bench.budget / 4 {
                let burst = Instant::now();
                for _ in 0..CALLS {
                    // SAFETY: takes and changes nothing.
                    unsafe { libc::syscall(libc::SYS_getppid) };
                }
                bursts.saturating_record(burst.elapsed().as_nanos() as u64);
            }
            figures = Some(Figures::of(&bursts, f64::from(CALLS)));
        }
        bench.station.meet();
        Ok(figures)
    }
}
