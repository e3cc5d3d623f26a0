//! Two kinds of pictures, drawn by hand: lines over steps on a logarithmic scale, and bars.
//!
//! A mark carries the row that it was drawn from, and its value. Colours are variables of the style, so that one picture
//! serves in the light, in the dark and on paper, alone or inside a page.

use maud::{Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
const WIDTH: f64 = 900.0;
/// Pixels between the baselines of two labels.
const LEADING: f64 = 13.0;

/// Where a mark comes from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Index of its row.
    pub row: usize,
    /// Its mechanism.
    pub mechanism: String,
    /// Its size of a message.
    pub size: usize,
    /// What is said when it is pointed at.
    pub text: String,
}

/// A mark of a line.
#[derive(Clone, Debug)]
pub struct Point {
    /// Which step.
    pub step: usize,
    /// Where.
    pub value: f64,
    /// From and to where a band reaches.
    pub band: Option<(f64, f64)>,
    /// Whose.
    pub source: Source,
}

/// A line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Beside its end.
    pub name: String,
    /// Its class in the style.
    pub tone: &'static str,
    /// Whether its bands are drawn; those of all would hide each other.
    pub banded: bool,
    /// Its marks, by step.
    pub points: Vec<Point>,
}

/// Lines over steps.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Names the file too.
    pub id: String,
    /// Above.
    pub title: String,
    /// Which field of the rows the values are.
    pub field: &'static str,
    /// Below the steps.
    pub axis: &'static str,
    /// The names of the steps.
    pub steps: Vec<String>,
    /// How a value is written.
    pub unit: fn(f64) -> String,
    /// What is drawn.
    pub series: Vec<Series>,
    /// What the machine allows at best: straight across, dashed.
    pub limits: Vec<Limit>,
}

/// A line straight across.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Where.
    pub value: f64,
    /// Whose.
    pub source: Source,
}

/// A bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// To its left.
    pub name: String,
    /// To its right, behind the value.
    pub note: String,
    /// Its class in the style.
    pub tone: &'static str,
    /// Its length.
    pub value: f64,
    /// Whose.
    pub source: Source,
}

/// Bars from zero.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Names the file too.
    pub id: String,
    /// Above.
    pub title: String,
    /// Which field of the rows the values are.
    pub field: &'static str,
    /// How a value is written.
    pub unit: fn(f64) -> String,
    /// From above.
    pub bars: Vec<Bar>,
}

/// A picture.
#[derive(Clone, Debug)]
pub enum Chart {
    /// Lines over steps.
    Lines(Lines),
    /// Bars from zero.
    Bars(Bars),
}

impl Chart {
    /// Names it in the page and as a file.
    pub fn id(&self) -> &str {
        match self {
            Self::Lines(lines) => &lines.id,
            Self::Bars(bars) => &bars.id,
        }
    }

    /// Whether nothing is to be drawn.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.series.is_empty(),
            Self::Bars(bars) => bars.bars.is_empty(),
        }
    }

    /// The picture: an `svg` element that also stands alone as a file.
    pub fn draw(&self) -> Markup {
        match self {
            Self::Lines(lines) => lines.draw(),
            Self::Bars(bars) => bars.draw(),
        }
    }
}

fn frame(id: &str, title: &str, field: &str, height: f64, inside: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label=(title)
            viewBox=(format!("0 0 {WIDTH} {height}")) data-chart=(id) data-field=(field)
        {
            style { (PreEscaped(STYLE)) }
            text class="title" x="8" y="20" { (title) }
            (inside)
        }
    }
}

/// With two digits behind the point, which is more than a screen shows.
fn px(value: f64) -> String {
    format!("{value:.2}")
}

/// A logarithmic scale, from the top of the picture to its bottom.
struct Scale {
    least: f64,
    most: f64,
    top: f64,
    bottom: f64,
}

impl Scale {
    fn over(values: impl Iterator<Item = f64> + Clone, top: f64, bottom: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let most = values.fold(least, f64::max);
        Self { least: least / 1.3, most: most * 1.3, top, bottom }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(self.least) / self.least).ln() / (self.most / self.least).ln();
        self.bottom - share * (self.bottom - self.top)
    }

    /// One, two and five of each power of ten; of wide scales the ones alone.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.least.log10().floor() as i32..=self.most.log10().ceil() as i32;
        let steps: &[f64] = if self.most / self.least > 2e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = decades.flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)));
        all.filter(|tick| (self.least..=self.most).contains(tick)).collect()
    }
}

/// Moves what is too close apart, and keeps it inside; the order stays.
fn spread_out(wanted: &[f64], top: f64, bottom: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut placed = wanted.to_vec();
    let mut free = top;
    for &index in &order {
        placed[index] = placed[index].max(free);
        free = placed[index] + LEADING;
    }
    let mut free = bottom;
    for &index in order.iter().rev() {
        placed[index] = placed[index].min(free);
        free = placed[index] - LEADING;
    }
    placed
}

impl Lines {
    fn draw(&self) -> Markup {
        let (left, right, top) = (80.0, WIDTH - 200.0, 40.0);
        let height = (self.series.len() as f64 * LEADING + 110.0).max(400.0);
        let bottom = height - 50.0;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let banded = self.series.iter().filter(|series| series.banded).flat_map(|series| &series.points);
        let bands = banded.flat_map(|point| point.band.map_or([point.value; 2], |(low, high)| [low, high]));
        let values =
            points().map(|point| point.value).chain(bands).chain(self.limits.iter().map(|limit| limit.value));
        let scale = Scale::over(values, top, bottom);
        let gap = (right - left) / self.steps.len().max(1) as f64;
        let x = |step: usize| left + gap * (step as f64 + 0.5);
        let ends: Vec<f64> =
            self.series.iter().filter_map(|series| Some(scale.at(series.points.last()?.value))).collect();
        let labels = spread_out(&ends, top + 4.0, bottom);
        let above: Vec<f64> = self.limits.iter().map(|limit| scale.at(limit.value) - 4.0).collect();
        let limit_labels = spread_out(&above, top + 4.0, bottom - 4.0);
        let inside = html! {
            @for tick in scale.ticks() {
                @let y = px(scale.at(tick));
                line class="grid" x1=(left) x2=(right) y1=(y) y2=(y) {}
                text class="quiet" x=(left - 8.0) y=(y) dy="4" text-anchor="end" { ((self.unit)(tick)) }
            }
            @for (step, name) in self.steps.iter().enumerate() {
                text class="quiet" x=(px(x(step))) y=(bottom + 18.0) text-anchor="middle" { (name) }
            }
            text class="quiet" x=(px((left + right) / 2.0)) y=(bottom + 38.0) text-anchor="middle" { (self.axis) }
            @for (limit, label) in self.limits.iter().zip(limit_labels) {
                @let y = px(scale.at(limit.value));
                g class="limit" {
                    line class="line mark" x1=(left) x2=(right) y1=(y) y2=(y)
                        data-row=(limit.source.row) data-value=(limit.value)
                        data-mechanism=(limit.source.mechanism) data-size=(limit.source.size)
                        { title { (limit.source.text) } }
                    text class="name" x=(right - 2.0) y=(px(label)) text-anchor="end" { "limit: " (limit.source.mechanism) }
                }
            }
            @for ((series, end), label) in self.series.iter().zip(ends).zip(labels) {
                g class=(series.tone) data-series=(series.name) {
                    @if series.banded && series.points.iter().all(|point| point.band.is_some()) {
                        path class="band" d=(band(&series.points, &x, &scale)) {}
                    }
                    polyline class="line" points=(path(&series.points, &x, &scale)) {}
                    @for point in &series.points {
                        circle class="mark" r="3.5" cx=(px(x(point.step))) cy=(px(scale.at(point.value)))
                            data-row=(point.source.row) data-value=(point.value)
                            data-mechanism=(point.source.mechanism) data-size=(point.source.size)
                            { title { (point.source.text) } }
                    }
                    @if let Some(last) = series.points.last() {
                        line class="lead" x1=(px(x(last.step) + 5.0)) x2=(right + 8.0) y1=(px(end)) y2=(px(label)) {}
                        text class="name" x=(right + 12.0) y=(px(label)) dy="4" { (series.name) }
                    }
                }
            }
        };
        frame(&self.id, &self.title, self.field, height, &inside)
    }
}

fn path(points: &[Point], x: &impl Fn(usize) -> f64, scale: &Scale) -> String {
    let spots = points.iter().map(|point| format!("{},{}", px(x(point.step)), px(scale.at(point.value))));
    spots.collect::<Vec<_>>().join(" ")
}

/// There above, back below.
fn band(points: &[Point], x: &impl Fn(usize) -> f64, scale: &Scale) -> String {
    let spot = |point: &Point, value: f64| format!("{},{}", px(x(point.step)), px(scale.at(value)));
    let there = points.iter().filter_map(|point| Some(spot(point, point.band?.1)));
    let back = points.iter().rev().filter_map(|point| Some(spot(point, point.band?.0)));
    format!("M{}Z", there.chain(back).collect::<Vec<_>>().join("L"))
}

impl Bars {
    fn draw(&self) -> Markup {
        let (left, top, row) = (210.0, 34.0, 24.0);
        let noted = self.bars.iter().any(|bar| !bar.note.is_empty());
        let right = WIDTH - if noted { 450.0 } else { 110.0 };
        let most = self.bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let inside = html! {
            @for (index, bar) in self.bars.iter().enumerate() {
                @let y = top + row * index as f64;
                @let length = (right - left) * bar.value.max(0.0) / most;
                g class=(bar.tone) {
                    text class="name" x=(left - 8.0) y=(y + 14.0) text-anchor="end" { (bar.name) }
                    rect class="mark" x=(left) y=(y + 2.0) height=(row - 7.0) width=(px(length.max(1.0)))
                        data-row=(bar.source.row) data-value=(bar.value)
                        data-mechanism=(bar.source.mechanism) data-size=(bar.source.size)
                        { title { (bar.source.text) } }
                    text x=(px(left + length + 6.0)) y=(y + 14.0) { ((self.unit)(bar.value)) }
                    @if !bar.note.is_empty() {
                        text class="quiet" x=(right + 76.0) y=(y + 14.0) { (bar.note) }
                    }
                }
            }
        };
        frame(&self.id, &self.title, self.field, top + row * self.bars.len() as f64 + 10.0, &inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_their_order_and_do_not_overlap() {
        let placed = spread_out(&[50.0, 10.0, 12.0, 11.0, 99.0], 10.0, 100.0);
        assert_eq!(placed, [50.0, 10.0, 36.0, 23.0, 99.0]);
        let crowded = spread_out(&[95.0, 96.0, 97.0], 0.0, 100.0);
        assert_eq!(crowded, [74.0, 87.0, 100.0]);
    }

    #[test]
    fn limits_that_are_close_have_labels_apart() {
        let source = || Source { row: 0, mechanism: "line".into(), size: 8, text: "it".into() };
        let point = Point { step: 0, value: 900.0, band: None, source: source() };
        let chart = Chart::Lines(Lines {
            id: "close".into(),
            title: "Close".into(),
            field: "p50_ns",
            axis: "message size",
            steps: vec!["8 B".into()],
            unit: |value| value.to_string(),
            series: vec![Series { name: "ring".into(), tone: "ring", banded: false, points: vec![point] }],
            limits: [100.0, 101.0, 99.0].map(|value| Limit { value, source: source() }).into(),
        });
        let svg = chart.draw().into_string();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let labels = document.descendants().filter(|node| {
            node.has_attribute("x") && node.text().is_some_and(|text| text.starts_with("limit: "))
        });
        let mut heights: Vec<f64> =
            labels.map(|label| label.attribute("y").unwrap().parse().unwrap()).collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 3);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LEADING - 0.02), "{heights:?}");
    }

    #[test]
    fn a_scale_is_logarithmic() {
        let scale = Scale::over([1.3, 1000.0 / 1.3].into_iter(), 0.0, 300.0);
        assert!((scale.at(10.0) - 200.0).abs() < 1e-9 && (scale.at(1.0) - 300.0).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 10);
    }
}
