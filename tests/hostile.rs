//! A process that lies: it has mapped the segment itself and writes to every shared word, all the time, while its victim
//! uses the ring without trusting it.
//!
//! Whatever it writes, the victim's calls return: with a message, which may be any bytes, or with an error. No call panics,
//! is ended by a signal, or goes on for ever. `RINGPOST_LONG=1` makes minutes of it.

mod common;
#[path = "hostile/descriptors.rs"]
mod descriptors;
#[path = "hostile/liar.rs"]
mod liar;
#[path = "hostile/lies.rs"]
mod lies;
#[path = "hostile/loans.rs"]
mod loans;
#[path = "hostile/victim.rs"]
mod victim;
#[path = "hostile/words.rs"]
mod words;

use common::{
    Line,
    rings::{Attach, Shared, Way, child_at, open},
    stream::scatter,
};
use liar::{Hostile, claim_in_many_names};
use memmap2::{MmapOptions, MmapRaw};
use ringpost::{
    Builder, Many, OpenError, Receiver, RecvError, Ring, SegmentError, Sender, SenderKind, Single,
    TypedReceiver, TypedSender, Untrusted, WaitStrategy,
};
use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create},
    thread::futex,
};
use std::{
    fmt::Debug,
    fs::File,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    process,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::{Duration, Instant},
};
use victim::{Value, Victim, step};
use words::{
    IMPOSSIBLE, INIT, LOAN, Noise, RECEIVER_AREA, SENDERS_AREA, SLOT, SLOTS, Segment, TRUCE, claim_of,
};

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let number = |word: &str| word.parse().unwrap();
    match *words {
        ["hostile", ring, seed] => Hostile::at(&open(ring, &line), number(seed)).write_for_ever(&line),
        ["renaming", ring] => claim_in_many_names(&open(ring, &line), &line),
        ["victim", ring, kind, side, seed, operations] => {
            let mut victim = Victim::new(open(ring, &line), number(seed), number(operations));
            victim.suffer(kind, side, &line);
        }
        ["comer", ring, rounds] => {
            let victim = Victim::new(open(ring, &line), 0, 0);
            for _ in 0..number(rounds) {
                let _ = (step(0, || victim.ring.receiver()), step(0, || victim.ring.multi_sender()));
            }
        }
        _ => panic!("no such role: {words:?}"),
    }
}
