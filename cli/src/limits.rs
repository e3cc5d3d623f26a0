//! `ringpost limits`: how large, how long and how many.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::Args;
use indicatif::BinaryBytes;
use nix::sys::{
    resource::{Resource, getrlimit},
    statvfs::statvfs,
};
use ringpost::limits::{self, Kernel};
use serde::Serialize;

use crate::{
    channel::Directory,
    output::{self, visible},
    report::{json, lines, table},
};

/// Raised when a field changes its meaning or goes away.
const SCHEMA: u32 = 1;

/// Show how large, how long and how many
///
/// The limits of rings and mailboxes, what memory is left for them, what limits this process, and whether the kernel has all
/// that is used.
#[derive(Args, Debug)]
pub struct LimitsArguments {
    #[command(flatten)]
    directory: Directory,

    /// One line of JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub fn run(arguments: &LimitsArguments) -> Result<()> {
    let limits = Limits::here(arguments.directory.there()?)?;
    output::print(&if arguments.json { json([&limits])? } else { show(&limits) })
}

/// One line of JSON. What is without limit, or not known, is `null`. Sizes are bytes.
#[derive(Serialize)]
struct Limits {
    schema: u32,
    ring: Ring,
    mailbox: Mailbox,
    /// Readers of a broadcast at a time.
    readers: u8,
    /// Rings that one wait can wait for.
    lanes: usize,
    place: Place,
    process: Process,
    kernel: Has,
}

#[derive(Serialize)]
struct Ring {
    smallest_capacity: u64,
    largest_capacity: u64,
    default_capacity: u64,
    smallest_ceiling: u64,
    longest_message: u64,
    longest_message_by_default: u64,
    message_overhead: u64,
    longest_name: usize,
    kinds: u32,
    senders: u8,
}

#[derive(Serialize)]
struct Mailbox {
    seats: u8,
    messages: u32,
    priorities: u8,
    kinds: u32,
    longest_message: u64,
}

/// Where named rings lie.
#[derive(Serialize)]
struct Place {
    path: String,
    total: u64,
    free: u64,
}

/// What limits this process.
#[derive(Serialize)]
struct Process {
    descriptors: Option<u64>,
    descriptors_at_most: Option<u64>,
    /// Bytes of the largest file, and so of a ring.
    file_size: Option<u64>,
    /// Bytes of addresses, of which a ring takes twice its capacity.
    addresses: Option<u64>,
    pid_max: Option<u64>,
}

/// What the kernel has.
#[derive(Serialize)]
struct Has {
    futex_waitv: bool,
    membarrier: bool,
    pidfd: bool,
    memfd_seals: bool,
}

impl Limits {
    fn here(directory: &Path) -> Result<Self> {
        Ok(Self {
            schema: SCHEMA,
            ring: Ring {
                smallest_capacity: limits::smallest_capacity(),
                largest_capacity: limits::LARGEST_CAPACITY,
                default_capacity: limits::DEFAULT_CAPACITY,
                smallest_ceiling: limits::SMALLEST_CEILING,
                longest_message: limits::LONGEST_MESSAGE,
                longest_message_by_default: limits::longest_message(limits::DEFAULT_CAPACITY),
                message_overhead: limits::MESSAGE_OVERHEAD,
                longest_name: limits::LONGEST_NAME,
                kinds: limits::KINDS,
                senders: limits::SENDERS,
            },
            mailbox: Mailbox {
                seats: limits::SEATS,
                messages: limits::MAILBOX_MESSAGES,
                priorities: limits::PRIORITIES,
                kinds: limits::KINDS,
                longest_message: limits::LONGEST_MESSAGE,
            },
            readers: limits::READERS,
            lanes: limits::LANES,
            place: Place::at(directory)?,
            process: Process::this(),
            kernel: limits::kernel().into(),
        })
    }
}

impl Place {
    fn at(directory: &Path) -> Result<Self> {
        let path = directory.display().to_string();
        let found = statvfs(directory).with_context(|| format!("can't look at {path}"))?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
        Ok(Self { path, total: bytes(found.blocks()), free: bytes(found.blocks_available()) })
    }
}

impl Process {
    fn this() -> Self {
        let limit = |resource| getrlimit(resource).ok();
        let finite = |limit: u64| Some(limit).filter(|&limit| limit != nix::libc::RLIM_INFINITY);
        let soft = |resource| limit(resource).and_then(|(soft, _)| finite(soft));
        let pid_max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
        Self {
            descriptors: soft(Resource::RLIMIT_NOFILE),
            descriptors_at_most: limit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| finite(hard)),
            file_size: soft(Resource::RLIMIT_FSIZE),
            addresses: soft(Resource::RLIMIT_AS),
            pid_max: pid_max.and_then(|text| text.trim().parse().ok()),
        }
    }
}

impl From<Kernel> for Has {
    fn from(kernel: Kernel) -> Self {
        let Kernel { futex_waitv, membarrier, pidfd, memfd_seals, .. } = kernel;
        Self { futex_waitv, membarrier, pidfd, memfd_seals }
    }
}

fn show(Limits { ring, mailbox, readers, lanes, place, process, kernel, .. }: &Limits) -> String {
    let mut rows = table(["OF", "WHAT", "LIMIT"]);
    let mut add = |of: &str, what: &str, limit: String| _ = rows.add_row([of, what, &limit]);
    add("ring", "smallest capacity", size(ring.smallest_capacity));
    add("ring", "largest capacity", size(ring.largest_capacity));
    add("ring", "capacity unless set", size(ring.default_capacity));
    add("ring", "longest message", format!("{} bytes", ring.longest_message));
    add("ring", "longest message unless set", format!("{} bytes", ring.longest_message_by_default));
    add("ring", "what a message takes beside its bytes", format!("{} bytes", ring.message_overhead));
    add("ring", "longest name", format!("{} bytes", ring.longest_name));
    add("ring", "kinds of message", ring.kinds.to_string());
    add("ring", "senders at a time", ring.senders.to_string());
    add("elastic ring", "smallest ceiling", size(ring.smallest_ceiling));
    add("broadcast", "readers at a time", readers.to_string());
    add("mailbox", "seats", mailbox.seats.to_string());
    add("mailbox", "messages", mailbox.messages.to_string());
    add("mailbox", "priorities", mailbox.priorities.to_string());
    add("mailbox", "kinds of message", mailbox.kinds.to_string());
    add("mailbox", "longest message", format!("{} bytes", mailbox.longest_message));
    add("one wait", "rings", lanes.to_string());
    let path = visible(&place.path);
    add(&path, "room", size(place.total));
    add(&path, "room that is free", size(place.free));
    add("this process", "descriptors", count(process.descriptors));
    add("this process", "descriptors, if raised", count(process.descriptors_at_most));
    add("this process", "bytes of a file", process.file_size.map_or("no limit".into(), size));
    add("this process", "bytes of addresses", process.addresses.map_or("no limit".into(), size));
    add("machine", "process ids", process.pid_max.map_or("not known".into(), |most| most.to_string()));
    add("kernel", "sleep on several words (futex_waitv)", has(kernel.futex_waitv));
    add("kernel", "fences for all processes (membarrier)", has(kernel.membarrier));
    add("kernel", "ends of processes (pidfd)", has(kernel.pidfd));
    add("kernel", "sealed memory (memfd)", has(kernel.memfd_seals));
    lines(&rows)
}

/// As people say it, and exactly.
fn size(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", BinaryBytes(bytes))
}

fn count(limit: Option<u64>) -> String {
    limit.map_or("no limit".into(), |limit| limit.to_string())
}

fn has(there: bool) -> String {
    if there { "there" } else { "missing" }.into()
}
