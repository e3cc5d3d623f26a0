//! Links: two processes that a socket has brought together, each with memory of its own.
//!
//! The host under test is often a child, because it counts its descriptors: nothing else opens any there.

mod common;
#[path = "links/handshake.rs"]
mod handshake;
#[path = "links/hostile.rs"]
mod hostile;
#[path = "links/namespaces.rs"]
mod namespaces;
#[path = "links/paths.rs"]
mod paths;
#[path = "links/raw.rs"]
mod raw;

use common::{
    Child, FAR, Line,
    fork::leave_an_heir,
    place::Place,
    stream::{receive_letters, send_letters},
};
use ringpost::{
    LinkError, Listener, OpenError, PeerCredentials, Receiver, RecvError, SendError, Untrusted, record_size,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use static_assertions::assert_impl_all;
use std::{
    error::Error,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", path, messages] => {
            let mut sender = ringpost::connect(path).unwrap();
            send_letters(&mut sender, messages.parse().unwrap());
            line.tell(sender.peer().unwrap().pid.into());
        }
        ["send-for-ever", path] => {
            let mut sender = ringpost::connect(path).unwrap();
            let error = (0..).find_map(|_| sender.send(b"again").err());
            assert_eq!(error, Some(SendError::Disconnected));
        }
        // Sends some, says so, and holds the sender.
        ["hold", path, messages] => {
            let mut sender = ringpost::connect(path).unwrap();
            send_letters(&mut sender, messages.parse().unwrap());
            line.tell(0);
            line.hear();
        }
        // As before, and leaves a child that has inherited all there is.
        ["hold-and-fork", path] => {
            let mut sender = ringpost::connect(path).unwrap();
            sender.send(b"of the parent").unwrap();
            line.tell(leave_an_heir());
            line.hear();
        }
        // Sends three messages to a listener of another user; or is refused.
        ["connect-to-user", path, user] => {
            match ringpost::unnamed().owner(user.parse().unwrap()).connect(path) {
                Ok(mut sender) => send_letters(&mut sender, 3),
                Err(OpenError::Link(LinkError::Refused { .. })) => {}
                Err(other) => panic!("{other}"),
            }
        }
        ["receive", path, messages] => {
            let listener = ringpost::listen(path).unwrap();
            line.tell(0);
            let mut receiver = listener.accept().unwrap();
            receive_letters(&mut receiver, messages.parse().unwrap());
            line.tell(0);
            line.hear();
        }
        ["host", path] => handshake::host(Path::new(path), &line),
        ["connect-limited", path] => handshake::connect_limited(Path::new(path), &line),
        ["accept-limited", path] => handshake::accept_limited(Path::new(path), &line),
        ["connector", path] => handshake::connector(Path::new(path), &line),
        // Fills the ring, and waits for the death of whoever receives.
        ["fill", path, own] => {
            let mut sender = ringpost::connect(path).unwrap();
            assert_eq!(sender.peer().unwrap().pid, 0, "it is not seen from here");
            assert_eq!(std::process::id().to_string(), own);
            while sender.try_send(&[7; 1000]).is_ok() {}
            line.tell(0);
            let error = sender.send_timeout(&[7; 1000], FAR).unwrap_err();
            assert!(matches!(error, SendError::PeerDied { pid: 0, unreceived: 1.. }), "{error}");
            line.tell(0);
        }
        ["fork-before-greeting", path] => paths::fork_before_greeting(Path::new(path), &line),
        ["listen-in-vain", path] => namespaces::listen_in_vain(Path::new(path)),
        ["listen-and-move", path] => paths::listen_and_move(Path::new(path)),
        ["fork-listener", path] => paths::fork_listener(Path::new(path)),
        ["killed-listener", path] => {
            let _listener = ringpost::listen(path).unwrap();
            line.tell(0);
            line.hear();
        }
        ["orphaned-listener", path] => paths::orphan_listener(Path::new(path), &line),
        ["die-after", path, step] => handshake::go_to(step, Path::new(path), &line),
        ["close-without-descriptors", path] => {
            let sender = ringpost::connect(path).unwrap();
            handshake::limit_descriptors(0);
            drop(sender);
            line.hear();
        }
        ["host-without-threads", path] => {
            let listener = ringpost::unnamed().mode(0o666).capacity(4096).listen(path).unwrap();
            let none = Rlimit { current: Some(0), ..getrlimit(Resource::Nproc) };
            setrlimit(Resource::Nproc, none).unwrap();
            assert!(thread::Builder::new().spawn(|| ()).is_err());
            line.tell(0);
            let mut receiver = listener.accept_if(|_| true).unwrap();
            let RecvError::PeerDied { pid, .. } = end_of(&mut receiver) else { panic!("it did not die") };
            line.tell(pid.into());
        }
        ["write-theirs", path] => hostile::try_to_write(Path::new(path), &line),
        ["play-dead", path, ref words @ ..] => hostile::play_dead(Path::new(path), words, &line),
        ["scribble", path, seed] => hostile::scribble(Path::new(path), seed.parse().unwrap(), &line),
        _ => panic!("no such role: {words:?}"),
    });
}

assert_impl_all!(Listener: Send, Sync);
assert_impl_all!(LinkError: Error, Send, Sync, Display);
assert_impl_all!(PeerCredentials: Send, Sync, Copy);

/// The descriptors of this process.
fn descriptors() -> Vec<PathBuf> {
    let links =
        fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    // The one with which they are listed is one, too.
    let mut links: Vec<_> = links.filter(|link| !link.ends_with("fd")).collect();
    links.sort();
    links
}

/// The next error of a receiver, which must not be a time-out.
#[track_caller]
fn end_of(receiver: &mut Receiver<Untrusted>) -> RecvError {
    let start = Instant::now();
    let error = receiver.recv_timeout(FAR).expect_err("there is a message");
    assert!(start.elapsed() < FAR, "only the deadline ended the wait");
    error
}

#[test]
fn every_message_comes_through_with_its_sender_and_then_the_end() {
    for capacity in [4096, 1 << 20] {
        let place = Place::new();
        let listener = place.listen_with(ringpost::unnamed().capacity(capacity));
        let sender = place.child("send", "20000");
        let mut receiver = listener.accept().unwrap();
        assert_eq!(receiver.capacity(), capacity);
        assert_eq!(receiver.peer().unwrap().pid, sender.id());
        receive_letters(&mut receiver, 20_000);
        assert_eq!(end_of(&mut receiver), RecvError::Disconnected);
        assert_eq!(sender.hear(), u64::from(std::process::id()), "who listens");
        sender.finish();
        assert_eq!(end_of(&mut receiver), RecvError::Disconnected, "it had closed before it ended");
    }
}

#[test]
fn each_message_names_the_process_that_the_kernel_names() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("hold", "1");
    let mut receiver = listener.accept().unwrap();
    let message = receiver.recv_timeout(FAR).unwrap();
    assert_eq!(message.sender().pid, sender.id());
    assert_ne!(message.sender().start_ticks, 0);
}

#[test]
fn a_receiver_that_closes_is_told_to_a_sender_that_waits_for_room() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("send-for-ever", "");
    let mut receiver = listener.accept().unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"again");
    drop(receiver);
    sender.finish();
}

#[test]
fn a_receiver_that_closes_at_once_is_told_to_the_sender() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("send-for-ever", "");
    drop(listener.accept().unwrap());
    sender.finish();
}

#[test]
fn all_that_a_killed_sender_had_sent_is_received_and_then_its_death() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().capacity(1 << 20).longest_message(4096));
    let mut sender = place.child("hold", "100");
    let mut receiver = listener.accept().unwrap();
    sender.hear();
    let pid = sender.id();
    sender.kill();
    receive_letters(&mut receiver, 100);
    assert_eq!(end_of(&mut receiver), RecvError::PeerDied { pid, unfinished: 0 });
    assert_eq!(end_of(&mut receiver), RecvError::PeerDied { pid, unfinished: 0 }, "nobody takes its place");
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::PeerDied { pid, unfinished: 0 });
}

#[test]
fn a_receiver_that_sleeps_is_woken_by_the_death_of_the_sender() {
    let place = Place::new();
    let listener = place.listen();
    let mut sender = place.child("hold", "0");
    let mut receiver = listener.accept().unwrap();
    sender.hear();
    let pid = sender.id();
    let waiting = thread::spawn(move || end_of(&mut receiver));
    thread::sleep(Duration::from_millis(20));
    sender.kill();
    assert_eq!(waiting.join().unwrap(), RecvError::PeerDied { pid, unfinished: 0 });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_the_death_of_the_receiver() {
    let place = Place::new();
    let mut host = place.child("receive", "0");
    host.hear();
    let mut sender = ringpost::connect(&*place).unwrap();
    host.hear();
    while sender.try_send(&[7; 1000]).is_ok() {}
    let pid = host.id();
    let waiting = thread::spawn(move || sender.send_timeout(&[7; 1000], FAR).unwrap_err());
    thread::sleep(Duration::from_millis(20));
    host.kill();
    let error = waiting.join().unwrap();
    assert!(matches!(error, SendError::PeerDied { pid: dead, unreceived: 1.. } if dead == pid), "{error}");
}

#[test]
fn a_forked_child_of_the_sender_is_not_the_sender() {
    let place = Place::new();
    let listener = place.listen();
    let mut sender = place.child("hold-and-fork", "");
    let mut receiver = listener.accept().unwrap();
    let (heir, pid) = (sender.hear(), sender.id());
    sender.kill();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"of the parent");
    assert_eq!(end_of(&mut receiver), RecvError::PeerDied { pid, unfinished: 0 });
    let heir = rustix::process::Pid::from_raw(heir as i32).unwrap();
    assert_eq!(rustix::process::test_kill_process(heir), Ok(()), "it lives, with all that it has inherited");
    rustix::process::kill_process(heir, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_stopped_sender_is_alive() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("hold", "1");
    let mut receiver = listener.accept().unwrap();
    sender.hear();
    receive_letters(&mut receiver, 1);
    sender.stop();
    assert_eq!(receiver.recv_timeout(Duration::from_millis(300)).unwrap_err(), RecvError::TimedOut);
    sender.resume();
    sender.tell(0);
    sender.finish();
    assert_eq!(end_of(&mut receiver), RecvError::Disconnected);
}

#[test]
fn an_end_without_a_free_descriptor_is_an_orderly_one() {
    let place = Place::new();
    let listener = place.listen();
    let sender = place.child("close-without-descriptors", "");
    let mut receiver = listener.accept().unwrap();
    assert_eq!(end_of(&mut receiver), RecvError::Disconnected);
    sender.tell(0);
    sender.finish();
}

#[test]
fn every_operation_writes_to_its_own_half_only() {
    let place = Place::new();
    let listener = place.listen();
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || ringpost::connect(path).unwrap());
    let mut receiver = listener.accept().unwrap();
    let mut sender = connecting.join().unwrap();
    for round in 0..200 {
        sender.send_kind(7, b"plain").unwrap();
        let mut reservation = sender.reserve(500).unwrap();
        reservation.write_at(0, b"shortened");
        reservation.truncate(9);
        reservation.commit();
        drop(sender.reserve(300).unwrap());
        std::mem::forget(sender.try_reserve(100).unwrap());
        let mut batch = sender.batch(3 * record_size(100)).unwrap();
        (0..2).for_each(|n| batch.push(n, &[n as u8; 100]).unwrap());
        batch.commit();
        drop(sender.try_batch(64).unwrap());
        while round % 10 == 0 && sender.try_send(&[1; 700]).is_ok() {}
        if round % 10 == 0 {
            assert_eq!(sender.send_timeout(&[1; 700], Duration::from_millis(1)), Err(SendError::TimedOut));
        }
        assert_eq!(receiver.recv_into(&mut [0; 100]), Ok(5));
        assert_eq!(receiver.recv().unwrap().to_vec(), b"shortened");
        let batch = receiver.recv_many(2).unwrap();
        assert!(batch.iter().all(|message| message.to_vec() == [message.kind() as u8; 100]));
        drop(batch);
        assert!(receiver.try_iter().all(|message| message.bytes == [1; 700]));
        assert_eq!(receiver.recv_timeout(Duration::from_micros(10)).unwrap_err(), RecvError::TimedOut);
        assert!(receiver.is_empty() && !sender.is_disconnected());
    }
}

#[test]
fn values_of_one_type_go_over_a_link() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().fixed::<u64>());
    let path = place.to_path_buf();
    let sending = thread::spawn(move || {
        let other = ringpost::unnamed().fixed::<u32>().connect(&path);
        assert!(matches!(other, Err(OpenError::Mismatch { .. })));
        let mut sender = ringpost::unnamed().fixed::<u64>().connect(&path).unwrap().typed::<u64>().unwrap();
        sender.send(&77).unwrap();
    });
    assert!(listener.accept().is_err(), "it wants another type");
    let mut receiver = listener.accept().unwrap().typed::<u64>().unwrap();
    assert_eq!(receiver.recv().unwrap(), 77);
    sending.join().unwrap();
}

#[test]
fn positions_begin_again_on_a_link_too() {
    let place = Place::new();
    let near_the_wrap = (1 << 56) - 100;
    let listener = place.listen_with(ringpost::unnamed().capacity(4096).start_position(near_the_wrap));
    let sender = place.child("send", "1000");
    let mut receiver = listener.accept().unwrap();
    receive_letters(&mut receiver, 1000);
    assert_eq!(end_of(&mut receiver), RecvError::Disconnected);
    sender.finish();
}
