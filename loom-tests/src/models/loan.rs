//! Goal: the tail is lent to a sender, which reserves without a CAS, and is called back by others, at any access of each.
//! A sender that reserves behind its own record has the tail as a loan; slot 1 from its first record on.
//!
//! Legal outcomes: every message once, the order of each sender kept, nothing written over; whatever a kill leaves, exactly
//! what the dead had reserved and not committed is passed over, and the ring goes on.

use crate::{
    explore::{explore, explore_each, explore_every_kill, explore_large},
    harness::*,
    mortal::killed_at,
    ring::{
        loan::Tail,
        mpsc,
        recovery::{self, Pending},
    },
};
use loom::thread;

type MultiSender = Sender<mpsc::Producer>;

/// A ring whose tail is lent to the first of its senders, which has sent and was received.
fn lent<const SENDERS: usize>(length: u32) -> (Ring, [MultiSender; SENDERS], Receiver) {
    let ring = Ring::many(SENDERS as u8).lending();
    let mut number = 0;
    let mut senders = [(); SENDERS].map(|()| {
        number += 1;
        ring.multi_sender(process(number)).unwrap()
    });
    let mut receiver = ring.receiver(process(SENDERS as u32 + 1)).unwrap();
    senders[0].try_send(length, 9).unwrap();
    assert_eq!(receiver.try_receive().unwrap().value, 9);
    assert!(is_lent(&ring));
    (ring, senders, receiver)
}

fn is_lent(ring: &Ring) -> bool {
    ring.memory.senders().tail.peek() as u8 == 0
}

/// What is there now, released one by one.
fn receive_all(receiver: &mut Receiver) -> Vec<u64> {
    std::iter::from_fn(|| receiver.try_receive().ok()).map(|message| message.value).collect()
}

/// Receives and passes over until nothing is reserved any more.
fn drain(receiver: &mut Receiver) -> Vec<u64> {
    let mut received = Vec::new();
    loop {
        received.extend(receive_all(receiver));
        match receiver.resolve() {
            Pending::Empty => return received,
            Pending::PassedOver { .. } => {}
            // Committed between the last look and this one.
            Pending::LookAgain if receiver.sees_a_message() => {}
            stuck => panic!("{stuck:?} after {received:?}"),
        }
    }
}

/// Another one sends, and is received.
fn goes_on(sender: &mut MultiSender, receiver: &mut Receiver) {
    sender.try_send(0, 7).unwrap();
    assert_eq!(drain(receiver), [7]);
}

fn assert_one_of(received: &[u64], legal: &[&[u64]]) {
    assert!(legal.contains(&received), "{received:?}");
}

#[test]
fn a_loan_that_has_just_begun_is_called_back() {
    explore(|| {
        let ring = Ring::many(2).lending();
        let [mut one, mut two] = [1, 2].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(3)).unwrap();
        let borrowing = thread::spawn(move || one.try_send(SHORT, 1).unwrap());
        two.try_send(SHORT, 2).unwrap();
        borrowing.join().unwrap();
        assert_one_of(&receive_all(&mut receiver), &[&[1, 2], &[2, 1]]);
    });
}

#[test]
fn the_borrower_sends_while_another_calls_back() {
    explore(|| {
        let (_, [mut one, mut two], mut receiver) = lent(HALF);
        let borrowing = thread::spawn(move || one.try_send(HALF, 1).unwrap());
        two.try_send(HALF, 2).unwrap();
        borrowing.join().unwrap();
        assert_one_of(&receive_all(&mut receiver), &[&[1, 2], &[2, 1]]);
    });
}

#[test]
fn the_order_of_the_borrower_is_kept() {
    explore(|| {
        let (_, [mut one, mut two], mut receiver) = lent(0);
        let borrowing = thread::spawn(move || (1..=2).for_each(|value| one.try_send(0, value).unwrap()));
        two.try_send(SHORT, 3).unwrap();
        borrowing.join().unwrap();
        assert_one_of(&receive_all(&mut receiver), &[&[1, 2, 3], &[1, 3, 2], &[3, 1, 2]]);
    });
}

#[test]
fn all_is_received_beside_a_loan_that_is_called_back() {
    explore(|| {
        let (_, [mut one, mut two], mut receiver) = lent(HALF);
        let borrowing = thread::spawn(move || one.try_send(HALF, 1).unwrap());
        let recalling = thread::spawn(move || two.try_send(HALF, 2).unwrap());
        let mut received = receive_all(&mut receiver);
        borrowing.join().unwrap();
        recalling.join().unwrap();
        received.extend(receive_all(&mut receiver));
        assert_one_of(&received, &[&[1, 2], &[2, 1]]);
    });
}

#[test]
fn two_call_back_at_once() {
    explore(|| {
        let (_, [_one, mut two, mut three], mut receiver) = lent(HALF);
        let recalling = thread::spawn(move || two.try_send(HALF, 2).unwrap());
        three.try_send(HALF, 3).unwrap();
        recalling.join().unwrap();
        assert_one_of(&receive_all(&mut receiver), &[&[2, 3], &[3, 2]]);
    });
}

#[test]
fn two_call_back_while_the_borrower_sends() {
    explore(|| {
        let (_, [mut one, mut two, mut three], mut receiver) = lent(0);
        let borrowing = thread::spawn(move || one.try_send(0, 1).unwrap());
        let recalling = thread::spawn(move || two.try_send(0, 2).unwrap());
        three.try_send(0, 3).unwrap();
        borrowing.join().unwrap();
        recalling.join().unwrap();
        let mut received = receive_all(&mut receiver);
        received.sort_unstable();
        assert_eq!(received, [1, 2, 3]);
    });
}

#[test]
fn who_calls_back_late_leaves_the_next_loan_alone() {
    explore(|| {
        let (_, [mut one, mut two, mut three], mut receiver) = lent(0);
        let late = thread::spawn(move || two.try_send(0, 4).unwrap());
        three.try_send(0, 1).unwrap();
        one.try_send(0, 2).unwrap();
        one.try_send(0, 3).unwrap();
        late.join().unwrap();
        let received = receive_all(&mut receiver);
        assert_eq!(received.iter().filter(|&&value| value != 4).collect::<Vec<_>>(), [&1, &2, &3]);
        assert_eq!(received.len(), 4);
        goes_on(&mut one, &mut receiver);
        goes_on(&mut three, &mut receiver);
    });
}

#[test]
fn a_borrower_whose_loan_is_over_is_not_refused_where_there_is_room() {
    explore(|| {
        let (ring, [mut one, mut two], mut receiver) = lent(HALF);
        let others = thread::spawn(move || {
            two.try_send(HALF, 2).unwrap();
            two.try_send(HALF, 3).unwrap();
        });
        let memory = ring.memory.clone();
        let borrowing = thread::spawn(move || {
            // Behind its own tail, and nobody else sends any more.
            let all_received = memory.head().units() == 3 * HALF_UNITS;
            if all_received {
                one.try_send(HALF, 1).unwrap();
            }
            all_received
        });
        let mut received = receive_all(&mut receiver);
        let sent = borrowing.join().unwrap();
        others.join().unwrap();
        received.extend(receive_all(&mut receiver));
        assert_eq!(received, if sent { &[2, 3, 1][..] } else { &[2, 3] });
    });
}

#[test]
fn a_full_ring_is_full_for_a_borrower_too() {
    explore(|| {
        let (_, [mut one, mut two], mut receiver) = lent(HALF);
        one.try_send(HALF, 1).unwrap();
        let borrowing = thread::spawn(move || one.try_send(HALF, 3).is_ok());
        let others = two.try_send(HALF, 2).is_ok();
        let borrowers = borrowing.join().unwrap();
        assert!(others != borrowers);
        assert_eq!(receive_all(&mut receiver), [1, if others { 2 } else { 3 }]);
    });
}

#[test]
fn a_borrower_that_is_killed_at_every_access_leaves_what_others_send() {
    explore_every_kill(|accesses| {
        let (ring, [mut one, mut two], mut receiver) = lent(SHORT);
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || one.try_send(SHORT, 1).unwrap());
            ring.bury_quietly(process(1));
            killed
        });
        two.try_send(0, 2).unwrap();
        let killed = dying.join().unwrap();
        let received = drain(&mut receiver);
        assert_one_of(&received, if killed { &[&[2], &[1, 2], &[2, 1]] } else { &[&[1, 2], &[2, 1]] });
        goes_on(&mut two, &mut receiver);
        killed
    });
}

#[test]
fn a_borrower_is_recovered_from_while_another_calls_back() {
    explore_every_kill(|accesses| {
        let (ring, [mut one, mut two], mut receiver) = lent(0);
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || _ = one.try_reserve(0).unwrap());
            ring.bury_quietly(process(1));
            killed
        });
        let recalling = thread::spawn(move || {
            let reserved = two.try_reserve(SHORT).unwrap();
            (two, reserved)
        });
        receiver.resolve();
        let killed = dying.join().unwrap();
        let (mut two, reserved) = recalling.join().unwrap();
        two.commit(reserved, SHORT, 2);
        assert_eq!(drain(&mut receiver), [2]);
        goes_on(&mut two, &mut receiver);
        killed
    });
}

#[test]
fn who_calls_back_is_killed_at_every_access() {
    explore_every_kill(|accesses| {
        let (ring, [mut one, mut two, mut three], mut receiver) = lent(0);
        let dying = thread::spawn(move || {
            let killed = killed_at(accesses, || two.try_send(0, 2).unwrap());
            ring.bury_quietly(process(2));
            killed
        });
        one.try_send(SHORT, 1).unwrap();
        let killed = dying.join().unwrap();
        let received = drain(&mut receiver);
        assert_one_of(&received, if killed { &[&[1], &[1, 2], &[2, 1]] } else { &[&[1, 2], &[2, 1]] });
        goes_on(&mut one, &mut receiver);
        goes_on(&mut three, &mut receiver);
        killed
    });
}

#[test]
fn a_record_before_a_loan_is_passed_over_whoever_calls_back_is_killed() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(3).lending();
        let [mut one, mut two, mut three] =
            [1, 2, 3].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(4)).unwrap();
        three.try_reserve(0).unwrap();
        one.try_send(0, 1).unwrap();
        one.try_send(0, 2).unwrap();
        assert!(is_lent(&ring));
        let killed = killed_at(accesses, || two.try_send(0, 3).unwrap());
        ring.bury_quietly(process(2));
        ring.bury_quietly(process(3));
        assert_one_of(&drain(&mut receiver), if killed { &[&[1, 2], &[1, 2, 3]] } else { &[&[1, 2, 3]] });
        killed
    });
}

#[test]
fn the_record_with_which_a_loan_began_is_passed_over_whoever_calls_back_is_killed() {
    explore_every_kill(|accesses| {
        let ring = Ring::many(3).lending();
        let [mut one, mut two, mut three] =
            [1, 2, 3].map(|number| ring.multi_sender(process(number)).unwrap());
        let mut receiver = ring.receiver(process(4)).unwrap();
        one.try_reserve(SHORT).unwrap();
        assert!(is_lent(&ring));
        ring.bury_quietly(process(1));
        let killed = killed_at(accesses, || two.try_send(0, 2).unwrap());
        ring.bury_quietly(process(2));
        assert_one_of(&drain(&mut receiver), if killed { &[&[], &[2]] } else { &[&[2]] });
        goes_on(&mut three, &mut receiver);
        killed
    });
}

#[test]
fn a_tail_that_was_called_back_names_who_is_behind_it() {
    explore(|| {
        let (_, [_one, mut two], mut receiver) = lent(0);
        let recalling = thread::spawn(move || _ = two.try_reserve(SHORT).unwrap());
        let pending = receiver.resolve();
        assert!([Pending::Empty, Pending::Unfinished { slot: 2 }].contains(&pending), "{pending:?}");
        recalling.join().unwrap();
    });
}

/// Fails when somebody has reserved at the head and nobody's intent is there.
fn assert_shows_who_is_at_the_head(ring: &Ring) {
    let head = ring.memory.head();
    let tail = Tail::of(&ring.memory).position();
    if tail.is_some_and(|tail| tail != head) {
        let mut intents = ring.memory.all_slots().map(|(_, slot)| slot.intent_tail.peek() >> 8);
        assert!(intents.any(|at| at == head.units()), "{tail:?} shows nobody at the head");
    }
}

fn the_tail_shows_who_is_at_the_head(looks_first: bool) {
    explore_large(move || {
        let (ring, [mut one, mut two, mut three], _receiver) = lent(0);
        let borrowing = thread::spawn(move || _ = one.try_reserve(0).unwrap());
        let recalling = thread::spawn(move || _ = two.try_reserve(0).unwrap());
        let looking = thread::spawn(move || {
            if looks_first {
                assert_shows_who_is_at_the_head(&ring);
            }
            three.try_reserve(0).unwrap();
            assert_shows_who_is_at_the_head(&ring);
        });
        borrowing.join().unwrap();
        recalling.join().unwrap();
        looking.join().unwrap();
    });
}

#[test]
fn a_tail_behind_the_head_shows_the_intent_of_whoever_is_there() {
    the_tail_shows_who_is_at_the_head(true);
}

#[test]
fn who_puts_the_tail_back_shows_the_intent_that_ends_there() {
    the_tail_shows_who_is_at_the_head(false);
}

#[test]
fn what_a_borrower_committed_before_its_intent_is_not_taken_for_hidden() {
    explore(|| {
        let ring = Ring::many(1).asymmetric().lending();
        let mut one = ring.multi_sender(process(1)).unwrap();
        let mut receiver = ring.receiver(process(2)).unwrap();
        one.calm();
        one.try_send(0, 1).unwrap();
        receiver.try_receive().unwrap();
        assert!(is_lent(&ring));
        let sending = thread::spawn(move || {
            one.try_send(0, 2).unwrap();
            one.try_reserve(0).unwrap();
        });
        assert_eq!(recovery::hidden(&receiver.consumer), None);
        sending.join().unwrap();
    });
}

/// More accesses than a sender makes that calls back, or finds its loan called back.
const ACCESSES: u64 = 40;

#[test]
fn successors_come_and_send_wherever_two_have_died() {
    explore_each(0..ACCESSES * ACCESSES, |n| {
        let (ring, [mut one, mut two], mut receiver) = lent(0);
        killed_at((n / ACCESSES) as u32, || _ = two.try_reserve(0).unwrap());
        killed_at((n % ACCESSES) as u32, || _ = one.try_reserve(0).unwrap());
        ring.bury_quietly(process(1));
        ring.bury_quietly(process(2));
        assert_eq!(drain(&mut receiver), []);
        // Whoever comes calls back what is half called back, and that can be something to pass over.
        let first = ring.multi_sender(process(4));
        assert_eq!(drain(&mut receiver), []);
        let mut first = first.or_else(|_| ring.multi_sender(process(4))).unwrap();
        let mut second = ring.multi_sender(process(5)).unwrap();
        goes_on(&mut second, &mut receiver);
        goes_on(&mut first, &mut receiver);
    });
}

#[test]
fn the_tail_is_never_seen_where_it_was_not() {
    explore(|| {
        let (ring, [mut one, mut two, _three], _receiver) = lent(0);
        let recalling = thread::spawn(move || two.try_reserve(SHORT).unwrap().start.units());
        let memory = ring.memory.clone();
        let looking = thread::spawn(move || Tail::of(&memory).position().map(|tail| tail.units()));
        let own = one.try_reserve(0).unwrap().start.units();
        let (others, seen) = (recalling.join().unwrap(), looking.join().unwrap());
        let between = own.max(others);
        let legal = [None, Some(HEADER), Some(between), Some(HEADER + 5)];
        assert!(legal.contains(&seen), "{seen:?}, {own}, {others}");
    });
}
