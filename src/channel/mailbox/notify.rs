//! Telling somebody that a message has come to an empty mailbox, in the shape of `mq_notify`.

use super::{
    Mailbox,
    desk::{ANY_ROOM, IS_TOLD},
    pass_on,
};
use crate::{
    channel::{ring::Inner, trust::Trust},
    ring::mailbox::{self, Phase, Pick, State},
    sync::{AtomicU32, Ordering::*},
    sys::process,
    wait::{Dormitory, WaitStrategy},
};
use std::{io, sync::Arc, thread};

const WAITS: u32 = 0;
const FIRED: u32 = 1;
const GIVEN_UP: u32 = 2;

/// A registration: what it is about happens once at most. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Notification(Arc<AtomicU32>);

impl Notification {
    /// Calls `tell`, from a thread of its own, when a message comes to the mailbox while it is empty and nobody receives.
    pub(super) fn begin<P: Trust>(
        mut mailbox: Mailbox<P>,
        tell: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        // As of now: a message may come before the thread does.
        let there = mailbox.clerk.all(&mailbox.desk.area, Pick::Any);
        let registered = Self(Arc::new(AtomicU32::new(WAITS)));
        let state = Arc::clone(&registered.0);
        thread::Builder::new().name("ringpost-notify".into()).spawn(move || {
            process::block_signals();
            // ORDERING: Relaxed, of one process; ordered after the announcement of the sleep by G1.
            let has_come = mailbox.wait_for_arrival(there, || state.load(Relaxed) != WAITS);
            // Its seat is free for the next registration.
            drop(mailbox);
            // ORDERING: Relaxed, of one process; nothing is read through it. One of the two wins.
            if has_come && state.compare_exchange(WAITS, FIRED, Relaxed, Relaxed).is_ok() {
                tell();
            }
        })?;
        Ok(registered)
    }

    /// Whether it has not happened yet.
    pub(super) fn waits(&self) -> bool {
        // ORDERING: Relaxed, of one process; nothing is read through it.
        self.0.load(Relaxed) == WAITS
    }

    /// From now on it does not happen any more. Its thread ends by a wake of all who sleep at the mailbox.
    pub(super) fn give_up<P: Trust>(self, mailbox: &Mailbox<P>) {
        // ORDERING: Relaxed, of one process; ordered before the looks of those who are woken by G2.
        if self.0.compare_exchange(WAITS, GIVEN_UP, Relaxed, Relaxed).is_ok() && mailbox.desk.is_ours() {
            mailbox.desk.receivers().wake_all();
            mailbox.desk.senders().wake_all();
        }
    }
}

impl<P: Trust> Mailbox<P> {
    /// Waits until those that are `there` are gone, with those that come meanwhile; and then until a message is there while nobody
    /// receives. False when it was given up, or the mailbox was closed.
    ///
    /// It sleeps where receivers sleep, and takes nothing: what it is called for it leaves to those who receive. One of them who
    /// goes without it calls this one again.
    fn wait_for_arrival(&mut self, mut there: Vec<(u16, State)>, given_up: impl Fn() -> bool) -> bool {
        let Self { desk, clerk, .. } = self;
        let Some(slot) = desk.slot() else { return false };
        let (area, bit) = (&desk.area, desk.seat.bit());
        let mut spin = Inner::spin_as(WaitStrategy::Sleep);
        let mut sleep = |dormitory: Dormitory<'_>, wanted, look: &mut dyn FnMut() -> bool| {
            let sleeper = desk.sleeper(dormitory, slot, &slot.received, (wanted | IS_TOLD, wanted | IS_TOLD));
            let found = sleeper.until(&mut spin, None, |_| {
                desk.hear();
                let over = given_up() || mailbox::is_closed(area);
                if over { Some(false) } else { look().then_some(true) }
            });
            found == Some(true)
        };
        // Who frees a cell calls one of those who wait for room: the others are called by this one.
        let has_room = || area.cells().any(|cell| area.state(cell).phase() == Phase::Free);
        let emptied = there.is_empty()
            || sleep(desk.senders(), ANY_ROOM, &mut || {
                desk.senders().wake_others(bit, |pick| pick & IS_TOLD == 0 && has_room());
                let stays = |&(cell, state): &(u16, State)| {
                    let now = area.state(cell);
                    now.phase() == Phase::Ready && now.is_of_same(state)
                };
                let was_empty = !there.iter().any(stays);
                there = clerk.all(area, Pick::Any);
                was_empty
            });
        desk.pass_room_on();
        let has_come = emptied
            && sleep(desk.receivers(), Pick::Any.encode(), &mut || {
                let there = clerk.find(area, Pick::Any).is_some();
                let wanted = |pick| pick & IS_TOLD == 0 && clerk.find(area, Pick::decode(pick)).is_some();
                there && !desk.receivers().wake_others(bit, wanted)
            });
        pass_on(desk, clerk);
        has_come
    }
}
