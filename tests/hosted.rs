//! A ring in a segment of the `shared_memory` crate, between two processes.
//!
//! ```text
//! cargo test --features shared_memory --test hosted
//! ```

mod common;

use common::{Child, FAR, Line};
use ringpost::{OpenError, RecvError, Ring, SendError, unnamed};
use shared_memory::{Shmem, ShmemConf};

/// More than a ring of 64 KiB needs, and less than one of 128 KiB: the ring takes the largest power of two.
const SEGMENT: usize = 100 << 10;

/// Several laps of the ring, so that messages of every length come to lie across its end.
const MESSAGES: u32 = 5000;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", os_id] => send_all(&open(os_id), &line),
        ["attach", os_id, kind] => attach_and_wait(&open(os_id), kind, &line),
        _ => panic!("no such role: {words:?}"),
    });
}

fn segment() -> Shmem {
    ShmemConf::new().size(SEGMENT).create().unwrap()
}

/// Another mapping of the segment.
fn map(os_id: &str) -> Shmem {
    ShmemConf::new().os_id(os_id).open().unwrap()
}

fn open(os_id: &str) -> Ring {
    unnamed().open_hosted(map(os_id)).unwrap()
}

fn message(number: u32) -> Vec<u8> {
    let length = number as usize * 7 % 301;
    (0..length).map(|at| (number as usize + at) as u8).collect()
}

fn send_all(ring: &Ring, line: &Line) {
    let mut sender = ring.multi_sender().unwrap();
    (0..MESSAGES).for_each(|number| sender.send_kind(number as u16, &message(number)).unwrap());
    line.tell(ring.statistics().sent());
}

/// Takes one end of the ring, says so, and holds it until it is killed or told to close.
fn attach_and_wait(ring: &Ring, end: &str, line: &Line) {
    let receiver = (end == "receiver").then(|| ring.receiver().unwrap());
    let sender = (end == "sender").then(|| ring.sender().unwrap());
    line.tell(u64::from(receiver.is_some() || sender.is_some()));
    line.next();
}

#[test]
fn messages_of_every_length_come_from_another_process_whole_and_in_order() {
    let segment = segment();
    let os_id = segment.get_os_id().to_owned();
    let ring = unnamed().many_senders(2).host_in(segment).unwrap();
    assert_eq!((ring.info().capacity, ring.path()), (64 << 10, None));
    let mut receiver = ring.receiver().unwrap();

    let child = Child::start(&format!("send {os_id}"));
    for number in 0..MESSAGES {
        let received = receiver.recv_timeout(FAR).unwrap();
        assert_eq!((received.kind(), received.sender().pid), (number as u16, child.id()));
        assert_eq!(received.to_vec(), message(number));
    }
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
    assert_eq!(child.hear(), u64::from(MESSAGES));
    child.finish();
}

#[test]
fn each_side_learns_that_the_other_was_killed() {
    let segment = segment();
    let os_id = segment.get_os_id().to_owned();
    let ring = unnamed().host_in(segment).unwrap();

    let mut child = Child::start(&format!("attach {os_id} sender"));
    assert_eq!(child.hear(), 1);
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    child.kill();
    let pid = child.id();
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::PeerDied { pid, unfinished: 0 });
    drop(receiver);

    let mut child = Child::start(&format!("attach {os_id} receiver"));
    assert_eq!(child.hear(), 1);
    let mut sender = ring.sender().unwrap();
    while sender.try_send(&[0; 1000]).is_ok() {}
    child.kill();
    let pid = child.id();
    let error = sender.send_timeout(&[0; 1000], FAR).unwrap_err();
    assert!(matches!(error, SendError::PeerDied { pid: dead, unreceived: 1016.. } if dead == pid), "{error}");
}

#[test]
fn the_segment_is_gone_with_the_ring() {
    let segment = segment();
    let path = format!("/dev/shm{}", segment.get_os_id());
    let ring = unnamed().host_in(segment).unwrap();
    let receiver = ring.receiver().unwrap();
    drop(ring);
    assert!(std::fs::exists(&path).unwrap(), "a handle still uses it");
    drop(receiver);
    assert!(!std::fs::exists(&path).unwrap());
}

#[test]
fn a_segment_that_is_too_small_is_refused_with_the_least_that_is_enough() {
    let small = ShmemConf::new().size(12_288).create().unwrap();
    let Err(OpenError::Setting { what, given, least, .. }) = unnamed().host_in(small) else { panic!() };
    assert_eq!((what, given), ("segment", 12_288));
    let enough = ShmemConf::new().size(least as usize).create().unwrap();
    assert_eq!(unnamed().host_in(enough).unwrap().info().capacity, 4096);
}

#[test]
fn what_is_no_ring_or_another_ring_is_refused() {
    let empty = segment();
    let other = map(empty.get_os_id());
    assert!(matches!(unnamed().open_hosted(other), Err(OpenError::NotARing { .. })));

    let os_id = empty.get_os_id().to_owned();
    let _ring = unnamed().host_in(empty).unwrap();
    let refused = unnamed().many_senders(3).open_hosted(map(&os_id));
    let Err(OpenError::Mismatch { what, found, expected }) = refused else { panic!("{refused:?}") };
    assert_eq!((what, found.as_str(), expected.as_str()), ("kind of ring", "one sender", "up to 3 senders"));
}
