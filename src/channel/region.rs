//! Regions: memory of any size that goes over a link without being copied.

use super::{
    BatchedMessage, Duplex, Message, Sender,
    link::{Peer, Wire},
    message::View,
    patience::Patience,
    sender::SenderKind,
    trust::Trust,
};
use crate::{
    error::{LinkError, RegionError, SegmentError, SendError},
    sys::{
        clock::Deadline,
        segment::{Block, FrozenBlock},
    },
};
use std::{
    fmt,
    ops::{Deref, DerefMut},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a region is called in `/proc/<pid>/maps`.
const NAME: &str = "ringpost-region";

/// Bytes of the message that names a region: its number and its length.
const LENGTH: usize = 16;

/// While the other end takes no regions: so often it's looked whether it still lives.
const LOOK: Duration = Duration::from_millis(50);

/// Memory that this process fills, to be sent as a [`Region`]. It is zero at first, and all of it is taken when it is made.
///
/// It belongs to this process alone: in a forked child, using it panics.
///
/// ```
/// let mut memory = ringpost::RegionMut::new(64 << 20)?;
/// memory[..5].copy_from_slice(b"large");
/// let region = memory.freeze()?;
/// assert_eq!(&region[..6], b"large\0");
/// # Ok::<(), ringpost::SegmentError>(())
/// ```
pub struct RegionMut(Block);

impl RegionMut {
    /// Memory of so many bytes, at least one. It has a descriptor, and no name.
    ///
    /// # Errors
    /// [`SegmentError::TooShort`] for none, [`SegmentError::NoMemory`], [`SegmentError::NoDescriptor`], ….
    pub fn new(length: usize) -> Result<Self, SegmentError> {
        Block::new(NAME, length).map(Self)
    }

    /// Nobody can change it from now on: not this process either. The kernel sees to it.
    ///
    /// # Errors
    /// When there is no descriptor or address left, and when the kernel still writes to it for somebody (direct input).
    pub fn freeze(self) -> Result<Region, SegmentError> {
        Ok(Region(Arc::new(self.0.freeze()?)))
    }
}

impl Deref for RegionMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is so long, all of it is allocated, and it is mapped in this process alone: its descriptor has
        // not left this value.
        unsafe { slice::from_raw_parts(self.0.start().as_ptr(), self.0.len()) }
    }
}

impl DerefMut for RegionMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and this value is borrowed by nobody else.
        unsafe { slice::from_raw_parts_mut(self.0.start().as_ptr(), self.0.len()) }
    }
}

impl fmt::Debug for RegionMut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegionMut").field("len", &self.0.len()).finish()
    }
}

/// Memory whose bytes never change: made here, or received from a process that need not be trusted, because the kernel lets
/// nobody write to it.
///
/// It goes over a link in both directions ([`Sender::send_region`], [`Message::region`](crate::Message::region)), in
/// order with the messages, and to as many as one likes; nothing is copied. Each process that has it keeps a descriptor open.
/// The memory is free when the last process has dropped it, or has died: the kernel counts. Cheap to clone.
#[derive(Clone)]
pub struct Region(Arc<FrozenBlock>);

impl Region {
    /// The [kind](crate::Message::kind) of the message that names a region.
    pub const KIND: u16 = u16::MAX;

    /// The region of a descriptor that came in another way.
    ///
    /// # Errors
    /// [`SegmentError::NotRegular`] when it is no memfd of ordinary pages, [`SegmentError::NotSealed`] when somebody can
    /// still write to it or change its size, [`SegmentError::Holes`] when not all its memory is there: a page that was
    /// allocated and never written or mapped counts as a hole.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SegmentError> {
        Ok(Self(Arc::new(FrozenBlock::take(fd)?)))
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the block is so long, all of it is allocated, and its seals keep every process from changing its bytes and
        // its size.
        unsafe { slice::from_raw_parts(self.0.start().as_ptr(), self.0.len()) }
    }
}

impl AsFd for Region {
    /// Its descriptor, to pass it on in another way.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("len", &self.0.len()).finish()
    }
}

impl<P: Trust, K: SenderKind> Sender<P, K> {
    /// Sends a region over a link in both directions: a message of kind [`Region::KIND`], in order with the others, names
    /// it. Waits while the ring is full, and while the other end has taken too few of the regions before.
    ///
    /// When this process dies, a region whose message was committed arrives all the same.
    ///
    /// # Errors
    /// [`RegionError::NotDuplex`] on any other ring; [`RegionError::Send`] as for [`send`](Sender::send);
    /// [`RegionError::Link`] when the other end has hung up, which it also does when it dies, or when this user's processes
    /// have more descriptors under way than the system allows (`RLIMIT_NOFILE`).
    pub fn send_region(&mut self, region: &Region) -> Result<(), RegionError> {
        self.send_region_within(region, Patience::Endless)
    }

    /// The same, if there is room now. Never blocks.
    ///
    /// # Errors
    /// [`SendError::Full`], and those of [`send_region`](Sender::send_region).
    pub fn try_send_region(&mut self, region: &Region) -> Result<(), RegionError> {
        self.send_region_within(region, Patience::None)
    }

    /// The same; waits at most `timeout`.
    ///
    /// # Errors
    /// [`SendError::TimedOut`], and those of [`send_region`](Sender::send_region).
    pub fn send_region_timeout(&mut self, region: &Region, timeout: Duration) -> Result<(), RegionError> {
        self.send_region_within(region, Patience::For(timeout))
    }

    /// The same; waits until `deadline` at most.
    ///
    /// # Errors
    /// As for [`send_region_timeout`](Sender::send_region_timeout).
    pub fn send_region_deadline(&mut self, region: &Region, deadline: Instant) -> Result<(), RegionError> {
        self.send_region_within(region, Patience::Until(deadline))
    }

    fn send_region_within(&mut self, region: &Region, patience: Patience) -> Result<(), RegionError> {
        if !self.generation.lasts() {
            return Err(SendError::Forked.into());
        }
        let peer = self.inner().peer.clone().ok_or(RegionError::NotDuplex)?;
        let wire = peer.wire.as_ref().ok_or(RegionError::NotDuplex)?;
        let patience = patience.begun();
        // Before there is room in the ring: room that is given up again is passed over, not had back.
        self.await_way(&peer, wire, patience)?;
        // The descriptor after the room: then it has its message, unless this process dies in between.
        let mut reservation = self.reserve_within(LENGTH, &patience)?;
        let number = wire.pass(region.as_fd())?;
        reservation.write_at(0, &number.to_ne_bytes());
        reservation.write_at(8, &(region.len() as u64).to_ne_bytes());
        reservation.set_kind(Region::KIND);
        reservation.commit();
        Ok(())
    }

    /// Waits until a descriptor can be passed.
    fn await_way(&self, peer: &Peer, wire: &Wire, patience: Patience) -> Result<(), RegionError> {
        loop {
            let (pause, last) = match patience.deadline().map(Deadline::remaining) {
                Some(_) if !patience.waits() => (Duration::ZERO, Some(SendError::Full)),
                Some(rest) => (LOOK.min(rest), (rest <= LOOK).then_some(SendError::TimedOut)),
                None => (LOOK, None),
            };
            if wire.has_room(Deadline::after(pause))? {
                return Ok(());
            }
            if self.is_disconnected() {
                return Err(SendError::Disconnected.into());
            }
            // A child that it has forked may keep the connection open.
            if peer.process.is_dead() {
                return Err(LinkError::HungUp { awaiting: "a region to be taken" }.into());
            }
            if let Some(error) = last {
                return Err(error.into());
            }
        }
    }
}

impl Duplex {
    /// As [`Sender::send_region`]: waits for room.
    ///
    /// # Errors
    /// As for [`Sender::send_region`].
    pub fn send_region(&mut self, region: &Region) -> Result<(), RegionError> {
        self.sender.send_region(region)
    }
}

impl<P: Trust> Message<'_, P> {
    /// The region that the message names, when its kind is [`Region::KIND`]. It can be taken once, and none that was sent
    /// before it any more: those that nobody takes are closed then. Never blocks.
    ///
    /// # Errors
    /// [`RegionError::NotARegion`], [`RegionError::Taken`], [`RegionError::NotDuplex`], [`RegionError::Forked`]; of what the other end has passed:
    /// [`RegionError::Link`], [`RegionError::Segment`]. When there is no descriptor left, the region is lost.
    pub fn region(&self) -> Result<Region, RegionError> {
        named_by(&self.view())
    }
}

impl<P: Trust> BatchedMessage<'_, P> {
    /// As [`Message::region`].
    ///
    /// # Errors
    /// As for [`Message::region`].
    pub fn region(&self) -> Result<Region, RegionError> {
        named_by(self.view())
    }
}

/// The region that a message names.
fn named_by(message: &View<'_>) -> Result<Region, RegionError> {
    if message.kind() != Region::KIND || message.length() != LENGTH {
        return Err(RegionError::NotARegion);
    }
    let wire = message.peer().and_then(|peer| peer.wire.as_ref()).ok_or(RegionError::NotDuplex)?;
    let number_at = |offset| {
        let mut bytes = [0; 8];
        message.read_at(offset, &mut bytes);
        u64::from_ne_bytes(bytes)
    };
    let region = Region::from_fd(wire.take(number_at(0))?)?;
    if region.len() as u64 != number_at(8) {
        return Err(LinkError::Malformed { why: "a region is not as long as its message says" }.into());
    }
    Ok(region)
}
