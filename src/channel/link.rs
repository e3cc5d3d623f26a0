//! Links: a ring for one sender between two processes that a Unix socket has brought together, in memory that each of
//! them can only read where the other writes.

mod handshake;
mod meeting;
mod wire;

use super::{
    Receiver, Sender,
    builder::{self, Builder},
    trust::Trust,
};
use crate::{
    error::{LinkError, OpenError},
    header::{Header, Kind, mismatch},
    layout,
    ring::claim::Owner,
    sys::{
        clock::Deadline,
        fork::Generation,
        pidfd, process,
        socket::{Connection, Listening, PeerCredentials},
    },
};
pub(super) use handshake::Ways;
use handshake::{Heard as Offer, Reason, Step, say};
pub(super) use meeting::{Meeting, alike};
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};
pub(super) use wire::Wire;

/// The process at the other end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) process: Arc<pidfd::Peer>,
    /// As the kernel has named it when the link was made.
    pub(crate) owner: Owner,
    credentials: PeerCredentials,
    /// Where the link goes both ways.
    pub(super) wire: Option<Wire>,
}

impl Peer {
    fn at(connection: &Arc<Connection>, credentials: PeerCredentials, ways: Ways) -> Result<Self, OpenError> {
        let process = connection.peer(&credentials)?;
        let identity = process.identity();
        let owner = Owner::new(identity.pid, identity.start_ticks);
        let wire = (ways == Ways::Both).then(|| Wire::new(Arc::clone(connection)));
        Ok(Self { process: Arc::new(process), owner, credentials, wire })
    }
}

/// How long who connects may take.
const PATIENCE_OF_LISTENER: Duration = Duration::from_secs(1);
/// How long the listener may take: it may be busy with others.
const PATIENCE_OF_CONNECTOR: Duration = Duration::from_secs(5);

/// Listens at a path for processes that want to send. Each gets a ring of its own, a *link*, whose receiver
/// [`accept`](Listener::accept) gives.
///
/// No process at the other end needs to be trusted: each side writes memory that the other can only read, enforced by the
/// kernel, and its death is proven by the kernel, whatever it writes. So it may also be another user's
/// ([`accept_if`](Listener::accept_if)), or in a container with a PID namespace of its own, if it reaches the path.
///
/// Nothing of a link has a name. The path is removed when the listener is dropped; what a killed one leaves is replaced by
/// the next.
///
/// ```
/// # let path = std::env::temp_dir().join(format!("doc-listener-{}", std::process::id()));
/// let listener = ringpost::listen(&path)?;
/// let plugin = std::thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
///     ringpost::connect(&path)?.send(b"hi")?; // in another process, in earnest
///     Ok(())
/// });
/// let mut receiver = listener.accept()?;
/// assert_eq!(receiver.recv()?.to_vec(), b"hi");
/// assert_eq!(receiver.peer().unwrap().pid, std::process::id());
/// # plugin.join().unwrap().unwrap();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    socket: Listening,
    builder: Builder,
}

/// A process that has connected to a [`Listener`] and was not greeted yet. Greeted in a thread of its own, one that is slow, or
/// silent, holds up nobody else. Dropped, it learns that nobody wants it. A forked child can't greet it: who has connected watches
/// the process that listens.
#[derive(Debug)]
pub struct Incoming {
    connection: Arc<Connection>,
    builder: Builder,
    generation: Generation,
}

/// Listens at `path` for processes that want to send: [`Listener::accept`] gives a receiver for each.
///
/// # Errors
/// As [`Builder::listen`].
pub fn listen(path: impl AsRef<Path>) -> Result<Listener, OpenError> {
    builder::unnamed().listen(path)
}

/// Connects to who listens at `path`, as the only sender of a ring of its own.
///
/// # Errors
/// As [`Builder::connect`].
pub fn connect(path: impl AsRef<Path>) -> Result<Sender, OpenError> {
    builder::unnamed().connect(path)
}

impl Builder {
    /// Listens at `path` for processes that want to send. This builder says what each of their rings is: capacity, longest
    /// message, type, and how their receivers wait; its name plays no part. The socket gets the permission bits of
    /// [`mode`](Builder::mode), of which 0666 is possible here: it lets every user try. Waits while another process begins to listen
    /// in the same directory, up to [`handshake_timeout`](Builder::handshake_timeout), or a second.
    ///
    /// # Errors
    /// [`OpenError::Link`] with [`LinkError::InUse`] when somebody listens there, and when the path can't be had;
    /// [`OpenError::Setting`], [`OpenError::Mode`]; [`OpenError::Unsupported`] where a page of memory is not 4096 bytes.
    pub fn listen(&self, path: impl AsRef<Path>) -> Result<Listener, OpenError> {
        let mode = self.socket_mode()?;
        meeting::plan(&self.link_header()?)?;
        let socket = Listening::at(path.as_ref(), mode, self.deadline(PATIENCE_OF_LISTENER))?;
        // One of many that may be one at most is the only one.
        let mut builder = self.clone();
        builder.many_senders = None;
        Ok(Listener { socket, builder })
    }

    /// Connects to who listens at `path`, as the only sender of a ring of its own. What this builder says of capacity,
    /// longest message and type must be so. The data area is this process's memory: its size is what the listener says, so
    /// set [`capacity`](Builder::capacity) where it is not trusted. The listener must run as the user of
    /// [`owner`](Builder::owner).
    ///
    /// # Errors
    /// [`OpenError::Link`]: [`LinkError::NotListening`], [`LinkError::WrongListener`], [`LinkError::Refused`], …;
    /// [`OpenError::Mismatch`]; [`OpenError::Segment`] when there is not enough memory.
    pub fn connect(&self, path: impl AsRef<Path>) -> Result<Sender, OpenError> {
        let (meeting, offer) = self.approach(path.as_ref(), Ways::One)?;
        meeting.join(offer)
    }

    /// Says hello to who listens at `path`; gives what it offers.
    pub(super) fn approach(&self, path: &Path, ways: Ways) -> Result<(Meeting<'_>, Offer), OpenError> {
        let deadline = self.deadline(PATIENCE_OF_CONNECTOR);
        let connection = Connection::to(path, deadline)?;
        let credentials = connection.credentials()?;
        let expected = self.expected_owner();
        if credentials.uid != expected {
            return Err(LinkError::WrongListener { found: credentials.uid, expected }.into());
        }
        let meeting = Meeting::new(self, Arc::new(connection), credentials, ways, deadline)?;
        let offer = meeting.say_hello()?;
        Ok((meeting, offer))
    }

    fn deadline(&self, patience: Duration) -> Deadline {
        Deadline::after(self.handshake.unwrap_or(patience))
    }

    /// What the ring of a new link is. It names no boot and no namespaces: neither matters where death is proven by a pidfd.
    fn link_header(&self) -> Result<Header, OpenError> {
        let header = self.header(true)?;
        match header.kind {
            Kind::Single | Kind::Many(1) => {
                let control_length = layout::control_length(1, process::page_bytes()) as u32;
                let (boot_id, namespaces) = ([0; 16], 0);
                Ok(Header { kind: Kind::Single, control_length, boot_id, namespaces, ..header })
            }
            Kind::Broadcast(_) => Err(mismatch("kind of ring", "one sender, many readers", "a link's")),
            Kind::Mailbox { .. } => Err(mismatch("kind of ring", "a mailbox", "a link's")),
            Kind::Many(given) => Err(OpenError::Setting {
                what: "number of senders of a link",
                given: given.into(),
                least: 1,
                most: 1,
            }),
        }
    }
}

impl Listener {
    /// Waits for the next process that connects, and gives the receiver of what it sends. Only processes of this user are
    /// accepted.
    ///
    /// May be called from several threads at once: then one that connects and is slow holds up nobody else. (Or give each that is
    /// [`incoming`](Listener::incoming) a thread.)
    ///
    /// # Errors
    /// Of the one that connected: [`OpenError::Link`] when it is not accepted, is silent for too long
    /// ([`Builder::handshake_timeout`]), hangs up or says nonsense; [`OpenError::Segment`] when what it passed is not memory
    /// of a link; [`OpenError::Mismatch`] when it is of another version. Of this process: when it has no descriptor or
    /// memory left. The listener goes on in any case: call it again.
    pub fn accept(&self) -> Result<Receiver, OpenError> {
        self.incoming()?.accept()
    }

    /// As [`accept`](Listener::accept), where `allow` decides who is accepted. Processes of other users can only connect if
    /// the permissions of the path ([`Builder::mode`]) let them.
    ///
    /// # Errors
    /// As for [`accept`](Listener::accept).
    pub fn accept_if(&self, allow: impl FnOnce(&PeerCredentials) -> bool) -> Result<Receiver, OpenError> {
        self.incoming()?.meet(Ways::One, allow, |meeting, header| meeting.offer(header))
    }

    /// Waits for the next process that connects, and leaves it to the caller to greet it.
    ///
    /// # Errors
    /// [`OpenError::Link`] when this process has no descriptor left, or is a child of the one that listens. The listener goes
    /// on: call it again.
    pub fn incoming(&self) -> Result<Incoming, OpenError> {
        let connection = Arc::new(self.socket.accept()?);
        Ok(Incoming { connection, builder: self.builder.clone(), generation: Generation::current() })
    }

    /// Where it listens, from the root on.
    pub fn path(&self) -> &Path {
        self.socket.path()
    }
}

impl Incoming {
    /// Gives the receiver of what it sends, if it is a process of this user. Waits up to
    /// [`handshake_timeout`](Builder::handshake_timeout).
    ///
    /// # Errors
    /// As for [`Listener::accept`], of the one that has connected.
    pub fn accept(self) -> Result<Receiver, OpenError> {
        let user = process::effective_user();
        self.meet(Ways::One, |peer| peer.uid == user, |meeting, header| meeting.offer(header))
    }

    /// Greets it and, if it is allowed and wants as many ways, makes a link with it.
    pub(super) fn meet<T>(
        &self,
        ways: Ways,
        allow: impl FnOnce(&PeerCredentials) -> bool,
        make: impl FnOnce(&Meeting<'_>, Header) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        if !self.generation.lasts() {
            // Not a word: the parent may greet it yet.
            return Err(LinkError::Forked.into());
        }
        let deadline = self.builder.deadline(PATIENCE_OF_LISTENER);
        let made = self.greet(ways, allow, deadline).and_then(|(meeting, header)| make(&meeting, header));
        if let Err(error) = &made {
            // It learns why; or it is gone, or deaf.
            let _ = say(&self.connection, Step::Refusal, Reason::of(error, ways) as u32, None, deadline);
        }
        made
    }

    fn greet(
        &self,
        ways: Ways,
        allow: impl FnOnce(&PeerCredentials) -> bool,
        deadline: Deadline,
    ) -> Result<(Meeting<'_>, Header), OpenError> {
        let credentials = self.connection.credentials()?;
        if !allow(&credentials) {
            let PeerCredentials { pid, uid, .. } = credentials;
            return Err(LinkError::NotAccepted { pid, uid }.into());
        }
        let meeting = Meeting::new(&self.builder, Arc::clone(&self.connection), credentials, ways, deadline)?;
        let goes_bare = meeting.hear_hello()?;
        let header = self.builder.link_header()?;
        Ok((meeting, Header { asymmetric: header.asymmetric && goes_bare, ..header }))
    }
}

impl AsFd for Listener {
    /// The socket: readable when [`accept`](Listener::accept) has somebody to greet.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd()
    }
}

impl<P: Trust> Receiver<P> {
    /// Who is at the other end of a link; `None` in any other ring.
    pub fn peer(&self) -> Option<PeerCredentials> {
        self.inner().peer.as_ref().map(|peer| peer.credentials)
    }
}

impl<P: Trust> Sender<P> {
    /// Who is at the other end of a link; `None` in any other ring.
    pub fn peer(&self) -> Option<PeerCredentials> {
        self.inner().peer.as_ref().map(|peer| peer.credentials)
    }
}
