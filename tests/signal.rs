//! Sending from signal handlers: at any instruction of the thread that they interrupt, also of another send.
//!
//! The handlers run in children, with an allocator that aborts when it is called in a handler.

mod common;
#[path = "signal/confined.rs"]
mod confined;
#[path = "signal/handlers.rs"]
mod handlers;
#[path = "signal/handles.rs"]
mod handles;
#[path = "signal/interrupted.rs"]
mod interrupted;
#[path = "signal/killed.rs"]
mod killed;
#[path = "signal/storms.rs"]
mod storms;

use common::{
    FAR, Line,
    filter::{Step, answer, filter, jump, load},
    rings::{Shared, Way, child_at, open},
};
use confined::confined;
use handlers::{
    ANSWERED, BY_HANDLER, DEPTH, ERRNO_CHANGED, FULL, MOST_TICKETS, OTHER, SENDER, SENT, TICKETS, WRONG,
    answers, as_handler, count, handle, raise, send_next, send_ticket,
};
use interrupted::interrupt_itself;
use killed::until_killed;
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
use storms::{fill, work};

// A plain sender lies in no static, so that no handler reaches it; this one does.
assert_not_impl_any!(Sender: Sync);
assert_not_impl_any!(MultiSender: Sync);
assert_impl_all!(SignalSender: Send, Sync);
assert_impl_all!(SignalSender<ringpost::Untrusted, Single>: Send, Sync);

fn this_thread() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::gettid() }
}

/// Sends a signal to one thread, which may be another process's.
fn signal(process: u32, thread: u64, signal: libc::c_int) {
    // SAFETY: the kernel checks everything.
    unsafe { libc::syscall(libc::SYS_tgkill, process as libc::pid_t, thread as libc::pid_t, signal) };
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
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
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
