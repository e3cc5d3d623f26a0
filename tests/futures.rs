//! Receiving, sending and receipts as futures. Who is at the other end is another process.
//!
//! The executor here is a thread that parks; a few lines below.

mod common;
#[path = "futures/executor.rs"]
mod executor;
#[path = "futures/receiving.rs"]
mod receiving;
#[path = "futures/sending.rs"]
mod sending;
#[path = "futures/waking.rs"]
mod waking;

use common::{
    Child, FAR, Line,
    fork::assert_in_fork,
    rings::{Attach, Shared, Way, child_at, open, small_rings},
};
use executor::{Alarm, assert_waits, block_on, poll};
use ringpost::{
    Many, NotTaken, Pick, Receipt, Receiver, RecvError, Ring, SendError, Sender, Single, Source, WaitStrategy,
};
use static_assertions::assert_impl_all;
use std::{
    future::Future,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Condvar, Mutex, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};
use waking::{fork_while_waiting, leak_while_waiting, limit_threads};

assert_impl_all!(ringpost::Receiving<'static, Receiver>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(ringpost::Reserving<'static>: Send, Unpin, std::fmt::Debug);
assert_impl_all!(ringpost::Taking: Send, Unpin, std::fmt::Debug);

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Says each number on the ring, until there are no more.
        ["one", ring] => say_all::<Single>(ring, &line),
        ["many", ring] => say_all::<Many>(ring, &line),
        ["publish", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            line.tell(0);
            while let Some(number) = line.next() {
                publisher.send(&number.to_ne_bytes()).unwrap();
            }
        }
        // Takes a message for each number that it hears, and tells what it is.
        ["take", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            line.tell(0);
            while line.next().is_some() {
                line.tell(number_of(&receiver.recv_timeout(FAR).unwrap().to_vec()));
            }
        }
        ["take-mail", ring] => {
            let mut mailbox = open(ring, &line).mailbox().unwrap();
            mailbox.set_wait(WaitStrategy::Sleep);
            line.tell(0);
            line.tell(number_of(&mailbox.recv(Pick::Any).unwrap().to_vec()));
        }
        ["leak", ring] => leak_while_waiting(&open(ring, &line), &line, false),
        ["leak-and-leave", ring] => leak_while_waiting(&open(ring, &line), &line, true),
        ["fork", ring] => fork_while_waiting(open(ring, &line).receiver().unwrap(), &line),
        ["no-thread", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            // No more threads than there are.
            limit_threads();
            let (alarm, waker) = Alarm::new();
            let mut receiving = receiver.received();
            assert_waits(Pin::new(&mut receiving), &waker);
            assert_eq!(*alarm.woken.lock().unwrap(), 1, "it asks to be polled again");
            line.tell(0);
            line.tell(number_of(&block_on(receiving).unwrap().to_vec()));
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn say_all<K: Attach>(ring: &str, line: &Line) {
    let mut sender: Sender<_, K> = K::attach(&open(ring, line)).unwrap();
    line.tell(0);
    while let Some(number) = line.next() {
        sender.send(&number.to_ne_bytes()).unwrap();
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes[..8].try_into().unwrap())
}

fn started(ring: &Shared, role: &str) -> Child {
    let child = child_at(ring, role, "");
    child.hear();
    child
}

/// Of a thousand bytes, so that a small ring takes many.
fn numbered(number: u64) -> [u8; 1000] {
    let mut message = [0; 1000];
    message[..8].copy_from_slice(&number.to_ne_bytes());
    message
}
