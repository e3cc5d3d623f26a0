//! Words that somebody else has written.

use super::*;

/// Random bytes in a mailbox at work: errors or wrong bytes, no panic, and nobody stays in a loop.
#[test]
fn hostile_words_give_errors_and_no_panic() {
    for round in 0..if common::long() { 2000 } else { 40 } {
        be_damaged(round);
    }
}

fn be_damaged(seed: u64) {
    let shared = office(8, |builder| builder.priorities(2));
    let mut mailbox = shared.ring.mailbox().unwrap();
    let file = File::options().read(true).write(true).open(shared.ring.path().unwrap()).unwrap();
    let (length, mut chance) = (file.metadata().unwrap().len(), seed);
    for round in 0..100_u64 {
        chance = scatter(chance ^ round);
        // Not the seat's own claim and alarm: without those it is not attached.
        let at = 8192 + 512 + 2 * 256 + chance % (length - 8192 - 512 - 2 * 256);
        let word = [0, u64::MAX, chance, 1 << (chance % 64)][round as usize % 4];
        file.write_at(&word.to_ne_bytes(), at & !7).unwrap();
        let envelope = Envelope { kind: chance as u16 % 4, priority: (chance % 2) as u8 };
        let _ = mailbox.try_send(envelope, &[0; 100]);
        let picks = [Pick::Any, Pick::Kind(1), Pick::Except(2), Pick::UpTo(2)];
        if let Ok(letter) = mailbox.try_recv(picks[chance as usize % 4]) {
            let _ = (letter.to_vec(), letter.kind(), letter.sender(), letter.tries());
            if chance.is_multiple_of(8) {
                letter.give_back();
            }
        }
        let _ = (mailbox.browse(Pick::Any), mailbox.occupancy());
    }
}

#[test]
fn tickets_in_any_order_are_browsed_without_a_panic() {
    let shared = office(64, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    (0..64).for_each(|number| send(&mut mailbox, number));
    // Receivers look for what lies aside from now on.
    mailbox.recv(Pick::Any).unwrap().give_back();
    let file = File::options().read(true).write(true).open(shared.ring.path().unwrap()).unwrap();
    let length = file.metadata().unwrap().len();
    // Every word that looks like the state of a cell with a message: ready and aside, with a ticket of any size.
    let mut damaged = 0;
    for at in (0..length).step_by(8).filter(|at| *at >= 8192 + 512 + 63 * 256) {
        let mut word = [0; 8];
        file.read_at(&mut word, at).unwrap();
        let state = u64::from_ne_bytes(word);
        if state & 7 == 2 && state >> 9 & 0x3f == 1 {
            let ticket = scatter(at) << 25;
            file.write_at(&(ticket | state & 0x1ff_ffff | 4).to_ne_bytes(), at).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged >= 63, "{damaged}");
    assert!(shared.ring.mailbox().unwrap().browse(Pick::Any).len() >= 63);
}
