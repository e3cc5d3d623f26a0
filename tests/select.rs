//! Waiting for many things at once: a descriptor for a receiver, one wait for rings and descriptors, and a handler for each.
//!
//! Who sends is another process. What is asked of order and of names alone is asked inside this one.

mod common;

use common::{
    Child, FAR, Line,
    rings::{Shared, Way, child_at, open, small_rings},
    stream::scatter,
};
use ringpost::{
    Builder, Dispatcher, Interest, Lanes, LanesError, Listener, Readiness, Receiver, RecvError, Ring, Select,
    SelectError, Sender, Source, SourceId, Stop, Subscriber, Trusted, WaitStrategy,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll, poll},
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
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
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
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
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
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
        ["drop"] => drop_while_armed(),
        ["no-thread"] => hear_without_a_thread(),
        ["idle", path] => idle(path),
        ["idle-with-pipe", path] => idle_with_pipe(path),
        ["refused", path, number] => {
            let listener = ringpost::unnamed().capacity(1 << 16).listen(path).unwrap();
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
    }
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

/// A path for a listener.
fn path() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Relaxed);
    std::env::temp_dir().join(format!("ringpost-select-{}-{number}", std::process::id()))
}

fn listener() -> Listener {
    ringpost::unnamed().capacity(1 << 16).listen(path()).unwrap()
}

/// A child with a link, and its receiver.
fn linked(listener: &Listener) -> (Child, Receiver) {
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

fn local() -> (Ring<Trusted>, Sender<Trusted>) {
    let ring = ringpost::unnamed().capacity(1 << 16).in_process().unwrap();
    let sender = ring.sender().unwrap();
    (ring, sender)
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

mod readiness {
    use super::*;

    #[test]
    fn a_message_of_another_process_makes_an_armed_descriptor_readable() {
        for (ring, kind) in small_rings() {
            let mut receiver = Readiness::new(ring.ring.receiver().unwrap()).unwrap();
            let sender = sending(&ring, kind);
            for round in 0..100 {
                sender.tell(round);
                assert_eq!(next(&mut receiver, |message| number_of(&message.to_vec())), Ok(round));
            }
            sender.hang_up();
            assert_eq!(next(&mut receiver, |_| ()), Err(RecvError::Disconnected));
            sender.finish();
        }
    }

    #[test]
    fn a_link_and_a_broadcast_make_one_readable_as_well() {
        let (sender, receiver) = linked(&listener());
        let ring = broadcast();
        let subscriber = ring.ring.subscriber().unwrap();
        let publisher = sending(&ring, "publish");
        let (mut receiver, mut subscriber) =
            (Readiness::new(receiver).unwrap(), Readiness::new(subscriber).unwrap());
        for round in 0..100 {
            sender.tell(round);
            assert_eq!(next(&mut receiver, |message| number_of(&message.to_vec())), Ok(round));
            publisher.tell(round);
            assert_eq!(next(&mut subscriber, |message| number_of(&message.to_vec())), Ok(round));
        }
    }

    #[test]
    fn the_death_of_the_sender_makes_it_readable() {
        let kill = |mut child: Child, receiver: Receiver| {
            let pid = child.id();
            let mut receiver = Readiness::new(receiver).unwrap();
            thread::scope(|threads| {
                let waiting = threads.spawn(|| next(&mut receiver, |_| ()));
                // While it is armed, most often.
                thread::sleep(Duration::from_millis(10));
                child.kill();
                assert_eq!(waiting.join().unwrap(), Err(RecvError::PeerDied { pid, unfinished: 0 }));
            });
            // It is told, and would be again.
            assert!(receiver.arm().unwrap());
            assert!(readable(&receiver, false));
        };
        for (ring, kind) in small_rings() {
            let receiver = ring.ring.receiver().unwrap();
            kill(sending(&ring, kind), receiver);
        }
        let (child, receiver) = linked(&listener());
        kill(child, receiver);
        let ring = broadcast();
        let mut subscriber = Readiness::new(ring.ring.subscriber().unwrap()).unwrap();
        let mut publisher = sending(&ring, "publish");
        subscriber.arm().unwrap();
        publisher.kill();
        let died = RecvError::PeerDied { pid: publisher.id(), unfinished: 0 };
        assert_eq!(next(&mut subscriber, |_| ()), Err(died));
    }

    #[test]
    fn looking_tells_nothing_of_several_deaths() {
        let ring = Shared::new(Way::Inherit, |builder: Builder| builder.capacity(1 << 16).many_senders(4));
        let mut receiver = Readiness::new(ring.ring.receiver().unwrap()).unwrap();
        let mut senders = [0; 3].map(|_| sending(&ring, "many"));
        senders.iter_mut().for_each(Child::kill);
        let mut told = Vec::new();
        for _ in &senders {
            // More than once, so that what a look finds is not lost.
            while !receiver.arm().unwrap() {
                assert!(readable(&receiver, true));
            }
            match receiver.try_recv() {
                Err(RecvError::PeerDied { pid, .. }) => told.push(pid),
                Err(RecvError::Empty) => {}
                other => panic!("{other:?}"),
            }
        }
        while told.len() < 3 {
            match next(&mut receiver, |_| ()) {
                Err(RecvError::PeerDied { pid, .. }) => told.push(pid),
                other => panic!("{other:?}"),
            }
        }
        told.sort();
        let mut pids = senders.map(|sender| sender.id());
        pids.sort();
        assert_eq!(told, pids);
    }

    #[test]
    fn what_is_not_armed_stays_unreadable_and_use_disarms() {
        let (ring, mut sender) = local();
        let mut receiver = Readiness::new(ring.receiver().unwrap()).unwrap();
        sender.send(b"x").unwrap();
        assert!(!readable(&receiver, false), "nobody has armed it");
        assert!(receiver.arm().unwrap(), "there is something already");
        assert!(readable(&receiver, false));
        receiver.disarm();
        assert!(!readable(&receiver, false));
        assert!(receiver.arm().unwrap() && receiver.arm().unwrap());
        assert_eq!(*receiver.try_recv().unwrap(), *b"x");
        assert!(!readable(&receiver, false), "it was used");
        assert!(!receiver.arm().unwrap());
        assert!(!readable(&receiver, false), "there is nothing");
        sender.send(b"y").unwrap();
        assert!(readable(&receiver, true));
        // Without a look in between.
        assert!(receiver.arm().unwrap());
        assert_eq!(*receiver.recv().unwrap(), *b"y");
        assert!(!receiver.arm().unwrap());
        sender.send(b"y").unwrap();
        assert!(readable(&receiver, true));
        assert_eq!(*receiver.recv().unwrap(), *b"y");
        assert!(!readable(&receiver, false), "it was used");
        assert!(!receiver.arm().unwrap());
        receiver.disarm();
        sender.send(b"z").unwrap();
        assert!(!readable(&receiver, false), "it was disarmed");
        assert_eq!(*receiver.into_inner().recv().unwrap(), *b"z");
    }

    #[test]
    fn an_event_loop_that_is_told_of_edges_misses_none() {
        let rings: Vec<_> = (0..5).map(|_| local()).collect();
        let mut receivers: Vec<_> =
            rings.iter().map(|(ring, _)| Readiness::new(ring.receiver().unwrap()).unwrap()).collect();
        let events = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for (number, receiver) in receivers.iter().enumerate() {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&events, receiver, epoll::EventData::new_u64(number as u64), flags).unwrap();
        }
        let messages = if common::long() { 200_000 } else { 5000 };
        let mut counts = [0_u64; 5];
        thread::scope(|threads| {
            for (number, (_, mut sender)) in rings.into_iter().enumerate() {
                threads.spawn(move || {
                    for message in 0..messages {
                        sender.send(&u64::to_ne_bytes(message)).unwrap();
                        if scatter(message ^ number as u64).is_multiple_of(4) {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut open = receivers.len();
            receivers.iter_mut().for_each(|receiver| assert!(receiver.arm().is_ok()));
            while open > 0 {
                let mut found = Vec::with_capacity(8);
                let timeout = Timespec { tv_sec: FAR.as_secs() as _, tv_nsec: 0 };
                epoll::wait(&events, rustix::buffer::spare_capacity(&mut found), Some(&timeout)).unwrap();
                assert!(!found.is_empty(), "an edge was missed: {counts:?}");
                for number in found.into_iter().map(|event| event.data.u64() as usize) {
                    let end = loop {
                        match receivers[number].try_recv() {
                            Ok(message) => {
                                assert_eq!(number_of(&message), counts[number]);
                                counts[number] += 1;
                            }
                            Err(end) => break end,
                        }
                    };
                    match end {
                        RecvError::Empty => assert!(receivers[number].arm().is_ok()),
                        RecvError::Disconnected => open -= 1,
                        other => panic!("{other}"),
                    }
                }
            }
        });
        assert_eq!(counts, [messages; 5]);
    }

    #[test]
    fn more_are_armed_at_once_than_a_thread_can_sleep_on() {
        let mut rings: Vec<_> = (0..300).map(|_| local()).collect();
        let mut receivers: Vec<_> =
            rings.iter().map(|(ring, _)| Readiness::new(ring.receiver().unwrap()).unwrap()).collect();
        receivers.iter_mut().for_each(|receiver| assert!(!receiver.arm().unwrap()));
        for number in (0..300).step_by(7).chain([299]) {
            rings[number].1.send(b"x").unwrap();
            assert!(readable(&receivers[number], true), "number {number}");
        }
        assert!(!readable(&receivers[1], false));
    }

    #[test]
    fn what_was_armed_and_dropped_gives_its_memory_back() {
        Child::start("drop").finish();
    }

    #[test]
    fn a_message_and_a_death_make_it_readable_whatever_call_the_kernel_refuses() {
        // Without threads there is no such thing, and an error says so.
        for number in [0, 2] {
            let ring = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 16));
            let host = child_at(&ring, "arm-refused", &number.to_string());
            host.hear();
            let mut sender = sending(&ring, "one");
            for round in 0..20 {
                sender.tell(round);
                assert_eq!(host.hear_before_the_end(), Some(round), "{number}");
            }
            thread::sleep(Duration::from_millis(10));
            sender.kill();
            assert_eq!(host.hear_before_the_end(), Some(sender.id().into()), "{number}");
            host.finish();
        }
    }

    #[test]
    fn while_nothing_comes_the_thread_does_not_wake_up() {
        let path = path();
        Child::start(&format!("idle {}", path.display())).finish();
    }

    #[test]
    fn a_forked_child_is_refused_and_can_have_its_own() {
        let ring = Shared::new(Way::Name, |builder: Builder| builder.capacity(1 << 16));
        let child = child_at(&ring, "fork", "");
        child.hear();
        ring.ring.sender().unwrap().send(b"for the parent").unwrap();
        child.tell(0);
        child.finish();
    }
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
    let listener = ringpost::unnamed().listen(path).unwrap();
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
    let listener = ringpost::unnamed().listen(path).unwrap();
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
    let mut receiver = Readiness::new(receiver).unwrap();
    assert!(!receiver.arm().unwrap());
    // SAFETY: the child ends without returning.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let refused = receiver.arm().is_err();
        drop(receiver);
        let (ring, mut sender) = local();
        let mut own = Readiness::new(ring.receiver().unwrap()).unwrap();
        let armed = !own.arm().unwrap();
        sender.send(b"x").unwrap();
        let good = refused && armed && readable(&own, true);
        // SAFETY: ends this process without any clean-up that is the parent's.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let (_, status) = waitpid(Some(Pid::from_raw(child).unwrap()), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
    line.tell(0);
    line.hear();
    // Still armed.
    assert!(readable(&receiver, true));
    assert_eq!(receiver.try_recv().unwrap().to_vec(), b"for the parent");
}

/// What a kernel, a limit or a sandbox refuses, and how.
const REFUSALS: [(libc::c_long, Errno); 3] = [
    (libc::SYS_futex_waitv, Errno::NOSYS),
    (libc::SYS_clone3, Errno::AGAIN),
    (libc::SYS_set_robust_list, Errno::PERM),
];

/// From now on the call fails so, in this thread and in those that it starts.
fn refuse((call, error): (libc::c_long, Errno)) {
    let step = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (equal, answer) = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    let mut program = [
        step(load, 0, 0, 0),
        step(equal, call as u32, 0, 1),
        step(answer, libc::SECCOMP_RET_ERRNO | error.raw_os_error() as u32, 0, 0),
        step(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives until both calls have returned.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(refused);
}

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
fn hear_of_all(listener: &Listener, line: &Line) {
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

mod select {
    use super::*;

    #[test]
    fn whichever_source_has_something_wakes_who_sleeps_on_all() {
        for (with_pipe, strategy) in [
            (false, WaitStrategy::Sleep),
            (false, WaitStrategy::SpinThenSleep),
            (true, WaitStrategy::Sleep),
            (true, WaitStrategy::SpinThenSleep),
            (true, WaitStrategy::Spin),
        ] {
            let mut select = Select::new();
            select.set_wait(strategy);
            let ring = Shared::new(Way::Pass, |builder: Builder| builder.capacity(1 << 16).many_senders(4));
            let prices = broadcast();
            let (linked, receiver) = linked(&listener());
            let link = select.add(receiver).unwrap();
            let many = select.add(ring.ring.receiver().unwrap()).unwrap();
            let subscriber = select.add(prices.ring.subscriber().unwrap()).unwrap();
            let mut senders = vec![linked, sending(&ring, "many"), sending(&prices, "publish")];
            let mut ids = vec![link.id(), many.id(), subscriber.id()];
            let pipe = with_pipe.then(|| {
                let (child, pipe) = piped();
                let key = select.add_fd(pipe, Interest::Readable).unwrap();
                senders.push(child);
                ids.push(key.id());
                key
            });
            for round in 0..200 {
                let chosen = scatter(round) as usize % senders.len();
                senders[chosen].tell(round);
                let got = loop {
                    let ready = select.wait_timeout(FAR).unwrap();
                    let got = if ready == link {
                        select[link].try_recv().map(|message| number_of(&message.to_vec()))
                    } else if ready == many {
                        select[many].try_recv().map(|message| number_of(&message.to_vec()))
                    } else if ready == subscriber {
                        select[subscriber].try_recv().map(|message| number_of(&message.to_vec()))
                    } else {
                        Ok(read_number(&select[pipe.unwrap()]))
                    };
                    if got != Err(RecvError::Empty) {
                        assert_eq!(ready, ids[chosen]);
                        break got;
                    }
                };
                assert_eq!(got, Ok(round));
            }
        }
    }

    #[test]
    fn sources_that_are_ready_are_named_in_turn() {
        let mut rings: Vec<_> = (0..3).map(|_| local()).collect();
        let mut select = Select::new();
        let mut keys = Vec::new();
        let mut streams = Vec::new();
        let mut ids = Vec::new();
        for (ring, sender) in &mut rings {
            (0..4).for_each(|_| sender.send(b"x").unwrap());
            let key = select.add(ring.receiver().unwrap()).unwrap();
            keys.push(key);
            ids.push(key.id());
            let (mut near, far) = UnixStream::pair().unwrap();
            near.write_all(b"xxxx").unwrap();
            streams.push(near);
            ids.push(select.add_fd(far, Interest::Readable).unwrap().id());
        }
        let named: Vec<_> = (0..24).map(|_| select.try_wait().unwrap()).collect();
        assert_eq!(named, ids.repeat(4), "nobody has asked them yet");
        for key in keys {
            while select[key].try_recv().is_ok() {}
        }
        let named: Vec<_> = (0..6).map(|_| select.try_wait().unwrap()).collect();
        assert_eq!(named, [ids[1], ids[3], ids[5]].repeat(2));
    }

    #[test]
    fn a_descriptor_is_named_while_a_ring_always_has_messages_and_the_other_way_round() {
        let (ring, mut sender) = local();
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut select = Select::new();
        let ring = select.add(ring.receiver().unwrap()).unwrap();
        let pipe = select.add_fd(far, Interest::Readable).unwrap();
        let mut named = [0; 2];
        for _ in 0..1000 {
            while sender.try_send(&[0; 1000]).is_ok() {}
            near.write_all(b"x").unwrap();
            let ready = select.wait_timeout(FAR).unwrap();
            if ready == ring {
                drop(select[ring].try_recv().unwrap());
            } else {
                assert!(select[pipe].read(&mut [0; 9]).unwrap() > 0);
            }
            named[usize::from(ready == pipe)] += 1;
        }
        assert_eq!(named, [500; 2]);
    }

    #[test]
    fn an_end_is_named_until_the_source_is_taken_out() {
        let (ring, sender) = local();
        let (near, far) = UnixStream::pair().unwrap();
        let mut select = Select::new();
        let ring = select.add(ring.receiver().unwrap()).unwrap();
        let stream = select.add_fd(far, Interest::Readable).unwrap();
        assert_eq!(select.try_wait(), Err(SelectError::Empty));
        drop(sender);
        let named: Vec<_> = (0..3).map(|_| select.wait_timeout(FAR).unwrap()).collect();
        assert_eq!(named, [ring.id(); 3]);
        drop(near);
        let named: Vec<_> = (0..200).map(|_| select.wait_timeout(FAR).unwrap()).collect();
        assert!(named.contains(&stream.id()));
        assert!(named.contains(&ring.id()), "although the other is always ready");
        assert_eq!(select.remove(ring).unwrap().try_recv().map(drop), Err(RecvError::Disconnected));
        assert_eq!(select.remove(stream).unwrap().read(&mut [0]).unwrap(), 0);
        assert!(select.remove(ring).is_none() && select.get_mut(stream).is_none());
        assert_eq!(select.wait(), Err(SelectError::NoSources));
    }

    #[test]
    fn a_death_wakes_who_sleeps_on_rings_and_descriptors() {
        for with_pipe in [false, true] {
            let host = listener();
            let mut select = Select::new();
            select.set_wait(WaitStrategy::Sleep);
            let mut senders: Vec<_> = (0..3)
                .map(|_| {
                    let (child, receiver) = linked(&host);
                    (child, select.add(receiver).unwrap())
                })
                .collect();
            let _pipe = with_pipe.then(|| {
                let (child, pipe) = piped();
                select.add_fd(pipe, Interest::Readable).unwrap();
                child
            });
            for (child, key) in senders.iter_mut().rev() {
                thread::scope(|threads| {
                    let waiting = threads.spawn(|| {
                        loop {
                            let ready = select.wait_timeout(FAR).unwrap();
                            assert!(ready == *key, "{ready:?}");
                            match select[*key].try_recv() {
                                Err(RecvError::Empty) => {}
                                other => break other.map(drop),
                            }
                        }
                    });
                    thread::sleep(Duration::from_millis(10));
                    child.kill();
                    let died = RecvError::PeerDied { pid: child.id(), unfinished: 0 };
                    assert_eq!(waiting.join().unwrap(), Err(died));
                });
                select.remove(*key).unwrap();
            }
        }
    }

    /// The messages of processes that are killed at any moment: what they have sent is heard, and then their death.
    #[test]
    fn of_processes_that_are_killed_while_they_send_all_is_heard_and_then_the_death() {
        let rounds = if common::long() { 300 } else { 6 };
        let host = listener();
        for round in 0..rounds {
            let mut select = Select::new();
            let (mut near, far) = UnixStream::pair().unwrap();
            let ticks = select.add_fd(far, Interest::Readable).unwrap();
            let mut senders: Vec<_> = (0..3)
                .map(|_| {
                    let (child, receiver) = linked(&host);
                    (child, select.add(receiver).unwrap(), 0, false)
                })
                .collect();
            let mut open = senders.len();
            for step in 0.. {
                if step % 8 == 0 {
                    near.write_all(b"x").unwrap();
                }
                let chosen = scatter(round * 1000 + step) as usize % 3;
                let (child, _, told, dead) = &mut senders[chosen];
                if !*dead && *told < 50 {
                    child.tell(*told);
                    *told += 1;
                } else if !*dead {
                    child.kill();
                    *dead = true;
                }
                if senders.iter().all(|(.., dead)| *dead) {
                    break;
                }
            }
            let mut heard = [0; 3];
            while open > 0 {
                let ready = select.wait_timeout(FAR).unwrap();
                if ready == ticks {
                    assert!(select[ticks].read(&mut [0; 3]).unwrap() > 0);
                    continue;
                }
                let number = senders.iter().position(|(_, key, ..)| ready == *key).unwrap();
                let (child, key, ..) = &senders[number];
                match select[*key].try_recv() {
                    Ok(message) => {
                        assert_eq!(number_of(&message.to_vec()), heard[number]);
                        heard[number] += 1;
                        continue;
                    }
                    Err(RecvError::Empty) => continue,
                    Err(RecvError::PeerDied { pid, .. }) => assert_eq!(pid, child.id()),
                    Err(other) => panic!("{other}"),
                }
                select.remove(*key).unwrap();
                open -= 1;
            }
        }
    }

    #[test]
    fn waiting_ends_at_the_deadline() {
        let mut select = Select::new();
        assert_eq!(select.wait(), Err(SelectError::NoSources));
        let (ring, _sender) = local();
        let (_near, far) = UnixStream::pair().unwrap();
        let ring = select.add(ring.receiver().unwrap()).unwrap();
        let waits_in_vain = |select: &mut Select| {
            let (start, wait) = (Instant::now(), Duration::from_millis(30));
            assert_eq!(select.wait_timeout(wait), Err(SelectError::TimedOut));
            assert!(start.elapsed() >= wait);
            let deadline = Instant::now() + wait;
            assert_eq!(select.wait_deadline(deadline), Err(SelectError::TimedOut));
            assert!(Instant::now() >= deadline);
        };
        waits_in_vain(&mut select);
        select.add_fd(far, Interest::Readable).unwrap();
        waits_in_vain(&mut select);
        select.set_wait(WaitStrategy::Spin);
        waits_in_vain(&mut select);
        select.remove(ring).unwrap();
        select.set_wait(WaitStrategy::Sleep);
        waits_in_vain(&mut select);
    }

    #[test]
    fn there_is_room_for_127_rings_and_any_number_of_descriptors() {
        let mut rings: Vec<_> = (0..128).map(|_| local()).collect();
        let mut select = Select::new();
        let mut receivers = rings.iter().map(|(ring, _)| ring.receiver().unwrap());
        let keys: Vec<_> =
            receivers.by_ref().take(127).map(|receiver| select.add(receiver).unwrap()).collect();
        let refused = select.add(receivers.next().unwrap()).map(|_| ());
        assert_eq!(refused, Err(SelectError::TooMany { most: 127 }));
        let (_near, far) = UnixStream::pair().unwrap();
        for _ in 0..200 {
            select.add_fd(far.try_clone().unwrap(), Interest::Readable).unwrap();
        }
        let writable = select.add_fd(far, Interest::Writable).unwrap();
        assert_eq!(select.len(), 127 + 201);
        assert!(select.wait_timeout(FAR).unwrap() == writable);
        select.remove(writable).unwrap();
        let (_, last) = &mut rings[126];
        thread::scope(|threads| {
            let waiting = threads.spawn(|| select.wait_timeout(FAR).unwrap());
            thread::sleep(Duration::from_millis(10));
            last.send(b"x").unwrap();
            assert_eq!(waiting.join().unwrap(), keys[126].id());
        });
    }

    #[test]
    fn a_key_fits_its_source_alone() {
        let (ring, _sender) = local();
        let mut select = Select::new();
        let key = select.add(ring.receiver().unwrap()).unwrap();
        let mut other = Select::new();
        let (_near, far) = UnixStream::pair().unwrap();
        let stream = other.add_fd(far, Interest::Readable).unwrap();
        assert!(other.get_mut(key).is_none() && other.remove(key).is_none());
        // Neither is one of the same type, which its own value would take.
        let mut third = Select::new();
        let (second_ring, _second) = local();
        let same_type = third.add(second_ring.receiver().unwrap()).unwrap();
        assert!(key.id() != same_type);
        assert!(select.get_mut(same_type).is_none() && third.get_mut(key).is_none());
        assert!(catch_unwind(AssertUnwindSafe(|| third[key].peer())).is_err());
        assert!(third.remove(key).is_none() && third.len() == 1);
        assert!(select.get_mut(stream).is_none());
        assert!(catch_unwind(AssertUnwindSafe(|| select[stream].as_fd().try_clone_to_owned())).is_err());
        assert!(select.remove(key).is_some());
    }

    #[test]
    fn while_nothing_comes_nobody_wakes_up_although_there_is_a_descriptor() {
        let path = path();
        Child::start(&format!("idle-with-pipe {}", path.display())).finish();
    }

    #[test]
    fn a_ring_beside_a_descriptor_is_heard_of_where_no_thread_can_be_had() {
        Child::start("no-thread").finish();
    }

    #[test]
    fn messages_descriptors_and_a_death_are_heard_of_whatever_call_the_kernel_refuses() {
        for number in 0..REFUSALS.len() {
            let path = path();
            let host = Child::start(&format!("refused {} {number}", path.display()));
            host.hear();
            let mut sender = Child::start(&format!("link {}", path.display()));
            let (near, far) = std::io::pipe().unwrap();
            host.pass(near.as_fd());
            sender.hear();
            for round in 0..20 {
                sender.tell(round);
                assert_eq!(host.hear_before_the_end(), Some(round));
                rustix::io::write(&far, &u64::to_ne_bytes(round + 100)).unwrap();
                assert_eq!(host.hear_before_the_end(), Some(round + 100));
            }
            sender.kill();
            assert_eq!(host.hear_before_the_end(), Some(sender.id().into()), "{number}");
            host.finish();
        }
    }
}

mod dispatcher {
    use super::*;

    #[test]
    fn each_message_is_handled_in_order_and_each_end_once() {
        const MESSAGES: u64 = 2000;
        let host = listener();
        let prices = broadcast();
        let subscriber = prices.ring.subscriber().unwrap();
        let mut publisher = sending(&prices, "publish");
        let (sender, receiver) = linked(&host);
        let (piping, pipe) = piped();
        let counts = RefCell::new([0_u64; 3]);
        let ends = RefCell::new(Vec::new());
        let count = |number: usize, bytes: &[u8]| {
            let mut counts = counts.borrow_mut();
            assert_eq!(number_of(bytes), counts[number]);
            counts[number] += 1;
        };
        let mut dispatcher = Dispatcher::new()
            .on_with_end(
                receiver,
                |message| count(0, &message.to_vec()),
                |source: Receiver, error| ends.borrow_mut().push((source.peer().unwrap().pid, error)),
            )
            .unwrap()
            .on_with_end(
                subscriber,
                |message| count(1, &message.to_vec()),
                |_: Subscriber, error| ends.borrow_mut().push((0, error)),
            )
            .unwrap()
            .on_fd(pipe, Interest::Readable, |pipe| {
                let mut bytes = [0; 8];
                match rustix::io::read(pipe, &mut bytes).unwrap() {
                    0 => ControlFlow::Break(()),
                    _ => {
                        count(2, &bytes);
                        ControlFlow::Continue(())
                    }
                }
            })
            .unwrap();
        let (linked, died) = (sender.id(), publisher.id());
        thread::scope(|threads| {
            threads.spawn(move || {
                for number in 0..MESSAGES {
                    [&sender, &publisher, &piping].iter().for_each(|child| child.tell(number));
                }
                sender.hang_up();
                piping.hang_up();
                sender.finish();
                piping.finish();
                // Until all is sent, however slow its reader is.
                while prices.ring.statistics().receiver.messages < MESSAGES {
                    thread::yield_now();
                }
                publisher.kill();
            });
            dispatcher.run().unwrap();
        });
        drop(dispatcher);
        assert_eq!(counts.into_inner(), [MESSAGES; 3]);
        let died = (0, RecvError::PeerDied { pid: died, unfinished: 0 });
        assert_eq!(ends.into_inner(), [(linked, RecvError::Disconnected), died]);
    }

    #[test]
    fn a_handler_that_panics_ends_the_run_and_the_next_goes_on_behind_its_message() {
        let (ring, mut sender) = local();
        let heard = RefCell::new(Vec::new());
        let handler = |message: ringpost::Message<'_, Trusted>| {
            heard.borrow_mut().push(message[0]);
            assert!(message[0] != 2, "as this test wants it");
        };
        let mut dispatcher = Dispatcher::new().on(ring.receiver().unwrap(), handler).unwrap();
        (1..=3).for_each(|number| sender.send(&[number]).unwrap());
        drop(sender);
        assert!(catch_unwind(AssertUnwindSafe(|| dispatcher.run())).is_err());
        assert_eq!(*heard.borrow(), [1, 2]);
        dispatcher.run().unwrap();
        assert_eq!(*heard.borrow(), [1, 2, 3]);
    }

    #[test]
    fn a_panic_when_a_source_has_ended_loses_no_other_handler() {
        let ((first, ending), (second, mut going_on)) = (local(), local());
        let heard = RefCell::new(Vec::new());
        let mut dispatcher = Dispatcher::new()
            .on_with_end(first.receiver().unwrap(), |_| {}, |_, _| panic!("as this test wants it"))
            .unwrap()
            .on_with_end(
                second.receiver().unwrap(),
                |message| heard.borrow_mut().push(message[0]),
                |_, _| heard.borrow_mut().push(0),
            )
            .unwrap();
        drop(ending);
        assert!(catch_unwind(AssertUnwindSafe(|| dispatcher.run())).is_err());
        (1..=3).for_each(|number| going_on.send(&[number]).unwrap());
        drop(going_on);
        // Far more turns than there is to do: what has no handler would be named without end.
        assert!((0..1000).any(|_| !dispatcher.turn().unwrap()), "it never ends");
        drop(dispatcher);
        assert_eq!(heard.into_inner(), [1, 2, 3, 0]);
    }

    #[test]
    fn stop_ends_a_run_that_sleeps_and_the_next_one_goes_on() {
        for with_pipe in [false, true] {
            let (ring, mut sender) = local();
            let (_near, far) = UnixStream::pair().unwrap();
            let heard = RefCell::new(0);
            let mut dispatcher =
                Dispatcher::new().on(ring.receiver().unwrap(), |_| *heard.borrow_mut() += 1).unwrap();
            if with_pipe {
                dispatcher =
                    dispatcher.on_fd(far, Interest::Readable, |_| ControlFlow::Continue(())).unwrap();
            }
            let stop = dispatcher.stop();
            for round in 0..50 {
                sender.send(b"x").unwrap();
                thread::scope(|threads| {
                    let stop = stop.clone();
                    threads.spawn(move || {
                        if round % 2 == 0 {
                            thread::sleep(Duration::from_millis(1));
                        }
                        stop.stop();
                    });
                    dispatcher.run().unwrap();
                });
            }
            drop(sender);
            if with_pipe {
                // The stream stays open, so the run would not end by itself.
                while *heard.borrow() < 50 {
                    assert!(dispatcher.turn().unwrap());
                }
            } else {
                dispatcher.run().unwrap();
            }
            drop(dispatcher);
            assert_eq!(heard.into_inner(), 50);
        }
    }

    #[test]
    fn a_handler_can_stop_and_what_it_has_not_handled_stays() {
        let (ring, mut sender) = local();
        (0..10_u8).for_each(|number| sender.send(&[number]).unwrap());
        let (stop, mut heard) = (RefCell::new(None::<Stop>), Vec::new());
        let mut dispatcher = Dispatcher::new();
        *stop.borrow_mut() = Some(dispatcher.stop());
        let key = dispatcher
            .add(
                ring.receiver().unwrap(),
                |message| {
                    heard.push(message[0]);
                    if message[0] == 4 {
                        stop.borrow().as_ref().unwrap().stop();
                    }
                },
                |_, _| {},
            )
            .unwrap();
        dispatcher.run().unwrap();
        let mut receiver = dispatcher.remove(key).unwrap();
        assert!(dispatcher.remove(key).is_none());
        assert!(!dispatcher.turn().unwrap(), "no source is left");
        drop(dispatcher);
        assert_eq!(heard, [0, 1, 2, 3, 4]);
        assert_eq!(receiver.recv().unwrap()[0], 5);
    }

    #[test]
    fn after_a_stop_no_other_source_is_handled() {
        let (first, second) = (local(), local());
        let stop = RefCell::new(None::<Stop>);
        let others = RefCell::new(0);
        let mut dispatcher = Dispatcher::new()
            .on(first.0.receiver().unwrap(), |_| stop.borrow().as_ref().unwrap().stop())
            .unwrap()
            .on(second.0.receiver().unwrap(), |_| *others.borrow_mut() += 1)
            .unwrap();
        *stop.borrow_mut() = Some(dispatcher.stop());
        for (_, mut sender) in [first, second] {
            sender.send(b"x").unwrap();
        }
        dispatcher.run().unwrap();
        assert_eq!(*others.borrow(), 0);
        dispatcher.run().unwrap();
        assert_eq!(*others.borrow(), 1);
    }

    #[test]
    fn a_descriptor_whose_handler_breaks_is_dropped() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"xyz").unwrap();
        let mut heard = Vec::new();
        let mut dispatcher = Dispatcher::new()
            .on_fd(far, Interest::Readable, |far| {
                let mut byte = [0];
                far.read_exact(&mut byte).unwrap();
                heard.push(byte[0]);
                if byte == *b"y" { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        dispatcher.run().unwrap();
        assert!(near.write_all(b"x").is_err(), "the other end is closed");
        drop(dispatcher);
        assert_eq!(heard, b"xy");
    }
}

mod receive_from {
    use super::*;

    #[test]
    fn the_messages_of_one_come_first_and_those_of_the_others_are_not_lost() {
        let host = listener();
        let mut lanes = Lanes::new();
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (child, receiver) = linked(&host);
                (child, lanes.add(receiver).unwrap())
            })
            .collect();
        for (child, lane) in &senders {
            let peer = lanes.peers().find(|&(_, peer)| peer.unwrap().pid == child.id());
            assert_eq!(peer.unwrap().0, *lane);
            (0..20).for_each(|number| child.tell(number));
        }
        let last = senders[2].1;
        for number in 0..20 {
            let message = lanes.recv_from_timeout(last, FAR).unwrap();
            assert_eq!(number_of(&message.to_vec()), number);
            assert_eq!(message.sender().pid, senders[2].0.id());
        }
        assert_eq!(lanes.try_recv_from(last).map(drop), Err(LanesError::Empty));
        let waiting = lanes.recv_from_timeout(last, Duration::from_millis(10)).map(drop);
        assert_eq!(waiting, Err(LanesError::TimedOut));
        let mut heard = [0; 2];
        for _ in 0..40 {
            let (lane, message) = lanes.recv_timeout(FAR).unwrap();
            let number = senders.iter().position(|&(_, other)| lane == other).unwrap();
            assert_eq!(number_of(&message.to_vec()), heard[number]);
            heard[number] += 1;
        }
        assert_eq!(heard, [20; 2]);
    }

    #[test]
    fn the_death_of_the_one_ends_its_lane_and_no_other() {
        let host = listener();
        let mut lanes = Lanes::new();
        let (mut first, lane) = linked(&host);
        let lane = lanes.add(lane).unwrap();
        let (second, other) = linked(&host);
        let other = lanes.add(other).unwrap();
        second.tell(7);
        first.kill();
        let error = RecvError::PeerDied { pid: first.id(), unfinished: 0 };
        let deadline = Instant::now() + FAR;
        let got = lanes.recv_from_deadline(lane, deadline).map(drop);
        assert_eq!(got, Err(LanesError::Ended { lane, error }));
        assert_eq!(lanes.recv_from(lane).map(drop), Err(LanesError::NoSuchLane { lane }));
        assert_eq!(number_of(&lanes.recv_from(other).unwrap().to_vec()), 7);
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
