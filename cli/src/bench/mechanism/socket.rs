//! Sockets: one connection, used in both directions as it is meant to be.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, getsockopt, setsockopt, socketpair};

use super::descriptor::{DescriptorLink, DescriptorReceiver, DescriptorSender};
use super::{above, kernel_limit};
use crate::bench::link::{Link, Mechanism, Pair, Setup};

const LARGEST_BUFFER: &str = "net/core/wmem_max";
/// What the kernel keeps of the send buffer when it compares a packet with it.
const PACKET_OVERHEAD: usize = 32;

/// A Unix stream socket.
pub fn unix_stream() -> Result<Box<dyn Mechanism>> {
    let (ours, theirs) = pair(SockType::Stream)?;
    streams(ours, theirs)
}

/// A TCP connection over the loopback device, without Nagle's delay.
pub fn tcp() -> Result<Box<dyn Mechanism>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
    let ours = TcpStream::connect(listener.local_addr()?).context("cannot connect to 127.0.0.1")?;
    let (theirs, _) = listener.accept().context("cannot accept on 127.0.0.1")?;
    ours.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    theirs.set_nodelay(true).context("cannot set TCP_NODELAY")?;
    streams(ours.into(), theirs.into())
}

/// A Unix socket that keeps packets apart and in order, with a connection.
pub fn unix_seqpacket() -> Result<Box<dyn Mechanism>> {
    packets(SockType::SeqPacket)
}

/// A Unix socket for datagrams.
pub fn unix_dgram() -> Result<Box<dyn Mechanism>> {
    packets(SockType::Datagram)
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).context("cannot make a socket pair")
}

fn streams(ours: OwnedFd, theirs: OwnedFd) -> Result<Box<dyn Mechanism>> {
    let there = DescriptorLink::new(ours.try_clone()?, theirs.try_clone()?);
    Ok(Box::new(Pair { there, back: DescriptorLink::new(theirs, ours) }))
}

fn packets(kind: SockType) -> Result<Box<dyn Mechanism>> {
    let (ours, theirs) = pair(kind)?;
    let usual = getsockopt(&ours, SndBuf).context("cannot ask for the size of the send buffer")? / 2;
    let largest = kernel_limit(LARGEST_BUFFER).unwrap_or(usual);
    let there = DescriptorLink::new(ours.try_clone()?, theirs.try_clone()?);
    let back = DescriptorLink::new(theirs, ours);
    let packet = |descriptors| PacketLink { descriptors, usual, largest };
    Ok(Box::new(Pair { there: packet(there), back: packet(back) }))
}

/// A link whose messages each have to fit into the send buffer.
struct PacketLink {
    descriptors: DescriptorLink,
    usual: usize,
    largest: usize,
}

impl Link for PacketLink {
    type Sender<'a> = DescriptorSender<'a>;
    type Receiver<'a> = DescriptorReceiver<'a>;

    fn sender(&self, setup: &Setup) -> Result<DescriptorSender<'_>> {
        // The kernel doubles what it is told; a buffer is made larger only for messages that need it.
        let buffer = self.usual.max(setup.size + 4096).min(self.largest.max(self.usual));
        let end = self.descriptors.writing_end();
        setsockopt(end, SndBuf, &buffer).context("cannot set the size of the send buffer")?;
        setsockopt(end, RcvBuf, &buffer).context("cannot set the size of the receive buffer")?;
        self.descriptors.sender(setup)
    }

    fn receiver(&self, setup: &Setup) -> Result<DescriptorReceiver<'_>> {
        self.descriptors.receiver(setup)
    }

    fn refuses(&self, size: usize) -> Option<String> {
        let fits = 2 * self.largest.max(self.usual) - PACKET_OVERHEAD;
        (size > fits).then(|| above(size, LARGEST_BUFFER, self.largest))
    }
}
