//! The only import of atomics and fences: the hardware's, or loom's when the models are built.

#[cfg(ringpost_loom)]
pub(crate) use crate::mortal::{AtomicU32, AtomicU64, Ordering, fence, spin_loop};
#[cfg(not(ringpost_loom))]
pub(crate) use core::{
    hint::spin_loop,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
