//! The `errno` of a thread, which a signal handler must leave as it found it.

use nix::errno::Errno;

/// Puts `errno` back, when it is dropped, to what it was when this was made.
pub(crate) struct Kept(i32);

impl Kept {
    pub(crate) fn now() -> Self {
        Self(Errno::last_raw())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        Errno::set_raw(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_call_leaves_is_taken_back() {
        Errno::set_raw(Errno::EINTR as i32);
        let kept = Kept::now();
        Errno::set_raw(Errno::EFAULT as i32);
        drop(kept);
        assert_eq!(Errno::last(), Errno::EINTR);
    }
}
