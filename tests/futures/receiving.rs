//! Messages, ends and deaths that complete a future.

use super::*;

#[test]
fn a_message_of_another_process_completes_the_future_that_waited_for_it() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        let mut seen = 0;
        for number in 1..100 {
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            child.tell(number);
            let message = loop {
                seen = alarm.wait(seen);
                if let Poll::Ready(message) = poll(Pin::new(&mut receiving), &waker) {
                    break message.unwrap();
                }
            };
            assert_eq!(number_of(&message.to_vec()), number);
        }
    }
}

#[test]
fn the_end_comes_as_an_error_after_the_last_message() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        assert_waits(Pin::new(&mut receiver.received()), &waker);
        child.tell(7);
        child.hang_up();
        assert_eq!(number_of(&block_on(receiver.received()).unwrap().to_vec()), 7);
        assert_eq!(block_on(receiver.received()).unwrap_err(), RecvError::Disconnected);
        child.finish();
        drop(alarm);
    }
}

#[test]
fn a_death_completes_the_future_that_waits_and_is_named() {
    for (ring, kind) in small_rings() {
        let mut child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        let mut receiving = receiver.received();
        assert_waits(Pin::new(&mut receiving), &waker);
        let pid = child.id();
        child.kill();
        alarm.wait(0);
        assert_eq!(block_on(receiving).unwrap_err(), RecvError::PeerDied { pid, unfinished: 0 });
    }
}

#[test]
fn a_future_that_is_dropped_has_consumed_nothing_whether_it_was_called_or_not() {
    for (ring, kind) in small_rings() {
        let child = started(&ring, kind);
        let mut receiver = ring.ring.receiver().unwrap();
        let (alarm, waker) = Alarm::new();
        for called in [false, true] {
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            if called {
                child.tell(1);
                alarm.wait(0);
            }
            drop(receiving);
        }
        child.tell(2);
        // One that nobody has polled.
        drop(receiver.received());
        for number in [1, 2] {
            assert_eq!(number_of(&block_on(receiver.received()).unwrap().to_vec()), number);
        }
    }
}

#[test]
fn readers_and_publishers_of_a_broadcast_wait_in_futures_too() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 14).broadcast(3));
    let child = started(&ring, "publish");
    let (mut one, mut other) = (ring.ring.subscriber().unwrap(), ring.ring.subscriber().unwrap());
    let (alarm, waker) = Alarm::new();
    assert_waits(Pin::new(&mut one.received()), &waker);
    let mut receiving = other.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    child.tell(5);
    alarm.wait(0);
    assert_eq!(number_of(&block_on(receiving).unwrap().to_vec()), 5);
    assert_eq!(number_of(&block_on(one.received()).unwrap().to_vec()), 5);
    child.hang_up();
    child.finish();

    let mut publisher = ring.ring.publisher().unwrap();
    let mut count = 0;
    while poll(Pin::new(&mut publisher.reserved(1000)), Waker::noop()).is_ready() {
        publisher.send(&numbered(count)).unwrap();
        count += 1;
    }
    let message = numbered(count);
    thread::scope(|threads| {
        threads.spawn(|| block_on(publisher.sent(&message)).unwrap());
        // They begin behind the end of the one before.
        for reader in [&mut one, &mut other] {
            for number in 0..count {
                let message = loop {
                    match block_on(reader.received()) {
                        Ok(message) => break message,
                        Err(end) => assert_eq!(end, RecvError::Disconnected),
                    }
                };
                assert_eq!(number_of(&message.to_vec()), number);
            }
        }
    });
    assert_eq!(number_of(&block_on(one.received()).unwrap().to_vec()), count);
}

#[test]
fn a_future_of_a_mailbox_that_is_dropped_after_its_call_leaves_the_message_to_another_process() {
    let ring = Shared::new(Way::Inherit, |builder| builder.mailbox(8));
    // Seats in this order: who sends wakes the next one.
    let (mut sender, mut called) = (ring.ring.mailbox().unwrap(), ring.ring.mailbox().unwrap());
    let (alarm, waker) = Alarm::new();
    let mut receiving = called.received();
    let child = started(&ring, "take-mail");
    while ring.ring.statistics().readers.iter().all(|reader| reader.slot != 3 || reader.sleeps == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    assert_waits(Pin::new(&mut receiving), &waker);
    sender.send(1, &numbered(5)).unwrap();
    alarm.wait(0);
    drop(receiving);
    assert_eq!(child.hear_before_the_end(), Some(5));
    child.finish();
}

#[test]
fn a_mailbox_gives_what_was_picked_and_its_end() {
    let ring = ringpost::unnamed().mailbox(8).memfd().unwrap();
    let (mut sender, mailbox) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    let mut picking = mailbox.picking(Pick::Kind(2));
    sender.send(1, b"other").unwrap();
    let (alarm, waker) = Alarm::new();
    let mut receiving = picking.received();
    assert_waits(Pin::new(&mut receiving), &waker);
    sender.send(2, b"picked").unwrap();
    alarm.wait(0);
    assert_eq!(block_on(receiving).unwrap().to_vec(), b"picked");
    sender.close_for_all();
    assert_eq!(block_on(picking.received()).unwrap_err(), RecvError::Disconnected);
    assert_eq!(block_on(picking.mailbox.received()).unwrap().to_vec(), b"other");
}
