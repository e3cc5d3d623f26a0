//! Senders and receivers that are killed all the time, at whatever instruction they are and at named points, with a
//! successor in each place at once. Nothing that was committed is lost, torn, out of order or received twice; nobody waits
//! for ever; a stopped process is waited for.
//!
//! A conductor forks the actors: a process of its own, with one thread, so that a fork is quick and sound. What each sender
//! has committed stands in a ledger, a shared page that the ring knows nothing of; what was received, too, so that a
//! successor can drop what it gets again. The short form kills some thousand, `RINGPOST_LONG=1` two hundred thousand.

#[path = "kill_campaign/actors.rs"]
mod actors;
#[path = "kill_campaign/attaching.rs"]
mod attaching;
#[path = "kill_campaign/campaigns.rs"]
mod campaigns;
mod common;
#[path = "kill_campaign/conductor.rs"]
mod conductor;
#[path = "kill_campaign/ledger.rs"]
mod ledger;
#[path = "kill_campaign/notice.rs"]
mod notice;

use actors::{BATCH, OF_RECEIVERS, OF_SENDERS, Plan, act_as_receiver, act_as_sender, begin};
use attaching::kill_who_attaches;
use common::{
    Child, Line,
    rings::{Attach, Shared, Way, attach_when_free, child_at, open},
    stream::scatter,
};
use conductor::Campaign;
use ledger::{Account, Ledger, MOST_SENDERS, letter};
use nix::{
    sys::{
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use notice::time_deaths;
use ringpost::{
    Builder, Many, Message, Receiver, RecvError, Ring, SendError, Sender, SenderKind, Single, Untrusted,
};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap_anonymous},
    process::set_parent_process_death_signal,
    time::{ClockId, clock_gettime},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process,
    sync::atomic::{AtomicU64, Ordering::*},
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let number = |word: &str| word.parse::<u64>().unwrap();
    match *words {
        ["conduct", ring, kind, senders, seed, kills] => {
            let ring = open(ring, &line);
            let mut campaign = Campaign::new(ring, kind, number(senders), number(seed));
            campaign.run(number(kills));
            campaign.report(&line);
        }
        ["time", ring, side, rounds, megabytes] => {
            time_deaths(&open(ring, &line), side, number(rounds), number(megabytes), &line)
        }
        ["batch", ring] => {
            let mut sender = open(ring, &line).sender().unwrap();
            let mut batch = sender.batch(1000).unwrap();
            (0..3).for_each(|_| batch.push(1, b"of a batch").unwrap());
            line.tell(0);
            line.hear();
        }
        ["attach", ring, side, rounds] => kill_who_attaches(&open(ring, &line), side, number(rounds), &line),
        _ => panic!("no such role: {words:?}"),
    }
}

/// Far more than any step takes: only who is stuck comes so far.
const STUCK: Duration = Duration::from_secs(30);

// ---- how long until a death is known ----

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[track_caller]
fn wait_until(reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < STUCK, "stuck");
        thread::sleep(Duration::from_micros(50));
    }
}
