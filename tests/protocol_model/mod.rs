//! The models; each file opens with what it covers.

pub mod end;
pub mod loan;
pub mod many;
pub mod one;
pub mod receiver;
pub mod search;
pub mod sender;
pub mod wake;
pub mod words;
