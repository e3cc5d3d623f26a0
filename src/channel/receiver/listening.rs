//! What a receiver finds at its end of the ring, beside waiting for it.

use super::{corrupt, fallen::Fallen};
use crate::{
    channel::{attach::Attachment, checksum, ring::Inner, vigil::Looks},
    error::RecvError,
    header::Kind,
    ring::{
        claim::{self, Claim, Owner},
        loan::Tail,
        position::{Position, UNIT},
        receive::{Consumer, Record, Violation},
        recovery::{self, Pending},
        spsc,
    },
    sync::Ordering::*,
    sys::fork::Generation,
    wait::{Look, Usher, Waker},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// The receiver without its way of waiting.
pub(super) struct Listening {
    pub(super) consumer: Consumer,
    usher: Usher,
    pub(super) generation: Generation,
    /// Bytes of the checksum behind each message.
    pub(super) trailer: u32,
    /// Senders that died, in slots that nobody has taken since.
    pub(super) fallen: Vec<Fallen>,
    /// Somebody has died, and no end was reported since.
    end_is_owed: bool,
    /// What was reported when no sender was left, if none has attached since.
    pub(super) ended: Option<RecvError>,
    /// A reservation that is not finished, and since when the receiver stands before it.
    pub(super) standing: Option<(Position, Instant)>,
    /// At the senders, where nobody tells of a death.
    looks: Looks,
}

/// Why there will be no message, not told yet.
pub(super) enum End {
    Corrupt(Violation),
    /// Everybody has gone, with the number of closings.
    Closed(u32),
}

impl Listening {
    pub(super) fn new(inner: &Inner) -> Self {
        let mut consumer = Consumer::attach(Arc::clone(&inner.memory));
        if inner.header.rendezvous {
            consumer.accept_offers();
        }
        if let Kind::Many(_) = inner.header.kind {
            consumer.see_tail();
        }
        Self {
            consumer,
            usher: Usher::new(Waker::new(inner.header.asymmetric), inner.scope),
            generation: Generation::current(),
            trailer: checksum::trailer(&inner.header),
            // So that a death is told of without allocating.
            fallen: Vec::with_capacity(inner.memory.slots().into()),
            end_is_owed: false,
            ended: None,
            standing: None,
            looks: Looks::after(Duration::ZERO),
        }
    }

    /// A message, the end, or nothing yet. The end is told by this.
    #[inline]
    pub(super) fn look(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, RecvError>> {
        Some(self.find(attachment, why)?.map_err(|end| match end {
            End::Corrupt(violation) => corrupt(violation),
            End::Closed(closings) => self.report_end(closings),
        }))
    }

    /// As `look`; tells nobody.
    #[inline]
    pub(super) fn find(&mut self, attachment: &Attachment, why: Look) -> Option<Result<Record, End>> {
        match self.first() {
            Ok(Some(record)) => return Some(Ok(record)),
            Err(violation) => return Some(Err(End::Corrupt(violation))),
            Ok(None) if why == Look::Spinning => {
                self.consumer.ask_for_one_more();
                return None;
            }
            Ok(None) => {}
        }
        let vigil = &attachment.vigil;
        let nobody_tells = || vigil.slice().is_some();
        if why == Look::Idle || vigil.deaths.any() || nobody_tells() && self.looks.is_due(why) {
            self.pass_over_the_dead(attachment);
        }
        // Everything is released that can be: whoever waits for room need not wait for more.
        self.offer_room(true);
        let ended = self.has_ended(attachment);
        // What the dead left unfinished is passed over, and what all who are gone have committed is visible now.
        match self.first() {
            Ok(Some(record)) => Some(Ok(record)),
            Err(violation) => Some(Err(End::Corrupt(violation))),
            Ok(None) => match self.hidden() {
                Some(violation) => Some(Err(End::Corrupt(violation))),
                None => ended.map(|closings| Err(End::Closed(closings))),
            },
        }
    }

    /// In a ring with checksums: what was committed where nothing is to be seen, since its tag was damaged.
    fn hidden(&self) -> Option<Violation> {
        if self.trailer == 0 { None } else { recovery::hidden(&self.consumer) }
    }

    /// The first message. The room of what it passes over on its way there is offered at once: the message may be held for long.
    #[inline]
    pub(super) fn first(&mut self) -> Result<Option<Record>, Violation> {
        let before = self.consumer.head();
        let found = self.consumer.look();
        if self.consumer.head() != before {
            self.offer_room(matches!(found, Ok(None)));
        }
        if self.trailer == 0 { found } else { self.unless_left_over(found) }
    }

    /// In a ring with checksums: `None` where what stands there was left of a lap before, and its tag was damaged into one of this lap.
    #[cold]
    fn unless_left_over(
        &self,
        found: Result<Option<Record>, Violation>,
    ) -> Result<Option<Record>, Violation> {
        let memory = self.consumer.memory();
        let is_there = |record: &Record| {
            recovery::shown_ahead(memory, record.position).is_some()
                || checksum::verify(memory, *record).is_some()
        };
        found.map(|found| found.filter(is_there))
    }

    /// Whether there is a message. Accepts nothing that is offered.
    pub(super) fn has_message(&mut self) -> bool {
        self.consumer.leave_offers(true);
        let found = self.first();
        self.consumer.leave_offers(false);
        matches!(found, Ok(Some(_)))
    }

    /// After a release: as [`Listening::offer_room`], if anybody may wait.
    #[inline(always)]
    pub(super) fn offer_released(&mut self) {
        if !self.usher.may_be_left(self.consumer.memory(), self.consumer.head()) {
            self.offer_room(false);
        }
    }

    /// Wakes senders that wait for room, where that is due.
    #[cold]
    pub(super) fn offer_room(&mut self, empty: bool) {
        let (memory, head) = (self.consumer.memory(), self.consumer.head());
        if self.usher.offer_room(memory, head, empty) {
            memory.receiver().counts.wakes.add(1);
        }
    }

    /// Remembers since when there has been a reservation at the head that is not finished.
    #[inline]
    pub(super) fn note_where_it_stands(&mut self, kind: Kind, why: Look) {
        if kind == Kind::Single || why == Look::Spinning {
            return;
        }
        let (head, memory) = (self.consumer.head(), self.consumer.memory());
        if !Tail::of(memory).is_past(head) {
            self.standing = None;
        } else if self.standing.is_none_or(|(at, _)| at != head) {
            self.standing = Some((head, Instant::now()));
        }
    }

    /// The number of closings, when no sender is attached and one has closed, or died, that was not reported; or none has
    /// come since the last report.
    fn has_ended(&mut self, attachment: &Attachment) -> Option<u32> {
        let memory = self.consumer.memory();
        // First the closings, then the claims, then (by the caller) the ring once more.
        // ORDERING: Acquire E2; pairs with Release E1 in `Attachment::drop`: the claims are read after it.
        let closings = memory.senders().closings.load(Acquire);
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let seen = memory.receiver().closings_seen.load(Relaxed);
        if attachment.inner.peer.is_some() && !self.fallen.is_empty() {
            // Nobody comes after the other end of a link, whatever that has written.
            return Some(closings);
        }
        if self.ended.is_none() && closings == seen && !self.end_is_owed {
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

    /// Everybody has gone: names the next of the dead, if there is one, and else the end.
    fn report_end(&mut self, closings: u32) -> RecvError {
        let area = self.consumer.memory().receiver();
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let closed = area.closings_seen.load(Relaxed) != closings;
        // ORDERING: Relaxed; read by later receivers, whose claim comes after ours.
        area.closings_seen.store(closings, Relaxed);
        let owed = std::mem::take(&mut self.end_is_owed);
        let untold = self.fallen.iter_mut().find(|fallen| !fallen.told).map(|fallen| fallen.tell(area));
        // Perhaps `next_death` has named the last one already.
        let again = || self.fallen.last().filter(|_| owed && !closed).map(Fallen::news);
        let before = self.ended.filter(|_| !closed);
        let error = untold.or_else(again).or(before).unwrap_or(RecvError::Disconnected);
        self.ended = Some(error);
        error
    }

    /// Passes over what dead senders have left unfinished, and notes who they are.
    pub(super) fn pass_over_the_dead(&mut self, attachment: &Attachment) {
        let Attachment { inner, vigil, .. } = attachment;
        let memory = &inner.memory;
        let held = |slot: u8| memory.slot(slot).map(|slot| claim::read(&slot.claim));
        if inner.peer.is_some() {
            if let Some(owner) = vigil.dead_peer().filter(|_| !self.has_closed(held(spsc::SLOT))) {
                self.fallen_in(spsc::SLOT, owner);
            }
            return;
        }
        self.fallen.retain(|fallen| held(fallen.slot) == Some(Claim::Attached(fallen.owner)));
        for (number, slot) in memory.all_slots() {
            if let Some(owner) = vigil.died_in(&slot.claim) {
                self.fallen_in(number, owner);
            }
        }
        if let Kind::Many(_) = inner.header.kind {
            // Each slot owns one reservation at most: what goes on longer is a hostile sender's doing.
            for _ in 0..memory.slots() {
                let found = recovery::resolve(&mut self.consumer, |owner| vigil.is_dead(owner));
                let Pending::PassedOver { slot, units } = found else { break };
                if let Some(Claim::Attached(owner)) = held(slot) {
                    self.fallen_in(slot, owner).leaves(units * UNIT);
                }
            }
        }
        vigil.bury(memory.all_slots().map(|(_, slot)| &slot.claim));
    }

    /// Whether the other end of a link, which is dead, had closed in order, and that is or was reported.
    fn has_closed(&self, claim: Option<Claim>) -> bool {
        let memory = self.consumer.memory();
        // ORDERING: Relaxed; the proof of its death came first.
        let closings = memory.senders().closings.load(Relaxed);
        // ORDERING: Relaxed; written by receivers only, and this is the one.
        let told = self.ended.is_some() || closings != memory.receiver().closings_seen.load(Relaxed);
        told && matches!(claim, Some(Claim::Closed(_)))
    }

    fn fallen_in(&mut self, slot: u8, owner: Owner) -> &mut Fallen {
        let known = self.fallen.iter().position(|fallen| (fallen.slot, fallen.owner) == (slot, owner));
        let index = known.unwrap_or_else(|| {
            let fallen = Fallen::new(slot, owner, self.consumer.memory().receiver());
            self.end_is_owed |= !fallen.told;
            self.fallen.push(fallen);
            self.fallen.len() - 1
        });
        &mut self.fallen[index]
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.generation.lasts() {
            self.usher.cover(self.consumer.memory());
        }
    }
}
