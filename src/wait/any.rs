//! Sleeping on several bells at once.
//!
//! The handshake is that of one bell, once for each: the announcements come first, then one fence F1 for all of them, then
//! a look at everything that the bells tell of, then one sleep on all their words. Whoever rings any of the bells either
//! sees its announcement, and changes the word, or was seen by the look.
//!
//! The sleep itself may be another's: [`until_any`] is told how to sleep on the words, and [`arm`] leaves it to a thread
//! that sleeps for many.

use super::{Look, Sleeper, Spin};
use crate::{
    sync::{AtomicU32, Ordering::*, fence},
    sys::{
        barrier,
        clock::Deadline,
        futex::{self, Scope},
    },
};
use std::time::Duration;

/// How long a sleep lasts at most where the kernel can't wait for several words (before 5.16).
pub(crate) const BLIND: Duration = Duration::from_millis(1);

/// A word, and the value with which it is slept on.
pub(crate) type Word<'a> = (&'a AtomicU32, u32, Scope);

/// As [`Sleeper::until`], on all bells of `sleepers`, of which there are at most [`MOST_BELLS`](super::MOST_BELLS).
/// `eager_after` plays no part. `sleep` sleeps while the words have the values beside them, or not even that long:
/// [`sleep_on`], for one.
pub(crate) fn until_any<T>(
    sleepers: &[Sleeper<'_>],
    spin: &mut Spin,
    deadline: Option<Deadline>,
    mut look: impl FnMut(Look) -> Option<T>,
    sleep: impl FnMut(&[Word<'_>], Option<Deadline>),
) -> Option<T> {
    sleepers.iter().for_each(|sleeper| sleeper.counts.blocked.add(1));
    if let Some(found) = spin.until(deadline, &mut look) {
        return Some(found);
    }
    let found = sleep_until(sleepers, deadline, look, sleep);
    sleepers.iter().for_each(|sleeper| sleeper.call.awake());
    found
}

fn sleep_until<T>(
    sleepers: &[Sleeper<'_>],
    deadline: Option<Deadline>,
    mut look: impl FnMut(Look) -> Option<T>,
    mut sleep: impl FnMut(&[Word<'_>], Option<Deadline>),
) -> Option<T> {
    // When somebody has to look at what nobody tells.
    let slice = sleepers.iter().filter_map(|sleeper| sleeper.slice).min();
    let mut due = slice.map(Deadline::after);
    loop {
        sleepers.iter().for_each(|sleeper| sleeper.news.hear());
        let tickets = announce(sleepers);
        let idle = due.is_some_and(Deadline::passed);
        if idle {
            due = slice.map(Deadline::after);
        }
        if let Some(found) = look(if idle { Look::Idle } else { Look::BeforeSleep }) {
            return Some(found);
        }
        if deadline.is_some_and(Deadline::passed) {
            return None;
        }
        let Some(tickets) = tickets else { continue };
        let end = match (due, deadline) {
            (Some(due), Some(deadline)) => Some(due.min(deadline)),
            (one, other) => one.or(other),
        };
        lie_down(sleepers, &tickets, |words| sleep(words, end));
        if let Some(found) = look(Look::Spinning) {
            return Some(found);
        }
    }
}

/// Announces the sleep on every bell, and gives the numbers to sleep on; `None` when one of the words moved meanwhile.
fn announce(sleepers: &[Sleeper<'_>]) -> Option<Vec<u32>> {
    // All of them, so that no bell is left out when another has moved.
    let raised: Vec<_> = sleepers.iter().map(|sleeper| sleeper.call.raise(false)).collect();
    // ORDERING: F1, SeqCst fence, one for all announcements; pairs with F2 in `Bell::ring` and F3 in `Bell::stay_calm`; and G1
    // for beds, which pairs with G2 in `Dormitory::wake_one`.
    fence(SeqCst);
    if sleepers.iter().any(|sleeper| sleeper.call.has_bare_wakers()) {
        barrier::heavy();
    }
    raised.into_iter().collect()
}

/// Sleeps on all words, unless there is news for one of the sleepers.
fn lie_down(sleepers: &[Sleeper<'_>], tickets: &[u32], sleep: impl FnOnce(&[Word<'_>])) {
    let words: Vec<_> = sleepers.iter().zip(tickets).map(|(sleeper, &ticket)| sleeper.word(ticket)).collect();
    // All of them, so that each one's watching thread knows that it must wake.
    let quiet = sleepers.iter().filter(|sleeper| sleeper.news.lie_down()).count() == sleepers.len();
    if quiet {
        sleepers.iter().for_each(|sleeper| sleeper.counts.sleeps.add(1));
        sleep(&words);
    }
    sleepers.iter().for_each(|sleeper| sleeper.news.rise());
}

/// Sleeps on the words, of which there is at least one.
pub(crate) fn sleep_on(words: &[Word<'_>], end: Option<Deadline>) {
    if let (false, &[(word, ticket, scope), ..]) = (futex::wait_for_any(words, end), words) {
        let soon = Deadline::after(BLIND);
        futex::wait(word, ticket, Some(end.map_or(soon, |end| end.min(soon))), scope);
    }
}

/// Announces a sleep that another thread sleeps for this handle, on [`Sleeper::word`] with the number that this gives; it
/// must also look at [`Sleeper::is_called`]. The announcement stands until [`Sleeper::is_back`]. It asks to be woken as soon as
/// anything changes when `eager_after` is zero.
///
/// `None` when `look` has found something.
pub(crate) fn arm(sleeper: &Sleeper<'_>, mut look: impl FnMut(Look) -> bool) -> Option<u32> {
    let why = if sleeper.slice.is_some() { Look::Idle } else { Look::BeforeSleep };
    let eager = sleeper.eager_after == Some(Duration::ZERO);
    loop {
        sleeper.news.hear();
        let ticket = sleeper.call.announce(eager);
        if look(why) {
            sleeper.is_back();
            return None;
        }
        if let Some(ticket) = ticket.filter(|_| sleeper.news.lie_down()) {
            sleeper.counts.sleeps.add(1);
            return Some(ticket);
        }
    }
}

impl<'a> Sleeper<'a> {
    /// The word of its bell, to be slept on with the number of an announcement.
    pub(crate) fn word(&self, ticket: u32) -> Word<'a> {
        let (word, scope) = self.call.word();
        (word, ticket, scope)
    }

    /// Whether its bell was rung since the announcement of this number, or there is news.
    pub(crate) fn is_called(&self, ticket: u32) -> bool {
        // ORDERING: Relaxed; what the waker published is looked at for itself.
        self.call.word().0.load(Relaxed) != ticket || self.news.unheard()
    }

    /// It sleeps no more, nor does anybody for it.
    pub(crate) fn is_back(&self) {
        self.news.rise();
        self.call.awake();
    }
}
