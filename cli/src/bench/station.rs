//! The page on which the two measuring processes meet, and what each of them carries from sample to sample.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;

use super::calls::{Mark, mark};
use super::link::Unavailable;
use super::memory::{Line, Shareable, Shared};
use super::payload::Window;
use super::usage::Usage;

/// Pairs of lines that the line ping-pong walks through. How long a line takes depends on its address, since that
/// decides which slice of the last-level cache answers for it: by 20 % either way on a large mesh. A single pair would
/// make one run's anchor unlike the next one's, and unlike that of a ring, which walks as well.
pub const PAIRS: usize = 32;

/// What the two processes share beside the mechanisms.
#[derive(Default)]
#[repr(C)]
pub struct Board {
    arrived: [Line<AtomicU64>; 2],
    failed: [Line<AtomicU32>; 2],
    count: Line<AtomicU64>,
    /// The words of the line ping-pong: of each pair the leader writes the first, the follower the second.
    pub lines: [[Line<AtomicU64>; 2]; PAIRS],
    /// The words of the futex ping-pong.
    pub futex: [Line<AtomicU32>; 2],
}

// SAFETY: atomics only, all valid when zero.
unsafe impl Shareable for Board {}

/// Which of the two processes this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts the round trips, receives when throughput is measured, holds the clock.
    Leader,
    /// Answers.
    Follower,
}

/// One process's side of the board.
pub struct Station<'a> {
    /// The shared page.
    pub board: &'a Board,
    /// Whose side.
    pub role: Role,
    /// How far it has come.
    pub turns: Turns,
}

/// How often a side did what: its words on the board only ever count up, from sample to sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    meetings: u64,
    /// Line round trips.
    pub line: u64,
    /// Futex round trips.
    pub futex: u32,
}

impl<'a> Station<'a> {
    /// The side of `role`, as far as it has come; on a fresh board that is nowhere.
    pub fn new(board: &'a Shared<Board>, role: Role, turns: Turns) -> Self {
        Self { board, role, turns }
    }

    /// Waits until the other process is at the same point. Polls, and yields when that takes long.
    pub fn meet(&mut self) {
        let (mine, other) = (self.role as usize, 1 - self.role as usize);
        self.turns.meetings += 1;
        // ORDERING: what this side wrote before the meeting is visible to the other one after it.
        self.board.arrived[mine].0.store(self.turns.meetings, Ordering::Release);
        let mut polls = 0u32;
        while self.board.arrived[other].0.load(Ordering::Acquire) < self.turns.meetings {
            polls = polls.saturating_add(1);
            if polls < 2000 { spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// A meeting at which each side says whether its part succeeded; both get an error when one did not.
    pub fn agree<T>(&mut self, mine: Result<T>) -> Result<T> {
        let (me, other) = (self.role as usize, 1 - self.role as usize);
        // ORDERING: Relaxed, the meeting orders it; a second meeting keeps the word from being changed too early.
        self.board.failed[me].0.store(u32::from(mine.is_err()), Ordering::Relaxed);
        self.meet();
        let failed = self.board.failed[other].0.load(Ordering::Relaxed) != 0;
        self.meet();
        match mine {
            Err(error) => Err(Unavailable(format!("{error:#}")).into()),
            Ok(_) if failed => Err(Unavailable(String::new()).into()),
            Ok(value) => Ok(value),
        }
    }

    /// The leader says how many messages the next phase has; 0 ends the sample.
    pub fn announce(&mut self, count: u64) {
        // ORDERING: Relaxed, the meeting orders it; the second one keeps the word until it was read.
        self.board.count.0.store(count, Ordering::Relaxed);
        self.meet();
        self.meet();
    }

    /// The follower hears how many messages the next phase has.
    pub fn hear(&mut self) -> u64 {
        self.meet();
        let count = self.board.count.0.load(Ordering::Relaxed);
        self.meet();
        count
    }
}

/// What a process needs to run a sample.
pub struct Bench<'a> {
    /// Where it meets the other one.
    pub station: Station<'a>,
    /// The messages of this sample.
    pub window: &'a Window,
    /// For how long to measure.
    pub budget: Duration,
    /// Time stamps of the leader, kept allocated over the samples.
    pub stamps: Vec<u64>,
    /// What this process has used in the phases of the last sample.
    pub usage: Usage,
    /// Round trips (or messages) of a sample in which system calls are counted, and nothing is timed.
    pub counted: Option<u64>,
}

impl Bench<'_> {
    /// Runs a phase; where system calls are counted, they are those of the phase alone.
    #[inline]
    pub fn phase<T>(&mut self, phase: impl FnOnce(&mut Self) -> T) -> T {
        if self.counted.is_none() {
            return phase(self);
        }
        mark(Mark::Begin);
        let result = phase(self);
        mark(Mark::End);
        result
    }

    /// Whether this process holds the clock.
    pub fn leads(&self) -> bool {
        self.station.role == Role::Leader
    }
}
