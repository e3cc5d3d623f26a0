//! What a receiver knows of a sender that died.

use crate::{
    error::RecvError,
    layout::{ReceiverArea, ToldWord},
    ring::claim::Owner,
    sync::Ordering::*,
};

/// A sender that died.
pub(super) struct Fallen {
    pub(super) slot: u8,
    pub(super) owner: Owner,
    /// Bytes that it left unfinished, as far as they were passed over.
    pub(super) unfinished: u64,
    pub(super) told: bool,
}

impl Fallen {
    /// Told already if an earlier receiver has done so.
    pub(super) fn new(slot: u8, owner: Owner, area: &ReceiverArea) -> Self {
        // ORDERING: Relaxed; written by receivers only, and this one has taken the place of those before.
        let told = Self::word(area, slot).load(Relaxed) == owner.mark();
        Self { slot, owner, unfinished: 0, told }
    }

    fn word(area: &ReceiverArea, slot: u8) -> &ToldWord {
        &area.told[usize::from(slot) - 1]
    }

    pub(super) fn leaves(&mut self, bytes: u64) {
        // A hostile process can make it any number.
        self.unfinished = self.unfinished.saturating_add(bytes);
    }

    pub(super) fn news(&self) -> RecvError {
        RecvError::PeerDied { pid: self.owner.pid(), unfinished: self.unfinished }
    }

    /// Names it, once.
    pub(super) fn tell(&mut self, area: &ReceiverArea) -> RecvError {
        self.told = true;
        // ORDERING: Relaxed; read by later receivers, whose claim comes after ours.
        Self::word(area, self.slot).store(self.owner.mark(), Relaxed);
        self.news()
    }
}
