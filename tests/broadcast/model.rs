//! A broadcast beside a count that says what each reader is to get: whatever its users do one after the other, also where positions
//! wrap.

use super::*;

const CAPACITY: u64 = 4096;
const LONGEST: u64 = CAPACITY - 16;

/// Message `number`: short, long, or nearly as long as the ring.
fn letter(number: u64) -> Vec<u8> {
    let chance = scatter(number);
    let length = match chance % 4 {
        0 => 8 + chance / 4 % 16,
        1 => 8 + chance / 4 % 200,
        2 => 8 + chance / 4 % (LONGEST - 7),
        _ => LONGEST - chance / 4 % 40,
    };
    let mut bytes = number.to_ne_bytes().to_vec();
    bytes.resize(length as usize, number as u8);
    bytes
}

#[track_caller]
fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == letter(number), "message {number} is not what was sent");
    number
}

/// A reader, and the number of its next message.
struct Reader<R> {
    reader: R,
    next: u64,
}

impl Reader<Subscriber> {
    fn join(ring: &ringpost::Ring, start: Start, sent: u64) -> Self {
        let mut reader = ring.subscriber_from(start).unwrap();
        let next = match reader.try_recv() {
            Ok(message) => {
                let first = number_of(&message.to_vec());
                // It is the next one still.
                std::mem::forget(message);
                first
            }
            Err(error) => {
                assert_eq!(error, RecvError::Empty);
                sent
            }
        };
        check(start, next, sent);
        Self { reader, next }
    }

    fn read(&mut self, most: u64, sent: u64) {
        for _ in 0..most {
            match self.reader.try_recv() {
                Ok(message) => assert_eq!(number_of(&message.to_vec()), self.next),
                Err(error) => return assert_eq!((error, self.next), (RecvError::Empty, sent)),
            }
            self.next += 1;
        }
    }
}

impl Reader<Watcher> {
    fn join(ring: &ringpost::Ring, start: Start, sent: u64) -> Self {
        let mut looks_first = ring.watcher(start).unwrap();
        let next = looks_first.try_recv().map_or(sent, |message| number_of(&message));
        check(start, next, sent);
        Self { reader: ring.watcher(start).unwrap(), next }
    }

    fn read(&mut self, most: u64, sent: u64) {
        for _ in 0..most {
            match self.reader.try_recv() {
                Ok(message) => assert_eq!(number_of(&message), self.next),
                Err(RecvError::Missed { count }) => {
                    self.next += count;
                    continue;
                }
                Err(error) => return assert_eq!((error, self.next), (RecvError::Empty, sent)),
            }
            self.next += 1;
        }
    }
}

/// Whether a reader that starts so may begin with this message. How many are still there nobody says.
#[track_caller]
fn check(start: Start, next: u64, sent: u64) {
    match start {
        Start::Now => assert_eq!(next, sent),
        Start::Last(most) => {
            assert!((sent.saturating_sub(most)..=sent).contains(&next), "{next} of {sent}, {start:?}")
        }
        _ => assert!(next <= sent),
    }
}

#[test]
fn each_reader_gets_what_it_should_wherever_positions_wrap() {
    let steps = if common::long() { 2_000_000 } else { 15_000 };
    let wrap = 1 << 56;
    for start in [0, wrap - 1, wrap - 500, wrap - 20_000, wrap / 2 - 3000] {
        let ring = ringpost::unnamed().capacity(CAPACITY).broadcast(4).start_position(start).memfd().unwrap();
        let mut publisher = ring.publisher().unwrap();
        let (mut subscribers, mut watchers, mut sent) = (Vec::new(), Vec::new(), 0);
        for step in 0..steps {
            let chance = scatter(step ^ start << 1);
            let (which, most) = ((chance >> 8) as usize, (chance >> 16) % 9);
            let begin = [Start::Now, Start::Last(most), Start::Oldest][which % 3];
            match chance % 16 {
                0..=5 => match publisher.try_send(&letter(sent)) {
                    Ok(()) => sent += 1,
                    Err(error) => {
                        assert_eq!(error, SendError::Full);
                        assert!(!subscribers.is_empty(), "nobody holds the sender up");
                    }
                },
                6 if subscribers.len() < 4 => {
                    subscribers.push(Reader::<Subscriber>::join(&ring, begin, sent))
                }
                7 if watchers.len() < 4 => watchers.push(Reader::<Watcher>::join(&ring, begin, sent)),
                6 => drop(subscribers.swap_remove(which % 4)),
                7 => drop(watchers.swap_remove(which % 4)),
                8..=11 => subscribers.iter_mut().for_each(|reader| reader.read(most / 2, sent)),
                12 | 13 => watchers.iter_mut().for_each(|reader| reader.read(most, sent)),
                // Given up, and passed over by all.
                14 => drop(publisher.try_reserve((chance >> 24) as usize % 500)),
                _ if which.is_multiple_of(8) => {
                    drop(publisher);
                    publisher = ring.publisher().unwrap();
                }
                _ => {}
            }
        }
        assert!(sent > steps / 20, "only {sent} messages");
    }
}
