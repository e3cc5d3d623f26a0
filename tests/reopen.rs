//! A ring after its ends have closed.

use ringpost::{RecvError, SendError};
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
