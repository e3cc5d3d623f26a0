//! Where a handle sleeps, apart from the handle.

use super::super::{attach::Attachment, vigil::Deaths};
use crate::{
    layout::Counts,
    ring::{
        mailbox::{Area, Pick, Seat, Shape},
        memory::Memory,
    },
    sync::{AtomicU32, AtomicU64, Ordering::*},
    sys::{fork::Generation, futex::Scope, porter::Watched},
    wait::{self, Bell, Call, Dormitory, Due, News, Sleeper, Waker},
};
use std::{sync::Arc, time::Duration};

/// What somebody who sleeps for a handle needs of it. It keeps the memory, and not the place in the ring.
pub struct Berth {
    bed: Bed,
    generation: Generation,
    slice: Option<Duration>,
    /// The number of the sleep, where a future may be leaked in it.
    lent: Option<u64>,
}

enum Bed {
    /// Slot 0 is the receiver's.
    Ring {
        memory: Arc<Memory>,
        deaths: Arc<Deaths>,
        scope: Scope,
        slot: u8,
    },
    Mailbox {
        area: Area,
        deaths: Arc<Deaths>,
        scope: Scope,
        seat: Seat,
        pick: Pick,
    },
    Flag(Arc<Flag>),
    /// For what the receiver releases, beside the sender's own.
    Release {
        memory: Arc<Memory>,
        scope: Scope,
        news: News,
        counts: Counts,
    },
}

impl Berth {
    /// Of a receiver, or of a reader of a broadcast.
    pub(crate) fn of(attachment: &Attachment, generation: Generation) -> Self {
        let Attachment { inner, vigil, .. } = attachment;
        let (memory, deaths) = (Arc::clone(&inner.memory), Arc::clone(&vigil.deaths));
        let bed = Bed::Ring { memory, deaths, scope: inner.scope, slot: attachment.slot() };
        Self { bed, generation, slice: vigil.slice(), lent: None }
    }

    /// Of a seat at a mailbox, for what `pick` says.
    pub(crate) fn at_mailbox(
        attachment: &Attachment,
        generation: Generation,
        (shape, seat): (Shape, Seat),
        pick: Pick,
    ) -> Self {
        let Attachment { inner, vigil, .. } = attachment;
        let area = Area::new(Arc::clone(&inner.memory), shape);
        let bed = Bed::Mailbox { area, deaths: Arc::clone(&vigil.deaths), scope: inner.scope, seat, pick };
        Self { bed, generation, slice: vigil.slice(), lent: None }
    }

    pub(crate) fn of_flag(flag: &Arc<Flag>) -> Self {
        Self { bed: Bed::Flag(Arc::clone(flag)), generation: Generation::current(), slice: None, lent: None }
    }

    /// Of who waits for the receiver to release something, and looks for its death himself, as often as that.
    pub(crate) fn of_release(memory: &Arc<Memory>, scope: Scope, slice: Option<Duration>) -> Self {
        let (memory, news, counts) = (Arc::clone(memory), News::default(), Counts::default());
        let bed = Bed::Release { memory, scope, news, counts };
        Self { bed, generation: Generation::current(), slice, lent: None }
    }

    /// For a future, which may be leaked: its sleep then ends without a word to the handle, which goes on.
    pub(crate) fn lent(self) -> Self {
        let lent = self.deaths().map(|deaths| deaths.lend());
        Self { lent, ..self }
    }

    /// Nobody else's sleep counts from now on.
    pub(crate) fn take_back(&self) {
        if let Some(deaths) = self.deaths() {
            deaths.take_back();
        }
    }

    /// The sleep is over.
    fn is_back(&self) {
        match (self.deaths(), self.lent) {
            (Some(deaths), Some(number)) => deaths.end_sleep(number, || self.sleeper().is_back()),
            _ => self.sleeper().is_back(),
        }
    }

    fn deaths(&self) -> Option<&Deaths> {
        match &self.bed {
            Bed::Ring { deaths, .. } | Bed::Mailbox { deaths, .. } => Some(deaths),
            Bed::Flag(_) | Bed::Release { .. } => None,
        }
    }

    /// Whether the handle is this process's, and not that of the one from which it was forked.
    pub(crate) fn is_own(&self) -> bool {
        self.generation.lasts()
    }

    pub(crate) fn sleeper(&self) -> Sleeper<'_> {
        let (call, news, counts) = match &self.bed {
            Bed::Flag(flag) => (flag.bell().into(), &flag.news, &flag.counts),
            Bed::Release { memory, scope, news, counts } => {
                (Bell::of_senders(memory, *scope).into(), news, counts)
            }
            Bed::Ring { memory, deaths, scope, slot } => match memory.slot(*slot) {
                Some(slot) => (Bell::of_senders(memory, *scope).into(), &deaths.news, &slot.counts),
                None => (Bell::of_receiver(memory, *scope).into(), &deaths.news, &memory.receiver().counts),
            },
            Bed::Mailbox { area, deaths, scope, seat, pick } => {
                let (slot, pick) = (area.slot(*seat), pick.encode());
                let dormitory =
                    Dormitory { memory: area.memory(), mask: &area.common().receivers, scope: *scope };
                let bed = wait::Bed { dormitory, slot, bit: seat.bit(), pick, eager_pick: pick };
                (Call::Bed(bed), &deaths.news, &slot.received)
            }
        };
        Sleeper { call, news, counts, eager_after: None, slice: self.slice }
    }
}

/// A berth and the number of an announcement there: for a thread that sleeps for others.
pub(crate) struct Post {
    pub(crate) berth: Arc<Berth>,
    pub(crate) ticket: u32,
}

impl Watched for Post {
    fn word(&self) -> (&AtomicU32, u32, Scope) {
        self.berth.sleeper().word(self.ticket)
    }

    fn calls(&self) -> bool {
        self.berth.sleeper().is_called(self.ticket)
    }

    fn answered(&self) {
        self.berth.is_back();
    }
}

/// Something that any thread of this process can raise, and one waits for as for a ring.
#[derive(Default)]
pub(crate) struct Flag {
    raised: AtomicU32,
    attention: AtomicU64,
    granted: AtomicU32,
    bare: AtomicU32,
    counts: Counts,
    news: News,
}

impl Flag {
    fn bell(&self) -> Bell<'_> {
        Bell::over(&self.attention, &self.granted, &self.bare, Scope::Private)
    }

    /// Raises it, and wakes who waits for it. Never blocks.
    pub(super) fn raise(&self) {
        // ORDERING: Release, of one process; pairs with the Acquire in `is_raised` and `lower`. The bell's own fence comes
        // before the look at who sleeps.
        self.raised.store(1, Release);
        self.bell().ring(&mut Waker::new(false), |_| Due::All);
    }

    pub(super) fn is_raised(&self) -> bool {
        // ORDERING: Acquire, of one process; pairs with the Release in `raise`.
        self.raised.load(Acquire) != 0
    }

    pub(super) fn lower(&self) {
        // ORDERING: Acquire, of one process; pairs with the Release in `raise`.
        self.raised.swap(0, Acquire);
    }
}
