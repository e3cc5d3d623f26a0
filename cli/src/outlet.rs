//! Standard output that is written to without ever waiting in a write, so that a signal is heard while nobody reads.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, IsTerminal, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{FileTypeExt, OpenOptionsExt},
    },
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};

use crate::{delivery::Target, ending::Ending, interrupts::Interrupts, output};

/// So long the output may take nothing of a message whose beginning it has, once the end was asked for.
const GRACE: Duration = Duration::from_secs(1);

/// Before a terminal that has no room, though it says that it has, is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// The output, and the signals that may come while it takes nothing.
pub struct Outlet {
    file: File,
    way: Way,
    interrupts: Interrupts,
    /// The last signal that has come.
    asked: Option<Signal>,
    /// How long the output may take nothing, once a signal has come.
    end: Option<Instant>,
}

/// How it is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is a file, where nobody is waited for.
    AtOnce,
    /// By asking for a write that doesn't wait.
    Asking,
    /// The kernel can't be asked of a terminal, and of a pipe before Linux 6.4: by a description of this process's own.
    Reopened,
    /// When it is ready; it may wait for what it has not enough room for.
    WhenReady,
}

impl Outlet {
    /// Standard output, past the buffer of the standard library. Its flags, which others may share, stay as they are.
    pub fn to_stdout(interrupts: Interrupts) -> io::Result<Self> {
        let file = output::open()?;
        let way = if file.metadata()?.is_file() { Way::AtOnce } else { Way::Asking };
        Ok(Self { file, way, interrupts, asked: None, end: None })
    }

    /// The signals.
    pub fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// An error when a signal has asked for the end while something was written.
    pub fn go_on(&self) -> io::Result<()> {
        self.asked.map_or(Ok(()), |signal| Err(io::Error::other(Ending::Interrupted(signal))))
    }

    /// Waits until there is room for some bytes; once a signal has come only as long as what is `begun` may take, and not at all
    /// once a second one has. Where the last wait was `in_vain` it's a pause: a terminal says that it is ready when it has room
    /// for half of what the next letter takes there.
    fn wait(&mut self, begun: bool, in_vain: bool) -> io::Result<()> {
        let pause = in_vain.then(|| Instant::now() + PAUSE);
        loop {
            if self.asked.is_some() && self.end.is_none() {
                self.end = Some(Instant::now() + GRACE);
            }
            let mut ready = [
                PollFd::new(self.interrupts.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.file.as_fd(), PollFlags::POLLOUT),
            ];
            let watched = if in_vain { &mut ready[..1] } else { &mut ready[..] };
            // A millisecond more than is left, so that it's not asked again for what is less than one.
            let left = |end: Instant| end.saturating_duration_since(Instant::now()).as_millis() as u16 + 1;
            let first = [self.end, pause].into_iter().flatten().min();
            match poll(watched, first.map_or(PollTimeout::NONE, |end| left(end).into())) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [signalled, writable] = ready.map(|fd| fd.any().unwrap_or(false));
            let signal = if signalled { self.interrupts.take()? } else { None };
            let is_second = signal.is_some() && self.asked.is_some();
            self.asked = signal.or(self.asked);
            let over = |end: Option<Instant>| end.is_some_and(|end| end <= Instant::now());
            if is_second || !begun || over(self.end) {
                self.go_on()?;
            }
            if writable || over(pause) {
                return Ok(());
            }
        }
    }

    /// Goes on without asking.
    fn reopen(&mut self) {
        let again = || {
            let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
            let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            File::options().write(true).custom_flags(flags).open(path)
        };
        let is_fifo = || self.file.metadata().is_ok_and(|found| found.file_type().is_fifo());
        if (self.file.is_terminal() || is_fifo())
            && let Ok(own) = again()
        {
            self.file = own;
            self.way = Way::Reopened;
        } else {
            self.way = Way::WhenReady;
        }
    }

    /// Writes what there is room for now.
    fn ask(&self, bytes: &[u8]) -> io::Result<usize> {
        let part = [IoSlice::new(bytes)];
        // SAFETY: an `IoSlice` is an `iovec`, and its bytes live as long as the call. The offset stands for none.
        let count =
            unsafe { libc::pwritev2(self.file.as_raw_fd(), part.as_ptr().cast(), 1, -1, libc::RWF_NOWAIT) };
        Ok(Errno::result(count)? as usize)
    }
}

impl Target for Outlet {
    fn at_once(&self) -> usize {
        // Of a pipe that is ready for writing there is room for as much; and it takes it whole.
        if self.way == Way::AtOnce { usize::MAX } else { libc::PIPE_BUF }
    }

    fn write(&mut self, bytes: &[u8], begun: bool) -> io::Result<usize> {
        let mut has_waited = false;
        loop {
            if !begun {
                self.go_on()?;
            }
            let written = match self.way {
                Way::AtOnce | Way::Reopened => self.file.write(bytes),
                Way::Asking => self.ask(bytes),
                Way::WhenReady => {
                    self.wait(begun, false)?;
                    self.file.write(bytes)
                }
            };
            match written {
                Ok(count) => {
                    self.end = None;
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait(begun, has_waited)?;
                    has_waited = !has_waited;
                }
                // Whatever it has against asking: a plain write tells what is wrong with the output.
                Err(_) if self.way == Way::Asking => self.reopen(),
                Err(error) => return Err(error),
            }
        }
    }
}
