//! Whatever the words say of the loan of the tail, and keep saying: every call returns.

use super::*;
use ringpost::{MultiSender, RecvError, SendError};
use std::sync::mpsc;

const CAPACITY: u64 = 4096;
const SENDERS: u8 = 3;

/// What a tail says that is lent to `slot` since `start`.
fn lent(slot: u64, start: u64) -> u64 {
    start << 16 | slot << 8
}

/// Each call that may not block, at a ring whose words lie.
fn call_everything(ring: &Ring, senders: &mut [MultiSender], receiver: &mut Receiver) {
    for sender in senders {
        for _ in 0..2 {
            let sent = sender.try_send(&[1; 24]);
            assert!(matches!(sent, Ok(()) | Err(SendError::Full)), "{sent:?}");
        }
        drop(sender.try_reserve(8));
        drop(sender.try_batch(100));
        let sent = sender.send_timeout(&[1; 24], Duration::ZERO);
        assert!(matches!(sent, Ok(()) | Err(SendError::TimedOut)), "{sent:?}");
    }
    let _ = (ring.statistics(), format!("{ring:?}"), receiver.stalled(), receiver.next_death());
    for _ in 0..100 {
        match receiver.try_recv().map(drop) {
            Ok(()) => {}
            Err(
                RecvError::Empty
                | RecvError::Corrupt { .. }
                | RecvError::PeerDied { .. }
                | RecvError::Disconnected,
            ) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let _ = receiver.recv_timeout(Duration::ZERO).map(drop);
    let _ = (receiver.is_empty(), receiver.stalled());
    let comer = ring.multi_sender();
    assert!(matches!(comer, Ok(_) | Err(OpenError::TooManySenders { .. })), "{:?}", comer.err());
}

/// A ring whose tail is lent to the second of two senders.
fn lent_ring() -> (Shared, [MultiSender; 2], Receiver) {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(CAPACITY).many_senders(SENDERS));
    let (first, mut second) = (ring.ring.multi_sender().unwrap(), ring.ring.multi_sender().unwrap());
    let mut receiver = ring.ring.receiver().unwrap();
    for _ in 0..70 {
        second.try_send(&[0; 8]).unwrap();
        drop(receiver.try_recv().unwrap());
    }
    let tail = Segment::of(&ring.ring).word(SENDERS_AREA).load(Relaxed);
    assert_eq!(tail & 0xffff, lent(2, 0), "the tail is lent");
    (ring, [first, second], receiver)
}

#[test]
fn every_call_returns_whatever_is_said_of_a_loan() {
    let (done, is_done) = mpsc::channel();
    let lies = thread::spawn(move || {
        for number in 0..if common::long() { 60_000 } else { 1_000 } {
            let (ring, mut senders, mut receiver) = lent_ring();
            let (segment, mut noise) = (Segment::of(&ring.ring), Noise(number << 20));
            let [tail, head] = [SENDERS_AREA, RECEIVER_AREA].map(|at| segment.word(at).load(Relaxed));
            let any = noise.number();
            let position = noise.one_of(&[0, head, head + 3, head.wrapping_sub(3), head + CAPACITY / 8, any]);
            // Nobody's, each sender's, one that nobody has, and two beyond the ring.
            let slot = noise.one_of(&[0, 1, 2, 3, 4, 255]);
            let lie = noise.one_of(&[tail, lent(slot, position), lent(slot, head), position << 8 | slot]);
            segment.word(SENDERS_AREA).store(lie, Relaxed);
            for slot in 0..usize::from(SENDERS) {
                let state = noise.one_of(&[0, 1, 1, 2, 2, 3, 4, number % 256]);
                let loan = noise.one_of(&[position << 8 | state, head << 8 | state]);
                let area = SLOTS + slot * SLOT;
                if noise.below(4) > 0 {
                    segment.word(area + LOAN).store(loan, Relaxed);
                }
                if noise.below(3) == 0 {
                    segment.word(area + 8).store(position << 8 | noise.below(5), Relaxed);
                }
                if noise.below(3) == 0 {
                    segment.word(area + 16).store(noise.one_of(&[position, head, head + 5]), Relaxed);
                }
                if noise.below(8) == 0 {
                    segment.word(area).store(claim_of(IMPOSSIBLE, noise.below(4)), Relaxed);
                }
            }
            done.send(()).unwrap();
            call_everything(&ring.ring, &mut senders, &mut receiver);
        }
    });
    let long = Duration::from_secs(30);
    while is_done
        .recv_timeout(long)
        .map_err(|end| assert_eq!(end, mpsc::RecvTimeoutError::Disconnected))
        .is_ok()
    {}
    lies.join().unwrap();
}
