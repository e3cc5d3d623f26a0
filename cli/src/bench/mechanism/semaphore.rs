//! Shared memory with process-shared semaphores: the lecture's producer and consumer.
//!
//! `empty` counts the slots that the producer may fill, `full` those that the consumer may take. With one of each no
//! mutex is needed. Slots are written and read in place.

use std::cell::UnsafeCell;
use std::hint::spin_loop;

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::slots::{Cut, Slots};
use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::memory::{Line, Shareable, Shared};
use crate::bench::shape::Wait;

/// A bounded buffer in each direction.
pub fn sem_shm() -> Result<Box<dyn Mechanism>> {
    let link = || anyhow::Ok(BufferLink { slots: Slots::new()?, semaphores: Shared::zeroed()? });
    Ok(Box::new(Pair { there: link()?, back: link()? }))
}

struct Semaphore(Line<UnsafeCell<libc::sem_t>>);

impl Semaphore {
    /// Starts the semaphore at `value`; nobody may be waiting for it.
    fn start(&self, value: usize) -> Result<()> {
        // SAFETY: the memory is a `sem_t` that both processes map; nobody uses it during a reset.
        let done = unsafe { libc::sem_init(self.0.0.get(), 1, value as u32) };
        Errno::result(done).context("cannot start a semaphore (sem_init)").map(|_| ())
    }

    #[inline]
    fn wait(&self, wait: Wait) -> Result<()> {
        loop {
            let taken = match wait {
                // SAFETY: the semaphore was started by `reset`, before any half existed.
                Wait::Sleep => unsafe { libc::sem_wait(self.0.0.get()) },
                // SAFETY: as above.
                Wait::Spin => unsafe { libc::sem_trywait(self.0.0.get()) },
            };
            match Errno::result(taken) {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => spin_loop(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for a semaphore"),
            }
        }
    }

    #[inline]
    fn post(&self) -> Result<()> {
        // SAFETY: the semaphore was started by `reset`, before any half existed.
        let done = unsafe { libc::sem_post(self.0.0.get()) };
        Errno::result(done).context("cannot post a semaphore").map(|_| ())
    }
}

#[repr(C)]
struct Semaphores {
    empty: Semaphore,
    full: Semaphore,
}

// SAFETY: both lie in `UnsafeCell`s, a `sem_t` is plain bytes, and it is only used through the C library.
unsafe impl Shareable for Semaphores {}

struct BufferLink {
    slots: Slots,
    semaphores: Shared<Semaphores>,
}

impl BufferLink {
    fn half(&self, setup: &Setup) -> Half<'_> {
        Half { link: self, cut: Slots::cut(setup.size), wait: setup.wait, turn: 0 }
    }
}

impl Link for BufferLink {
    type Sender<'a> = Half<'a>;
    type Receiver<'a> = Half<'a>;

    fn reset(&self, setup: &Setup) -> Result<()> {
        self.semaphores.empty.start(Slots::cut(setup.size).count)?;
        self.semaphores.full.start(0)
    }

    fn sender(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(self.half(setup))
    }

    fn receiver(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(self.half(setup))
    }
}

struct Half<'a> {
    link: &'a BufferLink,
    cut: Cut,
    wait: Wait,
    turn: usize,
}

impl SendHalf for Half<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        self.link.semaphores.empty.wait(self.wait)?;
        // SAFETY: `empty` has counted this slot as the producer's until it posts `full`.
        fill(unsafe { self.link.slots.slot(self.cut, self.turn, size) });
        self.turn += 1;
        self.link.semaphores.full.post()
    }
}

impl RecvHalf for Half<'_> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        self.link.semaphores.full.wait(self.wait)?;
        // SAFETY: `full` has counted this slot as the consumer's until it posts `empty`.
        check(unsafe { self.link.slots.slot(self.cut, self.turn, size) })?;
        self.turn += 1;
        self.link.semaphores.empty.post()
    }
}
