//! Whatever is asked or found that can't be: a typed error that says what was wrong and what would be right, and nothing
//! is left of the attempt: no descriptor, no mapping, no file.

mod common;
#[path = "bad_input/contents.rs"]
mod contents;
#[path = "bad_input/files.rs"]
mod files;
#[path = "bad_input/messages.rs"]
mod messages;
#[path = "bad_input/places.rs"]
mod places;
#[path = "bad_input/settings.rs"]
mod settings;

use common::{Child, Name, seal};
use files::{come_as_a_stranger, fill_a_small_tmpfs};
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
use assert_error;

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

#[test]
fn child_process() {
    common::play_role(|words, line| match *words {
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
    });
}
