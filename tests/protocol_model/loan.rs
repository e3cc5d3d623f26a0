//! The loan of the tail (docs/PROTOCOL.md, "The loan of the tail"): how a sender borrows it, reserves without a CAS, and
//! how another one calls it back.

use super::many::{Many, Mutant, State, Tail, writable};
use super::search::Steps;
use super::sender::Sending;
use super::words::CAPACITY;

/// What a slot says of the tail that was lent to it. `at`: since when, never the same again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Loan {
    Never,
    Lent {
        at: u8,
    },
    /// `known`, to the search only: the borrower's end at that moment, which counts whatever comes.
    Recalled {
        at: u8,
        known: u8,
    },
    Returned {
        end: u8,
    },
}

impl Many<'_> {
    pub fn borrower_steps(&self, sender: usize, state: &State, steps: &mut Steps<State>) {
        let me = state.senders[sender];
        let mine = usize::from(me.slot);
        let mut step = |what, next| steps.push(("sender", sender as u8, what), Ok(next));
        let to = |doing| {
            let mut next = *state;
            next.senders[sender].doing = doing;
            next
        };
        let end = |seen: Tail| seen.position.wrapping_add(self.op(sender, state).units());
        match me.doing {
            Sending::StoreLoan { seen } => {
                let mut next = to(Sending::Borrow { seen });
                next.loans[mine] = Loan::Lent { at: end(seen) };
                step("store loan", next);
            }
            Sending::Borrow { seen } if state.tail == seen => {
                let mut next = to(Sending::Write { seen, done: 0 });
                next.senders[sender].borrows = true;
                next.tail = Tail { position: end(seen), slot: me.slot, lent: true };
                let next = writable(state, end(seen).wrapping_sub(1)).map(|()| next);
                steps.push(("sender", sender as u8, "reserved, and borrowed"), next);
            }
            Sending::Borrow { .. } => {
                step("somebody was faster", to(Sending::LoadTail));
                self.give_up(sender, state, &mut step);
            }
            Sending::CheckOwnSpace { seen } => {
                if end(seen).wrapping_sub(state.position) <= CAPACITY {
                    let next = if self.has(Mutant::BorrowerStoresTheEndFirst) {
                        Sending::StoreOwnReach { seen }
                    } else {
                        Sending::StoreOwnIntent { seen }
                    };
                    step("space", to(next));
                } else {
                    self.give_up(sender, state, &mut step);
                    // Others may have it by now, and the receiver may have passed them.
                    if !matches!(state.loans[mine], Loan::Lent { .. })
                        && !self.has(Mutant::FullBorrowerDoesNotLook)
                    {
                        step("no space, called back", to(Sending::CheckLoan { seen, claimed: false }));
                    }
                }
            }
            Sending::StoreOwnIntent { seen } => {
                let mut next = to(if self.has(Mutant::BorrowerStoresTheEndFirst) {
                    Sending::CheckLoan { seen, claimed: true }
                } else {
                    Sending::StoreOwnReach { seen }
                });
                next.intents[mine].tail = seen;
                step("store own intent", next);
            }
            Sending::StoreOwnReach { seen } => {
                let mut next = to(if self.has(Mutant::BorrowerStoresTheEndFirst) {
                    Sending::StoreOwnIntent { seen }
                } else {
                    Sending::CheckLoan { seen, claimed: true }
                });
                next.intents[mine].reach = end(seen);
                step("store own reach", next);
            }
            Sending::CheckLoan { seen, claimed } => match state.loans[mine] {
                _ if self.has(Mutant::LoanIsNotChecked) => {
                    step("does not look", to(Sending::Write { seen, done: 0 }));
                }
                Loan::Lent { .. } => step("still lent", to(Sending::Write { seen, done: 0 })),
                loan => step("called back", to(Sending::Settle { seen, claimed, loan })),
            },
            Sending::Settle { seen, claimed, loan: Loan::Returned { end: returned } } => {
                let stands = claimed && (returned == end(seen) || self.has(Mutant::BorrowerBelievesItself));
                let mut next = to(if stands { Sending::Write { seen, done: 0 } } else { Sending::LoadTail });
                next.senders[sender].borrows = false;
                if state.tail.lent && state.tail.slot == me.slot {
                    next.tail = Tail::at(returned, me.slot);
                }
                step(if stands { "settled: stands" } else { "settled: lost" }, next);
            }
            Sending::Settle { seen, claimed, loan } => {
                let mut next = to(Sending::CheckLoan { seen, claimed });
                if state.loans[mine] == loan {
                    let end = if claimed { end(seen) } else { seen.position };
                    next.loans[mine] = Loan::Returned { end };
                }
                step("returns it", next);
            }
            _ => unreachable!("no step of a borrower"),
        }
    }

    pub fn recall_steps(&self, sender: usize, state: &State, steps: &mut Steps<State>) {
        let mut step = |what, next| steps.push(("sender", sender as u8, what), Ok(next));
        let to = |doing| {
            let mut next = *state;
            next.senders[sender].doing = doing;
            next
        };
        match state.senders[sender].doing {
            Sending::ReadLoan { lent } => {
                let next = match state.loans[usize::from(lent.slot)] {
                    // The tail that was seen is an old one.
                    Loan::Never => self.after_recall(sender, state),
                    Loan::Lent { at } | Loan::Recalled { at, .. } if at != lent.position => {
                        self.after_recall(sender, state)
                    }
                    Loan::Lent { at } if self.has(Mutant::EndBeforeRecall) => Sending::ReadEnd { lent, at },
                    Loan::Lent { at } => Sending::Recall { lent, at },
                    Loan::Recalled { at, .. } => Sending::ReadEnd { lent, at },
                    Loan::Returned { end } => Sending::Restore { lent, end },
                };
                step("read the loan", to(next));
            }
            Sending::Recall { lent, at } => {
                let mut next = to(Sending::ReadEnd { lent, at });
                let loan = &mut next.loans[usize::from(lent.slot)];
                if *loan == (Loan::Lent { at }) {
                    *loan = Loan::Recalled { at, known: state.intents[usize::from(lent.slot)].reach };
                    step("recall", next);
                } else {
                    step("recalled already", to(Sending::ReadLoan { lent }));
                }
            }
            Sending::ReadEnd { lent, at } => {
                let end = state.intents[usize::from(lent.slot)].reach;
                step("read its end", to(Sending::Return { lent, at, end }));
            }
            Sending::Return { lent, at, end } => {
                let mut next = to(Sending::ReadLoan { lent });
                let loan = &mut next.loans[usize::from(lent.slot)];
                let stands = matches!(*loan, Loan::Recalled { at: since, .. } if since == at)
                    || self.has(Mutant::EndBeforeRecall) && *loan == Loan::Lent { at }
                    || self.has(Mutant::ReturnedWithoutCas);
                if stands {
                    *loan = Loan::Returned { end };
                }
                step(if stands { "return" } else { "returned already" }, next);
            }
            Sending::Restore { lent, end } => {
                let mut next = to(self.after_recall(sender, state));
                if next.tail == lent {
                    next.tail = Tail::at(end, lent.slot);
                }
                step("restore the tail", next);
            }
            _ => unreachable!("no step of a recall"),
        }
    }
}
