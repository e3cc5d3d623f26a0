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
