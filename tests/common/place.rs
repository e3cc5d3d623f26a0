//! A path of a test's own, for a socket or a directory.

use super::{Child, FAR};
use ringpost::{Builder, Duplex, Incoming, Listener, OpenError, Receiver};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::retry_on_intr,
};
use std::{
    env, fs,
    os::fd::AsFd,
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
    pub fn listen(&self) -> Door {
        self.listen_with(ringpost::unnamed().capacity(4096).handshake_timeout(FAR))
    }

    /// A listener here, for such rings.
    pub fn listen_with(&self, builder: Builder) -> Door {
        Door(builder.listen(&**self).unwrap())
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

/// A listener that waits for nobody in vain: where no one connects, the test fails instead of hanging.
pub struct Door(pub Listener);

impl Door {
    #[track_caller]
    pub fn accept(&self) -> Result<Receiver, OpenError> {
        self.reached().accept()
    }

    #[track_caller]
    pub fn accept_duplex(&self) -> Result<Duplex, OpenError> {
        self.reached().accept_duplex()
    }

    #[track_caller]
    pub fn incoming(&self) -> Result<Incoming, OpenError> {
        self.reached().incoming()
    }

    /// The listener, when somebody has connected.
    #[track_caller]
    pub fn reached(&self) -> &Listener {
        await_somebody(&self.0);
        &self.0
    }
}

impl std::ops::Deref for Door {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.0
    }
}

/// Waits until somebody connects to this socket. Panics when nobody does.
#[track_caller]
pub fn await_somebody(socket: impl AsFd) {
    let mut socket = [PollFd::new(&socket, PollFlags::IN)];
    let came = retry_on_intr(|| poll(&mut socket, Some(&FAR.try_into().unwrap()))).unwrap();
    assert_eq!(came, 1, "nobody has connected: whoever was to has failed, or died");
}
