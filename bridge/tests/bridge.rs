//! Ring on machine A, bridge, broker, bridge, ring on machine B: all of them processes.

mod common;

use common::{World, first_times, message};
use ringpost::RecvError;

#[test]
fn child_process() {
    common::play_role();
}

#[test]
fn ten_thousand_messages_arrive_exactly_once_and_in_order_on_a_calm_day() {
    let world = World::new();
    let _broker = world.broker();
    let mut inward = world.subscribed("--ring there");
    let mut receiver = world.receiver("there", "end");
    let mut outward = world.out("--ring here");
    let mut sender = world.sender("here", 0, 10_000);
    let mut received = receiver.until(9_999);
    assert_eq!(sender.rest().len(), 10_000);
    // It ends when all is delivered, and says nothing but that it was connected.
    assert_eq!(outward.ended_with(0).lines().count(), 1);
    inward.kill();
    received.extend(receiver.rest());
    assert!(received.iter().copied().eq(0..10_000), "{} messages", received.len());
}

#[test]
fn bytes_boundaries_and_kinds_are_kept() {
    let world = World::new();
    let _broker = world.broker();
    let (here, there) = (world.ring_a("here").create().unwrap(), world.ring_b("there").create().unwrap());
    let mut receiver = there.receiver().unwrap();
    let _inward = world.subscribed("--ring there");
    let mut sender = here.sender().unwrap();
    let messages: Vec<_> = [(0, 0), (1, 1), (u16::MAX, 7), (0, 0), (9, 500_000)].into();
    for &(kind, length) in &messages {
        sender.send_kind(kind, &vec![kind as u8; length]).unwrap();
    }
    drop(sender);
    world.out("--ring here").ended_with(0);
    for (kind, length) in messages {
        let message = receiver.recv().unwrap();
        assert_eq!((message.kind(), message.to_vec()), (kind, vec![kind as u8; length]));
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn without_acknowledgements_messages_arrive_as_well() {
    let world = World::new();
    let _broker = world.broker();
    let _inward = world.subscribed("--ring there --qos 0");
    let mut receiver = world.receiver("there", "end");
    let _sender = world.sender("here", 0, 100);
    world.out("--ring here --qos 0").ended_with(0);
    assert!(receiver.until(99).into_iter().eq(0..100));
}

#[test]
fn a_bridge_that_is_killed_with_a_mailbox_as_source_loses_nothing() {
    let world = World::new();
    let _broker = world.broker();
    let here = world.ring_a("here").mailbox(256).longest_message(1 << 16).create().unwrap();
    let _inward = world.subscribed("--ring there");
    let mut receiver = world.receiver("there", "end");
    let mut outward = world.out("--mailbox here");
    let _mailer = world.mailer("here", 0, 5_000);
    let mut received = Vec::new();
    for middle in [500, 1_500, 2_500] {
        received.extend(receiver.until(middle));
        outward.kill();
        outward = world.out("--mailbox here");
    }
    outward.ended_with(0);
    received.extend(receiver.until(4_999));
    // Several bridges may empty a mailbox: what two of them publish has no order between them.
    received.sort();
    assert!(first_times(&received).into_iter().eq(0..5_000), "{} messages", received.len());
    let left = here.mailbox().unwrap().occupancy();
    assert_eq!((left.waiting, left.held), (0, 0));
}

#[test]
fn a_bridge_that_is_killed_at_a_ring_loses_nothing_and_its_repetitions_are_passed_over() {
    let world = World::new();
    let _broker = world.broker();
    let mut inward = world.subscribed("--ring there");
    let mut receiver = world.receiver("there", "end");
    world.ring_a("here").capacity(256 << 10).create().unwrap();
    let mut outward = world.out("--ring here");
    let _sender = world.sender("here", 0, 5_000);
    let mut received = Vec::new();
    for middle in [500, 1_500, 2_500] {
        received.extend(receiver.until(middle));
        outward.kill();
        outward = world.out("--ring here");
    }
    outward.ended_with(0);
    received.extend(receiver.until(4_999));
    inward.kill();
    received.extend(receiver.rest());
    assert!(received.iter().copied().eq(0..5_000), "{} messages", received.len());
}

#[test]
fn a_bridge_that_is_killed_on_the_other_side_loses_nothing() {
    let world = World::new();
    let _broker = world.broker();
    world.ring_b("there").capacity(128 << 10).create().unwrap();
    let mut inward = world.subscribed("--ring there");
    let mut receiver = world.receiver("there", "stay");
    let _outward = world.out("--ring here");
    let _sender = world.sender("here", 0, 5_000);
    let mut received = Vec::new();
    for middle in [500, 1_500, 2_500] {
        received.extend(receiver.until(middle));
        inward.kill();
        inward = world.subscribed("--ring there");
    }
    received.extend(receiver.until(4_999));
    assert!(first_times(&received).into_iter().eq(0..5_000), "{} messages", received.len());
}

#[test]
fn a_broker_that_is_killed_and_started_again_loses_nothing_that_it_had_not_acknowledged() {
    let world = World::new();
    let mut broker = world.broker();
    let mut inward = world.subscribed("--ring there --ready test/ready");
    let mut receiver = world.receiver("there", "end");
    world.ring_a("here").capacity(128 << 10).create().unwrap();
    let mut outward = world.out("--ring here --follow --ready test/ready");
    let mut received = Vec::new();
    for round in 0..3 {
        let (first, last) = (round * 1_000, round * 1_000 + 999);
        let mut before = world.sender("here", first, first + 500);
        received.extend(receiver.until(first + 499));
        before.rest();
        // It has nothing now that it has acknowledged and not delivered. What comes from here on, nobody acknowledges.
        broker.stop();
        let mut sender = world.sender("here", first + 500, last + 1);
        assert_eq!(sender.next(), Some(first + 500));
        broker.kill();
        inward.await_error("trying again");
        broker = world.broker();
        received.extend(receiver.until(last));
        assert_eq!(sender.rest().last(), Some(&last));
        outward.await_error("connected");
    }
    assert!(first_times(&received).into_iter().eq(0..3_000), "{} messages", received.len());
}

#[test]
fn while_the_broker_is_away_the_ring_holds_its_sender() {
    let world = World::new();
    let _outward = world.out("--ring here --capacity 64K --ready test/ready");
    let ring = common::eventually(|| world.ring_a("here").open().ok());
    let mut sender = ring.sender().unwrap();
    let mut sent = 0;
    while sender.try_send(&message(sent)).is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    let _broker = world.broker();
    let _inward = world.subscribed("--ring there --ready test/ready");
    let mut receiver = world.receiver("there", "end");
    sender.send(&message(sent)).unwrap();
    assert!(receiver.until(sent).into_iter().eq(0..=sent));
}

#[test]
fn what_is_too_long_for_the_broker_is_refused_and_stays_in_the_ring() {
    let world = World::new();
    let _broker = world.broker();
    let _inward = world.subscribed("--ring there");
    let mut receiver = world.receiver("there", "end");
    let ring = world.ring_a("here").create().unwrap();
    let mut sender = ring.sender().unwrap();
    for number in 0..49 {
        sender.send(&message(number)).unwrap();
    }
    for number in 49..52 {
        sender.send(&message(number)).unwrap();
    }
    let complaint = world.out("--ring here --longest 50000").ended_with(1);
    let length = message(49).len();
    assert!(complaint.contains(&format!("a message of {length} bytes is too long")), "{complaint}");
    assert!(complaint.contains("50000") && complaint.contains("still the first in the ring"), "{complaint}");
    assert!(receiver.until(48).into_iter().eq(0..49));
    assert_eq!(ring.receiver().unwrap().recv().unwrap().to_vec(), message(49));
}

#[test]
fn what_is_too_long_for_the_ring_is_refused_and_stays_with_the_broker() {
    let world = World::new();
    let _broker = world.broker();
    let mut small = world.subscribed("--ring small --capacity 8K --client-id one");
    let _sender = world.sender("here", 47, 52);
    world.out("--ring here").ended_with(0);
    let complaint = small.ended_with(1);
    assert!(complaint.contains("too long") && complaint.contains("stays with the broker"), "{complaint}");
    let _large = world.subscribed("--ring large --client-id one");
    let mut receiver = world.receiver("large", "end");
    // Those before it come again when the bridge ended before their acknowledgements had left.
    assert!(receiver.until(51).ends_with(&[49, 50, 51]));
}

#[test]
fn the_end_of_the_other_side_of_the_ring_ends_the_bridge_with_its_code() {
    let world = World::new();
    let _broker = world.broker();

    let mut closed = world.subscribed("--ring closed --client-id one");
    drop(world.ring_b("closed").open().unwrap().receiver().unwrap());
    let mut killed = world.subscribed("--ring killed --capacity 64K --client-id two");
    let mut receiver = world.receiver("killed", "end");
    let sender = world.sender("here", 0, 1_000);
    let outward = world.out("--ring here");
    receiver.until(1);
    receiver.kill();
    assert!(closed.ended_with(1).contains("has closed"));
    assert!(killed.ended_with(5).contains("died"));
    drop((outward, sender));

    // The other way round: all that the dead had sent is delivered first.
    let mut outward = world.out("--ring there");
    let mut killed = world.sender("there", 0, u64::MAX);
    killed.until(10);
    killed.kill();
    assert!(outward.ended_with(5).contains("died"));
    assert!(world.ring_a("there").open().unwrap().receiver().unwrap().is_empty());
}
