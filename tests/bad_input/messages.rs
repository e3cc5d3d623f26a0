//! Messages that are too long, or of no bytes.

use super::*;

#[test]
fn a_message_that_is_too_long_is_told_the_longest_and_nothing_is_sent() {
    let scene = Scene::new();
    let ring = scene.builder("ring").longest_message(100).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let long = [7; 101];
    assert_error!(
        scene.refused(|| sender.send(&long)),
        SendError::TooLong { length: 101, longest: 100 },
        101,
        100
    );
    assert_error!(scene.refused(|| sender.try_send(&long)), SendError::TooLong { longest: 100, .. }, 100);
    assert_error!(
        scene.refused(|| sender.reserve(usize::MAX).map(drop)),
        SendError::TooLong { length: usize::MAX, longest: 100 },
        100
    );
    assert_error!(scene.refused(|| sender.batch(1 << 40).map(drop)), SendError::TooLong { .. }, 1u64 << 40);
    let most = ringpost::record_size(usize::MAX);
    assert_error!(
        scene.refused(|| sender.batch(most).map(drop)),
        SendError::TooLong { length: usize::MAX, .. },
        most
    );
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&long[..100]).unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), long[..100]);
}

#[test]
fn a_message_of_no_bytes_is_a_message() {
    let scene = Scene::new();
    let ring = scene.builder("ring").memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"").unwrap();
    sender.reserve(0).unwrap().commit();
    for _ in 0..2 {
        assert_eq!(receiver.recv().unwrap().to_vec(), b"");
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn a_longest_message_of_no_bytes_takes_only_those() {
    let scene = Scene::new();
    let ring = scene.builder("ring").longest_message(0).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    sender.send(b"").unwrap();
    assert_eq!(sender.send(b"x"), Err(SendError::TooLong { length: 1, longest: 0 }));
}
