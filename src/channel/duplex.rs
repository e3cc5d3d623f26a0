//! Links in both directions: one connection, two rings.

use super::{
    Incoming, Listener, Message, Receiver, Sender,
    builder::{self, Builder},
    link::{Meeting, Ways, alike},
};
use crate::{
    error::{OpenError, RecvError, SendError},
    header::Header,
    sys::{process, socket::PeerCredentials},
};
use std::{path::Path, time::Duration};

/// One end of a link in both directions: a sender to the other end, and a receiver of what it sends.
///
/// The directions are two rings that know nothing of each other, in memory that only its own side writes, as with a link in
/// one direction ([`Listener`]). Each is in the order of its sender. Which message answers which is what the messages say.
/// When the other end dies, both tell: the receiver once all that was committed is received.
///
/// To send while a message is still held, or to wait in two threads, use the halves: the fields, or
/// [`split`](Duplex::split).
///
/// ```
/// # let path = std::env::temp_dir().join(format!("doc-duplex-{}", std::process::id()));
/// let listener = ringpost::listen(&path)?;
/// let client = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     let mut server = ringpost::connect_duplex(&path)?; // in another process, in earnest
///     server.send(b"ping")?;
///     assert_eq!(server.recv()?.to_vec(), b"pong");
///     Ok(())
/// });
/// let mut client_link = listener.accept_duplex()?;
/// let ping = client_link.receiver.recv()?;
/// assert_eq!(ping.to_vec(), b"ping");
/// client_link.sender.send(b"pong")?;
/// drop(ping);
/// # client.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Deadlock
/// Two ends that both send without receiving wait for each other when both rings are full. A side that sends much while
/// it awaits much receives in another thread, or uses the `try_` forms.
#[derive(Debug)]
#[non_exhaustive]
pub struct Duplex {
    /// To the other end.
    pub sender: Sender,
    /// From the other end.
    pub receiver: Receiver,
}

/// Connects to who listens at `path`, in both directions.
///
/// # Errors
/// As [`Builder::connect_duplex`].
pub fn connect_duplex(path: impl AsRef<Path>) -> Result<Duplex, OpenError> {
    builder::unnamed().connect_duplex(path)
}

impl Builder {
    /// Connects to who listens at `path`, in both directions. The listener says what the rings are, which are alike; what
    /// this builder says must be so. May wait up to [`handshake_timeout`](Builder::handshake_timeout).
    ///
    /// # Errors
    /// As for [`connect`](Builder::connect); [`LinkError::OneWay`](crate::LinkError::OneWay) when the listener accepts
    /// links in one direction.
    pub fn connect_duplex(&self, path: impl AsRef<Path>) -> Result<Duplex, OpenError> {
        let (meeting, offer) = self.approach(path.as_ref(), Ways::Both)?;
        let sender = meeting.join(offer)?;
        let receiver = meeting.offer(alike(&sender.inner().header))?;
        meeting.hear_conclusion()?;
        Ok(Duplex { sender, receiver })
    }
}

impl Listener {
    /// As [`accept`](Listener::accept), for who connects in both directions
    /// ([`connect_duplex`](crate::connect_duplex)).
    ///
    /// # Errors
    /// As for [`accept`](Listener::accept); [`LinkError::OneWay`](crate::LinkError::OneWay) when the one that connected
    /// only sends. The listener goes on in any case: call it again.
    pub fn accept_duplex(&self) -> Result<Duplex, OpenError> {
        self.incoming()?.accept_duplex()
    }

    /// As [`accept_duplex`](Listener::accept_duplex), where `allow` decides who is accepted.
    ///
    /// # Errors
    /// As for [`accept_duplex`](Listener::accept_duplex).
    pub fn accept_duplex_if(
        &self,
        allow: impl FnOnce(&PeerCredentials) -> bool,
    ) -> Result<Duplex, OpenError> {
        self.incoming()?.meet(Ways::Both, allow, both_ways)
    }
}

impl Incoming {
    /// Makes a link in both directions with the one that has connected: of those of this user. Waits up to
    /// [`handshake_timeout`](Builder::handshake_timeout).
    ///
    /// # Errors
    /// As for [`Listener::accept_duplex`], of the one that has connected.
    pub fn accept_duplex(self) -> Result<Duplex, OpenError> {
        let user = process::effective_user();
        self.meet(Ways::Both, |peer| peer.uid == user, both_ways)
    }
}

/// The listening side of a link.
fn both_ways(meeting: &Meeting<'_>, header: Header) -> Result<Duplex, OpenError> {
    let receiver = meeting.offer(header)?;
    let sender = meeting.join_alike(meeting.hear_offer()?, &receiver.inner().header)?;
    meeting.conclude()?;
    Ok(Duplex { sender, receiver })
}

impl Duplex {
    /// As [`Sender::send`]: waits for room.
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.send(message)
    }

    /// As [`Sender::try_send`]: does not wait.
    ///
    /// # Errors
    /// As for [`Sender::try_send`].
    pub fn try_send(&mut self, message: &[u8]) -> Result<(), SendError> {
        self.sender.try_send(message)
    }

    /// As [`Sender::send_timeout`].
    ///
    /// # Errors
    /// As for [`Sender::send_timeout`].
    pub fn send_timeout(&mut self, message: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(message, timeout)
    }

    /// As [`Receiver::recv`]: waits for a message.
    ///
    /// # Errors
    /// As for [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.recv()
    }

    /// As [`Receiver::try_recv`]: does not wait.
    ///
    /// # Errors
    /// As for [`Receiver::try_recv`].
    pub fn try_recv(&mut self) -> Result<Message<'_>, RecvError> {
        self.receiver.try_recv()
    }

    /// As [`Receiver::recv_timeout`].
    ///
    /// # Errors
    /// As for [`Receiver::recv_timeout`].
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Message<'_>, RecvError> {
        self.receiver.recv_timeout(timeout)
    }

    /// Its halves, for two threads.
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }

    /// Who is at the other end, as the kernel knows it.
    pub fn peer(&self) -> PeerCredentials {
        self.sender.peer().expect("it is a link")
    }
}
