//! A path of a test's own, for a socket or a directory.

use super::{Child, FAR};
use ringpost::Listener;
use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// A path in the temporary directory that no other test has. What stands there goes with this value.
pub struct Place(PathBuf);

impl Place {
    /// Nothing stands there yet.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        Self(env::temp_dir().join(format!("ringpost-test-{}-{number}", std::process::id())))
    }

    /// A listener here, for small rings, which is patient however busy the machine is.
    pub fn listen(&self) -> Listener {
        ringpost::unnamed().capacity(4096).handshake_timeout(FAR).listen(&**self).unwrap()
    }

    /// A child with a role here: `before` and `after` stand around the path.
    pub fn child(&self, before: &str, after: &str) -> Child {
        Child::start(&format!("{before} {} {after}", self.display()))
    }

    /// The same, when it has said that others can come.
    #[track_caller]
    pub fn server(&self, before: &str, after: &str) -> Child {
        let server = self.child(before, after);
        assert_eq!(server.hear(), 0);
        server
    }
}

impl std::ops::Deref for Place {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0).or_else(|_| fs::remove_dir_all(&self.0));
    }
}
