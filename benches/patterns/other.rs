//! The other process: this program again, with a role.

use ringpost::{Builder, Ring};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{
    env,
    io::{Read, Write, stdin, stdout},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command, Stdio},
};

/// The words of its role, in its environment.
const ROLE: &str = "RINGPOST_PATTERNS";

/// The words of the role, in the other process.
pub fn role() -> Option<Vec<String>> {
    Some(env::var(ROLE).ok()?.split(' ').map(str::to_owned).collect())
}

pub struct Other(Child);

impl Other {
    pub fn start(role: String) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        Self(command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Lets it begin, once it is ready.
    pub fn begin(&mut self) {
        self.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        drop(self.0.stdin.take());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait().unwrap();
        assert!(ended.success() || std::thread::panicking(), "the other process has failed");
    }
}

/// In the other process: waits until it may begin.
pub fn await_begin() {
    stdout().write_all(b".").unwrap();
    stdout().flush().unwrap();
    assert_eq!(stdin().read(&mut [0]).unwrap(), 0);
}

/// A ring without a name, and a descriptor of it that the next [`Other`] inherits.
pub fn make(builder: &Builder) -> (Ring, OwnedFd) {
    let ring = builder.memfd().unwrap();
    let descriptor = ring.inheritable_fd().unwrap();
    (ring, descriptor)
}

/// In the other process: the ring of a descriptor that its role names.
pub fn open(builder: &Builder, descriptor: &str) -> Ring {
    // SAFETY: it was made for this process, which opens it once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor.parse().unwrap()) };
    builder.from_fd(descriptor).unwrap()
}

/// How a role names it.
pub fn name(descriptor: &OwnedFd) -> i32 {
    descriptor.as_raw_fd()
}

/// Keeps this thread, and those that it starts, on one processor.
pub fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("this needs the processors 0 and 1");
}
