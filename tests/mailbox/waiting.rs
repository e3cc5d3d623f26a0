//! Who sleeps is called, beside a ring and by a descriptor, too; the end of the mailbox calls all.

use super::*;

#[test]
fn each_that_sleeps_for_a_kind_is_woken_for_it() {
    let shared = office(8, |builder| builder);
    let sleepers: Vec<Child> =
        (1..=4).map(|kind| child_at(&shared, "receive-kind", &kind.to_string())).collect();
    sleepers.iter().for_each(|sleeper| assert_eq!(sleeper.hear(), 0));
    let mut mailbox = shared.ring.mailbox().unwrap();
    let asleep = || shared.ring.statistics().readers.iter().map(|reader| reader.sleeps).sum::<u64>();
    let (mut slept, rounds) = (3, if common::long() { 100_000 } else { 300 });
    for round in 0..rounds {
        while asleep() <= slept {
            thread::yield_now();
        }
        slept = asleep();
        let kind = 1 + (scatter(round) % 4) as u16;
        mailbox.send(kind, &letter(kind, round)).unwrap();
        assert_eq!(sleepers[usize::from(kind) - 1].hear(), round);
    }
}

#[test]
fn what_was_sent_before_the_mailbox_was_closed_is_received_before_its_end() {
    for round in 0..300_u64 {
        let ring = ringpost::unnamed().mailbox(64).memfd().unwrap();
        let (mut sender, mut receiver) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
        let sent = thread::scope(|threads| {
            let sending = threads.spawn(move || {
                let sent = (0..).take_while(|_| sender.try_send(1, b"").is_ok()).count();
                if round % 2 == 0 {
                    sender.close_for_all();
                }
                (sent, sender)
            });
            let closing = ring.mailbox().unwrap();
            (0..round).for_each(|_| std::hint::spin_loop());
            closing.close_for_all();
            sending.join().unwrap().0
        });
        let received = std::iter::from_fn(|| receiver.recv(Pick::Any).ok().map(drop)).count();
        assert_eq!(received, sent, "all that was answered with Ok, and nothing else");
        assert_eq!(receiver.try_recv(Pick::Any).unwrap_err(), RecvError::Disconnected);
    }
}

/// One waits for a kind, beside a ring; another, in the same process, for any, by a descriptor. Whichever takes a message wakes the
/// other for what it left.
#[test]
fn a_mailbox_is_waited_for_beside_a_ring_and_by_a_descriptor() {
    let (shared, ring) = (office(8, |builder| builder.priorities(2)), ringpost::unnamed().memfd().unwrap());
    let mut select = Select::new();
    let sevens = select.add(shared.ring.mailbox().unwrap().picking(Pick::Kind(7))).unwrap();
    let bell = select.add(ring.receiver().unwrap()).unwrap();
    let mut any = Readiness::new(shared.ring.mailbox().unwrap()).unwrap();
    let rounds = if common::long() { 20_000 } else { 200 };
    let sending = child_at(&shared, "send", &format!("7 {rounds}"));
    let (mut expected, mut others) = (0, 0);
    let mut sender = ring.sender().unwrap();
    let mut other = shared.ring.mailbox().unwrap();
    thread::scope(|threads| {
        // Or it would wait until somebody hears it.
        threads.spawn(|| while sending.next().is_some() {});
        threads.spawn(|| {
            for number in 0..rounds {
                // Some that the other one takes, whoever was called.
                other.send(Envelope { kind: 8, priority: 1 }, &letter(8, number)).unwrap();
                loop {
                    any.arm().unwrap();
                    poll(&mut [PollFd::new(&any, PollFlags::IN)], None).unwrap();
                    match any.try_recv(Pick::Except(7)) {
                        Ok(letter) => {
                            assert_eq!(self::number(&letter), number);
                            others += 1;
                            break;
                        }
                        Err(error) => assert_eq!(error, RecvError::Empty),
                    }
                }
            }
            sender.send(b"done").unwrap();
        });
        loop {
            match select.wait_timeout(FAR).unwrap() {
                ready if ready == sevens => {
                    let letter = select[sevens].try_recv().unwrap();
                    assert_eq!((letter.kind(), number(&letter)), (7, expected));
                    expected += 1;
                }
                ready => {
                    assert!(ready == bell);
                    assert_eq!(select[bell].try_recv().unwrap().to_vec(), b"done");
                    break;
                }
            }
        }
        while expected < rounds {
            assert!(select.wait_timeout(FAR).unwrap() == sevens);
            assert_eq!(number(&select[sevens].try_recv().unwrap()), expected);
            expected += 1;
        }
    });
    assert_eq!(others, rounds);
    sending.finish();
}

/// A message calls one of those who sleep, so whoever is called and goes has to call the next.
#[test]
fn whoever_is_called_and_leaves_without_a_look_calls_another() {
    let shared = office(8, |builder| builder);
    let mut gone = (None, None);
    // Whoever takes a seat calls all, so this one comes first.
    let mut sender = shared.ring.mailbox().unwrap();
    let mut others: Vec<_> =
        (0..4).map(|_| Readiness::new(shared.ring.mailbox().unwrap()).unwrap()).collect();
    for mailbox in &mut others {
        assert!(!mailbox.arm().unwrap());
    }
    send(&mut sender, 0);
    while !others.is_empty() {
        let mut descriptors: Vec<_> =
            others.iter().map(|mailbox| PollFd::new(mailbox, PollFlags::IN)).collect();
        assert_ne!(poll(&mut descriptors, Some(&FAR.try_into().unwrap())).unwrap(), 0, "nobody is called");
        let called = descriptors.iter().position(|descriptor| descriptor.revents().contains(PollFlags::IN));
        let called = called.unwrap();
        drop(descriptors);
        let mut called = others.swap_remove(called);
        match others.len() {
            0 => assert_eq!(number(&called.try_recv(Pick::Any).unwrap()), 0),
            1 => drop(called),
            2 => gone.0 = Some(called.into_inner()),
            _ => {
                called.disarm();
                gone.1 = Some(called);
            }
        }
    }
}

#[test]
fn a_mailbox_that_is_closed_for_all_gives_what_is_left_and_then_says_so() {
    let shared = office(2, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sleeper = child_at(&shared, "receive-to-the-end", "");
    assert_eq!(sleeper.hear(), 0);
    while shared.ring.statistics().readers.iter().all(|reader| reader.sleeps == 0) {
        thread::yield_now();
    }
    send(&mut mailbox, 5);
    assert_eq!(sleeper.hear(), 5);
    mailbox.close_for_all();
    sleeper.finish();
    assert_eq!(mailbox.try_send(1, b"").unwrap_err(), SendError::Disconnected);
    assert_eq!(mailbox.recv(Pick::Any).unwrap_err(), RecvError::Disconnected);
}

/// The seat of who waits for many comes before that of the only receiver, so it is called first.
#[test]
fn who_is_called_and_may_not_receive_calls_the_one_who_may() {
    for by_descriptor in [false, true] {
        let shared = office(8, |builder| builder);
        let mut sender = shared.ring.mailbox().unwrap();
        let other = shared.ring.mailbox().unwrap();
        let alone = child_at(&shared, "receive-alone", "");
        assert_eq!(alone.hear(), 0);
        let refused = RecvError::NotTheReceiver { pid: alone.id() };
        let asleep = || shared.ring.statistics().readers.iter().filter(|reader| reader.sleeps > 0).count();
        thread::scope(|threads| {
            let waiting = threads.spawn(move || {
                // Its handle is given to the test: who leaves calls others anyway.
                if by_descriptor {
                    let mut other = Readiness::new(other).unwrap();
                    assert!(!other.arm().unwrap());
                    let patience = Timespec { tv_sec: FAR.as_secs() as _, tv_nsec: 0 };
                    assert_eq!(poll(&mut [PollFd::new(&other, PollFlags::IN)], Some(&patience)).unwrap(), 1);
                    let refused = other.try_recv(Pick::Any).map(drop);
                    (None, Some(other), refused)
                } else {
                    let mut select = Select::new();
                    let other = select.add(other).unwrap();
                    select.wait_timeout(FAR).unwrap();
                    let refused = select[other].try_recv(Pick::Any).map(drop);
                    (Some(select), None, refused)
                }
            });
            while asleep() < 2 {
                thread::yield_now();
            }
            send(&mut sender, 7);
            let called = waiting.join().unwrap();
            assert_eq!(called.2, Err(refused));
            assert_eq!(alone.hear_before_the_end(), Some(7), "by a descriptor: {by_descriptor}");
        });
    }
}

/// Who waits for many is called for a message in the moment in which its time runs out, or in which another source has something, and
/// then does something else; the other one sleeps.
#[test]
fn who_is_called_while_it_leaves_its_wait_for_many_calls_another() {
    let rounds = if common::long() { 100_000 } else { 3_000 };
    let ring = ringpost::unnamed().mailbox(8).longest_message(256).memfd().unwrap();
    let bell = ringpost::unnamed().memfd().unwrap();
    // The seat of who waits for many comes before that of who sleeps, so it is called first.
    let (mut sender, many, mut one) =
        (ring.mailbox().unwrap(), ring.mailbox().unwrap(), ring.mailbox().unwrap());
    let (mut striker, mut select) = (bell.sender().unwrap(), Select::new());
    let many = select.add(many).unwrap();
    let other = select.add(bell.receiver().unwrap()).unwrap();
    one.set_wait(WaitStrategy::Sleep);
    select.set_wait(WaitStrategy::Sleep);
    let (taken, is_taken) = mpsc::channel();
    let (go, begun) = mpsc::channel();
    thread::scope(|threads| {
        threads.spawn(move || {
            while let Ok(letter) = one.recv(Pick::Any) {
                taken.send(()).unwrap();
                drop(letter);
            }
        });
        threads.spawn(move || {
            for round in begun {
                (0..scatter(round) % 3000).for_each(|_| std::hint::spin_loop());
                if round % 2 == 0 {
                    striker.send(b"").unwrap();
                }
                sender.send(1, b"").unwrap();
            }
            sender.close_for_all();
        });
        for round in 0..rounds {
            go.send(round).unwrap();
            let ready = select.wait_timeout(if round % 2 == 0 { FAR } else { Duration::from_micros(80) });
            let is_mine = ready.is_ok_and(|ready| ready == many) && select[many].try_recv(Pick::Any).is_ok();
            // Nothing is asked of the mailbox any more.
            assert!(is_mine || is_taken.recv_timeout(FAR / 10).is_ok(), "round {round}: {ready:?}");
            while select[other].try_recv().is_ok() {}
        }
        drop(go);
    });
}
