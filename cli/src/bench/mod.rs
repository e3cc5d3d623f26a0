//! `ringpost bench`: every mechanism side by side between two processes.
//!
//! One harness for all: the supervisor (this process) makes all mechanisms, forks the two measuring processes once,
//! and has them run one sample after the other, interleaved over all cells. See `link.rs` for what a mechanism offers
//! and how to add one, `anchor.rs` for why every sample lies between two ping-pongs, `payload.rs` for what is sent.

mod anchor;
mod arguments;
mod calls;
mod cores;
mod environment;
mod futex;
mod glance;
pub mod link;
mod measure;
mod mechanism;
pub mod memory;
pub mod payload;
mod plan;
pub mod registry;
mod report;
mod row;
pub mod shape;
pub mod station;
mod summary;
mod supervise;
mod sweep;
mod table;
pub mod units;
pub mod usage;
mod worker;

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

pub use arguments::BenchArguments;

use crate::ending::Ending;

use anchor::Class;
use calls::Tracer;
use environment::Run;
use payload::Input;
use plan::{Cell, Made, Plan};
use report::{Outputs, Recorded};
use summary::{Findings, Sample};
use supervise::Crew;
use worker::{Order, Report};

/// A sample whose placement changed under it is repeated at most this often.
const REPEATS: u32 = 3;
/// So many times more messages pass where less than one system call was counted for a message.
const MORE: u64 = 16;
/// Where fewer than so many were counted for a million messages, and the page shows them, they are counted over `MANY`: a thread that
/// is started beside a stream calls a few times, whatever the stream's length.
const FEW: f64 = 1e4;
const MANY: u64 = 100_000;

/// Runs the benchmark, or takes a saved run, and prints the result.
pub fn run(arguments: &BenchArguments) -> Result<()> {
    let recorded = arguments.report.from.as_deref().map(Recorded::read).transpose()?;
    let outputs = Outputs::open(arguments)?;
    let machine = match &recorded {
        Some(recorded) => recorded.run.as_ref().map(Run::machine),
        None => Some(environment::this_machine(&cores::allowed())),
    };
    outputs.comparable(machine.as_deref())?;
    let recorded = match recorded {
        Some(recorded) => recorded,
        None => measure_now(arguments)?,
    };
    // What was measured is shown, whatever comes of the files and of the comparison.
    let (written, differences) = outputs.write(&recorded);
    if arguments.json {
        crate::output::print(&crate::report::json(&recorded.rows)?)?;
        return written.and(differences.map(drop));
    }
    let shown: Vec<_> = recorded.rows.iter().filter(|row| row.sweep.is_none()).cloned().collect();
    let head = recorded.run.as_ref().map(Run::describe).unwrap_or_default();
    print(&(head + &table::render(&shown)))?;
    written.and(differences).and_then(|differences| print(&differences))
}

/// For a terminal: names come from a file of anybody.
fn print(text: &str) -> Result<()> {
    let lines: String = text.lines().map(|line| crate::output::visible(line) + "\n").collect();
    crate::output::print(&lines)
}

fn measure_now(arguments: &BenchArguments) -> Result<Recorded> {
    let input = Input::read(arguments.input.as_deref())?;
    let usable = cores::allowed();
    let made = make(&arguments.mechanisms);
    let plan = Plan::new(arguments, &made, &usable);
    let run = Run::new(&plan, &input, &usable);
    let two = || Crew::start(&input, &plan, &made, &usable);
    let crew = two()?;
    let mut findings = measure_all(&plan, &crew, arguments.rounds.is_some())?;
    count_all(&plan, crew, two, &mut findings)?;
    let cells = plan.cells.iter().zip(&findings);
    let mut rows: Vec<_> = cells.flat_map(|(cell, found)| summary::rows(cell, found)).collect();
    if arguments.sweeping() {
        rows.extend(sweep::rows(plan.apart, &usable)?);
    }
    Ok(Recorded { run: Some(run), rows })
}

/// Makes the mechanisms that were asked for, all when none was named.
fn make(asked: &[usize]) -> Made {
    let entries = registry::entries().enumerate();
    entries
        .map(|(index, entry)| {
            let wanted = asked.is_empty() || asked.contains(&index);
            wanted.then(|| (entry.make)().map_err(|error| format!("{error:#}")))
        })
        .collect()
}

fn measure_all(plan: &Plan, crew: &Crew, all_rounds: bool) -> Result<Vec<Findings>> {
    let start = Instant::now();
    let mut findings = vec![Findings::default(); plan.cells.len()];
    let progress = progress(plan);
    let mut turn = 0;
    'rounds: for round in 0..plan.rounds {
        for (index, cell) in plan.cells.iter().enumerate() {
            // On a busy machine everything takes longer; each cell has had its turn by now.
            if round > 0 && !all_rounds && start.elapsed() > plan.patience {
                break 'rounds;
            }
            let found = &mut findings[index];
            if cell.error.is_some() || found.error.is_some() {
                continue;
            }
            for _ in 0..=REPEATS {
                let order = Order { cell: index, turn, counted: None };
                turn += 1;
                let counted = take_in(plan, cell, found, crew.run(order, None)?);
                if counted || start.elapsed() > plan.patience {
                    break;
                }
            }
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(findings)
}

/// Counts the system calls of every cell that was measured, after all that is timed. What can't be counted says why. Where a sample
/// breaks off nobody knows where its two processes are: two others take their place, and its mechanism is not counted any more.
fn count_all(
    plan: &Plan,
    crew: Crew,
    others: impl Fn() -> Result<Crew>,
    findings: &mut [Findings],
) -> Result<()> {
    let mut start = Instant::now();
    let usual = plan.usual();
    let trace = |crew: &Crew| crew.trace().map_err(|error| format!("{error:#}"));
    let mut broken = BTreeMap::new();
    let mut traced = Some((trace(&crew), crew));
    for index in plan.counted() {
        if findings[index].samples.is_empty() {
            continue;
        }
        let entry = plan.cells[index].entry;
        let in_time = start.elapsed() < plan.counting;
        let calls = match &mut traced {
            Some((Err(reason), _)) => Err(reason.clone()),
            _ if broken.contains_key(&entry) => Err(String::clone(&broken[&entry])),
            _ if !in_time && Some(plan.cells[index].size) != usual => {
                Err("there was no time left to count them".into())
            }
            None => Err("counting them broke off at another mechanism".into()),
            Some((Ok(counting), two)) => {
                let began = Instant::now();
                match count(plan, two, index, counting, in_time) {
                    Ok(calls) => calls,
                    Err(error) if error.is::<Ending>() => return Err(error),
                    Err(error) => {
                        let reason = format!("counting them broke off: {error:#}");
                        broken.insert(entry, reason.clone());
                        // The others begin when these have ended.
                        drop(traced.take());
                        traced = others().ok().map(|two| (trace(&two), two));
                        start += began.elapsed();
                        Err(reason)
                    }
                }
            }
        };
        findings[index].calls = Some(calls);
    }
    Ok(())
}

/// System calls for a million messages of a cell, or why they can't be had; an error when the sample broke off.
fn count(
    plan: &Plan,
    crew: &Crew,
    index: usize,
    tracer: &mut Tracer,
    in_time: bool,
) -> Result<Result<f64, String>> {
    let cell = &plan.cells[index];
    let thoroughly = in_time && Some(cell.size) == plan.usual();
    let mut counted = cell.counted();
    loop {
        tracer.take();
        let usage = match crew.run(Order { cell: index, turn: 0, counted: Some(counted) }, Some(tracer))? {
            Report::Measured { usage, .. } => usage,
            Report::Unavailable(reason) | Report::Failed(reason) => return Ok(Err(reason)),
        };
        let calls = usage.per_million(tracer.take() as f64).context("no message has passed")?;
        if is_enough(calls, counted, cell.counted(), thoroughly) {
            return Ok(Ok(calls));
        }
        counted *= MORE;
    }
}

/// Whether so many calls for a million messages, counted over so many messages, say how many there are. Whose calls are few may make
/// them by the clock (to see whether the other one lives), and not by the message.
fn is_enough(calls: f64, counted: u64, first: u64, thoroughly: bool) -> bool {
    let few = calls > 0.0 && calls < FEW;
    calls > 1e6 || counted > first && !(few && thoroughly && counted < MANY)
}

/// Whether the report is settled: a sample that counts, or one that can't be had.
fn take_in(plan: &Plan, cell: &Cell, found: &mut Findings, report: Report) -> bool {
    match report {
        Report::Measured { before_ns, after_ns, figures: Some(figures), usage } => {
            let class = |anchor_ns| match plan.cores(cell).same() {
                true => Class::SameCore,
                false => Class::of_line(anchor_ns),
            };
            if class(before_ns) != class(after_ns) {
                found.dropped += 1;
                return false;
            }
            let anchor_ns = (before_ns + after_ns) / 2.0;
            found.samples.push(Sample { class: class(before_ns), anchor_ns, figures, usage });
        }
        Report::Unavailable(reason) | Report::Failed(reason) => found.error = Some(reason),
        Report::Measured { figures: None, .. } => found.error = Some("the leader measured nothing".into()),
    }
    true
}

/// On standard error, and only when that is a terminal. It is drawn between samples, by this process.
fn progress(plan: &Plan) -> ProgressBar {
    let cells = plan.cells.iter().filter(|cell| cell.error.is_none()).count() as u64;
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} samples, {elapsed}, {eta} left");
    let bar = ProgressBar::new(cells * u64::from(plan.rounds));
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_draw_target(indicatif::ProgressDrawTarget::stderr_with_hz(5));
    bar.reset_elapsed();
    bar.tick();
    bar
}

#[cfg(test)]
mod tests;
