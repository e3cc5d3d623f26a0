//! Sending from signal handlers: at any instruction of the thread that they interrupt, also of another send.
//!
//! The handlers run in children, with an allocator that aborts when it is called in a handler.

mod common;

use common::{
    FAR, Line,
    rings::{Shared, Way, child_at, open},
};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, Pid, fork},
};
use ringpost::{MultiSender, OpenError, Receiver, RecvError, SendError, Sender, SignalSender, Single};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeSet,
    io::Write,
    os::fd::AsFd,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

// A plain sender lies in no static, so that no handler reaches it; this one does.
assert_not_impl_any!(Sender: Sync);
assert_not_impl_any!(MultiSender: Sync);
assert_impl_all!(SignalSender: Send, Sync);
assert_impl_all!(SignalSender<ringpost::Untrusted, Single>: Send, Sync);

// ---- what a handler may do ----

thread_local! {
    /// How many handlers this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

struct NotInHandlers;

impl NotInHandlers {
    fn check() {
        if DEPTH.get() > 0 {
            // SAFETY: ends the process; safe in a handler.
            unsafe { libc::abort() };
        }
    }
}

// SAFETY: the system's, as it is asked for.
unsafe impl GlobalAlloc for NotInHandlers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: NotInHandlers = NotInHandlers;

/// A number that no call leaves in `errno`.
const MARK: i32 = 4321;

fn errno() -> &'static Cell<i32> {
    // SAFETY: the word of this thread, which no other one has, and which the caller does not give away.
    unsafe { &*libc::__errno_location().cast() }
}

/// Runs what a handler does; notes when it changes `errno`.
fn as_handler(act: impl FnOnce()) {
    DEPTH.set(DEPTH.get() + 1);
    let before = errno().replace(MARK);
    act();
    if errno().replace(before) != MARK {
        ERRNO_CHANGED.store(true, SeqCst);
    }
    DEPTH.set(DEPTH.get() - 1);
}

// ---- what handlers reach ----

static SENDER: OnceLock<SignalSender> = OnceLock::new();
static OTHER: OnceLock<SignalSender> = OnceLock::new();
static ERRNO_CHANGED: AtomicBool = AtomicBool::new(false);

/// What was answered.
static SENT: AtomicU64 = AtomicU64::new(0);
static FULL: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

fn answers() -> [u64; 4] {
    [&SENT, &FULL, &BUSY, &WRONG].map(|count| count.load(SeqCst))
}

fn count(answer: Result<(), SendError>) -> bool {
    let count = match answer {
        Ok(()) => &SENT,
        Err(SendError::Full) => &FULL,
        Err(SendError::Busy) => &BUSY,
        Err(_) => &WRONG,
    };
    count.fetch_add(1, SeqCst);
    answer.is_ok()
}

type Handler = extern "C" fn(libc::c_int);

fn handle(signal: libc::c_int, handler: Handler, flags: libc::c_int) {
    // SAFETY: zeroes are a valid `sigaction`; the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

fn this_thread() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::gettid() }
}

/// Sends a signal to one thread, which may be another process's.
fn signal(process: u32, thread: u64, signal: libc::c_int) {
    // SAFETY: the kernel checks everything.
    unsafe { libc::syscall(libc::SYS_tgkill, process as libc::pid_t, thread as libc::pid_t, signal) };
}

/// A handler runs before this returns.
fn raise(signal: libc::c_int) {
    // SAFETY: a signal that this process handles.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Kind of what handlers send; the others send 0.
const BY_HANDLER: u16 = 1;

/// Sends its number in the handlers' own order: nothing interrupts it that sends with the same handle.
extern "C" fn send_next(_: libc::c_int) {
    as_handler(|| {
        let number = SENT.load(SeqCst).to_ne_bytes();
        count(SENDER.get().unwrap().try_send(BY_HANDLER, &number));
    });
}

static TICKETS: AtomicU64 = AtomicU64::new(0);
const MOST_TICKETS: usize = 1 << 20;
/// 1 for a ticket that was answered with Ok.
static ANSWERED: [AtomicU8; MOST_TICKETS] = [const { AtomicU8::new(0) }; MOST_TICKETS];

/// Sends a ticket of its own, at whatever instruction of another one that does it comes.
extern "C" fn send_ticket(_: libc::c_int) {
    as_handler(|| {
        let ticket = TICKETS.fetch_add(1, SeqCst);
        let Some(answered) = ANSWERED.get(ticket as usize) else { return };
        if count(SENDER.get().unwrap().try_send(BY_HANDLER, &ticket.to_ne_bytes())) {
            answered.store(1, SeqCst);
        }
    });
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_ne_bytes(bytes.try_into().unwrap())
}

fn ring() -> Shared {
    Shared::new(Way::Name, |builder| builder.capacity(4096).longest_message(64).many_senders(8))
}

// ---- children ----

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ring = open(words[1], &line);
    SENDER.set(SignalSender::new(ring.multi_sender().unwrap()).unwrap()).unwrap();
    match words[0] {
        "work" => work(ring.multi_sender().unwrap(), ring.receiver().unwrap(), &line, words[2]),
        "fill" => fill(ring.receiver().unwrap()),
        "interrupt-itself" => {
            OTHER.set(SignalSender::new(ring.multi_sender().unwrap()).unwrap()).unwrap();
            interrupt_itself(ring.receiver().unwrap(), &line);
        }
        "confined" => confined(&line),
        "until-killed" => until_killed(&line),
        role => panic!("{role}?"),
    }
    assert!(!ERRNO_CHANGED.load(SeqCst), "a handler has changed errno");
    assert_eq!(WRONG.load(SeqCst), 0, "a handler got an error that it should not");
}

/// Allocates, locks, sends and receives while a storm of signals goes over it, until the handlers have sent enough.
fn work(mut sender: MultiSender, mut receiver: Receiver, line: &Line, form: &str) {
    let nested = form == "nested";
    let handler = if nested { send_ticket } else { send_next };
    handle(libc::SIGUSR1, handler, 0);
    handle(libc::SIGUSR2, if nested { handler } else { ignore }, 0);
    let enough = if common::long() { 20_000 } else { 3_000 };
    line.tell(this_thread() as u64);
    let (mut own, mut got) = (0_u64, Got { nested, ..Got::default() });
    while SENT.load(SeqCst) < enough {
        let text = format!("{own} {:?}", vec![own; own as usize % 50]);
        write!(std::io::stdout().lock(), "{text}").unwrap();
        match sender.try_send(&own.to_ne_bytes()) {
            Ok(()) => own += 1,
            // Only now: so handlers find a full ring, too.
            Err(SendError::Full) => got.all(&mut receiver),
            Err(error) => panic!("{error}"),
        }
    }
    line.tell(0);
    line.hear();
    // The storm is over; what is pending is handled with the next system call.
    got.all(&mut receiver);
    let [sent, full, busy, _] = answers();
    assert_eq!((got.own, got.handlers), (own, sent), "sent by the thread and by its handlers, and received");
    if nested {
        let answered = |ticket: &u64| ANSWERED[*ticket as usize].load(SeqCst) == 1;
        let tickets = TICKETS.load(SeqCst).min(MOST_TICKETS as u64);
        assert!((0..tickets).filter(answered).eq(got.tickets.iter().copied()));
        assert_eq!(tickets, sent + full + busy);
    } else {
        assert_eq!(busy, 0, "nothing interrupts such a handler");
    }
    eprintln!("{form}: {own} sent by the thread; by handlers {sent}, full {full}, busy {busy}");
}

extern "C" fn ignore(_: libc::c_int) {}

/// What was received.
#[derive(Default)]
struct Got {
    nested: bool,
    own: u64,
    handlers: u64,
    tickets: BTreeSet<u64>,
}

impl Got {
    fn all(&mut self, receiver: &mut Receiver) {
        loop {
            match receiver.try_recv() {
                Ok(message) if message.kind() == BY_HANDLER => {
                    let number = number(&message.to_vec());
                    if self.nested {
                        assert!(self.tickets.insert(number), "ticket {number} came twice");
                    } else {
                        assert_eq!(number, self.handlers, "of the handlers, in their order");
                    }
                    self.handlers += 1;
                }
                Ok(message) => {
                    assert_eq!(number(&message.to_vec()), self.own, "of the thread, in its order");
                    self.own += 1;
                }
                Err(RecvError::Empty) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Sends in handlers until the ring is full, and goes on when there is room.
fn fill(mut receiver: Receiver) {
    handle(libc::SIGUSR1, send_next, 0);
    while FULL.load(SeqCst) == 0 {
        raise(libc::SIGUSR1);
    }
    let [sent, ..] = answers();
    raise(libc::SIGUSR1);
    assert_eq!(answers(), [sent, 2, 0, 0]);
    for number in 0..sent {
        assert_eq!(receiver.recv().unwrap().to_vec(), number.to_ne_bytes());
    }
    raise(libc::SIGUSR1);
    assert_eq!(answers(), [sent + 1, 2, 0, 0]);
    assert_eq!(receiver.recv().unwrap().to_vec(), sent.to_ne_bytes());
    // An ended sender is told in the handler, too, and what is too long.
    let too_long = Err(SendError::TooLong { length: 65, longest: 64 });
    as_handler(|| assert_eq!(SENDER.get().unwrap().try_send(0, &[0; 65]), too_long));
    drop(receiver);
    as_handler(|| assert_eq!(SENDER.get().unwrap().try_send(0, b"to nobody"), Err(SendError::Disconnected)));
}

// ---- a send that is interrupted in its middle ----

/// Two pages that can't be read until a handler of the fault has allowed it.
static PAGES: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 2];
static FORKED: AtomicU32 = AtomicU32::new(0);

fn page(index: usize) -> &'static [u8] {
    // SAFETY: the pages are mapped and stay so; to read them may be a fault, which the handler mends.
    unsafe { std::slice::from_raw_parts(PAGES[index].load(SeqCst), 64) }
}

fn protect(index: usize, protection: libc::c_int) {
    // SAFETY: a page of this test's own, which is still there with whatever protection.
    assert_eq!(unsafe { libc::mprotect(PAGES[index].load(SeqCst).cast(), 4096, protection) }, 0);
}

/// Comes in the middle of a copy into the ring, once in each of two handles, one within the other.
extern "C" fn on_fault(_: libc::c_int) {
    as_handler(|| {
        let (sender, other) = (SENDER.get().unwrap(), OTHER.get().unwrap());
        if DEPTH.get() == 1 {
            count(sender.try_send(BY_HANDLER, b"in the middle"));
            // Faults in its turn: the next handler runs within this one.
            count(other.try_send(BY_HANDLER, page(1)));
            fork_here(sender);
            protect(0, libc::PROT_READ);
        } else {
            count(sender.try_send(BY_HANDLER, b"in the middle"));
            count(other.try_send(BY_HANDLER, b"in the middle"));
            assert!(sender.take().is_none());
            protect(1, libc::PROT_READ);
        }
    });
}

/// In a child that is born in the middle of a send, that one never ends; and it is not the child's.
fn fork_here(sender: &SignalSender) {
    // SAFETY: the child only sends, which is safe in a handler, and exits.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let forked = sender.try_send(BY_HANDLER, b"by the child") == Err(SendError::Forked);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if forked { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => FORKED.store(child.as_raw() as u32, SeqCst),
    }
}

fn interrupt_itself(mut receiver: Receiver, line: &Line) {
    for (index, page) in PAGES.iter().enumerate() {
        // SAFETY: the kernel chooses an address where nothing is mapped; the whole page is this test's.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>().write_bytes(b'a' + index as u8, 4096);
            page.store(at.cast(), SeqCst);
        }
        protect(index, libc::PROT_NONE);
    }
    handle(libc::SIGSEGV, on_fault, libc::SA_NODEFER);
    SENDER.get().unwrap().try_send(BY_HANDLER, page(0)).unwrap();
    // The one that sent `page(1)` had its Ok; the three in the middle of others had not.
    assert_eq!(answers(), [1, 0, 3, 0]);
    for letter in [b'a', b'b'] {
        assert_eq!(receiver.try_recv().unwrap().to_vec(), [letter; 64]);
    }
    assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
    let child = Pid::from_raw(FORKED.load(SeqCst) as i32);
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    // The turn is over: all goes on.
    SENDER.get().unwrap().try_send(BY_HANDLER, b"after").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"after");
    line.tell(0);
}

// ---- confined, and killed ----

const CONFINED_SENDS: u64 = 2_000;

/// Lets this thread wake others, take signals and end; anything else ends the process.
fn confine() {
    let load = |offset| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let is = |value, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let give = |value| (libc::BPF_RET | libc::BPF_K, 0, 0, value);
    let program = [
        load(0),
        is(libc::SYS_rt_sigreturn as u32, 6, 0),
        is(libc::SYS_tgkill as u32, 5, 0),
        is(libc::SYS_exit as u32, 4, 0),
        is(libc::SYS_futex as u32, 0, 4),
        // Its operation: the second argument, without the flag for private ones.
        load(24),
        (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, !libc::FUTEX_PRIVATE_FLAG as u32),
        is(libc::FUTEX_WAKE as u32, 0, 1),
        give(libc::SECCOMP_RET_ALLOW),
        give(libc::SECCOMP_RET_KILL_PROCESS),
    ];
    let mut filter = program.map(|(code, jt, jf, k)| libc::sock_filter { code: code as u16, jt, jf, k });
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

fn confined(line: &Line) {
    handle(libc::SIGUSR1, send_next, 0);
    line.tell(0);
    let process = std::process::id();
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let thread = this_thread() as u64;
            confine();
            while SENT.load(SeqCst) < CONFINED_SENDS {
                signal(process, thread, libc::SIGUSR1);
            }
            done.store(true, SeqCst);
            // What a thread does at its end is not the handler's.
            // SAFETY: ends this thread, which holds nothing, and leaves its stack as it is.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        });
        while !done.load(SeqCst) {
            thread::yield_now();
        }
        drop(SENDER.get().unwrap().take().unwrap());
        assert!(!ERRNO_CHANGED.load(SeqCst) && WRONG.load(SeqCst) == 0);
        line.tell(SENT.load(SeqCst));
        // The scope would wait for a thread that tells nobody of its end.
        // SAFETY: ends the process, whose part is done.
        unsafe { libc::_exit(0) };
    });
}

/// Sends in handlers, and only there; what was answered stands in a page that outlives it.
static NOTED: AtomicPtr<u64> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn send_and_note(signal: libc::c_int) {
    send_next(signal);
    noted(NOTED.load(SeqCst)).store(SENT.load(SeqCst), SeqCst);
}

fn noted<'a>(page: *mut u64) -> &'a AtomicU64 {
    // SAFETY: a page that both processes map, and that stays mapped until they end.
    unsafe { AtomicU64::from_ptr(page) }
}

fn until_killed(line: &Line) {
    let page = memmap2::MmapOptions::new().len(4096).map_raw(&line.take()).unwrap();
    NOTED.store(page.as_mut_ptr().cast(), SeqCst);
    handle(libc::SIGUSR1, send_and_note, 0);
    line.tell(0);
    loop {
        raise(libc::SIGUSR1);
    }
}

// ---- the tests ----

/// A child at work while signals storm its thread. Gives how it ended.
#[track_caller]
fn storm(form: &str, signals: &[libc::c_int]) {
    let shared = ring();
    let child = child_at(&shared, "work", form);
    let thread = child.hear();
    let over = AtomicBool::new(false);
    thread::scope(|threads| {
        for &number in signals {
            let (child, over) = (&child, &over);
            threads.spawn(move || {
                while !over.load(SeqCst) {
                    signal(child.id(), thread, number);
                    // The work goes on between two handlers, also with one processor.
                    thread::yield_now();
                }
            });
        }
        let heard = child.hear_before_the_end();
        over.store(true, SeqCst);
        assert_eq!(heard, Some(0));
    });
    child.tell(0);
    child.finish();
}

#[test]
fn signals_at_every_moment_of_a_busy_thread_lose_nothing_and_keep_each_order() {
    storm("alone", &[libc::SIGUSR1]);
}

#[test]
fn signals_within_signals_are_sent_once_or_told_why_not() {
    storm("nested", &[libc::SIGUSR1, libc::SIGUSR2]);
}

#[test]
fn a_full_ring_an_end_and_a_long_message_are_told_in_the_handler() {
    child_at(&ring(), "fill", "").finish();
}

#[test]
fn a_send_that_is_interrupted_in_its_middle_is_whole_and_refuses_the_others() {
    child_at(&ring(), "interrupt-itself", "").finish();
}

#[test]
fn a_handler_makes_no_system_call_but_a_wake() {
    let shared = ring();
    let child = child_at(&shared, "confined", "");
    child.hear();
    let mut receiver = shared.ring.receiver().unwrap();
    // It sleeps time and again: each time it has taken all that there is.
    for number in 0..CONFINED_SENDS {
        let message = receiver.recv_timeout(FAR).expect("the child was ended by its confinement");
        assert_eq!(message.to_vec(), number.to_ne_bytes());
    }
    assert_eq!(receiver.recv_timeout(FAR).err(), Some(RecvError::Disconnected));
    assert_eq!(child.hear(), CONFINED_SENDS);
    child.finish();
}

#[test]
fn a_kill_in_a_handler_loses_nothing_that_was_answered() {
    for _ in 0..if common::long() { 500 } else { 10 } {
        let shared = ring();
        let note = rustix::fs::memfd_create("note", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&note, 4096).unwrap();
        let page = memmap2::MmapOptions::new().len(4096).map_raw(&note).unwrap();
        let mut receiver = shared.ring.receiver().unwrap();
        let mut child = child_at(&shared, "until-killed", "");
        child.pass(note.as_fd());
        child.hear();
        let mut next = 0;
        let mut recv = |receiver: &mut Receiver| match receiver.recv_timeout(FAR) {
            Ok(message) => {
                assert_eq!(number(&message.to_vec()), next);
                next += 1;
                Ok(next)
            }
            Err(error) => Err(error),
        };
        while recv(&mut receiver).unwrap() < 200 {}
        child.kill();
        let end = loop {
            match recv(&mut receiver) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::PeerDied { pid, .. } if pid == child.id()), "{end}");
        let answered = noted(page.as_mut_ptr().cast()).load(SeqCst);
        assert!(next == answered || next == answered + 1, "{answered} were answered, {next} came");
    }
}

#[test]
fn threads_that_share_it_send_each_message_once_and_in_their_order() {
    const EACH: u64 = 1_000;
    let ring = ringpost::unnamed().capacity(4096).many_senders(2).memfd().unwrap();
    let sender = SignalSender::new(ring.multi_sender().unwrap()).unwrap();
    let mut receiver = ring.receiver().unwrap();
    let (mut next, began) = ([0; 3], Instant::now());
    thread::scope(|threads| {
        for thread in 0..3 {
            let sender = &sender;
            threads.spawn(move || {
                for number in 0..EACH {
                    while let Err(error) = sender.try_send(thread, &number.to_ne_bytes()) {
                        assert!(matches!(error, SendError::Busy | SendError::Full), "{error}");
                        assert!(began.elapsed() < FAR, "still {error}");
                        thread::yield_now();
                    }
                }
            });
        }
        for _ in 0..3 * EACH {
            let message = receiver.recv_timeout(FAR).unwrap();
            let next = &mut next[message.kind() as usize];
            assert_eq!(number(&message.to_vec()), *next);
            *next += 1;
        }
    });
    drop(sender.take());
    assert_eq!(sender.try_send(0, b"after its end"), Err(SendError::Disconnected));
    assert!(sender.take().is_none());
    assert_eq!(receiver.recv_timeout(FAR).err(), Some(RecvError::Disconnected));
}

#[test]
fn its_slot_is_taken_when_it_is_made_or_it_is_not_made() {
    let ring = ringpost::unnamed().many_senders(1).memfd().unwrap();
    let sender = ring.multi_sender().unwrap();
    let refused = SignalSender::new(sender.clone());
    assert!(matches!(refused.err(), Some(OpenError::TooManySenders { most: 1 })));
    let sender = SignalSender::new(sender).unwrap();
    let mut receiver = ring.receiver().unwrap();
    sender.try_send(7, b"the only one").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"the only one");
}

#[test]
fn the_sender_of_a_ring_for_one_can_be_it_and_one_of_an_elastic_ring_can_not() {
    let ring = ringpost::unnamed().memfd().unwrap();
    let sender = SignalSender::new(ring.sender().unwrap()).unwrap();
    let mut receiver = ring.receiver().unwrap();
    sender.try_send(7, b"by one").unwrap();
    let message = receiver.recv().unwrap();
    assert_eq!((message.kind(), message.to_vec()), (7, b"by one".to_vec()));
    let elastic = ringpost::unnamed().elastic(1 << 20).memfd().unwrap();
    let refused = SignalSender::new(elastic.sender().unwrap());
    assert!(matches!(refused.err(), Some(OpenError::Mismatch { what: "memory", .. })));
}

/// Sends whenever it is written to, as a signal would that comes in between.
struct Interrupting<'a>(&'a SignalSender, Vec<Result<(), SendError>>);

impl std::fmt::Write for Interrupting<'_> {
    fn write_str(&mut self, _: &str) -> std::fmt::Result {
        self.1.push(self.0.try_send(BY_HANDLER, b"in between"));
        Ok(())
    }
}

#[test]
fn whoever_prints_it_keeps_no_handler_from_sending() {
    let ring = ringpost::unnamed().many_senders(1).memfd().unwrap();
    let (sender, mut receiver) =
        (SignalSender::new(ring.multi_sender().unwrap()).unwrap(), ring.receiver().unwrap());
    let mut writes = Interrupting(&sender, Vec::new());
    std::fmt::write(&mut writes, format_args!("{sender:?}")).unwrap();
    assert!(!writes.1.is_empty() && writes.1.iter().all(|sent| sent.is_ok()), "{:?}", writes.1);
    assert_eq!(receiver.recv_many(usize::MAX).unwrap().len(), writes.1.len());
    drop(sender.take());
    assert!(format!("{sender:?}").contains("SignalSender"));
}
