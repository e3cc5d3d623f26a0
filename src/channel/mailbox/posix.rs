//! A mailbox in the shape of POSIX message queues: `mq_open`, `mq_send`, `mq_receive`, `mq_getattr`, `mq_notify`, `mq_unlink`, so that a
//! program moves over line by line.
//!
//! What is different: priorities go up to 31, as POSIX asks for at least; a name has up to 243 bytes behind its slash; up to 63
//! processes have a queue open at a time; errors are named by kind, not by number; the permission bits must let the owner read
//! and write and others not write (0600, 0644 or 0660; 0666 is refused), and no umask changes them; a message that a killed
//! process had received and not returned from `mq_receive` is received by another; a forked child opens the queue itself (its
//! parent's gives it `Unsupported`); a signal ends no wait (there is no `EINTR`); [`O_NONBLOCK`] is said when a queue is
//! opened, and stays (there is no `mq_setattr`).
//!
//! ```
//! use ringpost::posix::{MqAttr, O_CREAT, O_RDWR, mq_open, mq_receive, mq_send, mq_unlink};
//! # let name = format!("/doc-posix-{}", std::process::id());
//! let attributes = MqAttr { mq_maxmsg: 16, mq_msgsize: 100, ..MqAttr::default() };
//! let mut queue = mq_open(&name, O_RDWR | O_CREAT, 0o600, Some(&attributes))?;
//! mq_send(&mut queue, b"later", 0)?;
//! mq_send(&mut queue, b"now", 9)?;
//! let mut text = [0; 100];
//! assert_eq!(mq_receive(&mut queue, &mut text)?, (3, 9));
//! mq_unlink(&name)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use super::{Envelope, Mailbox, Pick, notify::Notification};
use crate::{
    channel::builder,
    error::{OpenError, RecvError, SendError},
    ring::mailbox::MOST_LEVELS,
    sys::process,
};
use std::{
    fmt,
    io::{Error, ErrorKind, Result},
    time::Duration,
};

/// Receive only.
pub const O_RDONLY: i32 = 0;
/// Send only.
pub const O_WRONLY: i32 = 1;
/// Send and receive.
pub const O_RDWR: i32 = 2;
/// Which of the three.
const O_ACCMODE: i32 = 3;
/// Make the queue when there is none.
pub const O_CREAT: i32 = 0o100;
/// With [`O_CREAT`]: fail when there is one.
pub const O_EXCL: i32 = 0o200;
/// Don't wait.
pub const O_NONBLOCK: i32 = 0o4000;

/// What a queue is made with, and how full it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MqAttr {
    /// 0 or [`O_NONBLOCK`].
    pub mq_flags: i32,
    /// Most messages, rounded up to a power of two when the queue is made.
    pub mq_maxmsg: u32,
    /// Bytes of the longest message.
    pub mq_msgsize: u32,
    /// Messages in the queue.
    pub mq_curmsgs: u32,
}

impl Default for MqAttr {
    /// Ten messages of 8192 bytes, as Linux has it.
    fn default() -> Self {
        Self { mq_flags: 0, mq_maxmsg: 10, mq_msgsize: 8192, mq_curmsgs: 0 }
    }
}

/// A queue that this process has opened. Dropping it closes it (`mq_close`).
#[derive(Debug)]
pub struct Mqd {
    mailbox: Mailbox,
    flags: i32,
    notification: Option<Notification>,
}

impl Drop for Mqd {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Mqd {
    fn give_up(&mut self) {
        if let Some(notification) = self.notification.take() {
            notification.give_up(&self.mailbox);
        }
    }
}

/// Name of the mailbox for the queue of this name.
fn inner_name(name: &str) -> Result<String> {
    let name = name.strip_prefix('/').filter(|name| !name.is_empty() && !name.contains('/'));
    let name = name.ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the name of a queue is a slash and then no other slash")
    })?;
    Ok(format!("mq.{name}"))
}

/// Opens a queue, or makes it with these permission bits and attributes (`None` for the default ones).
///
/// # Errors
/// `NotFound` (`ENOENT`), `AlreadyExists` (`EEXIST`), `InvalidInput` (`EINVAL`), or what
/// [`Builder::create`](crate::Builder::create) says.
pub fn mq_open(name: &str, flags: i32, mode: u32, attributes: Option<&MqAttr>) -> Result<Mqd> {
    let builder = builder::builder(inner_name(name)?);
    if flags & O_ACCMODE == O_ACCMODE {
        let why = "a queue is opened to receive, to send, or for both: O_RDONLY, O_WRONLY or O_RDWR";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let make = || {
        let attributes = attributes.copied().unwrap_or_default();
        if attributes.mq_msgsize == 0 {
            return Err(OpenError::Setting { what: "mq_msgsize", given: 0, least: 1, most: u32::MAX.into() });
        }
        let shaped = builder.clone().mailbox(attributes.mq_maxmsg).priorities(MOST_LEVELS);
        shaped.longest_message(attributes.mq_msgsize.into()).mode(mode).create()
    };
    let ring = match (flags & O_CREAT != 0, flags & O_EXCL != 0) {
        (true, true) => make(),
        (true, false) => builder.open_or(make),
        (false, _) => builder.open(),
    }?;
    Ok(Mqd { mailbox: ring.mailbox()?, flags, notification: None })
}

/// Sends a message; waits while the queue is full, unless it was opened with [`O_NONBLOCK`].
///
/// # Errors
/// `InvalidInput` (`EMSGSIZE`, `EINVAL`) for a message that is too long and for a priority above 31; `WouldBlock` (`EAGAIN`);
/// `PermissionDenied` (`EBADF`) when the queue was opened to receive only.
pub fn mq_send(queue: &mut Mqd, message: &[u8], priority: u8) -> Result<()> {
    send(queue, message, priority, None)
}

/// As [`mq_send`], but waits at most `timeout`. (POSIX has an absolute time.)
///
/// # Errors
/// Also `TimedOut` (`ETIMEDOUT`).
pub fn mq_timedsend(queue: &mut Mqd, message: &[u8], priority: u8, timeout: Duration) -> Result<()> {
    send(queue, message, priority, Some(timeout))
}

fn send(queue: &mut Mqd, message: &[u8], priority: u8, timeout: Option<Duration>) -> Result<()> {
    refuse(queue.flags & O_ACCMODE == O_RDONLY, "the queue was opened to receive only")?;
    let envelope = Envelope { kind: 0, priority };
    let sent: std::result::Result<_, SendError> = match timeout {
        _ if queue.flags & O_NONBLOCK != 0 => queue.mailbox.try_send(envelope, message),
        None => queue.mailbox.send(envelope, message),
        Some(timeout) => queue.mailbox.send_timeout(envelope, message, timeout),
    };
    Ok(sent.map(drop)?)
}

/// Receives the oldest message of the highest priority; gives its length and its priority.
///
/// # Errors
/// `InvalidInput` (`EMSGSIZE`) when the buffer is shorter than the longest message of the queue; `WouldBlock` (`EAGAIN`);
/// `PermissionDenied` (`EBADF`) when the queue was opened to send only.
pub fn mq_receive(queue: &mut Mqd, message: &mut [u8]) -> Result<(usize, u8)> {
    receive(queue, message, None)
}

/// As [`mq_receive`], but waits at most `timeout`. (POSIX has an absolute time.)
///
/// # Errors
/// Also `TimedOut` (`ETIMEDOUT`).
pub fn mq_timedreceive(queue: &mut Mqd, message: &mut [u8], timeout: Duration) -> Result<(usize, u8)> {
    receive(queue, message, Some(timeout))
}

fn receive(queue: &mut Mqd, message: &mut [u8], timeout: Option<Duration>) -> Result<(usize, u8)> {
    refuse(queue.flags & O_ACCMODE == O_WRONLY, "the queue was opened to send only")?;
    let longest = queue.mailbox.longest_message();
    if message.len() < longest {
        let why = format!("a buffer of {} bytes for messages of up to {longest}", message.len());
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let received: std::result::Result<_, RecvError> = match timeout {
        _ if queue.flags & O_NONBLOCK != 0 => queue.mailbox.try_recv(Pick::Any),
        None => queue.mailbox.recv(Pick::Any),
        Some(timeout) => queue.mailbox.recv_timeout(Pick::Any, timeout),
    };
    let letter = received?;
    letter.read_at(0, &mut message[..letter.len()]);
    Ok((letter.len(), letter.priority()))
}

fn refuse(refused: bool, why: &'static str) -> Result<()> {
    if refused { Err(Error::new(ErrorKind::PermissionDenied, why)) } else { Ok(()) }
}

/// What the queue was made with, and how full it is.
pub fn mq_getattr(queue: &Mqd) -> MqAttr {
    let occupancy = queue.mailbox.occupancy();
    MqAttr {
        mq_flags: queue.flags & O_NONBLOCK,
        mq_maxmsg: occupancy.capacity,
        mq_msgsize: queue.mailbox.longest_message() as u32,
        mq_curmsgs: occupancy.waiting,
    }
}

/// How a process is told by [`mq_notify`].
#[non_exhaustive]
pub enum SigEvent {
    /// By this signal, one with a name (`SIGEV_SIGNAL`).
    Signal(i32),
    /// By a call of this, in a thread of its own, in which all signals are blocked (`SIGEV_THREAD`).
    Thread(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for SigEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(number) => f.debug_tuple("Signal").field(number).finish(),
            Self::Thread(_) => f.write_str("Thread"),
        }
    }
}

/// Registers to be told, once, when a message comes to the queue while that is empty and nobody is blocked in receive; `None` takes the
/// registration back. Where the queue is not empty now, it must become so first. Closing the queue takes it back, too. Never blocks.
///
/// POSIX lets one process be registered at a time. Here each queue that is open has a registration of its own; of several that wait
/// at least one is told, and perhaps all. One takes a seat, and a thread that sleeps.
///
/// # Errors
/// `ResourceBusy` (`EBUSY`) when this queue is registered already; `InvalidInput` (`EINVAL`) for what is no signal; `Unsupported` in a
/// forked child, which opens the queue itself; what the system says that has no thread left, or the mailbox that has no seat.
pub fn mq_notify(queue: &mut Mqd, how: Option<SigEvent>) -> Result<()> {
    let Some(how) = how else {
        queue.give_up();
        return Ok(());
    };
    if !queue.mailbox.desk.is_ours() {
        return Err(RecvError::Forked.into());
    }
    if queue.notification.as_ref().is_some_and(Notification::waits) {
        return Err(Error::new(ErrorKind::ResourceBusy, "this queue is registered already"));
    }
    let tell: Box<dyn FnOnce() + Send> = match how {
        SigEvent::Thread(call) => call,
        SigEvent::Signal(number) if process::is_signal(number) => Box::new(move || {
            // It was a signal before: nothing is refused to a process that signals itself.
            let _ = process::signal_self(number);
        }),
        SigEvent::Signal(number) => {
            return Err(Error::new(ErrorKind::InvalidInput, format!("there is no signal {number}")));
        }
    };
    queue.notification = Some(Notification::begin(queue.mailbox.try_clone()?, tell)?);
    Ok(())
}

/// Takes the name away. Who has the queue open goes on using it.
///
/// # Errors
/// `NotFound` (`ENOENT`), `InvalidInput` (`EINVAL`).
pub fn mq_unlink(name: &str) -> Result<()> {
    Ok(builder::builder(inner_name(name)?).unlink()?)
}
