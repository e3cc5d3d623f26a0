//! What can be waited for.

use super::{
    super::{
        futures::Receiving,
        mailbox::{Letter, Mailbox, Picking},
        message::{Delivery, Message},
        patience::Patience,
        receiver::Receiver,
        subscriber::Subscriber,
        trust::Trust,
    },
    berth::{Berth, Flag},
};
use crate::{
    error::RecvError,
    ring::{mailbox::Pick, receive::Record, record::Info},
    wait::Look,
};
use std::sync::Arc;

mod sealed {
    use super::{Berth, Look, RecvError};

    /// How a source is waited for.
    pub trait Wait: Send {
        /// What it sleeps by.
        fn berth(&self) -> Berth;

        /// Whether the next look at it, without waiting, gives something. Takes nothing and tells nobody.
        fn is_ready(&mut self, why: Look) -> bool;

        /// Nobody sleeps for it any more, who perhaps was called and took nothing: others are called in its stead.
        fn leave(&mut self) {}
    }

    /// Only this crate has one. Without it, whoever has a source of any type could call what is sealed here, and give later, or twice,
    /// what it has found: a message of other bytes.
    ///
    /// ```compile_fail,E0061
    /// fn found<S: ringpost::Source>(source: &mut S) -> S::Found {
    ///     source.find().unwrap()
    /// }
    /// ```
    #[derive(Clone, Copy, Debug)]
    pub struct Insider(pub(in crate::channel) ());

    /// A source, apart from the borrow that what it gives has of it.
    pub trait Find: Wait {
        /// What is to be given.
        type Found;

        /// What there is now, or `Empty`. To be given at once, and once.
        fn find(&mut self, by: Insider) -> Result<Self::Found, RecvError>;
    }
}

pub(in crate::channel) use sealed::{Find, Insider, Wait};

/// What [`Select`](super::Select), [`Dispatcher`](super::Dispatcher) and [`Readiness`](super::Readiness) wait for:
/// [`Receiver`], [`Subscriber`], [`Mailbox`], and a mailbox for [some of its messages](Mailbox::picking).
pub trait Source: Find + 'static {
    /// What it gives.
    type Given<'a>;

    /// The next one if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`]; [`RecvError::Damaged`], behind which it goes on; any other is its end.
    fn try_next(&mut self) -> Result<Self::Given<'_>, RecvError> {
        let found = self.find(Insider(()))?;
        Ok(self.give(found))
    }

    /// The next one, as a future of whatever runtime; see [`Receiving`].
    fn received(&mut self) -> Receiving<'_, Self>
    where
        Self: Sized,
    {
        Receiving::new(self)
    }

    /// Gives what was found just now.
    #[doc(hidden)]
    fn give(&mut self, found: Self::Found) -> Self::Given<'_>;
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

    #[inline]
    fn give(&mut self, found: Info) -> Message<'_, P> {
        Message::new(self, found)
    }
}

impl<P: Trust> Find for Receiver<P> {
    // One word, which travels in a register.
    type Found = Info;

    #[inline]
    fn find(&mut self, _: Insider) -> Result<Info, RecvError> {
        self.next(&Patience::None).map(|record| record.info)
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

    fn give(&mut self, found: Record) -> Delivery<'_, P> {
        Delivery::new(self, found)
    }
}

impl<P: Trust> Find for Subscriber<P> {
    type Found = Record;

    fn find(&mut self, _: Insider) -> Result<Record, RecvError> {
        self.next(Patience::None)
    }
}

impl<P: Trust> Wait for Mailbox<P> {
    fn berth(&self) -> Berth {
        self.berth(Pick::Any)
    }

    fn is_ready(&mut self, why: Look) -> bool {
        self.is_ready(Pick::Any, why)
    }

    fn leave(&mut self) {
        self.pass_on(Pick::Any);
    }
}

impl<P: Trust> Source for Mailbox<P> {
    type Given<'a> = Letter<P>;

    fn give(&mut self, found: Letter<P>) -> Letter<P> {
        found
    }
}

impl<P: Trust> Find for Mailbox<P> {
    type Found = Letter<P>;

    fn find(&mut self, _: Insider) -> Result<Letter<P>, RecvError> {
        self.try_recv(Pick::Any)
    }
}

impl<P: Trust> Wait for Picking<P> {
    fn berth(&self) -> Berth {
        self.mailbox.berth(self.pick)
    }

    fn is_ready(&mut self, why: Look) -> bool {
        self.mailbox.is_ready(self.pick, why)
    }

    fn leave(&mut self) {
        self.mailbox.pass_on(self.pick);
    }
}

impl<P: Trust> Source for Picking<P> {
    type Given<'a> = Letter<P>;

    fn give(&mut self, found: Letter<P>) -> Letter<P> {
        found
    }
}

impl<P: Trust> Find for Picking<P> {
    type Found = Letter<P>;

    fn find(&mut self, _: Insider) -> Result<Letter<P>, RecvError> {
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

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::channel::builder;
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Poll, Waker},
        thread,
        time::Duration,
    };

    /// A mailbox to which a message of kind 1 comes right after a look that finds nothing, and one of kind 2 behind each that is taken.
    struct Beset {
        mailbox: Mailbox,
        sender: Mailbox,
    }

    impl Wait for Beset {
        fn berth(&self) -> Berth {
            self.mailbox.berth(Pick::Any)
        }

        fn is_ready(&mut self, why: Look) -> bool {
            self.mailbox.is_ready(Pick::Any, why)
        }
    }

    impl Find for Beset {
        type Found = Letter;

        fn find(&mut self, by: Insider) -> Result<Letter, RecvError> {
            let found = self.mailbox.find(by);
            self.sender.send(1 + u16::from(found.is_ok()), b"").unwrap();
            found
        }
    }

    impl Source for Beset {
        type Given<'a> = Letter;

        fn give(&mut self, found: Letter) -> Letter {
            found
        }
    }

    #[test]
    fn a_future_that_has_its_message_is_not_called_for_what_comes_behind_it() {
        let ring = builder::unnamed().mailbox(4).memfd().unwrap();
        // Who sends calls the one behind its own seat first.
        let [sender, mailbox, mut other] = [(); 3].map(|()| ring.mailbox().unwrap());
        let mut beset = Beset { mailbox, sender };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || tell.send(other.recv(Pick::Kind(2)).is_ok()));
        while ring.statistics().readers.iter().all(|seat| seat.sleeps == 0) {
            thread::yield_now();
        }
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(letter)) = Pin::new(&mut beset.received()).poll(&mut context) else {
            panic!("there is a message");
        };
        assert_eq!(letter.kind(), 1);
        assert_eq!(told.recv_timeout(Duration::from_secs(20)), Ok(true));
    }
}
