//! `ringpost recv`: a ring to standard output.

use std::io::{self, ErrorKind, stdout};
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use clap::Args;
use ringpost::{Messages, OpenError, Receiver, RecvError, Ring, SegmentError};

use crate::{
    channel::Channel,
    delivery::Delivery,
    ending::{self, Ending},
    framing::{Envelope, Framing, FramingArguments, Kind},
    input::CHUNK,
    interrupts::Interrupts,
    meter::Meter,
    outlet::Outlet,
    quantity,
};

/// Receive from a ring to standard output
///
/// Ends when all senders have closed. Gives back the bytes that `ringpost send` was given, unless a flag asks for
/// something else; the messages of other programs are written as lines. A message leaves the ring only when it was written: what standard
/// output does not take is there for the next receiver.
///
/// A signal ends it between two messages. When standard output takes nothing, it ends within a second, and at once at a second
/// signal: a message of which the output has a part only is then still in the ring, and comes again whole. A message of up to
/// 4096 bytes, with its newline or length, is never written in part to a pipe.
#[derive(Args, Debug)]
#[command(after_help = ending::EXIT_CODES)]
pub struct RecvArguments {
    #[command(flatten)]
    channel: Channel,

    #[command(flatten)]
    framing: FramingArguments,

    /// End after N messages; the others stay in the ring
    #[arg(short = 'n', value_name = "N", allow_negative_numbers = true, value_parser = quantity::whole::<u64>(0, u64::MAX))]
    count: Option<u64>,

    /// Wait this long at most for the next message
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = quantity::seconds)]
    timeout: Option<Duration>,

    /// Go on when all senders have closed, and wait for others (when the last one died it ends, with code 5)
    #[arg(long)]
    follow: bool,

    /// Remove the name when all senders have closed
    #[arg(long, conflicts_with = "follow")]
    unlink: bool,
}

/// Attaches and receives until the end.
pub fn run(arguments: &RecvArguments) -> Result<()> {
    // Before the library starts a thread, which would take the signals.
    let interrupts = Interrupts::hold_back()?;
    let (ring, receiver) = arguments.channel.attach(Ring::receiver)?;
    let output = Outlet::to_stdout(interrupts).context("can't use standard output")?;
    let (output, meter) = (Delivery::new(output), Meter::new(&stdout()));
    Desk { arguments, ring, receiver, output, meter, at_once: 1 }.run()
}

/// Most messages that are written and released together.
const MOST_AT_ONCE: usize = 4096;

/// Where messages become bytes.
struct Desk<'a> {
    arguments: &'a RecvArguments,
    ring: Ring,
    receiver: Receiver,
    output: Delivery<Outlet>,
    meter: Meter,
    /// As many messages of the size of the last ones as make a chunk.
    at_once: usize,
}

impl Desk<'_> {
    fn run(&mut self) -> Result<()> {
        let mut deadline = self.deadline();
        while self.left() > 0 {
            match self.wait(deadline) {
                Ok(()) => {
                    self.deliver()?;
                    deadline = self.deadline();
                }
                Err(RecvError::Disconnected) if self.arguments.follow => self.receiver.reopen(),
                Err(RecvError::Disconnected) if self.arguments.unlink => {
                    self.unlink()?;
                    if !self.has_more() {
                        return Ok(());
                    }
                }
                Err(RecvError::Disconnected) => return Ok(()),
                Err(error) => return Err(about(self.arguments, &self.meter, error)),
            }
        }
        Ok(())
    }

    /// Waits until there is a message.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), RecvError> {
        let Self { output, receiver, .. } = self;
        output.target().interrupts().let_in(|| {
            let message = match deadline {
                None => receiver.recv(),
                Some(deadline) => receiver.recv_deadline(deadline),
            };
            // A message that is leaked stays in the ring: it is taken with those behind it.
            message.map(mem::forget)
        })
    }

    /// Writes the messages that are there, and releases those that are written.
    fn deliver(&mut self) -> Result<()> {
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX).min(self.at_once);
        let wanted = self.arguments.framing.chosen();
        let messages =
            self.receiver.try_recv_many(most).map_err(|error| about(self.arguments, &self.meter, error))?;
        let result = write(&messages, wanted, &mut self.output);
        let count = self.output.complete();
        let (mut whole, mut bytes) = (0, 0);
        for message in messages.iter().take(count) {
            whole += u64::from(!Kind::of(message.kind()).continues());
            bytes += message.len();
        }
        if result.is_ok() {
            drop(messages);
        } else {
            mem::forget(messages);
            if count > 0 {
                // Looks at so many, which releases them.
                let _ = self.receiver.try_recv_many(count).map(|messages| messages.iter().count());
            }
        }
        self.meter.add(whole, bytes);
        self.at_once = (CHUNK / (bytes / count.max(1) + 1)).clamp(1, MOST_AT_ONCE);
        result.and(self.output.target().go_on().map_err(not_written))
    }

    /// Whether another sender has come before the name went. One that comes now sees that it's gone, and makes a ring anew.
    fn has_more(&mut self) -> bool {
        self.ring.statistics().senders.iter().any(|sender| sender.attached) || !self.receiver.is_empty()
    }

    fn unlink(&self) -> Result<()> {
        match self.ring.unlink() {
            // Somebody else was faster; or it was done before.
            Err(OpenError::Segment(SegmentError::NotFound { .. })) => Ok(()),
            result => result.map_err(|error| self.arguments.channel.about(error)),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.arguments.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn left(&self) -> u64 {
        self.arguments.count.map_or(u64::MAX, |count| count - self.meter.messages())
    }
}

/// What the end of receiving means to the shell.
fn about(arguments: &RecvArguments, meter: &Meter, error: RecvError) -> Error {
    let (name, so_far) = (&arguments.channel.name, meter.so_far());
    match error {
        RecvError::TimedOut => Ending::TimedOut(format!(
            "{name}: {error}, {so_far}: send some with {}, or wait longer",
            arguments.channel.advice("send")
        ))
        .into(),
        RecvError::PeerDied { .. } => Ending::PeerDied(format!(
            "{name}: {error}, {so_far}: all that it had sent is here, but it may not have sent all"
        ))
        .into(),
        _ => Error::new(error).context(format!("{name}: {so_far}")),
    }
}

fn write(messages: &Messages<'_>, wanted: Option<Framing>, output: &mut Delivery<Outlet>) -> Result<()> {
    output.begin();
    let framed = messages.iter().try_for_each(|message| {
        let envelope = Envelope::new(Kind::of(message.kind()), wanted)?;
        output.put(message.len(), envelope, |offset, to| message.read_at(offset, to)).map_err(not_written)
    });
    framed.and(output.flush().map_err(not_written))
}

fn not_written(error: io::Error) -> Error {
    match error.downcast::<Ending>() {
        Ok(interrupted) => interrupted.into(),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ending::StdoutClosed.into(),
        Err(error) => Error::new(error)
            .context("can't write to standard output; what it did not take is still in the ring"),
    }
}
