//! What a receiver tells of its senders beside their messages.

use super::Receiver;
use crate::{
    channel::{message::SenderId, trust::Trust},
    ring::{
        claim,
        recovery::{self, Pending},
    },
};
use std::time::Duration;

/// A sender that died without closing. From [`Receiver::next_death`](crate::Receiver::next_death).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Death {
    /// Who died.
    pub sender: SenderId,
    /// Bytes of the ring, header included, that it had reserved and not committed, and that were passed over so far.
    pub unfinished: u64,
}

/// A reservation that holds up the ring. From [`Receiver::stalled`](crate::Receiver::stalled).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// Whose it is. The process lives: perhaps it was stopped, or waits for something else before it commits.
    pub sender: SenderId,
    /// How long this receiver has stood before it. The reservation is at least as old.
    pub age: Duration,
}

impl<P: Trust> Receiver<P> {
    /// A sender that died without closing and was not named before, by this or by [`RecvError::PeerDied`](crate::RecvError::PeerDied); `None` when there
    /// is none. It tells of a death also while other senders live, and until another sender takes the slot. Everything
    /// that the dead one had committed is, or was, received in its order. Never blocks.
    pub fn next_death(&mut self) -> Option<Death> {
        let Self { ring, attachment, .. } = self;
        if ring.generation.lasts() && attachment.vigil.has_news() {
            ring.pass_over_the_dead(attachment);
            ring.offer_room(false);
        }
        let fallen = ring.fallen.iter_mut().find(|fallen| !fallen.told)?;
        fallen.tell(attachment.inner.memory.receiver());
        Some(Death { sender: SenderId::new(fallen.slot, Some(fallen.owner)), unfinished: fallen.unfinished })
    }

    /// The reservation that the receiver waits for, when the last call that waited in vain stood before one that is not
    /// finished. Its sender lives, so it is never passed over, however long that takes. Always `None` with a single sender,
    /// whose open reservation nobody sees. Never blocks.
    pub fn stalled(&mut self) -> Option<Stall> {
        let consumer = &mut self.ring.consumer;
        let (_, since) = self.ring.standing.filter(|&(at, _)| at == consumer.head())?;
        // Nobody is taken for dead here: that only looks.
        let Pending::Unfinished { slot } = recovery::resolve(consumer, |_| false) else { return None };
        let owner = consumer.memory().slot(slot).and_then(|slot| claim::read(&slot.claim).owner());
        Some(Stall { sender: SenderId::new(slot, owner), age: since.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{channel::builder::unnamed, sync::Ordering::*};
    use std::thread;

    /// For Miri, which sees what nothing else does.
    #[test]
    fn who_asks_for_a_stall_has_no_race_with_who_writes_there() {
        let ring = unnamed().capacity(4096).many_senders(2).in_process().unwrap();
        let (mut sender, mut receiver) = (ring.multi_sender().unwrap(), ring.receiver().unwrap());
        let _other = ring.multi_sender().unwrap();
        let mut reservation = sender.reserve(1000).unwrap();
        // The other one was about to reserve there as well, was not the first, and then found no room.
        // ORDERING: Relaxed; of one thread.
        receiver.memory().slot(2).unwrap().intent_end.store(50, Relaxed);
        assert!(receiver.recv_timeout(Duration::ZERO).is_err());
        let stall = thread::scope(|threads| {
            threads.spawn(|| reservation.fill(1));
            receiver.stalled()
        });
        assert_eq!(stall.unwrap().sender.slot, 1);
        reservation.commit();
        assert_eq!(receiver.recv().unwrap().to_vec(), [1; 1000]);
    }
}
