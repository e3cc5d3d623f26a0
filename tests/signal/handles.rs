//! The handle itself: its threads, its slot, its kinds, and printing it.

use super::*;

#[test]
fn threads_that_share_it_send_each_message_once_and_in_their_order() {
    const EACH: u64 = 1_000;
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let sender = SignalSender::new(ring.multi_sender().unwrap()).unwrap();
    let mut receiver = ring.receiver().unwrap();
    let (mut next, began) = ([0; 3], Instant::now());
    thread::scope(|threads| {
        for thread in 0..3 {
            let sender = &sender;
            threads.spawn(move || {
                for number in 0..EACH {
                    while let Err(error) = sender.try_send(thread, &number.to_ne_bytes()) {
                        assert!(matches!(error, SendError::Busy | SendError::Full), "{error}");
                        assert!(began.elapsed() < FAR, "still {error}");
                        thread::yield_now();
                    }
                }
            });
        }
        for _ in 0..3 * EACH {
            let message = receiver.recv_timeout(FAR).unwrap();
            let next = &mut next[message.kind() as usize];
            assert_eq!(number(&message.to_vec()), *next);
            *next += 1;
        }
    });
    drop(sender.take());
    assert_eq!(sender.try_send(0, b"after its end"), Err(SendError::Disconnected));
    assert!(sender.take().is_none());
    assert_eq!(receiver.recv_timeout(FAR).err(), Some(RecvError::Disconnected));
}

#[test]
fn its_slot_is_taken_when_it_is_made_or_it_is_not_made() {
    let ring = ringpost::unnamed().many_senders(1).memfd().unwrap();
    let sender = ring.multi_sender().unwrap();
    let refused = SignalSender::new(sender.clone());
    assert!(matches!(refused.err(), Some(OpenError::TooManySenders { most: 1 })));
    let sender = SignalSender::new(sender).unwrap();
    let mut receiver = ring.receiver().unwrap();
    sender.try_send(7, b"the only one").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"the only one");
}

#[test]
fn the_sender_of_a_ring_for_one_can_be_it_and_one_of_an_elastic_ring_can_not() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let sender = SignalSender::new(ring.sender().unwrap()).unwrap();
    let mut receiver = ring.receiver().unwrap();
    sender.try_send(7, b"by one").unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((message.kind(), message.to_vec()), (7, b"by one".to_vec()));
    let elastic = ringpost::unnamed().elastic(1 << 20).memfd().unwrap();
    let refused = SignalSender::new(elastic.sender().unwrap());
    assert!(matches!(refused.err(), Some(OpenError::Mismatch { what: "memory", .. })));
}

/// Sends whenever it is written to, as a signal would that comes in between.
struct Interrupting<'a>(&'a SignalSender, Vec<Result<(), SendError>>);

impl std::fmt::Write for Interrupting<'_> {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        self.1.push(self.0.try_send(BY_HANDLER, b"in between"));
        Ok(())
    }
}

#[test]
fn whoever_prints_it_keeps_no_handler_from_sending() {
    let ring = ringpost::unnamed().many_senders(1).memfd().unwrap();
    let (sender, mut receiver) =
        (SignalSender::new(ring.multi_sender().unwrap()).unwrap(), ring.receiver().unwrap());
    let mut writes = Interrupting(&sender, Vec::new());
    std::fmt::write(&mut writes, format_args!("{sender:?}")).unwrap();
    assert!(!writes.1.is_empty() && writes.1.iter().all(|sent| sent.is_ok()), "{:?}", writes.1);
    assert_eq!(receiver.recv_many(usize::MAX).unwrap().iter().count(), writes.1.len());
    drop(sender.take());
    assert!(format!("{sender:?}").contains("SignalSender"));
}
