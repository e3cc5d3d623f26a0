//! One receiver over many rings.
//!
//! Where a lane is a link its sender is another process. What is asked of the order of lanes alone is asked inside this one.

mod common;

use common::{
    Child, FAR, Line,
    place::{Door, Place},
    rings::local,
    stream::{Letter, Stream, scatter},
};
use ringpost::{LaneId, Lanes, LanesError, RecvError, Sender, WaitStrategy};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    collections::BTreeMap,
    fs,
    os::fd::AsFd,
    path::Path,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", path, number, messages] => {
            let mut sender = ringpost::connect(path).unwrap();
            let number: u64 = number.parse().unwrap();
            sender.send(&number.to_ne_bytes()).unwrap();
            send_letters(&mut sender, number, messages.parse().unwrap());
        }
        ["hold", path] => {
            let mut sender = ringpost::connect(path).unwrap();
            sender.send(&line.hear().to_ne_bytes()).unwrap();
            line.tell(0);
            line.hear();
        }
        ["answer", path] => {
            let mut sender = ringpost::connect(path).unwrap();
            while let Some(number) = line.next() {
                sender.send(&number.to_ne_bytes()).unwrap();
            }
        }
        ["damage", path] => damage(Path::new(path), &line),
        _ => panic!("no such role: {words:?}"),
    });
}

fn send_letters(sender: &mut Sender, number: u64, messages: u64) {
    let stream = Stream::new(sender.longest_message());
    for message in 0..messages {
        let Letter { bytes, kind, .. } = stream.letter(number, message);
        sender.send_kind(kind, bytes).unwrap();
    }
}

assert_impl_all!(Lanes: Send);
assert_not_impl_any!(Lanes: Sync, Clone);
assert_impl_all!(LanesError: std::error::Error, Send, Sync, Copy, Into<std::io::Error>);

/// A listener at a path of its own.
struct Host {
    listener: Door,
    place: Place,
}

impl Host {
    fn new() -> Self {
        let place = Place::new();
        let listener = place.listen_with(ringpost::unnamed().capacity(1 << 16).longest_message(4096));
        Self { listener, place }
    }

    /// A child with a role, and its lane.
    fn lane(&self, lanes: &mut Lanes, role: &str, more: &str) -> (Child, LaneId) {
        let child = self.place.child(role, more);
        let receiver = self.listener.accept().unwrap();
        assert_eq!(receiver.peer().unwrap().pid, child.id());
        (child, lanes.add(receiver).unwrap())
    }
}

/// A number that a lane gives.
#[track_caller]
fn number(lanes: &mut Lanes) -> Result<(LaneId, u64), LanesError> {
    let start = Instant::now();
    let got = lanes.recv_timeout(FAR);
    assert!(start.elapsed() < FAR, "only the deadline ended the wait");
    got.map(|(lane, message)| (lane, u64::from_ne_bytes(message.to_vec().try_into().unwrap())))
}

#[test]
fn each_lane_gives_all_its_messages_in_order_and_then_its_end() {
    const LANES: u64 = 6;
    let messages = if common::long() { 1_000_000 } else { 20_000 };
    let (host, mut lanes) = (Host::new(), Lanes::new());
    let senders: Vec<_> =
        (0..LANES).map(|number| host.lane(&mut lanes, "send", &format!("{number} {messages}"))).collect();
    let stream = Stream::new(4096);
    // Which sender it is, and its next message.
    let mut next: BTreeMap<LaneId, (u64, u64)> = BTreeMap::new();
    let mut ended = Vec::new();
    while !lanes.is_empty() {
        match lanes.recv_timeout(FAR) {
            Ok((lane, message)) => match next.get_mut(&lane) {
                None => {
                    let number = u64::from_ne_bytes(message.to_vec().try_into().unwrap());
                    next.insert(lane, (number, 0));
                }
                Some((number, at)) => {
                    let expected = stream.letter(*number, *at);
                    assert_eq!(message.kind(), expected.kind);
                    assert!(message.to_vec() == expected.bytes, "message {at} of {number}");
                    *at += 1;
                }
            },
            Err(LanesError::Ended { lane, error: RecvError::Disconnected }) => ended.push(lane),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(next.values().map(|&(number, _)| number).collect::<Vec<_>>(), (0..LANES).collect::<Vec<_>>());
    assert!(next.values().all(|&(_, count)| count == messages));
    ended.sort();
    assert_eq!(ended, next.into_keys().collect::<Vec<_>>(), "each end once");
    assert_eq!(lanes.recv().unwrap_err(), LanesError::NoLanes);
    senders.into_iter().for_each(|(sender, _)| sender.finish());
}

#[test]
fn whichever_lane_is_sent_to_wakes_who_sleeps_on_all() {
    for strategy in [WaitStrategy::Sleep, WaitStrategy::SpinThenSleep] {
        let (host, mut lanes) = (Host::new(), Lanes::new());
        lanes.set_wait(strategy);
        let senders: Vec<_> = (0..5).map(|_| host.lane(&mut lanes, "answer", "")).collect();
        for round in 0..300 {
            let (sender, lane) = &senders[scatter(round) as usize % senders.len()];
            sender.tell(round);
            assert_eq!(number(&mut lanes), Ok((*lane, round)));
        }
        for (sender, _) in &senders {
            sender.hang_up();
        }
        let ended = |lanes: &mut Lanes| number(lanes).unwrap_err();
        for _ in &senders {
            assert!(matches!(ended(&mut lanes), LanesError::Ended { error: RecvError::Disconnected, .. }));
        }
    }
}

#[test]
fn a_death_ends_its_lane_once_and_the_others_go_on() {
    let (host, mut lanes) = (Host::new(), Lanes::new());
    let mut senders: Vec<_> = (0..4).map(|_| host.lane(&mut lanes, "hold", "")).collect();
    for (n, (sender, lane)) in senders.iter().enumerate() {
        sender.tell(n as u64);
        assert_eq!(number(&mut lanes), Ok((*lane, n as u64)));
    }
    for (sender, lane) in &mut senders[1..3] {
        let pid = sender.id();
        sender.hear();
        // While this thread sleeps on all of them, most often.
        thread::scope(|threads| {
            let waiting = threads.spawn(|| number(&mut lanes));
            thread::sleep(Duration::from_millis(10));
            sender.kill();
            let error = RecvError::PeerDied { pid, unfinished: 0 };
            assert_eq!(waiting.join().unwrap(), Err(LanesError::Ended { lane: *lane, error }));
        });
    }
    assert_eq!(lanes.len(), 2);
    assert_eq!(lanes.recv_timeout(Duration::from_millis(50)).unwrap_err(), LanesError::TimedOut);
    for (sender, lane) in [senders.remove(3), senders.remove(0)] {
        sender.hear();
        sender.tell(0);
        sender.finish();
        let error = RecvError::Disconnected;
        assert_eq!(number(&mut lanes), Err(LanesError::Ended { lane, error }));
    }
}

/// Byte offset of the data area in a sender's half.
const DATA: usize = 4096;

/// A link by hand, whose sender writes chance to all its memory until it is killed.
fn damage(path: &Path, line: &Line) {
    use rustix::{
        fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create},
        mm::{MapFlags, ProtFlags, mmap},
        net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with},
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    let word = |step: u32, detail: u32| {
        let numbers = [1, 1, step, detail, 0, 0];
        b"RINGLINK".iter().copied().chain(numbers.into_iter().flat_map(u32::to_ne_bytes)).collect::<Vec<_>>()
    };
    send(&socket, &word(1, 2), rustix::net::SendFlags::empty()).unwrap();
    recv(&socket, &mut [0; 64][..], rustix::net::RecvFlags::empty()).unwrap();
    let length = DATA + (1 << 16);
    let half = memfd_create("half", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    fallocate(&half, FallocateFlags::empty(), 0, length as u64).unwrap();
    // What nobody has touched yet the kernel calls a hole.
    let shared = MapFlags::SHARED | MapFlags::POPULATE;
    // SAFETY: the kernel chooses an address where nothing is mapped.
    let base =
        unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, shared, &half, 0) };
    let base = base.unwrap().cast::<u64>();
    let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&half, seals).unwrap();
    let passed = common::pass_over(socket.as_fd(), &word(3, 0), half.as_fd());
    assert_eq!(passed, 32);
    line.tell(0);
    for number in 0.. {
        let chance = scatter(number);
        let offset = match chance % 4 {
            0 => [0, 128, 136, 144, 512, 536][(chance >> 8) as usize % 6],
            1 => DATA + (chance >> 8) as usize % 2 * 8,
            _ => (chance >> 8) as usize % length,
        };
        // SAFETY: inside the mapping, which lives as long as the process; atomic for all.
        let word = unsafe { std::sync::atomic::AtomicU64::from_ptr(base.byte_add(offset & !7)) };
        word.store(if chance >> 63 == 0 { chance } else { chance >> 32 & 3 }, Relaxed);
    }
}

#[test]
fn a_lane_of_another_value_is_none_of_this_one() {
    let receiver = || ringpost::unnamed().in_process().unwrap().receiver().unwrap();
    let (mut one, mut other) = (ringpost::Lanes::new(), ringpost::Lanes::new());
    let (here, there) = (one.add(receiver()).unwrap(), other.add(receiver()).unwrap());
    assert_ne!(here, there);
    assert!(one.remove(there).is_none() && other.remove(here).is_none());
    assert!(one.remove(here).is_some());
}

#[test]
fn a_lane_that_damages_its_own_memory_harms_no_other() {
    const MESSAGES: u64 = 5000;
    let (host, mut lanes) = (Host::new(), Lanes::new());
    let (mut hostile, bad) = host.lane(&mut lanes, "damage", "");
    hostile.hear();
    let honest = [0, 1].map(|number| host.lane(&mut lanes, "send", &format!("{number} {MESSAGES}")));
    let stream = Stream::new(4096);
    let mut counts = [0; 2];
    let mut ended = [false; 2];
    while ended != [true; 2] {
        match lanes.recv_timeout(FAR) {
            Ok((lane, message)) if lane == bad => assert!(message.to_vec().len() <= 1 << 16),
            Ok((lane, message)) => {
                let number = honest.iter().position(|(_, other)| *other == lane).unwrap();
                if counts[number] > 0 {
                    let expected = stream.letter(number as u64, counts[number] - 1);
                    assert!(message.to_vec() == expected.bytes);
                }
                counts[number] += 1;
            }
            Err(LanesError::Ended { lane, .. }) if lane == bad => {}
            Err(LanesError::Ended { lane, error: RecvError::Disconnected }) => {
                ended[honest.iter().position(|(_, other)| *other == lane).unwrap()] = true;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(counts, [MESSAGES + 1; 2]);
    hostile.kill();
    honest.into_iter().for_each(|(sender, _)| sender.finish());
    // It is told of, if it was not before: nothing of it hangs.
    let start = Instant::now();
    while !lanes.is_empty() {
        assert!(start.elapsed() < FAR);
        if let Err(error) = lanes.recv_timeout(FAR) {
            assert!(matches!(error, LanesError::Ended { lane, .. } if lane == bad), "{error}");
        }
    }
}

#[test]
fn lanes_with_messages_are_served_in_turn() {
    let mut rings: Vec<_> = (0..3).map(|_| local()).collect();
    let mut lanes = Lanes::new();
    let ids: Vec<_> = rings.iter().map(|(ring, _)| lanes.add(ring.receiver().unwrap()).unwrap()).collect();
    for (_, sender) in &mut rings {
        (0..4).for_each(|_| sender.send(b"x").unwrap());
    }
    let served: Vec<_> = (0..12).map(|_| lanes.try_recv().unwrap().0).collect();
    assert_eq!(served, ids.repeat(4));
    // Also when one in the middle goes.
    for (_, sender) in &mut rings {
        (0..2).for_each(|_| sender.send(b"x").unwrap());
    }
    assert_eq!(lanes.try_recv().unwrap().0, ids[0]);
    assert!(lanes.remove(ids[1]).is_some());
    assert!(lanes.remove(ids[1]).is_none());
    let served: Vec<_> = (0..3).map(|_| lanes.try_recv().unwrap().0).collect();
    assert_eq!(served, [ids[2], ids[0], ids[2]]);
    assert_eq!(lanes.try_recv().unwrap_err(), LanesError::Empty);
}

#[test]
fn a_lane_that_has_something_to_pass_over_keeps_its_turn() {
    let mut rings: Vec<_> = (0..2).map(|_| local()).collect();
    let mut lanes = Lanes::new();
    let ids: Vec<_> = rings.iter().map(|(ring, _)| lanes.add(ring.receiver().unwrap()).unwrap()).collect();
    for _ in 0..4 {
        rings[0].1.send(b"x").unwrap();
        drop(rings[1].1.reserve(1).unwrap());
        rings[1].1.send(b"y").unwrap();
    }
    let served: Vec<_> = (0..8).map(|_| lanes.try_recv().unwrap().0).collect();
    assert_eq!(served, ids.repeat(4));
}

#[test]
fn the_end_of_a_lane_is_told_while_others_always_have_messages() {
    let mut rings: Vec<_> = (0..3).map(|_| local()).collect();
    let mut lanes = Lanes::new();
    for (ring, _) in &rings {
        lanes.add(ring.receiver().unwrap()).unwrap();
    }
    drop(rings.remove(1));
    for received in 0..1000 {
        for (_, sender) in &mut rings {
            while sender.try_send(&[0; 1000]).is_ok() {}
        }
        match lanes.try_recv() {
            Ok((_, message)) => drop(message),
            Err(LanesError::Ended { error: RecvError::Disconnected, .. }) => return,
            Err(other) => panic!("{other}"),
        }
        assert!(received < 500, "{received} messages, and no word of the end");
    }
}

#[test]
fn there_is_room_for_127_lanes_and_no_more() {
    let rings: Vec<_> = (0..128).map(|_| ringpost::unnamed().capacity(4096).in_process().unwrap()).collect();
    let mut lanes = Lanes::new();
    let mut receivers = rings.iter().map(|ring| ring.receiver().unwrap());
    let ids: Vec<_> = receivers.by_ref().take(127).map(|receiver| lanes.add(receiver).unwrap()).collect();
    assert_eq!(lanes.add(receivers.next().unwrap()), Err(LanesError::TooMany { most: 127 }));
    assert_eq!(lanes.len(), 127);
    let mut last = rings[126].sender().unwrap();
    thread::scope(|threads| {
        let waiting = threads.spawn(|| lanes.recv_timeout(FAR).map(|(lane, _)| lane));
        thread::sleep(Duration::from_millis(10));
        last.send(b"x").unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(ids[126]));
    });
}

#[test]
fn waiting_ends_at_the_deadline() {
    let ring = local();
    let mut lanes = Lanes::new();
    assert_eq!(lanes.recv().unwrap_err(), LanesError::NoLanes);
    lanes.add(ring.0.receiver().unwrap()).unwrap();
    let start = Instant::now();
    assert_eq!(lanes.recv_timeout(Duration::from_millis(30)).unwrap_err(), LanesError::TimedOut);
    assert!(start.elapsed() >= Duration::from_millis(30));
    let deadline = Instant::now() + Duration::from_millis(30);
    assert_eq!(lanes.recv_deadline(deadline).unwrap_err(), LanesError::TimedOut);
    assert!(Instant::now() >= deadline);
}

#[test]
fn nobody_wakes_up_while_all_lanes_are_idle() {
    let (host, mut lanes) = (Host::new(), Lanes::new());
    lanes.set_wait(WaitStrategy::Sleep);
    let _senders: Vec<_> = (0..3).map(|_| host.lane(&mut lanes, "answer", "")).collect();
    let switches = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = switches();
    assert_eq!(lanes.recv_timeout(Duration::from_millis(500)).unwrap_err(), LanesError::TimedOut);
    let slept = switches() - before;
    assert!(slept <= 10, "{slept} times awake in half a second");
}
