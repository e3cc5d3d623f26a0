//! ZeroMQ: PUSH and PULL over a Unix socket.

use anyhow::Result;
use ringpost_cli::bench::link::Mechanism;

#[cfg(not(has_zmq))]
pub fn make() -> Result<Box<dyn Mechanism>> {
    anyhow::bail!("it is not installed (Debian: libzmq3-dev)")
}

#[cfg(has_zmq)]
pub fn make() -> Result<Box<dyn Mechanism>> {
    use crate::peer::unique;
    use ringpost_cli::bench::link::Pair;
    let link = |what| present::Socket(std::env::temp_dir().join(unique(what)));
    Ok(Box::new(Pair { there: link("zmq-there"), back: link("zmq-back") }))
}

#[cfg(has_zmq)]
mod present {
    use std::{
        ffi::{CString, c_char, c_int, c_void},
        hint::spin_loop,
        io,
        path::PathBuf,
    };

    use anyhow::{Context, Result, ensure};
    use ringpost_cli::bench::{
        link::{Link, RecvHalf, SendHalf, Setup},
        shape::Wait,
    };

    unsafe extern "C" {
        fn zmq_ctx_new() -> *mut c_void;
        fn zmq_ctx_term(context: *mut c_void) -> c_int;
        fn zmq_socket(context: *mut c_void, kind: c_int) -> *mut c_void;
        fn zmq_close(socket: *mut c_void) -> c_int;
        fn zmq_setsockopt(socket: *mut c_void, option: c_int, value: *const c_void, length: usize) -> c_int;
        fn zmq_bind(socket: *mut c_void, address: *const c_char) -> c_int;
        fn zmq_connect(socket: *mut c_void, address: *const c_char) -> c_int;
        fn zmq_send(socket: *mut c_void, bytes: *const c_void, length: usize, flags: c_int) -> c_int;
        fn zmq_recv(socket: *mut c_void, bytes: *mut c_void, length: usize, flags: c_int) -> c_int;
    }

    const PULL: c_int = 7;
    const PUSH: c_int = 8;
    const LINGER: c_int = 17;
    const DONTWAIT: c_int = 1;

    /// Where it is bound.
    pub struct Socket(pub PathBuf);

    impl Drop for Socket {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    impl Link for Socket {
        type Sender<'a> = End;
        type Receiver<'a> = End;

        fn sender(&self, setup: &Setup) -> Result<End> {
            End::new(self, setup, PUSH, zmq_connect)
        }

        fn receiver(&self, setup: &Setup) -> Result<End> {
            End::new(self, setup, PULL, zmq_bind)
        }
    }

    pub struct End {
        context: *mut c_void,
        socket: *mut c_void,
        staging: Vec<u8>,
        flags: c_int,
    }

    impl End {
        fn new(
            at: &Socket,
            setup: &Setup,
            kind: c_int,
            attach: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
        ) -> Result<Self> {
            let address = CString::new(format!("ipc://{}", at.0.display()))?;
            let flags = if setup.wait == Wait::Spin { DONTWAIT } else { 0 };
            // SAFETY: plain calls of the library, each of whose results is checked; the linger is one int.
            let (context, socket, attached) = unsafe {
                let context = zmq_ctx_new();
                let socket = zmq_socket(context, kind);
                let none: c_int = 0;
                zmq_setsockopt(socket, LINGER, (&raw const none).cast(), size_of::<c_int>());
                (context, socket, attach(socket, address.as_ptr()))
            };
            let error = io::Error::last_os_error();
            // From here on both are given back, whatever happens.
            let end = Self { context, socket, staging: vec![0; setup.size], flags };
            ensure!(!socket.is_null() && attached == 0, "{error}");
            Ok(end)
        }

        fn until_done(&mut self, mut call: impl FnMut(&mut Self) -> c_int) -> Result<usize> {
            loop {
                if let Ok(count) = usize::try_from(call(self)) {
                    return Ok(count);
                }
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::Interrupted {
                    return Err(error).context("zmq");
                }
                spin_loop();
            }
        }
    }

    impl SendHalf for End {
        fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            fill(&mut self.staging);
            // SAFETY: the socket is open and the buffer has `size` bytes.
            self.until_done(|end| unsafe {
                zmq_send(end.socket, end.staging.as_ptr().cast(), size, end.flags)
            })?;
            Ok(())
        }
    }

    impl RecvHalf for End {
        fn recv(&mut self, size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            // SAFETY: the socket is open and the buffer has `size` bytes.
            let got = self.until_done(|end| unsafe {
                zmq_recv(end.socket, end.staging.as_mut_ptr().cast(), size, end.flags)
            })?;
            check(&self.staging[..got])
        }
    }

    impl Drop for End {
        fn drop(&mut self) {
            // SAFETY: made in `new`, closed once.
            unsafe {
                zmq_close(self.socket);
                zmq_ctx_term(self.context);
            }
        }
    }
}
