//! Who may attach, alone or with others; a forked child may not.

use super::*;

#[test]
fn a_forked_child_takes_nothing_away_and_keeps_nobody_out() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sent = mailbox.send(1, &letter(1, 0)).unwrap();
    assert_in_fork(|| !mailbox.delete(&sent) && mailbox.receive_alone() == Err(RecvError::Forked));
    assert_eq!(mailbox.fate(&sent), Fate::Waiting);
    assert_eq!(number(&shared.ring.mailbox().unwrap().recv(Pick::Any).unwrap()), 0);
}

#[test]
fn one_alone_receives_until_it_dies() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let mut alone = child_at(&shared, "alone", "");
    assert_eq!(alone.hear(), 0);
    send(&mut mailbox, 0);
    let refused = RecvError::NotTheReceiver { pid: alone.id() };
    assert_eq!(mailbox.recv(Pick::Any).unwrap_err(), refused);
    assert_eq!(mailbox.receive_alone().unwrap_err(), refused);
    alone.kill();
    while mailbox.try_recv(Pick::Any).is_err_and(|error| error == refused) {
        thread::yield_now();
    }
    mailbox.receive_alone().unwrap();
    let mut other = shared.ring.mailbox().unwrap();
    let refused = RecvError::NotTheReceiver { pid: std::process::id() };
    assert_eq!(other.try_recv(Pick::Any).unwrap_err(), refused);
    drop(mailbox);
    assert_eq!(other.try_recv(Pick::Any).unwrap_err(), RecvError::Empty);
}

#[test]
fn a_private_mailbox_has_two_seats_and_that_of_a_dead_one_is_free() {
    let shared = office(8, |builder| builder.seats(2));
    let _own = shared.ring.mailbox().unwrap();
    let mut other = child_at(&shared, "alone", "");
    assert_eq!(other.hear(), 0);
    assert!(matches!(shared.ring.mailbox().unwrap_err(), OpenError::TooManySeats { most: 2 }));
    other.kill();
    drop(shared.ring.mailbox().unwrap());
}

#[test]
fn a_mailbox_and_a_ring_are_not_taken_for_each_other() {
    let shared = office(8, |builder| builder);
    let wrong = |error: Option<OpenError>| matches!(error, Some(OpenError::Mismatch { .. }));
    let ring = &shared.ring;
    assert!(wrong(ring.sender().err()) && wrong(ring.multi_sender().err()) && wrong(ring.receiver().err()));
    assert!(wrong(ring.publisher().err()) && wrong(ring.subscriber().err()));
    let watcher = ring.watcher(ringpost::Start::Now).unwrap_err();
    assert!(watcher.to_string().contains("the ring has a mailbox"), "{watcher}");
    let plain = ringpost::unnamed().memfd().unwrap();
    assert!(wrong(plain.mailbox().err()));
    for (error, expected) in [
        (ringpost::unnamed().mailbox(0).memfd(), "number of messages"),
        (ringpost::unnamed().mailbox(65_537).memfd(), "number of messages"),
        (ringpost::unnamed().mailbox(8).priorities(33).memfd(), "number of priorities"),
        (ringpost::unnamed().mailbox(8).seats(64).memfd(), "number of seats"),
        (ringpost::unnamed().mailbox(8).capacity(4096).memfd(), "capacity"),
        (ringpost::unnamed().mailbox(8).broadcast(1).memfd(), "readers"),
        (ringpost::unnamed().mailbox(8).rendezvous().memfd(), "no buffer"),
        (ringpost::unnamed().mailbox(8).elastic(1 << 20).memfd(), "ceiling"),
        (ringpost::unnamed().priorities(2).memfd(), "priorities of a ring that is no mailbox"),
        (ringpost::unnamed().many_senders(2).seats(2).memfd(), "seats of a ring that is no mailbox"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_forked_child_leaves_its_parents_mailbox_alone() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    send(&mut mailbox, 0);
    let mut held = Some(mailbox.recv(Pick::Any).unwrap());
    assert_in_fork(|| {
        let refused = mailbox.try_send(1, b"").err() == Some(SendError::Forked)
            && mailbox.try_recv(Pick::Any).err() == Some(RecvError::Forked);
        drop(held.take());
        refused
    });
    assert_eq!((number(held.as_ref().unwrap()), mailbox.occupancy().held), (0, 1));
}
