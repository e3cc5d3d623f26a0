//! The mailbox: any number may send and receive, here one each way.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use ringpost::{Envelope, Mailbox, Pick, Trusted};

use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};

/// Messages that a mailbox holds, and their longest length: for short messages, and for longer ones.
const SHORT: (u32, usize) = (1024, 256);
const LONG: (u32, usize) = (128, 64 << 10);
/// As POSIX asks for at least.
const PRIORITIES: u8 = 32;

/// A mailbox of each kind in each direction, written and read in place.
pub fn mailbox() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Pair { there: MailboxLink::make()?, back: MailboxLink::make()? }))
}

/// Made before the fork; each process opens it for itself.
struct MailboxLink {
    short: OwnedFd,
    long: OwnedFd,
}

impl MailboxLink {
    fn make() -> Result<Self> {
        let one = |(messages, longest): (u32, usize)| {
            let builder =
                ringpost::unnamed().mailbox(messages).priorities(PRIORITIES).longest_message(longest as u64);
            let ring = builder.memfd().context("cannot make a mailbox")?;
            ring.inheritable_fd().context("cannot pass a mailbox on")
        };
        Ok(Self { short: one(SHORT)?, long: one(LONG)? })
    }

    fn attach(&self, setup: &Setup) -> Result<Mailbox<Trusted>> {
        let descriptor = if setup.size <= SHORT.1 { &self.short } else { &self.long };
        let descriptor = descriptor.try_clone().context("no descriptor is left")?;
        let ring = ringpost::unnamed().from_fd(descriptor).context("cannot open the mailbox")?;
        // SAFETY: the memfd has no name, and its only holders are forks of this program, which write to it through
        // ringpost alone.
        let mut mailbox = unsafe { ring.trust_peers() }.mailbox().context("cannot take a seat")?;
        mailbox.set_wait(setup.wait.into());
        Ok(mailbox)
    }
}

impl Link for MailboxLink {
    type Sender<'a> = Mailbox<Trusted>;
    type Receiver<'a> = Mailbox<Trusted>;

    fn sender(&self, setup: &Setup) -> Result<Mailbox<Trusted>> {
        self.attach(setup)
    }

    fn receiver(&self, setup: &Setup) -> Result<Mailbox<Trusted>> {
        self.attach(setup)
    }

    fn refuses(&self, size: usize) -> Option<String> {
        (size > LONG.1).then(|| format!("{size} bytes is above the {} that this mailbox is made for", LONG.1))
    }
}

impl SendHalf for Mailbox<Trusted> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut blank = self.reserve(size)?;
        fill(&mut blank);
        self.commit(Envelope { kind: 1, priority: 1 }, blank)?;
        Ok(())
    }
}

impl RecvHalf for Mailbox<Trusted> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let letter = Mailbox::recv(self, Pick::Any)?;
        ensure!(letter.len() == size, "a message of {} bytes instead of {size}", letter.len());
        check(&letter)
    }
}
