//! Whoever does not come to terms: who wants another direction, says nonsense, passes memory that will not do, or dies in
//! between. The other side says what was wrong, and goes on.

use super::{
    Door, FAR, Line, Place, exchange,
    raw::{
        FIRST, HELLO, JOIN, OFFER, Raw, RawListener, SEALS, SENDS, WELCOME, hollow, memory, message,
        own_half, sealed,
    },
};
use ringpost::{Duplex, LinkError, OpenError, RecvError, SegmentError};
use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread,
};

/// In a HELLO: I receive.
const RECEIVES: u32 = 4;
const BOTH: u32 = SENDS | RECEIVES;

/// The header of the ring that was offered.
fn header(half: &OwnedFd) -> [u8; 128] {
    let mut header = [0; 128];
    rustix::io::pread(half, &mut header, 0).unwrap();
    header
}

fn half_with(header: &[u8; 128], length: u64) -> OwnedFd {
    let half = memory(length);
    rustix::io::pwrite(&half, header, 0).unwrap();
    sealed(half, SEALS)
}

/// A client that sends and may yet receive, with the header of the ring that it sends on.
fn halfway(path: &Path) -> (Raw, [u8; 128]) {
    let raw = Raw::connect(path);
    raw.say(&message(HELLO, BOTH), &[]);
    let header = header(&raw.hear().1.pop().unwrap());
    raw.say(&message(JOIN, 0), &[own_half().0.as_fd()]);
    assert_eq!(raw.hear().0, message(WELCOME, 0));
    (raw, header)
}

/// A client that goes up to a step, says so, and waits to be killed.
pub fn connect_up_to(step: &str, path: &Path, line: &Line) {
    let raw = match step {
        "connect" => Raw::connect(path),
        "hello" => {
            let raw = Raw::connect(path);
            raw.say(&message(HELLO, BOTH), &[]);
            raw
        }
        "offered" => {
            let raw = Raw::connect(path);
            raw.say(&message(HELLO, BOTH), &[]);
            raw.hear();
            raw
        }
        "welcomed" => halfway(path).0,
        _ => {
            let (raw, header) = halfway(path);
            raw.say(&message(OFFER, 0), &[half_with(&header, FIRST).as_fd()]);
            assert_eq!(raw.hear().1.len(), 1);
            if step == "done" {
                raw.say(&message(WELCOME, 0), &[]);
                assert_eq!(raw.hear().0, message(WELCOME, 0));
            }
            raw
        }
    };
    line.tell(0);
    line.hear();
    drop(raw);
}

/// A listener that goes up to a step, says so, and waits to be killed.
pub fn listen_up_to(step: &str, path: &Path, line: &Line) {
    let listener = RawListener::at(path);
    line.tell(0);
    let raw = listener.accept();
    raw.hear();
    if step != "hello" {
        let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
        let mut head = [0; 128];
        rustix::io::pread(ring.fd().unwrap(), &mut head, 0).unwrap();
        raw.say(&message(OFFER, 0), &[half_with(&head, FIRST).as_fd()]);
        raw.hear();
    }
    if step == "welcomed" || step == "joined" {
        raw.say(&message(WELCOME, 0), &[]);
        let offered = header(&raw.hear().1.pop().unwrap());
        if step == "joined" {
            raw.say(&message(JOIN, 0), &[own_half().0.as_fd()]);
            assert_eq!((raw.hear().0, offered.len()), (message(WELCOME, 0), 128));
        }
    }
    line.tell(0);
    line.hear();
}

/// The next one gets its link.
#[track_caller]
fn goes_on(listener: &Door, place: &Place) {
    let path = place.to_path_buf();
    let other = thread::spawn(move || exchange(ringpost::connect_duplex(path).unwrap(), 10));
    exchange(listener.accept_duplex().unwrap(), 10);
    other.join().unwrap();
}

/// How the listener fares with what `client` does, which holds its end so long.
fn fares<T>(listener: &Door, place: &Place, client: impl FnOnce() -> T + Send) -> OpenError
where
    T: Send,
{
    let refused: Result<Duplex, OpenError> = thread::scope(|scope| {
        let client = scope.spawn(client);
        let accepted = listener.accept_duplex();
        drop(client.join().unwrap());
        accepted
    });
    goes_on(listener, place);
    refused.expect_err("it was accepted")
}

#[test]
fn a_client_of_the_other_kind_is_told_which_call_is_right() {
    let place = Place::new();
    let listener = place.listen();
    let asks = |error: &OpenError| error.to_string().contains("`accept_duplex`");
    let one_way = thread::scope(|scope| {
        let client = scope.spawn(|| ringpost::connect(&*place).unwrap_err());
        let accepted = listener.accept_duplex().unwrap_err();
        assert!(matches!(accepted, OpenError::Link(LinkError::OneWay)) && asks(&accepted), "{accepted}");
        client.join().unwrap()
    });
    assert!(matches!(one_way, OpenError::Link(LinkError::BothWays)) && asks(&one_way), "{one_way}");
    let both_ways = thread::scope(|scope| {
        let client = scope.spawn(|| ringpost::connect_duplex(&*place).unwrap_err());
        let accepted = listener.accept().unwrap_err();
        assert!(matches!(accepted, OpenError::Link(LinkError::BothWays)) && asks(&accepted), "{accepted}");
        client.join().unwrap()
    });
    assert!(matches!(both_ways, OpenError::Link(LinkError::OneWay)) && asks(&both_ways), "{both_ways}");
    goes_on(&listener, &place);
}

#[test]
fn who_is_not_allowed_is_refused() {
    let place = Place::new();
    let listener = place.listen();
    thread::scope(|scope| {
        let client = scope.spawn(|| ringpost::connect_duplex(&*place).unwrap_err());
        let refused = listener.reached().accept_duplex_if(|peer| peer.pid != std::process::id()).unwrap_err();
        assert!(matches!(refused, OpenError::Link(LinkError::NotAccepted { .. })), "{refused}");
        let told = client.join().unwrap();
        assert!(matches!(told, OpenError::Link(LinkError::Refused { .. })), "{told}");
    });
    goes_on(&listener, &place);
}

#[test]
fn what_the_builders_say_must_agree_on_both_rings() {
    let place = Place::new();
    let listener =
        place.listen_with(ringpost::unnamed().capacity(4096).fixed::<u64>().handshake_timeout(FAR));
    thread::scope(|scope| {
        let client = scope.spawn(|| ringpost::unnamed().capacity(8192).connect_duplex(&*place).unwrap_err());
        listener.accept_duplex().unwrap_err();
        let told = client.join().unwrap();
        assert!(matches!(told, OpenError::Mismatch { .. }), "{told}");
    });
    let path = listener.path().to_path_buf();
    let client = thread::spawn(move || ringpost::connect_duplex(path).unwrap());
    let here = listener.accept_duplex().unwrap();
    let there = client.join().unwrap();
    let mut sender = here.sender.typed::<u64>().unwrap();
    let mut receiver = there.receiver.typed::<u64>().unwrap();
    sender.send(&77).unwrap();
    assert_eq!(receiver.recv().unwrap(), 77);
    assert!(there.sender.typed::<u32>().is_err(), "the ring back has the same type");
}

#[test]
fn nonsense_after_the_first_ring_is_refused_and_the_next_client_is_not() {
    let place = Place::new();
    let listener = place.listen();
    let says = |bytes: &[u8], fds: Vec<OwnedFd>| {
        fares(&listener, &place, || {
            let (raw, _) = halfway(&place);
            raw.say(bytes, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
            raw.hear();
            raw
        })
    };
    let malformed = |error| matches!(error, OpenError::Link(LinkError::Malformed { .. }));
    assert!(malformed(says(b"R", vec![])));
    assert!(malformed(says(&[0xff; 32], vec![])));
    assert!(malformed(says(&message(HELLO, BOTH), vec![])));
    assert!(malformed(says(&message(JOIN, 0), vec![own_half().0])));
    assert!(malformed(says(&message(OFFER, 0), vec![])), "no descriptor");
    assert!(malformed(says(&message(OFFER, 0), vec![memory(FIRST), memory(FIRST)])), "two");
    let refused = says(&message(5, 4), vec![]);
    assert!(matches!(refused, OpenError::Link(LinkError::Refused { .. })), "{refused}");
    let segment = |error| match error {
        OpenError::Segment(error) => error,
        other => panic!("{other}"),
    };
    let unsealed = segment(says(&message(OFFER, 0), vec![memory(FIRST)]));
    assert!(matches!(unsealed, SegmentError::NotSealed { .. }), "{unsealed}");
    let hollow = segment(says(&message(OFFER, 0), vec![sealed(hollow(FIRST), SEALS)]));
    assert!(matches!(hollow, SegmentError::Holes { .. }), "{hollow}");
    let no_ring = says(&message(OFFER, 0), vec![sealed(memory(FIRST), SEALS)]);
    assert!(matches!(no_ring, OpenError::NotARing { .. }), "{no_ring}");
}

#[test]
fn a_ring_back_that_is_larger_than_the_one_there_is_refused() {
    let place = Place::new();
    // It says nothing of the capacity, and would believe the other side.
    let listener = place.listen_with(ringpost::unnamed().handshake_timeout(FAR));
    let refused = fares(&listener, &place, || {
        let ring = ringpost::unnamed().capacity(1 << 30).memfd().unwrap();
        let mut large = [0; 128];
        rustix::io::pread(ring.fd().unwrap(), &mut large, 0).unwrap();
        let raw = Raw::connect(&place);
        raw.say(&message(HELLO, BOTH), &[]);
        raw.hear();
        let half = sealed(memory(4096 + (4 << 20)), SEALS);
        raw.say(&message(JOIN, 0), &[half.as_fd()]);
        assert_eq!(raw.hear().0, message(WELCOME, 0));
        raw.say(&message(OFFER, 0), &[half_with(&large, FIRST).as_fd()]);
        assert!(raw.hear().1.is_empty(), "no memory was made");
        raw
    });
    assert!(matches!(refused, OpenError::Mismatch { .. }), "{refused}");
}

#[test]
fn a_client_that_dies_in_between_is_noticed_and_the_next_one_gets_its_link() {
    for step in ["connect", "hello", "offered", "welcomed", "joined"] {
        let place = Place::new();
        let listener = place.listen();
        let gone = fares(&listener, &place, || {
            let mut child = place.child("die-after", step);
            child.hear();
            child.kill();
        });
        assert!(matches!(gone, OpenError::Link(LinkError::HungUp { .. })), "{step}: {gone}");
    }
    // From its welcome on it is the rings that tell.
    let place = Place::new();
    let listener = place.listen();
    let mut child = place.child("die-after", "done");
    let mut duplex = listener.accept_duplex().unwrap();
    child.hear();
    let pid = child.id();
    child.kill();
    assert_eq!(duplex.recv_timeout(FAR).unwrap_err(), RecvError::PeerDied { pid, unfinished: 0 });
}

#[test]
fn a_client_that_is_silent_in_between_is_given_up_after_the_deadline() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().capacity(4096));
    let silent = fares(&listener, &place, || halfway(&place));
    assert!(matches!(silent, OpenError::Link(LinkError::TimedOut { .. })), "{silent}");
}

#[test]
fn who_has_connected_was_not_given_up() {
    let rounds = if super::common::long() { 20_000 } else { 300 };
    let mut counts = [0, 0];
    for round in 0..rounds {
        let place = Place::new();
        // Sometimes enough, and sometimes not: so it is given up at each step.
        let patience = std::time::Duration::from_micros(100 + 50 * (round % 40));
        let builder = ringpost::unnamed().capacity(4096).handshake_timeout(patience);
        let listener = place.listen_with(builder);
        let accepting = thread::spawn(move || listener.accept_duplex());
        let connected = ringpost::connect_duplex(&*place);
        counts[usize::from(connected.is_ok())] += 1;
        let accepted = accepting.join().unwrap();
        match (connected, accepted) {
            (Ok(mut here), Ok(mut there)) => {
                here.send(b"are you there?").unwrap();
                assert_eq!(there.recv_timeout(FAR).unwrap().to_vec(), b"are you there?");
            }
            (Ok(_), Err(error)) => panic!("round {round}: a link to nobody: {error}"),
            (Err(OpenError::Link(LinkError::TooSlow)), Err(error)) => {
                assert!(matches!(error, OpenError::Link(LinkError::TimedOut { .. })), "{error}");
            }
            (Err(error), accepted) => panic!("round {round}: {error}, {accepted:?}"),
        }
    }
    eprintln!("{counts:?} given up, connected");
}

#[test]
fn a_listener_that_dies_in_between_is_noticed() {
    for step in ["hello", "offered", "welcomed", "joined"] {
        let place = Place::new();
        let mut child = place.child("listen-up-to", step);
        child.hear();
        let path = place.to_path_buf();
        let connecting =
            thread::spawn(move || ringpost::unnamed().handshake_timeout(FAR).connect_duplex(path));
        child.hear();
        child.kill();
        let gone = connecting.join().unwrap().unwrap_err();
        assert!(matches!(gone, OpenError::Link(LinkError::HungUp { .. })), "{step}: {gone}");
    }
}

#[test]
fn who_is_silent_holds_up_nobody_when_each_is_greeted_by_itself() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().handshake_timeout(FAR));
    let silent = Raw::connect(&place);
    let first = listener.incoming().unwrap();
    let path = place.to_path_buf();
    let connecting =
        thread::spawn(move || ringpost::unnamed().handshake_timeout(FAR).connect_duplex(path).unwrap());
    let mut ours = listener.incoming().unwrap().accept_duplex().unwrap();
    let mut theirs = connecting.join().unwrap();
    theirs.send(b"hi").unwrap();
    assert_eq!(ours.recv().unwrap().to_vec(), b"hi");
    drop(first);
    assert!(silent.hear().0.is_empty(), "nobody wants it");
    let one_way = Raw::connect(&place);
    one_way.say(&message(HELLO, SENDS), &[]);
    let error = listener.incoming().unwrap().accept_duplex().unwrap_err();
    assert!(matches!(error, OpenError::Link(LinkError::OneWay)), "{error}");
}

#[test]
fn one_sender_is_what_each_direction_of_a_link_has_also_when_that_is_said() {
    let place = Place::new();
    let listener =
        place.listen_with(ringpost::unnamed().capacity(4096).many_senders(1).handshake_timeout(FAR));
    goes_on(&listener, &place);
}
