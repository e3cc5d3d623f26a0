//! `ringpost clean`: removes what nobody uses any more.

use std::ffi::OsStr;

use anyhow::Result;
use clap::Args;
use indicatif::BinaryBytes;
use ringpost::{OpenError, SegmentError};

use crate::{
    channel::{self, Directory},
    ending,
    output::{self, visible},
    report::{Found, LeftoverReport, json, sections, table},
};

/// Find rings that nobody uses any more, and remove them
///
/// Those whose processes have closed or died, and files that are named like a ring and are none. What somebody has open,
/// stopped or not, is never removed, and neither is what belongs to another user.
#[derive(Args, Debug)]
pub struct CleanArguments {
    #[command(flatten)]
    directory: Directory,

    /// Remove them; without this they are only listed
    #[arg(long)]
    yes: bool,

    /// JSON Lines instead of a table
    #[arg(long)]
    json: bool,
}

/// Lists what is left over, and removes it if that is asked for.
pub fn run(arguments: &CleanArguments) -> Result<()> {
    let mut found = Vec::new();
    let mut result = Ok(());
    for name in &channel::names(&arguments.directory)? {
        let (report, removed) = look(arguments, name)?;
        found.extend(report);
        if let Err(error) = removed {
            ending::fail_at_the_end(&mut result, arguments.directory.about(&name.to_string_lossy(), error));
        }
    }
    output::print(&if arguments.json { json(&found)? } else { show(&found) })?;
    result
}

/// What stands under a name, unless somebody uses it. Looked at and removed while nobody can open it.
fn look(arguments: &CleanArguments, name: &OsStr) -> Result<(Option<LeftoverReport>, Result<(), OpenError>)> {
    let shown = name.to_string_lossy().into_owned();
    let path = arguments.directory.place(&shown);
    let Some(name) = name.to_str() else {
        return Ok((Some(LeftoverReport::kept(shown, path, "its name is not UTF-8".into())), Ok(())));
    };
    Ok(match arguments.directory.builder(name)?.leftover() {
        Ok(leftover) => {
            let mut report = LeftoverReport::new(shown, path, &leftover);
            let removed = if arguments.yes { leftover.remove() } else { Ok(()) };
            if arguments.yes && removed.is_ok() {
                report.state = Found::Removed;
            }
            (Some(report), removed)
        }
        Err(OpenError::Segment(SegmentError::NotFound { .. } | SegmentError::InUse { .. })) => (None, Ok(())),
        Err(error) => (Some(LeftoverReport::kept(shown, path, error.to_string())), Ok(())),
    })
}

fn show(found: &[LeftoverReport]) -> String {
    let mut left = table(["NAME", "STATE", "MESSAGES", "BYTES", "MEMORY", "WHY"]);
    let mut kept = String::new();
    let count = |number: Option<u64>| number.map_or("?".into(), |number| number.to_string());
    for report in found {
        let state = match report.state {
            Found::Left => "left",
            Found::Removed => "removed",
            Found::Kept => {
                kept.push_str(&format!("{}: {}\n", visible(&report.name), visible(&report.why)));
                continue;
            }
        };
        left.add_row([
            visible(&report.name),
            state.into(),
            count(report.pending_messages),
            count(report.pending_bytes),
            BinaryBytes(report.memory_bytes.unwrap_or(0)).to_string(),
            visible(&report.why),
        ]);
    }
    sections(&left, "Kept", &kept)
}
