//! Random operations against a plain queue that knows the space of a ring byte by byte.
//!
//! | ring | senders | start |
//! |---|---|---|
//! | in this process (a payload never crosses the end of the area) | one, many | 0, just below the wrap of the positions, anywhere |
//! | memfd (the area is mapped twice) | one, many | the same |
//!
//! Legal outcomes: exactly those of the model. A ring is full or empty when the model is, gives the message, kind and
//! sequence number that the model gives, and counts what the model counts. Short form: 10^5 operations; long form, with
//! `RINGPOST_LONG=1` and best with `--release`: 10^7.

mod common;

use common::rings::Attach;
use proptest::{prelude::*, test_runner::TestRunner};
use ringpost::{
    Batch, Many, OpenError, Receiver, RecvError, Ring, SendError, Sender, Single, Trust, record_size,
};
use std::{collections::VecDeque, mem};

const UNIT: u64 = 8;
/// Positions are counted modulo this.
const WRAP: u64 = 1 << 56;
const CAPACITY: u64 = 4096;
/// Handles in a ring for many.
const HANDLES: usize = 3;
const OPERATIONS: usize = 100;

// ---- the operations ----

#[derive(Clone, Copy, Debug)]
enum Length {
    Bytes(usize),
    Longest,
    TooLong,
    /// What takes exactly the room that is left, and this much more.
    Rest(usize),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Drop,
    Forget,
    /// Commit this part of it, in 256ths.
    Truncate(u8),
}

#[derive(Clone, Debug)]
enum Operation {
    Send { by: usize, length: Length, kind: u16, waits: bool },
    Reserve { by: usize, length: Length, end: End },
    Batch { by: usize, room: Length, lengths: Vec<usize>, end: End },
    Receive { forget: bool },
    ReceiveMany { most: usize, taken: usize, forget: bool },
    ReceiveInto { buffer: usize },
    SenderAgain { by: usize },
    ReceiverAgain,
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        8 => (0usize..40).prop_map(Length::Bytes),
        4 => (0usize..800).prop_map(Length::Bytes),
        1 => Just(Length::Longest),
        1 => Just(Length::TooLong),
        2 => (0usize..2).prop_map(Length::Rest),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        4 => Just(End::Commit),
        1 => Just(End::Drop),
        1 => Just(End::Forget),
        3 => any::<u8>().prop_map(End::Truncate),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let by = 0..HANDLES;
    prop_oneof![
        6 => (by.clone(), length(), any::<u16>(), any::<bool>())
            .prop_map(|(by, length, kind, waits)| Operation::Send { by, length, kind, waits }),
        5 => (by.clone(), length(), end()).prop_map(|(by, length, end)| Operation::Reserve { by, length, end }),
        3 => (by.clone(), length(), prop::collection::vec(0usize..100, 0..6), end())
            .prop_map(|(by, room, lengths, end)| Operation::Batch { by, room, lengths, end }),
        8 => prop::bool::weighted(0.2).prop_map(|forget| Operation::Receive { forget }),
        2 => (1usize..8, 0usize..12, prop::bool::weighted(0.2))
            .prop_map(|(most, taken, forget)| Operation::ReceiveMany { most, taken, forget }),
        2 => (0usize..600).prop_map(|buffer| Operation::ReceiveInto { buffer }),
        1 => by.prop_map(|by| Operation::SenderAgain { by }),
        1 => Just(Operation::ReceiverAgain),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (1..2 * CAPACITY / UNIT).prop_map(|units| WRAP - units), 0..WRAP]
}

// ---- the model ----

#[derive(Clone, PartialEq, Eq, Debug)]
enum Content {
    Message {
        kind: u16,
        bytes: Vec<u8>,
    },
    Nothing,
    /// Reserved and leaked by this handle.
    Open(usize),
}

/// A part of the ring that is not free.
#[derive(Clone, Debug)]
struct Stretch {
    units: u64,
    content: Content,
}

struct Model {
    mirrored: bool,
    many: bool,
    longest: usize,
    head: u64,
    tail: u64,
    queue: VecDeque<Stretch>,
    sent: u64,
}

impl Model {
    fn units(&self, at: u64, length: usize) -> u64 {
        let payload = (at + 2) * UNIT % CAPACITY;
        let crosses = !self.mirrored && payload + length as u64 > CAPACITY;
        let left_out = if crosses { CAPACITY - payload } else { 0 };
        (16 + left_out + length as u64).div_ceil(UNIT)
    }

    fn free(&self) -> u64 {
        CAPACITY / UNIT - self.queue.iter().map(|stretch| stretch.units).sum::<u64>()
    }

    fn bytes_of(&self, length: Length) -> usize {
        match length {
            Length::Bytes(bytes) => bytes,
            Length::Longest => self.longest,
            Length::TooLong => self.longest + 1,
            Length::Rest(more) => ((self.free() * UNIT) as usize + more).saturating_sub(16).min(self.longest),
        }
    }

    fn push(&mut self, units: u64, content: Content) {
        self.sent += u64::from(matches!(content, Content::Message { .. }));
        self.queue.push_back(Stretch { units, content });
        self.tail = (self.tail + units) % WRAP;
    }

    /// A handle uses its sender again, or drops it: what it has leaked is given up.
    fn settle(&mut self, by: usize) {
        let leaked = self.queue.iter_mut().find(|stretch| stretch.content == Content::Open(by));
        leaked.into_iter().for_each(|stretch| stretch.content = Content::Nothing);
    }

    fn release(&mut self) {
        let stretch = self.queue.pop_front().unwrap();
        self.head = (self.head + stretch.units) % WRAP;
    }

    /// What a look of the receiver does, and what it sees: the number of parts of the queue that it can get, of which the
    /// last is a message or there are no more.
    fn look(&mut self, most: usize) -> usize {
        while self.queue.front().is_some_and(|stretch| stretch.content == Content::Nothing) {
            self.release();
        }
        let mut messages = 0;
        let visible = self.queue.iter().take_while(|stretch| {
            let more = messages < most && !matches!(stretch.content, Content::Open(_));
            messages += usize::from(matches!(stretch.content, Content::Message { .. }));
            more
        });
        visible.count()
    }

    /// The rest of a reservation that ends at `end`: one sender takes it back, one of many leaves it to be passed over.
    fn give_back(&mut self, end: u64) {
        let rest = end.wrapping_sub(self.tail) % WRAP;
        if self.many && rest != 0 {
            self.push(rest, Content::Nothing);
        }
    }
}

// ---- both side by side ----

/// The bytes of a message: no two that are in the ring together are alike.
fn payload(number: u64, length: usize) -> Vec<u8> {
    number.to_ne_bytes().into_iter().cycle().take(length).collect()
}

struct Both<P: Trust, K: Attach> {
    ring: Ring<P>,
    senders: Vec<Option<Sender<P, K>>>,
    receiver: Option<Receiver<P>>,
    model: Model,
}

impl<P: Trust, K: Attach> Both<P, K> {
    fn new(ring: Ring<P>, mirrored: bool, start: u64) -> Self {
        let info = ring.info();
        let handles = if info.many_senders.is_some() { HANDLES } else { 1 };
        let model = Model {
            mirrored,
            many: info.many_senders.is_some(),
            longest: info.longest_message,
            head: start,
            tail: start,
            queue: VecDeque::new(),
            sent: 0,
        };
        let senders = (0..handles).map(|_| Some(K::attach(&ring).unwrap())).collect();
        Self { receiver: Some(ring.receiver().unwrap()), ring, senders, model }
    }

    fn run(&mut self, operations: &[Operation]) {
        for operation in operations {
            self.apply(operation);
            assert!(self.model.queue.iter().map(|stretch| stretch.units).sum::<u64>() <= CAPACITY / UNIT);
        }
        let left =
            self.model.queue.iter().filter(|part| matches!(part.content, Content::Message { .. })).count();
        let statistics = self.ring.statistics();
        assert_eq!((statistics.sent(), statistics.pending_messages()), (self.model.sent, left as u64));
    }

    fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Send { by, length, kind, waits } => self.send(by, length, kind, waits),
            Operation::Reserve { by, length, end } => self.reserve(by, length, end),
            Operation::Batch { by, room, ref lengths, end } => self.batch(by, room, lengths, end),
            Operation::Receive { forget } => self.receive(forget),
            Operation::ReceiveMany { most, taken, forget } => self.receive_many(most, taken, forget),
            Operation::ReceiveInto { buffer } => self.receive_into(buffer),
            Operation::SenderAgain { by } => self.sender_again(by),
            Operation::ReceiverAgain => {
                drop(self.receiver.take());
                self.receiver = Some(self.ring.receiver().unwrap());
            }
        }
    }

    /// What a reservation of `length` bytes must give; its units when there is room.
    fn room(&mut self, by: usize, length: usize) -> Result<u64, SendError> {
        let longest = self.model.longest;
        if length > longest {
            return Err(SendError::TooLong { length, longest });
        }
        self.model.settle(by);
        let units = self.model.units(self.model.tail, length);
        if units > self.model.free() { Err(SendError::Full) } else { Ok(units) }
    }

    fn send(&mut self, by: usize, length: Length, kind: u16, waits: bool) {
        let by = by % self.senders.len();
        let bytes = payload(self.model.sent, self.model.bytes_of(length));
        let room = if self.senders[by].is_some() { self.room(by, bytes.len()) } else { return };
        let Some(sender) = &mut self.senders[by] else { return };
        let kind = if waits && room.is_ok() {
            let mut reservation = sender.reserve_timeout(bytes.len(), common::FAR).unwrap();
            reservation.write_at(0, &bytes);
            reservation.set_kind(kind);
            reservation.commit();
            kind
        } else {
            assert_eq!(sender.try_send(&bytes), room.map(drop));
            0
        };
        if let Ok(units) = room {
            self.model.push(units, Content::Message { kind, bytes });
        }
    }

    fn reserve(&mut self, by: usize, length: Length, end: End) {
        let by = by % self.senders.len();
        let bytes = payload(self.model.sent, self.model.bytes_of(length));
        let room = if self.senders[by].is_some() { self.room(by, bytes.len()) } else { return };
        let Some(sender) = &mut self.senders[by] else { return };
        let mut reservation = match (sender.try_reserve(bytes.len()), room) {
            (Ok(reservation), Ok(_)) => reservation,
            (got, expected) => {
                assert_eq!(got.map(drop), expected.map(drop));
                return;
            }
        };
        let (units, at) = (room.unwrap(), self.model.tail);
        reservation.write_at(0, &bytes);
        reservation.set_kind(9);
        let kept = match end {
            End::Commit => bytes.len(),
            End::Truncate(part) => bytes.len() * part as usize / 256,
            End::Drop => {
                drop(reservation);
                return self.model.push(units, Content::Nothing);
            }
            End::Forget => {
                mem::forget(reservation);
                return self.model.push(units, Content::Open(by));
            }
        };
        reservation.truncate(kept);
        assert_eq!(reservation.commit(), at);
        let content = Content::Message { kind: 9, bytes: bytes[..kept].into() };
        self.model.push(self.model.units(at, kept), content);
        self.model.give_back(at + units);
    }

    fn batch(&mut self, by: usize, room: Length, lengths: &[usize], end: End) {
        let by = by % self.senders.len();
        let room =
            self.model.bytes_of(room) + if let Length::TooLong = room { CAPACITY as usize } else { 16 };
        let units = (room as u64).div_ceil(UNIT).max(2);
        let Some(sender) = &mut self.senders[by] else { return };
        if units > CAPACITY / UNIT {
            let longest = CAPACITY as usize;
            assert_eq!(sender.try_batch(room).unwrap_err(), SendError::TooLong { length: room, longest });
            return;
        }
        self.model.settle(by);
        if units > self.model.free() {
            assert_eq!(sender.try_batch(room).unwrap_err(), SendError::Full);
            return;
        }
        let mut batch = sender.try_batch(room).unwrap();
        let at = self.model.tail;
        let placed = fill(&mut batch, &self.model, units, lengths);
        match end {
            End::Commit | End::Truncate(_) if !placed.is_empty() => {
                batch.commit();
                placed.into_iter().for_each(|(units, content)| self.model.push(units, content));
                self.model.give_back(at + units);
            }
            End::Commit | End::Truncate(_) => {
                batch.commit();
                self.model.push(units, Content::Nothing);
            }
            End::Drop => {
                drop(batch);
                self.model.push(units, Content::Nothing);
            }
            End::Forget => {
                mem::forget(batch);
                self.model.push(units, Content::Open(by));
            }
        }
    }

    /// What the receiver gets when there is nothing. (That the end is reported once only is tested elsewhere.)
    fn none(&self) -> &'static [RecvError] {
        let end = self.senders.iter().all(Option::is_none);
        if end { &[RecvError::Empty, RecvError::Disconnected] } else { &[RecvError::Empty] }
    }

    fn receive(&mut self, forget: bool) {
        let (seen, none) = (self.model.look(1), self.none());
        let receiver = self.receiver.as_mut().unwrap();
        match receiver.try_recv() {
            Ok(message) => {
                assert_eq!((seen, message.sequence()), (1, self.model.head));
                let content = Content::Message { kind: message.kind(), bytes: message.to_vec() };
                assert_eq!(content, self.model.queue[0].content);
                if forget {
                    return mem::forget(message);
                }
                drop(message);
                self.model.release();
            }
            Err(error) => {
                assert_eq!(seen, 0);
                assert!(none.contains(&error), "{error:?}");
            }
        }
    }

    fn receive_many(&mut self, most: usize, taken: usize, forget: bool) {
        let (seen, none) = (self.model.look(most), self.none());
        let receiver = self.receiver.as_mut().unwrap();
        match receiver.try_recv_many(most) {
            Ok(messages) => {
                let given = self.model.look(most.min(taken));
                let mut at = self.model.head;
                let mut expected = Vec::new();
                for stretch in self.model.queue.iter().take(given) {
                    if let content @ Content::Message { .. } = &stretch.content {
                        expected.push((at, content.clone()));
                    }
                    at = (at + stretch.units) % WRAP;
                }
                let take = |most| {
                    let taken = messages.iter().take(most);
                    let found =
                        taken.map(|m| (m.sequence(), Content::Message { kind: m.kind(), bytes: m.to_vec() }));
                    found.collect::<Vec<_>>()
                };
                assert_eq!(take(taken), expected);
                assert_eq!(take(taken / 2), expected[..expected.len().min(taken / 2)]);
                if forget {
                    return mem::forget(messages);
                }
                drop(messages);
                (0..given).for_each(|_| self.model.release());
            }
            Err(error) => {
                assert_eq!(seen, 0);
                assert!(none.contains(&error), "{error:?}");
            }
        }
    }

    fn receive_into(&mut self, buffer: usize) {
        let seen = self.model.look(1);
        let receiver = self.receiver.as_mut().unwrap();
        assert_eq!(receiver.is_empty(), seen == 0);
        if seen == 0 {
            return;
        }
        let Content::Message { bytes, .. } = self.model.queue[0].content.clone() else { unreachable!() };
        let mut buffer = vec![0; buffer];
        let found = receiver.recv_into(&mut buffer);
        if bytes.len() > buffer.len() {
            return assert_eq!(found, Err(RecvError::BufferTooSmall { length: bytes.len() }));
        }
        assert_eq!((found, &buffer[..bytes.len()]), (Ok(bytes.len()), &bytes[..]));
        self.model.release();
    }

    fn sender_again(&mut self, by: usize) {
        let by = by % self.senders.len();
        drop(self.senders[by].take());
        self.model.settle(by);
        match K::attach(&self.ring) {
            Ok(sender) => self.senders[by] = Some(sender),
            // Slots wait until the receiver has passed what their former owners sent.
            Err(OpenError::TooManySenders { .. }) => assert!(self.model.many && !self.model.queue.is_empty()),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Pushes as much as fits, and tells what it was.
fn fill<P: Trust, K: Attach>(
    batch: &mut Batch<'_, P, K>,
    model: &Model,
    units: u64,
    lengths: &[usize],
) -> Vec<(u64, Content)> {
    let mut placed = Vec::new();
    let mut used = 0;
    for &length in lengths {
        let bytes = payload(model.sent + placed.len() as u64, length);
        let needed = model.units(model.tail + used, length);
        assert!(!model.mirrored || needed * UNIT == record_size(length) as u64);
        assert_eq!(batch.room() as u64, (units - used) * UNIT);
        if used + needed > units {
            assert_eq!(batch.push(3, &bytes), Err(SendError::Full));
        } else {
            batch.push(3, &bytes).unwrap();
            used += needed;
            placed.push((needed, Content::Message { kind: 3, bytes }));
        }
        assert_eq!(batch.len(), placed.len());
    }
    placed
}

/// Checks a quarter of the operations of this file.
fn check(run: impl Fn(u64, &[Operation])) {
    let operations = match () {
        () if cfg!(miri) => 4 * OPERATIONS,
        () if common::long() => 10_000_000,
        () => 100_000,
    };
    let config = ProptestConfig {
        cases: (operations / 4 / OPERATIONS) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let cases = (start(), prop::collection::vec(operation(), OPERATIONS));
    let checked = TestRunner::new(config).run(&cases, |(start, operations)| {
        run(start, &operations);
        Ok(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}

fn builder(start: u64) -> ringpost::Builder {
    ringpost::unnamed().capacity(CAPACITY).start_position(start)
}

#[test]
fn one_sender_in_one_process_is_a_queue() {
    check(|start, operations| {
        Both::<_, Single>::new(builder(start).in_process().unwrap(), false, start).run(operations)
    });
}

#[test]
fn many_senders_in_one_process_are_a_queue() {
    check(|start, operations| {
        let ring = builder(start).many_senders(8).in_process().unwrap();
        Both::<_, Many>::new(ring, false, start).run(operations)
    });
}

#[test]
#[cfg(not(miri))]
fn one_sender_in_a_memfd_is_a_queue() {
    check(|start, operations| {
        Both::<_, Single>::new(builder(start).memfd().unwrap(), true, start).run(operations)
    });
}

#[test]
#[cfg(not(miri))]
fn many_senders_in_a_memfd_are_a_queue() {
    check(|start, operations| {
        let ring = builder(start).many_senders(8).memfd().unwrap();
        Both::<_, Many>::new(ring, true, start).run(operations)
    });
}
