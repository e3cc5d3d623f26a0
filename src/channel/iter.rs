//! Copies of messages, one by one.

use super::{
    message::OwnedMessage,
    patience::Patience,
    receiver::Receiver,
    trust::{Trust, Untrusted},
};

/// Copies of the messages until the end. From [`Receiver::iter`].
#[derive(Debug)]
pub struct Iter<'a, P: Trust = Untrusted> {
    pub(super) receiver: &'a mut Receiver<P>,
}

impl<P: Trust> Iterator for Iter<'_, P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(&Patience::Endless).ok()
    }
}

/// Copies of the messages that are there. From [`Receiver::try_iter`].
#[derive(Debug)]
pub struct TryIter<'a, P: Trust = Untrusted> {
    pub(super) receiver: &'a mut Receiver<P>,
}

impl<P: Trust> Iterator for TryIter<'_, P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(&Patience::None).ok()
    }
}

/// Copies of the messages until the end. From [`Receiver::into_iter`].
#[derive(Debug)]
pub struct IntoIter<P: Trust = Untrusted> {
    receiver: Receiver<P>,
}

impl<P: Trust> Iterator for IntoIter<P> {
    type Item = OwnedMessage;

    fn next(&mut self) -> Option<OwnedMessage> {
        self.receiver.owned(&Patience::Endless).ok()
    }
}

impl<P: Trust> IntoIterator for Receiver<P> {
    type Item = OwnedMessage;
    type IntoIter = IntoIter<P>;

    fn into_iter(self) -> IntoIter<P> {
        IntoIter { receiver: self }
    }
}

impl<'a, P: Trust> IntoIterator for &'a mut Receiver<P> {
    type Item = OwnedMessage;
    type IntoIter = Iter<'a, P>;

    fn into_iter(self) -> Iter<'a, P> {
        self.iter()
    }
}
