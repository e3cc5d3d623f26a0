//! One file for each part of the protocol.

mod any;
mod broadcast;
mod claims;
mod elastic;
mod end;
mod loan;
mod mailbox;
mod many;
mod notice;
mod offer;
mod recovery;
mod single;
mod sleep;
