//! Each side of each kind of ring beside a process that lies.

use super::*;

fn operations() -> u64 {
    if common::long() { 10_000_000 } else { 20_000 }
}

/// A liar and its victim at a ring, and again at another one until something has worked and the lies were noticed.
fn lie_to(kind: &str, side: &str, way: Way) {
    let mut all = [0; 3];
    for round in 0..50 {
        let seed = u64::from(process::id()) << 32 | round;
        println!("seed {seed}");
        let tally = lie_once(kind, side, way, seed);
        all.iter_mut().zip(tally).for_each(|(all, one)| *all += one);
        if all[0] > 0 && all[1] > 0 && (side == "sender" || all[2] > 0) {
            return println!("{kind}, {side}: {all:?} done, refused, found corrupt");
        }
    }
    panic!("the lies were not noticed, or nothing else: {all:?}");
}

fn lie_once(kind: &str, side: &str, way: Way, seed: u64) -> [u64; 3] {
    let ring = Shared::new(way, |builder: Builder| {
        let builder = builder.capacity(4096);
        match kind {
            "many" => builder.many_senders(3),
            "typed" => builder.fixed::<Value>(),
            _ => builder,
        }
    });
    let mut hostile = child_at(&ring, "hostile", &format!("{seed}"));
    let victim = child_at(&ring, "victim", &format!("{kind} {side} {seed} {}", operations()));
    let both = [&hostile, &victim];
    both.iter().for_each(|child| assert_eq!(child.hear(), 0));
    both.iter().for_each(|child| child.tell(0));
    let tally = [(); 3].map(|()| victim.hear());
    hostile.kill();
    victim.tell(0);
    victim.finish();
    tally
}

#[test]
fn counts_of_any_size_add_up() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096).many_senders(2)).ring;
    let _senders = [ring.multi_sender().unwrap(), ring.multi_sender().unwrap()];
    let segment = Segment::of(&ring);
    for slot in 0..2 {
        segment.word(SLOTS + slot * SLOT + 128).store(u64::MAX - 1, Relaxed);
    }
    let statistics = ring.statistics();
    assert_eq!((statistics.sent(), statistics.pending_messages()), (u64::MAX, u64::MAX));
}

#[test]
fn a_record_of_an_impossible_length_is_corrupt_and_no_endless_one() {
    const CAPACITY: u64 = 4096;
    let payloads = [CAPACITY - 15, CAPACITY, 1 << 31, u64::from(u32::MAX)].map(|length| (1, length));
    let units = [0, 1, CAPACITY / 8 + 1, 1 << 31, u64::from(u32::MAX)].map(|length| (2, length));
    for (state, length) in payloads.into_iter().chain(units) {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(CAPACITY)).ring;
        let mut receiver = ring.receiver().unwrap();
        Segment::of(&ring).forge(0, state, length << 32);
        let corrupt = RecvError::Corrupt { sequence: 0, length: length as u32 };
        assert_eq!(receiver.try_recv().unwrap_err(), corrupt);
        assert_eq!(receiver.recv().unwrap_err(), corrupt);
        assert_eq!(receiver.try_recv_many(5).unwrap_err(), corrupt);
        assert_eq!(receiver.recv_into(&mut [0; 8]).unwrap_err(), corrupt);
    }
}

#[test]
fn of_several_messages_those_are_counted_that_fit_into_the_ring() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096)).ring;
    let (mut receiver, segment) = (ring.receiver().unwrap(), Segment::of(&ring));
    // Each takes 252 units of 512.
    [0, 252, 504].into_iter().for_each(|position| segment.forge(position, 1, 2000 << 32));
    let messages = receiver.try_recv_many(9).unwrap();
    assert_eq!(messages.iter().count(), 2);
    drop(messages);
    assert_eq!(ring.statistics().receiver.messages, 2);
}

#[test]
fn what_was_given_is_released_as_it_was_whatever_stands_there_later() {
    for later in [8, 24, 700] {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096)).ring;
        let (mut receiver, segment) = (ring.receiver().unwrap(), Segment::of(&ring));
        // Each takes 4 units.
        (0..3).for_each(|number| segment.forge(4 * number, 1, 16 << 32));
        let messages = receiver.try_recv_many(9).unwrap();
        assert_eq!(messages.iter().take(2).map(|message| message.len()).collect::<Vec<_>>(), [16, 16]);
        segment.forge(0, 1, later << 32);
        assert_eq!(messages.iter().next().unwrap().len() as u64, later);
        segment.forge(4, 1, later << 32);
        assert!(messages.iter().count() <= 3);
        drop(messages);
        assert_eq!(segment.word(RECEIVER_AREA).load(Relaxed), 8);
        let received = ring.statistics().receiver;
        assert_eq!((received.messages, received.bytes), (2, 32));
    }
}

#[test]
fn a_ring_full_of_records_to_be_passed_over_ends() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096)).ring;
    let (mut receiver, segment) = (ring.receiver().unwrap(), Segment::of(&ring));
    let filler = |position: u64| segment.key ^ (position << 8 | 3);
    (0..512).for_each(|position| segment.word(segment.unit(position)).store(filler(position), Relaxed));
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(segment.word(RECEIVER_AREA).load(Relaxed), 512);
}

#[test]
fn who_attaches_comes_to_an_end_though_the_places_are_claimed_anew_all_the_time() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096).many_senders(3));
    let hostile = child_at(&ring, "renaming", "");
    hostile.hear();
    child_at(&ring, "comer", "20").finish();
}

#[test]
fn the_only_sender_survives_a_lying_process() {
    lie_to("one", "sender", Way::Pass);
}

#[test]
fn the_receiver_of_one_survives_a_lying_process() {
    lie_to("one", "receiver", Way::Name);
}

#[test]
fn one_of_many_senders_survives_a_lying_process() {
    lie_to("many", "sender", Way::Name);
}

#[test]
fn the_receiver_of_many_survives_a_lying_process() {
    lie_to("many", "receiver", Way::Pass);
}

#[test]
fn who_sends_and_receives_values_survives_a_lying_process() {
    lie_to("typed", "sender", Way::Inherit);
    lie_to("typed", "receiver", Way::Inherit);
}
