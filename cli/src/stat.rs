//! `ringpost stat`: everything about one ring.

use anyhow::Result;
use clap::Args;
use indicatif::HumanDuration;

use crate::{
    channel::{self, Directory},
    ending, ls,
    output::{self, visible},
    report::{Participant, RingReport, json, lines, table},
};

/// Show everything about one ring
///
/// What it was made with, who is attached, and what was done so far. Disturbs nobody.
#[derive(Args, Debug)]
#[command(after_help = ending::EXIT_CODES)]
pub struct StatArguments {
    /// Name of the ring
    name: String,

    #[command(flatten)]
    directory: Directory,

    /// One line of JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Prints what is known.
pub fn run(arguments: &StatArguments) -> Result<()> {
    let ring = channel::open(&arguments.directory, &arguments.name)?;
    let report = RingReport::new(&arguments.name, &ring);
    output::print(&if arguments.json { json([&report])? } else { show(&report) })
}

fn show(ring: &RingReport) -> String {
    let facts = [
        ("name", visible(&ring.name)),
        ("path", visible(&ring.path)),
        (
            "made",
            match ls::age(ring.created_ns) {
                Some(age) => format!("{} ago, by process {}", HumanDuration(age), ring.creator),
                None => format!("in the future, by process {}", ring.creator),
            },
        ),
        ("instance", ring.instance.clone()),
        ("capacity", format!("{} bytes", ring.capacity)),
        ("longest message", format!("{} bytes", ring.longest_message)),
        (
            "messages",
            ring.item_size.map_or("of any bytes".into(), |size| format!("of a type of {size} bytes")),
        ),
        ("checksum", if ring.checksummed { "behind each message" } else { "none" }.into()),
        ("memory", if ring.elastic { "grows up to the capacity" } else { "all there" }.into()),
        (
            "senders",
            match (ring.mailbox, ring.many_senders) {
                (Some(made), _) => format!("a mailbox: up to {} at a time, that receive as well", made.seats),
                (None, Some(most)) => format!("up to {most} at a time"),
                (None, None) => "one at a time".into(),
            } + if ring.rendezvous { ", each waits until its message was taken" } else { "" },
        ),
        (
            "receivers",
            match (ring.mailbox, ring.broadcast) {
                (Some(made), _) => {
                    format!("each message to one; {} messages, {} priorities", made.messages, made.priorities)
                }
                (None, Some(most)) => format!("up to {most}, each gets every message"),
                (None, None) => "one at a time".into(),
            },
        ),
        (
            "fences",
            if ring.asymmetric_fences { "by the receiver (membarrier)" } else { "by both sides" }.into(),
        ),
        ("sent", format!("{} messages", ring.sent_messages)),
        ("pending", format!("{} messages", ring.pending_messages)),
        (
            "high water",
            format!("at least {} bytes, counted when a sender looks for room", ring.high_water_bytes),
        ),
    ];
    let facts: String = facts.iter().map(|(what, value)| format!("{what:<16} {value}\n")).collect();
    let mut places =
        table(["PLACE", "PROCESS", "MESSAGES", "BYTES", "REFUSED", "BLOCKED", "SLEEPS", "WAKES"]);
    for (role, participants) in
        [("receiver", ring.receiver.as_slice()), ("sender", &ring.senders), ("reader", &ring.readers)]
    {
        participants.iter().for_each(|one| _ = places.add_row(row(role, one)));
    }
    if places.is_empty() { facts } else { format!("{facts}\n{}", lines(&places)) }
}

fn row(role: &str, participant: &Participant) -> [String; 8] {
    [
        if participant.slot == 0 { role.into() } else { format!("{role} {}", participant.slot) },
        ls::who(participant),
        participant.messages.to_string(),
        participant.bytes.to_string(),
        participant.refused.to_string(),
        participant.blocked.to_string(),
        participant.sleeps.to_string(),
        participant.wakes.to_string(),
    ]
}
