//! A process that gets no more threads: a future there asks to be polled again and again, and keeps nothing of it.

mod common;

use common::{
    Line,
    rings::{Shared, Way, child_at, open},
};
use ringpost::Source;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicIsize, Ordering::Relaxed},
    task::{Context, Waker},
};

/// Counts the bytes that are allocated.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

// SAFETY: all is the system's allocator; the count is beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["poll", ring] => poll_in_vain(ring, &line),
        _ => panic!("no such role: {words:?}"),
    });
}

fn poll_in_vain(ring: &str, line: &Line) {
    let mut receiver = open(ring, line).receiver().unwrap();
    limit_threads();
    let mut receiving = receiver.received();
    let mut poll = |times| {
        for _ in 0..times {
            assert!(Pin::new(&mut receiving).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        ALLOCATED.load(Relaxed)
    };
    let before = poll(10);
    line.tell((poll(1000) - before).max(0) as u64);
}

fn limit_threads() {
    // Who may do everything is not limited by the number of processes: but no stack fits into the addresses.
    let addresses = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = addresses.split_whitespace().next().unwrap().parse().unwrap();
    let bytes = pages * rustix::param::page_size() as u64 + (64 << 10);
    setrlimit(Resource::As, Rlimit { current: Some(bytes), maximum: None }).unwrap();
}

#[test]
fn a_future_that_is_polled_a_thousand_times_without_a_thread_leaks_nothing() {
    let ring = Shared::new(Way::Name, |builder| builder);
    let child = child_at(&ring, "poll", "");
    let leaked = child.hear();
    assert!(leaked < 1000, "{leaked} bytes");
    child.finish();
}
