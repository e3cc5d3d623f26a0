//! The page: one file, no network, no script that runs.

use std::collections::BTreeMap;

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::anchor::{CCX_BELOW_NS, Class, SMT_BELOW_NS};
use super::super::environment::{Run, WARNING};
use super::super::row::Row;
use super::super::shape::Measure;
use super::super::{registry, table, units};
use super::charts::{Section, sections};
use super::compare::{Comparison, Pair, Spreads};
use super::ladder::{Ladder, Part, Prices, explained, ladders};
use super::saved::Recorded;
use super::short::{answers, overview};
use super::svg::Chart;
use super::words::{cell, count, figure, seconds as as_seconds, several, signed, unit};
use crate::report::json;

const SHORT: &str = "In short";
const SURE: &str = "How sure this is";
const COMPARED: &str = "Against the older run";
const LADDER: &str = "The ladder: from the kernel’s queue to the ring";
const LIMITS: &str = "Limits of this run";
const NOT_MEASURED: &str = "Not measured";
const ALL: &str = "Every row: spread over the rounds, dropped samples, placement";

/// What no run measures, and why.
const BY_DESIGN: [&str; 5] = [
    "Both sides spinning on one core: it would measure the scheduler.",
    "Both sides sleeping on one core, beyond 64 B or as a stream: it is asked there what a wake-up costs. Where the whole run is on one \
     core (--pin same) they are measured.",
    "Latency of a batch: a round trip has one message, and a batch of one is a message in place.",
    "Stream of a rendezvous: it holds no messages, a round trip says all of it.",
    "Percentiles of the sweeps, and their placement class: they measure throughput only, without an anchor.",
];

/// What the ladders and the tables below them say.
const HOW_TO_READ: [&str; 5] = [
    "In the pictures, − stands before what a message takes less than on the rung above, + before what it takes more. In the tables, \
     a step that costs has saved less than nothing.",
    "“Explained” is number times price, added up. System calls and context switches were counted (on one core also the switches to a \
     process that is woken and goes first); copies, cache lines and fences are known by construction.",
    "“Unexplained” is what that leaves over: all other work of the kernel and of the library. System calls are in it where they were not \
     counted, copies where the message has another size than the one whose copy was timed.",
    "In the stream two processes work side by side, so calls, switches and copies count half there; and a line that is fetched while \
     other work is done costs less than its price: then less than nothing is unexplained.",
    "The last line holds the sum of all parts against the whole way.",
];

/// All pictures of a run, in the order of the page.
pub fn charts(rows: &[Row]) -> Vec<Chart> {
    let ladders = ladders(rows).into_iter().map(|ladder| ladder.chart);
    ladders.chain(sections(rows).into_iter().flat_map(|section| section.charts)).collect()
}

/// The whole page.
pub fn page(recorded: &Recorded, comparison: Option<&Comparison>) -> Result<String> {
    let rows = &recorded.rows;
    let (ladders, sections) = (ladders(rows), sections(rows));
    let is_message = |row: &Row| row.measure != Measure::Limit && row.sweep.is_none();
    let short = rows.iter().any(|row| is_message(row) && figure(row).is_some());
    let json = json(rows)?.trim_end().replace('\n', ",\n").replace('<', "\\u003c");
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "ringpost bench" }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                h1 { "ringpost bench" }
                @if let Some(run) = &recorded.run { (environment(run)) }
                @else { p { "The file held rows alone: on what and how they were measured is not known." } }
                (contents(short, &ladders, &sections, comparison.is_some()))
                @if short { (in_short(rows, &ladders)) }
                (how_sure(recorded))
                @if let Some(comparison) = comparison { (compared(rows, comparison)) }
                (ladder_part(rows, &ladders))
                @for section in &sections { (section_part(section)) }
                (limits(rows))
                (not_measured(rows))
                (all_rows(rows))
                script type="application/json" id="rows" { (PreEscaped(format!("[\n{json}\n]"))) }
            }
        }
    };
    Ok(markup.into_string())
}

fn environment(run: &Run) -> Markup {
    html! {
        @if run.unoptimised { p { strong { (WARNING) } } }
        p { "ringpost " (run.version) " on " (run.processor) ", Linux " (run.kernel) ", " (run.place) br;
            "measured: " (run.when()) }
        p { code { @for word in run.command.split(' ') { span { (word) } " " } } br;
            "input " (run.input) ", " (several(run.rounds as usize, "round")) ", " (run.sample_ms) " ms a sample" }
    }
}

/// Where on the page is what.
fn contents(short: bool, ladders: &[Ladder], sections: &[Section], compared: bool) -> Markup {
    let ladder = (!ladders.is_empty()).then_some(("ladder", LADDER));
    let parts = sections.iter().map(|section| (section.id, section.title));
    let parts = (short.then_some(("short", SHORT)).into_iter())
        .chain([("how-sure", SURE)])
        .chain(compared.then_some(("comparison", COMPARED)))
        .chain(ladder)
        .chain(parts)
        .chain([("limits", LIMITS), ("not-measured", NOT_MEASURED), ("all", ALL)]);
    html! { nav { ul { @for (id, title) in parts { li { a href=(format!("#{id}")) { (title) } } } } } }
}

/// The answer, as far as a few figures can give it.
fn in_short(rows: &[Row], ladders: &[Ladder]) -> Markup {
    html! {
        section id="short" {
            h2 { (SHORT) }
            p { "Mailboxes copy every message twice and enter the kernel twice: can message passing be optimised?" }
            ul { @for answer in answers(ladders) { li { (answer) } } }
            (overview(rows))
        }
    }
}

/// The limits that are anchors themselves, where they are far from those around them.
fn disturbed(rows: &[Row]) -> impl Iterator<Item = &Row> {
    let anchor = |row: &&Row| match &*row.mechanism {
        "line" => !row.on_one_core(),
        "futex" => row.on_one_core(),
        _ => false,
    };
    rows.iter().filter(anchor).filter(|row| row.ratio.is_some_and(|ratio| !(0.5..=2.0).contains(&ratio)))
}

/// The rows of each cell: as many as placement classes that it was met in. What was dropped of the cell stands in each.
fn by_cell<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Vec<&'a Row>> {
    let mut cells: BTreeMap<_, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let cell = (row.measure, &*row.mechanism, row.variant, row.wait, row.size, row.on_one_core());
        cells.entry(cell).or_default().push(row);
    }
    cells.into_values().collect()
}

/// How much can be built on the figures: samples, spread, placement, load.
fn how_sure(recorded: &Recorded) -> Markup {
    let measured = || recorded.rows.iter().filter(|row| figure(row).is_some());
    let timed = || measured().filter(|row| row.sweep.is_none());
    let (timed_cells, alone) = (by_cell(timed()), measured().filter(|row| row.sweep.is_some()).count());
    let samples = |rows: &[&Row]| rows.iter().map(|row| row.samples).fold(0, usize::saturating_add);
    let short = |rounds: u32| timed_cells.iter().filter(|rows| samples(rows) < rounds as usize).count();
    let mut spreads: Vec<f64> = measured()
        .filter(|row| row.samples > 1)
        .filter_map(|row| Some((row.max? - row.min?) / figure(row)?))
        .filter(|spread| spread.is_finite())
        .collect();
    spreads.sort_by(f64::total_cmp);
    let single = measured().filter(|row| row.samples == 1).count();
    let dropped =
        by_cell(recorded.rows.iter()).iter().map(|rows| rows[0].dropped).fold(0, usize::saturating_add);
    let percent = |share: f64| format!("{:.0} %", 100.0 * share);
    let classes = [Class::SameCore, Class::Smt, Class::Ccx, Class::Far];
    let met = classes.map(|class| (class, timed().filter(|row| row.class == Some(class)).count()));
    html! {
        section id="how-sure" {
            h2 { (SURE) }
            ul {
                li { "Samples: " (several(timed_cells.len() + alone, "cell")) ", a median over the rounds each"
                    @match recorded.run.as_ref().map(|run| (run.rounds, short(run.rounds))) {
                        Some((_, 0)) => ".",
                        Some((rounds, short)) => {
                            "; " strong { (short) " of them have fewer than " (several(rounds as usize, "sample")) }
                            ": the machine was busy, or the time was over."
                        }
                        None => ".",
                    }
                }
                @for row in disturbed(&recorded.rows) {
                    li { strong { "Something else was running: " } "the limit " (row.mechanism) " took "
                        (row.ratio.map(|ratio| format!("{ratio:.1}")).unwrap_or_default())
                        " times what the same ping-pong took just before and after. Measure again when nothing else runs." }
                }
                li { "Spread over the rounds, most less least: "
                    @match spreads[..] {
                        [] => "unknown, since each cell has a single sample.",
                        [.., widest] => {
                            (percent(spreads[spreads.len() / 2])) " of the figure in the middle cell, " (percent(widest))
                            " in the worst"
                            @if single > 0 { "; unknown in those with a single sample (" (single) ")" }
                            ". The table at the end has it for each."
                        }
                    }
                }
                li { "Placement classes, by what a cache line takes from one core to the other (smt: below " (SMT_BELOW_NS)
                    " ns, two threads of a core; ccx: below " (CCX_BELOW_NS) " ns, one last-level cache; far: above; \
                    same-core: both in turns on one): "
                    @for (index, (class, cells)) in met.iter().filter(|met| met.1 > 0).enumerate() {
                        @if index > 0 { ", " }
                        (class) " " (several(*cells, "cell"))
                    }
                    @if alone > 0 {
                        @if met.iter().any(|met| met.1 > 0) { "; " }
                        (several(alone, "cell")) " of the ring alone have none"
                    }
                    ". They never share a series. "
                    (several(dropped, "sample"))
                    " dropped because the class changed meanwhile."
                }
                li { "More processes, or threads at work, than cores (marked “oversubscribed”): "
                    (several(measured().filter(|row| row.oversubscribed).count(), "cell")) "." }
                li { "Spinning and sleeping never share a series either." }
            }
        }
    }
}

fn figure_of(chart: &Chart) -> Markup {
    html! { figure id=(chart.id()) { (chart.draw()) } }
}

fn section_part(section: &Section) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.title) }
            p { (section.text) }
            @for chart in &section.charts { (figure_of(chart)) }
        }
    }
}

fn ladder_part(rows: &[Row], ladders: &[Ladder]) -> Markup {
    let prices = Prices::of(rows);
    let prices = [
        ("an empty system call", prices.call),
        ("a context switch (the futex ping-pong on one core without its two calls)", prices.switch),
        ("a copy of 64 bytes", prices.copy),
        ("a cache line from one core to the other", prices.line),
        ("a full fence", prices.fence),
    ];
    html! {
        @if !ladders.is_empty() {
            section id="ladder" {
                h2 { (LADDER) }
                p { "What a message takes on each rung, and what the step to it saved:" }
                ul { @for line in HOW_TO_READ { li { (line) } } }
                p { "What single things cost, measured in the same run:" }
                ul { @for (name, price) in prices {
                    li { (name) ": " @match price { Some(ns) => (units::time(ns)), None => "not measured" } }
                } }
                @for ladder in ladders { (figure_of(&ladder.chart)) (steps(ladder)) }
            }
        }
    }
}

fn steps(ladder: &Ladder) -> Markup {
    let whole = ladder.whole();
    let step = |saved: f64, parts: &[Part]| {
        html! {
            td.number { (signed(saved)) }
            td { @for (index, part) in parts.iter().enumerate() {
                @if index > 0 { "; " }
                (format!("{:.2}", part.fewer.abs())) @if part.fewer < 0.0 { " more " } @else { " fewer " }
                (part.name) ": " (signed(part.ns))
            } }
            td.number { @if parts.is_empty() { "–" } @else { (signed(explained(parts))) } }
            td.number { (signed(saved - explained(parts))) }
        }
    };
    html! {
        div.scroll { table.steps {
            thead { tr { th { "rung" } th.number { "takes" } th.number { "saved" } th { "by" } th.number { "explained" }
                th.number { "unexplained" } } }
            @for rung in &ladder.steps {
                tr {
                    td { (rung.name) }
                    td.number { (units::time(rung.ns)) }
                    @if let Some(saved) = rung.saved { (step(saved, &rung.parts)) } @else { td {} td {} td {} td {} }
                }
            }
            tr.sum { td { "first to last" } td {} (step(whole.saved, &whole.parts)) }
        } }
        @if !ladder.missing.is_empty() {
            ul { @for (name, why) in &ladder.missing { li { "No rung “" (name) "”: " (why) "." } } }
        }
    }
}

fn compared(rows: &[Row], comparison: &Comparison) -> Markup {
    html! {
        section id="comparison" {
            h2 { (COMPARED) }
            p { (comparison.older) }
            p { strong { (comparison.summary(rows)) } "." }
            p { "Latency: more is worse; messages a second: more is better." }
            @if comparison.of(Spreads::Apart).count() > 0 { (pairs(rows, comparison.of(Spreads::Apart))) }
            @for (spreads, what) in [
                (Spreads::Overlap, "whose spreads overlap: the difference says nothing"),
                (Spreads::Single, "with a single sample in one of the runs: no spread, the difference says nothing"),
            ] {
                @let number = comparison.of(spreads).count();
                @if number > 0 {
                    details {
                        summary { (several(number, "cell")) " " (what) }
                        (pairs(rows, comparison.of(spreads)))
                    }
                }
            }
        }
    }
}

fn pairs<'a>(rows: &[Row], pairs: impl Iterator<Item = &'a Pair>) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "cell" } th.number { "old" } th.number { "new" } th.number { "new ÷ old" } th.number { "now" } } }
            @for pair in pairs {
                @let row = &rows[pair.row];
                @let unit = unit(row);
                tr data-row=(pair.row) {
                    td { (cell(row)) }
                    td.number { (unit(pair.old)) }
                    td.number { (unit(pair.new)) }
                    td.number { (pair.ratio()) }
                    td.number { (pair.now(row)) }
                }
            }
        } }
    }
}

fn limits(rows: &[Row]) -> Markup {
    let measured: Vec<&Row> =
        rows.iter().filter(|row| row.measure == Measure::Limit && row.error.is_none()).collect();
    html! {
        section id="limits" {
            h2 { (LIMITS) }
            @if measured.is_empty() {
                p { "No limit was measured." }
            } @else {
                p { "What the machine takes for single things, measured by the same two processes in the same run." }
                div.scroll { table {
                    thead { tr { th { "limit" } th { "what it is" } th { "class" } th.number { "size" } th.number { "figure" } th.number { "least" }
                        th.number { "most" } th.number { "p99" } th.number { "p99.9" } } }
                    @for row in measured { (limit(row)) }
                } }
            }
        }
    }
}

fn limit(row: &Row) -> Markup {
    let scale = if row.p50_ns.is_some() { 1.0 } else { row.size as f64 };
    let unit = if row.p50_ns.is_some() { units::time } else { units::bandwidth };
    let show = |value: Option<f64>| value.map(|value| unit(value * scale)).unwrap_or_default();
    html! {
        tr {
            td { (row.mechanism) }
            td { (meaning(&row.mechanism)) }
            td { @if let Some(class) = row.class.filter(|_| row.wait.is_some()) { (class.to_string()) } }
            td.number { @if row.size > 0 { (units::size(row.size)) } }
            td.number { (show(figure(row))) }
            td.number { (show(row.min)) }
            td.number { (show(row.max)) }
            td.number { (row.p99_ns.map(units::time).unwrap_or_default()) }
            td.number { (row.p999_ns.map(units::time).unwrap_or_default()) }
        }
    }
}

/// What a limit is.
fn meaning(limit: &str) -> &'static str {
    match limit {
        "line" => "a word in a cache line to the other process, which polls it: one way",
        "futex" => "waking the other process, which sleeps on a futex: one way",
        "syscall" => "an empty system call",
        "fence" => "a full fence",
        "copy" => "a copy of so many bytes within the cache",
        "memcpy" => "a stream through shared memory, in chunks of this size: one writes, the other reads",
        _ => "",
    }
}

fn not_measured(rows: &[Row]) -> Markup {
    let known = registry::entries().map(|entry| entry.name);
    let absent: Vec<_> = known.filter(|name| rows.iter().all(|row| row.mechanism != *name)).collect();
    html! {
        section id="not-measured" {
            h2 { (NOT_MEASURED) }
            ul {
                @for reason in table::reasons(rows) { li { (reason) } }
                @if !absent.is_empty() { li { "Not asked for: " (absent.join(", ")) "." } }
                @if rows.iter().all(|row| row.sweep.is_none()) {
                    li { "The ring alone (its size, its batches, its senders, how it waits): the run was made without --sweeps." }
                }
            }
            p { "By design, in any run:" }
            ul { @for reason in BY_DESIGN { li { (reason) } } }
        }
    }
}

fn all_rows(rows: &[Row]) -> Markup {
    html! {
        section id="all" {
            h2 { (ALL) }
            p { "Least and most are of the samples’ medians (or rates). Calls, context switches and processor seconds are for a \
                million messages. Dropped: samples under which the placement changed." }
            div.scroll { table.all {
                thead { tr { th { "cell" } th.number { "figure" } th.number { "least" } th.number { "most" } th.number { "p99" }
                    th.number { "p99.9" } th.number { "calls" } th.number { "switches" } th.number { "CPU" }
                    th.number { "× anchor" } th.number { "samples" } th.number { "dropped" } } }
                @for row in rows.iter().filter(|row| row.error.is_none()) {
                    @let unit = unit(row);
                    @let show = |value: Option<f64>| value.map(unit).unwrap_or_default();
                    tr.over[row.oversubscribed] {
                        td { (cell(row)) (row.mark()) }
                        td.number { (show(figure(row))) }
                        td.number { (show(row.min)) }
                        td.number { (show(row.max)) }
                        td.number { (row.p99_ns.map(units::time).unwrap_or_default()) }
                        td.number { (row.p999_ns.map(units::time).unwrap_or_default()) }
                        td.number { (row.calls_per_million.map(count).unwrap_or_default()) }
                        td.number { (row.waits_per_million.map(count).unwrap_or_default()) }
                        td.number { @if let Some(seconds) = row.cpu_s_per_million { (as_seconds(seconds)) } }
                        td.number { @if let Some(ratio) = row.ratio { (format!("{ratio:.2}")) } }
                        td.number { (row.samples) }
                        td.number { (row.dropped) }
                    }
                }
            } }
        }
    }
}
