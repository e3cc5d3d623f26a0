//! Any number of senders and receivers, each message to exactly one: between real processes.

mod common;

use common::{
    Child, FAR, Line,
    rings::{Shared, Way, child_at, open},
    stream::scatter,
};
use ringpost::{
    Builder, Envelope, Fate, Letter, Mailbox, OpenError, Pick, Readiness, RecvError, Select, SendError,
    WaitStrategy,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Signal, kill_process},
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, thread, time::Duration};

assert_impl_all!(Mailbox: Send);
assert_impl_all!(Letter: Send);
assert_not_impl_any!(Mailbox: Clone);

fn office(messages: u32, set: impl Fn(Builder) -> Builder) -> Shared {
    Shared::new(Way::Name, |builder| set(builder.mailbox(messages).longest_message(256)))
}

/// Message `number` of sender `kind`: as long as that says, and each byte known.
fn letter(kind: u16, number: u64) -> Vec<u8> {
    let mut bytes = number.to_ne_bytes().to_vec();
    let mix = scatter(number ^ u64::from(kind) << 32);
    bytes.extend((0..mix % 200).map(|at| (mix >> (at % 56)) as u8));
    bytes
}

/// Its number, when every byte is as it was sent.
#[track_caller]
fn number(letter: &Letter) -> u64 {
    let bytes = letter.to_vec();
    let number = u64::from_ne_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == self::letter(letter.kind(), number), "kind {} number {number}", letter.kind());
    number
}

fn send(mailbox: &mut Mailbox, number: u64) {
    mailbox.send(1, &letter(1, number)).unwrap();
}

fn tag(letter: &Letter) -> u64 {
    u64::from(letter.kind()) << 40 | number(letter)
}

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mailbox = |ring| open(ring, &line).mailbox().unwrap();
    match words[..] {
        ["send", ring, kind, messages] => {
            let (mut mailbox, kind) = (mailbox(ring), kind.parse().unwrap());
            for number in 0..messages.parse().unwrap() {
                mailbox.send(kind, &letter(kind, number)).unwrap();
                line.tell(number);
            }
        }
        ["receive", ring] => {
            let mut mailbox = mailbox(ring);
            line.tell(0);
            loop {
                let letter = mailbox.recv(Pick::Any).unwrap();
                line.tell(tag(&letter));
            }
        }
        ["receive-kind", ring, kind] => {
            let (mut mailbox, kind) = (mailbox(ring), kind.parse().unwrap());
            mailbox.set_wait(WaitStrategy::Sleep);
            line.tell(0);
            loop {
                let letter = mailbox.recv(Pick::Kind(kind)).unwrap();
                assert_eq!(letter.kind(), kind);
                line.tell(number(&letter));
            }
        }
        ["receive-to-the-end", ring] => {
            let mut mailbox = mailbox(ring);
            line.tell(0);
            let end = loop {
                match mailbox.recv(Pick::Any) {
                    Ok(letter) => line.tell(number(&letter)),
                    Err(end) => break end,
                }
            };
            assert_eq!(end, RecvError::Disconnected);
        }
        ["hold", ring, messages] => {
            let mut mailbox = mailbox(ring);
            let held: Vec<_> =
                (0..messages.parse().unwrap()).map(|_| mailbox.recv(Pick::Any).unwrap()).collect();
            line.tell(held.len() as u64);
            line.hear();
        }
        ["fill", ring] => {
            let mut mailbox = mailbox(ring);
            let _blanks: Vec<_> = std::iter::from_fn(|| mailbox.try_reserve(10).ok()).collect();
            line.tell(_blanks.len() as u64);
            line.hear();
        }
        ["alone", ring] => {
            let mut mailbox = mailbox(ring);
            mailbox.receive_alone().unwrap();
            line.tell(0);
            line.hear();
        }
        ["both", ring, kind] => work(&mut mailbox(ring), &line, kind.parse().unwrap()),
        _ => panic!("no such role: {words:?}"),
    }
}

/// What is told of a message that was sent, beside its tag.
const SENT: u64 = 1 << 60;

/// Sends and receives in turns until it is killed, and tells of both: before a message is sent, and after one is received.
fn work(mailbox: &mut Mailbox, line: &Line, kind: u16) {
    let mut held = Vec::new();
    for number in 0_u64.. {
        let chance = scatter(number ^ u64::from(kind) << 20);
        if chance.is_multiple_of(2) {
            line.tell(SENT | u64::from(kind) << 40 | number);
            let envelope = Envelope { kind, priority: (chance >> 8) as u8 % 3 };
            let _ = mailbox.send_timeout(envelope, &letter(kind, number), Duration::from_millis(20));
        } else if let Ok(letter) = mailbox.recv_timeout(Pick::Any, Duration::from_millis(5)) {
            line.tell(tag(&letter));
            held.push(letter);
        }
        if held.len() > chance as usize / 16 % 4 {
            drop(held.swap_remove(chance as usize / 64 % held.len()));
        }
    }
}

#[test]
fn each_message_goes_to_exactly_one_of_three_receivers() {
    let (shared, messages) = (office(64, |builder| builder), if common::long() { 200_000 } else { 3_000 });
    let receivers: Vec<Child> = (0..3).map(|_| child_at(&shared, "receive", "")).collect();
    receivers.iter().for_each(|receiver| assert_eq!(receiver.hear(), 0));
    let senders: Vec<Child> =
        (1..=3).map(|kind| child_at(&shared, "send", &format!("{kind} {messages}"))).collect();
    let heard: Vec<Vec<u64>> = thread::scope(|threads| {
        for sender in &senders {
            threads.spawn(move || while sender.next().is_some() {});
        }
        let hearing = receivers
            .iter()
            .map(|receiver| threads.spawn(|| std::iter::from_fn(|| receiver.next()).collect()));
        let hearing: Vec<_> = hearing.collect();
        while shared.ring.statistics().receiver.messages < 3 * messages {
            thread::yield_now();
        }
        // The last ones are told of before they are done with.
        while shared.ring.mailbox().unwrap().occupancy().held > 0 {
            thread::yield_now();
        }
        receivers.iter().for_each(|receiver| kill_process(receiver.pid(), Signal::KILL).unwrap());
        hearing.into_iter().map(|heard| heard.join().unwrap()).collect()
    });
    senders.into_iter().for_each(Child::finish);
    for tags in &heard {
        // Each sender's messages come in order, and one receiver takes them in order.
        for kind in 1..=3 {
            let of_one: Vec<_> = tags.iter().filter(|&tag| tag >> 40 == kind).collect();
            assert!(of_one.is_sorted());
        }
    }
    let mut all: Vec<u64> = heard.concat();
    all.sort_unstable();
    let expected: Vec<u64> =
        (1..=3).flat_map(|kind| (0..messages).map(move |number| kind << 40 | number)).collect();
    assert_eq!(all, expected);
}

/// Kills one of several that send, receive and hold, again and again: nothing that was sent is lost, and only what a killed one
/// held comes twice.
#[test]
fn kills_lose_nothing_and_repeat_only_what_the_killed_held() {
    let kills = if common::long() { 3000 } else { 60 };
    let shared = office(16, |builder| builder.priorities(3));
    let (mut told, mut kind) = (BTreeMap::<u64, u32>::new(), 0);
    let mut maybe_sent = Vec::new();
    let mut start = || {
        kind += 1;
        child_at(&shared, "both", &kind.to_string())
    };
    let mut workers: Vec<Child> = (0..3).map(|_| start()).collect();
    let mut hear = |worker: &Child, last: &mut Vec<u64>| {
        while let Some(word) = worker.next() {
            match word & SENT {
                0 => *told.entry(word).or_default() += 1,
                _ => last.push(word & !SENT),
            }
        }
    };
    for round in 0..kills {
        thread::sleep(Duration::from_micros(scatter(round) % 3000));
        let mut victim = std::mem::replace(&mut workers[scatter(round) as usize % 3], start());
        kill_process(victim.pid(), Signal::KILL).unwrap();
        hear(&victim, &mut maybe_sent);
        victim.kill();
    }
    for mut worker in workers {
        kill_process(worker.pid(), Signal::KILL).unwrap();
        hear(&worker, &mut maybe_sent);
        worker.kill();
    }
    let mut mailbox = shared.ring.mailbox().unwrap();
    let mut rest = 0;
    while let Ok(letter) = mailbox.try_recv(Pick::Any) {
        *told.entry(tag(&letter)).or_default() += 1;
        rest += 1;
    }
    assert!(rest <= 16);
    let occupancy = mailbox.occupancy();
    assert_eq!((occupancy.waiting, occupancy.held, occupancy.processes.len()), (0, 0, 1));
    // A worker holds up to five at a time.
    let twice = told.values().map(|times| u64::from(*times) - 1).sum::<u64>();
    assert!(twice <= 5 * (kills + 3), "{twice} messages came again");
    assert!(told.keys().all(|tag| maybe_sent.contains(tag)), "a message that nobody has sent");
    assert!(told.len() as u64 > kills, "only {} messages in {kills} rounds", told.len());
    // All cells are free again.
    let blanks: Vec<_> = std::iter::from_fn(|| mailbox.try_reserve(1).ok()).collect();
    assert_eq!(blanks.len(), 16);
}

#[test]
fn what_a_killed_receiver_held_comes_again_at_its_old_place() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    (0..5).for_each(|number| send(&mut mailbox, number));
    let mut holder = child_at(&shared, "hold", "3");
    assert_eq!(holder.hear(), 3);
    assert_eq!(number(&mailbox.recv(Pick::Any).unwrap()), 3);
    holder.kill();
    // Whoever looks hears of it some time.
    while mailbox.browse(Pick::Any).len() < 4 {
        assert!(mailbox.try_recv(Pick::Kind(2)).is_err());
    }
    for expected in [0, 1, 2, 4] {
        let letter = mailbox.recv_timeout(Pick::Any, FAR).unwrap();
        assert_eq!((number(&letter), letter.tries()), (expected, u8::from(expected < 3)));
    }
    assert_eq!(mailbox.try_recv(Pick::Any).unwrap_err(), RecvError::Empty);
}

#[test]
fn a_receiver_that_sleeps_gets_what_a_killed_one_held() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    send(&mut mailbox, 7);
    let mut holder = child_at(&shared, "hold", "1");
    assert_eq!(holder.hear(), 1);
    let sleeper = child_at(&shared, "receive-kind", "1");
    assert_eq!(sleeper.hear(), 0);
    while shared.ring.statistics().readers.iter().all(|reader| reader.sleeps == 0) {
        thread::yield_now();
    }
    holder.kill();
    assert_eq!(sleeper.hear(), 7);
}

#[test]
fn a_sender_that_waits_gets_the_room_of_a_killed_one() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let mut filler = child_at(&shared, "fill", "");
    assert_eq!(filler.hear(), 8);
    assert_eq!(mailbox.try_send(1, b"").unwrap_err(), SendError::Full);
    assert_eq!(mailbox.send_timeout(1, b"", Duration::from_millis(1)).unwrap_err(), SendError::TimedOut);
    thread::scope(|threads| {
        let waiting = threads.spawn(|| mailbox.send_timeout(1, b"", FAR).map(drop));
        while shared.ring.statistics().senders.iter().all(|sender| sender.sleeps < 2) {
            thread::yield_now();
        }
        filler.kill();
        assert_eq!(waiting.join().unwrap(), Ok(()));
    });
}

#[test]
fn each_that_sleeps_for_a_kind_is_woken_for_it() {
    let shared = office(8, |builder| builder);
    let sleepers: Vec<Child> =
        (1..=4).map(|kind| child_at(&shared, "receive-kind", &kind.to_string())).collect();
    sleepers.iter().for_each(|sleeper| assert_eq!(sleeper.hear(), 0));
    let mut mailbox = shared.ring.mailbox().unwrap();
    let asleep = || shared.ring.statistics().readers.iter().map(|reader| reader.sleeps).sum::<u64>();
    let (mut slept, rounds) = (3, if common::long() { 100_000 } else { 300 });
    for round in 0..rounds {
        while asleep() <= slept {
            thread::yield_now();
        }
        slept = asleep();
        let kind = 1 + (scatter(round) % 4) as u16;
        mailbox.send(kind, &letter(kind, round)).unwrap();
        assert_eq!(sleepers[usize::from(kind) - 1].hear(), round);
    }
}

#[test]
fn receivers_pick_by_kind_and_priority_and_get_the_oldest_of_those() {
    let ring = ringpost::unnamed().mailbox(16).priorities(2).memfd().unwrap();
    let mut mailbox = ring.mailbox().unwrap();
    let sent = [(5, 0), (3, 0), (9, 1), (3, 1), (5, 1), (4, 0)];
    let send = |mailbox: &mut Mailbox| {
        for (number, (kind, priority)) in sent.into_iter().enumerate() {
            mailbox.send(Envelope { kind, priority }, &[number as u8]).unwrap();
        }
    };
    let picks = |mailbox: &mut Mailbox, pick| {
        let got = std::iter::from_fn(|| mailbox.try_recv(pick).ok().map(|letter| letter.to_vec()[0]));
        got.collect::<Vec<_>>()
    };
    for (pick, expected) in [
        (Pick::Any, vec![2, 3, 4, 0, 1, 5]),
        (Pick::Kind(3), vec![3, 1]),
        (Pick::Except(3), vec![2, 4, 0, 5]),
        (Pick::UpTo(4), vec![3, 1, 5]),
        (Pick::UpTo(2), vec![]),
    ] {
        send(&mut mailbox);
        let browsed: Vec<_> = mailbox.browse(pick).iter().map(|mail| mail.bytes[0]).collect();
        assert_eq!(browsed, expected, "{pick:?}");
        assert_eq!(picks(&mut mailbox, pick), expected, "{pick:?}");
        picks(&mut mailbox, Pick::Any);
    }
    let highest = mailbox.send(Envelope { kind: 1, priority: 2 }, b"").unwrap_err();
    assert_eq!(highest, SendError::NoSuchPriority { priority: 2, highest: 1 });
}

/// The first priority has used a cell and a ticket, to which the other comes later.
#[test]
fn a_message_is_not_taken_for_one_of_another_priority_that_lay_in_its_cell() {
    let ring = ringpost::unnamed().mailbox(64).priorities(2).memfd().unwrap();
    let (mut one, mut two) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    for _ in 0..200 {
        one.send(Envelope { kind: 7, priority: 1 }, b"seven").unwrap();
        assert_eq!(two.try_recv(Pick::Kind(7)).unwrap().priority(), 1);
        one.send(Envelope { kind: 8, priority: 0 }, b"eight").unwrap();
        assert_eq!(two.try_recv(Pick::Kind(7)).unwrap_err(), RecvError::Empty);
        assert_eq!(two.try_recv(Pick::Any).unwrap().to_vec(), b"eight");
    }
}

#[test]
fn what_was_sent_before_the_mailbox_was_closed_is_received_before_its_end() {
    for round in 0..300_u64 {
        let ring = ringpost::unnamed().mailbox(64).memfd().unwrap();
        let (mut sender, mut receiver) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
        let sent = thread::scope(|threads| {
            let sending = threads.spawn(move || {
                let sent = (0..).take_while(|_| sender.try_send(1, b"").is_ok()).count();
                if round % 2 == 0 {
                    sender.close_for_all();
                }
                (sent, sender)
            });
            let closing = ring.mailbox().unwrap();
            (0..round).for_each(|_| std::hint::spin_loop());
            closing.close_for_all();
            sending.join().unwrap().0
        });
        let received = std::iter::from_fn(|| receiver.recv(Pick::Any).ok().map(drop)).count();
        assert_eq!(received, sent, "all that was answered with Ok, and nothing else");
        assert_eq!(receiver.try_recv(Pick::Any).unwrap_err(), RecvError::Disconnected);
    }
}

#[test]
fn a_forked_child_takes_nothing_away_and_keeps_nobody_out() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sent = mailbox.send(1, &letter(1, 0)).unwrap();
    // SAFETY: the child makes no call that another thread's lock could stop, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = !mailbox.delete(&sent) && mailbox.receive_alone() == Err(RecvError::Forked);
        // SAFETY: ends this process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!((status, mailbox.fate(&sent)), (0, Fate::Waiting));
    assert_eq!(number(&shared.ring.mailbox().unwrap().recv(Pick::Any).unwrap()), 0);
}

#[test]
fn a_message_that_nobody_takes_holds_up_no_other() {
    let ring = ringpost::unnamed().mailbox(4).longest_message(8).memfd().unwrap();
    let mut mailbox = ring.mailbox().unwrap();
    mailbox.send(1, &0_u64.to_ne_bytes()).unwrap();
    mailbox.send(1, &1_u64.to_ne_bytes()).unwrap();
    for number in 2..1000_u64 {
        mailbox.try_send(2, &number.to_ne_bytes()).unwrap();
        assert_eq!(mailbox.try_recv(Pick::Kind(2)).unwrap().to_vec(), number.to_ne_bytes());
    }
    for number in 0..2_u64 {
        assert_eq!(mailbox.try_recv(Pick::Any).unwrap().to_vec(), number.to_ne_bytes());
    }
    assert_eq!(mailbox.try_recv(Pick::Any).unwrap_err(), RecvError::Empty);
}

#[test]
fn messages_are_held_and_released_in_any_order_and_given_back_to_their_place() {
    let ring = ringpost::unnamed().mailbox(8).memfd().unwrap();
    let (mut one, mut two) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    for number in 0..8 {
        one.send(0, &[number]).unwrap();
    }
    let mut held: Vec<_> = (0..4).map(|_| two.recv(Pick::Any).unwrap()).collect();
    drop(held.remove(1));
    one.try_send(0, &[8]).unwrap();
    assert_eq!(one.try_send(0, &[9]).unwrap_err(), SendError::Full);
    held.remove(0).give_back();
    let order: Vec<_> =
        std::iter::from_fn(|| one.try_recv(Pick::Any).ok()).map(|letter| letter.to_vec()[0]).collect();
    assert_eq!(order, [0, 4, 5, 6, 7, 8]);
    assert_eq!(held.iter().map(|letter| letter.to_vec()[0]).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn the_sender_can_learn_who_took_it() {
    let shared = office(2, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sent = mailbox.send(1, &letter(1, 0)).unwrap();
    assert_eq!(mailbox.fate(&sent), Fate::Waiting);
    let mut holder = child_at(&shared, "hold", "1");
    assert_eq!(holder.hear(), 1);
    assert_eq!(mailbox.fate(&sent), Fate::Held { pid: holder.id() });
    holder.kill();
    let own = mailbox.recv_timeout(Pick::Any, FAR).unwrap();
    assert_eq!(mailbox.fate(&sent), Fate::Held { pid: std::process::id() });
    drop(own);
    assert_eq!(mailbox.fate(&sent), Fate::Done { pid: std::process::id() });
    drop((mailbox.try_reserve(1).unwrap(), mailbox.try_reserve(1).unwrap()));
    assert_eq!(mailbox.fate(&sent), Fate::Forgotten);
}

#[test]
fn messages_that_are_browsed_stay_until_somebody_deletes_them() {
    let ring = ringpost::unnamed().mailbox(8).memfd().unwrap();
    let (mut one, mut two) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    for text in ["a", "b", "c"] {
        one.send(3, text.as_bytes()).unwrap();
    }
    let texts = |mailbox: &mut Mailbox| {
        let mails = mailbox.browse(Pick::Any).into_iter();
        mails.map(|mail| String::from_utf8(mail.bytes).unwrap()).collect::<String>()
    };
    assert_eq!(
        (texts(&mut one), texts(&mut two), texts(&mut one)),
        ("abc".into(), "abc".into(), "abc".into())
    );
    let b = one.browse(Pick::Any)[1].id;
    assert!(two.delete(&b) && !one.delete(&b));
    assert_eq!((texts(&mut one), one.occupancy().waiting), ("ac".into(), 2));
}

#[test]
fn a_message_is_browsed_once_also_while_it_is_laid_aside() {
    for _ in 0..if common::long() { 20_000 } else { 300 } {
        let ring = ringpost::unnamed().mailbox(4).memfd().unwrap();
        let (mut sender, mut other) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
        sender.send(1, b"stays").unwrap();
        thread::scope(|threads| {
            let sending = threads.spawn(move || {
                // An order has room for eight.
                for _ in 0..20 {
                    sender.send(2, b"goes").unwrap();
                    drop(sender.recv(Pick::Kind(2)).unwrap());
                }
            });
            while !sending.is_finished() {
                assert_eq!(other.browse(Pick::Kind(1)).len(), 1);
            }
        });
    }
}

#[test]
fn one_alone_receives_until_it_dies() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let mut alone = child_at(&shared, "alone", "");
    assert_eq!(alone.hear(), 0);
    send(&mut mailbox, 0);
    let refused = RecvError::NotTheReceiver { pid: alone.id() };
    assert_eq!(mailbox.recv(Pick::Any).unwrap_err(), refused);
    assert_eq!(mailbox.receive_alone().unwrap_err(), refused);
    alone.kill();
    while mailbox.try_recv(Pick::Any).is_err_and(|error| error == refused) {
        thread::yield_now();
    }
    mailbox.receive_alone().unwrap();
    let mut other = shared.ring.mailbox().unwrap();
    let refused = RecvError::NotTheReceiver { pid: std::process::id() };
    assert_eq!(other.try_recv(Pick::Any).unwrap_err(), refused);
    drop(mailbox);
    assert_eq!(other.try_recv(Pick::Any).unwrap_err(), RecvError::Empty);
}

#[test]
fn a_private_mailbox_has_two_seats_and_that_of_a_dead_one_is_free() {
    let shared = office(8, |builder| builder.seats(2));
    let _own = shared.ring.mailbox().unwrap();
    let mut other = child_at(&shared, "alone", "");
    assert_eq!(other.hear(), 0);
    assert!(matches!(shared.ring.mailbox().unwrap_err(), OpenError::TooManySeats { most: 2 }));
    other.kill();
    drop(shared.ring.mailbox().unwrap());
}

#[test]
fn a_stopped_process_holds_up_only_what_it_holds() {
    let shared = office(8, |builder| builder.priorities(3));
    let workers: Vec<Child> = (1..=2).map(|kind| child_at(&shared, "both", &kind.to_string())).collect();
    thread::scope(|threads| {
        for worker in &workers {
            threads.spawn(move || while worker.next().is_some() {});
        }
        let mut mailbox = shared.ring.mailbox().unwrap();
        for round in 0..if common::long() { 500 } else { 20 } {
            thread::sleep(Duration::from_micros(scatter(round) % 2000));
            workers[0].stop();
            for number in 0..50 {
                mailbox.send_timeout(9, &letter(9, number), FAR).unwrap();
                // Its own, or another's: something always comes.
                drop(mailbox.recv_timeout(Pick::Any, FAR).unwrap());
            }
            workers[0].resume();
        }
        workers.iter().for_each(|worker| kill_process(worker.pid(), Signal::KILL).unwrap());
    });
}

#[test]
fn a_mailbox_and_a_ring_are_not_taken_for_each_other() {
    let shared = office(8, |builder| builder);
    let wrong = |error: Option<OpenError>| matches!(error, Some(OpenError::Mismatch { .. }));
    let ring = &shared.ring;
    assert!(wrong(ring.sender().err()) && wrong(ring.multi_sender().err()) && wrong(ring.receiver().err()));
    assert!(wrong(ring.publisher().err()) && wrong(ring.subscriber().err()));
    assert!(wrong(ring.watcher(ringpost::Start::Now).err()));
    let plain = ringpost::unnamed().memfd().unwrap();
    assert!(wrong(plain.mailbox().err()));
    for (error, expected) in [
        (ringpost::unnamed().mailbox(0).memfd(), "number of messages"),
        (ringpost::unnamed().mailbox(65_537).memfd(), "number of messages"),
        (ringpost::unnamed().mailbox(8).priorities(33).memfd(), "number of priorities"),
        (ringpost::unnamed().mailbox(8).seats(64).memfd(), "number of seats"),
        (ringpost::unnamed().mailbox(8).capacity(4096).memfd(), "capacity"),
        (ringpost::unnamed().mailbox(8).broadcast(1).memfd(), "readers"),
    ] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_forked_child_leaves_its_parents_mailbox_alone() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    send(&mut mailbox, 0);
    let held = mailbox.recv(Pick::Any).unwrap();
    // SAFETY: the child makes no call that another thread's lock could stop, and leaves at once.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = mailbox.try_send(1, b"").err() == Some(SendError::Forked)
            && mailbox.try_recv(Pick::Any).err() == Some(RecvError::Forked);
        drop(held);
        // SAFETY: ends this process.
        unsafe { libc::_exit(if refused { 0 } else { 1 }) };
    }
    let mut status = 0;
    // SAFETY: a child of this process, and a local variable.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    assert_eq!((number(&held), mailbox.occupancy().held), (0, 1));
}

#[test]
fn frames_are_written_and_read_in_place() {
    let ring = ringpost::unnamed().mailbox(4).longest_message(640 * 480).in_process().unwrap();
    let (mut camera, mut screen) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    let mut frames: Vec<_> = (0..3).map(|_| camera.reserve(640 * 480).unwrap()).collect();
    for (number, frame) in frames.iter_mut().enumerate() {
        frame.fill(number as u8);
    }
    frames.swap(0, 2);
    for frame in frames {
        camera.commit(1, frame).unwrap();
    }
    let shown: Vec<_> = (0..3).map(|_| screen.recv(Pick::Any).unwrap()).collect();
    for (frame, expected) in shown.iter().zip([2, 1, 0]) {
        assert!(frame.len() == 640 * 480 && frame.iter().all(|&pixel| pixel == expected));
    }
}

/// One waits for a kind, beside a ring; another, in the same process, for any, by a descriptor. Whichever takes a message wakes the
/// other for what it left.
#[test]
fn a_mailbox_is_waited_for_beside_a_ring_and_by_a_descriptor() {
    let (shared, ring) = (office(8, |builder| builder.priorities(2)), ringpost::unnamed().memfd().unwrap());
    let mut select = Select::new();
    let sevens = select.add(shared.ring.mailbox().unwrap().picking(Pick::Kind(7))).unwrap();
    let bell = select.add(ring.receiver().unwrap()).unwrap();
    let mut any = Readiness::new(shared.ring.mailbox().unwrap()).unwrap();
    let rounds = if common::long() { 20_000 } else { 200 };
    let sending = child_at(&shared, "send", &format!("7 {rounds}"));
    let (mut expected, mut others) = (0, 0);
    let mut sender = ring.sender().unwrap();
    let mut other = shared.ring.mailbox().unwrap();
    thread::scope(|threads| {
        // Or it would wait until somebody hears it.
        threads.spawn(|| while sending.next().is_some() {});
        threads.spawn(|| {
            for number in 0..rounds {
                // Some that the other one takes, whoever was called.
                other.send(Envelope { kind: 8, priority: 1 }, &letter(8, number)).unwrap();
                loop {
                    any.arm().unwrap();
                    poll(&mut [PollFd::new(&any, PollFlags::IN)], None).unwrap();
                    match any.try_recv(Pick::Except(7)) {
                        Ok(letter) => {
                            assert_eq!(self::number(&letter), number);
                            others += 1;
                            break;
                        }
                        Err(error) => assert_eq!(error, RecvError::Empty),
                    }
                }
            }
            sender.send(b"done").unwrap();
        });
        loop {
            match select.wait_timeout(FAR).unwrap() {
                ready if ready == sevens => {
                    let letter = select[sevens].try_recv().unwrap();
                    assert_eq!((letter.kind(), number(&letter)), (7, expected));
                    expected += 1;
                }
                ready => {
                    assert!(ready == bell);
                    assert_eq!(select[bell].try_recv().unwrap().to_vec(), b"done");
                    break;
                }
            }
        }
        while expected < rounds {
            assert!(select.wait_timeout(FAR).unwrap() == sevens);
            assert_eq!(number(&select[sevens].try_recv().unwrap()), expected);
            expected += 1;
        }
    });
    assert_eq!(others, rounds);
    sending.finish();
}

/// A message calls one of those who sleep, so whoever is called and goes has to call the next.
#[test]
fn whoever_is_called_and_leaves_without_a_look_calls_another() {
    let shared = office(8, |builder| builder);
    let mut gone = (None, None);
    // Whoever takes a seat calls all, so this one comes first.
    let mut sender = shared.ring.mailbox().unwrap();
    let mut others: Vec<_> =
        (0..4).map(|_| Readiness::new(shared.ring.mailbox().unwrap()).unwrap()).collect();
    for mailbox in &mut others {
        assert!(!mailbox.arm().unwrap());
    }
    send(&mut sender, 0);
    while !others.is_empty() {
        let mut descriptors: Vec<_> =
            others.iter().map(|mailbox| PollFd::new(mailbox, PollFlags::IN)).collect();
        assert_ne!(poll(&mut descriptors, Some(&FAR.try_into().unwrap())).unwrap(), 0, "nobody is called");
        let called = descriptors.iter().position(|descriptor| descriptor.revents().contains(PollFlags::IN));
        let called = called.unwrap();
        drop(descriptors);
        let mut called = others.swap_remove(called);
        match others.len() {
            0 => assert_eq!(number(&called.try_recv(Pick::Any).unwrap()), 0),
            1 => drop(called),
            2 => gone.0 = Some(called.into_inner()),
            _ => {
                called.disarm();
                gone.1 = Some(called);
            }
        }
    }
}

#[test]
fn a_mailbox_that_is_closed_for_all_gives_what_is_left_and_then_says_so() {
    let shared = office(2, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sleeper = child_at(&shared, "receive-to-the-end", "");
    assert_eq!(sleeper.hear(), 0);
    while shared.ring.statistics().readers.iter().all(|reader| reader.sleeps == 0) {
        thread::yield_now();
    }
    send(&mut mailbox, 5);
    assert_eq!(sleeper.hear(), 5);
    mailbox.close_for_all();
    sleeper.finish();
    assert_eq!(mailbox.try_send(1, b"").unwrap_err(), SendError::Disconnected);
    assert_eq!(mailbox.recv(Pick::Any).unwrap_err(), RecvError::Disconnected);
}

#[test]
fn the_shapes_of_both_kinds_of_queues_say_what_their_manuals_say() {
    use ringpost::{posix, sysv};
    use std::io::ErrorKind;
    let key = std::process::id() as i32;
    assert_eq!(sysv::msgget(key, 0).unwrap_err().kind(), ErrorKind::NotFound);
    let mut queue = sysv::msgget(key, sysv::IPC_CREAT | 0o600).unwrap();
    let again = sysv::msgget(key, sysv::IPC_CREAT | sysv::IPC_EXCL | 0o600).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let mut other = sysv::msgget(key, 0).unwrap();
    sysv::msgsnd(&mut queue, 7, b"seven bytes and more", sysv::IPC_NOWAIT).unwrap();
    assert_eq!(sysv::msgsnd(&mut queue, 0, b"", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(sysv::msgsnd(&mut queue, 1 << 16, b"", 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut text = [0; 5];
    let short = sysv::msgrcv(&mut other, &mut text, 0, sysv::IPC_NOWAIT).unwrap_err();
    assert_eq!((short.kind(), sysv::stat(&queue).msg_qnum), (ErrorKind::ArgumentListTooLong, 1));
    let none = sysv::msgrcv(&mut other, &mut text, 6, sysv::IPC_NOWAIT).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::WouldBlock);
    let cut = sysv::msgrcv(&mut other, &mut text, 7, sysv::IPC_NOWAIT | sysv::MSG_NOERROR).unwrap();
    assert_eq!((cut, &text), ((7, 5), b"seven"));
    sysv::remove(queue).unwrap();
    assert_eq!(sysv::msgsnd(&mut other, 1, b"", 0).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(sysv::msgrcv(&mut other, &mut text, 0, 0).unwrap_err().kind(), ErrorKind::NotConnected);
    assert_eq!(sysv::msgget(key, 0).unwrap_err().kind(), ErrorKind::NotFound);

    let name = format!("/test-{}", std::process::id());
    assert_eq!(posix::mq_open(&name, posix::O_RDWR, 0, None).unwrap_err().kind(), ErrorKind::NotFound);
    let flags = posix::O_RDWR | posix::O_CREAT | posix::O_EXCL | posix::O_NONBLOCK;
    let mut queue = posix::mq_open(&name, flags, 0o600, None).unwrap();
    assert_eq!(posix::mq_open(&name, flags, 0o600, None).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(posix::mq_open("no-slash", flags, 0o600, None).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut reader = posix::mq_open(&name, posix::O_RDONLY, 0, None).unwrap();
    assert_eq!(posix::mq_send(&mut reader, b"", 0).unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(posix::mq_send(&mut queue, b"", 32).unwrap_err().kind(), ErrorKind::InvalidInput);
    for priority in [3, 9, 3] {
        posix::mq_send(&mut queue, &[priority], priority).unwrap();
    }
    let attributes = posix::mq_getattr(&queue);
    assert_eq!((attributes.mq_curmsgs, attributes.mq_maxmsg, attributes.mq_msgsize), (3, 16, 8192));
    let mut text = vec![0; 8192];
    assert_eq!(posix::mq_receive(&mut reader, &mut text[1..]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(posix::mq_receive(&mut reader, &mut text).unwrap(), (1, 9));
    (0..15).for_each(|_| posix::mq_send(&mut queue, b"full", 0).unwrap_or(()));
    assert_eq!(posix::mq_send(&mut queue, b"", 0).unwrap_err().kind(), ErrorKind::WouldBlock);
    posix::mq_unlink(&name).unwrap();
    assert_eq!(posix::mq_unlink(&name).unwrap_err().kind(), ErrorKind::NotFound);
    let far = posix::mq_timedreceive(&mut reader, &mut text, FAR).unwrap();
    assert_eq!(far, (1, 3));
    while posix::mq_timedreceive(&mut reader, &mut text, Duration::from_millis(1)).is_ok() {}
    let timed_out = posix::mq_timedreceive(&mut reader, &mut text, Duration::from_millis(1)).unwrap_err();
    assert_eq!(timed_out.kind(), ErrorKind::TimedOut);
}

/// Random bytes in a mailbox at work: errors or wrong bytes, no panic, and nobody stays in a loop.
#[test]
fn hostile_words_give_errors_and_no_panic() {
    for round in 0..if common::long() { 2000 } else { 40 } {
        be_damaged(round);
    }
}

fn be_damaged(seed: u64) {
    let shared = office(8, |builder| builder.priorities(2));
    let mut mailbox = shared.ring.mailbox().unwrap();
    let file = File::options().read(true).write(true).open(shared.ring.path().unwrap()).unwrap();
    let (length, mut chance) = (file.metadata().unwrap().len(), seed);
    for round in 0..100_u64 {
        chance = scatter(chance ^ round);
        // Not the seat's own claim and alarm: without those it is not attached.
        let at = 8192 + 512 + 2 * 256 + chance % (length - 8192 - 512 - 2 * 256);
        let word = [0, u64::MAX, chance, 1 << (chance % 64)][round as usize % 4];
        file.write_at(&word.to_ne_bytes(), at & !7).unwrap();
        let envelope = Envelope { kind: chance as u16 % 4, priority: (chance % 2) as u8 };
        let _ = mailbox.try_send(envelope, &[0; 100]);
        let picks = [Pick::Any, Pick::Kind(1), Pick::Except(2), Pick::UpTo(2)];
        if let Ok(letter) = mailbox.try_recv(picks[chance as usize % 4]) {
            let _ = (letter.to_vec(), letter.kind(), letter.sender(), letter.tries());
            if chance.is_multiple_of(8) {
                letter.give_back();
            }
        }
        let _ = (mailbox.browse(Pick::Any), mailbox.occupancy());
    }
}

#[test]
fn tickets_in_any_order_are_browsed_without_a_panic() {
    let shared = office(64, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    (0..64).for_each(|number| send(&mut mailbox, number));
    // Receivers look for what lies aside from now on.
    mailbox.recv(Pick::Any).unwrap().give_back();
    let file = File::options().read(true).write(true).open(shared.ring.path().unwrap()).unwrap();
    let length = file.metadata().unwrap().len();
    // Every word that looks like the state of a cell with a message: ready and aside, with a ticket of any size.
    let mut damaged = 0;
    for at in (0..length).step_by(8).filter(|at| *at >= 8192 + 512 + 63 * 256) {
        let mut word = [0; 8];
        file.read_at(&mut word, at).unwrap();
        let state = u64::from_ne_bytes(word);
        if state & 7 == 2 && state >> 9 & 0x3f == 1 {
            let ticket = scatter(at) << 25;
            file.write_at(&(ticket | state & 0x1ff_ffff | 4).to_ne_bytes(), at).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged >= 63, "{damaged}");
    assert!(shared.ring.mailbox().unwrap().browse(Pick::Any).len() >= 63);
}
