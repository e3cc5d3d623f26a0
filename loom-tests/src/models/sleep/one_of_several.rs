//! Of several who sleep on one bell, one is woken at a time.

use super::*;

/// As [`sleep`], and asks to be woken as soon as anything changes.
fn sleep_eagerly<T>(bell: Bell<'_>, mut look: impl FnMut() -> Option<T>) -> T {
    let (news, counts) = (&News::default(), &Counts::default());
    let sleeper = Sleeper { call: bell.into(), news, counts, eager_after: None, slice: None };
    sleeper.until_release(&mut at_once(), None, |_: Look| look()).unwrap()
}

/// Announces a sleep, and leaves without a wake.
fn time_out(bell: Bell<'_>) {
    clock::start();
    let (news, counts) = (&News::default(), &Counts::default());
    let sleeper = Sleeper { call: bell.into(), news, counts, eager_after: None, slice: None };
    assert_eq!(sleeper.until(&mut at_once(), Some(Deadline::after(Duration::ZERO)), |_| None::<()>), None);
}

/// Takes one of what is given, if there is any.
fn take_one(given: &AtomicU64) -> Option<()> {
    let mut there = given.load(Relaxed);
    while there > 0 {
        match given.compare_exchange(there, there - 1, Relaxed, Relaxed) {
            Ok(_) => return Some(()),
            Err(now) => there = now,
        }
    }
    None
}

#[test]
fn two_sleepers_on_one_word_share_what_is_given_one_by_one() {
    explore(|| {
        let ring = Ring::many(2);
        let given = Arc::new(AtomicU64::new(0));
        let sleeping = [(); 2].map(|()| {
            let (ring, given) = (ring.clone(), Arc::clone(&given));
            thread::spawn(move || {
                sleep(ring.bell_of_senders(), || take_one(&given));
            })
        });
        let mut waker = ring.waker();
        for _ in 0..2 {
            given.fetch_add(1, Relaxed);
            ring.bell_of_senders().ring(&mut waker, |_| Due::All);
        }
        for thread in sleeping {
            thread.join().unwrap();
        }
    });
}

#[test]
fn who_is_left_asleep_is_woken_after_the_one_before() {
    explore(|| {
        let ring = Ring::many(2);
        let given = Arc::new(AtomicU64::new(0));
        let sleeping = [(); 2].map(|()| {
            let (ring, given) = (ring.clone(), Arc::clone(&given));
            thread::spawn(move || sleep(ring.bell_of_senders(), || take_one(&given)))
        });
        let (bell, mut waker) = (ring.bell_of_senders(), ring.waker());
        given.store(2, Relaxed);
        bell.ring(&mut waker, |_| Due::One);
        bell.ring_once_more(&mut waker);
        for thread in sleeping {
            thread.join().unwrap();
        }
    });
}

/// Who asked to be woken as soon as anything changes has no other limit to its sleep.
#[test]
fn an_eager_sleeper_is_woken_although_another_is_woken_first() {
    explore(|| {
        let ring = Ring::many(2);
        let (given, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (there, ended) = (ring.clone(), Arc::clone(&done));
        let patient = thread::spawn(move || {
            let (news, counts) = (&News::default(), &Counts::default());
            let call = there.bell_of_senders().into();
            let sleeper = Sleeper { call, news, counts, eager_after: Some(Duration::ZERO), slice: None };
            sleeper.until(&mut at_once(), None, |_| (ended.load(Relaxed) == 1).then_some(()))
        });
        let (there, taken) = (ring.clone(), Arc::clone(&given));
        let eager = thread::spawn(move || sleep_eagerly(there.bell_of_senders(), || take_one(&taken)));
        let (bell, mut waker) = (ring.bell_of_senders(), ring.waker());
        given.store(1, Relaxed);
        // What is given now is perhaps taken by another, who has never slept.
        bell.ring(&mut waker, |_| {
            take_one(&given);
            Due::One
        });
        given.fetch_add(1, Relaxed);
        bell.ring(&mut waker, |eager| if eager { Due::One } else { Due::Nobody });
        eager.join().unwrap();
        done.store(1, Relaxed);
        bell.ring(&mut waker, |_| Due::All);
        bell.wake_everybody();
        patient.join().unwrap();
    });
}

/// The one after it takes the bit of the first one's eagerness with it, since it announces the next number.
#[test]
fn an_eager_sleeper_is_woken_although_another_has_announced_after_it() {
    explore(|| {
        let ring = Ring::many(2);
        let given = Arc::new(AtomicU64::new(0));
        let (there, taken) = (ring.clone(), Arc::clone(&given));
        // Who has slept longest is killed in its sleep.
        time_out(ring.bell_of_senders());
        futex::oversleep(&ring.memory.receiver().granted);
        let eager = thread::spawn(move || sleep_eagerly(there.bell_of_senders(), || take_one(&taken)));
        let there = ring.clone();
        let late = thread::spawn(move || time_out(there.bell_of_senders()));
        let (bell, mut waker) = (ring.bell_of_senders(), ring.waker());
        bell.ring(&mut waker, |_| Due::One);
        given.store(1, Relaxed);
        bell.ring(&mut waker, |eager| if eager { Due::One } else { Due::Nobody });
        eager.join().unwrap();
        late.join().unwrap();
    });
}

#[test]
fn a_late_sleeper_does_not_take_back_what_another_has_announced() {
    explore(|| {
        let ring = Ring::many(2);
        time_out(ring.bell_of_senders());
        let flags = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let sleeping = flags.clone().map(|flag| {
            let ring = ring.clone();
            thread::spawn(move || sleep(ring.bell_of_senders(), || (flag.load(Relaxed) == 1).then_some(())))
        });
        // Grants the number that was left behind, so that the early one announces the next; the late one must not take the
        // early one's back, be woken, and leave it asleep.
        let (bell, mut waker) = (ring.bell_of_senders(), ring.waker());
        bell.ring(&mut waker, |_| Due::All);
        for flag in flags.iter().rev() {
            flag.store(1, Relaxed);
            bell.ring(&mut waker, |_| Due::All);
        }
        for thread in sleeping {
            thread.join().unwrap();
        }
    });
}
