//! Those who are killed or stopped, with messages in their hands.

use super::*;

/// What is told of a message that was sent, beside its tag.
const SENT: u64 = 1 << 60;

/// Sends and receives in turns until it is killed, and tells of both: before a message is sent, and after one is received.
pub fn work(mailbox: &mut Mailbox, line: &Line, kind: u16) {
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
fn what_lies_there_is_counted_also_when_it_came_again_or_was_given_back_or_deleted() {
    let shared = office(8, |builder| builder);
    let mut mailbox = shared.ring.mailbox().unwrap();
    let sent: Vec<_> = (0..4).map(|_| mailbox.send(1, &[0; 10]).unwrap()).collect();
    let counted = |messages: u64| {
        let statistics = shared.ring.statistics();
        assert_eq!((statistics.pending_messages(), statistics.pending_bytes()), (messages, 10 * messages));
    };
    let mut holder = child_at(&shared, "hold", "2");
    assert_eq!(holder.hear(), 2);
    counted(4);
    holder.kill();
    counted(4);
    let begun = Instant::now();
    while mailbox.fate(&sent[0]) != Fate::Waiting {
        assert!(begun.elapsed() < FAR);
    }
    mailbox.recv(Pick::Any).unwrap().give_back();
    counted(4);
    drop(mailbox.recv(Pick::Any).unwrap());
    counted(3);
    assert!(mailbox.delete(&sent[3]));
    counted(2);
    drop((mailbox.recv(Pick::Any).unwrap(), mailbox.recv(Pick::Any).unwrap()));
    counted(0);
}

#[test]
fn what_was_sent_is_counted_also_when_its_sender_is_killed_as_it_wakes_the_receiver() {
    let shared = office(8, |builder| builder);
    let counted = || shared.ring.statistics();
    thread::scope(|threads| {
        let mut mailbox = shared.ring.mailbox().unwrap();
        mailbox.set_wait(WaitStrategy::Sleep);
        let received = threads.spawn(move || number(&mailbox.recv_timeout(Pick::Any, FAR).unwrap()));
        while counted().readers.iter().all(|reader| reader.sleeps == 0) {
            assert!(!received.is_finished(), "it was to sleep");
            thread::yield_now();
        }
        let status = child_at(&shared, "wake", "").end();
        assert_eq!(ExitStatusExt::signal(&status), Some(libc::SIGSYS));
        assert_eq!(received.join().unwrap(), 7);
    });
    assert_eq!((counted().sent(), counted().receiver.messages, counted().pending_messages()), (1, 1, 0));
}

#[test]
fn what_a_killed_receiver_held_comes_again_although_there_is_always_another() {
    let shared = office(8, |builder| builder.priorities(2));
    let mut mailbox = shared.ring.mailbox().unwrap();
    mailbox.send(Envelope { kind: 2, priority: 1 }, b"urgent").unwrap();
    let mut holder = child_at(&shared, "hold", "1");
    assert_eq!(holder.hear(), 1);
    (0..4).for_each(|number| send(&mut mailbox, number));
    holder.kill();
    let begun = Instant::now();
    for number in 4.. {
        let letter = mailbox.try_recv(Pick::Any).unwrap();
        if letter.kind() == 2 {
            assert_eq!((letter.to_vec(), letter.tries()), (b"urgent".to_vec(), 1));
            break;
        }
        assert!(begun.elapsed() < FAR, "{number} others were received first");
        drop(letter);
        send(&mut mailbox, number);
    }
}

#[test]
fn who_only_looks_learns_that_a_killed_receiver_holds_its_message_no_more() {
    let looks: [fn(&mut Mailbox, &Sent) -> bool; 4] = [
        |mailbox, sent| mailbox.fate(sent) == Fate::Waiting,
        |mailbox, _| mailbox.browse(Pick::Any).len() == 1,
        |mailbox, _| mailbox.occupancy().waiting == 1,
        |mailbox, sent| mailbox.delete(sent),
    ];
    for (number, look) in looks.into_iter().enumerate() {
        let shared = office(8, |builder| builder);
        let mut mailbox = shared.ring.mailbox().unwrap();
        let sent = mailbox.send(1, &letter(1, 0)).unwrap();
        let mut holder = child_at(&shared, "hold", "1");
        assert_eq!(holder.hear(), 1);
        assert!(!look(&mut mailbox, &sent));
        holder.kill();
        let begun = Instant::now();
        while !look(&mut mailbox, &sent) {
            assert!(begun.elapsed() < FAR, "look {number}: {:?}", mailbox.fate(&sent));
            thread::yield_now();
        }
    }
}

/// As when somebody comes, puts in order what the dead one has left, and is killed before it has called anybody: of those who watch
/// for the death the kernel wakes one, who wants something else.
#[test]
fn whoever_wants_what_a_dead_one_held_is_called_although_its_seat_was_closed_before_anybody_knew() {
    for _ in 0..if common::long() { 30 } else { 3 } {
        let shared = office(8, |builder| builder);
        let mut sender = shared.ring.mailbox().unwrap();
        sender.send(2, &letter(2, 7)).unwrap();
        let mut holder = child_at(&shared, "hold", "1");
        assert_eq!(holder.hear(), 1);
        drop(sender);
        let sleepers: Vec<Child> =
            [1, 1, 1, 1, 2].iter().map(|kind| child_at(&shared, "receive-kind", &kind.to_string())).collect();
        sleepers.iter().for_each(|sleeper| assert_eq!(sleeper.hear(), 0));
        while shared.ring.statistics().readers.iter().filter(|reader| reader.sleeps > 0).count() < 5 {
            thread::yield_now();
        }
        give_back_for(&shared, holder.id());
        holder.kill();
        assert_eq!(sleepers[4].hear_before_the_end(), Some(7));
    }
}

/// Lays what a process holds aside, and closes its seat, word by word as `docs/LAYOUT.md` has them.
fn give_back_for(shared: &Shared, process: u32) {
    let file = File::options().read(true).write(true).open(shared.ring.path().unwrap()).unwrap();
    let read = |at| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, at).unwrap();
        u64::from_ne_bytes(word)
    };
    let write = |at, word: u64| file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    let data = read(32) & 0xffff_ffff;
    // One level, eight cells of 320 bytes.
    let cells = (0..8).map(|cell| data + 128 + 256 + 16 * 8 + 320 * cell);
    let taken: Vec<u64> = cells.filter(|&cell| read(cell) & 3 == 3).collect();
    assert_eq!(taken.len(), 1);
    write(taken[0], (read(taken[0]) & !3 | 2 | 4) + (1 << 15));
    write(data + 16, read(data + 16) + (1 << 32));
    let mut seats = (0..63).map(|seat| 8704 + 256 * seat);
    let seat = seats.find(|&seat| read(seat) & 3 == 1 && read(seat) >> 8 & 0x3f_ffff == process.into());
    let seat = seat.unwrap();
    write(seat, read(seat) + 1);
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
