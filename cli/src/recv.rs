//! `ringpost recv`: a ring to standard output.

use std::fs::File;
use std::io::{self, ErrorKind, stdout};
use std::mem;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result};
use clap::Args;
use nix::sys::signal::{SigSet, Signal};
use ringpost::{Messages, OpenError, Receiver, RecvError, Ring, SegmentError};

use crate::{
    channel::{self, Channel},
    delivery::Delivery,
    ending::Ending,
    framing::{Envelope, Framing, FramingArguments, Kind},
    input::CHUNK,
    meter::Meter,
    quantity,
};

/// Receive from a ring to standard output
///
/// Ends when all senders have closed. Gives back the bytes that `ringpost send` was given, unless a flag asks for
/// something else; the messages of other programs are written as lines. A message leaves the ring only when it was written: what standard
/// output does not take is there for the next receiver.
#[derive(Args, Debug)]
pub struct RecvArguments {
    #[command(flatten)]
    channel: Channel,

    #[command(flatten)]
    framing: FramingArguments,

    /// End after N messages; the others stay in the ring
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,

    /// Wait this long at most for the next message
    #[arg(long, value_name = "SECONDS", value_parser = quantity::seconds)]
    timeout: Option<Duration>,

    /// Go on when all senders have closed, and wait for others
    #[arg(long)]
    follow: bool,

    /// Remove the name when all senders have closed
    #[arg(long, conflicts_with = "follow")]
    unlink: bool,
}

/// Attaches and receives until the end.
pub fn run(arguments: &RecvArguments) -> Result<()> {
    // Before the library starts a thread, which would take the signals.
    let signals = Signals::hold_back()?;
    let (ring, receiver) = arguments.channel.attach(Ring::receiver)?;
    let output = Delivery::to_stdout().context("can't use standard output")?;
    let mut desk =
        Desk { arguments, ring, receiver, signals, output, meter: Meter::new(&stdout()), at_once: 1 };
    desk.run()
}

/// Most messages that are written and released together.
const MOST_AT_ONCE: usize = 4096;

/// Where messages become bytes.
struct Desk<'a> {
    arguments: &'a RecvArguments,
    ring: Ring,
    receiver: Receiver,
    signals: Signals,
    output: Delivery<File>,
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
                Err(RecvError::Disconnected) if !self.arguments.follow => return self.end(),
                Err(RecvError::Disconnected) => self.receiver.reopen(),
                Err(error) => return Err(about(self.arguments, &self.meter, error)),
            }
        }
        Ok(())
    }

    /// Waits until there is a message.
    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), RecvError> {
        let Self { signals, receiver, .. } = self;
        signals.let_in(|| {
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
        let taken = || messages.iter().take(count);
        let whole = taken().filter(|message| !Kind::of(message.kind()).continues()).count();
        let bytes: usize = taken().map(|message| message.len()).sum();
        if result.is_ok() {
            drop(messages);
        } else {
            mem::forget(messages);
            if count > 0 {
                drop(self.receiver.try_recv_many(count));
            }
        }
        self.meter.add(whole as u64, bytes);
        self.at_once = (CHUNK / (bytes / count.max(1) + 1)).clamp(1, MOST_AT_ONCE);
        result
    }

    fn end(&self) -> Result<()> {
        if !self.arguments.unlink {
            return Ok(());
        }
        match self.ring.unlink() {
            // Somebody else was faster.
            Err(OpenError::Segment(SegmentError::NotFound { .. })) => Ok(()),
            result => result.map_err(|error| channel::about(&self.arguments.channel.name, error)),
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
    let (name, received) = (&arguments.channel.name, meter.messages());
    match error {
        RecvError::TimedOut => Ending::TimedOut(format!(
            "{name}: {error}, after {received} messages: send some with `ringpost send {name}`, or wait longer"
        ))
        .into(),
        RecvError::PeerDied { .. } => Ending::PeerDied(format!(
            "{name}: {error}, after {received} messages: all that it had sent is here, but it may not have sent all"
        ))
        .into(),
        _ => Error::new(error).context(format!("{name}: after {received} messages")),
    }
}

fn write(messages: &Messages<'_>, wanted: Option<Framing>, output: &mut Delivery<File>) -> Result<()> {
    output.begin();
    let framed = messages.iter().try_for_each(|message| {
        let envelope = Envelope::new(Kind::of(message.kind()), wanted)?;
        output.put(message.len(), envelope, |offset, to| message.read_at(offset, to)).map_err(not_written)
    });
    framed.and(output.flush().map_err(not_written))
}

fn not_written(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe => Ending::StdoutClosed.into(),
        _ => Error::new(error)
            .context("can't write to standard output; what it did not take is still in the ring"),
    }
}

/// The signals that ask for the end. They come through only while this process waits for a message: one that is being
/// written is not cut in half, and one that was written does not come again.
struct Signals(SigSet);

impl Signals {
    /// In this thread, and in those that it starts from now on.
    fn hold_back() -> Result<Self> {
        let ends = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect::<SigSet>();
        ends.thread_block().context("can't hold signals back")?;
        Ok(Self(ends))
    }

    /// Lets them in while `wait` runs: then they end the process.
    fn let_in<T>(&self, wait: impl FnOnce() -> T) -> T {
        // Neither call can fail with a set of valid signals.
        let _ = self.0.thread_unblock();
        let result = wait();
        let _ = self.0.thread_block();
        result
    }
}
