//! The ring, with one sender and with many: copying, in place, batched.
//!
//! A ring is made before the fork and handed on as a descriptor; each process opens it for itself, as unrelated
//! processes would. `spin` polls for ever, as the other mechanisms do in that series; sleeping stays supported, so every
//! publish and every release looks whether somebody sleeps. `sleep` goes to sleep at once.

use std::cell::OnceCell;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use anyhow::{Context, Result};
use ringpost::{Builder, Many, OpenError, Receiver, Ring, Sender, SenderKind, Single, Trusted, record_size};

use crate::bench::link::{Figures, Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::shape::{Measure, Variant, Wait};
use crate::bench::station::Bench;

/// Most messages that are published or received at once.
const BATCH: usize = 64;
/// And most bytes: with larger ones the receiver waits longer than publishing costs.
const BATCH_BYTES: usize = 32 << 10;
/// Slots of a ring for many senders, of which one is used here.
const SLOTS: u8 = 8;

/// The ring for one sender.
pub fn spsc() -> Result<Box<dyn Mechanism>> {
    Rings::<Single>::make()
}

/// The ring for many senders, with one.
pub fn mpsc() -> Result<Box<dyn Mechanism>> {
    Rings::<Many>::make()
}

/// For how many senders.
trait Kind: SenderKind {
    fn builder() -> Builder;
    fn attach(ring: &Ring<Trusted>) -> Result<Sender<Trusted, Self>, OpenError>
    where
        Self: Sized;
}

impl Kind for Single {
    fn builder() -> Builder {
        ringpost::unnamed()
    }

    fn attach(ring: &Ring<Trusted>) -> Result<Sender<Trusted, Self>, OpenError> {
        ring.sender()
    }
}

impl Kind for Many {
    fn builder() -> Builder {
        ringpost::unnamed().many_senders(SLOTS)
    }

    fn attach(ring: &Ring<Trusted>) -> Result<Sender<Trusted, Self>, OpenError> {
        ring.multi_sender()
    }
}

/// How messages get in and out; known at compile time, so that the loops hold no choice.
trait Style {
    const VARIANT: Variant;
}

struct Copying;
struct InPlace;
struct Batched;

impl Style for Copying {
    const VARIANT: Variant = Variant::Copy;
}
impl Style for InPlace {
    const VARIANT: Variant = Variant::InPlace;
}
impl Style for Batched {
    const VARIANT: Variant = Variant::Batch;
}

/// One ring in each direction, in all three styles.
struct Rings<K> {
    copying: Pair<RingLink<K, Copying>>,
    in_place: Pair<RingLink<K, InPlace>>,
    batched: Pair<RingLink<K, Batched>>,
}

impl<K: Kind> Rings<K> {
    fn make() -> Result<Box<dyn Mechanism>> {
        let (there, back) = (Home::new::<K>()?, Home::new::<K>()?);
        Ok(Box::new(Self {
            copying: pair(&there, &back),
            in_place: pair(&there, &back),
            batched: pair(&there, &back),
        }))
    }
}

fn pair<K: Kind, S: Style>(there: &Rc<Home>, back: &Rc<Home>) -> Pair<RingLink<K, S>> {
    let link = |home: &Rc<Home>| RingLink { home: Rc::clone(home), kind: PhantomData };
    Pair { there: link(there), back: link(back) }
}

impl<K: Kind> Mechanism for Rings<K> {
    fn run(&self, measure: Measure, setup: &Setup, bench: &mut Bench<'_>) -> Result<Option<Figures>> {
        match setup.variant {
            Variant::Copy => self.copying.run(measure, setup, bench),
            Variant::InPlace => self.in_place.run(measure, setup, bench),
            Variant::Batch => self.batched.run(measure, setup, bench),
        }
    }
}

/// A ring before it is opened, and as this process has opened it to wait in either way.
struct Home {
    descriptor: OwnedFd,
    spinning: OnceCell<Ring<Trusted>>,
    sleeping: OnceCell<Ring<Trusted>>,
}

impl Home {
    fn new<K: Kind>() -> Result<Rc<Self>> {
        let ring = K::builder().memfd().context("cannot make a ring")?;
        let descriptor = ring.inheritable_fd().context("cannot pass a ring on")?;
        Ok(Rc::new(Self { descriptor, spinning: OnceCell::new(), sleeping: OnceCell::new() }))
    }

    fn ring<K: Kind>(&self, wait: Wait) -> Result<&Ring<Trusted>> {
        let opened = match wait {
            Wait::Spin => &self.spinning,
            Wait::Sleep => &self.sleeping,
        };
        if let Some(ring) = opened.get() {
            return Ok(ring);
        }
        let descriptor = self.descriptor.try_clone().context("no descriptor is left")?;
        let ring = K::builder().wait(wait.into()).from_fd(descriptor).context("cannot open the ring")?;
        // SAFETY: the memfd has no name, and its only holders are forks of this program, which write to it through
        // ringpost alone.
        let ring = unsafe { ring.trust_peers() };
        Ok(opened.get_or_init(|| ring))
    }
}

struct RingLink<K, S> {
    home: Rc<Home>,
    kind: PhantomData<(K, S)>,
}

impl<K: Kind, S: Style> Link for RingLink<K, S> {
    type Sender<'a>
        = RingSender<K, S>
    where
        Self: 'a;
    type Receiver<'a>
        = RingReceiver<S>
    where
        Self: 'a;

    fn sender(&self, setup: &Setup) -> Result<RingSender<K, S>> {
        let sender = K::attach(self.home.ring::<K>(setup.wait)?).context("cannot attach as the sender")?;
        Ok(RingSender { sender, staging: vec![0; setup.size], style: PhantomData })
    }

    fn receiver(&self, setup: &Setup) -> Result<RingReceiver<S>> {
        let ring = self.home.ring::<K>(setup.wait)?;
        let receiver = ring.receiver().context("cannot attach as the receiver")?;
        Ok(RingReceiver { receiver, staging: vec![0; setup.size], style: PhantomData })
    }
}

struct RingSender<K: Kind, S> {
    sender: Sender<Trusted, K>,
    staging: Vec<u8>,
    style: PhantomData<S>,
}

/// Messages of a batch, each so long.
pub fn batch_of(size: usize) -> usize {
    (BATCH_BYTES / size.max(1)).clamp(1, BATCH)
}

impl<K: Kind, S: Style> SendHalf for RingSender<K, S> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if let Variant::Copy = S::VARIANT {
            fill(&mut self.staging[..size]);
            self.sender.send(&self.staging[..size])?;
        } else {
            let mut room = self.sender.reserve(size)?;
            fill(&mut room);
            room.commit();
        }
        Ok(())
    }

    #[inline]
    fn send_many(&mut self, count: u64, size: usize, mut fill: impl FnMut(&mut [u8])) -> Result<()> {
        let mut left = count;
        while left > 0 {
            let step = if let Variant::Batch = S::VARIANT { left.min(batch_of(size) as u64) } else { 1 };
            if step == 1 {
                self.send(size, &mut fill)?;
            } else {
                let mut batch = self.sender.batch(step as usize * record_size(size))?;
                for _ in 0..step {
                    batch.push_with(0, size, &mut fill)?;
                }
                batch.commit();
            }
            left -= step;
        }
        Ok(())
    }
}

struct RingReceiver<S> {
    receiver: Receiver<Trusted>,
    staging: Vec<u8>,
    style: PhantomData<S>,
}

impl<S: Style> RecvHalf for RingReceiver<S> {
    #[inline]
    fn recv(&mut self, _size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if let Variant::Copy = S::VARIANT {
            let length = self.receiver.recv_into(&mut self.staging)?;
            check(&self.staging[..length])
        } else {
            check(&self.receiver.recv()?)
        }
    }

    #[inline]
    fn recv_many(
        &mut self,
        count: u64,
        size: usize,
        mut check: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut left = count;
        while left > 0 {
            if let Variant::Batch = S::VARIANT {
                let messages = self.receiver.recv_many(left.min(batch_of(size) as u64) as usize)?;
                for message in messages.iter() {
                    check(&message)?;
                    left -= 1;
                }
            } else {
                self.recv(size, &mut check)?;
                left -= 1;
            }
        }
        Ok(())
    }
}
