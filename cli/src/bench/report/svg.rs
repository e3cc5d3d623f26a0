//! Two kinds of pictures, drawn by hand: lines over steps on a logarithmic scale, and bars. `panels.rs` has a third.
//!
//! A mark carries the row that it was drawn from, and its value. Colours are variables of the style, so that one picture
//! serves in the light, in the dark and on paper, alone or inside a page.

use maud::{Markup, PreEscaped, html};

use super::panels::Panels;

const STYLE: &str = include_str!("style.css");
pub(super) const WIDTH: f64 = 900.0;
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
    /// To where its band reaches, in a panel.
    pub high: Option<f64>,
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
    /// At its end.
    pub name: String,
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
    /// To its right, behind the value: lines.
    pub notes: Vec<String>,
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
    /// A small picture for each series.
    Panels(Panels),
}

impl Chart {
    /// Names it in the page and as a file.
    pub fn id(&self) -> &str {
        match self {
            Self::Lines(lines) => &lines.id,
            Self::Bars(bars) => &bars.id,
            Self::Panels(panels) => &panels.id,
        }
    }

    /// Whether nothing is to be drawn.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Lines(lines) => lines.series.is_empty(),
            Self::Bars(bars) => bars.bars.is_empty(),
            Self::Panels(panels) => panels.series.is_empty(),
        }
    }

    /// The picture: an `svg` element that also stands alone as a file.
    pub fn draw(&self) -> Markup {
        match self {
            Self::Lines(lines) => lines.draw(),
            Self::Bars(bars) => bars.draw(),
            Self::Panels(panels) => panels.draw(),
        }
    }
}

pub(super) fn frame(id: &str, title: &str, field: &str, height: f64, inside: &Markup) -> Markup {
    html! {
        svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label=(title)
            viewBox=(format!("0 0 {WIDTH} {height}")) data-chart=(id) data-field=(field)
        {
            style { (PreEscaped(STYLE)) }
            rect class="paper" width="100%" height="100%" {}
            text class="title" x="8" y="20" { (title) }
            (inside)
        }
    }
}

/// With two digits behind the point, which is more than a screen shows.
pub(super) fn px(value: f64) -> String {
    format!("{value:.2}")
}

/// A logarithmic scale, from the top of the picture to its bottom.
pub(super) struct Scale {
    least: f64,
    most: f64,
    top: f64,
    bottom: f64,
}

impl Scale {
    /// Has room for all that is more than nothing.
    pub fn over(values: impl Iterator<Item = f64>, top: f64, bottom: f64) -> Self {
        let (least, most) = values
            .filter(|value| *value > 0.0 && value.is_finite())
            .fold((f64::INFINITY, 0.0f64), |(least, most), value| (least.min(value), most.max(value)));
        let (least, most) = if most > 0.0 { (least, most) } else { (1.0, 1.0) };
        let drawn = |value: f64| value.clamp(1e-30, 1e30);
        Self { least: drawn(least) / 1.3, most: drawn(most) * 1.3, top, bottom }
    }

    pub fn at(&self, value: f64) -> f64 {
        let share = (value.clamp(self.least, self.most) / self.least).ln() / (self.most / self.least).ln();
        self.bottom - share * (self.bottom - self.top)
    }

    /// One, two and five of each power of ten; of wide scales the ones alone.
    pub fn ticks(&self) -> Vec<f64> {
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
        let names = self.series.len() + self.limits.len();
        let height = (names as f64 * LEADING + 110.0).max(400.0);
        let bottom = height - 50.0;
        let points = self.series.iter().flat_map(|series| &series.points).map(|point| point.value);
        let scale = Scale::over(points.chain(self.limits.iter().map(|limit| limit.value)), top, bottom);
        let gap = (right - left) / self.steps.len().max(1) as f64;
        let x = |step: usize| left + gap * (step as f64 + 0.5);
        // The names of the limits stand in one column with those of the series: there they are in nobody's way.
        let last = |series: &Series| series.points.last().map(|point| (x(point.step) + 5.0, point.value));
        let ends: Vec<(f64, f64)> = (self.series.iter().filter_map(last))
            .chain(self.limits.iter().map(|limit| (right, limit.value)))
            .map(|(x, value)| (x, scale.at(value)))
            .collect();
        let heights: Vec<f64> = ends.iter().map(|end| end.1).collect();
        let labels = spread_out(&heights, top + 4.0, bottom);
        let label = |index: usize, name: &str| {
            let ((from, end), y) = (ends[index], labels[index]);
            html! {
                line class="lead" x1=(px(from)) x2=(right + 8.0) y1=(px(end)) y2=(px(y)) {}
                text class="name" x=(right + 12.0) y=(px(y)) dy="4" { (name) }
            }
        };
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
            @for (index, limit) in self.limits.iter().enumerate() {
                @let y = px(scale.at(limit.value));
                g class="limit" {
                    line class="line mark" x1=(left) x2=(right) y1=(y) y2=(y)
                        data-row=(limit.source.row) data-value=(limit.value)
                        data-mechanism=(limit.source.mechanism) data-size=(limit.source.size)
                        { title { (limit.source.text) } }
                    (label(self.series.len() + index, &limit.name))
                }
            }
            @for (index, series) in self.series.iter().enumerate() {
                g class=(series.tone) data-series=(series.name) {
                    polyline class="line" points=(path(&series.points, &x, &scale)) {}
                    @for point in &series.points { (dot(&point.source, point.value, x(point.step), &scale)) }
                    (label(index, &series.name))
                }
            }
        };
        frame(&self.id, &self.title, self.field, height, &inside)
    }
}

/// A mark at a value.
pub(super) fn dot(source: &Source, value: f64, x: f64, scale: &Scale) -> Markup {
    html! {
        circle class="mark" r="3.5" cx=(px(x)) cy=(px(scale.at(value))) data-row=(source.row) data-value=(value)
            data-mechanism=(source.mechanism) data-size=(source.size)
            { title { (source.text) } }
    }
}

pub(super) fn path(points: &[Point], x: &impl Fn(usize) -> f64, scale: &Scale) -> String {
    let spots = points.iter().map(|point| format!("{},{}", px(x(point.step)), px(scale.at(point.value))));
    spots.collect::<Vec<_>>().join(" ")
}

impl Bars {
    fn draw(&self) -> Markup {
        let lines = self.bars.iter().map(|bar| bar.notes.len()).max().unwrap_or(0);
        let (left, top, row) = (210.0, 34.0, if lines > 1 { 34.0 } else { 22.0 });
        let right = WIDTH - if lines > 0 { 450.0 } else { 110.0 };
        let most = self.bars.iter().map(|bar| bar.value).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
        let inside = html! {
            @for (index, bar) in self.bars.iter().enumerate() {
                @let y = top + row * index as f64;
                @let length = (right - left) * (bar.value.max(0.0) / most);
                g class=(bar.tone) {
                    text class="name" x=(left - 8.0) y=(y + 14.0) text-anchor="end" { (bar.name) }
                    rect class="mark" x=(left) y=(y + 2.0) height="16" width=(px(length))
                        data-row=(bar.source.row) data-value=(bar.value)
                        data-mechanism=(bar.source.mechanism) data-size=(bar.source.size)
                        { title { (bar.source.text) } }
                    text x=(px(left + length + 6.0)) y=(y + 14.0) { ((self.unit)(bar.value)) }
                    @for (line, note) in bar.notes.iter().enumerate() {
                        text class="quiet" x=(right + 76.0) y=(y + 14.0 + LEADING * line as f64) { (note) }
                    }
                }
            }
            line class="foot" x1=(left) x2=(left) y1=(top) y2=(top + row * self.bars.len() as f64) {}
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
    fn what_is_close_has_labels_apart() {
        let source = || Source { row: 0, mechanism: "line".into(), size: 8, text: "it".into() };
        let point = Point { step: 0, value: 900.0, high: None, source: source() };
        let chart = Chart::Lines(Lines {
            id: "close".into(),
            title: "Close".into(),
            field: "p50_ns",
            axis: "message size",
            steps: vec!["8 B".into()],
            unit: |value| value.to_string(),
            series: vec![Series { name: "ring".into(), tone: "ring", points: vec![point] }],
            limits: [900.0, 901.0, 899.0]
                .map(|value| Limit { name: "limit: it".into(), value, source: source() })
                .into(),
        });
        let svg = chart.draw().into_string();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let labels = document.descendants().filter(|node| node.attribute("class") == Some("name"));
        let mut heights: Vec<f64> =
            labels.map(|label| label.attribute("y").unwrap().parse().unwrap()).collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 4);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LEADING - 0.02), "{heights:?}");
    }

    #[test]
    fn a_scale_is_logarithmic() {
        let scale = Scale::over([1.3, 1000.0 / 1.3].into_iter(), 0.0, 300.0);
        assert!((scale.at(10.0) - 200.0).abs() < 1e-9 && (scale.at(1.0) - 300.0).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 10);
        for odd in [5e-324, f64::MAX] {
            let scale = Scale::over([odd].into_iter(), 0.0, 300.0);
            assert!(scale.at(odd).is_finite() && scale.ticks().len() < 100, "{odd}");
        }
        let nothing = Scale::over([0.0, f64::NAN].into_iter(), 0.0, 300.0);
        assert!(nothing.at(0.0).is_finite() && nothing.at(f64::INFINITY).is_finite());
    }

    /// The relative luminance of `#rgb` or `#rrggbb`.
    fn luminance(colour: &str) -> f64 {
        let digits: Vec<u32> = colour[1..].chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        let parts = if digits.len() == 3 {
            digits.iter().map(|digit| digit * 17).collect::<Vec<_>>()
        } else {
            digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect()
        };
        let linear = |part: u32| match f64::from(part) / 255.0 {
            dark if dark <= 0.04045 => dark / 12.92,
            light => ((light + 0.055) / 1.055).powf(2.4),
        };
        0.2126 * linear(parts[0]) + 0.7152 * linear(parts[1]) + 0.0722 * linear(parts[2])
    }

    #[test]
    fn every_colour_can_be_read_on_its_paper() {
        let mut seen = 0;
        for scheme in STYLE.split("@media") {
            let colours = || {
                let parts = scheme.split([';', '{', '}']).filter_map(|part| part.trim().strip_prefix("--"));
                parts.filter_map(|part| part.split_once(": ")).filter(|(_, colour)| colour.starts_with('#'))
            };
            let (_, paper) = colours().find(|(name, _)| *name == "paper").unwrap();
            for (name, colour) in colours().filter(|(name, _)| !["paper", "grid"].contains(name)) {
                let (one, other) = (luminance(colour), luminance(paper));
                let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                assert!(contrast >= 4.5, "{name} {colour} on {paper}: {contrast:.2}");
                seen += 1;
            }
        }
        assert_eq!(seen, 3 * 10);
    }
}
