//! Readers and senders that are killed or stopped.

use super::*;

#[test]
fn a_sender_that_waits_for_a_reader_goes_on_when_that_is_killed_and_no_other_loses_anything() {
    for strategy in [WaitStrategy::Sleep, WaitStrategy::SpinThenSleep] {
        let (shared, stream) = (ring(2), stream());
        let mut slow = child_at(&shared, "idle", "");
        let mut fast = shared.ring.subscriber().unwrap();
        assert_eq!(slow.hear(), 0);
        let mut publisher = shared.ring.publisher().unwrap();
        publisher.set_wait(strategy);
        let sent =
            fill(&mut publisher, &stream, 0, |number| assert_eq!(next(&mut fast, &stream), Ok(number)));
        thread::scope(|scope| {
            let sending = scope.spawn(|| publisher.send_timeout(&letter(&stream, sent), FAR));
            while shared.ring.statistics().senders[0].sleeps == 0 {
                thread::yield_now();
            }
            slow.kill();
            assert_eq!(sending.join().unwrap(), Ok(()));
        });
        assert_eq!(next(&mut fast, &stream), Ok(sent));
        for number in sent + 1..sent + 1000 {
            publisher.try_send(&letter(&stream, number)).unwrap();
            assert_eq!(next(&mut fast, &stream), Ok(number));
        }
    }
}

#[test]
fn a_stopped_reader_is_named_and_never_passed_over() {
    let (shared, stream) = (ring(2), stream());
    let reader = child_at(&shared, "subscribe", "");
    assert_eq!(reader.hear(), 0);
    reader.stop();
    let mut publisher = shared.ring.publisher().unwrap();
    let sent = fill(&mut publisher, &stream, 0, |_| {});
    assert_eq!(
        publisher.send_timeout(&letter(&stream, sent), Duration::from_millis(300)),
        Err(SendError::TimedOut)
    );
    let lag = publisher.slowest().unwrap();
    assert_eq!((lag.pid, lag.slot), (reader.id(), 1));
    assert!(lag.behind_bytes > shared.ring.info().capacity / 2);
    reader.resume();
    publisher.send_timeout(&letter(&stream, sent), FAR).unwrap();
    drop(publisher);
    (0..=sent).for_each(|number| assert_eq!(reader.hear(), number));
    assert_eq!(reader.next(), None);
    reader.finish();
}

#[test]
fn a_stopped_reader_that_is_killed_is_not_named_any_more() {
    let (shared, stream) = (ring(2), stream());
    let mut reader = child_at(&shared, "idle", "");
    assert_eq!(reader.hear(), 0);
    reader.stop();
    let mut publisher = shared.ring.publisher().unwrap();
    publisher.send(&letter(&stream, 0)).unwrap();
    assert_eq!(publisher.slowest().map(|lag| lag.pid), Some(reader.id()));
    reader.kill();
    let begun = Instant::now();
    // There is room, so nothing that is sent makes the sender look.
    while let Some(lag) = publisher.slowest() {
        assert!(begun.elapsed() < FAR, "{lag:?} of a process that is dead");
        thread::yield_now();
    }
    (1..1000).for_each(|number| publisher.try_send(&letter(&stream, number)).unwrap());
}

#[test]
fn readers_that_were_killed_before_a_sender_came_hold_not_even_its_first_message_up() {
    for _ in 0..10 {
        let (shared, stream) = (ring(2), stream());
        let mut readers = [(); 2].map(|()| child_at(&shared, "idle", ""));
        readers.iter().for_each(|reader| assert_eq!(reader.hear(), 0));
        let mut publisher = shared.ring.publisher().unwrap();
        let sent = fill(&mut publisher, &stream, 0, |_| {});
        drop(publisher);
        readers.iter_mut().for_each(Child::kill);
        let mut publisher = shared.ring.publisher().unwrap();
        assert_eq!(publisher.slowest(), None);
        (sent..sent + 1000).for_each(|number| publisher.try_send(&letter(&stream, number)).unwrap());
    }
}

#[test]
fn who_goes_on_behind_a_death_waits_for_the_next_sender_and_gets_all_of_it() {
    const SHORT: Duration = Duration::from_millis(20);
    let (shared, stream) = (ring(1), stream());
    let mut subscriber = shared.ring.subscriber().unwrap();
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    let mut sent = 0;
    for round in 0..3 {
        let mut sender = child_at(&shared, "publish-on", &format!("{sent} {round}"));
        let pid = sender.id();
        while sender.hear() < sent + 100 {
            let _ = subscriber.try_recv();
        }
        sender.kill();
        let died = Err(RecvError::PeerDied { pid, unfinished: 0 });
        let end = loop {
            match next(&mut subscriber, &stream) {
                Ok(number) => sent = number + 1,
                end => break end,
            }
        };
        assert_eq!(end, died);
        assert_eq!(next(&mut subscriber, &stream), died, "again, until another one has come");
        subscriber.reopen();
        assert_eq!(subscriber.recv_timeout(SHORT).map(drop), Err(RecvError::TimedOut));
        while !matches!(seen(&mut watcher, &stream), Err(RecvError::PeerDied { pid: who, .. }) if who == pid)
        {
        }
        watcher.reopen();
        assert_eq!(watcher.recv_timeout(SHORT).map(drop), Err(RecvError::TimedOut));

        let mut publisher = shared.ring.publisher().unwrap();
        // There is a sender: what is said now is about no end.
        subscriber.reopen();
        watcher.reopen();
        publisher.send(&letter(&stream, sent)).unwrap();
        assert_eq!((next(&mut subscriber, &stream), seen(&mut watcher, &stream)), (Ok(sent), Ok(sent)));
        drop(publisher);
        for _ in 0..2 {
            assert_eq!(next(&mut subscriber, &stream), Err(RecvError::Disconnected));
            assert_eq!(seen(&mut watcher, &stream), Err(RecvError::Disconnected));
        }
        subscriber.reopen();
        watcher.reopen();
        assert_eq!(subscriber.recv_timeout(SHORT).map(drop), Err(RecvError::TimedOut));
        assert_eq!(watcher.recv_timeout(SHORT).map(drop), Err(RecvError::TimedOut));
        sent += 1;
    }
}

#[test]
fn what_killed_senders_had_sent_reaches_every_reader_once_and_in_order() {
    let kills = if common::long() { 2000 } else { 110 };
    let (shared, stream) = (ring(3), stream());
    let mut readers = [(); 3].map(|()| shared.ring.subscriber().unwrap());
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    let (mut first, mut watched) = (0, 0);
    for round in 0..kills {
        let kind = round as u16;
        let mut publisher = child_at(&shared, "publish-on", &format!("{first} {kind}"));
        let mut acknowledged = publisher.hear();
        assert_eq!(acknowledged, first);
        for _ in 0..scatter(round) % 40 {
            let before = acknowledged;
            acknowledged = publisher.hear();
            for reader in &mut readers {
                (before..acknowledged)
                    .for_each(|number| assert_eq!(next_of(reader, &stream), Ok((number, kind))));
            }
        }
        let read = acknowledged;
        publisher.kill();
        while let Some(number) = publisher.next() {
            acknowledged = number;
        }
        let ends = readers.each_mut().map(|reader| {
            let mut expected = read;
            loop {
                match next_of(reader, &stream) {
                    Ok(next) => assert_eq!(next, (expected, kind), "of this sender, and not left by another"),
                    Err(RecvError::PeerDied { pid, .. }) => {
                        assert_eq!(pid, publisher.id());
                        break expected;
                    }
                    Err(other) => panic!("{other}"),
                }
                expected += 1;
            }
        });
        let end = ends[0];
        assert_eq!(ends, [end; 3], "all have the same");
        let most = together(acknowledged, kind);
        assert!(end == acknowledged || end == acknowledged + most, "{end}, acknowledged: {acknowledged}");
        while watched < end {
            match seen(&mut watcher, &stream) {
                Ok(number) => {
                    assert_eq!(number, watched);
                    watched += 1;
                }
                Err(RecvError::Missed { count }) => watched += count,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(watched, end, "the successor has counted on");
        first = end;
    }
}

#[test]
fn a_batch_that_a_killed_sender_has_begun_is_never_seen() {
    for successors in 1..4 {
        let (shared, stream) = (ring(1), stream());
        let mut reader = shared.ring.subscriber().unwrap();
        let mut sender = child_at(&shared, "begin-a-batch", "");
        assert_eq!(sender.hear(), 0);
        sender.kill();
        assert_eq!(next(&mut reader, &stream), Err(RecvError::PeerDied { pid: sender.id(), unfinished: 0 }));
        // All but the last close at once.
        (1..successors).for_each(|_| drop(shared.ring.publisher().unwrap()));
        shared.ring.publisher().unwrap().send(&letter(&stream, 0)).unwrap();
        assert_eq!(next(&mut reader, &stream), Ok(0));
        assert_eq!(next(&mut reader, &stream), Err(RecvError::Disconnected), "the second was never sent");
    }
}

#[test]
fn a_batch_that_a_killed_sender_has_begun_in_the_room_of_a_dead_reader_is_never_seen() {
    let shared = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 14).broadcast(2));
    let mut reader = shared.ring.subscriber().unwrap();
    let mut dead = child_at(&shared, "idle", "");
    assert_eq!(dead.hear(), 0);
    dead.kill();
    let mut sender = child_at(&shared, "publish-into-the-dead", "");
    let mut take = |number| assert_eq!(reader.recv_timeout(FAR).unwrap().to_vec(), half(number));
    (0..HALVES).for_each(&mut take);
    assert_eq!(sender.hear(), 0);
    sender.kill();
    let of_its_death = RecvError::PeerDied { pid: sender.id(), unfinished: 0 };
    assert_eq!(reader.recv_timeout(FAR).unwrap_err(), of_its_death);
    let mut publisher = shared.ring.publisher().unwrap();
    for number in 0..3 * HALVES {
        publisher.send_timeout(&half(number), FAR).unwrap();
        assert_eq!(reader.recv_timeout(FAR).unwrap().to_vec(), half(number));
        assert!(matches!(reader.try_recv(), Err(RecvError::Empty)), "nobody has sent another");
    }
}

#[test]
fn a_message_that_finds_room_when_a_longer_one_did_not_is_safe_from_what_a_killed_sender_left() {
    let shared = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 14).broadcast(1));
    let mut reader = shared.ring.subscriber().unwrap();
    let mut sender = child_at(&shared, "begin-a-batch-behind-some", "");
    assert_eq!(sender.hear(), 0);
    sender.kill();
    let mut publisher = shared.ring.publisher().unwrap();
    let mut take = |expected: &[u8]| assert_eq!(reader.recv_timeout(FAR).unwrap().to_vec(), expected);
    assert_eq!(publisher.try_send(&[b'l'; 5000]), Err(SendError::Full));
    publisher.try_send(b"short").unwrap();
    (0..3).for_each(|number| take(&half(number)));
    publisher.try_send(&[b'l'; 5000]).unwrap();
    (3..HALVES - 1).for_each(|number| take(&half(number)));
    take(b"short");
    take(&[b'l'; 5000]);
    assert!(matches!(reader.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn readers_killed_while_they_join_hold_nobody_up_and_spoil_nothing() {
    let kills = if common::long() { 2000 } else { 110 };
    let (shared, stream) = (ring(4), stream());
    let mut reader = shared.ring.subscriber().unwrap();
    let mut publisher = shared.ring.publisher().unwrap();
    let mut sent = 0;
    for round in 0..kills {
        let mut joining = child_at(&shared, "join", "");
        assert_eq!(joining.hear(), 0);
        for _ in 0..scatter(round) % 200 {
            publisher.send_timeout(&letter(&stream, sent), FAR).unwrap();
            assert_eq!(next(&mut reader, &stream), Ok(sent));
            sent += 1;
        }
        joining.kill();
        // More than the ring holds: the dead one is passed over.
        for _ in 0..400 {
            publisher.send_timeout(&letter(&stream, sent), FAR).unwrap();
            assert_eq!(next(&mut reader, &stream), Ok(sent));
            sent += 1;
        }
    }
    let others = [(); 3].map(|()| shared.ring.subscriber().unwrap());
    assert!(matches!(shared.ring.subscriber(), Err(OpenError::TooManyReaders { most: 4 })));
    drop(others);
}
