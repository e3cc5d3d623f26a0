//! A kill at every instruction.
//!
//! A real process is stepped through each operation, one instruction at a time. After each instruction the pages that it
//! shares are as a kill there would leave them; so they are copied, its claims in the copy are given to a process that is
//! dead, and successors go on with the copy: everything that was committed must be received, once and in order, what was
//! not must be passed over, and the ring must be as good as new. Instructions that change nothing shared leave the same
//! pages, and these are judged once.
//!
//! Mailboxes, broadcasts, handing over, elastic rings and the loan of the tail have a file each in `every_instruction/`. In the first four living processes are at the other end
//! as well: a victim is stopped, or really killed, behind each change that it makes.
//!
//! Short form: about a million instructions. Long form, more than ten million:
//!
//! ```text
//! RINGPOST_LONG=1 cargo test --release --package ringpost --test every_instruction -- --nocapture
//! ```

#![cfg(target_arch = "x86_64")]

#[path = "every_instruction/broadcast.rs"]
mod broadcast;
mod common;
#[path = "every_instruction/elastic.rs"]
mod elastic;
#[path = "every_instruction/handing_over.rs"]
mod handing_over;
#[path = "every_instruction/judge.rs"]
mod judge;
#[path = "every_instruction/loan.rs"]
mod loan;
#[path = "every_instruction/mailbox.rs"]
mod mailbox;
#[path = "every_instruction/study.rs"]
mod study;
#[path = "every_instruction/tracer.rs"]
mod tracer;
#[path = "every_instruction/victim.rs"]
mod victim;

use judge::{CAPACITY, MANY, Progress, Shared, judge};
use ringpost::{MultiSender, Ring, record_size};
use study::{Study, study};
use victim::{LENGTHS, Operation, put_all};

#[test]
fn child_process() {
    common::play_role(|words, line| match words[0] {
        "mailbox" => mailbox::serve(&line),
        "broadcast" => broadcast::serve(&line),
        "rendezvous" => handing_over::serve(&line),
        _ => victim::serve(&line),
    });
}

/// What lies in a ring, and what the victim does with it.
#[derive(Clone, Debug)]
pub struct Scene {
    many: bool,
    /// Where the ring begins.
    start: u64,
    /// Number and length of the messages that are there before.
    before: Vec<(u64, usize)>,
    /// Whether a sender that lives has a reservation behind those.
    open: bool,
    /// Whether a sender that is dead has one before all.
    fallen: bool,
    operation: Operation,
    /// Messages that another sender has sent behind a reservation of the victim.
    behind: Vec<(u64, usize)>,
    /// Whether that other sender then stands in a reservation.
    open_behind: bool,
    /// Whether the operation finds no room.
    full: bool,
    /// Messages that the operation releases.
    releases: usize,
    /// Senders that live.
    living: usize,
}

impl Scene {
    fn new(many: bool, start: u64, operation: Operation) -> Self {
        Self {
            many,
            start,
            before: Vec::new(),
            open: false,
            fallen: false,
            operation,
            behind: Vec::new(),
            open_behind: false,
            full: false,
            releases: 0,
            living: 1,
        }
    }
}

impl Study {
    fn run(&mut self, scene: &Scene) {
        let builder = ringpost::unnamed().capacity(8 * CAPACITY).start_position(scene.start);
        if scene.many {
            self.many(scene, &builder.many_senders(MANY).memfd().unwrap());
        } else {
            self.single(scene, &builder.memfd().unwrap());
        }
    }

    fn single(&mut self, scene: &Scene, ring: &Ring) {
        let mut sender = ring.sender().unwrap();
        put_all(&mut sender, &scene.before);
        let sends = !matches!(
            scene.operation,
            Operation::Listen
                | Operation::Receive
                | Operation::ReceiveMany
                | Operation::Leak
                | Operation::Sleep
                | Operation::Hush
        );
        if sends {
            drop(sender);
            return self.step(scene, ring, || {});
        }
        self.step(scene, ring, || {});
        drop(sender);
    }

    fn many(&mut self, scene: &Scene, ring: &Ring) {
        let mut other = ring.multi_sender().unwrap();
        let mut second: Option<MultiSender> = None;
        if scene.fallen {
            let sender = second.insert(ring.multi_sender().unwrap());
            std::mem::forget(sender.try_reserve(40).unwrap());
            Shared::of(ring).bury(2, &self.dead);
        }
        put_all(&mut other, &scene.before);
        if scene.open {
            std::mem::forget(other.try_reserve(40).unwrap());
        }
        let mut other = Some(other).filter(|_| scene.living > 0);
        self.step(scene, ring, || {
            let Some(other) = &mut other else { return };
            put_all(other, &scene.behind);
            if scene.open_behind {
                std::mem::forget(other.try_reserve(40).unwrap());
            }
        });
    }

    /// Steps the victim through the operation; `meanwhile` happens while it stands in a reservation.
    fn step(&mut self, scene: &Scene, ring: &Ring, meanwhile: impl FnOnce()) {
        let name = format!("{:?}", scene.operation);
        let meanwhile = scene.operation.reserves_before().then_some(meanwhile);
        let judge = |bytes: &[u8], victim, dead: &_, all, progress: &mut Progress| {
            if all || scene.many {
                judge(scene, bytes.to_vec(), victim, dead, all, progress);
            }
        };
        let [end, _] = self.watch_for_two(&name, scene.operation.code(), ring, meanwhile, judge);
        assert_eq!(end.sent, !scene.full && !scene.operation.sends().is_empty(), "{scene:?}");
        assert_eq!(end.released, scene.releases, "{scene:?}");
    }
}

/// Units of the record of a message.
fn units(length: usize) -> u64 {
    record_size(length) as u64 / 8
}

/// Where a ring begins: at its begin, just before its end, and (always) just before that and before the counters wrap.
fn starts(chance: u64) -> Vec<u64> {
    let all = [(1 << 56) - 1 - chance % 40, 0, CAPACITY - 1 - chance % 20];
    all[..if common::long() { 3 } else { 1 }].to_vec()
}

/// Which lengths the victim sends.
fn lengths(chance: u64) -> Vec<u64> {
    let all = [1, 0, 2, 3, 4, 5].map(|length| (length + chance) % 6);
    all[..if common::long() { 6 } else { 2 }].to_vec()
}

#[test]
fn a_sender_is_killed_at_every_instruction() {
    study("senders", "victim", 5, |study, chance| {
        for many in [false, true] {
            for start in starts(chance) {
                for length in lengths(chance) {
                    let some = vec![(1, 40), (2, 0), (3, (chance >> 16) as usize % 300)];
                    let own = LENGTHS[length as usize];
                    for operation in Operation::with_length(length) {
                        let empty = Scene::new(many, start, operation);
                        let filled = Scene { before: some.clone(), ..empty.clone() };
                        if many && operation.reserves_before() {
                            let behind = vec![(1600, 24)];
                            study.run(&Scene { behind: behind.clone(), ..filled.clone() });
                            study.run(&Scene { open_behind: true, ..filled.clone() });
                        }
                        if many && !operation.reserves_before() {
                            study.run(&Scene { open: true, ..filled.clone() });
                            study.run(&Scene { fallen: true, ..filled.clone() });
                        }
                        study.run(&empty);
                        study.run(&filled);
                    }
                    study.run(&Scene { before: some, ..Scene::new(many, start, Operation::Leave) });
                    // Just room enough, and one unit too little.
                    for (full, rest) in [(false, units(own)), (true, units(own) - 1)] {
                        let before = vec![(1, (CAPACITY - rest - 2) as usize * 8)];
                        study.run(&Scene {
                            before,
                            full,
                            ..Scene::new(many, start, Operation::Send(length))
                        });
                    }
                }
            }
        }
    });
}

#[test]
fn a_receiver_is_killed_at_every_instruction() {
    study("receivers", "victim", 5, |study, chance| {
        for many in [false, true] {
            for start in starts(chance) {
                let some = vec![(1, 40), (2, 0), (3, (chance >> 16) as usize % 300), (4, 1)];
                let operations = [
                    (Operation::Receive, 1),
                    (Operation::ReceiveMany, 3),
                    (Operation::Leak, 0),
                    (Operation::Hush, 0),
                ];
                for (operation, releases) in operations {
                    let filled =
                        Scene { before: some.clone(), releases, ..Scene::new(many, start, operation) };
                    if many {
                        study.run(&Scene { fallen: true, ..filled.clone() });
                        study.run(&Scene { open: true, ..filled.clone() });
                    }
                    study.run(&filled);
                    study.run(&Scene::new(many, start, operation));
                }
                study.run(&Scene { before: some, ..Scene::new(many, start, Operation::Hush) });
                study.run(&Scene::new(many, start, Operation::Sleep));
            }
        }
    });
}

#[test]
fn whoever_attaches_is_killed_at_every_instruction() {
    study("attaching", "victim", 5, |study, chance| {
        for many in [false, true] {
            let start = starts(chance)[0];
            // It takes long to find out that a process lives.
            let living = if common::long() { 1 } else { 0 };
            for operation in [Operation::Join, Operation::Listen] {
                let before = vec![(1, 40), (2, 0)];
                let fallen = many && operation == Operation::Listen;
                study.run(&Scene { before, fallen, living, ..Scene::new(many, start, operation) });
            }
        }
    });
}
