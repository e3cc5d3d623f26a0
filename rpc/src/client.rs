//! The side that calls.

use crate::{
    clock::{Deadline, Pause},
    codec::{Frame, Parcel},
    context::Session,
    error::{BindError, CallError, Done, Malformed, Refusal},
    interface::{Description, Interface},
    registry,
    semantics::Semantics,
    wire::{self, Again, AnswerHeader, CallHeader, Hello, Luggage, Unclaimed},
};
use ringpost::{
    Duplex, LinkError, Message, NotTaken, OpenError, Receiver, RecvError, Region, RegionError, Reservation,
    SendError, Sender, WaitStrategy,
};
use std::{path::PathBuf, time::Duration};
use zerocopy::{FromBytes, IntoBytes};

/// How long a server may take to answer a client that binds, and has no deadline.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which server a client binds to, and what it can rely on.
#[derive(Clone, Debug)]
pub struct Binding {
    place: Place,
    semantics: Semantics,
    timeout: Option<Duration>,
    wait: WaitStrategy,
}

#[derive(Clone, Debug)]
enum Place {
    Name(String),
    Path(PathBuf),
}

impl From<&str> for Binding {
    /// As [`Binding::name`].
    fn from(name: &str) -> Self {
        Self::name(name)
    }
}

impl Binding {
    /// The service of this name in the [`registry`]. At most once, without a deadline.
    pub fn name(name: impl Into<String>) -> Self {
        Self::to(Place::Name(name.into()))
    }

    /// The service that listens at this path. At most once, without a deadline.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::to(Place::Path(path.into()))
    }

    fn to(place: Place) -> Self {
        Self { place, semantics: Semantics::default(), timeout: None, wait: WaitStrategy::default() }
    }

    /// How often a call is done when the server dies.
    pub fn semantics(self, semantics: Semantics) -> Self {
        Self { semantics, ..self }
    }

    /// How long each call may take, with all its repetitions.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self }
    }

    /// How the client waits for an answer.
    pub fn wait(self, strategy: WaitStrategy) -> Self {
        Self { wait: strategy, ..self }
    }

    fn connect(&self, deadline: Deadline) -> Result<Duplex, BindError> {
        let path = match &self.place {
            Place::Name(name) => registry::path(name)?,
            Place::Path(path) => path.clone(),
        };
        let patience = deadline.or_after(PATIENCE).remaining().unwrap_or(PATIENCE);
        let mut link = ringpost::unnamed().handshake_timeout(patience).connect_duplex(path)?;
        link.sender.set_wait(self.wait);
        link.receiver.set_wait(self.wait);
        Ok(link)
    }
}

/// A session with a server, for one thread: one call at a time. What [`interface`](macro@crate::interface) generates has the
/// methods, and this in it.
#[derive(Debug)]
pub struct Client {
    binding: Binding,
    interface: Description,
    session: Session,
    /// That made it: a forked child has another.
    process: u32,
    /// Of the last call.
    number: u64,
    link: Option<Duplex>,
    /// The arguments of the call: kept until it is answered.
    arguments: Frame,
    answer: Frame,
    luggage: Luggage,
    /// When the last call began; never, as soon as a call was done, because the server knows the session since.
    unknown_since: Deadline,
}

/// Why one attempt gave no answer.
enum Failure {
    /// The server is gone.
    Lost(Done),
    Final(CallError),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::Final(error)
    }
}

impl Client {
    /// Binds to a server of interface `I`: connects, and checks that the interface is the same on both sides. Waits up to
    /// the binding's timeout, or 5 s, for a server that is there, and not for one that is still to come, whatever the semantics: who
    /// may be started before its server tries again. Binding again after the server was lost happens by itself, within a call.
    ///
    /// # Errors
    /// [`BindError`]: [`BindError::Open`] with [`LinkError::NotListening`] at once when there is no server.
    pub fn bind<I: Interface>(binding: impl Into<Binding>) -> Result<Self, BindError> {
        let binding = binding.into();
        let deadline = Deadline::after(binding.timeout);
        let mut client = Self {
            binding,
            interface: Description::of::<I>(),
            session: Session::random(),
            process: std::process::id(),
            number: 0,
            link: None,
            arguments: Frame::default(),
            answer: Frame::default(),
            luggage: Luggage::default(),
            unknown_since: Deadline::now(),
        };
        client.link = Some(client.meet(deadline)?);
        Ok(client)
    }

    /// The session, which a restarted server knows as well.
    pub fn session(&self) -> Session {
        self.session
    }

    /// How long each call may take from now on; `None`: as long as the server lives.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.binding.timeout = timeout;
    }

    /// Begins a call: the arguments go into the frame. For generated code.
    #[inline]
    pub fn begin(&mut self) -> &mut Frame {
        self.arguments.clear();
        &mut self.arguments
    }

    /// Calls a method with the arguments of the frame, and waits for the answer. For generated code.
    ///
    /// # Errors
    /// [`CallError`].
    #[inline]
    pub fn call(&mut self, method: u16) -> Result<Parcel<'_>, CallError> {
        self.number += 1;
        if self.unknown_since != Deadline::NEVER {
            self.unknown_since = Deadline::now();
        }
        let deadline = Deadline::after(self.binding.timeout);
        let called = self.attempt(method, deadline);
        let called = called.or_else(|failure| self.go_on(method, deadline, failure));
        // They are the caller's to free.
        self.arguments.regions.clear();
        if called.is_err() {
            self.luggage.leave();
        }
        called?;
        self.unknown_since = Deadline::NEVER;
        Ok(Parcel::new(&mut self.answer))
    }

    /// What is left to be done after an attempt in vain: as the semantics say.
    #[cold]
    fn go_on(&mut self, method: u16, deadline: Deadline, failure: Failure) -> Result<(), CallError> {
        let (mut failure, mut pause) = (failure, Pause::default());
        let (mut sent, mut is_first) = (Done::No, true);
        loop {
            match failure {
                Failure::Lost(done) => {
                    self.link = None;
                    if done == Done::Perhaps {
                        sent = done;
                    }
                    if sent == Done::Perhaps && self.binding.semantics == Semantics::AtMostOnce {
                        return Err(CallError::Lost { done: sent });
                    }
                    // A server that is lost again and again is not asked in haste.
                    if deadline.passed() || !is_first && !pause.rest(deadline) {
                        return Err(CallError::TimedOut { done: sent });
                    }
                    is_first = false;
                }
                Failure::Final(CallError::Unbound(error)) if self.is_to_come(&error) => {
                    if !pause.rest(deadline) {
                        return Err(CallError::TimedOut { done: sent });
                    }
                }
                Failure::Final(CallError::TimedOut { done: Done::No }) => {
                    return Err(CallError::TimedOut { done: sent });
                }
                Failure::Final(CallError::Shortage { done: Done::No, error }) => {
                    return Err(CallError::Shortage { done: sent, error });
                }
                Failure::Final(error) => {
                    // A server that promises exactly once looks for what was done before it refuses.
                    let is_known = self.binding.semantics == Semantics::ExactlyOnce
                        && matches!(error, CallError::Refused(_));
                    let is_unclear = sent == Done::Perhaps && error.done() == Done::No && !is_known;
                    return Err(if is_unclear { CallError::Unclear(error.into()) } else { error });
                }
            }
            match self.attempt_again(method, deadline, sent) {
                Ok(()) => return Ok(()),
                Err(again) => failure = again,
            }
        }
    }

    /// Whether a server may come that this one still waits for.
    fn is_to_come(&self, error: &BindError) -> bool {
        let passing = match error {
            BindError::Lost | BindError::TimedOut => true,
            BindError::Open(OpenError::Link(error)) => {
                !matches!(error, LinkError::WrongListener { .. } | LinkError::NoDescriptor { .. })
            }
            _ => false,
        };
        passing && self.binding.semantics != Semantics::AtMostOnce
    }

    /// The same, of a call that was perhaps sent before: the server is told.
    fn attempt_again(&mut self, method: u16, deadline: Deadline, sent: Done) -> Result<(), Failure> {
        if self.link.is_none() {
            self.link = Some(self.meet_again(deadline)?);
        }
        if let (Done::Perhaps, Some(link)) = (sent, &mut self.link) {
            let again = Again { number: self.number, age_ns: self.unknown_since.age_ns() };
            say(&mut link.sender, wire::AGAIN, again.as_bytes(), deadline).map_err(not_sent)?;
        }
        self.attempt(method, deadline)
    }

    /// Sends the call once, and waits for its answer.
    #[inline]
    fn attempt(&mut self, method: u16, deadline: Deadline) -> Result<(), Failure> {
        if self.link.is_none() {
            self.link = Some(self.meet_again(deadline)?);
        }
        let Self { link: Some(link), number, arguments, answer, luggage, .. } = self else {
            unreachable!("it is made above")
        };
        if link.receiver.next_death().is_some() {
            // Nothing was sent to it.
            return Err(Failure::Lost(Done::No));
        }
        let (length, longest) =
            (size_of::<CallHeader>() + arguments.bytes.len(), link.sender.longest_message());
        if length > longest {
            // Before its regions are sent: the server would keep them until the next call.
            return Err(CallError::TooLong { length, longest }.into());
        }
        if !arguments.regions.is_empty() {
            await_calm(link, luggage, deadline)?;
            wire::send_regions(&mut link.sender, &arguments.regions, deadline).map_err(regions_not_sent)?;
        }
        let regions = arguments.regions.len() as u64;
        let header = CallHeader { number: *number, deadline_ns: deadline.as_ns(), regions };
        let mut room = reserve(&mut link.sender, length, deadline).map_err(not_sent)?;
        // From the end: the header lies in the line that the server polls.
        room.write_at(size_of::<CallHeader>(), &arguments.bytes);
        room.write_at(0, header.as_bytes());
        room.set_kind(method);
        room.commit();
        let nonsense = || CallError::Unclear(CallError::Unbound(BindError::Protocol).into());
        answer.clear();
        let (kind, regions) = loop {
            let message = receive(&mut link.receiver, deadline).map_err(not_answered)?;
            if message.kind() == wire::CLOSING {
                return Err(Failure::Lost(Done::No));
            }
            if message.kind() == Region::KIND {
                luggage.take(&message).ok_or_else(nonsense)?;
            } else {
                let header: AnswerHeader = wire::open(&message, &mut answer.bytes).ok_or_else(nonsense)?;
                if header.number == *number {
                    break (message.kind(), header.regions);
                }
                // Of a call that was given up.
                luggage.leave();
            }
            if deadline.passed() {
                // There may be no end of them.
                return Err(CallError::TimedOut { done: Done::Perhaps }.into());
            }
        };
        match kind {
            wire::DONE => luggage.claim(regions, &mut answer.regions).map_err(|error| match error {
                Unclaimed::Nonsense => CallError::Answer(Malformed("a region is missing")).into(),
                Unclaimed::Shortage(error) => CallError::Shortage { done: Done::Yes, error }.into(),
            }),
            wire::TOO_LATE => Err(CallError::TimedOut { done: Done::No }.into()),
            other => Err(match Refusal::from_code(other) {
                Some(refusal) => CallError::Refused(refusal).into(),
                None => nonsense().into(),
            }),
        }
    }

    /// As [`meet`](Self::meet), in the process that has the session: two with one session would get each other's answers.
    #[cold]
    fn meet_again(&self, deadline: Deadline) -> Result<Duplex, CallError> {
        if std::process::id() != self.process {
            return Err(CallError::Forked);
        }
        self.meet(deadline).map_err(CallError::Unbound)
    }

    /// Makes a link, and agrees on everything. A server that has given this side up, or that is too busy, is tried again until
    /// the deadline, and for as long as its patience lasts where there is none.
    #[cold]
    fn meet(&self, deadline: Deadline) -> Result<Duplex, BindError> {
        let deadline = deadline.or_after(PATIENCE);
        let mut pause = Pause::default();
        loop {
            match self.try_to_meet(deadline) {
                Err(error) if error.is_haste() && pause.rest(deadline) => {}
                met => return met,
            }
        }
    }

    fn try_to_meet(&self, deadline: Deadline) -> Result<Duplex, BindError> {
        let mut link = self.binding.connect(deadline)?;
        let hello = Hello {
            version: wire::VERSION,
            semantics: self.binding.semantics as u32,
            interface: self.interface.hash(),
            session: self.session.0,
        };
        say(&mut link.sender, wire::HELLO, hello.as_bytes(), deadline)?;
        let answer = match receive(&mut link.receiver, deadline) {
            Ok(message) => (message.kind(), message.to_vec()),
            Err(RecvError::TimedOut) => return Err(BindError::TimedOut),
            Err(_) => return Err(BindError::Lost),
        };
        match answer {
            (wire::WELCOME, _) => Ok(link),
            (wire::OTHER_INTERFACE, theirs) => Err(BindError::Interface {
                ours: self.interface.text().into(),
                theirs: String::from_utf8_lossy(&theirs).into(),
            }),
            (wire::OTHER_VERSION, theirs) => Err(match u32::read_from_bytes(&theirs) {
                Ok(theirs) => BindError::Version { ours: wire::VERSION, theirs },
                Err(_) => BindError::Protocol,
            }),
            (wire::NO_SUCH_PROMISE, _) => Err(BindError::Semantics { asked: self.binding.semantics }),
            _ => Err(BindError::Protocol),
        }
    }
}

impl Drop for Client {
    /// Ends the session: a durable service may forget it.
    fn drop(&mut self) {
        if let Some(link) = &mut self.link
            && let Ok(mut room) = link.sender.try_reserve(0)
        {
            room.set_kind(wire::GOODBYE);
            room.commit();
        }
    }
}

#[inline]
fn reserve(sender: &mut Sender, length: usize, deadline: Deadline) -> Result<Reservation<'_>, SendError> {
    match deadline.instant() {
        None => sender.reserve(length),
        Some(instant) => sender.reserve_deadline(length, instant),
    }
}

fn say(sender: &mut Sender, kind: u16, words: &[u8], deadline: Deadline) -> Result<(), SendError> {
    let mut room = reserve(sender, words.len(), deadline)?;
    room.write_at(0, words);
    room.set_kind(kind);
    room.commit();
    Ok(())
}

#[inline]
fn receive(receiver: &mut Receiver, deadline: Deadline) -> Result<Message<'_>, RecvError> {
    match deadline.instant() {
        None => receiver.recv(),
        Some(instant) => receiver.recv_deadline(instant),
    }
}

/// Waits until the server has taken all that was sent before, of calls that were given up, and takes its answers to them meanwhile.
/// Else regions find room perhaps, and the call behind them none: the server would keep them until the next call.
#[cold]
fn await_calm(link: &mut Duplex, luggage: &mut Luggage, deadline: Deadline) -> Result<(), Failure> {
    /// How long the server may wait for room for an answer.
    const SLICE: Duration = Duration::from_millis(1);
    let nothing = match deadline.instant() {
        None => link.sender.batch(0),
        Some(instant) => link.sender.batch_deadline(0, instant),
    };
    // Of an empty batch: it speaks for what is before.
    let receipt = nothing.map_err(not_sent)?.commit_acknowledged();
    loop {
        match receipt.wait_timeout(SLICE) {
            Ok(()) => return Ok(()),
            Err(NotTaken::TimedOut) if deadline.passed() => {
                return Err(CallError::TimedOut { done: Done::No }.into());
            }
            Err(NotTaken::TimedOut) => pass_over_answers(&mut link.receiver, luggage, deadline)?,
            Err(NotTaken::Forked) => return Err(CallError::Forked.into()),
            Err(_) => return Err(Failure::Lost(Done::No)),
        }
    }
}

/// Takes the answers that are there: to calls that were given up, as no other was sent.
fn pass_over_answers(
    receiver: &mut Receiver,
    luggage: &mut Luggage,
    deadline: Deadline,
) -> Result<(), Failure> {
    // There may be no end of them.
    while !deadline.passed() {
        match receiver.try_recv() {
            Ok(message) if message.kind() == Region::KIND => {
                luggage.take(&message).ok_or(Failure::Lost(Done::No))?;
            }
            Ok(message) if message.kind() == wire::CLOSING => return Err(Failure::Lost(Done::No)),
            Ok(_) => luggage.leave(),
            Err(RecvError::Empty) => break,
            Err(_) => return Err(Failure::Lost(Done::No)),
        }
    }
    Ok(())
}

#[cold]
fn not_sent(error: SendError) -> Failure {
    match error {
        SendError::TimedOut => CallError::TimedOut { done: Done::No }.into(),
        SendError::TooLong { length, longest } => CallError::TooLong { length, longest }.into(),
        SendError::Forked => CallError::Forked.into(),
        _ => Failure::Lost(Done::No),
    }
}

#[cold]
fn regions_not_sent(error: RegionError) -> Failure {
    if wire::is_shortage(&error) {
        return CallError::Shortage { done: Done::No, error }.into();
    }
    not_sent(wire::as_message(error))
}

#[cold]
fn not_answered(error: RecvError) -> Failure {
    match error {
        RecvError::TimedOut => CallError::TimedOut { done: Done::Perhaps }.into(),
        RecvError::Forked => CallError::Forked.into(),
        _ => Failure::Lost(Done::Perhaps),
    }
}
