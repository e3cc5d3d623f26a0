//! Links over file descriptors: read and write, as a stream or message by message.

use std::hint::spin_loop;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{read, write};

use crate::bench::link::{Link, RecvHalf, SendHalf, Setup};
use crate::bench::shape::Wait;

/// A write may fail this often in a row for want of kernel memory.
const PATIENCE: u32 = 100_000;

/// One direction over descriptors.
pub struct DescriptorLink {
    write: OwnedFd,
    read: OwnedFd,
}

impl DescriptorLink {
    /// What is written to `write` is read from `read`; messages are kept apart by their length, which both sides know.
    pub fn new(write: OwnedFd, read: OwnedFd) -> Self {
        Self { write, read }
    }

    /// The end that is written to.
    pub fn writing_end(&self) -> &OwnedFd {
        &self.write
    }
}

/// Makes reads and writes block, or not.
pub fn set_waiting(descriptor: &OwnedFd, wait: Wait) -> Result<()> {
    let flags = fcntl(descriptor, FcntlArg::F_GETFL).context("fcntl(F_GETFL)")?;
    let mut flags = OFlag::from_bits_retain(flags);
    flags.set(OFlag::O_NONBLOCK, wait == Wait::Spin);
    fcntl(descriptor, FcntlArg::F_SETFL(flags)).context("fcntl(F_SETFL)")?;
    Ok(())
}

impl Link for DescriptorLink {
    type Sender<'a> = DescriptorSender<'a>;
    type Receiver<'a> = DescriptorReceiver<'a>;

    fn sender(&self, setup: &Setup) -> Result<DescriptorSender<'_>> {
        set_waiting(&self.write, setup.wait)?;
        Ok(DescriptorSender { descriptor: &self.write, staging: vec![0; setup.size] })
    }

    fn receiver(&self, setup: &Setup) -> Result<DescriptorReceiver<'_>> {
        set_waiting(&self.read, setup.wait)?;
        Ok(DescriptorReceiver { descriptor: &self.read, staging: vec![0; setup.size] })
    }
}

/// Writes messages.
pub struct DescriptorSender<'a> {
    descriptor: &'a OwnedFd,
    staging: Vec<u8>,
}

impl SendHalf for DescriptorSender<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        fill(&mut self.staging[..size]);
        let mut sent = 0;
        let mut refused = 0;
        while sent < size {
            match write(self.descriptor, &self.staging[sent..size]) {
                Ok(bytes) => sent += bytes,
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) if refused < PATIENCE => {
                    refused += 1;
                    spin_loop();
                }
                Err(error) => return Err(error).with_context(|| format!("cannot write {size} bytes")),
            }
        }
        Ok(())
    }
}

/// Reads messages.
pub struct DescriptorReceiver<'a> {
    descriptor: &'a OwnedFd,
    staging: Vec<u8>,
}

impl RecvHalf for DescriptorReceiver<'_> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let mut got = 0;
        while got < size {
            match read(self.descriptor, &mut self.staging[got..size]) {
                Ok(0) => bail!("the other end was closed in the middle of a sample"),
                Ok(bytes) => got += bytes,
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).with_context(|| format!("cannot read {size} bytes")),
            }
        }
        ensure!(got == size, "more bytes came than were asked for");
        check(&self.staging[..got])
    }
}
