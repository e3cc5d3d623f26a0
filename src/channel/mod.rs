//! What users hold.

mod attach;
mod batch;
mod builder;
mod copy;
mod iter;
mod lanes;
mod leftover;
mod link;
mod message;
mod names;
mod receiver;
mod reservation;
mod ring;
mod sender;
mod statistics;
mod trust;
mod typed;
mod vigil;

pub use batch::{Batch, record_size};
pub use builder::{Builder, Lifetime, builder, unnamed};
pub use iter::{IntoIter, Iter, TryIter};
pub use lanes::{LaneId, Lanes, LanesError};
pub use leftover::Leftover;
pub use link::{Listener, connect, listen};
pub use message::{BatchedMessage, Message, Messages, OwnedMessage, SenderId};
pub use names::names;
pub use receiver::{Death, Receiver, Stall};
pub use reservation::Reservation;
pub use ring::{Ring, RingInfo};
pub use sender::{Many, MultiSender, Sender, SenderKind, Single};
pub use statistics::{ParticipantStatistics, Statistics};
pub use trust::{Trust, Trusted, Untrusted};
pub use typed::{TypedReceiver, TypedSender};
