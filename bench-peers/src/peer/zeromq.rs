//! ZeroMQ: PUSH and PULL over a Unix socket, with messages of its own making: `zmq_send` and `zmq_recv` would copy once more.

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
        io, mem,
        path::PathBuf,
        slice,
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
        fn zmq_msg_init(message: *mut Message) -> c_int;
        fn zmq_msg_init_size(message: *mut Message, length: usize) -> c_int;
        fn zmq_msg_data(message: *mut Message) -> *mut u8;
        fn zmq_msg_size(message: *const Message) -> usize;
        fn zmq_msg_close(message: *mut Message) -> c_int;
        fn zmq_msg_send(message: *mut Message, socket: *mut c_void, flags: c_int) -> c_int;
        fn zmq_msg_recv(message: *mut Message, socket: *mut c_void, flags: c_int) -> c_int;
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

        /// A thread of the library's in each process reads and writes the socket.
        const THREADS: usize = 4;

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
        flags: c_int,
    }

    /// `zmq_msg_t`, begun; closed when dropped.
    #[repr(C, align(8))]
    struct Message([u8; 64]);

    impl Message {
        fn empty() -> Self {
            let mut message = Self([0; 64]);
            // SAFETY: it begins the message, and always succeeds.
            unsafe { zmq_msg_init(&mut message) };
            message
        }

        fn new(size: usize) -> Result<Self> {
            let mut message = Self([0; 64]);
            // SAFETY: it begins the message.
            let begun = unsafe { zmq_msg_init_size(&mut message, size) } == 0;
            // One that was not begun must not be closed.
            if begun {
                Ok(message)
            } else {
                mem::forget(message);
                Err(io::Error::last_os_error().into())
            }
        }

        fn bytes(&mut self) -> &mut [u8] {
            // SAFETY: the message was begun and has so many bytes.
            unsafe { slice::from_raw_parts_mut(zmq_msg_data(self), zmq_msg_size(self)) }
        }
    }

    impl Drop for Message {
        fn drop(&mut self) {
            // SAFETY: it was begun; one that was sent is empty.
            unsafe { zmq_msg_close(self) };
        }
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
            let end = Self { context, socket, flags };
            ensure!(!socket.is_null() && attached == 0, "{error}");
            Ok(end)
        }

        fn until_done(mut call: impl FnMut() -> c_int) -> Result<()> {
            while call() < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::Interrupted {
                    return Err(error).context("zmq");
                }
                spin_loop();
            }
            Ok(())
        }
    }

    impl SendHalf for End {
        fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
            let mut message = Message::new(size)?;
            fill(message.bytes());
            // SAFETY: the socket is open, and the message begun; once sent it is empty.
            Self::until_done(|| unsafe { zmq_msg_send(&mut message, self.socket, self.flags) })
        }
    }

    impl RecvHalf for End {
        fn recv(&mut self, _: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            let mut message = Message::empty();
            // SAFETY: the socket is open, and the message begun.
            Self::until_done(|| unsafe { zmq_msg_recv(&mut message, self.socket, self.flags) })?;
            check(message.bytes())
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
