//! What can be waited for.

use super::{
    super::{
        message::{Delivery, Message},
        receiver::Receiver,
        subscriber::Subscriber,
        trust::Trust,
    },
    berth::{Berth, Flag},
};
use crate::{error::RecvError, wait::Look};
use std::sync::Arc;

mod sealed {
    use super::{Berth, Look};

    /// How a source is waited for.
    pub trait Wait: Send {
        /// What it sleeps by.
        fn berth(&self) -> Berth;

        /// Whether the next look at it, without waiting, gives something. Takes nothing and tells nobody.
        fn is_ready(&mut self, why: Look) -> bool;
    }
}

pub(super) use sealed::Wait;

/// What [`Select`](super::Select), [`Dispatcher`](super::Dispatcher) and [`Readiness`](super::Readiness) wait for:
/// [`Receiver`] and [`Subscriber`].
pub trait Source: Wait + 'static {
    /// What it gives.
    type Given<'a>;

    /// The next one if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; any other is its end.
    fn try_next(&mut self) -> Result<Self::Given<'_>, RecvError>;
}

impl<P: Trust> Wait for Receiver<P> {
    fn berth(&self) -> Berth {
        self.berth()
    }

    fn is_ready(&mut self, why: Look) -> bool {
        self.is_ready(why)
    }
}

impl<P: Trust> Source for Receiver<P> {
    type Given<'a> = Message<'a, P>;

    fn try_next(&mut self) -> Result<Message<'_, P>, RecvError> {
        self.try_recv()
    }
}

impl<P: Trust> Wait for Subscriber<P> {
    fn berth(&self) -> Berth {
        self.berth()
    }

    fn is_ready(&mut self, why: Look) -> bool {
        self.is_ready(why)
    }
}

impl<P: Trust> Source for Subscriber<P> {
    type Given<'a> = Delivery<'a, P>;

    fn try_next(&mut self) -> Result<Delivery<'_, P>, RecvError> {
        self.try_recv()
    }
}

impl Wait for Arc<Flag> {
    fn berth(&self) -> Berth {
        Berth::of_flag(self)
    }

    fn is_ready(&mut self, _: Look) -> bool {
        self.is_raised()
    }
}
