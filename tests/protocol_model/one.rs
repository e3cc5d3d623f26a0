//! The ring with one sender at a time: no shared tail; a successor finds it by walking the valid tags
//! (docs/PROTOCOL.md, "One sender").

use super::search::{Broken, Model, Steps};
use super::words::{BIRTH, CAPACITY, Id, Memory, Op, Reservation, Scribe, Stores, Tag};
use super::words::{hand_over, nothing_missing, reached};

pub const SENDERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mutant {
    /// Tags that a dead sender left behind the tail stay: the first version of the protocol.
    TagsBehindTailStay,
    TagBeforePayload,
    HeadersFirstToLast,
    SuccessorWithoutProof,
    TailIsThePosition,
    NoSpaceCheck,
    ReleaseBeforeDelivery,
}

/// The senders come one after the other: each waits for the proof that its predecessor is gone.
#[derive(Clone, Copy)]
pub struct One<'a> {
    pub senders: &'a [&'a [Op]],
    pub sender_kills: u8,
    pub receiver_kills: u8,
    pub mutants: &'a [Mutant],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct State {
    memory: Memory,
    position: u8,
    senders: [Sender; SENDERS],
    receiver: Receiving,
    /// The receiver has delivered nothing yet.
    fresh: bool,
    sender_kills: u8,
    receiver_kills: u8,
    /// Known to the search only: the end of what is committed, and what was delivered.
    committed: u8,
    delivered: [u8; SENDERS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Sender {
    op: u8,
    /// Private: lost with the process.
    tail: u8,
    doing: Sending,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Sending {
    /// For the proof that the predecessor is closed or dead.
    Wait,
    ReadPosition,
    /// Walks valid tags; the first that is not valid is the tail.
    Walk {
        position: u8,
    },
    /// Erases each tag that a dead sender left between the tail and the end of its reservation.
    Erase {
        at: u8,
        end: u8,
    },
    Reserve,
    Write {
        done: u8,
    },
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Receiving {
    Look,
    Deliver,
    Release,
    HandOn { id: Id },
    Pass,
}

impl One<'_> {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutants.contains(&mutant)
    }

    fn op(&self, sender: usize, state: &State) -> Op {
        self.senders[sender][usize::from(state.senders[sender].op)]
    }

    /// What is written: a truncated record just ends earlier, a discarded one never gets its tag.
    fn stores(&self, sender: usize, state: &State) -> (Stores, u8) {
        let scribe = Scribe {
            headers_first_to_last: self.has(Mutant::HeadersFirstToLast),
            tag_before_payload: self.has(Mutant::TagBeforePayload),
            ..Scribe::default()
        };
        let Sender { op: number, tail: at, .. } = state.senders[sender];
        let written = match self.op(sender, state) {
            Op::Truncate { kept: words, .. } | Op::Discard(words) => Op::Send(words),
            op => op,
        };
        let reservation = Reservation { op: written, at, slot: 0, previous: 0, sender: sender as u8, number };
        match self.op(sender, state) {
            Op::Discard(_) => (reservation.stores(Scribe::default()).uncommitted(), 0),
            _ => (reservation.stores(scribe), written.units()),
        }
    }

    fn sender_step(&self, sender: usize, state: &State) -> Option<(&'static str, Result<State, Broken>)> {
        let mut next = *state;
        let me = &mut next.senders[sender];
        let what = match me.doing {
            Sending::Wait => {
                let alive = sender > 0 && state.senders[sender - 1].doing != Sending::Gone;
                if alive && !self.has(Mutant::SuccessorWithoutProof) {
                    return None;
                }
                me.doing = Sending::ReadPosition;
                "predecessor is gone"
            }
            Sending::ReadPosition => {
                me.tail = state.position;
                me.doing = Sending::Walk { position: state.position };
                "read position"
            }
            Sending::Walk { position } => {
                let units = match state.memory.tag(me.tail) {
                    _ if self.has(Mutant::TailIsThePosition) => 0,
                    None => 0,
                    Some(Tag::Filler) => 1,
                    Some(_) => match state.memory.info(me.tail) {
                        Ok(info) => info.units,
                        Err(broken) => return Some(("walk", Err(broken))),
                    },
                };
                me.tail = me.tail.wrapping_add(units);
                if units == 0 {
                    let end = position.wrapping_add(CAPACITY);
                    me.doing = if self.has(Mutant::TagsBehindTailStay) || me.tail == end {
                        Sending::Reserve
                    } else {
                        Sending::Erase { at: me.tail, end }
                    };
                }
                "walk"
            }
            Sending::Erase { at, end } => {
                let after = at.wrapping_add(1);
                me.doing = if after == end { Sending::Reserve } else { Sending::Erase { at: after, end } };
                if state.memory.tag(at).is_some() {
                    next.memory.erase(at);
                }
                "erase"
            }
            Sending::Reserve => {
                let end = me.tail.wrapping_add(self.op(sender, state).units());
                if end.wrapping_sub(state.position) > CAPACITY && !self.has(Mutant::NoSpaceCheck) {
                    return None;
                }
                me.doing = Sending::Write { done: 0 };
                "space"
            }
            Sending::Write { done } => {
                let (stores, units) = self.stores(sender, state);
                let (position, word) = stores.get(done);
                if position.wrapping_sub(state.position) >= CAPACITY {
                    return Some(("store", Err("a sender writes over memory that is not its own")));
                }
                me.doing = Sending::Write { done: done + 1 };
                if done + 1 == stores.count {
                    me.op += 1;
                    me.tail = me.tail.wrapping_add(units);
                    let done = usize::from(me.op) == self.senders[sender].len();
                    me.doing = if done { Sending::Gone } else { Sending::Reserve };
                    next.committed = me.tail;
                }
                next.memory.store(position, word);
                "store a word"
            }
            Sending::Gone => return None,
        };
        Some((what, Ok(next)))
    }

    fn message(&self, state: &State) -> Result<(Id, u8), Broken> {
        let info = state.memory.info(state.position)?;
        let Id { sender, op, record } = info.id;
        if state.senders[usize::from(sender)].op <= op {
            return Err("a message is delivered that is not committed, or a batch before it is whole");
        }
        let sent = self.senders[usize::from(sender)][usize::from(op)];
        if sent.messages().nth(usize::from(record)) != Some(info.units)
            || !state.memory.payload_is(state.position, info.id, info.units)
        {
            return Err("a message is torn");
        }
        Ok((info.id, info.units))
    }

    fn receive(&self, state: &State) -> Result<State, Broken> {
        let mut next = *state;
        match state.receiver {
            Receiving::Look => match state.memory.tag(state.position) {
                None => {}
                Some(Tag::Committed) if self.has(Mutant::ReleaseBeforeDelivery) => {
                    next.receiver = Receiving::Release;
                }
                Some(Tag::Committed) => next.receiver = Receiving::Deliver,
                Some(_) => next.receiver = Receiving::Pass,
            },
            Receiving::Deliver => {
                let (id, _) = self.message(state)?;
                hand_over(&mut next.delivered[usize::from(id.sender)], id, state.fresh)?;
                next.fresh = false;
                next.receiver = Receiving::Release;
            }
            Receiving::Release => {
                let (id, units) = self.message(state)?;
                next.position = state.position.wrapping_add(units);
                let early = self.has(Mutant::ReleaseBeforeDelivery);
                next.receiver = if early { Receiving::HandOn { id } } else { Receiving::Look };
            }
            Receiving::HandOn { id } => {
                next.delivered[usize::from(id.sender)] |= 1 << id.bit();
                next.receiver = Receiving::Look;
            }
            Receiving::Pass => {
                let filler = state.memory.tag(state.position) == Some(Tag::Filler);
                let units = if filler { 1 } else { state.memory.info(state.position)?.units };
                next.position = state.position.wrapping_add(units);
                next.receiver = Receiving::Look;
            }
        }
        if !reached(next.committed, next.position) {
            return Err("the position goes beyond the tail");
        }
        Ok(next)
    }
}

impl Model for One<'_> {
    type State = State;

    fn initial(&self) -> State {
        State {
            memory: Memory::default(),
            position: BIRTH,
            senders: [Sender { op: 0, tail: 0, doing: Sending::Wait }; SENDERS],
            receiver: Receiving::Look,
            fresh: true,
            sender_kills: self.sender_kills,
            receiver_kills: self.receiver_kills,
            committed: BIRTH,
            delivered: [0; SENDERS],
        }
    }

    fn steps(&self, state: &State, steps: &mut Steps<State>) {
        for sender in 0..self.senders.len() {
            let number = sender as u8;
            if let Some((what, next)) = self.sender_step(sender, state) {
                steps.push(("sender", number, what), next);
            }
            let doing = state.senders[sender].doing;
            if state.sender_kills > 0 && !matches!(doing, Sending::Wait | Sending::Gone) {
                let mut next = *state;
                next.sender_kills -= 1;
                next.senders[sender].doing = Sending::Gone;
                next.senders[sender].tail = 0;
                steps.fault(("sender", number, "KILLED"), Ok(next));
            }
        }
        let received = self.receive(state);
        if received != Ok(*state) {
            let what = match state.receiver {
                Receiving::Look => "look",
                Receiving::Deliver => "deliver",
                Receiving::Release => "release",
                Receiving::HandOn { .. } => "hand on",
                Receiving::Pass => "pass",
            };
            steps.push(("receiver", 0, what), received);
        }
        if state.receiver_kills > 0 && state.receiver != Receiving::Look {
            let mut next = *state;
            next.receiver_kills -= 1;
            next.receiver = Receiving::Look;
            next.fresh = true;
            steps.fault(("receiver", 0, "KILLED, another begins"), Ok(next));
        }
    }

    fn ended(&self, state: &State) -> Result<bool, Broken> {
        let gone = |sender: &Sender| sender.doing == Sending::Gone;
        let finished = state.senders[..self.senders.len()].iter().all(gone);
        if !finished || state.receiver != Receiving::Look || state.position != state.committed {
            return Ok(false);
        }
        for (sender, ops) in self.senders.iter().enumerate() {
            let done = usize::from(state.senders[sender].op);
            nothing_missing(&ops[..done], 0, state.delivered[sender])?;
        }
        Ok(true)
    }
}
