//! A send that is interrupted in its middle.

use super::*;

/// Two pages that can't be read until a handler of the fault has allowed it.
static PAGES: [AtomicPtr<u8>; 2] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 2];
static FORKED: AtomicU32 = AtomicU32::new(0);

fn page(index: usize) -> &'static [u8] {
    // SAFETY: the pages are mapped and stay so; to read them may be a fault, which the handler mends.
    unsafe { std::slice::from_raw_parts(PAGES[index].load(SeqCst), 64) }
}

fn protect(index: usize, protection: libc::c_int) {
    // SAFETY: a page of this test's own, which is still there with whatever protection.
    assert_eq!(unsafe { libc::mprotect(PAGES[index].load(SeqCst).cast(), 4096, protection) }, 0);
}

/// Comes in the middle of a copy into the ring, once in each of two handles, one within the other.
extern "C" fn on_fault(_: libc::c_int) {
    as_handler(|| {
        let (sender, other) = (SENDER.get().unwrap(), OTHER.get().unwrap());
        if DEPTH.get() == 1 {
            count(sender.try_send(BY_HANDLER, b"in the middle"));
            // Faults in its turn: the next handler runs within this one.
            count(other.try_send(BY_HANDLER, page(1)));
            fork_here(sender);
            protect(0, libc::PROT_READ);
        } else {
            count(sender.try_send(BY_HANDLER, b"in the middle"));
            count(other.try_send(BY_HANDLER, b"in the middle"));
            assert!(sender.take().is_none());
            protect(1, libc::PROT_READ);
        }
    });
}

/// In a child that is born in the middle of a send, that one never ends; and it is not the child's.
fn fork_here(sender: &SignalSender) {
    // SAFETY: the child only sends, which is safe in a handler, and exits.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let forked = sender.try_send(BY_HANDLER, b"by the child") == Err(SendError::Forked);
            // SAFETY: ends the child without running what belongs to the parent.
            unsafe { libc::_exit(if forked { 0 } else { 1 }) }
        }
        ForkResult::Parent { child } => FORKED.store(child.as_raw() as u32, SeqCst),
    }
}

pub fn interrupt_itself(mut receiver: Receiver, line: &Line) {
    for (index, page) in PAGES.iter().enumerate() {
        // SAFETY: the kernel chooses an address where nothing is mapped; the whole page is this test's.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>().write_bytes(b'a' + index as u8, 4096);
            page.store(at.cast(), SeqCst);
        }
        protect(index, libc::PROT_NONE);
    }
    handle(libc::SIGSEGV, on_fault, libc::SA_NODEFER);
    SENDER.get().unwrap().try_send(BY_HANDLER, page(0)).unwrap();
    // The one that sent `page(1)` had its Ok; the three in the middle of others had not.
    assert_eq!(answers(), [1, 0, 3, 0]);
    for letter in [b'a', b'b'] {
        assert_eq!(receiver.try_recv().unwrap().to_vec(), [letter; 64]);
    }
    assert_eq!(receiver.try_recv().err(), Some(RecvError::Empty));
    let child = Pid::from_raw(FORKED.load(SeqCst) as i32);
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
    // The turn is over: all goes on.
    SENDER.get().unwrap().try_send(BY_HANDLER, b"after").unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"after");
    line.tell(0);
}

#[test]
fn a_send_that_is_interrupted_in_its_middle_is_whole_and_refuses_the_others() {
    child_at(&ring(), "interrupt-itself", "").finish();
}
