//! A mailbox as one of many sources that are waited for.

use super::{Letter, Mailbox};
use crate::{
    channel::{
        select::Berth,
        trust::{Trust, Untrusted},
    },
    error::RecvError,
    ring::mailbox::{self, Pick},
    wait::Look,
};

/// A [`Mailbox`] that is waited for because of some of its messages.
#[derive(Debug)]
pub struct Picking<P: Trust = Untrusted> {
    /// The handle.
    pub mailbox: Mailbox<P>,
    pub(in crate::channel) pick: Pick,
}

impl<P: Trust> Picking<P> {
    /// The next message of those, if there is one now. Never blocks.
    ///
    /// # Errors
    /// As [`Mailbox::try_recv`].
    pub fn try_recv(&mut self) -> Result<Letter<P>, RecvError> {
        self.mailbox.try_recv(self.pick)
    }
}

impl<P: Trust> Mailbox<P> {
    /// Where this handle sleeps for what `pick` says.
    pub(in crate::channel) fn berth(&self, pick: Pick) -> Berth {
        let desk = &self.desk;
        Berth::at_mailbox(&desk.attachment, desk.generation, (desk.area.shape(), desk.seat), pick)
    }

    /// Whether the next look for what `pick` says gives something.
    pub(in crate::channel) fn is_ready(&mut self, pick: Pick, why: Look) -> bool {
        self.is_slept_for = true;
        if why != Look::Spinning {
            self.desk.hear();
        }
        let area = &self.desk.area;
        self.clerk.find(area, pick).is_some() || mailbox::is_closed(area) || !self.desk.is_ours()
    }

    /// Calls others for what this handle, which somebody has slept for, may have been called for and has not taken.
    pub(in crate::channel) fn pass_on(&mut self, pick: Pick) {
        if self.is_slept_for && self.desk.is_ours() {
            super::pass_on(&self.desk, &mut self.clerk);
            super::leave_in_vain(&self.desk, &mut self.clerk, pick);
        }
    }

    /// This handle, as a source of [`Select`](crate::Select), [`Dispatcher`](crate::Dispatcher) or
    /// [`Readiness`](crate::Readiness): of the messages that `pick` takes. The handle itself is one of [`Pick::Any`].
    pub fn picking(self, pick: Pick) -> Picking<P> {
        Picking { mailbox: self, pick }
    }
}
