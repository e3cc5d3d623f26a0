//! Each system call of the library fails once, in whichever thread it is made: a typed error or success, nothing left
//! behind, no message lost, and the same again goes well.
//!
//! A child runs a scene under ptrace. A first run counts the calls that the library makes in it; then there is a run for
//! each of them, and for each way in which it can fail, in which just that one does. Threads meet differently each time, so
//! the long form, `RINGPOST_LONG=1`, does all of that twenty times.

#![cfg(target_arch = "x86_64")]

#[path = "system_calls/calls.rs"]
mod calls;
mod common;
#[path = "system_calls/tracer.rs"]
mod tracer;

use calls::{faults, left_alone};
use common::{FAR, Name};
use nix::{
    sys::{
        ptrace,
        signal::{Signal, kill, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use ringpost::{Builder, MultiSender, Receiver, RecvError, Ring, SendError, WaitStrategy, builder, unnamed};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs::{self, File},
    io::{Read, Seek, Write},
    os::unix::net::UnixStream,
    panic::{self, AssertUnwindSafe},
    path::Path,
    thread,
    time::Duration,
};
use tracer::{MARK, Point, Run, Tracer};

/// What a child does with the ring of this name; the stream leads to a process of which it can make use.
type Scene = fn(&Steps<'_>, &str, Helper);

// ---- the child ----

/// Whether the library is at work, told to the tracer.
struct Steps<'a>(&'a File);

impl Steps<'_> {
    /// The calls in here are the library's.
    fn library<T>(&self, act: impl FnOnce() -> T) -> T {
        // SAFETY: there is no such system call; the kernel says so, and does nothing.
        unsafe { libc::syscall(MARK, 1) };
        let result = act();
        // SAFETY: as above.
        unsafe { libc::syscall(MARK, 0) };
        result
    }

    /// Does it; once more when it is refused, which happens once in a run.
    fn again<T, E: Debug>(&self, mut act: impl FnMut() -> Result<T, E>) -> T {
        self.library(&mut act).unwrap_or_else(|error| {
            writeln!(&mut &*self.0, "refused: {error:?}").unwrap();
            self.library(act).expect("nothing fails twice")
        })
    }
}

/// Another process that attaches as a sender, sends a message, and waits to be killed.
struct Helper {
    pid: Pid,
    line: UnixStream,
}

impl Helper {
    fn start(name: &str) -> Self {
        let (mut theirs, line) = UnixStream::pair().unwrap();
        // SAFETY: only this thread goes on in the child, which takes no lock but the allocator's, that fork(3) leaves usable.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { pid: child, line },
            ForkResult::Child => {
                drop(line);
                end_with_parent();
                let helped = panic::catch_unwind(AssertUnwindSafe(|| {
                    if theirs.read_exact(&mut [0]).is_ok() {
                        let ring = builder(name).open().unwrap();
                        let mut sender = ring.multi_sender().unwrap();
                        sender.send(&payload(0)).unwrap();
                        theirs.write_all(&[0]).unwrap();
                        let _ = theirs.read(&mut [0]);
                    }
                }));
                exit(helped.is_err().into())
            }
        }
    }

    /// Lets it send its message, and kills it.
    fn send_and_die(&mut self) {
        self.line.write_all(&[0]).unwrap();
        self.line.read_exact(&mut [0]).unwrap();
        self.end();
    }

    fn end(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, None);
    }
}

fn end_with_parent() {
    // SAFETY: makes this process end with its parent, and when it hangs.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(30);
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends the process at once; what it has from its parent is left alone.
    unsafe { libc::_exit(code) }
}

/// Runs the scene in a child, and lets it fail at a point.
fn run(scene: Scene, name: &str, target: Option<(Point, usize)>) -> (Run, String) {
    let mut said: File = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC).unwrap().into();
    // SAFETY: as for the helper.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            end_with_parent();
            exit(play(scene, name, &said))
        }
        ForkResult::Parent { child } => {
            let fault = |call: &tracer::Call| {
                let faults = faults(call);
                let (_, way) = target?;
                faults.get(way % faults.len().max(1)).copied()
            };
            let run = Tracer::run(child, target.map(|(point, _)| point), fault);
            let mut text = String::new();
            said.rewind().unwrap();
            said.read_to_string(&mut text).unwrap();
            (run, text)
        }
    }
}

fn play(scene: Scene, name: &str, said: &File) -> i32 {
    let helper = Helper::start(name);
    let helper_pid = helper.pid;
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    let hook = said.try_clone().unwrap();
    panic::set_hook(Box::new(move |info| {
        let _ = writeln!(&hook, "{info}");
    }));
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        let before = descriptors();
        scene(&Steps(said), name, helper);
        let after: Vec<_> = descriptors().difference(&before).cloned().collect();
        assert!(after.is_empty(), "descriptors are left: {after:?}");
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let left: Vec<_> = maps
            .lines()
            .filter(|line| line.contains("ringpost"))
            .filter(|l| !l.contains("/target/"))
            .collect();
        assert!(left.is_empty(), "mappings are left: {left:#?}");
        // A thread that was joined may still be about to vanish.
        while fs::read_dir("/proc/self/task").unwrap().count() > 1 {
            thread::yield_now();
        }
    }));
    let _ = kill(helper_pid, Signal::SIGKILL);
    i32::from(played.is_err())
}

/// Number and target of each descriptor, but that of the helper's line and of the listing itself.
fn descriptors() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).filter(|link| !link.starts_with("/proc/")).collect()
}

/// Message `number`.
fn payload(number: u64) -> Vec<u8> {
    let mut bytes = vec![number as u8; 100 + (number % 7) as usize];
    bytes[..8].copy_from_slice(&number.to_ne_bytes());
    bytes
}

fn small(name: &str) -> Builder {
    builder(name).capacity(4096).many_senders(3).wait(WaitStrategy::Sleep)
}

/// Sends and receives, each message once and whole.
fn exchange(steps: &Steps<'_>, sender: &mut MultiSender, receiver: &mut Receiver) {
    for number in 1..20 {
        steps.library(|| sender.send(&payload(number))).unwrap();
        let message = steps.library(|| receiver.recv_timeout(FAR).map(|message| message.to_vec())).unwrap();
        assert_eq!(message, payload(number));
    }
    assert_eq!(steps.library(|| receiver.try_recv().map(drop)), Err(RecvError::Empty));
}

// ---- the scenes ----

/// A named ring is made, opened, used, and taken away.
fn named(steps: &Steps<'_>, name: &str, helper: Helper) {
    helper.end();
    drop(helper);
    let path = format!("/dev/shm/ringpost.{name}");
    let made = steps.again(|| {
        assert!(!Path::new(&path).exists(), "what could not be made has no name");
        small(name).create()
    });
    let opened = steps.again(|| small(name).open_or_create());
    assert_eq!(made.info(), opened.info());
    let mut receiver = steps.again(|| made.receiver());
    let mut sender = steps.again(|| opened.multi_sender());
    exchange(steps, &mut sender, &mut receiver);
    assert!(steps.library(|| made.statistics()).receiver.attached);
    steps.library(|| drop(sender));
    assert_eq!(steps.library(|| receiver.recv().map(drop)), Err(RecvError::Disconnected));
    steps.library(|| drop(receiver));
    steps.again(|| made.unlink());
    steps.library(|| drop((made, opened)));

    // Made again, and left over.
    drop(steps.again(|| small(name).open_or_create()));
    steps.again(|| small(name).leftover()?.remove());
    assert!(!Path::new(&path).exists());
}

/// A memfd is made and passed; each side sleeps until the other wakes it, or in vain.
fn asleep(steps: &Steps<'_>, _name: &str, helper: Helper) {
    helper.end();
    drop(helper);
    let ring = steps.again(|| unnamed().capacity(4096).many_senders(3).wait(WaitStrategy::Sleep).memfd());
    let opened = steps.again(|| unnamed().wait(WaitStrategy::Sleep).from_fd(ring.inheritable_fd()?));
    let mut receiver = steps.again(|| ring.receiver());
    let mut sender = steps.again(|| opened.multi_sender());
    exchange(steps, &mut sender, &mut receiver);

    // In vain.
    let moment = Duration::from_millis(2);
    assert_eq!(steps.library(|| receiver.recv_timeout(moment).map(drop)), Err(RecvError::TimedOut));
    let mut sent = 0;
    while steps.library(|| sender.try_send(&payload(sent))).is_ok() {
        sent += 1;
    }
    assert_eq!(steps.library(|| sender.send_timeout(&payload(sent), moment)), Err(SendError::TimedOut));

    // Woken: the sender by room, then the receiver by a message.
    thread::scope(|threads| {
        threads.spawn(|| steps.library(|| sender.send(&payload(sent))).unwrap());
        wait_until(&ring, |ring| ring.statistics().senders[0].blocked == 2);
        for number in 0..sent {
            let message = steps.library(|| receiver.recv().map(|message| message.to_vec())).unwrap();
            assert_eq!(message, payload(number));
        }
    });
    let message = steps.library(|| receiver.recv().map(|message| message.to_vec())).unwrap();
    assert_eq!(message, payload(sent));
    let blocked = ring.statistics().receiver.blocked;
    thread::scope(|threads| {
        let taken =
            threads.spawn(|| steps.library(|| receiver.recv().map(|message| message.to_vec())).unwrap());
        wait_until(&ring, |ring| ring.statistics().receiver.blocked > blocked);
        steps.library(|| sender.send(b"wake up")).unwrap();
        assert_eq!(taken.join().unwrap(), b"wake up");
    });
    steps.library(|| drop(receiver));
    assert_eq!(steps.library(|| sender.send(b"to nobody")), Err(SendError::Disconnected));
    steps.library(|| drop((sender, ring, opened)));
}

fn wait_until(ring: &Ring, right: impl Fn(&Ring) -> bool) {
    while !right(ring) {
        thread::yield_now();
    }
}

/// The other process is killed, and its message arrives before the news of its death.
fn death(steps: &Steps<'_>, name: &str, mut helper: Helper) {
    let ring = steps.again(|| small(name).create());
    let mut receiver = steps.again(|| ring.receiver());
    helper.send_and_die();
    let message = steps.library(|| receiver.recv_timeout(FAR).map(|message| message.to_vec())).unwrap();
    assert_eq!(message, payload(0));
    let died = RecvError::PeerDied { pid: helper.pid.as_raw() as u32, unfinished: 0 };
    assert_eq!(steps.library(|| receiver.recv_timeout(FAR).map(drop)), Err(died));
    let mut successor = steps.again(|| ring.multi_sender());
    exchange(steps, &mut successor, &mut receiver);
    steps.again(|| ring.unlink());
    steps.library(|| drop((successor, receiver, ring)));
}

// ---- the verdict ----

/// Whether this process may trace its children.
fn may_trace() -> bool {
    // SAFETY: as for the helper.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => exit(ptrace::traceme().is_err().into()),
        ForkResult::Parent { child } => waitpid(child, None) == Ok(WaitStatus::Exited(child, 0)),
    }
}

fn every_call_fails_once(scene: Scene) {
    if !may_trace() {
        return println!("skipped: this process may not trace its children");
    }
    let name = Name::new();
    let (whole, said) = run(scene, &name, None);
    assert!(matches!(whole.end, WaitStatus::Exited(_, 0)), "{:?}: {said}", whole.end);
    assert_eq!(said, "");
    let rounds = if common::long() { 20 } else { 1 };
    let (mut injected, mut errors, mut wrong) = (0, 0, Vec::new());
    let mut reasons = BTreeMap::new();
    for (point, call) in &whole.calls {
        if let Some(reason) = left_alone(call) {
            *reasons.entry(reason).or_insert(0) += 1;
            continue;
        }
        let ways = faults(call).len();
        assert!(ways > 0, "nothing is said of {call}");
        for way in (0..ways).cycle().take(ways * rounds) {
            let (run, said) = run(scene, &name, Some((*point, way)));
            let Some((call, fault)) = run.failed else { continue };
            injected += 1;
            errors += usize::from(!said.is_empty());
            let left = fs::remove_file(name.path()).is_ok();
            if !matches!(run.end, WaitStatus::Exited(_, 0)) || left {
                wrong.push(format!("{point:?} {call} {fault:?}: {:?}, name left: {left}\n{said}", run.end));
            }
        }
    }
    println!(
        "{} calls, {injected} failures injected, {errors} of them an error; left alone: {reasons:?}",
        whole.calls.len()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(injected > 100, "only {injected} failures");
}

#[test]
fn each_call_of_making_opening_and_removing_fails_once() {
    every_call_fails_once(named);
}

#[test]
fn each_call_of_sleeping_and_waking_fails_once() {
    every_call_fails_once(asleep);
}

#[test]
fn each_call_of_learning_of_a_death_fails_once() {
    every_call_fails_once(death);
}

#[test]
fn no_wait_depends_on_the_wall_clock() {
    if !may_trace() {
        return println!("skipped: this process may not trace its children");
    }
    let name = Name::new();
    let (run, said) = run(asleep, &name, None);
    assert!(matches!(run.end, WaitStatus::Exited(_, 0)), "{:?}: {said}", run.end);
    let mut waits = 0;
    for (_, call) in run.calls {
        let [_, operation, _, timeout, clock, _] = call.arguments;
        match call.number {
            libc::SYS_futex if timeout != 0 => {
                let kind = operation as i32 & 0x7f;
                waits += usize::from(matches!(kind, libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET));
                assert_eq!(operation as i32 & libc::FUTEX_CLOCK_REALTIME, 0, "{call}");
            }
            libc::SYS_futex_waitv if timeout != 0 => {
                assert_eq!(clock as i32, libc::CLOCK_MONOTONIC, "{call}")
            }
            _ => {}
        }
    }
    assert!(waits >= 2, "each side has waited with a deadline");
}
