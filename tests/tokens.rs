//! What is asked of the wrong one: a token of another mailbox, a future that was ready before, a region of the parent's. And that a
//! mailbox's errors speak of a mailbox.

mod common;

use common::{Line, place::Place};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use ringpost::{Fate, Pick, RecvError, Region, RegionError, RegionMut, SendError, Source};
use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send-regions", path] => send_regions(path, &line),
        _ => panic!("no such role: {words:?}"),
    });
}

fn send_regions(path: &str, line: &Line) {
    let mut duplex = ringpost::connect_duplex(path).unwrap();
    for number in 1..=3 {
        let mut memory = RegionMut::new(100).unwrap();
        memory[0] = number;
        duplex.send_region(&memory.freeze().unwrap()).unwrap();
    }
    line.tell(0);
    line.next();
}

#[test]
fn a_childs_wish_for_a_region_is_refused_and_the_parent_gets_it() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("send-regions", "");
    let mut duplex = listener.accept_duplex().unwrap();
    sender.hear();
    let message = duplex.recv().unwrap();
    // SAFETY: the child only asks for the region, which is refused before anything else, and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let refused = matches!(message.region(), Err(RegionError::Forked));
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if refused { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    let first = message.region().unwrap();
    drop(message);
    let mut next = || -> Region { duplex.recv().unwrap().region().unwrap() };
    assert_eq!([first[0], next()[0], next()[0]], [1, 2, 3]);
    sender.hang_up();
    sender.finish();
}

#[test]
fn a_message_of_another_mailbox_is_refused() {
    let mailbox = || ringpost::unnamed().mailbox(4).memfd().unwrap().mailbox().unwrap();
    let (mut here, mut there) = (mailbox(), mailbox());
    let (mine, theirs) = (here.send(1, b"here").unwrap(), there.send(1, b"there").unwrap());
    assert_eq!(here.fate(&mine), Fate::Waiting);
    let text = |refused: std::thread::Result<()>| *refused.unwrap_err().downcast::<&str>().unwrap();
    let asked =
        text(catch_unwind(AssertUnwindSafe(|| assert_eq!(here.fate(&theirs), Fate::Done { pid: 0 }))));
    let deleted = text(catch_unwind(AssertUnwindSafe(|| assert!(!here.delete(&theirs)))));
    assert!(asked.contains("another mailbox") && asked == deleted, "{asked}");
    let browsed = there.browse(Pick::Any).remove(0).id;
    assert_eq!(browsed, theirs);
    assert!(here.try_clone().unwrap().delete(&mine) && there.delete(&theirs), "each by its own");
}

#[test]
fn the_errors_of_a_mailbox_do_not_speak_of_a_ring() {
    let ring = ringpost::unnamed().mailbox(2).longest_message(8).memfd().unwrap();
    let mut mailbox = ring.mailbox().unwrap();
    let soon = Duration::from_millis(1);
    let mut texts = vec![
        mailbox.try_recv(Pick::Any).unwrap_err().to_string(),
        mailbox.recv_timeout(Pick::Any, soon).unwrap_err().to_string(),
        mailbox.send(0, &[0; 9]).unwrap_err().to_string(),
    ];
    while mailbox.try_send(0, b"full").is_ok() {}
    texts.push(mailbox.try_send(0, b"").unwrap_err().to_string());
    texts.push(mailbox.send_timeout(0, b"", soon).unwrap_err().to_string());
    mailbox.close_for_all();
    texts.push(mailbox.send(0, b"").unwrap_err().to_string());
    while mailbox.try_recv(Pick::Any).is_ok() {}
    texts.push(mailbox.recv(Pick::Any).unwrap_err().to_string());
    for text in texts {
        assert!(!text.split(|letter: char| !letter.is_alphabetic()).any(|word| word == "ring"), "{text}");
    }
}

#[test]
fn a_future_that_was_ready_with_an_error_is_not_polled_again() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let context = &mut Context::from_waker(Waker::noop());
    let mut reserving = pin!(sender.reserved(1 << 20));
    assert!(matches!(reserving.as_mut().poll(context), Poll::Ready(Err(SendError::TooLong { .. }))));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(reserving.as_mut().poll(context)))).is_err());
    drop(sender);
    let mut receiving = pin!(receiver.received());
    assert!(matches!(receiving.as_mut().poll(context), Poll::Ready(Err(RecvError::Disconnected))));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(receiving.as_mut().poll(context)))).is_err());
}

#[test]
fn what_became_of_a_message_may_be_asked_again() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let receipt = sender.send_acknowledged(b"taken").unwrap();
    drop(receiver.recv().unwrap());
    let mut taken = pin!(receipt.taken());
    for _ in 0..2 {
        assert_eq!(taken.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(())));
    }
}
