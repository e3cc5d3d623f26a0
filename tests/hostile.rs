//! A process that lies: it has mapped the segment itself and writes to every shared word, all the time, while its victim
//! uses the ring without trusting it.
//!
//! Whatever it writes, the victim's calls return: with a message, which may be any bytes, or with an error. No call panics,
//! is ended by a signal, or goes on for ever. `RINGPOST_LONG=1` makes minutes of it.

mod common;

use common::{
    Line,
    rings::{Attach, Shared, Way, child_at, open},
    stream::scatter,
};
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

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse().unwrap();
    match words[..] {
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

// ---- the words of a ring, from outside ----

// Where they lie: `docs/LAYOUT.md`.
const KEY: usize = 56;
/// A word that no ring uses: not 0 while the liar is to be silent.
const TRUCE: usize = 4088;
const RECEIVER_AREA: usize = 4096;
const RECEIVER_CLAIM: usize = RECEIVER_AREA + 256;
const SENDERS_AREA: usize = 8192;
const SLOTS: usize = 8704;
const SLOT: usize = 256;
const COMING: usize = 40;

/// All that a ring is, writable.
struct Segment {
    map: MmapRaw,
    slots: usize,
    control: usize,
    capacity: usize,
    key: u64,
}

impl Segment {
    fn of(ring: &Ring) -> Self {
        let (info, fd): (_, BorrowedFd) = (ring.info(), ring.fd().unwrap());
        let (slots, capacity) = (usize::from(info.many_senders.unwrap_or(1)), info.capacity as usize);
        let control = (SLOTS + slots * SLOT).next_multiple_of(rustix::param::page_size());
        let map = MmapOptions::new().len(control + capacity).map_raw(&fd).unwrap();
        let mut segment = Self { map, slots, control, capacity, key: 0 };
        segment.key = segment.word(KEY).load(Relaxed);
        segment
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at < self.map.len());
        // SAFETY: inside the mapping, aligned; this process makes atomic accesses only.
        unsafe { &*self.map.as_mut_ptr().add(at).cast() }
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at < self.map.len());
        // SAFETY: as for `word`.
        unsafe { &*self.map.as_mut_ptr().add(at).cast() }
    }

    /// Who holds each place, and who is about to.
    fn claims(&self) -> impl Iterator<Item = usize> {
        let slots = (0..self.slots).flat_map(|slot| [SLOTS + slot * SLOT, SLOTS + slot * SLOT + COMING]);
        [RECEIVER_CLAIM, RECEIVER_AREA + 320].into_iter().chain(slots)
    }

    /// Where the unit at `position` lies.
    fn unit(&self, position: u64) -> usize {
        self.control + (position as usize * 8) % self.capacity
    }

    /// Makes the record at `position` valid, whatever it says.
    fn forge(&self, position: u64, state: u64, info: u64) {
        self.word(self.unit(position + 1)).store(info, Relaxed);
        self.word(self.unit(position)).store(self.key ^ (position << 8 | state), Release);
    }

    /// The ring as it is when all who ever came were killed. The liar is silent from then on.
    fn kill_all(&self) {
        self.word(TRUCE).store(1, Relaxed);
        for claim in self.claims() {
            // Nobody that the victim knows to be dead already: of those there is no news.
            let before = self.word(claim).load(Relaxed);
            self.word(claim)
                .store((before >> 30).wrapping_add(1) << 30 | claim_of(IMPOSSIBLE, 1) & 0xff, Release);
        }
        for attachments in [RECEIVER_AREA + 144, SENDERS_AREA + 144] {
            self.half(attachments).fetch_add(1, Release);
            let _ = futex::wake(self.half(attachments), futex::Flags::empty(), 1 << 20);
        }
    }
}

/// No process has this id.
const IMPOSSIBLE: u64 = 0;

/// This one lives.
const INIT: u64 = 1;

/// A claim of the process `pid` with this state: 1 attached, 2 closed.
fn claim_of(pid: u64, state: u64) -> u64 {
    7 << 30 | pid << 8 | state
}

struct Noise(u64);

impl Noise {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        scatter(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    fn one_of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize]
    }
}

// ---- who lies ----

struct Hostile {
    segment: Segment,
    noise: Noise,
    /// Every word of the areas that means something.
    known: Vec<usize>,
}

impl Hostile {
    fn at(ring: &Ring, seed: u64) -> Self {
        let segment = Segment::of(ring);
        let of_receiver = [0, 128, 136, 144, 256, 264, 320, 1024].map(|at| RECEIVER_AREA + at);
        let of_senders = [0, 128, 136, 144].map(|at| SENDERS_AREA + at);
        let of_slots = (0..segment.slots)
            .flat_map(|slot| [0, 8, 16, 24, 128, 136, 176].map(|at| SLOTS + slot * SLOT + at));
        let known = of_receiver.into_iter().chain(of_senders).chain(of_slots).collect();
        Self { segment, noise: Noise(seed), known }
    }

    /// Storms with a calm behind each, in which the victim gets somewhere.
    fn write_for_ever(mut self, line: &Line) {
        line.tell(0);
        line.hear();
        loop {
            while self.segment.word(TRUCE).load(Relaxed) != 0 {
                thread::sleep(Duration::from_millis(1));
            }
            if self.noise.below(3) == 0 {
                self.mend();
            }
            let storm = self.noise.one_of(&[1, 3, 10, 100, 1000]);
            (0..storm).for_each(|_| self.write());
            let calm = self.noise.one_of(&[0, 0, 100, 1000, 20_000]);
            (0..calm).for_each(|_| std::hint::spin_loop());
        }
    }

    fn write(&mut self) {
        let (segment, noise) = (&self.segment, &mut self.noise);
        let position = segment.word(RECEIVER_AREA).load(Relaxed) & ((1 << 56) - 1);
        if noise.below(3) == 0 {
            // A record near the receiver's position, some of them sound.
            let at = position + noise.one_of(&[0, 0, 0, 1, 2, 3, 5, 8, 13, 100]);
            let capacity = segment.capacity as u64;
            let lengths = [0, 1, 8, 24, 100, 4000, capacity - 16, capacity - 15, capacity / 8, capacity];
            let odd = [u64::from(u32::MAX), 1 << 31, capacity + 1, capacity / 8 + 1, noise.below(1 << 32)];
            let length = if noise.below(4) == 0 { noise.one_of(&odd) } else { noise.one_of(&lengths) };
            let low = noise.number() & 0xffff_ffff;
            return segment.forge(at, noise.one_of(&[1, 1, 1, 2, 3, 0, 4]), length << 32 | low);
        }
        let at = match noise.below(4) {
            0 => noise.below(segment.map.len() as u64 / 8) as usize * 8,
            1 => noise.below(segment.control as u64 / 8) as usize * 8,
            _ => noise.one_of(&self.known),
        };
        let old = segment.word(at).load(Relaxed);
        let near = noise.below(33).wrapping_sub(16);
        let any = noise.number() & 0x3f_ffff;
        let pid = noise.one_of(&[IMPOSSIBLE, INIT, process::id().into(), any]);
        let value = match noise.below(9) {
            0 => 0,
            1 => u64::MAX,
            2 => noise.number(),
            3 => old ^ 1 << noise.below(64),
            4 => old.wrapping_add(near),
            5 => position.wrapping_add(near),
            6 => position.wrapping_add(near) << 8 | noise.below(4),
            7 => claim_of(pid, noise.below(4)),
            _ => 1 << noise.below(64),
        };
        if at == TRUCE {
            return;
        }
        if noise.below(4) == 0 {
            segment.half(at + 4 * noise.below(2) as usize).store(value as u32, Relaxed);
        } else {
            segment.word(at).store(value, Relaxed);
        }
    }

    /// Makes the ring look like an empty one that nobody uses, so that the victim gets farther than the first check.
    fn mend(&mut self) {
        let segment = &self.segment;
        let tail = segment.word(SENDERS_AREA).load(Relaxed) >> 8;
        segment.claims().for_each(|claim| segment.word(claim).store(0, Relaxed));
        segment.word(RECEIVER_AREA).store(tail, Relaxed);
        segment.word(RECEIVER_AREA + 128).store(0, Relaxed);
    }
}

/// Claims every place for one dead process after the other, faster than anybody can prove their deaths: there is a
/// process with their id, which started at another time.
fn claim_in_many_names(ring: &Ring, line: &Line) {
    let segment = Segment::of(ring);
    let mut started = 0;
    line.tell(0);
    loop {
        started += 1;
        let claim = started << 30 | INIT << 8 | 1;
        segment.claims().for_each(|at| segment.word(at).store(claim, Relaxed));
    }
}

// ---- who is lied to ----

/// What the victim does now, as its watchdog sees it: the number of the operation, and whether it may block.
static OPERATION: AtomicU64 = AtomicU64::new(0);
const MAY_BLOCK: u64 = 1 << 63;

/// Longest time that anything which may not block takes. Only an endless loop comes so far.
const ENDLESS: Duration = Duration::from_secs(30);

struct Victim {
    ring: Ring,
    noise: Noise,
    operations: u64,
    tally: Tally,
}

/// What came of the operations.
#[derive(Default)]
struct Tally {
    done: u64,
    refused: u64,
    corrupt: u64,
}

impl Tally {
    fn note<T, E: Debug>(&mut self, result: Result<T, E>) -> Option<T> {
        match &result {
            Ok(_) => self.done += 1,
            Err(error) if format!("{error:?}").starts_with("Corrupt") => self.corrupt += 1,
            Err(_) => self.refused += 1,
        }
        result.ok()
    }
}

impl Victim {
    fn new(ring: Ring, seed: u64, operations: u64) -> Self {
        // Also of the threads whose panics nobody would see.
        std::panic::set_hook(Box::new(|info| {
            eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
            process::abort();
        }));
        let segment = Segment::of(&ring);
        thread::spawn(move || watch_over(&segment));
        Self { ring, noise: Noise(seed), operations, tally: Tally::default() }
    }

    /// All operations while the other process lies, and some when it is dead and its lies are still there.
    fn suffer(&mut self, kind: &str, side: &str, line: &Line) {
        line.tell(0);
        line.hear();
        self.operate(kind, side);
        let Tally { done, refused, corrupt } = self.tally;
        [done, refused, corrupt].into_iter().for_each(|count| line.tell(count));
        line.hear();
        self.operations /= 10;
        self.operate(kind, side);
    }

    fn operate(&mut self, kind: &str, side: &str) {
        let mut left = self.operations;
        while left > 0 {
            // As long as one handle is used.
            let some = self.noise.one_of(&[1, 10, 100, 1000]).min(left);
            left -= some;
            match (kind, side) {
                ("typed", "sender") => self.send_values(some),
                ("typed", _) => self.receive_values(some),
                ("one", "sender") => self.send::<Single>(some),
                ("many", "sender") => self.send::<Many>(some),
                _ => self.receive(some),
            }
            let ring = &self.ring;
            let again = || ringpost::unnamed().from_fd(ring.fd().unwrap().try_clone_to_owned().unwrap());
            self.tally.note(step(0, again));
            let statistics = step(0, || self.ring.statistics());
            let _ = (statistics.pending_messages(), statistics.sent(), statistics.high_water_bytes());
            let _ = format!("{:?} {statistics:?}", self.ring);
        }
    }

    fn send<K: Attach>(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(mut sender) = tally.note(step(0, || K::attach(ring))) else { return };
        for _ in 0..operations {
            send_once(&mut sender, noise, tally);
        }
        step(0, || drop(sender));
    }

    fn receive(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(mut receiver) = tally.note(step(0, || ring.receiver())) else { return };
        for _ in 0..operations {
            if let Err(RecvError::Corrupt { .. }) = receive_once(&mut receiver, noise, tally) {
                break;
            }
        }
        step(0, || drop(receiver));
    }

    fn send_values(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(sender) = tally.note(step(0, || ring.sender())) else { return };
        let mut sender: TypedSender<Value> = sender.typed().unwrap();
        for _ in 0..operations {
            let value = [noise.number(), 2, 3];
            tally.note(match noise.below(40) {
                0 => step(MAY_BLOCK, || sender.send(&value)),
                1..10 => step(0, || sender.send_timeout(&value, MOMENT)),
                _ => step(0, || sender.try_send(&value)),
            });
        }
    }

    fn receive_values(&mut self, operations: u64) {
        let Self { ring, noise, tally, .. } = self;
        let Some(receiver) = tally.note(step(0, || ring.receiver())) else { return };
        let mut receiver: TypedReceiver<Value> = receiver.typed().unwrap();
        for _ in 0..operations {
            let received = match noise.below(40) {
                0 => step(MAY_BLOCK, || receiver.recv()),
                1..10 => step(0, || receiver.recv_timeout(MOMENT)),
                _ => step(0, || receiver.try_recv()),
            };
            let damaged = matches!(received, Err(RecvError::Corrupt { .. }));
            tally.note(received);
            if damaged {
                break;
            }
        }
    }
}

type Value = [u64; 3];

const MOMENT: Duration = Duration::from_micros(100);

/// One operation under the eyes of the watchdog.
fn step<T>(may_block: u64, operation: impl FnOnce() -> T) -> T {
    let number = (OPERATION.load(Relaxed) & !MAY_BLOCK) + 1;
    OPERATION.store(number | may_block, Relaxed);
    let result = operation();
    OPERATION.store(number, Relaxed);
    result
}

/// Ends the process when an operation does not end. One that may block is told that all others are dead.
fn watch_over(segment: &Segment) {
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        thread::sleep(Duration::from_millis(5));
        let now = OPERATION.load(Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
            segment.word(TRUCE).store(0, Relaxed);
        } else if since.elapsed() > ENDLESS && now != 0 {
            eprintln!("operation {} does not end (may block: {})", now & !MAY_BLOCK, now & MAY_BLOCK != 0);
            process::abort();
        } else if now & MAY_BLOCK != 0 {
            segment.kill_all();
        }
    }
}

fn send_once<K: SenderKind>(sender: &mut Sender<Untrusted, K>, noise: &mut Noise, tally: &mut Tally) {
    let most = sender.longest_message();
    let any = noise.below(most as u64) as usize;
    let length = noise.one_of(&[0, 1, 8, 100, most / 2, most, any]);
    let message = vec![7; length];
    match noise.below(80) {
        0 => drop(tally.note(step(MAY_BLOCK, || sender.send(&message)))),
        1 => drop(tally.note(step(MAY_BLOCK, || sender.send_kind(1, &message)))),
        2 => drop(tally.note(step(MAY_BLOCK, || sender.reserve(length).map(drop)))),
        3 => drop(tally.note(step(MAY_BLOCK, || sender.batch(length).map(drop)))),
        4..10 => drop(tally.note(step(0, || sender.send_timeout(&message, MOMENT)))),
        10..14 => drop(tally.note(step(0, || sender.send_deadline(&message, Instant::now() + MOMENT)))),
        14..20 => step(0, || {
            let Some(mut reservation) = tally.note(sender.reserve_timeout(length, MOMENT)) else { return };
            reservation.write_at(0, &message);
            reservation.truncate(length / 3);
            reservation.set_kind(3);
            reservation.commit();
        }),
        20..26 => step(0, || std::mem::forget(tally.note(sender.try_reserve(length)))),
        26..38 => step(0, || {
            let Some(mut batch) = tally.note(sender.try_batch(length)) else { return };
            while batch.push(1, &message[..length / 5]).is_ok() {}
            let _ = (batch.room(), format!("{batch:?}"));
            if length.is_multiple_of(2) {
                batch.commit();
            }
        }),
        38 => sender.set_wait(WaitStrategy::Spin),
        39 => sender.set_wait(WaitStrategy::Sleep),
        40 => drop((sender.is_disconnected(), format!("{sender:?}"))),
        _ => drop(tally.note(step(0, || sender.try_send(&message)))),
    }
}

fn receive_once(receiver: &mut Receiver, noise: &mut Noise, tally: &mut Tally) -> Result<(), RecvError> {
    let most = noise.one_of(&[0, 1, 2, 10, usize::MAX]);
    let blocks = noise.below(40) == 0;
    let may_block = if blocks { MAY_BLOCK } else { 0 };
    step(may_block, || {
        let received = match noise.below(9) {
            0 if blocks => receiver.recv().map(|message| drop(message.to_vec())),
            1 if blocks => receiver.recv_many(most).map(|messages| drop(format!("{messages:?}"))),
            2 if blocks => receiver.recv_into(&mut vec![0; 5000]).map(drop),
            3 if blocks => receiver.iter().next().map(drop).ok_or(RecvError::Empty),
            0 => {
                receiver.recv_timeout(MOMENT).map(|message| drop((message.sender(), format!("{message:?}"))))
            }
            1 => receiver.recv_deadline(Instant::now() + MOMENT).map(std::mem::forget),
            2 => receiver.try_iter().take(50).last().map(drop).ok_or(RecvError::Empty),
            3 => {
                receiver.reopen();
                let _ = (receiver.next_death(), receiver.stalled());
                receiver.set_wait(noise.one_of(&[
                    WaitStrategy::Spin,
                    WaitStrategy::Sleep,
                    WaitStrategy::default(),
                ]));
                Ok(())
            }
            4..7 => receiver.try_recv_many(most).map(|messages| {
                let lengths = messages.iter().map(|message| (message.to_vec().len(), message.sender()));
                assert!(lengths.count() <= messages.len());
            }),
            _ if receiver.is_empty() => Err(RecvError::Empty),
            _ => receiver.try_recv().map(|message| {
                let mut bytes = vec![0; message.len().min(64)];
                message.read_at(message.len() - bytes.len(), &mut bytes);
                let _ = (message.kind(), message.sequence(), message.slot(), message.sender());
            }),
        };
        tally.note(received);
        received
    })
}

// ---- the tests ----

fn operations() -> u64 {
    if common::long() { 10_000_000 } else { 20_000 }
}

/// A liar and its victim at a ring, and again at another one until something has worked and the lies were noticed.
fn lie_to(kind: &str, side: &str, way: Way) {
    let mut all = [0; 3];
    for round in 0..50 {
        let seed = u64::from(process::id()) << 32 | round;
        println!("seed {seed}");
        let tally = lie_once(kind, side, way, seed);
        all.iter_mut().zip(tally).for_each(|(all, one)| *all += one);
        if all[0] > 0 && all[1] > 0 && (side == "sender" || all[2] > 0) {
            return println!("{kind}, {side}: {all:?} done, refused, found corrupt");
        }
    }
    panic!("the lies were not noticed, or nothing else: {all:?}");
}

fn lie_once(kind: &str, side: &str, way: Way, seed: u64) -> [u64; 3] {
    let ring = Shared::new(way, |builder: Builder| {
        let builder = builder.capacity(4096);
        match kind {
            "many" => builder.many_senders(3),
            "typed" => builder.fixed::<Value>(),
            _ => builder,
        }
    });
    let mut hostile = child_at(&ring, "hostile", &format!("{seed}"));
    let victim = child_at(&ring, "victim", &format!("{kind} {side} {seed} {}", operations()));
    let both = [&hostile, &victim];
    both.iter().for_each(|child| assert_eq!(child.hear(), 0));
    both.iter().for_each(|child| child.tell(0));
    let tally = [(); 3].map(|()| victim.hear());
    hostile.kill();
    victim.tell(0);
    victim.finish();
    tally
}

#[test]
fn counts_of_any_size_add_up() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096).many_senders(2)).ring;
    let _senders = [ring.multi_sender().unwrap(), ring.multi_sender().unwrap()];
    let segment = Segment::of(&ring);
    for slot in 0..2 {
        segment.word(SLOTS + slot * SLOT + 128).store(u64::MAX - 1, Relaxed);
    }
    let statistics = ring.statistics();
    assert_eq!((statistics.sent(), statistics.pending_messages()), (u64::MAX, u64::MAX));
}

#[test]
fn a_record_of_an_impossible_length_is_corrupt_and_no_endless_one() {
    const CAPACITY: u64 = 4096;
    let payloads = [CAPACITY - 15, CAPACITY, 1 << 31, u64::from(u32::MAX)].map(|length| (1, length));
    let units = [0, 1, CAPACITY / 8 + 1, 1 << 31, u64::from(u32::MAX)].map(|length| (2, length));
    for (state, length) in payloads.into_iter().chain(units) {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(CAPACITY)).ring;
        let mut receiver = ring.receiver().unwrap();
        Segment::of(&ring).forge(0, state, length << 32);
        let corrupt = RecvError::Corrupt { sequence: 0, length: length as u32 };
        assert_eq!(receiver.try_recv().unwrap_err(), corrupt);
        assert_eq!(receiver.recv().unwrap_err(), corrupt);
        assert_eq!(receiver.try_recv_many(5).unwrap_err(), corrupt);
        assert_eq!(receiver.recv_into(&mut [0; 8]).unwrap_err(), corrupt);
    }
}

#[test]
fn a_ring_full_of_records_to_be_passed_over_ends() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096)).ring;
    let (mut receiver, segment) = (ring.receiver().unwrap(), Segment::of(&ring));
    let filler = |position: u64| segment.key ^ (position << 8 | 3);
    (0..512).for_each(|position| segment.word(segment.unit(position)).store(filler(position), Relaxed));
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    assert_eq!(segment.word(RECEIVER_AREA).load(Relaxed), 512);
}

#[test]
fn who_attaches_comes_to_an_end_though_the_places_are_claimed_anew_all_the_time() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096).many_senders(3));
    let hostile = child_at(&ring, "renaming", "");
    hostile.hear();
    child_at(&ring, "comer", "20").finish();
}

#[test]
fn the_only_sender_survives_a_lying_process() {
    lie_to("one", "sender", Way::Pass);
}

#[test]
fn the_receiver_of_one_survives_a_lying_process() {
    lie_to("one", "receiver", Way::Name);
}

#[test]
fn one_of_many_senders_survives_a_lying_process() {
    lie_to("many", "sender", Way::Name);
}

#[test]
fn the_receiver_of_many_survives_a_lying_process() {
    lie_to("many", "receiver", Way::Pass);
}

#[test]
fn who_sends_and_receives_values_survives_a_lying_process() {
    lie_to("typed", "sender", Way::Inherit);
    lie_to("typed", "receiver", Way::Inherit);
}

// ---- descriptors that are not what they seem ----

const HEADER: usize = 128;

/// A memfd of this length that begins so, with these seals.
fn memfd(content: &[u8], length: usize, seals: SealFlags) -> OwnedFd {
    let file = File::from(memfd_create("hostile", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap());
    file.set_len(length as u64).unwrap();
    file.write_all_at(&content[..content.len().min(length)], 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file.into()
}

const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// The bytes of a small new ring.
fn content() -> Vec<u8> {
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    let mut content = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut content, 0).unwrap();
    content
}

fn open_passed(fd: impl Into<OwnedFd>) -> Result<Ring, OpenError> {
    ringpost::unnamed().from_fd(fd.into())
}

#[test]
fn only_a_sealed_memfd_that_can_be_written_to_is_taken() {
    let (content, mut refused) = (content(), Vec::<OwnedFd>::new());
    for seals in [SealFlags::empty(), SealFlags::SHRINK, SealFlags::GROW, SealFlags::WRITE, SealFlags::SEAL] {
        refused.push(memfd(&content, content.len(), seals));
    }
    refused.push(memfd(&content, content.len(), FIXED | SealFlags::WRITE));
    refused.push(memfd(&content, content.len(), FIXED | SealFlags::FUTURE_WRITE));
    let good = memfd(&content, content.len(), FIXED);
    let again = format!("/proc/self/fd/{}", good.as_raw_fd());
    refused.push(File::open(&again).unwrap().into());
    refused.push(rustix::fs::open(&again, OFlags::PATH, Mode::empty()).unwrap());
    for path in ["/dev/null", "/dev/zero", "/dev/shm", "/proc/self/status"] {
        refused.push(File::open(path).unwrap().into());
    }
    let (reader, writer) = std::io::pipe().unwrap();
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    refused.extend([reader.into(), writer.into(), left.into(), right.into()]);
    for (index, fd) in refused.into_iter().enumerate() {
        let error = open_passed(fd).expect_err(&format!("descriptor {index}"));
        assert!(matches!(error, OpenError::Segment(_) | OpenError::NotARing { .. }), "{index}: {error:?}");
    }
    open_passed(good).unwrap();
}

#[test]
fn a_passed_ring_that_is_shorter_by_any_number_of_bytes_is_refused() {
    let content = content();
    for length in 0..content.len() {
        let error = open_passed(memfd(&content[..HEADER], length, FIXED)).unwrap_err();
        let short = matches!(&error, OpenError::Segment(SegmentError::TooShort { found, .. }) if *found == length as u64);
        assert!(
            short || length < HEADER && matches!(error, OpenError::NotARing { .. }),
            "{length}: {error:?}"
        );
    }
    open_passed(memfd(&content, content.len(), FIXED)).unwrap();
}

#[test]
fn a_passed_ring_with_any_bit_of_its_header_flipped_is_refused() {
    let content = content();
    for bit in 0..HEADER * 8 {
        let mut flipped = content[..HEADER].to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = open_passed(memfd(&flipped, content.len(), FIXED)).expect_err(&format!("bit {bit}"));
        assert!(matches!(error, OpenError::NotARing { .. } | OpenError::Mismatch { .. }), "{bit}: {error:?}");
    }
}

#[test]
fn a_passed_header_that_lies_with_a_right_checksum_is_refused_or_leads_to_errors() {
    let (content, mut noise, mut opened) = (content(), Noise(0x11e5), 0);
    for _ in 0..if common::long() { 200_000 } else { 2000 } {
        let mut lie = content.clone();
        for _ in 0..1 + noise.below(3) {
            let at = 16 + 4 * noise.below(10) as usize;
            let any = noise.below(1 << 32);
            let value = noise.one_of(&[0, 1, 2, 3, 255, 256, 4080, 4096, 8192, 9216, 12_288, u64::MAX, any]);
            lie[at..at + 4].copy_from_slice(&(value as u32).to_ne_bytes());
        }
        let sum = lie[..HEADER - 8].iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, &byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        lie[HEADER - 8..HEADER].copy_from_slice(&sum.to_ne_bytes());
        let Ok(ring) = open_passed(memfd(&lie, lie.len(), FIXED)) else { continue };
        opened += 1;
        let message = vec![1; ring.info().longest_message];
        let _ = ring.multi_sender().map(|mut sender| sender.try_send(&message));
        let _ = ring.sender().map(|mut sender| sender.try_send(&message));
        let _ = ring.receiver().map(|mut receiver| receiver.try_recv().map(|message| message.to_vec()));
    }
    assert!(opened > 0);
}
