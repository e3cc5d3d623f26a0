//! What a thread may call that must neither wait nor allocate, also after the process at the other end was killed.

mod common;

use common::{
    Child,
    rings::{Shared, Way, child_at, open},
};
use ringpost::{Builder, Pick, RecvError, SendError};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    any::Any,
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// Counts what the present thread allocates and frees.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends frees what it has, when its number is gone.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: all is the system's allocator; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What it gives; it must not have called the allocator.
#[track_caller]
fn without_allocating<T>(call: impl FnOnce() -> T) -> T {
    let before = CALLS.get();
    let given = call();
    assert_eq!(CALLS.get() - before, 0, "calls of the allocator");
    given
}

#[test]
fn child_process() {
    common::play_role(|words, line| {
        let ring = open(words[1], &line);
        let _kept: Box<dyn Any> = match words[0] {
            "send" => {
                let mut sender = ring.multi_sender().unwrap();
                sender.send(b"one").unwrap();
                Box::new(sender)
            }
            "receive" => Box::new(ring.receiver().unwrap()),
            "subscribe" => Box::new(ring.subscriber().unwrap()),
            "publish" => {
                let mut publisher = ring.publisher().unwrap();
                publisher.send(b"one").unwrap();
                Box::new(publisher)
            }
            "work" => {
                let mut mailbox = ring.mailbox().unwrap();
                let letter = mailbox.recv(Pick::Any).unwrap();
                Box::new((letter, mailbox))
            }
            other => panic!("no such role: {other}"),
        };
        line.tell(0);
        line.hear();
    });
}

fn ring(set: impl Fn(Builder) -> Builder) -> Shared {
    Shared::new(Way::Name, |builder| set(builder.capacity(1 << 14)))
}

/// Has the child killed, and tries until `is_known`, and then some more.
fn after_the_death_of(mut child: Child, mut is_known: impl FnMut() -> bool) {
    child.kill();
    let begun = Instant::now();
    while !is_known() {
        assert!(begun.elapsed() < common::FAR, "the death is not known");
        thread::sleep(Duration::from_millis(1));
    }
    (0..100).for_each(|_| assert!(is_known()));
}

#[test]
fn a_receiver_that_tries_allocates_nothing_also_when_a_sender_was_killed() {
    for others in [true, false] {
        let shared = ring(|builder| builder.many_senders(4));
        let mut receiver = shared.ring.receiver().unwrap();
        let other = others.then(|| shared.ring.multi_sender().unwrap());
        let child = child_at(&shared, "send", "");
        assert_eq!(child.hear(), 0);
        let mut buffer = [0; 8];
        without_allocating(|| receiver.try_recv().unwrap().read_at(0, &mut buffer[..3]));
        assert_eq!(&buffer[..3], b"one");
        let mut died = false;
        after_the_death_of(child, || {
            without_allocating(|| {
                let end = receiver.try_recv().map(drop).unwrap_err();
                assert!(receiver.try_recv_many(8).is_err());
                died |= receiver.next_death().is_some() || matches!(end, RecvError::PeerDied { .. });
                assert!(receiver.stalled().is_none());
            });
            died
        });
        drop(other);
    }
}

#[test]
fn a_sender_that_tries_allocates_nothing_also_when_the_receiver_was_killed() {
    let shared = ring(|builder| builder.many_senders(4));
    let child = child_at(&shared, "receive", "");
    assert_eq!(child.hear(), 0);
    let mut sender = shared.ring.multi_sender().unwrap();
    without_allocating(|| {
        sender.try_send(b"one").unwrap();
        let mut room = sender.try_reserve(3).unwrap();
        room.write_at(0, b"two");
        room.commit();
        let mut batch = sender.try_batch(100).unwrap();
        batch.push(1, b"three").unwrap();
        batch.commit();
    });
    after_the_death_of(child, || {
        let end = without_allocating(|| {
            loop {
                if let Err(end) = sender.try_send(&[7; 1000]) {
                    break end;
                }
            }
        });
        matches!(end, SendError::PeerDied { .. })
    });
}

#[test]
fn broadcasting_and_reading_allocate_nothing_also_when_the_other_side_was_killed() {
    let shared = ring(|builder| builder.broadcast(4));
    let mut subscriber = shared.ring.subscriber().unwrap();
    let mut watcher = shared.ring.watcher(ringpost::Start::Now).unwrap();
    let child = child_at(&shared, "publish", "");
    assert_eq!(child.hear(), 0);
    let mut buffer = [0; 8];
    without_allocating(|| {
        subscriber.try_recv().unwrap().read_at(0, &mut buffer[..3]);
        assert!(watcher.lag() > 0, "so that the next call does not wait");
        assert_eq!(watcher.recv_into(&mut buffer), Ok(3));
    });
    after_the_death_of(child, || {
        let end = without_allocating(|| subscriber.try_recv().map(drop).unwrap_err());
        matches!(end, RecvError::PeerDied { .. })
    });
    without_allocating(|| subscriber.reopen());

    let child = child_at(&shared, "subscribe", "");
    assert_eq!(child.hear(), 0);
    let mut publisher = shared.ring.publisher().unwrap();
    after_the_death_of(child, || {
        without_allocating(|| {
            (0..100).for_each(|_| {
                let _ = publisher.try_send(&[7; 1000]);
                while subscriber.try_recv().is_ok() {}
            });
            publisher.slowest().is_none_or(|lag| lag.behind_bytes == 0)
        })
    });
}

#[test]
fn a_mailbox_that_is_tried_allocates_nothing_also_when_a_worker_was_killed() {
    let shared = Shared::new(Way::Name, |builder| builder.mailbox(16));
    let mut mailbox = shared.ring.mailbox().unwrap();
    mailbox.send(1, b"job").unwrap();
    let child = child_at(&shared, "work", "");
    assert_eq!(child.hear(), 0);
    let mut came_again = false;
    after_the_death_of(child, || {
        without_allocating(|| {
            came_again |= mailbox.try_recv(Pick::Any).is_ok_and(|letter| letter.tries() == 1);
            let _ = mailbox.try_send(2, b"other");
            let _ = mailbox.try_recv(Pick::Kind(2));
            let _ = mailbox.try_recv(Pick::Kind(3));
        });
        came_again
    });
}
