//! Goal: nobody sleeps while there is something for them. A wake that is lost is a deadlock, which loom reports.
//!
//! Legal outcomes: every call returns with what was there for it. Time stands still unless a model starts the clock, so
//! that no time-out hides a lost wake.

use crate::{
    explore::{explore, explore_every_kill, explore_large},
    harness::*,
    layout::Counts,
    mortal::{AtomicU64, Ordering::*, killed_at},
    sys::{
        clock::{self, Deadline},
        futex,
    },
    wait::{Bell, Due, Look, News, Sleeper, Waker},
};
use loom::thread;
use std::{sync::Arc, time::Duration};

mod one_of_several;

/// Sleeps on `bell` until `look` gives something.
fn sleep<T>(bell: Bell<'_>, mut look: impl FnMut() -> Option<T>) -> T {
    let (news, counts) = (&News::default(), &Counts::default());
    let sleeper = Sleeper { call: bell.into(), news, counts, eager_after: None, slice: None };
    sleeper.until(&mut at_once(), None, |_: Look| look()).unwrap()
}

/// A waker that has been left in peace: bare, where it may.
fn calm(bell: Bell<'_>, mut waker: Waker) -> Waker {
    for _ in 0..2 {
        bell.ring(&mut waker, |_| Due::All);
    }
    waker
}

/// One flag, one bell.
fn one_sleeper_one_waker(
    ring: impl Fn() -> Ring + Send + Sync + 'static,
    before: impl Fn(&mut Waker) + Send + Sync + 'static,
) {
    explore(move || {
        let ring = ring();
        let flag = Arc::new(AtomicU64::new(0));
        let (there, raised) = (ring.clone(), Arc::clone(&flag));
        let mut waker = calm(ring.bell_of_receiver(), ring.waker());
        before(&mut waker);
        let waking = thread::spawn(move || {
            raised.store(1, Relaxed);
            there.bell_of_receiver().ring(&mut waker, |_| Due::All);
        });
        sleep(ring.bell_of_receiver(), || (flag.load(Relaxed) == 1).then_some(()));
        waking.join().unwrap();
    });
}

#[test]
fn either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag() {
    one_sleeper_one_waker(|| Ring::many(1), |_| {});
}

#[test]
fn a_bare_waker_is_made_up_for_by_the_sleeper() {
    one_sleeper_one_waker(|| Ring::many(1).asymmetric(), |_| {});
}

#[test]
fn a_bare_waker_that_looks_once_is_made_up_for_too() {
    one_sleeper_one_waker(|| Ring::many(1).asymmetric(), Waker::look_once);
}

#[test]
fn a_waker_that_goes_bare_meanwhile_is_seen_or_sees() {
    explore(|| {
        let ring = Ring::many(1).asymmetric();
        let count = Arc::new(AtomicU64::new(0));
        let (there, raised) = (ring.clone(), Arc::clone(&count));
        let waking = thread::spawn(move || {
            let mut waker = there.waker();
            for value in 1..=3 {
                raised.store(value, Relaxed);
                there.bell_of_receiver().ring(&mut waker, |_| Due::All);
            }
        });
        sleep(ring.bell_of_receiver(), || (count.load(Relaxed) == 3).then_some(()));
        waking.join().unwrap();
    });
}

#[test]
fn what_a_bare_waker_published_before_it_left_is_seen() {
    explore(|| {
        let ring = Ring::many(1).asymmetric();
        let flag = Arc::new(AtomicU64::new(0));
        let (there, raised) = (ring.clone(), Arc::clone(&flag));
        let mut waker = calm(ring.bell_of_receiver(), ring.waker());
        let waking = thread::spawn(move || {
            raised.store(1, Relaxed);
            there.bell_of_receiver().ring(&mut waker, |_| Due::All);
            there.bell_of_receiver().cover(&mut waker);
        });
        sleep(ring.bell_of_receiver(), || (flag.load(Relaxed) == 1).then_some(()));
        waking.join().unwrap();
    });
}

#[test]
fn a_bare_waker_and_one_with_fences_wake_one_sleeper() {
    explore(|| {
        let ring = Ring::many(2).asymmetric();
        let flags = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let wakers = [calm(ring.bell_of_receiver(), ring.waker()), ring.waker()];
        let waking = [0, 1].map(|n| {
            let (there, raised, mut waker) = (ring.clone(), Arc::clone(&flags[n]), wakers[n]);
            thread::spawn(move || {
                raised.store(1, Relaxed);
                there.bell_of_receiver().ring(&mut waker, |_| Due::All);
            })
        });
        for flag in flags {
            sleep(ring.bell_of_receiver(), || (flag.load(Relaxed) == 1).then_some(()));
        }
        for thread in waking {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_sleeper_is_woken_again_and_again() {
    explore(|| {
        let ring = Ring::many(1);
        let count = Arc::new(AtomicU64::new(0));
        let (there, raised) = (ring.clone(), Arc::clone(&count));
        let waking = thread::spawn(move || {
            let mut waker = there.waker();
            for value in 1..=3 {
                raised.store(value, Relaxed);
                there.bell_of_receiver().ring(&mut waker, |_| Due::All);
            }
        });
        for value in 1..=3 {
            sleep(ring.bell_of_receiver(), || (count.load(Relaxed) >= value).then_some(()));
        }
        waking.join().unwrap();
    });
}

#[test]
fn two_wakers_wake_one_sleeper() {
    explore(|| {
        let ring = Ring::many(2);
        let flags = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let waking = flags.clone().map(|flag| {
            let ring = ring.clone();
            thread::spawn(move || {
                flag.store(1, Relaxed);
                ring.bell_of_receiver().ring(&mut ring.waker(), |_| Due::All);
            })
        });
        for flag in flags {
            sleep(ring.bell_of_receiver(), || (flag.load(Relaxed) == 1).then_some(()));
        }
        for thread in waking {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_waker_that_is_killed_at_every_access_leaves_its_wake_to_the_next() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(2);
        let flag = Arc::new(AtomicU64::new(0));
        let dying = ring.clone();
        let dying = thread::spawn(move || {
            killed_at(accesses, || _ = dying.bell_of_receiver().ring(&mut dying.waker(), |_| Due::All))
        });
        let (there, raised) = (ring.clone(), Arc::clone(&flag));
        let waking = thread::spawn(move || {
            raised.store(1, Relaxed);
            there.bell_of_receiver().ring(&mut there.waker(), |_| Due::All);
        });
        sleep(ring.bell_of_receiver(), || (flag.load(Relaxed) == 1).then_some(()));
        waking.join().unwrap();
        dying.join().unwrap()
    });
}

fn one_message_wakes_the_receiver_of(ring: impl Fn() -> Ring + Send + Sync + 'static) {
    explore(move || {
        let ring = ring();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        sender.calm();
        let sending = thread::spawn(move || sender.try_send(HALF, 1).unwrap());
        assert_eq!(receiver.receive().unwrap().value, 1);
        sending.join().unwrap();
    });
}

#[test]
fn one_message_wakes_the_receiver() {
    one_message_wakes_the_receiver_of(Ring::single);
}

#[test]
fn one_message_of_a_bare_sender_wakes_the_receiver() {
    one_message_wakes_the_receiver_of(|| Ring::single().asymmetric());
}

#[test]
fn sender_and_receiver_take_turns_asleep() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=2).for_each(|value| sender.try_send(HALF, value).unwrap());
        let sending = thread::spawn(move || (3..=4).for_each(|value| sender.send(HALF, value).unwrap()));
        for value in 1..=4 {
            assert_eq!(receiver.receive().unwrap().value, value);
        }
        sending.join().unwrap();
    });
}

#[test]
fn both_go_bare_and_take_turns_asleep() {
    explore(|| {
        let ring = Ring::single().asymmetric();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        sender.calm();
        receiver.calm();
        (1..=2).for_each(|value| sender.try_send(HALF, value).unwrap());
        let sending = thread::spawn(move || sender.send(HALF, 3).unwrap());
        for value in 1..=3 {
            assert_eq!(receiver.receive().unwrap().value, value);
        }
        sending.join().unwrap();
    });
}

#[test]
fn a_bare_sender_that_closes_wakes_the_receiver() {
    explore(|| {
        let ring = Ring::single().asymmetric();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        sender.calm();
        let sending = thread::spawn(move || {
            sender.try_send(HALF, 1).unwrap();
            sender.close();
        });
        assert_eq!(receiver.receive().unwrap().value, 1);
        assert_eq!(receiver.receive(), Err(End::Disconnected));
        sending.join().unwrap();
    });
}

#[test]
fn two_senders_wake_one_receiver() {
    explore_large(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let sending = [1, 2].map(|number| {
            let mut sender = ring.multi_sender(process(number)).unwrap();
            thread::spawn(move || sender.try_send(HALF, number as u64).unwrap())
        });
        let mut received = [(); 2].map(|()| receiver.receive().unwrap().value);
        received.sort();
        assert_eq!(received, [1, 2]);
        for thread in sending {
            thread.join().unwrap();
        }
    });
}

fn a_release_wakes_the_sender_of(ring: impl Fn() -> Ring + Send + Sync + 'static) {
    explore(move || {
        let ring = ring();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        receiver.calm();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let sending = thread::spawn(move || sender.send(HALF, 3).unwrap());
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        sending.join().unwrap();
    });
}

#[test]
fn a_release_wakes_the_sender() {
    a_release_wakes_the_sender_of(Ring::single);
}

#[test]
fn a_release_of_a_bare_receiver_wakes_the_sender() {
    a_release_wakes_the_sender_of(|| Ring::single().asymmetric());
}

#[test]
fn two_sleeping_senders_both_get_in() {
    explore_large(|| {
        let ring = Ring::many(2);
        let mut receiver = ring.receiver(process(3)).unwrap();
        let mut senders = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        senders[0].try_send(HALF, 3).unwrap();
        senders[1].try_send(HALF, 4).unwrap();
        let sending = senders.map(|mut sender| {
            thread::spawn(move || {
                let value = sender.slot() as u64;
                sender.send(HALF, value).unwrap();
            })
        });
        for value in 3..=4 {
            assert_eq!(receiver.try_receive().unwrap().value, value);
        }
        for thread in sending {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_discarded_record_lets_the_one_behind_it_wake_the_receiver() {
    explore(|| {
        let ring = Ring::many(2);
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        one.try_reserve(HALF).unwrap();
        two.try_send(HALF, 2).unwrap();
        let discarding = thread::spawn(move || one.discard());
        assert_eq!(receiver.receive().unwrap().value, 2);
        discarding.join().unwrap();
    });
}

#[test]
fn a_sender_asleep_learns_that_the_receiver_closes() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let receiver = ring.receiver(process(3)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let closing = thread::spawn(move || receiver.close());
        assert_eq!(sender.send(HALF, 3), Err(NotSent::Disconnected));
        closing.join().unwrap();
    });
}

#[test]
fn two_senders_asleep_learn_that_the_receiver_closes() {
    explore(|| {
        let ring = Ring::many(2);
        let mut senders = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let receiver = ring.receiver(process(3)).unwrap();
        senders[0].try_send(HALF, 1).unwrap();
        senders[1].try_send(HALF, 2).unwrap();
        let sending = senders.map(|mut sender| {
            thread::spawn(move || assert_eq!(sender.send(HALF, 3), Err(NotSent::Disconnected)))
        });
        receiver.close();
        for thread in sending {
            thread.join().unwrap();
        }
    });
}

#[test]
fn a_receiver_asleep_learns_that_the_sender_closes() {
    explore(|| {
        let ring = Ring::single();
        let sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let closing = thread::spawn(move || sender.close());
        assert_eq!(receiver.receive(), Err(End::Disconnected));
        closing.join().unwrap();
    });
}

#[test]
fn a_receiver_that_timed_out_is_woken_the_next_time() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        let time = thread::spawn(clock::start);
        let sending = thread::spawn(move || sender.try_send(HALF, 1).unwrap());
        let first = receiver.receive_for_a_while();
        let message = if first == Err(End::TimedOut) { receiver.receive() } else { first };
        assert_eq!(message.unwrap().value, 1);
        time.join().unwrap();
        sending.join().unwrap();
    });
}

#[test]
fn a_sender_that_timed_out_is_woken_the_next_time() {
    explore(|| {
        let ring = Ring::single();
        let mut sender = ring.sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        sender.try_send(HALF, 2).unwrap();
        let time = thread::spawn(clock::start);
        let receiving = thread::spawn(move || receiver.try_receive().unwrap());
        if sender.send_for_a_while(HALF, 3) == Err(NotSent::TimedOut) {
            sender.send(HALF, 3).unwrap();
        }
        time.join().unwrap();
        receiving.join().unwrap();
    });
}

fn many_releases_wake_a_sender_at_half_of(ring: impl Fn() -> Ring + Send + Sync + 'static) {
    explore(move || {
        let ring = ring();
        let mut sender = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        receiver.calm();
        (1..=4).for_each(|value| sender.try_send(0, value).unwrap());
        let sending = thread::spawn(move || sender.send(0, 5).unwrap());
        // The first leaves more than half of the ring in use, the second doesn't.
        for value in 1..=2 {
            assert_eq!(receiver.try_receive().unwrap().value, value);
        }
        sending.join().unwrap();
    });
}

#[test]
fn many_releases_wake_a_sender_at_half_of_the_ring() {
    many_releases_wake_a_sender_at_half_of(|| Ring::many(1));
}

#[test]
fn many_releases_of_a_bare_receiver_wake_a_sender_at_half_of_the_ring() {
    many_releases_wake_a_sender_at_half_of(|| Ring::many(1).asymmetric());
}

#[test]
fn after_a_while_one_release_wakes_a_sender() {
    explore(|| {
        let ring = Ring::many(1);
        let mut sender = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=4).for_each(|value| sender.try_send(0, value).unwrap());
        let time = thread::spawn(clock::start);
        let sending = thread::spawn(move || sender.send(0, 5).unwrap());
        assert_eq!(receiver.try_receive().unwrap().value, 1);
        sending.join().unwrap();
        time.join().unwrap();
    });
}

#[test]
fn after_a_while_one_release_at_a_time_wakes_two_senders() {
    explore_large(|| {
        let ring = Ring::many(2);
        let mut senders = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        (1..=4).for_each(|value| senders[0].try_send(0, value).unwrap());
        clock::start();
        let sending = senders.map(|mut sender| thread::spawn(move || sender.send(0, 5).unwrap()));
        for value in 1..=2 {
            assert_eq!(receiver.try_receive().unwrap().value, value);
        }
        for thread in sending {
            thread.join().unwrap();
        }
    });
}

#[test]
fn an_empty_ring_leaves_no_sender_asleep() {
    explore(|| {
        let ring = Ring::many(1);
        let mut sender = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(3)).unwrap();
        sender.try_send(HALF, 1).unwrap();
        let sending = thread::spawn(move || {
            sender.send(HALF, 2).unwrap();
            sender.send(HALF, 3).unwrap();
        });
        for value in 1..=3 {
            assert_eq!(receiver.receive().unwrap().value, value);
        }
        sending.join().unwrap();
    });
}
