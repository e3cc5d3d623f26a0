//! Regions: memory of any size that goes over a link without being copied, from a process that need not be trusted.

use super::{
    FAR, Line, Place,
    common::{
        filter::{answer, filter, jump, load, refuse},
        fork::leave_an_heir,
    },
    descriptors, raw,
    raw::Raw,
};
use ringpost::{Duplex, LinkError, RecvError, Region, RegionError, RegionMut, SegmentError, SendError};
use rustix::{
    fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create},
    io::{Errno, pwrite},
    mm::ProtFlags,
};
use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    thread,
    time::Duration,
};

const MIB: usize = 1 << 20;

/// The byte at a place of a region that is told apart by a number.
fn byte_at(number: usize, place: usize) -> u8 {
    (number + place / 4096 * 7 + place % 251) as u8
}

fn region(number: usize, length: usize) -> Region {
    let mut memory = RegionMut::new(length).unwrap();
    assert!(memory.iter().all(|&byte| byte == 0));
    memory.iter_mut().enumerate().for_each(|(place, byte)| *byte = byte_at(number, place));
    memory.freeze().unwrap()
}

#[track_caller]
fn check(region: &Region, number: usize, length: usize) {
    assert_eq!(region.len(), length);
    assert!(
        region.iter().enumerate().all(|(place, &byte)| byte == byte_at(number, place)),
        "region {number}"
    );
}

/// Both ends in this process.
fn pair(place: &Place) -> (Duplex, Duplex) {
    let listener = place.listen_with(ringpost::unnamed().capacity(1 << 16).handshake_timeout(FAR));
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || ringpost::connect_duplex(path).unwrap());
    (listener.accept_duplex().unwrap(), connecting.join().unwrap())
}

/// Sends a region between two messages, `count` times; then waits.
pub fn send_some(path: &Path, count: usize, length: usize, line: &Line) {
    let mut duplex = ringpost::connect_duplex(path).unwrap();
    for number in 0..count {
        duplex.send(&number.to_ne_bytes()).unwrap();
        duplex.send_region(&region(number, length)).unwrap();
        duplex.send(b"behind").unwrap();
    }
    line.tell(0);
    line.hear();
}

#[test]
fn a_large_region_from_another_process_comes_whole_and_in_order() {
    let place = Place::new();
    let listener = place.listen();
    let child = place.child("send-regions", &format!("2 {}", 64 * MIB + 5));
    let mut duplex = listener.accept_duplex().unwrap();
    for number in 0..2usize {
        assert_eq!(duplex.recv_timeout(FAR).unwrap().to_vec(), number.to_ne_bytes());
        let message = duplex.recv_timeout(FAR).unwrap();
        assert_eq!(message.kind(), Region::KIND);
        check(&message.region().unwrap(), number, 64 * MIB + 5);
        assert!(matches!(message.region(), Err(RegionError::Taken)));
        drop(message);
        assert_eq!(duplex.recv_timeout(FAR).unwrap().to_vec(), b"behind");
    }
    child.hear();
    child.tell(0);
    child.finish();
}

#[test]
fn a_region_outlives_its_maker_and_is_received_after_his_death() {
    let place = Place::new();
    let listener = place.listen();
    let mut child = place.child("send-regions", "3 100000");
    let mut duplex = listener.accept_duplex().unwrap();
    child.hear();
    let pid = child.id();
    child.kill();
    let mut regions = Vec::new();
    let end = loop {
        match duplex.recv_timeout(FAR) {
            Ok(message) if message.kind() == Region::KIND => regions.push(message.region().unwrap()),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(end, RecvError::PeerDied { pid, unfinished: 0 });
    assert_eq!(regions.len(), 3);
    regions.iter().enumerate().for_each(|(number, region)| check(region, number, 100_000));
}

#[test]
fn nobody_changes_a_region() {
    let place = Place::new();
    let (mut here, mut there) = pair(&place);
    let ours = region(1, 10_000);
    here.send_region(&ours).unwrap();
    let received = there.recv().unwrap().region().unwrap();
    for region in [&ours, &received] {
        let fd = region.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(raw::map(&fd, 10_000, ProtFlags::READ | ProtFlags::WRITE), Err(Errno::PERM));
        assert_eq!(pwrite(&fd, b"x", 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        assert_eq!(fallocate(&fd, punch, 0, 4096), Err(Errno::PERM));
        check(region, 1, 10_000);
    }
}

#[test]
fn a_region_goes_on_to_others_and_lives_as_long_as_one_has_it() {
    let (first, second) = (Place::new(), Place::new());
    let (mut here, mut there) = pair(&first);
    let (mut onwards, mut last) = pair(&second);
    here.send_region(&region(7, 5000)).unwrap();
    let passed = there.recv().unwrap().region().unwrap();
    onwards.send_region(&passed).unwrap();
    let copy = passed.clone();
    drop((passed, here, there, onwards));
    check(&last.recv().unwrap().region().unwrap(), 7, 5000);
    check(&copy, 7, 5000);
}

#[test]
fn regions_that_nobody_takes_are_passed_over() {
    let place = Place::new();
    let (mut here, mut there) = pair(&place);
    (0..3).for_each(|number| here.send_region(&region(number, 100)).unwrap());
    drop(there.recv().unwrap());
    let [second, third] = <[_; 2]>::try_from(there.receiver.iter().take(2).collect::<Vec<_>>()).unwrap();
    assert_eq!((second.kind, third.kind), (Region::KIND, Region::KIND), "copies name it, and have it not");
    here.send_region(&region(3, 100)).unwrap();
    check(&there.recv().unwrap().region().unwrap(), 3, 100);
}

#[test]
fn a_sender_of_regions_is_held_up_by_a_receiver_that_takes_none() {
    let place = Place::new();
    let (mut here, mut there) = pair(&place);
    let region = region(0, 1);
    let mut sent = 0;
    let full = loop {
        match here.sender.try_send_region(&region) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full, RegionError::Send(SendError::Full)), "{full}");
    // However often it is tried, the ring has as much room as before: for the message that follows.
    (0..10_000).for_each(|_| assert!(here.sender.try_send_region(&region).is_err()));
    here.try_send(b"there is room").unwrap();
    let late = here.sender.send_region_timeout(&region, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(late, RegionError::Send(SendError::TimedOut)), "{late}");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| here.send_region(&region));
        for _ in 0..sent {
            drop(there.recv_timeout(FAR).unwrap().region().unwrap());
        }
        assert_eq!(there.recv_timeout(FAR).unwrap().to_vec(), b"there is room");
        drop(there.recv_timeout(FAR).unwrap().region().unwrap());
        waiting.join().unwrap().unwrap();
    });
    drop(there);
    let gone = here.send_region(&region).unwrap_err();
    assert!(matches!(gone, RegionError::Send(SendError::Disconnected)), "{gone}");
}

#[test]
fn a_region_of_nothing_and_a_ring_without_a_way_are_refused() {
    let nothing = RegionMut::new(0).unwrap_err();
    assert!(matches!(nothing, SegmentError::TooShort { .. }));
    assert!(nothing.to_string().contains("no bytes"), "{nothing}");
    let ring = ringpost::unnamed().memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    assert!(matches!(sender.send_region(&region(0, 1)), Err(RegionError::NotDuplex)));
    sender.send_kind(Region::KIND, &[0; 16]).unwrap();
    assert!(matches!(receiver.recv().unwrap().region(), Err(RegionError::NotDuplex)));
    sender.send_kind(Region::KIND, &[0; 15]).unwrap();
    assert!(matches!(receiver.recv().unwrap().region(), Err(RegionError::NotARegion)));
    sender.send_kind(7, &[0; 16]).unwrap();
    assert!(matches!(receiver.recv().unwrap().region(), Err(RegionError::NotARegion)));
}

#[test]
fn the_death_of_a_receiver_that_takes_no_regions_wakes_the_sender() {
    let place = Place::new();
    let mut host = place.child("host-with-heir", "");
    host.hear();
    let mut sender = ringpost::connect_duplex(&*place).unwrap().sender;
    // It keeps the connection open when the host is gone.
    let heir = host.hear();
    let region = region(0, 1);
    while sender.try_send_region(&region).is_ok() {}
    let waiting = thread::spawn(move || sender.send_region(&region).unwrap_err());
    host.kill();
    let error = waiting.join().unwrap();
    assert!(matches!(error, RegionError::Link(LinkError::HungUp { .. })), "{error}");
    let heir = rustix::process::Pid::from_raw(heir as i32).unwrap();
    rustix::process::kill_process(heir, rustix::process::Signal::KILL).unwrap();
}

/// Accepts, and leaves a child that has inherited all there is.
pub fn host_with_heir(path: &Path, line: &Line) {
    let listener = ringpost::unnamed().capacity(1 << 16).handshake_timeout(FAR).listen(path).unwrap();
    line.tell(0);
    let _duplex = listener.accept_duplex().unwrap();
    line.tell(leave_an_heir());
    line.hear();
}

/// A memfd with these seals.
fn memfd(length: u64, seals: SealFlags) -> OwnedFd {
    raw::sealed(raw::memory(length), seals)
}

#[test]
fn only_memory_that_nobody_can_change_is_a_region() {
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    Region::from_fd(memfd(5000, all)).unwrap();
    for missing in [SealFlags::WRITE, SealFlags::SHRINK, SealFlags::GROW] {
        let refused = Region::from_fd(memfd(5000, all.difference(missing)));
        assert!(matches!(refused, Err(SegmentError::NotSealed { .. })), "{missing:?}");
    }
    // No new mapping can write, but an old one can.
    let future = (all | SealFlags::FUTURE_WRITE).difference(SealFlags::WRITE);
    assert!(matches!(Region::from_fd(memfd(5000, future)), Err(SegmentError::NotSealed { .. })));
    let hollow = raw::sealed(raw::hollow(1 << 20), all);
    assert!(matches!(Region::from_fd(hollow), Err(SegmentError::Holes { .. })));
    // As many blocks as pages, and none of them before its end.
    let deceiving = raw::hollow(1 << 20);
    fallocate(&deceiving, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20).unwrap();
    let hole = Region::from_fd(raw::sealed(deceiving, all));
    assert!(matches!(hole, Err(SegmentError::Holes { found: 0, needed: 0x10_0000 })), "{hole:?}");
    // One page is missing, the last.
    let deceiving = raw::memory(8192);
    ftruncate(&deceiving, 12288).unwrap();
    fallocate(&deceiving, FallocateFlags::KEEP_SIZE, 12288, 4096).unwrap();
    let hole = Region::from_fd(raw::sealed(deceiving, all));
    assert!(matches!(hole, Err(SegmentError::Holes { found: 8192, needed: 12288 })), "{hole:?}");
    let empty = raw::sealed(raw::hollow(0), all);
    assert!(matches!(Region::from_fd(empty), Err(SegmentError::TooShort { .. })));
    let (read, _write) = std::io::pipe().unwrap();
    assert!(matches!(Region::from_fd(read.into()), Err(SegmentError::NotRegular { .. })));
    let file = File::open("/proc/self/exe").unwrap();
    Region::from_fd(file.into()).unwrap_err();
    // Huge pages, where the system has any to give.
    if let Ok(huge) = memfd_create("huge", MemfdFlags::HUGETLB | MemfdFlags::ALLOW_SEALING) {
        let _ = ftruncate(&huge, 2 << 20);
        fcntl_add_seals(&huge, all).unwrap();
        assert!(matches!(Region::from_fd(huge), Err(SegmentError::NotRegular { .. })));
    }
}

#[test]
fn what_was_never_written_is_memory_all_the_same_when_it_was_made_here() {
    let region = RegionMut::new(3 * MIB + 5).unwrap().freeze().unwrap();
    assert!(region.iter().all(|&byte| byte == 0));
}

#[test]
fn a_region_is_as_long_as_it_was_when_it_was_sealed() {
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    for (before, after) in [(4096, 8192), (8192, 4096), (4096, 5000)] {
        let memory = raw::memory(before);
        let theirs = memory.try_clone().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let receiving = thread::spawn(move || {
            tell.send(hold_up_the_look_at_seals()).unwrap();
            Region::from_fd(memory)
        });
        // Its owner changes it until the last moment: while it is asked whether that is still possible.
        told.recv().unwrap().at_the_look(|| {
            ftruncate(&theirs, after).unwrap();
            pwrite(&theirs, &[1; 8192][..after as usize], 0).unwrap();
            fcntl_add_seals(&theirs, all).unwrap();
        });
        let region = receiving.join().unwrap().unwrap();
        assert_eq!(region.len() as u64, after);
        assert!(region.iter().all(|&byte| byte == 1));
    }
}

/// Where the kernel asks what is to become of a call (`SECCOMP_RET_USER_NOTIF`).
struct HeldUp(OwnedFd);

/// From now on this thread's look at the seals of a file waits until somebody has said that it goes on.
fn hold_up_the_look_at_seals() -> HeldUp {
    const F_GET_SEALS: u32 = 1034;
    let program = [
        load(0),
        jump(libc::SYS_fcntl as u32, 0, 3),
        load(24),
        jump(F_GET_SEALS, 0, 1),
        answer(libc::SECCOMP_RET_USER_NOTIF),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let listener = filter(&program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
    // SAFETY: the kernel has just opened it.
    HeldUp(unsafe { OwnedFd::from_raw_fd(listener as i32) })
}

impl HeldUp {
    /// Waits for the call, does something, and lets it go on.
    fn at_the_look(&self, act: impl FnOnce()) {
        /// `_IOWR('!', 0, struct seccomp_notif)`.
        const RECEIVE: libc::c_ulong = 0xc050_2100;
        /// `_IOWR('!', 1, struct seccomp_notif_resp)`.
        const SEND: libc::c_ulong = 0xc018_2101;
        // SAFETY: integers.
        let mut asked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes such a structure.
        assert_eq!(unsafe { libc::ioctl(self.0.as_raw_fd(), RECEIVE, &raw mut asked) }, 0);
        act();
        let flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
        let mut goes_on = libc::seccomp_notif_resp { id: asked.id, val: 0, error: 0, flags };
        // SAFETY: the kernel reads such a structure.
        assert_eq!(unsafe { libc::ioctl(self.0.as_raw_fd(), SEND, &raw mut goes_on) }, 0);
    }
}

#[test]
fn a_region_that_the_system_has_refused_to_receive_puts_none_out_of_step() {
    let place = Place::new();
    let (mut here, mut there) = pair(&place);
    (0..3).for_each(|number| here.send_region(&region(number, 100)).unwrap());
    thread::scope(|scope| {
        let refused = scope.spawn(|| {
            refuse((libc::SYS_recvmsg, Errno::NOMEM));
            there.recv().unwrap().region().unwrap_err()
        });
        let error = refused.join().unwrap();
        assert!(matches!(error, RegionError::Link(LinkError::Os { .. })), "{error}");
    });
    check(&there.recv().unwrap().region().unwrap(), 1, 100);
    check(&there.recv().unwrap().region().unwrap(), 2, 100);
}

/// Over the socket: with a region's descriptor.
const REGION: u32 = 6;

/// What a peer can do instead of passing a region.
const LIES: [&str; 12] = [
    "missing",
    "two",
    "unsealed",
    "hollow",
    "longer",
    "pipe",
    "garbage",
    "misnumbered",
    "nothing",
    "far",
    "again",
    "good",
];

fn sockets() -> Vec<(String, std::path::PathBuf)> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let link = |entry: std::fs::DirEntry| {
        Some((entry.file_name().into_string().ok()?, std::fs::read_link(entry.path()).ok()?))
    };
    open.filter_map(|entry| link(entry.ok()?))
        .filter(|(_, link)| link.to_string_lossy().starts_with("socket"))
        .collect()
}

/// Names a region in the ring for each of the lies, and says over the socket what that is.
pub fn lie(path: &Path, line: &Line) {
    let before = sockets();
    let mut duplex = ringpost::connect_duplex(path).unwrap();
    let own: Vec<_> = sockets().into_iter().filter(|socket| !before.contains(socket)).collect();
    let [(number, _)] = &own[..] else { panic!("{own:?}") };
    // SAFETY: open for as long as the link is; only a copy of it is used.
    let socket = unsafe { BorrowedFd::borrow_raw(number.parse().unwrap()) };
    let raw = Raw(socket.try_clone_to_owned().unwrap());
    let all = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW;
    let good = || memfd(4096, all);
    let mut said = 0;
    for lie in LIES {
        let fds = match lie {
            "missing" | "garbage" => vec![],
            "two" => vec![good(), good()],
            "unsealed" => vec![memfd(4096, SealFlags::empty())],
            "hollow" => vec![raw::sealed(raw::hollow(4096), all)],
            "longer" => vec![memfd(8192, all)],
            "pipe" => vec![std::io::pipe().unwrap().0.into()],
            _ => vec![good()],
        };
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let named = match lie {
            "far" => u64::MAX,
            "again" => 0,
            _ => said,
        };
        match lie {
            "nothing" | "far" | "again" => {}
            "garbage" => raw.say(b"garbage", &fds),
            "misnumbered" => raw.say(&raw::message(REGION, said as u32 + 7), &fds),
            _ => raw.say(&raw::message(REGION, said as u32), &fds),
        }
        said += u64::from(!["nothing", "far", "again"].contains(&lie));
        let name = [named.to_ne_bytes(), 4096u64.to_ne_bytes()].concat();
        duplex.sender.send_kind(Region::KIND, &name).unwrap();
        line.tell(0);
        line.hear();
    }
}

/// Receives what a liar passes, and loses no descriptor.
pub fn be_lied_to(path: &Path, line: &Line) {
    let listener = ringpost::unnamed().handshake_timeout(FAR).listen(path).unwrap();
    line.tell(0);
    let mut duplex = listener.accept_duplex().unwrap();
    let mut open = None;
    for lie in LIES {
        let region = duplex.recv_timeout(FAR).unwrap().region();
        let is_told = match lie {
            "unsealed" => matches!(region, Err(RegionError::Segment(SegmentError::NotSealed { .. }))),
            "hollow" => matches!(region, Err(RegionError::Segment(SegmentError::Holes { .. }))),
            "pipe" => matches!(region, Err(RegionError::Segment(SegmentError::NotRegular { .. }))),
            "again" => matches!(region, Err(RegionError::Taken)),
            "good" => region.as_ref().is_ok_and(|region| region.iter().all(|&byte| byte == 0)),
            _ => matches!(region, Err(RegionError::Link(LinkError::Malformed { .. }))),
        };
        assert!(is_told, "{lie}: {region:?}");
        drop(region);
        assert_eq!(descriptors(), *open.get_or_insert_with(descriptors), "{lie}");
        line.tell(0);
    }
}

#[test]
fn whatever_is_passed_instead_of_a_region_is_refused_and_the_link_goes_on() {
    let place = Place::new();
    let victim = place.child("be-lied-to", "");
    victim.hear();
    let liar = place.child("lie", "");
    for _ in LIES {
        liar.hear();
        victim.hear();
        liar.tell(0);
    }
    victim.finish();
    liar.finish();
}

#[test]
fn a_region_that_is_still_written_is_no_childs() {
    let place = Place::new();
    place.child("fork-with-region", "").finish();
}

/// A forked child reads and drops what its parent fills; the parent goes on.
pub fn fork_with_region() {
    let mut memory = RegionMut::new(8192).unwrap();
    memory[0] = 1;
    // SAFETY: the child does nothing that another thread of the parent could have left half done, and ends.
    let child = match unsafe { libc::fork() } {
        0 => {
            std::panic::set_hook(Box::new(|_| ()));
            let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| memory[0]));
            // Whatever lies there now stays.
            let start = rustix::mm::MapFlags::PRIVATE;
            let access = ProtFlags::READ | ProtFlags::WRITE;
            // SAFETY: the kernel chooses an address where nothing is mapped.
            let base =
                unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), 8192, access, start) }.unwrap();
            drop(memory);
            // SAFETY: just mapped, unless the drop has taken it away.
            unsafe { base.cast::<u8>().write_volatile(1) };
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if seen.is_err() { 0 } else { 1 }) };
        }
        child => rustix::process::Pid::from_raw(child).unwrap(),
    };
    let region = memory.freeze().unwrap();
    assert_eq!(region[0], 1);
    let (_, status) =
        rustix::process::waitpid(Some(child), rustix::process::WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}
