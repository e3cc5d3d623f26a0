//! The public interface within one process: a fast extra, the proof is in `processes.rs`.

use ringpost::{RecvError, SendError, Trusted};

fn pair(builder: ringpost::Builder) -> (ringpost::Sender<Trusted>, ringpost::Receiver<Trusted>) {
    let ring = builder.in_process().unwrap();
    (ring.sender().unwrap(), ring.receiver().unwrap())
}

#[test]
fn a_message_arrives_in_place() {
    let (mut sender, mut receiver) = pair(ringpost::unnamed());
    sender.send_kind(7, b"hello").unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((&*message, message.kind()), (&b"hello"[..], 7));
    assert_eq!(message.sender().pid, std::process::id());
    drop(message);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    drop(sender);
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
}

#[test]
fn blocking_both_ways() {
    for many in [false, true] {
        let builder = ringpost::unnamed().capacity(4096);
        let ring = if many { builder.many_senders(2) } else { builder }.in_process().unwrap();
        let mut receiver = ring.receiver().unwrap();
        std::thread::scope(|s| {
            s.spawn(|| {
                if many {
                    let mut sender = ring.multi_sender().unwrap();
                    (0..200_000u64).for_each(|n| sender.send(&n.to_le_bytes()).unwrap());
                } else {
                    let mut sender = ring.sender().unwrap();
                    (0..200_000u64).for_each(|n| sender.send(&n.to_le_bytes()).unwrap());
                }
            });
            for n in 0..200_000u64 {
                assert_eq!(*receiver.recv().unwrap(), n.to_le_bytes());
            }
            assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
        });
    }
}

#[test]
fn full_is_an_error_of_try_send() {
    let (mut sender, receiver) = pair(ringpost::unnamed().capacity(4096));
    let sent = (0..).take_while(|_| sender.try_send(b"12345678").is_ok()).count();
    assert_eq!(sent, 4096 / 24);
    assert_eq!(sender.try_send(b"12345678").unwrap_err(), SendError::Full);
    drop(receiver);
    assert_eq!(sender.send(b"1").unwrap_err(), SendError::Disconnected);
}
