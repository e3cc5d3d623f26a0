//! Each message goes to one, the oldest of those that it asks for, in place.

use super::*;

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

#[test]
fn another_process_picks_by_kind_and_priority() {
    let shared = office(16, |builder| builder.priorities(2));
    let mut mailbox = shared.ring.mailbox().unwrap();
    let receiver = child_at(&shared, "pick", "");
    let picked = |pick: u64| {
        receiver.tell(pick);
        receiver.hear()
    };
    let sent = [(5, 0), (3, 0), (9, 1), (3, 1), (5, 1), (4, 0)];
    for (number, (kind, priority)) in sent.into_iter().enumerate() {
        mailbox.send(Envelope { kind, priority }, &[number as u8]).unwrap();
    }
    let [any, kind, except, up_to] = [0, 1, 2, 3].map(|how| move |of: u64| how << 16 | of);
    // The lowest kind up to 4 before its priority; then the highest priority; then the oldest.
    for (pick, number) in [
        (up_to(2), END),
        (up_to(4), 3),
        (up_to(4), 1),
        (kind(4), 5),
        (kind(4), END),
        (except(9), 4),
        (any(0), 2),
        (except(5), END),
        (any(0), 0),
        (any(0), END),
    ] {
        assert_eq!(picked(pick), number, "{pick:x}");
    }
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
