//! Whatever is asked or found that can't be: a typed error that says what was wrong and what would be right, and nothing
//! is left of the attempt: no descriptor, no mapping, no file.

mod common;

use common::{Child, Name};
use ringpost::{Builder, Lifetime, OpenError, RecvError, SegmentError, SendError, builder};
use rustix::{
    fs::{FileType, Mode, mknodat},
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    process::geteuid,
    thread::{UnshareFlags, unshare_unsafe},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, Permissions},
    os::unix::fs::{FileExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// Asserts which error it is, and that its sentence has the facts.
macro_rules! assert_error {
    ($error:expr, $pattern:pat $(if $guard:expr)?, $($fact:expr),+) => {{
        let error = $error;
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
        let text = error.to_string();
        $(assert!(text.contains(&$fact.to_string()), "{text:?} lacks {:?}", $fact.to_string());)+
    }};
}

/// A directory for the rings of one test, which has the process to itself, so that it sees whatever is left behind.
struct Scene {
    directory: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = PathBuf::from(format!("/dev/shm/ringpost-{}", &*Name::new()));
        fs::create_dir(&directory).unwrap();
        Self { directory, _alone: alone }
    }

    fn builder(&self, name: &str) -> Builder {
        builder(name).directory(&self.directory).capacity(4096)
    }

    /// Where the ring of this name stands.
    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("ringpost.{name}"))
    }

    /// A ring that nobody has open.
    fn ring(&self, name: &str) -> PathBuf {
        self.builder(name).create().unwrap();
        self.path(name)
    }

    /// What `attempt` is refused with, having left nothing behind.
    #[track_caller]
    fn refused<T, E: std::error::Error>(&self, attempt: impl FnOnce() -> Result<T, E>) -> E {
        let before = self.traces();
        let error = attempt().err().expect("this is refused");
        // A thread that watches has a descriptor for a moment when somebody comes or goes.
        let same = (0..500).any(|turn| {
            thread::sleep(Duration::from_millis(2 * turn.min(1)));
            let (descriptors, rest) = self.traces();
            descriptors <= before.0 && rest == before.1
        });
        assert!(same, "left behind by: {error}: {before:?} has become {:?}", self.traces());
        error
    }

    /// What opening the ring `name` is refused with.
    #[track_caller]
    fn refused_at(&self, name: &str) -> OpenError {
        self.refused(|| builder(name).directory(&self.directory).open())
    }

    /// Descriptors, mappings of rings, and files.
    fn traces(&self) -> (usize, (usize, Vec<OsString>)) {
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        let mappings = fs::read_to_string("/proc/self/maps").unwrap();
        let mappings = mappings.lines().filter(|line| line.contains("/dev/shm") || line.contains("memfd"));
        let files = fs::read_dir(&self.directory).unwrap();
        let mut files: Vec<_> = files.map(|entry| entry.unwrap().file_name()).collect();
        files.sort();
        (descriptors, (mappings.count(), files))
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn user() -> u32 {
    geteuid().as_raw()
}

#[test]
fn child_process() {
    let Some((words, line)) = common::role() else { return };
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["hold", place, name] => {
            let ring = builder(name).open().unwrap();
            let _receiver = (place == "receiver").then(|| ring.receiver().unwrap());
            let _sender = (place == "sender").then(|| ring.sender().unwrap());
            line.tell(0);
            line.next();
        }
        ["fill", directory] => fill_a_small_tmpfs(Path::new(directory), &line),
        ["stranger", directory] => come_as_a_stranger(Path::new(directory)),
        _ => panic!("{words:?}"),
    }
}

// Messages.

#[test]
fn a_message_that_is_too_long_is_told_the_longest_and_nothing_is_sent() {
    let scene = Scene::new();
    let ring = scene.builder("ring").longest_message(100).create().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let long = [7; 101];
    assert_error!(
        scene.refused(|| sender.send(&long)),
        SendError::TooLong { length: 101, longest: 100 },
        101,
        100
    );
    assert_error!(scene.refused(|| sender.try_send(&long)), SendError::TooLong { longest: 100, .. }, 100);
    assert_error!(
        scene.refused(|| sender.reserve(usize::MAX).map(drop)),
        SendError::TooLong { length: usize::MAX, longest: 100 },
        100
    );
    assert_error!(scene.refused(|| sender.batch(1 << 40).map(drop)), SendError::TooLong { .. }, 1u64 << 40);
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
    sender.send(&long[..100]).unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), long[..100]);
}

#[test]
fn a_message_of_no_bytes_is_a_message() {
    let scene = Scene::new();
    let ring = scene.builder("ring").memfd().unwrap();
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    sender.send(b"").unwrap();
    sender.reserve(0).unwrap().commit();
    for _ in 0..2 {
        assert_eq!(receiver.recv().unwrap().to_vec(), b"");
    }
    assert_eq!(receiver.try_recv().unwrap_err(), RecvError::Empty);
}

#[test]
fn a_longest_message_of_no_bytes_takes_only_those() {
    let scene = Scene::new();
    let ring = scene.builder("ring").longest_message(0).memfd().unwrap();
    let mut sender = ring.sender().unwrap();
    sender.send(b"").unwrap();
    assert_eq!(sender.send(b"x"), Err(SendError::TooLong { length: 1, longest: 0 }));
}

// Settings.

#[test]
fn a_capacity_that_can_not_be_is_told_the_bounds() {
    let scene = Scene::new();
    for absurd in [0, (1 << 40) + 1, 1 << 41, u64::MAX] {
        let asked = scene.builder("ring").capacity(absurd);
        for error in [
            scene.refused(|| asked.create()),
            scene.refused(|| asked.open_or_create()),
            scene.refused(|| asked.memfd()),
            scene.refused(|| asked.in_process()),
        ] {
            assert_error!(
                error,
                OpenError::Setting { what: "capacity", given, .. } if *given == absurd,
                absurd, "1 to", 1u64 << 40
            );
        }
    }
}

#[test]
fn settings_that_can_not_be_are_told_the_bounds() {
    #[repr(align(16))]
    struct Wide;

    let scene = Scene::new();
    let longest = scene.builder("ring").longest_message(4081);
    assert_error!(
        scene.refused(|| longest.create()),
        OpenError::Setting { what: "longest message", given: 4081, most: 4080, .. },
        4081,
        4080
    );
    let senders = scene.builder("ring").many_senders(0);
    assert_error!(
        scene.refused(|| senders.create()),
        OpenError::Setting { given: 0, .. },
        "senders",
        "1 to 255"
    );
    let aligned = scene.builder("ring").fixed::<Wide>();
    assert_error!(
        scene.refused(|| aligned.create()),
        OpenError::Setting { given: 16, .. },
        "alignment",
        "1 to 8"
    );
}

#[test]
fn a_mode_that_lets_everybody_write_or_keeps_the_owner_out_is_refused() {
    let scene = Scene::new();
    for mode in [0o666, 0o602, 0o400, 0o200, 0, 0o4600, u32::MAX] {
        assert_error!(
            scene.refused(|| scene.builder("ring").mode(mode).create()),
            OpenError::Mode { bits } if *bits == mode,
            "its owner must read and write it, others must not write it",
            "0600"
        );
    }
    for mode in [0o600, 0o660, 0o664] {
        let ring = scene.builder("ring").mode(mode).lifetime(Lifetime::Owned).create().unwrap();
        assert_eq!(fs::metadata(ring.path().unwrap()).unwrap().permissions().mode() & 0o7777, mode);
        scene.builder("ring").open().unwrap();
    }
}

#[test]
fn a_name_that_can_not_be_is_told_why() {
    let scene = Scene::new();
    let too_long = "n".repeat(247);
    for (name, why) in [
        ("", "empty"),
        ("a/b", "slash"),
        ("/", "slash"),
        ("../up", "slash"),
        (".", "dot"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("a\0b", "zero byte"),
        (too_long.as_str(), "more than 246 bytes"),
    ] {
        let asked = scene.builder(name);
        for error in [
            scene.refused(|| asked.create().map(drop)),
            scene.refused(|| asked.open().map(drop)),
            scene.refused(|| asked.open_or_create().map(drop)),
            scene.refused(|| asked.unlink()),
        ] {
            assert_error!(error, OpenError::Name { name: given, .. } if given == name, why, format!("{name:?}"));
        }
    }
    scene.builder(&too_long[1..]).lifetime(Lifetime::Owned).create().unwrap();
}

// What stands, or does not stand, under the name.

#[test]
fn a_ring_that_does_not_exist_is_named() {
    let scene = Scene::new();
    let path = scene.path("ring");
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Segment(SegmentError::NotFound { path: found }) if *found == path,
        path.display(), "does not exist"
    );
    let nowhere = scene.directory.join("nowhere");
    let there = scene.builder("ring").directory(&nowhere);
    assert_error!(
        scene.refused(|| there.open_or_create()),
        OpenError::Segment(SegmentError::NotFound { .. }),
        nowhere.display()
    );
}

#[test]
fn a_ring_that_exists_is_not_made_again() {
    let scene = Scene::new();
    let ring = scene.builder("ring").create().unwrap();
    assert_error!(
        scene.refused(|| scene.builder("ring").create()),
        OpenError::Segment(SegmentError::AlreadyExists { .. }),
        scene.path("ring").display(),
        "exists already"
    );
    assert!(ring.is_current());
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let scene = Scene::new();
    symlink(scene.ring("ring"), scene.path("link")).unwrap();
    symlink("nowhere", scene.path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        for error in [scene.refused_at(name), scene.refused(|| scene.builder(name).open_or_create())] {
            assert_error!(
                error,
                OpenError::Segment(SegmentError::Symlink { .. }),
                scene.path(name).display(),
                "never followed"
            );
        }
    }
}

#[test]
fn a_second_name_is_refused_until_it_is_removed() {
    let scene = Scene::new();
    fs::hard_link(scene.ring("ring"), scene.path("other")).unwrap();
    for name in ["ring", "other"] {
        assert_error!(
            scene.refused_at(name),
            OpenError::Segment(SegmentError::HardLinks { links: 2, .. }),
            scene.path(name).display(),
            "has 2 names",
            "remove the others"
        );
    }
    fs::remove_file(scene.path("other")).unwrap();
    scene.builder("ring").open().unwrap();
}

#[test]
fn what_is_no_file_is_refused_without_waiting_for_it() {
    let scene = Scene::new();
    fs::create_dir(scene.path("directory")).unwrap();
    mknodat(rustix::fs::CWD, scene.path("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(scene.path("socket")).unwrap();
    for name in ["directory", "fifo", "socket"] {
        assert_error!(
            scene.refused_at(name),
            OpenError::Segment(SegmentError::NotRegular { .. }),
            scene.path(name).display(),
            "not a regular file"
        );
    }
}

#[test]
fn what_everybody_may_write_to_is_refused_until_that_is_withdrawn() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    for mode in [0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_error!(
            scene.refused_at("ring"),
            OpenError::Segment(SegmentError::WorldWritable { mode: found, .. }) if *found == mode,
            path.display(), format!("{mode:04o}"), "chmod o-w"
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    scene.builder("ring").open().unwrap();
}

#[test]
fn the_ring_of_another_user_is_refused_unless_it_was_asked_for() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let other = user() + 1;
    assert_error!(
        scene.refused(|| scene.builder("ring").owner(other).open()),
        OpenError::Segment(SegmentError::WrongOwner { found, expected, .. }) if (*found, *expected) == (user(), other),
        path.display(), format!("to user {}", user()), format!("to user {other}")
    );
    if user() != 0 {
        return println!("the rest is skipped: only root may give a file away");
    }
    chown(&path, Some(other), None).unwrap();
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Segment(SegmentError::WrongOwner { found, expected: 0, .. }) if *found == other,
        format!("to user {other}"), "to user 0"
    );
    scene.builder("ring").owner(other).open().unwrap();
}

#[test]
fn without_permission_a_ring_is_neither_opened_nor_made() {
    if user() != 0 {
        return println!("skipped: only root can become somebody without permission");
    }
    let scene = Scene::new();
    scene.ring("ring");
    Child::start(&format!("stranger {}", scene.directory.display())).finish();
}

fn come_as_a_stranger(directory: &Path) {
    const NOBODY: u32 = 65534;
    let become_nobody = || {
        // SAFETY: changes the rights of this process, which exists for that.
        unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setgid(NOBODY) == 0
                && libc::setuid(NOBODY) == 0
        }
    };
    assert!(become_nobody());
    let ring = builder("ring").directory(directory);
    for asked in [ring.clone(), ring.clone().owner(0)] {
        assert_error!(
            asked.open().unwrap_err(),
            OpenError::Segment(SegmentError::PermissionDenied { .. }),
            directory.join("ringpost.ring").display(),
            "permission denied"
        );
    }
    assert_error!(
        builder("new").directory(directory).create().unwrap_err(),
        OpenError::Segment(SegmentError::PermissionDenied { .. }),
        directory.display(),
        "permission denied"
    );
    let error = ring.unlink().unwrap_err();
    assert!(matches!(error, OpenError::Segment(SegmentError::PermissionDenied { .. })), "{error:?}");
}

// What the file holds.

const HEADER: usize = 128;

fn header(path: &Path) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    File::open(path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn patch(path: &Path, offset: usize, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset as u64).unwrap();
}

/// Overwrites a field of the header, and makes the checksum right again.
fn forge(path: &Path, offset: usize, field: &[u8]) {
    let mut bytes = header(path);
    bytes[offset..offset + field.len()].copy_from_slice(field);
    seal(&mut bytes);
    patch(path, 0, &bytes);
}

/// The checksum, as `docs/LAYOUT.md` has it.
fn seal(header: &mut [u8; HEADER]) {
    let sum = header[..HEADER - 8].iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    header[HEADER - 8..].copy_from_slice(&sum.to_ne_bytes());
}

/// Numbers without an order that are the same in each run.
struct Noise(u64);

impl Noise {
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 32) as u8).collect()
    }
}

#[test]
fn a_truncated_ring_is_refused_at_every_length() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let whole = fs::metadata(&path).unwrap().len();
    let truncate = |length| OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
    for length in [whole - 1, whole - 4096, 4097, 4096, 200, HEADER as u64] {
        truncate(length);
        assert_error!(
            scene.refused_at("ring"),
            OpenError::Segment(SegmentError::TooShort { found, needed }) if (*found, *needed) == (length, whole),
            format!("{length} bytes"), format!("have {whole}"), "truncated"
        );
    }
    for length in (0..HEADER as u64).rev() {
        truncate(length);
        assert_error!(
            scene.refused_at("ring"),
            OpenError::NotARing { .. },
            "not a ring",
            "shorter than a header"
        );
    }
}

#[test]
fn garbage_of_any_length_is_no_ring() {
    let scene = Scene::new();
    let mut noise = Noise(0x5eed);
    for length in [1, 8, 127, 128, 129, 4096, 20_000] {
        for garbage in [noise.bytes(length), vec![0; length], vec![0xff; length]] {
            fs::write(scene.path("ring"), garbage).unwrap();
            assert_error!(scene.refused_at("ring"), OpenError::NotARing { .. }, "not a ring");
            assert_error!(
                scene.refused(|| scene.builder("ring").open_or_create()),
                OpenError::NotARing { .. },
                "not a ring"
            );
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let sound = header(&path);
    for bit in 0..HEADER * 8 {
        let mut flipped = sound;
        flipped[bit / 8] ^= 1 << (bit % 8);
        patch(&path, 0, &flipped);
        let error = scene.refused_at("ring");
        match (bit / 8, &error) {
            (8..12, OpenError::Mismatch { what: "layout version", .. }) => {}
            (12..16, OpenError::Mismatch { what: "byte order", .. }) => {}
            (0..8 | 16.., OpenError::NotARing { .. }) => {}
            _ => panic!("bit {bit}: {error:?}"),
        }
    }
    patch(&path, 0, &sound);
    scene.builder("ring").open().unwrap();
}

#[test]
fn a_header_that_lies_with_a_right_checksum_is_refused_or_true() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    let (sound, mut noise) = (header(&path), Noise(0xf0f0));
    for round in 0..500 {
        let mut lie = sound;
        let word = 16 + 4 * (noise.number() % 10) as usize;
        let value = match round % 3 {
            0 => noise.number() as u32,
            1 => 1 << (noise.number() % 32),
            _ => (noise.number() % 260) as u32,
        };
        lie[word..word + 4].copy_from_slice(&value.to_ne_bytes());
        seal(&mut lie);
        patch(&path, 0, &lie);
        match builder("ring").directory(&scene.directory).open() {
            Ok(ring) => assert!(ring.info().capacity == 4096 && ring.info().longest_message <= 4080),
            Err(OpenError::NotARing { .. } | OpenError::Segment(SegmentError::TooShort { .. })) => {}
            Err(other) => panic!("{value:#x} at {word}: {other:?}"),
        }
    }
}

#[test]
fn a_ring_whose_words_are_garbage_gives_errors_and_no_panic() {
    let scene = Scene::new();
    let mut noise = Noise(0xbad);
    for round in 0..40 {
        let wanted = scene.builder("ring").lifetime(Lifetime::Owned);
        let many = round % 2 == 1;
        let ring = if many { wanted.many_senders(3).create() } else { wanted.create() }.unwrap();
        let length = fs::metadata(scene.path("ring")).unwrap().len() as usize;
        patch(&scene.path("ring"), 4096, &noise.bytes(length - 4096));
        let opened = scene.builder("ring").open().unwrap();
        if many {
            let _ = opened.multi_sender().map(|mut sender| sender.try_send(b"x"));
        } else {
            let _ = opened.sender().map(|mut sender| sender.try_send(b"x"));
        }
        if let Ok(mut receiver) = opened.receiver() {
            for _ in 0..3 {
                let _ = receiver.try_recv().map(|message| message.to_vec());
            }
        }
        let _ = opened.statistics();
        drop(ring);
    }
}

#[test]
fn another_version_is_refused_with_both_sides() {
    let scene = Scene::new();
    let path = scene.ring("ring");
    patch(&path, 8, &77u32.to_ne_bytes());
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Mismatch { what: "layout version", found, expected } if found == "77" && expected == "1",
        "version", "has 77", "expected was 1"
    );
    patch(&path, 8, &1u32.swap_bytes().to_ne_bytes());
    assert_error!(
        scene.refused_at("ring"),
        OpenError::Mismatch { what: "layout version", .. },
        "another byte order",
        "expected was 1"
    );
}

#[test]
fn another_boot_namespace_or_page_size_is_refused_with_both_sides() {
    let scene = Scene::new();
    let boot = "00112233445566778899aabbccddeeff";
    forge(&scene.ring("boot"), 72, &u128::from_str_radix(boot, 16).unwrap().to_be_bytes());
    let here = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().replace('-', "");
    assert_error!(scene.refused_at("boot"), OpenError::Mismatch { what: "boot", .. }, boot, here);

    let path = scene.ring("namespace");
    let here = u64::from_ne_bytes(header(&path)[88..96].try_into().unwrap());
    forge(&path, 88, &12345u64.to_ne_bytes());
    assert_error!(scene.refused_at("namespace"), OpenError::Mismatch { .. }, "namespace", "has 12345", here);

    let path = scene.ring("page");
    let here = u32::from_ne_bytes(header(&path)[44..48].try_into().unwrap());
    forge(&path, 44, &(1u32 << 20).to_ne_bytes());
    forge(&path, 32, &(1u32 << 20).to_ne_bytes());
    assert_error!(scene.refused_at("page"), OpenError::Mismatch { .. }, "page size", "has 1048576", here);
}

#[test]
fn another_shape_than_was_asked_for_is_refused_with_both_sides() {
    let scene = Scene::new();
    scene.builder("one").capacity(8192).longest_message(100).create().unwrap();
    scene.builder("many").many_senders(3).create().unwrap();
    scene.builder("typed").fixed::<u32>().create().unwrap();
    let asked = |name| builder(name).directory(&scene.directory);
    let cases = [
        (asked("one").capacity(10_000), "capacity", "8192", "16384"),
        (asked("one").longest_message(101), "longest message", "100", "101"),
        (asked("one").many_senders(3), "senders", "one sender", "up to 3 senders"),
        (asked("many").many_senders(4), "senders", "up to 3 senders", "up to 4 senders"),
        (asked("one").fixed::<u64>(), "type", "any bytes", "8 bytes aligned to 8"),
        (asked("typed").fixed::<u64>(), "type", "4 bytes aligned to 4", "8 bytes aligned to 8"),
        (asked("typed").fixed::<[u8; 4]>(), "type", "4 bytes aligned to 4", "4 bytes aligned to 1"),
    ];
    for (asked, about, has, wanted) in cases {
        for error in [scene.refused(|| asked.open()), scene.refused(|| asked.open_or_create())] {
            assert_error!(
                error,
                OpenError::Mismatch { found, expected, .. } if found == has && expected == wanted,
                about, has, wanted
            );
        }
    }
    for capacity in [0, u64::MAX] {
        let refusal = scene.refused(|| asked("one").capacity(capacity).open());
        assert_error!(refusal, OpenError::Setting { what: "capacity", .. }, "from 1 to 1099511627776");
    }
    asked("one").capacity(8192).longest_message(100).open().unwrap();
    asked("many").many_senders(3).open().unwrap();
    asked("typed").fixed::<u32>().open().unwrap();
}

#[test]
fn another_type_than_the_rings_is_refused_with_both_sides() {
    let scene = Scene::new();
    let bytes = scene.builder("bytes").create().unwrap();
    let typed = scene.builder("typed").fixed::<u32>().create().unwrap();
    assert_error!(
        scene.refused(|| bytes.sender().unwrap().typed::<u64>()),
        OpenError::Mismatch { what: "type of message", .. },
        "any bytes",
        "u64"
    );
    assert_error!(
        scene.refused(|| typed.receiver().unwrap().typed::<u64>()),
        OpenError::Mismatch { .. },
        "has 4",
        "expected was 8"
    );
    typed.receiver().unwrap().typed::<u32>().unwrap();
}

#[test]
fn a_sender_of_the_other_kind_is_refused_with_both_sides() {
    let scene = Scene::new();
    let one = scene.builder("one").create().unwrap();
    let many = scene.builder("many").many_senders(3).create().unwrap();
    let kinds = ["one sender", "many"];
    assert_error!(scene.refused(|| one.multi_sender()), OpenError::Mismatch { .. }, kinds[0], kinds[1]);
    assert_error!(scene.refused(|| many.sender()), OpenError::Mismatch { .. }, "many senders", "one sender");
}

// Places that are taken.

#[test]
fn a_second_receiver_is_told_who_the_first_is_and_a_second_sender_too() {
    let scene = Scene::new();
    let name = Name::new();
    let ring = builder(&*name).capacity(4096).create().unwrap();
    for place in ["receiver", "sender"] {
        let mut holder = Child::start(&format!("hold {place} {}", &*name));
        holder.hear();
        if place == "receiver" {
            assert_error!(
                scene.refused(|| ring.receiver()),
                OpenError::ReceiverAttached { pid } if *pid == holder.id(),
                format!("process {}", holder.id()), "one at a time"
            );
        } else {
            assert_error!(
                scene.refused(|| ring.sender()),
                OpenError::SenderAttached { pid } if *pid == holder.id(),
                format!("process {}", holder.id()), "`many_senders` takes several"
            );
        }
        holder.kill();
    }
    // Both are dead now, and their places free.
    let (mut sender, mut receiver) = (ring.sender().unwrap(), ring.receiver().unwrap());
    let pid = std::process::id();
    assert_error!(scene.refused(|| ring.sender()), OpenError::SenderAttached { .. }, pid);
    assert_error!(scene.refused(|| ring.receiver()), OpenError::ReceiverAttached { .. }, pid);
    sender.send(b"still here").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"still here");
}

#[test]
fn one_sender_too_many_is_told_how_many_there_can_be() {
    let scene = Scene::new();
    let ring = scene.builder("ring").many_senders(2).create().unwrap();
    let (first, mut second) = (ring.multi_sender().unwrap(), ring.multi_sender().unwrap());
    assert_error!(
        scene.refused(|| ring.multi_sender()),
        OpenError::TooManySenders { most: 2 },
        "all 2 sender slots"
    );
    let mut clone = second.clone();
    assert_error!(
        scene.refused(|| clone.send(b"x")),
        SendError::TooManySenders { most: 2 },
        "all 2 sender slots"
    );
    second.send(b"x").unwrap();
    drop(first);
    ring.multi_sender().unwrap().send(b"y").unwrap();
    let mut receiver = ring.receiver().unwrap();
    let received: Vec<_> = receiver.try_iter().map(|message| message.to_vec()).collect();
    assert_eq!(received, [b"x", b"y"]);
}

// A file system that is full.

#[test]
fn a_full_file_system_is_told_at_creation() {
    let scene = Scene::new();
    let child = Child::start(&format!("fill {}", scene.directory.display()));
    match child.hear() {
        0 => println!("skipped: a small tmpfs may not be mounted here"),
        _ => child.finish(),
    }
}

/// Mounts a tmpfs of 1 MiB that goes with this thread, and fills it.
fn fill_a_small_tmpfs(directory: &Path, line: &common::Line) {
    // SAFETY: descriptors stay as they are, only the mounts of this thread are its own from now on.
    let mounted = unsafe { unshare_unsafe(UnshareFlags::NEWNS) }
        .and_then(|()| mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE))
        .and_then(|()| mount("tmpfs", directory, "tmpfs", MountFlags::empty(), c"size=1m"));
    line.tell(mounted.is_ok().into());
    if mounted.is_err() {
        return;
    }
    let ring = |name: &str| builder(name).directory(directory).capacity(512 << 10);
    let mut held = vec![ring("held").create().unwrap()];
    let error = ring("refused").create().unwrap_err();
    let OpenError::Segment(SegmentError::NoSpace { needed, available, .. }) = error else {
        panic!("{error:?}")
    };
    assert!(needed > 512 << 10 && available < needed && available > 256 << 10, "{available} of {needed}");
    assert_error!(error, _, directory.display(), needed, available, "remount", "smaller capacity");
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1, "the name was not given");
    // What was refused has given its memory back.
    held.push(ring("smaller").capacity(256 << 10).create().unwrap());
    // Every byte of what was made can be written, though nothing more is to be had.
    fs::write(directory.join("rest"), vec![1; 1 << 20]).unwrap_err();
    for ring in held {
        let mut sender = ring.sender().unwrap();
        let longest = vec![7; sender.longest_message()];
        sender.send(&longest).unwrap();
        assert!(ring.receiver().unwrap().recv().unwrap().to_vec() == longest);
    }
}
