//! One sender, and every reader gets every message: between real processes.
//!
//! Message `n` is a pure function of `n`, so each reader knows every byte before it comes.

mod common;

use common::{
    Child, FAR, Line,
    rings::{Shared, Way, child_at, open},
    stream::{Stream, scatter},
};
use ringpost::{
    Builder, OpenError, OwnedMessage, Publisher, RecvError, SendError, Start, Subscriber, WaitStrategy,
    Watcher,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

assert_impl_all!(Publisher: Send);
assert_impl_all!(Subscriber: Send);
assert_impl_all!(Watcher: Send);
assert_not_impl_any!(Publisher: Sync, Clone);
assert_not_impl_any!(Subscriber: Sync, Clone);
assert_not_impl_any!(Watcher: Sync, Clone);

/// Longest message of these tests.
const LONGEST: usize = 600;

fn ring(readers: u8) -> Shared {
    Shared::new(Way::Name, |builder: Builder| {
        builder.capacity(1 << 14).longest_message(LONGEST as u64).broadcast(readers)
    })
}

/// Message `number`: it and what belongs to it.
fn letter(stream: &Stream, number: u64) -> Vec<u8> {
    let mut bytes = number.to_ne_bytes().to_vec();
    bytes.extend_from_slice(stream.letter(1, number).bytes);
    bytes
}

fn stream() -> Stream {
    Stream::new(LONGEST - 8)
}

/// The number of a message, every byte of which is as it was sent.
#[track_caller]
fn number(stream: &Stream, bytes: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == letter(stream, number), "message {number} is not what was sent");
    number
}

/// Number and kind of the next message.
#[track_caller]
fn next_of(subscriber: &mut Subscriber, stream: &Stream) -> Result<(u64, u16), RecvError> {
    match subscriber.recv_timeout(FAR) {
        Err(RecvError::TimedOut) => panic!("only the deadline ended the wait"),
        message => message.map(|message| (number(stream, &message.to_vec()), message.kind())),
    }
}

#[track_caller]
fn next(subscriber: &mut Subscriber, stream: &Stream) -> Result<u64, RecvError> {
    next_of(subscriber, stream).map(|(number, _)| number)
}

/// The next message of a watcher, or how many were missed.
#[track_caller]
fn seen(watcher: &mut Watcher, stream: &Stream) -> Result<u64, RecvError> {
    match watcher.recv_timeout(FAR) {
        Err(RecvError::TimedOut) => panic!("only the deadline ended the wait"),
        message => message.map(|message| number(stream, &message)),
    }
}

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let stream = stream();
    match words[..] {
        ["subscribe", ring] => {
            let mut subscriber = open(ring, &line).subscriber().unwrap();
            line.tell(0);
            tell_all(&line, || next(&mut subscriber, &stream));
        }
        ["idle", ring] => {
            let mut subscriber = open(ring, &line).subscriber().unwrap();
            line.tell(0);
            line.hear();
            tell_all(&line, || next(&mut subscriber, &stream));
        }
        ["watch", ring] => {
            let mut watcher = open(ring, &line).watcher(Start::Now).unwrap();
            line.tell(0);
            tell_all(&line, || seen(&mut watcher, &stream));
        }
        ["watch-to-read", name] => {
            let mut watcher = ringpost::builder(name).watch(Start::Now).unwrap();
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            let ours: Vec<_> = maps.lines().filter(|map| map.contains(name)).collect();
            assert!(ours.len() >= 2 && ours.iter().all(|map| map.contains(" r--s ")), "{ours:?}");
            line.tell(0);
            tell_all(&line, || seen(&mut watcher, &stream));
        }
        ["publish", ring, messages] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            line.tell(0);
            line.hear();
            let messages: u64 = messages.parse().unwrap();
            for number in 0..messages {
                publisher.send(&letter(&stream, number)).unwrap();
                if number == messages / 2 {
                    line.tell(number);
                    line.hear();
                }
            }
        }
        ["publish-on", ring, first, kind] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            let (mut number, kind) = (first.parse().unwrap(), kind.parse().unwrap());
            line.tell(number);
            loop {
                number = send_one_or_three(&mut publisher, &stream, number, kind);
                line.tell(number);
            }
        }
        ["begin-a-batch", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            let mut batch = publisher.batch(3 * ringpost::record_size(LONGEST)).unwrap();
            (0..3).for_each(|number| batch.push(0, &letter(&stream, number)).unwrap());
            line.tell(0);
            line.hear();
        }
        ["publish-into-the-dead", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            for number in 0..HALVES {
                publisher.send(&half(number)).unwrap();
            }
            // Waits until the one that takes nothing is proven dead.
            let mut batch = publisher.batch(2 * ringpost::record_size(half(0).len())).unwrap();
            batch.push(0, &half(HALVES)).unwrap();
            batch.push(0, &half(HALVES + 1)).unwrap();
            line.tell(0);
            line.hear();
        }
        ["join", ring] => {
            let ring = open(ring, &line);
            line.tell(0);
            for round in 0_u64.. {
                let start = [Start::Now, Start::Oldest, Start::Last(2)][round as usize % 3];
                let mut subscriber = ring.subscriber_from(start).unwrap();
                let _ = subscriber.try_recv().map(|message| number(&stream, &message.to_vec()));
            }
        }
        _ => panic!("no such role: {words:?}"),
    }
}

/// Messages of half a page, record and all, of which the ring of `ring` holds one more.
const HALVES: u64 = 7;

fn half(number: u64) -> Vec<u8> {
    vec![number as u8; 2048 - 16]
}

/// Tells every number until the end, which must be an orderly one.
fn tell_all(line: &Line, mut next: impl FnMut() -> Result<u64, RecvError>) {
    loop {
        match next() {
            Ok(number) => line.tell(number),
            Err(RecvError::Disconnected) => break,
            Err(other) => panic!("{other}"),
        }
    }
}

/// How many messages the sender of this `kind` sends at once, from `number` on.
fn together(number: u64, kind: u16) -> u64 {
    if scatter(number ^ u64::from(kind) << 40).is_multiple_of(3) { 3 } else { 1 }
}

/// Sends message `number`, or three at once from there on; gives the next number.
fn send_one_or_three(publisher: &mut Publisher, stream: &Stream, number: u64, kind: u16) -> u64 {
    if together(number, kind) == 1 {
        publisher.send_kind(kind, &letter(stream, number)).unwrap();
        return number + 1;
    }
    let mut batch = publisher.batch(3 * ringpost::record_size(LONGEST)).unwrap();
    (number..number + 3).for_each(|number| batch.push(kind, &letter(stream, number)).unwrap());
    batch.commit();
    number + 3
}

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
fn a_watcher_is_told_exactly_how_many_it_missed() {
    let (shared, stream) = (ring(1), stream());
    let mut publisher = shared.ring.publisher().unwrap();
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Empty);
    for number in 0..1000 {
        publisher.try_send(&letter(&stream, number)).unwrap();
    }
    let Err(RecvError::Missed { count }) = watcher.try_recv() else { panic!("nothing was missed") };
    for expected in count..1000 {
        assert_eq!(number(&stream, &watcher.try_recv().unwrap()), expected);
    }
    assert_eq!(watcher.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn a_slow_reader_holds_the_sender_up_and_is_named() {
    let (shared, stream) = (ring(2), stream());
    let mut publisher = shared.ring.publisher().unwrap();
    assert_eq!(publisher.slowest(), None);
    let mut slow = shared.ring.subscriber().unwrap();
    let mut fast = shared.ring.subscriber().unwrap();
    let mut sent = 0;
    while publisher.try_send(&letter(&stream, sent)).is_ok() {
        assert!(sent < 10_000, "nobody holds the sender up");
        assert_eq!(next(&mut fast, &stream), Ok(sent));
        sent += 1;
    }
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
fn a_sender_that_waits_for_a_reader_goes_on_when_that_is_killed_and_no_other_loses_anything() {
    for strategy in [WaitStrategy::Sleep, WaitStrategy::SpinThenSleep] {
        let (shared, stream) = (ring(2), stream());
        let mut slow = child_at(&shared, "idle", "");
        let mut fast = shared.ring.subscriber().unwrap();
        assert_eq!(slow.hear(), 0);
        let mut publisher = shared.ring.publisher().unwrap();
        publisher.set_wait(strategy);
        let mut sent = 0;
        while publisher.try_send(&letter(&stream, sent)).is_ok() {
            assert!(sent < 10_000, "nobody holds the sender up");
            assert_eq!(next(&mut fast, &stream), Ok(sent));
            sent += 1;
        }
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
    let mut sent = 0;
    while publisher.try_send(&letter(&stream, sent)).is_ok() {
        assert!(sent < 10_000, "nobody holds the sender up");
        sent += 1;
    }
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

/// What a watcher got and missed until the end.
fn watch_to_the_end(mut watcher: Watcher, stream: &Stream) -> (u64, u64) {
    let (mut received, mut missed) = (0, 0);
    loop {
        match seen(&mut watcher, stream) {
            Ok(number) => {
                assert_eq!(number, received + missed, "the next one, or what was missed was told");
                received += 1;
            }
            Err(RecvError::Missed { count }) => {
                assert!(count > 0);
                missed += count;
            }
            Err(RecvError::Disconnected) => return (received, missed),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn watchers_of_a_sender_at_full_speed_get_each_message_whole_or_counted() {
    let messages = if common::long() { 50_000_000 } else { 1_000_000 };
    let (shared, stream) = (ring(1), stream());
    let publisher = child_at(&shared, "publish", &messages.to_string());
    assert_eq!(publisher.hear(), 0);
    let name = shared.invite().word.split_off("name:".len());
    let watchers = [
        shared.ring.watcher(Start::Now).unwrap(),
        shared.ring.watcher(Start::Oldest).unwrap(),
        ringpost::builder(name).watch(Start::Now).unwrap(),
    ];
    publisher.tell(0);
    assert_eq!(publisher.hear(), messages / 2, "nobody reads so far");
    publisher.tell(0);
    thread::scope(|scope| {
        let watching = watchers.map(|watcher| scope.spawn(|| watch_to_the_end(watcher, &stream)));
        for watching in watching {
            let (received, missed) = watching.join().unwrap();
            assert_eq!(received + missed, messages);
            assert!(received > 0 && missed > messages / 3, "{received} received, {missed} missed");
        }
    });
    publisher.finish();
}

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
fn a_watcher_needs_no_permission_to_write() {
    let (shared, stream) = (ring(1), stream());
    let name = shared.invite().word.split_off("name:".len());
    fs::set_permissions(shared.ring.path().unwrap(), Permissions::from_mode(0o444)).unwrap();
    let mut publisher = shared.ring.publisher().unwrap();
    let watcher = Child::start(&format!("watch-to-read {name}"));
    assert_eq!(watcher.hear(), 0);
    let mut late = ringpost::builder(&name).watch(Start::Oldest).unwrap();
    for number in 0..20 {
        publisher.send(&letter(&stream, number)).unwrap();
    }
    (0..20).for_each(|number| assert_eq!(watcher.hear(), number));
    (0..20).for_each(|number| assert_eq!(seen(&mut late, &stream), Ok(number)));
    assert_eq!(late.try_recv().unwrap_err(), RecvError::Empty);
    let start = Instant::now();
    assert_eq!(late.recv_timeout(Duration::from_millis(20)).unwrap_err(), RecvError::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(20));
    drop(publisher);
    assert_eq!(seen(&mut late, &stream), Err(RecvError::Disconnected));
    watcher.finish();
}

#[test]
fn a_watcher_learns_of_the_death_of_the_sender_and_goes_on_with_the_next() {
    let (shared, stream) = (ring(1), stream());
    let name = shared.invite().word.split_off("name:".len());
    let mut publisher = child_at(&shared, "publish-on", "0 0");
    assert_eq!((publisher.hear(), publisher.hear() > 0), (0, true));
    let mut watchers =
        [shared.ring.watcher(Start::Oldest).unwrap(), ringpost::builder(name).watch(Start::Oldest).unwrap()];
    publisher.kill();
    let named = watchers.each_mut().map(|watcher| {
        loop {
            match seen(watcher, &stream) {
                Ok(_) | Err(RecvError::Missed { .. }) => {}
                Err(RecvError::PeerDied { pid, .. }) => break pid,
                Err(other) => panic!("{other}"),
            }
        }
    });
    assert_eq!(named, [publisher.id(); 2]);
    shared.ring.publisher().unwrap().send(&letter(&stream, 7)).unwrap();
    for watcher in &mut watchers {
        assert_eq!(seen(watcher, &stream), Ok(7));
        assert_eq!(seen(watcher, &stream), Err(RecvError::Disconnected));
    }
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
fn a_message_that_is_held_is_not_written_over_and_one_that_is_forgotten_comes_again() {
    let (shared, stream) = (ring(1), stream());
    let (mut publisher, mut reader) = (shared.ring.publisher().unwrap(), shared.ring.subscriber().unwrap());
    publisher.send(&letter(&stream, 0)).unwrap();
    std::mem::forget(reader.recv().unwrap());
    let held = reader.recv().unwrap();
    let mut sent = 1;
    while publisher.try_send(&letter(&stream, sent)).is_ok() {
        assert!(sent < 10_000, "nobody holds the sender up");
        sent += 1;
    }
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
fn a_watchers_buffer_that_is_too_small_leaves_the_message_where_it_is() {
    let shared = ring(1);
    let mut publisher = shared.ring.publisher().unwrap();
    let mut watcher = shared.ring.watcher(Start::Now).unwrap();
    publisher.send(b"nine byte").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(watcher.recv_into(&mut buffer[..8]), Err(RecvError::BufferTooSmall { length: 9 }));
    assert_eq!(watcher.recv_into(&mut buffer), Ok(9));
    assert_eq!(&buffer[..9], b"nine byte");
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

/// Whatever stands in the words that others can write, nobody panics, hangs or reads outside the ring.
#[test]
fn hostile_words_give_errors_and_no_panic() {
    let rounds = if common::long() { 20_000 } else { 400 };
    for round in 0..rounds {
        let ring = ringpost::unnamed().capacity(4096).longest_message(512).broadcast(3).memfd().unwrap();
        let file: File = ring.fd().unwrap().try_clone_to_owned().unwrap().into();
        let mut publisher = ring.publisher().unwrap();
        let mut readers = [Start::Now, Start::Oldest].map(|start| ring.subscriber_from(start).unwrap());
        let mut watcher = ring.watcher(Start::Oldest).unwrap();
        (0..10).for_each(|_| publisher.try_send(&[7; 100]).unwrap());
        let mut chance = scatter(round);
        for _ in 0..40 {
            damage(&file, &mut chance);
            let length = chance as usize % 513;
            let soon = Duration::from_micros(10);
            let _ = publisher.try_send(&vec![1; length]);
            let _ = publisher.send_timeout(&vec![2; length], soon);
            let _ = publisher.slowest();
            for reader in &mut readers {
                let _ = reader.try_recv().map(|message| message.to_vec());
                let _ = reader.recv_timeout(soon).map(|message| (message.to_vec(), message.sender()));
                let _ = reader.lag();
            }
            let _ = (watcher.try_recv(), watcher.recv_timeout(soon), watcher.lag());
            for start in [Start::Now, Start::Oldest, Start::Last(chance % 5)] {
                let _ =
                    ring.subscriber_from(start).map(|mut reader| reader.try_recv().map(|one| one.to_vec()));
                let _ = ring.watcher(start).map(|mut watcher| watcher.try_recv());
            }
            let _ = ring.statistics();
        }
        drop(publisher);
        let _ = ring.publisher().map(|mut publisher| publisher.try_send(b"once more"));
    }
}

/// Writes a word that matters, or any other, with a value that may be near to what is right.
fn damage(file: &File, chance: &mut u64) {
    let mut draw = |most: u64| {
        *chance = scatter(*chance);
        *chance % most
    };
    let (receiver, slots) = (4096, 8704);
    let offset = match draw(10) {
        0 => receiver,
        1 => receiver + 384 + 8 * draw(5),
        2 => receiver + 128 + 8 * draw(3),
        3 => 8192 + 128 + 8 * draw(3),
        4 => slots + 256 * draw(3),
        5 | 6 => slots + 256 * draw(3) + 32,
        7 => receiver + 256,
        _ => 12288 + 8 * draw(512),
    };
    let mut word = [0; 8];
    file.read_exact_at(&mut word, offset).unwrap();
    let word = u64::from_ne_bytes(word);
    let value = match draw(6) {
        0 => draw(u64::MAX),
        1 => word.wrapping_add(draw(64)),
        2 => word.wrapping_sub(draw(64)),
        3 => word ^ 1 << draw(64),
        4 => word.wrapping_add(draw(1 << 18)),
        _ => 0,
    };
    file.write_all_at(&value.to_ne_bytes(), offset).unwrap();
}
