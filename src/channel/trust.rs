//! Whether the processes at the other end are trusted, as a type.

mod sealed {
    pub trait Sealed {}
}

/// [`Trusted`] or [`Untrusted`].
pub trait Trust: sealed::Sealed + Send + Sync + 'static {}

/// Every process that can write to the ring keeps to the protocol: messages and reservations are byte slices in place.
///
/// Said once, with [`Ring::trust_peers`](crate::Ring::trust_peers), or by the ring being inside one process.
#[derive(Clone, Copy, Debug)]
pub enum Trusted {}

/// A process at the other end may write anything at any time: no Rust reference ever points into memory that it can
/// write. Messages and reservations are read and written by copying.
#[derive(Clone, Copy, Debug)]
pub enum Untrusted {}

impl sealed::Sealed for Trusted {}
impl sealed::Sealed for Untrusted {}
impl Trust for Trusted {}
impl Trust for Untrusted {}
