//! The flags of `ringpost bench`.

use std::path::PathBuf;

use clap::Args;

use super::cores::{self, Pin};
use super::payload::{LARGEST, SMALLEST};
use super::registry;
use crate::{ending, quantity};

/// Measure every mechanism side by side between two processes
///
/// Moves bytes of a real file between two processes over every mechanism, verifies them, and prints latency and
/// throughput side by side, each anchored to what a cache line takes between the same two processes.
#[derive(Args, Clone, Debug)]
#[command(after_help = ending::EXIT_CODES)]
pub struct BenchArguments {
    /// End within about 60 seconds (the default takes about 4 minutes)
    #[arg(long)]
    pub quick: bool,

    /// File whose bytes are sent (its first 64 MiB) [default: this program's own executable]
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Places in [`registry::entries`] of those that were asked for; none for all. Its help has the names: others may have been added.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = registry::find, help = names())]
    pub mechanisms: Vec<usize>,

    /// Message sizes in bytes, also with K or M, separated by commas (8 to 1M)
    #[arg(
        long, value_name = "BYTES", value_delimiter = ',', allow_hyphen_values = true, value_parser = size,
        default_values = ["8", "64", "512", "4096", "65536", "1048576"], hide_default_value = true
    )]
    pub sizes: Vec<usize>,

    /// Rounds over all cells; the result is the median [default: 5, with --quick 3]
    #[arg(
        long, value_name = "N", allow_negative_numbers = true,
        value_parser = quantity::whole::<u32>(1, 10_000)
    )]
    pub rounds: Option<u32>,

    /// Cores of the two processes: `A,B`, `same`, or `none` to leave it to the kernel [default: two cores]
    #[arg(long, value_name = "A,B", allow_hyphen_values = true, value_parser = cores::parse)]
    pub pin: Option<Pin>,

    /// JSON Lines instead of a table
    #[arg(long)]
    pub json: bool,

    /// Also vary the ring's size, its batches, its senders and how it waits (as does each of the next five)
    #[arg(long)]
    pub sweeps: bool,

    #[command(flatten)]
    /// What is to be left behind.
    pub report: ReportArguments,
}

/// What is to be left behind.
#[derive(Args, Clone, Debug)]
pub struct ReportArguments {
    /// Write a page with pictures that needs no network
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Write the page's pictures as files into this directory
    #[arg(long, value_name = "DIR")]
    pub svg: Option<PathBuf>,

    /// Write all rows as comma-separated values
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,

    /// Set this run beside an older one, saved by `--save` (or the output of `--json`)
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,

    /// Save the run, for `--from` and `--compare`
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,

    /// Measure nothing: take the rows of a saved run
    #[arg(
        long, value_name = "FILE",
        conflicts_with_all = ["quick", "input", "mechanisms", "sizes", "rounds", "pin", "sweeps"]
    )]
    pub from: Option<PathBuf>,
}

impl BenchArguments {
    /// Whether more is measured than the table shows.
    pub fn sweeping(&self) -> bool {
        let report = &self.report;
        let asked = [&report.report, &report.svg, &report.csv, &report.compare, &report.save];
        self.sweeps || asked.iter().any(|path| path.is_some())
    }
}

fn names() -> String {
    let names: Vec<_> = registry::entries().map(|entry| entry.name).collect();
    format!("Only these mechanisms, separated by commas: {}", names.join(", "))
}

fn size(text: &str) -> Result<usize, String> {
    match quantity::bytes(text)? as usize {
        size @ SMALLEST..=LARGEST => Ok(size),
        _ => Err(format!("a size is a number of bytes from {SMALLEST} to {LARGEST}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn what_leaves_a_run_behind_measures_all_that_can_be_drawn_of_it() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            bench: BenchArguments,
        }
        let sweeping = |line: &[&str]| Line::parse_from([&["bench"], line].concat()).bench.sweeping();
        for flag in ["--report", "--svg", "--csv", "--compare", "--save"] {
            assert!(sweeping(&[flag, "x"]), "{flag}");
        }
        assert!(sweeping(&["--sweeps"]) && !sweeping(&["--json"]));
    }

    #[test]
    fn sizes_have_bounds() {
        assert_eq!(size("8"), Ok(8));
        assert_eq!((size("1048576"), size("64K")), (Ok(1 << 20), Ok(64 << 10)));
        assert!(size("7").is_err() && size("1048577").is_err() && size("x").is_err() && size("-8").is_err());
    }
}
