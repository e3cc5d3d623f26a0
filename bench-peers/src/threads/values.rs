//! Channels that carry messages by value.

use std::{marker::PhantomData, mem::MaybeUninit, sync::Mutex};

use anyhow::{Context, Result, bail};
use ringpost_cli::bench::{
    link::{Figures, Link, Mechanism, Pair, RecvHalf, SendHalf, Setup},
    shape::{Measure, Wait},
    station::Bench,
};

use super::Rendezvous;

/// A channel.
pub trait Values: 'static {
    type Sender<T: Send + 'static>: Send;
    type Receiver<T: Send + 'static>: Send;

    fn pair<T: Send + 'static>() -> (Self::Sender<T>, Self::Receiver<T>);
    fn send<T: Send + 'static>(sender: &Self::Sender<T>, wait: Wait, value: T) -> Result<()>;
    fn recv<T: Send + 'static>(receiver: &Self::Receiver<T>, wait: Wait) -> Result<T>;
}

/// The mechanism of a channel.
pub fn make<V: Values>() -> Result<Box<dyn Mechanism>> {
    Ok(Box::new(Threads::<V>(Rendezvous::new()?, PhantomData)))
}

struct Threads<V>(Rendezvous, PhantomData<V>);

impl<V: Values> Threads<V> {
    fn of<const N: usize>(
        &self,
        measure: Measure,
        setup: &Setup,
        bench: &mut Bench<'_>,
    ) -> Result<Option<Figures>> {
        let pair = || Ok(Pair { there: Channel::<V, N>::new(), back: Channel::<V, N>::new() });
        self.0.run(measure, setup, bench, pair)
    }
}

impl<V: Values> Mechanism for Threads<V> {
    fn refuses(&self, size: usize) -> Option<String> {
        match size {
            8 | 64 | 512 | 4096 => None,
            ..4096 => Some("values are compiled in for 8, 64, 512 and 4096 bytes only".into()),
            _ => Some("a value of this size lies on the heap, and the channel carries its address".into()),
        }
    }

    fn run(&self, measure: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        match setup.size {
            8 => self.of::<8>(measure, setup, bench),
            64 => self.of::<64>(measure, setup, bench),
            512 => self.of::<512>(measure, setup, bench),
            4096 => self.of::<4096>(measure, setup, bench),
            size => bail!("{size} bytes were refused"),
        }
    }
}

struct Channel<V: Values, const N: usize> {
    sender: Mutex<Option<V::Sender<[u8; N]>>>,
    receiver: Mutex<Option<V::Receiver<[u8; N]>>>,
}

impl<V: Values, const N: usize> Channel<V, N> {
    fn new() -> Self {
        let (sender, receiver) = V::pair();
        Self { sender: Mutex::new(Some(sender)), receiver: Mutex::new(Some(receiver)) }
    }
}

impl<V: Values, const N: usize> Link for Channel<V, N> {
    type Sender<'a> = Sending<V, N>;
    type Receiver<'a> = Receiving<V, N>;

    fn sender(&self, setup: &Setup) -> Result<Sending<V, N>> {
        let sender = self.sender.lock().unwrap().take().context("it has a sender")?;
        Ok(Sending { sender, wait: setup.wait })
    }

    fn receiver(&self, setup: &Setup) -> Result<Receiving<V, N>> {
        let receiver = self.receiver.lock().unwrap().take().context("it has a receiver")?;
        Ok(Receiving { receiver, wait: setup.wait })
    }
}

struct Sending<V: Values, const N: usize> {
    sender: V::Sender<[u8; N]>,
    wait: Wait,
}

impl<V: Values, const N: usize> SendHalf for Sending<V, N> {
    #[inline]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut value = MaybeUninit::<[u8; N]>::uninit();
        // SAFETY: bytes, of which `fill` writes every one before they are read.
        fill(unsafe { &mut *value.as_mut_ptr() });
        // SAFETY: as above.
        V::send(&self.sender, self.wait, unsafe { value.assume_init() })
    }
}

struct Receiving<V: Values, const N: usize> {
    receiver: V::Receiver<[u8; N]>,
    wait: Wait,
}

impl<V: Values, const N: usize> RecvHalf for Receiving<V, N> {
    #[inline]
    fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        check(&V::recv(&self.receiver, self.wait)?)
    }
}
