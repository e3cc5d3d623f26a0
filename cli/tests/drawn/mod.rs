//! A picture as it was drawn, taken apart again: what its marks are, where they lie, and what is written beside them.

use roxmltree::{Document, Node};

/// A mark: whose it is, what it is worth, and where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Index of its row.
    pub row: usize,
    pub mechanism: String,
    pub size: usize,
    pub value: f64,
    /// From the left and from the top; of a bar its end, of a limit its line.
    pub spot: (f64, f64),
}

/// A line of a picture or of a panel, and its band.
pub struct Series {
    pub name: String,
    /// The marks on the line, from the left.
    pub marks: Vec<Mark>,
    /// Those at the upper end of the band, from the left.
    pub highs: Vec<Mark>,
}

/// A bar with what stands beside it.
pub struct Bar {
    pub mark: Mark,
    pub length: f64,
    pub name: String,
    /// Its value, then its notes.
    pub texts: Vec<String>,
}

/// What is written where.
struct Label {
    spot: (f64, f64),
    text: String,
}

/// A picture: its name, its fields, and all that is in it.
pub struct Picture {
    pub name: String,
    pub field: String,
    pub series: Vec<Series>,
    pub limits: Vec<Mark>,
    pub bars: Vec<Bar>,
    /// Below the steps.
    steps: Vec<Label>,
    /// Beside the scale.
    ticks: Vec<Label>,
    /// How many panels it has.
    panels: usize,
}

fn number(node: Node<'_, '_>, name: &str) -> Option<f64> {
    node.attribute(name)?.parse().ok()
}

fn is(node: Node<'_, '_>, class: &str) -> bool {
    node.attribute("class").is_some_and(|classes| classes.split(' ').any(|word| word == class))
}

fn children<'a, 'i>(node: Node<'a, 'i>, tag: &'static str) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(move |child| child.tag_name().name() == tag)
}

fn text(node: Node<'_, '_>) -> String {
    node.descendants().filter_map(|part| part.is_text().then(|| part.text())?).collect()
}

fn mark(node: Node<'_, '_>) -> Option<Mark> {
    let whole = |name| node.attribute(name)?.parse().ok();
    let row = whole("data-row")?;
    assert!(children(node, "title").next().is_some(), "a mark says what it is");
    let end = || Some((number(node, "x")? + number(node, "width")?, number(node, "y")?));
    let spot = number(node, "cx").zip(number(node, "cy")).or(number(node, "x1").zip(number(node, "y1")));
    Some(Mark {
        row,
        mechanism: node.attribute("data-mechanism")?.into(),
        size: whole("data-size")?,
        value: number(node, "data-value")?,
        spot: spot.or_else(end)?,
    })
}

/// Pairs of numbers, as a line or a path has them.
fn spots(text: &str) -> Vec<(f64, f64)> {
    let pairs = text.split([' ', 'M', 'L', 'Z']).filter(|pair| !pair.is_empty());
    let spot = |pair: &str| {
        let (x, y) = pair.split_once(',').unwrap();
        (x.parse().unwrap(), y.parse().unwrap())
    };
    pairs.map(spot).collect()
}

fn places<'a>(marks: impl IntoIterator<Item = &'a Mark>) -> Vec<(f64, f64)> {
    marks.into_iter().map(|mark| mark.spot).collect()
}

/// A line goes through its marks, and its band from there up to the high ones.
fn series(group: Node<'_, '_>) -> Series {
    let name = group.attribute("data-series").unwrap().to_string();
    let marks: Vec<Mark> = children(group, "circle").filter_map(mark).collect();
    let highs = children(group, "g").filter(|inner| is(*inner, "high"));
    let highs: Vec<Mark> = highs.flat_map(|high| children(high, "circle")).filter_map(mark).collect();
    let line = children(group, "polyline").find(|line| is(*line, "line")).expect("a series has a line");
    assert_eq!(spots(line.attribute("points").unwrap()), places(&marks), "{name}");
    let band = children(group, "path").next().map(|band| spots(band.attribute("d").unwrap()));
    let there_and_back = places(highs.iter().chain(marks.iter().rev()));
    assert!(band.is_none_or(|band| band == there_and_back), "{name}");
    assert!(children(group, "text").map(text).eq([name.as_str()]), "{name}");
    Series { name, marks, highs }
}

fn bar(rect: Node<'_, '_>) -> Option<Bar> {
    let mut texts: Vec<String> = children(rect.parent()?, "text").map(text).collect();
    let length = number(rect, "width")?;
    Some(Bar { mark: mark(rect)?, length, name: texts.remove(0), texts })
}

/// Nanoseconds, messages or bytes a second, or seconds; as people write them.
pub fn read(written: &str) -> f64 {
    let (digits, unit) = written.split_once(' ').unwrap();
    let scale = match unit.trim_end_matches("/s").trim_end_matches('B') {
        "" | "ns" | "s" => 1.0,
        "µs" | "k" => 1e3,
        "ms" | "M" => 1e6,
        "G" => 1e9,
        other => panic!("{other} is no unit"),
    };
    digits.replace('−', "-").parse::<f64>().unwrap() * scale
}

impl Picture {
    pub fn parse(svg: &str) -> Self {
        let document = Document::parse(svg).unwrap();
        let root = document.root_element();
        let nodes =
            |tag: &'static str| document.descendants().filter(move |node| node.tag_name().name() == tag);
        let attribute = |name| root.attribute(name).unwrap().to_string();
        let groups = || nodes("g").filter(|group| group.attribute("data-series").is_some());
        let written = |anchor: &'static str| -> Vec<Label> {
            let texts = nodes("text")
                .filter(move |node| is(*node, "quiet") && node.attribute("text-anchor") == Some(anchor));
            let label =
                |node| Some(Label { spot: (number(node, "x")?, number(node, "y")?), text: text(node) });
            texts.filter_map(label).collect()
        };
        Self {
            name: attribute("data-chart"),
            field: attribute("data-field"),
            series: groups().map(series).collect(),
            limits: nodes("line").filter_map(mark).collect(),
            bars: nodes("rect").filter_map(bar).collect(),
            steps: written("middle"),
            ticks: written("end"),
            panels: groups().filter(|group| is(*group, "panel")).count(),
        }
    }

    /// All its marks.
    pub fn marks(&self) -> impl Iterator<Item = &Mark> {
        let points = self.series.iter().flat_map(|series| series.marks.iter().chain(&series.highs));
        points.chain(&self.limits).chain(self.bars.iter().map(|bar| &bar.mark))
    }

    /// Everything lies where its value says, and beside it stands what it is.
    pub fn hold_to_scale(&self) {
        assert_eq!(self.panels > 1, self.name.starts_with("bands-"), "{}", self.name);
        self.hold_bars();
        if self.panels == 0 {
            let points = self.series.iter().flat_map(|series| &series.marks).chain(&self.limits);
            self.hold_scale(points, self.ticks.iter());
        }
        for (panel, series) in self.series.iter().enumerate().take(self.panels) {
            // The scale is written beside the panels of the first column.
            let (line, each) = (panel / 3, self.ticks.len() / self.panels.div_ceil(3));
            let ticks = self.ticks.iter().skip(line * each).take(each);
            self.hold_scale(series.marks.iter().chain(&series.highs), ticks);
        }
        for series in &self.series {
            let mechanism = &series.marks[0].mechanism;
            assert!(series.marks.iter().chain(&series.highs).all(|mark| mark.mechanism == *mechanism));
            let named = series.name.starts_with(mechanism.as_str());
            assert!(
                named || series.name.starts_with("limit: ") || self.name.starts_with("sweep-"),
                "{}",
                series.name
            );
            assert!(series.marks.windows(2).all(|pair| pair[0].spot.0 < pair[1].spot.0), "{}", self.name);
        }
    }

    /// A bar is as long as its value says, and its value and its name stand beside it.
    fn hold_bars(&self) {
        let longest = self.bars.iter().max_by(|a, b| a.mark.value.total_cmp(&b.mark.value));
        for Bar { mark, length, name, texts } in &self.bars {
            let most = longest.map(|bar| (bar.mark.value.max(1e-9), bar.length)).unwrap();
            assert!(
                (length - most.1 * mark.value / most.0).abs() < 0.02,
                "{}: a bar of {}",
                self.name,
                mark.value
            );
            let named = name.starts_with(mark.mechanism.as_str());
            assert!(named || !self.name.starts_with("cost-"), "{}: {name}", self.name);
            if self.name.starts_with("ladder-") {
                assert!((read(&texts[0]) / mark.value - 1.0).abs() < 0.006, "{}: {}", self.name, texts[0]);
            }
        }
    }

    /// The scale is logarithmic, and what is written beside it lies on it too.
    fn hold_scale<'a>(
        &'a self,
        marks: impl Iterator<Item = &'a Mark>,
        ticks: impl Iterator<Item = &'a Label>,
    ) {
        let marks = marks.map(|mark| (mark.value, mark.spot.1)).filter(|mark| mark.0 > 0.0);
        let ticks = ticks.map(|tick| (read(&tick.text), tick.spot.1));
        let mut heights: Vec<(f64, f64)> = marks.chain(ticks).collect();
        heights.sort_by(|a, b| a.0.total_cmp(&b.0));
        let [(least, bottom), .., (most, top)] = heights[..] else { return };
        for (value, height) in heights {
            let share = (value / least).ln() / (most / least).ln();
            let due = bottom - share * (bottom - top);
            assert!((height - due).abs() < 0.1, "{}: {value} lies at {height}, not at {due}", self.name);
        }
    }

    /// What is written below a mark of a line.
    pub fn step_of(&self, mark: &Mark) -> &str {
        let below = self.steps.iter().find(|label| (label.spot.0 - mark.spot.0).abs() < 0.02);
        &below.unwrap_or_else(|| panic!("{}: nothing stands below {mark:?}", self.name)).text
    }
}
