//! Who comes late, who is not expected, and what they find of the senders before.

use super::*;

#[test]
fn a_reader_that_joins_in_mid_stream_gets_all_from_there_on() {
    let messages = if common::long() { 10_000_000 } else { 100_000 };
    let (shared, stream, over) = (ring(8), stream(), AtomicBool::new(false));
    let publisher = child_at(&shared, "publish", &messages.to_string());
    assert_eq!(publisher.hear(), 0);
    publisher.tell(0);
    publisher.tell(0);
    // Whoever comes after the end waits for another sender.
    let next_before_the_end = |subscriber: &mut Subscriber| loop {
        match subscriber.recv_timeout(Duration::from_millis(10)) {
            Ok(message) => return Some(number(&stream, &message.to_vec())),
            Err(RecvError::Disconnected) => return None,
            Err(RecvError::TimedOut) if over.load(SeqCst) => return None,
            Err(RecvError::TimedOut) => {}
            Err(other) => panic!("{other}"),
        }
    };
    thread::scope(|scope| {
        for start in [Start::Now, Start::Oldest, Start::Last(3), Start::Last(u64::MAX)] {
            let (ring, next_before_the_end) = (&shared.ring, &next_before_the_end);
            scope.spawn(move || {
                for round in 0..200 {
                    let mut subscriber = ring.subscriber_from(start).unwrap();
                    let Some(first) = next_before_the_end(&mut subscriber) else { break };
                    for expected in first + 1..first + scatter(round) % 300 {
                        let Some(number) = next_before_the_end(&mut subscriber) else {
                            assert_eq!(expected, messages, "nothing is lost at the end");
                            break;
                        };
                        assert_eq!(number, expected);
                    }
                }
            });
        }
        assert_eq!(publisher.hear(), messages / 2);
        publisher.finish();
        over.store(true, SeqCst);
    });
}

#[test]
fn who_comes_late_begins_where_it_says() {
    let (shared, stream) = (ring(4), stream());
    let ring = &shared.ring;
    let mut publisher = ring.publisher().unwrap();
    for sent in [5, 1000] {
        let first = publisher_has_sent(&mut publisher, &stream, sent);
        let oldest = {
            let mut all = ring.watcher(Start::Oldest).unwrap();
            seen(&mut all, &stream).unwrap()
        };
        let capacity = ring.info().capacity as usize;
        let held: usize = (oldest..first).map(|n| ringpost::record_size(letter(&stream, n).len())).sum();
        assert!(oldest == 0 || held > capacity * 3 / 4, "{held} bytes of {capacity} are still there");
        for (start, begin) in [
            (Start::Now, first),
            (Start::Last(0), first),
            (Start::Last(1), first - 1),
            (Start::Last(4), first - 4),
            (Start::Last(u64::MAX), oldest),
            (Start::Oldest, oldest),
        ] {
            let mut subscriber = ring.subscriber_from(start).unwrap();
            let mut watcher = ring.watcher(start).unwrap();
            for number in begin..first {
                assert_eq!(next(&mut subscriber, &stream), Ok(number), "{start:?}");
                assert_eq!(seen(&mut watcher, &stream), Ok(number), "{start:?}");
            }
            assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::Empty, "{start:?}");
            assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Empty, "{start:?}");
            assert_eq!((subscriber.lag(), watcher.lag()), (0, 0));
        }
    }
}

/// Sends up to message `end`, and gives `end`.
fn publisher_has_sent(publisher: &mut Publisher, stream: &Stream, end: u64) -> u64 {
    let first = if end == 5 { 0 } else { 5 };
    (first..end).for_each(|number| publisher.try_send(&letter(stream, number)).unwrap());
    end
}

#[test]
fn the_end_comes_behind_the_last_message_and_ends_with_the_next_sender() {
    let (shared, stream) = (ring(2), stream());
    let mut reader = shared.ring.subscriber().unwrap();
    assert_eq!(reader.try_recv().unwrap_err(), RecvError::Empty, "nobody has closed yet");
    let mut publisher = shared.ring.publisher().unwrap();
    publisher.send(&letter(&stream, 0)).unwrap();
    publisher.send(&letter(&stream, 1)).unwrap();
    drop(publisher);
    assert_eq!((next(&mut reader, &stream), next(&mut reader, &stream)), (Ok(0), Ok(1)));
    assert_eq!(next(&mut reader, &stream), Err(RecvError::Disconnected));
    assert_eq!(next(&mut reader, &stream), Err(RecvError::Disconnected));
    let mut late = shared.ring.subscriber().unwrap();
    assert_eq!(late.try_recv().unwrap_err(), RecvError::Empty, "the end of a former sender is no news");
    let mut publisher = shared.ring.publisher().unwrap();
    assert_eq!(next_now(&mut reader), Err(RecvError::Empty));
    publisher.send(&letter(&stream, 2)).unwrap();
    assert_eq!((next(&mut reader, &stream), next(&mut late, &stream)), (Ok(2), Ok(2)));
    let messages: Vec<OwnedMessage> = {
        publisher.send_kind(5, &letter(&stream, 3)).unwrap();
        drop(publisher);
        reader.iter().collect()
    };
    assert_eq!(number(&stream, &messages[0]), 3);
    let OwnedMessage { kind, sender, .. } = &messages[0];
    assert_eq!((*kind, sender.slot, sender.pid), (5, 0, std::process::id()));
}

fn next_now(reader: &mut Subscriber) -> Result<(), RecvError> {
    reader.try_recv().map(drop)
}

#[test]
fn who_is_not_expected_is_told_so() {
    let shared = ring(2);
    let ring = &shared.ring;
    let name = shared.invite().word.split_off("name:".len());
    assert_eq!((ring.info().broadcast, ring.info().many_senders), (Some(2), None));
    let mismatch = |error: OpenError| matches!(error, OpenError::Mismatch { .. });
    assert!(mismatch(ring.sender().unwrap_err()) && mismatch(ring.multi_sender().unwrap_err()));
    assert!(mismatch(ring.receiver().unwrap_err()));
    assert!(mismatch(ringpost::builder(&name).broadcast(3).open().unwrap_err()));
    assert!(ringpost::builder(&name).broadcast(2).open().is_ok());
    let _publisher = ring.publisher().unwrap();
    let pid = std::process::id();
    assert!(matches!(ring.publisher(), Err(OpenError::SenderAttached { pid: other }) if other == pid));
    let _readers = [ring.subscriber().unwrap(), ring.subscriber().unwrap()];
    assert!(matches!(ring.subscriber(), Err(OpenError::TooManyReaders { most: 2 })));
    let ordinary = ringpost::unnamed().memfd().unwrap();
    assert!(mismatch(ordinary.publisher().unwrap_err()) && mismatch(ordinary.subscriber().unwrap_err()));
    assert!(mismatch(ordinary.watcher(Start::Now).unwrap_err()));
    let none = ringpost::unnamed().broadcast(0).memfd().unwrap_err();
    assert!(matches!(none, OpenError::Setting { what: "number of readers", given: 0, .. }));
    let both = ringpost::unnamed().broadcast(2).many_senders(3).memfd().unwrap_err();
    assert!(matches!(both, OpenError::Setting { what: "number of senders of a broadcast", given: 3, .. }));
}
