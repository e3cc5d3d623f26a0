//! The tail of a ring with many senders is lent to a process that then is stopped, or does nothing: it holds up nobody, and who calls the
//! tail back makes one system call.

mod common;

use common::{
    FAR, Line,
    filter::{die_at, die_but_at, refuse},
    rings::{Shared, Way, child_at, open, until_it_sleeps},
    stream::scatter,
};
use ringpost::{MultiSender, OpenError, RecvError, Ring, SendError, SignalSender};
use rustix::io::Errno;
use std::{
    fs::File,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let [how, ring] = *words else { panic!("no such role: {words:?}") };
    let mut sender = open(ring, &line).multi_sender().unwrap();
    match how {
        "streams" => {
            line.tell(0);
            for number in 0_u64.. {
                while sender.try_send(&number.to_ne_bytes()) == Err(SendError::Full) {}
            }
        }
        "confined" => {
            sender.try_send(b"a slot is taken").unwrap();
            line.tell(0);
            line.hear();
            // And what it tells with.
            die_but_at(&[libc::SYS_membarrier, libc::SYS_sendto, libc::SYS_exit_group]);
            sender.try_send(b"called back").unwrap();
            line.tell(0);
            // SAFETY: ends the process, whose part is done.
            unsafe { libc::_exit(0) }
        }
        "without" => {
            sender.try_send(b"a slot is taken").unwrap();
            line.tell(0);
            line.hear();
            die_at(&[libc::SYS_membarrier]);
            sender.try_send(b"called back").unwrap();
            line.tell(0);
        }
        "refused" => {
            sender.try_send(b"a slot is taken").unwrap();
            line.tell(0);
            line.hear();
            refuse((libc::SYS_membarrier, Errno::PERM));
            assert_eq!(sender.try_send(b"called back"), Err(SendError::Full));
            line.tell(0);
            line.hear();
            sender.try_send(b"given back").unwrap();
            line.tell(0);
        }
        "reserves" => {
            std::mem::forget(sender.try_reserve(8).unwrap());
            line.tell(0);
            line.hear();
        }
        "dies" => {
            (0..66).for_each(|_| sender.try_send(b"one").unwrap());
            line.tell(0);
            line.hear();
            std::mem::forget(sender.try_reserve(3000).unwrap());
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    }
}

fn file_of(ring: &Ring) -> File {
    ring.fd().unwrap().try_clone_to_owned().unwrap().into()
}

// Where the words lie and what they say: `docs/LAYOUT.md`.

/// The slot to which the tail of the ring is lent.
fn borrower(ring: &Ring) -> Option<u64> {
    let mut tail = [0; 8];
    file_of(ring).read_exact_at(&mut tail, 8192).unwrap();
    let tail = u64::from_ne_bytes(tail);
    (tail & 0xff == 0).then_some(tail >> 8 & 0xff)
}

/// Calls the tail back as far as the mark, as one who is killed behind it.
fn mark_as_called_back(ring: &Ring) {
    const RECALLED: u8 = 2;
    let slot = borrower(ring).expect("the tail is lent");
    file_of(ring).write_all_at(&[RECALLED], 8704 + 256 * (slot - 1) + 240).unwrap();
}

/// A ring, in which a message takes 24 bytes.
fn ring(senders: u8) -> Shared {
    let shared = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16).many_senders(senders));
    assert!(shared.ring.info().asymmetric_fences, "nothing is lent without membarrier(2)");
    shared
}

/// A sender to which the tail is lent.
fn borrowing(ring: &Ring) -> MultiSender {
    let mut sender = ring.multi_sender().unwrap();
    (0..66).for_each(|_| sender.try_send(b"one").unwrap());
    assert!(borrower(ring).is_some());
    sender
}

#[test]
fn a_borrower_that_is_stopped_anywhere_holds_up_nobody() {
    let shared = ring(2);
    let mut receiver = shared.ring.receiver().unwrap();
    let child = child_at(&shared, "streams", "");
    child.hear();
    let mut other = shared.ring.multi_sender().unwrap();
    let (mut next, mut idle, mut reserved) = (0, 0, 0);
    for round in 0.. {
        assert!(round < 2_000, "{idle} times between two messages, {reserved} times within one");
        if idle > 30 && reserved > 3 {
            break;
        }
        // Until the tail is lent, and then anywhere.
        let start = Instant::now();
        let moment = Duration::from_micros(scatter(round) % 300);
        let mut since = None;
        while since.is_none_or(|since: Instant| since.elapsed() < moment) {
            assert!(start.elapsed() < FAR, "nothing is lent");
            while let Ok(message) = receiver.try_recv() {
                assert_eq!(message.to_vec(), u64::to_ne_bytes(next));
                next += 1;
            }
            since = since.or_else(|| borrower(&shared.ring).map(|_| Instant::now()));
        }
        child.stop();
        let was_lent = borrower(&shared.ring).is_some();
        // It may stand before a full ring, or behind it.
        let sent = other.try_send(b"other");
        assert_eq!(borrower(&shared.ring), None, "it was called back");
        let mut is_there = false;
        loop {
            match receiver.try_recv().map(|message| message.to_vec()) {
                Ok(bytes) if bytes == b"other" => is_there = true,
                Ok(bytes) => {
                    assert!(!is_there, "the child is stopped");
                    assert_eq!(bytes, u64::to_ne_bytes(next));
                    next += 1;
                }
                Err(error) => break assert_eq!(error, RecvError::Empty),
            }
        }
        match sent {
            Err(error) => assert_eq!(error, SendError::Full),
            Ok(()) if is_there => idle += u32::from(was_lent),
            Ok(()) => {
                // It stands in a reservation, which others wait for: and it is named.
                assert_eq!(receiver.recv_timeout(Duration::ZERO).err(), Some(RecvError::TimedOut));
                assert_eq!(receiver.stalled().unwrap().sender.pid, child.id());
                reserved += u32::from(was_lent);
                child.resume();
                loop {
                    let bytes = receiver.recv_timeout(FAR).unwrap().to_vec();
                    if bytes == b"other" {
                        break;
                    }
                    assert_eq!(bytes, u64::to_ne_bytes(next));
                    next += 1;
                }
                continue;
            }
        }
        child.resume();
    }
}

#[test]
fn who_calls_the_tail_back_makes_one_system_call_and_that_is_membarrier() {
    for how in ["confined", "without"] {
        let shared = ring(2);
        let child = child_at(&shared, how, "");
        child.hear();
        let _borrower = borrowing(&shared.ring);
        child.tell(0);
        if how == "without" {
            assert!(child.next().is_none());
            assert_eq!(child.end().signal(), Some(libc::SIGSYS));
            continue;
        }
        child.hear();
        assert_eq!(borrower(&shared.ring), None);
        child.finish();
    }
}

/// What somebody tries at a ring until it succeeds, and is then received: three 1s.
type Attempt<'a> = Box<dyn FnMut() -> Result<(), SendError> + 'a>;

/// One that had borrowed the tail was killed in its reservation, which leaves little room; and so was, half-way, who called the tail back.
/// So the receiver, which sleeps by now, could not see what it had to pass over. Whoever is held up by that gets on.
fn two_died(attempt: impl FnOnce(&Ring, MultiSender) -> Attempt<'_>) {
    let shared = Shared::new(Way::Inherit, |builder| builder.capacity(4096).many_senders(2));
    let mut receiver = shared.ring.receiver().unwrap();
    let mut attempt = attempt(&shared.ring, shared.ring.multi_sender().unwrap());
    let mut child = child_at(&shared, "dies", "");
    child.hear();
    (0..66).for_each(|_| drop(receiver.try_recv().unwrap()));
    child.tell(0);
    child.hear();
    mark_as_called_back(&shared.ring);
    child.kill();
    thread::scope(|threads| {
        threads.spawn(|| assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec()[..3], [1; 3]));
        until_it_sleeps(&shared.ring);
        // It has heard of the death.
        thread::sleep(Duration::from_millis(100));
        assert_eq!(attempt(), Err(SendError::Full));
        let start = Instant::now();
        while attempt().is_err() {
            assert!(start.elapsed() < FAR / 4, "nobody has told the receiver");
            thread::yield_now();
        }
    });
}

#[test]
fn whoever_finds_no_room_tells_the_receiver_that_the_tail_is_there_again() {
    two_died(|_, mut sender| Box::new(move || sender.try_send(&[1; 2000])));
    two_died(|_, sender| {
        let sender = SignalSender::new(sender).unwrap();
        Box::new(move || sender.try_send(0, &[1; 2000]))
    });
}

#[test]
fn whoever_finds_no_slot_tells_the_receiver_that_the_tail_is_there_again() {
    two_died(|ring, idle| {
        Box::new(move || {
            let _is_there = &idle;
            match ring.multi_sender() {
                Ok(mut sender) => sender.try_send(&[1; 3]),
                Err(error) => {
                    assert!(matches!(error, OpenError::TooManySenders { .. }), "{error}");
                    Err(SendError::Full)
                }
            }
        })
    });
}

#[test]
fn what_lies_before_a_loan_is_passed_over_while_the_tail_is_called_back() {
    let shared = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16).many_senders(2));
    let mut receiver = shared.ring.receiver().unwrap();
    let mut child = child_at(&shared, "reserves", "");
    child.hear();
    let _borrower = borrowing(&shared.ring);
    mark_as_called_back(&shared.ring);
    thread::scope(|threads| {
        threads.spawn(|| (0..66).for_each(|_| drop(receiver.recv_timeout(FAR / 4).unwrap())));
        until_it_sleeps(&shared.ring);
        // Nobody sends any more.
        child.kill();
    });
}

#[test]
fn whose_reservation_lies_before_a_loan_is_named_while_the_tail_is_called_back() {
    let shared = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16).many_senders(2));
    let mut receiver = shared.ring.receiver().unwrap();
    let child = child_at(&shared, "reserves", "");
    child.hear();
    let _borrower = borrowing(&shared.ring);
    mark_as_called_back(&shared.ring);
    assert_eq!(receiver.recv_timeout(Duration::ZERO).err(), Some(RecvError::TimedOut));
    assert_eq!(receiver.stalled().map(|stall| stall.sender.pid), Some(child.id()));
}

#[test]
fn who_is_refused_the_fence_leaves_the_tail_until_the_borrower_gives_it_back() {
    let shared = ring(2);
    let mut receiver = shared.ring.receiver().unwrap();
    let child = child_at(&shared, "refused", "");
    child.hear();
    let mut borrower_here = borrowing(&shared.ring);
    child.tell(0);
    child.hear();
    assert!(borrower(&shared.ring).is_some(), "nobody knows where the tail is");
    borrower_here.try_send(b"mine").unwrap();
    assert_eq!(borrower(&shared.ring), None, "it was given back");
    child.tell(0);
    child.hear();
    child.finish();
    let mut received = vec![];
    while let Ok(message) = receiver.try_recv() {
        received.push(message.to_vec());
    }
    assert_eq!(received.len(), 1 + 66 + 2);
    assert_eq!(received[67..], [b"mine".to_vec(), b"given back".to_vec()]);
}
