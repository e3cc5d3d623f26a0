//! Links: a ring for one sender between two processes that a Unix socket has brought together, in memory that each of
//! them can only read where the other writes.

mod handshake;

use super::{
    Receiver, Sender,
    attach::Attachment,
    builder::{self, Builder},
    copy,
    ring::{Home, Inner},
    trust::Trust,
};
use crate::{
    error::{LinkError, OpenError},
    header::{self, Header, Kind, mismatch},
    layout,
    ring::{claim::Owner, memory::Memory},
    sys::{
        barrier,
        clock::Deadline,
        futex::Scope,
        pidfd, process,
        segment::{Half, Halves, OtherHalf, Plan, Which},
        socket::{Connection, Listening, PeerCredentials},
    },
};
use handshake::{MAY_GO_BARE, Reason, SENDS, Step, ask, hear, say};
use std::{
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// The process at the other end of a link.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) process: Arc<pidfd::Peer>,
    /// As the kernel has named it when the link was made.
    pub(crate) owner: Owner,
    credentials: PeerCredentials,
}

impl Peer {
    fn at(connection: &Connection, credentials: PeerCredentials) -> Result<Self, OpenError> {
        let process = connection.peer(&credentials)?;
        let identity = process.identity();
        let owner = Owner::new(identity.pid, identity.start_ticks);
        Ok(Self { process: Arc::new(process), owner, credentials })
    }
}

/// How long who connects may take.
const PATIENCE_OF_LISTENER: Duration = Duration::from_secs(1);
/// How long the listener may take: it may be busy with others.
const PATIENCE_OF_CONNECTOR: Duration = Duration::from_secs(5);

/// What the halves are called in `/proc/<pid>/maps`.
const RECEIVERS: &str = "ringpost-receiver";
const SENDERS: &str = "ringpost-sender";

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
    /// [`mode`](Builder::mode), of which 0666 is possible here: it lets every user try.
    ///
    /// # Errors
    /// [`OpenError::Link`] with [`LinkError::InUse`] when somebody listens there, and when the path can't be had;
    /// [`OpenError::Setting`], [`OpenError::Mode`]; [`OpenError::Unsupported`] where a page of memory is not 4096 bytes.
    pub fn listen(&self, path: impl AsRef<Path>) -> Result<Listener, OpenError> {
        let mode = self.socket_mode()?;
        plan(&self.link_header()?)?;
        let socket = Listening::at(path.as_ref(), mode, self.deadline(PATIENCE_OF_LISTENER))?;
        Ok(Listener { socket, builder: self.clone() })
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
        let deadline = self.deadline(PATIENCE_OF_CONNECTOR);
        let connection = Connection::to(path.as_ref(), deadline)?;
        let credentials = connection.credentials()?;
        let expected = self.expected_owner();
        if credentials.uid != expected {
            return Err(LinkError::WrongListener { found: credentials.uid, expected }.into());
        }
        let peer = Peer::at(&connection, credentials)?;
        let flags = SENDS | if barrier::register() { MAY_GO_BARE } else { 0 };
        let offer = ask(&connection, (Step::Hello, flags, None), Step::Offer, deadline)?;
        let theirs = OtherHalf::new(offer.fd()?)?;
        let header = self.read(&theirs)?;
        let ours = Half::new(SENDERS, Which::Second, plan(&header)?)?;
        let (halves, ours) = ours.join(&theirs)?;
        // It is there before the receiver is: so that one learns of it when this side gives up.
        let sender = Sender::attach(self.linked(header, peer, halves))?;
        ask(&connection, (Step::Join, 0, Some(ours.as_fd())), Step::Welcome, deadline)?;
        Ok(sender)
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
            Kind::Many(given) => Err(OpenError::Setting {
                what: "number of senders of a link",
                given: given.into(),
                least: 1,
                most: 1,
            }),
        }
    }

    /// What the listener has made, when it can be used and is what was asked for.
    fn read(&self, theirs: &OtherHalf) -> Result<Header, OpenError> {
        let mut bytes = [0; header::LENGTH];
        let there = theirs.read_head(&mut bytes)?;
        let header = Header::decode(&bytes[..there])?;
        self.agree(&header)?;
        if header.kind != Kind::Single || !header.geometry.mirrored() {
            return Err(mismatch("kind of ring", "another", "a link's"));
        }
        Ok(header)
    }

    fn linked(&self, header: Header, peer: Peer, halves: Halves) -> Arc<Inner> {
        let mut inner = self.inner(mapped(&header, halves), header, Home::Elsewhere, Scope::Shared);
        inner.peer = Some(Arc::new(peer));
        Arc::new(inner)
    }
}

impl Listener {
    /// Waits for the next process that connects, and gives the receiver of what it sends. Only processes of this user are
    /// accepted.
    ///
    /// May be called from several threads at once: then one that connects and is slow holds up nobody else.
    ///
    /// # Errors
    /// Of the one that connected: [`OpenError::Link`] when it is not accepted, is silent for too long
    /// ([`Builder::handshake_timeout`]), hangs up or says nonsense; [`OpenError::Segment`] when what it passed is not memory
    /// of a link; [`OpenError::Mismatch`] when it is of another version. Of this process: when it has no descriptor or
    /// memory left. The listener goes on in any case: call it again.
    pub fn accept(&self) -> Result<Receiver, OpenError> {
        let user = process::effective_user();
        self.accept_if(|peer| peer.uid == user)
    }

    /// As [`accept`](Listener::accept), where `allow` decides who is accepted. Processes of other users can only connect if
    /// the permissions of the path ([`Builder::mode`]) let them.
    ///
    /// # Errors
    /// As for [`accept`](Listener::accept).
    pub fn accept_if(&self, allow: impl FnOnce(&PeerCredentials) -> bool) -> Result<Receiver, OpenError> {
        let connection = self.socket.accept()?;
        let deadline = self.builder.deadline(PATIENCE_OF_LISTENER);
        let receiver = self.greet(&connection, allow, deadline);
        if let Err(error) = &receiver {
            // It learns why; or it is gone, or deaf.
            let _ = say(&connection, Step::Refusal, Reason::of(error) as u32, None, deadline);
        }
        receiver
    }

    fn greet(
        &self,
        connection: &Connection,
        allow: impl FnOnce(&PeerCredentials) -> bool,
        deadline: Deadline,
    ) -> Result<Receiver, OpenError> {
        let credentials = connection.credentials()?;
        if !allow(&credentials) {
            let PeerCredentials { pid, uid, .. } = credentials;
            return Err(LinkError::NotAccepted { pid, uid }.into());
        }
        let peer = Peer::at(connection, credentials)?;
        let flags = hear(connection, Step::Hello, deadline)?.detail;
        if flags & !MAY_GO_BARE != SENDS {
            return Err(
                LinkError::Malformed { why: "its greeting asks for what this version does not do" }.into()
            );
        }
        let header = self.builder.link_header()?;
        let header = Header { asymmetric: header.asymmetric && flags & MAY_GO_BARE != 0, ..header };
        let ours = Half::new(RECEIVERS, Which::First, plan(&header)?)?;
        // SAFETY: the half is longer than a header.
        unsafe { copy::into_shared(&header.encode(), ours.control().as_ptr()) };
        let start = self.builder.start.units().to_ne_bytes();
        // SAFETY: the half holds the receiver area, which begins with the position.
        unsafe { copy::into_shared(&start, ours.control().add(layout::RECEIVER_AREA).as_ptr()) };
        say(connection, Step::Offer, 0, Some(ours.fd()), deadline)?;
        let theirs = OtherHalf::new(hear(connection, Step::Join, deadline)?.fd()?)?;
        let (halves, _) = ours.join(&theirs)?;
        let receiver = Receiver::new(Attachment::receiver(self.builder.linked(header, peer, halves))?);
        say(connection, Step::Welcome, 0, None, deadline)?;
        Ok(receiver)
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.socket.path()
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

/// The halves of a link: what the receiver writes is the first.
fn plan(header: &Header) -> Result<Plan, OpenError> {
    if header.elastic {
        return Err(mismatch("memory", "elastic", "all there from the start, as in every link"));
    }
    if header.rendezvous {
        // There the receiver would have to write where only the sender does.
        return Err(mismatch(
            "how messages are handed over",
            "in a rendezvous",
            "through a buffer, as in every link",
        ));
    }
    if !layout::SENDERS_AREA.is_multiple_of(process::page_bytes()) {
        return Err(OpenError::Unsupported {
            what: "to protect less than a page, and pages are not 4096 bytes",
        });
    }
    let (cut, control) = (layout::SENDERS_AREA, header.control_length as usize);
    Ok(Plan { cut, control, capacity: header.geometry.capacity() as usize })
}

fn mapped(header: &Header, halves: Halves) -> Memory {
    let (control, data) = (halves.control(), halves.data());
    // SAFETY: both halves are exactly as long as `plan` says, allocated and sealed against any change of size; the mapping
    // lives in the box. What is read-only here is what this side of the ring never writes (`docs/LAYOUT.md`).
    unsafe { builder::memory(header, control, data, Box::new(halves)) }
}
