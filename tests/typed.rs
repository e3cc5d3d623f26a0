//! Rings that are made for one type: who may attach as what, and which messages they take.

use ringpost::{Builder, OpenError, RecvError, Ring, SendError, unnamed};

#[derive(zerocopy::IntoBytes, zerocopy::FromBytes, zerocopy::Immutable)]
struct Price(u64);

#[derive(zerocopy::IntoBytes, zerocopy::FromBytes, zerocopy::Immutable)]
struct Volume(u64);

mod elsewhere {
    /// Of the same name as the other.
    #[derive(zerocopy::IntoBytes, zerocopy::FromBytes, zerocopy::Immutable)]
    pub struct Price(pub u64);
}

fn prices() -> Ring {
    unnamed().capacity(4096).fixed::<Price>().memfd().unwrap()
}

/// Opens the ring as another process would.
fn opened(ring: &Ring, asked: Builder) -> Result<Ring, OpenError> {
    asked.from_fd(ring.fd().unwrap().try_clone_to_owned().unwrap())
}

#[track_caller]
fn assert_other_name<T: std::fmt::Debug>(refused: Result<T, OpenError>) {
    match refused {
        Err(OpenError::Mismatch { what, .. }) => assert_eq!(what, "name of the type of message"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_of_another_type_of_the_same_size_is_refused() {
    let ring = prices();
    assert_other_name(ring.sender().unwrap().typed::<Volume>());
    assert_other_name(ring.receiver().unwrap().typed::<Volume>());
    assert_other_name(ring.receiver().unwrap().typed::<u64>());
    assert_other_name(opened(&ring, unnamed().fixed::<Volume>()));
    let aligned = ring.receiver().unwrap().typed::<[u8; 8]>();
    assert!(matches!(aligned, Err(OpenError::Mismatch { what: "alignment of each message", .. })));
}

#[test]
fn where_a_type_is_declared_does_not_matter() {
    let ring = opened(&prices(), unnamed().fixed::<elsewhere::Price>()).unwrap();
    let mut sender = ring.sender().unwrap().typed::<elsewhere::Price>().unwrap();
    let mut receiver = ring.receiver().unwrap().typed::<Price>().unwrap();
    sender.send(&elsewhere::Price(7)).unwrap();
    assert_eq!(receiver.recv().unwrap().0, 7);
}

#[test]
fn a_message_of_another_length_is_refused_whichever_way_it_is_sent() {
    let ring = prices();
    let mut sender = ring.sender().unwrap();
    let wrong = Err(SendError::WrongLength { length: 5, only: 8 });
    assert_eq!(sender.send(b"short"), wrong);
    assert_eq!(sender.try_send(b"short"), wrong);
    assert_eq!(sender.reserve(5).map(drop), wrong);
    assert_eq!(sender.batch(64).unwrap().push(0, b"short"), wrong);
    assert_eq!(sender.send(b""), Err(SendError::WrongLength { length: 0, only: 8 }));
    assert_eq!(sender.send(b"nine long"), Err(SendError::TooLong { length: 9, longest: 8 }));
    let mut shortened = sender.reserve(8).unwrap();
    shortened.write_at(0, &7u64.to_ne_bytes());
    shortened.truncate(3);
    shortened.commit();
    drop(sender);
    let mut receiver = ring.receiver().unwrap().typed::<Price>().unwrap();
    assert_eq!(receiver.recv().unwrap().0, 7);
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn one_of_many_senders_and_the_sender_to_many_readers_keep_to_the_type_too() {
    let wrong = Err(SendError::WrongLength { length: 1, only: 8 });
    let many = unnamed().capacity(4096).fixed::<Price>().many_senders(2).memfd().unwrap();
    assert_eq!(many.multi_sender().unwrap().send(b"x"), wrong);
    let all = unnamed().capacity(4096).fixed::<Price>().broadcast(2).memfd().unwrap();
    assert_eq!(all.publisher().unwrap().send(b"x"), wrong);
    let met = unnamed().capacity(4096).fixed::<Price>().rendezvous().memfd().unwrap();
    assert_eq!(met.rendezvous_sender().unwrap().send(b"x"), wrong);
}

#[test]
fn bytes_of_the_right_length_are_anybodys_to_send_and_to_receive() {
    let ring = prices();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert_eq!(sender.longest_message(), 8);
    sender.send(&[1; 8]).unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), [1; 8]);
}
