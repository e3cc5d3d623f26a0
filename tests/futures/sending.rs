//! Room and receipts that complete a future.

use super::*;

/// Sends numbered messages until one more does not go, whichever future of a send that is; gives how many went.
fn fill<K: Attach>(sender: &mut Sender<ringpost::Untrusted, K>) -> u64 {
    let mut sent = 0;
    loop {
        let message = numbered(sent);
        let mut sending = pin!(sender.sent(&message));
        match poll(sending.as_mut(), Waker::noop()) {
            Poll::Ready(result) => result.unwrap(),
            Poll::Pending => return sent,
        }
        sent += 1;
    }
}

#[test]
fn a_sender_sleeps_in_its_future_while_the_ring_is_full_and_goes_on_with_the_first_room() {
    for (ring, kind) in small_rings() {
        if kind == "one" { room_comes::<Single>(&ring) } else { room_comes::<Many>(&ring) }
    }
}

fn room_comes<K: Attach>(ring: &Shared) {
    let child = started(ring, "take");
    let mut sender: Sender<_, K> = K::attach(&ring.ring).unwrap();
    let count = fill(&mut sender);
    assert!(count > 4);
    let (alarm, waker) = Alarm::new();
    let (message, mut seen) = (numbered(count), 0);
    {
        let mut sending = pin!(sender.sent(&message));
        assert_waits(sending.as_mut(), &waker);
        // Far from half of the ring.
        child.tell(0);
        assert_eq!(child.hear(), 0);
        loop {
            seen = alarm.wait(seen);
            if poll(sending.as_mut(), &waker).is_ready() {
                break;
            }
        }
    }
    assert_eq!(fill(&mut sender), 0, "there was room for one");
    for number in 1..=count {
        child.tell(0);
        assert_eq!(child.hear(), number);
    }
}

#[test]
fn who_sends_in_a_future_learns_that_the_receiver_has_closed_or_died() {
    for (ring, kind) in small_rings().filter(|(_, kind)| *kind == "one") {
        assert_eq!(kind, "one");
        for dies in [false, true] {
            let mut child = started(&ring, "take");
            let mut sender = ring.ring.sender().unwrap();
            while fill(&mut sender) > 0 {}
            let (alarm, waker) = Alarm::new();
            let mut reserving = sender.reserved(1000);
            assert_waits(Pin::new(&mut reserving), &waker);
            let pid = child.id();
            if dies {
                child.kill()
            } else {
                child.hang_up()
            }
            alarm.wait(0);
            match block_on(reserving).unwrap_err() {
                SendError::PeerDied { pid: dead, .. } if dies => assert_eq!(dead, pid),
                SendError::Disconnected if !dies => {}
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_message_that_is_too_long_is_an_error_at_once() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    let longest = sender.longest_message();
    let error = SendError::TooLong { length: longest + 1, longest };
    assert_eq!(block_on(sender.sent(&vec![0; longest + 1])), Err(error));
    assert_eq!(block_on(sender.reserved(longest)).unwrap().len(), longest);
}

#[test]
fn a_receipt_is_a_future_of_the_release_and_of_the_receivers_death() {
    for (ring, kind) in small_rings() {
        let mut child = started(&ring, "take");
        let receipts =
            if kind == "one" { acknowledged::<Single>(&ring) } else { acknowledged::<Many>(&ring) };
        let (alarm, waker) = Alarm::new();
        let mut taken: Vec<_> = receipts.iter().map(Receipt::taken).collect();
        for taking in &mut taken {
            assert_waits(Pin::new(taking), &waker);
        }
        let mut seen = 0;
        for taking in &mut taken[..2] {
            child.tell(0);
            child.hear();
            while poll(Pin::new(&mut *taking), &waker).is_pending() {
                seen = alarm.wait(seen);
            }
        }
        assert_waits(Pin::new(&mut taken[2]), &waker);
        assert_eq!(block_on(receipts[0].taken()), Ok(()));
        let pid = child.id();
        child.kill();
        assert_eq!(block_on(&mut taken[2]), Err(NotTaken::PeerDied { pid }));
    }
}

#[test]
fn a_receipt_is_woken_by_the_release_of_its_message_however_full_the_ring_stays() {
    let ring = ringpost::unnamed().capacity(1 << 14).in_process().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let first = block_on(sender.sent_acknowledged(b"first")).unwrap();
    while sender.try_send(&numbered(0)).is_ok() {}
    let (alarm, waker) = Alarm::new();
    let mut taking = first.taken();
    assert_waits(Pin::new(&mut taking), &waker);
    drop(receiver.recv().unwrap());
    alarm.wait(0);
    assert_eq!(block_on(taking), Ok(()));
}

/// Receipts of three messages.
fn acknowledged<K: Attach + ringpost::OneReceiver>(ring: &Shared) -> Vec<Receipt> {
    let mut sender: Sender<_, K> = K::attach(&ring.ring).unwrap();
    (0..3).map(|number| block_on(sender.sent_acknowledged(&numbered(number))).unwrap()).collect()
}

#[test]
fn a_send_that_is_dropped_has_sent_nothing_and_holds_no_room() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 14).many_senders(4));
    let child = started(&ring, "take");
    let mut sender = ring.ring.multi_sender().unwrap();
    let count = fill(&mut sender);
    let (alarm, waker) = Alarm::new();
    {
        let message = numbered(99);
        let mut sending = pin!(sender.sent(&message));
        assert_waits(sending.as_mut(), &waker);
        child.tell(0);
        child.hear();
        alarm.wait(0);
        // There is room now, and it was woken for it.
    }
    block_on(sender.sent(&numbered(count))).unwrap();
    for number in 1..=count {
        child.tell(0);
        assert_eq!(child.hear(), number);
    }
}
