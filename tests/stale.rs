//! What stands under a name and is not, or not yet, or no longer, a ring in use: left by a crash, by another boot, half
//! made, taken away and made again. It is recognised, and reused, refused or removed as asked.

mod common;

use common::{Child, FAR, Line, Name, place::Place};
use nix::{
    sys::wait::{WaitStatus, waitpid},
    unistd::{ForkResult, fork},
};
use ringpost::{Builder, OpenError, RecvError, SegmentError, builder};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::{
    fs,
    os::unix::{fs::FileExt, process::CommandExt},
    path::Path,
    process::Command,
    sync::{
        Barrier, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

fn small(name: &str) -> Builder {
    builder(name).capacity(4096)
}

#[track_caller]
fn assert_segment<T>(result: Result<T, OpenError>, right: impl Fn(&SegmentError) -> bool) {
    match result.err().expect("it is refused") {
        OpenError::Segment(error) if right(&error) => {}
        error => panic!("{error:?}"),
    }
}

fn exists(error: &SegmentError) -> bool {
    matches!(error, SegmentError::AlreadyExists { .. })
}

fn in_use(error: &SegmentError) -> bool {
    matches!(error, SegmentError::InUse { .. })
}

fn not_found(error: &SegmentError) -> bool {
    matches!(error, SegmentError::NotFound { .. })
}

/// One test at a time: whoever starts a process lends it, until that runs, what another test has open.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
        ["send", name] => {
            let ring = small(name).create().unwrap();
            let mut sender = ring.sender().unwrap();
            sender.send(b"before the crash").unwrap();
            line.tell(ring.info().instance);
            line.next();
        }
        ["race", name] => race(name, &line),
        ["clean", name] => clean(name, &line),
        ["elsewhere", name] => open_elsewhere(name, &line),
        ["hold", name] => {
            let _leftover = small(name).leftover().unwrap();
            line.tell(0);
            line.next();
        }
        ["become", name] => become_another(name, &line),
        _ => panic!("{words:?}"),
    });
}

// ---- left by a crash ----

#[test]
fn what_a_crash_left_is_not_made_again_but_reused_where_that_is_asked_for() {
    let _alone = alone();
    let name = Name::new();
    let mut maker = Child::start(&format!("send {}", &*name));
    let instance = maker.hear();
    maker.kill();
    assert_segment(small(&name).create(), exists);
    let ring = small(&name).open_or_create().unwrap();
    assert_eq!(ring.info().instance, instance);
    let mut receiver = ring.receiver().unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"before the crash");
    assert_eq!(
        receiver.recv_timeout(FAR).unwrap_err(),
        RecvError::PeerDied { pid: maker.id(), unfinished: 0 }
    );
    let mut sender = ring.sender().unwrap();
    sender.send(b"after the crash").unwrap();
    assert_eq!(receiver.recv_timeout(FAR).unwrap().to_vec(), b"after the crash");
}

#[test]
fn what_nobody_uses_is_a_leftover_and_what_somebody_has_open_is_none() {
    let _alone = alone();
    let name = Name::new();
    let leftover = || small(&name).leftover();
    assert_segment(leftover(), not_found);
    let mut maker = Child::start(&format!("send {}", &*name));
    maker.hear();
    assert_segment(leftover(), in_use);
    maker.stop();
    assert_segment(leftover(), in_use);
    maker.kill();
    let open = small(&name).open().unwrap();
    assert_segment(leftover(), in_use);
    drop(open);

    let found = leftover().unwrap();
    let statistics = found.content().unwrap();
    assert_eq!((statistics.pending_messages(), statistics.pending_bytes()), (1, 16));
    assert!(statistics.senders[0].died && found.bytes() > 4096);
    assert_eq!(found.path(), name.path());
    drop(found);
    assert!(name.path().exists(), "to look is not to remove");
    leftover().unwrap().remove().unwrap();
    assert!(!name.path().exists());
    assert_segment(leftover(), not_found);
}

#[test]
fn who_opens_what_is_about_to_be_removed_waits_for_that_and_is_told_when_it_does_not_come() {
    let _alone = alone();
    let name = Name::new();
    drop(small(&name).create().unwrap());
    let leftover = small(&name).leftover().unwrap();
    thread::scope(|threads| {
        let (name, attempts) = (&name, [Builder::open, Builder::open_or_create]);
        for attempt in attempts.map(|attempt| threads.spawn(move || attempt(&small(name)))) {
            let told = |error: &SegmentError| matches!(error, SegmentError::BeingRemoved { .. });
            assert_segment(attempt.join().unwrap(), told);
        }
        assert_segment(small(name).leftover(), in_use);
        // Who waits gets it when it was not removed after all.
        let waiting = threads.spawn(|| small(name).open_or_create());
        drop(leftover);
        assert!(waiting.join().unwrap().unwrap().is_current());
    });
}

#[test]
fn a_cleaner_that_is_killed_leaves_the_ring_as_it_was() {
    let _alone = alone();
    let name = Name::new();
    drop(small(&name).create().unwrap());
    let mut cleaner = Child::start(&format!("hold {}", &*name));
    cleaner.hear();
    assert_segment(small(&name).leftover(), in_use);
    cleaner.kill();
    assert!(small(&name).open().unwrap().is_current());
}

/// Attaches, and becomes another program, which says what it hears.
fn become_another(name: &str, line: &Line) {
    let ring = small(name).open().unwrap();
    let _sender = ring.sender().unwrap();
    line.tell(0);
    panic!("{}", Command::new("sh").args(["-c", "cat >&0"]).exec());
}

#[test]
fn what_a_process_is_attached_to_that_lives_is_no_leftover_though_nobody_has_it_open() {
    let _alone = alone();
    let name = Name::new();
    drop(small(&name).create().unwrap());
    let mut another = Child::start(&format!("become {}", &*name));
    another.hear();
    another.tell(7);
    assert_eq!(another.hear(), 7, "the other program runs");
    assert_segment(small(&name).leftover(), in_use);
    another.kill();
    small(&name).leftover().unwrap().remove().unwrap();
}

// ---- of another namespace ----

/// Opens the ring in a child that is the first of a new PID namespace. Says 0 when there can be none, 1 when it was told so.
fn open_elsewhere(name: &str, line: &Line) {
    // SAFETY: this process starts no thread from here on; only its children are in the new namespace.
    if unsafe { unshare_unsafe(UnshareFlags::NEWPID) }.is_err() {
        return line.tell(0);
    }
    // SAFETY: the child takes no lock but the allocator's, which fork(3) leaves usable, and ends at once.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let is_told = |result: Result<(), OpenError>| {
                result.is_err_and(|error| {
                    let text = error.to_string();
                    matches!(error, OpenError::Mismatch { .. }) && text.contains("PID and time namespace")
                })
            };
            let opened = is_told(small(name).open().map(drop));
            let removed = is_told(small(name).leftover().map(drop));
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(!opened || !removed)) }
        }
        ForkResult::Parent { child } => {
            line.tell(if waitpid(child, None).unwrap() == WaitStatus::Exited(child, 0) { 1 } else { 2 });
        }
    }
}

#[test]
fn who_comes_from_another_pid_namespace_is_told_so_and_can_not_remove_it_by_mistake() {
    let _alone = alone();
    let name = Name::new();
    drop(small(&name).create().unwrap());
    let child = Child::start(&format!("elsewhere {}", &*name));
    match child.hear() {
        0 => println!("skipped: a PID namespace may not be made here"),
        told => assert_eq!(told, 1),
    }
    child.finish();
    assert!(name.path().exists());
}

// ---- of another boot ----

/// Writes another boot id into the header, with the checksum of `docs/LAYOUT.md`.
fn forge_boot(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut header = [0; 128];
    file.read_exact_at(&mut header, 0).unwrap();
    header[72..88].fill(7);
    common::seal(&mut header);
    file.write_all_at(&header, 0).unwrap();
}

#[test]
fn a_ring_of_another_boot_is_refused_with_what_to_do_until_it_is_removed() {
    let _alone = alone();
    let name = Name::new();
    // On a disk, where rings outlive a boot.
    let disk = Place::new();
    fs::create_dir(&*disk).unwrap();
    for directory in [Path::new("/dev/shm"), &disk] {
        let asked = small(&name).directory(directory);
        match asked.create() {
            Err(OpenError::Segment(SegmentError::NoUnnamedFiles { .. })) => {
                println!("skipped: {} has no unnamed files", directory.display());
                continue;
            }
            other => drop(other.unwrap()),
        }
        let path = directory.join(format!("ringpost.{}", &*name));
        forge_boot(&path);
        for refused in [asked.open(), asked.open_or_create()] {
            let error = refused.unwrap_err();
            assert!(matches!(error, OpenError::Mismatch { what: "boot", .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("0707") && text.contains("last started"), "{text}");
            assert!(text.contains("`ringpost clean`"), "{text}");
        }
        assert_segment(asked.create(), exists);
        let leftover = asked.leftover().unwrap();
        assert!(matches!(leftover.content(), Err(OpenError::Mismatch { what: "boot", .. })));
        leftover.remove().unwrap();
        let ring = asked.open_or_create().unwrap();
        assert_eq!(ring.statistics().sent(), 0);
        ring.unlink().unwrap();
    }
}

// ---- half made ----

#[test]
fn zeros_of_any_length_are_no_ring_and_can_be_removed() {
    let _alone = alone();
    let name = Name::new();
    drop(small(&name).create().unwrap());
    let whole = fs::read(name.path()).unwrap();
    let lengths = [0, 1, 8, 127, 128, 129, 4095, 4096, 4097, 8192, whole.len() - 1, whole.len()];
    // Nothing but zeros; and a header with nothing behind it.
    for bytes in lengths.into_iter().flat_map(|length| [vec![0; length], whole[..length].to_vec()]) {
        if bytes == whole {
            continue;
        }
        fs::remove_file(name.path()).unwrap();
        fs::write(name.path(), &bytes).unwrap();
        fs::set_permissions(name.path(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        for refused in [small(&name).open(), small(&name).open_or_create()] {
            let error = refused.unwrap_err();
            let known = matches!(
                error,
                OpenError::NotARing { .. } | OpenError::Segment(SegmentError::TooShort { .. })
            );
            assert!(known, "{} bytes: {error:?}", bytes.len());
        }
        assert_segment(small(&name).create(), exists);
        assert_eq!(fs::read(name.path()).unwrap(), bytes, "what was refused was not changed");
        let leftover = small(&name).leftover().unwrap();
        assert!(leftover.content().is_err());
        leftover.remove().unwrap();
        let ring = small(&name).create().unwrap();
        ring.sender().unwrap().send(b"whole").unwrap();
        assert_eq!(ring.receiver().unwrap().recv().unwrap().to_vec(), b"whole");
    }
}

// ---- several who make it ----

const RACERS: usize = 16;
const RACES: usize = 15;

/// At each start: asks for the ring in the way that it is told, and says which instance it got; 0 for none.
fn race(name: &str, line: &Line) {
    while let Some(way) = line.next() {
        let got = match way {
            0 => small(name).create(),
            1 => small(name).open_or_create(),
            _ => loop {
                match small(name).open() {
                    Err(OpenError::Segment(SegmentError::NotFound { .. })) => thread::yield_now(),
                    other => break other,
                }
            },
        };
        match got {
            Ok(ring) => line.tell(ring.info().instance),
            Err(error) => {
                assert_segment::<()>(Err(error), exists);
                line.tell(0);
            }
        }
    }
}

#[test]
fn of_sixteen_processes_that_make_and_open_at_once_one_makes_it_and_all_others_have_it() {
    let _alone = alone();
    let name = Name::new();
    let racers: Vec<_> = (0..RACERS).map(|_| Child::start(&format!("race {}", &*name))).collect();
    for round in 0..RACES {
        // All three calls mixed, in some rounds one of them more than the others.
        let way = |racer: usize| [(racer + round) % 3, 0, 1][round % 3] as u64;
        racers.iter().enumerate().for_each(|(racer, child)| child.tell(way(racer)));
        let got: Vec<_> = racers.iter().map(|racer| racer.hear()).collect();
        let ring = small(&name).open().unwrap();
        let created = got.iter().enumerate().filter(|&(racer, &got)| way(racer) == 0 && got != 0).count();
        let creators = (0..RACERS).filter(|&racer| way(racer) == 0).count();
        let others = (0..RACERS).filter(|&racer| way(racer) == 1).count();
        assert!(created <= 1, "{created} have made it");
        assert!(others > 0 || created == 1, "nobody has made it");
        assert!(
            creators == RACERS || got.iter().enumerate().all(|(racer, &got)| way(racer) == 0 || got != 0)
        );
        assert!(got.iter().all(|&got| got == 0 || got == ring.info().instance), "two rings: {got:?}");
        ring.unlink().unwrap();
    }
}

// ---- taken away at the same time ----

fn removals() -> u64 {
    if common::long() { 2000 } else { 40 }
}

/// Removes the ring whenever nobody uses it, and says at the end how often.
fn clean(name: &str, line: &Line) {
    let mut removed = 0;
    line.tell(0);
    let end = Instant::now() + FAR;
    while removed < removals() && Instant::now() < end {
        match small(name).leftover() {
            Ok(leftover) => {
                leftover.remove().unwrap();
                removed += 1;
            }
            Err(error) => {
                assert_segment::<()>(Err(error), |error| in_use(error) || not_found(error));
                thread::yield_now();
            }
        }
    }
    line.tell(removed);
}

#[test]
fn nobody_loses_the_name_of_a_ring_that_he_has_just_opened() {
    let _alone = alone();
    let name = Name::new();
    let cleaner = Child::start(&format!("clean {}", &*name));
    assert_eq!(cleaner.hear(), 0);
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            for turn in 0u32.. {
                if done.load(Relaxed) {
                    break;
                }
                let ring = small(&name).open_or_create().unwrap();
                assert!(ring.is_current(), "it was removed while it was opened");
                thread::yield_now();
                assert!(ring.is_current(), "it was removed while it was open");
                drop(ring);
                (0..turn % 20).for_each(|_| thread::yield_now());
            }
        });
        let removed = cleaner.hear();
        done.store(true, Relaxed);
        assert_eq!(removed, removals(), "the cleaner had too little to do");
    });
    cleaner.finish();
}

#[test]
fn of_several_that_unlink_one_ring_one_does_and_none_takes_the_next_ones_name() {
    let _alone = alone();
    let name = Name::new();
    const UNLINKERS: usize = 4;
    for _ in 0..200 {
        let old = small(&name).create().unwrap();
        let start = Barrier::new(UNLINKERS + 1);
        let (new, unlinked) = thread::scope(|threads| {
            let unlinkers = [(); UNLINKERS].map(|()| {
                threads.spawn(|| {
                    let ring = small(&name).open().unwrap();
                    start.wait();
                    ring.unlink()
                })
            });
            start.wait();
            let new = loop {
                match small(&name).create() {
                    Err(error) => assert_segment::<()>(Err(error), exists),
                    Ok(ring) => break ring,
                }
            };
            (new, unlinkers.map(|unlinker| unlinker.join().unwrap()))
        });
        assert_eq!(unlinked.iter().filter(|result| result.is_ok()).count(), 1);
        unlinked.into_iter().filter(Result::is_err).for_each(|refused| assert_segment(refused, not_found));
        assert!(new.is_current() && !old.is_current());
        new.unlink().unwrap();
    }
}
