//! The page that says what a segment is: written once before it is published, read into a private copy and checked
//! before anything is mapped. Byte table in `docs/LAYOUT.md`.

use crate::{
    error::OpenError,
    layout::{self, MOST_SLOTS},
    ring::{
        elastic::Elastic,
        mailbox::{MOST_CELLS, MOST_LEVELS, MOST_SEATS, Shape},
        position::{Geometry, HEADER_UNITS, UNIT},
    },
};

/// Bytes of the header.
pub(crate) const LENGTH: usize = 128;

/// Where the name of the type of all messages stands, behind four bytes of zero.
const ITEM_NAME: usize = 112;

const MAGIC: [u8; 8] = *b"RINGPOST";
/// Changes with every change of the layout or of the protocol.
pub(crate) const VERSION: u32 = 1;
/// Read back as another number on a machine with another byte order.
const BYTE_ORDER: u32 = 0x0a0b_0c0d;

const MIRRORED: u32 = 1;
const ASYMMETRIC: u32 = 2;
const RENDEZVOUS: u32 = 4;
const ELASTIC: u32 = 8;
const CHECKSUMMED: u32 = 16;

/// Bytes of the checksum behind each message of a ring that has them.
pub(crate) const CHECKSUM_LENGTH: u32 = 4;

/// Smallest capacity, in bytes.
pub(crate) const LEAST_CAPACITY: u64 = 4096;
/// Largest capacity, in bytes: 2^40.
pub(crate) const MOST_CAPACITY: u64 = 1 << 40;

/// Smallest ceiling of an elastic ring, in bytes.
pub(crate) const LEAST_CEILING: u64 = 256 << 10;

/// Most bytes that a message of a ring can have. That of an elastic one fits beside the chunk that is being received.
pub(crate) fn longest_message(geometry: Geometry, elastic: bool, checksummed: bool) -> u64 {
    let capacity = geometry.capacity();
    let beside = capacity.saturating_sub(Elastic::chunk_bytes(capacity) + HEADER_UNITS * UNIT);
    let payload = geometry.longest_payload().min(if elastic { beside } else { u64::MAX });
    payload - if checksummed { CHECKSUM_LENGTH.into() } else { 0 }
}

/// How many senders and readers a ring is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// One at a time.
    Single,
    /// Up to this many at a time, in one total order.
    Many(u8),
    /// One sender at a time, and up to this many readers that get every message.
    Broadcast(u8),
    /// Any number of senders and receivers.
    Mailbox {
        /// How many at a time.
        seats: u8,
        /// Priorities.
        levels: u8,
        /// Most messages, a power of two.
        cells: u32,
    },
}

impl Kind {
    /// Number of slots.
    pub(crate) fn slots(self) -> u8 {
        match self {
            Kind::Single => 1,
            Kind::Many(slots) | Kind::Broadcast(slots) => slots,
            Kind::Mailbox { seats, .. } => seats,
        }
    }
}

/// The type of every message of a ring, when it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Item {
    /// Bytes.
    pub(crate) size: u32,
    pub(crate) align: u32,
    /// FNV-1a over its name without paths.
    pub(crate) name: u64,
}

impl Item {
    pub(crate) fn of<T>() -> Self {
        let size = u32::try_from(size_of::<T>()).unwrap_or(u32::MAX);
        Self { size, align: align_of::<T>() as u32, name: fnv(bare_name::<T>().as_bytes()) }
    }
}

/// The name of a type without the paths of its parts: two programs that have a declaration each, or have moved it, mean the same.
pub(crate) fn bare_name<T>() -> String {
    let mut bare = String::new();
    for part in core::any::type_name::<T>().split("::") {
        // What stands before the two colons is a path, back to where it begins.
        let is_outside = |letter: char| !letter.is_alphanumeric() && letter != '_';
        bare.truncate(bare.rfind(is_outside).map_or(0, |at| at + 1));
        bare.push_str(part);
    }
    bare
}

/// What a segment is. All fields are checked when it is decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) geometry: Geometry,
    pub(crate) asymmetric: bool,
    /// Messages are offered, and a sender waits until its own was taken.
    pub(crate) rendezvous: bool,
    /// Only what is in use has memory; the capacity is the ceiling.
    pub(crate) elastic: bool,
    /// Behind each message stand four bytes that guard it.
    pub(crate) checksummed: bool,
    /// Bytes before the data area.
    pub(crate) control_length: u32,
    /// Longest message in bytes, at most what the geometry can hold.
    pub(crate) longest: u32,
    pub(crate) item: Option<Item>,
    pub(crate) page: u32,
    /// Random, for the tags.
    pub(crate) key: u64,
    /// Random, tells this ring from another that was made under the same name.
    pub(crate) instance: u64,
    pub(crate) boot_id: [u8; 16],
    pub(crate) namespaces: u64,
    /// Nanoseconds since 1970.
    pub(crate) created_ns: u64,
    pub(crate) creator: u32,
}

impl Header {
    pub(crate) fn slots(&self) -> u8 {
        self.kind.slots()
    }

    /// What the mailbox is made for, if it is one.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let Kind::Mailbox { levels, cells, .. } = self.kind else { return None };
        Some(Shape { cells, levels, longest: self.longest })
    }

    /// Bytes of the whole segment.
    pub(crate) fn segment_length(&self) -> u64 {
        self.control_length as u64 + self.geometry.capacity()
    }

    pub(crate) fn encode(&self) -> [u8; LENGTH] {
        let mut bytes = Writer { bytes: [0; LENGTH], at: 0 };
        let (kind, slots) = match self.kind {
            Kind::Single => (1u32, 1u32),
            Kind::Many(slots) => (2, slots.into()),
            Kind::Broadcast(slots) => (3, slots.into()),
            Kind::Mailbox { seats, levels, cells } => {
                (4, u32::from(seats) | u32::from(levels) << 8 | cells.ilog2() << 16)
            }
        };
        let mirrored = if self.geometry.mirrored() { MIRRORED } else { 0 };
        let asymmetric = if self.asymmetric { ASYMMETRIC } else { 0 };
        let rendezvous = if self.rendezvous { RENDEZVOUS } else { 0 };
        let elastic = if self.elastic { ELASTIC } else { 0 };
        let checksummed = if self.checksummed { CHECKSUMMED } else { 0 };
        let item = self.item.unwrap_or(Item { size: 0, align: 0, name: 0 });
        bytes.put(&MAGIC);
        bytes.put(&VERSION.to_ne_bytes());
        bytes.put(&BYTE_ORDER.to_ne_bytes());
        bytes.put(&kind.to_ne_bytes());
        bytes.put(&(mirrored | asymmetric | rendezvous | elastic | checksummed).to_ne_bytes());
        bytes.put(&self.geometry.capacity().to_ne_bytes());
        bytes.put(&self.control_length.to_ne_bytes());
        bytes.put(&slots.to_ne_bytes());
        bytes.put(&self.longest.to_ne_bytes());
        bytes.put(&self.page.to_ne_bytes());
        bytes.put(&item.size.to_ne_bytes());
        bytes.put(&item.align.to_ne_bytes());
        bytes.put(&self.key.to_ne_bytes());
        bytes.put(&self.instance.to_ne_bytes());
        bytes.put(&self.boot_id);
        bytes.put(&self.namespaces.to_ne_bytes());
        bytes.put(&self.created_ns.to_ne_bytes());
        bytes.put(&self.creator.to_ne_bytes());
        bytes.at = ITEM_NAME;
        bytes.put(&item.name.to_ne_bytes());
        let sum = checksum(&bytes.bytes);
        bytes.put(&sum.to_ne_bytes());
        bytes.bytes
    }

    /// Checks every field of what somebody else has written; any bytes give a header or an error.
    pub(crate) fn decode(found: &[u8]) -> Result<Self, OpenError> {
        let Some(bytes) = found.first_chunk::<LENGTH>() else {
            return Err(OpenError::NotARing { why: "it is shorter than a header" });
        };
        let mut fields = Reader { bytes, at: 0 };
        if fields.take::<8>() != MAGIC {
            return Err(OpenError::NotARing { why: "it does not begin with RINGPOST" });
        }
        let version = fields.u32();
        if version != VERSION {
            let found = if version.swap_bytes() == VERSION {
                "another byte order".into()
            } else {
                version.to_string()
            };
            return Err(OpenError::Mismatch { what: "layout version", found, expected: VERSION.to_string() });
        }
        let order = fields.u32();
        if order != BYTE_ORDER {
            return Err(mismatch("byte order", format_args!("{order:#x}"), format_args!("{BYTE_ORDER:#x}")));
        }
        if fields.u64_at(LENGTH - 8) != checksum(bytes) {
            return Err(OpenError::NotARing { why: "its header is damaged: the checksum differs" });
        }
        let (kind, flags, capacity) = (fields.u32(), fields.u32(), fields.u64());
        let (control_length, slots, longest) = (fields.u32(), fields.u32(), fields.u32());
        let (page, size, align) = (fields.u32(), fields.u32(), fields.u32());
        let kind = match (kind, u8::try_from(slots)) {
            (1, Ok(1)) => Kind::Single,
            (2, Ok(1..=MOST_SLOTS)) => Kind::Many(slots as u8),
            (3, Ok(1..=MOST_SLOTS)) => Kind::Broadcast(slots as u8),
            (4, _) => mailbox(slots)?,
            _ => return Err(OpenError::NotARing { why: "its header names no known kind of ring" }),
        };
        if flags & !(MIRRORED | ASYMMETRIC | RENDEZVOUS | ELASTIC | CHECKSUMMED) != 0 {
            return Err(OpenError::NotARing { why: "its header has flags that this version does not know" });
        }
        let is_queue = matches!(kind, Kind::Single | Kind::Many(_));
        if flags & RENDEZVOUS != 0 && !is_queue {
            return Err(OpenError::NotARing { why: "its header makes a rendezvous of many readers" });
        }
        if !capacity.is_power_of_two() || !(LEAST_CAPACITY..=MOST_CAPACITY).contains(&capacity) {
            return Err(OpenError::NotARing { why: "its header has an impossible capacity" });
        }
        let geometry = Geometry::new(capacity, flags & MIRRORED != 0);
        let elastic = flags & ELASTIC != 0;
        let can_be_elastic =
            geometry.mirrored() && capacity >= LEAST_CEILING && flags & RENDEZVOUS == 0 && is_queue;
        if elastic && !can_be_elastic {
            return Err(OpenError::NotARing { why: "its header makes a ring elastic that can't be" });
        }
        let checksummed = flags & CHECKSUMMED != 0;
        if checksummed && !(geometry.mirrored() && is_queue && flags & RENDEZVOUS == 0) {
            return Err(OpenError::NotARing {
                why: "its header gives checksums to a ring that can't have them",
            });
        }
        if longest as u64 > longest_message(geometry, elastic, checksummed) {
            return Err(OpenError::NotARing { why: "its header has a message longer than the ring" });
        }
        if !page.is_power_of_two()
            || page < 4096
            || elastic && page as u64 > Elastic::chunk_bytes(capacity)
            || control_length as usize != layout::control_length(kind.slots(), page as usize)
        {
            return Err(OpenError::NotARing { why: "its header has an impossible control area" });
        }
        let key = fields.u64();
        if elastic && key & 0xff != 0 {
            return Err(OpenError::NotARing { why: "its key would make zeros a message" });
        }
        let item = (size, align) != (0, 0);
        if item && (!align.is_power_of_two() || align > 8 || size > longest) {
            return Err(OpenError::NotARing { why: "its header has an impossible type of message" });
        }
        let header = Self {
            kind,
            geometry,
            asymmetric: flags & ASYMMETRIC != 0,
            rendezvous: flags & RENDEZVOUS != 0,
            elastic,
            checksummed,
            control_length,
            longest,
            item: item.then_some(Item { size, align, name: fields.u64_at(ITEM_NAME) }),
            page,
            key,
            instance: fields.u64(),
            boot_id: fields.take(),
            namespaces: fields.u64(),
            created_ns: fields.u64(),
            creator: fields.u32(),
        };
        if header.shape().is_some_and(|shape| item || shape.length() > capacity) {
            return Err(OpenError::NotARing { why: "its header has a mailbox that does not fit into it" });
        }
        Ok(header)
    }
}

/// What the slots field says of a mailbox.
fn mailbox(slots: u32) -> Result<Kind, OpenError> {
    let [seats, levels, cells, rest] = slots.to_le_bytes();
    let possible = (1..=MOST_SEATS).contains(&seats)
        && (1..=MOST_LEVELS).contains(&levels)
        && u32::from(cells) <= MOST_CELLS.ilog2()
        && rest == 0;
    if !possible {
        return Err(OpenError::NotARing { why: "its header has an impossible mailbox" });
    }
    Ok(Kind::Mailbox { seats, levels, cells: 1 << cells })
}

/// An error that prints both sides.
pub(crate) fn mismatch(
    what: &'static str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> OpenError {
    OpenError::Mismatch { what, found: found.to_string(), expected: expected.to_string() }
}

/// FNV-1a over all but the last eight bytes: against accidents, not against malice.
fn checksum(bytes: &[u8; LENGTH]) -> u64 {
    fnv(&bytes[..LENGTH - 8])
}

fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

struct Writer {
    bytes: [u8; LENGTH],
    at: usize,
}

impl Writer {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

struct Reader<'a> {
    bytes: &'a [u8; LENGTH],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = std::array::from_fn(|n| self.bytes[self.at + n]);
        self.at += N;
        field
    }

    fn u32(&mut self) -> u32 {
        u32::from_ne_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_ne_bytes(self.take())
    }

    fn u64_at(&self, at: usize) -> u64 {
        Reader { bytes: self.bytes, at }.u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: Kind::Many(7),
            geometry: Geometry::new(1 << 16, true),
            asymmetric: true,
            rendezvous: true,
            elastic: false,
            checksummed: false,
            control_length: layout::control_length(7, 4096) as u32,
            longest: 4000,
            item: Some(Item { size: 24, align: 8, name: 9 }),
            page: 4096,
            key: 0x1122_3344_5566_7788,
            instance: 3,
            boot_id: *b"0123456789abcdef",
            namespaces: 5,
            created_ns: 6,
            creator: 7,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        assert_eq!(Header::decode(&header().encode()).unwrap(), header());
    }

    #[test]
    fn the_header_of_a_mailbox_survives_too_and_one_that_does_not_fit_is_refused() {
        let kind = Kind::Mailbox { seats: 63, levels: 32, cells: 64 };
        let control_length = layout::control_length(63, 4096) as u32;
        let mailbox =
            Header { kind, control_length, longest: 100, item: None, rendezvous: false, ..header() };
        assert_eq!(Header::decode(&mailbox.encode()).unwrap(), mailbox);
        assert_eq!(mailbox.shape(), Some(Shape { cells: 64, levels: 32, longest: 100 }));
        for kind in [
            Kind::Mailbox { seats: 63, levels: 32, cells: 1 << 15 },
            Kind::Mailbox { seats: 63, levels: 33, cells: 64 },
            Kind::Mailbox { seats: 63, levels: 0, cells: 64 },
        ] {
            let damaged = Header { kind, ..mailbox };
            assert!(matches!(Header::decode(&damaged.encode()), Err(OpenError::NotARing { .. })), "{kind:?}");
        }
    }

    #[test]
    fn the_name_of_a_type_has_no_paths() {
        struct Pair<A, B>(core::marker::PhantomData<(A, B)>);
        assert_eq!(bare_name::<Header>(), "Header");
        assert_eq!(bare_name::<[Option<Item>; 3]>(), "[Option<Item>; 3]");
        assert_eq!(bare_name::<Pair<Vec<Item>, (u8, Kind)>>(), "Pair<Vec<Item>, (u8, Kind)>");
        assert_ne!(Item::of::<u64>(), Item::of::<i64>());
    }

    #[test]
    fn every_damaged_bit_is_noticed() {
        let bytes = header().encode();
        for bit in 0..LENGTH * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn another_version_prints_both_sides() {
        let mut bytes = header().encode();
        bytes[8] = 9;
        let error = Header::decode(&bytes).unwrap_err().to_string();
        assert!(error.contains('9') && error.contains('1'), "{error}");
    }

    #[test]
    fn impossible_fields_are_refused_though_the_checksum_is_right() {
        let impossible: [(usize, u32); 8] =
            [(16, 4), (20, 64), (24, 5000), (32, 4096), (36, 0), (40, u32::MAX), (44, 1000), (52, 3)];
        for (offset, value) in impossible {
            let mut bytes = header().encode();
            bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
            let sum = checksum(&bytes);
            bytes[LENGTH - 8..].copy_from_slice(&sum.to_ne_bytes());
            assert!(matches!(Header::decode(&bytes), Err(OpenError::NotARing { .. })), "field at {offset}");
        }
    }

    #[test]
    fn a_rendezvous_is_not_elastic() {
        let geometry = Geometry::new(1 << 20, true);
        let ring = Header { geometry, key: 0x1100, rendezvous: false, elastic: true, ..header() };
        assert_eq!(Header::decode(&ring.encode()).unwrap(), ring);
        let both = Header { rendezvous: true, ..ring };
        let refused = Header::decode(&both.encode());
        assert!(
            matches!(refused, Err(OpenError::NotARing { why }) if why.contains("elastic")),
            "{refused:?}"
        );
    }

    #[test]
    fn a_mailbox_is_no_rendezvous_and_not_elastic() {
        let kind = Kind::Mailbox { seats: 7, levels: 2, cells: 16 };
        let (geometry, key) = (Geometry::new(1 << 20, true), 0x1100);
        let mailbox = Header { kind, geometry, key, rendezvous: false, item: None, ..header() };
        assert_eq!(Header::decode(&mailbox.encode()).unwrap(), mailbox);
        for damaged in [Header { rendezvous: true, ..mailbox }, Header { elastic: true, ..mailbox }] {
            let refused = Header::decode(&damaged.encode());
            assert!(matches!(refused, Err(OpenError::NotARing { .. })), "{refused:?}");
        }
    }

    #[test]
    fn short_input_is_no_ring() {
        assert!(Header::decode(&header().encode()[..LENGTH - 1]).is_err());
        assert!(Header::decode(&[]).is_err());
    }
}
