//! Each ordering of the protocol is weakened once, and each load-bearing step left out once: a model must fail.
//!
//! The mutants are made in a copy of the sources under the temporary directory; the sources themselves are never touched.
//! It takes about half an hour, hence `#[ignore]`:
//!
//!     cargo test --package loom-tests --test mutations -- --ignored --nocapture

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

struct Mutation {
    /// Its label in `docs/ORDERING.md`, or what is left out.
    name: &'static str,
    /// From the root of the repository.
    file: &'static str,
    /// What stands there, once.
    from: &'static str,
    to: &'static str,
    /// The model that fails.
    model: &'static str,
}

const fn mutation(
    name: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
    model: &'static str,
) -> Mutation {
    Mutation { name, file, from, to, model }
}

const CLAIM: &str = "src/ring/claim.rs";
const MEMORY: &str = "src/ring/memory.rs";
const MPSC: &str = "src/ring/mpsc.rs";
const RECEIVE: &str = "src/ring/receive.rs";
const RECOVERY: &str = "src/ring/recovery.rs";
const RESERVE: &str = "src/ring/reserve.rs";
const SPSC: &str = "src/ring/spsc.rs";
const WAIT: &str = "src/wait.rs";
/// In place of `src/channel`, which is not part of the models.
const HARNESS: &str = "loom-tests/src/harness.rs";

#[rustfmt::skip]
const WEAKENED: &[Mutation] = &[
    mutation("P1", MEMORY, "store(record::tag(self.key, position, state), Release)", "store(record::tag(self.key, position, state), Relaxed)", "single::what_is_sent_is_received"),
    mutation("C1", MEMORY, "self.word(position).load(Acquire))", "self.word(position).load(Relaxed))", "single::what_is_sent_is_received"),
    mutation("R1", RECEIVE, "position.store(end.units(), Release)", "position.store(end.units(), Relaxed)", "single::the_third_message_overwrites_the_first_only_after_it_was_read"),
    mutation("S1", MEMORY, "position.load(Acquire))", "position.load(Relaxed))", "many::the_third_message_overwrites_the_first_only_after_it_was_read"),
    mutation("T1", MPSC, "compare_exchange_weak(seen, next, Release, Relaxed)", "compare_exchange_weak(seen, next, Relaxed, Relaxed)", "recovery::a_tail_behind_the_head_names_who_is_there"),
    mutation("T2", RECOVERY, "let tail = consumer.memory().senders().tail.load(Acquire)", "let tail = consumer.memory().senders().tail.load(Relaxed)", "recovery::a_tail_behind_the_head_names_who_is_there"),
    mutation("T2", RECOVERY, "if memory.senders().tail.load(Acquire) == named", "if memory.senders().tail.load(Relaxed) == named", "recovery::a_dead_owner_is_known_by_who_reserves_behind_it"),
    mutation("I1", MPSC, "intent_tail.store(seen, Release)", "intent_tail.store(seen, Relaxed)", "recovery::a_dead_owner_is_known_by_the_record_behind_it"),
    mutation("I2", RECOVERY, "other.intent_tail.load(Acquire)", "other.intent_tail.load(Relaxed)", "recovery::a_dead_owner_is_known_by_the_record_behind_it"),
    mutation("K1", CLAIM, "Seen::CLOSED, Release)", "Seen::CLOSED, Relaxed)", "claims::a_successor_sees_all_that_the_closed_sender_sent"),
    mutation("F1", WAIT, "`stay_calm`.\n        fence(SeqCst);\n", "`stay_calm`.\n", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("F2", WAIT, "`announce`.\n            fence(SeqCst);\n", "`announce`.\n", "sleep::either_the_waker_sees_the_sleeper_or_the_sleeper_sees_the_flag"),
    mutation("F2 bare", WAIT, "barrier::light();", "", "sleep::a_bare_waker_is_made_up_for_by_the_sleeper"),
    mutation("F1 heavy", WAIT, "barrier::heavy();", "", "sleep::a_bare_waker_is_made_up_for_by_the_sleeper"),
];
