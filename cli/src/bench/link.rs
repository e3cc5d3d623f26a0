//! What a mechanism has to offer to be measured: one direction of a link, and how both processes run it.
//!
//! To add a mechanism: implement [`Link`] (with its two halves), and list it in `registry.rs`. A link is made
//! *before* the two measuring processes are forked, so descriptors and shared memory are simply inherited; each
//! process then attaches its half anew for every sample.

use anyhow::Result;
use hdrhistogram::Histogram;

use super::measure;
use super::shape::{Measure, Variant, Wait};
use super::station::Bench;

/// What a half of a link has to know about the sample it serves.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Every message has exactly this length in bytes.
    pub size: usize,
    /// Copying, in place or batched.
    pub variant: Variant,
    /// Poll or block.
    pub wait: Wait,
}

/// The sending half. Each message is written by `fill`, which writes every byte that it is given.
pub trait SendHalf {
    /// Sends one message of `size` bytes; `fill` gets the place where it comes to be: memory of the mechanism when
    /// that can be written in place, a staging buffer otherwise.
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()>;

    /// Sends `count` messages, one `fill` each and in order; what batches overrides it.
    fn send_many(&mut self, count: u64, size: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        for _ in 0..count {
            self.send(size, &mut fill)?;
        }
        Ok(())
    }
}

/// The receiving half. Each message is looked at by `check`, whose error must be passed on at once.
pub trait RecvHalf {
    /// Receives one message and shows it to `check`, with the length that it came with.
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()>;

    /// Receives exactly `count` messages, one `check` each and in order; what batches overrides it.
    fn recv_many(
        &mut self,
        count: u64,
        size: usize,
        mut check: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        for _ in 0..count {
            self.recv(size, &mut check)?;
        }
        Ok(())
    }
}

/// One direction between the two processes.
pub trait Link {
    /// Its sending half, made by the process that sends.
    type Sender<'a>: SendHalf
    where
        Self: 'a;
    /// Its receiving half, made by the process that receives.
    type Receiver<'a>: RecvHalf
    where
        Self: 'a;

    /// How many threads are at work in both processes together: more than two where it brings some of its own.
    const THREADS: usize = 2;

    /// Makes the link empty and ready for `setup`. One process calls it, while neither half exists.
    fn reset(&self, _setup: &Setup) -> Result<()> {
        Ok(())
    }

    /// Attaches the calling process as the sender.
    fn sender(&self, setup: &Setup) -> Result<Self::Sender<'_>>;

    /// Attaches the calling process as the receiver.
    fn receiver(&self, setup: &Setup) -> Result<Self::Receiver<'_>>;

    /// Why messages of `size` bytes can't pass, naming the limit; `None` when they can.
    fn refuses(&self, _size: usize) -> Option<String> {
        None
    }
}

/// What one sample gave, in the process that measures.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Figures {
    /// Half of the round trip, in nanoseconds.
    Latency {
        /// Median.
        p50_ns: f64,
        /// 90th percentile.
        p90_ns: f64,
        /// 99th percentile.
        p99_ns: f64,
        /// 99.9th percentile.
        p999_ns: f64,
        /// 99.99th percentile.
        p9999_ns: f64,
        /// The longest.
        max_ns: f64,
    },
    /// One direction, by the receiver's clock.
    Throughput {
        /// Messages a second.
        messages_per_s: f64,
        /// Payload bytes a second.
        bytes_per_s: f64,
    },
}

impl Figures {
    /// The percentiles of `times`, each divided by `parts`.
    pub fn of(times: &Histogram<u64>, parts: f64) -> Self {
        let at = |quantile| times.value_at_quantile(quantile) as f64 / parts;
        Self::Latency {
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            p9999_ns: at(0.9999),
            max_ns: at(1.0),
        }
    }
}

/// A mechanism could not be set up for a sample. The cell gets an error row and the run goes on.
#[derive(Debug)]
pub struct Unavailable(pub String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// A mechanism as the harness sees it: one dynamic call a sample, everything inside is monomorphised.
pub trait Mechanism {
    /// As [`Link::THREADS`].
    fn threads(&self) -> usize {
        2
    }

    /// Why messages of `size` bytes can't pass, naming the limit; `None` when they can.
    fn refuses(&self, _size: usize) -> Option<String> {
        None
    }

    /// Runs one sample in the calling process. The leader gets the figures, the follower `None`.
    fn run(&self, measure: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>>;
}

/// A link in each direction.
pub struct Pair<L> {
    /// From the leader to the follower.
    pub there: L,
    /// From the follower to the leader; throughput is measured on this one.
    pub back: L,
}

impl<L: Link> Mechanism for Pair<L> {
    fn threads(&self) -> usize {
        L::THREADS
    }

    fn refuses(&self, size: usize) -> Option<String> {
        self.there.refuses(size)
    }

    fn run(&self, measure: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        let cleared = match bench.leads() {
            true => self.there.reset(setup).and_then(|()| self.back.reset(setup)),
            false => Ok(()),
        };
        bench.station.agree(cleared)?;
        match (measure, bench.leads()) {
            (Measure::Throughput, true) => {
                let mut receiver = bench.station.agree(self.back.receiver(setup))?;
                measure::drain(bench, setup.size, &mut receiver).map(Some)
            }
            (Measure::Throughput, false) => {
                let mut sender = bench.station.agree(self.back.sender(setup))?;
                measure::pour(bench, setup.size, &mut sender).map(|()| None)
            }
            (_, true) => {
                let halves = self.there.sender(setup).and_then(|tx| Ok((tx, self.back.receiver(setup)?)));
                let (mut sender, mut receiver) = bench.station.agree(halves)?;
                measure::ping(bench, setup, &mut sender, &mut receiver).map(Some)
            }
            (_, false) => {
                let halves = self.back.sender(setup).and_then(|tx| Ok((tx, self.there.receiver(setup)?)));
                let (mut sender, mut receiver) = bench.station.agree(halves)?;
                measure::pong(bench, setup, &mut sender, &mut receiver).map(|()| None)
            }
        }
    }
}
