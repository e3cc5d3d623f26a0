//! Making and opening rings.

#[cfg(feature = "shared_memory")]
mod hosted;
mod mailbox;

use super::{
    attach, checksum, copy, elastic,
    ring::{Home, Inner, Ring},
    trust::Trusted,
};
use crate::{
    error::{BOOT, OpenError, SegmentError},
    header::{self, Header, Item, Kind, LEAST_CAPACITY, MOST_CAPACITY, mismatch},
    layout,
    ring::{
        mailbox::{MOST_CELLS, MOST_SEATS, Shape},
        memory::Memory,
        position::{Geometry, Position},
    },
    sys::{
        barrier,
        fork::Generation,
        futex::Scope,
        heap::Heap,
        peer, process, random,
        segment::{Mapping, Segment},
    },
    wait::WaitStrategy,
};
use std::{
    any::Any,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Capacity of a ring whose builder does not say: large enough that neither side waits for the other's cache, small
/// enough for sixteen rings in a container's 64 MB of shared memory.
pub(super) const DEFAULT_CAPACITY: u64 = 4 << 20;

/// File names of named rings begin with this.
pub(crate) const PREFIX: &str = "ringpost.";

/// What is said of a segment of the `shared_memory` crate.
pub(super) const HOSTED: OpenError =
    OpenError::NotARing { why: "it is hosted in a segment of the shared_memory crate" };

/// Longest name, in bytes: a file name has at most 255.
pub(super) const LONGEST_NAME: usize = 255 - PREFIX.len();

/// What becomes of a name when the process that made the ring drops its last handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Lifetime {
    /// It stays until it is unlinked, also over the end of every process.
    #[default]
    Persist,
    /// It goes. (When the process is killed it stays, owned by a dead process.)
    Owned,
}

/// How to make or open a ring. Started by [`builder`] with a name or by [`unnamed`] without.
///
/// ```
/// let ring = ringpost::unnamed().capacity(1 << 16).memfd()?;
/// assert_eq!(ring.info().capacity, 1 << 16);
/// # Ok::<(), ringpost::OpenError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until a ring is made or opened"]
pub struct Builder {
    name: String,
    directory: PathBuf,
    capacity: Option<u64>,
    longest: Option<u64>,
    pub(super) many_senders: Option<u8>,
    readers: Option<u8>,
    /// Most messages of a mailbox.
    messages: Option<u32>,
    priorities: u8,
    seats: u8,
    item: Option<Item>,
    pub(super) rendezvous: bool,
    pub(super) elastic: bool,
    pub(super) checksummed: bool,
    mode: u32,
    owner: Option<u32>,
    lifetime: Lifetime,
    wait: WaitStrategy,
    pub(super) handshake: Option<Duration>,
    pub(super) start: Position,
}

/// A builder for the ring of this name, which other processes open by it.
///
/// A name has 1 to 246 bytes and no slash, and does not begin with a dot. It is checked when the ring is made or opened.
pub fn builder(name: impl Into<String>) -> Builder {
    Builder {
        name: name.into(),
        directory: "/dev/shm".into(),
        capacity: None,
        longest: None,
        many_senders: None,
        readers: None,
        messages: None,
        priorities: 1,
        seats: MOST_SEATS,
        item: None,
        rendezvous: false,
        elastic: false,
        checksummed: false,
        mode: 0o600,
        owner: None,
        lifetime: Lifetime::default(),
        wait: WaitStrategy::default(),
        handshake: None,
        start: Position::new(0),
    }
}

/// A builder for a ring without a name: a memfd, or memory of this process.
pub fn unnamed() -> Builder {
    builder("")
}

impl Builder {
    /// Bytes of the data area, from 1 to 2^40, rounded up to a power of two and at least to
    /// [`smallest_capacity`](crate::limits::smallest_capacity). Each message takes 16 bytes more than its length (20 with a
    /// checksum), rounded up to 8. Default 4 MiB. When a ring is opened: what it must have.
    pub fn capacity(mut self, bytes: u64) -> Self {
        self.capacity = Some(bytes);
        self
    }

    /// Bytes of the longest message. Default (and most): 16 bytes less than the capacity, at most 2^32 − 1; half of that in
    /// a ring inside a process or in a hosted one; less in a [`checksummed`](Builder::checksummed) ring and in an
    /// [`elastic`](Builder::elastic) one, as they say. When a ring is opened: what it must have.
    pub fn longest_message(mut self, bytes: u64) -> Self {
        self.longest = Some(bytes);
        self
    }

    /// A ring for up to this many senders at a time (1 to 255), in one total order. Without this: for one.
    pub fn many_senders(mut self, most: u8) -> Self {
        self.many_senders = Some(most);
        self
    }

    /// A ring for one sender and up to this many readers (1 to 255), each of which gets every message; attach with
    /// [`Ring::publisher`], [`Ring::subscriber`] and [`Ring::watcher`].
    pub fn broadcast(mut self, readers: u8) -> Self {
        self.readers = Some(readers);
        self
    }

    /// A ring in which every message is a `T`, and so is the longest; attach with [`Sender::typed`](crate::Sender::typed) and
    /// [`Receiver::typed`](crate::Receiver::typed). The alignment of `T` can be at most 8.
    ///
    /// The ring keeps the size of `T`, its alignment, and a number made of its name without paths. An end of another type is
    /// refused, and so is a message of another length, whoever sends it; bytes of that length are still anybody's, and are checked
    /// when they are received.
    pub fn fixed<T>(mut self) -> Self {
        self.item = Some(Item::of::<T>());
        self.longest = Some(size_of::<T>() as u64);
        self
    }

    /// Permission bits of a named ring, or of the socket of a listener, whatever the umask. Default 0600: this user only. Of a ring the bit
    /// for writing by others (0002) is refused, and of both whatever the owner can't read and write.
    pub fn mode(mut self, bits: u32) -> Self {
        self.mode = bits;
        self
    }

    /// The user to whom a named ring must belong when it is opened, or who must listen when a link is made. Default: the effective user of this process.
    pub fn owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// Where named rings live. Default `/dev/shm`; the same on both sides. Must be on a tmpfs, or on a file system with
    /// unnamed files, shared mappings and locks.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// What becomes of the name when this process drops its last handle. Default [`Lifetime::Persist`].
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How the handles of this process wait. Default [`WaitStrategy::SpinThenSleep`].
    pub fn wait(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// How long the other side of a new link may take to say who it is and to pass its memory. Default: 1 s for who
    /// listens, 5 s for who connects.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake = Some(timeout);
        self
    }

    /// First position of the ring in units of 8 bytes, so that tests can stand just below the wrap of the counters.
    #[doc(hidden)]
    pub fn start_position(mut self, units: u64) -> Self {
        self.start = Position::new(units);
        self
    }

    /// Makes the named ring. Nobody sees it before it is complete, and all its memory is taken here.
    ///
    /// # Errors
    /// [`OpenError::Segment`] with [`SegmentError::AlreadyExists`] when the name is taken, with
    /// [`SegmentError::NoSpace`] when the file system is too full; [`OpenError::Name`], [`OpenError::Mode`];
    /// [`OpenError::Setting`], [`OpenError::Mismatch`] when the builder's settings are out of bounds, or contradict each other.
    pub fn create(&self) -> Result<Ring, OpenError> {
        let path = self.path()?;
        if self.mode & !0o775 != 0 || self.mode & 0o600 != 0o600 {
            return Err(OpenError::Mode { bits: self.mode });
        }
        let header = self.header(true)?;
        let segment = Segment::unnamed(&self.directory, elastic::size(&header), self.mode)?;
        let memory = self.fill(&header, &segment, Some(&self.directory))?;
        segment.publish(&path)?;
        let mut inner = self.inner(memory, header, Home::Named { segment, path }, Scope::Shared);
        inner.owned_by = (self.lifetime == Lifetime::Owned).then(Generation::current);
        Ok(Ring::new(Arc::new(inner)))
    }

    /// Opens the named ring. What this builder says of the ring itself, such as its capacity, longest message, senders and type, must be
    /// so.
    ///
    /// # Errors
    /// [`OpenError::Segment`] with [`SegmentError::NotFound`] when there is none, and when it is not safe to use: another
    /// user's, writable by everybody, a link; [`OpenError::NotARing`]; [`OpenError::Mismatch`].
    pub fn open(&self) -> Result<Ring, OpenError> {
        let path = self.path()?;
        let segment = Segment::open(&path, self.expected_owner())?;
        let (header, memory) = self.check(&segment)?;
        Ok(Ring::new(Arc::new(self.inner(memory, header, Home::Named { segment, path }, Scope::Shared))))
    }

    /// Opens the named ring, or makes it when there is none. Of two that race, one makes it and the other opens it.
    ///
    /// # Errors
    /// Those of [`open`](Builder::open) and [`create`](Builder::create).
    pub fn open_or_create(&self) -> Result<Ring, OpenError> {
        self.open_or(|| self.create())
    }

    /// Opens the named ring, or has `create` make it, with this name, when there is none.
    pub(super) fn open_or(&self, create: impl Fn() -> Result<Ring, OpenError>) -> Result<Ring, OpenError> {
        // Each round somebody else has made or unlinked the name in between: they made progress, we try again.
        loop {
            match self.open() {
                Err(OpenError::Segment(SegmentError::NotFound { .. })) => {}
                other => return other,
            }
            match create() {
                Err(OpenError::Segment(SegmentError::AlreadyExists { .. })) => {}
                other => return other,
            }
        }
    }

    /// Makes a ring in a sealed memfd: its size can't change any more, and it vanishes with its last descriptor. Pass it
    /// with [`Ring::inheritable_fd`] or over a Unix socket; the other side calls [`Builder::from_fd`].
    ///
    /// # Errors
    /// [`OpenError::Segment`] when memory or descriptors are used up; [`OpenError::Setting`], [`OpenError::Mismatch`] as of
    /// [`create`](Builder::create).
    pub fn memfd(&self) -> Result<Ring, OpenError> {
        let header = self.header(true)?;
        let label = if self.name.is_empty() { "ringpost" } else { &self.name };
        let segment = Segment::memfd(label, elastic::size(&header))?;
        let memory = self.fill(&header, &segment, None)?;
        Ok(Ring::new(Arc::new(self.inner(memory, header, Home::Unnamed(segment), Scope::Shared))))
    }

    /// Opens a ring in a memfd that was inherited or received.
    ///
    /// # Errors
    /// [`OpenError::Segment`] with [`SegmentError::NotSealed`] when its size could still change;
    /// [`OpenError::NotARing`]; [`OpenError::Mismatch`].
    pub fn from_fd(&self, fd: OwnedFd) -> Result<Ring, OpenError> {
        let segment = Segment::from_fd(fd)?;
        let (header, memory) = self.check(&segment)?;
        Ok(Ring::new(Arc::new(self.inner(memory, header, Home::Unnamed(segment), Scope::Shared))))
    }

    /// Makes a ring in memory of this process, for its threads. Nobody else can write to it: it is trusted.
    ///
    /// # Errors
    /// [`OpenError::Setting`], [`OpenError::Mismatch`] as of [`create`](Builder::create); [`OpenError::Segment`] when there is not so much
    /// memory.
    pub fn in_process(&self) -> Result<Ring<Trusted>, OpenError> {
        let header = self.header(false)?;
        let bytes = header.segment_length();
        let heap = usize::try_from(bytes).ok().and_then(Heap::zeroed).ok_or_else(|| no_memory(bytes))?;
        let (control, control_length) = (heap.base(), header.control_length as usize);
        // SAFETY: the allocation is `control_length` and then the capacity long.
        let data = unsafe { control.add(control_length) };
        // SAFETY: zeroed memory of that size, aligned to a page, that nobody else knows of; it lives in `heap`.
        let memory = unsafe { memory(&header, control, data, Box::new(heap)) };
        memory.start_at(self.start);
        Ok(Ring::new(Arc::new(self.inner(memory, header, Home::Elsewhere, Scope::Private))))
    }

    /// Permission bits of a socket. Others may write to it: that is to connect, and whom it accepts is asked then.
    pub(super) fn socket_mode(&self) -> Result<u32, OpenError> {
        let possible = self.mode & !0o777 == 0 && self.mode & 0o600 == 0o600;
        if possible { Ok(self.mode) } else { Err(OpenError::Mode { bits: self.mode }) }
    }

    /// The user to whom what is opened must belong.
    pub(super) fn expected_owner(&self) -> u32 {
        self.owner.unwrap_or_else(process::effective_user)
    }

    pub(super) fn path(&self) -> Result<PathBuf, OpenError> {
        let why = match self.name.as_bytes() {
            [] => "it is empty",
            name if name.len() > LONGEST_NAME => "it has more than 246 bytes",
            name if name.contains(&b'/') => "it has a slash",
            name if name.contains(&0) => "it has a zero byte",
            [b'.', ..] => "it begins with a dot",
            _ => return Ok(path_of(&self.directory, &self.name)),
        };
        Err(OpenError::Name { name: self.name.clone(), why })
    }

    /// What a new ring is to be.
    pub(super) fn header(&self, mirrored: bool) -> Result<Header, OpenError> {
        let page = process::page_bytes();
        let shape = self.shape()?;
        let bytes = shape.map(Shape::length).or(self.capacity).unwrap_or(DEFAULT_CAPACITY);
        let capacity = rounded(bytes, mirrored)?;
        let kind = self.kind();
        if self.elastic {
            elastic::check(kind, self.rendezvous, capacity, mirrored)?;
        }
        let geometry = Geometry::new(capacity, mirrored);
        let most = match shape {
            Some(shape) => shape.longest.into(),
            None => header::longest_message(geometry, self.elastic, self.checksummed),
        };
        let longest = self.longest.unwrap_or(most);
        if longest > most {
            return Err(OpenError::Setting { what: "longest message", given: longest, least: 0, most });
        }
        if let Some(Item { size, .. }) = self.item.filter(|item| u64::from(item.size) != longest) {
            let (what, size) = ("longest message where all have one type", size.into());
            return Err(OpenError::Setting { what, given: longest, least: size, most: size });
        }
        if let Some(Item { align, .. }) = self.item.filter(|item| item.align > 8) {
            return Err(OpenError::Setting {
                what: "alignment of the type",
                given: align.into(),
                least: 1,
                most: 8,
            });
        }
        if self.checksummed {
            checksum::check(kind, mirrored, self.rendezvous)?;
        }
        let slots = kind.slots();
        let most = layout::MOST_SLOTS.into();
        match kind {
            Kind::Broadcast(_) if self.many_senders.is_some_and(|senders| senders != 1) => {
                let given = self.many_senders.unwrap_or_default().into();
                return Err(OpenError::Setting {
                    what: "number of senders of a broadcast",
                    given,
                    least: 1,
                    most: 1,
                });
            }
            Kind::Many(0) => {
                return Err(OpenError::Setting { what: "number of senders", given: 0, least: 1, most });
            }
            Kind::Broadcast(0) => {
                return Err(OpenError::Setting { what: "number of readers", given: 0, least: 1, most });
            }
            Kind::Broadcast(readers) if self.rendezvous => {
                let (what, given) = ("number of readers of a rendezvous", readers.into());
                return Err(OpenError::Setting { what, given, least: 0, most: 0 });
            }
            _ => {}
        }
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Header {
            kind,
            geometry,
            asymmetric: barrier::register(),
            rendezvous: self.rendezvous,
            elastic: self.elastic,
            checksummed: self.checksummed,
            control_length: layout::control_length(slots, page) as u32,
            longest: longest as u32,
            item: self.item,
            page: page as u32,
            key: random::number() & if self.elastic { !0xff } else { !0 },
            instance: random::number(),
            boot_id: peer::boot_id()?,
            namespaces: peer::namespaces()?,
            created_ns: since_1970.as_nanos() as u64,
            creator: attach::this_process().pid(),
        })
    }

    fn kind(&self) -> Kind {
        match (self.messages, self.readers, self.many_senders) {
            (Some(messages), ..) => {
                let cells = messages.clamp(1, MOST_CELLS).next_power_of_two();
                Kind::Mailbox { seats: self.seats, levels: self.priorities, cells }
            }
            (None, Some(readers), _) => Kind::Broadcast(readers),
            (None, None, Some(senders)) => Kind::Many(senders),
            (None, None, None) => Kind::Single,
        }
    }

    /// Whether this process can use a ring with this header, and whether it is the one that was asked for.
    fn accept(&self, found: &Header) -> Result<(), OpenError> {
        let (boot, namespace) = (peer::boot_id()?, peer::namespaces()?);
        if found.boot_id != boot {
            return Err(mismatch(BOOT, hex(found.boot_id), hex(boot)));
        }
        if found.namespaces != namespace {
            return Err(mismatch("PID and time namespace", found.namespaces, namespace));
        }
        self.agree(found)
    }

    /// Whether this process can map a ring with this header, and whether it is the one that was asked for.
    pub(super) fn agree(&self, found: &Header) -> Result<(), OpenError> {
        let page = process::page_bytes() as u32;
        if found.page != page && found.geometry.mirrored() {
            return Err(mismatch("page size in bytes", found.page, page));
        }
        if let Some(asked) = self.capacity {
            let asked = rounded(asked, found.geometry.mirrored())?;
            if asked != found.geometry.capacity() {
                return Err(mismatch("capacity in bytes", found.geometry.capacity(), asked));
            }
        }
        if self.item.is_some() && self.item != found.item {
            return Err(match (item(found.item), item(self.item)) {
                (found, asked) if found == asked => {
                    mismatch("name of the type of message", "another one", "that of the builder's type")
                }
                (found, asked) => mismatch("type of message", found, asked),
            });
        }
        if let Some(asked) = self.longest.filter(|&asked| asked != found.longest as u64) {
            return Err(mismatch("longest message in bytes", found.longest, asked));
        }
        let asked = self.kind();
        if asked != Kind::Single && asked != found.kind {
            return Err(mismatch("kind of ring", kind(found.kind), kind(asked)));
        }
        if self.rendezvous && !found.rendezvous {
            return Err(mismatch("how messages are handed over", "through a buffer", "in a rendezvous"));
        }
        if self.elastic && !found.elastic {
            return Err(mismatch("memory", "all there from the start", "elastic"));
        }
        if self.checksummed && !found.checksummed {
            return Err(mismatch("checksum of each message", "none", "CRC-32C"));
        }
        if found.asymmetric && !barrier::register() {
            return Err(OpenError::Unsupported { what: "membarrier(GLOBAL_EXPEDITED)" });
        }
        Ok(())
    }

    /// Maps a segment that nobody else sees yet, and makes it a ring, which is to have its name in this directory, if any.
    fn fill(
        &self,
        header: &Header,
        segment: &Segment,
        directory: Option<&Path>,
    ) -> Result<Memory, OpenError> {
        let mapping = elastic::map(header, segment)?;
        // SAFETY: the control area is longer than a header.
        unsafe { copy::into_shared(&header.encode(), mapping.control().as_ptr()) };
        let memory = elastic::stretch(mapped(header, mapping), header, segment)?;
        memory.start_at(self.start);
        elastic::begin(&memory, header, segment, directory)?;
        Ok(memory)
    }

    /// As [`Builder::check`], and maps it read-only.
    pub(super) fn check_to_read(&self, segment: &Segment) -> Result<(Header, Memory), OpenError> {
        let header = self.check_header(segment)?;
        let (control, capacity) = (header.control_length as usize, header.geometry.capacity() as usize);
        Ok((header, mapped(&header, segment.map_to_read(control, capacity)?)))
    }

    /// Checks a segment that somebody else has made, and maps it.
    pub(super) fn check(&self, segment: &Segment) -> Result<(Header, Memory), OpenError> {
        let header = self.check_header(segment)?;
        let memory = mapped(&header, elastic::map(&header, segment)?);
        Ok((header, elastic::stretch(memory, &header, segment)?))
    }

    fn check_header(&self, segment: &Segment) -> Result<Header, OpenError> {
        let mut bytes = [0; header::LENGTH];
        let there = segment.read_head(&mut bytes)?;
        let header = Header::decode(&bytes[..there])?;
        self.accept(&header)?;
        if header.geometry.mirrored() { Ok(header) } else { Err(HOSTED) }
    }

    pub(super) fn inner(&self, memory: Memory, header: Header, home: Home, scope: Scope) -> Inner {
        let (memory, wait) = (Arc::new(memory), self.wait);
        let spin_of_receipts = Inner::spin_as(wait).into();
        Inner { memory, header, home, owned_by: None, scope, wait, peer: None, spin_of_receipts }
    }
}

/// The capacity of a ring for which so many bytes are asked.
fn rounded(asked: u64, mirrored: bool) -> Result<u64, OpenError> {
    if !(1..=MOST_CAPACITY).contains(&asked) {
        return Err(OpenError::Setting { what: "capacity", given: asked, least: 1, most: MOST_CAPACITY });
    }
    let least = if mirrored { LEAST_CAPACITY.max(process::page_bytes() as u64) } else { LEAST_CAPACITY };
    Ok(asked.next_power_of_two().max(least))
}

/// Path of the ring `name` in `directory`.
pub(crate) fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{PREFIX}{name}"))
}

pub(super) fn mapped(header: &Header, mapping: Mapping) -> Memory {
    let (control, data) = (mapping.control(), mapping.data());
    // SAFETY: `Segment::map` has checked that the file is so long, and has mapped the data area twice; the mapping lives
    // in the box. Its size is sealed, or it is a named file, whose truncation by its owner is documented as fatal.
    unsafe { memory(header, control, data, Box::new(mapping)) }
}

/// # Safety
/// As for [`Memory::new`].
pub(super) unsafe fn memory(
    header: &Header,
    control: NonNull<u8>,
    data: NonNull<u8>,
    backing: Box<dyn Any + Send + Sync>,
) -> Memory {
    // SAFETY: as the caller promises.
    unsafe { Memory::new(header.geometry, header.key, header.slots(), control, data, backing) }
}

fn no_memory(bytes: u64) -> OpenError {
    OpenError::Segment(SegmentError::NoMemory { operation: "allocate the ring", bytes })
}

fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn item(item: Option<Item>) -> String {
    match item {
        None => "any bytes".into(),
        Some(Item { size, align, .. }) => format!("{size} bytes aligned to {align}"),
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Single => "one sender".into(),
        Kind::Many(slots) => format!("up to {slots} senders"),
        Kind::Broadcast(slots) => format!("one sender, up to {slots} readers"),
        Kind::Mailbox { seats, levels, cells } => {
            format!("a mailbox for {cells} messages of {levels} priorities, with {seats} seats")
        }
    }
}
