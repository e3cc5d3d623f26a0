//! Rings in which every message is a `T`.

use super::{
    message::Message,
    receiver::Receiver,
    sender::{Sender, SenderKind, Single},
    trust::{Trust, Trusted, Untrusted},
};
use crate::{
    error::{OpenError, RecvError, SendError},
    header::{Item, mismatch},
};
use core::{fmt, marker::PhantomData};
use std::time::{Duration, Instant};
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
    /// [`OpenError::Mismatch`] when the ring's messages have another size or alignment, or their type another name.
    pub fn typed<T: IntoBytes + Immutable>(self) -> Result<TypedSender<T, P, K>, OpenError> {
        check::<T>(self.inner().header.item)?;
        Ok(TypedSender { sender: self, item: PhantomData })
    }
}

fn check<T>(found: Option<Item>) -> Result<(), OpenError> {
    let (asked, name) = (Item::of::<T>(), std::any::type_name::<T>());
    let Some(found) = found else { return Err(mismatch("type of message", "any bytes", name)) };
    if found.size != asked.size {
        return Err(mismatch("bytes of each message", found.size, asked.size));
    }
    if found.align != asked.align {
        return Err(mismatch("alignment of each message", found.align, asked.align));
    }
    if found.name != asked.name {
        return Err(mismatch("name of the type of message", "another one", name));
    }
    Ok(())
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

    /// Sends a copy of `value`; waits until `deadline` at most while the ring is full.
    ///
    /// # Errors
    /// As for [`Sender::send_deadline`]; never [`SendError::TooLong`].
    pub fn send_deadline(&mut self, value: &T, deadline: Instant) -> Result<(), SendError> {
        self.sender.send_deadline(value.as_bytes(), deadline)
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
    /// A copy of the message, of which no other process changes anything while it is checked.
    copy: Vec<u8>,
    item: PhantomData<fn() -> T>,
}

impl<P: Trust> Receiver<P> {
    /// Receives nothing but values of type `T` from now on. The ring must have been made for them
    /// ([`Builder::fixed`](crate::Builder::fixed)).
    ///
    /// # Errors
    /// [`OpenError::Mismatch`] when the ring's messages have another size or alignment, or their type another name.
    pub fn typed<T: TryFromBytes>(self) -> Result<TypedReceiver<T, P>, OpenError> {
        check::<T>(self.inner().header.item)?;
        Ok(TypedReceiver { receiver: self, copy: vec![0; size_of::<T>()], item: PhantomData })
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
        value(&message, &mut self.copy)
    }

    /// The next value if there is one now. Never blocks.
    ///
    /// # Errors
    /// [`RecvError::Empty`], and those of [`recv`](TypedReceiver::recv).
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        let message = self.receiver.try_recv()?;
        value(&message, &mut self.copy)
    }

    /// The next value; waits at most `timeout` while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](TypedReceiver::recv).
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        let message = self.receiver.recv_timeout(timeout)?;
        value(&message, &mut self.copy)
    }

    /// The next value; waits until `deadline` at most while the ring is empty.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](TypedReceiver::recv).
    pub fn recv_deadline(&mut self, deadline: Instant) -> Result<T, RecvError> {
        let message = self.receiver.recv_deadline(deadline)?;
        value(&message, &mut self.copy)
    }

    /// The values until the end; blocks while the ring is empty. Ends when `recv` would give an error:
    /// [`TypedReceiver::recv`] tells which, unless that was [`RecvError::NotAValue`] or [`RecvError::Damaged`], whose message is gone.
    pub fn iter(&mut self) -> impl Iterator<Item = T> + '_ {
        core::iter::from_fn(|| self.recv().ok())
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

fn value<T: TryFromBytes, P: Trust>(message: &Message<'_, P>, copy: &mut [u8]) -> Result<T, RecvError> {
    if message.len() != copy.len() {
        return Err(RecvError::NotAValue);
    }
    message.read_at(0, copy);
    T::try_read_from_bytes(copy).map_err(|_| RecvError::NotAValue)
}

impl<T, P: Trust> fmt::Debug for TypedReceiver<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedReceiver").field(&self.receiver).finish()
    }
}
