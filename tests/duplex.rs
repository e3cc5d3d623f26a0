//! Links in both directions: two rings over one connection, between processes that may die at any moment.

mod common;
#[path = "duplex/handshake.rs"]
mod handshake;
#[allow(dead_code, reason = "the links' tests use the rest")]
#[path = "links/raw.rs"]
mod raw;
#[path = "duplex/regions.rs"]
mod regions;

use common::{
    FAR, Line,
    place::{Door, Place},
    stream::{Letter, Stream, receive_letters, send_letters},
};
use ringpost::{Duplex, RecvError, SendError};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Answers each message with itself, to its end.
        ["echo", path] => {
            let mut duplex = ringpost::connect_duplex(path).unwrap();
            line.tell(duplex.peer().pid.into());
            loop {
                match duplex.receiver.recv() {
                    Ok(message) => duplex.sender.send_kind(message.kind(), &message.to_vec()).unwrap(),
                    Err(error) => break assert_eq!(error, RecvError::Disconnected),
                }
            }
        }
        // Sends letters in a thread and receives as many in another.
        ["both-at-once", path, messages] => {
            exchange(ringpost::connect_duplex(path).unwrap(), messages.parse().unwrap());
        }
        // Numbers upwards, for ever: says how many it has committed after each.
        ["count-for-ever", path] => {
            let mut duplex = ringpost::connect_duplex(path).unwrap();
            for number in 0u64.. {
                duplex.send(&number.to_ne_bytes()).unwrap();
                line.tell(number);
                assert_eq!(duplex.recv_timeout(FAR).unwrap().to_vec(), number.to_ne_bytes());
            }
        }
        // Connects, says a word and hangs up, for ever: to be killed anywhere in between.
        ["connect-for-ever", path] => {
            for round in 0.. {
                let mut duplex = ringpost::connect_duplex(path).unwrap();
                let _ = duplex.send(b"word");
                if round == 0 {
                    line.tell(0);
                }
            }
        }
        // Hears each client to its end, however that comes, until one says that it is the last.
        ["serve-mortals", path] => {
            let listener = ringpost::unnamed().capacity(4096).handshake_timeout(FAR).listen(path).unwrap();
            line.tell(0);
            let (mut open, mut heard) = (None, 0);
            loop {
                // It may be dead already.
                let Ok(mut duplex) = listener.accept_duplex() else { continue };
                let is_last = loop {
                    match duplex.recv_timeout(FAR) {
                        Ok(message) if message.to_vec() == b"end" => break true,
                        Ok(_) => {}
                        Err(error) => {
                            assert_ne!(error, RecvError::TimedOut);
                            break false;
                        }
                    }
                };
                drop(duplex);
                heard += 1;
                assert_eq!(descriptors(), *open.get_or_insert_with(descriptors));
                if is_last {
                    break line.tell(heard);
                }
            }
        }
        // Accepts, answers for ever.
        ["host", path] => {
            let listener = ringpost::unnamed().capacity(4096).handshake_timeout(FAR).listen(path).unwrap();
            line.tell(0);
            let mut duplex = listener.accept_duplex().unwrap();
            line.tell(0);
            while let Ok(message) = duplex.receiver.recv() {
                duplex.sender.send(&message.to_vec()).unwrap();
            }
        }
        ["send-regions", path, count, length] => {
            regions::send_some(Path::new(path), count.parse().unwrap(), length.parse().unwrap(), &line);
        }
        ["lie", path] => regions::lie(Path::new(path), &line),
        ["be-lied-to", path] => regions::be_lied_to(Path::new(path), &line),
        ["host-with-heir", path] => regions::host_with_heir(Path::new(path), &line),
        ["fork-with-region", _] => regions::fork_with_region(),
        ["die-after", path, step] => handshake::connect_up_to(step, Path::new(path), &line),
        ["listen-up-to", path, step] => handshake::listen_up_to(step, Path::new(path), &line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// The number of descriptors of this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Letters in both directions at once. Returns when both are through, at both ends.
fn exchange(duplex: Duplex, messages: u64) {
    let (mut sender, mut receiver) = duplex.split();
    let sending = thread::spawn(move || {
        send_letters(&mut sender, messages);
        sender
    });
    receive_letters(&mut receiver, messages);
    drop(sending.join().unwrap());
    assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
}

#[test]
fn what_is_sent_comes_back_from_the_other_process() {
    let place = Place::new();
    let listener = place.listen();
    let child = place.child("echo", "");
    let mut duplex = listener.accept_duplex().unwrap();
    assert_eq!(duplex.peer().pid, child.id());
    assert_eq!(child.hear(), u64::from(std::process::id()), "who listens");
    assert_eq!((duplex.sender.capacity(), duplex.receiver.capacity()), (4096, 4096));
    let stream = Stream::new(duplex.sender.longest_message());
    for number in 0..10_000 {
        let Letter { bytes, kind, .. } = stream.letter(0, number);
        duplex.sender.send_kind(kind, bytes).unwrap();
        let back = duplex.recv_timeout(FAR).unwrap();
        assert!((back.kind(), back.to_vec()) == (kind, bytes.to_vec()), "message {number}");
        assert_eq!(back.sender().pid, child.id());
    }
    assert_eq!(duplex.try_recv().unwrap_err(), RecvError::Empty);
    drop(duplex);
    child.finish();
}

#[test]
fn both_directions_are_in_order_and_complete_at_the_same_time() {
    for capacity in [4096, 1 << 20] {
        let place = Place::new();
        let listener = place.listen_with(ringpost::unnamed().capacity(capacity).handshake_timeout(FAR));
        let child = place.child("both-at-once", "20000");
        exchange(listener.accept_duplex().unwrap(), 20_000);
        child.finish();
    }
}

#[test]
fn each_half_can_end_before_the_other() {
    let place = Place::new();
    let listener = place.listen();
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || ringpost::connect_duplex(path).unwrap());
    let (mut sender, mut receiver) = listener.accept_duplex().unwrap().split();
    let mut other = connecting.join().unwrap();
    sender.send(b"the last word").unwrap();
    drop(sender);
    assert_eq!(other.recv().unwrap().to_vec(), b"the last word");
    assert_eq!(other.recv().unwrap_err(), RecvError::Disconnected);
    other.send(b"heard").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"heard");
    drop(receiver);
    assert_eq!(other.send(b"nobody"), Err(SendError::Disconnected));
}

#[test]
fn a_killed_client_is_told_as_dead_in_both_directions_after_all_it_had_sent() {
    let rounds = if common::long() { 500 } else { 20 };
    let place = Place::new();
    let listener = place.listen();
    for round in 0..rounds {
        let mut child = place.child("count-for-ever", "");
        let mut duplex = listener.accept_duplex().unwrap();
        let pid = child.id();
        let mut last = None;
        for number in 0..round {
            assert_eq!(child.hear(), number);
            assert_eq!(duplex.recv_timeout(FAR).unwrap().to_vec(), number.to_ne_bytes());
            last = Some(number);
            duplex.send(&number.to_ne_bytes()).unwrap();
        }
        child.kill();
        // What it told of it had committed before; perhaps one more.
        let mut told = last;
        while let Some(number) = child.next() {
            told = Some(number);
        }
        let end = loop {
            match duplex.recv_timeout(FAR) {
                Ok(message) => {
                    let next = last.map_or(0, |last| last + 1);
                    assert_eq!(message.to_vec(), next.to_ne_bytes());
                    last = Some(next);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(end, RecvError::PeerDied { pid, unfinished: 0 });
        assert!(last >= told, "{last:?} received, {told:?} committed");
        let start = Instant::now();
        let refused = loop {
            match duplex.send_timeout(&[1; 100], FAR) {
                Ok(()) => assert!(start.elapsed() < FAR, "it is dead"),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, SendError::PeerDied { pid: dead, .. } if dead == pid), "{refused}");
    }
}

#[test]
fn a_killed_server_is_told_as_dead_in_both_directions() {
    let place = Place::new();
    let mut host = place.child("host", "");
    host.hear();
    let mut duplex = ringpost::connect_duplex(&*place).unwrap();
    host.hear();
    for number in 0..100u64 {
        duplex.send(&number.to_ne_bytes()).unwrap();
        assert_eq!(duplex.recv_timeout(FAR).unwrap().to_vec(), number.to_ne_bytes());
    }
    let pid = host.id();
    let (mut sender, mut receiver) = duplex.split();
    let waiting = thread::spawn(move || receiver.recv_timeout(FAR).map(|_| ()));
    host.stop();
    while sender.try_send(&[7; 1000]).is_ok() {}
    let full = thread::spawn(move || sender.send_timeout(&[7; 1000], FAR));
    host.kill();
    assert_eq!(waiting.join().unwrap(), Err(RecvError::PeerDied { pid, unfinished: 0 }));
    let error = full.join().unwrap().unwrap_err();
    assert!(matches!(error, SendError::PeerDied { pid: dead, unreceived: 1.. } if dead == pid), "{error}");
}

#[test]
fn clients_that_are_killed_anywhere_leave_the_listener_as_it_was() {
    let rounds = if common::long() { 1000 } else { 30 };
    let place = Place::new();
    let host = place.child("serve-mortals", "");
    host.hear();
    for round in 0..rounds {
        let mut client = place.child("connect-for-ever", "");
        client.hear();
        thread::sleep(Duration::from_micros(370 * round));
        client.kill();
    }
    let mut last = ringpost::connect_duplex(&*place).unwrap();
    last.send(b"end").unwrap();
    assert!(host.hear() >= rounds, "each was heard at least once");
    host.finish();
}
