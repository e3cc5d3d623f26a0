//! What has become of a message of a mailbox: asked by a token of it, and by looking.

use super::{Mail, Mailbox};
use crate::{
    channel::trust::Trust,
    ring::mailbox::{Phase, Pick, State},
};

/// A message that was sent, to ask about with [`Mailbox::fate`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The instance of its mailbox.
    pub(super) mailbox: u64,
    pub(super) cell: u16,
    pub(super) state: State,
}

/// What has become of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fate {
    /// Nobody has taken it.
    Waiting,
    /// The process holds it.
    Held {
        /// 0 when its seat has been taken by another one since.
        pid: u32,
    },
    /// The process was done with it.
    Done {
        /// As above.
        pid: u32,
    },
    /// It was done with, and another message lies in its place: who it was is forgotten.
    Forgotten,
}

impl<P: Trust> Mailbox<P> {
    /// What has become of a message of this mailbox, and who took it. Never blocks.
    ///
    /// # Panics
    /// When the message is of another mailbox.
    #[track_caller]
    pub fn fate(&self, sent: &Sent) -> Fate {
        self.assert_own(sent);
        self.desk.hear();
        let state = self.desk.area.state(sent.cell);
        if !state.is_of_same(sent.state) {
            return Fate::Forgotten;
        }
        let pid = || self.desk.process_at(state.seat());
        match state.phase() {
            Phase::Ready => Fate::Waiting,
            Phase::Taken => Fate::Held { pid: pid() },
            Phase::Free => Fate::Done { pid: pid() },
            Phase::Filling => Fate::Forgotten,
        }
    }

    /// Copies of all messages that can be taken and that `pick` takes, in the order in which they would be; they stay. A
    /// message that is taken meanwhile is in it or not, never in part.
    pub fn browse(&mut self, pick: Pick) -> Vec<Mail> {
        self.desk.hear();
        let found = self.clerk.all(&self.desk.area, pick);
        found.into_iter().filter_map(|(cell, state)| Mail::read(&self.desk, cell, state)).collect()
    }

    /// Takes a message away, wherever it stands; false when somebody has taken it. With [`browse`](Mailbox::browse):
    /// messages that are read by many, until one deletes them.
    ///
    /// # Panics
    /// When the message is of another mailbox.
    #[track_caller]
    pub fn delete(&mut self, message: &Sent) -> bool {
        self.assert_own(message);
        self.desk.hear();
        self.desk.is_ours() && self.take_away(message)
    }

    #[track_caller]
    fn assert_own(&self, sent: &Sent) {
        assert!(
            sent.mailbox == self.desk.instance(),
            "the message is of another mailbox: ask the one that it was sent to"
        );
    }

    pub(super) fn take_away(&mut self, message: &Sent) -> bool {
        let held = self.clerk.take_same(&self.desk.area, message.cell, message.state);
        if let Some(held) = held {
            self.desk.free(held);
        }
        held.is_some()
    }
}
