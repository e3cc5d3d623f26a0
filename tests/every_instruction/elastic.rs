//! Elastic rings: what successors find when a sender is killed while it puts memory under its message, or a receiver while it
//! gives some back, at each instruction.

use super::{
    common::{self, FAR},
    judge::{self, Dead, MANY},
    study::{Study, study},
    victim::{LENGTHS, Operation, message, put},
};
use ringpost::{Receiver, RecvError, Ring, SendError, Sender, SenderKind, Untrusted};
use std::{fs::File, os::unix::fs::MetadataExt, time::Instant};

const CEILING: u64 = 256 << 10;
/// What memory comes and goes in.
const CHUNK: u64 = 64 << 10;
/// Bytes of all messages but the victim's: eight of them are in the first chunk, and a ninth is in two.
const LENGTH: usize = 8150;
/// Bytes of a message that is not in the first chunk any more when it comes behind those eight.
const OWN_LENGTH: u64 = 4;

/// What lies in a ring, and what the victim does with it.
#[derive(Clone, Debug)]
struct Scene {
    many: bool,
    start: u64,
    /// How many messages were received before, and how many are there.
    past: u64,
    before: u64,
    operation: Operation,
    /// How many the victim releases.
    releases: u64,
}

fn received(receiver: &mut Receiver, known: &[(u64, usize)]) -> Vec<u64> {
    let next = || receiver.try_recv().map(|message| (message.kind(), message.to_vec()));
    let (numbers, end) = judge::numbers_of(known, next);
    assert!(matches!(end, RecvError::Empty | RecvError::Disconnected | RecvError::PeerDied { .. }), "{end}");
    numbers
}

impl Scene {
    fn ring(&self) -> Ring {
        let builder = ringpost::unnamed().elastic(CEILING).start_position(self.start);
        let builder = if self.many { builder.many_senders(MANY) } else { builder };
        let ring = builder.memfd().unwrap();
        let mut receiver = ring.receiver().unwrap();
        let mut send: Box<dyn FnMut(u64)> = if self.many {
            let mut sender = ring.multi_sender().unwrap();
            Box::new(move |number| put(&mut sender, (number, LENGTH)).unwrap())
        } else {
            let mut sender = ring.sender().unwrap();
            Box::new(move |number| put(&mut sender, (number, LENGTH)).unwrap())
        };
        for number in (0..self.past).map(|number| 100 + number) {
            send(number);
            assert_eq!(receiver.try_recv().unwrap().to_vec(), message(number, LENGTH));
        }
        (1..=self.before).for_each(&mut send);
        drop((send, receiver));
        ring
    }
}

/// How far the operation was, as of the last instruction that was looked at.
#[derive(Default)]
struct Progress {
    sent: bool,
    released: u64,
}

/// Kills the victim where it stands; lets successors go on with these bytes.
fn judge(scene: &Scene, bytes: &[u8], victim: u32, dead: &Dead, progress: &mut Progress) {
    let ring = judge::ring_without(victim, false, bytes, dead);
    let mut receiver = ring.receiver().unwrap();
    let known: Vec<_> =
        (1..=scene.before).map(|number| (number, LENGTH)).chain(scene.operation.sends()).collect();
    let begun = Instant::now();
    while scene.many && !scene.operation.sends().is_empty() && receiver.next_death().is_none() {
        // What it had reserved is passed over once its death is known.
        assert!(begun.elapsed() < FAR, "nobody told of the death");
        std::thread::yield_now();
    }
    let numbers = received(&mut receiver, &known);
    let own: Vec<_> = scene.operation.sends().into_iter().map(|(number, _)| number).collect();
    let sent = !own.is_empty() && numbers.ends_with(&own);
    let own = if sent { own } else { Vec::new() };
    let released = scene.before + own.len() as u64 - numbers.len() as u64;
    assert!(sent || !progress.sent, "what was there is gone");
    assert!((progress.released..=scene.releases).contains(&released), "{released} released");
    *progress = Progress { sent, released };
    let expected = (released + 1..=scene.before).chain(own);
    assert!(numbers.iter().copied().eq(expected), "{numbers:?} {scene:?}");
    match scene.many {
        false => use_it(&ring, &mut receiver, || ring.sender().unwrap()),
        true => use_it(&ring, &mut receiver, || ring.multi_sender().unwrap()),
    }
}

/// Fills the ring to its ceiling and drains it, some laps long: all its room is there, all arrives, and the memory goes.
fn use_it<K: SenderKind>(ring: &Ring, receiver: &mut Receiver, sender: impl Fn() -> Sender<Untrusted, K>) {
    let mut sender = sender();
    // A chunk may be in use by half.
    let least = (CEILING - CHUNK) / ringpost::record_size(LENGTH) as u64;
    for lap in 0..if common::long() { 2 } else { 1 } {
        let mut sent = Vec::new();
        let end = loop {
            let number = 2000 + 100 * lap + sent.len() as u64;
            match put(&mut sender, (number, LENGTH)) {
                Ok(()) => sent.push((number, LENGTH)),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, SendError::AtCeiling { .. }), "{end}");
        assert!(sent.len() as u64 >= least, "room for {} of {least}", sent.len());
        assert!(received(receiver, &sent).into_iter().eq(sent.iter().map(|&(number, _)| number)));
    }
    let memory = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap()).metadata().unwrap();
    let control = memory.size() - CEILING;
    assert!(memory.blocks() * 512 <= control + 2 * CHUNK, "{} bytes stay", memory.blocks() * 512);
}

impl Study {
    fn stretch(&mut self, scene: &Scene) {
        let ring = scene.ring();
        let mut progress = Progress::default();
        let name = format!("{:?}", scene.operation);
        self.watch(&name, scene.operation.code(), &ring, None::<fn()>, |bytes, victim, dead| {
            judge(scene, bytes, victim, dead, &mut progress);
        });
        assert_eq!(progress.sent, !scene.operation.sends().is_empty(), "{scene:?}");
        assert_eq!(progress.released, scene.releases, "{scene:?}");
    }
}

#[test]
fn who_puts_memory_under_a_ring_or_takes_it_is_killed_at_every_instruction() {
    assert!(
        8 * ringpost::record_size(LENGTH) + ringpost::record_size(LENGTHS[OWN_LENGTH as usize])
            > CHUNK as usize
    );
    study("elastic", "victim", 1, |study, chance| {
        let laps = if common::long() { chance % 50 * (CHUNK / 8) } else { 0 };
        for many in [false, true] {
            let send = Operation::Send(OWN_LENGTH);
            let scene = Scene { many, start: laps, past: 0, before: 8, operation: send, releases: 0 };
            study.stretch(&scene);
            let operation = Operation::Receive;
            study.stretch(&Scene { past: 8, before: 2, operation, releases: 1, ..scene.clone() });
            if common::long() {
                study.stretch(&Scene { operation: Operation::Batch(4), before: 16, ..scene.clone() });
                let operation = Operation::ReceiveMany;
                study.stretch(&Scene { past: 7, before: 9, operation, releases: 3, ..scene.clone() });
                study.stretch(&Scene { before: 9, operation: Operation::Listen, ..scene.clone() });
            }
        }
    });
}
