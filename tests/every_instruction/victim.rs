//! The process that could be killed at each instruction.

use super::{
    common::{Line, end_when_this_hangs, rings::open},
    tracer::mark,
};
use ringpost::{MultiSender, Receiver, Ring, SendError, Sender, SenderKind, Untrusted};
use std::time::Duration;

/// What the victim does between its marks. The first in a line may be preceded by what is not stepped through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Attaches as a sender.
    Join,
    /// Sends one of [`LENGTHS`], if there is room.
    Send(u64),
    /// Reserves, if there is room; what it got is dropped behind the marks.
    Reserve(u64),
    /// Reserves before the first mark, tells, waits, and commits between the marks.
    Commit(u64),
    /// The same, and drops the reservation.
    Discard(u64),
    /// The same, and commits a part of it.
    Shorten(u64),
    /// Three messages at once.
    Batch(u64),
    /// Closes as a sender.
    Leave,
    /// Attaches as the receiver.
    Listen,
    /// Receives and releases one.
    Receive,
    /// Receives and releases up to three at once.
    ReceiveMany,
    /// Receives one, and leaks it.
    Leak,
    /// Waits for a message that does not come, and goes to sleep.
    Sleep,
    /// Closes as the receiver.
    Hush,
}

/// Bytes of the messages that a victim sends.
pub const LENGTHS: [usize; 6] = [0, 1, 8, 100, 513, 2000];

/// Message `number`, as anybody sends it.
pub fn message(number: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (number * 31 + at * 7) as u8).collect()
}

/// Numbers of the messages that the victim sends.
pub const OWN: u64 = 1000;

/// The kind of message `number`.
pub fn kind(number: u64) -> u16 {
    number as u16
}

/// Sends a message of this number and length, if there is room.
pub fn put<K: SenderKind>(
    sender: &mut Sender<Untrusted, K>,
    (number, length): (u64, usize),
) -> Result<(), SendError> {
    let mut reservation = sender.try_reserve(length)?;
    reservation.write_at(0, &message(number, length));
    reservation.set_kind(kind(number));
    reservation.commit();
    Ok(())
}

/// Sends messages, for which there must be room.
pub fn put_all<K: SenderKind>(sender: &mut Sender<Untrusted, K>, messages: &[(u64, usize)]) {
    messages.iter().for_each(|&message| put(sender, message).expect("there is room"));
}

impl Operation {
    /// What a sender that stays can do with a message of one of [`LENGTHS`].
    pub fn with_length(length: u64) -> [Self; 6] {
        [
            Self::Send(length),
            Self::Reserve(length),
            Self::Batch(length % 5),
            Self::Commit(length),
            Self::Discard(length),
            Self::Shorten(length),
        ]
    }

    pub fn code(self) -> u64 {
        let (verb, length) = match self {
            Self::Join => (0, 0),
            Self::Send(length) => (1, length),
            Self::Reserve(length) => (2, length),
            Self::Commit(length) => (3, length),
            Self::Discard(length) => (4, length),
            Self::Shorten(length) => (5, length),
            Self::Batch(length) => (6, length),
            Self::Leave => (7, 0),
            Self::Listen => (8, 0),
            Self::Receive => (9, 0),
            Self::ReceiveMany => (10, 0),
            Self::Leak => (11, 0),
            Self::Sleep => (12, 0),
            Self::Hush => (13, 0),
        };
        verb << 8 | length
    }

    pub fn of(code: u64) -> Self {
        let length = code & 0xff;
        match code >> 8 & 0xff {
            0 => Self::Join,
            1 => Self::Send(length),
            2 => Self::Reserve(length),
            3 => Self::Commit(length),
            4 => Self::Discard(length),
            5 => Self::Shorten(length),
            6 => Self::Batch(length),
            7 => Self::Leave,
            8 => Self::Listen,
            9 => Self::Receive,
            10 => Self::ReceiveMany,
            11 => Self::Leak,
            12 => Self::Sleep,
            _ => Self::Hush,
        }
    }

    /// Whether the victim stands in a reservation before it is stepped through.
    pub fn reserves_before(self) -> bool {
        matches!(self, Self::Commit(_) | Self::Discard(_) | Self::Shorten(_))
    }

    /// Messages of the victim that are there once it is done, unless the ring was full.
    pub fn sends(self) -> Vec<(u64, usize)> {
        match self {
            Self::Send(length) | Self::Commit(length) => vec![(OWN, LENGTHS[length as usize])],
            Self::Shorten(length) => vec![(OWN, LENGTHS[length as usize] / 2)],
            Self::Batch(length) => (0..3).map(|at| (OWN + at, LENGTHS[length as usize])).collect(),
            _ => Vec::new(),
        }
    }
}

/// Serves one scenario after the other, until the parent has no more: tells it what `play` gives.
pub fn serve_each(line: &Line, play: impl Fn(u64, &Ring) -> u64) {
    // SAFETY: a number of this thread.
    line.tell(unsafe { libc::gettid() } as u64);
    while let Some(code) = line.next() {
        // All of them together take minutes where others have the processor, too.
        end_when_this_hangs();
        let ring = open("pass", line);
        line.tell(play(code, &ring));
    }
}

/// The victim has prepared what it is to be stepped through: tells, and waits until the parent has prepared its own.
pub fn ready(line: &Line) {
    line.tell(0);
    line.hear();
    mark();
}

/// The victim has prepared what it is to be stepped through, and does it.
pub fn stepped<T>(line: &Line, what: impl FnOnce() -> T) -> T {
    ready(line);
    let result = what();
    mark();
    result
}

/// The victim at a ring with one receiver. The third byte of its order: so many short messages from 100 on come before, and it tells
/// when they are sent.
pub fn serve(line: &Line) {
    serve_each(line, |code, ring| {
        let operation = Operation::of(code);
        match operation {
            Operation::Listen => {
                mark();
                let receiver = ring.receiver();
                mark();
                drop(receiver);
            }
            Operation::Receive
            | Operation::ReceiveMany
            | Operation::Leak
            | Operation::Sleep
            | Operation::Hush => listen(operation, ring.receiver().unwrap()),
            _ if ring.info().many_senders.is_some() => many(operation, ring, line, code >> 16),
            _ => single(operation, ring, line),
        }
        0
    });
}

fn single(operation: Operation, ring: &Ring, line: &Line) {
    if operation == Operation::Join {
        mark();
        let sender = ring.sender();
        mark();
        return drop(sender);
    }
    let sender: Sender = ring.sender().unwrap();
    send(operation, sender, line);
}

fn many(operation: Operation, ring: &Ring, line: &Line, before: u64) {
    if operation == Operation::Join {
        mark();
        let sender = ring.multi_sender();
        mark();
        return drop(sender);
    }
    let mut sender: MultiSender = ring.multi_sender().unwrap();
    (100..100 + before).for_each(|number| put(&mut sender, (number, 0)).unwrap());
    if before > 0 && !operation.reserves_before() {
        line.tell(0);
        line.hear();
    }
    send(operation, sender, line);
}

pub fn send<K: SenderKind>(operation: Operation, mut sender: Sender<Untrusted, K>, line: &Line) {
    match operation {
        Operation::Send(length) => {
            let bytes = message(OWN, LENGTHS[length as usize]);
            mark();
            if let Ok(mut reservation) = sender.try_reserve(bytes.len()) {
                reservation.write_at(0, &bytes);
                reservation.set_kind(kind(OWN));
                reservation.commit();
            }
            mark();
        }
        Operation::Reserve(length) => {
            mark();
            let reservation = sender.try_reserve(LENGTHS[length as usize]);
            mark();
            drop(reservation);
        }
        Operation::Commit(length) | Operation::Discard(length) | Operation::Shorten(length) => {
            let bytes = message(OWN, LENGTHS[length as usize]);
            let mut reservation = sender.try_reserve(bytes.len()).unwrap();
            ready(line);
            if let Operation::Discard(_) = operation {
                drop(reservation);
            } else {
                if let Operation::Shorten(_) = operation {
                    reservation.truncate(bytes.len() / 2);
                }
                let used = reservation.len();
                reservation.write_at(0, &bytes[..used]);
                reservation.set_kind(kind(OWN));
                reservation.commit();
            }
            mark();
        }
        Operation::Batch(length) => {
            let length = LENGTHS[length as usize];
            mark();
            // Room for one more: the rest is given back.
            if let Ok(mut batch) = sender.try_batch(4 * ringpost::record_size(length)) {
                for number in OWN..OWN + 3 {
                    batch.push(kind(number), &message(number, length)).unwrap();
                }
                batch.commit();
            }
            mark();
        }
        _ => {
            mark();
            drop(sender);
            mark();
        }
    }
}

fn listen(operation: Operation, mut receiver: Receiver) {
    mark();
    match operation {
        Operation::Receive => drop(receiver.try_recv().map(|message| message.to_vec())),
        Operation::ReceiveMany => drop(receiver.try_recv_many(3).map(|messages| messages.iter().count())),
        Operation::Leak => std::mem::forget(receiver.try_recv()),
        Operation::Sleep => drop(receiver.recv_timeout(Duration::from_micros(300)).map(|_| ())),
        _ => return hush(receiver),
    }
    mark();
}

fn hush(receiver: Receiver) {
    drop(receiver);
    mark();
}
