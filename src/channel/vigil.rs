//! Watching for the death of whoever is at the other end.
//!
//! A handle that may be shared with other processes has a thread of its own that sleeps until one of them dies
//! (`sys/watch.rs`), proves the death, and tells the handle. So a wait is a plain sleep on one word, nothing wakes up
//! from time to time, and a death is known within moments.

use super::{
    attach::{self, Place},
    link::Peer,
    ring::Inner,
};
use crate::{
    layout::{AlarmWord, Counts},
    ring::{
        claim::{self, Claim, Owner},
        memory::Memory,
    },
    sync::{AtomicU32 as ProtocolWord, AtomicU64},
    sys::{
        clock::Deadline,
        futex::{self, Scope},
        peer,
        pidfd::Knell,
        watch::{self, Alarm, Bed, Hint},
    },
    wait::{Call, Look, News, Sleeper},
};
use core::{
    ptr::NonNull,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::*},
    time::Duration,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often a death is looked for once the kernel has hinted at it: the other threads of the process end soon after the
/// one that watches.
const HINTED: Duration = Duration::from_millis(1);

/// How often who has no vigil of its own looks for a death.
pub(super) const LOOK_AFTER: Duration = Bed::BLIND;

/// When whoever is not told of deaths looks for one: often enough that it is known soon, seldom enough that polling costs next to
/// nothing.
pub(super) struct Looks {
    next: Deadline,
}

impl Looks {
    /// The first one so long from now.
    pub(super) fn after(wait: Duration) -> Self {
        Self { next: Deadline::after(wait) }
    }

    /// Whether it is time for one. The next is then a while later. Reads the clock, but not while spinning.
    pub(super) fn is_due(&mut self, why: Look) -> bool {
        let due = match why {
            Look::Spinning => false,
            // Who polls for ever is never idle.
            Look::BeforeSleep => self.next.passed(),
            Look::Idle => true,
        };
        if due {
            *self = Self::after(LOOK_AFTER / 2);
        }
        due
    }
}

/// What the kernel has said of those whose death nobody tells. It is asked again a while later; that somebody is dead stays so.
pub(super) struct Asked {
    pause: Duration,
    answers: Mutex<Answers>,
}

struct Answers {
    /// Until then they stand.
    until: Deadline,
    dead: Vec<(Owner, bool)>,
}

impl Asked {
    /// Most that are remembered: a hostile process can name any number.
    const MOST: usize = 256;

    /// So that a death is known as soon as by one that sleeps.
    pub(super) fn now_and_then() -> Self {
        Self::every(LOOK_AFTER / 2)
    }

    fn every(pause: Duration) -> Self {
        Self { pause, answers: Mutex::new(Answers { until: Deadline::after(pause), dead: Vec::new() }) }
    }

    /// Whether the process is dead, as `ask` says, or has said not long ago.
    pub(super) fn is_dead(&self, owner: Owner, ask: impl FnOnce() -> bool) -> bool {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.until.passed() {
            answers.dead.retain(|&(_, dead)| dead);
            answers.until = Deadline::after(self.pause);
        }
        if let Some(&(_, dead)) = answers.dead.iter().find(|(known, _)| *known == owner) {
            return dead;
        }
        if answers.dead.len() == Self::MOST {
            answers.dead.clear();
        }
        let dead = ask();
        answers.dead.push((owner, dead));
        dead
    }
}

/// What is known of the dead.
#[derive(Default)]
pub(crate) struct Deaths {
    pub(crate) news: News,
    /// Whether `proven` has any: looked at without the lock.
    any: AtomicBool,
    proven: Mutex<Vec<Owner>>,
    /// Whether another thread has ever slept for a future of the handle.
    lent: AtomicBool,
    /// The number of the handle's present sleep.
    sleep: Mutex<u64>,
}

impl Deaths {
    /// Whether anybody is known to be dead.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        // ORDERING: Acquire, of one process; pairs with the Release in `report`.
        self.any.load(Acquire)
    }

    fn knows(&self, owner: Owner) -> bool {
        self.any() && self.lock().contains(&owner)
    }

    /// Notes a proof, and forgets those of whom none of the `places` speaks any more: a hostile process can name any number
    /// of the dead.
    fn report<'m>(&self, owner: Owner, places: impl Iterator<Item = &'m AtomicU64>) {
        let held: Vec<_> = places.map(claim::read).collect();
        let mut proven = self.lock();
        proven.retain(|&owner| held.contains(&Claim::Attached(owner)));
        proven.push(owner);
        // ORDERING: Release, of one process; pairs with the Acquire in `any`.
        self.any.store(true, Release);
        drop(proven);
        self.news.tell();
    }

    /// Another thread is about to sleep for a future of the handle; gives the number of that sleep.
    pub(crate) fn lend(&self) -> u64 {
        // ORDERING: Relaxed, of one process; the next user of the handle, in whichever thread, has it from this one.
        self.lent.store(true, Relaxed);
        let mut sleep = self.sleep();
        *sleep += 1;
        *sleep
    }

    /// The handle is about to sleep itself: a future that was leaked has left a sleep that may end any time.
    pub(crate) fn take_back(&self) {
        // ORDERING: Relaxed, as above.
        if self.lent.load(Relaxed) {
            *self.sleep() += 1;
        }
    }

    /// Ends the sleep of this number, as `is_back` says, unless the handle has begun another one since.
    pub(crate) fn end_sleep(&self, number: u64, is_back: impl FnOnce()) {
        let present = self.sleep();
        if *present == number {
            is_back();
        }
    }

    fn sleep(&self) -> MutexGuard<'_, u64> {
        self.sleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Owner>> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The vigil of one handle.
pub struct Vigil {
    pub(crate) deaths: Arc<Deaths>,
    /// `None` in a ring inside one process, whose users die together; and where the kernel refuses.
    alarm: Option<Alarm>,
    /// Where there is none.
    asked: Asked,
    scope: Scope,
    /// The other end of a link.
    peer: Option<Arc<Peer>>,
    /// Strikes when that one has ended, however it has set its alarm.
    _knell: Option<Knell>,
}

impl Vigil {
    /// Begins to watch whoever is at the other end from `place`, and arms the words by which they watch this process.
    ///
    /// # Safety
    /// `inner` must live until the result is dropped.
    pub(super) unsafe fn begin(inner: &Arc<Inner>, place: Place) -> Self {
        let deaths = Arc::new(Deaths::default());
        let peer = inner.peer.clone();
        let knell = peer.as_ref().and_then(|peer| Knell::of(&peer.process));
        let link = peer.clone().map(|peer| Link { peer, struck: knell.as_ref().map(Knell::struck).cloned() });
        let arm = || {
            let (memory, watched, deaths) = (&inner.memory, Arc::clone(&inner.memory), Arc::clone(&deaths));
            let own: Vec<NonNull<AtomicU32>> = match place {
                Place::Receiver => alarms_of_receiver(memory).map(|AlarmWord(word)| word.into()).collect(),
                Place::Slot(number) | Place::Seat(number) => {
                    memory.slot(number).map(|slot| NonNull::from(&slot.alarm.0)).into_iter().collect()
                }
            };
            let mut rounds = Rounds::default();
            // SAFETY: the words lie in the mapping, which `inner` holds (the caller).
            unsafe {
                Alarm::arm(own, move |bed| keep(&watched, place, &deaths, link.as_ref(), &mut rounds, bed))
            }
        };
        let alarm = if inner.scope == Scope::Shared { arm() } else { None };
        Self { deaths, alarm, asked: Asked::now_and_then(), scope: inner.scope, peer, _knell: knell }
    }

    /// News for the handle, which is about to sleep.
    fn news(&self) -> &News {
        self.deaths.take_back();
        &self.deaths.news
    }

    /// Who sleeps until it is called so, and hears the news.
    pub(crate) fn sleeper<'a>(&'a self, call: impl Into<Call<'a>>, counts: &'a Counts) -> Sleeper<'a> {
        Sleeper { call: call.into(), news: self.news(), counts, eager_after: None, slice: self.slice() }
    }

    /// How long a sleep lasts at most, because nobody would tell of a death.
    #[inline]
    pub(crate) fn slice(&self) -> Option<Duration> {
        (self.alarm.is_none() && self.scope == Scope::Shared).then_some(Bed::BLIND)
    }

    /// The process that holds this place and is dead, by proof.
    pub(crate) fn died_in(&self, claim: &AtomicU64) -> Option<Owner> {
        if self.peer.is_some() {
            return self.dead_peer();
        }
        match claim::read(claim) {
            Claim::Attached(owner) if self.is_dead(owner) => Some(owner),
            _ => None,
        }
    }

    /// Whether the process is dead, by proof. Where nobody tells, the kernel is asked now and then.
    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        let ask = || self.peer.as_ref().map_or_else(|| attach::is_dead(owner), |peer| peer.process.is_dead());
        match self.alarm {
            Some(_) => self.deaths.knows(owner),
            None => self.asked.is_dead(owner, ask),
        }
    }

    /// Whether somebody may have died of whom nothing was said yet.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.deaths.any() || self.slice().is_some()
    }

    /// The process at the other end of a link when it is dead, by proof: whatever it has claimed.
    pub(crate) fn dead_peer(&self) -> Option<Owner> {
        self.peer.as_ref().map(|peer| peer.owner).filter(|&owner| self.is_dead(owner))
    }

    /// Forgets the dead whose places others have taken.
    pub(crate) fn bury<'m>(&self, places: impl Iterator<Item = &'m AtomicU64> + Clone) {
        // Nobody takes the place of a link's dead.
        if self.peer.is_some() || !self.deaths.any() {
            return;
        }
        let mut proven = self.deaths.lock();
        // Nothing is allocated: who receives without waiting comes here each time, as long as a dead one has a place.
        proven.retain(|&owner| places.clone().any(|place| claim::read(place) == Claim::Attached(owner)));
        // ORDERING: Relaxed; under the lock, and only a hint to take it.
        self.deaths.any.store(!proven.is_empty(), Relaxed);
    }
}

fn alarms_of_receiver(memory: &Memory) -> impl Iterator<Item = &AlarmWord> {
    memory.receiver().alarms[..memory.slots().into()].iter()
}

/// What the watching thread has of the other end of a link.
struct Link {
    peer: Arc<Peer>,
    /// `None` where the kernel refuses a thread: then this one looks from time to time.
    struck: Option<Arc<AtomicU32>>,
}

impl Link {
    /// Whether it has ended, or nobody would tell: its alarm says nothing, since it could have been set so that it never rings.
    fn may_be_over(&self) -> bool {
        // ORDERING: Acquire, of one process; pairs with the Release in `sys/pidfd.rs`.
        self.struck.as_ref().is_none_or(|word| word.load(Acquire) != 0)
    }
}

/// What the watching thread remembers from round to round.
#[derive(Default)]
struct Rounds {
    /// Who had died after closing, perhaps before waking anybody, when the last round was made.
    ended: Vec<Owner>,
    /// How often a hint was looked into in vain: of a process that has called exec, it never comes true while that lives.
    hinted: u32,
}

/// Hints that are looked into every millisecond; later ones every tenth of a second.
const IMPATIENT: u32 = 200;

/// One round of the watching thread: looks at everybody at the other end, and sleeps until something changes.
fn keep(
    memory: &Memory,
    place: Place,
    deaths: &Deaths,
    link: Option<&Link>,
    rounds: &mut Rounds,
    bed: &Bed<'_>,
) {
    let attachments = match place {
        Place::Receiver | Place::Seat(_) => &memory.senders().attachments,
        Place::Slot(_) => &memory.receiver().attachments,
    };
    // ORDERING: Acquire; pairs with the AcqRel in `tell`: whoever has come by then has armed its words.
    let arrivals = attachments.load(Acquire);
    let mut words = vec![(attachments, arrivals)];
    let mut slice: Option<Duration> = None;
    let mut ended = Vec::new();
    for (other, AlarmWord(word)) in others(memory, place) {
        let claimed = match link {
            // It is who the kernel says, whatever it claims; and when it dies on its way it strikes the knell.
            Some(link) => Claim::Attached(link.peer.owner),
            None => {
                // Before the claim: if it is dead by now, it takes none any more.
                if is_on_its_way(other, memory) {
                    slice = Some(slice.map_or(Bed::BLIND, |slice| slice.min(Bed::BLIND)));
                }
                other.claim(memory).map_or(Claim::Never, claim::read)
            }
        };
        let owner = match claimed {
            Claim::Attached(owner) if !deaths.knows(owner) => owner,
            Claim::Closed(owner) => {
                // It may have died before it rang.
                // ORDERING: Acquire; as below.
                let value = word.load(Acquire);
                if watch::hint(value) == Hint::Armed && words.len() < Bed::MOST {
                    // It may die yet.
                    words.push((word, value));
                }
                if watch::hint(value) == Hint::Died {
                    ended.push(owner);
                    if !rounds.ended.contains(&owner) {
                        deaths.news.tell();
                        wake_other_watchers(place, word);
                    }
                }
                continue;
            }
            Claim::Attached(_) | Claim::Never => continue,
        };
        // ORDERING: Acquire; the claim that came before the word was armed is visible.
        let value = word.load(Acquire);
        let hint = watch::hint(value);
        // A word that names another thread is not the owner's: the kernel would not change it. (That of a link may be of
        // another namespace.)
        let is_its_own = link.is_some() || peer::has_thread(owner.pid(), watch::thread(value));
        let armed = hint == Hint::Armed && is_its_own && words.len() < Bed::MOST;
        if armed {
            words.push((word, value));
        }
        let is_dead = || link.map_or_else(|| attach::is_dead(owner), |link| link.peer.process.is_dead());
        if (!armed || link.is_some_and(Link::may_be_over)) && is_dead() {
            deaths.report(owner, others(memory, place).filter_map(|(other, _)| other.claim(memory)));
            rounds.hinted = 0;
            wake_other_watchers(place, word);
        } else if !armed {
            rounds.hinted = rounds.hinted.saturating_add(u32::from(hint == Hint::Died));
            let soon = hint == Hint::Died && rounds.hinted <= IMPATIENT;
            let next = if soon { HINTED } else { Bed::BLIND };
            if soon || link.is_none() {
                slice = Some(slice.map_or(next, |other| other.min(next)));
            }
        }
    }
    if let Some(link) = link.filter(|link| !deaths.knows(link.peer.owner)) {
        match &link.struck {
            Some(struck) => words.push((struck, 0)),
            None => slice = slice.or(Some(Bed::BLIND)),
        }
    }
    rounds.ended = ended;
    if deaths.news.unheard() {
        // It looked just before the news came. Once more if it was not asleep yet.
        if let Some(granted) = granted_to(memory, place) {
            futex::wake_all(granted, Scope::Shared);
        }
        slice = Some(HINTED);
    }
    bed.sleep(&words, slice);
}

/// Of those who watch a seat the kernel has woken one, which is due to wake the others.
fn wake_other_watchers(place: Place, word: &AtomicU32) {
    if let Place::Seat(_) = place {
        futex::wake_all(word, Scope::Shared);
    }
}

/// The futex word on which the one at `place` sleeps.
fn granted_to(memory: &Memory, place: Place) -> Option<&ProtocolWord> {
    match place {
        Place::Receiver => Some(&memory.senders().granted),
        Place::Slot(_) => Some(&memory.receiver().granted),
        Place::Seat(number) => memory.slot(number).map(|slot| &slot.bed),
    }
}

/// The places at the other end, with the words by which `place` watches them. At a mailbox that are all the other seats, and
/// all watch each other by the same words.
fn others(memory: &Memory, place: Place) -> impl Iterator<Item = (Place, &AlarmWord)> {
    let (slots, receiver) = match place {
        Place::Receiver | Place::Seat(_) => (memory.slots(), None),
        Place::Slot(number) => (0, Some(&memory.receiver().alarms[usize::from(number) - 1])),
    };
    let of_slot = move |number| match place {
        Place::Seat(_) => Place::Seat(number),
        Place::Receiver | Place::Slot(_) => Place::Slot(number),
    };
    let slots =
        memory.all_slots().take(slots.into()).map(move |(number, slot)| (of_slot(number), &slot.alarm));
    slots.filter(move |&(other, _)| other != place).chain(receiver.map(|alarm| (Place::Receiver, alarm)))
}

/// Whether a living process is about to take the place. Nobody was told yet how to watch it.
fn is_on_its_way(place: Place, memory: &Memory) -> bool {
    match place.coming(memory).map(claim::read) {
        Some(Claim::Attached(owner)) => !attach::is_dead(owner),
        _ => false,
    }
}

/// From before a place is taken until its alarms are armed: those at the other end look again and again meanwhile, so that
/// whoever is killed in between is found; and no longer than it lives. Dropping it tells them that they can watch.
pub(super) struct Arrival {
    memory: Arc<Memory>,
    place: Place,
}

impl Arrival {
    /// Says that `owner` is about to take `place`. The error names the living process that is about to do so.
    pub(super) fn begin(memory: &Arc<Memory>, place: Place, owner: Owner) -> Result<Self, Option<Owner>> {
        attach::take(place.coming(memory).ok_or(None)?, owner, || true)?;
        let arrival = Self { memory: Arc::clone(memory), place };
        arrival.tell();
        Ok(arrival)
    }

    fn tell(&self) {
        let (receiver, senders) = (self.memory.receiver(), self.memory.senders());
        let attachments = match self.place {
            Place::Receiver => &receiver.attachments,
            Place::Slot(_) | Place::Seat(_) => &senders.attachments,
        };
        // ORDERING: AcqRel; pairs with the Acquire in `keep`, and in `Before::now`: who sees that somebody has come sees the claim and the alarms.
        // The claim is taken after the system call below, which orders both.
        attachments.fetch_add(1, AcqRel);
        futex::wake_all(attachments, Scope::Shared);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(coming) = self.place.coming(&self.memory) {
            claim::close(coming);
        }
        self.tell();
        // A predecessor may have died between its grant and its wake.
        let own = match self.place {
            Place::Receiver => Some(&self.memory.receiver().granted),
            Place::Slot(_) => Some(&self.memory.senders().granted),
            Place::Seat(number) => self.memory.slot(number).map(|slot| &slot.bed),
        };
        if let Some(own) = own {
            futex::wake_all(own, Scope::Shared);
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_now_and_then_and_not_again_of_the_dead() {
        let asks = |asked: &Asked, owner, dead| {
            let mut asks = 0;
            for _ in 0..3 {
                let found = asked.is_dead(owner, || {
                    asks += 1;
                    dead
                });
                assert_eq!(found, dead);
            }
            asks
        };
        let (lives, dead) = (Owner::new(1, 1), Owner::new(2, 1));
        let (seldom, always) = (Asked::every(Duration::from_secs(3600)), Asked::every(Duration::ZERO));
        assert_eq!((asks(&seldom, lives, false), asks(&seldom, dead, true)), (1, 1));
        assert_eq!((asks(&always, lives, false), asks(&always, dead, true)), (3, 1));
        assert!((10..1000).all(|number| !seldom.is_dead(Owner::new(number, 1), || false)));
        assert!(seldom.answers.lock().unwrap().dead.len() <= Asked::MOST);
    }

    #[test]
    fn of_any_number_of_dead_only_those_who_still_hold_a_place_are_remembered() {
        let (first, second) = (AtomicU64::new(0), AtomicU64::new(0));
        let stays = Owner::new(1, 1);
        assert!(claim::take(&first, claim::seen(&first), stays));
        let deaths = Deaths::default();
        deaths.report(stays, [&first, &second].into_iter());
        for number in 2..1000 {
            deaths.report(Owner::new(number, 1), [&first, &second].into_iter());
        }
        assert!(deaths.knows(stays) && deaths.knows(Owner::new(999, 1)));
        assert_eq!(deaths.lock().len(), 2);
    }
}
