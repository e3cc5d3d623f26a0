//! One file for each part of the protocol.

mod any;
mod broadcast;
mod claims;
mod end;
mod mailbox;
mod many;
mod recovery;
mod single;
mod sleep;
