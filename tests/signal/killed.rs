//! A process that is killed in a handler.

use super::*;

/// Sends in handlers, and only there; what was answered stands in a page that outlives it.
static NOTED: AtomicPtr<u64> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn send_and_note(signal: libc::c_int) {
    send_next(signal);
    noted(NOTED.load(SeqCst)).store(SENT.load(SeqCst), SeqCst);
}

fn noted<'a>(page: *mut u64) -> &'a AtomicU64 {
    // SAFETY: a page that both processes map, and that stays mapped until they end.
    unsafe { AtomicU64::from_ptr(page) }
}

pub fn until_killed(line: &Line) {
    let page = memmap2::MmapOptions::new().len(4096).map_raw(&line.take()).unwrap();
    NOTED.store(page.as_mut_ptr().cast(), SeqCst);
    handle(libc::SIGUSR1, send_and_note, 0);
    line.tell(0);
    loop {
        raise(libc::SIGUSR1);
    }
}

#[test]
fn a_kill_in_a_handler_loses_nothing_that_was_answered() {
    for _ in 0..if common::long() { 500 } else { 10 } {
        let shared = ring();
        let note = rustix::fs::memfd_create("note", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&note, 4096).unwrap();
        let page = memmap2::MmapOptions::new().len(4096).map_raw(&note).unwrap();
        let mut receiver = shared.ring.receiver().unwrap();
        let mut child = child_at(&shared, "until-killed", "");
        child.pass(note.as_fd());
        child.hear();
        let mut next = 0;
        let mut recv = |receiver: &mut Receiver| match receiver.recv_timeout(FAR) {
            Ok(message) => {
                assert_eq!(number(&message.to_vec()), next);
                next += 1;
                Ok(next)
            }
            Err(error) => Err(error),
        };
        while recv(&mut receiver).unwrap() < 200 {}
        child.kill();
        let end = loop {
            match recv(&mut receiver) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(end, RecvError::PeerDied { pid, .. } if pid == child.id()), "{end}");
        let answered = noted(page.as_mut_ptr().cast()).load(SeqCst);
        assert!(next == answered || next == answered + 1, "{answered} were answered, {next} came");
    }
}
