//! Every reader gets every message, in its order, in place; the slowest holds the sender up.

use super::*;

#[test]
fn three_readers_get_every_message_in_order() {
    let messages = if common::long() { 1_000_000 } else { 20_000 };
    let (shared, stream) = (ring(3), stream());
    let readers: Vec<_> = (0..3).map(|_| child_at(&shared, "subscribe", "")).collect();
    let mut publisher = shared.ring.publisher().unwrap();
    readers.iter().for_each(|reader| assert_eq!(reader.hear(), 0));
    thread::scope(|scope| {
        for reader in &readers {
            scope.spawn(|| {
                for number in 0..messages {
                    assert_eq!(reader.hear(), number);
                }
                assert_eq!(reader.next(), None, "nothing comes behind the end");
            });
        }
        for number in 0..messages {
            publisher.send(&letter(&stream, number)).unwrap();
        }
        drop(publisher);
    });
    readers.into_iter().for_each(Child::finish);
    let statistics = shared.ring.statistics();
    assert_eq!(statistics.sent(), messages);
    assert!(statistics.readers.iter().all(|reader| reader.messages == messages));
    assert_eq!(statistics.readers.len(), 3);
}

#[test]
fn a_slow_reader_holds_the_sender_up_and_is_named() {
    let (shared, stream) = (ring(2), stream());
    let mut publisher = shared.ring.publisher().unwrap();
    assert_eq!(publisher.slowest(), None);
    let mut slow = shared.ring.subscriber().unwrap();
    let mut fast = shared.ring.subscriber().unwrap();
    let sent = fill(&mut publisher, &stream, 0, |number| assert_eq!(next(&mut fast, &stream), Ok(number)));
    assert_eq!(publisher.try_send(&letter(&stream, sent)), Err(SendError::Full));
    assert_eq!(
        publisher.send_timeout(&letter(&stream, sent), Duration::from_millis(1)),
        Err(SendError::TimedOut)
    );
    let lag = publisher.slowest().unwrap();
    assert_eq!((lag.slot, lag.pid), (slow.slot(), std::process::id()));
    assert_eq!(lag.behind_bytes, slow.lag());
    assert_eq!(fast.lag(), 0);
    assert!(shared.ring.statistics().senders[0].refused >= 3);
    for number in 0..sent {
        assert_eq!(next(&mut slow, &stream), Ok(number));
    }
    publisher.try_send(&letter(&stream, sent)).unwrap();
    assert_eq!((next(&mut slow, &stream), next(&mut fast, &stream)), (Ok(sent), Ok(sent)));
}

#[test]
fn each_message_wakes_who_sleeps() {
    let (shared, stream) = (ring(2), stream());
    let name = shared.invite().word.split_off("name:".len());
    let readers = [
        child_at(&shared, "subscribe", ""),
        child_at(&shared, "subscribe", ""),
        child_at(&shared, "watch", ""),
        Child::start(&format!("watch-to-read {name}")),
    ];
    readers.iter().for_each(|reader| assert_eq!(reader.hear(), 0));
    let mut publisher = shared.ring.publisher().unwrap();
    for number in 0..300 {
        publisher.send(&letter(&stream, number)).unwrap();
        readers.iter().for_each(|reader| assert_eq!(reader.hear_before_the_end(), Some(number)));
    }
    drop(publisher);
    readers.into_iter().for_each(Child::finish);
}

#[test]
fn a_message_that_is_held_is_not_written_over_and_one_that_is_forgotten_comes_again() {
    let (shared, stream) = (ring(1), stream());
    let (mut publisher, mut reader) = (shared.ring.publisher().unwrap(), shared.ring.subscriber().unwrap());
    publisher.send(&letter(&stream, 0)).unwrap();
    std::mem::forget(reader.recv().unwrap());
    let held = reader.recv().unwrap();
    let sent = fill(&mut publisher, &stream, 1, |_| {});
    assert_eq!(number(&stream, &held.to_vec()), 0);
    drop(held);
    (1..sent).for_each(|expected| assert_eq!(next(&mut reader, &stream), Ok(expected)));
}

#[test]
fn messages_as_long_as_the_ring_follow_each_other() {
    let ring = ringpost::unnamed().capacity(4096).broadcast(1).memfd().unwrap();
    let (mut publisher, mut reader) = (ring.publisher().unwrap(), ring.subscriber().unwrap());
    let mut watcher = ring.watcher(Start::Now).unwrap();
    for byte in 0..20 {
        publisher.try_send(&vec![byte; 4080]).unwrap();
        assert_eq!(publisher.try_send(b""), Err(SendError::Full));
        assert_eq!(reader.try_recv().unwrap().to_vec(), [byte; 4080]);
        publisher.try_send(b"").unwrap();
        assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Missed { count: 1 });
        assert_eq!((reader.try_recv().unwrap().len(), watcher.try_recv().unwrap().len()), (0, 0));
    }
}

#[test]
fn threads_read_in_place() {
    let ring = ringpost::unnamed().capacity(1 << 13).longest_message(100).broadcast(3).in_process().unwrap();
    let mut publisher = ring.publisher().unwrap();
    let readers = [(); 3].map(|()| ring.subscriber().unwrap());
    thread::scope(|scope| {
        for mut reader in readers {
            scope.spawn(move || {
                for number in 0..50_000_u64 {
                    let message = reader.recv().unwrap();
                    assert_eq!(message[..8], number.to_ne_bytes());
                    assert!(message[8..].iter().all(|&byte| byte == number as u8));
                }
                assert_eq!(reader.recv().unwrap_err(), RecvError::Disconnected);
            });
        }
        for number in 0..50_000_u64 {
            let mut message = publisher.reserve(8 + (number % 90) as usize).unwrap();
            message.fill(number as u8);
            message[..8].copy_from_slice(&number.to_ne_bytes());
            message.commit();
        }
        drop(publisher);
    });
}

#[test]
fn positions_and_what_is_counted_by_them_wrap() {
    let ring =
        ringpost::unnamed().capacity(4096).broadcast(1).start_position((1 << 56) - 300).memfd().unwrap();
    let mut publisher = ring.publisher().unwrap();
    let mut reader = ring.subscriber().unwrap();
    let mut watchers = [Start::Now, Start::Oldest].map(|start| ring.watcher(start).unwrap());
    for number in 0..1000_u64 {
        publisher.try_send(&number.to_ne_bytes()).unwrap();
        assert_eq!(reader.try_recv().unwrap().to_vec(), number.to_ne_bytes());
    }
    for watcher in &mut watchers {
        let Err(RecvError::Missed { count }) = watcher.try_recv() else { panic!("nothing was missed") };
        for number in count..1000 {
            assert_eq!(*watcher.try_recv().unwrap(), number.to_ne_bytes());
        }
    }
}
