//! Two processes that a connection has brought together make a ring: who will receive offers its half of the memory, who
//! will send joins. A link in both directions is this twice, the second time with the parts exchanged.

use super::{
    super::{
        Receiver, Sender,
        attach::{self, Attachment},
        builder::{self, Builder},
        copy,
        ring::{Home, Inner},
    },
    Peer,
    handshake::{self, Heard, MAY_GO_BARE, Step, Ways, ask, say},
};
use crate::{
    error::OpenError,
    header::{self, Header, Kind, mismatch},
    layout,
    ring::memory::Memory,
    sys::{
        barrier,
        clock::Deadline,
        futex::Scope,
        process, random,
        segment::{Half, Halves, OtherHalf, Plan, Which},
        socket::{Connection, PeerCredentials},
    },
};
use std::{os::fd::AsFd, sync::Arc};

/// What the halves are called in `/proc/<pid>/maps`.
const RECEIVERS: &str = "ringpost-receiver";
const SENDERS: &str = "ringpost-sender";

/// One side of a handshake.
pub(in super::super) struct Meeting<'a> {
    builder: &'a Builder,
    connection: Arc<Connection>,
    peer: Arc<Peer>,
    ways: Ways,
    deadline: Deadline,
}

impl<'a> Meeting<'a> {
    pub(super) fn new(
        builder: &'a Builder,
        connection: Arc<Connection>,
        credentials: PeerCredentials,
        ways: Ways,
        deadline: Deadline,
    ) -> Result<Self, OpenError> {
        let peer = Arc::new(Peer::at(&connection, credentials, ways)?);
        Ok(Self { builder, connection, peer, ways, deadline })
    }

    /// The connecting side's first word, and what the other side offers.
    pub(super) fn say_hello(&self) -> Result<Heard, OpenError> {
        let flags = self.ways.flags() | if barrier::register() { MAY_GO_BARE } else { 0 };
        ask(&self.connection, (Step::Hello, flags, None), Step::Offer, self.deadline)
    }

    /// Hears the connecting side's first word, which must ask for so many ways. True when that side may go bare.
    pub(super) fn hear_hello(&self) -> Result<bool, OpenError> {
        let flags = self.hear(Step::Hello)?.detail;
        self.ways.check(flags & !MAY_GO_BARE)?;
        Ok(flags & MAY_GO_BARE != 0)
    }

    /// What the other side offers, once it has received an offer itself.
    pub(in super::super) fn hear_offer(&self) -> Result<Heard, OpenError> {
        self.hear(Step::Offer)
    }

    /// The last word of a link in both directions, to the connecting side: the listener has not given it up meanwhile.
    pub(in super::super) fn conclude(&self) -> Result<(), OpenError> {
        say(&self.connection, Step::Welcome, 0, None, self.deadline)
    }

    /// Hears that.
    pub(in super::super) fn hear_conclusion(&self) -> Result<(), OpenError> {
        self.hear(Step::Welcome).map(|_| ())
    }

    fn hear(&self, step: Step) -> Result<Heard, OpenError> {
        handshake::hear(&self.connection, step, self.deadline)
    }

    /// Offers a ring of this form and takes the receiver's place in it.
    pub(in super::super) fn offer(&self, header: Header) -> Result<Receiver, OpenError> {
        let ours = Half::new(RECEIVERS, Which::First, plan(&header)?)?;
        // SAFETY: the half is longer than a header.
        unsafe { copy::into_shared(&header.encode(), ours.control().as_ptr()) };
        let start = self.builder.start.units().to_ne_bytes();
        // SAFETY: the half holds the receiver area, which begins with the position.
        unsafe { copy::into_shared(&start, ours.control().add(layout::RECEIVER_AREA).as_ptr()) };
        let join = ask(&self.connection, (Step::Offer, 0, Some(ours.fd())), Step::Join, self.deadline)?;
        let theirs = OtherHalf::new(join.fd()?)?;
        let (halves, _) = ours.join(&theirs)?;
        let receiver = Receiver::new(Attachment::receiver(self.linked(header, halves))?);
        if let Err(error) = say(&self.connection, Step::Welcome, 0, None, self.deadline) {
            // Whoever hangs up here has said why.
            return Err(self.hear(Step::Welcome).err().unwrap_or(error));
        }
        Ok(receiver)
    }

    /// Joins what the other side offers, as its only sender.
    pub(in super::super) fn join(&self, offer: Heard) -> Result<Sender, OpenError> {
        let theirs = OtherHalf::new(offer.fd()?)?;
        let header = self.read(&theirs)?;
        self.join_half(&theirs, header)
    }

    /// The same, when it is as `model`: of whoever chose that, no more memory is taken than it chose.
    pub(in super::super) fn join_alike(&self, offer: Heard, model: &Header) -> Result<Sender, OpenError> {
        let theirs = OtherHalf::new(offer.fd()?)?;
        let header = self.read(&theirs)?;
        let form = |header: &Header| (header.geometry.capacity(), header.longest, header.asymmetric);
        if form(&header) != form(model) || header.item != model.item {
            return Err(mismatch("form of the ring back", "another", "that of the ring there"));
        }
        self.join_half(&theirs, header)
    }

    fn join_half(&self, theirs: &OtherHalf, header: Header) -> Result<Sender, OpenError> {
        let ours = Half::new(SENDERS, Which::Second, plan(&header)?)?;
        let (halves, ours) = ours.join(theirs)?;
        // It is there before the receiver is: so that one learns of it when this side gives up.
        let sender = Sender::attach(self.linked(header, halves))?;
        ask(&self.connection, (Step::Join, 0, Some(ours.as_fd())), Step::Welcome, self.deadline)?;
        Ok(sender)
    }

    /// What the other side has made, when it can be used and is what was asked for.
    fn read(&self, theirs: &OtherHalf) -> Result<Header, OpenError> {
        let mut bytes = [0; header::LENGTH];
        let there = theirs.read_head(&mut bytes)?;
        let header = Header::decode(&bytes[..there])?;
        self.builder.agree(&header)?;
        if header.kind != Kind::Single || !header.geometry.mirrored() {
            return Err(mismatch("kind of ring", "another", "a link's"));
        }
        Ok(header)
    }

    fn linked(&self, header: Header, halves: Halves) -> Arc<Inner> {
        let memory = mapped(&header, halves);
        let mut inner = self.builder.inner(memory, header, Home::Elsewhere, Scope::Shared);
        inner.peer = Some(Arc::clone(&self.peer));
        Arc::new(inner)
    }
}

/// A ring as the other, made by this process.
pub(in super::super) fn alike(model: &Header) -> Header {
    let creator = attach::this_process().pid();
    Header { key: random::number(), instance: random::number(), creator, ..*model }
}

/// The halves of a link: what the receiver writes is the first.
pub(super) fn plan(header: &Header) -> Result<Plan, OpenError> {
    if header.elastic {
        return Err(mismatch("memory", "elastic", "all there from the start, as in every link"));
    }
    if header.checksummed {
        return Err(mismatch(
            "ring with checksums",
            "a link's",
            "one between processes, to one receiver, with a buffer",
        ));
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
