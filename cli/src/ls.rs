//! `ringpost ls`: which rings there are.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Args;
use indicatif::{BinaryBytes, HumanDuration};
use ringpost::OpenError;

use crate::{
    channel::{self, Directory},
    output::{self, visible},
    report::{JunkReport, Participant, Report, RingReport, State, json, sections, table},
};

/// List the rings that there are
///
/// What is named like a ring but can't be used is listed with the reason.
#[derive(Args, Debug)]
pub struct LsArguments {
    #[command(flatten)]
    directory: Directory,

    /// JSON Lines instead of a table
    #[arg(long)]
    json: bool,
}

/// Of the dead, so many are named in a row; `stat` names all.
const NAMED: usize = 3;

/// Prints the list.
pub fn run(arguments: &LsArguments) -> Result<()> {
    let names = channel::names(&arguments.directory)?;
    let mut found = Vec::new();
    for name in &names {
        found.extend(look(&arguments.directory, name)?);
    }
    output::print(&if arguments.json { json(&found)? } else { show(&found) })
}

/// What stands under a name; nothing when it was just removed.
fn look(directory: &Directory, name: &OsStr) -> Result<Option<Report>> {
    let shown = name.to_string_lossy().into_owned();
    let path = directory.place(&shown);
    let builder = name.to_str().map(|name| directory.builder(name)).transpose()?;
    let why = match builder.map(|builder| builder.open()) {
        Some(Ok(ring)) => return Ok(Some(Report::Ring(Box::new(RingReport::new(&shown, &ring))))),
        Some(Err(OpenError::Segment(ringpost::SegmentError::NotFound { .. }))) => return Ok(None),
        Some(Err(error)) => error.to_string(),
        None => "its name is not UTF-8".into(),
    };
    Ok(Some(Report::Junk(JunkReport::new(shown, path, why))))
}

fn show(found: &[Report]) -> String {
    let mut rings = table(["NAME", "CAPACITY", "SENDERS", "PENDING", "RECEIVER", "AGE"]);
    let mut junk = String::new();
    for report in found {
        match report {
            Report::Ring(ring) => {
                rings.add_row([
                    visible(&ring.name),
                    BinaryBytes(ring.capacity).to_string(),
                    match ring.mailbox {
                        Some(made) => attached(&ring.senders, made.seats, " seats"),
                        None => attached(&ring.senders, ring.many_senders.unwrap_or(1), ""),
                    },
                    ring.pending_messages.to_string(),
                    match (ring.mailbox, ring.broadcast) {
                        (Some(_), _) => "mailbox".into(),
                        (None, Some(most)) => attached(&ring.readers, most, " readers"),
                        (None, None) => ring.receiver.as_ref().map_or("none".into(), who),
                    },
                    age(ring.created_ns).map_or("in the future".into(), |age| HumanDuration(age).to_string()),
                ]);
            }
            Report::Junk(JunkReport { name, error, .. }) => {
                junk.push_str(&format!("{}: {}\n", visible(name), visible(error)))
            }
        }
    }
    sections(&rings, "Not usable", &junk)
}

/// How many are attached, of how many places there may be, and who died.
fn attached(participants: &[Participant], most: u8, places: &str) -> String {
    let of = |state| participants.iter().filter(move |one| one.state == state);
    let dead: String = of(State::Dead).take(NAMED).map(|one| format!(", {}", who(one))).collect();
    let more = match of(State::Dead).count().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(", {more} more dead"),
    };
    format!("{} of {most}{places}{dead}{more}", of(State::Alive).count())
}

/// A process, and what became of it.
pub fn who(participant: &Participant) -> String {
    let pid = participant.pid.map_or("?".into(), |pid| pid.to_string());
    format!("{pid} {}", participant.state.as_str())
}

/// Time since a moment in nanoseconds since 1970.
pub fn age(created_ns: u64) -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(created_ns)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_dead_some_are_named_and_the_others_counted() {
        let one = |pid, state| Participant {
            slot: 1,
            pid: Some(pid),
            state,
            messages: 0,
            bytes: 0,
            refused: 0,
            blocked: 0,
            sleeps: 0,
            wakes: 0,
            high_water_bytes: 0,
        };
        let mut seats: Vec<_> = (1..=3).map(|pid| one(pid, State::Dead)).collect();
        seats.extend([one(7, State::Alive), one(8, State::Closed)]);
        assert_eq!(attached(&seats, 63, " seats"), "1 of 63 seats, 1 dead, 2 dead, 3 dead");
        seats.extend([one(4, State::Dead), one(5, State::Dead)]);
        assert_eq!(attached(&seats, 63, ""), "1 of 63, 1 dead, 2 dead, 3 dead, 2 more dead");
    }
}
