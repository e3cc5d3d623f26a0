use core::sync::atomic::{AtomicU32, Ordering};
use std::io::{Seek, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::{env, process, thread};

use rustix::fs::{FileType, mknodat};
use rustix::process::geteuid;

use super::*;
use crate::sys::testing;

/// Directory on a tmpfs, removed with all that is in it.
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/dev/shm/ringpost-test-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A complete segment of two pages under `name`.
    fn segment(&self, name: &str) -> (Segment, PathBuf) {
        let segment = Segment::unnamed(&self.0, 2 * page(), 0o600).unwrap();
        segment.publish(&self.path(name)).unwrap();
        (segment, self.path(name))
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn page() -> u64 {
    page_size() as u64
}

fn user() -> u32 {
    geteuid().as_raw()
}

/// Asserts which error it is, and that its sentence contains the facts.
macro_rules! assert_error {
    ($result:expr, $pattern:pat $(if $guard:expr)?, $($fact:expr),*) => {
        let error = $result.map(drop).unwrap_err();
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
        let text = error.to_string();
        $(assert!(text.contains(&$fact.to_string()), "{text}");)*
    };
}

mod limited;
mod mapped;
mod named;
mod passed;
mod refused;
