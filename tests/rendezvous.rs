//! Rings without a buffer: a sender returns when its message was taken.

mod common;

use common::{
    Child, FAR,
    filter::die_at,
    place::Place,
    rings::{Shared, Way, child_at, open},
    stream::scatter,
};
use ringpost::{
    Builder, Many, OneReceiver, OpenError, Readiness, Receiver, RecvError, RendezvousSender, Ring, Select,
    SelectError, SendError, Single, Untrusted, WaitStrategy,
};
use std::{
    collections::BTreeSet,
    fs::File,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    sync::{
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Sends a number, and tells what became of it.
        ["send", ring, kind] => {
            let ring = open(ring, &line);
            let mut send: Box<dyn FnMut(u64) -> Result<(), SendError>> = match kind {
                "one" => hander::<Single>(ring.rendezvous_sender().unwrap()),
                _ => hander::<Many>(ring.rendezvous_multi_sender().unwrap()),
            };
            line.tell(0);
            while let Some(number) = line.next() {
                line.tell(send(number).is_ok().into());
            }
        }
        // Is killed as it wakes the receiver for what it has offered.
        ["wake", ring] => {
            let mut send = hander::<Single>(open(ring, &line).rendezvous_sender().unwrap());
            die_at(&[libc::SYS_futex]);
            send(7).unwrap();
        }
        // Receives, and tells what, when it hears something.
        ["receive", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            line.tell(0);
            while line.next().is_some() {
                let message = receiver.recv_timeout(FAR).unwrap();
                line.tell(number(&message.to_vec()));
                line.hear();
            }
        }
        // Tries again and again, and tells of each number what became of it.
        ["try", ring] => {
            let mut sender = open(ring, &line).rendezvous_multi_sender().unwrap();
            line.tell(0);
            let first = line.hear();
            let mut outcomes = Vec::new();
            for number in first..first + rounds() {
                let patience = Duration::from_micros(scatter(number) % 300);
                outcomes.push(match sender.send_timeout(&number.to_ne_bytes(), patience) {
                    Ok(()) => 1,
                    Err(SendError::TimedOut) => 0,
                    Err(SendError::InHand) => 2,
                    Err(error) => panic!("{error}"),
                });
            }
            drop(sender);
            outcomes.into_iter().for_each(|outcome| line.tell(outcome));
        }
        _ => panic!("no such role: {words:?}"),
    });
}

fn hander<K: OneReceiver>(
    mut sender: RendezvousSender<Untrusted, K>,
) -> Box<dyn FnMut(u64) -> Result<(), SendError>> {
    Box::new(move |number| sender.send(&number.to_ne_bytes()))
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

fn rounds() -> u64 {
    if common::long() { 20_000 } else { 200 }
}

fn rings() -> impl Iterator<Item = (Shared, &'static str)> {
    [("one", Way::Name), ("many", Way::Inherit)].into_iter().map(|(kind, way)| {
        let set = |builder: Builder| builder.capacity(4096).rendezvous();
        (
            if kind == "one" { Shared::new(way, set) } else { Shared::new(way, |b| set(b).many_senders(4)) },
            kind,
        )
    })
}

/// A sender that waits with `number` in its hands: it has offered it.
fn offering(ring: &Shared, kind: &str, number: u64) -> Child {
    let offers = || ring.ring.statistics().senders.iter().map(|one| one.blocked).sum::<u64>();
    let (child, before) = (child_at(ring, "send", kind), offers());
    child.hear();
    child.tell(number);
    let start = Instant::now();
    while offers() == before {
        assert!(start.elapsed() < FAR, "nothing was offered");
        thread::yield_now();
    }
    child
}

fn receive(receiver: &mut Receiver) -> Result<u64, RecvError> {
    Ok(number(&receiver.recv_timeout(FAR)?.to_vec()))
}

#[test]
fn a_sender_returns_when_its_message_was_released_and_not_before() {
    for (ring, kind) in rings() {
        let mut receiver = ring.ring.receiver().unwrap();
        let mut sender = offering(&ring, kind, 7);
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| tell.send(sender.hear()).unwrap());
            let message = receiver.recv_timeout(FAR).unwrap();
            assert_eq!(number(&message.to_vec()), 7);
            assert!(told.try_recv().is_err(), "it was not released yet");
            drop(message);
            assert_eq!(told.recv_timeout(FAR), Ok(1));
        });
        sender.kill();
    }
}

#[test]
fn whoever_waits_for_a_message_gets_it_handed_over() {
    for (ring, kind) in rings() {
        let receiver = child_at(&ring, "receive", "");
        receiver.hear();
        let sender = child_at(&ring, "send", kind);
        sender.hear();
        for number in 0..20 {
            receiver.tell(0);
            sender.tell(number);
            assert_eq!(receiver.hear(), number);
            receiver.tell(0);
            assert_eq!(sender.hear(), 1);
        }
    }
}

#[test]
fn what_timed_out_before_it_was_received_is_never_received() {
    for (ring, kind) in rings() {
        let withdrawn = |send: &mut dyn FnMut(&[u8]) -> Result<(), SendError>| {
            (0..5).for_each(|_| assert_eq!(send(b"withdrawn"), Err(SendError::TimedOut)));
        };
        match kind {
            "one" => {
                let mut sender = ring.ring.rendezvous_sender().unwrap();
                withdrawn(&mut |message| sender.send_timeout(message, MOMENT));
            }
            _ => {
                let mut sender = ring.ring.rendezvous_multi_sender().unwrap();
                withdrawn(&mut |message| sender.send_timeout(message, MOMENT));
            }
        }
        let mut receiver = ring.ring.receiver().unwrap();
        assert!(receiver.is_empty());
        let _sender = offering(&ring, kind, 8);
        assert!(!receiver.is_empty());
        assert_eq!(receive(&mut receiver), Ok(8));
    }
}

#[test]
fn who_waits_in_a_select_accepts_nothing_before_it_receives() {
    let ring = ringpost::unnamed().capacity(4096).rendezvous().in_process().unwrap();
    let mut sender = ring.rendezvous_sender().unwrap();
    let mut select = ringpost::Select::new();
    let key = select.add(ring.receiver().unwrap()).unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(move || (sender.send_timeout(b"seen", Duration::from_millis(50)), sender));
        assert_eq!(select.wait(), Ok(key.id()));
        let (outcome, mut sender) = sending.join().unwrap();
        assert_eq!(outcome, Err(SendError::TimedOut), "it was named, and not received");
        let sending = scope.spawn(move || sender.send(b"taken"));
        loop {
            assert_eq!(select.wait(), Ok(key.id()));
            match select[key].try_recv() {
                Ok(message) => break assert_eq!(*message, *b"taken"),
                Err(error) => assert_eq!(error, RecvError::Empty),
            }
        }
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
}

#[test]
fn nobody_is_called_for_what_was_withdrawn() {
    let rendezvous = || ringpost::unnamed().capacity(4096).rendezvous();
    let (one, many) = (rendezvous().memfd().unwrap(), rendezvous().many_senders(2).memfd().unwrap());
    withdraw_before_a_select(one.receiver().unwrap(), one.rendezvous_sender().unwrap());
    withdraw_before_a_select(many.receiver().unwrap(), many.rendezvous_multi_sender().unwrap());
}

fn withdraw_before_a_select<K: OneReceiver>(receiver: Receiver, mut sender: RendezvousSender<Untrusted, K>) {
    let withdraw = |sender: &mut RendezvousSender<Untrusted, K>| {
        (0..2).for_each(|_| assert_eq!(sender.send_timeout(b"late", MOMENT), Err(SendError::TimedOut)));
    };
    let mut select = Select::new();
    let key = select.add(receiver).unwrap();
    withdraw(&mut sender);
    assert_eq!(select.try_wait(), Err(SelectError::Empty));
    assert_eq!(select.wait_timeout(MOMENT), Err(SelectError::TimedOut));
    let mut readiness = Readiness::new(select.remove(key).unwrap()).unwrap();
    withdraw(&mut sender);
    assert!(!readiness.arm().unwrap(), "nothing is there");
    let key = select.add(readiness.into_inner()).unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(|| sender.send(b"in time"));
        assert_eq!(select.wait(), Ok(key.id()));
        assert_eq!(select[key].try_recv().unwrap().to_vec(), b"in time");
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_message_on_offer() {
    let ring = ringpost::unnamed().capacity(4096).rendezvous().in_process().unwrap();
    let (mut receiver, mut sender) = (ring.receiver().unwrap(), ring.rendezvous_sender().unwrap());
    let refused = AtomicBool::new(false);
    thread::scope(|scope| {
        let offering = scope.spawn(|| {
            let mut outcomes = Vec::new();
            while !refused.load(SeqCst) {
                outcomes.push(sender.send_timeout(b"too long", Duration::from_millis(20)));
            }
            (outcomes, sender)
        });
        let error = receiver.recv_into(&mut [0; 7]);
        refused.store(true, SeqCst);
        assert_eq!(error, Err(RecvError::BufferTooSmall { length: 8 }));
        let (outcomes, mut sender) = offering.join().unwrap();
        assert!(outcomes.iter().all(|&outcome| outcome == Err(SendError::TimedOut)), "{outcomes:?}");
        scope.spawn(move || assert_eq!(sender.send(b"fits"), Ok(())));
        let mut buffer = [0; 8];
        assert_eq!(receiver.recv_into(&mut buffer), Ok(4));
        assert_eq!(buffer[..4], *b"fits");
    });
}

#[test]
fn what_the_receiver_has_in_hand_can_not_be_taken_back() {
    let ring = ringpost::unnamed().capacity(4096).rendezvous().in_process().unwrap();
    let mut receiver = ring.receiver().unwrap();
    let mut sender = ring.rendezvous_sender().unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(move || (sender.send_timeout(b"held", Duration::from_millis(50)), sender));
        let message = receiver.recv().unwrap();
        let (outcome, mut sender) = sending.join().unwrap();
        assert_eq!(outcome, Err(SendError::InHand));
        drop(message);
        let sending = scope.spawn(move || sender.send(b"next"));
        assert_eq!(&*receiver.recv().unwrap(), b"next");
        assert_eq!(sending.join().unwrap(), Ok(()));
    });
}

#[test]
fn looking_whether_there_is_a_message_accepts_none() {
    let ring = ringpost::unnamed().capacity(4096).rendezvous().in_process().unwrap();
    let mut receiver = ring.receiver().unwrap();
    let mut sender = ring.rendezvous_sender().unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(move || sender.send_timeout(b"seen", Duration::from_millis(20)));
        while receiver.is_empty() && !sending.is_finished() {
            thread::yield_now();
        }
        assert_eq!(sending.join().unwrap(), Err(SendError::TimedOut));
    });
    assert!(receiver.is_empty());
}

#[test]
fn the_death_of_the_receiver_ends_the_wait_and_takes_the_message_back_or_leaves_it_to_its_successor() {
    for (held, left) in [(false, 0), (true, 24)] {
        let ring = Shared::new(Way::Pass, |builder| builder.capacity(4096).rendezvous());
        let mut receiver = child_at(&ring, "receive", "");
        receiver.hear();
        let mut sender = ring.ring.rendezvous_sender().unwrap();
        let (tell, told) = mpsc::channel();
        let pid = receiver.id();
        thread::scope(|scope| {
            scope.spawn(|| tell.send(sender.send(&9u64.to_ne_bytes())).unwrap());
            if held {
                receiver.tell(0);
                assert_eq!(receiver.hear(), 9);
            }
            assert!(told.recv_timeout(MOMENT).is_err());
            receiver.kill();
            let error = told.recv_timeout(FAR).unwrap();
            assert_eq!(error, Err(SendError::PeerDied { pid, unreceived: left }));
        });
        let mut successor = ring.ring.receiver().unwrap();
        if held {
            assert_eq!(receive(&mut successor), Ok(9), "it comes again");
        }
        assert!(successor.is_empty());
    }
}

#[test]
fn what_a_killed_sender_had_offered_is_received_once_and_its_successor_goes_on() {
    for (ring, kind) in rings() {
        let mut receiver = ring.ring.receiver().unwrap();
        for round in 0..10 {
            let mut sender = offering(&ring, kind, round);
            let pid = sender.id();
            sender.kill();
            let mut received = Vec::new();
            let error = loop {
                match receive(&mut receiver) {
                    Ok(number) => received.push(number),
                    Err(RecvError::PeerDied { pid: other, .. }) if other != pid => {}
                    Err(error) => break error,
                }
            };
            assert_eq!((received, error), (vec![round], RecvError::PeerDied { pid, unfinished: 0 }));
        }
        let sender = offering(&ring, kind, 99);
        assert_eq!(receive(&mut receiver), Ok(99));
        assert_eq!(sender.hear(), 1);
        let counted = ring.ring.statistics();
        assert_eq!((counted.sent(), counted.receiver.messages, counted.pending_messages()), (11, 11, 0));
        drop(sender);
    }
}

#[test]
fn what_was_offered_is_counted_also_when_its_sender_is_killed_as_it_wakes_the_receiver() {
    let (ring, _) = rings().next().unwrap();
    thread::scope(|threads| {
        let mut receiver = ring.ring.receiver().unwrap();
        receiver.set_wait(WaitStrategy::Sleep);
        let received = threads.spawn(move || receive(&mut receiver));
        while ring.ring.statistics().receiver.sleeps == 0 {
            assert!(!received.is_finished(), "it was to sleep");
            thread::yield_now();
        }
        let status = child_at(&ring, "wake", "").end();
        assert_eq!(ExitStatusExt::signal(&status), Some(libc::SIGSYS));
        assert_eq!(received.join().unwrap(), Ok(7));
    });
    let counted = ring.ring.statistics();
    assert_eq!((counted.sent(), counted.receiver.messages), (1, 1));
}

#[test]
fn what_was_withdrawn_is_not_counted_as_sent() {
    for (ring, kind) in rings() {
        let mut send: Box<dyn FnMut() -> SendError> = match kind {
            "one" => withdrawn::<Single>(ring.ring.rendezvous_sender().unwrap()),
            _ => withdrawn::<Many>(ring.ring.rendezvous_multi_sender().unwrap()),
        };
        for _ in 0..3 {
            let error = send();
            assert_eq!(error, SendError::TimedOut);
            assert!(error.to_string().ends_with("in a rendezvous, nobody took it"));
        }
        let counted = ring.ring.statistics();
        assert_eq!((counted.sent(), counted.pending_messages(), counted.pending_bytes()), (0, 0, 0));
    }
}

fn withdrawn<K: OneReceiver>(mut sender: RendezvousSender<Untrusted, K>) -> Box<dyn FnMut() -> SendError> {
    Box::new(move || sender.send_timeout(b"nobody comes", MOMENT).unwrap_err())
}

#[test]
fn a_receiver_that_closes_ends_the_wait() {
    for (ring, kind) in rings() {
        let receiver = ring.ring.receiver().unwrap();
        let sender = offering(&ring, kind, 5);
        drop(receiver);
        assert_eq!(sender.hear(), 0);
        assert!(ring.ring.receiver().unwrap().is_empty(), "it was taken back");
    }
}

#[test]
fn of_a_message_whose_time_runs_out_both_sides_say_the_same() {
    let ring = Shared::new(Way::Inherit, |builder| builder.capacity(4096).rendezvous().many_senders(2));
    let senders = [0, 1 << 32].map(|first| {
        let child = child_at(&ring, "try", "");
        child.hear();
        (first, child)
    });
    senders.iter().for_each(|(first, child)| child.tell(*first));
    let mut receiver = ring.ring.receiver().unwrap();
    let mut received = BTreeSet::new();
    loop {
        thread::sleep(Duration::from_micros(scatter(received.len() as u64) % 200));
        match receive(&mut receiver) {
            Ok(number) => assert!(received.insert(number), "{number} came twice"),
            Err(RecvError::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for (first, child) in senders {
        for number in first..first + rounds() {
            let handed_over = child.hear() != 0;
            assert_eq!(received.contains(&number), handed_over, "{number}");
        }
        child.finish();
    }
}

#[test]
fn a_ring_is_a_rendezvous_for_both_sides_or_for_none() {
    let name = common::Name::new();
    let ring = ringpost::builder(&*name).rendezvous().create().unwrap();
    assert!(ring.info().rendezvous);
    assert!(matches!(ring.sender(), Err(OpenError::Mismatch { .. })));
    assert!(matches!(ring.multi_sender(), Err(OpenError::Mismatch { .. })));
    drop(ring);
    let opened: Ring = ringpost::builder(&*name).open().unwrap();
    assert!(opened.rendezvous_sender().is_ok());
    drop(opened);

    let name = common::Name::new();
    let buffered = ringpost::builder(&*name).create().unwrap();
    let error = buffered.rendezvous_sender().unwrap_err().to_string();
    assert!(error.contains("rendezvous") && error.contains("buffer"), "{error}");
    assert!(matches!(ringpost::builder(&*name).rendezvous().open(), Err(OpenError::Mismatch { .. })));

    let many_readers = ringpost::unnamed().broadcast(2).rendezvous().memfd();
    assert!(matches!(many_readers, Err(OpenError::Setting { .. })));
    let elastic = ringpost::unnamed().elastic(1 << 20).rendezvous().memfd();
    let error = elastic.unwrap_err();
    assert!(matches!(error, OpenError::Setting { .. }));
    assert!(error.to_string().contains("rendezvous"), "{error}");
    let place = Place::new();
    assert!(matches!(ringpost::unnamed().rendezvous().listen(&*place), Err(OpenError::Mismatch { .. })));
}

#[test]
fn an_offer_that_is_none_is_damage() {
    for (rendezvous, length) in [(true, u32::MAX), (false, 8)] {
        let name = common::Name::new();
        let builder = ringpost::builder(&*name).capacity(4096);
        let ring = if rendezvous { builder.rendezvous() } else { builder }.create().unwrap();
        let file = File::options().read(true).write(true).open(name.path()).unwrap();
        let (mut key, mut control) = ([0; 8], [0; 4]);
        file.read_exact_at(&mut key, 56).unwrap();
        file.read_exact_at(&mut control, 32).unwrap();
        // At position 0: offered, so many bytes.
        let record = [u64::from_ne_bytes(key) ^ 4, u64::from(length) << 32].map(u64::to_ne_bytes).concat();
        file.write_all_at(&record, u32::from_ne_bytes(control).into()).unwrap();
        let mut receiver = ring.receiver().unwrap();
        let error = receiver.try_recv().map(drop);
        assert_eq!(error, Err(RecvError::Corrupt { sequence: 0, length }), "rendezvous: {rendezvous}");
        let mut tag = [0; 8];
        file.read_exact_at(&mut tag, u32::from_ne_bytes(control).into()).unwrap();
        assert_eq!(tag, record[..8], "nothing was accepted");
    }
}

#[test]
fn a_ring_whose_words_are_garbage_gives_errors_and_no_panic() {
    for round in 0..40u64 {
        let name = common::Name::new();
        let builder = ringpost::builder(&*name).capacity(4096).rendezvous();
        let many = round % 2 == 1;
        let ring = if many { builder.many_senders(3) } else { builder }.create().unwrap();
        let file = File::options().write(true).open(name.path()).unwrap();
        let length = file.metadata().unwrap().len();
        let words = if round % 4 < 2 { (length - 4096) / 8 } else { 512 };
        let noise: Vec<u8> = (0..words).flat_map(|n| scatter(round << 32 | n).to_ne_bytes()).collect();
        file.write_all_at(&noise, 4096).unwrap();
        if many {
            let _ = ring.rendezvous_multi_sender().map(|mut sender| sender.send_timeout(b"x", MOMENT));
        } else {
            let _ = ring.rendezvous_sender().map(|mut sender| sender.send_timeout(b"x", MOMENT));
        }
        if let Ok(mut receiver) = ring.receiver() {
            let _ = receiver.is_empty();
            for _ in 0..3 {
                let _ = receiver.try_recv().map(|message| message.to_vec());
            }
        }
    }
}

#[test]
fn the_room_for_offers_is_room_for_each_sender() {
    // One offer fills the ring: the second sender waits until the first one is done.
    let ring = ringpost::unnamed().capacity(4096).rendezvous().many_senders(2).memfd().unwrap();
    let mut receiver = ring.receiver().unwrap();
    thread::scope(|scope| {
        let senders = [1, 2].map(|number| (number, ring.rendezvous_multi_sender().unwrap()));
        let sending = senders.map(|(number, mut sender)| scope.spawn(move || sender.send(&[number; 3000])));
        let mut received = [0, 0].map(|_: u8| receiver.recv().unwrap().to_vec()[0]);
        received.sort();
        assert_eq!(received, [1, 2]);
        sending.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), Ok(())));
    });
}

/// What its ring holds of messages that were taken back is nothing that the receiver had.
#[test]
fn what_was_never_offered_to_a_dead_receiver_is_not_in_its_hands() {
    let shared = Shared::new(Way::Name, |builder| builder.capacity(4096).rendezvous());
    let mut sender = shared.ring.rendezvous_sender().unwrap();
    let mut receiver = child_at(&shared, "receive", "");
    assert_eq!(receiver.hear(), 0);
    // Until the ring is full of them.
    for number in 0..400_u64 {
        assert!(sender.send_timeout(&number.to_ne_bytes(), Duration::ZERO).is_err());
    }
    let pid = receiver.id();
    receiver.kill();
    match sender.send_timeout(b"last one", FAR) {
        Err(SendError::PeerDied { pid: dead, unreceived: 0 }) => assert_eq!(dead, pid),
        other => panic!("{other:?}"),
    }
}
