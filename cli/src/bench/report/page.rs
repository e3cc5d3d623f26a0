//! The page: one file, no network, no script that runs.

use anyhow::Result;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::super::environment::Run;
use super::super::row::Row;
use super::super::shape::Measure;
use super::super::units;
use super::charts::{Section, sections};
use super::compare::Pair;
use super::ladder::{Ladder, Prices, ladders};
use super::saved::{Recorded, lines};
use super::svg::Chart;
use super::words::{cell, figure, unit};

/// All pictures of a run, in the order of the page.
pub fn charts(rows: &[Row]) -> Vec<Chart> {
    let ladders = ladders(rows).into_iter().map(|ladder| ladder.chart);
    ladders.chain(sections(rows).into_iter().flat_map(|section| section.charts)).collect()
}

/// The whole page.
pub fn page(recorded: &Recorded, pairs: Option<&[Pair]>) -> Result<String> {
    let rows = &recorded.rows;
    let json = lines(rows)?.trim_end().replace('\n', ",\n").replace("</", "<\\/");
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
                @if let Some(pairs) = pairs { (comparison(rows, pairs)) }
                (ladder_part(rows))
                @for section in sections(rows) { (section_part(&section)) }
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
        p { (run.place) ", Linux " (run.kernel) ", " (run.processor) }
        p { code { (run.command) } br; "input " (run.input) ", " (run.rounds) " rounds, " (run.sample_ms) " ms a sample" }
    }
}

fn figure_of(chart: &Chart) -> Markup {
    html! { figure id=(chart.id()) { (chart.draw()) } }
}

fn section_part(section: &Section) -> Markup {
    html! {
        section {
            h2 { (section.title) }
            p { (section.text) }
            @for chart in &section.charts { (figure_of(chart)) }
        }
    }
}

fn signed(ns: f64) -> String {
    if ns < 0.0 { format!("−{}", units::time(-ns)) } else { units::time(ns) }
}

fn ladder_part(rows: &[Row]) -> Markup {
    let ladders = ladders(rows);
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
            section {
                h2 { "The ladder: from the kernel’s queue to the ring" }
                p {
                    "What a message takes on each rung, and what the step to it saved. The single costs were measured in the \
                     same run; system calls and context switches were counted, copies, lines and fences are known by construction. “Explained” \
                     is their sum, and what it leaves over is named as well: system calls are in it where they were not \
                     counted. In the stream two processes work side by side, so calls, switches and copies count half there; the futex by \
                     hand has one slot and takes turns, so it is no rung of it."
                }
                ul { @for (name, price) in prices {
                    li { (name) ": " @match price { Some(ns) => (units::time(ns)), None => "not measured" } }
                } }
                @for ladder in &ladders { (figure_of(&ladder.chart)) (steps(ladder)) }
            }
        }
    }
}

fn steps(ladder: &Ladder) -> Markup {
    html! {
        div.scroll { table {
            tr { th { "rung" } th.number { "takes" } th.number { "saved" } th { "by" } th.number { "explained" }
                th.number { "unexplained" } }
            @for step in &ladder.steps {
                tr {
                    td { (step.name) }
                    td.number { (units::time(step.ns)) }
                    @if let Some(saved) = step.saved {
                        td.number { (signed(saved)) }
                        td { @for (index, part) in step.parts.iter().enumerate() {
                            @if index > 0 { "; " }
                            (part.name) " " (format!("{:.2}", part.fewer).replace('-', "−")) " fewer: " (signed(part.ns))
                        } }
                        td.number { (signed(step.explained())) }
                        td.number { (signed(saved - step.explained())) }
                    } @else { td {} td {} td {} td {} }
                }
            }
        } }
    }
}

fn comparison(rows: &[Row], pairs: &[Pair]) -> Markup {
    html! {
        section id="comparison" {
            h2 { "Against the older run" }
            p { "Latency: more is worse; messages a second: more is better. Bold: the spreads of the two runs do not overlap." }
            div.scroll { table {
                tr { th { "cell" } th.number { "old" } th.number { "new" } th.number { "new ÷ old" } th { "spreads" } }
                @for pair in pairs {
                    @let unit = unit(&rows[pair.row]);
                    tr data-row=(pair.row) {
                        td { (cell(&rows[pair.row])) }
                        td.number { (unit(pair.old)) }
                        td.number { (unit(pair.new)) }
                        td.number.worse[!pair.within] { (format!("{:.3}", pair.new / pair.old)) }
                        td { @if pair.within { "overlap" } @else { "apart" } }
                    }
                }
            } }
        }
    }
}

fn limits(rows: &[Row]) -> Markup {
    html! {
        section {
            h2 { "Limits of this run" }
            div.scroll { table {
                tr { th { "limit" } th { "class" } th.number { "size" } th.number { "figure" } th.number { "least" }
                    th.number { "most" } }
                @for row in rows.iter().filter(|row| row.measure == Measure::Limit && row.error.is_none()) {
                    @let scale = if row.p50_ns.is_some() { 1.0 } else { row.size as f64 };
                    @let unit = if row.p50_ns.is_some() { units::time } else { units::bandwidth };
                    @let show = |value: Option<f64>| value.map(|value| unit(value * scale)).unwrap_or_default();
                    tr {
                        td { (row.mechanism) }
                        td { @if let Some(class) = row.class { (class.to_string()) } }
                        td.number { (units::size(row.size)) }
                        td.number { (show(figure(row))) }
                        td.number { (show(row.min)) }
                        td.number { (show(row.max)) }
                    }
                }
            } }
        }
    }
}

fn not_measured(rows: &[Row]) -> Markup {
    let missing: Vec<_> = rows.iter().filter_map(|row| Some((row, row.error.as_ref()?))).collect();
    html! {
        @if !missing.is_empty() {
            section id="not-measured" {
                h2 { "Not measured" }
                ul { @for (row, reason) in missing { li { (cell(row)) ": " (reason) } } }
            }
        }
    }
}

fn all_rows(rows: &[Row]) -> Markup {
    html! {
        section id="all" {
            h2 { "Every row: spread over the rounds, dropped samples, placement" }
            p { "Least and most are of the samples’ medians (or rates). Calls: system calls \
                for a message. Dropped: samples under which the placement changed." }
            div.scroll { table {
                tr { th { "cell" } th.number { "figure" } th.number { "least" } th.number { "most" } th.number { "p99.9" }
                    th.number { "calls" } th.number { "× anchor" } th.number { "samples" } th.number { "dropped" } }
                @for row in rows.iter().filter(|row| row.error.is_none()) {
                    @let unit = unit(row);
                    @let show = |value: Option<f64>| value.map(unit).unwrap_or_default();
                    tr.over[row.oversubscribed] {
                        td { (cell(row)) @if row.oversubscribed { " (oversubscribed)" } }
                        td.number { (show(figure(row))) }
                        td.number { (show(row.min)) }
                        td.number { (show(row.max)) }
                        td.number { (row.p999_ns.map(units::time).unwrap_or_default()) }
                        td.number { (row.calls_per_million.map(|calls| format!("{:.2}", calls / 1e6)).unwrap_or_default()) }
                        td.number { @if let Some(ratio) = row.ratio { (format!("{ratio:.2}")) } }
                        td.number { (row.samples) }
                        td.number { (row.dropped) }
                    }
                }
            } }
        }
    }
}
