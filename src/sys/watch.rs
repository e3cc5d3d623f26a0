//! A hint of death that the kernel pushes: when the process ends, however it ends, futex words of its choice change and
//! who sleeps on them is woken.
//!
//! The kernel does this for robust mutexes: each thread may register a list of futex words, and when the thread ends it
//! marks those that hold the thread's id with `FUTEX_OWNER_DIED` and wakes a sleeper, before the memory of the process
//! is freed (`set_robust_list(2)`). So a small thread that does nothing else registers the words. Only the words are
//! shared; the list lies in memory of this process, at a constant distance that the registration names.
//!
//! It is a hint: the words are shared memory that others may write, and the thread ends a moment before the others of its
//! process. The proof is [`peer::life`](super::peer::life).

use core::{
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, Ordering::*},
};
use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::{
    clock::Deadline,
    futex::{self, Scope},
};
use rustix::process::{Pid, getpid};
use rustix::thread::gettid;

/// Set in a word by the kernel when its owner has died.
const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// Says that somebody sleeps on the word: without it the kernel would not wake.
const FUTEX_WAITERS: u32 = 0x8000_0000;

/// What a word says of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint {
    /// The kernel will change the word when the owner dies.
    Armed,
    /// It has changed the word.
    Died,
    /// Nobody has armed it.
    Unarmed,
}

/// Reads a word.
pub(crate) fn hint(word: u32) -> Hint {
    match word {
        word if word & FUTEX_OWNER_DIED != 0 => Hint::Died,
        word if word & FUTEX_WAITERS != 0 => Hint::Armed,
        _ => Hint::Unarmed,
    }
}

/// The thread that has armed a word.
pub(crate) fn thread(word: u32) -> u32 {
    word & !(FUTEX_OWNER_DIED | FUTEX_WAITERS)
}

/// Words that change when this process dies, and the thread that owns them and watches others' meanwhile. Dropping it
/// disarms them.
pub(crate) struct Alarm {
    thread: Option<JoinHandle<()>>,
    quit: Arc<AtomicU32>,
    process: Pid,
}

/// An entry of the kernel's list: the address of the next.
#[repr(C)]
struct Node(*const Node);

/// What the kernel is told (`struct robust_list_head`).
#[repr(C)]
struct Head {
    first: Node,
    /// From a node to its futex word, in bytes.
    distance: isize,
    pending: *const Node,
}

/// The words, as they go to the thread.
struct Words(Vec<NonNull<AtomicU32>>);

// SAFETY: the words are atomic, and `arm`'s caller keeps them mapped until the thread has ended.
unsafe impl Send for Words {}

impl Alarm {
    /// Arms the words, which must lie 8 bytes apart at least. `None` when the thread or its registration is refused: then
    /// nobody is told of a death. `vigil` is called again and again by the thread, with a way to sleep.
    ///
    /// # Safety
    /// The words must stay mapped until the result is dropped, and be aligned.
    pub(crate) unsafe fn arm(
        words: Vec<NonNull<AtomicU32>>,
        vigil: impl FnMut(&Bed<'_>) + Send + 'static,
    ) -> Option<Self> {
        let quit = Arc::new(AtomicU32::new(0));
        let (told, armed) = mpsc::sync_channel(1);
        let (words, stop) = (Words(words), Arc::clone(&quit));
        let watch = move || watch(words, &stop, told, vigil);
        let thread =
            thread::Builder::new().name("ringpost-watch".into()).stack_size(128 << 10).spawn(watch).ok()?;
        match armed.recv() {
            Ok(true) => Some(Self { thread: Some(thread), quit, process: getpid() }),
            _ => {
                // It gives back what it has of the segment.
                let _ = thread.join();
                None
            }
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if getpid() != self.process {
            // A forked child has the handle, but not the thread, and the words are the parent's.
            core::mem::forget(thread);
            return;
        }
        // ORDERING: Relaxed; the futex and the join order it.
        self.quit.store(1, Relaxed);
        futex::wake_all(&self.quit, Scope::Shared);
        // It can't have panicked; and if it had, its list would be gone with it.
        let _ = thread.join();
    }
}

/// Where the watching thread sleeps.
pub(crate) struct Bed<'a> {
    quit: &'a AtomicU32,
}

impl Bed<'_> {
    /// Sleeps while each of the `words` (at most [`Bed::MOST`]) has the value beside it, until one of them is woken, for
    /// `slice` at most, or until the thread is to quit.
    pub(crate) fn sleep(&self, words: &[(&AtomicU32, u32)], slice: Option<Duration>) {
        if !futex::wait_any(self.quit, 0, words, slice.map(Deadline::after)) {
            // A kernel before 5.16 can't wait for several words.
            let slice = slice.map_or(Self::BLIND, |slice| slice.min(Self::BLIND));
            futex::wait(self.quit, 0, Some(Deadline::after(slice)), Scope::Shared);
        }
    }

    /// Most words of one sleep.
    pub(crate) const MOST: usize = futex::MOST_WATCHED - 1;

    /// How long the thread sleeps at most where it can't be woken by the words.
    pub(crate) const BLIND: Duration = Duration::from_millis(100);
}

/// The thread: registers the words, says whether that went well, and keeps the vigil until it is told to quit.
fn watch(words: Words, quit: &AtomicU32, told: mpsc::SyncSender<bool>, mut vigil: impl FnMut(&Bed<'_>)) {
    // The signals of the process are for its own threads.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    let addresses = words.0.iter().map(|word| word.as_ptr().addr());
    let (Some(lowest), Some(highest)) = (addresses.clone().min(), addresses.max()) else {
        let _ = told.send(false);
        return;
    };
    // One node a word, as far apart as the words: that makes the distance constant.
    let mut nodes: Vec<Node> = Vec::new();
    nodes.resize_with((highest - lowest) / 8 + 1, || Node(ptr::null()));
    let base = nodes.as_mut_ptr();
    let distance = lowest.wrapping_sub(base.addr()) as isize;
    let mut head = Head { first: Node(ptr::null()), distance, pending: ptr::null() };
    let head = &raw mut head;
    let mut next = head.cast::<Node>().cast_const();
    for word in &words.0 {
        let node = base.wrapping_byte_add(word.as_ptr().addr() - lowest);
        // SAFETY: this is a node of `nodes`, because the words are at least 8 bytes apart and lie between `lowest` and
        // `highest`; the thread alone touches them.
        unsafe { node.write(Node(next)) };
        next = node;
    }
    // SAFETY: `head` is the local above.
    unsafe { (*head).first = Node(next) };
    // SAFETY: the head and its nodes live until the end of this function, which takes the registration back before.
    if unsafe { register(head) } {
        let id = gettid().as_raw_nonzero().get() as u32 | FUTEX_WAITERS;
        for word in &words.0 {
            // SAFETY: mapped until the thread has ended (`arm`).
            // ORDERING: Release; whoever sees the word armed sees the claim that came before.
            unsafe { word.as_ref() }.store(id, Release);
        }
        let _ = told.send(true);
        // ORDERING: Relaxed; nothing is read through it.
        while quit.load(Relaxed) == 0 {
            vigil(&Bed { quit });
        }
        for word in &words.0 {
            // SAFETY: mapped until the thread has ended (`arm`).
            // ORDERING: Relaxed; the claim is closed by the time, and the word says nothing more. Unless a successor has
            // armed it already.
            let _ = unsafe { word.as_ref() }.compare_exchange(id, 0, Relaxed, Relaxed);
            // Whoever watches it must look for its successor.
            // SAFETY: as above.
            futex::wake_all(unsafe { word.as_ref() }, Scope::Shared);
        }
        // SAFETY: an empty list needs nothing to live.
        unsafe { register(ptr::null_mut()) };
    } else {
        let _ = told.send(false);
    }
}

/// Registers the list of this thread; the null pointer for none. False when the kernel refuses.
///
/// # Safety
/// The list must live until another one is registered or the thread ends.
unsafe fn register(head: *mut Head) -> bool {
    // SAFETY: the kernel reads the list when the thread ends; it lives until then (the caller). This thread uses no
    // robust mutex of the C library, whose list this replaces.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) == 0 }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;
    use crate::sys::{
        peer::{Identity, Life, life, this_process},
        segment::{Mapping, Segment},
        testing,
    };
    use rustix::{
        param::page_size,
        process::{Signal, kill_process},
    };
    use std::{
        env,
        path::{Path, PathBuf},
    };

    const SEGMENT: &str = "RINGPOST_TEST_SEGMENT";

    fn words(mapping: &Mapping) -> Vec<NonNull<AtomicU32>> {
        // SAFETY: the page is longer.
        [0, 8, 256, 4000].map(|offset| unsafe { mapping.control().add(offset).cast() }).into()
    }

    fn word(mapping: &Mapping, index: usize) -> &AtomicU32 {
        // SAFETY: mapped, and accessed atomically by all.
        unsafe { words(mapping)[index].as_ref() }
    }

    /// The process that is killed: arms its words, and fills `megabytes` of memory that take long to free.
    fn victim(path: &Path, megabytes: usize) {
        let mapping =
            Segment::open(path, crate::sys::process::effective_user()).unwrap().map(page_size(), page_size());
        let mapping = mapping.unwrap();
        let ballast = vec![1u8; megabytes << 20];
        // SAFETY: the mapping outlives the alarm.
        let alarm = unsafe { Alarm::arm(words(&mapping), |bed| bed.sleep(&[], None)) };
        assert!(alarm.is_some());
        std::hint::black_box(&ballast);
        loop {
            thread::park();
        }
    }

    /// Starts the victim, waits until its words are armed, kills it while this thread sleeps on one of them.
    fn kill_and_see(name: &str, megabytes: usize) {
        let path = PathBuf::from(format!("/dev/shm/ringpost-watch-{name}-{}", std::process::id()));
        if testing::is_again() {
            return victim(Path::new(&env::var_os(SEGMENT).unwrap()), megabytes);
        }
        let segment = Segment::unnamed(Path::new("/dev/shm"), 2 * page_size() as u64, 0o600).unwrap();
        segment.publish(&path).unwrap();
        let mapping = segment.map(page_size(), page_size()).unwrap();
        let mut child = testing::again(&[], module_path!(), name).env(SEGMENT, &path).spawn().unwrap();
        while hint(word(&mapping, 3).load(Acquire)) != Hint::Armed {
            assert!(child.try_wait().unwrap().is_none());
            thread::yield_now();
        }
        let pid = Pid::from_child(&child);
        let armed = word(&mapping, 2).load(Acquire);
        thread::scope(|threads| {
            threads.spawn(|| {
                let far = Deadline::after(Duration::from_secs(60));
                while word(&mapping, 2).load(Acquire) == armed && !far.passed() {
                    futex::wait(word(&mapping, 2), armed, Some(far), Scope::Shared);
                }
            });
            kill_process(pid, Signal::KILL).unwrap();
        });
        // The kernel changes one after the other.
        let far = Deadline::after(Duration::from_secs(60));
        for index in 0..4 {
            while hint(word(&mapping, index).load(Acquire)) != Hint::Died {
                assert!(!far.passed(), "word {index}");
                thread::yield_now();
            }
        }
        // The other threads of the victim end within moments; nobody has waited for it yet.
        let victim = Identity { pid: child.id(), start_ticks: 0 };
        while life(victim) == Life::Alive {
            thread::yield_now();
        }
        child.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_killed_process_leaves_its_words_changed_and_wakes_who_sleeps_on_one() {
        kill_and_see("a_killed_process_leaves_its_words_changed_and_wakes_who_sleeps_on_one", 0);
    }

    #[test]
    fn the_proof_does_not_wait_until_the_memory_of_the_dead_is_freed() {
        kill_and_see("the_proof_does_not_wait_until_the_memory_of_the_dead_is_freed", 300);
    }

    #[test]
    fn a_dropped_alarm_leaves_its_words_unarmed() {
        let segment = Segment::memfd("watch", 2 * page_size() as u64).unwrap();
        let mapping = segment.map(page_size(), page_size()).unwrap();
        // SAFETY: the mapping outlives the alarm.
        let alarm = unsafe { Alarm::arm(words(&mapping), |bed| bed.sleep(&[], None)) }.unwrap();
        assert_eq!(hint(word(&mapping, 1).load(Acquire)), Hint::Armed);
        assert_eq!(life(this_process()), Life::Alive);
        drop(alarm);
        assert_eq!(hint(word(&mapping, 1).load(Acquire)), Hint::Unarmed);
    }
}
