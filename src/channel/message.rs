//! Messages as the receiver holds them.

use super::{
    copy,
    link::Peer,
    receiver::Receiver,
    ring::Inner,
    subscriber::Subscriber,
    trust::{Trust, Trusted, Untrusted},
};
use crate::header::Kind;
use crate::ring::{
    claim::{self, Owner},
    memory::Memory,
    position::Position,
    receive::{self, Look, Record},
    record::Info,
};
use core::{cell::Cell, fmt, marker::PhantomData, ops::Deref, slice};

/// Who sent a message, as the ring knows it: not taken from the payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[non_exhaustive]
pub struct SenderId {
    /// Number of its slot, from 1; 0 where every reader gets every message, since the slots are the readers' there, and in a mailbox.
    pub slot: u8,
    /// Its process. 0 when it is not known: in a ring with one sender, when 32 others have come since and the message still
    /// lay there; when a hostile sender has made its name up; and at the other end of a link, when it is in a PID namespace
    /// that this one does not see.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: no two processes agree in both.
    pub start_ticks: u64,
}

impl SenderId {
    pub(super) fn new(slot: u8, owner: Option<Owner>) -> Self {
        let (pid, start_ticks) = owner.map_or((0, 0), |owner| (owner.pid(), owner.start_ticks()));
        Self { slot, pid, start_ticks }
    }
}

/// One record in place.
pub(super) struct View<'m> {
    memory: &'m Memory,
    inner: &'m Inner,
    record: Record,
}

impl<'m> View<'m> {
    #[inline]
    pub(super) fn new<P: Trust>(receiver: &'m Receiver<P>, record: Record) -> Self {
        Self::of(receiver.memory(), receiver.inner(), record)
    }

    #[inline]
    pub(super) fn of(memory: &'m Memory, inner: &'m Inner, record: Record) -> Self {
        Self { memory, inner, record }
    }

    #[inline]
    fn slot(&self) -> u8 {
        match self.inner.header.kind {
            Kind::Broadcast(_) => 0,
            _ => claim::slot_of_sender(self.memory, self.record.info.owner()),
        }
    }

    pub(super) fn length(&self) -> usize {
        self.record.length() as usize
    }

    pub(super) fn kind(&self) -> u16 {
        self.record.info.kind()
    }

    /// The process at the other end of a link.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.inner.peer.as_deref()
    }

    fn sender(&self) -> SenderId {
        let name = self.record.info.owner();
        let owner = match (&self.inner.peer, self.inner.header.kind) {
            // Who it is does not depend on what it writes.
            (Some(peer), _) => Some(peer.owner),
            (None, Kind::Broadcast(_)) => claim::only_sender(self.memory, name),
            (None, _) => claim::sender(self.memory, name),
        };
        SenderId::new(self.slot(), owner)
    }

    #[inline]
    fn start(&self) -> *const u8 {
        self.memory.payload(self.record.position, self.record.length()).as_ptr()
    }

    #[inline]
    pub(super) fn read_at(&self, offset: usize, to: &mut [u8]) {
        let (length, end) = (self.record.length() as usize, offset.checked_add(to.len()));
        assert!(end.is_some_and(|end| end <= length), "{} bytes at {offset} of {length}", to.len());
        // SAFETY: the payload is `length` bytes long and lies in the ring, which no slice of ours overlaps.
        unsafe { copy::out_of_shared(self.start().add(offset), to) };
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.record.length() as usize];
        self.read_at(0, &mut bytes);
        bytes
    }

    pub(super) fn to_owned(&self) -> OwnedMessage {
        OwnedMessage {
            bytes: self.to_vec(),
            kind: self.record.info.kind(),
            sequence: Position::units(self.record.position),
            sender: self.sender(),
        }
    }
}

/// What both a [`Message`] and a message in [`Messages`] can tell.
macro_rules! reading {
    ($type:ident) => {
        impl<P: Trust> $type<'_, P> {
            /// Bytes of the message.
            #[inline]
            pub fn len(&self) -> usize {
                self.view().record.length() as usize
            }

            /// Whether the message has no bytes.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The user's kind of message.
            #[inline]
            pub fn kind(&self) -> u16 {
                self.view().record.info.kind()
            }

            /// Number that no other message of this ring has: it grows from message to message (by more than 1), and
            /// starts again at 0 after 2^56. A message that is received again after a receiver's crash has the same
            /// number.
            #[inline]
            pub fn sequence(&self) -> u64 {
                Position::units(self.view().record.position)
            }

            /// Number of its sender's slot, from 1: tells senders apart as long as they live. 0 where every reader gets
            /// every message, since the slots are the readers' there.
            #[inline]
            pub fn slot(&self) -> u8 {
                self.view().slot()
            }

            /// Who sent it.
            pub fn sender(&self) -> SenderId {
                self.view().sender()
            }

            /// Copies `to.len()` bytes from byte `offset` on.
            ///
            /// # Panics
            /// When the message has not so many.
            #[inline]
            pub fn read_at(&self, offset: usize, to: &mut [u8]) {
                self.view().read_at(offset, to)
            }

            /// A copy of the bytes.
            pub fn to_vec(&self) -> Vec<u8> {
                self.view().to_vec()
            }
        }

        impl Deref for $type<'_, Trusted> {
            type Target = [u8];

            #[inline]
            fn deref(&self) -> &[u8] {
                let view = self.view();
                // SAFETY: the record is committed and not released while this lives; no process writes to it
                // (`trust_peers`, or a ring inside this process).
                unsafe { slice::from_raw_parts(view.start(), view.record.length() as usize) }
            }
        }

        impl<P: Trust> fmt::Debug for $type<'_, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($type))
                    .field("len", &self.len())
                    .field("kind", &self.kind())
                    .field("sequence", &self.sequence())
                    .finish()
            }
        }
    };
}

/// A message in place in the ring. Dropping it releases it: its room is the senders' again.
///
/// Leaking it with [`mem::forget`](std::mem::forget) releases nothing: it is the next message again.
#[must_use = "a message that is dropped is released"]
pub struct Message<'a, P: Trust = Untrusted> {
    // Two words, which travel in registers, as a `Reservation` does.
    receiver: &'a mut Receiver<P>,
    info: Info,
}

impl<'a, P: Trust> Message<'a, P> {
    /// The receiver stands at the record, whose message has this info.
    #[inline(always)]
    pub(super) fn new(receiver: &'a mut Receiver<P>, info: Info) -> Self {
        Self { receiver, info }
    }

    #[inline(always)]
    fn record(&self) -> Record {
        self.receiver.first_with(self.info)
    }

    #[inline]
    pub(super) fn view(&self) -> View<'_> {
        View::new(self.receiver, self.record())
    }
}

impl<P: Trust> Drop for Message<'_, P> {
    #[inline(always)]
    fn drop(&mut self) {
        let record = self.record();
        self.receiver.release(record.end, 1, record.length() as u64);
    }
}

/// One of several messages that are received together, in place.
pub struct BatchedMessage<'a, P: Trust = Untrusted> {
    view: View<'a>,
    trust: PhantomData<P>,
}

impl<'a, P: Trust> BatchedMessage<'a, P> {
    #[inline]
    pub(super) fn view(&self) -> &View<'a> {
        &self.view
    }
}

/// A message in place in the ring, for one of many readers. Dropping it releases it: as far as this reader is concerned its
/// room is the sender's again.
///
/// Leaking it with [`mem::forget`](std::mem::forget) releases nothing: it is the next message again.
#[must_use = "a message that is dropped is released"]
pub struct Delivery<'a, P: Trust = Untrusted> {
    subscriber: &'a mut Subscriber<P>,
    record: Record,
}

impl<'a, P: Trust> Delivery<'a, P> {
    #[inline]
    pub(super) fn new(subscriber: &'a mut Subscriber<P>, record: Record) -> Self {
        Self { subscriber, record }
    }

    #[inline]
    fn view(&self) -> View<'_> {
        self.subscriber.view(self.record)
    }
}

impl<P: Trust> Drop for Delivery<'_, P> {
    #[inline]
    fn drop(&mut self) {
        self.subscriber.release(self.record);
    }
}

reading!(Message);
reading!(BatchedMessage);
reading!(Delivery);

/// Messages in place in the ring, received together. Dropping it releases all that [`iter`](Messages::iter) has given, at once;
/// the others come again. Leaking it releases none.
#[must_use = "messages that are not looked at come again"]
pub struct Messages<'a, P: Trust = Untrusted> {
    receiver: &'a mut Receiver<P>,
    /// How many it gives.
    most: usize,
    /// How many it has given, the sum of their lengths, and the position behind the last, and behind what it has passed over since.
    given: Cell<usize>,
    bytes: Cell<u64>,
    end: Cell<Position>,
}

impl<'a, P: Trust> Messages<'a, P> {
    /// The receiver stands at the first.
    pub(super) fn new(receiver: &'a mut Receiver<P>, most: usize) -> Self {
        let head = receiver.consumer().head();
        Self { receiver, most: most.max(1), given: Cell::new(0), bytes: Cell::new(0), end: Cell::new(head) }
    }

    /// The messages that are there, in order, also those that come meanwhile, but no more than were asked for. Never blocks. Begins with
    /// the first each time it is called.
    ///
    /// What it has given will be released, also where an adapter has dropped it (`zip` and `peekable` look ahead). It ends before a message that is
    /// damaged, or anything else that is an error: the next call to the receiver tells of it. After its end it gives what has come since.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = BatchedMessage<'_, P>> {
        Each { messages: self, at: self.receiver.consumer().head(), count: 0 }
    }
}

impl<P: Trust> Drop for Messages<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if self.given.get() > 0 {
            self.receiver.release(self.end.get(), self.given.get() as u64, self.bytes.get());
        }
    }
}

impl<P: Trust> fmt::Debug for Messages<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("given", &self.given.get()).finish_non_exhaustive()
    }
}

/// What gives the messages of a [`Messages`].
struct Each<'m, P: Trust> {
    messages: &'m Messages<'m, P>,
    /// Position of the next.
    at: Position,
    count: usize,
}

impl<P: Trust> Each<'_, P> {
    /// Passes over what is nothing. Whether a message stands behind it, and is whole: what is wrong there is reported when it is the first.
    #[cold]
    fn seek(&mut self) -> bool {
        let receiver = &*self.messages.receiver;
        loop {
            match receive::look_at(receiver.memory(), self.at) {
                Ok(Look::Message(record)) => return receiver.is_whole(record),
                Ok(Look::Nothing(behind)) if receiver.consumer().reaches(behind) => {
                    self.step_to(behind);
                }
                Ok(Look::Nothing(_) | Look::Empty) | Err(_) => return false,
            }
        }
    }

    /// Goes on at `end`. Whether no other has come so far before: what was given is as it was then, whatever stands there now.
    #[inline(always)]
    fn step_to(&mut self, end: Position) -> bool {
        let is_first = self.at == self.messages.end.get();
        if is_first {
            self.messages.end.set(end);
        }
        self.at = end;
        is_first
    }
}

impl<'m, P: Trust> Iterator for Each<'m, P> {
    type Item = BatchedMessage<'m, P>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let Messages { receiver, most, given, bytes, end } = self.messages;
        let (receiver, consumer) = (&**receiver, receiver.consumer());
        if self.count == *most {
            return None;
        }
        // Those before the end were found whole when they were given. Not so the first, as it stands now: its header is read anew, and a
        // length that was damaged since would say where the next one is.
        let found = match consumer.message_at(self.at) {
            Some(record) if !receiver.is_guarded() || self.at != end.get() => record,
            // Found is found in registers (see `Sender::room`).
            _ if self.seek() => consumer.message_at(self.at)?,
            _ => return None,
        };
        let found = receiver.unguarded(found)?;
        if !consumer.reaches(found.end) {
            return None;
        }
        // Each header says where the next one is: a chain of lines that have to come one after the other, unless messages are as long as
        // their neighbours.
        consumer.ask_for_many(found.position, found.end);
        self.count += 1;
        if self.step_to(found.end) {
            given.set(given.get() + 1);
            bytes.set(bytes.get() + u64::from(found.length()));
        }
        Some(BatchedMessage { view: View::new(receiver, found), trust: PhantomData })
    }
}

/// A copy of a message, with what the ring says of it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedMessage {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The user's kind of message.
    pub kind: u16,
    /// As [`Message::sequence`].
    pub sequence: u64,
    /// Who sent it.
    pub sender: SenderId,
}

impl Deref for OwnedMessage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for OwnedMessage {
    /// Text as text, and other bytes escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes.escape_ascii())
    }
}
