//! A ring after its ends have closed.

use ringpost::{NotTaken, RecvError, SendError};
use std::time::Duration;

#[test]
fn a_sender_that_comes_after_the_receiver_has_closed_is_before_the_next_one() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    for _ in 0..3 {
        drop(ring.receiver().unwrap());
        let mut sender = ring.sender().unwrap();
        assert_eq!(sender.send(b"kept"), Ok(()));
        let mut receiver = ring.receiver().unwrap();
        assert_eq!(receiver.recv().unwrap().to_vec(), b"kept");
        drop(receiver);
        assert_eq!(sender.send(b"too late"), Err(SendError::Disconnected));
        drop(sender);
        assert_eq!(ring.receiver().unwrap().recv().unwrap_err(), RecvError::Disconnected);
    }
}

#[test]
fn a_receiver_that_goes_on_behind_the_end_waits_for_the_next_sender() {
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let mut receiver = ring.receiver().unwrap();
    for message in [b"a", b"b"] {
        ring.sender().unwrap().send(message).unwrap();
        assert_eq!(receiver.recv().unwrap().to_vec(), message);
        assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
        receiver.reopen();
        assert_eq!(receiver.recv_timeout(Duration::from_millis(1)).unwrap_err(), RecvError::TimedOut);
    }
}

#[test]
fn an_end_is_told_however_often_one_process_has_had_the_place_since_who_is_told_came() {
    for times in [1, 63, 64, 65, 128] {
        let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
        drop(ring.receiver().unwrap());
        let mut sender = ring.sender().unwrap();
        assert!(!sender.is_disconnected());
        let receipt = sender.send_acknowledged(b"kept").unwrap();
        (0..times).for_each(|_| drop(ring.receiver().unwrap()));
        assert!(sender.is_disconnected(), "{times}");
        assert_eq!(receipt.wait_timeout(Duration::from_secs(60)), Err(NotTaken::Disconnected), "{times}");

        let ring = ringpost::unnamed().capacity(4096).broadcast(1).memfd().unwrap();
        drop(ring.publisher().unwrap());
        let mut subscriber = ring.subscriber().unwrap();
        assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::Empty);
        (0..times).for_each(|_| drop(ring.publisher().unwrap()));
        assert_eq!(subscriber.try_recv().unwrap_err(), RecvError::Disconnected, "{times}");
    }
}
