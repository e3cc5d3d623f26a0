//! Sleeping on several bells at once.
//!
//! The handshake is that of one bell, once for each: the announcements come first, then one fence F1 for all of them, then
//! a look at everything that the bells tell of, then one sleep on all their words. Whoever rings any of the bells either
//! sees its announcement, and changes the word, or was seen by the look.

use super::{Look, Sleeper, Spin};
use crate::{
    sync::{Ordering::*, fence},
    sys::{barrier, clock::Deadline, futex},
};
use std::time::Duration;

/// How long a sleep lasts at most where the kernel can't wait for several words (before 5.16).
const BLIND: Duration = Duration::from_millis(1);

/// As [`Sleeper::until`], on all bells of `sleepers`, of which there are at least one and at most [`MOST_BELLS`](super::MOST_BELLS).
/// `eager_after` plays no part.
pub(crate) fn until_any<T>(
    sleepers: &[Sleeper<'_>],
    spin: &mut Spin,
    deadline: Option<Deadline>,
    mut look: impl FnMut(Look) -> Option<T>,
) -> Option<T> {
    sleepers.iter().for_each(|sleeper| sleeper.counts.blocked.add(1));
    if let Some(found) = spin.until(deadline, &mut look) {
        return Some(found);
    }
    let found = sleep_until(sleepers, deadline, look);
    sleepers.iter().for_each(|sleeper| sleeper.bell.awake());
    found
}

fn sleep_until<T>(
    sleepers: &[Sleeper<'_>],
    deadline: Option<Deadline>,
    mut look: impl FnMut(Look) -> Option<T>,
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
        sleep(sleepers, &tickets, end);
        if let Some(found) = look(Look::Spinning) {
            return Some(found);
        }
    }
}

/// Announces the sleep on every bell, and gives the numbers to sleep on; `None` when one of the words moved meanwhile.
fn announce(sleepers: &[Sleeper<'_>]) -> Option<Vec<u32>> {
    // All of them, so that no bell is left out when another has moved.
    let raised: Vec<_> = sleepers.iter().map(|sleeper| sleeper.bell.raise(false)).collect();
    // ORDERING: F1, SeqCst fence, one for all announcements; pairs with F2 in `Bell::ring` and F3 in `Bell::stay_calm`.
    fence(SeqCst);
    if sleepers.iter().any(|sleeper| sleeper.bell.has_bare_wakers()) {
        barrier::heavy();
    }
    raised.into_iter().collect()
}

fn sleep(sleepers: &[Sleeper<'_>], tickets: &[u32], end: Option<Deadline>) {
    let words = sleepers.iter().zip(tickets);
    let words: Vec<_> =
        words.map(|(Sleeper { bell, .. }, &ticket)| (bell.granted, ticket, bell.scope)).collect();
    // All of them, so that each one's watching thread knows that it must wake.
    let quiet = sleepers.iter().filter(|sleeper| sleeper.news.lie_down()).count() == sleepers.len();
    if quiet {
        sleepers.iter().for_each(|sleeper| sleeper.counts.sleeps.add(1));
        if let (false, &[(word, ticket, scope), ..]) = (futex::wait_for_any(&words, end), &words[..]) {
            let soon = Deadline::after(BLIND);
            futex::wait(word, ticket, Some(end.map_or(soon, |end| end.min(soon))), scope);
        }
    }
    sleepers.iter().for_each(|sleeper| sleeper.news.rise());
}
