//! A descriptor for somebody else's event loop.

use super::*;

#[test]
fn a_message_of_another_process_makes_an_armed_descriptor_readable() {
    for (ring, kind) in small_rings() {
        let mut receiver = Readiness::new(ring.ring.receiver().unwrap()).unwrap();
        let sender = sending(&ring, kind);
        for round in 0..100 {
            sender.tell(round);
            assert_eq!(next(&mut receiver, |message| number_of(&message.to_vec())), Ok(round));
        }
        sender.hang_up();
        assert_eq!(next(&mut receiver, |_| ()), Err(RecvError::Disconnected));
        sender.finish();
    }
}

#[test]
fn a_link_and_a_broadcast_make_one_readable_as_well() {
    let (sender, receiver) = linked(&listener());
    let ring = broadcast();
    let subscriber = ring.ring.subscriber().unwrap();
    let publisher = sending(&ring, "publish");
    let (mut receiver, mut subscriber) =
        (Readiness::new(receiver).unwrap(), Readiness::new(subscriber).unwrap());
    for round in 0..100 {
        sender.tell(round);
        assert_eq!(next(&mut receiver, |message| number_of(&message.to_vec())), Ok(round));
        publisher.tell(round);
        assert_eq!(next(&mut subscriber, |message| number_of(&message.to_vec())), Ok(round));
    }
}

#[test]
fn a_receiver_that_was_put_in_the_place_of_another_makes_it_readable() {
    let (former, _silent) = local();
    let (ring, mut sender) = local();
    let mut readable = Readiness::new(former.receiver().unwrap()).unwrap();
    assert!(!readable.arm().unwrap());
    *readable = ring.receiver().unwrap();
    assert!(!readable.arm().unwrap());
    sender.send(b"x").unwrap();
    assert!(self::readable(&readable, true));
    assert_eq!(*readable.try_recv().unwrap(), *b"x");
}

#[test]
fn the_death_of_the_sender_makes_it_readable() {
    let kill = |mut child: Child, receiver: Receiver| {
        let pid = child.id();
        let mut receiver = Readiness::new(receiver).unwrap();
        thread::scope(|threads| {
            let waiting = threads.spawn(|| next(&mut receiver, |_| ()));
            // While it is armed, most often.
            thread::sleep(Duration::from_millis(10));
            child.kill();
            assert_eq!(waiting.join().unwrap(), Err(RecvError::PeerDied { pid, unfinished: 0 }));
        });
        // It is told, and would be again.
        assert!(receiver.arm().unwrap());
        assert!(readable(&receiver, false));
    };
    for (ring, kind) in small_rings() {
        let receiver = ring.ring.receiver().unwrap();
        kill(sending(&ring, kind), receiver);
    }
    let (child, receiver) = linked(&listener());
    kill(child, receiver);
    let ring = broadcast();
    let mut subscriber = Readiness::new(ring.ring.subscriber().unwrap()).unwrap();
    let mut publisher = sending(&ring, "publish");
    subscriber.arm().unwrap();
    publisher.kill();
    let died = RecvError::PeerDied { pid: publisher.id(), unfinished: 0 };
    assert_eq!(next(&mut subscriber, |_| ()), Err(died));
}

#[test]
fn looking_tells_nothing_of_several_deaths() {
    let ring = Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(4));
    let mut receiver = Readiness::new(ring.ring.receiver().unwrap()).unwrap();
    let mut senders = [0; 3].map(|_| sending(&ring, "many"));
    senders.iter_mut().for_each(Child::kill);
    let mut told = Vec::new();
    for _ in &senders {
        // More than once, so that what a look finds is not lost.
        while !receiver.arm().unwrap() {
            assert!(readable(&receiver, true));
        }
        match receiver.try_recv() {
            Err(RecvError::PeerDied { pid, .. }) => told.push(pid),
            Err(RecvError::Empty) => {}
            other => panic!("{other:?}"),
        }
    }
    while told.len() < 3 {
        match next(&mut receiver, |_| ()) {
            Err(RecvError::PeerDied { pid, .. }) => told.push(pid),
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    let mut pids = senders.map(|sender| sender.id());
    pids.sort();
    assert_eq!(told, pids);
}

#[test]
fn what_is_not_armed_stays_unreadable_and_use_disarms() {
    let (ring, mut sender) = local();
    let mut receiver = Readiness::new(ring.receiver().unwrap()).unwrap();
    sender.send(b"x").unwrap();
    assert!(!readable(&receiver, false), "nobody has armed it");
    assert!(receiver.arm().unwrap(), "there is something already");
    assert!(readable(&receiver, false));
    receiver.disarm();
    assert!(!readable(&receiver, false));
    assert!(receiver.arm().unwrap() && receiver.arm().unwrap());
    assert_eq!(*receiver.try_recv().unwrap(), *b"x");
    assert!(!readable(&receiver, false), "it was used");
    assert!(!receiver.arm().unwrap());
    assert!(!readable(&receiver, false), "there is nothing");
    sender.send(b"y").unwrap();
    assert!(readable(&receiver, true));
    // Without a look in between.
    assert!(receiver.arm().unwrap());
    assert_eq!(*receiver.recv().unwrap(), *b"y");
    assert!(!receiver.arm().unwrap());
    sender.send(b"y").unwrap();
    assert!(readable(&receiver, true));
    assert_eq!(*receiver.recv().unwrap(), *b"y");
    assert!(!readable(&receiver, false), "it was used");
    assert!(!receiver.arm().unwrap());
    receiver.disarm();
    sender.send(b"z").unwrap();
    assert!(!readable(&receiver, false), "it was disarmed");
    assert_eq!(*receiver.into_inner().recv().unwrap(), *b"z");
}

#[test]
fn an_event_loop_that_is_told_of_edges_misses_none() {
    let rings: Vec<_> = (0..5).map(|_| local()).collect();
    let mut receivers: Vec<_> =
        rings.iter().map(|(ring, _)| Readiness::new(ring.receiver().unwrap()).unwrap()).collect();
    let events = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (number, receiver) in receivers.iter().enumerate() {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&events, receiver, epoll::EventData::new_u64(number as u64), flags).unwrap();
    }
    let messages = if common::long() { 200_000 } else { 5000 };
    let mut counts = [0_u64; 5];
    thread::scope(|threads| {
        for (number, (_, mut sender)) in rings.into_iter().enumerate() {
            threads.spawn(move || {
                for message in 0..messages {
                    sender.send(&u64::to_ne_bytes(message)).unwrap();
                    if scatter(message ^ number as u64).is_multiple_of(4) {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut open = receivers.len();
        receivers.iter_mut().for_each(|receiver| assert!(receiver.arm().is_ok()));
        while open > 0 {
            let mut found = Vec::with_capacity(8);
            let timeout = Timespec { tv_sec: FAR.as_secs() as _, tv_nsec: 0 };
            epoll::wait(&events, rustix::buffer::spare_capacity(&mut found), Some(&timeout)).unwrap();
            assert!(!found.is_empty(), "an edge was missed: {counts:?}");
            for number in found.into_iter().map(|event| event.data.u64() as usize) {
                let end = loop {
                    match receivers[number].try_recv() {
                        Ok(message) => {
                            assert_eq!(number_of(&message), counts[number]);
                            counts[number] += 1;
                        }
                        Err(end) => break end,
                    }
                };
                match end {
                    RecvError::Empty => assert!(receivers[number].arm().is_ok()),
                    RecvError::Disconnected => open -= 1,
                    other => panic!("{other}"),
                }
            }
        }
    });
    assert_eq!(counts, [messages; 5]);
}

#[test]
fn more_are_armed_at_once_than_a_thread_can_sleep_on() {
    let mut rings: Vec<_> = (0..300).map(|_| local()).collect();
    let mut receivers: Vec<_> =
        rings.iter().map(|(ring, _)| Readiness::new(ring.receiver().unwrap()).unwrap()).collect();
    receivers.iter_mut().for_each(|receiver| assert!(!receiver.arm().unwrap()));
    for number in (0..300).step_by(7).chain([299]) {
        rings[number].1.send(b"x").unwrap();
        assert!(readable(&receivers[number], true), "number {number}");
    }
    assert!(!readable(&receivers[1], false));
}

#[test]
fn what_was_armed_and_dropped_gives_its_memory_back() {
    Child::start("drop").finish();
}

#[test]
fn a_message_and_a_death_make_it_readable_whatever_call_the_kernel_refuses() {
    // Without threads there is no such thing, and an error says so.
    for number in [0, 2] {
        let ring = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 16));
        let host = child_at(&ring, "arm-refused", &number.to_string());
        host.hear();
        let mut sender = sending(&ring, "one");
        for round in 0..20 {
            sender.tell(round);
            assert_eq!(host.hear_before_the_end(), Some(round), "{number}");
        }
        thread::sleep(Duration::from_millis(10));
        sender.kill();
        assert_eq!(host.hear_before_the_end(), Some(sender.id().into()), "{number}");
        host.finish();
    }
}

#[test]
fn while_nothing_comes_the_thread_does_not_wake_up() {
    let path = Place::new();
    Child::start(&format!("idle {}", path.display())).finish();
}

#[test]
fn a_forked_child_is_refused_and_can_have_its_own() {
    let ring = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 16));
    let child = child_at(&ring, "fork", "");
    child.hear();
    ring.ring.sender().unwrap().send(b"for the parent").unwrap();
    child.tell(0);
    child.finish();
}
