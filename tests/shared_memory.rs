//! Memory that processes share, with their own synchronisation: the lectures' bounded buffer with counting semaphores.

mod common;

use common::{Child, FAR, Line, fork::assert_in_fork};
use ringpost::{SegmentError, SharedMemory};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    thread,
    time::{Duration, Instant},
};

/// Places of the buffer, each for a number.
const PLACES: u32 = 8;
/// Word of the semaphore that counts free places, and of that which counts full ones.
const EMPTY: usize = 0;
const FULL: usize = 1;
/// Byte at which the buffer begins.
const BUFFER: usize = 64;

/// P: takes one, and sleeps while there is none.
fn down(memory: &SharedMemory, semaphore: usize) {
    let word = &memory.words()[semaphore];
    while word.fetch_update(Acquire, Relaxed, |count| count.checked_sub(1)).is_err() {
        assert!(memory.wait_timeout(semaphore, 0, FAR), "nobody gives any");
    }
}

/// V: gives one.
fn up(memory: &SharedMemory, semaphore: usize) {
    memory.words()[semaphore].fetch_add(1, Release);
    memory.wake_one(semaphore);
}

fn place(number: u64) -> usize {
    BUFFER + 8 * (number % u64::from(PLACES)) as usize
}

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let memory = SharedMemory::from_fd(line.take()).unwrap();
    match *words {
        ["produce", items] => {
            for item in 0..items.parse().unwrap() {
                down(&memory, EMPTY);
                memory.write_at(place(item), &u64::to_ne_bytes(item * item));
                up(&memory, FULL);
            }
        }
        ["take", semaphore] => {
            let semaphore = semaphore.parse().unwrap();
            down(&memory, semaphore);
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    }
}

fn with(memory: &SharedMemory, role: &str) -> Child {
    let child = Child::start(role);
    child.pass(memory.as_fd());
    child
}

#[test]
fn two_processes_have_a_bounded_buffer_with_two_semaphores() {
    let items = if common::long() { 3_000_000 } else { 30_000 };
    let memory = SharedMemory::new(BUFFER + 8 * PLACES as usize).unwrap();
    memory.words()[EMPTY].store(PLACES, Relaxed);
    let producer = with(&memory, &format!("produce {items}"));
    for item in 0..items {
        down(&memory, FULL);
        let mut bytes = [0; 8];
        memory.read_at(place(item), &mut bytes);
        up(&memory, EMPTY);
        assert_eq!(u64::from_ne_bytes(bytes), item * item);
    }
    producer.finish();
    assert_eq!((memory.words()[EMPTY].load(Relaxed), memory.words()[FULL].load(Relaxed)), (PLACES, 0));
}

#[test]
fn what_a_killed_process_had_taken_is_not_given_back_and_the_memory_stays() {
    let memory = SharedMemory::new(4096).unwrap();
    memory.words()[7].store(1, Relaxed);
    memory.write_at(4000, b"stays");
    let mut holder = with(&memory, "take 7");
    assert_eq!(holder.hear(), 0);
    holder.kill();
    assert_eq!(memory.words()[7].load(Relaxed), 0);
    let begun = Instant::now();
    while memory.wait_timeout(7, 0, Duration::from_millis(20)) {}
    assert!(begun.elapsed() >= Duration::from_millis(20));
    let mut bytes = [0; 5];
    memory.read_at(4000, &mut bytes);
    assert_eq!(&bytes, b"stays");
}

#[test]
fn a_forked_child_has_it_too() {
    let memory = SharedMemory::new(64).unwrap();
    assert_in_fork(|| {
        memory.write_at(8, b"hello");
        memory.words()[0].store(3, Release);
        true
    });
    let mut bytes = [0; 5];
    memory.read_at(8, &mut bytes);
    assert_eq!((memory.words()[0].load(Acquire), &bytes), (3, b"hello"));
}

#[test]
fn who_sleeps_on_another_value_or_without_one_who_wakes_is_told_so() {
    let memory = SharedMemory::new(10).unwrap();
    assert_eq!((memory.len(), memory.words().len(), memory.is_empty()), (10, 2, false));
    assert!(memory.wait_timeout(0, 1, FAR), "the word is another");
    assert!(!memory.wait_timeout(0, 0, Duration::ZERO));
    memory.wait(1, 5);
    assert!(!memory.wake_one(0), "nobody sleeps");
    thread::scope(|threads| {
        let sleeping = threads.spawn(|| memory.wait_timeout(0, 0, FAR));
        while !memory.wake_one(0) {
            thread::yield_now();
        }
        assert!(sleeping.join().unwrap());
    });
}

#[test]
fn what_others_could_take_away_and_what_is_outside_is_refused() {
    let nothing = SharedMemory::new(0).unwrap_err();
    assert!(matches!(nothing, SegmentError::TooShort { .. }));
    assert!(nothing.to_string().contains("no bytes"), "{nothing}");
    let everything = SharedMemory::new(usize::MAX).unwrap_err().to_string();
    assert!(everything.contains(&format!("{} are needed", usize::MAX)), "it is no ring: {everything}");
    let file = File::open("/proc/self/exe").unwrap();
    assert!(SharedMemory::from_fd(file.into()).is_err());
    let (pipe, _) = std::io::pipe().unwrap();
    assert!(matches!(SharedMemory::from_fd(pipe.into()), Err(SegmentError::NotRegular { .. })));
    for (length, seals, why) in [
        (1 << 40, SealFlags::SHRINK | SealFlags::GROW, "0 bytes are there, and 1099511627776 should be"),
        (0, SealFlags::SHRINK | SealFlags::GROW, "no bytes"),
        (4096, SealFlags::GROW, "shrinking"),
        (4096, SealFlags::empty(), "shrinking and growing"),
    ] {
        let memfd = memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&memfd, length).unwrap();
        fcntl_add_seals(&memfd, seals).unwrap();
        let error = SharedMemory::from_fd(memfd).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let memory = SharedMemory::new(100).unwrap();
    let to_read = File::open(format!("/proc/self/fd/{}", memory.as_fd().as_raw_fd())).unwrap();
    let error = SharedMemory::from_fd(to_read.into()).unwrap_err().to_string();
    assert!(error.contains("ermission denied"), "{error}");
    for (offset, length) in [(100, 1), (0, 101), (usize::MAX, 2)] {
        let outside = || memory.write_at(offset, &vec![0; length]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(outside)).is_err());
        let outside = || memory.read_at(offset, &mut vec![0; length]);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(outside)).is_err());
    }
    memory.read_at(100, &mut []);
}
