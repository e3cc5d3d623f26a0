//! Loom models of the protocol: every interleaving, and every value that a relaxed load may give.
//!
//! The files under test are the product's own, included by path. In their stead the models have
//!
//! * `mortal`: loom's atomics; at each access the running process can be killed,
//! * `sys`: a futex that loom sees, so that a lost wake is a deadlock, and a clock that moves only when a model says so,
//! * `harness`: the channel layer in small, in the same order of steps.
//!
//! `README.md` beside this crate says how to run them longer; `docs/ORDERING.md` which ordering each of them holds.

#![cfg(test)]
// The models use what they need of the product's files.
#![allow(dead_code)]

#[path = "../../src/layout.rs"]
mod layout;
#[path = "../../src/ring/mod.rs"]
mod ring;
#[path = "../../src/sync.rs"]
mod sync;
#[path = "../../src/wait.rs"]
mod wait;

mod explore;
mod harness;
mod models;
mod mortal;
mod sys;
