//! Telling somebody that a message has come to an empty mailbox, in the shape of `mq_notify`.

use super::{
    Mailbox,
    desk::{Desk, IS_TOLD},
};
use crate::{
    channel::{ring::Inner, trust::Trust},
    ring::mailbox::{self, notice},
    sync::{AtomicU32, Ordering::*},
    sys::process,
    wait::WaitStrategy,
};
use std::{
    fmt, io,
    sync::{Arc, Weak},
    thread,
};

const WAITS: u32 = 0;
const FIRED: u32 = 1;
const GIVEN_UP: u32 = 2;

/// A registration: what it is about happens once at most.
pub(super) struct Notification {
    state: Arc<AtomicU32>,
    /// That of the thread, until it is done.
    desk: Weak<Desk>,
}

impl Notification {
    /// Calls `tell`, from a thread of its own, when a message comes to the mailbox while it is empty and nobody receives.
    pub(super) fn begin<P: Trust>(
        mut mailbox: Mailbox<P>,
        tell: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let desk = Arc::clone(&mailbox.desk);
        // As of now: a message may come before the thread does.
        notice::register(&desk.area, desk.seat);
        desk.look_whether_empty();
        let state = Arc::new(AtomicU32::new(WAITS));
        let registered = Self { state: Arc::clone(&state), desk: Arc::downgrade(&desk) };
        let thread = thread::Builder::new().name("ringpost-notify".into());
        let begun = thread.spawn(move || {
            process::block_signals();
            // ORDERING: Relaxed, of one process; ordered after the announcement of the sleep by G1.
            let has_come = mailbox.wait_to_be_told(|| state.load(Relaxed) != WAITS);
            // Its seat is free for the next registration.
            drop(mailbox);
            // ORDERING: Relaxed, of one process; nothing is read through it. One of the two wins.
            if has_come && state.compare_exchange(WAITS, FIRED, Relaxed, Relaxed).is_ok() {
                tell();
            }
        });
        if begun.is_err() {
            notice::end(&desk.area, desk.seat);
        }
        begun.map(|_| registered)
    }

    /// Whether it has not happened yet; also when its thread has still to say that it has.
    pub(super) fn waits(&self) -> bool {
        // ORDERING: Relaxed, of one process; nothing is read through it.
        let waits = self.state.load(Relaxed) == WAITS;
        waits && self.desk.upgrade().is_some_and(|desk| !notice::is_over(&desk.area, desk.seat))
    }

    /// From now on it does not happen any more. Its thread ends by a wake of all who sleep to be told.
    pub(super) fn give_up<P: Trust>(self, mailbox: &Mailbox<P>) {
        // ORDERING: Relaxed, of one process; ordered before the looks of those who are woken by G2.
        if self.state.compare_exchange(WAITS, GIVEN_UP, Relaxed, Relaxed).is_ok() && mailbox.desk.is_ours() {
            mailbox.desk.receivers().wake_each(|pick| pick & IS_TOLD != 0);
        }
    }
}

impl<P: Trust> Mailbox<P> {
    /// Waits until a message has come to the mailbox while it was empty and nobody received, since this seat was registered. False
    /// when it was given up, or the mailbox was closed.
    ///
    /// It sleeps where receivers sleep, and takes nothing: those who send pass it by when they call a receiver.
    fn wait_to_be_told(&mut self, given_up: impl Fn() -> bool) -> bool {
        let Self { desk, .. } = self;
        let Some(slot) = desk.slot() else { return false };
        let sleeper = desk.sleeper(desk.receivers(), slot, &slot.received, (IS_TOLD, IS_TOLD));
        let told = sleeper.until(&mut Inner::spin_as(WaitStrategy::Sleep), None, |_| {
            desk.hear();
            let told = notice::is_over(&desk.area, desk.seat);
            (told || given_up() || mailbox::is_closed(&desk.area)).then_some(told)
        });
        notice::end(&desk.area, desk.seat);
        told == Some(true)
    }
}

impl fmt::Debug for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification").field("waits", &self.waits()).finish()
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::{
        channel::{
            builder,
            mailbox::{leave_in_vain, pass_on},
        },
        ring::mailbox::{Label, Pick, notice::There},
        wait,
    };

    /// The sender is held up between its look at who sleeps and its call; that one's time runs out meanwhile.
    #[test]
    fn a_message_is_told_of_although_one_is_called_for_it_late_who_has_left() {
        let ring = builder::unnamed().mailbox(4).memfd().unwrap();
        let [mut sender, mut receiver, told] = [(); 3].map(|()| ring.mailbox().unwrap());
        notice::register(&told.desk.area, told.desk.seat);
        told.desk.look_whether_empty();
        let desk = Arc::clone(&receiver.desk);
        let slot = desk.slot().unwrap();
        let sleeper = desk.sleeper(desk.receivers(), slot, &slot.received, (0, 0));
        assert!(wait::arm(&sleeper, |_| false).is_some());
        let area = &sender.desk.area;
        let held = sender.clerk.fill(area).unwrap();
        let state = sender.clerk.send(area, held, Label { length: 0, kind: 0, level: 0 }).unwrap();

        sleeper.is_back();
        pass_on(&desk, &mut receiver.clerk);
        leave_in_vain(&desk, &mut receiver.clerk, Pick::Any);

        sender.desk.tell_of(There { cell: held.cell, state }, true);
        assert!(notice::is_over(&told.desk.area, told.desk.seat));
    }
}
