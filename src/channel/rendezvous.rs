//! Sending without a buffer: a sender waits until its message was taken.
//!
//! The ring holds what senders offer while they wait (`ring/offer.rs`), so a message whose sender gives up is taken back, exactly:
//! either it was, and nobody ever receives it, or the receiver has it.

use super::{
    builder::Builder,
    patience::Patience,
    ring::Inner,
    sender::{OneReceiver, Sender, Single},
    trust::{Trust, Untrusted},
};
use crate::{
    error::{NotTaken, OpenError, SendError},
    header::mismatch,
    ring::{offer, position::UNIT},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

impl Builder {
    /// A ring without a buffer: a sender returns when the receiver has taken its message. Attach with
    /// [`Ring::rendezvous_sender`](crate::Ring::rendezvous_sender) or
    /// [`Ring::rendezvous_multi_sender`](crate::Ring::rendezvous_multi_sender); the receiver is the usual one. The capacity is
    /// room for what waiting senders offer, one message each. When a ring is opened: what it must be.
    ///
    /// Not for many readers, nor for links, in which the receiver can't write to the data area; nor
    /// [elastic](Builder::elastic), as there is no backlog.
    pub fn rendezvous(mut self) -> Self {
        self.rendezvous = true;
        self
    }
}

/// A sending end of a ring without a buffer ([`Builder::rendezvous`]). Dropping it closes it.
///
/// A message is taken when the receiver has released it, by dropping it or by receiving a copy. One whose sender was killed
/// while it waited is received all the same, once.
pub struct RendezvousSender<P: Trust = Untrusted, K: OneReceiver = Single> {
    sender: Sender<P, K>,
}

impl<P: Trust, K: OneReceiver> RendezvousSender<P, K> {
    pub(super) fn attach(inner: Arc<Inner>) -> Result<Self, OpenError> {
        if !inner.header.rendezvous {
            return Err(mismatch("how messages are handed over", "through a buffer", "in a rendezvous"));
        }
        Ok(Self { sender: Sender::attach(inner)? })
    }

    /// Hands a copy of `message` over; waits until the receiver has taken it, whether one is there yet or not.
    ///
    /// # Errors
    /// [`SendError::Disconnected`] when the receiver closes before it has received the message, which is taken back: nobody
    /// gets it. [`SendError::PeerDied`] when it dies; its `unreceived` is 0 when the message was taken back, and else its size in
    /// the ring: then the receiver had it in hand, and its successor gets it again. [`SendError::InHand`] when the receiver
    /// closes without having released it; [`SendError::TooLong`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.hand_over(0, message, Patience::Endless)
    }

    /// As [`send`](RendezvousSender::send), with the user's `kind`.
    ///
    /// # Errors
    /// As for [`send`](RendezvousSender::send).
    pub fn send_kind(&mut self, kind: u16, message: &[u8]) -> Result<(), SendError> {
        self.hand_over(kind, message, Patience::Endless)
    }

    /// Hands a copy of `message` over; waits at most `timeout`.
    ///
    /// # Errors
    /// [`SendError::TimedOut`] when the receiver had not received the message: it was taken back, and nobody gets it.
    /// [`SendError::InHand`] when the receiver had received it and not yet released it: it can't be taken back. And those of
    /// [`send`](RendezvousSender::send).
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.hand_over(0, message, Patience::For(timeout))
    }

    /// Hands a copy of `message` over; waits until `deadline` at most.
    ///
    /// # Errors
    /// As for [`send_timeout`](RendezvousSender::send_timeout).
    pub fn send_deadline(&mut self, message: &[u8], deadline: Instant) -> Result<(), SendError> {
        self.hand_over(0, message, Patience::Until(deadline))
    }

    fn hand_over(&mut self, kind: u16, message: &[u8], patience: Patience) -> Result<(), SendError> {
        let (length, patience) = (message.len() as u64, patience.begun());
        let sender = &mut self.sender;
        let reserved = sender.reserve_within(message.len(), &patience);
        // It was never offered: what lies in the ring is of others.
        let mut offered = reserved.map_err(|why| match why {
            SendError::PeerDied { pid, .. } => SendError::PeerDied { pid, unreceived: 0 },
            other => other,
        })?;
        offered.write_at(0, message);
        offered.set_kind(kind);
        let (start, end) = offered.offer();
        let taken = sender.wait_until_taken(end, patience.deadline());
        let withdrawn = taken.is_err() && offer::withdraw(sender.memory(), start);
        if withdrawn {
            sender.count(1_u64.wrapping_neg(), length.wrapping_neg());
        }
        let Err(why) = taken else { return Ok(()) };
        if !withdrawn && sender.memory().head().has_reached(end) {
            // In the last moment.
            return Ok(());
        }
        let unreceived = if withdrawn { 0 } else { end.since(start) * UNIT };
        Err(match why {
            NotTaken::PeerDied { pid } => SendError::PeerDied { pid, unreceived },
            _ if !withdrawn => SendError::InHand,
            NotTaken::Disconnected => SendError::Disconnected,
            NotTaken::TimedOut => SendError::TimedOut,
            NotTaken::Forked => SendError::Forked,
        })
    }

    /// Whether a receiver has closed since this sender came. A ring whose receiver is still to come is not closed.
    pub fn is_disconnected(&self) -> bool {
        self.sender.is_disconnected()
    }

    /// Bytes of the longest message.
    pub fn longest_message(&self) -> usize {
        self.sender.longest_message()
    }
}

impl<P: Trust, K: OneReceiver> fmt::Debug for RendezvousSender<P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RendezvousSender").field(&self.sender).finish()
    }
}
