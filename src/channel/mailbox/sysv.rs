//! A mailbox in the shape of System V message queues: `msgget`, `msgsnd`, `msgrcv`, and `msgctl` as [`stat`] and [`remove`], so that a
//! program moves over line by line.
//!
//! What is different: types go up to 65535; up to 63 processes have a queue open at a time; errors are named by kind, not by number;
//! a message whose receiver is stopped just as it is woken for it waits for the next one that looks; the key is looked up in
//! `/dev/shm`, so queues are seen by `ringpost ls`; the permission bits must let the owner read and write and others not write (0600,
//! 0644 or 0660; 0666 is refused, and so is to give none), and no umask changes them; a message
//! that is received and not returned from `msgrcv` because its receiver was killed is received by another; a forked child opens the
//! queue itself (its parent's gives it `Unsupported`); a signal ends no wait (there is no `EINTR`); a queue is full when it has 256
//! messages, however many bytes; there is no `IPC_SET` and no `MSG_COPY` ([`Mailbox::browse`] copies), and [`stat`] names no processes.
//!
//! ```
//! use ringpost::sysv::{IPC_CREAT, IPC_NOWAIT, msgget, msgrcv, msgsnd};
//! # let key = std::process::id() as i32;
//! let mut queue = msgget(key, IPC_CREAT | 0o600)?;
//! msgsnd(&mut queue, 2, b"two", 0)?;
//! msgsnd(&mut queue, 1, b"one", 0)?;
//! let mut text = [0; 100];
//! assert_eq!(msgrcv(&mut queue, &mut text, -2, IPC_NOWAIT)?, (1, 3)); // the lowest type up to 2
//! assert_eq!(&text[..3], b"one");
//! ringpost::sysv::remove(queue)?;
//! # Ok::<(), std::io::Error>(())
//! ```

use super::{Mailbox, Pick};
use crate::{
    channel::{builder, patience::Patience, ring::Ring},
    error::{RecvError, SendError},
};
use std::io::{Error, ErrorKind, Result};

/// Make the queue when there is none.
pub const IPC_CREAT: i32 = 0o1000;
/// With [`IPC_CREAT`]: fail when there is one.
pub const IPC_EXCL: i32 = 0o2000;
/// Don't wait.
pub const IPC_NOWAIT: i32 = 0o4000;
/// Cut a message that is longer than the buffer, instead of leaving it in the queue.
pub const MSG_NOERROR: i32 = 0o10000;
/// With a positive type: any message of another type.
pub const MSG_EXCEPT: i32 = 0o20000;

/// Messages that a queue holds.
const MESSAGES: u32 = 256;

/// A queue that this process has opened.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    mailbox: Mailbox,
}

/// What `msgctl(IPC_STAT)` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MsqidDs {
    /// Messages in the queue.
    pub msg_qnum: u64,
    /// Bytes in the queue.
    pub msg_cbytes: u64,
    /// Most bytes in the queue.
    pub msg_qbytes: u64,
}

/// Opens the queue of this key, or makes it: for 256 messages of up to 8192 bytes, with the permission bits of the flags.
///
/// # Errors
/// `NotFound` (`ENOENT`), `AlreadyExists` (`EEXIST`), `InvalidInput` for `IPC_PRIVATE`, or what [`Builder::create`](crate::Builder::create) says.
pub fn msgget(key: i32, flags: i32) -> Result<Queue> {
    if key == 0 {
        let why = "IPC_PRIVATE is a queue without a name: `ringpost::unnamed().mailbox(…)`";
        return Err(Error::new(ErrorKind::InvalidInput, why));
    }
    let builder = builder::builder(format!("sysv.{key:08x}"));
    let make = || builder.clone().mailbox(MESSAGES).mode(flags as u32 & 0o777).create();
    let ring = match (flags & IPC_CREAT != 0, flags & IPC_EXCL != 0) {
        (true, true) => make(),
        (true, false) => builder.open_or(make),
        (false, _) => builder.open(),
    }?;
    let mailbox = ring.mailbox()?;
    Ok(Queue { ring, mailbox })
}

/// Sends a message of type `mtype`; waits while the queue is full, unless the flags say [`IPC_NOWAIT`].
///
/// # Errors
/// `InvalidInput` (`EINVAL`) for a type that is not from 1 to 65535 and for a message that is too long; `WouldBlock`
/// (`EAGAIN`); `NotConnected` (`EIDRM`) when the queue was removed.
pub fn msgsnd(queue: &mut Queue, mtype: i64, text: &[u8], flags: i32) -> Result<()> {
    let kind = u16::try_from(mtype).ok().filter(|&kind| kind != 0);
    let kind = kind.ok_or_else(|| no_type(mtype))?;
    let sent = match flags & IPC_NOWAIT {
        0 => queue.mailbox.send(kind, text),
        _ => queue.mailbox.try_send(kind, text),
    };
    match sent {
        Err(SendError::Disconnected) => Err(removed()),
        sent => Ok(sent.map(drop)?),
    }
}

/// Receives the first message that `mtype` says: 0 for any; above 0 of this type (or of any other, with [`MSG_EXCEPT`]); below
/// 0 of the lowest type up to that number. Gives its type and its length.
///
/// # Errors
/// `ArgumentListTooLong` (`E2BIG`) for a message longer than the buffer, which stays, unless the flags say [`MSG_NOERROR`];
/// `WouldBlock` (`ENOMSG`) with [`IPC_NOWAIT`]; `InvalidInput` for a type above 65535, which no message has; `NotConnected` (`EIDRM`) when the queue was removed.
pub fn msgrcv(queue: &mut Queue, text: &mut [u8], mtype: i64, flags: i32) -> Result<(i64, usize)> {
    let pick = match (mtype, u16::try_from(mtype.unsigned_abs())) {
        (0, _) => Pick::Any,
        (1.., Ok(kind)) if flags & MSG_EXCEPT != 0 => Pick::Except(kind),
        (1.., Err(_)) if flags & MSG_EXCEPT != 0 => Pick::Any,
        (1.., kind) => Pick::Kind(kind.map_err(|_| no_type(mtype))?),
        (_, kind) => Pick::UpTo(kind.unwrap_or(u16::MAX)),
    };
    let most = match flags & MSG_NOERROR {
        0 => u32::try_from(text.len()).unwrap_or(u32::MAX),
        _ => u32::MAX,
    };
    let patience = if flags & IPC_NOWAIT == 0 { Patience::Endless } else { Patience::None };
    let letter = match queue.mailbox.recv_up_to(most, pick, patience) {
        Err(RecvError::Disconnected) => return Err(removed()),
        Err(RecvError::BufferTooSmall { length }) => {
            let why = format!("a message of {length} bytes for a buffer of {}", text.len());
            return Err(Error::new(ErrorKind::ArgumentListTooLong, why));
        }
        received => received?,
    };
    let (mtype, length) = (letter.kind().into(), letter.len().min(text.len()));
    letter.read_at(0, &mut text[..length]);
    Ok((mtype, length))
}

/// `msgctl(IPC_STAT)`: how full the queue is.
pub fn stat(queue: &Queue) -> MsqidDs {
    let occupancy = queue.mailbox.occupancy();
    MsqidDs {
        msg_qnum: occupancy.waiting.into(),
        msg_cbytes: occupancy.waiting_bytes,
        msg_qbytes: u64::from(occupancy.capacity) * queue.mailbox.longest_message() as u64,
    }
}

/// `msgctl(IPC_RMID)`: removes the queue and what is in it at once. Who waits gets `NotConnected` (`EIDRM`).
///
/// # Errors
/// `Unsupported` in a forked child, which opens the queue itself; `NotFound` when it was removed already; as [`Ring::unlink`].
pub fn remove(mut queue: Queue) -> Result<()> {
    // Only the name would go, and who waits would not be told.
    if !queue.mailbox.desk.is_ours() {
        return Err(RecvError::Forked.into());
    }
    // The name last: of one that is killed in between, the queue can still be found, and removed again.
    queue.mailbox.close_for_all();
    let gone = queue.ring.unlink();
    while queue.mailbox.try_recv(Pick::Any).is_ok() {}
    Ok(gone?)
}

fn no_type(mtype: i64) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("a type goes from 1 to 65535, this is {mtype}"))
}

fn removed() -> Error {
    Error::new(ErrorKind::NotConnected, "the queue was removed")
}
