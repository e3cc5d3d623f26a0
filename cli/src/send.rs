//! `ringpost send`: standard input into a ring.

use std::io::{Read, stdin};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{mem, slice};

use anyhow::{Context, Error, Result};
use clap::Args;
use ringpost::{Batch, SendError, Sender, SenderKind, Trust};

use crate::{
    channel::Channel,
    ending::{self, Ending},
    framing::{Framing, FramingArguments},
    input::{CHUNK, Input, Limits, Piece, Pieces},
    meter::Meter,
    quantity,
};

/// Send standard input through a ring
///
/// What is complete goes out before the next read can wait. Whatever the input is cut into, `ringpost recv` gives back
/// the same bytes.
#[derive(Args, Debug)]
#[command(after_help = ending::EXIT_CODES)]
pub struct SendArguments {
    #[command(flatten)]
    channel: Channel,

    #[command(flatten)]
    framing: FramingArguments,

    /// Longest chunk of --raw, in bytes, also with K or M [default: 64K, or less in a small ring]
    // What conflicts with --raw lifts the need for it, so it is named too.
    #[arg(
        long, value_name = "BYTES", allow_hyphen_values = true, requires = "raw",
        conflicts_with_all = ["lines", "null", "length_prefixed"], value_parser = quantity::chunk
    )]
    size: Option<usize>,

    /// End after N messages
    #[arg(short = 'n', value_name = "N", allow_negative_numbers = true, value_parser = quantity::whole::<u64>(0, u64::MAX))]
    count: Option<u64>,

    /// Wait this long at most while the ring is full
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = quantity::seconds)]
    timeout: Option<Duration>,

    /// Send so many messages a second at most
    #[arg(long, value_name = "N/s", allow_hyphen_values = true, value_parser = quantity::interval)]
    rate: Option<Duration>,
}

/// Attaches and sends until the input ends.
pub fn run(arguments: &SendArguments) -> Result<()> {
    let many = |ring: &ringpost::Ring| ring.info().many_senders.is_some();
    let (ring, sender) = arguments.channel.attach(|ring| match many(ring) {
        false => ring.sender().map(Either::Only),
        true => ring.multi_sender().map(Either::OneOfMany),
    })?;
    let uniform = ring.info().item_size.is_some();
    match sender {
        Either::Only(sender) => arguments.pump(sender, !uniform, uniform),
        Either::OneOfMany(sender) => arguments.pump(sender, false, uniform),
    }
}

/// The ring decides which.
enum Either {
    Only(ringpost::Sender),
    OneOfMany(ringpost::MultiSender),
}

impl SendArguments {
    fn pump<P: Trust, K: SenderKind>(
        &self,
        mut sender: Sender<P, K>,
        divisible: bool,
        uniform: bool,
    ) -> Result<()> {
        let limits = Limits { longest: sender.longest_message(), divisible, uniform };
        let mut input = self.input(limits).with_context(|| self.channel.name.clone())?;
        let mut meter = Meter::new(&stdin());
        let mut pace = Pace::new(self.rate);
        // Small enough that the receiver empties one part of the ring while another fills.
        let room = (sender.capacity() / 4) as usize;
        while self.left(&meter) > 0 && input.fill().context("can't read standard input")? {
            loop {
                let most = self.left(&meter).min(pace.most());
                let Pieces { pieces, taken } =
                    input.pieces(most, room).with_context(|| self.so_far(&meter))?;
                if pieces.is_empty() {
                    break;
                }
                pace.wait();
                publish(&mut sender, &pieces, self.timeout, &mut meter)
                    .map_err(|error| self.about(error, &meter))?;
                input.take(taken);
            }
        }
        Ok(())
    }

    fn input(&self, limits: Limits) -> Result<Input<impl Read + use<>>> {
        let Limits { longest, uniform, .. } = limits;
        let framing = self.framing.chosen().unwrap_or(Framing::Lines);
        let chunk = match (framing, self.size) {
            (Framing::Raw, Some(length)) if length > longest => {
                return Err(SendError::TooLong { length, longest }.into());
            }
            (Framing::Raw, Some(length)) if length < longest && uniform => {
                return Err(SendError::WrongLength { length, only: longest }.into());
            }
            (Framing::Raw, Some(size)) => size,
            (Framing::Raw, None) => CHUNK.min(longest).max(1),
            _ => CHUNK,
        };
        crate::output::input().context("can't read standard input")?;
        Ok(Input::new(stdin().lock(), framing, limits, chunk))
    }

    fn left(&self, meter: &Meter) -> u64 {
        self.count.map_or(u64::MAX, |count| count - meter.messages())
    }

    fn about(&self, error: SendError, meter: &Meter) -> Error {
        let (name, so_far) = (&self.channel.name, meter.so_far());
        match error {
            SendError::TimedOut => Ending::TimedOut(format!(
                "{name}: {error}, {so_far}: receive them with {}, or wait longer",
                self.channel.advice("recv")
            ))
            .into(),
            SendError::PeerDied { .. } => Ending::PeerDied(format!(
                "{name}: {error}, {so_far}: another {} gets what it left",
                self.channel.advice("recv")
            ))
            .into(),
            _ => Error::new(error).context(self.so_far(meter)),
        }
    }

    fn so_far(&self, meter: &Meter) -> String {
        format!("{}: {}", self.channel.name, meter.so_far())
    }
}

/// Sends all pieces: at once if there is room for all, else one by one until there is room for the rest.
fn publish<P: Trust, K: SenderKind>(
    sender: &mut Sender<P, K>,
    mut pieces: &[Piece<'_>],
    timeout: Option<Duration>,
    meter: &mut Meter,
) -> Result<(), SendError> {
    while let Some((first, others)) = pieces.split_first() {
        let room: usize = pieces.iter().map(Piece::room).sum();
        let room = room.min(sender.capacity() as usize);
        let sent = match sender.try_batch(room).and_then(|batch| fill(batch, pieces)) {
            Ok(()) => mem::take(&mut pieces),
            Err(SendError::Full) => {
                send(sender, first, timeout)?;
                pieces = others;
                slice::from_ref(first)
            }
            Err(error) => return Err(error),
        };
        let whole = sent.iter().filter(|piece| !piece.kind.continues()).count();
        meter.add(whole as u64, sent.iter().map(|piece| piece.bytes.len()).sum());
    }
    Ok(())
}

fn fill<P: Trust, K: SenderKind>(mut batch: Batch<'_, P, K>, pieces: &[Piece<'_>]) -> Result<(), SendError> {
    for piece in pieces {
        batch.push(piece.kind as u16, piece.bytes)?;
    }
    batch.commit();
    Ok(())
}

fn send<P: Trust, K: SenderKind>(
    sender: &mut Sender<P, K>,
    piece: &Piece<'_>,
    timeout: Option<Duration>,
) -> Result<(), SendError> {
    let length = piece.bytes.len();
    let mut reservation = match timeout {
        None => sender.reserve(length),
        Some(timeout) => sender.reserve_timeout(length, timeout),
    }?;
    reservation.write_at(0, piece.bytes);
    reservation.set_kind(piece.kind as u16);
    reservation.commit();
    Ok(())
}

/// Keeps to a rate.
struct Pace {
    interval: Option<Duration>,
    /// When the next message is due.
    next: Instant,
}

impl Pace {
    /// What a pause of the scheduler costs may be caught up, a pause of the input may not.
    const CATCH_UP: Duration = Duration::from_millis(20);

    fn new(interval: Option<Duration>) -> Self {
        Self { interval, next: Instant::now() }
    }

    /// Messages at a time.
    fn most(&self) -> u64 {
        if self.interval.is_some() { 1 } else { u64::MAX }
    }

    /// Waits until the next message is due.
    fn wait(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        sleep(self.next.saturating_duration_since(now));
        let late = now.checked_sub(Self::CATCH_UP).unwrap_or(now);
        self.next = self.next.max(late) + interval;
    }
}
