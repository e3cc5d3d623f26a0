//! What a message costs, and what waiting for one costs: no system call, and nothing.

use super::{
    common::{
        self, Child, Line,
        rings::{Attach, Shared, Way, child_at},
    },
    until,
};
use memmap2::MmapOptions;
use ringpost::{Builder, Many, Receiver, RecvError, Ring, SendError, Sender, Single, Untrusted};
use rustix::thread::futex;
use std::{
    fs, hint, io,
    os::unix::process::ExitStatusExt,
    process::Command,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::*},
    thread,
    time::Duration,
};

/// Messages that are passed without a system call.
const SEALED: u64 = 100_000;

/// Makes a system call that [`seal`] forbids.
pub fn break_the_seal() {
    seal();
    // SAFETY: asks for a number.
    unsafe { libc::getppid() };
    leave(0)
}

/// From here on, any system call of this thread kills the process, but its end.
fn seal() {
    let instruction =
        |code: u32, k: libc::c_long, jt: u8| libc::sock_filter { code: code as u16, jt, jf: 0, k: k as u32 };
    let mut program = [
        // The number of the call is the first word of what the filter is given.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_exit_group, 1),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS.into(), 0),
        instruction(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW.into(), 0),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: a number for this thread.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    // SAFETY: the kernel copies the filter, which lives until then.
    let sealed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    assert_eq!(sealed, 0, "{}", io::Error::last_os_error());
}

/// The end of a sealed process: nothing is closed, no destructor runs.
fn leave(code: i32) -> ! {
    // SAFETY: ends the process at once; a child of these tests has nothing to clean up.
    unsafe { libc::_exit(code) }
}

/// Sends one number in place.
fn put<K: Attach>(sender: &mut Sender<Untrusted, K>, number: u64) -> Result<(), SendError> {
    let mut room = sender.try_reserve(8)?;
    room.write_at(0, &number.to_ne_bytes());
    room.commit();
    Ok(())
}

/// Receives one number in place.
fn take(receiver: &mut Receiver) -> Result<u64, RecvError> {
    let message = receiver.try_recv()?;
    let mut number = [0; 8];
    message.read_at(0, &mut number);
    Ok(u64::from_ne_bytes(number))
}

/// Both ends in one sealed thread, the ring full and empty now and then.
pub fn stream_alone<K: Attach>(ring: &Ring) {
    let (mut sender, mut receiver) = (K::attach(ring).unwrap(), ring.receiver().unwrap());
    let mut lap = |from: u64, most: u64| {
        let sent = (from..from + most).take_while(|&number| put(&mut sender, number).is_ok()).count() as u64;
        let right = (from..from + sent).all(|number| take(&mut receiver) == Ok(number));
        if right && take(&mut receiver) == Err(RecvError::Empty) { from + sent } else { leave(1) }
    };
    let mut next = lap(0, 1000);
    seal();
    while next < SEALED {
        // More than the ring holds, and less.
        next = lap(next, if next % 2 == 0 { 10_000 } else { 3 });
    }
    leave(0)
}

pub fn send_sealed<K: Attach>(ring: &Ring, line: &Line) {
    let mut sender = K::attach(ring).unwrap();
    line.tell(0);
    line.hear();
    seal();
    for number in 0..SEALED {
        while let Err(error) = put(&mut sender, number) {
            if error != SendError::Full {
                leave(1);
            }
            hint::spin_loop();
        }
    }
    leave(0)
}

pub fn take_sealed(ring: &Ring, line: &Line) {
    let mut receiver = ring.receiver().unwrap();
    line.tell(0);
    line.hear();
    seal();
    for expected in 0..SEALED {
        loop {
            match take(&mut receiver) {
                Ok(number) if number == expected => break,
                Err(RecvError::Empty) => hint::spin_loop(),
                _ => leave(1),
            }
        }
    }
    leave(0)
}

#[test]
fn a_forbidden_system_call_kills_a_sealed_process() {
    assert_eq!(Child::start("forbidden").end().signal(), Some(libc::SIGSYS));
}

#[test]
fn no_system_call_while_nobody_sleeps() {
    for kind in ["one", "many"] {
        let ring = Shared::new(Way::Pass, |builder| of_kind(builder.capacity(1 << 16), kind));
        child_at(&ring, "alone", kind).finish();
        assert!(ring.ring.statistics().receiver.messages >= SEALED);
    }
}

#[test]
fn no_system_call_between_two_processes_while_nobody_sleeps() {
    for kind in ["one", "many"] {
        let ring = Shared::new(Way::Pass, |builder| of_kind(builder.capacity(1 << 20), kind));
        let (receiver, sender) = (child_at(&ring, "take", ""), child_at(&ring, "stream", kind));
        for child in [&receiver, &sender] {
            child.hear();
        }
        for child in [&receiver, &sender] {
            child.tell(0);
        }
        sender.finish();
        receiver.finish();
        assert_eq!(ring.ring.statistics().receiver.messages, SEALED);
    }
}

fn of_kind(builder: Builder, kind: &str) -> Builder {
    if kind == "many" { builder.many_senders(2) } else { builder }
}

/// What all threads of a process have used together.
#[derive(Debug)]
struct Used {
    /// Times that one of them went to sleep of its own accord.
    sleeps: u64,
    /// Clock ticks of processor time.
    ticks: u64,
}

impl Used {
    fn by(pid: u32) -> Self {
        let mut used = Self { sleeps: 0, ticks: 0 };
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let thread = thread.unwrap().path();
            let status = fs::read_to_string(thread.join("status")).unwrap();
            let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            used.sleeps += sleeps.unwrap().trim().parse::<u64>().unwrap();
            let stat = fs::read_to_string(thread.join("stat")).unwrap();
            // Behind the name in brackets, fields 3 and on; 14 and 15 are the ticks of the user and of the system.
            let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
            used.ticks += fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>();
        }
        used
    }
}

#[test]
fn an_idle_receiver_uses_nothing() {
    idle_receiver_of::<Single>("one");
    idle_receiver_of::<Many>("many");
}

fn idle_receiver_of<K: Attach>(kind: &str) {
    let ring = Shared::new(Way::Pass, |builder| of_kind(builder.capacity(1 << 16), kind));
    let mut sender = K::attach(&ring.ring).unwrap();
    let child = child_at(&ring, "listen", "");
    child.hear();
    until(|| ring.ring.statistics().receiver.sleeps > 0);
    // What the process has to do besides, once, is done by then.
    thread::sleep(Duration::from_secs(1));
    let before = Used::by(child.id());
    thread::sleep(Duration::from_secs(if common::long() { 10 } else { 3 }));
    let after = Used::by(child.id());
    assert!(after.sleeps <= before.sleeps + 1, "{kind}: {before:?} {after:?}");
    assert_eq!(after.ticks, before.ticks, "{kind}");
    sender.send(b"at last").unwrap();
    child.finish();
}

/// Process id and start of a process as a claim holds them, beside the state: attached.
fn claim_of(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse::<u64>().unwrap();
    start << 30 | u64::from(pid) << 8 | 1
}

#[test]
fn a_receiver_stays_idle_although_a_sender_was_killed_on_its_way() {
    let ring = Shared::new(Way::Pass, |builder| builder.capacity(1 << 16).many_senders(3));
    let mut sender = ring.ring.multi_sender().unwrap();
    let receiver = child_at(&ring, "listen", "");
    receiver.hear();
    let mut comer = Command::new("sleep").arg("1000").spawn().unwrap();
    let map = MmapOptions::new().len(1 << 14).map_raw(&ring.ring.fd().unwrap()).unwrap();
    // docs/LAYOUT.md: who is about to take the third slot, and the word that says that something has changed.
    // SAFETY: inside the mapping, aligned, and changed by atomic accesses only.
    let coming = unsafe { &*map.as_mut_ptr().add(8704 + 2 * 256 + 40).cast::<AtomicU64>() };
    // SAFETY: as above.
    let attachments = unsafe { &*map.as_mut_ptr().add(8192 + 144).cast::<AtomicU32>() };
    coming.store(claim_of(comer.id()), Relaxed);
    attachments.fetch_add(1, Release);
    futex::wake(attachments, futex::Flags::empty(), 100).unwrap();
    let woken = Used::by(receiver.id()).sleeps + 5;
    until(|| Used::by(receiver.id()).sleeps > woken);

    comer.kill().unwrap();
    comer.wait().unwrap();
    thread::sleep(Duration::from_secs(1));
    let before = Used::by(receiver.id());
    thread::sleep(Duration::from_secs(2));
    let after = Used::by(receiver.id());
    assert!(after.sleeps <= before.sleeps + 1, "{before:?} {after:?}");
    // Nor does it keep the place from others.
    let others: Vec<_> = (0..2).map(|_| ring.ring.multi_sender().unwrap()).collect();
    drop(others);
    sender.send(b"at last").unwrap();
    receiver.finish();
}
