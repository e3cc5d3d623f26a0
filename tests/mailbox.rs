//! Any number of senders and receivers, each message to exactly one: between real processes.

#[path = "mailbox/browsing.rs"]
mod browsing;
mod common;
#[path = "mailbox/deaths.rs"]
mod deaths;
#[path = "mailbox/delivery.rs"]
mod delivery;
#[path = "mailbox/hostile.rs"]
mod hostile;
#[path = "mailbox/model.rs"]
mod model;
#[path = "mailbox/seats.rs"]
mod seats;
#[path = "mailbox/waiting.rs"]
mod waiting;

use common::{
    Child, FAR, Line,
    filter::die_at,
    fork::assert_in_fork,
    rings::{Shared, Way, child_at, open},
    stream::scatter,
};
use deaths::work;
use ringpost::{
    Builder, Envelope, Fate, Letter, Mailbox, OpenError, Pick, Readiness, RecvError, Select, SendError, Sent,
    WaitStrategy,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Signal, kill_process},
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

assert_impl_all!(Mailbox: Send);
assert_impl_all!(Letter: Send);
assert_not_impl_any!(Mailbox: Clone);

/// No number of a message.
const END: u64 = u64::MAX;

fn office(messages: u32, set: impl Fn(Builder) -> Builder) -> Shared {
    Shared::new(Way::Name, |builder| set(builder.mailbox(messages).longest_message(256)))
}

/// Message `number` of sender `kind`: as long as that says, and each byte known.
fn letter(kind: u16, number: u64) -> Vec<u8> {
    let mut bytes = number.to_ne_bytes().to_vec();
    let mix = scatter(number ^ u64::from(kind) << 32);
    bytes.extend((0..mix % 200).map(|at| (mix >> (at % 56)) as u8));
    bytes
}

/// Its number, when every byte is as it was sent.
#[track_caller]
fn number(letter: &Letter) -> u64 {
    let bytes = letter.to_vec();
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == self::letter(letter.kind(), number), "kind {} number {number}", letter.kind());
    number
}

fn send(mailbox: &mut Mailbox, number: u64) {
    mailbox.send(1, &letter(1, number)).unwrap();
}

fn tag(letter: &Letter) -> u64 {
    u64::from(letter.kind()) << 40 | number(letter)
}

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let mailbox = |ring| open(ring, &line).mailbox().unwrap();
    match *words {
        ["send", ring, kind, messages] => {
            let (mut mailbox, kind) = (mailbox(ring), kind.parse().unwrap());
            for number in 0..messages.parse().unwrap() {
                mailbox.send(kind, &letter(kind, number)).unwrap();
                line.tell(number);
            }
        }
        // Is killed as it wakes the receiver.
        ["wake", ring] => {
            let mut mailbox = mailbox(ring);
            die_at(&[libc::SYS_futex]);
            send(&mut mailbox, 7);
        }
        ["receive", ring] => {
            let mut mailbox = mailbox(ring);
            line.tell(0);
            loop {
                let letter = mailbox.recv(Pick::Any).unwrap();
                line.tell(tag(&letter));
            }
        }
        ["receive-kind", ring, kind] => {
            let (mut mailbox, kind) = (mailbox(ring), kind.parse().unwrap());
            mailbox.set_wait(WaitStrategy::Sleep);
            line.tell(0);
            loop {
                let letter = mailbox.recv(Pick::Kind(kind)).unwrap();
                assert_eq!(letter.kind(), kind);
                line.tell(number(&letter));
            }
        }
        ["receive-to-the-end", ring] => {
            let mut mailbox = mailbox(ring);
            line.tell(0);
            let end = loop {
                match mailbox.recv(Pick::Any) {
                    Ok(letter) => line.tell(number(&letter)),
                    Err(end) => break end,
                }
            };
            assert_eq!(end, RecvError::Disconnected);
        }
        ["hold", ring, messages] => {
            let mut mailbox = mailbox(ring);
            let held: Vec<_> =
                (0..messages.parse().unwrap()).map(|_| mailbox.recv(Pick::Any).unwrap()).collect();
            line.tell(held.len() as u64);
            line.hear();
        }
        ["fill", ring] => {
            let mut mailbox = mailbox(ring);
            let _blanks: Vec<_> = std::iter::from_fn(|| mailbox.try_reserve(10).ok()).collect();
            line.tell(_blanks.len() as u64);
            line.hear();
        }
        ["receive-alone", ring] => {
            let mut mailbox = mailbox(ring);
            mailbox.receive_alone().unwrap();
            line.tell(0);
            loop {
                let letter = mailbox.recv(Pick::Any).unwrap();
                line.tell(number(&letter));
            }
        }
        ["alone", ring] => {
            let mut mailbox = mailbox(ring);
            mailbox.receive_alone().unwrap();
            line.tell(0);
            line.hear();
        }
        ["browse", ring] => {
            let mut mailbox = mailbox(ring);
            while let Some(delete) = line.next() {
                let mails = mailbox.browse(Pick::Any);
                mails.iter().for_each(|mail| line.tell(u64::from(mail.bytes[0])));
                line.tell(END);
                if delete != END {
                    let deleted = mails.iter().find(|mail| u64::from(mail.bytes[0]) == delete);
                    assert!(mailbox.delete(&deleted.unwrap().id));
                    line.tell(END);
                }
            }
        }
        ["pick", ring] => {
            let mut mailbox = mailbox(ring);
            while let Some(pick) = line.next() {
                let kind = pick as u16;
                let pick = [Pick::Any, Pick::Kind(kind), Pick::Except(kind), Pick::UpTo(kind)]
                    [(pick >> 16) as usize];
                match mailbox.try_recv(pick) {
                    Ok(letter) => line.tell(u64::from(letter.to_vec()[0])),
                    Err(error) => {
                        assert_eq!(error, RecvError::Empty);
                        line.tell(END);
                    }
                }
            }
        }
        ["both", ring, kind] => work(&mut mailbox(ring), &line, kind.parse().unwrap()),
        _ => panic!("no such role: {words:?}"),
    }
}

#[test]
fn the_most_cells_that_were_in_use_are_known_roughly_and_a_full_mailbox_exactly() {
    let office = office(8, |builder| builder);
    let mut mailbox = office.ring.mailbox().unwrap();
    let most = || office.ring.statistics().high_water_bytes();
    let keep = 3;
    (0..keep).for_each(|number| send(&mut mailbox, number));
    for number in keep..200 {
        send(&mut mailbox, number);
        drop(mailbox.recv(Pick::Any).unwrap());
    }
    let some = most();
    while mailbox.try_send(0, b"").is_ok() {}
    let full = most();
    // A new one is in a cell when they are counted.
    assert_eq!((full % 8, some), (0, full / 8 * (keep + 1)));
    while mailbox.try_recv(Pick::Any).is_ok() {}
    assert_eq!(most(), full);
}

#[test]
fn the_cells_of_the_largest_mailbox_are_counted_too() {
    let ring = ringpost::unnamed().mailbox(1 << 16).longest_message(8).memfd().unwrap();
    let mut mailbox = ring.mailbox().unwrap();
    for number in 0..1_u64 << 16 {
        mailbox.send(1, &number.to_ne_bytes()).unwrap();
        drop(mailbox.recv(Pick::Any).unwrap());
    }
    assert_ne!(ring.statistics().high_water_bytes(), 0);
}
