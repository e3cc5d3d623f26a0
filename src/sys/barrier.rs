//! The asymmetric fence of two handshakes: of who sleeps with who wakes, and of who calls the tail back with who has borrowed it.
//!
//! The one that comes seldom pays for both sides: its [`heavy`] fence makes every running thread of every registered process
//! execute a full fence. So the other one, if it belongs to a registered process, needs to stop only the compiler.

use core::sync::atomic::{Ordering, fence};
use std::sync::OnceLock;

use rustix::thread::{MembarrierCommand, membarrier};

/// Registers this process to take part in the heavy fences of others; false where the kernel refuses.
///
/// Asks until it is so, and remembers. A forked child inherits the registration together with the answer.
pub(crate) fn register() -> bool {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    // Miri has no such call, and needs none: it runs the full fences.
    let ask = || !cfg!(miri) && membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    REGISTERED.get().is_some() || ask() && REGISTERED.set(()).is_ok() || REGISTERED.get().is_some()
}

/// Stops the compiler from moving what follows before what precedes. Together with [`heavy`] in another process it orders
/// as a full fence would.
#[inline]
pub(crate) fn light() {
    // ORDERING: F2 of a bare waker and F6 of a borrower, compiler only; the `heavy` of the other side, F1 and F5, makes the processor's
    // order a full fence's.
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// A full fence here and in every registered process. Takes effect only where [`register`] has returned true. False when the system
/// refuses it.
pub(crate) fn heavy() -> bool {
    // ORDERING: SeqCst fences on both sides, because membarrier(2) promises to order what the *other* threads
    // do, and the compiler takes the call for one that only reads memory: it could move our next look before
    // it.
    fence(Ordering::SeqCst);
    // A kernel for very many processors allocates a processor mask, which can fail. The slow one needs none.
    let done = membarrier(MembarrierCommand::GlobalExpedited).is_ok()
        || membarrier(MembarrierCommand::Global).is_ok();
    fence(Ordering::SeqCst);
    done
}

#[cfg(all(test, not(miri)))]
mod tests {
    use rustix::thread::membarrier_query;

    use super::*;

    #[test]
    fn registers_where_the_kernel_offers_it_and_again_with_the_same_answer() {
        let offered = membarrier_query().contains_command(MembarrierCommand::GlobalExpedited);
        assert_eq!(register(), offered);
        assert_eq!(register(), offered);
    }

    #[test]
    fn a_heavy_fence_succeeds_after_registration() {
        if register() {
            assert_eq!(membarrier(MembarrierCommand::GlobalExpedited), Ok(()));
        }
        assert!(heavy() || !register());
    }
}
