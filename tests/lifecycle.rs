//! How a named ring comes and goes: with or without its maker, among several who make it at once, and over fork and exec.

mod common;

use common::{Child, FAR, Line, Name, fork::assert_in_fork};
use ringpost::{
    Builder, Lifetime, OpenError, RecvError, Ring, SegmentError, SendError, Sender, SenderKind, Untrusted,
    builder,
};
use std::{fs, os::unix::fs::FileExt};

fn small(name: &str) -> Builder {
    builder(name).capacity(4096)
}

#[track_caller]
fn assert_not_found<T>(result: Result<T, OpenError>) {
    let error = result.err().expect("there is none");
    assert!(matches!(error, OpenError::Segment(SegmentError::NotFound { .. })), "{error:?}");
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["make", lifetime, name] => make(lifetime, name, &line),
        ["race", name] => race(name, &line),
        ["flicker", name] => flicker(name, &line),
        ["look", name] => look(name),
        ["descriptors", name] => line.tell(descriptors_of(name)),
        _ => panic!("{words:?}"),
    });
}

// With its maker, or without.

/// Makes a ring with a message in it, and ends when it is told to.
fn make(lifetime: &str, name: &str, line: &Line) {
    let lifetime = if lifetime == "owned" { Lifetime::Owned } else { Lifetime::Persist };
    let ring = small(name).lifetime(lifetime).create().unwrap();
    ring.sender().unwrap().send(b"from the maker").unwrap();
    line.tell(ring.info().instance);
    line.next();
}

#[test]
fn a_ring_that_persists_outlives_its_maker_with_its_messages() {
    let name = Name::new();
    let maker = Child::start(&format!("make persist {}", &*name));
    let instance = maker.hear();
    maker.tell(0);
    maker.finish();
    let ring = builder(&*name).open().unwrap();
    assert_eq!(ring.info().instance, instance);
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"from the maker");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Disconnected);
}

#[test]
fn a_ring_that_is_owned_goes_with_its_maker_and_whoever_has_it_open_goes_on() {
    let name = Name::new();
    let maker = Child::start(&format!("make owned {}", &*name));
    maker.hear();
    let ring = builder(&*name).open().unwrap();
    maker.tell(0);
    maker.finish();
    assert!(!name.path().exists() && !ring.is_current());
    assert_not_found(builder(&*name).open());
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"after the name").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"from the maker");
    assert_eq!(receiver.recv().unwrap().to_vec(), b"after the name");
}

#[test]
fn a_ring_that_is_owned_stays_when_its_maker_is_killed() {
    let name = Name::new();
    let mut maker = Child::start(&format!("make owned {}", &*name));
    let instance = maker.hear();
    maker.kill();
    let ring = builder(&*name).open().unwrap();
    assert_eq!(ring.info().instance, instance);
    assert_eq!(ring.receiver().unwrap().recv().unwrap().to_vec(), b"from the maker");
}

#[test]
fn a_ring_that_is_owned_goes_with_the_last_handle_of_its_maker() {
    let name = Name::new();
    let ring = small(&name).lifetime(Lifetime::Owned).create().unwrap();
    drop(small(&name).lifetime(Lifetime::Owned).open().unwrap());
    assert!(ring.is_current(), "opening it does not own it");
    let (copy, sender, receiver) = (ring.clone(), ring.sender().unwrap(), ring.receiver().unwrap());
    drop(ring);
    drop(sender);
    drop(copy);
    assert!(name.path().exists());
    drop(receiver);
    assert!(!name.path().exists());
}

#[test]
fn a_ring_that_is_owned_takes_no_other_rings_name_away() {
    let name = Name::new();
    let old = small(&name).lifetime(Lifetime::Owned).create().unwrap();
    old.unlink().unwrap();
    let new = small(&name).create().unwrap();
    drop(old);
    assert!(new.is_current());
}

#[test]
fn a_ring_that_is_unlinked_and_made_again_is_noticed_and_not_mixed_up() {
    let name = Name::new();
    let old = small(&name).create().unwrap();
    let (mut to_old, mut from_old) = (old.sender().unwrap(), old.receiver().unwrap());
    assert!(old.is_current());
    old.unlink().unwrap();
    assert!(!old.is_current());
    assert_not_found(old.unlink());

    let new = small(&name).open_or_create().unwrap();
    assert_ne!(new.info().instance, old.info().instance);
    assert!(new.is_current() && !old.is_current());
    assert_not_found(old.unlink());
    assert!(new.is_current(), "the old ring has left the new one alone");

    let (mut to_new, mut from_new) = (new.sender().unwrap(), new.receiver().unwrap());
    to_old.send(b"old").unwrap();
    to_new.send(b"new").unwrap();
    assert_eq!(from_old.recv().unwrap().to_vec(), b"old");
    assert_eq!(from_new.recv().unwrap().to_vec(), b"new");

    builder(&*name).unlink().unwrap();
    assert!(!new.is_current());
    assert_not_found(builder(&*name).unlink());
}

// Several who make it.

const RACERS: usize = 8;
const RACES: usize = 20;

/// At each start: makes or opens the ring, and says which one it got and whose.
fn race(name: &str, line: &Line) {
    while line.next().is_some() {
        let ring = small(name).open_or_create().unwrap();
        line.tell(ring.info().instance);
        line.tell(ring.info().creator.into());
    }
}

#[test]
fn of_eight_processes_that_make_a_ring_at_once_one_does_and_all_have_it() {
    let name = Name::new();
    let racers: Vec<_> = (0..RACERS).map(|_| Child::start(&format!("race {}", &*name))).collect();
    for _ in 0..RACES {
        racers.iter().for_each(|racer| racer.tell(0));
        let got: Vec<_> = racers.iter().map(|racer| (racer.hear(), racer.hear())).collect();
        let ring = builder(&*name).open().unwrap();
        ring.unlink().unwrap();
        let made = (ring.info().instance, u64::from(ring.info().creator));
        assert_eq!(got, [made; RACERS]);
        assert!(racers.iter().any(|racer| u64::from(racer.id()) == made.1));
    }
}

/// Makes the ring and takes it away, again and again. Says once that it began.
fn flicker(name: &str, line: &Line) {
    for turn in 0u64.. {
        let ring = small(name).create().unwrap();
        if turn == 0 {
            line.tell(turn);
        }
        ring.unlink().unwrap();
    }
}

/// Opens the ring until it has been there, whole and new, often enough.
fn look(name: &str) {
    let mut seen = 0;
    while seen < 200 {
        match builder(name).open() {
            Ok(ring) => {
                let info = ring.info();
                assert_eq!((info.capacity, info.longest_message, info.many_senders), (4096, 4080, None));
                assert_eq!(ring.statistics().sent(), 0);
                seen += 1;
            }
            Err(error) => assert_not_found::<()>(Err(error)),
        }
    }
}

#[test]
fn nobody_ever_sees_a_ring_that_is_not_whole() {
    let name = Name::new();
    let flicker = Child::start(&format!("flicker {}", &*name));
    flicker.hear();
    let lookers = [(); 3].map(|()| Child::start(&format!("look {}", &*name)));
    lookers.into_iter().for_each(Child::finish);
}

#[test]
fn a_maker_that_is_killed_anywhere_leaves_a_whole_ring_or_none() {
    let name = Name::new();
    for turn in 0..30u64 {
        let mut maker = Child::start(&format!("flicker {}", &*name));
        maker.hear();
        for _ in 0..turn * 1000 {
            std::hint::spin_loop();
        }
        maker.kill();
        match small(&name).open() {
            Ok(ring) => {
                assert_eq!(ring.info().creator, maker.id());
                let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
                sender.send(b"whole").unwrap();
                assert_eq!(receiver.recv().unwrap().to_vec(), b"whole");
                ring.unlink().unwrap();
            }
            Err(error) => assert_not_found::<()>(Err(error)),
        }
    }
}

// Fork and exec.

#[test]
fn a_forked_child_that_drops_the_handles_closes_nothing_and_unlinks_nothing() {
    let name = Name::new();
    let ring = small(&name).lifetime(Lifetime::Owned).create().unwrap();
    let mut handles = Some((ring.clone(), ring.sender().unwrap(), ring.receiver().unwrap()));
    let mut ring = Some(ring);
    assert_in_fork(|| {
        let (copy, mut sender, mut receiver) = handles.take().unwrap();
        assert_eq!(sender.try_send(b"from the child"), Err(SendError::Forked));
        assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Forked);
        drop((sender, receiver, copy, ring.take()));
        true
    });

    let (ring, mut sender, mut receiver) = handles.take().unwrap();
    assert!(ring.is_current());
    let statistics = ring.statistics();
    assert!(statistics.receiver.attached && statistics.senders[0].attached);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty, "its sender has not closed");
    assert!(!sender.is_disconnected());
    sender.send(b"from the parent").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"from the parent");
}

#[test]
fn a_forked_child_that_drops_a_reservation_does_not_discard_it() {
    for many in [false, true] {
        let name = Name::new();
        let ring = if many { small(&name).many_senders(1).create() } else { small(&name).create() }.unwrap();
        if many {
            survive_fork(&ring, ring.multi_sender().unwrap());
        } else {
            survive_fork(&ring, ring.sender().unwrap());
        }
    }
}

fn survive_fork<K: SenderKind>(ring: &Ring, mut sender: Sender<Untrusted, K>) {
    let mut receiver = ring.receiver().unwrap();
    let mut held = Some(sender.reserve(4).unwrap());
    assert_in_fork(|| {
        drop(held.take());
        true
    });
    let mut reservation = held.unwrap();
    reservation.write_at(0, b"kept");
    reservation.commit();
    sender.send(b"next").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"kept");
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"next");
}

#[test]
fn a_forked_child_attaches_anew() {
    let name = Name::new();
    let ring = small(&name).many_senders(2).create().unwrap();
    let (mut sender, mut receiver) = (ring.multi_sender().unwrap(), ring.receiver().unwrap());
    assert_in_fork(|| {
        assert_eq!(sender.send(b"with the parent's handle"), Err(SendError::Forked));
        ring.multi_sender().unwrap().send(b"from the child").unwrap();
        true
    });
    sender.send(b"from the parent").unwrap();
    for expected in ["from the child", "from the parent"] {
        assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), expected.as_bytes());
    }
}

/// How many descriptors of this process are of the ring.
fn descriptors_of(name: &str) -> u64 {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().contains(name)).count() as u64
}

#[test]
fn a_program_that_is_started_inherits_no_ring_that_was_not_meant_for_it() {
    let name = Name::new();
    // The name is part of what a memfd is called, too.
    let ring = small(&name).create().unwrap();
    let unnamed = small(&name).memfd().unwrap();
    let opened = small(&name).open().unwrap();
    let _handles = (ring.sender().unwrap(), unnamed.receiver().unwrap(), opened.receiver().unwrap());
    assert!(descriptors_of(&name) > 0);
    let descriptors = || {
        let child = Child::start(&format!("descriptors {}", &*name));
        let count = child.hear();
        child.finish();
        count
    };
    assert_eq!(descriptors(), 0);
    let meant = unnamed.inheritable_fd().unwrap();
    assert_eq!(descriptors(), 1);
    drop(meant);
}

#[test]
fn a_forked_child_that_drops_a_message_does_not_release_it() {
    let name = Name::new();
    let ring = small(&name).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"held").unwrap();
    let mut held = Some(receiver.recv().unwrap());
    assert_in_fork(|| {
        drop(held.take());
        true
    });
    assert_eq!(ring.statistics().pending_messages(), 1, "the child has released the parent's message");
    drop(held);
    sender.send(b"next").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"next");
}

#[test]
fn a_forked_child_that_drops_a_batch_of_messages_releases_none() {
    let name = Name::new();
    let ring = small(&name).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"first").unwrap();
    sender.send(b"second").unwrap();
    let mut held = Some(receiver.recv_many(2).unwrap());
    assert_eq!(held.as_ref().unwrap().iter().count(), 2);
    assert_in_fork(|| {
        drop(held.take());
        true
    });
    assert_eq!(ring.statistics().pending_messages(), 2, "the child has released the parent's messages");
    drop(held);
    assert_eq!(ring.statistics().pending_messages(), 0);
}

#[test]
fn a_forked_child_that_commits_its_parents_reservation_publishes_nothing() {
    let name = Name::new();
    let ring = small(&name).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut held = Some(sender.reserve(4).unwrap());
    assert_in_fork(|| {
        let _ = held.take().map(|reservation| reservation.commit());
        true
    });
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty, "the child has published it");
}

#[test]
fn a_forked_child_that_asks_whether_the_ring_is_empty_releases_nothing() {
    let name = Name::new();
    let ring = small(&name).many_senders(1).create().unwrap();
    let (mut sender, mut receiver) = (ring.multi_sender().unwrap(), ring.receiver().unwrap());
    drop(sender.reserve(4).unwrap());
    let position = || {
        let mut word = [0; 8];
        fs::File::open(name.path()).unwrap().read_exact_at(&mut word, 4096).unwrap();
        u64::from_ne_bytes(word)
    };
    assert_in_fork(|| {
        let _ = receiver.is_empty();
        true
    });
    assert_eq!(position(), 0, "the child has moved the receiver's position");
    assert!(receiver.is_empty());
}
