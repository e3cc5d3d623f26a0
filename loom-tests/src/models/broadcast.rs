//! Goal: one sender, and readers that each get every message; on a ring that holds two records of half its size.
//!
//! Legal outcomes: a reader gets every message from where it joined, in order, whole; the sender is `Full` while one has not
//! released what it would write over. Who only looks on gets each message whole or is told exactly how many it missed.

use crate::{
    explore::{explore, explore_every_kill},
    harness::*,
    mortal::killed_at,
    ring::{
        broadcast::{Producer, Reader, Start},
        claim,
        floor::Floor,
        onlooker::{NoMessage, Onlooker},
        reserve::{Full, Need, Produce},
    },
};
use loom::thread;
use std::sync::Arc;

const SENDER: u32 = 1;
const READER: u32 = 2;

/// The sender's end, with the claim of the one place.
struct Publisher(Producer);

impl Publisher {
    fn attach(ring: &Ring, number: u32) -> Self {
        let taken = ring.take(&ring.memory.receiver().claim, process(number), || true).unwrap();
        Self(Producer::attach(Arc::clone(&ring.memory), taken == Taken::FromTheDead))
    }

    /// Message `value`, of kind `value`.
    fn try_send(&mut self, length: u32, value: u64) -> Result<(), Full> {
        let reserved = self.0.reserve(Need::Record(length.into()))?;
        self.0.memory().write_payload(reserved.start, length, value);
        reserved.place(
            self.0.memory(),
            reserved.start,
            reserved.info_at(reserved.start, length, value as u16),
        );
        self.0.publish(reserved, reserved.end());
        Ok(())
    }

    /// Messages without payload, of these kinds, at once.
    fn try_batch(&mut self, kinds: &[u16]) -> Result<(), Full> {
        let reserved = self.0.reserve(Need::Units(HEADER * kinds.len() as u64))?;
        let mut at = reserved.start;
        for kind in kinds {
            reserved.place(self.0.memory(), at, reserved.info_at(at, 0, *kind));
            at = at.plus(HEADER);
        }
        self.0.publish(reserved, at);
        Ok(())
    }
}

/// Two slots.
fn ring() -> Ring {
    Ring::many(2)
}

fn join(ring: &Ring, slot: u8, start: Start) -> Reader {
    let claim = &ring.memory.slot(slot).unwrap().claim;
    ring.take(claim, process(READER + u32::from(slot)), || true).unwrap();
    Reader::join(Arc::clone(&ring.memory), slot, start)
}

/// The value of the next message, read while it is held, and released.
fn next(reader: &mut Reader) -> Option<u64> {
    let record = reader.look().unwrap()?;
    let kind = u64::from(record.info.kind());
    if record.length() > 0 {
        assert_eq!(reader.memory().read_payload(record.position, record.length()), kind);
    }
    reader.release(record.end);
    Some(kind)
}

fn drain(reader: &mut Reader) -> Vec<u64> {
    std::iter::from_fn(|| next(reader)).collect()
}

#[track_caller]
fn assert_consecutive(values: &[u64]) {
    assert!(values.windows(2).all(|pair| pair[1] == pair[0] + 1), "{values:?}");
}

#[test]
fn a_record_is_written_over_only_after_every_reader_has_read_it() {
    explore(|| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        let [mut one, mut two] = [1, 2].map(|slot| join(&ring, slot, Start::Now));
        (1..=2).for_each(|value| publisher.try_send(HALF, value).unwrap());
        assert_eq!(next(&mut one), Some(1));
        let sending = thread::spawn(move || publisher.try_send(HALF, 3).is_ok());
        assert_eq!(next(&mut two), Some(1));
        let sent = sending.join().unwrap();
        let rest: &[u64] = if sent { &[2, 3] } else { &[2] };
        assert_eq!(drain(&mut one), rest);
        assert_eq!(drain(&mut two), rest);
    });
}

#[test]
fn who_joins_gets_all_from_then_on() {
    explore(|| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        let sending = thread::spawn(move || {
            (1..=3).take_while(|value| publisher.try_send(HALF, *value).is_ok()).count() as u64
        });
        let mut reader = join(&ring, 1, Start::Now);
        let mut got = drain(&mut reader);
        let sent = sending.join().unwrap();
        got.extend(drain(&mut reader));
        assert_consecutive(&got);
        assert!(got.last().is_none_or(|last| *last == sent), "{got:?} of {sent}");
    });
}

#[test]
fn who_joins_at_the_oldest_gets_all_from_there_on() {
    explore(|| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        (1..=2).for_each(|value| publisher.try_send(HALF, value).unwrap());
        let sending = thread::spawn(move || {
            2 + (3..=4).take_while(|value| publisher.try_send(HALF, *value).is_ok()).count() as u64
        });
        let mut reader = join(&ring, 1, Start::Oldest);
        let mut got = drain(&mut reader);
        let sent = sending.join().unwrap();
        got.extend(drain(&mut reader));
        assert_consecutive(&got);
        assert_eq!(got.last(), Some(&sent));
    });
}

#[test]
fn a_slot_that_is_taken_again_does_not_speak_with_its_last_owners_position() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut first = Publisher::attach(&ring, SENDER);
        let mut before = join(&ring, 1, Start::Now);
        first.try_send(HALF, 1).unwrap();
        // Killed, perhaps, between the tag and the tail.
        let killed = killed_at(accesses, || first.try_send(HALF, 2).unwrap());
        ring.bury_quietly(process(SENDER));
        let sent = drain(&mut before).len() as u64;
        claim::close(&ring.memory.slot(1).unwrap().claim);
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let mut second = Publisher::attach(&heir, 9);
            let more = (1..=2).take_while(|more| second.try_send(HALF, sent + more).is_ok()).count() as u64;
            (second, sent + more)
        });
        let mut after = join(&ring, 1, Start::Now);
        let mut got = drain(&mut after);
        let (mut second, sent) = sending.join().unwrap();
        got.extend(drain(&mut after));
        second.try_send(HALF, sent + 1).unwrap();
        got.extend(drain(&mut after));
        assert_consecutive(&got);
        assert_eq!(got.last(), Some(&(sent + 1)));
        killed
    });
}

#[test]
fn who_looks_on_gets_it_whole_or_is_told_exactly_what_it_missed() {
    explore(|| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        let mut onlooker = Onlooker::new(Arc::clone(&ring.memory), Start::Now);
        (1..=2).for_each(|value| publisher.try_send(HALF, value).unwrap());
        let sending = thread::spawn(move || publisher.try_send(HALF, 3).unwrap());
        let mut expected = 1;
        let mut look = |onlooker: &mut Onlooker| match onlooker.next(|record| Ok::<_, ()>(record.info.kind()))
        {
            Ok(kind) => {
                assert_eq!(u64::from(kind), expected);
                expected += 1;
            }
            Err(NoMessage::Missed(count)) => expected += count,
            Err(NoMessage::Empty) => {}
            Err(other) => panic!("{other:?}"),
        };
        look(&mut onlooker);
        sending.join().unwrap();
        (0..4).for_each(|_| look(&mut onlooker));
        assert_eq!(expected, 4);
    });
}

#[test]
fn the_floor_is_a_record_with_its_number() {
    explore(|| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        (1..=3).for_each(|value| publisher.try_send(HALF, value).unwrap());
        let sending =
            thread::spawn(move || (4..=5).for_each(|value| publisher.try_send(HALF, value).unwrap()));
        let floor = Floor::read(&ring.memory);
        assert_eq!(floor.position.units(), floor.number * HALF_UNITS);
        sending.join().unwrap();
    });
}

#[test]
fn the_floor_stands_while_a_sender_is_killed_at_every_access() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut first = Publisher::attach(&ring, SENDER);
        (1..=2).for_each(|value| first.try_send(HALF, value).unwrap());
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let killed = killed_at(accesses, || first.try_send(0, 3).unwrap());
            heir.bury_quietly(process(SENDER));
            // Needs more room, so that it raises the floor again at once.
            Publisher::attach(&heir, 9).try_send(HALF + SHORT, 4).unwrap();
            killed
        });
        let floor = Floor::read(&ring.memory);
        let expected = if floor.number > 2 { 2 * HALF_UNITS + HEADER } else { floor.number * HALF_UNITS };
        assert_eq!(floor.position.units(), expected);
        sending.join().unwrap()
    });
}

#[test]
fn a_sender_that_is_killed_at_every_access_leaves_what_it_had_sent() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut first = Publisher::attach(&ring, SENDER);
        first.try_send(HALF, 1).unwrap();
        let mut reader = join(&ring, 1, Start::Oldest);
        assert_eq!(next(&mut reader), Some(1));
        let heir = ring.clone();
        let sending = thread::spawn(move || {
            let killed = killed_at(accesses, || {
                first.try_send(0, 2).unwrap();
                first.try_batch(&[3, 4]).unwrap();
            });
            heir.bury_quietly(process(SENDER));
            let mut second = Publisher::attach(&heir, 9);
            (killed, second.try_send(0, 5).is_ok(), second)
        });
        let mut got = drain(&mut reader);
        let (killed, sent, mut second) = sending.join().unwrap();
        got.extend(drain(&mut reader));
        let legal: [&[u64]; 3] = [&[], &[2], &[2, 3, 4]];
        let of_the_dead = got.strip_suffix(&[5]).unwrap_or(&got);
        assert!(legal.contains(&of_the_dead), "{got:?}");
        assert_eq!(sent, got.last() == Some(&5));
        // Where the batch may have left a tag, once around.
        (6..=9).for_each(|value| {
            second.try_send(0, value).unwrap();
            assert_eq!(drain(&mut reader), [value]);
        });
        killed
    });
}

#[test]
fn what_a_killed_batch_wrote_behind_a_dead_reader_is_not_seen_before_that_one_is_proven_dead() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut first = Publisher::attach(&ring, SENDER);
        let (_dead, mut reader) = (join(&ring, 1, Start::Now), join(&ring, 2, Start::Now));
        first.try_send(HALF, 1).unwrap();
        assert_eq!(drain(&mut reader), [1]);
        let is_dead = |owner| owner == process(READER + 1);
        first.0.pass_over(is_dead);
        // The last begins where the dead reader ends the room of who does not know that it is dead.
        let killed = killed_at(accesses, || first.try_batch(&[2, 3, 4]).unwrap());
        ring.bury_quietly(process(SENDER));
        let of_the_dead = drain(&mut reader);
        assert!([&[][..], &[2, 3, 4]].contains(&of_the_dead.as_slice()), "{of_the_dead:?}");
        let mut second = Publisher::attach(&ring, 9);
        let sent: Vec<_> = (5..9).take_while(|value| second.try_send(0, *value).is_ok()).collect();
        assert_eq!(drain(&mut reader), sent);
        second.0.pass_over(is_dead);
        (9..14).for_each(|value| {
            second.try_send(0, value).unwrap();
            assert_eq!(drain(&mut reader), [value]);
        });
        killed
    });
}

#[test]
fn what_a_killed_batch_left_is_cleaned_also_when_the_successor_closes_at_once() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut first = Publisher::attach(&ring, SENDER);
        let mut reader = join(&ring, 1, Start::Now);
        let killed = killed_at(accesses, || first.try_batch(&[1, 2, 3]).unwrap());
        ring.bury_quietly(process(SENDER));
        drain(&mut reader);
        let _second = Publisher::attach(&ring, 9);
        claim::close(&ring.memory.receiver().claim);
        let mut third = Publisher::attach(&ring, 10);
        // Up to where the records of the batch have their tags.
        (6..=9).for_each(|value| {
            third.try_send(0, value).unwrap();
            assert_eq!(drain(&mut reader), [value]);
        });
        killed
    });
}

#[test]
fn a_reader_that_is_killed_at_every_access_of_its_joining_holds_nobody_up() {
    explore_every_kill(|accesses| {
        let ring = ring();
        let mut publisher = Publisher::attach(&ring, SENDER);
        let mut reader = join(&ring, 2, Start::Now);
        let other = ring.clone();
        let joining = thread::spawn(move || {
            let killed = killed_at(accesses, || drop(join(&other, 1, Start::Now)));
            other.bury_quietly(process(READER + 1));
            killed
        });
        let mut sent = (1..=2).take_while(|value| publisher.try_send(HALF, *value).is_ok()).count() as u64;
        let killed = joining.join().unwrap();
        publisher.0.pass_over(|owner| owner == process(READER + 1));
        let mut got = drain(&mut reader);
        for _ in 0..2 {
            sent += 1;
            publisher.try_send(HALF, sent).unwrap();
            got.extend(drain(&mut reader));
        }
        assert_eq!(got, (1..=sent).collect::<Vec<_>>());
        killed
    });
}
