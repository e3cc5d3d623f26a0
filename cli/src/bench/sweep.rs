//! The ring alone: one thing is varied, all else stays. Messages a second of 64 bytes (by the ring's size also of 4 KiB),
//! between a receiver and its senders, each a process of its own.

use std::fs::File;
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe};
use ringpost::{Receiver, Ring, Sender, SenderKind, Trusted, WaitStrategy, record_size};

use super::cores::{self, Cores};
use super::memory::{Shareable, Shared};
use super::row::{Row, Strategy, Sweep};
use super::shape::{Measure, Variant};
use super::summary::{median, used};
use super::supervise::obituary;
use super::usage::Usage;

const SIZE: usize = 64;
const LINE: usize = 64;
const ROUNDS: usize = 3;
/// What a sample lasts for, about.
const LASTS: Duration = Duration::from_millis(60);
/// Messages of which the rate is guessed.
const GUESS: u64 = 20_000;
const SENDERS: [usize; 5] = [1, 2, 4, 8, 16];
const BATCHES: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const CAPACITIES: [u64; 5] = [64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20];

/// One setting.
#[derive(Clone, Copy)]
struct Setting {
    sweep: Sweep,
    strategy: Strategy,
    size: usize,
    capacity: u64,
    batch: usize,
    senders: usize,
}

/// Measures every setting, the rounds interleaved, on the cores of the run. Must be called while the process has one thread.
pub fn rows(apart: Cores, usable: &[usize]) -> Result<Vec<Row>> {
    let one = apart.leader.filter(|_| apart.same());
    let usable = one.as_ref().map_or(usable, std::slice::from_ref);
    let settings = settings(usable.len());
    let mut samples: Vec<Vec<(f64, Usage)>> = vec![Vec::new(); settings.len()];
    let mut errors: Vec<Option<String>> = vec![None; settings.len()];
    for _ in 0..ROUNDS {
        for (index, setting) in settings.iter().enumerate() {
            if errors[index].is_some() {
                continue;
            }
            let sample = |messages| setting.sample(messages, apart, usable);
            let guess = sample(GUESS).map(|(rate, _)| (rate * LASTS.as_secs_f64()) as u64);
            match guess.and_then(|messages| sample(messages.max(GUESS))) {
                Ok(sample) => samples[index].push(sample),
                Err(error) => errors[index] = Some(format!("{error:#}")),
            }
        }
    }
    let all = settings.iter().zip(samples).zip(errors);
    Ok(all.map(|((setting, samples), error)| setting.row(&samples, error, usable.len())).collect())
}

fn settings(cores: usize) -> Vec<Setting> {
    // Nobody polls for ever where there is no core for the other side.
    let strategy = if cores > 1 { Strategy::Spin } else { Strategy::Sleep };
    let usual =
        Setting { sweep: Sweep::FanIn, strategy, size: SIZE, capacity: 1 << 20, batch: 1, senders: 1 };
    let mut settings = Vec::new();
    let sleepy = Setting { strategy: Strategy::SpinThenSleep, ..usual };
    settings.extend(SENDERS.map(|senders| Setting { senders, ..sleepy }));
    for size in [SIZE, 4096] {
        settings.extend(CAPACITIES.map(|capacity| Setting {
            sweep: Sweep::Capacity,
            size,
            capacity,
            ..usual
        }));
    }
    settings.extend(BATCHES.map(|batch| Setting { sweep: Sweep::Batch, batch, ..usual }));
    let strategies = [Strategy::Spin, Strategy::SpinThenSleep, Strategy::Sleep];
    let possible = strategies.into_iter().filter(|strategy| cores > 1 || *strategy != Strategy::Spin);
    settings.extend(possible.map(|strategy| Setting { sweep: Sweep::Waiting, strategy, ..usual }));
    settings
}

impl Setting {
    /// One ring for many senders where there are to be many, the other one elsewhere.
    fn mechanism(&self) -> &'static str {
        if self.sweep == Sweep::FanIn { "ring-mpsc" } else { "ring-spsc" }
    }

    fn row(&self, samples: &[(f64, Usage)], error: Option<String>, cores: usize) -> Row {
        let rates = || samples.iter().map(|(rate, _)| *rate);
        let used = |pick| used(samples.iter().map(|(_, usage)| usage), pick);
        let rate = median(rates().collect()).filter(|_| error.is_none());
        Row {
            variant: Some(if self.batch > 1 { Variant::Batch } else { Variant::InPlace }),
            messages_per_s: rate.map(f64::round),
            bytes_per_s: rate.map(|rate| (rate * self.size as f64).round()),
            cpu_s_per_million: used(|usage| usage.cpu_s),
            waits_per_million: used(|usage| usage.waits),
            preemptions_per_million: used(|usage| usage.preemptions),
            copied_bytes: Some(0),
            sweep: Some(self.sweep),
            strategy: Some(self.strategy),
            capacity: Some(self.capacity),
            batch: Some(self.batch),
            senders: Some(self.senders),
            oversubscribed: self.senders + 1 > cores,
            samples: samples.len(),
            min: rates().reduce(f64::min).map(f64::round),
            max: rates().reduce(f64::max).map(f64::round),
            error,
            ..Row::blank(Measure::Throughput, self.mechanism(), self.size)
        }
    }

    fn builder(&self) -> ringpost::Builder {
        let builder = ringpost::unnamed().wait(match self.strategy {
            Strategy::Spin => WaitStrategy::Spin,
            Strategy::SpinThenSleep => WaitStrategy::SpinThenSleep,
            Strategy::Sleep => WaitStrategy::Sleep,
        });
        match self.sweep {
            Sweep::FanIn => builder.many_senders(16),
            _ => builder,
        }
    }

    /// Messages a second, and what all the processes used.
    fn sample(&self, messages: u64, apart: Cores, usable: &[usize]) -> Result<(f64, Usage)> {
        let ring = self.builder().capacity(self.capacity).memfd().context("cannot make a ring")?;
        let each = messages / self.senders as u64;
        let gate = Shared::<Gate>::zeroed()?;
        let mut children = Vec::new();
        let receiver = Child::start(apart.leader, usable, || {
            let ring = self.opened(&ring)?;
            self.receive(&mut ring.receiver()?, each)
        })?;
        for _ in 0..self.senders {
            let core = apart.follower.filter(|_| self.senders == 1);
            children.push(Child::start(core, usable, || {
                let ring = self.opened(&ring)?;
                self.send(&ring, &gate, each).map(|()| 0.0)
            })?);
        }
        let mut usage = Usage { messages: (each * self.senders as u64) as f64, ..Usage::default() };
        let mut rate = 0.0;
        for child in [receiver].into_iter().chain(children) {
            let (result, used) = child.end()?;
            rate = f64::max(rate, result);
            usage = usage.with(used);
        }
        ensure!(rate > 0.0, "the receiver measured nothing");
        Ok((rate, usage))
    }

    fn opened(&self, ring: &Ring) -> Result<Ring<Trusted>> {
        let ring = self.builder().from_fd(ring.inheritable_fd()?)?;
        // SAFETY: the memfd has no name, and its only holders are forks of this program, which write to it through
        // ringpost alone.
        Ok(unsafe { ring.trust_peers() })
    }

    /// Begins when all senders are attached: else the receiver could meet the end before the last of them has come.
    fn send(&self, ring: &Ring<Trusted>, gate: &Gate, messages: u64) -> Result<()> {
        if self.sweep == Sweep::FanIn {
            let mut sender = ring.multi_sender()?;
            gate.pass(self.senders as u32)?;
            return self.send_singly(&mut sender, messages);
        }
        let mut sender = ring.sender()?;
        if self.batch == 1 {
            return self.send_singly(&mut sender, messages);
        }
        let mut number = 0;
        while number < messages {
            let step = (messages - number).min(self.batch as u64);
            let mut batch = sender.batch(step as usize * record_size(self.size))?;
            for _ in 0..step {
                batch.push_with(0, self.size, |room| fill(number, room))?;
                number += 1;
            }
            batch.commit();
        }
        Ok(())
    }

    fn send_singly<K: SenderKind>(&self, sender: &mut Sender<Trusted, K>, messages: u64) -> Result<()> {
        for number in 0..messages {
            let mut room = sender.reserve(self.size)?;
            fill(number, &mut room);
            room.commit();
        }
        Ok(())
    }

    /// By the clock of the receiver, from the first message to the last. It reads one word of each cache line; the messages of
    /// each sender come in order.
    fn receive(&self, receiver: &mut Receiver<Trusted>, each: u64) -> Result<f64> {
        let mut next = [0u64; 256];
        let all = each * self.senders as u64;
        let mut check = |slot: u8, message: &[u8]| {
            let expected = &mut next[usize::from(slot)];
            let number = u64::from_ne_bytes(message[..8].try_into()?);
            ensure!(number == *expected, "message {number} came where {expected} was to come");
            let filled = [number as u8; 8];
            let mut lines = message.chunks_exact(LINE).skip(1);
            ensure!(lines.all(|line| line[..8] == filled), "message {number} is spoilt");
            // When a sender has sent all, its place is free for the next one.
            *expected = if number + 1 == each { 0 } else { number + 1 };
            Ok(())
        };
        let mut started = None;
        let mut left = all;
        while left > 0 {
            if self.batch > 1 {
                let messages = receiver.recv_many_timeout(self.batch.min(left as usize), PATIENCE)?;
                started.get_or_insert_with(Instant::now);
                for message in messages.iter() {
                    check(message.slot(), &message)?;
                    left -= 1;
                }
            } else {
                let message = receiver.recv_timeout(PATIENCE)?;
                started.get_or_insert_with(Instant::now);
                check(message.slot(), &message)?;
                left -= 1;
            }
        }
        let took = started.context("there was no message")?.elapsed();
        Ok(all as f64 / took.as_secs_f64())
    }
}

/// Writes message `number`: every byte of it.
fn fill(number: u64, room: &mut [u8]) {
    room.fill(number as u8);
    room[..8].copy_from_slice(&number.to_ne_bytes());
}

/// How long a process of a sample waits for the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the senders of a sample wait for each other.
#[derive(Default)]
#[repr(C)]
struct Gate(AtomicU32);

// SAFETY: an atomic, valid when zero.
unsafe impl Shareable for Gate {}

impl Gate {
    /// Returns when `all` have come.
    fn pass(&self, all: u32) -> Result<()> {
        let start = Instant::now();
        // ORDERING: Relaxed; it only says how many there are.
        self.0.fetch_add(1, Relaxed);
        while self.0.load(Relaxed) < all {
            ensure!(start.elapsed() < PATIENCE, "not all senders have come");
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// A process of a sample, and the pipe through which it says what came of it.
struct Child {
    pid: Pid,
    answer: File,
    ended: bool,
}

impl Child {
    fn start(core: Option<usize>, usable: &[usize], work: impl FnOnce() -> Result<f64>) -> Result<Self> {
        let (answer, say) = pipe().context("cannot make a pipe")?;
        // SAFETY: the supervisor has one thread, so the child may use everything that it inherits.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => Ok(Self { pid: child, answer: answer.into(), ended: false }),
            ForkResult::Child => {
                // Nobody of a sample outlives the run.
                let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
                let result = cores::pin(core, usable).and_then(|()| {
                    let start = Usage::now();
                    let figure = work()?;
                    Ok((figure, Usage::since(start, 0)))
                });
                let answer: Result<_, String> = result.map_err(|error| format!("{error:#}"));
                let said =
                    serde_json::to_vec(&answer).is_ok_and(|text| nix::unistd::write(&say, &text).is_ok());
                // SAFETY: ends the process without running what belongs to the supervisor.
                unsafe { libc::_exit(i32::from(!said)) }
            }
        }
    }

    fn end(mut self) -> Result<(f64, Usage)> {
        self.ended = true;
        let end = waitpid(self.pid, None);
        ensure!(matches!(end, Ok(WaitStatus::Exited(_, 0))), obituary(self.pid, end));
        let mut text = Vec::new();
        self.answer.read_to_end(&mut text)?;
        let answer: Result<_, String> = serde_json::from_slice(&text)?;
        answer.map_err(anyhow::Error::msg)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_each_line_is_read() {
        let long = settings(2).into_iter().find(|setting| setting.size == 4096).unwrap();
        let ring = long.opened(&long.builder().memfd().unwrap()).unwrap();
        let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
        for (line, sound) in [(None, true), (Some(1), false), (Some(63), false)] {
            // Message 0: nothing but zeroes.
            let mut message = vec![0; long.size];
            line.into_iter().for_each(|line| message[LINE * line] = 1);
            sender.send(&message).unwrap();
            assert_eq!(long.receive(&mut receiver, 1).is_ok(), sound, "{line:?}");
        }
    }
}
