//! The rendezvous, one each way, copying as a pipe does: a send returns when the other side has released the message.
//!
//! A round trip has four handovers: each of its two messages, and each sender's learning that its own was taken. The
//! receiving half releases before it returns, so the side that answers never holds what the other one waits for.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use ringpost::{Receiver, RendezvousSender, Ring, Trusted};

use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::shape::Wait;

/// A ring without a buffer in each direction.
pub fn rendezvous() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Pair { there: RendezvousLink::make()?, back: RendezvousLink::make()? }))
}

/// Made before the fork; each process opens it for itself.
struct RendezvousLink {
    descriptor: OwnedFd,
}

impl RendezvousLink {
    fn make() -> Result<Self> {
        let ring = ringpost::unnamed().rendezvous().memfd().context("cannot make a rendezvous")?;
        let descriptor = ring.inheritable_fd().context("cannot pass a rendezvous on")?;
        Ok(Self { descriptor })
    }

    fn open(&self, wait: Wait) -> Result<Ring<Trusted>> {
        let descriptor = self.descriptor.try_clone().context("no descriptor is left")?;
        let builder = ringpost::unnamed().rendezvous().wait(wait.into());
        let ring = builder.from_fd(descriptor).context("cannot open the rendezvous")?;
        // SAFETY: the memfd has no name, and its only holders are forks of this program, which write to it through
        // ringpost alone.
        Ok(unsafe { ring.trust_peers() })
    }
}

impl Link for RendezvousLink {
    type Sender<'a> = Offering;
    type Receiver<'a> = Taking;

    fn sender(&self, setup: &Setup) -> Result<Offering> {
        let sender = self.open(setup.wait)?.rendezvous_sender().context("cannot attach as the sender")?;
        Ok(Offering { sender, staging: vec![0; setup.size] })
    }

    fn receiver(&self, setup: &Setup) -> Result<Taking> {
        let receiver = self.open(setup.wait)?.receiver().context("cannot attach as the receiver")?;
        Ok(Taking { receiver, staging: vec![0; setup.size] })
    }
}

/// Sends out of a buffer of its own.
struct Offering {
    sender: RendezvousSender<Trusted>,
    staging: Vec<u8>,
}

impl SendHalf for Offering {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let message = &mut self.staging[..size];
        fill(message);
        self.sender.send(message)?;
        Ok(())
    }
}

/// Receives into a buffer of its own.
struct Taking {
    receiver: Receiver<Trusted>,
    staging: Vec<u8>,
}

impl RecvHalf for Taking {
    #[inline]
    fn recv(&mut self, _size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        let length = self.receiver.recv_into(&mut self.staging)?;
        check(&self.staging[..length])
    }
}
