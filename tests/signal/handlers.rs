//! What a handler may do, and what it reaches.

use super::*;

thread_local! {
    /// How many handlers this thread is in.
    pub static DEPTH: Cell<u32> = const { Cell::new(0) };
}

struct NotInHandlers;

impl NotInHandlers {
    fn check() {
        if DEPTH.get() > 0 {
            // SAFETY: ends the process; safe in a handler.
            unsafe { libc::abort() };
        }
    }
}

// SAFETY: the system's, as it is asked for.
unsafe impl GlobalAlloc for NotInHandlers {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::check();
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        Self::check();
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: NotInHandlers = NotInHandlers;

/// A number that no call leaves in `errno`.
const MARK: i32 = 4321;

fn errno() -> &'static Cell<i32> {
    // SAFETY: the word of this thread, which no other one has, and which the caller does not give away.
    unsafe { &*libc::__errno_location().cast() }
}

/// Runs what a handler does; notes when it changes `errno`.
pub fn as_handler(act: impl FnOnce()) {
    DEPTH.set(DEPTH.get() + 1);
    let before = errno().replace(MARK);
    act();
    if errno().replace(before) != MARK {
        ERRNO_CHANGED.store(true, SeqCst);
    }
    DEPTH.set(DEPTH.get() - 1);
}

pub static SENDER: OnceLock<SignalSender> = OnceLock::new();
pub static OTHER: OnceLock<SignalSender> = OnceLock::new();
pub static ERRNO_CHANGED: AtomicBool = AtomicBool::new(false);

/// What was answered.
pub static SENT: AtomicU64 = AtomicU64::new(0);
pub static FULL: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU64 = AtomicU64::new(0);
pub static WRONG: AtomicU64 = AtomicU64::new(0);

pub fn answers() -> [u64; 4] {
    [&SENT, &FULL, &BUSY, &WRONG].map(|count| count.load(SeqCst))
}

pub fn count(answer: Result<(), SendError>) -> bool {
    let count = match answer {
        Ok(()) => &SENT,
        Err(SendError::Full) => &FULL,
        Err(SendError::Busy) => &BUSY,
        Err(_) => &WRONG,
    };
    count.fetch_add(1, SeqCst);
    answer.is_ok()
}

type Handler = extern "C" fn(libc::c_int);

pub fn handle(signal: libc::c_int, handler: Handler, flags: libc::c_int) {
    // SAFETY: zeroes are a valid `sigaction`; the handler does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = flags | libc::SA_RESTART;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A handler runs before this returns.
pub fn raise(signal: libc::c_int) {
    // SAFETY: a signal that this process handles.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Kind of what handlers send; the others send 0.
pub const BY_HANDLER: u16 = 1;

/// Sends its number in the handlers' own order: nothing interrupts it that sends with the same handle.
pub extern "C" fn send_next(_: libc::c_int) {
    as_handler(|| {
        let number = SENT.load(SeqCst).to_ne_bytes();
        count(SENDER.get().unwrap().try_send(BY_HANDLER, &number));
    });
}

pub static TICKETS: AtomicU64 = AtomicU64::new(0);
pub const MOST_TICKETS: usize = 1 << 20;
/// 1 for a ticket that was answered with Ok.
pub static ANSWERED: [AtomicU8; MOST_TICKETS] = [const { AtomicU8::new(0) }; MOST_TICKETS];

/// Sends a ticket of its own, at whatever instruction of another one that does it comes.
pub extern "C" fn send_ticket(_: libc::c_int) {
    as_handler(|| {
        let ticket = TICKETS.fetch_add(1, SeqCst);
        let Some(answered) = ANSWERED.get(ticket as usize) else { return };
        if count(SENDER.get().unwrap().try_send(BY_HANDLER, &ticket.to_ne_bytes())) {
            answered.store(1, SeqCst);
        }
    });
}
