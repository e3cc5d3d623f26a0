//! Memory that several processes read and write as they like.

use super::copy;
use crate::{
    error::SegmentError,
    sync::AtomicU32,
    sys::{
        clock::Deadline,
        futex::{self, Scope, Waited},
        process,
        segment::CommonBlock,
    },
};
use std::{
    fmt,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    slice,
    time::Duration,
};

/// What it is called in `/proc/<pid>/maps`.
const NAME: &str = "ringpost-shared";

/// Bytes of a word.
const WORD: usize = size_of::<AtomicU32>();

/// Memory that every process that has it reads and writes, with whatever synchronisation these agree on: the *shared memory* of the
/// lectures, on which a ring is built as well. It is zero at first, all of it is taken when it is made, and it is free when the
/// last process has dropped it, or has died.
///
/// It goes to another process as a descriptor: inherited ([`inheritable_fd`](SharedMemory::inheritable_fd)), or passed over a Unix
/// socket. A forked child has it, too.
///
/// # Memory model
///
/// [`words`](SharedMemory::words) are atomics, as between threads: a store with `Release` happens before a load with `Acquire` that
/// reads it, in whichever process. [`write_at`](SharedMemory::write_at) and [`read_at`](SharedMemory::read_at) copy bytes and order
/// nothing: who reads while another writes gets bytes of both, never undefined behaviour. So: write the bytes, store a word with
/// `Release`; load that word with `Acquire`, read the bytes. What [`wait`](SharedMemory::wait) says is only that it is worth looking:
/// load the word again.
///
/// # What it does not do
///
/// Nobody is told when a process dies: a lock whose holder was killed stays taken, and a semaphore that was taken is not given back.
/// That, and much else, is why there are rings.
///
/// ```
/// use ringpost::SharedMemory;
/// use std::sync::atomic::Ordering::{Acquire, Release};
///
/// let memory = SharedMemory::new(4096)?;
/// let other = SharedMemory::from_fd(memory.inheritable_fd()?)?; // in another process
/// memory.write_at(64, b"hi");
/// memory.words()[0].store(1, Release);
/// memory.wake_all(0);
///
/// while other.words()[0].load(Acquire) == 0 {
///     other.wait(0, 0);
/// }
/// let mut bytes = [0; 2];
/// other.read_at(64, &mut bytes);
/// assert_eq!(&bytes, b"hi");
/// # Ok::<(), ringpost::SegmentError>(())
/// ```
pub struct SharedMemory(CommonBlock);

impl SharedMemory {
    /// Memory of so many bytes, at least one. It has a descriptor, and no name.
    ///
    /// # Errors
    /// [`SegmentError::TooShort`] for none, [`SegmentError::NoMemory`], [`SegmentError::NoDescriptor`].
    pub fn new(bytes: usize) -> Result<Self, SegmentError> {
        CommonBlock::new(NAME, bytes).map(Self)
    }

    /// The memory of a descriptor that was inherited or received: of a [`SharedMemory`], or of any memfd whose size is sealed.
    ///
    /// # Errors
    /// [`SegmentError::NotRegular`] and [`SegmentError::NotSealed`] when somebody could cut it off while it is used;
    /// [`SegmentError::Holes`] when not all its memory is there; [`SegmentError::TooShort`] when it has none;
    /// [`SegmentError::NoMemory`] when it can't be mapped.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, SegmentError> {
        CommonBlock::take(fd).map(Self)
    }

    /// A copy of the descriptor that a child process inherits (without close-on-exec).
    ///
    /// # Errors
    /// [`SegmentError::NoDescriptor`].
    pub fn inheritable_fd(&self) -> Result<OwnedFd, SegmentError> {
        process::inheritable(self.0.fd())
    }

    /// Bytes of it.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: it has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it as words of 4 bytes; up to three bytes at the end belong to none.
    pub fn words(&self) -> &[AtomicU32] {
        // SAFETY: the block is so long, begins at a page, is mapped as long as this value is there, and its size is sealed; words
        // that others change are atomics.
        unsafe { slice::from_raw_parts(self.0.start().as_ptr().cast(), self.len() / WORD) }
    }

    /// Copies `bytes` to byte `offset` and those behind.
    ///
    /// # Panics
    /// When they don't fit.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        // SAFETY: inside the block, which no slice of ours overlaps.
        unsafe { copy::into_shared(bytes, self.0.start().as_ptr().add(offset)) };
    }

    /// Copies `to.len()` bytes from byte `offset` on.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        // SAFETY: as in `write_at`.
        unsafe { copy::out_of_shared(self.0.start().as_ptr().add(offset), to) };
    }

    #[track_caller]
    fn check(&self, offset: usize, length: usize) {
        let end = offset.checked_add(length);
        assert!(end.is_some_and(|end| end <= self.len()), "{length} bytes at {offset} of {}", self.len());
    }

    /// Sleeps while word `index` is `expected`, until somebody wakes it. May return at any time: look again.
    ///
    /// # Panics
    /// When there is no such word.
    pub fn wait(&self, index: usize, expected: u32) {
        futex::wait(&self.words()[index], expected, None, Scope::Shared);
    }

    /// The same; sleeps at most `timeout`, and is false when that is over.
    ///
    /// # Panics
    /// When there is no such word.
    pub fn wait_timeout(&self, index: usize, expected: u32, timeout: Duration) -> bool {
        let deadline = Some(Deadline::after(timeout));
        futex::wait(&self.words()[index], expected, deadline, Scope::Shared) == Waited::Woken
    }

    /// Wakes the one who has slept longest on word `index`; false when nobody sleeps there. Change the word before. Never blocks.
    ///
    /// # Panics
    /// When there is no such word.
    pub fn wake_one(&self, index: usize) -> bool {
        futex::wake_one(&self.words()[index], Scope::Shared)
    }

    /// Wakes everybody who sleeps on word `index`. Change the word before. Never blocks.
    ///
    /// # Panics
    /// When there is no such word.
    pub fn wake_all(&self, index: usize) {
        futex::wake_all(&self.words()[index], Scope::Shared);
    }
}

impl AsFd for SharedMemory {
    /// Its descriptor, to be passed to another process.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("len", &self.len()).finish()
    }
}
