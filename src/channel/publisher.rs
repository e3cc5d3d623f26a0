//! One sender whose messages every reader gets.

use super::{
    attach::{self, Attachment, Before},
    ring::Inner,
    sender::{Sender, SenderKind, sealed::Sealed},
    trust::{Trust, Untrusted},
    vigil::Vigil,
};
use crate::{
    error::{OpenError, SendError},
    layout::Counts,
    ring::{broadcast::Producer, memory::Memory},
    sys::futex::Scope,
    wait::Bell,
};
use std::sync::Arc;

/// The ring has one sender at a time, and every reader gets every message.
#[derive(Clone, Copy, Debug)]
pub enum Broadcast {}

/// The sender of a ring in which every reader gets every message.
///
/// A message is written over only after every [`Subscriber`](crate::Subscriber) has released it. So what becomes of a slow one
/// is the sender's choice: [`send`](Sender::send) waits for it, [`send_timeout`](Sender::send_timeout) waits for a time, and
/// [`try_send`](Sender::try_send) drops the newest message: [`SendError::Full`], which
/// [`refused`](crate::ParticipantStatistics::refused) counts. [`slowest`](Sender::slowest) names who is behind. One that died
/// holds nothing up. A [`Watcher`](crate::Watcher) never does: the oldest messages are written over under it, and it is told
/// how many.
///
/// It needs no reader, so it never gets [`SendError::Disconnected`] or [`SendError::PeerDied`].
pub type Publisher<P = Untrusted> = Sender<P, Broadcast>;

/// How far behind a reader is. From [`Publisher::slowest`](Sender::slowest).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Lag {
    /// Number of its slot, from 1.
    pub slot: u8,
    /// Its process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: no two processes agree in both.
    pub start_ticks: u64,
    /// Bytes of the ring, headers included, that were sent and that it has not released. The whole capacity of one that has
    /// come and not yet begun to read.
    pub behind_bytes: u64,
}

impl Sealed for Broadcast {
    type Producer = Producer;

    fn join(inner: Arc<Inner>) -> Result<(Attachment, Producer), OpenError> {
        let memory = Arc::clone(&inner.memory);
        let (attachment, crashed) = Attachment::publisher(inner)?;
        let mut producer = Producer::attach(memory, crashed);
        // Of those who died before it came it need not be told: the first message must not find their places full.
        producer.pass_over(attach::is_dead);
        Ok((attachment, producer))
    }

    fn go_on(attachment: &Attachment) -> Producer {
        Producer::attach(Arc::clone(&attachment.inner.memory), false)
    }

    // The sender holds the receiver's place, and each reader a slot.

    #[inline]
    fn bell_of_takers(memory: &Memory, scope: Scope) -> Bell<'_> {
        Bell::of_senders(memory, scope)
    }

    fn bell_of_givers(memory: &Memory, scope: Scope) -> Bell<'_> {
        Bell::of_receiver(memory, scope)
    }

    #[inline]
    fn counts(memory: &Memory, _slot: u8) -> Option<&Counts> {
        Some(&memory.receiver().counts)
    }

    #[inline]
    fn is_disconnected(_: &Memory, _: Scope, _: Before) -> bool {
        false
    }

    fn hear(producer: &mut Producer, vigil: &Vigil) -> Option<SendError> {
        if vigil.has_news() {
            producer.pass_over(|owner| vigil.is_dead(owner));
        }
        None
    }

    fn bury(memory: &Memory, vigil: &Vigil) {
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
    }
}

impl SenderKind for Broadcast {}

impl<P: Trust> Sender<P, Broadcast> {
    /// The reader that is farthest behind, among those for which this sender waits: also one that is stopped, but none that
    /// has died. `None` when there is none, and in a forked child. Never blocks.
    pub fn slowest(&self) -> Option<Lag> {
        if !self.generation.lasts() {
            // What is known of deaths may be locked there for ever.
            return None;
        }
        let is_dead = |owner| self.attachment.vigil.is_dead(owner);
        let (slot, owner, behind_bytes) = self.producer.slowest(is_dead)?;
        Some(Lag { slot, pid: owner.pid(), start_ticks: owner.start_ticks(), behind_bytes })
    }
}
