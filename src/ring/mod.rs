//! The protocol: no operating system but for the fence of a loan, no blocking. `docs/PROTOCOL.md` says it in words.

pub(crate) mod broadcast;
pub(crate) mod claim;
pub(crate) mod elastic;
pub(crate) mod floor;
pub(crate) mod loan;
pub(crate) mod mailbox;
pub(crate) mod memory;
pub(crate) mod mpsc;
pub(crate) mod offer;
pub(crate) mod onlooker;
pub(crate) mod position;
pub(crate) mod receive;
pub(crate) mod record;
pub(crate) mod recovery;
pub(crate) mod reserve;
pub(crate) mod spsc;
