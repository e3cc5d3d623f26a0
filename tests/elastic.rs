//! Rings whose memory grows with their backlog, up to a ceiling, and is given back.

mod common;

use common::{
    Child, FAR, Line, Name,
    filter::die_at,
    place::Place,
    rings::{
        Attach, Shared, Way, acknowledging, all_acknowledged, attach_when_free, child_at, open,
        received_number,
    },
    stream::{Stream, scatter},
};
use ringpost::{
    Builder, Many, OpenError, Receiver, RecvError, Ring, SegmentError, SendError, Single, WaitStrategy,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{
    fs::File,
    io::Write,
    os::unix::{
        fs::{FileExt, MetadataExt},
        process::ExitStatusExt,
    },
    path::Path,
    thread,
    time::Duration,
};

const MIB: u64 = 1 << 20;
/// The smallest there is: four chunks.
const LEAST: u64 = 256 << 10;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", ring, kind, first] => {
            let (ring, acknowledge) = (open(ring, &line), File::from(line.take()));
            let first = first.parse().unwrap();
            match kind {
                "one" => send_from::<Single>(&ring, first, acknowledge),
                _ => send_from::<Many>(&ring, first, acknowledge),
            }
        }
        ["receive", ring] => {
            let (ring, mut acknowledge) = (open(ring, &line), File::from(line.take()));
            let mut receiver = ring.receiver().unwrap();
            line.tell(0);
            loop {
                let number = next(&mut receiver).unwrap();
                acknowledge.write_all(&number.to_ne_bytes()).unwrap();
            }
        }
        // Is killed as it gives memory back.
        ["release", ring] => {
            let mut receiver = open(ring, &line).receiver().unwrap();
            die_at(&[libc::SYS_fallocate]);
            while next(&mut receiver).is_ok() {}
        }
        ["batch", ring] => {
            let mut sender = open(ring, &line).sender().unwrap();
            sender.send(&payload(0)).unwrap();
            let mut batch = sender.batch(2 * MIB as usize).unwrap();
            (1..500).for_each(|number| batch.push(0, &payload(number)).unwrap());
            line.tell(0);
            line.hear();
        }
        ["fill"] => fill_a_small_tmpfs(&line),
        ["attach"] => attach_where_no_memory_is(&line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// Message `number`: 8 to 20,000 bytes.
fn payload(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(16) { 20_000 } else { 600 };
    let mut bytes = vec![number as u8; 8 + (scatter(number) % (length - 7)) as usize];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Receives a message, which must be whole, and gives its number.
fn next(receiver: &mut Receiver) -> Result<u64, RecvError> {
    received_number(receiver, payload)
}

/// Sends from `first` on for ever, and tells each number once it is sent.
fn send_from<K: Attach>(ring: &Ring, first: u64, mut acknowledge: File) {
    let mut sender = attach_when_free::<K>(ring);
    for number in first.. {
        loop {
            match sender.send(&payload(number)) {
                Ok(()) => break,
                // Another receiver comes.
                Err(SendError::PeerDied { .. }) => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        acknowledge.write_all(&number.to_ne_bytes()).unwrap();
    }
}

/// Bytes of memory that the ring has.
fn memory_of(ring: &Ring) -> u64 {
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    file.metadata().unwrap().blocks() * 512
}

/// Bytes that are there in any case.
fn control_of(ring: &Ring) -> u64 {
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    file.metadata().unwrap().len() - ring.info().capacity
}

fn elastic(ceiling: u64) -> impl Fn(Builder) -> Builder {
    move |builder| builder.elastic(ceiling)
}

fn rings(ceiling: u64) -> impl Iterator<Item = (Shared, &'static str)> {
    [(Way::Name, "one"), (Way::Inherit, "many")].into_iter().map(move |(way, kind)| {
        let set = elastic(ceiling);
        (
            if kind == "one" { Shared::new(way, set) } else { Shared::new(way, |b| set(b).many_senders(4)) },
            kind,
        )
    })
}

/// Tries to send a message.
type TrySend = Box<dyn FnMut(&[u8]) -> Result<(), SendError>>;

/// Whatever kind of sender the ring is for.
fn sender_of(ring: &Ring, kind: &str) -> TrySend {
    match kind {
        "one" => {
            let mut sender = ring.sender().unwrap();
            Box::new(move |message| sender.try_send(message))
        }
        _ => {
            let mut sender = ring.multi_sender().unwrap();
            Box::new(move |message| sender.try_send(message))
        }
    }
}

#[test]
fn memory_grows_with_the_backlog_and_shrinks_with_it() {
    let chunk = MIB;
    for (ring, kind) in rings(16 * MIB) {
        let ring = &ring.ring;
        assert!(ring.info().elastic && ring.info().capacity == 16 * MIB);
        let control = control_of(ring);
        assert!(memory_of(ring) <= control + chunk, "it begins small");
        let mut send = sender_of(ring, kind);
        let mut receiver = ring.receiver().unwrap();
        for _ in 0..3 {
            for sent in 1..=10 * MIB / 4096 {
                send(&[7; 4096 - 16]).unwrap();
                let memory = memory_of(ring);
                assert!(memory >= sent * 4096 && memory <= control + sent * 4096 + 2 * chunk, "{memory}");
            }
            for left in (0..10 * MIB / 4096).rev() {
                drop(receiver.try_recv().unwrap());
                let memory = memory_of(ring);
                assert!(memory >= left * 4096 && memory <= control + left * 4096 + 2 * chunk, "{memory}");
            }
            assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn the_ceiling_is_an_error_that_names_it_and_holds_nobody_up_for_ever() {
    for (ring, kind) in rings(LEAST) {
        let ring = &ring.ring;
        let mut send = sender_of(ring, kind);
        let full = (0..).find_map(|_| send(&[1; 1000]).err()).unwrap();
        assert_eq!(full, SendError::AtCeiling { ceiling: LEAST, timed_out: false });
        assert!(full.to_string().contains(&LEAST.to_string()), "{full}");
        assert!(memory_of(ring) <= control_of(ring) + LEAST);
        let mut receiver = ring.receiver().unwrap();
        let mut received = 0;
        while send(&[2; 1000]).is_err() {
            drop(receiver.try_recv().unwrap());
            received += 1;
        }
        assert!(received * 1016 < 3 * LEAST / 4, "room comes back before the ring is empty: {received}");
    }
    let ring = ringpost::unnamed().elastic(LEAST).wait(WaitStrategy::Sleep).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    while sender.try_send(&[1; 1000]).is_ok() {}
    let error = sender.send_timeout(&[1; 1000], Duration::from_millis(5)).unwrap_err();
    assert_eq!(error, SendError::AtCeiling { ceiling: LEAST, timed_out: true });
    assert!(error.to_string().contains(&LEAST.to_string()), "{error}");
    // And one that waits is woken.
    let mut receiver = ring.receiver().unwrap();
    thread::scope(|scope| {
        let sending = scope.spawn(move || sender.send_timeout(&[2; 1000], FAR));
        while !sending.is_finished() {
            let _ = receiver.recv_timeout(Duration::from_millis(1)).map(drop);
        }
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn every_message_arrives_whole_over_many_laps_and_over_the_wrap_of_the_positions() {
    for start in [0, (1 << 56) - (LEAST / 8) - 3, 12_345] {
        let set = |builder: Builder| builder.elastic(LEAST).start_position(start);
        let ring = set(ringpost::unnamed()).many_senders(2).memfd().unwrap();
        let longest = ring.info().longest_message;
        assert_eq!(longest as u64, LEAST - LEAST / 4 - 16);
        let mut receiver = ring.receiver().unwrap();
        let senders = [1, 2].map(|_| ring.multi_sender().unwrap());
        thread::scope(|scope| {
            for (name, mut sender) in (1..).zip(senders) {
                scope.spawn(move || {
                    let stream = Stream::new(longest);
                    for number in 0..5000 {
                        let letter = stream.letter(name, number);
                        sender.send_kind(letter.kind, letter.bytes).unwrap();
                    }
                });
            }
            let stream = Stream::new(longest);
            let mut numbers = [0, 0];
            while numbers != [5000, 5000] {
                let message = receiver.recv_timeout(FAR).unwrap();
                let name = u64::from(message.sender().slot);
                let number = &mut numbers[name as usize - 1];
                let letter = stream.letter(name, *number);
                assert_eq!((message.kind(), &message.to_vec()[..]), (letter.kind, letter.bytes));
                *number += 1;
            }
        });
        assert!(memory_of(&ring) <= control_of(&ring) + 2 * (LEAST / 4));
    }
}

#[test]
fn the_longest_batch_fits_beside_the_chunk_that_is_received() {
    let ring = ringpost::unnamed().elastic(LEAST).memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let most = (LEAST - LEAST / 4) as usize;
    assert!(matches!(sender.batch(most + 8), Err(SendError::TooLong { longest, .. }) if longest == most));
    for round in 0..50 {
        sender.send(&vec![0; 1000 * round]).unwrap();
        drop(receiver.recv().unwrap());
        let mut batch = sender.try_batch(most).unwrap();
        batch.push(round as u16, &vec![1; most - 16]).unwrap();
        batch.commit();
        assert_eq!(receiver.recv().unwrap().kind(), round as u16);
    }
}

#[test]
fn what_a_dead_batch_had_placed_is_gone_with_its_memory() {
    let ring = Shared::new(Way::Pass, elastic(4 * MIB));
    let mut receiver = ring.ring.receiver().unwrap();
    let mut child = child_at(&ring, "batch", "");
    child.hear();
    assert!(memory_of(&ring.ring) > 2 * MIB);
    child.kill();
    let mut sender = ring.ring.sender().unwrap();
    assert!(memory_of(&ring.ring) <= control_of(&ring.ring) + 2 * (MIB / 4));
    assert_eq!(next(&mut receiver), Ok(0));
    // Over where the batch was, several laps, and nothing else is received.
    for number in 1000..6000 {
        sender.send(&payload(number)).unwrap();
        assert_eq!(next_of_a_living(&mut receiver), number);
        assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    }
}

/// The next number; the death of an earlier sender may be told before.
fn next_of_a_living(receiver: &mut Receiver) -> u64 {
    loop {
        match next(receiver) {
            Ok(number) => return number,
            Err(RecvError::PeerDied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn zeros_are_never_a_message() {
    let ring = ringpost::unnamed().elastic(LEAST).memfd().unwrap();
    let file = File::from(ring.fd().unwrap().try_clone_to_owned().unwrap());
    let mut key = [0; 8];
    file.read_exact_at(&mut key, 56).unwrap();
    assert_eq!(u64::from_ne_bytes(key) & 0xff, 0, "a tag of zero would be of state 0");
    // At the very position for which a zero would be a tag, if it were one for any.
    let position = u64::from_ne_bytes(key) >> 8;
    drop(ring);
    let ring = ringpost::unnamed().elastic(LEAST).start_position(position).memfd().unwrap();
    let mut receiver = ring.receiver().unwrap();
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn what_can_not_be_elastic_is_refused() {
    let refused = |made: Result<Ring, OpenError>| assert!(matches!(made, Err(OpenError::Setting { .. })));
    refused(ringpost::unnamed().elastic(LEAST / 2).memfd());
    refused(ringpost::unnamed().elastic(LEAST).broadcast(2).memfd());
    let in_process = ringpost::unnamed().elastic(LEAST).in_process();
    assert!(matches!(in_process, Err(OpenError::Setting { .. })));
    let place = Place::new();
    assert!(matches!(ringpost::unnamed().elastic(LEAST).listen(&*place), Err(OpenError::Mismatch { .. })));

    let name = Name::new();
    let _plain = ringpost::builder(&*name).capacity(LEAST).create().unwrap();
    assert!(matches!(ringpost::builder(&*name).elastic(LEAST).open(), Err(OpenError::Mismatch { .. })));
    let name = Name::new();
    let _elastic = ringpost::builder(&*name).elastic(LEAST).create().unwrap();
    let error = ringpost::builder(&*name).elastic(2 * LEAST).open().unwrap_err();
    assert!(matches!(error, OpenError::Mismatch { .. }), "{error}");
    let opened = ringpost::builder(&*name).open().unwrap();
    assert!(opened.info().elastic);
    assert!(memory_of(&opened) < LEAST, "opening it takes no memory");
}

#[test]
fn opening_and_looking_take_no_memory() {
    let name = Name::new();
    let ring = ringpost::builder(&*name).elastic(64 * MIB).create().unwrap();
    let before = memory_of(&ring);
    let opened = ringpost::builder(&*name).open().unwrap();
    let (mut receiver, sender) = (opened.receiver().unwrap(), ring.sender().unwrap());
    assert!(receiver.is_empty());
    drop(sender);
    let again = ring.sender().unwrap();
    assert_eq!(memory_of(&ring), before);
    drop(again);
}

/// What a sender finds that has read the receiver's position, just before that one goes on and gives its chunks back: a ring for
/// one sender, and several chunks without memory from the position on that its words name.
fn overtaken(name: &str) -> Ring {
    let ring = ringpost::builder(name).elastic(8 * MIB).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    for _ in 0..2000 {
        sender.send(&[1; 1000]).unwrap();
        drop(receiver.try_recv().unwrap());
    }
    drop((sender, receiver));
    let file = File::options().write(true).open(format!("/dev/shm/ringpost.{name}")).unwrap();
    file.write_all_at(&0u64.to_ne_bytes(), POSITION).unwrap();
    ring
}

/// Byte of a ring's file at which the receiver's position stands.
const POSITION: u64 = 4096;

#[test]
fn a_sender_that_comes_leaves_memory_that_was_taken_where_it_is() {
    let name = Name::new();
    let ring = overtaken(&name);
    let before = memory_of(&ring);
    assert!(before < control_of(&ring) + 2 * MIB, "most of it was taken");
    drop(ring.sender().unwrap());
    assert_eq!(memory_of(&ring), before);
}

#[test]
fn a_ring_whose_words_are_garbage_gives_errors_and_no_panic() {
    for round in 0..60u64 {
        let (name, many) = (Name::new(), round % 2 == 1);
        let builder = ringpost::builder(&*name).elastic(LEAST);
        let ring = if many { builder.many_senders(3) } else { builder }.create().unwrap();
        let file = File::options().write(true).open(name.path()).unwrap();
        let noise = |words: u64| (0..words).flat_map(|n| scatter(round << 32 | n).to_ne_bytes()).collect();
        let noise: Vec<u8> = match round % 3 {
            // Receiver, senders, slots and a chunk; or the receiver's words; or its two positions.
            0 => noise((control_of(&ring) - 4096) / 8 + LEAST / 32),
            1 => noise(512),
            _ => noise(1),
        };
        file.write_all_at(&noise, 4096).unwrap();
        if round % 3 == 2 {
            file.write_all_at(&(scatter(round) % (2 * LEAST / 8)).to_ne_bytes(), 4096 + 432).unwrap();
        }
        let opened = ringpost::builder(&*name).open().unwrap();
        if many {
            let _ =
                opened.multi_sender().map(|mut sender| (0..300).map(|_| sender.try_send(&[1; 2000])).count());
        } else {
            let _ = opened.sender().map(|mut sender| (0..300).map(|_| sender.try_send(&[1; 2000])).count());
        }
        if let Ok(mut receiver) = opened.receiver() {
            for _ in 0..300 {
                let _ = receiver.try_recv().map(|message| message.to_vec());
            }
        }
        assert!(memory_of(&ring) <= control_of(&ring) + LEAST);
    }
}

// ---- kills ----

fn rounds() -> u64 {
    if common::long() { 1000 } else { 30 }
}

fn after_a_moment(round: u64) {
    thread::sleep(Duration::from_micros(scatter(round) % 3000));
}

#[test]
fn a_sender_that_is_killed_anywhere_loses_nothing_that_it_sent() {
    for (ring, kind) in rings(LEAST) {
        let mut receiver = ring.ring.receiver().unwrap();
        for round in 0..rounds() {
            let first = round << 32;
            let (mut sender, acknowledged) = acknowledging(&ring, "send", &format!("{kind} {first}"));
            // Reads along, so that the sender's pipe is never full.
            let told = thread::spawn(move || all_acknowledged(acknowledged));
            let most = first + 1 + scatter(round) % 300;
            for number in first..most {
                assert_eq!(next_of_a_living(&mut receiver), number);
            }
            after_a_moment(round);
            sender.kill();
            let mut number = most;
            let error = loop {
                match next(&mut receiver) {
                    Ok(received) => assert_eq!(received, number),
                    Err(error) => break error,
                }
                number += 1;
            };
            assert!(matches!(error, RecvError::PeerDied { pid, .. } if pid == sender.id()), "{error}");
            let last = told.join().unwrap().last().map_or(first, |last| last + 1);
            assert!(number == last || number == last + 1, "{last} were sent, {number} came");
            let memory = memory_of(&ring.ring);
            assert!(memory <= control_of(&ring.ring) + LEAST, "{memory}");
        }
        assert!(memory_of(&ring.ring) <= control_of(&ring.ring) + 3 * (LEAST / 4));
    }
}

#[test]
fn a_receiver_that_is_killed_anywhere_loses_nothing_that_was_not_released() {
    for (ring, kind) in rings(LEAST) {
        let (mut sender, sent) = acknowledging(&ring, "send", &format!("{kind} 0"));
        let sent = thread::spawn(move || all_acknowledged(sent));
        let (mut released, mut killed) = (0, 0);
        for round in 0..rounds() {
            let (mut receiver, acknowledged) = acknowledging(&ring, "receive", "");
            // The next one may be there only once the last one is dead by proof.
            receiver.hear();
            let told = thread::spawn(move || all_acknowledged(acknowledged));
            after_a_moment(round);
            receiver.kill();
            for (index, number) in told.join().unwrap().into_iter().enumerate() {
                // Each that was killed since may have released one that it did not acknowledge.
                let most = if index == 0 { released + killed } else { released };
                assert!(
                    (released..=most).contains(&number),
                    "{number} behind {released}, {killed} killed since"
                );
                (released, killed) = (number + 1, 0);
            }
            killed += 1;
        }
        sender.kill();
        let mut receiver = ring.ring.receiver().unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| next(&mut receiver).ok()).collect();
        let first = rest.first().copied().unwrap_or(released);
        assert!(
            (released..=released + killed).contains(&first),
            "{first} behind {released}, {killed} killed since"
        );
        assert!(rest.iter().copied().eq(first..first + rest.len() as u64));
        let last = sent.join().unwrap().last().map_or(0, |last| last + 1);
        assert!([last, last + 1].contains(&(first + rest.len() as u64)));
        assert!(memory_of(&ring.ring) <= control_of(&ring.ring) + 3 * (LEAST / 4));
    }
}

#[test]
fn what_was_released_is_counted_also_when_its_receiver_is_killed_as_it_gives_memory_back() {
    for (ring, kind) in rings(LEAST) {
        let mut send = sender_of(&ring.ring, kind);
        let sent = (0..).take_while(|&number| send(&payload(number)).is_ok()).count() as u64;
        let status = child_at(&ring, "release", "").end();
        assert_eq!(ExitStatusExt::signal(&status), Some(libc::SIGSYS));
        let mut receiver = ring.ring.receiver().unwrap();
        let rest = (0..).take_while(|_| receiver.try_recv().is_ok()).count() as u64;
        assert!(rest > 0 && rest < sent);
        let counted = ring.ring.statistics();
        let pending = (counted.pending_messages(), counted.pending_bytes());
        assert_eq!((counted.receiver.messages, pending), (sent, (0, 0)));
    }
}

// ---- no memory ----

#[test]
fn where_no_memory_is_left_a_sender_is_told_and_goes_on_when_there_is() {
    let child = Child::start("fill");
    if child.hear() == 0 {
        return println!("skipped: a small /dev/shm may not be mounted here");
    }
    child.finish();
}

#[test]
fn a_sender_that_comes_needs_no_memory_where_it_was_taken() {
    let child = Child::start("attach");
    if child.hear() == 0 {
        return println!("skipped: a small /dev/shm may not be mounted here");
    }
    child.finish();
}

/// Mounts a /dev/shm of 4 MiB that goes with this thread. False where that is forbidden.
fn mount_a_small_tmpfs(line: &Line) -> bool {
    // SAFETY: descriptors stay as they are, only the mounts of this thread are its own from now on.
    let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .and_then(|()| mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::empty(), c"size=4m"));
    line.tell(mounted.is_ok().into());
    mounted.is_ok()
}

/// Not one page is left: whoever touches one that is not there ends with SIGBUS.
fn attach_where_no_memory_is(line: &Line) {
    if !mount_a_small_tmpfs(line) {
        return;
    }
    let name = Name::new();
    let ring = overtaken(&name);
    let mut rest = File::create("/dev/shm/rest").unwrap();
    while rest.write(&[1; 4096]).is_ok() {}
    drop(ring.sender().unwrap());
    // Room for the header of another one, and not for its first chunk.
    rest.set_len(rest.metadata().unwrap().len() - (128 << 10)).unwrap();
    let refused = ringpost::builder(&*Name::new()).elastic(4 * MIB).create().unwrap_err();
    let OpenError::Segment(SegmentError::NoSpace { dir, needed, available }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(dir.unwrap(), Path::new("/dev/shm"));
    assert!(available < needed && needed > 256 << 10, "{available} of {needed}");
}

/// An elastic ring that may have more memory than there is.
fn fill_a_small_tmpfs(line: &Line) {
    if !mount_a_small_tmpfs(line) {
        return;
    }
    for kind in ["one", "many"] {
        let name = Name::new();
        let builder = ringpost::builder(&*name).elastic(8 * MIB);
        let ring = if kind == "one" { builder } else { builder.many_senders(3) }.create().unwrap();
        let mut send = sender_of(&ring, kind);
        let mut receiver = ring.receiver().unwrap();
        for _ in 0..3 {
            let mut sent = 0u64;
            let error = loop {
                match send(&sent.to_ne_bytes().repeat(500)) {
                    Ok(()) => sent += 1,
                    Err(error) => break error,
                }
            };
            assert_eq!(error, SendError::NoMemory);
            assert!(sent * 4000 > 2 * MIB && sent * 4000 < 4 * MIB, "{sent}");
            assert_eq!(send(&[1; 4000]), Err(SendError::NoMemory));
            for number in 0..sent {
                assert_eq!(receiver.try_recv().unwrap().to_vec(), number.to_ne_bytes().repeat(500));
            }
            assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
        }
    }
}
