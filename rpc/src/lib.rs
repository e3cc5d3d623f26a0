//! Remote procedure calls between processes of one machine, over links of [`ringpost`] in both directions.
//!
//! ```no_run
//! #[ringpost_rpc::interface]
//! pub trait Counter {
//!     fn add(&mut self, by: u64) -> u64;
//! }
//!
//! #[derive(Clone, Default)]
//! struct Sum(u64);
//!
//! impl Counter for Sum {
//!     fn add(&mut self, by: u64) -> u64 {
//!         self.0 += by;
//!         self.0
//!     }
//! }
//!
//! # fn server() -> Result<(), Box<dyn std::error::Error>> {
//! // The server:
//! ringpost_rpc::Server::bind("counter")?.serve(CounterServer(Sum(0)));
//! # Ok(())
//! # }
//! # fn client() -> Result<(), Box<dyn std::error::Error>> {
//! // The client, in another process:
//! let mut counter = CounterClient::bind("counter")?;
//! assert_eq!(counter.add(2)?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! * **The interface** is a trait. Arguments and results go by value: plain old data (zerocopy's `TryFromBytes`, `IntoBytes`,
//!   `Immutable`) as its bytes, a `Vec` of it as one block, a [`Region`](ringpost::Region), which may be large, as its
//!   memory itself, all else by postcard. An argument `&mut T` is copied there and back; every other
//!   reference, and every pointer, is refused at compile time. A first argument `context: &Context` is the server's alone:
//!   [`Context`] tells who calls, and whether the call is [cancelled](Context::is_cancelled). What both sides have
//!   compiled is compared when a client binds.
//! * **The call** is one message each way. The client waits for the answer, one call at a time; a program that wants more
//!   binds more clients. Each has a thread in the server.
//! * **A server** answers until its process ends, or until somebody says [stop](Server::with_stop).
//! * **Deadlines** are points of the machine's monotonic clock and go with the call: what is too late is not begun.
//! * **The session** is the client's, and survives the server. What happens to a call when the server dies is for the client
//!   to choose: [`Semantics`].
//!
//! A pointer or a reference does not compile:
//!
//! ```compile_fail
//! #[ringpost_rpc::interface]
//! pub trait Greeter {
//!     fn greet(&self, name: &str); // a reference points into the caller, where the server can't reach
//! }
//! ```
//!
//! ```compile_fail
//! #[ringpost_rpc::interface]
//! pub trait Reader {
//!     fn read(&self, buffer: *mut u8);
//! }
//! ```
//!
//! ```compile_fail
//! type Hidden = &'static str;
//!
//! #[ringpost_rpc::interface]
//! pub trait Greeter {
//!     fn greet(&self, name: Hidden); // `&'static str` can't be passed to another process by value
//! }
//! ```

mod bounded;
mod client;
mod clock;
mod codec;
mod context;
mod durable;
mod ending;
mod error;
mod interface;
mod owner;
mod presence;
pub mod registry;
mod semantics;
mod server;
#[cfg(feature = "tarpc")]
pub mod tarpc;
mod wire;

pub use client::{Binding, Client};
pub use codec::{Argument, Form, Frame, Parcel};
pub use context::{Context, Session};
pub use durable::{Durable, DurableError};
pub use ending::Stop;
pub use error::{BindError, CallError, Done, Malformed, Refusal};
pub use interface::{Description, Interface, Service};
pub use ringpost_rpc_macros::interface;
pub use semantics::Semantics;
pub use server::{Event, Server};

/// What generated code names.
#[doc(hidden)]
pub mod private {
    pub use crate::codec::{AsBytes, AsList, AsRegion, ByPostcard, Codec};
}
