//! Boost.Interprocess message_queue.

use anyhow::Result;
use ringpost_cli::bench::link::Mechanism;

#[cfg(not(has_boost))]
pub fn make() -> Result<Box<dyn Mechanism>> {
    anyhow::bail!("its headers are not installed (Debian: libboost-dev)")
}

#[cfg(has_boost)]
pub fn make() -> Result<Box<dyn Mechanism>> {
    use crate::peer::unique;
    use ringpost_cli::bench::link::Pair;
    Ok(Box::new(Pair { there: present::Queue(unique("there")), back: present::Queue(unique("back")) }))
}

#[cfg(has_boost)]
mod present {
    use std::{
        ffi::{CString, c_char, c_int, c_long, c_void},
        hint::spin_loop,
    };

    use anyhow::{Result, bail, ensure};
    use ringpost_cli::bench::{
        link::{Link, RecvHalf, SendHalf, Setup},
        shape::Wait,
    };

    use crate::peer::messages_of;

    unsafe extern "C" {
        fn peers_boost_open(name: *const c_char, messages: usize, size: usize) -> *mut c_void;
        fn peers_boost_close(queue: *mut c_void);
        fn peers_boost_remove(name: *const c_char);
        fn peers_boost_send(queue: *mut c_void, bytes: *const c_void, size: usize, wait: c_int) -> c_int;
        fn peers_boost_recv(queue: *mut c_void, bytes: *mut c_void, size: usize, wait: c_int) -> c_long;
    }

    pub struct Queue(pub String);

    impl Link for Queue {
        type Sender<'a> = End;
        type Receiver<'a> = End;

        fn sender(&self, setup: &Setup) -> Result<End> {
            End::new(&self.0, setup)
        }

        fn receiver(&self, setup: &Setup) -> Result<End> {
            End::new(&self.0, setup)
        }
    }

    /// Either end. The queue of a size stays until the process ends.
    pub struct End {
        queue: *mut c_void,
        name: CString,
        staging: Vec<u8>,
        wait: c_int,
    }

    impl End {
        fn new(name: &str, setup: &Setup) -> Result<Self> {
            let name = CString::new(format!("{name}-{}", setup.size))?;
            // SAFETY: a string that ends in zero; null is refused below.
            let queue = unsafe { peers_boost_open(name.as_ptr(), messages_of(setup.size), setup.size) };
            ensure!(!queue.is_null(), "cannot make the queue");
            let wait = (setup.wait == Wait::Sleep).into();
            Ok(Self { queue, name, staging: vec![0; setup.size], wait })
        }
    }

    impl SendHalf for End {
        fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            fill(&mut self.staging);
            loop {
                // SAFETY: the queue is open and the buffer has `size` bytes.
                match unsafe { peers_boost_send(self.queue, self.staging.as_ptr().cast(), size, self.wait) } {
                    1 => return Ok(()),
                    0 => spin_loop(),
                    _ => bail!("send failed"),
                }
            }
        }
    }

    impl RecvHalf for End {
        fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            loop {
                // SAFETY: the queue is open and the buffer has `size` bytes.
                match unsafe {
                    peers_boost_recv(self.queue, self.staging.as_mut_ptr().cast(), size, self.wait)
                } {
                    -2 => spin_loop(),
                    got if got >= 0 => return check(&self.staging[..got as usize]),
                    _ => bail!("receive failed"),
                }
            }
        }
    }

    impl Drop for End {
        fn drop(&mut self) {
            // SAFETY: opened once, closed once. Whoever is last takes the name away; the other one has its mapping.
            unsafe {
                peers_boost_close(self.queue);
                peers_boost_remove(self.name.as_ptr());
            }
        }
    }
}
