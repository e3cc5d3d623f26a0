//! A process at the other end that means harm. It can write only what is its own.

use super::{FAR, Line, Place, end_of, raw};
use ringpost::RecvError;
use rustix::{
    fs::{FallocateFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, open},
    io::{Errno, pwrite},
    mm::{Advice, MprotectFlags, ProtFlags, madvise, mprotect},
};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Every way that there is to write to memory of which one has the descriptor.
fn assert_one_way(theirs: &OwnedFd, length: u64) {
    let both = ProtFlags::READ | ProtFlags::WRITE;
    assert_eq!(raw::map(theirs, length, both), Err(Errno::PERM));
    assert_eq!(raw::map(theirs, length, ProtFlags::WRITE), Err(Errno::PERM));
    let read_only = raw::map(theirs, length, ProtFlags::READ).unwrap().as_ptr().cast();
    // SAFETY: changes only what was just mapped, which nobody refers to.
    let made_writable =
        unsafe { mprotect(read_only, length as usize, MprotectFlags::READ | MprotectFlags::WRITE) };
    assert_eq!(made_writable, Err(Errno::ACCESS));
    // SAFETY: as above.
    let removed = unsafe { madvise(read_only, length as usize, Advice::LinuxRemove) };
    assert!(matches!(removed, Err(Errno::ACCESS | Errno::PERM)));
    assert_eq!(ftruncate(theirs, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(theirs, length * 2), Err(Errno::PERM));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(fallocate(theirs, punch, 0, 4096), Err(Errno::PERM));
    assert_eq!(fallocate(theirs, FallocateFlags::empty(), 0, length + 4096), Err(Errno::PERM));
    assert_eq!(pwrite(theirs, b"x", 0), Err(Errno::PERM));
    assert_eq!(fcntl_add_seals(theirs, SealFlags::WRITE), Err(Errno::PERM));
    // Opened anew, it is the same file with the same seals.
    let by_proc = format!("/proc/self/fd/{}", theirs.as_raw_fd());
    for flags in [OFlags::RDWR, OFlags::RDWR | OFlags::TRUNC] {
        match open(&*by_proc, flags, Mode::empty()) {
            Ok(again) => {
                assert_eq!(raw::map(&again, length, both), Err(Errno::PERM));
                assert_eq!(pwrite(&again, b"x", 0), Err(Errno::PERM));
            }
            Err(errno) => assert!(matches!(errno, Errno::PERM | Errno::ACCESS)),
        }
    }
}

/// Tries to write to the receiver's half.
pub fn try_to_write(path: &Path, line: &Line) {
    let (_raw, theirs, _) = raw::welcomed(path);
    assert_one_way(&theirs, raw::FIRST);
    line.tell(0);
    line.hear();
}

#[test]
fn who_connects_can_not_write_to_the_receivers_half() {
    let place = Place::new();
    let listener = place.listen();
    let child = place.child("write-theirs", "");
    let mut receiver = listener.accept().unwrap();
    child.hear();
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    child.tell(0);
    child.finish();
}

#[test]
fn who_listens_can_not_write_to_the_senders_half() {
    let place = Place::new();
    let host = raw::RawListener::at(&place);
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || ringpost::unnamed().capacity(4096).connect(path));
    let raw = host.accept();
    raw.hear();
    let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
    let (mut header, half) = ([0; 128], raw::memory(raw::FIRST));
    rustix::io::pread(ring.fd().unwrap(), &mut header, 0).unwrap();
    pwrite(&half, &header, 0).unwrap();
    let half = raw::sealed(half, raw::SEALS);
    raw.say(&raw::message(raw::OFFER, 0), &[std::os::fd::AsFd::as_fd(&half)]);
    let theirs = raw.hear().1.pop().unwrap();
    raw.say(&raw::message(raw::WELCOME, 0), &[]);
    let _sender = connecting.join().unwrap().unwrap();
    assert_one_way(&theirs, raw::SECOND);
}

/// Byte offset in a sender's half of its claim, and of its alarm.
const CLAIM: usize = 512;
const ALARM: usize = CLAIM + 24;
/// Of the count of closings.
const CLOSINGS: usize = 140;

fn word32(base: NonNull<u8>, offset: usize) -> &'static AtomicU32 {
    // SAFETY: mapped for as long as the process lives, aligned, and accessed atomically by all.
    unsafe { base.add(offset).cast().as_ref() }
}

fn word64(base: NonNull<u8>, offset: usize) -> &'static AtomicU64 {
    // SAFETY: as in `word32`.
    unsafe { base.add(offset).cast().as_ref() }
}

/// What a sender can claim to be: nothing; the first process of all, which lives; that it has closed, which it has not counted.
const CLAIMS: [u64; 3] = [0, 1 << 8 | 1, 1 << 8 | 2];

/// What a sender can set its alarm to so that it never rings, or seems to have rung: unarmed; armed in the name of another
/// thread; and so on.
const ALARMS: [u32; 6] = [0, 0x8000_0001, 0x8000_0000, 0x4000_0000, 0x4000_0001, u32::MAX];

/// Writes a claim, an alarm and a count of closings, and waits.
pub fn play_dead(path: &Path, words: &[&str], line: &Line) {
    let (_raw, _, base) = raw::welcomed(path);
    let [claim, alarm, closings] = words else { panic!("{words:?}") };
    word64(base, CLAIM).store(claim.parse().unwrap(), Relaxed);
    word32(base, ALARM).store(alarm.parse().unwrap(), Relaxed);
    word32(base, CLOSINGS).store(closings.parse().unwrap(), Relaxed);
    line.tell(0);
    line.hear();
}

#[test]
fn the_death_of_who_hides_it_wakes_the_receiver() {
    let claimed = CLAIMS.into_iter().map(|claim| (claim, ALARMS[1], 0));
    let armed = ALARMS.into_iter().map(|alarm| (CLAIMS[1], alarm, 1));
    for (claim, alarm, closings) in claimed.chain(armed) {
        let case = format!("{claim} {alarm} {closings}");
        let place = Place::new();
        let listener = place.listen();
        let mut child = place.child("play-dead", &case);
        let mut receiver = listener.accept().unwrap();
        child.hear();
        let patience = Duration::from_millis(150);
        assert_eq!(receiver.recv_timeout(patience).unwrap_err(), RecvError::TimedOut, "it lives: {case}");
        let pid = child.id();
        let waiting = thread::spawn(move || (end_of(&mut receiver), receiver));
        thread::sleep(Duration::from_millis(20));
        child.kill();
        let (told, mut receiver) = waiting.join().unwrap();
        assert_eq!(told, RecvError::PeerDied { pid, unfinished: 0 }, "{case}");
        assert_eq!(end_of(&mut receiver), told, "nobody takes its place: {case}");
    }
}

/// Writes chance to all that is its own, for as long as it lives; each word also near to what is right.
pub fn scribble(path: &Path, seed: u64, line: &Line) {
    let (_raw, _, base) = raw::welcomed(path);
    line.tell(0);
    for number in seed << 32.. {
        let chance = super::common::stream::scatter(number);
        let offset = match chance % 4 {
            // The words of the senders area and of the slot.
            0 => [0, 128, 136, 144, CLAIM, CLAIM + 8, CLAIM + 16, ALARM][(chance >> 8) as usize % 8],
            // The header that is looked at first.
            1 => 4096 + (chance >> 8) as usize % 2 * 8,
            _ => (chance >> 8) as usize % raw::SECOND as usize,
        };
        let value = match chance >> 60 {
            0..4 => chance >> 32 & 3,
            4..8 => 1 << 32 | chance >> 40,
            _ => chance,
        };
        word64(base, offset & !7).store(value, Relaxed);
    }
}

#[test]
fn whatever_a_process_writes_the_receiver_ends_with_an_error() {
    for seed in 0..4 {
        let place = Place::new();
        let listener = place.listen();
        let mut child = place.child("scribble", &seed.to_string());
        let mut receiver = listener.accept().unwrap();
        child.hear();
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(message) => assert!(message.to_vec().len() <= 4096),
                Err(RecvError::TimedOut | RecvError::Disconnected | RecvError::Corrupt { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
        let pid = child.id();
        child.kill();
        let start = Instant::now();
        let end = loop {
            match receiver.recv_timeout(FAR) {
                Ok(_) => assert!(start.elapsed() < FAR, "messages without end"),
                Err(error) => break error,
            }
        };
        let told = [RecvError::PeerDied { pid, unfinished: 0 }, RecvError::Disconnected];
        assert!(told.contains(&end) || matches!(end, RecvError::Corrupt { .. }), "{end}");
    }
}
