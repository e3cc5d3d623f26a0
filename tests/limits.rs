//! At the limits of the system: a typed error that says what to do, nothing left behind, and what was made before goes on.
//! Each test runs in processes of its own, which get the limit.

mod common;

use common::{Child, FAR, Line, Name};
use nix::unistd::{Uid, getuid, setresuid};
use ringpost::{
    Builder, Lifetime, OpenError, RecvError, Ring, SegmentError, Select, SendError, WaitStrategy, builder,
    unnamed,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

const NOBODY: Uid = Uid::from_raw(65534);

fn small(name: &str) -> Builder {
    builder(name).capacity(4096)
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["descriptors", name] => descriptors(name),
        ["addresses", name] => addresses(name),
        ["threads", name, how] => threads(name, how, &line),
        ["send", name, owner] => {
            let mut sender = small(name).owner(owner.parse().unwrap()).open().unwrap().sender().unwrap();
            sender.send(b"before the end").unwrap();
            line.tell(0);
            line.next();
        }
        ["tight", name, room] => tight(name, room.parse().unwrap()),
        ["container", name] => container(name, &line),
        _ => panic!("{words:?}"),
    });
}

/// Lowers a limit of this process.
fn limit(resource: Resource, value: u64) {
    setrlimit(resource, Rlimit { current: Some(value), ..getrlimit(resource) }).unwrap();
}

#[track_caller]
fn assert_error<T>(result: Result<T, OpenError>, right: impl Fn(&SegmentError) -> bool, advice: &str) {
    let error = result.err().expect("there is no more to be had");
    let text = error.to_string();
    match error {
        OpenError::Segment(error) if right(&error) && text.contains(advice) => {}
        _ => panic!("{error:?}: {text}"),
    }
}

/// A message from one end to the other, and the orderly end.
fn exchange(ring: &Ring) {
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"within the limit").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"within the limit");
    drop(sender);
    assert_eq!(receiver.recv_timeout(FAR).map(drop), Err(RecvError::Disconnected));
}

#[test]
fn a_full_table_of_descriptors_is_an_error_and_what_is_open_goes_on() {
    let name = Name::new();
    Child::start(&format!("descriptors {}", &*name)).finish();
}

fn descriptors(name: &str) {
    let (ring, passed) = (small(name).create().unwrap(), small(name).memfd().unwrap());
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let owned = small(&format!("{name}-owned")).lifetime(Lifetime::Owned).create().unwrap();
    let before = getrlimit(Resource::Nofile).current.unwrap();
    limit(Resource::Nofile, 0);
    let none_left = |error: &SegmentError| matches!(error, SegmentError::NoDescriptor { .. });
    let other = format!("{name}-other");
    assert_error(small(&other).create(), none_left, "ulimit -n");
    assert_error(small(name).open(), none_left, "ulimit -n");
    assert_error(small(name).open_or_create(), none_left, "ulimit -n");
    assert_error(small(name).leftover(), none_left, "ulimit -n");
    assert_error(small(name).memfd(), none_left, "ulimit -n");
    assert_error(ring.inheritable_fd(), none_left, "ulimit -n");

    sender.send(b"without a descriptor").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"without a descriptor");
    drop(sender);
    assert_eq!(receiver.recv_timeout(FAR).map(drop), Err(RecvError::Disconnected), "it has closed");
    drop(receiver);
    exchange(&passed);
    assert!(owned.is_current());
    let path = owned.path().unwrap().to_path_buf();
    drop(owned);
    assert!(!path.exists(), "its maker has taken its name away");
    ring.unlink().unwrap();
    limit(Resource::Nofile, before);
    assert!(!Path::new(&format!("/dev/shm/ringpost.{other}")).exists());
}

#[test]
fn a_limit_on_addresses_is_an_error_that_names_the_size() {
    let name = Name::new();
    Child::start(&format!("addresses {}", &*name)).finish();
}

fn addresses(name: &str) {
    let large = 64 << 20;
    drop(builder(name).capacity(large).create().unwrap());
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let used = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    limit(Resource::As, used + large);
    let no_memory = |error: &SegmentError| matches!(error, SegmentError::NoMemory { .. });
    assert_error(builder(name).open(), no_memory, "ulimit -v");
    assert_error(builder(name).open(), no_memory, &(2 * large).to_string());
    assert_error(unnamed().capacity(large).memfd(), no_memory, "ulimit -v");
    assert_error(unnamed().capacity(large).in_process().map(drop), no_memory, "smaller capacity");
    let other = format!("{name}-other");
    assert_error(builder(&other).capacity(large).create(), no_memory, "ulimit -v");
    assert!(!Path::new(&format!("/dev/shm/ringpost.{other}")).exists());
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains("ringpost.") && !maps.contains("memfd"), "{maps}");
    exchange(&unnamed().capacity(4096).memfd().unwrap());
}

/// Starts a child that may start no thread, so that nothing watches for death but its handles themselves.
fn without_threads(name: &str, how: &str) -> Option<Child> {
    let child = Child::start(&format!("threads {name} {how}"));
    match child.hear() {
        0 => None,
        _ => Some(child),
    }
}

/// Makes a ring and receives from it until the sender dies.
fn threads(name: &str, how: &str, line: &Line) {
    if getuid().is_root() {
        // The limit does not bind root.
        setresuid(NOBODY, NOBODY, NOBODY).unwrap();
    }
    limit(Resource::Nproc, 0);
    let refused = thread::Builder::new().spawn(|| {}).is_err();
    line.tell(refused.into());
    if !refused {
        return;
    }
    let wait = if how == "sleep" { WaitStrategy::Sleep } else { WaitStrategy::Spin };
    let ring = small(name).wait(wait).create().unwrap();
    let mut receiver = ring.receiver().unwrap();
    line.tell(getuid().as_raw().into());
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"before the end");
    line.tell(0);
    let start = Instant::now();
    let end = match how {
        "sleep" | "spin" => receiver.recv_timeout(FAR).map(drop),
        "poll" => loop {
            match receiver.try_recv().map(drop) {
                Err(RecvError::Empty) if start.elapsed() < FAR => {}
                end => break end,
            }
        },
        _ => {
            let mut select = Select::new();
            let key = select.add(receiver).unwrap();
            while select.try_wait().is_err() && start.elapsed() < FAR {}
            select[key].try_recv().map(drop)
        }
    };
    assert!(start.elapsed() < FAR, "only the deadline ended the wait");
    match end {
        Err(RecvError::PeerDied { pid, .. }) => line.tell(pid.into()),
        other => panic!("{other:?}"),
    }
    line.hear();
}

#[test]
fn without_threads_a_death_is_learnt_of_all_the_same() {
    for how in ["sleep", "spin", "poll", "select"] {
        let name = Name::new();
        let Some(receiver) = without_threads(&name, how) else {
            return println!("skipped: the limit on threads can't be had");
        };
        let owner = receiver.hear();
        let mut sender = Child::start(&format!("send {} {owner}", &*name));
        sender.hear();
        receiver.hear();
        let killed = Instant::now();
        sender.kill();
        assert_eq!(receiver.hear(), u64::from(sender.id()));
        println!("{how}: learnt of a death after {} ms without a thread", killed.elapsed().as_millis());
        receiver.tell(0);
        receiver.finish();
    }
}

/// Attaches with so little memory left, in bytes, that the standard library may end the process when it starts the thread
/// that watches.
fn tight(name: &str, room: u64) {
    let ring = small(name).open().unwrap();
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    let used = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    limit(Resource::As, used + room);
    let Ok(mut sender) = ring.sender() else { process::exit(REFUSED) };
    sender.send(b"in spite of all").unwrap();
    sender.send(b"to the end").unwrap();
}

/// Exit code of a process that could not attach and was told so.
const REFUSED: i32 = 77;

#[test]
fn whoever_runs_out_of_memory_while_it_attaches_has_attached_or_is_a_death_that_is_told() {
    let name = Name::new();
    let ring = small(&name).create().unwrap();
    let mut receiver = ring.receiver().unwrap();
    let mut died = 0;
    for room in (0..64).map(|step| step * 8192) {
        // Without memory the standard library can't draw a backtrace: it would wait for itself.
        let role = format!("tight {} {room}", &*name);
        let child = Child::start_with(&role, |command| command.env("RUST_BACKTRACE", "0"));
        let (pid, status) = (child.id(), child.end());
        if status.code() == Some(REFUSED) {
            assert!(receiver.try_recv().is_err(), "{room}");
            receiver.reopen();
            continue;
        }
        let mut received = Vec::new();
        let end = loop {
            match receiver.recv_timeout(FAR) {
                Ok(message) => received.push(message.to_vec()),
                Err(error) => break error,
            }
        };
        let sent = [&b"in spite of all"[..], b"to the end"];
        assert!(status.success() || status.signal().is_some(), "{room}: {status}");
        // Also after it had closed it may have needed memory, to say that all was well.
        if status.success() || end == RecvError::Disconnected {
            assert_eq!((received, end), (sent.map(Vec::from).into(), RecvError::Disconnected), "{room}");
        } else {
            assert_eq!(end, RecvError::PeerDied { pid, unfinished: 0 }, "{room}");
            assert_eq!(received, sent[..received.len()], "{room}");
            died += 1;
        }
        receiver.reopen();
    }
    println!("{died} of 64 died");
}

#[test]
fn in_sixteen_megabytes_of_shared_memory_what_was_made_can_be_written_and_what_was_not_is_told() {
    let name = Name::new();
    let child = Child::start(&format!("container {}", &*name));
    match child.hear() {
        0 => println!("skipped: a small /dev/shm may not be mounted here"),
        _ => child.finish(),
    }
}

/// In a `/dev/shm` as small as a container's: rings until there is no room, and then each byte of them.
fn container(name: &str, line: &Line) {
    // SAFETY: descriptors stay as they are, only the mounts of this thread are its own from now on.
    let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .and_then(|()| mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::empty(), c"size=16m"));
    line.tell(mounted.is_ok().into());
    if mounted.is_err() {
        return;
    }
    let too_large = builder(name).capacity(16 << 20).create();
    let no_space = |error: &SegmentError| matches!(error, SegmentError::NoSpace { .. });
    let (needed, available) = match &too_large {
        Err(OpenError::Segment(SegmentError::NoSpace { needed, available, .. })) => (*needed, *available),
        other => panic!("{other:?}"),
    };
    assert!(needed > 16 << 20 && available == 16 << 20, "{needed} of {available}");
    let text = too_large.unwrap_err().to_string();
    for part in [&needed.to_string(), &available.to_string(), "/dev/shm", "--shm-size", "smaller capacity"] {
        assert!(text.contains(part), "{text}");
    }
    // The default is made for such a place: three fit, with their control areas.
    let mut rings = Vec::new();
    let full = loop {
        match builder(format!("{name}-{}", rings.len())).create() {
            Ok(ring) => rings.push(ring),
            error => break error,
        }
    };
    assert_eq!(rings.len(), 3);
    assert_error(full, no_space, "--shm-size");
    let error = fs::write("/dev/shm/rest", vec![1; 16 << 20]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    // Not one byte is left, and every one of the rings can be written, twice around.
    for ring in &rings {
        let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
        let message = vec![7; 100_000];
        for _ in 0..2 {
            while sender.try_send(&message).is_ok() {}
            assert_eq!(sender.send_timeout(&message, Duration::ZERO), Err(SendError::TimedOut));
            let received = receiver.try_iter().map(|received| assert!(received.bytes == message)).count();
            assert_eq!(received, (4 << 20) / (100_000 + 16));
        }
    }
    fs::remove_file("/dev/shm/rest").unwrap();
    drop(rings.pop());
    builder(format!("{name}-2")).leftover().unwrap().remove().unwrap();
    drop(builder(format!("{name}-2")).create().unwrap());
}
