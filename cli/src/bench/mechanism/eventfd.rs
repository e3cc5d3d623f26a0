//! Slots in shared memory, counted by two event descriptors: the classical way to add a wake-up to shared memory.
//!
//! A read takes the whole count at once, so a side that lags behind makes one system call for many messages.

use std::hint::spin_loop;
use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::{read, write};

use super::descriptor::set_waiting;
use super::slots::{Cut, Slots};
use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::shape::Wait;

/// A buffer in each direction.
pub fn eventfd_shm() -> Result<Box<dyn Mechanism>> {
    let counter = || {
        let counter =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC).context("cannot make an event descriptor")?;
        anyhow::Ok(Counter(counter.into()))
    };
    let link = || anyhow::Ok(EventLink { slots: Slots::new()?, full: counter()?, empty: counter()? });
    Ok(Box::new(Pair { there: link()?, back: link()? }))
}

struct Counter(OwnedFd);

impl Counter {
    /// Takes everything that was counted, at least one.
    #[inline]
    fn take(&self) -> Result<usize> {
        let mut count = [0; 8];
        loop {
            match read(&self.0, &mut count) {
                Ok(_) => break,
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot read an event descriptor"),
            }
        }
        // ORDERING: Acquire, pairs with Release in `give`: a slot is used only after the other side is done with it.
        // The kernel's own lock orders the same; the fence says it to the compiler too.
        fence(Ordering::Acquire);
        Ok(u64::from_ne_bytes(count) as usize)
    }

    #[inline]
    fn give(&self, count: usize) -> Result<()> {
        // ORDERING: Release, pairs with Acquire in `take`.
        fence(Ordering::Release);
        while let Err(error) = write(&self.0, &(count as u64).to_ne_bytes()) {
            ensure!(error == Errno::EINTR, "cannot write an event descriptor: {error}");
        }
        Ok(())
    }

    /// Sets the count; nobody may be using it.
    fn start(&self, count: usize) -> Result<()> {
        set_waiting(&self.0, Wait::Spin)?;
        let _ = read(&self.0, &mut [0; 8]);
        if count > 0 { self.give(count) } else { Ok(()) }
    }
}

struct EventLink {
    slots: Slots,
    full: Counter,
    empty: Counter,
}

impl EventLink {
    fn half(&self, setup: &Setup) -> Result<Half<'_>> {
        set_waiting(&self.full.0, setup.wait)?;
        set_waiting(&self.empty.0, setup.wait)?;
        Ok(Half { link: self, cut: Slots::cut(setup.size), turn: 0, credit: 0, used: 0 })
    }
}

impl Link for EventLink {
    type Sender<'a> = Half<'a>;
    type Receiver<'a> = Half<'a>;

    fn reset(&self, setup: &Setup) -> Result<()> {
        self.empty.start(Slots::cut(setup.size).count)?;
        self.full.start(0)
    }

    fn sender(&self, setup: &Setup) -> Result<Half<'_>> {
        self.half(setup)
    }

    fn receiver(&self, setup: &Setup) -> Result<Half<'_>> {
        self.half(setup)
    }
}

struct Half<'a> {
    link: &'a EventLink,
    cut: Cut,
    turn: usize,
    /// Slots that the other side has given and that are not used yet.
    credit: usize,
    /// Slots that are used and not given back yet (receiver only).
    used: usize,
}

impl SendHalf for Half<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        if self.credit == 0 {
            self.credit = self.link.empty.take()?;
        }
        // SAFETY: `empty` has counted this slot as the sender's until it counts it in `full`.
        fill(unsafe { self.link.slots.slot(self.cut, self.turn, size) });
        self.turn += 1;
        self.credit -= 1;
        self.link.full.give(1)
    }
}

impl RecvHalf for Half<'_> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        // What is neither used here nor on its way is the sender's: it never waits before this gives half back.
        if self.used * 2 >= self.cut.count {
            self.link.empty.give(self.used)?;
            self.used = 0;
        }
        if self.credit == 0 {
            self.credit = self.link.full.take()?;
        }
        // SAFETY: `full` has counted this slot as the receiver's until it counts it in `empty`.
        check(unsafe { self.link.slots.slot(self.cut, self.turn, size) })?;
        self.turn += 1;
        self.credit -= 1;
        self.used += 1;
        Ok(())
    }
}
