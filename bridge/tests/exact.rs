//! What `out` makes of each answer of a broker. The broker is a script here, in a thread of the test: a real one does not
//! withhold answers, or give the rare ones, when it should.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use common::{World, eventually, message};

#[test]
fn child_process() {
    common::play_role();
}

const CONNECTED: [u8; 5] = [0x20, 3, 0, 0, 0];
const SUCCESS: u8 = 0x00;
const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
const NOT_AUTHORIZED: u8 = 0x87;
const SESSION_TAKEN_OVER: u8 = 0x8e;

/// A connection of a bridge.
struct Visit(TcpStream);

impl Visit {
    /// The next one, answered like this.
    fn accept(listener: &TcpListener, answer: &[u8]) -> Self {
        listener.set_nonblocking(true).unwrap();
        let (stream, _) = eventually(|| listener.accept().ok());
        let mut visit = Self(stream);
        assert_eq!(visit.packet().0 >> 4, 1, "it connects first");
        visit.0.write_all(answer).unwrap();
        visit
    }

    /// The next packet: its first byte, and what comes behind its length.
    fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut byte = || {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            byte[0]
        };
        let first = byte();
        let (mut length, mut shift) = (0, 0);
        loop {
            let part = byte();
            length |= usize::from(part & 0x7f) << shift;
            shift += 7;
            if part < 0x80 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (first, body)
    }

    /// The next message: its packet number and its bytes.
    fn message(&mut self) -> ([u8; 2], Vec<u8>) {
        let (first, body) = self.packet();
        assert_eq!((first >> 4, (first >> 1) & 3), (3, 1), "it publishes, with quality 1");
        let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
        assert_eq!(topic, b"test/messages");
        // Properties of less than 128 bytes.
        ([rest[0], rest[1]], rest[3 + usize::from(rest[2])..].to_vec())
    }

    /// Takes the messages with these numbers, in this order, and gives their packet numbers.
    #[track_caller]
    fn messages(&mut self, numbers: std::ops::Range<u64>) -> Vec<[u8; 2]> {
        let take = |number| {
            let (packet, bytes) = self.message();
            assert!(bytes == message(number), "message {number}");
            packet
        };
        numbers.map(take).collect()
    }

    fn answer(&mut self, packet: [u8; 2], reason: u8) {
        self.0.write_all(&[0x40, 3, packet[0], packet[1], reason]).unwrap();
    }
}

#[test]
fn what_was_not_acknowledged_with_all_before_it_is_published_again() {
    let world = World::new();
    let listener = TcpListener::bind(world.broker_address()).unwrap();
    let ring = world.ring_a("here").create().unwrap();
    let mut sender = ring.sender().unwrap();
    (0..8).for_each(|number| sender.send(&message(number)).unwrap());
    drop(sender);
    let mut outward = world.out("--ring here");

    let mut first = Visit::accept(&listener, &CONNECTED);
    let packets = first.messages(0..8);
    for number in [1, 0, 2, 5] {
        first.answer(packets[number], SUCCESS);
    }
    drop(first);

    // 5 was acknowledged, but 3 and 4 before it were not.
    let mut second = Visit::accept(&listener, &CONNECTED);
    let packets = second.messages(3..8);
    second.answer(packets[0], SUCCESS);
    second.answer(packets[1], NO_MATCHING_SUBSCRIBERS);

    // Nobody has subscribed: it goes away, and comes back with that message.
    let mut third = Visit::accept(&listener, &CONNECTED);
    for packet in third.messages(4..8) {
        third.answer(packet, SUCCESS);
    }
    assert_eq!(third.packet().0, 0xe0, "it takes its leave");
    assert!(outward.ended_with(0).contains("nobody has subscribed"));
    assert!(ring.receiver().unwrap().is_empty());
}

#[test]
fn a_bridge_that_is_killed_leaves_what_was_not_acknowledged() {
    let world = World::new();
    let listener = TcpListener::bind(world.broker_address()).unwrap();
    let ring = world.ring_a("here").create().unwrap();
    let mut sender = ring.sender().unwrap();
    (0..8).for_each(|number| sender.send(&message(number)).unwrap());
    let mut outward = world.out("--ring here");
    Visit::accept(&listener, &CONNECTED).messages(0..8);
    outward.kill();
    let mut receiver = ring.receiver().unwrap();
    (0..8).for_each(|number| assert_eq!(receiver.recv().unwrap().to_vec(), message(number)));
}

#[test]
fn what_is_longer_than_the_broker_says_is_not_sent_and_stays_in_the_mailbox() {
    let world = World::new();
    let listener = TcpListener::bind(world.broker_address()).unwrap();
    let ring = world.ring_a("here").mailbox(16).longest_message(1 << 16).create().unwrap();
    let mut mailbox = ring.mailbox().unwrap();
    for number in 48..51 {
        mailbox.send(0, &message(number)).unwrap();
    }
    let mut outward = world.out("--mailbox here");
    // Its maximum packet size is 5,000 bytes.
    let mut visit = Visit::accept(&listener, &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0x13, 0x88]);
    for packet in visit.messages(48..49) {
        visit.answer(packet, SUCCESS);
    }
    let complaint = outward.ended_with(1);
    // Six bytes of fixed header and packet number, fifteen of topic, and one that says that there are no properties.
    let longest = 5_000 - 22;
    assert!(complaint.contains(&format!("takes up to {longest}")), "{complaint}");
    for number in 49..51 {
        let letter = mailbox.try_recv(ringpost::Pick::Any).unwrap();
        assert_eq!((letter.to_vec(), letter.tries()), (message(number), 1));
    }
}

#[test]
fn what_the_broker_refuses_for_good_ends_the_bridge() {
    let world = World::new();
    let listener = TcpListener::bind(world.broker_address()).unwrap();
    let ring = world.ring_a("here").create().unwrap();
    let mut sender = ring.sender().unwrap();
    sender.send(&message(0)).unwrap();

    let mut outward = world.out("--ring here");
    let _refused = Visit::accept(&listener, &[0x20, 3, 0, NOT_AUTHORIZED, 0]);
    assert!(outward.ended_with(1).contains("NotAuthorized"));

    let mut outward = world.out("--ring here");
    let mut visit = Visit::accept(&listener, &CONNECTED);
    let packet = visit.messages(0..1)[0];
    visit.answer(packet, NOT_AUTHORIZED);
    assert!(outward.ended_with(1).contains("NotAuthorized"));

    let mut outward = world.out("--ring here");
    let mut visit = Visit::accept(&listener, &CONNECTED);
    visit.messages(0..1);
    visit.0.write_all(&[0xe0, 2, SESSION_TAKEN_OVER, 0]).unwrap();
    assert!(outward.ended_with(1).contains("SessionTakenOver"));
    assert_eq!(ring.receiver().unwrap().recv().unwrap().to_vec(), message(0));
}
