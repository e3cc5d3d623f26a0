//! Shared memory with a futex by hand: one slot in each direction, and beside it a word that says whose turn it is.
//!
//! The two halves take turns, so nothing queues up. Who finds that it is not its turn says so in the word and sleeps
//! there; who passes the turn makes a system call only when somebody sleeps. The slot is written and read in place.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use super::slots::Slots;
use crate::bench::futex;
use crate::bench::link::{Link, Mechanism, Pair, RecvHalf, SendHalf, Setup};
use crate::bench::memory::{Line, Shareable, Shared};
use crate::bench::shape::Wait;

/// A slot in each direction.
pub fn futex_shm() -> Result<Box<dyn Mechanism>> {
    let link = || anyhow::Ok(SlotLink { slot: Slots::new()?, turn: Shared::zeroed()? });
    Ok(Box::new(Pair { there: link()?, back: link()? }))
}

/// The slot is the sender's.
const EMPTY: u32 = 0;
/// The slot is the receiver's.
const FULL: u32 = 1;
/// The one whose turn it is not sleeps, or is about to.
const ASLEEP: u32 = 2;

#[derive(Default)]
#[repr(C)]
struct Turn(Line<AtomicU32>);

// SAFETY: an atomic, valid when zero.
unsafe impl Shareable for Turn {}

impl Turn {
    /// Returns when the slot is `wanted`.
    #[inline]
    fn wait_for(&self, wanted: u32, wait: Wait) {
        let word = &self.0.0;
        loop {
            // ORDERING: Acquire, pairs with Release in `pass`: the slot is used only after the other side is done with it.
            let now = word.load(Ordering::Acquire);
            if now & FULL == wanted {
                return;
            }
            match wait {
                Wait::Spin => spin_loop(),
                Wait::Sleep => {
                    let asleep = now | ASLEEP;
                    // ORDERING: Relaxed, it tells nothing of the slot; `pass` swaps the same word, so it either comes
                    // later and sees the bit, or came before and this fails.
                    let said =
                        word.compare_exchange(now, asleep, Ordering::Relaxed, Ordering::Relaxed).is_ok();
                    if said {
                        futex::sleep(word, asleep);
                    }
                }
            }
        }
    }

    /// Makes the slot `now`, which it was not.
    #[inline]
    fn pass(&self, now: u32) {
        // ORDERING: Release, pairs with Acquire in `wait_for`.
        let before = self.0.0.swap(now, Ordering::Release);
        if before & ASLEEP != 0 {
            futex::wake(&self.0.0);
        }
    }
}

struct SlotLink {
    slot: Slots,
    turn: Shared<Turn>,
}

impl Link for SlotLink {
    type Sender<'a> = Half<'a>;
    type Receiver<'a> = Half<'a>;

    fn reset(&self, _setup: &Setup) -> Result<()> {
        // ORDERING: Relaxed; nobody uses it now, and the meeting that follows orders it.
        self.turn.0.0.store(EMPTY, Ordering::Relaxed);
        Ok(())
    }

    fn sender(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(Half { link: self, wait: setup.wait })
    }

    fn receiver(&self, setup: &Setup) -> Result<Half<'_>> {
        Ok(Half { link: self, wait: setup.wait })
    }
}

struct Half<'a> {
    link: &'a SlotLink,
    wait: Wait,
}

impl SendHalf for Half<'_> {
    #[inline]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        self.link.turn.wait_for(EMPTY, self.wait);
        // SAFETY: an empty slot is the sender's until it passes the turn.
        fill(unsafe { self.link.slot.slot(Slots::cut(size), 0, size) });
        self.link.turn.pass(FULL);
        Ok(())
    }
}

impl RecvHalf for Half<'_> {
    #[inline]
    fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        self.link.turn.wait_for(FULL, self.wait);
        // SAFETY: a full slot is the receiver's until it passes the turn.
        check(unsafe { self.link.slot.slot(Slots::cut(size), 0, size) })?;
        self.link.turn.pass(EMPTY);
        Ok(())
    }
}
