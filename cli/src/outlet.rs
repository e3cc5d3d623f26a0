//! Standard output that is written to without ever waiting in a write, so that a signal is heard while nobody reads.

use std::{
    fs::File,
    io::{self, ErrorKind, IoSlice, Write},
    os::fd::{AsFd, AsRawFd},
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

/// The output, and the signals that may come while it takes nothing.
pub struct Outlet {
    file: File,
    way: Way,
    interrupts: Interrupts,
    /// The last signal that has come.
    asked: Option<Signal>,
}

/// How it is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It is a file, where nobody is waited for.
    AtOnce,
    /// By asking for a write that doesn't wait.
    Asking,
    /// When it is ready. The kernel can't be asked of a terminal, and of a pipe before Linux 6.4.
    WhenReady,
}

impl Outlet {
    /// Standard output, past the buffer of the standard library. Its flags, which others may share, stay as they are.
    pub fn to_stdout(interrupts: Interrupts) -> io::Result<Self> {
        let file = output::open()?;
        let way = if file.metadata()?.is_file() { Way::AtOnce } else { Way::Asking };
        Ok(Self { file, way, interrupts, asked: None })
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
    /// once a second one has.
    fn wait(&mut self, begun: bool) -> io::Result<()> {
        let mut end = self.asked.map(|_| Instant::now() + GRACE);
        loop {
            let mut ready = [
                PollFd::new(self.file.as_fd(), PollFlags::POLLOUT),
                PollFd::new(self.interrupts.as_fd(), PollFlags::POLLIN),
            ];
            // A millisecond more than is left, so that it's not asked again for what is less than one.
            let left = end.map(|end| end.saturating_duration_since(Instant::now()).as_millis() as u16 + 1);
            match poll(&mut ready, left.map_or(PollTimeout::NONE, PollTimeout::from)) {
                Ok(0) => return self.go_on(),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let [writable, signalled] = ready.map(|fd| fd.any().unwrap_or(false));
            if signalled && let Some(signal) = self.interrupts.take()? {
                if self.asked.replace(signal).is_some() || !begun {
                    return self.go_on();
                }
                end = Some(Instant::now() + GRACE);
            }
            if writable {
                return Ok(());
            }
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
        loop {
            if !begun {
                self.go_on()?;
            }
            let written = match self.way {
                Way::AtOnce => self.file.write(bytes),
                Way::Asking => self.ask(bytes),
                Way::WhenReady => {
                    self.wait(begun)?;
                    self.file.write(bytes)
                }
            };
            match written {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait(begun)?,
                // Whatever it has against asking: a plain write tells what is wrong with the output.
                Err(_) if self.way == Way::Asking => self.way = Way::WhenReady,
                Err(error) => return Err(error),
            }
        }
    }
}
