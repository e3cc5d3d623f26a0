//! Real processes for the tests: a [`Child`] is this executable again, with a role and a line to its parent.
//!
//! A test file that has children has one test `child_process`, which says what they do ([`play_role`]), and does nothing itself.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod damage;
pub mod filter;
pub mod fork;
pub mod place;
pub mod rings;
pub mod stream;

use std::{
    env, io,
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child as Process, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid},
};

const ROLE: &str = "RINGPOST_TEST_ROLE";

/// Far more than anything here takes: only a hang comes so far.
pub const FAR: Duration = Duration::from_secs(60);

/// Puts the checksum into the header of a segment, as `docs/LAYOUT.md` has it.
pub fn seal(header: &mut [u8]) {
    let (fields, checksum) = header.split_at_mut(120);
    let sum = fields.iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    checksum[..8].copy_from_slice(&sum.to_ne_bytes());
}

/// Whether the long forms were asked for.
pub fn long() -> bool {
    env::var_os("RINGPOST_LONG").is_some()
}

/// A name that no other test, and no other run, has at the same time. The ring of that name goes with it.
pub struct Name(String);

impl Name {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self(format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// The file of the ring of this name.
    pub fn path(&self) -> PathBuf {
        format!("/dev/shm/ringpost.{}", self.0).into()
    }
}

impl std::ops::Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // It may be gone: that is the business of the test.
        let _ = std::fs::remove_file(self.path());
    }
}

/// Numbers and descriptors between a child and its parent.
pub struct Line(UnixStream);

impl Line {
    pub fn tell(&self, number: u64) {
        (&self.0).write_all(&number.to_ne_bytes()).unwrap();
    }

    /// The next number; panics when the other side is gone.
    pub fn hear(&self) -> u64 {
        self.next().expect("the other side of the line is gone")
    }

    /// The next number, until the other side is gone.
    pub fn next(&self) -> Option<u64> {
        let mut number = [0; 8];
        (&self.0).read_exact(&mut number).is_ok().then(|| u64::from_ne_bytes(number))
    }

    /// The next number; `None` when it does not come before the far end of all waiting.
    pub fn hear_before_the_end(&self) -> Option<u64> {
        self.0.set_read_timeout(Some(FAR)).unwrap();
        let number = self.next();
        self.0.set_read_timeout(None).unwrap();
        number
    }

    /// Says no more: the other side's [`next`](Line::next) then gives nothing.
    pub fn hang_up(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Passes a descriptor (SCM_RIGHTS).
    pub fn pass(&self, fd: BorrowedFd<'_>) {
        assert_eq!(pass_over(self.0.as_fd(), b"!", fd), 1);
    }

    /// Takes a descriptor that the other side has passed.
    pub fn take(&self) -> OwnedFd {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        assert_eq!(
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, flags).unwrap().bytes,
            1
        );
        let fds = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        fds.expect("a descriptor was passed")
    }
}

/// Passes a descriptor over a socket, with some bytes; gives how many went.
pub fn pass_over(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> usize {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).unwrap()
}

/// Another process. Killed when it is dropped before its end was awaited.
pub struct Child {
    process: Process,
    line: Line,
}

impl std::ops::Deref for Child {
    type Target = Line;

    fn deref(&self) -> &Line {
        &self.line
    }
}

impl Child {
    pub fn start(role: &str) -> Self {
        Self::start_with(role, |command| command)
    }

    /// Starts it with further settings, as another user say.
    pub fn start_with(role: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> Self {
        Self::try_start_with(role, set).unwrap()
    }

    /// As before; an error where the system refuses one of these settings.
    pub fn try_start_with(role: &str, set: impl FnOnce(&mut Command) -> &mut Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child_process", "--nocapture"]).env(ROLE, role);
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        let process = set(&mut command).spawn()?;
        Ok(Self { process, line: Line(ours) })
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub fn finish(mut self) {
        let status = self.process.wait().unwrap();
        assert!(status.success(), "child {}: {status}", self.id());
    }

    /// Waits for its end, whichever it is.
    pub fn end(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Kills it at whatever instruction it is, and proves that it is gone.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        assert_eq!(self.process.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }

    /// Stops it, and waits until it is stopped.
    pub fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }

    pub fn resume(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Ends a child that comes to no end from now on. One that does many things says so before each.
pub fn end_when_this_hangs() {
    // SAFETY: sets a timer of this process, whose signal ends it.
    unsafe { libc::alarm(if long() { 3600 } else { 120 }) };
}

/// What a process does that a test has started: hands `act` the words of its role, and the line to its parent. Does nothing in
/// the test's own process. A child dies with its parent, and when it hangs.
pub fn play_role(act: impl FnOnce(&[&str], Line)) {
    let Ok(role) = env::var(ROLE) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    end_when_this_hangs();
    let line = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    act(&role.split_whitespace().collect::<Vec<_>>(), Line(line.into()));
}
