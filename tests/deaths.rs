//! What is left when a process is killed, or stopped.
//!
//! A message of these tests carries its number. The short form kills each kind of process some tens of times, at whatever
//! instruction it is; the long form, `RINGPOST_LONG=1`, a thousand times.

mod common;

use common::{
    Child, FAR, Line,
    rings::{
        Shared, Way, acknowledging, all_acknowledged, attach_when_free, child_at, open, received_number,
        small_rings, until_it_sleeps,
    },
    stream::scatter,
};
use ringpost::{
    Builder, Many, Receiver, RecvError, Ring, SendError, Sender, SenderKind, Statistics, Untrusted,
    WaitStrategy,
};
use std::{
    any::Any,
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    iter::StepBy,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", ring, kind, first, step, ref most @ ..] => {
            let (ring, acknowledge) = (open(ring, &line), File::from(line.take()));
            let first = first.parse().unwrap();
            let end = most.first().map_or(u64::MAX, |most| first + most.parse::<u64>().unwrap());
            let numbers = (first..end).step_by(step.parse().unwrap());
            match kind {
                "one" => send_each(ring.sender().unwrap(), numbers, acknowledge),
                _ => send_each(attach_when_free::<Many>(&ring), numbers, acknowledge),
            }
            line.hear();
        }
        ["receive", ring] => {
            let (ring, mut acknowledge) = (open(ring, &line), File::from(line.take()));
            let mut receiver = ring.receiver().unwrap();
            line.tell(0);
            loop {
                let number = next_number(&mut receiver).unwrap();
                acknowledge.write_all(&number.to_ne_bytes()).unwrap();
            }
        }
        ["hold", ring, count, together] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            for _ in 0..count.parse::<u64>().unwrap() {
                next_number(&mut receiver).unwrap();
            }
            let together = together.parse().unwrap();
            let messages = receiver.recv_many(together).unwrap();
            assert_eq!(messages.iter().count(), together);
            line.tell(messages.iter().next().unwrap().sequence());
            line.hear();
        }
        ["reserve", ring] => reserve(&open(ring, &line), &line),
        ["batch", ring] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            let mut batch = sender.batch(1000).unwrap();
            (0..3).for_each(|number| batch.push(0, &payload(number)).unwrap());
            line.tell(0);
            line.hear();
        }
        ["attach", ring, "as", kind] => {
            let ring = open(ring, &line);
            let _attached: Box<dyn Any> = match kind {
                "receiver" => Box::new(ring.receiver().unwrap()),
                "one" => Box::new(ring.sender().unwrap()),
                _ => Box::new(ring.multi_sender().unwrap()),
            };
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    });
}

/// Message `number`: 8 to 600 bytes.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; 8 + (scatter(number) % 593) as usize];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Receives a message and gives its number.
fn next_number(receiver: &mut Receiver) -> Result<u64, RecvError> {
    received_number(receiver, payload)
}

/// Sends messages, all of a step at once; tells the number of the last each time.
fn send_each<K: SenderKind>(
    mut sender: Sender<Untrusted, K>,
    numbers: StepBy<Range<u64>>,
    mut acknowledge: File,
) {
    let step = numbers.clone().nth(1).unwrap() - numbers.clone().next().unwrap();
    for number in numbers {
        if step == 1 {
            sender.send(&payload(number)).unwrap();
        } else {
            let mut batch = sender.batch(step as usize * 624).unwrap();
            (number..number + step).for_each(|number| batch.push(0, &payload(number)).unwrap());
            batch.commit();
        }
        acknowledge.write_all(&(number + step - 1).to_ne_bytes()).unwrap();
    }
}

fn reserve(ring: &Ring, line: &Line) {
    let mut sender = ring.multi_sender().unwrap();
    let mut reservation = sender.reserve(payload(7).len()).unwrap();
    line.tell(0);
    line.hear();
    reservation.write_at(0, &payload(7));
    reservation.commit();
}

/// The last number that a killed child has acknowledged.
fn last_of(acknowledged: File) -> Option<u64> {
    all_acknowledged(acknowledged).pop()
}

/// Rounds of a test that kills once or twice a round.
fn rounds() -> u64 {
    if common::long() { 500 } else { 10 }
}

fn many_senders() -> Shared {
    Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(4))
}

fn after_a_moment(round: u64) {
    thread::sleep(Duration::from_micros(scatter(round) % 300));
}

// ---- senders ----

/// Kills a sender in mid-stream. Everything that it acknowledged must arrive, and then the news of its death.
fn kill_sender(ring: &Shared, receiver: &mut Receiver, kind: &str, first: u64, step: u64) {
    let (mut sender, acknowledged) = acknowledging(ring, "send", &format!("{kind} {first} {step}"));
    let before_the_kill = first + 1 + scatter(first) % 2000;
    let mut next = first;
    while next < before_the_kill {
        match next_number(receiver) {
            Ok(number) => assert_eq!(number, next),
            // Of the one before: this one has not come yet.
            Err(RecvError::PeerDied { pid, .. }) if pid != sender.id() => continue,
            Err(error) => panic!("{error}"),
        }
        next += 1;
    }
    after_a_moment(first);
    sender.kill();
    loop {
        match next_number(receiver) {
            Ok(number) => assert_eq!(number, next),
            Err(RecvError::PeerDied { pid, .. }) => break assert_eq!(pid, sender.id()),
            Err(error) => panic!("{error}"),
        }
        next += 1;
    }
    assert_eq!((next - first) % step, 0, "a batch is there whole or not at all");
    if let Some(last) = last_of(acknowledged) {
        assert!(next == last + 1 || next == last + 1 + step, "{last} was sent, {next} did not arrive");
    }
}

#[test]
fn a_killed_sender_loses_nothing_that_it_sent_and_its_successor_goes_on() {
    for (ring, kind) in small_rings() {
        let mut receiver = ring.ring.receiver().unwrap();
        for round in 0..rounds() {
            let step = [1, 4][round as usize % 2];
            kill_sender(&ring, &mut receiver, kind, round << 32, step);
        }
    }
}

#[test]
fn what_two_killed_senders_left_is_received_later_in_order() {
    for (ring, kind) in small_rings() {
        let mut sent = Vec::new();
        for round in 0..2 {
            let (mut sender, mut acknowledged) =
                acknowledging(&ring, "send", &format!("{kind} {} 1 50", round << 32));
            let mut ten = [0; 80];
            acknowledged.read_exact(&mut ten).unwrap();
            sender.kill();
            sent.push(last_of(acknowledged).unwrap_or((round << 32) + 9));
        }
        let mut receiver = ring.ring.receiver().unwrap();
        let received: Vec<u64> = std::iter::from_fn(|| next_number(&mut receiver).ok()).collect();
        let of_the_first = received.iter().take_while(|&&number| number < 1 << 32).count() as u64;
        let of_the_second = received.len() as u64 - of_the_first;
        assert!(
            received.iter().copied().eq((0..of_the_first).chain((0..of_the_second).map(|n| n + (1 << 32))))
        );
        assert!(of_the_first > sent[0] && of_the_second > sent[1] - (1 << 32), "{sent:?} {of_the_first}");
    }
}

// ---- receivers ----

#[test]
fn the_successor_of_a_killed_receiver_gets_the_first_message_that_was_not_released_again() {
    for (ring, kind) in small_rings() {
        let numbers = 0..20;
        if kind == "one" {
            let mut sender = ring.ring.sender().unwrap();
            numbers.for_each(|number| sender.send(&payload(number)).unwrap());
        } else {
            let mut sender = ring.ring.multi_sender().unwrap();
            numbers.for_each(|number| sender.send(&payload(number)).unwrap());
        }
        let mut first = 0;
        for (released, held) in [(3, 1), (5, 4)] {
            let mut holder = child_at(&ring, "hold", &format!("{released} {held}"));
            let sequence = holder.hear();
            first += released;
            holder.kill();
            let mut receiver = ring.ring.receiver().unwrap();
            let message = receiver.recv().unwrap();
            assert_eq!((message.sequence(), message.to_vec()), (sequence, payload(first)));
            drop(message);
            first += 1;
        }
        let mut receiver = ring.ring.receiver().unwrap();
        (first..20).for_each(|number| assert_eq!(next_number(&mut receiver), Ok(number)));
    }
}

#[test]
fn a_killed_receiver_has_released_what_it_said_and_its_successor_goes_on() {
    for (ring, kind) in small_rings() {
        let enough = AtomicBool::new(false);
        thread::scope(|threads| {
            let sender = threads.spawn(|| match kind {
                "one" => send_to_mortals(ring.ring.sender().unwrap(), &enough),
                _ => send_to_mortals(ring.ring.multi_sender().unwrap(), &enough),
            });
            let mut next = 0;
            for round in 0..rounds() {
                let (mut child, mut acknowledged) = acknowledging(&ring, "receive", "");
                child.hear();
                let mut some = vec![0; 8 * (scatter(round) % 250) as usize];
                acknowledged.read_exact(&mut some).unwrap();
                after_a_moment(round);
                child.kill();
                let told = next + some.len() as u64 / 8;
                let released = last_of(acknowledged).map_or(told, |last| last + 1);
                next = next_number(&mut ring.ring.receiver().unwrap()).unwrap();
                assert!(next == released || next == released + 1, "{released} were released, {next} is next");
                next += 1;
            }
            enough.store(true, Relaxed);
            let mut receiver = ring.ring.receiver().unwrap();
            let rest = std::iter::from_fn(|| next_number(&mut receiver).ok()).collect::<Vec<_>>();
            assert!(rest.iter().copied().eq(next..sender.join().unwrap()));
        });
    }
}

/// Sends to receivers that come, close and die; gives the number of messages.
fn send_to_mortals<K: SenderKind>(mut sender: Sender<Untrusted, K>, enough: &AtomicBool) -> u64 {
    let mut number = 0;
    while !enough.load(Relaxed) {
        match sender.send_timeout(&payload(number), FAR) {
            Ok(()) => number += 1,
            // Until the next has come.
            Err(SendError::PeerDied { .. } | SendError::Disconnected) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    number
}

/// Sends until that fails.
fn fill<K: SenderKind>(mut sender: Sender<Untrusted, K>) -> SendError {
    let start = Instant::now();
    let error = (0..).find_map(|number| sender.send_timeout(&payload(number), FAR).err()).unwrap();
    assert!(start.elapsed() < FAR, "only the deadline ended the wait");
    error
}

#[test]
fn a_sender_that_finds_no_room_learns_of_the_end_and_of_the_death_of_the_receiver() {
    for dies in [false, true] {
        for (ring, kind) in small_rings() {
            let mut receiver = child_at(&ring, "attach", "as receiver");
            receiver.hear();
            let its_pid = receiver.id();
            // There before the receiver goes.
            let ends = match kind {
                "one" => (Some(ring.ring.sender().unwrap()), None),
                _ => (None, Some(ring.ring.multi_sender().unwrap())),
            };
            if dies {
                receiver.kill();
            } else {
                receiver.tell(0);
                receiver.finish();
            }
            let found = match ends {
                (Some(one), _) => fill(one),
                (_, many) => fill(many.unwrap()),
            };
            match found {
                SendError::PeerDied { pid, unreceived } if dies => {
                    assert_eq!((pid, unreceived), (its_pid, ring.ring.statistics().high_water_bytes()));
                }
                found => assert_eq!((found, dies), (SendError::Disconnected, false)),
            }
        }
    }
}

// ---- killed or stopped in a reservation ----

/// A child that stands in a reservation.
fn child_in_a_reservation(ring: &Shared, role: &str) -> Child {
    let child = child_at(ring, role, "");
    child.hear();
    child
}

#[test]
fn a_sender_killed_in_its_reservation_is_passed_over() {
    for role in ["reserve", "batch"] {
        let ring = many_senders();
        let mut sender = ring.ring.multi_sender().unwrap();
        sender.send(&payload(1)).unwrap();
        let mut child = child_in_a_reservation(&ring, role);
        sender.send(&payload(2)).unwrap();
        child.kill();
        let mut receiver = ring.ring.receiver().unwrap();
        assert_eq!(next_number(&mut receiver), Ok(1));
        assert_eq!(next_number(&mut receiver), Ok(2));
        sender.send(&payload(3)).unwrap();
        assert_eq!(next_number(&mut receiver), Ok(3));
        drop(sender);
        assert!(matches!(
            next_number(&mut receiver),
            Err(RecvError::Disconnected | RecvError::PeerDied { .. })
        ));
    }
}

#[test]
fn several_in_a_row_are_passed_over_and_their_slots_come_free() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    for round in 0..2 * rounds() {
        let mut sender = ring.ring.multi_sender().unwrap();
        let mut children: Vec<_> = (0..3).map(|_| child_in_a_reservation(&ring, "reserve")).collect();
        sender.send(&payload(round)).unwrap();
        let order = [[0, 1, 2], [2, 1, 0], [1, 2, 0]][round as usize % 3];
        order.into_iter().for_each(|child| children[child].kill());
        assert_eq!(next_number(&mut receiver), Ok(round));
    }
}

#[test]
fn a_dead_reservation_with_nothing_behind_ends_in_the_news_of_the_death() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let mut child = child_in_a_reservation(&ring, "reserve");
    child.kill();
    let unfinished = ringpost::record_size(payload(7).len()) as u64;
    assert_eq!(next_number(&mut receiver), Err(RecvError::PeerDied { pid: child.id(), unfinished }));
    ring.ring.multi_sender().unwrap().send(&payload(5)).unwrap();
    assert_eq!(next_number(&mut receiver), Ok(5));
}

#[test]
fn a_receiver_that_sleeps_already_passes_over_what_a_killed_sender_reserved() {
    for sent_before in [true, false] {
        let ring = many_senders();
        let mut sender = ring.ring.multi_sender().unwrap();
        let mut child = child_in_a_reservation(&ring, "reserve");
        if sent_before {
            sender.send(&payload(6)).unwrap();
        }
        let mut receiver = ring.ring.receiver().unwrap();
        thread::scope(|threads| {
            let got = threads.spawn(|| next_number(&mut receiver));
            until_it_sleeps(&ring.ring);
            child.kill();
            if !sent_before {
                sender.send(&payload(6)).unwrap();
            }
            assert_eq!(got.join().unwrap(), Ok(6));
        });
    }
}

#[test]
fn a_receiver_that_sleeps_already_learns_of_the_death_of_its_last_sender() {
    for (ring, kind) in small_rings() {
        let mut child = child_at(&ring, "attach", &format!("as {kind}"));
        child.hear();
        let mut receiver = ring.ring.receiver().unwrap();
        thread::scope(|threads| {
            let got = threads.spawn(|| next_number(&mut receiver));
            until_it_sleeps(&ring.ring);
            child.kill();
            assert_eq!(got.join().unwrap(), Err(RecvError::PeerDied { pid: child.id(), unfinished: 0 }));
        });
    }
}

#[test]
fn a_sender_that_sleeps_already_learns_of_the_death_of_the_receiver() {
    for (ring, kind) in small_rings() {
        let mut child = child_at(&ring, "attach", "as receiver");
        child.hear();
        thread::scope(|threads| {
            let ring = &ring.ring;
            let got = threads.spawn(move || match kind {
                "one" => fill(ring.sender().unwrap()),
                _ => fill(ring.multi_sender().unwrap()),
            });
            until_it_sleeps(ring);
            child.kill();
            let error = got.join().unwrap();
            assert!(matches!(error, SendError::PeerDied { pid, .. } if pid == child.id()), "{error}");
        });
    }
}

#[test]
fn who_polls_for_ever_learns_of_the_end_and_of_a_death_too() {
    for (dies, side) in [(false, "one"), (true, "one"), (false, "receiver"), (true, "receiver")] {
        let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096));
        let mut child = child_at(&ring, "attach", &format!("as {side}"));
        child.hear();
        thread::scope(|threads| {
            let ring = &ring.ring;
            let found = threads.spawn(move || {
                if side == "receiver" {
                    let mut sender = ring.sender().unwrap();
                    sender.set_wait(WaitStrategy::Spin);
                    return fill(sender).to_string();
                }
                let mut receiver = ring.receiver().unwrap();
                receiver.set_wait(WaitStrategy::Spin);
                next_number(&mut receiver).unwrap_err().to_string()
            });
            let blocked = |statistics: Statistics| {
                statistics.receiver.blocked
                    + statistics.senders.iter().map(|sender| sender.blocked).sum::<u64>()
            };
            while blocked(ring.statistics()) == 0 {
                thread::yield_now();
            }
            let pid = child.id();
            if dies {
                child.kill();
            } else {
                child.tell(0);
                child.finish();
            }
            let expected = match (side, dies) {
                ("receiver", false) => SendError::Disconnected.to_string(),
                ("receiver", true) => {
                    format!("the receiver (process {pid}) died and left 3944 bytes in the ring")
                }
                (_, false) => RecvError::Disconnected.to_string(),
                (_, true) => RecvError::PeerDied { pid, unfinished: 0 }.to_string(),
            };
            assert_eq!(found.join().unwrap(), expected);
        });
    }
}

#[test]
fn a_stopped_sender_is_never_passed_over() {
    let ring = many_senders();
    let mut sender = ring.ring.multi_sender().unwrap();
    let child = child_in_a_reservation(&ring, "reserve");
    sender.send(&payload(8)).unwrap();
    child.stop();
    let mut receiver = ring.ring.receiver().unwrap();
    for _ in 0..10 {
        assert_eq!(receiver.recv_timeout(Duration::from_millis(20)).unwrap_err(), RecvError::TimedOut);
    }
    child.resume();
    child.tell(0);
    assert_eq!(next_number(&mut receiver), Ok(7));
    assert_eq!(next_number(&mut receiver), Ok(8));
    child.finish();
}

#[test]
fn senders_killed_at_any_instruction_lose_no_message_of_the_others() {
    let ring = many_senders();
    let mut receiver = ring.ring.receiver().unwrap();
    let total = 300 * rounds();
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut sender = ring.ring.multi_sender().unwrap();
            (0..total).for_each(|number| sender.send_timeout(&payload(number), FAR).unwrap());
        });
        let killer = threads.spawn(|| {
            for round in 1..=rounds() {
                let mut victims = BTreeSet::new();
                let mut children: Vec<_> = (0..3)
                    .map(|child| {
                        let first = (3 * round + child) << 32;
                        victims.insert(first);
                        acknowledging(&ring, "send", &format!("many {first} {}", 1 + round % 3))
                    })
                    .collect();
                for (number, (child, acknowledged)) in children.iter_mut().enumerate() {
                    let mut some = vec![0; 8 + 8 * (scatter(3 * round + number as u64) % 100) as usize];
                    acknowledged.read_exact(&mut some).unwrap();
                    after_a_moment(round);
                    child.kill();
                }
            }
        });
        let mut next = std::collections::HashMap::new();
        loop {
            match next_number(&mut receiver) {
                Ok(number) => {
                    let expected = next.entry(number >> 32).or_insert(number & !0xffff_ffff);
                    assert_eq!(number, *expected);
                    *expected += 1;
                }
                Err(RecvError::Disconnected | RecvError::PeerDied { .. }) if killer.is_finished() => break,
                Err(RecvError::Disconnected | RecvError::PeerDied { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(next[&0], total);
    });
}
