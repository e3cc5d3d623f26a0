//! A small picture for each series, all on one scale: the median as a line, and above it the band to a high percentile.
//! In one picture the bands of many series would cover each other.

use maud::{Markup, html};

use super::svg::{Scale, Series, WIDTH, dot, frame, path, px};

/// A small picture for each series.
#[derive(Clone, Debug)]
pub struct Panels {
    /// Names the file too.
    pub id: String,
    /// Above.
    pub title: String,
    /// Which fields of the rows the values are: of the line, and of the upper end of the band.
    pub fields: &'static str,
    /// The names of the steps.
    pub steps: Vec<String>,
    /// How a value is written.
    pub unit: fn(f64) -> String,
    /// What is drawn: the first one also thinly into each other's panel, to be held against it.
    pub series: Vec<Series>,
}

const COLUMNS: usize = 3;
const LEFT: f64 = 66.0;
const TOP: f64 = 54.0;
const GAP: f64 = 14.0;
const HEIGHT: f64 = 96.0;
/// From one row of panels to the next.
const PITCH: f64 = HEIGHT + 26.0;

impl Panels {
    /// The picture.
    pub fn draw(&self) -> Markup {
        let width = (WIDTH - LEFT) / COLUMNS as f64 - GAP;
        let lines = self.series.len().div_ceil(COLUMNS);
        let all = || self.series.iter().flat_map(|series| &series.points);
        let values = || all().flat_map(|point| [point.value, point.high.unwrap_or(point.value)]);
        let inside = html! {
            @for (index, series) in self.series.iter().enumerate() {
                @let (column, line) = (index % COLUMNS, index / COLUMNS);
                @let (left, top) = (LEFT + column as f64 * (width + GAP), TOP + line as f64 * PITCH);
                @let scale = Scale::over(values(), top, top + HEIGHT);
                @let gap = width / self.steps.len().max(1) as f64;
                @let x = |step: usize| left + gap * (step as f64 + 0.5);
                @for tick in decades(&scale) {
                    @let y = px(scale.at(tick));
                    line class="grid" x1=(px(left)) x2=(px(left + width)) y1=(y) y2=(y) {}
                    @if column == 0 {
                        text class="quiet small" x=(left - 6.0) y=(y) dy="4" text-anchor="end" { ((self.unit)(tick)) }
                    }
                }
                @if index + COLUMNS >= self.series.len() {
                    @for (step, name) in self.steps.iter().enumerate() {
                        text class="quiet small" x=(px(x(step))) y=(top + HEIGHT + 14.0) text-anchor="middle" { (name) }
                    }
                }
                @if index > 0 {
                    g class=(self.series[0].tone) {
                        polyline class="reference" points=(path(&self.series[0].points, &x, &scale)) {}
                    }
                }
                g class=(format!("panel {}", series.tone)) data-series=(series.name) {
                    text class="name" x=(px(left)) y=(top - 5.0) { (series.name) }
                    path class="band" d=(band(series, &x, &scale)) {}
                    polyline class="line" points=(path(&series.points, &x, &scale)) {}
                    @for point in &series.points {
                        (dot(&point.source, point.value, x(point.step), &scale))
                        @if let Some(high) = point.high {
                            g class="high" { (dot(&point.source, high, x(point.step), &scale)) }
                        }
                    }
                }
            }
        };
        frame(&self.id, &self.title, self.fields, TOP + lines as f64 * PITCH + 4.0, &inside)
    }
}

/// The powers of ten, in a distance that leaves room for their names.
fn decades(scale: &Scale) -> Vec<f64> {
    let tens: Vec<f64> =
        scale.ticks().into_iter().filter(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-9).collect();
    let every = tens.len().div_ceil(5).max(1);
    tens.into_iter().step_by(every).collect()
}

/// There above, back below.
fn band(series: &Series, x: &impl Fn(usize) -> f64, scale: &Scale) -> String {
    let banded = || series.points.iter().filter_map(|point| Some((point.step, point.value, point.high?)));
    let spot = |step: usize, value: f64| format!("{},{}", px(x(step)), px(scale.at(value)));
    let there = banded().map(|(step, _, high)| spot(step, high));
    let back: Vec<_> = banded().map(|(step, value, _)| spot(step, value)).collect();
    let spots: Vec<_> = there.chain(back.into_iter().rev()).collect();
    if spots.is_empty() { String::new() } else { format!("M{}Z", spots.join("L")) }
}
