//! One sender, and every reader gets every message: between real processes.
//!
//! Message `n` is a pure function of `n`, so each reader knows every byte before it comes.

mod common;
#[path = "broadcast/deaths.rs"]
mod deaths;
#[path = "broadcast/groups.rs"]
mod groups;
#[path = "broadcast/hostile.rs"]
mod hostile;
#[path = "broadcast/joining.rs"]
mod joining;
#[path = "broadcast/model.rs"]
mod model;
#[path = "broadcast/reading.rs"]
mod reading;
#[path = "broadcast/watchers.rs"]
mod watchers;

use common::{
    Child, FAR, Line,
    rings::{Shared, Way, child_at, open},
    stream::{Stream, scatter},
};
use ringpost::{
    Builder, OpenError, OwnedMessage, Publisher, RecvError, Ring, Select, SendError, Start, Subscriber,
    WaitStrategy, Watcher,
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

/// Sends from message `first` on until somebody holds the sender up, with something to do after each; gives the number of the one
/// for which there was no room.
#[track_caller]
fn fill(publisher: &mut Publisher, stream: &Stream, first: u64, mut after: impl FnMut(u64)) -> u64 {
    let refused = (first..first + 10_000).find(|&number| {
        let refused = publisher.try_send(&letter(stream, number)).is_err();
        if !refused {
            after(number);
        }
        refused
    });
    refused.expect("nobody holds the sender up")
}

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let stream = stream();
    match *words {
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
        ["begin-a-batch-behind-some", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            (0..HALVES - 1).for_each(|number| publisher.send(&half(number)).unwrap());
            let mut batch = publisher.batch(2 * ringpost::record_size(5)).unwrap();
            (0..2).for_each(|_| batch.push(0, b"begun").unwrap());
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
        ["member", first, second] => {
            groups::member([open(first, &line), open(second, &line)], &stream, &line);
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
