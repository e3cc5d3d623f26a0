//! A handle that a forked child inherits is the parent's: the child can neither use nor close it.

mod common;

use common::{FAR, Name, fork::assert_in_fork};
use ringpost::{
    Callbacks, NotTaken, RecvError, SendError,
    posix::{O_CREAT, O_RDWR, SigEvent, mq_notify, mq_open, mq_unlink},
};
use std::{io::ErrorKind, sync::mpsc, time::Duration};

#[test]
fn a_childs_use_is_an_error_and_the_parent_goes_on() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"before").unwrap();
    assert_in_fork(|| {
        sender.try_send(b"by the child") == Err(SendError::Forked)
            && receiver.try_recv().err() == Some(RecvError::Forked)
    });
    sender.send(b"after").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"before");
    assert_eq!(receiver.recv().unwrap().to_vec(), b"after");
}

#[test]
fn a_childs_drop_closes_nothing() {
    let ring = ringpost::unnamed().many_senders(2).memfd().unwrap();
    let (sender, mut receiver) = (ring.multi_sender().unwrap(), ring.receiver().unwrap());
    let mut sender = Some(sender);
    assert_in_fork(|| {
        drop(sender.take());
        true
    });
    assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
    sender.as_mut().unwrap().send(b"still there").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"still there");
}

#[test]
fn a_child_adds_nothing_to_its_parents_batch() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut batch = sender.batch(1000).unwrap();
    batch.push(0, b"by the parent").unwrap();
    assert_in_fork(|| batch.push(0, b"by the child") == Err(SendError::Forked));
    batch.commit();
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"by the parent");
    assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
}

#[test]
fn a_childs_wait_for_a_receipt_is_refused_and_the_parents_goes_on() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let receipt = sender.send_acknowledged(b"for the parent").unwrap();
    let refused = |receipt: &ringpost::Receipt| receipt.wait_timeout(Duration::ZERO) == Err(NotTaken::Forked);
    assert_in_fork(|| refused(&receipt) && refused(&receipt.clone()) && !receipt.is_taken());
    drop(receiver.recv().unwrap());
    assert_eq!(receipt.wait(), Ok(()));
    // To look is no wait.
    assert_in_fork(|| receipt.is_taken());
}

#[test]
fn a_childs_clone_of_a_sender_is_none_of_its_own() {
    let ring = ringpost::unnamed().many_senders(2).memfd().unwrap();
    let (sender, mut receiver) = (ring.multi_sender().unwrap(), ring.receiver().unwrap());
    let mut sender = Some(sender);
    assert_in_fork(|| {
        let mut clone = sender.as_ref().unwrap().clone();
        drop(sender.take());
        clone.try_send(b"by the child") == Err(SendError::Forked)
    });
    sender.as_mut().unwrap().send(b"by the parent").unwrap();
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"by the parent");
}

#[test]
fn a_childs_clone_of_a_sender_takes_no_slot() {
    let ring = ringpost::unnamed().many_senders(2).memfd().unwrap();
    let clone = ring.multi_sender().unwrap().clone();
    let original = ring.multi_sender().unwrap();
    let attached = || ring.statistics().senders.iter().filter(|sender| sender.attached).count();
    let mut clones = [clone, original.clone()];
    let before = attached();
    assert_in_fork(|| {
        clones.iter_mut().all(|clone| {
            let refused = [
                clone.try_send(b"by the child").err(),
                clone.try_reserve(8).err(),
                clone.try_batch(24).err(),
                clone.try_send_acknowledged(b"by the child").err(),
            ];
            refused.iter().all(|error| *error == Some(SendError::Forked)) && attached() == before
        })
    });
}

#[test]
fn a_child_is_not_told_who_is_behind_its_parents_publisher() {
    let ring = ringpost::unnamed().broadcast(1).memfd().unwrap();
    let (mut publisher, mut reader) = (ring.publisher().unwrap(), ring.subscriber().unwrap());
    publisher.send(b"to be read").unwrap();
    assert_in_fork(|| {
        reader.reopen();
        publisher.slowest().is_none()
    });
    assert!(publisher.slowest().is_some());
    assert_eq!(reader.recv().unwrap().to_vec(), b"to be read");
}

#[test]
fn a_childs_callbacks_are_called_back_at_once_and_its_drop_waits_for_no_thread_of_the_parent() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut callbacks = Some(Callbacks::new().unwrap());
    let receipt = sender.send_acknowledged(b"for the parent").unwrap();
    let (tell, told) = mpsc::channel();
    assert_in_fork(|| {
        let tell = tell.clone();
        callbacks.as_ref().unwrap().when_taken(receipt.clone(), move |taken| tell.send(taken).unwrap());
        drop(callbacks.take());
        told.try_recv() == Ok(Err(NotTaken::Forked))
    });
    callbacks.as_ref().unwrap().when_taken(receipt, move |taken| tell.send(taken).unwrap());
    drop(receiver.recv().unwrap());
    assert_eq!(told.recv_timeout(FAR), Ok(Ok(())));
}

#[test]
fn a_child_is_not_told_of_messages_by_its_parents_queue() {
    let name = format!("/{}", &*Name::new());
    let mut queue = mq_open(&name, O_RDWR | O_CREAT, 0o600, None).unwrap();
    mq_unlink(&name).unwrap();
    assert_in_fork(|| {
        let refused = mq_notify(&mut queue, Some(SigEvent::Thread(Box::new(|| {}))));
        refused.is_err_and(|error| error.kind() == ErrorKind::Unsupported)
    });
    mq_notify(&mut queue, Some(SigEvent::Thread(Box::new(|| {})))).unwrap();
}
