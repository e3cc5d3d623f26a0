//! Handing over: a rendezvous, and messages whose sender wants to know that they were taken. Whoever is killed or stopped, and
//! at whichever instruction: both sides say the same of the message.

use super::{
    common::{self, FAR, Line},
    judge::{self, CAPACITY, Dead, MANY},
    starts,
    study::{Study, kill_at_each_change, study},
    victim::{OWN, message, serve_each, stepped},
};
use ringpost::{
    Many, NotTaken, OneReceiver, OpenError, Receipt, Receiver, RecvError, RendezvousSender, Ring, SendError,
    Single, Untrusted,
};
use std::{
    thread,
    time::{Duration, Instant},
};

const LENGTH: usize = 20;

/// What the victim does between its marks, after it has attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Act {
    /// Offers a message, and takes it back when nobody has taken it at once.
    Offer,
    /// Receives and releases.
    Receive,
    /// Receives, and leaks it.
    Leak,
    /// Closes as the receiver.
    Hush,
}

impl Act {
    const ALL: [Self; 4] = [Self::Offer, Self::Receive, Self::Leak, Self::Hush];

    fn code(self) -> u64 {
        Self::ALL.iter().position(|&act| act == self).unwrap() as u64
    }
}

/// What a sender of a rendezvous was told of its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Taken,
    TakenBack,
    InHand,
}

impl Told {
    const ALL: [Self; 3] = [Self::Taken, Self::TakenBack, Self::InHand];

    fn of(sent: Result<(), SendError>) -> Self {
        match sent {
            Ok(()) => Self::Taken,
            Err(SendError::TimedOut | SendError::Disconnected) => Self::TakenBack,
            Err(SendError::PeerDied { unreceived: 0, .. }) => Self::TakenBack,
            Err(SendError::InHand | SendError::PeerDied { .. }) => Self::InHand,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The victim.
pub fn serve(line: &Line) {
    serve_each(line, |code, ring| {
        let act = Act::ALL[code as usize];
        match (act, ring.info().many_senders) {
            (Act::Offer, None) => offer(ring.rendezvous_sender().unwrap(), line),
            (Act::Offer, Some(_)) => offer(ring.rendezvous_multi_sender().unwrap(), line),
            _ => receive(act, ring.receiver().unwrap(), line),
        }
    });
}

fn offer<K: OneReceiver>(mut sender: RendezvousSender<Untrusted, K>, line: &Line) -> u64 {
    let bytes = message(OWN, LENGTH);
    let sent = stepped(line, || sender.send_timeout(&bytes, Duration::ZERO));
    let told = Told::of(sent);
    Told::ALL.iter().position(|&other| other == told).unwrap() as u64
}

fn receive(act: Act, mut receiver: Receiver, line: &Line) -> u64 {
    match act {
        Act::Receive => stepped(line, || drop(receiver.try_recv().map(|message| message.to_vec()))),
        Act::Leak => stepped(line, || std::mem::forget(receiver.try_recv())),
        _ => stepped(line, || drop(receiver)),
    }
    0
}

fn ring(many: bool, rendezvous: bool, start: u64) -> Ring {
    let builder = ringpost::unnamed().capacity(8 * CAPACITY).start_position(start);
    let builder = if many { builder.many_senders(MANY) } else { builder };
    if rendezvous { builder.rendezvous() } else { builder }.memfd().unwrap()
}

/// A ring at which the receiver is to be killed, and who has sent there.
struct Cast<T> {
    ring: Ring,
    from: T,
}

impl<T> AsRef<Ring> for Cast<T> {
    fn as_ref(&self) -> &Ring {
        &self.ring
    }
}

/// Each of these in a ring with one sender, and in one with many: the first one alone, unless the long form is asked for.
fn both<T: Copy, const N: usize>(all: [T; N]) -> impl Iterator<Item = (bool, T)> {
    let with_many = if common::long() { N } else { 1 };
    let many = all.into_iter().take(with_many).map(|one| (true, one));
    all.map(|one| (false, one)).into_iter().chain(many)
}

/// What there is to receive: numbers of messages, each byte of which is checked.
fn received(receiver: &mut Receiver) -> (Vec<u64>, RecvError) {
    let mut numbers = Vec::new();
    loop {
        match receiver.try_recv() {
            Ok(found) => {
                let is_same = |number: &u64| message(*number, LENGTH) == found.to_vec();
                numbers.push([1, OWN].into_iter().find(is_same).expect("a message that nobody has sent"));
            }
            Err(error) => return (numbers, error),
        }
    }
}

/// Hands a message over; the sender, which waits, is in a thread of its own.
fn send_in_a_thread(ring: &Ring, number: u64) -> thread::JoinHandle<Result<(), SendError>> {
    fn hand_over<K: OneReceiver>(
        sender: Result<RendezvousSender<Untrusted, K>, OpenError>,
        number: u64,
    ) -> impl FnOnce() -> Result<(), SendError> + Send
    where
        RendezvousSender<Untrusted, K>: Send,
    {
        let mut sender = sender.unwrap();
        move || sender.send_timeout(&message(number, LENGTH), FAR)
    }
    match ring.info().many_senders {
        None => thread::spawn(hand_over::<Single>(ring.rendezvous_sender(), number)),
        Some(_) => thread::spawn(hand_over::<Many>(ring.rendezvous_multi_sender(), number)),
    }
}

/// Waits until a sender of this ring sleeps, so that its message is on offer.
fn wait_for_an_offer(ring: &Ring) {
    let begun = Instant::now();
    while ring.statistics().senders.iter().all(|sender| sender.sleeps == 0) {
        assert!(begun.elapsed() < FAR, "nobody offers anything");
        thread::yield_now();
    }
}

/// Hands three messages over, from a new sender to a new receiver.
fn use_it(ring: &Ring, receiver: &mut Receiver) {
    for _ in 0..3 {
        let (sender, begun) = (send_in_a_thread(ring, OWN), Instant::now());
        loop {
            match receiver.try_recv() {
                Ok(found) => break assert_eq!(found.to_vec(), message(OWN, LENGTH)),
                // The last death is told until the sender has come.
                Err(_) => assert!(begun.elapsed() < FAR, "nothing comes"),
            }
            thread::yield_now();
        }
        assert_eq!(sender.join().unwrap(), Ok(()));
    }
}

/// Kills a sender, and everybody else too if `all`; lets successors go on with these bytes. Gives whether its message was there.
fn offered(many: bool, bytes: &[u8], victim: u32, dead: &Dead, all: bool) -> bool {
    let ring = judge::ring_without(victim, all, bytes, dead);
    let mut receiver = ring.receiver().unwrap();
    let (mut numbers, begun) = (Vec::new(), Instant::now());
    loop {
        let (more, end) = received(&mut receiver);
        numbers.extend(more);
        // A reservation of the victim is passed over once its death is known.
        let knows = match all {
            true => matches!(end, RecvError::PeerDied { .. } | RecvError::Disconnected),
            false => !many || receiver.next_death().is_some(),
        };
        if knows {
            break;
        }
        assert!(begun.elapsed() < FAR, "nobody told of the death");
        thread::yield_now();
    }
    numbers.extend(received(&mut receiver).0);
    let own = numbers.contains(&OWN);
    let expected: Vec<u64> = many.then_some(1).into_iter().chain(own.then_some(OWN)).collect();
    assert_eq!(numbers, expected);
    use_it(&ring, &mut receiver);
    own
}

#[test]
fn a_sender_of_a_rendezvous_is_killed_at_every_instruction() {
    study("offering", "rendezvous", 1, |study, chance| {
        for start in starts(chance) {
            for many in [false, true] {
                let ring = ring(many, true, start);
                // Who waits before the victim, and lives.
                let other = many.then(|| send_in_a_thread(&ring, 1));
                if many {
                    wait_for_an_offer(&ring);
                }
                let mut history = Vec::new();
                let told =
                    study.watch("Offer", Act::Offer.code(), &ring, Some(|| {}), |bytes, victim, dead| {
                        let own = offered(many, bytes, victim, dead, true);
                        assert_eq!(own, offered(many, bytes, victim, dead, false));
                        history.push(own);
                    });
                history.dedup();
                assert_eq!(history, [false, true, false], "there as long as it was on offer");
                assert_eq!(Told::ALL[told as usize], Told::TakenBack);
                let mut receiver = ring.receiver().unwrap();
                assert_eq!(received(&mut receiver).0, Vec::from_iter(many.then_some(1)));
                if let Some(other) = other {
                    assert_eq!(other.join().unwrap(), Ok(()));
                }
            }
        }
    });
}

/// What the receiver does while the sender stands still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meanwhile {
    Release,
    /// Receives, and does no more.
    Hold,
    Close,
    CloseHolding,
}

/// What the receiver had of the message when the sender was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Got {
    Nothing,
    Held,
    Released,
}

/// The receiver does its part, and the sender goes on.
fn meet(mut receiver: Receiver, meanwhile: Meanwhile, go_on: impl FnOnce() -> Told) -> (Told, Got) {
    let held = |got| if got { Got::Held } else { Got::Nothing };
    match meanwhile {
        Meanwhile::Release => {
            let got = if receiver.try_recv().is_ok() { Got::Released } else { Got::Nothing };
            (go_on(), got)
        }
        Meanwhile::Hold => {
            let message = receiver.try_recv();
            let (told, got) = (go_on(), held(message.is_ok()));
            std::mem::forget(message);
            (told, got)
        }
        Meanwhile::Close => {
            drop(receiver);
            (go_on(), Got::Nothing)
        }
        Meanwhile::CloseHolding => {
            let message = receiver.try_recv();
            let got = held(message.is_ok());
            std::mem::forget(message);
            drop(receiver);
            (go_on(), got)
        }
    }
}

#[test]
fn both_sides_of_a_rendezvous_agree_wherever_the_sender_is_stopped() {
    let meanwhiles = [Meanwhile::Release, Meanwhile::Hold, Meanwhile::Close, Meanwhile::CloseHolding];
    let mut study = Study::new("rendezvous");
    let stride = if common::long() { 20 } else { 400 };
    for (many, meanwhile) in both(meanwhiles) {
        let (mut nth, mut beyond) = (0, 0);
        loop {
            let ring = ring(many, true, starts(nth)[0]);
            let receiver = ring.receiver().unwrap();
            let is_stopped = study.stop_at(nth, Act::Offer.code(), &ring);
            let is_between = is_stopped && study.step_on(beyond, &ring);
            let (told, got) = meet(receiver, meanwhile, || Told::ALL[study.finish() as usize]);
            let left = received(&mut ring.receiver().unwrap()).0;
            let agreed = match told {
                Told::Taken => got == Got::Released && left.is_empty(),
                Told::TakenBack => got == Got::Nothing && left.is_empty(),
                Told::InHand => got == Got::Held && left == [OWN],
            };
            let place = format!("change {nth} and {beyond} instructions, many: {many}");
            assert!(agreed, "{meanwhile:?}, {place}: {told:?}, {got:?}, then {left:?}");
            if !is_stopped {
                break;
            }
            // Between its changes it looks at what the receiver has changed.
            let matters = got != Got::Nothing && (common::long() || meanwhile == Meanwhile::Release);
            (nth, beyond) = if is_between && matters { (nth, beyond + stride) } else { (nth + 1, 0) };
        }
    }
}

#[test]
fn a_waiting_sender_and_the_successor_agree_wherever_the_receiver_of_a_rendezvous_is_killed() {
    let acts = [(Act::Receive, Told::Taken), (Act::Leak, Told::InHand), (Act::Hush, Told::TakenBack)];
    for (many, (act, in_the_end)) in both(acts) {
        let prepare = |nth, _: &_| {
            let ring = ring(many, true, starts(nth)[0]);
            let sender = send_in_a_thread(&ring, OWN);
            wait_for_an_offer(&ring);
            Cast { ring, from: sender }
        };
        kill_at_each_change(
            "rendezvous",
            act.code(),
            prepare,
            |Cast { ring, from: sender }, nth, is_stopped| {
                let told = Told::of(sender.join().unwrap());
                let mut successor = ring.receiver().unwrap();
                let left = received(&mut successor).0;
                let expected = Vec::from_iter((told == Told::InHand).then_some(OWN));
                assert_eq!(left, expected, "{act:?}, change {nth}, many: {many}: {told:?}");
                assert!(told != Told::Taken || act == Act::Receive, "nobody took it");
                use_it(&ring, &mut successor);
                if !is_stopped {
                    assert_eq!(told, in_the_end);
                }
            },
        );
    }
}

/// Sends a message, and closes.
fn acknowledged(ring: &Ring) -> Receipt {
    let message = message(OWN, LENGTH);
    match ring.info().many_senders {
        None => ring.sender().unwrap().send_acknowledged(&message).unwrap(),
        Some(_) => ring.multi_sender().unwrap().send_acknowledged(&message).unwrap(),
    }
}

#[test]
fn a_receipt_and_the_successor_agree_wherever_the_receiver_is_killed() {
    let gone = |taken: Result<_, _>| matches!(taken, Err(NotTaken::PeerDied { .. } | NotTaken::Disconnected));
    for (many, act) in both([Act::Receive, Act::Leak, Act::Hush]) {
        let prepare = |nth, _: &_| {
            let ring = ring(many, false, starts(nth)[0]);
            Cast { from: acknowledged(&ring), ring }
        };
        kill_at_each_change(
            "rendezvous",
            act.code(),
            prepare,
            |Cast { ring, from: receipt }, nth, is_stopped| {
                let taken = receipt.wait_timeout(FAR);
                assert!(taken.is_ok() || gone(taken), "{taken:?}");
                let mut successor = ring.receiver().unwrap();
                let left = received(&mut successor).0;
                let expected = Vec::from_iter(taken.is_err().then_some(OWN));
                assert_eq!(left, expected, "{act:?}, change {nth}, many: {many}: {taken:?}");
                assert_eq!(receipt.wait_timeout(FAR), Ok(()), "the successor has taken it");
                if !is_stopped {
                    assert_eq!(taken.is_ok(), act == Act::Receive);
                }
            },
        );
    }
}
