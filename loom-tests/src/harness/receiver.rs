//! The receiving end, as `src/channel/receiver.rs` goes about it.

use super::*;

/// A message as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) value: u64,
    /// Slot of its sender.
    pub(crate) slot: u8,
}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Empty,
    TimedOut,
    Disconnected,
    PeerDied(u32),
}

pub(crate) struct Receiver {
    pub(super) ring: Ring,
    pub(crate) consumer: Consumer,
    pub(super) owner: Owner,
    pub(super) usher: Usher,
    pub(super) news: Arc<News>,
    pub(super) fallen: Vec<Fallen>,
    pub(super) ended: Option<End>,
}

/// A sender that died.
pub(super) struct Fallen {
    slot: u8,
    owner: Owner,
    told: bool,
}

impl Receiver {
    /// The next message; sleeps while there is none.
    pub(crate) fn receive(&mut self) -> Result<Message, End> {
        self.receive_within(None)
    }

    /// The next message; sleeps while there is none until the clock ticks.
    pub(crate) fn receive_for_a_while(&mut self) -> Result<Message, End> {
        self.receive_within(in_a_while())
    }

    fn receive_within(&mut self, deadline: Option<Deadline>) -> Result<Message, End> {
        let record = match self.consumer.look().unwrap() {
            Some(record) => record,
            None => {
                let (ring, news) = (self.ring.clone(), Arc::clone(&self.news));
                let (bell, counts) = (ring.bell_of_receiver(), &ring.memory.receiver().counts);
                let sleeper =
                    Sleeper { call: bell.into(), news: &news, counts, eager_after: None, slice: None };
                sleeper.until(&mut at_once(), deadline, |why| self.look(why)).unwrap_or(Err(End::TimedOut))?
            }
        };
        Ok(self.take(record))
    }

    /// The next message, if there is one now.
    pub(crate) fn try_receive(&mut self) -> Result<Message, End> {
        let record = self.peek()?;
        Ok(self.take(record))
    }

    /// The next message, which stays in the ring.
    pub(crate) fn peek(&mut self) -> Result<Record, End> {
        self.ring.step_on(self.consumer.head(), 1);
        let found = self.consumer.first().or_else(|| self.consumer.look().unwrap());
        found.map_or_else(|| self.look(Look::BeforeSleep).unwrap_or(Err(End::Empty)), Ok)
    }

    /// Whether there is a message at the head; nothing else is looked at.
    pub(crate) fn sees_a_message(&mut self) -> bool {
        self.consumer.look().unwrap().is_some()
    }

    pub(crate) fn read(&self, record: Record) -> Message {
        self.ring.step_on(record.position, record.end.since(record.position));
        let value = match record.length() {
            0 => record.info.kind() as u64,
            length => self.ring.memory.read_payload(record.position, length),
        };
        assert_eq!(record.info.kind() as u64, value, "header and payload are of one message");
        Message { value, slot: claim::slot_of_sender(&self.ring.memory, record.info.owner()) }
    }

    fn take(&mut self, record: Record) -> Message {
        let message = self.read(record);
        self.release(record.end);
        message
    }

    pub(crate) fn release(&mut self, end: Position) {
        self.consumer.release(end);
        if !self.usher.may_be_left(&self.ring.memory, self.consumer.head()) {
            self.offer_room(false);
        }
    }

    /// Goes bare, where it may: as after many releases that had to wake nobody.
    pub(crate) fn calm(&mut self) {
        for _ in 0..2 {
            self.offer_room(false);
        }
    }

    fn look(&mut self, why: Look) -> Option<Result<Record, End>> {
        match self.consumer.look().unwrap() {
            Some(record) => return Some(Ok(record)),
            None if why == Look::Spinning => return None,
            None => {}
        }
        if why == Look::Idle || self.ring.anybody_died() {
            self.pass_over_the_dead();
        }
        self.offer_room(true);
        let ended = self.has_ended();
        let looked = self.consumer.look().unwrap();
        match looked {
            Some(record) => Some(Ok(record)),
            None => ended.map(|closings| Err(self.report_end(closings))),
        }
    }

    fn offer_room(&mut self, empty: bool) {
        self.usher.offer_room(&self.ring.memory, self.consumer.head(), empty);
    }

    fn has_ended(&mut self) -> Option<u32> {
        let memory = &self.ring.memory;
        let closings = memory.senders().closings.load(Acquire);
        let seen = memory.receiver().closings_seen.load(Relaxed);
        let untold = self.fallen.iter().any(|fallen| !fallen.told);
        if self.ended.is_none() && closings == seen && !untold {
            return None;
        }
        let living = memory.all_slots().any(|(_, slot)| match claim::read(&slot.claim) {
            Claim::Attached(owner) => self.fallen.iter().all(|fallen| fallen.owner != owner),
            Claim::Closed(_) | Claim::Never => false,
        });
        if living {
            self.ended = None;
        }
        (!living).then_some(closings)
    }

    fn report_end(&mut self, closings: u32) -> End {
        let closed = self.ring.memory.receiver().closings_seen.load(Relaxed) != closings;
        self.ring.memory.receiver().closings_seen.store(closings, Relaxed);
        let end = match self.fallen.iter_mut().find(|fallen| !fallen.told) {
            Some(fallen) => {
                fallen.told = true;
                End::PeerDied(fallen.owner.pid())
            }
            None => self.ended.filter(|_| !closed).unwrap_or(End::Disconnected),
        };
        self.ended = Some(end);
        end
    }

    fn pass_over_the_dead(&mut self) {
        let ring = self.ring.clone();
        let held = |slot: u8| ring.memory.slot(slot).map(|slot| claim::read(&slot.claim));
        self.fallen.retain(|fallen| held(fallen.slot) == Some(Claim::Attached(fallen.owner)));
        for (slot, words) in ring.memory.all_slots() {
            let Some(owner) = ring.died_in(&words.claim) else { continue };
            if !self.fallen.iter().any(|fallen| (fallen.slot, fallen.owner) == (slot, owner)) {
                self.fallen.push(Fallen { slot, owner, told: false });
            }
        }
        if !ring.single {
            while let Pending::PassedOver { .. } = self.resolve() {}
        }
    }

    /// Finds out why there is no message, and passes over what a dead sender left.
    pub(crate) fn resolve(&mut self) -> Pending {
        let ring = self.ring.clone();
        recovery::resolve(&mut self.consumer, |owner| ring.is_dead(owner))
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        self.usher.cover(&self.ring.memory);
        let area = self.ring.memory.receiver();
        area.attention.fetch_or(CLOSED, Relaxed);
        claim::close(&area.claim);
        let bell = self.ring.bell_of_senders();
        if !bell.ring(&mut Waker::new(false), |_| Due::All) {
            bell.wake_everybody();
        }
    }
}
