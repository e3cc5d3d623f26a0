//! State that survives its server, and the answers that it gave.
//!
//! ```text
//! head: magic, sizes, interface     owner: the server     commit word: number of the last commit
//! copy 0: state, sessions           copy 1: state, sessions
//! ```
//!
//! The lowest bit of the commit word names the copy that counts. A commit writes the other one (the new state, the answer in
//! its session's place, and what the commit before has changed there), and then stores the word: state, number and answer
//! become visible in one atomic store, or not at all. A kill loses no store that was made, so the order of the stores is all
//! that counts; nothing is said of a loss of power.

mod lock;
#[cfg(test)]
mod tests;
mod words;

use crate::{
    context::Session,
    error::Refusal,
    interface::{Description, Interface},
    owner::Owner,
    presence::Presence,
};
use lock::Lock;
use rustix::{
    fs::{FallocateFlags, Mode, OFlags, fallocate, fstat, open},
    io::{Errno, pread, retry_on_intr},
    process::geteuid,
};
use std::{
    collections::HashMap,
    fmt, io,
    marker::PhantomData,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use words::Words;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, TryFromBytes};

/// Sessions that are remembered.
const PLACES: usize = 256;
/// Bytes of the longest answer.
const LONGEST_ANSWER: usize = 1024;

const MAGIC: u64 = u64::from_le_bytes(*b"rpcdur03");
const MAGIC_AT: usize = 0;
const HEAD_AT: usize = 1;
/// The process that uses it, or has used it.
const OWNER_AT: usize = 5;
const COMMIT_AT: usize = 8;
const COPIES_AT: usize = 16;

/// What the file is for.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
struct Head {
    interface: u64,
    state_bytes: u64,
    places: u64,
    longest_answer: u64,
}

/// What is remembered of a session; the answer follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Default)]
#[repr(C)]
struct Place {
    /// All zero where there is none.
    session: [u8; 16],
    owner: Owner,
    /// Of the last call that was done.
    number: u64,
    /// Bytes of its answer.
    length: u64,
}

/// Held while a state is opened.
static OPENING: Mutex<()> = Mutex::new(());

/// Words of a place with its answer.
const PLACE_WORDS: usize = (size_of::<Place>() + LONGEST_ANSWER) / 8;

/// Why a state could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum DurableError {
    /// The file can't be had.
    File(io::Error),
    /// Another server uses it, and lives.
    InUse,
    /// It is another user's, or others may write to it.
    NotOurs,
    /// It is the state of another interface, or of another type, or no state at all.
    Mismatch,
}

impl fmt::Display for DurableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => write!(f, "the state can't be had: {error}"),
            Self::InUse => f.write_str("another server uses the state"),
            Self::NotOurs => f.write_str("the state is another user's, or others may write to it"),
            Self::Mismatch => f.write_str("it is the state of another interface or type, or none at all"),
        }
    }
}

impl std::error::Error for DurableError {}

impl From<Errno> for DurableError {
    fn from(errno: Errno) -> Self {
        Self::File(errno.into())
    }
}

/// The state of a service that does each call exactly once: plain old data in a file, `/dev/shm` say, that one server at a
/// time uses. It remembers the last answer of up to 256 sessions, each up to 1024 bytes.
///
/// Its size is bounded by the stack, over which it goes as a value: the threads of a server have as much as that takes, and who
/// calls [`open`](Self::open) or [`state`](Self::state) with a state of more than a hundred kilobytes gives their thread ten times its
/// size.
///
/// It belongs to the process that has opened it: a child that is forked from that can't serve with it, and does not keep it from
/// a successor of its parent.
///
/// It survives the server's death at any instruction; a crash of the machine only where the file does, and only as far as the
/// kernel has written it.
pub struct Durable<S> {
    words: Words,
    /// Number of the last commit.
    commit: u64,
    /// The place that the last commit has changed.
    changed: Option<usize>,
    places: HashMap<Session, usize>,
    presence: Arc<Presence>,
    lock: Lock,
    state: PhantomData<fn() -> S>,
}

/// What is known of a call.
pub(crate) enum Recollection {
    /// It is the last that was done; its answer is there.
    Answered,
    /// A later one was done.
    Later,
    /// Nothing.
    New,
}

impl<S: TryFromBytes + IntoBytes + Immutable> Durable<S> {
    const STATE_WORDS: usize = size_of::<S>().div_ceil(8);
    const COPY_WORDS: usize = Self::STATE_WORDS + PLACES * PLACE_WORDS;
    const WORDS: usize = COPIES_AT + 2 * Self::COPY_WORDS;

    /// Opens the state at `path`, or makes one that is `initial`. Waits for no other process, but while another thread of this one
    /// opens a state.
    ///
    /// # Errors
    /// [`DurableError`].
    pub fn open<I: Interface>(path: impl AsRef<Path>, initial: &S) -> Result<Self, DurableError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = open(path.as_ref(), flags, Mode::RUSR | Mode::WUSR)?;
        let found = fstat(&file)?;
        if found.st_uid != geteuid().as_raw() || found.st_mode & 0o022 != 0 {
            return Err(DurableError::NotOurs);
        }
        // In one process the locks are not enough before the owner is written.
        let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = Lock::on(file)?;
        let file = lock.file();
        let bytes = (Self::WORDS * 8) as u64;
        let there = fstat(file)?.st_size as u64;
        // Nothing is written before all the memory is there: so what is shorter, and no zeros, is something else.
        if there > bytes || there < bytes && !is_zero(file, there)? {
            return Err(DurableError::Mismatch);
        }
        // Also of a file that is as long: it may be a copy that has holes.
        allocate(bytes, |offset, length| fallocate(file, FallocateFlags::empty(), offset, length))?;
        let words = Words::map(file, Self::WORDS).map_err(DurableError::File)?;
        let head = Head {
            interface: Description::of::<I>().hash(),
            state_bytes: size_of::<S>() as u64,
            places: PLACES as u64,
            longest_answer: LONGEST_ANSWER as u64,
        };
        if words.load(MAGIC_AT) == 0 {
            // Nobody has finished to make it: nothing is committed.
            let mut unwritten = (COMMIT_AT..COPIES_AT).chain(COPIES_AT + Self::STATE_WORDS..Self::WORDS);
            if unwritten.any(|at| words.load(at) != 0) {
                return Err(DurableError::Mismatch);
            }
            words.write(HEAD_AT, head.as_bytes());
            words.write(COPIES_AT, initial.as_bytes());
            words.publish(MAGIC_AT, MAGIC);
        }
        let mut there = Head::default();
        words.read(HEAD_AT, there.as_mut_bytes());
        if words.load(MAGIC_AT) != MAGIC || there != head {
            return Err(DurableError::Mismatch);
        }
        let commit = words.load(COMMIT_AT);
        let mut durable = Self {
            words,
            commit,
            changed: None,
            places: HashMap::new(),
            presence: Arc::new(Presence::new()),
            lock,
            state: PhantomData,
        };
        durable.try_state().ok_or(DurableError::Mismatch)?;
        durable.words.copy(durable.copy(commit), durable.copy(commit + 1), Self::COPY_WORDS);
        for index in 0..PLACES {
            let place = durable.read_place(index);
            if place.length as usize > LONGEST_ANSWER {
                return Err(DurableError::Mismatch);
            }
            if place.session != [0; 16] {
                durable.places.insert(Session(place.session), index);
            }
        }
        durable.words.write(OWNER_AT, Owner::this_process().as_bytes());
        Ok(durable)
    }

    /// How long a session is remembered that has no link, while its client's process lives: 60 s, unless this is said. Only when
    /// all places are taken is it forgotten then, for another. A client that comes back later, in the middle of a call, gets
    /// [`Refusal::Forgotten`] where the call may have been done.
    pub fn forget_after(self, grace: Duration) -> Self {
        Self { presence: Arc::new(Presence::new().with_grace(grace)), ..self }
    }

    /// Whether this process has opened it.
    pub(crate) fn is_ours(&self) -> bool {
        self.lock.is_ours()
    }

    /// Which sessions have a link: the server says.
    pub(crate) fn presence(&self) -> Arc<Presence> {
        Arc::clone(&self.presence)
    }

    /// Whether all is known of a call that was sent this long ago, at most, for the first time.
    pub(crate) fn remembers(&self, session: Session, age: Duration) -> bool {
        // A session is forgotten only when it had no link for a time; and when the call was sent, it had one.
        self.places.contains_key(&session) || !self.presence.may_have_gone_within(age)
    }

    /// A copy of what was committed last.
    ///
    /// # Panics
    /// When another process has written to the file, past the lock, what is no value of `S`.
    pub fn state(&self) -> S {
        self.try_state().expect("nobody else writes to the state")
    }

    fn try_state(&self) -> Option<S> {
        let mut bytes = vec![0; size_of::<S>()];
        self.words.read(self.copy(self.commit), &mut bytes);
        S::try_read_from_bytes(&bytes).ok()
    }

    pub(crate) fn recall(&self, session: Session, number: u64, answer: &mut Vec<u8>) -> Recollection {
        let Some(&index) = self.places.get(&session) else { return Recollection::New };
        let place = self.read_place(index);
        if place.number < number {
            return Recollection::New;
        }
        if place.number > number {
            return Recollection::Later;
        }
        answer.resize((place.length as usize).min(LONGEST_ANSWER), 0);
        self.words.read(self.place_at(self.commit, index) + size_of::<Place>() / 8, answer);
        Recollection::Answered
    }

    /// Where a session is remembered, or can be.
    pub(crate) fn place(&self, session: Session) -> Option<usize> {
        if let Some(&index) = self.places.get(&session) {
            return Some(index);
        }
        let places = || (0..PLACES).map(|index| (index, self.read_place(index)));
        let free = places().find(|(_, place)| place.session == [0; 16]);
        let dead = || places().find(|(_, place)| place.owner.is_dead());
        let gone = || places().find(|(_, place)| self.presence.is_gone(Session(place.session)));
        free.or_else(dead).or_else(gone).map(|(index, _)| index)
    }

    pub(crate) fn commit(
        &mut self,
        state: &S,
        index: usize,
        session: Session,
        owner: Owner,
        number: u64,
        answer: &[u8],
    ) -> Result<(), Refusal> {
        if answer.len() > LONGEST_ANSWER {
            return Err(Refusal::AnswerTooLong);
        }
        let place = Place { session: session.0, owner, number, length: answer.len() as u64 };
        let before = self.read_place(index).session;
        self.change(state, index, &place, answer);
        // Only now is it forgotten: a call that fails takes nobody's place.
        self.places.remove(&Session(before));
        self.places.insert(session, index);
        Ok(())
    }

    /// The session has ended: its place is free.
    pub(crate) fn forget(&mut self, session: Session) {
        if let Some(index) = self.places.remove(&session) {
            self.change(&self.state(), index, &Place::default(), &[]);
        }
    }

    fn change(&mut self, state: &S, index: usize, place: &Place, answer: &[u8]) {
        let next = self.commit + 1;
        if let Some(before) = self.changed.filter(|&before| before != index) {
            self.words.copy(self.place_at(self.commit, before), self.place_at(next, before), PLACE_WORDS);
        }
        self.words.write(self.copy(next), state.as_bytes());
        self.words.write(self.place_at(next, index), place.as_bytes());
        self.words.write(self.place_at(next, index) + size_of::<Place>() / 8, answer);
        self.words.publish(COMMIT_AT, next);
        (self.commit, self.changed) = (next, Some(index));
    }

    fn read_place(&self, index: usize) -> Place {
        let mut place = Place::default();
        self.words.read(self.place_at(self.commit, index), place.as_mut_bytes());
        place
    }

    /// Where the copy of a commit begins.
    fn copy(&self, commit: u64) -> usize {
        COPIES_AT + (commit & 1) as usize * Self::COPY_WORDS
    }

    fn place_at(&self, commit: u64, index: usize) -> usize {
        self.copy(commit) + Self::STATE_WORDS + index * PLACE_WORDS
    }
}

/// Gives a file so many bytes of memory, in steps: else a process with a fast interval timer would never get on.
fn allocate(bytes: u64, mut step: impl FnMut(u64, u64) -> Result<(), Errno>) -> Result<(), Errno> {
    const STEP: u64 = 8 << 20;
    (0..bytes)
        .step_by(STEP as usize)
        .try_for_each(|offset| retry_on_intr(|| step(offset, STEP.min(bytes - offset))))
}

/// Whether the first so many bytes of a file are all zero.
fn is_zero(file: &OwnedFd, bytes: u64) -> Result<bool, Errno> {
    let mut chunk = [0; 4096];
    let mut offset = 0;
    while offset < bytes {
        let length = retry_on_intr(|| pread(file, &mut chunk, offset))?;
        if length == 0 {
            break;
        }
        if chunk[..length].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        offset += length as u64;
    }
    Ok(true)
}

impl<S> fmt::Debug for Durable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable").field("commit", &self.commit).finish()
    }
}
