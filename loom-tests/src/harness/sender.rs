//! The sending end, as `src/channel/sender.rs` goes about it.

use super::*;

/// Why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotSent {
    Full,
    TimedOut,
    Disconnected,
    PeerDied(u32),
}

pub(crate) struct Sender<P: Produce> {
    pub(super) ring: Ring,
    pub(crate) producer: P,
    pub(super) owner: Owner,
    /// The receiver's claim when this sender came.
    pub(super) before: claim::Seen,
    pub(super) waker: Waker,
    pub(super) news: Arc<News>,
}

/// Whether a receiver has closed, other than one that had done so `before`.
fn has_closed(claim: &AtomicU64, before: claim::Seen) -> bool {
    let seen = claim::seen(claim);
    seen != before && matches!(seen.claim(), Claim::Closed(_))
}

impl<P: Produce> Sender<P> {
    pub(crate) fn slot(&self) -> u8 {
        self.producer.slot()
    }

    /// Room, if there is any now.
    pub(crate) fn try_reserve(&mut self, length: u32) -> Result<Reserved, NotSent> {
        self.room(Need::Record(length.into()))?.ok_or(NotSent::Full)
    }

    /// Room for a batch, if there is any now.
    pub(crate) fn try_reserve_units(&mut self, units: u64) -> Result<Reserved, NotSent> {
        self.room(Need::Units(units))?.ok_or(NotSent::Full)
    }

    /// Room; sleeps while there is none.
    pub(crate) fn reserve(&mut self, length: u32) -> Result<Reserved, NotSent> {
        self.room_within(None, Need::Record(length.into()))
    }

    fn room(&mut self, need: Need) -> Result<Option<Reserved>, NotSent> {
        // What was leaked, as in the product.
        self.discard();
        let closed = self.ring.bell_of_receiver().attention() & CLOSED != 0;
        if closed && has_closed(&self.ring.memory.receiver().claim, self.before) {
            return Err(NotSent::Disconnected);
        }
        Ok(self.producer.reserve(need).ok())
    }

    fn room_within(&mut self, deadline: Option<Deadline>, need: Need) -> Result<Reserved, NotSent> {
        if let Some(reserved) = self.room(need)? {
            return Ok(reserved);
        }
        let (ring, before, producer) = (&self.ring, self.before, &mut self.producer);
        producer.show_tail();
        let (claim, bell) = (&ring.memory.receiver().claim, ring.bell_of_receiver());
        let sleeper = Sleeper {
            call: ring.bell_of_senders().into(),
            news: &self.news,
            counts: &ring.memory.slot(producer.slot()).unwrap().counts,
            eager_after: Some(Duration::ZERO),
            slice: None,
        };
        let found = sleeper.until(&mut at_once(), deadline, |look| {
            if bell.attention() & CLOSED != 0 && has_closed(claim, before) {
                return Some(Err(NotSent::Disconnected));
            }
            if let Ok(reserved) = producer.reserve(need) {
                return Some(Ok(reserved));
            }
            if look == Look::Spinning {
                None
            } else {
                ring.died_in(claim).map(|dead| Err(NotSent::PeerDied(dead.pid())))
            }
        });
        found.unwrap_or(Err(NotSent::TimedOut))
    }

    /// Writes and publishes what was reserved.
    pub(crate) fn commit(&mut self, reserved: Reserved, length: u32, value: u64) {
        self.ring.step_on(reserved.start, reserved.units);
        self.ring.memory.write_payload(reserved.start, length, value);
        reserved.place(
            &self.ring.memory,
            reserved.start,
            reserved.info_at(reserved.start, length, value as u16),
        );
        self.producer.publish(reserved, reserved.end());
        self.wake_receiver();
    }

    /// Publishes only the first `used` bytes of what was reserved.
    pub(crate) fn commit_shortened(&mut self, reserved: Reserved, length: u32, used: u32, value: u64) {
        let memory = &self.ring.memory;
        memory.write_payload(reserved.start, used, value);
        memory.shorten(reserved.start, length, used);
        reserved.place(memory, reserved.start, reserved.info_at(reserved.start, used, value as u16));
        let end = reserved.start.plus(memory.geometry().size_units(reserved.start, used as u64));
        self.producer.publish(reserved, end);
        self.wake_receiver();
    }

    /// Writes and offers what was reserved; gives where it ends.
    pub(crate) fn offer(&mut self, reserved: Reserved, length: u32, value: u64) -> Position
    where
        P: Offer,
    {
        self.ring.step_on(reserved.start, reserved.units);
        self.ring.memory.write_payload(reserved.start, length, value);
        reserved.place(
            &self.ring.memory,
            reserved.start,
            reserved.info_at(reserved.start, length, value as u16),
        );
        self.producer.offer(reserved);
        self.wake_receiver();
        reserved.end()
    }

    /// Waits until the receiver has released everything before `end`.
    pub(crate) fn wait_until_taken(&mut self, end: Position) -> Result<(), NotSent> {
        let (ring, before) = (&self.ring, self.before);
        let (claim, receiver) = (&ring.memory.receiver().claim, ring.bell_of_receiver());
        let sleeper = Sleeper {
            call: ring.bell_of_senders().into(),
            news: &self.news,
            counts: &ring.memory.slot(self.producer.slot()).unwrap().counts,
            eager_after: None,
            slice: None,
        };
        let found = sleeper.until_release(&mut at_once(), None, |look| {
            let closed = || receiver.attention() & CLOSED != 0 && has_closed(claim, before);
            let died = || ring.died_in(claim).map(|dead| NotSent::PeerDied(dead.pid()));
            let gone = match look {
                Look::Spinning => None,
                _ => closed().then_some(NotSent::Disconnected).or_else(died),
            };
            if ring.memory.head().has_reached(end) { Some(Ok(())) } else { gone.map(Err) }
        });
        found.unwrap_or(Err(NotSent::TimedOut))
    }

    /// Gives up what is reserved.
    pub(crate) fn discard(&mut self) {
        if self.producer.abandon() {
            self.wake_receiver();
        }
    }

    /// Goes bare, where it may: as after many messages that had to wake nobody.
    pub(crate) fn calm(&mut self) {
        for _ in 0..2 {
            self.wake_receiver();
        }
    }

    fn wake_receiver(&mut self) {
        self.ring.bell_of_receiver().ring(&mut self.waker, |_| Due::All);
    }

    /// Sends; sleeps while the ring is full.
    pub(crate) fn send(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.reserve(length)?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends; sleeps while the ring is full until the clock ticks.
    pub(crate) fn send_for_a_while(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.room_within(in_a_while(), Need::Record(length.into()))?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends, if there is room now.
    pub(crate) fn try_send(&mut self, length: u32, value: u64) -> Result<(), NotSent> {
        let reserved = self.try_reserve(length)?;
        self.commit(reserved, length, value);
        Ok(())
    }

    /// Sends messages without payload all at once, in room for `units`. The kind is the value.
    pub(crate) fn batch(&mut self, units: u64, values: &[u64]) -> Result<(), NotSent> {
        let reserved = self.room_within(None, Need::Units(units))?;
        let mut next = reserved.start;
        for value in values {
            reserved.place(&self.ring.memory, next, reserved.info_at(next, 0, *value as u16));
            next = next.plus(HEADER);
        }
        self.producer.publish(reserved, next);
        self.wake_receiver();
        Ok(())
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        self.discard();
        self.ring.bell_of_receiver().cover(&mut self.waker);
        let memory = &self.ring.memory;
        memory.senders().closings.fetch_add(1, Release);
        claim::close(&memory.slot(self.producer.slot()).unwrap().claim);
        self.ring.bell_of_receiver().ring(&mut Waker::new(false), |_| Due::All);
    }
}
