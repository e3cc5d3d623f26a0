//! What a careless or hostile process leaves for the others: a reservation that panicked or was not written, memory that
//! was pulled away from under the ring.

mod common;

use common::{Child, FAR, Line, Name};
use ringpost::{Builder, RecvError, Ring, builder, unnamed};
use rustix::fs::{FallocateFlags, fallocate};
use std::{
    fs::OpenOptions,
    os::unix::process::ExitStatusExt,
    panic::{AssertUnwindSafe, catch_unwind},
};

const CAPACITY: usize = 1 << 16;

fn small(builder: Builder) -> Builder {
    builder.capacity(CAPACITY as u64)
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["punch", name] => work_over_holes(name, &line),
        ["receive", name] => {
            let mut receiver = builder(name).open().unwrap().receiver().unwrap();
            line.tell(0);
            line.hear();
            let _ = receiver.try_recv().map(drop);
        }
        _ => panic!("{words:?}"),
    });
}

#[test]
fn a_panic_while_a_message_is_written_discards_it_and_the_ring_goes_on() {
    for many in [false, true] {
        let asked = small(unnamed());
        let ring = if many { asked.many_senders(2).memfd() } else { asked.memfd() }.unwrap();
        let mut receiver = ring.receiver().unwrap();
        if many {
            panic_between(ring.multi_sender().unwrap(), &mut receiver);
        } else {
            panic_between(ring.sender().unwrap(), &mut receiver);
        }
    }
}

fn panic_between<K: ringpost::SenderKind>(
    mut sender: ringpost::Sender<ringpost::Untrusted, K>,
    receiver: &mut ringpost::Receiver,
) {
    let more_than_fit = 3 * CAPACITY / 1000;
    for turn in 0..more_than_fit {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let mut reservation = sender.reserve(1000).unwrap();
            reservation.write_at(0, b"half");
            // Not a message on standard error for each.
            std::panic::resume_unwind(Box::new(turn));
        }));
        assert!(panicked.is_err());
        sender.send(&turn.to_ne_bytes()).unwrap();
        assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), turn.to_ne_bytes());
    }
    assert_eq!(receiver.try_recv().map(drop), Err(RecvError::Empty));
}

// ---- bytes that nobody wrote ----

/// Commits messages that were never written, once around the ring; gives what arrives.
fn unwritten(ring: &Ring) -> Vec<u8> {
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut bytes = Vec::new();
    for _ in 0..CAPACITY / 1024 {
        sender.reserve(1024 - 16).unwrap().commit();
        bytes.extend(receiver.recv_timeout(FAR).unwrap().to_vec());
    }
    bytes
}

#[test]
fn what_was_not_written_is_zero_in_a_new_ring_whatever_was_in_memory_before() {
    let name = Name::new();
    for _ in 0..4 {
        let secret = vec![0xa5; CAPACITY - 16];
        for ring in [small(builder(&*name)).create().unwrap(), small(unnamed()).memfd().unwrap()] {
            let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
            sender.send(&secret).unwrap();
            assert!(receiver.recv_timeout(FAR).unwrap().to_vec() == secret);
            let _ = ring.unlink();
        }
        let next = [small(builder(&*name)).create().unwrap(), small(unnamed()).memfd().unwrap()];
        for ring in &next {
            assert!(unwritten(ring).iter().all(|&byte| byte == 0), "bytes of a ring that is gone");
        }
        next[0].unlink().unwrap();
    }
}

#[test]
fn what_was_not_written_is_what_the_same_ring_held_there_and_nothing_else() {
    let ring = small(unnamed()).memfd().unwrap();
    let old = vec![0x5a; CAPACITY - 16];
    ring.sender().unwrap().send(&old).unwrap();
    assert!(ring.receiver().unwrap().recv_timeout(FAR).unwrap().to_vec() == old);
    let bytes = unwritten(&ring);
    assert!(bytes.iter().filter(|&&byte| byte == 0x5a).count() > bytes.len() * 9 / 10);
}

// ---- memory that goes ----

/// Works on a ring whose pages are given back again and again: each time they come again as zeros.
fn work_over_holes(name: &str, line: &Line) {
    let ring = match name {
        "memfd" => small(unnamed()).many_senders(3).memfd(),
        name => small(builder(name)).many_senders(3).create(),
    };
    let ring = ring.unwrap();
    let length = rustix::fs::fstat(ring.fd().unwrap()).unwrap().st_size as u64;
    for turn in 0..200u64 {
        let (Ok(mut sender), Ok(mut receiver)) = (ring.multi_sender(), ring.receiver()) else { continue };
        for number in 0..20u64 {
            let _ = sender.try_send(&number.to_ne_bytes());
            if number == turn % 20 {
                // The data only, and then the words of the protocol as well.
                let start = if turn % 2 == 0 { 4096 } else { length - CAPACITY as u64 };
                let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(ring.fd().unwrap(), holes, start, length - start).unwrap();
            }
            if number % 3 == 0 {
                let _ = receiver.try_recv().map(|message| message.to_vec());
            }
        }
    }
    line.tell(0);
}

#[test]
fn holes_that_a_peer_punches_are_zeros_and_no_signal() {
    let name = Name::new();
    for ring in ["memfd", &name] {
        let child = Child::start(&format!("punch {ring}"));
        assert_eq!(child.next(), Some(0), "it has survived");
        child.finish();
    }
}

#[test]
fn a_named_ring_that_is_truncated_ends_its_users_with_the_signal_that_is_documented() {
    let name = Name::new();
    let ring = small(builder(&*name)).create().unwrap();
    let receiver = Child::start(&format!("receive {}", &*name));
    receiver.hear();
    drop(ring);
    OpenOptions::new().write(true).open(name.path()).unwrap().set_len(0).unwrap();
    receiver.tell(0);
    assert_eq!(receiver.end().signal(), Some(libc::SIGBUS));
    let readme = include_str!("../README.md");
    assert!(readme.contains("| SIGBUS | a named ring's file was truncated"));
}
