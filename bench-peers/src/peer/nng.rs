//! nng: PUSH and PULL over a Unix socket. Its documentation prefers whole messages to `nng_send` and `nng_recv`, which copy.

use anyhow::Result;
use ringpost_cli::bench::link::Mechanism;

#[cfg(not(has_nng))]
pub fn make() -> Result<Box<dyn Mechanism>> {
    anyhow::bail!("it is not installed (Debian: libnng-dev)")
}

#[cfg(has_nng)]
pub fn make() -> Result<Box<dyn Mechanism>> {
    use crate::peer::unique;
    use ringpost_cli::bench::link::Pair;
    let link = |what| present::Socket(std::env::temp_dir().join(unique(what)));
    Ok(Box::new(Pair { there: link("nng-there"), back: link("nng-back") }))
}

#[cfg(has_nng)]
mod present {
    use std::{
        ffi::{CString, c_char, c_int, c_void},
        hint::spin_loop,
        mem,
        path::PathBuf,
        ptr, slice,
    };

    use anyhow::{Result, bail, ensure};
    use ringpost_cli::bench::{
        link::{Link, RecvHalf, SendHalf, Setup},
        shape::Wait,
    };

    /// `nng_socket`.
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Id(u32);

    unsafe extern "C" {
        fn nng_push0_open(socket: *mut Id) -> c_int;
        fn nng_pull0_open(socket: *mut Id) -> c_int;
        fn nng_close(socket: Id) -> c_int;
        fn nng_listen(socket: Id, url: *const c_char, listener: *mut c_void, flags: c_int) -> c_int;
        fn nng_dial(socket: Id, url: *const c_char, dialer: *mut c_void, flags: c_int) -> c_int;
        fn nng_msg_alloc(message: *mut *mut c_void, length: usize) -> c_int;
        fn nng_msg_body(message: *mut c_void) -> *mut u8;
        fn nng_msg_len(message: *const c_void) -> usize;
        fn nng_msg_free(message: *mut c_void);
        fn nng_sendmsg(socket: Id, message: *mut c_void, flags: c_int) -> c_int;
        fn nng_recvmsg(socket: Id, message: *mut *mut c_void, flags: c_int) -> c_int;
        fn nng_setopt_size(socket: Id, option: *const c_char, value: usize) -> c_int;
    }

    const NONBLOCK: c_int = 2;
    const EAGAIN: c_int = 8;

    /// Where it listens.
    pub struct Socket(pub PathBuf);

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    impl Link for Socket {
        type Sender<'a> = End;
        type Receiver<'a> = End;

        /// A thread of the library's in each process reads and writes the socket.
        const THREADS: usize = 4;

        fn sender(&self, setup: &Setup) -> Result<End> {
            let (end, url) = End::new(self, setup, nng_push0_open)?;
            // In the background: the listener may not be there yet.
            // SAFETY: an open socket and a string that ends in zero.
            ensure!(
                unsafe { nng_dial(end.socket, url.as_ptr(), ptr::null_mut(), NONBLOCK) } == 0,
                "cannot dial"
            );
            Ok(end)
        }

        fn receiver(&self, setup: &Setup) -> Result<End> {
            let (end, url) = End::new(self, setup, nng_pull0_open)?;
            // SAFETY: as above; the limit of a message is lifted with 0.
            unsafe {
                nng_setopt_size(end.socket, c"recv-size-max".as_ptr(), 0);
                ensure!(nng_listen(end.socket, url.as_ptr(), ptr::null_mut(), 0) == 0, "cannot listen");
            }
            Ok(end)
        }
    }

    pub struct End {
        socket: Id,
        flags: c_int,
    }

    /// A message of its own making, freed when dropped.
    struct Message(*mut c_void);

    impl Message {
        fn new(size: usize) -> Result<Self> {
            let mut message = ptr::null_mut();
            // SAFETY: it writes the message's address.
            ensure!(unsafe { nng_msg_alloc(&mut message, size) } == 0, "no room for a message");
            Ok(Self(message))
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the message is alive, and its body is so long; `nng_msg_alloc` and the sender have written it.
            unsafe { slice::from_raw_parts_mut(nng_msg_body(self.0), nng_msg_len(self.0)) }
        }
    }

    impl Drop for Message {
        fn drop(&mut self) {
            // SAFETY: it is this one's, and freed once.
            unsafe { nng_msg_free(self.0) };
        }
    }

    impl End {
        fn new(
            at: &Socket,
            setup: &Setup,
            open: unsafe extern "C" fn(*mut Id) -> c_int,
        ) -> Result<(Self, CString)> {
            let url = CString::new(format!("ipc://{}", at.0.display()))?;
            let mut socket = Id(0);
            // SAFETY: it writes the socket's number.
            ensure!(unsafe { open(&mut socket) } == 0, "cannot open a socket");
            let flags = if setup.wait == Wait::Spin { NONBLOCK } else { 0 };
            Ok((Self { socket, flags }, url))
        }
    }

    impl SendHalf for End {
        fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            let mut message = Message::new(size)?;
            fill(message.bytes());
            loop {
                // SAFETY: the socket is open, and the message alive.
                match unsafe { nng_sendmsg(self.socket, message.0, self.flags) } {
                    0 => break,
                    EAGAIN => spin_loop(),
                    error => bail!("nng error {error}"),
                }
            }
            // It is the library's now.
            mem::forget(message);
            Ok(())
        }
    }

    impl RecvHalf for End {
        fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            let mut message = ptr::null_mut();
            loop {
                // SAFETY: the socket is open, and a message's address is written when there is one.
                match unsafe { nng_recvmsg(self.socket, &mut message, self.flags) } {
                    0 => return check(Message(message).bytes()),
                    EAGAIN => spin_loop(),
                    error => bail!("nng error {error}"),
                }
            }
        }
    }

    impl Drop for End {
        fn drop(&mut self) {
            // SAFETY: opened in `new`, closed once.
            unsafe { nng_close(self.socket) };
        }
    }
}
