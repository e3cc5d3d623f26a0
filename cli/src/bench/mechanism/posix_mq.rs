//! POSIX message queues.

use std::hint::spin_loop;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mqueue::{
    MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_remove_nonblock, mq_send, mq_set_nonblock, mq_unlink,
};
use nix::sys::stat::Mode;

use super::{above, kernel_limit};
use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::payload::LARGEST;
use crate::bench::shape::Wait;

const MESSAGE_SIZE: &str = "fs/mqueue/msgsize_max";
const DEPTH: &str = "fs/mqueue/msg_max";

/// Two queues. Their names are gone as soon as both ends are open.
pub fn posix_mq() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Pair { there: QueueLink::new("there")?, back: QueueLink::new("back")? }))
}

struct QueueLink {
    write: MqdT,
    read: MqdT,
    longest: usize,
}

impl QueueLink {
    fn new(direction: &str) -> Result<Self> {
        let name = format!("/ringpost-bench-{}-{direction}", std::process::id());
        let longest = kernel_limit(MESSAGE_SIZE).unwrap_or(8192).min(LARGEST);
        let mut depth = kernel_limit(DEPTH).unwrap_or(10).clamp(1, 1024);
        let create = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_WRONLY | MQ_OFlag::O_CLOEXEC;
        let write = loop {
            let attributes = MqAttr::new(0, depth as i64, longest as i64, 0);
            match mq_open(name.as_str(), create, Mode::S_IRUSR | Mode::S_IWUSR, Some(&attributes)) {
                // All queues of a user together may only be so large (RLIMIT_MSGQUEUE).
                Err(Errno::EMFILE) if depth > 1 => depth /= 2,
                other => break other.with_context(|| format!("cannot make the POSIX queue {name}"))?,
            }
        };
        let read = mq_open(name.as_str(), MQ_OFlag::O_RDONLY | MQ_OFlag::O_CLOEXEC, Mode::empty(), None);
        mq_unlink(name.as_str()).with_context(|| format!("cannot remove the POSIX queue {name}"))?;
        Ok(Self {
            write,
            read: read.with_context(|| format!("cannot open the POSIX queue {name}"))?,
            longest,
        })
    }
}

fn set_waiting(queue: &MqdT, wait: Wait) -> Result<()> {
    match wait {
        Wait::Spin => mq_set_nonblock(queue),
        Wait::Sleep => mq_remove_nonblock(queue),
    }
    .context("cannot change the flags of a POSIX queue")?;
    Ok(())
}

impl Link for QueueLink {
    type Sender<'a> = QueueSender<'a>;
    type Receiver<'a> = QueueReceiver<'a>;

    fn sender(&self, setup: &Setup) -> Result<QueueSender<'_>> {
        set_waiting(&self.write, setup.wait)?;
        Ok(QueueSender { queue: &self.write, staging: vec![0; setup.size] })
    }

    fn receiver(&self, setup: &Setup) -> Result<QueueReceiver<'_>> {
        set_waiting(&self.read, setup.wait)?;
        Ok(QueueReceiver { queue: &self.read, staging: vec![0; self.longest] })
    }

    fn refuses(&self, size: usize) -> Option<String> {
        (size > self.longest).then(|| above(size, MESSAGE_SIZE, self.longest))
    }
}

struct QueueSender<'a> {
    queue: &'a MqdT,
    staging: Vec<u8>,
}

impl SendHalf for QueueSender<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.staging[..size]);
        loop {
            match mq_send(self.queue, &self.staging[..size], 0) {
                Ok(()) => return Ok(()),
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(anyhow!(error).context("mq_send failed")),
            }
        }
    }
}

struct QueueReceiver<'a> {
    queue: &'a MqdT,
    staging: Vec<u8>,
}

impl RecvHalf for QueueReceiver<'_> {
    #[inline]
    fn recv(&mut self, _size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let mut priority = 0;
        loop {
            match mq_receive(self.queue, &mut self.staging, &mut priority) {
                Ok(size) => return check(&self.staging[..size]),
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(anyhow!(error).context("mq_receive failed")),
            }
        }
    }
}
