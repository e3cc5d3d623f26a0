//! On what, and how, it was measured.

use std::fs;
use std::time::SystemTime;

use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

use super::payload::Input;
use super::plan::Plan;
use crate::channel::quoted;

/// What is to be known before anything else of a run of such a build.
pub const WARNING: &str =
    "An unoptimised build: its figures say little. Measure with `cargo run --release -- bench`.";
const UNOPTIMISED: bool = cfg!(debug_assertions);

/// Where and how a run was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// When it began: the second in UTC, as ISO 8601 has it. `None` of a run that was saved before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<String>,
    /// The exact command, as it can be typed again (but for bytes that are not UTF-8).
    pub command: String,
    /// Of this program.
    pub version: String,
    /// Whether it was built without `--release`: then its figures say little.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unoptimised: bool,
    /// Its release.
    pub kernel: String,
    /// Its name.
    pub processor: String,
    /// Cores that may be used.
    pub cores: usize,
    /// Where the processes ran.
    pub place: String,
    /// Whose bytes were sent.
    pub input: String,
    /// At most.
    pub rounds: u32,
    /// How long one lasts.
    pub sample_ms: u64,
}

impl Run {
    /// The one that begins now.
    pub fn new(plan: &Plan, input: &Input, usable: &[usize]) -> Self {
        let kernel = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
        let place = match (plan.apart.leader, plan.apart.follower) {
            (Some(leader), Some(follower)) => format!("the two processes on {leader} and {follower}"),
            _ => "the two processes where the kernel puts them".into(),
        };
        Self {
            measured: Some(humantime::format_rfc3339_seconds(SystemTime::now()).to_string()),
            command: std::env::args_os()
                .map(|word| quoted(&word.to_string_lossy()))
                .collect::<Vec<_>>()
                .join(" "),
            version: env!("CARGO_PKG_VERSION").into(),
            unoptimised: UNOPTIMISED,
            kernel,
            processor: this_processor(),
            cores: usable.len(),
            place: format!("{} ({place})", cores(usable.len())),
            input: input.path.display().to_string(),
            rounds: plan.rounds,
            sample_ms: plan.budget.as_millis() as u64,
        }
    }

    /// When it was measured, for people.
    pub fn when(&self) -> &str {
        self.measured.as_deref().unwrap_or("not recorded")
    }

    /// What must be the same for figures to be comparable.
    pub fn machine(&self) -> String {
        let build = if self.unoptimised { ", an unoptimised build" } else { "" };
        format!("{}, {}{build}", self.processor, cores(self.cores))
    }

    /// A few lines for the head of the table.
    pub fn describe(&self) -> String {
        let Self { command, kernel, processor, place, input, rounds, sample_ms, .. } = self;
        let round = if *rounds == 1 { "round" } else { "rounds" };
        let warning = if self.unoptimised { format!("{WARNING}\n") } else { String::new() };
        format!(
            "{warning}{place} | Linux {kernel} | {processor} | measured: {}\n{command} | input {input} | {rounds} {round}, {sample_ms} ms a \
             sample\n",
            self.when()
        )
    }
}

/// As [`Run::machine`] says it of a run on this machine.
pub fn this_machine(usable: &[usize]) -> String {
    Run { processor: this_processor(), cores: usable.len(), unoptimised: UNOPTIMISED, ..Run::default() }
        .machine()
}

fn cores(number: usize) -> String {
    format!("{number} core{} to use", if number == 1 { "" } else { "s" })
}

fn this_processor() -> String {
    let name = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| processor(&text));
    name.unwrap_or_else(|| std::env::consts::ARCH.into())
}

fn processor(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn processor_is_found() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t: x\n";
        assert_eq!(super::processor(text).as_deref(), Some("Some CPU @ 3 GHz"));
        assert_eq!(super::processor("no"), None);
    }
}
