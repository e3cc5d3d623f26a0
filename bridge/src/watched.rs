//! What is waited for beside the network.

use std::io;

use ringpost::{Readiness, Source};
use tokio::io::{Interest, unix::AsyncFd};

/// A receiver, or a mailbox, in tokio's event loop.
pub struct Watched<S: Source>(AsyncFd<Readiness<S>>);

impl<S: Source> Watched<S> {
    /// Within a runtime.
    pub fn new(source: S) -> io::Result<Self> {
        let readiness = Readiness::new(source)?;
        // SAFETY: a `Readiness` owns its descriptor and keeps it until it is dropped, and nobody takes it out of here: the
        // field is this module's, which hands out no more than the source.
        let registered = unsafe { AsyncFd::register_with_interest(readiness, Interest::READABLE) };
        Ok(Self(registered.map_err(|error| error.into_parts().1)?))
    }

    /// The source itself.
    pub fn source(&mut self) -> &mut S {
        self.0.get_mut()
    }

    /// Waits until it is worth looking. It may be dropped before.
    pub async fn ready(&mut self) -> io::Result<()> {
        if !self.0.get_mut().arm()? {
            self.0.readable_mut().await?.clear_ready();
        }
        Ok(())
    }
}
