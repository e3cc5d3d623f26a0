//! Senders and receivers that are killed all the time, at whatever instruction they are and at named points, with a
//! successor in each place at once. Nothing that was committed is lost, torn, out of order or received twice; nobody waits
//! for ever; a stopped process is waited for.
//!
//! A conductor forks the actors: a process of its own, with one thread, so that a fork is quick and sound. What each sender
//! has committed stands in a ledger, a shared page that the ring knows nothing of; what was received, too, so that a
//! successor can drop what it gets again. The short form kills some thousand, `RINGPOST_LONG=1` two hundred thousand.

mod common;

use common::{
    Child, Line,
    rings::{Attach, Shared, Way, child_at, open},
    stream::scatter,
};
use nix::{
    sys::{
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use ringpost::{
    Builder, Many, Message, OpenError, Receiver, RecvError, Ring, SendError, Sender, SenderKind, Single,
    Untrusted,
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
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>().unwrap();
    match words[..] {
        ["conduct", ring, kind, senders, seed, kills] => {
            let ring = open(ring, &line);
            let mut campaign = Campaign::new(ring, kind == "many", number(senders), number(seed));
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

// ---- the ledger ----

/// Incarnations of senders in one campaign.
const MOST_SENDERS: usize = 1 << 13;

/// What one incarnation of a sender has done, in messages. The first three are written by it, the last by receivers.
#[repr(C)]
struct Account {
    pid: AtomicU64,
    /// Begun to be committed.
    about: AtomicU64,
    /// Commit has returned.
    committed: AtomicU64,
    received: AtomicU64,
}

/// Shared by the conductor and all actors. All zeros at the beginning.
#[repr(C)]
struct Ledger {
    /// Whether the ring knows the sender of each message: with one sender at a time, it forgets who came long before.
    names_senders: AtomicU64,
    /// Set by the conductor when no sender will come any more.
    finishing: AtomicU64,
    /// Set by a receiver that was then told of the last death.
    ended: AtomicU64,
    /// One more than the sequence number of the last message that was received.
    last: AtomicU64,
    /// The message whose reception is being noted: as `last`, its sender, its number.
    noting: [AtomicU64; 3],
    repeated: AtomicU64,
    /// Nanoseconds; by `time_deaths`.
    killed_at: AtomicU64,
    noticed_at: AtomicU64,
    accounts: [Account; MOST_SENDERS],
}

impl Ledger {
    fn new() -> &'static Self {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses an address where nothing is mapped.
        let start =
            unsafe { mmap_anonymous(std::ptr::null_mut(), size_of::<Self>(), access, MapFlags::SHARED) };
        // SAFETY: zeroed, aligned to a page, never unmapped, and made of atomics only.
        unsafe { &*start.unwrap().cast() }
    }

    /// Notes that a message was received, so that a successor finds it noted wholly or not at all. False when it was
    /// noted before.
    fn note(&self, sequence: u64, sender: u64, number: u64) -> bool {
        if sequence < self.last.load(Acquire) {
            self.repeated.fetch_add(1, Relaxed);
            return false;
        }
        self.noting[1].store(sender, Relaxed);
        self.noting[2].store(number, Relaxed);
        self.noting[0].store(sequence + 1, Release);
        self.finish_noting();
        true
    }

    /// Finishes what a predecessor has begun to note.
    fn finish_noting(&self) {
        let [last, sender, number] = [0, 1, 2].map(|index| self.noting[index].load(Acquire));
        if last > self.last.load(Acquire) {
            self.accounts[sender as usize].received.store(number + 1, Release);
            self.last.store(last, Release);
        }
    }

    fn account(&self, sender: u64) -> &Account {
        &self.accounts[sender as usize]
    }
}

/// Message `number` of `sender`: both, and bytes that they decide.
fn letter(sender: u64, number: u64) -> Vec<u8> {
    let chance = scatter(sender << 40 ^ number);
    let words = match chance % 64 {
        0 => 500,
        1..8 => chance >> 8 & 127,
        _ => chance >> 8 & 7,
    };
    let mut bytes = [sender, number].map(u64::to_ne_bytes).concat();
    bytes.extend((0..words).flat_map(|word| (chance ^ word).to_ne_bytes()));
    bytes.truncate(bytes.len() - (words > 0) as usize * (chance >> 20 & 7) as usize);
    bytes
}

// ---- the actors ----

/// Where an actor stops itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    Attached,
    Reserved,
    Written,
    Committed,
    InBatch,
    BatchCommitted,
    Holding,
    HoldingMany,
    Noted,
    Released,
}

const OF_SENDERS: [Point; 6] = [
    Point::Attached,
    Point::Reserved,
    Point::Written,
    Point::Committed,
    Point::InBatch,
    Point::BatchCommitted,
];
const OF_RECEIVERS: [Point; 5] =
    [Point::Attached, Point::Holding, Point::HoldingMany, Point::Noted, Point::Released];

/// Where an actor is to stop, and how often it passes there before.
#[derive(Clone, Copy, Debug)]
struct Plan {
    point: Option<Point>,
    passes: u64,
}

impl Plan {
    fn reach(&mut self, point: Point) {
        if self.point != Some(point) {
            return;
        }
        if self.passes == 0 || point == Point::Attached {
            self.point = None;
            raise(Signal::SIGSTOP).unwrap();
        } else {
            self.passes -= 1;
        }
    }
}

/// Messages of a batch.
const BATCH: u64 = 4;

/// Sends for ever.
fn act_as_sender<K: Attach>(ring: &Ring, ledger: &Ledger, id: u64, mut plan: Plan) {
    let account = ledger.account(id);
    account.pid.store(process::id().into(), Relaxed);
    let mut sender = loop {
        match K::attach(ring) {
            Ok(sender) => break sender,
            // As long as what the dead have left is in the ring.
            Err(OpenError::TooManySenders { .. }) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    };
    plan.reach(Point::Attached);
    for next in 0.. {
        let number = account.committed.load(Relaxed);
        match scatter(id << 20 ^ next) % 8 {
            0 | 1 => send_batch(&mut sender, account, id, number, &mut plan),
            2 => {
                // Discarded: the receiver passes over it.
                drop(sender.try_reserve(40));
            }
            _ => send_one(&mut sender, account, id, number, &mut plan),
        }
    }
}

/// What a sender asks for, as soon as there is somebody to receive it.
macro_rules! patiently {
    ($attempt:expr) => {
        loop {
            match $attempt {
                Ok(value) => break value,
                // Until the next receiver has come.
                Err(SendError::PeerDied { .. }) => thread::sleep(Duration::from_micros(20)),
                Err(error) => panic!("{error}"),
            }
        }
    };
}

fn send_one<K: SenderKind>(
    sender: &mut Sender<Untrusted, K>,
    account: &Account,
    id: u64,
    number: u64,
    plan: &mut Plan,
) {
    let letter = letter(id, number);
    account.about.store(number + 1, Release);
    let mut reservation = patiently!(sender.reserve(letter.len()));
    plan.reach(Point::Reserved);
    let half = letter.len() / 2;
    reservation.write_at(0, &letter[..half]);
    reservation.write_at(half, &letter[half..]);
    reservation.set_kind(number as u16);
    plan.reach(Point::Written);
    reservation.commit();
    plan.reach(Point::Committed);
    account.committed.store(number + 1, Release);
}

fn send_batch<K: SenderKind>(
    sender: &mut Sender<Untrusted, K>,
    account: &Account,
    id: u64,
    number: u64,
    plan: &mut Plan,
) {
    let letters = (number..number + BATCH).map(|number| letter(id, number)).collect::<Vec<_>>();
    let room = letters.iter().map(|letter| ringpost::record_size(letter.len())).sum();
    account.about.store(number + BATCH, Release);
    let mut batch = patiently!(sender.batch(room));
    for (index, letter) in (0..).zip(&letters) {
        batch.push((number + index) as u16, letter).unwrap();
        if index == 1 {
            plan.reach(Point::InBatch);
        }
    }
    batch.commit();
    plan.reach(Point::BatchCommitted);
    account.committed.store(number + BATCH, Release);
}

/// Receives for ever.
fn act_as_receiver(ring: &Ring, ledger: &Ledger, seed: u64, mut plan: Plan) {
    ledger.finish_noting();
    let mut receiver = ring.receiver().unwrap();
    plan.reach(Point::Attached);
    for next in 0.. {
        let finishing = ledger.finishing.load(Acquire) != 0;
        let result = match scatter(seed ^ next << 8) % 4 {
            0 => receive_many(&mut receiver, ledger, &mut plan),
            1 => receiver.recv_timeout(STUCK).map(|message| receive_one(message, ledger, &mut plan)),
            2 => match receiver.try_recv() {
                Err(RecvError::Empty) => Ok(()),
                other => other.map(|message| receive_one(message, ledger, &mut plan)),
            },
            _ => receiver.recv().map(|message| receive_one(message, ledger, &mut plan)),
        };
        match result {
            Ok(()) => {}
            Err(RecvError::PeerDied { .. }) if finishing => ledger.ended.store(1, Release),
            // Until the next sender has come.
            Err(RecvError::PeerDied { .. }) => thread::sleep(Duration::from_micros(20)),
            Err(error) => panic!("{error}"),
        }
    }
}

fn receive_one(message: Message<'_>, ledger: &Ledger, plan: &mut Plan) {
    plan.reach(Point::Holding);
    check(ledger, message.sequence(), message.kind(), message.sender().pid, &message.to_vec());
    plan.reach(Point::Noted);
    drop(message);
    plan.reach(Point::Released);
}

fn receive_many(receiver: &mut Receiver, ledger: &Ledger, plan: &mut Plan) -> Result<(), RecvError> {
    let messages = receiver.recv_many(5)?;
    for message in messages.iter() {
        check(ledger, message.sequence(), message.kind(), message.sender().pid, &message.to_vec());
        plan.reach(Point::HoldingMany);
    }
    drop(messages);
    Ok(())
}

/// A message is whole, the next one of its sender, and new; or it was received before.
fn check(ledger: &Ledger, sequence: u64, kind: u16, pid: u32, bytes: &[u8]) {
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let (sender, number) = (word(0), word(8));
    assert!(bytes == letter(sender, number), "torn: message {number} of sender {sender}");
    let account = ledger.account(sender);
    assert_eq!(kind, number as u16, "of sender {sender}");
    if pid != 0 || ledger.names_senders.load(Relaxed) != 0 {
        assert_eq!(u64::from(pid), account.pid.load(Relaxed), "of sender {sender}");
    }
    let expected = account.received.load(Acquire);
    if ledger.note(sequence, sender, number) {
        assert_eq!(number, expected, "the next message of sender {sender}");
    } else {
        assert!(number < expected, "message {number} of sender {sender} has a number that was used");
    }
}

/// Forks an actor, which ends only when it is killed or fails.
fn begin(act: impl FnOnce()) -> Pid {
    let conductor = process::id();
    // SAFETY: the conductor has one thread, so that the child may do whatever its parent may.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
            if std::os::unix::process::parent_id() == conductor {
                let _ = catch_unwind(AssertUnwindSafe(act));
            }
            // SAFETY: ends the child without running what belongs to its parent.
            unsafe { libc::_exit(101) }
        }
    }
}

// ---- the conductor ----

/// How often a ring is filled while nobody is killed.
const LAPS: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Sender { id: u64 },
    Receiver,
}

#[derive(Debug)]
struct Actor {
    pid: Pid,
    role: Role,
    /// It will stop itself.
    awaited: bool,
}

struct Campaign {
    ring: Ring,
    many: bool,
    ledger: &'static Ledger,
    actors: Vec<Actor>,
    next_id: u64,
    seed: u64,
    steps: u64,
    kills: u64,
    at_points: u64,
    resumed: u64,
}

impl Campaign {
    fn new(ring: Ring, many: bool, senders: u64, seed: u64) -> Self {
        let ledger = Ledger::new();
        ledger.names_senders.store(many.into(), Relaxed);
        let (actors, counts) = (Vec::new(), 0);
        let mut campaign = Self {
            ring,
            many,
            ledger,
            actors,
            next_id: 0,
            seed,
            steps: 0,
            kills: counts,
            at_points: counts,
            resumed: counts,
        };
        let roles = [Role::Receiver].into_iter().chain((0..senders).map(|_| Role::Sender { id: 0 }));
        let actors = roles.map(|role| campaign.cast(role)).collect();
        campaign.actors = actors;
        campaign
    }

    fn chance(&mut self, limit: u64) -> u64 {
        self.steps += 1;
        scatter(self.seed ^ self.steps << 16) % limit
    }

    /// Somebody for the role. Every other one will stop itself at a named point.
    fn cast(&mut self, role: Role) -> Actor {
        let awaited = self.chance(2) == 0;
        let points = if role == Role::Receiver { &OF_RECEIVERS[..] } else { &OF_SENDERS };
        let point = points[self.chance(points.len() as u64) as usize];
        // Often at once: then nothing that comes later hides what a predecessor has left.
        let passes = if self.chance(2) == 0 { 0 } else { self.chance(30) };
        let plan = Plan { point: awaited.then_some(point), passes };
        let (ring, ledger, many, seed) = (&self.ring, self.ledger, self.many, self.seed ^ self.steps);
        let id = self.next_id;
        let (pid, role) = match role {
            Role::Receiver => (begin(|| act_as_receiver(ring, ledger, seed, plan)), role),
            Role::Sender { .. } if many => {
                (begin(|| act_as_sender::<Many>(ring, ledger, id, plan)), Role::Sender { id })
            }
            Role::Sender { .. } => {
                (begin(|| act_as_sender::<Single>(ring, ledger, id, plan)), Role::Sender { id })
            }
        };
        self.next_id += u64::from(role != Role::Receiver);
        assert!(self.next_id < MOST_SENDERS as u64);
        Actor { pid, role, awaited }
    }

    fn run(&mut self, kills: u64) {
        let mut last = Instant::now();
        while self.kills < kills {
            if self.chance(100) == 0 {
                self.watch_them_work();
            } else if let Some(stopped) = self.stopped() {
                self.serve(stopped);
            } else if self.chance(50) == 0 {
                (0..self.actors.len()).for_each(|index| self.end(index));
                (0..self.actors.len()).for_each(|index| self.replace(index));
            } else if let Some(index) = self.anybody() {
                self.after_a_moment();
                self.end(index);
                self.replace(index);
            } else {
                // All will stop themselves.
                assert!(last.elapsed() < STUCK, "nobody gets on\n{}", self.dump());
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            last = Instant::now();
        }
        self.finish();
    }

    /// An actor that has stopped itself.
    fn stopped(&mut self) -> Option<usize> {
        match waitpid(None, Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => None,
            WaitStatus::Stopped(pid, _) => self.actors.iter().position(|actor| actor.pid == pid),
            other => panic!("{other:?}\n{}", self.dump()),
        }
    }

    /// Leaves them alone until the ring was filled and emptied some times: all who wait are woken by each other.
    fn watch_them_work(&mut self) {
        let (before, start) = (self.ledger.last.load(Acquire), Instant::now());
        while self.ledger.last.load(Acquire) < before + LAPS * self.ring.info().capacity / 8 {
            assert!(start.elapsed() < STUCK, "nobody gets on\n{}", self.dump());
            match self.stopped() {
                Some(stopped) => self.resume(stopped),
                None => thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    fn resume(&mut self, index: usize) {
        kill(self.actors[index].pid, Signal::SIGCONT).unwrap();
        self.actors[index].awaited = false;
        self.resumed += 1;
    }

    /// Kills who has stopped at a named point; or lets it go on after a while, in which nobody takes it for dead.
    fn serve(&mut self, index: usize) {
        self.at_points += 1;
        if self.chance(3) != 0 {
            self.end(index);
            return self.replace(index);
        }
        self.after_a_moment();
        if let Role::Sender { id } = self.actors[index].role {
            let account = self.ledger.account(id);
            let (about, received) = (account.about.load(Relaxed), account.received.load(Acquire));
            assert!(received <= about, "sender {id} is stopped\n{}", self.dump());
        }
        self.resume(index);
    }

    /// One of those who will not stop themselves.
    fn anybody(&mut self) -> Option<usize> {
        let there = (0..self.actors.len()).filter(|&index| !self.actors[index].awaited).collect::<Vec<_>>();
        let count = there.len() as u64;
        (count > 0).then(|| there[self.chance(count) as usize])
    }

    fn after_a_moment(&mut self) {
        let moment = self.chance(12);
        thread::sleep(Duration::from_micros(scatter(self.seed ^ self.steps) % (1 << moment)));
    }

    /// Kills an actor at whatever instruction it is.
    fn end(&mut self, index: usize) {
        let pid = self.actors[index].pid;
        kill(pid, Signal::SIGKILL).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => self.kills += 1,
            other => panic!("{other:?}\n{}", self.dump()),
        }
    }

    fn replace(&mut self, index: usize) {
        let role = self.actors[index].role;
        self.actors[index] = self.cast(role);
    }

    /// Kills all senders, lets the receivers come to the end, and compares both sides of the ledger.
    fn finish(&mut self) {
        for index in 0..self.actors.len() {
            if self.actors[index].role != Role::Receiver {
                self.end(index);
            }
        }
        self.actors.retain(|actor| actor.role == Role::Receiver);
        self.ledger.finishing.store(1, Release);
        let start = Instant::now();
        while self.ledger.ended.load(Acquire) == 0 {
            assert!(start.elapsed() < STUCK, "the end is not seen\n{}", self.dump());
            match self.stopped() {
                Some(stopped) => self.serve(stopped),
                None => thread::sleep(Duration::from_micros(50)),
            }
        }
        self.end(0);
        self.ledger.finish_noting();
        for id in 0..self.next_id {
            let account = self.ledger.account(id);
            let [about, committed, received] =
                [&account.about, &account.committed, &account.received].map(|count| count.load(Acquire));
            let whole = [committed, about].contains(&received) && about - committed <= BATCH;
            assert!(whole, "sender {id}: {committed} committed, {about} begun, {received} received");
        }
    }

    fn dump(&self) -> String {
        let state = |actor: &Actor| {
            let stat = std::fs::read_to_string(format!("/proc/{}/status", actor.pid)).unwrap_or_default();
            let state = stat.lines().find(|line| line.starts_with("State")).unwrap_or("gone").to_owned();
            let account = match actor.role {
                Role::Sender { id } => self.ledger.account(id),
                Role::Receiver => self.ledger.account(0),
            };
            let counts =
                [&account.about, &account.committed, &account.received].map(|count| count.load(Relaxed));
            format!("{actor:?} {state}, about to commit, committed, received: {counts:?}\n")
        };
        let actors: String = self.actors.iter().map(state).collect();
        format!("seed {}, {} kills\n{actors}{:#?}", self.seed, self.kills, self.ring.statistics())
    }

    fn report(&self, line: &Line) {
        let received = |id| self.ledger.account(id).received.load(Relaxed);
        let messages = (0..self.next_id).map(received).sum();
        let repeated = self.ledger.repeated.load(Relaxed);
        [self.kills, self.at_points, self.resumed, messages, repeated].into_iter().for_each(|n| line.tell(n));
    }
}

// ---- the campaigns ----

/// Kills of one campaign at one ring: its ledger has room for more senders.
const KILLS: u64 = 500;

/// Campaigns with as many senders at a time as each of `senders` says.
fn campaign(kind: &str, senders: &[u64]) {
    let start = Instant::now();
    let campaigns = if common::long() { 200 } else { 4 };
    let mut sums = [0; 5];
    let seed = u64::from(process::id()) << 20;
    for (round, &senders) in (0..campaigns).zip(senders.iter().cycle()) {
        let ring = Shared::new(Way::Inherit, |builder: Builder| {
            let builder = builder.capacity(1 << 16);
            if kind == "many" { builder.many_senders(senders as u8 + 2) } else { builder }
        });
        let invitation = ring.invite();
        let seed = seed + round;
        let words = format!("conduct {} {kind} {senders} {seed} {KILLS}", invitation.word);
        let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
        for sum in &mut sums {
            *sum += conductor.next().unwrap_or_else(|| panic!("kind {kind}, senders {senders}, seed {seed}"));
        }
        conductor.finish();
    }
    let [kills, at_points, resumed, messages, repeated] = sums;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{kind}: {kills} kills in {seconds:.1} s, of {at_points} stops at named points {resumed} went on; {messages} \
         messages were received, {repeated} of them again; none lost"
    );
    assert!(kills >= campaigns * KILLS && at_points > 0 && resumed > 0 && messages > 0);
}

#[test]
fn the_only_sender_and_its_receiver_are_killed_all_the_time() {
    campaign("one", &[1]);
}

#[test]
fn many_senders_and_their_receiver_are_killed_all_the_time() {
    campaign("many", &[4, 2, 3, 1]);
}

#[test]
fn what_a_killed_sender_has_placed_of_its_batch_is_never_seen() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096));
    let mut child = child_at(&ring, "batch", "");
    child.hear();
    child.kill();
    let (mut sender, mut receiver) = (ring.ring.sender().unwrap(), ring.ring.receiver().unwrap());
    // As long as the first of the batch, so that it ends where the second begins.
    sender.send(b"after that").unwrap();
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"after that");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
}

// ---- killed while attaching ----

/// Kills who is about to attach, at whatever instruction; whenever it has taken a place, the other side, which sleeps or is
/// about to, must be told of its death. Tells how often that was.
fn kill_who_attaches(ring: &Ring, side: &str, rounds: u64, line: &Line) {
    let ledger = Ledger::new();
    let watcher = begin(|| {
        let mut receiver = (side == "sender").then(|| ring.receiver().unwrap());
        let mut sender = (side == "receiver").then(|| ring.sender().unwrap());
        loop {
            let died = match (&mut receiver, &mut sender) {
                (Some(receiver), _) => match receiver.recv() {
                    Err(RecvError::PeerDied { pid, .. }) => pid,
                    other => panic!("{other:?}"),
                },
                (_, Some(sender)) => match sender.send(&[0; 1000]) {
                    Ok(()) => continue,
                    Err(SendError::PeerDied { pid, .. }) => pid,
                    other => panic!("{other:?}"),
                },
                _ => unreachable!(),
            };
            ledger.noticed_at.store(died.into(), Release);
        }
    });
    let mut noticed = 0;
    for round in 0..rounds {
        let victim = begin(|| {
            let _sender = (side == "sender").then(|| ring.sender().unwrap());
            let _receiver = (side == "receiver").then(|| ring.receiver().unwrap());
            loop {
                thread::park();
            }
        });
        thread::sleep(Duration::from_micros(scatter(round) % 400));
        kill(victim, Signal::SIGKILL).unwrap();
        waitpid(victim, None).unwrap();
        let statistics = ring.statistics();
        let place = if side == "sender" { statistics.senders.first() } else { Some(&statistics.receiver) };
        if place.is_some_and(|place| place.pid == Some(victim.as_raw() as u32)) {
            wait_until(|| ledger.noticed_at.load(Acquire) == victim.as_raw() as u64);
            noticed += 1;
        }
    }
    kill(watcher, Signal::SIGKILL).unwrap();
    assert!(matches!(waitpid(watcher, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
    line.tell(noticed);
}

fn attach_and_die(side: &str) {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
    let invitation = ring.invite();
    let rounds = if common::long() { 20_000 } else { 400 };
    let words = format!("attach {} {side} {rounds}", invitation.word);
    let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
    let noticed = conductor.hear();
    conductor.finish();
    println!("of {rounds} that were killed while attaching as {side}, {noticed} had a place");
    assert!(noticed > 0);
}

#[test]
fn the_receiver_learns_of_a_sender_that_was_killed_while_it_attached() {
    attach_and_die("sender");
}

#[test]
fn a_sender_learns_of_a_receiver_that_was_killed_while_it_attached() {
    attach_and_die("receiver");
}

// ---- how long until a death is known ----

fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Kills a sender, or a receiver, for whom the other side waits asleep; tells how long that side took to know.
fn time_deaths(ring: &Ring, side: &str, rounds: u64, megabytes: u64, line: &Line) {
    let ledger = Ledger::new();
    for _ in 0..rounds {
        ledger.ended.store(0, Relaxed);
        let victim = begin(|| {
            let _sender = (side == "sender").then(|| ring.sender().unwrap());
            let _receiver = (side == "receiver").then(|| ring.receiver().unwrap());
            let ballast = vec![1u8; (megabytes as usize) << 20];
            std::hint::black_box(&ballast);
            ledger.ended.store(1, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| ledger.ended.load(Acquire) != 0);
        let sleeps = || {
            let statistics = ring.statistics();
            statistics.receiver.sleeps + statistics.senders.iter().map(|sender| sender.sleeps).sum::<u64>()
        };
        let before = sleeps();
        ledger.noticed_at.store(0, Relaxed);
        let watcher = begin(|| {
            let died = if side == "sender" {
                let error = ring.receiver().unwrap().recv().unwrap_err();
                matches!(error, RecvError::PeerDied { pid, .. } if pid == victim.as_raw() as u32)
            } else {
                let mut sender = ring.sender().unwrap();
                let error = std::iter::repeat_with(|| sender.send(&[0; 1000])).find_map(Result::err);
                matches!(error, Some(SendError::PeerDied { pid, .. }) if pid == victim.as_raw() as u32)
            };
            let noticed_at = now();
            assert!(died);
            ledger.noticed_at.store(noticed_at, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| sleeps() > before);
        // It asks to be woken eagerly by now, and its watching thread has seen the victim.
        thread::sleep(Duration::from_millis(4));
        ledger.killed_at.store(now(), Relaxed);
        kill(victim, Signal::SIGKILL).unwrap();
        wait_until(|| ledger.noticed_at.load(Acquire) != 0);
        line.tell(ledger.noticed_at.load(Relaxed) - ledger.killed_at.load(Relaxed));
        for pid in [victim, watcher] {
            let _ = kill(pid, Signal::SIGKILL);
            assert!(matches!(waitpid(pid, None), Ok(WaitStatus::Signaled(_, Signal::SIGKILL, _))));
        }
        // Somebody else empties the ring.
        let cleaner = begin(|| {
            let mut receiver = ring.receiver().unwrap();
            while receiver.try_recv().is_ok() {}
            ledger.ended.store(2, Release);
            loop {
                thread::park();
            }
        });
        wait_until(|| ledger.ended.load(Acquire) == 2);
        kill(cleaner, Signal::SIGKILL).unwrap();
        waitpid(cleaner, None).unwrap();
    }
}

#[track_caller]
fn wait_until(reached: impl Fn() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < STUCK, "stuck");
        thread::sleep(Duration::from_micros(50));
    }
}

/// Rounds, and megabytes that the dying process holds.
fn deaths_to_time() -> &'static [(u64, u64)] {
    if common::long() { &[(2000, 0), (100, 256), (30, 1024)] } else { &[(30, 0), (3, 64)] }
}

fn time_deaths_of(side: &str) {
    for &(rounds, megabytes) in deaths_to_time() {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(1 << 16));
        let invitation = ring.invite();
        let words = format!("time {} {side} {rounds} {megabytes}", invitation.word);
        let conductor = Child::start_with(&words, |command| command.arg("--test-threads=1"));
        let mut times: Vec<u64> = (0..rounds).map(|_| conductor.hear()).collect();
        conductor.finish();
        times.sort_unstable();
        println!("death of a {side} with {megabytes} MB until the other side, asleep, knows of it:");
        print_histogram(&times);
        assert!(times[times.len() - 1] < STUCK.as_nanos() as u64);
    }
}

/// How many there are in each doubling, and the usual ranks, in microseconds.
fn print_histogram(nanoseconds: &[u64]) {
    let buckets: std::collections::BTreeMap<u32, usize> =
        nanoseconds.iter().fold(Default::default(), |mut buckets, &time| {
            *buckets.entry((time / 1000).max(1).ilog2()).or_default() += 1;
            buckets
        });
    for (bucket, count) in &buckets {
        println!("{:>9} us and more: {count}", 1u64 << bucket);
    }
    let rank =
        |percent: usize| nanoseconds[(nanoseconds.len() * percent / 100).min(nanoseconds.len() - 1)] / 1000;
    println!(
        "{:>9} us p50, {} us p99, {} us at most, of {}",
        rank(50),
        rank(99),
        rank(100),
        nanoseconds.len()
    );
}

#[test]
fn the_death_of_a_sender_wakes_the_receiver() {
    time_deaths_of("sender");
}

#[test]
fn the_death_of_the_receiver_wakes_a_sender() {
    time_deaths_of("receiver");
}
