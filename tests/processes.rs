//! Traffic between real processes, through real mappings.
//!
//! Each case of the matrix has one server and some clients. The clients send requests through one ring, for one sender or
//! for many; the server answers each with the same message, through a ring for each client. All check order, kind, sender
//! and every byte of what they get, so each message counts each way. Short form: 100,000 each way and case. Long form:
//!
//! ```text
//! RINGPOST_LONG=1 cargo test --release --test processes -- --nocapture --test-threads=1      10,000,000 each way and case
//! ```
//!
//! | case | segment | senders | trust | wait | cores |
//! |---|---|---|---|---|---|
//! | `one_sender_by_name` | named | 1 | no | spin, sleep | any |
//! | `one_sender_by_name_in_place_on_one_core` | named | 1 | yes | spin, sleep | 1 |
//! | `one_sender_inherited_on_two_cores` | memfd, inherited | 1 | yes | spin, sleep | 2 |
//! | `one_sender_inherited_that_sleeps_on_one_core` | memfd, inherited | 1 | no | sleep | 1 |
//! | `one_sender_passed` | memfd, over a socket | 1 | yes | sleep | any |
//! | `four_senders_by_name_in_place` | named | 4 | yes | spin, sleep | any |
//! | `four_senders_inherited_on_one_core` | memfd, inherited | 4 | no | spin, sleep | 1 |
//! | `four_senders_inherited_that_sleep_on_two_cores` | memfd, inherited | 4 | yes | sleep | 2 |
//! | `four_senders_passed` | memfd, over a socket | 4 | no | sleep | any |
//! | `eight_senders_on_two_cores` | memfd, inherited | 8 | no | spin, sleep | 2 |
//!
//! A client has two threads, so the last case has 25 threads on 2 cores.

mod common;

use common::{
    Child, FAR, Line,
    rings::{Attach, Shared, Way, child_at, open, small_rings},
    stream::{Letter, Stream},
};
use ringpost::{
    Batch, Builder, Many, Message, Receiver, RecvError, Reservation, Ring, SendError, Sender, SenderKind,
    Single, Trust, Trusted, Untrusted, WaitStrategy,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::{collections::HashMap, fmt, ops::Range, thread};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["server", case, ref rings @ ..] => with_kinds(case, rings, &line, Work { client: None }),
        ["client", number, case, ref rings @ ..] => {
            with_kinds(case, rings, &line, Work { client: Some(number.parse().unwrap()) })
        }
        ["send", ring, many, from, to] => {
            send_some(&open(ring, &line), many == "many", from.parse().unwrap()..to.parse().unwrap(), &line)
        }
        ["batch", ring] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            let mut batch = sender.batch(200).unwrap();
            (0..3).for_each(|_| batch.push(0, b"of a batch").unwrap());
            batch.commit();
        }
        ["receive", ring, from, to] => {
            receive_some(&open(ring, &line), from.parse().unwrap()..to.parse().unwrap(), &line)
        }
        _ => panic!("no such role: {words:?}"),
    });
}

// ---- the matrix ----

#[derive(Clone, Copy)]
struct Case {
    way: Way,
    clients: u64,
    trusted: bool,
    sleeps: bool,
    /// Number of cores that all share; 0 for any.
    cores: usize,
}

impl Case {
    fn each(self) -> u64 {
        let all = if common::long() { 10_000_000 } else { 100_000 };
        all / self.clients
    }

    fn many(self) -> bool {
        self.clients > 1
    }

    fn wait(self) -> WaitStrategy {
        if self.sleeps { WaitStrategy::Sleep } else { WaitStrategy::SpinThenSleep }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, trusted, sleeps, cores, .. } = self;
        write!(f, "{clients},{trusted},{sleeps},{cores}")
    }
}

fn case(text: &str) -> Case {
    let words: Vec<&str> = text.split(',').collect();
    Case {
        way: Way::Name,
        clients: words[0].parse().unwrap(),
        trusted: words[1].parse().unwrap(),
        sleeps: words[2].parse().unwrap(),
        cores: words[3].parse().unwrap(),
    }
}

fn run(case: Case) {
    let start = std::time::Instant::now();
    let size = |builder: Builder| builder.capacity(1 << 16);
    let many = |builder: Builder| builder.many_senders(case.clients as u8);
    let requests =
        Shared::new(case.way, |builder| if case.many() { many(size(builder)) } else { size(builder) });
    let replies: Vec<_> = (0..case.clients).map(|_| Shared::new(case.way, size)).collect();

    let to_requests = requests.invite();
    let to_replies: Vec<_> = replies.iter().map(Shared::invite).collect();
    let words: Vec<&str> = [&to_requests].into_iter().chain(&to_replies).map(|to| to.word.as_str()).collect();
    let server = Child::start(&format!("server {case} {}", words.join(" ")));
    requests.hand_to(&server);
    replies.iter().for_each(|ring| ring.hand_to(&server));
    let clients: Vec<_> = (0..case.clients as usize)
        .map(|number| {
            let client = Child::start(&format!("client {number} {case} {} {}", words[0], words[number + 1]));
            requests.hand_to(&client);
            replies[number].hand_to(&client);
            client
        })
        .collect();
    clients.iter().for_each(|client| server.tell(client.id().into()));
    drop((to_requests.inherited, to_replies));

    clients.into_iter().for_each(Child::finish);
    server.finish();
    let statistics = requests.ring.statistics();
    assert_eq!(
        (statistics.sent(), statistics.receiver.messages),
        (case.each() * case.clients, statistics.sent())
    );
    if common::long() {
        let sum =
            |of: fn(&ringpost::ParticipantStatistics) -> u64| statistics.senders.iter().map(of).sum::<u64>();
        println!(
            "{} requests and replies, {:.1} s; requests: receiver blocked {} slept {}, senders blocked {} slept {}",
            statistics.sent(),
            start.elapsed().as_secs_f64(),
            statistics.receiver.blocked,
            statistics.receiver.sleeps,
            sum(|sender| sender.blocked),
            sum(|sender| sender.sleeps),
        );
    }
}

macro_rules! cases {
    ($($name:ident: $way:ident, $clients:literal, $trusted:literal, $sleeps:literal, $cores:literal;)*) => {$(
        #[test]
        fn $name() {
            run(Case { way: Way::$way, clients: $clients, trusted: $trusted, sleeps: $sleeps, cores: $cores });
        }
    )*};
}

cases! {
    one_sender_by_name: Name, 1, false, false, 0;
    one_sender_by_name_in_place_on_one_core: Name, 1, true, false, 1;
    one_sender_inherited_on_two_cores: Inherit, 1, true, false, 2;
    one_sender_inherited_that_sleeps_on_one_core: Inherit, 1, false, true, 1;
    one_sender_passed: Pass, 1, true, true, 0;
    four_senders_by_name_in_place: Name, 4, true, false, 0;
    four_senders_inherited_on_one_core: Inherit, 4, false, false, 1;
    four_senders_inherited_that_sleep_on_two_cores: Inherit, 4, true, true, 2;
    four_senders_passed: Pass, 4, false, true, 0;
    eight_senders_on_two_cores: Inherit, 8, false, false, 2;
}

// ---- the two kinds of process, for each trust and each kind of sender ----

/// Reading and writing as the trust allows.
trait Style: Trust + Sized {
    fn of(ring: Ring) -> Ring<Self>;
    fn is(message: &Message<'_, Self>, bytes: &[u8]) -> bool;
    fn fill<K: SenderKind>(reservation: &mut Reservation<'_, Self, K>, bytes: &[u8]);
    fn add<K: SenderKind>(batch: &mut Batch<'_, Self, K>, letter: Letter<'_>) -> Result<(), SendError>;
}

impl Style for Untrusted {
    fn of(ring: Ring) -> Ring<Self> {
        ring
    }

    fn is(message: &Message<'_, Self>, bytes: &[u8]) -> bool {
        message.to_vec() == bytes
    }

    fn fill<K: SenderKind>(reservation: &mut Reservation<'_, Self, K>, bytes: &[u8]) {
        reservation.write_at(0, bytes);
    }

    fn add<K: SenderKind>(batch: &mut Batch<'_, Self, K>, letter: Letter<'_>) -> Result<(), SendError> {
        batch.push(letter.kind, letter.bytes)
    }
}

impl Style for Trusted {
    fn of(ring: Ring) -> Ring<Self> {
        // SAFETY: only processes of this test have the ring, and they use ringpost.
        unsafe { ring.trust_peers() }
    }

    fn is(message: &Message<'_, Self>, bytes: &[u8]) -> bool {
        **message == *bytes
    }

    fn fill<K: SenderKind>(reservation: &mut Reservation<'_, Self, K>, bytes: &[u8]) {
        reservation[..bytes.len()].copy_from_slice(bytes);
    }

    fn add<K: SenderKind>(batch: &mut Batch<'_, Self, K>, letter: Letter<'_>) -> Result<(), SendError> {
        batch.push_with(letter.kind, letter.bytes.len(), |room| room.copy_from_slice(letter.bytes))
    }
}

/// The number of a client, or none for the server.
struct Work {
    client: Option<u64>,
}

fn with_kinds(case_text: &str, rings: &[&str], line: &Line, work: Work) {
    let case = case(case_text);
    pin(case.cores);
    let rings = rings.iter().map(|word| open(word, line)).collect();
    match (case.trusted, case.many()) {
        (false, false) => work.run::<Untrusted, Single>(case, rings, line),
        (false, true) => work.run::<Untrusted, Many>(case, rings, line),
        (true, false) => work.run::<Trusted, Single>(case, rings, line),
        (true, true) => work.run::<Trusted, Many>(case, rings, line),
    }
}

/// Keeps this process on the first of its cores.
fn pin(cores: usize) {
    if cores == 0 {
        return;
    }
    let allowed = sched_getaffinity(None).unwrap();
    let mut chosen = CpuSet::new();
    (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).take(cores).for_each(|core| chosen.set(core));
    sched_setaffinity(None, &chosen).unwrap();
}

impl Work {
    fn run<P: Style, K: Attach>(self, case: Case, rings: Vec<Ring>, line: &Line) {
        let stream = Stream::new(rings[0].info().longest_message);
        let mut rings = rings.into_iter().map(P::of);
        let requests = rings.next().unwrap();
        match self.client {
            None => serve(case, &stream, &requests, &rings.collect::<Vec<_>>(), line),
            Some(number) => {
                let replies = rings.next().unwrap();
                thread::scope(|threads| {
                    let mut sender = K::attach(&requests).unwrap();
                    sender.set_wait(case.wait());
                    let stream = &stream;
                    threads.spawn(move || send_all(sender, case, stream, number));
                    check_all(&replies, case, stream, number);
                });
            }
        }
    }
}

/// Bytes of a batch.
const BATCH: usize = 16 << 10;

/// Sends all messages of one client, in all ways that there are.
fn send_all<P: Style, K: SenderKind>(mut sender: Sender<P, K>, case: Case, stream: &Stream, client: u64) {
    let mut number = 0;
    while number < case.each() {
        let letter = stream.letter(client, number);
        match letter.chance % 8 {
            0 => {
                drop(sender.reserve(letter.bytes.len() / 2).unwrap());
                let mut reservation = sender.reserve(letter.bytes.len()).unwrap();
                P::fill(&mut reservation, letter.bytes);
                reservation.set_kind(letter.kind);
                reservation.commit();
            }
            1 => {
                let longer = (letter.bytes.len() + 100).min(sender.longest_message());
                let mut reservation = sender.reserve(longer).unwrap();
                P::fill(&mut reservation, letter.bytes);
                reservation.truncate(letter.bytes.len());
                reservation.set_kind(letter.kind);
                reservation.commit();
            }
            2 if letter.bytes.len() < BATCH / 2 => {
                let mut batch = sender.batch(BATCH).unwrap();
                while number < case.each() && P::add(&mut batch, stream.letter(client, number)).is_ok() {
                    number += 1;
                }
                batch.commit();
                continue;
            }
            _ => sender.send_kind(letter.kind, letter.bytes).unwrap(),
        }
        number += 1;
    }
}

/// Receives the replies to one client.
fn check_all<P: Style>(replies: &Ring<P>, case: Case, stream: &Stream, client: u64) {
    let mut receiver = replies.receiver().unwrap();
    receiver.set_wait(case.wait());
    for number in 0..case.each() {
        let message = receiver.recv().unwrap();
        let letter = stream.letter(client, number);
        assert_eq!(message.kind(), letter.kind, "reply {number} to client {client}");
        assert!(P::is(&message, letter.bytes), "reply {number} to client {client}");
    }
    assert_eq!(receiver.recv().unwrap_err(), RecvError::Disconnected);
}

/// Checks each request and sends it back to its client.
fn serve<P: Style>(case: Case, stream: &Stream, requests: &Ring<P>, replies: &[Ring<P>], line: &Line) {
    let mut receiver = requests.receiver().unwrap();
    receiver.set_wait(case.wait());
    let mut senders: Vec<_> = replies.iter().map(|ring| ring.sender().unwrap()).collect();
    senders.iter_mut().for_each(|sender| sender.set_wait(case.wait()));
    let client_of: HashMap<_, _> = (0..case.clients).map(|client| (line.hear() as u32, client)).collect();
    let mut next = vec![0; replies.len()];
    loop {
        let message = match receiver.recv() {
            Ok(message) => message,
            Err(RecvError::Disconnected) if next.iter().all(|&count| count == case.each()) => break,
            // One client has ended before the next has attached.
            Err(RecvError::Disconnected) => {
                thread::yield_now();
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let client = client_of[&message.sender().pid];
        let number = &mut next[client as usize];
        let letter = stream.letter(client, *number);
        assert_eq!(message.kind(), letter.kind, "request {number} of client {client}");
        assert!(P::is(&message, letter.bytes), "request {number} of client {client}");
        senders[client as usize].send_kind(letter.kind, letter.bytes).unwrap();
        *number += 1;
    }
}

// ---- starts and restarts ----

/// Sends messages of the ring's only stream, each a copy; tells the number of each that was sent.
fn send_some(ring: &Ring, many: bool, numbers: Range<u64>, line: &Line) {
    if many {
        send_numbers(ring.multi_sender().unwrap(), numbers, line)
    } else {
        send_numbers(ring.sender().unwrap(), numbers, line)
    }
}

fn send_numbers<K: SenderKind>(mut sender: Sender<Untrusted, K>, numbers: Range<u64>, line: &Line) {
    let stream = Stream::new(sender.longest_message());
    for number in numbers {
        let letter = stream.letter(0, number);
        match sender.send_kind(letter.kind, letter.bytes) {
            Ok(()) => line.tell(number),
            Err(SendError::Disconnected) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Receives messages of the ring's only stream; tells the number of each.
fn receive_some(ring: &Ring, numbers: Range<u64>, line: &Line) {
    let mut receiver = ring.receiver().unwrap();
    let stream = Stream::new(receiver.longest_message());
    line.tell(u64::MAX);
    for number in numbers {
        check(&mut receiver, &stream, number);
        line.tell(number);
    }
}

fn check(receiver: &mut Receiver, stream: &Stream, number: u64) {
    let letter = stream.letter(0, number);
    let message = loop {
        match receiver.recv_timeout(FAR) {
            // The next sender has not come yet.
            Err(RecvError::Disconnected) => thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!((message.kind(), message.to_vec()), (letter.kind, letter.bytes.into()), "message {number}");
}

#[test]
fn a_receiver_that_starts_first_gets_the_first_message() {
    for (ring, kind) in small_rings() {
        let receiver = child_at(&ring, "receive", "0 100");
        assert_eq!(receiver.hear(), u64::MAX);
        let sender = child_at(&ring, "send", &format!("{kind} 0 100"));
        (0..100).for_each(|number| assert_eq!(receiver.hear(), number));
        receiver.finish();
        sender.finish();
    }
}

#[test]
fn what_a_sender_left_that_is_gone_is_received_and_then_the_end() {
    for (ring, kind) in small_rings() {
        child_at(&ring, "send", &format!("{kind} 0 20")).finish();
        let mut receiver = ring.ring.receiver().unwrap();
        let stream = Stream::new(receiver.longest_message());
        for number in 0..20 {
            check(&mut receiver, &stream, number);
        }
        assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
    }
}

#[test]
fn a_ring_outlives_its_senders() {
    for (ring, kind) in small_rings() {
        let receiver = child_at(&ring, "receive", "0 500");
        assert_eq!(receiver.hear(), u64::MAX);
        for first in (0..500).step_by(100) {
            let sender = child_at(&ring, "send", &format!("{kind} {first} {}", first + 100));
            (first..first + 100).for_each(|number| assert_eq!(receiver.hear(), number));
            sender.finish();
        }
        receiver.finish();
    }
}

#[test]
fn a_ring_outlives_its_receivers() {
    for (ring, kind) in small_rings() {
        let mut sent = 0;
        let mut received = 0;
        while received < 500 {
            let sender = child_at(&ring, "send", &format!("{kind} {sent} 1000"));
            // There before the receiver goes: one that comes later waits for the next.
            let is_there = |sender_of: &ringpost::ParticipantStatistics| {
                sender_of.attached && sender_of.pid == Some(sender.id())
            };
            while !ring.ring.statistics().senders.iter().any(is_there) {
                std::thread::yield_now();
            }
            let receiver = child_at(&ring, "receive", &format!("{received} {}", received + 100));
            assert_eq!(receiver.hear(), u64::MAX);
            receiver.finish();
            received += 100;
            // It goes on until it notices that the receiver has closed, or has sent what fits into the ring and more.
            sent = std::iter::from_fn(|| sender.next()).last().map_or(sent, |last| last + 1);
            sender.finish();
        }
        assert!(sent >= received);
    }
}

#[test]
fn a_message_names_its_sender_as_long_as_it_is_in_the_ring() {
    let ring = Shared::new(Way::Inherit, |builder| builder.many_senders(3));
    let mut receiver = ring.ring.receiver().unwrap();
    let mut senders = std::collections::VecDeque::new();
    for _ in 0..2 {
        let child = child_at(&ring, "batch", "");
        senders.extend([child.id(); 3]);
        child.finish();
    }
    // Whenever one message of a batch is gone, somebody comes who wants a slot.
    while let Some(pid) = senders.pop_front() {
        assert_eq!(receiver.try_recv().unwrap().sender().pid, pid);
        drop(ring.ring.multi_sender());
    }
}
