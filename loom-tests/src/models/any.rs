//! Goal: who sleeps on several bells is woken by any of them, and who sleeps for another's handle by what would wake the
//! handle. A wake that is lost is a deadlock, which loom reports.
//!
//! Legal outcomes: every wait returns with what was raised before one of the bells was rung, or before the wait.

use crate::{
    explore::explore,
    harness::*,
    layout::Counts,
    mortal::{AtomicU64, Ordering::*},
    sys::futex,
    wait::{Due, News, Sleeper, Waker, arm, sleep_on, until_any},
};
use loom::thread;
use std::sync::Arc;

/// Sleeps on the bells of both rings until `look` gives something.
fn sleep_on_both<T>(rings: &[Ring; 2], mut look: impl FnMut() -> Option<T>) -> T {
    let (news, counts) = ([(); 2].map(|()| News::default()), [(); 2].map(|()| Counts::default()));
    let sleepers = [0, 1].map(|n| sleeper(&rings[n], &news[n], &counts[n]));
    until_any(&sleepers, &mut at_once(), None, |_| look(), sleep_on).unwrap()
}

fn sleeper<'a>(ring: &'a Ring, news: &'a News, counts: &'a Counts) -> Sleeper<'a> {
    Sleeper { call: ring.bell_of_receiver().into(), news, counts, eager_after: None, slice: None }
}

/// Arms the handle, and sleeps on what that gives as another thread does, until `look` gives true.
fn let_sleep(ring: &Ring, news: &News, look: impl Fn() -> bool) {
    let counts = &Counts::default();
    let sleeper = sleeper(ring, news, counts);
    while let Some(ticket) = arm(&sleeper, |_| look()) {
        while !sleeper.is_called(ticket) {
            sleep_on(&[sleeper.word(ticket)], None);
        }
        sleeper.is_back();
    }
}

/// A waker that has been left in peace: bare, where it may.
fn calm(ring: &Ring) -> Waker {
    let mut waker = ring.waker();
    for _ in 0..2 {
        ring.bell_of_receiver().ring(&mut waker, |_| Due::All);
    }
    waker
}

/// Raises a flag and rings the bell of its ring.
fn raise(ring: &Ring, flag: &Arc<AtomicU64>, mut waker: Waker) -> thread::JoinHandle<()> {
    let (ring, flag) = (ring.clone(), Arc::clone(flag));
    thread::spawn(move || {
        flag.store(1, Relaxed);
        ring.bell_of_receiver().ring(&mut waker, |_| Due::All);
    })
}

fn flags() -> [Arc<AtomicU64>; 2] {
    [(); 2].map(|()| Arc::new(AtomicU64::new(0)))
}

fn is_up(flag: &AtomicU64) -> Option<()> {
    (flag.load(Relaxed) == 1).then_some(())
}

#[test]
fn each_of_two_bells_wakes_who_sleeps_on_both() {
    for rung in [0, 1] {
        explore(move || {
            let (rings, flags) = ([Ring::many(1), Ring::many(1)], flags());
            let waking = raise(&rings[rung], &flags[rung], rings[rung].waker());
            sleep_on_both(&rings, || is_up(&flags[rung]));
            waking.join().unwrap();
        });
    }
}

#[test]
fn two_that_ring_at_once_are_both_heard() {
    explore(|| {
        let (rings, flags) = ([Ring::many(1), Ring::many(1)], flags());
        let waking = [0, 1].map(|n| raise(&rings[n], &flags[n], rings[n].waker()));
        let first = sleep_on_both(&rings, || (0..2).find(|&n| is_up(&flags[n]).is_some()));
        sleep_on_both(&rings, || is_up(&flags[1 - first]));
        for thread in waking {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_bare_waker_of_either_is_made_up_for() {
    for rung in [0, 1] {
        explore(move || {
            let rings = [Ring::many(1).asymmetric(), Ring::many(1).asymmetric()];
            let flags = flags();
            let waking = raise(&rings[rung], &flags[rung], calm(&rings[rung]));
            sleep_on_both(&rings, || is_up(&flags[rung]));
            waking.join().unwrap();
        });
    }
}

#[test]
fn a_bell_that_was_slept_on_in_vain_still_wakes_the_next_sleeper_on_it_alone() {
    explore(|| {
        let (rings, flags) = ([Ring::many(1), Ring::many(1)], flags());
        let waking = raise(&rings[0], &flags[0], rings[0].waker());
        sleep_on_both(&rings, || is_up(&flags[0]));
        waking.join().unwrap();
        let waking = raise(&rings[1], &flags[1], rings[1].waker());
        sleep_on_both(&rings, || is_up(&flags[1]));
        waking.join().unwrap();
    });
}

#[test]
fn who_sleeps_for_a_handle_is_called_by_its_bell() {
    explore(|| {
        let (ring, [flag, _]) = (Ring::many(1), flags());
        let waking = raise(&ring, &flag, ring.waker());
        let_sleep(&ring, &News::default(), || is_up(&flag).is_some());
        waking.join().unwrap();
    });
}

#[test]
fn a_bare_waker_calls_who_sleeps_for_a_handle() {
    explore(|| {
        let (ring, [flag, _]) = (Ring::many(1).asymmetric(), flags());
        let waking = raise(&ring, &flag, calm(&ring));
        let_sleep(&ring, &News::default(), || is_up(&flag).is_some());
        waking.join().unwrap();
    });
}

#[test]
fn who_sleeps_for_a_handle_is_called_by_its_news() {
    explore(|| {
        let (ring, [flag, _]) = (Ring::many(1), flags());
        let news = Arc::new(News::default());
        let telling = {
            let (ring, flag, news) = (ring.clone(), Arc::clone(&flag), Arc::clone(&news));
            thread::spawn(move || {
                flag.fetch_or(1, Release);
                news.tell();
                let (counts, nag) = (Counts::default(), Arc::clone(&news));
                let (word, ..) = sleeper(&ring, &news, &counts).word(0);
                futex::wake_while(word, move || nag.unheard());
            })
        };
        // A change that changes nothing sees the latest, as a question to the kernel does.
        let_sleep(&ring, &news, || flag.fetch_or(0, Acquire) == 1);
        telling.join().unwrap();
    });
}
