//! Waiting for many things at once: a descriptor for a receiver, one wait for rings and descriptors, and a handler for each.
//!
//! Who sends is another process. What is asked of order and of names alone is asked inside this one.

mod common;
#[path = "select/dispatcher.rs"]
mod dispatcher;
#[path = "select/readiness.rs"]
mod readiness;
#[path = "select/receive_from.rs"]
mod receive_from;
#[path = "select/waiting.rs"]
mod waiting;

use common::{
    Child, FAR, Line,
    filter::refuse,
    fork::assert_in_fork,
    place::{Door, Place},
    rings::{Shared, Way, child_at, local, open, small_rings},
    stream::scatter,
};
use ringpost::{
    Builder, Dispatcher, Interest, Lanes, LanesError, Readiness, Receiver, RecvError, Select, SelectError,
    Source, SourceId, Stop, Subscriber, Trusted, WaitStrategy,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    io::Errno,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    cell::RefCell,
    fs,
    io::{Read, Write},
    ops::ControlFlow,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::MetadataExt, net::UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::{Duration, Instant},
};

assert_impl_all!(Readiness<Receiver>: Send, AsFd, std::os::fd::AsRawFd);
assert_impl_all!(Select: Send);
assert_impl_all!(Stop: Send, Sync, Clone);
assert_not_impl_any!(Select: Sync, Clone);
assert_impl_all!(SelectError: std::error::Error, Send, Sync, Copy, Into<std::io::Error>);

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        // Says each number on its ring or link.
        ["link", path] => {
            let mut sender = ringpost::connect(path).unwrap();
            say_all(&line, |bytes| sender.send(bytes).unwrap());
        }
        ["one", ring] => {
            let mut sender = open(ring, &line).sender().unwrap();
            say_all(&line, |bytes| sender.send(bytes).unwrap());
        }
        ["many", ring] => {
            let mut sender = open(ring, &line).multi_sender().unwrap();
            say_all(&line, |bytes| sender.send(bytes).unwrap());
        }
        ["publish", ring] => {
            let mut publisher = open(ring, &line).publisher().unwrap();
            say_all(&line, |bytes| publisher.send(bytes).unwrap());
        }
        // Says each number on a pipe.
        ["pipe"] => {
            let mut pipe = fs::File::from(line.take());
            say_all(&line, |bytes| pipe.write_all(bytes).unwrap());
        }
        ["fork-empty-select"] => waiting::fork_empty_select(),
        ["fork-with-sources"] => waiting::fork_with_sources(),
        ["drop"] => drop_while_armed(),
        ["no-thread"] => hear_without_a_thread(),
        ["idle", path] => idle(path),
        ["idle-with-pipe", path] => idle_with_pipe(path),
        ["refused", path, number] => {
            let listener = Door(ringpost::unnamed().capacity(1 << 16).listen(path).unwrap());
            refuse(REFUSALS[number.parse::<usize>().unwrap()]);
            hear_of_all(&listener, &line);
        }
        ["arm-refused", ring, number] => {
            let ring = open(ring, &line);
            refuse(REFUSALS[number.parse::<usize>().unwrap()]);
            let mut receiver = Readiness::new(ring.receiver().unwrap()).unwrap();
            line.tell(0);
            loop {
                match next(&mut receiver, |message| number_of(&message.to_vec())) {
                    Ok(number) => line.tell(number),
                    Err(RecvError::PeerDied { pid, .. }) => return line.tell(pid.into()),
                    Err(other) => panic!("{other}"),
                }
            }
        }
        ["fork", ring] => fork_while_armed(open(ring, &line).receiver().unwrap(), &line),
        _ => panic!("no such role: {words:?}"),
    });
}

/// Says on one way what it is told on the other, and answers when it has been said.
fn say_all(line: &Line, mut say: impl FnMut(&[u8])) {
    line.tell(0);
    while let Some(number) = line.next() {
        say(&number.to_ne_bytes());
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

fn listener() -> Door {
    // It removes its socket itself.
    let path = Place::new().to_path_buf();
    Door(ringpost::unnamed().capacity(1 << 16).listen(path).unwrap())
}

/// A child with a link, and its receiver.
fn linked(listener: &Door) -> (Child, Receiver) {
    let child = Child::start(&format!("link {}", listener.path().display()));
    let receiver = listener.accept().unwrap();
    child.hear();
    (child, receiver)
}

/// A child that sends into a ring.
fn sending(ring: &Shared, kind: &str) -> Child {
    let child = child_at(ring, kind, "");
    child.hear();
    child
}

fn broadcast() -> Shared {
    Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).broadcast(4))
}

/// A child that writes to a pipe, and where that is read.
fn piped() -> (Child, OwnedFd) {
    let (ours, theirs) = std::io::pipe().unwrap();
    let child = Child::start("pipe");
    child.pass(theirs.as_fd());
    child.hear();
    (child, ours.into())
}

fn read_number(pipe: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(rustix::io::read(pipe, &mut bytes).unwrap(), 8);
    u64::from_ne_bytes(bytes)
}

/// Whether the descriptor is readable, within the far end of all waiting or now.
fn readable(fd: &impl AsFd, wait: bool) -> bool {
    let timeout = Timespec { tv_sec: if wait { FAR.as_secs() as _ } else { 0 }, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

/// What a source gives next, with nothing but its descriptor to wait on.
fn next<S: Source, T>(
    source: &mut Readiness<S>,
    mut take: impl FnMut(S::Given<'_>) -> T,
) -> Result<T, RecvError> {
    loop {
        match source.try_next() {
            Ok(given) => return Ok(take(given)),
            Err(RecvError::Empty) => {}
            Err(error) => return Err(error),
        }
        source.arm().unwrap();
        assert!(readable(source, true), "it never became readable");
    }
}

/// How often threads of this process of the name went to sleep of themselves: so often were they awake.
fn sleeps_of(thread: &str) -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let named =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == thread));
    let statuses = named.map(|task| fs::read_to_string(task.join("status")).unwrap());
    let switches = |status: String| {
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    statuses.map(switches).sum()
}

/// What was armed is unmapped, although nobody else wakes the thread that slept on it.
fn drop_while_armed() {
    let ring = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 16));
    let inode = fs::metadata(ring.ring.path().unwrap()).unwrap().ino().to_string();
    let is_mapped = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some(&inode))
    };
    let mut receiver = Readiness::new(ring.ring.receiver().unwrap()).unwrap();
    assert!(!receiver.arm().unwrap() && is_mapped());
    // So that the thread sleeps, most often.
    thread::sleep(Duration::from_millis(20));
    drop((receiver, ring));
    let start = Instant::now();
    while is_mapped() {
        assert!(start.elapsed() < FAR, "it is mapped still");
        thread::yield_now();
    }
}

/// Armed, with a sender that is alive and says nothing: nobody wakes up.
fn idle(path: &str) {
    let listener = Door(ringpost::unnamed().listen(path).unwrap());
    let ring = Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(2));
    let (_linked, receiver) = linked(&listener);
    let _sending = sending(&ring, "many");
    let mut all = [receiver, ring.ring.receiver().unwrap()].map(|receiver| Readiness::new(receiver).unwrap());
    all.iter_mut().for_each(|receiver| assert!(!receiver.arm().unwrap()));
    // More than one thread can sleep on.
    let rings: Vec<_> = (0..300).map(|_| ringpost::unnamed().capacity(4096).in_process().unwrap()).collect();
    let crowd = rings.iter().map(|ring| Readiness::new(ring.receiver().unwrap()).unwrap());
    let mut crowd: Vec<_> = crowd.collect();
    crowd.iter_mut().for_each(|receiver| assert!(!receiver.arm().unwrap()));
    thread::sleep(Duration::from_millis(50));
    let before = sleeps_of("ringpost-porter");
    assert!(before > 0, "there is such a thread");
    thread::sleep(Duration::from_millis(500));
    let slept = sleeps_of("ringpost-porter") - before;
    assert!(slept <= 5, "{slept} times awake in half a second");
}

/// The same for a select that has a descriptor.
fn idle_with_pipe(path: &str) {
    let listener = Door(ringpost::unnamed().listen(path).unwrap());
    let (_linked, receiver) = linked(&listener);
    let (_piped, pipe) = piped();
    let mut select = Select::new();
    select.set_wait(WaitStrategy::Sleep);
    select.add(receiver).unwrap();
    select.add_fd(pipe, Interest::Readable).unwrap();
    assert_eq!(select.wait_timeout(Duration::from_millis(50)), Err(SelectError::TimedOut));
    let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
    let awake = || sleeps_of("ringpost-porter") + sleeps_of(name.trim());
    let before = awake();
    assert_eq!(select.wait_timeout(Duration::from_millis(500)), Err(SelectError::TimedOut));
    let slept = awake() - before;
    assert!(slept <= 20, "{slept} times awake in half a second");
}

/// The parent's value is of no use in a forked child, which starts a thread of its own.
fn fork_while_armed(receiver: Receiver, line: &Line) {
    let mut receiver = Some(Readiness::new(receiver).unwrap());
    assert!(!receiver.as_mut().unwrap().arm().unwrap());
    assert_in_fork(|| {
        let refused = receiver.take().unwrap().arm().is_err();
        let (ring, mut sender) = local();
        let mut own = Readiness::new(ring.receiver().unwrap()).unwrap();
        let armed = !own.arm().unwrap();
        sender.send(b"x").unwrap();
        refused && armed && readable(&own, true)
    });
    line.tell(0);
    line.hear();
    // Still armed.
    let mut receiver = receiver.unwrap();
    assert!(readable(&receiver, true));
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"for the parent");
}

/// What a kernel, a limit or a sandbox refuses, and how.
const REFUSALS: [(libc::c_long, Errno); 3] = [
    (libc::SYS_futex_waitv, Errno::NOSYS),
    (libc::SYS_clone3, Errno::AGAIN),
    (libc::SYS_set_robust_list, Errno::PERM),
];

/// A ring of this process and a stream, where no thread can be had any more to sleep on the ring.
fn hear_without_a_thread() {
    let (ring, mut sender) = local();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let sending = thread::spawn(move || {
        told.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        sender.send(b"x").unwrap();
    });
    refuse(REFUSALS[1]);
    let mut select = Select::new();
    select.set_wait(WaitStrategy::Sleep);
    let (_near, far) = UnixStream::pair().unwrap();
    let ring = select.add(ring.receiver().unwrap()).unwrap();
    select.add_fd(far, Interest::Readable).unwrap();
    tell.send(()).unwrap();
    assert_eq!(select.wait_timeout(FAR), Ok(ring.id()));
    sending.join().unwrap();
    assert!(Readiness::new(select.remove(ring).unwrap()).is_err(), "it needs a thread, and says so");
}

/// Hears of messages over a link and of a pipe, and of the death of who is at the other end of the link.
fn hear_of_all(listener: &Door, line: &Line) {
    let mut select = Select::new();
    line.tell(0);
    let (key, pipe) = (select.add(listener.accept().unwrap()).unwrap(), line.take());
    let pipe = select.add_fd(pipe, Interest::Readable).unwrap();
    loop {
        let ready = select.wait_timeout(FAR).unwrap();
        if ready == pipe {
            line.tell(read_number(&select[pipe]));
            continue;
        }
        match select[key].try_recv() {
            Ok(message) => line.tell(number_of(&message.to_vec())),
            Err(RecvError::Empty) => {}
            Err(RecvError::PeerDied { pid, .. }) => return line.tell(pid.into()),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Keys are compared as [`SourceId`]s are.
#[test]
fn a_source_id_equals_its_key_alone() {
    let (one, two) = (local(), local());
    let mut select = Select::new();
    let first = select.add(one.0.receiver().unwrap()).unwrap();
    let second = select.add(two.0.receiver().unwrap()).unwrap();
    let id: SourceId = first.id();
    assert!(id == first && id != second);
}
