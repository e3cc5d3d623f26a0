//! Rings in which every message is a `T`.

use super::{
    receiver::Receiver,
    sender::{Sender, SenderKind, Single},
    trust::{Trust, Trusted, Untrusted},
};
use crate::{
    error::{OpenError, RecvError, SendError},
    header::mismatch,
};
use core::{fmt, marker::PhantomData};
use std::time::Duration;
use zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// A sender of values of type `T`. From [`Sender::typed`].
pub struct TypedSender<T, P: Trust = Untrusted, K: SenderKind = Single> {
    sender: Sender<P, K>,
    item: PhantomData<fn(T)>,
}

impl<P: Trust, K: SenderKind> Sender<P, K> {
    /// Sends nothing but values of type `T` from now on. The ring must have been made for them
    /// ([`Builder::fixed`](crate::Builder::fixed)).
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] when the ring's messages have another size.
    pub fn typed<T: IntoBytes + Immutable>(self) -> Result<TypedSender<T, P, K>, OpenError> {
        check::<T>(self.inner().item_size())?;
        Ok(TypedSender { sender: self, item: PhantomData })
    }
}

fn check<T>(found: Option<usize>) -> Result<(), OpenError> {
    match found {
        Some(size) if size == size_of::<T>() => Ok(()),
        Some(size) => Err(mismatch("bytes of each message", size, size_of::<T>())),
        None => Err(mismatch("type of message", "any bytes", std::any::type_name::<T>())),
    }
}

impl<T: IntoBytes + Immutable, P: Trust, K: SenderKind> TypedSender<T, P, K> {
    /// Sends a copy of `value`; waits while the ring is full.
    ///
    /// # Errors
    /// As for [`Sender::send`]; never [`SendError::TooLong`].
    #[inline]
    pub fn send(&mut self, value: &T) -> Result<(), SendError> {
        self.sender.send(value.as_bytes())
    }

    /// Sends a copy of `value` if there is room now. Never blocks.
    ///
    /// # Errors
    /// As for [`Sender::try_send`]; never [`SendError::TooLong`].
    #[inline]
    pub fn try_send(&mut self, value: &T) -> Result<(), SendError> {
        self.sender.try_send(value.as_bytes())
    }

    /// Sends a copy of `value`; waits at most `timeout` while the ring is full.
    ///
    /// # Errors
    /// As for [`Sender::send_timeout`]; never [`SendError::TooLong`].
    pub fn send_timeout(&mut self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.sender.send_timeout(value.as_bytes(), timeout)
    }
}

impl<T, P: Trust, K: SenderKind> fmt::Debug for TypedSender<T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSender").field(&self.sender).finish()
    }
}

/// A receiver of values of type `T`. From [`Receiver::typed`].
pub struct TypedReceiver<T, P: Trust = Untrusted> {
    receiver: Receiver<P>,
    item: PhantomData<fn() -> T>,
}

impl<P: Trust> Receiver<P> {
    /// Receives nothing but values of type `T` from now on. The ring must have been made for them
    /// ([`Builder::fixed`](crate::Builder::fixed)).
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] when the ring's messages have another size.
    pub fn typed<T: TryFromBytes>(self) -> Result<TypedReceiver<T, P>, OpenError> {
        check::<T>(self.inner().item_size())?;
        Ok(TypedReceiver { receiver: self, item: PhantomData })
    }
}

impl<T: TryFromBytes, P: Trust> TypedReceiver<T, P> {
    /// The next value; waits while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::NotAValue`] when the bytes are no `T` (the message is released then); and those of
    /// [`Receiver::recv`].
    pub fn recv(&mut self) -> Result<T, RecvError> {
        let message = self.receiver.recv()?;
        value(&message.to_vec())
    }

    /// The next value if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](TypedReceiver::recv).
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        let message = self.receiver.try_recv()?;
        value(&message.to_vec())
    }

    /// The next value; waits at most `timeout` while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](TypedReceiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        let message = self.receiver.recv_timeout(timeout)?;
        value(&message.to_vec())
    }
}

impl<T: TryFromBytes + KnownLayout + Immutable> TypedReceiver<T, Trusted> {
    /// Gives the next value to `read`, in place, and releases it; waits while the ring is empty.
    ///
    /// # Errors
    /// As for [`recv`](TypedReceiver::recv).
    pub fn recv_with<R>(&mut self, read: impl FnOnce(&T) -> R) -> Result<R, RecvError> {
        let message = self.receiver.recv()?;
        T::try_ref_from_bytes(&message).map(read).map_err(|_| RecvError::NotAValue)
    }
}

fn value<T: TryFromBytes>(bytes: &[u8]) -> Result<T, RecvError> {
    T::try_read_from_bytes(bytes).map_err(|_| RecvError::NotAValue)
}

impl<T, P: Trust> fmt::Debug for TypedReceiver<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReceiver").field(&self.receiver).finish()
    }
}
