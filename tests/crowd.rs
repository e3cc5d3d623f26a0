//! Senders that send at the same time, and a receiver that may be waiting for one's processor: who gives it up, and who never does.

mod common;

use common::{
    Line,
    filter::die_at,
    rings::{Shared, Way, child_at, open},
};
use ringpost::WaitStrategy;
use std::os::unix::process::ExitStatusExt;

#[test]
fn child_process() {
    common::play_role(act);
}

/// Sends a message whenever it is told to. The kernel ends it when it gives its processor up.
fn act(words: &[&str], line: Line) {
    let [how, ring] = *words else { panic!("no such role: {words:?}") };
    let mut sender = open(ring, &line).multi_sender().unwrap();
    if how == "polls" {
        sender.set_wait(WaitStrategy::Spin);
    }
    die_at(&[libc::SYS_sched_yield]);
    for turn in 0.. {
        if line.next().is_none() {
            break;
        }
        match how {
            "tries" => sender.try_send(b"one").unwrap(),
            "drops" => {
                drop(sender.reserve(3).unwrap());
                // As soon as enough were met, and before it has become so calm that nothing is looked at behind a message.
                if turn >= 63 {
                    sender.try_send(b"one").unwrap();
                }
            }
            _ => sender.send(b"one").unwrap(),
        }
        line.tell(0);
    }
}

/// Whether a child that sends like this gives its processor up: alone or between the messages of another, to a receiver that receives or
/// stands still.
fn gives_way(how: &str, has_company: bool, is_received: bool) -> bool {
    let shared = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16).many_senders(2));
    let mut receiver = shared.ring.receiver().unwrap();
    let mut other = shared.ring.multi_sender().unwrap();
    let child = child_at(&shared, how, "");
    for _ in 0..200 {
        if has_company {
            other.send(b"other").unwrap();
        }
        child.tell(0);
        if child.next().is_none() {
            assert_eq!(child.end().signal(), Some(libc::SIGSYS));
            return true;
        }
        while is_received && receiver.try_recv().is_ok() {}
    }
    child.hang_up();
    child.finish();
    false
}

#[test]
fn who_meets_another_and_finds_the_receiver_where_it_was_gives_its_processor_up() {
    assert!(gives_way("waits", true, false));
}

#[test]
fn nobody_else_does() {
    assert!(!gives_way("waits", true, true), "the receiver goes on");
    assert!(!gives_way("waits", false, false), "it is alone");
    assert!(!gives_way("tries", true, false), "it does not wait");
    assert!(!gives_way("drops", true, false), "what waited was given up, and what was sent does not wait");
    assert!(!gives_way("polls", true, false), "it polls for ever");
}
