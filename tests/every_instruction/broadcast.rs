//! One sender, many readers: what the others find when the sender, or a reader, is killed at each instruction.

use super::{
    common::{self, FAR, Line},
    judge::{self, CAPACITY, Dead, MANY, Shared},
    lengths, starts,
    study::{Study, kill_at_each_change, study},
    units,
    victim::{LENGTHS, Operation, kind, message, put, put_all, send, serve_each, stepped},
};
use ringpost::{OpenError, Publisher, RecvError, Ring, SendError, Start, Subscriber};
use std::time::{Duration, Instant};

/// In an order: the reader begins at the next message, not at the oldest.
const NOW: u64 = 1 << 32;
/// In an order: the sender knows of the death of a reader before it begins.
const KNOWS: u64 = 1 << 33;

/// Slot of the tester's reader, and of a dead one: the last, so that a successor does not take it first.
const LIVING: u8 = 1;
const FALLEN: u8 = MANY;

/// Length of the messages of a successor.
const LENGTH: usize = 100;

/// The victim.
pub fn serve(line: &Line) {
    serve_each(line, |code, ring| {
        let operation = Operation::of(code & 0xffff);
        let start = if code & NOW == 0 { Start::Oldest } else { Start::Now };
        match operation {
            Operation::Listen => {
                let reader = stepped(line, || ring.subscriber_from(start));
                drop(reader);
            }
            Operation::Join => {
                let publisher = stepped(line, || ring.publisher());
                drop(publisher);
            }
            Operation::Receive | Operation::Leak | Operation::Sleep | Operation::Hush => {
                read(operation, ring.subscriber_from(start).unwrap(), line);
            }
            _ => {
                let mut publisher = ring.publisher().unwrap();
                let mut knows = code & KNOWS == 0;
                while !knows {
                    // It is named until its death is known, which the next call hears of.
                    knows = publisher.slowest().is_some_and(|lag| lag.slot != FALLEN);
                    assert!(publisher.try_reserve(publisher.longest_message()).is_err(), "there is no room");
                    std::thread::yield_now();
                }
                if !operation.reserves_before() {
                    line.tell(0);
                    line.hear();
                }
                send(operation, publisher, line);
            }
        }
        0
    });
}

fn read(operation: Operation, mut reader: Subscriber, line: &Line) {
    match operation {
        Operation::Receive => {
            stepped(line, || drop(reader.try_recv().map(|message| message.to_vec())));
        }
        Operation::Leak => stepped(line, || std::mem::forget(reader.try_recv())),
        Operation::Sleep => {
            let _ = stepped(line, || reader.recv_timeout(Duration::from_micros(300)).map(|_| ()));
        }
        _ => stepped(line, || drop(reader)),
    }
}

/// What lies in a ring, and what the victim does with it.
#[derive(Clone, Debug)]
struct Scene {
    start: u64,
    operation: Operation,
    /// Whether a victim that reads begins at the next message.
    now: bool,
    /// How many messages were sent and read before.
    past: u64,
    /// Number and length of the messages that are there, and how many of them the tester's reader has read.
    before: Vec<(u64, usize)>,
    read: usize,
    /// Whether that reader has left.
    has_left: bool,
    /// Whether the sender before the victim has died in a batch.
    fallen_sender: bool,
    /// Whether a reader has died that had read none of them, and the victim knows of it if it sends.
    fallen_reader: bool,
}

impl Scene {
    fn new(start: u64, operation: Operation) -> Self {
        let before = vec![(1, 40), (2, 0), (3, 290)];
        let (fallen_sender, fallen_reader) = (false, false);
        let (now, has_left) = (false, false);
        Self { start, operation, now, past: 3, before, read: 1, has_left, fallen_sender, fallen_reader }
    }

    fn reads(&self) -> bool {
        use Operation::{Hush, Leak, Listen, Receive, Sleep};
        matches!(self.operation, Listen | Receive | Leak | Sleep | Hush)
    }

    fn code(&self) -> u64 {
        let knows = self.fallen_reader && !self.reads() && self.operation != Operation::Join;
        let (now, knows) = (if self.now { NOW } else { 0 }, if knows { KNOWS } else { 0 });
        self.operation.code() | now | knows
    }

    /// All messages sent until the victim begins.
    fn sent(&self) -> Vec<(u64, usize)> {
        (0..self.past).map(|number| (500 + number, LENGTH)).chain(self.before.iter().copied()).collect()
    }

    /// Of those that the tester's reader has not read.
    fn unread(&self) -> &[(u64, usize)] {
        &self.before[self.read..]
    }

    /// Whether there is room for what the victim sends behind that.
    fn has_room(&self) -> bool {
        let sends = self.operation.sends();
        let held = if self.fallen_reader { &[] } else { self.unread() };
        held.iter().chain(&sends).map(|&(_, length)| units(length)).sum::<u64>() <= CAPACITY
    }
}

/// The tester's own part in a scene.
struct Cast {
    ring: Ring,
    publisher: Option<Publisher>,
    /// `None` when it has left.
    reader: Option<Subscriber>,
    /// Those that are dead as far as the ring says.
    _fallen: (Option<Publisher>, Option<Subscriber>),
}

impl AsRef<Ring> for Cast {
    fn as_ref(&self) -> &Ring {
        &self.ring
    }
}

impl Cast {
    fn new(scene: &Scene, dead: &Dead) -> Self {
        let builder = ringpost::unnamed().capacity(8 * CAPACITY).start_position(scene.start);
        let ring = builder.broadcast(MANY).memfd().unwrap();
        let mut publisher = ring.publisher().unwrap();
        let mut reader = ring.subscriber().unwrap();
        assert_eq!(reader.slot(), LIVING);
        let sent = scene.sent();
        let (past, before) = sent.split_at(scene.past as usize);
        for &message in past {
            put(&mut publisher, message).unwrap();
            drop(reader.try_recv().unwrap());
        }
        let between = ring.subscriber().unwrap();
        let fallen_reader = scene.fallen_reader.then(|| ring.subscriber().unwrap());
        assert!(fallen_reader.as_ref().is_none_or(|fallen| fallen.slot() == FALLEN));
        drop(between);
        put_all(&mut publisher, before);
        for _ in 0..scene.read {
            drop(reader.try_recv().unwrap());
        }
        if scene.fallen_reader {
            Shared::of(&ring).bury(FALLEN.into(), dead);
        }
        let mut publisher = Some(publisher);
        let fallen_sender = publisher.take_if(|_| scene.fallen_sender).map(|mut publisher| {
            let mut batch = publisher.try_batch(3 * ringpost::record_size(LENGTH)).unwrap();
            for number in 1500..1503 {
                batch.push(kind(number), &message(number, LENGTH)).unwrap();
            }
            std::mem::forget(batch);
            Shared::of(&ring).bury_the_one(dead);
            publisher
        });
        Self {
            publisher: publisher.filter(|_| scene.reads()),
            ring,
            reader: Some(reader).filter(|_| !scene.has_left),
            _fallen: (fallen_sender, fallen_reader),
        }
    }
}

/// What a reader gets until there is no more: numbers of messages, each byte of which is checked.
fn received(reader: &mut Subscriber, known: &[(u64, usize)]) -> (Vec<u64>, RecvError) {
    judge::numbers_of(known, || reader.try_recv().map(|message| (message.kind(), message.to_vec())))
}

fn numbers_of(messages: &[(u64, usize)]) -> Vec<u64> {
    messages.iter().map(|&(number, _)| number).collect()
}

/// Kills the victim where it stands, and everybody else too if `all`; lets successors go on with these bytes. `sent` says
/// whether the victim's messages were there.
fn judge(scene: &Scene, bytes: &[u8], victim: u32, dead: &Dead, all: bool, sent: &mut bool) {
    let ring = judge::ring_without(victim, all, bytes, dead);
    let mut reader = ring.subscriber_from(Start::Oldest).expect("a slot of the dead can be taken");
    let living = usize::from(!all && !scene.has_left);

    let own = scene.operation.sends();
    let mut known: Vec<_> = scene.sent().into_iter().chain(own.iter().copied()).collect();
    let (numbers, end) = received(&mut reader, &known);
    assert!(matches!(end, RecvError::Empty | RecvError::Disconnected | RecvError::PeerDied { .. }), "{end}");
    let has_own = own.first().is_some_and(|(first, _)| numbers.contains(first));
    assert!(has_own || !*sent, "what was there is gone");
    *sent = has_own;
    if !has_own {
        known.truncate(known.len() - own.len());
    }
    let needed = scene.unread().len() + if has_own { own.len() } else { 0 };
    assert!(numbers.len() >= needed && numbers_of(&known).ends_with(&numbers), "{numbers:?} {scene:?}");

    match ring.publisher() {
        Ok(publisher) => use_it(scene, &ring, publisher, reader, living == 0, known),
        Err(OpenError::SenderAttached { pid }) => {
            assert!(scene.reads() && !all && pid == std::process::id());
            drop(reader);
        }
        Err(error) => panic!("{error}"),
    }
    let each = usize::from(MANY) - living;
    let readers = judge::successors(|| ring.subscriber_from(Start::Oldest));
    assert_eq!(readers.len(), each, "each slot of the dead can be taken");
}

/// Sends one message as long as the victim's, which is received with nothing behind it. Then as many as there is room for: the
/// living reader, if there is one, keeps what it has not read, and the dead hold nobody up.
fn use_it(
    scene: &Scene,
    ring: &Ring,
    mut publisher: Publisher,
    mut reader: Subscriber,
    nobody_reads: bool,
    mut known: Vec<(u64, usize)>,
) {
    let own: u64 = scene.operation.sends().iter().map(|&(_, length)| units(length)).sum();
    if let Some(&(_, length)) = scene.operation.sends().first()
        && publisher.try_reserve(length).is_ok()
    {
        // What was reserved and dropped is passed over.
        assert_eq!(received(&mut reader, &[]).0, []);
    }
    drop(reader);
    let (mut number, begun) = (2000, Instant::now());
    while number < 2000 + 3 * CAPACITY / units(LENGTH) {
        let length = scene.operation.sends().first().filter(|_| number == 2000).map_or(LENGTH, |own| own.1);
        match put(&mut publisher, (number, length)) {
            Ok(()) => {
                known.push((number, length));
                number += 1;
            }
            Err(SendError::Full) => {
                let slowest = publisher.slowest();
                if slowest.is_some_and(|lag| !nobody_reads && lag.slot == LIVING) {
                    break;
                }
                assert!(begun.elapsed() < FAR, "{slowest:?} holds the sender up: {scene:?}");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
    let mut reader = ring.subscriber_from(Start::Oldest).unwrap();
    let (numbers, end) = received(&mut reader, &known);
    assert_eq!(end, RecvError::Empty);
    let all_numbers = numbers_of(&known);
    assert!(all_numbers.ends_with(&numbers), "{numbers:?} {scene:?}");
    let there = &known[known.len() - numbers.len()..];
    let used: u64 = there.iter().map(|&(_, length)| units(length)).sum();
    if nobody_reads {
        assert!(used > CAPACITY / 2, "{used} units are whole");
        return;
    }
    // It had read all: then the next one is its first.
    let unread = *scene.unread().first().unwrap_or_else(|| &known[scene.sent().len()]);
    assert!(numbers.contains(&unread.0), "what a living reader has not read is gone: {scene:?}");
    // The victim may have given up as much as it would have sent, and the successor once more.
    assert!(used + units(LENGTH) + units(LENGTHS[5]) + 3 * own > CAPACITY, "{used} units are all the room");
}

impl Study {
    fn cast(&mut self, scene: &Scene) {
        let cast = Cast::new(scene, &self.dead);
        let name = format!("{:?}", scene.operation);
        let judge = |bytes: &[u8], victim, dead: &_, all, sent: &mut bool| {
            judge(scene, bytes, victim, dead, all, sent);
        };
        let sent = self.watch_for_two(&name, scene.code(), &cast.ring, Some(|| {}), judge);
        assert_eq!(sent, [!scene.operation.sends().is_empty() && scene.has_room(); 2], "{scene:?}");
    }
}

/// A full ring, as far as a dead reader holds it: what the victim sends first just fits before that one, and goes on behind.
fn held_by_the_dead(start: u64, operation: Operation) -> Scene {
    let length = operation.sends()[0].1;
    let first = (CAPACITY - units(40) - units(length) - 2) as usize * 8;
    let before = vec![(1, first), (2, 40)];
    Scene { past: 0, before, fallen_reader: true, ..Scene::new(start, operation) }
}

/// A ring with little room, in which a sender has died in a batch.
fn behind_a_fallen_sender(start: u64, operation: Operation) -> Scene {
    let before = vec![(1, 40), (2, 0), (3, 3200)];
    Scene { before, fallen_sender: true, ..Scene::new(start, operation) }
}

#[test]
fn a_sender_to_many_readers_is_killed_at_every_instruction() {
    study("broadcast senders", "broadcast", 1, |study, chance| {
        for start in starts(chance) {
            for length in lengths(chance).into_iter().skip(usize::from(!common::long())) {
                for operation in Operation::with_length(length).into_iter().chain([Operation::Leave]) {
                    study.cast(&Scene { past: 1 + chance % 60, ..Scene::new(start, operation) });
                    if common::long() {
                        study.cast(&Scene { read: 3, ..Scene::new(start, operation) });
                    }
                    // The longest does not fit there, so it can't be reserved.
                    if common::long() && length < 5 {
                        study.cast(&behind_a_fallen_sender(start, operation));
                    }
                }
                let batch = Operation::Batch(length % 4);
                study.cast(&held_by_the_dead(start, batch));
                study.cast(&behind_a_fallen_sender(start, batch));
            }
        }
    });
}

#[test]
fn a_reader_of_many_is_killed_at_every_instruction() {
    study("broadcast readers", "broadcast", 1, |study, chance| {
        for start in starts(chance) {
            for operation in [Operation::Receive, Operation::Leak, Operation::Hush] {
                study.cast(&Scene { past: chance % 60, ..Scene::new(start, operation) });
            }
            study.cast(&Scene { now: true, ..Scene::new(start, Operation::Sleep) });
        }
    });
}

#[test]
fn whoever_comes_to_a_broadcast_is_killed_at_every_instruction() {
    study("broadcast attaching", "broadcast", 1, |study, chance| {
        let start = starts(chance)[0];
        study.cast(&behind_a_fallen_sender(start, Operation::Join));
        // It takes long to find out that a process lives.
        let (now, has_left) = (chance % 2 == 1, !common::long() || chance % 4 > 1);
        study.cast(&Scene { now, has_left, ..Scene::new(start, Operation::Listen) });
    });
}

#[test]
fn readers_that_live_get_every_message_once_wherever_their_sender_is_killed() {
    let operations = [Operation::Send(3), Operation::Batch(2), Operation::Commit(1), Operation::Discard(4)];
    for operation in operations.into_iter().take(if common::long() { 4 } else { 2 }) {
        let scene = Scene::new(starts(0)[0], operation);
        let own = operation.sends();
        let cast = |_, dead: &_| Cast::new(&scene, dead);
        kill_at_each_change("broadcast", scene.code(), cast, |Cast { ring, reader, .. }, nth, is_stopped| {
            let mut reader = reader.unwrap();
            let mut known = [scene.unread(), &own].concat();
            let (mut numbers, begun) = (Vec::new(), Instant::now());
            loop {
                let (more, end) = received(&mut reader, &known);
                numbers.extend(more);
                if let RecvError::PeerDied { .. } = end {
                    break;
                }
                assert_eq!(end, RecvError::Empty);
                assert!(begun.elapsed() < FAR, "nobody told of the death");
                std::thread::yield_now();
            }
            if numbers.len() == scene.unread().len() {
                assert!(is_stopped || own.is_empty(), "what was sent is gone");
                known.truncate(numbers.len());
            }
            assert_eq!(numbers, numbers_of(&known), "{scene:?} change {nth}");

            let after: Vec<_> =
                (2000..2060).map(|number| (number, own.first().map_or(LENGTH, |own| own.1))).collect();
            let mut publisher = ring.publisher().unwrap();
            for &message in &after {
                put(&mut publisher, message).unwrap();
                assert_eq!(received(&mut reader, &after), (vec![message.0], RecvError::Empty));
            }
        });
    }
}

#[test]
fn a_reader_that_is_killed_anywhere_holds_its_living_sender_up_no_longer() {
    let operations = [Operation::Receive, Operation::Hush, Operation::Leak, Operation::Listen];
    for operation in operations.into_iter().take(if common::long() { 4 } else { 2 }) {
        let scene = Scene { read: 3, ..Scene::new(starts(0)[0], operation) };
        let cast = |_, dead: &_| Cast::new(&scene, dead);
        kill_at_each_change("broadcast", scene.code(), cast, |Cast { publisher, reader, .. }, _, _| {
            let (mut publisher, mut reader) = (publisher.unwrap(), reader.unwrap());
            for number in 2000..2000 + 2 * CAPACITY / units(LENGTH) {
                publisher.send_timeout(&message(number, LENGTH), FAR).expect("a dead reader holds it up");
                assert_eq!(reader.try_recv().unwrap().to_vec(), message(number, LENGTH));
                assert!(matches!(reader.try_recv(), Err(RecvError::Empty)));
            }
        });
    }
}
