//! System V message queues.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::{above, kernel_limit};
use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::shape::Wait;

const MESSAGE_SIZE: &str = "kernel/msgmax";
const QUEUE_SIZE: &str = "kernel/msgmnb";
/// A message starts with its type, a `long`.
const HEADER: usize = size_of::<libc::c_long>();
const ANY_TYPE: libc::c_long = 0;
const OUR_TYPE: libc::c_long = 1;

/// The queues that exist: unlike everything else here they outlive their processes, so whoever ends last removes them.
static QUEUES: [AtomicI32; 2] = [const { AtomicI32::new(-1) }; 2];

/// Removes the queues. Only makes system calls, so a signal handler may call it.
pub fn remove_queues() {
    for slot in &QUEUES {
        // ORDERING: Relaxed, the identifier is all that is needed and was set before the fork.
        let id = slot.swap(-1, Ordering::Relaxed);
        if id >= 0 {
            // SAFETY: IPC_RMID takes no third argument; an identifier that is gone already is refused.
            unsafe { libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        }
    }
}

/// Two private queues.
pub fn sysv() -> Result<Box<dyn Mechanism>> {
    let link = |slot: &AtomicI32| {
        // SAFETY: msgget takes numbers only.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, libc::IPC_CREAT | 0o600) };
        let id = Errno::result(id).context("cannot make a System V queue (msgget)")?;
        slot.store(id, Ordering::Relaxed);
        anyhow::Ok(QueueLink { id })
    };
    Ok(Box::new(Pair { there: link(&QUEUES[0])?, back: link(&QUEUES[1])? }))
}

struct QueueLink {
    id: libc::c_int,
}

impl Link for QueueLink {
    type Sender<'a> = QueueHalf;
    type Receiver<'a> = QueueHalf;

    fn sender(&self, setup: &Setup) -> Result<QueueHalf> {
        let mut half = QueueHalf::new(self.id, setup);
        half.staging[..HEADER].copy_from_slice(&OUR_TYPE.to_ne_bytes());
        Ok(half)
    }

    fn receiver(&self, setup: &Setup) -> Result<QueueHalf> {
        Ok(QueueHalf::new(self.id, setup))
    }

    fn refuses(&self, size: usize) -> Option<String> {
        // A message that is longer than the whole queue would wait for ever.
        [MESSAGE_SIZE, QUEUE_SIZE].into_iter().find_map(|path| {
            let limit = kernel_limit(path)?;
            (size > limit).then(|| above(size, path, limit))
        })
    }
}

struct QueueHalf {
    id: libc::c_int,
    flags: libc::c_int,
    staging: Vec<u8>,
}

impl QueueHalf {
    fn new(id: libc::c_int, setup: &Setup) -> Self {
        let flags = if setup.wait == Wait::Spin { libc::IPC_NOWAIT } else { 0 };
        Self { id, flags, staging: vec![0; HEADER + setup.size] }
    }
}

impl SendHalf for QueueHalf {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.staging[HEADER..HEADER + size]);
        loop {
            // SAFETY: the buffer holds the type and `size` more bytes, the slice above has checked it.
            let sent = unsafe { libc::msgsnd(self.id, self.staging.as_ptr().cast(), size, self.flags) };
            match Errno::result(sent) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("msgsnd failed"),
            }
        }
    }
}

impl RecvHalf for QueueHalf {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        ensure!(HEADER + size <= self.staging.len(), "a message longer than this half was made for");
        loop {
            // SAFETY: the buffer has room for the type and `size` more bytes.
            let got = unsafe {
                libc::msgrcv(self.id, self.staging.as_mut_ptr().cast(), size, ANY_TYPE, self.flags)
            };
            match Errno::result(got) {
                Ok(bytes) => return check(&self.staging[HEADER..][..bytes as usize]),
                Err(Errno::ENOMSG) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("msgrcv failed"),
            }
        }
    }
}
