//! What is known of a ring, for people and for programs.

use std::collections::BTreeSet;

use anyhow::Result;
use ringpost::{Leftover, ParticipantStatistics, Ring, Statistics};
use serde::Serialize;

/// Raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// One line of JSON. A field without a value is `null`, never absent.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Report {
    Ring(Box<RingReport>),
    Junk(JunkReport),
}

/// A ring, as it is now.
#[derive(Debug, Serialize)]
pub struct RingReport {
    pub schema: u32,
    pub name: String,
    pub path: String,
    /// Always `null`.
    pub error: Option<String>,
    /// Bytes of the data area.
    pub capacity: u64,
    /// Bytes.
    pub longest_message: usize,
    /// Most senders at a time; `null` when the ring is for one.
    pub many_senders: Option<u8>,
    /// Most readers at a time, each of which gets every message; `null` when there is one receiver.
    pub broadcast: Option<u8>,
    /// What a mailbox was made for; `null` of a ring.
    pub mailbox: Option<Mailbox>,
    /// Whether a sender waits until its message was taken.
    pub rendezvous: bool,
    /// Whether its memory grows with the backlog; the capacity is the ceiling then.
    pub elastic: bool,
    /// Whether each message is guarded by a checksum.
    pub checksummed: bool,
    /// Bytes of each message, where all have the same type.
    pub item_size: Option<usize>,
    /// Process that made it.
    pub creator: u32,
    /// Nanoseconds since 1970.
    pub created_ns: u64,
    /// Tells it from another ring of the same name; 16 hexadecimal digits.
    pub instance: String,
    pub asymmetric_fences: bool,
    pub sent_messages: u64,
    pub pending_messages: u64,
    pub high_water_bytes: u64,
    /// `null` when there never was one.
    pub receiver: Option<Participant>,
    /// Each slot that was ever used.
    pub senders: Vec<Participant>,
    /// Each reader's slot that was ever used, where each gets every message.
    pub readers: Vec<Participant>,
}

/// What a mailbox was made for.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Mailbox {
    pub messages: u32,
    pub priorities: u8,
    /// Most handles at a time.
    pub seats: u8,
}

/// What stands under a ring's name and can't be used.
#[derive(Debug, Serialize)]
pub struct JunkReport {
    pub schema: u32,
    pub name: String,
    pub path: String,
    pub error: String,
}

/// What `clean` has found under a name, and done with it.
#[derive(Debug, Serialize)]
pub struct LeftoverReport {
    pub schema: u32,
    pub name: String,
    pub path: String,
    pub state: Found,
    /// Why it is left over; or why it is kept.
    pub why: String,
    /// Messages that were sent and not received; `null` where they can't be counted.
    pub pending_messages: Option<u64>,
    /// Bytes of those.
    pub pending_bytes: Option<u64>,
    /// Bytes of memory that it takes; `null` where it is kept.
    pub memory_bytes: Option<u64>,
}

/// What became of a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Nobody uses it.
    Left,
    /// Nobody used it, and it was removed.
    Removed,
    /// Nobody knows that it is not used, or it is another user's.
    Kept,
}

/// Who holds a place in the ring, or held it last, and what was done there.
#[derive(Debug, Serialize)]
pub struct Participant {
    /// From 1; 0 for the receiver.
    pub slot: u8,
    pub pid: Option<u32>,
    pub state: State,
    pub messages: u64,
    pub bytes: u64,
    pub refused: u64,
    pub blocked: u64,
    pub sleeps: u64,
    pub wakes: u64,
    pub high_water_bytes: u64,
}

/// What became of a participant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is attached, and lives.
    Alive,
    /// It died without closing.
    Dead,
    /// It has closed.
    Closed,
}

impl RingReport {
    pub fn new(name: &str, ring: &Ring) -> Self {
        let (info, statistics) = (ring.info(), ring.statistics());
        let Statistics { receiver, senders, readers, .. } = &statistics;
        Self {
            schema: SCHEMA,
            name: name.into(),
            path: ring.path().map(|path| path.display().to_string()).unwrap_or_default(),
            error: None,
            capacity: info.capacity,
            longest_message: info.longest_message,
            many_senders: info.many_senders,
            broadcast: info.broadcast,
            mailbox: info.mailbox.map(|made| Mailbox {
                messages: made.messages,
                priorities: made.priorities,
                seats: made.seats,
            }),
            rendezvous: info.rendezvous,
            elastic: info.elastic,
            checksummed: info.checksummed,
            item_size: info.item_size,
            creator: info.creator,
            created_ns: info.created_ns,
            instance: format!("{:016x}", info.instance),
            asymmetric_fences: info.asymmetric_fences,
            sent_messages: statistics.sent(),
            pending_messages: statistics.pending_messages(),
            high_water_bytes: statistics.high_water_bytes(),
            receiver: receiver.pid.map(|_| Participant::new(receiver)),
            senders: senders.iter().map(Participant::new).collect(),
            readers: readers.iter().map(Participant::new).collect(),
        }
    }
}

impl JunkReport {
    pub fn new(name: String, path: String, error: String) -> Self {
        Self { schema: SCHEMA, name, path, error }
    }
}

impl LeftoverReport {
    pub fn new(name: String, path: String, leftover: &Leftover) -> Self {
        let content = leftover.content();
        Self {
            schema: SCHEMA,
            name,
            path,
            state: Found::Left,
            why: match content {
                Ok(statistics) => unattended(statistics),
                Err(error) => error.to_string(),
            },
            pending_messages: content.ok().map(Statistics::pending_messages),
            pending_bytes: content.ok().map(Statistics::pending_bytes),
            memory_bytes: Some(leftover.bytes()),
        }
    }

    pub fn kept(name: String, path: String, why: String) -> Self {
        Self {
            schema: SCHEMA,
            name,
            path,
            state: Found::Kept,
            why,
            pending_messages: None,
            pending_bytes: None,
            memory_bytes: None,
        }
    }
}

/// Why nobody is attached to a ring.
fn unattended(statistics: &Statistics) -> String {
    let participants = || {
        let Statistics { receiver, senders, readers, .. } = statistics;
        senders.iter().chain([receiver]).chain(readers)
    };
    // Who had several places is named once.
    let dead: BTreeSet<_> = participants().filter(|one| one.died).filter_map(|one| one.pid).collect();
    let dead: Vec<_> = dead.into_iter().collect();
    match dead[..] {
        [] if participants().all(|one| one.pid.is_none()) => "nobody has ever attached".into(),
        [] => "everybody has closed".into(),
        [pid] => format!("process {pid} died"),
        _ => format!("processes {} died", dead.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl Participant {
    fn new(counts: &ParticipantStatistics) -> Self {
        let state = match (counts.attached, counts.died) {
            (true, _) => State::Alive,
            (_, true) => State::Dead,
            _ => State::Closed,
        };
        Self {
            slot: counts.slot,
            pid: counts.pid,
            state,
            messages: counts.messages,
            bytes: counts.bytes,
            refused: counts.refused,
            blocked: counts.blocked,
            sleeps: counts.sleeps,
            wakes: counts.wakes,
            high_water_bytes: counts.high_water_bytes,
        }
    }
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Closed => "closed",
        }
    }
}

/// As JSON, a line each.
pub fn json<'a, T: Serialize + 'a>(all: impl IntoIterator<Item = &'a T>) -> Result<String> {
    all.into_iter().map(|one| Ok(serde_json::to_string(one)? + "\n")).collect()
}

/// A table without lines.
pub fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table as lines without blanks at their ends.
pub fn lines(table: &comfy_table::Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The table, and below it what has no place in it, under a heading of its own; each only where there is any.
pub fn sections(table: &comfy_table::Table, heading: &str, others: &str) -> String {
    let others = if others.is_empty() { String::new() } else { format!("{heading}:\n{others}") };
    match (table.is_empty(), others.is_empty()) {
        (true, _) => others,
        (_, true) => lines(table),
        _ => format!("{}\n{others}", lines(table)),
    }
}
