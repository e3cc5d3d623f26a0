//! How calls are done: with a state that dies with the server, or with one that survives it.

use super::Observer;
use crate::{
    codec::{Frame, Parcel},
    context::{Context, Session},
    durable::{Durable, Recollection},
    error::Refusal,
    interface::Service,
    owner::Owner,
    presence::{Attendance, Presence},
    semantics::Semantics,
    server::Event,
    wire::{Again, AnswerHeader},
};
use ringpost::PeerCredentials;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// Why a call was not done.
pub(super) enum Undone {
    /// The client is gone.
    Cancelled,
    /// The deadline has passed.
    TooLate,
    /// The server is to end.
    Closing,
    Refused(Refusal),
}

impl From<Refusal> for Undone {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How calls are done.
pub(super) trait Engine: Send {
    type Service: Service;
    const PROMISES: &[Semantics];
    /// Bytes of the state of which each call has copies on its stack.
    const STATE_BYTES: usize = 0;

    /// A client has bound.
    fn welcome(&mut self, session: Session, peer: PeerCredentials);

    /// Whether a call that was sent before, over a link that was lost, can be told from one that was done.
    fn remembers(&self, session: Session, again: &Again) -> bool;

    /// Does one call; one that has to wait for its turn only if it still `may_begin` then. It has no arguments when there was no
    /// descriptor or no memory left for them.
    fn answer(
        &mut self,
        method: u16,
        context: &Context<'_>,
        may_begin: impl Fn() -> Result<(), Undone>,
        arguments: Option<&mut Frame>,
        answer: &mut Frame,
        observer: &Observer,
    ) -> Result<(), Undone>;

    /// The client won't call again.
    fn goodbye(&mut self, session: Session);
}

/// Runs the method; what it has left in `answer` counts only when it succeeds.
fn run<S: Service>(
    service: &mut S,
    method: u16,
    context: &Context<'_>,
    arguments: &mut Frame,
    answer: &mut Frame,
) -> Result<(), Refusal> {
    catch_unwind(AssertUnwindSafe(|| service.call(method, context, Parcel::new(arguments), answer)))
        .unwrap_or(Err(Refusal::Panicked))
}

/// The service's state dies with the server.
pub(super) struct Volatile<S> {
    pub(super) service: S,
    pub(super) initial: S,
}

impl<S: Service + Clone + Send> Engine for Volatile<S> {
    type Service = S;
    const PROMISES: &[Semantics] = &[Semantics::AtMostOnce, Semantics::AtLeastOnce];

    fn welcome(&mut self, _: Session, _: PeerCredentials) {}

    fn remembers(&self, _: Session, _: &Again) -> bool {
        true
    }

    #[inline]
    fn answer(
        &mut self,
        method: u16,
        context: &Context<'_>,
        _: impl Fn() -> Result<(), Undone>,
        arguments: Option<&mut Frame>,
        answer: &mut Frame,
        observer: &Observer,
    ) -> Result<(), Undone> {
        let arguments = arguments.ok_or(Refusal::Shortage)?;
        let outcome = run(&mut self.service, method, context, arguments, answer);
        if outcome == Err(Refusal::Panicked) {
            self.service = self.initial.clone();
        }
        outcome?;
        observer.tell(&Event::Executed);
        Ok(())
    }

    fn goodbye(&mut self, _: Session) {}
}

/// The service's state is a [`Durable`].
pub(super) struct Exact<S: Service> {
    pub(super) durable: Arc<Mutex<Durable<S::Implementation>>>,
    pub(super) presence: Arc<Presence>,
    pub(super) attendance: Option<Attendance>,
    pub(super) owner: Owner,
}

impl<S: Service> Exact<S> {
    /// A panic of a method was caught before it could leave anything half done.
    fn durable(&self) -> MutexGuard<'_, Durable<S::Implementation>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Service> Engine for Exact<S>
where
    S::Implementation: TryFromBytes + IntoBytes + Immutable + Send,
{
    type Service = S;
    const PROMISES: &[Semantics] = &[Semantics::AtMostOnce, Semantics::AtLeastOnce, Semantics::ExactlyOnce];
    const STATE_BYTES: usize = size_of::<S::Implementation>();

    fn welcome(&mut self, session: Session, peer: PeerCredentials) {
        self.owner = Owner::of(peer.pid);
        self.attendance = Some(self.presence.arrive(session));
    }

    fn remembers(&self, session: Session, again: &Again) -> bool {
        self.durable().remembers(session, again.age())
    }

    fn answer(
        &mut self,
        method: u16,
        context: &Context<'_>,
        may_begin: impl Fn() -> Result<(), Undone>,
        arguments: Option<&mut Frame>,
        answer: &mut Frame,
        observer: &Observer,
    ) -> Result<(), Undone> {
        // The calls of others may have taken long.
        let mut durable = self.durable();
        may_begin()?;
        match durable.recall(context.session, context.number, &mut answer.bytes) {
            Recollection::Answered => {
                observer.tell(&Event::Replayed);
                return Ok(());
            }
            Recollection::Later => return Err(Refusal::Stale.into()),
            Recollection::New => {}
        }
        // Not before: that the call is refused says then that it was not done.
        let arguments = arguments.ok_or(Refusal::Shortage)?;
        let place = durable.place(context.session).ok_or(Refusal::TooManySessions)?;
        let mut service = S::new(durable.state());
        run(&mut service, method, context, arguments, answer)?;
        observer.tell(&Event::Executed);
        let length = size_of::<AnswerHeader>() + answer.bytes.len();
        if !answer.regions.is_empty() || length > context.link.borrow().sender.longest_message() {
            return Err(Refusal::AnswerTooLong.into());
        }
        let state = service.into_implementation();
        durable.commit(&state, place, context.session, self.owner, context.number, &answer.bytes)?;
        observer.tell(&Event::Committed);
        Ok(())
    }

    fn goodbye(&mut self, session: Session) {
        self.durable().forget(session);
    }
}
