//! One sender, and every reader gets every message: between real processes.
//!
//! Message `n` is a pure function of `n`, so each reader knows every byte before it comes.

mod common;

use common::{
    Child, FAR,
    rings::{Shared, Way, child_at, open},
    stream::Stream,
};
use ringpost::{Builder, OpenError, Publisher, RecvError, SendError, Start, Subscriber, Watcher};
use std::{thread, time::Duration};

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

#[track_caller]
fn next(subscriber: &mut Subscriber, stream: &Stream) -> Result<u64, RecvError> {
    match subscriber.recv_timeout(FAR) {
        Err(RecvError::TimedOut) => panic!("only the deadline ended the wait"),
        message => message.map(|message| number(stream, &message.to_vec())),
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
            loop {
                match next(&mut subscriber, &stream) {
                    Ok(number) => line.tell(number),
                    Err(RecvError::Disconnected) => break,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        _ => panic!("no such role: {words:?}"),
    }
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
