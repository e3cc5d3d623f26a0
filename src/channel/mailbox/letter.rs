//! Messages of a mailbox in place: being written, being held, and copied without being taken.

use super::{Desk, Envelope, Sent};
use crate::{
    channel::{
        copy,
        message::SenderId,
        trust::{Trust, Trusted, Untrusted},
    },
    ring::{
        claim::Seen,
        mailbox::{Area, Held, State},
    },
};
use core::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    slice,
};
use std::sync::Arc;

/// Panics unless `count` bytes from byte `offset` on lie in the first `length`.
fn check(offset: usize, count: usize, length: usize) {
    let end = offset.checked_add(count);
    assert!(end.is_some_and(|end| end <= length), "{count} bytes at {offset} of {length}");
}

/// Copies `bytes` into a cell that is being filled, from byte `offset` on.
pub(super) fn write(area: &Area, held: Held, offset: usize, bytes: &[u8]) {
    check(offset, bytes.len(), area.shape().longest as usize);
    // SAFETY: each cell has room for the longest message, and lies in the mailbox, which no slice of ours overlaps.
    unsafe { copy::into_shared(bytes, area.payload(held.cell).as_ptr().add(offset)) };
}

/// Copies bytes out of a cell, from byte `offset` on.
fn read(area: &Area, cell: u16, offset: usize, to: &mut [u8]) {
    check(offset, to.len(), area.shape().longest as usize);
    // SAFETY: as in `write`.
    unsafe { copy::out_of_shared(area.payload(cell).as_ptr().add(offset), to) };
}

/// Room for one message of a mailbox, in place. [`Mailbox::commit`](super::Mailbox::commit) sends it; dropped, it is given up.
///
/// The bytes are what the mailbox held there before: write all of them, or [`truncate`](Blank::truncate).
#[must_use = "what is dropped is not sent: commit it"]
pub struct Blank<P: Trust = Untrusted> {
    /// `None` once it is sent.
    desk: Option<Arc<Desk>>,
    held: Held,
    length: usize,
    trust: PhantomData<P>,
}

impl<P: Trust> Blank<P> {
    pub(super) fn new(desk: Arc<Desk>, held: Held, length: usize) -> Self {
        Self { desk: Some(desk), held, length, trust: PhantomData }
    }

    pub(super) fn desk(&self) -> &Arc<Desk> {
        self.desk.as_ref().expect("it is not sent yet")
    }

    /// It is no longer this value's business.
    pub(super) fn into_parts(mut self) -> (Option<Arc<Desk>>, Held) {
        (self.desk.take(), self.held)
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Shortens the message to its first `length` bytes; does nothing when it is not longer.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Copies `bytes` into the message from byte `offset` on.
    ///
    /// # Panics
    /// When they don't fit into the message.
    pub fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        check(offset, bytes.len(), self.length);
        write(&self.desk().area, self.held, offset, bytes);
    }
}

impl Deref for Blank<Trusted> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the cell is this handle's until it is sent, and has so many bytes; nobody else writes there (`trust_peers`).
        unsafe { slice::from_raw_parts(self.desk().area.payload(self.held.cell).as_ptr(), self.length) }
    }
}

impl DerefMut for Blank<Trusted> {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; nobody else reads there either.
        unsafe { slice::from_raw_parts_mut(self.desk().area.payload(self.held.cell).as_ptr(), self.length) }
    }
}

impl<P: Trust> Drop for Blank<P> {
    fn drop(&mut self) {
        if let Some(desk) = &self.desk {
            desk.free(self.held);
        }
    }
}

impl<P: Trust> fmt::Debug for Blank<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blank").field("len", &self.length).finish()
    }
}

/// A message of a mailbox, held in place. Dropping it says that it is done with: nobody receives it again. Any number can be
/// held, in any order, also in other threads; while one is, the seat stays taken.
///
/// Dies the process first, or is it [given back](Letter::give_back), then another receives it, at its old place in the order.
/// Leaked with [`mem::forget`](std::mem::forget), it is held until the process ends.
#[must_use = "a message that is dropped is done with"]
pub struct Letter<P: Trust = Untrusted> {
    desk: Arc<Desk>,
    held: Held,
    length: u32,
    is_given_back: bool,
    trust: PhantomData<P>,
}

impl<P: Trust> Letter<P> {
    pub(super) fn new(desk: Arc<Desk>, held: Held) -> Self {
        let length = desk.label(held.cell).length;
        Self { desk, held, length, is_given_back: false, trust: PhantomData }
    }

    /// Bytes of the message.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The user's kind of message.
    pub fn kind(&self) -> u16 {
        self.desk.label(self.held.cell).kind
    }

    /// Its priority.
    pub fn priority(&self) -> u8 {
        self.desk.label(self.held.cell).level
    }

    /// How often it was received before, by processes that died with it or gave it back; 31 means at least 31.
    pub fn tries(&self) -> u8 {
        self.held.state.tries()
    }

    /// Who sent it.
    pub fn sender(&self) -> SenderId {
        sender(&self.desk.area, self.held.cell)
    }

    /// Copies `to.len()` bytes from byte `offset` on.
    ///
    /// # Panics
    /// When the message has not so many.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) {
        check(offset, to.len(), self.len());
        read(&self.desk.area, self.held.cell, offset, to);
    }

    /// A copy of the bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        self.read_at(0, &mut bytes);
        bytes
    }

    /// Lets another receive it, at its old place in the order.
    pub fn give_back(mut self) {
        self.is_given_back = true;
        self.desk.give_back(self.held);
    }
}

impl Deref for Letter<Trusted> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the cell has so many bytes, and is this holder's until this is dropped; nobody writes there (`trust_peers`).
        unsafe { slice::from_raw_parts(self.desk.area.payload(self.held.cell).as_ptr(), self.len()) }
    }
}

impl<P: Trust> Drop for Letter<P> {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.desk.free(self.held);
        }
    }
}

impl<P: Trust> fmt::Debug for Letter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = &mut f.debug_struct("Letter");
        fields
            .field("len", &self.length)
            .field("kind", &self.kind())
            .field("priority", &self.priority())
            .finish()
    }
}

/// A copy of a message that was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Mail {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its kind and its priority.
    pub envelope: Envelope,
    /// Who sent it.
    pub sender: SenderId,
    /// To delete it, or to ask what has become of it.
    pub id: Sent,
}

impl Mail {
    /// `None` when it was taken meanwhile.
    pub(super) fn read(desk: &Desk, cell: u16, state: State) -> Option<Self> {
        let label = desk.label(cell);
        let mut bytes = vec![0; label.length as usize];
        read(&desk.area, cell, 0, &mut bytes);
        let envelope = Envelope { kind: label.kind, priority: label.level };
        let id = Sent { mailbox: desk.instance(), cell, state };
        let mail = Self { bytes, envelope, sender: sender(&desk.area, cell), id };
        desk.area.is_still(cell, state).then_some(mail)
    }
}

fn sender(area: &Area, cell: u16) -> SenderId {
    let claim = Seen::of(area.sender(cell));
    SenderId::new(0, claim.claim().owner())
}
