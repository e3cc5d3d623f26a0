//! The public interface, call by call: what each promises beyond moving bytes, which `processes.rs` shows.

mod common;
#[path = "api/cost.rs"]
mod cost;
#[path = "api/waiting.rs"]
mod waiting;

use common::{
    FAR,
    rings::{Attach, Shared, Way, child_at, open},
};
use ringpost::{
    Batch, Builder, Many, Message, Messages, MultiSender, OpenError, OwnedMessage, Receiver, RecvError,
    Reservation, Ring, SegmentError, SendError, Sender, Single, Trust, Trusted, TypedReceiver, TypedSender,
    Untrusted, record_size,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Display,
    io, mem,
    ops::{Deref, DerefMut},
    thread,
    time::{Duration, Instant},
};
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

assert_impl_all!(Sender: Send);
assert_not_impl_any!(Sender: Sync, Clone);
assert_impl_all!(Sender<Trusted>: Send);
assert_not_impl_any!(Sender<Trusted>: Sync, Clone);
assert_impl_all!(MultiSender: Send, Clone);
assert_not_impl_any!(MultiSender: Sync);
assert_impl_all!(Receiver: Send, IntoIterator);
assert_not_impl_any!(Receiver: Sync, Clone);
assert_impl_all!(Receiver<Trusted>: Send);
assert_not_impl_any!(Receiver<Trusted>: Sync, Clone);
assert_impl_all!(TypedSender<u64>: Send);
assert_not_impl_any!(TypedSender<u64>: Sync, Clone);
assert_impl_all!(TypedReceiver<u64>: Send);
assert_not_impl_any!(TypedReceiver<u64>: Sync, Clone);
assert_impl_all!(Ring: Send, Sync, Clone);
assert_impl_all!(Ring<Trusted>: Send, Sync, Clone);
assert_impl_all!(Builder: Send, Sync, Clone);
assert_impl_all!(OwnedMessage: Send, Sync, Clone);
assert_not_impl_any!(Message<'static>: Clone, Sync);
assert_not_impl_any!(Messages<'static>: Clone, Sync);
assert_not_impl_any!(Reservation<'static>: Clone, Sync);
assert_not_impl_any!(Batch<'static>: Clone, Sync);
assert_impl_all!(OpenError: Error, Send, Sync, Display, Into<io::Error>);
assert_impl_all!(SendError: Error, Send, Sync, Display, Copy, Into<io::Error>);
assert_impl_all!(RecvError: Error, Send, Sync, Display, Copy, Into<io::Error>);

// Bytes in place are a slice only where all peers are trusted.
assert_impl_all!(Message<'static, Trusted>: Deref);
assert_not_impl_any!(Message<'static, Untrusted>: Deref);
assert_impl_all!(Reservation<'static, Trusted>: DerefMut);
assert_not_impl_any!(Reservation<'static, Untrusted>: Deref);

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["alone", ring, "one"] => cost::stream_alone::<Single>(&open(ring, &line)),
        ["alone", ring, _] => cost::stream_alone::<Many>(&open(ring, &line)),
        ["stream", ring, "one"] => cost::send_sealed::<Single>(&open(ring, &line), &line),
        ["stream", ring, _] => cost::send_sealed::<Many>(&open(ring, &line), &line),
        ["take", ring] => cost::take_sealed(&open(ring, &line), &line),
        ["forbidden"] => cost::break_the_seal(),
        ["listen", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            line.tell(0);
            assert_eq!(receiver.recv().unwrap().to_vec(), b"at last");
        }
        ["name-yourself", ring] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            for _ in 0..100 {
                sender.send(&std::process::id().to_ne_bytes()).unwrap();
            }
            line.tell(0);
            line.hear();
        }
        ["sign", ring] => {
            open(ring, &line).sender().unwrap().send(&std::process::id().to_ne_bytes()).unwrap();
        }
        _ => panic!("unknown role {words:?}"),
    });
}

/// Polls until it is so; panics when it never becomes so.
#[track_caller]
fn until(mut so: impl FnMut() -> bool) {
    let far = Instant::now() + FAR;
    while !so() {
        assert!(Instant::now() < far, "this never came about");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn every_error_speaks_and_has_a_kind_as_an_io_error() {
    fn check<E: Error + Send + Sync + Into<io::Error> + 'static>(error: E, kind: io::ErrorKind) {
        let text = error.to_string();
        assert!(!text.is_empty());
        let error = error.into();
        assert_eq!((error.kind(), error.to_string()), (kind, text));
        assert!(error.get_ref().unwrap().is::<E>(), "the error itself is still inside");
    }
    use io::ErrorKind::*;
    check(SendError::Full, WouldBlock);
    check(SendError::TimedOut, TimedOut);
    check(SendError::TooLong { length: 9, longest: 8 }, InvalidInput);
    check(SendError::Disconnected, BrokenPipe);
    check(SendError::PeerDied { pid: 1, unreceived: 8 }, BrokenPipe);
    check(SendError::TooManySenders { most: 2 }, ResourceBusy);
    check(SendError::Forked, Unsupported);
    check(RecvError::Empty, WouldBlock);
    check(RecvError::TimedOut, TimedOut);
    check(RecvError::Disconnected, UnexpectedEof);
    check(RecvError::PeerDied { pid: 1, unfinished: 24 }, ConnectionAborted);
    check(RecvError::BufferTooSmall { length: 9 }, InvalidInput);
    check(RecvError::NotAValue, InvalidData);
    check(RecvError::Corrupt { sequence: 0, length: 9 }, InvalidData);
    check(RecvError::Forked, Unsupported);
    check(OpenError::Name { name: "/".into(), why: "it has a slash" }, InvalidInput);
    check(OpenError::Setting { what: "capacity", given: 0, least: 1, most: 2 }, InvalidInput);
    check(OpenError::NotARing { why: "it is short" }, InvalidData);
    check(OpenError::Mismatch { what: "kind", found: "a".into(), expected: "b".into() }, InvalidData);
    check(OpenError::ReceiverAttached { pid: 1 }, ResourceBusy);
    check(OpenError::SenderAttached { pid: 1 }, ResourceBusy);
    check(OpenError::TooManySenders { most: 2 }, ResourceBusy);
    check(OpenError::Unsupported { what: "it" }, Unsupported);
    check(OpenError::Segment(SegmentError::NotFound { path: "/nowhere".into() }), NotFound);
}

#[test]
fn an_error_says_what_was_wrong_and_what_would_be_right() {
    let ring = ringpost::unnamed().capacity(4096).longest_message(100).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    let error = sender.send(&[0; 101]).unwrap_err();
    assert_eq!(error, SendError::TooLong { length: 101, longest: 100 });
    assert!(["101", "100"].iter().all(|number| error.to_string().contains(number)));
    let second = ring.sender().unwrap_err();
    assert!(matches!(second, OpenError::SenderAttached { pid } if pid == std::process::id()));
    let _receiver = ring.receiver().unwrap();
    let second = ring.receiver().unwrap_err();
    assert!(matches!(second, OpenError::ReceiverAttached { pid } if pid == std::process::id()));
    let wrong_kind = ring.multi_sender().unwrap_err().to_string();
    assert!(wrong_kind.contains("one sender") && wrong_kind.contains("many"), "{wrong_kind}");
}

// A message from its reservation to its release.

/// A small ring for one sender, both ends in this process.
fn pair() -> (Sender, Receiver) {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    (ring.sender().unwrap(), ring.receiver().unwrap())
}

fn received<P: Trust>(receiver: &mut Receiver<P>) -> Vec<Vec<u8>> {
    receiver.try_iter().map(|message| message.bytes).collect()
}

#[test]
fn a_reservation_can_be_shortened_and_never_lengthened() {
    let (mut sender, mut receiver) = pair();
    for (room, length, arrives) in [(100, 3, 3), (8, 0, 0), (5, 9, 5), (1000, 999, 999)] {
        let mut reservation = sender.reserve(room).unwrap();
        reservation.write_at(0, &vec![7; room]);
        reservation.truncate(length);
        assert_eq!((reservation.len(), reservation.is_empty()), (arrives, arrives == 0));
        reservation.commit();
        sender.send(b"behind").unwrap();
        assert_eq!(received(&mut receiver), [vec![7; arrives], b"behind".to_vec()]);
    }
}

#[test]
#[should_panic(expected = "3 bytes at 6 of 8")]
fn writing_behind_the_end_of_a_reservation_panics() {
    let (mut sender, _receiver) = pair();
    sender.reserve(8).unwrap().write_at(6, b"abc");
}

#[test]
#[should_panic(expected = "3 bytes at 6 of 8")]
fn reading_behind_the_end_of_a_message_panics() {
    let (mut sender, mut receiver) = pair();
    sender.send(&[0; 8]).unwrap();
    receiver.recv().unwrap().read_at(6, &mut [0; 3]);
}

#[test]
fn what_is_dropped_or_forgotten_never_arrives_and_costs_no_room() {
    fn check<K: Attach>(ring: &Ring) {
        let (mut sender, mut receiver) = (K::attach(ring).unwrap(), ring.receiver().unwrap());
        // Several times as much as the ring holds.
        for round in 0..50u8 {
            drop(sender.try_reserve(500).unwrap());
            mem::forget(sender.try_reserve(500).unwrap());
            let mut batch = sender.try_batch(500).unwrap();
            batch.push(0, b"dropped").unwrap();
            drop(batch);
            let mut batch = sender.try_batch(500).unwrap();
            batch.push(0, b"forgotten").unwrap();
            mem::forget(batch);
            sender.try_send(&[round]).unwrap();
            assert_eq!(received(&mut receiver), [[round]]);
        }
        mem::forget(sender.reserve(500).unwrap());
        drop(sender);
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
    }
    let ring = || ringpost::unnamed().capacity(4096);
    check::<Single>(&ring().memfd().unwrap());
    check::<Many>(&ring().many_senders(2).memfd().unwrap());
}

#[test]
fn a_forgotten_message_is_the_next_one_again() {
    let (mut sender, mut receiver) = pair();
    sender.send(b"a").unwrap();
    sender.send(b"b").unwrap();
    let first = receiver.recv().unwrap();
    let sequence = first.sequence();
    mem::forget(first);
    let both = receiver.recv_many(2).unwrap();
    assert_eq!(both.iter().count(), 2);
    mem::forget(both);
    let again = receiver.recv().unwrap();
    assert_eq!((again.to_vec(), again.sequence()), (b"a".to_vec(), sequence));
    drop(again);
    assert_eq!(received(&mut receiver), [b"b"]);
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_message_where_it_is() {
    let (mut sender, mut receiver) = pair();
    sender.send(b"twelve bytes").unwrap();
    let mut small = [1; 11];
    assert_eq!(receiver.recv_into(&mut small), Err(RecvError::BufferTooSmall { length: 12 }));
    assert_eq!(small, [1; 11]);
    let mut large = [1; 13];
    assert_eq!(receiver.recv_into(&mut large), Ok(12));
    assert_eq!(&large, b"twelve bytes\x01");
    assert!(receiver.is_empty());
}

#[test]
fn a_batch_arrives_whole_and_in_order() {
    fn check<K: Attach>(ring: &Ring) {
        let (mut sender, mut receiver) = (K::attach(ring).unwrap(), ring.receiver().unwrap());
        let mut batch = sender.batch(2 * record_size(5) + record_size(0)).unwrap();
        assert!(batch.is_empty());
        batch.push(1, b"first").unwrap();
        assert_eq!(batch.push(2, &[0; 100]), Err(SendError::Full));
        batch.push(2, b"").unwrap();
        assert_eq!((batch.len(), batch.room()), (2, record_size(5)));
        assert!(receiver.is_empty(), "nothing is seen before the commit");
        batch.push(3, b"third").unwrap();
        assert_eq!((batch.room(), batch.push(4, b"")), (0, Err(SendError::Full)));
        batch.commit();
        sender.send_kind(4, b"fourth").unwrap();
        let all = receiver.recv_many(10).unwrap();
        let found: Vec<_> = all.iter().map(|message| (message.kind(), message.to_vec())).collect();
        let expected: [(u16, &[u8]); 4] = [(1, b"first"), (2, b""), (3, b"third"), (4, b"fourth")];
        assert_eq!(found, expected.map(|(kind, bytes)| (kind, bytes.to_vec())));
        drop(all);
        sender.send(&[0; 4000]).unwrap();
        assert_eq!(sender.batch_timeout(200, Duration::ZERO).unwrap_err(), SendError::TimedOut);
        assert_eq!(sender.batch_deadline(200, Instant::now()).unwrap_err(), SendError::TimedOut);
        drop(receiver.recv().unwrap());
        sender.batch(100).unwrap().commit();
        assert!(receiver.is_empty(), "an empty batch is none");
        let error = sender.batch(4097).unwrap_err();
        assert!(matches!(error, SendError::TooLong { length: 4097, longest: 4096 }));
    }
    let ring = || ringpost::unnamed().capacity(4096);
    check::<Single>(&ring().memfd().unwrap());
    check::<Many>(&ring().many_senders(2).memfd().unwrap());
}

#[test]
fn several_are_received_together_and_released_together() {
    let (mut sender, mut receiver) = pair();
    assert_eq!(receiver.try_recv_many(3).unwrap_err(), RecvError::Empty);
    assert_eq!(receiver.recv_many_timeout(3, Duration::ZERO).unwrap_err(), RecvError::TimedOut);
    assert_eq!(receiver.recv_many_deadline(3, Instant::now()).unwrap_err(), RecvError::TimedOut);
    for number in 0..5 {
        sender.send(&[number]).unwrap();
        drop(sender.reserve(100).unwrap());
    }
    let three = receiver.recv_many(3).unwrap();
    assert_eq!(three.iter().map(|message| message.to_vec()[0]).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(three.iter().count(), 3, "they can be read again");
    drop(three);
    assert_eq!(receiver.try_recv_many(usize::MAX).unwrap().iter().count(), 2);
    assert_eq!(receiver.try_recv_many(3).unwrap_err(), RecvError::Empty);
}

#[test]
fn of_several_those_that_were_given_are_released() {
    let (mut sender, mut receiver) = pair();
    (0..3).for_each(|number| sender.send(&[number]).unwrap());
    drop(receiver.recv_many(3).unwrap());
    let several = receiver.recv_many(9).unwrap();
    assert_eq!(several.iter().map(|message| message.to_vec()[0]).take(2).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(several.iter().next().unwrap().to_vec(), [0], "it begins anew");
    drop(several);
    let rest = receiver.recv_many(0).unwrap();
    sender.send(&[3]).unwrap();
    assert_eq!(rest.iter().map(|message| message.to_vec()[0]).collect::<Vec<_>>(), [2], "one at least");
    drop(rest);
    let last = receiver.recv_many(9).unwrap();
    sender.send(&[4]).unwrap();
    assert_eq!(
        last.iter().map(|message| message.to_vec()[0]).collect::<Vec<_>>(),
        [3, 4],
        "one came meanwhile"
    );
    drop(last);
    assert!(receiver.is_empty());
}

#[test]
fn in_a_trusted_ring_bytes_are_written_and_read_in_place() {
    let ring = ringpost::unnamed().capacity(4096).in_process().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut reservation = sender.reserve(4).unwrap();
    reservation.copy_from_slice(b"abcd");
    reservation[3] = b'!';
    reservation.commit();
    assert_eq!(*receiver.recv().unwrap(), *b"abc!");
    let mut batch = sender.batch(100).unwrap();
    batch.push_with(3, 2, |room| room.fill(9)).unwrap();
    batch.commit();
    assert_eq!(*receiver.recv_many(1).unwrap().iter().next().unwrap(), [9, 9]);
}

#[test]
fn iterators_end_with_the_senders_or_when_nothing_is_there() {
    let (mut sender, mut receiver) = pair();
    assert_eq!(receiver.try_iter().count(), 0);
    for number in 0..4 {
        sender.send(&[number]).unwrap();
    }
    assert_eq!(receiver.iter().next().unwrap().bytes, [0]);
    assert_eq!((&mut receiver).into_iter().take(1).map(|message| message[0]).sum::<u8>(), 1);
    assert_eq!(received(&mut receiver), [[2], [3]]);
    sender.send_kind(5, b"last").unwrap();
    drop(sender);
    let rest: Vec<OwnedMessage> = receiver.into_iter().collect();
    assert_eq!((rest.len(), &*rest[0], rest[0].kind), (1, &b"last"[..], 5));
    assert_eq!(rest[0].sender.pid, std::process::id());
}

#[test]
fn kind_and_sequence_are_those_of_the_commit() {
    let (mut sender, mut receiver) = pair();
    let mut last = None;
    for kind in (0..=u16::MAX).step_by(997) {
        let mut reservation = sender.reserve(usize::from(kind % 50)).unwrap();
        reservation.set_kind(kind);
        let sequence = reservation.commit();
        assert!(Some(sequence) > last, "sequence numbers grow");
        last = Some(sequence);
        let message = receiver.recv().unwrap();
        assert_eq!((message.kind(), message.sequence()), (kind, sequence));
    }
}

#[test]
fn a_message_of_a_single_sender_names_it_also_when_others_have_come_since() {
    let ring = Shared::new(Way::Pass, |builder| builder.capacity(4096));
    (0..40).for_each(|_| child_at(&ring, "sign", "").finish());
    let signed: Vec<_> = ring.ring.receiver().unwrap().iter().collect();
    assert_eq!(signed.len(), 40);
    for (number, message) in signed.into_iter().enumerate() {
        assert_eq!(message.sender.slot, 1);
        // The last 32 are remembered, and who came before is nobody rather than somebody else.
        let expected = if number < 8 { [0; 4] } else { message.bytes[..].try_into().unwrap() };
        assert_eq!(message.sender.pid.to_ne_bytes(), expected, "message {number}");
    }
}

#[test]
fn a_message_names_the_process_that_sent_it() {
    let ring = Shared::new(Way::Pass, |builder| builder.capacity(1 << 16).many_senders(3));
    let children = [0, 1].map(|_| child_at(&ring, "name-yourself", ""));
    let mut receiver = ring.ring.receiver().unwrap();
    let (mut last, mut senders) = (None, BTreeMap::new());
    for _ in 0..200 {
        let message = receiver.recv_timeout(FAR).unwrap();
        assert!(Some(message.sequence()) > last, "sequence numbers grow");
        last = Some(message.sequence());
        let sender = message.sender();
        assert_eq!(message.to_vec(), sender.pid.to_ne_bytes());
        assert!(sender.start_ticks > 0);
        assert_eq!(*senders.entry(sender.pid).or_insert(sender), sender);
    }
    let mut pids = children.each_ref().map(|child| child.id());
    pids.sort();
    assert!(senders.keys().eq(&pids));
    let slots: Vec<u8> = senders.values().map(|sender| sender.slot).collect();
    assert!(slots[0] != slots[1] && slots.iter().all(|slot| (1..=3).contains(slot)));
    for child in children {
        child.hear();
        child.tell(0);
        child.finish();
    }
}

// Many senders.

#[test]
fn a_clone_takes_its_slot_when_it_is_first_used() {
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let attached = || ring.statistics().senders.iter().filter(|sender| sender.attached).count();
    let mut first = ring.multi_sender().unwrap();
    let (mut second, mut third) = (first.clone(), first.clone());
    assert_eq!(attached(), 1);
    second.send(b"2").unwrap();
    assert_eq!(attached(), 2);
    assert_eq!(third.send(b"3"), Err(SendError::TooManySenders { most: 2 }));
    assert!(matches!(ring.multi_sender(), Err(OpenError::TooManySenders { most: 2 })));
    first.send(b"1").unwrap();
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(received(&mut receiver), [b"2", b"1"]);
    drop(second);
    third.send(b"3").unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((message.to_vec(), message.sender().slot), (b"3".to_vec(), 2));
}

#[test]
fn the_end_comes_after_the_last_clone_and_after_every_message() {
    let ring = ringpost::unnamed().capacity(4096).many_senders(3).memfd().unwrap();
    let mut receiver = ring.receiver().unwrap();
    let mut first = ring.multi_sender().unwrap();
    let (mut used, unused) = (first.clone(), first.clone());
    first.send(b"1").unwrap();
    used.send(b"2").unwrap();
    drop(first);
    drop(used);
    assert_eq!(received(&mut receiver), [b"1", b"2"]);
    assert_eq!(
        receiver.try_recv().unwrap_err(),
        RecvError::Empty,
        "a clone that was not used yet is a sender"
    );
    let mut late = unused.clone();
    drop(unused);
    late.send(b"3").unwrap();
    drop(late);
    assert_eq!(receiver.recv().unwrap().to_vec(), b"3");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
    ring.multi_sender().unwrap().send(b"4").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"4", "who attaches later ends the end");
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
}

#[test]
fn a_receiver_that_closes_ends_every_sender_and_a_new_one_revives_them() {
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let mut senders = [ring.multi_sender().unwrap(), ring.multi_sender().unwrap()];
    senders[0].send(b"before any receiver").unwrap();
    drop(ring.receiver().unwrap());
    for sender in &mut senders {
        assert!(sender.is_disconnected());
        assert_eq!(sender.send(b"lost"), Err(SendError::Disconnected));
        assert_eq!(sender.batch(100).unwrap_err(), SendError::Disconnected);
    }
    let mut receiver = ring.receiver().unwrap();
    senders[1].send(b"again").unwrap();
    assert_eq!(received(&mut receiver), [&b"before any receiver"[..], b"again"]);
}

// Rings of one type.

#[derive(Clone, Copy, PartialEq, Debug, IntoBytes, TryFromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Reading {
    time: u64,
    value: f32,
    valid: bool,
    _rest: [u8; 3],
}

const READING: Reading = Reading { time: 1 << 40, value: 0.5, valid: true, _rest: [0; 3] };

#[test]
fn values_arrive_as_they_were_sent() {
    let ring = ringpost::unnamed().capacity(4096).fixed::<Reading>().memfd().unwrap();
    assert_eq!(ring.info().item_size, Some(16));
    let mut sender = ring.sender().unwrap().typed::<Reading>().unwrap();
    let mut receiver = ring.receiver().unwrap().typed::<Reading>().unwrap();
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
    assert_eq!(receiver.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut));
    sender.send(&READING).unwrap();
    assert_eq!(receiver.recv(), Ok(READING));
    let mut sent = 0;
    while sender.try_send(&READING).is_ok() {
        sent += 1;
    }
    assert_eq!((sent, sender.try_send(&READING)), (4096 / record_size(16), Err(SendError::Full)));
    assert_eq!(sender.send_timeout(&READING, Duration::ZERO), Err(SendError::TimedOut));
    assert_eq!(sender.send_deadline(&READING, Instant::now()), Err(SendError::TimedOut));
    drop(sender);
    assert_eq!(receiver.recv_deadline(Instant::now()), Ok(READING));
    assert!(receiver.iter().eq(std::iter::repeat_n(READING, sent - 1)));
    assert_eq!(receiver.recv(), Err(RecvError::Disconnected));
}

#[test]
fn values_are_read_in_place_where_peers_are_trusted() {
    let ring = ringpost::unnamed().capacity(4096).fixed::<Reading>().in_process().unwrap();
    let mut sender = ring.sender().unwrap().typed::<Reading>().unwrap();
    let mut receiver = ring.receiver().unwrap().typed::<Reading>().unwrap();
    sender.send(&READING).unwrap();
    assert_eq!(receiver.recv_with(|reading| reading.time), Ok(1 << 40));
    assert_eq!(receiver.try_recv(), Err(RecvError::Empty));
}

#[test]
fn bytes_that_are_no_value_are_an_error_and_the_next_one_is_received() {
    let ring = ringpost::unnamed().capacity(4096).fixed::<Reading>().memfd().unwrap();
    let (mut sender, receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut receiver = receiver.typed::<Reading>().unwrap();
    // Neither true nor false.
    sender.send(&[2; 16]).unwrap();
    sender.send(READING.as_bytes()).unwrap();
    assert_eq!(receiver.recv(), Err(RecvError::NotAValue));
    assert_eq!(receiver.recv(), Ok(READING));
}

#[test]
fn another_type_than_the_ring_s_is_refused_with_both_sides_named() {
    let refused = |ring: &Ring| {
        let errors = [
            ring.sender().unwrap().typed::<Reading>().unwrap_err(),
            ring.receiver().unwrap().typed::<Reading>().unwrap_err(),
        ];
        errors.map(|error| match error {
            OpenError::Mismatch { found, expected, .. } => (found, expected),
            other => panic!("{other}"),
        })
    };
    let [sender, receiver] = refused(&ringpost::unnamed().capacity(4096).fixed::<u32>().memfd().unwrap());
    assert_eq!((&sender, &*sender.0, &*sender.1), (&receiver, "4", "16"));
    let [sender, receiver] = refused(&ringpost::unnamed().capacity(4096).memfd().unwrap());
    assert!(sender == receiver && sender.0 == "any bytes" && sender.1.contains("Reading"), "{sender:?}");
}

#[test]
fn the_last_clone_uses_the_slot_that_it_holds() {
    let ring = ringpost::unnamed().capacity(4096).many_senders(1).memfd().unwrap();
    let mut first = ring.multi_sender().unwrap();
    let mut clone = first.clone();
    mem::forget(first.reserve(1).unwrap());
    drop(first);
    assert_eq!(clone.send(b"x"), Ok(()));
    assert_eq!(ring.receiver().unwrap().recv().unwrap().to_vec(), b"x");
}

#[test]
fn clones_share_out_the_slots_when_the_original_is_gone() {
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let first = ring.multi_sender().unwrap();
    let (mut a, mut b) = (first.clone(), first.clone());
    drop(first);
    assert_eq!((a.send(b"x"), b.send(b"x")), (Ok(()), Ok(())));
}

/// The room of what was leaked is given up when the next one is reserved, and who waits behind it is called, also when there is no
/// room for the next one.
#[test]
fn what_was_leaked_holds_up_nobody() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    std::thread::scope(|threads| {
        let receiving = threads.spawn(move || receiver.recv().map(|message| message.len()));
        while ring.statistics().receiver.sleeps == 0 {
            std::thread::yield_now();
        }
        std::mem::forget(sender.reserve(3000).unwrap());
        sender.send_timeout(&[1; 3000], common::FAR).unwrap();
        assert_eq!(receiving.join().unwrap(), Ok(3000));
    });
}
