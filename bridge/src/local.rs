//! The ring, or the mailbox, of this machine.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use anyhow::{Context, Error, Result};
use clap::Args;
use ringpost::{
    Builder, Envelope, Letter, Mailbox, MultiSender, OpenError, Pick, Receiver, RecvError, Ring,
    SegmentError, SendError, Sender,
};

use crate::news::{Label, Origin};
use crate::watched::Watched;

/// Messages of a mailbox that is made here, as of `ringpost::mailbox`.
const MESSAGES: u32 = 256;

/// Where messages come from, or go to. Who comes first makes it.
#[derive(Args, Debug)]
pub struct Local {
    /// Name of the ring
    #[arg(long, value_name = "NAME", required_unless_present = "mailbox", conflicts_with = "mailbox")]
    ring: Option<String>,

    /// Name of the mailbox, instead of a ring
    #[arg(long, value_name = "NAME")]
    mailbox: Option<String>,

    /// Where rings live; the same for all who use it
    #[arg(long = "dir", value_name = "DIR", default_value = "/dev/shm")]
    directory: PathBuf,

    /// Size of the ring, also with K, M, G or T; a ring that is there must have it [default: 4M]
    #[arg(long, value_name = "BYTES", value_parser = ringpost::limits::parse_bytes, conflicts_with = "mailbox")]
    capacity: Option<u64>,

    /// A ring for up to N senders at a time; a ring that is there must be one [default: for one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), conflicts_with = "mailbox")]
    many: Option<u8>,
}

impl Local {
    /// As the user calls it.
    pub fn name(&self) -> &str {
        // One of them is there: clap has seen to it.
        self.ring.as_ref().or(self.mailbox.as_ref()).map_or("", String::as_str)
    }

    /// Attaches to take messages out.
    pub fn outlet(&self) -> Result<Outlet> {
        let attached = || -> Result<Outlet> {
            if self.mailbox.is_some() {
                let mailbox = Watched::new(self.open_mailbox()?)?;
                return Ok(Outlet::Mailbox(Box::new(Held { mailbox, letters: VecDeque::new() })));
            }
            let ring = self.open_ring()?;
            let receiver = Watched::new(ring.receiver()?)?;
            Ok(Outlet::Ring(Box::new(Queue { receiver, instance: ring.info().instance })))
        };
        attached().with_context(|| self.name().to_owned())
    }

    /// Attaches to put messages in.
    pub fn inlet(&self) -> Result<Inlet> {
        let attached = || -> Result<Inlet, OpenError> {
            if self.mailbox.is_some() {
                return self.open_mailbox().map(Inlet::Mailbox);
            }
            let ring = self.open_ring()?;
            match ring.info().many_senders {
                None => ring.sender().map(Inlet::Only),
                Some(_) => ring.multi_sender().map(Inlet::OneOfMany),
            }
        };
        attached().with_context(|| self.name().to_owned())
    }

    fn builder(&self) -> Builder {
        ringpost::builder(self.name()).directory(&self.directory)
    }

    fn open_ring(&self) -> Result<Ring, OpenError> {
        let builder = self.capacity.iter().fold(self.builder(), |builder, &bytes| builder.capacity(bytes));
        self.many.iter().fold(builder, |builder, &most| builder.many_senders(most)).open_or_create()
    }

    /// Of whatever shape it is, if it is there.
    fn open_mailbox(&self) -> Result<Mailbox, OpenError> {
        loop {
            match self.builder().open() {
                Err(OpenError::Segment(SegmentError::NotFound { .. })) => {}
                ring => return ring?.mailbox(),
            }
            match self.builder().mailbox(MESSAGES).create() {
                Err(OpenError::Segment(SegmentError::AlreadyExists { .. })) => {}
                ring => return ring?.mailbox(),
            }
        }
    }
}

/// A message that is still where it was received.
pub struct Copy {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is.
    pub label: Label,
}

/// Where messages leave for the broker. They stay in their ring, or are held in their mailbox, until they are released; what
/// was not released when this process dies comes again to its successor.
pub enum Outlet {
    /// All messages of a ring.
    Ring(Box<Queue>),
    /// Messages of a mailbox, which others may receive from as well.
    Mailbox(Box<Held>),
}

/// The receiver of a ring.
pub struct Queue {
    receiver: Watched<Receiver>,
    instance: u64,
}

/// A seat at a mailbox, and what it holds.
pub struct Held {
    mailbox: Watched<Mailbox>,
    letters: VecDeque<Letter>,
}

impl Outlet {
    /// By which the broker tells it from others. A receiver of a ring takes the place of the one before: the broker lets go
    /// of that one's connection, so that nothing comes from it any more behind what this one sends.
    pub fn id(&self) -> u64 {
        match self {
            Self::Ring(queue) => queue.instance,
            Self::Mailbox(_) => std::process::id().into(),
        }
    }

    /// Copies of the unreleased messages from number `from` on, at most `most` of them, and no more than the first that
    /// brings them to `bytes`. Never blocks.
    pub fn copy(&mut self, from: usize, most: usize, bytes: usize) -> Result<Vec<Copy>, RecvError> {
        match self {
            Self::Ring(queue) => queue.copy(from, most, bytes),
            Self::Mailbox(held) => held.copy(from, most, bytes),
        }
    }

    /// The first `count` messages are done with.
    pub fn release(&mut self, count: usize) {
        match self {
            Self::Ring(queue) if count > 0 => queue.release(count),
            Self::Ring(_) => {}
            Self::Mailbox(held) => drop(held.letters.drain(..count)),
        }
    }

    /// Waits until it is worth looking, with nothing unreleased.
    pub async fn ready(&mut self) -> io::Result<()> {
        match self {
            Self::Ring(queue) => queue.receiver.ready().await,
            Self::Mailbox(held) => held.mailbox.ready().await,
        }
    }

    /// After the end: waits for another sender. False for a mailbox that was closed for all.
    pub fn reopen(&mut self) -> bool {
        match self {
            Self::Ring(queue) => {
                queue.receiver.source().reopen();
                true
            }
            Self::Mailbox(_) => false,
        }
    }
}

impl Queue {
    fn copy(&mut self, from: usize, most: usize, bytes: usize) -> Result<Vec<Copy>, RecvError> {
        let messages = self.receiver.source().try_recv_many(from + most)?;
        let instance = self.instance;
        let copies = messages.iter().skip(from).map(|message| {
            let origin = Some(Origin { instance, sequence: message.sequence() });
            Copy { bytes: message.to_vec(), label: Label { kind: message.kind(), origin } }
        });
        let copies = up_to(bytes, copies);
        // Leaked, so that they stay in the ring.
        std::mem::forget(messages);
        Ok(copies)
    }

    /// Looks at so many, which releases them.
    fn release(&mut self, count: usize) {
        let _ = self.receiver.source().try_recv_many(count).map(|messages| messages.iter().count());
    }
}

impl Held {
    fn copy(&mut self, from: usize, most: usize, bytes: usize) -> Result<Vec<Copy>, RecvError> {
        while self.letters.len() < from + most {
            match self.mailbox.source().try_recv(Pick::Any) {
                Ok(letter) => self.letters.push_back(letter),
                Err(_) if self.letters.len() > from => break,
                Err(error) => return Err(error),
            }
        }
        let copies = self.letters.range(from..).map(|letter| Copy {
            bytes: letter.to_vec(),
            label: Label { kind: letter.kind(), origin: None },
        });
        Ok(up_to(bytes, copies))
    }
}

impl Drop for Held {
    /// A letter that is dropped is done with; these are not.
    fn drop(&mut self) {
        self.letters.drain(..).for_each(Letter::give_back);
    }
}

/// Up to the first that brings them to so many bytes.
fn up_to(bytes: usize, copies: impl Iterator<Item = Copy>) -> Vec<Copy> {
    let mut sum = 0;
    copies
        .take_while(|copy| {
            let fits = sum < bytes;
            sum += copy.bytes.len();
            fits
        })
        .collect()
}

/// Where messages from the broker arrive.
pub enum Inlet {
    /// The only sender of a ring.
    Only(Sender),
    /// A sender of a ring that has others.
    OneOfMany(MultiSender),
    /// A seat at a mailbox.
    Mailbox(Mailbox),
}

impl Inlet {
    /// Sends; waits while there is no room.
    pub fn put(&mut self, kind: u16, bytes: &[u8]) -> Result<(), SendError> {
        match self {
            Self::Only(sender) => sender.send_kind(kind, bytes),
            Self::OneOfMany(sender) => sender.send_kind(kind, bytes),
            Self::Mailbox(mailbox) => mailbox.send(Envelope::from(kind), bytes).map(drop),
        }
    }
}

/// What the end of receiving means to the shell.
pub fn about_receiving(name: &str, error: RecvError) -> Error {
    match error {
        RecvError::PeerDied { .. } => crate::ending::PeerDied(format!(
            "{name}: {error}: all that it had sent is with the broker, but it may not have sent all"
        ))
        .into(),
        _ => Error::new(error).context(name.to_owned()),
    }
}

/// What the end of sending means to the shell.
pub fn about_sending(name: &str, error: SendError) -> Error {
    match error {
        SendError::PeerDied { .. } => crate::ending::PeerDied(format!(
            "{name}: {error}: another receiver gets them; what was not put there stays with the broker"
        ))
        .into(),
        _ => Error::new(error).context(format!("{name}: what was not put there stays with the broker")),
    }
}
