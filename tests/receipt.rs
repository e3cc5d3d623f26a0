//! Messages of which the sender learns that they were taken.

mod common;

use common::{
    FAR, Line,
    rings::{Shared, Way, child_at, local, open, small_rings},
};
use ringpost::{Callbacks, NotTaken, Receipt, Receiver, Ring, SendError, WaitStrategy};
use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Releases one message for each number that it hears.
        ["take", ring] => {
            let mut receiver = attach(ring, &line);
            while line.next().is_some() {
                take(&mut receiver);
            }
        }
        ["hold", ring] => {
            let mut receiver = attach(ring, &line);
            let _message = receiver.recv_timeout(FAR).unwrap();
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn attach(ring: &str, line: &Line) -> Receiver {
    let receiver = open(ring, line).receiver().unwrap();
    line.tell(0);
    receiver
}

fn take(receiver: &mut Receiver) {
    drop(receiver.recv_timeout(FAR).unwrap());
}

/// Sends messages, of whichever kind of sender, and gives the receipts.
fn send(ring: &Ring, kind: &str, count: u8) -> Vec<Receipt> {
    if kind == "one" {
        let mut sender = ring.sender().unwrap();
        (0..count).map(|n| sender.send_acknowledged(&[n; 20]).unwrap()).collect()
    } else {
        let mut sender = ring.multi_sender().unwrap();
        (0..count).map(|n| sender.send_acknowledged(&[n; 20]).unwrap()).collect()
    }
}

/// How long a wait took that nothing but a wake may have ended.
#[track_caller]
fn assert_taken(receipt: &Receipt) {
    assert_eq!(receipt.wait_timeout(FAR), Ok(()));
    assert!(receipt.is_taken());
}

#[test]
fn a_receipt_is_had_without_waiting_for_room_or_not_at_all() {
    let (ring, mut sender) = local();
    let receipt = sender.try_send_acknowledged(b"first").unwrap();
    while sender.try_send(&[0; 1000]).is_ok() {}
    assert_eq!(sender.try_send_acknowledged(&[0; 1000]).unwrap_err(), SendError::Full);
    assert!(!receipt.is_taken());
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"first");
    assert!(receipt.is_taken());
}

#[test]
fn a_message_is_taken_when_the_receiver_has_released_it() {
    for (ring, kind) in small_rings() {
        let receipts = send(&ring.ring, kind, 3);
        let mut receiver = ring.ring.receiver().unwrap();
        let message = receiver.recv().unwrap();
        assert!(!receipts[0].is_taken());
        assert_eq!(receipts[0].wait_timeout(Duration::from_millis(1)), Err(NotTaken::TimedOut));
        drop(message);
        assert!(receipts[0].is_taken() && !receipts[1].is_taken());
        assert_eq!(receipts[0].wait(), Ok(()));
        let rest = receiver.recv_many(9).unwrap();
        assert_eq!(rest.iter().count(), 2);
        assert!(!receipts[1].is_taken());
        drop(rest);
        assert!(receipts[1].is_taken() && receipts[2].is_taken());
    }
}

#[test]
fn a_sleeper_is_woken_by_the_release_of_its_message_however_full_the_ring_stays() {
    for (ring, kind) in small_rings() {
        let mut receiver = child_at(&ring, "take", "");
        receiver.hear();
        // More than half of the ring.
        let receipts = send(&ring.ring, kind, 200);
        let (first, other) = (receipts[0].clone(), receipts[1].clone());
        let waiting = [first, other].map(|receipt| {
            thread::spawn(move || {
                let start = Instant::now();
                assert_taken(&receipt);
                assert!(start.elapsed() < FAR, "only the deadline ended the wait");
            })
        });
        for thread in waiting {
            receiver.tell(0);
            thread.join().unwrap();
        }
        assert!(!receipts[2].is_taken());
        receiver.kill();
    }
}

#[test]
fn what_a_killed_receiver_had_not_released_is_told_and_its_successor_takes_it() {
    for (ring, kind) in small_rings() {
        let mut holder = child_at(&ring, "hold", "");
        holder.hear();
        let receipts = send(&ring.ring, kind, 2);
        holder.hear();
        let waits = receipts[0].clone();
        let waiting = thread::spawn(move || waits.wait_timeout(FAR));
        let pid = holder.id();
        holder.kill();
        assert_eq!(waiting.join().unwrap(), Err(NotTaken::PeerDied { pid }));
        assert_eq!(receipts[1].wait_timeout(FAR), Err(NotTaken::PeerDied { pid }));

        let successor = child_at(&ring, "take", "");
        successor.hear();
        assert_eq!(receipts[0].wait_timeout(Duration::from_millis(1)), Err(NotTaken::TimedOut));
        successor.tell(0);
        assert_taken(&receipts[0]);
        assert!(!receipts[1].is_taken());
        successor.hang_up();
        successor.finish();
        assert_eq!(receipts[1].wait_timeout(FAR), Err(NotTaken::Disconnected));
    }
}

#[test]
fn who_polls_for_ever_or_briefly_learns_of_a_death_by_the_clock() {
    let ring = Shared::new(Way::Inherit, |builder| builder.wait(WaitStrategy::Spin));
    let mut holder = child_at(&ring, "hold", "");
    holder.hear();
    let receipt = send(&ring.ring, "one", 1).remove(0);
    holder.hear();
    let (for_ever, briefly, pid) = (receipt.clone(), receipt.clone(), holder.id());
    let polling = [
        thread::spawn(move || {
            let start = Instant::now();
            let outcome = for_ever.wait_timeout(FAR);
            assert!(start.elapsed() < FAR, "only the deadline ended the wait");
            outcome
        }),
        thread::spawn(move || {
            let start = Instant::now();
            loop {
                match briefly.wait_timeout(Duration::from_micros(100)) {
                    Err(NotTaken::TimedOut) if start.elapsed() < FAR => {}
                    outcome => break outcome,
                }
            }
        }),
    ];
    holder.kill();
    assert_eq!(polling.map(|thread| thread.join().unwrap()), [Err(NotTaken::PeerDied { pid }); 2]);
    assert_eq!(receipt.wait_timeout(Duration::ZERO), Err(NotTaken::PeerDied { pid }));
}

#[test]
fn receipts_outlive_their_sender_which_closes_all_the_same() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let receipts = send(&ring, "one", 1);
    let mut receiver = ring.receiver().unwrap();
    take(&mut receiver);
    assert!(receiver.recv_timeout(FAR).is_err_and(|error| error == ringpost::RecvError::Disconnected));
    assert_taken(&receipts[0]);
}

#[test]
fn the_receipt_of_a_reservation_and_of_a_batch_tell_of_their_own_messages() {
    let ring = ringpost::unnamed().wait(WaitStrategy::Sleep).in_process().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let mut reservation = sender.reserve(100).unwrap();
    reservation.truncate(10);
    let first = reservation.commit_acknowledged();
    let mut batch = sender.batch(1000).unwrap();
    (0..3).for_each(|n| batch.push(n, b"part").unwrap());
    let three = batch.commit_acknowledged();
    for taken in 0..4 {
        assert_eq!((first.is_taken(), three.is_taken()), (taken > 0, false));
        drop(receiver.recv().unwrap());
    }
    assert_taken(&three);
    assert!(sender.batch(100).unwrap().commit_acknowledged().is_taken(), "nothing was sent");
}

#[test]
fn callbacks_are_called_in_order_and_go_on_after_one_that_panics() {
    let ring = Shared::new(Way::Inherit, |builder| builder.many_senders(2));
    let mut receiver = child_at(&ring, "take", "");
    receiver.hear();
    let (tell, told) = mpsc::channel();
    let callbacks = Callbacks::new().unwrap();
    for (number, receipt) in send(&ring.ring, "many", 5).into_iter().enumerate() {
        let tell = tell.clone();
        callbacks.when_taken(receipt, move |outcome| {
            tell.send((number, outcome)).unwrap();
            assert_ne!(number, 1, "a callback that panics");
        });
    }
    for number in 0..3 {
        assert!(told.try_recv().is_err(), "nothing is taken yet");
        receiver.tell(0);
        assert_eq!(told.recv_timeout(FAR), Ok((number, Ok(()))));
    }
    let pid = receiver.id();
    receiver.kill();
    assert_eq!(told.recv_timeout(FAR), Ok((3, Err(NotTaken::PeerDied { pid }))));
    assert_eq!(told.recv_timeout(FAR), Ok((4, Err(NotTaken::PeerDied { pid }))));
}

#[test]
fn a_callback_may_drop_the_callbacks_and_those_behind_it_are_called() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let callbacks = Arc::new(Mutex::new(Some(Callbacks::new().unwrap())));
    let (tell, told) = mpsc::channel();
    {
        let given = callbacks.lock().unwrap();
        let (last, tell_first) = (Arc::clone(&callbacks), tell.clone());
        given.as_ref().unwrap().when_taken(sender.send_acknowledged(b"one").unwrap(), move |taken| {
            drop(last.lock().unwrap().take());
            tell_first.send(taken).unwrap();
        });
        let behind = sender.send_acknowledged(b"two").unwrap();
        given.as_ref().unwrap().when_taken(behind, move |taken| tell.send(taken).unwrap());
    }
    take(&mut receiver);
    assert_eq!(told.recv_timeout(FAR), Ok(Ok(())));
    assert_eq!(told.recv_timeout(FAR), Ok(Err(NotTaken::TimedOut)), "nobody waits any more");
}

#[test]
fn callbacks_that_are_dropped_wait_for_nobody() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let (tell, told) = mpsc::channel();
    let callbacks = Callbacks::new().unwrap();
    for receipt in send(&ring, "one", 2) {
        let tell = tell.clone();
        callbacks.when_taken(receipt, move |outcome| tell.send(outcome).unwrap());
    }
    drop(callbacks);
    let outcomes: Vec<_> = told.try_iter().collect();
    assert_eq!(outcomes, [Err(NotTaken::TimedOut); 2]);
}
