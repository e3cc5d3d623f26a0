//! Messages that are looked at and stay.

use super::*;

#[test]
fn messages_that_are_browsed_stay_until_somebody_deletes_them() {
    let ring = ringpost::unnamed().mailbox(8).memfd().unwrap();
    let (mut one, mut two) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    for text in ["a", "b", "c"] {
        one.send(3, text.as_bytes()).unwrap();
    }
    let texts = |mailbox: &mut Mailbox| {
        let mails = mailbox.browse(Pick::Any).into_iter();
        mails.map(|mail| String::from_utf8(mail.bytes).unwrap()).collect::<String>()
    };
    assert_eq!(
        (texts(&mut one), texts(&mut two), texts(&mut one)),
        ("abc".into(), "abc".into(), "abc".into())
    );
    let b = one.browse(Pick::Any)[1].id;
    assert!(two.delete(&b) && !one.delete(&b));
    assert_eq!((texts(&mut one), one.occupancy().waiting), ("ac".into(), 2));
}

#[test]
fn a_message_is_browsed_once_also_while_it_is_laid_aside() {
    for _ in 0..if common::long() { 20_000 } else { 300 } {
        let ring = ringpost::unnamed().mailbox(4).memfd().unwrap();
        let (mut sender, mut other) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
        sender.send(1, b"stays").unwrap();
        thread::scope(|threads| {
            let sending = threads.spawn(move || {
                // An order has room for eight.
                for _ in 0..20 {
                    sender.send(2, b"goes").unwrap();
                    drop(sender.recv(Pick::Kind(2)).unwrap());
                }
            });
            while !sending.is_finished() {
                assert_eq!(other.browse(Pick::Kind(1)).len(), 1);
            }
        });
    }
}

#[test]
fn processes_read_what_stays_as_often_as_they_like_until_one_deletes_it() {
    let shared = office(8, |builder| builder.priorities(2));
    let mut mailbox = shared.ring.mailbox().unwrap();
    for (number, priority) in [(0, 0), (1, 1), (2, 0)] {
        mailbox.send(Envelope { kind: 3, priority }, &[number]).unwrap();
    }
    let readers = [(); 2].map(|()| child_at(&shared, "browse", ""));
    let read = |reader: &Child, delete| {
        reader.tell(delete);
        let numbers: Vec<_> =
            std::iter::from_fn(|| Some(reader.hear()).filter(|&number| number != END)).collect();
        if delete != END {
            assert_eq!(reader.hear(), END);
        }
        numbers
    };
    for reader in &readers {
        assert_eq!((read(reader, END), read(reader, END)), (vec![1, 0, 2], vec![1, 0, 2]));
    }
    assert_eq!(read(&readers[0], 0), [1, 0, 2]);
    readers.iter().for_each(|reader| assert_eq!(read(reader, END), [1, 2]));
    assert_eq!(read(&readers[1], 1), [1, 2]);
    // What a killed reader has only read is there.
    let [mut first, second] = readers;
    first.kill();
    assert_eq!(read(&second, END), [2]);
    assert_eq!(mailbox.try_recv(Pick::Any).unwrap().to_vec(), [2]);
}
