//! A mailbox beside a list that says what it should do: whatever its users do one after the other, both give the same.

use super::*;

/// A message as the list has it.
#[derive(Clone, Debug)]
struct Entry {
    number: u64,
    envelope: Envelope,
    tries: u8,
    id: Sent,
}

/// The mailbox, its users, and what it should hold.
struct Model {
    ring: ringpost::Ring,
    seats: Vec<Mailbox>,
    waiting: Vec<Entry>,
    held: Vec<(Letter, Entry)>,
    cells: usize,
    sent: u64,
}

impl Model {
    fn new(cells: u32, priorities: u8) -> Self {
        let ring = ringpost::unnamed().mailbox(cells).priorities(priorities).longest_message(8);
        let ring = ring.memfd().unwrap();
        let seats = (0..3).map(|_| ring.mailbox().unwrap()).collect();
        Self { ring, seats, waiting: Vec::new(), held: Vec::new(), cells: cells as usize, sent: 0 }
    }

    /// What is waiting and `pick` takes, in the order in which it is received.
    fn picked(&self, pick: Pick) -> Vec<&Entry> {
        let mut picked: Vec<_> =
            self.waiting.iter().filter(|entry| pick.takes(entry.envelope.kind)).collect();
        picked.sort_by_key(|Entry { number, envelope, .. }| {
            let kind = if let Pick::UpTo(_) = pick { envelope.kind } else { 0 };
            (kind, u8::MAX - envelope.priority, *number)
        });
        picked
    }

    fn sent(&mut self, envelope: Envelope, id: Sent) {
        self.waiting.push(Entry { number: self.sent, envelope, tries: 0, id });
        self.sent += 1;
    }

    fn send(&mut self, seat: usize, envelope: Envelope) {
        match self.seats[seat].try_send(envelope, &self.sent.to_ne_bytes()) {
            Ok(id) => {
                assert_eq!(self.seats[(seat + 1) % 3].fate(&id), Fate::Waiting);
                self.sent(envelope, id);
            }
            Err(error) => {
                assert_eq!(error, SendError::Full);
                assert_eq!(self.waiting.len() + self.held.len(), self.cells);
            }
        }
    }

    /// In place; given up when there is no `envelope`.
    fn write(&mut self, seat: usize, envelope: Option<Envelope>) {
        let seat = &mut self.seats[seat];
        let Ok(mut blank) = seat.try_reserve(8) else { return };
        blank.write_at(0, &self.sent.to_ne_bytes());
        if let Some(envelope) = envelope {
            let id = seat.commit(envelope, blank).unwrap();
            self.sent(envelope, id);
        }
    }

    fn receive(&mut self, seat: usize, pick: Pick) {
        let expected = self.picked(pick).first().map(|&entry| entry.clone());
        match (self.seats[seat].try_recv(pick), expected) {
            (Ok(letter), Some(entry)) => {
                let got = (letter.to_vec(), letter.kind(), letter.priority(), letter.tries());
                let Envelope { kind, priority } = entry.envelope;
                assert_eq!(
                    got,
                    (entry.number.to_ne_bytes().to_vec(), kind, priority, entry.tries),
                    "{pick:?}"
                );
                assert_eq!(self.seats[seat].fate(&entry.id), Fate::Held { pid: std::process::id() });
                self.waiting.retain(|other| other.number != entry.number);
                self.held.push((letter, entry));
            }
            (Err(error), None) => assert_eq!(error, RecvError::Empty),
            (got, expected) => panic!("{got:?} for {pick:?}, and not {expected:?}"),
        }
    }

    fn release(&mut self, which: usize, give_back: bool) {
        if self.held.is_empty() {
            return;
        }
        let (letter, mut entry) = self.held.swap_remove(which % self.held.len());
        if give_back {
            letter.give_back();
            entry.tries = (entry.tries + 1).min(31);
            self.waiting.push(entry);
        } else {
            drop(letter);
            assert_eq!(self.seats[0].fate(&entry.id), Fate::Done { pid: std::process::id() });
        }
    }

    fn delete(&mut self, seat: usize, which: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let entry = self.waiting.swap_remove(which % self.waiting.len());
        assert!(self.seats[seat].delete(&entry.id) && !self.seats[seat].delete(&entry.id));
    }

    fn look(&mut self, seat: usize, pick: Pick) {
        let browsed: Vec<_> = self.seats[seat].browse(pick).into_iter().map(|mail| mail.bytes).collect();
        let expected: Vec<_> =
            self.picked(pick).iter().map(|entry| entry.number.to_ne_bytes().to_vec()).collect();
        assert_eq!(browsed, expected, "{pick:?}");
        let (occupancy, waiting, held) = (self.seats[seat].occupancy(), self.waiting.len(), self.held.len());
        assert_eq!((occupancy.waiting as usize, occupancy.held as usize), (waiting, held));
        assert_eq!(self.ring.statistics().pending_messages() as usize, waiting + held);
    }
}

#[test]
fn a_mailbox_does_what_a_list_does() {
    let steps = if common::long() { 1_000_000 } else { 10_000 };
    for (cells, priorities) in [(1, 1), (2, 2), (4, 1), (4, 3), (8, 32), (16, 2), (64, 3)] {
        let mut model = Model::new(cells, priorities);
        for step in 0..steps {
            let chance = scatter(step ^ u64::from(cells) << 32 ^ u64::from(priorities) << 40);
            let part = |at: u32, most: u64| (chance >> at) % most;
            let (seat, kind, which) = (part(8, 3) as usize, part(16, 4) as u16, part(40, 64) as usize);
            let envelope = Envelope { kind, priority: part(24, priorities.into()) as u8 };
            let pick =
                [Pick::Any, Pick::Kind(kind), Pick::Except(kind), Pick::UpTo(kind)][part(32, 4) as usize];
            match part(0, 16) {
                0..=4 => model.send(seat, envelope),
                5..=9 => model.receive(seat, pick),
                10 | 11 => model.release(which, false),
                12 => model.release(which, true),
                13 => model.look(seat, pick),
                14 if part(50, 2) == 0 => model.delete(seat, which),
                14 => model.write(seat, None),
                _ => model.write(seat, Some(envelope)),
            }
            if part(52, 256) == 0 {
                // Who leaves takes nothing with it that it does not hold.
                model.seats.pop();
                model.seats.push(model.ring.mailbox().unwrap());
            }
        }
        assert!(model.sent > steps / 50, "{cells} cells: only {} messages", model.sent);
    }
}
