//! From the kernel's queue to the ring, one step at a time: what a message takes, what the step saved, and what of that
//! the costs explain that were measured in the same run.

use super::super::anchor::Class;
use super::super::mechanism::limits::COPIED;
use super::super::mechanism::ring::batch_of;
use super::super::row::Row;
use super::super::shape::{Measure, Variant, Wait};
use super::super::units;
use super::charts::usual_size;
use super::svg::{Bar, Bars, Chart, Source};

/// What single things cost, in nanoseconds, as far as they were measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prices {
    /// An empty system call.
    pub call: Option<f64>,
    /// Handing the core to another process: the futex ping-pong on one core without its two system calls.
    pub switch: Option<f64>,
    /// Copying a message of the usual size.
    pub copy: Option<f64>,
    /// A cache line from one core to the other.
    pub line: Option<f64>,
    /// A full fence.
    pub fence: Option<f64>,
}

/// Less than this of anything is not spoken of: it would be written as none.
const SEEN: f64 = 0.005;

/// What a step saved by one kind of cost; less than nothing where it added some.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Which.
    pub name: &'static str,
    /// The same where there is little room.
    pub short: &'static str,
    /// How many of them for a message.
    pub fewer: f64,
    /// What that makes.
    pub ns: f64,
}

/// A rung.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is.
    pub name: &'static str,
    /// What the step to it is meant to remove, and what it brings along instead.
    pub change: Change,
    /// Its place in the ladder, those that are missing counted.
    place: usize,
    /// What a message takes.
    pub ns: f64,
    /// Less than the rung above; `None` on the first.
    pub saved: Option<f64>,
    /// What should explain it.
    pub parts: Vec<Part>,
    /// Where its figure is from.
    pub row: usize,
}

/// A ladder.
pub struct Ladder {
    /// Its picture.
    pub chart: Chart,
    /// Its rungs.
    pub steps: Vec<Step>,
    /// Rungs that it has not, and why.
    pub missing: Vec<(&'static str, String)>,
}

/// What a ladder saves from its first rung to its last.
pub struct Whole {
    /// The first less the last.
    pub saved: f64,
    /// The parts of all steps, each kind added up.
    pub parts: Vec<Part>,
}

/// What a step removes, and what it brings along instead: which of them is more, the measurement says.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    removes: &'static str,
    brings: &'static str,
}

impl Change {
    /// Of a step from a rung that is not the next one: what the rungs between them would have shown is in it.
    const SEVERAL: Self = Self::new("several things: rungs are missing", "several things: rungs are missing");

    const fn new(removes: &'static str, brings: &'static str) -> Self {
        Self { removes, brings }
    }

    /// What is said of a step that saved so many nanoseconds: what it was, and which costs it removed or added.
    fn notes(&self, saved: f64, parts: &[Part]) -> Vec<String> {
        let added = |ns: f64| format!("{}{}", if ns < 0.0 { "+" } else { "−" }, units::time(ns.abs()));
        let meant = match saved >= 0.0 {
            true => format!("{}; removes {}", added(saved), self.removes),
            false => format!("{}; costs {}", added(saved), self.brings),
        };
        let parts: Vec<_> = parts.iter().map(|part| format!("{} {}", part.short, added(part.ns))).collect();
        let parts = if parts.is_empty() { "nothing that was counted".into() } else { parts.join(", ") };
        vec![meant, format!("of it: {parts}")]
    }
}

/// Name, what the step to it changes, mechanism, variant, way to wait.
type Rung = (&'static str, Change, &'static str, Variant, Wait);

const SLEEPING: [Rung; 8] = [
    ("System V queue", Change::new("", ""), "sysv", Variant::Copy, Wait::Sleep),
    (
        "POSIX queue",
        Change::new("the other queue of the kernel", "the other queue of the kernel"),
        "posix-mq",
        Variant::Copy,
        Wait::Sleep,
    ),
    (
        "pipe",
        Change::new("the queue’s bookkeeping", "the pages of a stream"),
        "pipe",
        Variant::Copy,
        Wait::Sleep,
    ),
    (
        "Unix socket",
        Change::new("the pages of the pipe", "the socket layer"),
        "unix-stream",
        Variant::Copy,
        Wait::Sleep,
    ),
    (
        "shared memory, semaphores",
        Change::new("both copies through the kernel", "two semaphores"),
        "sem-shm",
        Variant::InPlace,
        Wait::Sleep,
    ),
    (
        "shared memory, futex",
        Change::new("the semaphores", "turns: one slot, so each waits for the other"),
        "futex-shm",
        Variant::InPlace,
        Wait::Sleep,
    ),
    (
        "ring, copying",
        Change::new("needless wake-ups", "two copies"),
        "ring-spsc",
        Variant::Copy,
        Wait::Sleep,
    ),
    (
        "ring, in place",
        Change::new("both copies", "work on shared lines"),
        "ring-spsc",
        Variant::InPlace,
        Wait::Sleep,
    ),
];
const FURTHER: [Rung; 2] = [
    (
        "ring, batched",
        Change::new("lines and fences, one for many", "room for many at once"),
        "ring-spsc",
        Variant::Batch,
        Wait::Sleep,
    ),
    (
        "ring, batched, spinning",
        Change::new("sleeping: calls and switches", "polling"),
        "ring-spsc",
        Variant::Batch,
        Wait::Spin,
    ),
];

/// Steps that have no place in a ladder, and why.
type Barred = (&'static str, &'static str);

const NOT_ASLEEP: [Barred; 2] = [
    ("ring, batched", "a round trip has one message to publish and nothing to batch: see the stream"),
    (
        "ring, spinning",
        "two that poll on one core would measure the scheduler: see the stream, and the latency of both sides spinning on \
         two cores",
    ),
];
const NOT_STREAMING: [Barred; 1] = [(
    "shared memory, futex",
    "it has one slot and takes turns, so it has no stream: in one, it waits for the other side with each message",
)];

/// The ladders of which two rungs were measured.
pub fn ladders(rows: &[Row]) -> Vec<Ladder> {
    let prices = Prices::of(rows);
    let size = usual_size(rows);
    let latency = |row: &Row| row.measure == Measure::Latency && row.on_one_core();
    // Rungs of two classes would differ by where the processes were.
    let class = stream_class(rows);
    let throughput = |row: &Row| row.measure == Measure::Throughput && row.class == class;
    let place = match class {
        Some(Class::SameCore) => "one core".into(),
        Some(class) => format!("two cores ({class})"),
        None => "two cores".to_string(),
    };
    let streaming = SLEEPING.into_iter().filter(|(_, _, mechanism, ..)| *mechanism != "futex-shm");
    let through: Vec<Rung> = streaming.chain(FURTHER).collect();
    let title = |what: &str| format!("{}: {what}", units::size(size));
    let ladders = [
        ladder(
            "ladder-latency",
            title("one way, asleep, both on one core"),
            rows,
            prices,
            (&SLEEPING, &NOT_ASLEEP),
            ("p50_ns", |row| row.p50_ns),
            |row| latency(row) && row.size == size && row.sweep.is_none(),
        ),
        ladder(
            "ladder-throughput",
            title(&format!("time of a message in a stream, both sides blocking, {place}")),
            rows,
            // Two processes work side by side, and what one of them does is half of what both do.
            Prices { line: prices.line, fence: prices.fence, ..prices.halved() },
            (&through, &NOT_STREAMING),
            ("messages_per_s", |row| row.messages_per_s.map(|rate| 1e9 / rate)),
            |row| throughput(row) && row.size == size && row.sweep.is_none(),
        ),
    ];
    ladders.into_iter().filter(|ladder| ladder.steps.len() > 1).collect()
}

/// The placement class that most cells of the streams of the usual size were met in.
fn stream_class(rows: &[Row]) -> Option<Class> {
    let size = usual_size(rows);
    let streams = |class: Class| {
        let fits = |row: &&Row| row.measure == Measure::Throughput && row.sweep.is_none() && row.size == size;
        rows.iter().filter(fits).filter(|row| row.class == Some(class)).count()
    };
    let classes = [Class::SameCore, Class::Smt, Class::Ccx, Class::Far];
    classes.into_iter().filter(|class| streams(*class) > 0).max_by_key(|class| streams(*class))
}

impl Prices {
    /// From the rows of the limits.
    pub fn of(rows: &[Row]) -> Self {
        let limit = |name: &str, class: Option<Class>| {
            let fits = |row: &&Row| {
                row.measure == Measure::Limit
                    && row.mechanism == name
                    && class.is_none_or(|class| row.class == Some(class))
            };
            rows.iter().filter(fits).find_map(|row| row.p50_ns)
        };
        let call = limit("syscall", None);
        let turn = limit("futex", Some(Class::SameCore));
        Self {
            call,
            switch: turn.zip(call).map(|(turn, call)| (turn - 2.0 * call).max(0.0)),
            copy: limit("copy", None),
            line: limit("line", stream_class(rows)).or(limit("line", None)),
            fence: limit("fence", None),
        }
    }

    fn halved(self) -> Self {
        let half = |price: Option<f64>| price.map(|price| price / 2.0);
        Self { call: half(self.call), switch: half(self.switch), copy: half(self.copy), ..self }
    }

    /// What should explain the difference between two rows: counted calls and switches, known copies, lines and fences.
    fn parts(&self, before: &Row, after: &Row) -> Vec<Part> {
        let counted = |of: fn(&Row) -> Option<f64>| Some((of(before)? - of(after)?) / 1e6);
        let copies = |row: &Row| row.copied_bytes.map(|bytes| bytes as f64 / row.size as f64);
        let published = |row: &Row| match row.variant {
            Some(Variant::Batch) => 1.0 / batch_of(row.size) as f64,
            _ => 1.0,
        };
        let fewer_lines = Some(published(before) - published(after));
        let fewer_copies = copies(before).zip(copies(after)).map(|(before, after)| before - after);
        // The price of a copy is that of one size.
        let copy = self.copy.filter(|_| after.size == COPIED);
        let all = [
            (
                ("system calls", "calls"),
                counted(|row| row.untraced_calls_per_million().or(row.calls_per_million)),
                self.call,
            ),
            (("context switches", "switches"), counted(Row::switches_per_million), self.switch),
            (("copies", "copies"), fewer_copies, copy),
            (("serial line transfers", "lines"), fewer_lines, self.line),
            (("fences", "fences"), fewer_lines, self.fence),
        ];
        let part =
            |((name, short), fewer, price): ((&'static str, &'static str), Option<f64>, Option<f64>)| {
                let (fewer, price) = (fewer?, price?);
                Some(Part { name, short, fewer, ns: fewer * price }).filter(|part| part.fewer.abs() > SEEN)
            };
        all.into_iter().filter_map(part).collect()
    }
}

/// What the parts explain together.
pub fn explained(parts: &[Part]) -> f64 {
    parts.iter().fold(0.0, |sum, part| sum + part.ns)
}

impl Ladder {
    /// What is timed on each rung.
    pub fn title(&self) -> &str {
        match &self.chart {
            Chart::Bars(bars) => &bars.title,
            _ => Default::default(),
        }
    }

    /// From the first rung to the last.
    pub fn whole(&self) -> Whole {
        let mut parts: Vec<Part> = Vec::new();
        for part in self.steps.iter().flat_map(|step| &step.parts) {
            match parts.iter_mut().find(|sum| sum.name == part.name) {
                Some(sum) => (sum.fewer, sum.ns) = (sum.fewer + part.fewer, sum.ns + part.ns),
                None => parts.push(part.clone()),
            }
        }
        parts.retain(|part| part.fewer.abs() > SEEN);
        parts.sort_by(|a, b| b.ns.abs().total_cmp(&a.ns.abs()));
        Whole {
            saved: self.steps.iter().filter_map(|step| step.saved).fold(0.0, |sum, saved| sum + saved),
            parts,
        }
    }
}

fn ladder(
    id: &str,
    title: String,
    rows: &[Row],
    prices: Prices,
    (rungs, barred): (&[Rung], &[Barred]),
    (field, time): (&'static str, fn(&Row) -> Option<f64>),
    belongs: impl Fn(&Row) -> bool,
) -> Ladder {
    let mut steps: Vec<Step> = Vec::new();
    let mut missing: Vec<_> = barred.iter().map(|(name, why)| (*name, why.to_string())).collect();
    for (place, &(name, change, mechanism, variant, wait)) in rungs.iter().enumerate() {
        let fits =
            |row: &Row| row.mechanism == mechanism && row.variant == Some(variant) && row.wait == Some(wait);
        let found = rows
            .iter()
            .enumerate()
            .find(|(_, row)| belongs(row) && fits(row) && time(row).is_some_and(f64::is_finite));
        let Some((row, measured)) = found else {
            let failed = rows.iter().filter(|row| fits(row) && row.size == usual_size(rows));
            let failed = failed.filter_map(|row| row.error.clone()).next();
            missing.push((
                name,
                failed.unwrap_or_else(|| {
                    format!("{mechanism} was not measured so, in this place, in this run")
                }),
            ));
            continue;
        };
        let ns = time(measured).unwrap_or_default();
        let above = steps.last();
        let saved = above.map(|above| above.ns - ns);
        let parts = above.map(|above| prices.parts(&rows[above.row], measured)).unwrap_or_default();
        let next = above.is_none_or(|above| above.place + 1 == place);
        let change = if next { change } else { Change::SEVERAL };
        steps.push(Step { name, change, place, ns, saved, parts, row });
    }
    let bar = |step: &Step| Bar {
        name: step.name.into(),
        notes: step.saved.map(|saved| step.change.notes(saved, &step.parts)).unwrap_or_default(),
        tone: if step.name.starts_with("ring") { "ring" } else { "pipe" },
        value: step.ns,
        source: Source {
            row: step.row,
            mechanism: rows[step.row].mechanism.to_string(),
            size: rows[step.row].size,
            text: format!("{}: {}", step.name, units::time(step.ns)),
        },
    };
    let bars = steps.iter().map(bar).collect();
    Ladder {
        chart: Chart::Bars(Bars { id: id.into(), title, field, unit: units::time, bars }),
        steps,
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(mechanism: &'static str, ns: f64, calls: f64, copies: usize) -> Row {
        Row {
            variant: Some(if copies > 0 { Variant::Copy } else { Variant::InPlace }),
            wait: Some(Wait::Sleep),
            class: Some(Class::SameCore),
            p50_ns: Some(ns),
            calls_per_million: Some(calls * 1e6),
            waits_per_million: Some(1e6),
            preemptions_per_million: Some(0.0),
            copied_bytes: Some(copies * 64),
            ..Row::blank(Measure::Latency, mechanism, 64)
        }
    }

    fn limit(name: &'static str, ns: f64) -> Row {
        let class = Some(if name == "line" { Class::Far } else { Class::SameCore });
        Row { class, p50_ns: Some(ns), ..Row::blank(Measure::Limit, name, 0) }
    }

    #[test]
    fn a_step_is_explained_by_what_it_has_fewer() {
        let mut rows =
            vec![limit("syscall", 80.0), limit("futex", 800.0), limit("copy", 5.0), limit("line", 90.0)];
        rows.extend([row("pipe", 900.0, 4.0, 2), row("sem-shm", 700.0, 2.0, 0)]);
        let ladders = ladders(&rows);
        assert_eq!(ladders.len(), 1);
        let step = &ladders[0].steps[1];
        assert_eq!((step.saved, explained(&step.parts)), (Some(200.0), 2.0 * 80.0 + 2.0 * 5.0));
        assert_eq!(step.parts.iter().map(|part| part.name).collect::<Vec<_>>(), ["system calls", "copies"]);
        assert_eq!(Prices::of(&rows).switch, Some(640.0));
    }

    #[test]
    fn on_one_core_it_is_a_switch_whether_the_core_is_given_up_or_taken_away() {
        let limits = [limit("syscall", 80.0), limit("futex", 800.0)];
        let with = |row: Row, waits, preemptions| Row {
            waits_per_million: Some(waits),
            preemptions_per_million: Some(preemptions),
            ..row
        };
        let pipe = with(row("pipe", 900.0, 2.0, 2), 5.3e5, 4.7e5);
        let socket = with(row("unix-stream", 1100.0, 2.0, 2), 1e6, 3.5e5);
        let fifo = with(row("fifo", 900.0, 2.0, 2), 5.4e5, 4.6e5);
        let prices = Prices::of(&limits);
        assert_eq!(prices.parts(&pipe, &fifo), []);
        let more = &prices.parts(&pipe, &socket)[0];
        assert_eq!((more.name, (more.fewer * 100.0).round()), ("context switches", -35.0));
        // On two cores somebody else has taken it.
        let far = |row: &Row| Row { class: Some(Class::Far), ..row.clone() };
        assert_eq!((prices.parts(&far(&pipe), &far(&socket))[0].fewer * 100.0).round(), -47.0);
    }

    #[test]
    fn a_step_that_took_longer_says_what_it_costs() {
        let rows =
            [row("pipe", 900.0, 4.0, 2), row("unix-stream", 1100.0, 4.0, 2), row("sem-shm", 700.0, 2.0, 0)];
        let Chart::Bars(bars) = &ladders(&rows)[0].chart else { panic!("a ladder has bars") };
        let notes: Vec<_> = bars.bars.iter().map(|bar| bar.notes.join("; ")).collect();
        assert_eq!(notes[0], "");
        assert!(notes[1].starts_with('+') && notes[1].contains("; costs the socket layer"), "{}", notes[1]);
        assert!(notes[1].ends_with("of it: nothing that was counted"), "{}", notes[1]);
        assert!(notes[2].starts_with('−') && notes[2].contains("; removes both copies"), "{}", notes[2]);
    }

    #[test]
    fn a_step_over_missing_rungs_is_not_said_to_be_the_one_from_the_rung_before() {
        let rows =
            [row("pipe", 900.0, 4.0, 2), row("ring-spsc", 800.0, 2.0, 2), row("ring-spsc", 700.0, 2.0, 0)];
        let notes: Vec<_> = ladders(&rows)[0].steps[1..]
            .iter()
            .map(|step| step.change.notes(step.saved.unwrap(), &step.parts).remove(0))
            .collect();
        assert_eq!(
            notes,
            ["−100 ns; removes several things: rungs are missing", "−100 ns; removes both copies"]
        );
    }

    #[test]
    fn the_whole_is_the_sum_of_the_steps() {
        let rows = [
            limit("syscall", 80.0),
            limit("copy", 5.0),
            row("sysv", 1000.0, 4.0, 2),
            row("pipe", 900.0, 4.0, 2),
            row("unix-stream", 1100.0, 5.0, 2),
            row("sem-shm", 700.0, 2.0, 0),
        ];
        let ladder = ladders(&rows).remove(0);
        let whole = ladder.whole();
        assert_eq!(whole.saved, 1000.0 - 700.0);
        assert_eq!(
            whole.parts.iter().map(|part| (part.name, part.fewer)).collect::<Vec<_>>(),
            [("system calls", 2.0), ("copies", 2.0)]
        );
        let steps: f64 = ladder.steps.iter().map(|step| explained(&step.parts)).sum();
        assert_eq!(explained(&whole.parts), steps);
    }

    #[test]
    fn a_rung_that_is_missing_says_why() {
        let mut refused = row("posix-mq", 0.0, 0.0, 2);
        (refused.p50_ns, refused.error) = (None, Some("no queues here".into()));
        let rows = [row("sysv", 1000.0, 4.0, 2), refused, row("sem-shm", 700.0, 2.0, 0)];
        let missing = &ladders(&rows)[0].missing;
        let why = |name| &*missing.iter().find(|(missing, _)| *missing == name).unwrap().1;
        assert_eq!(why("POSIX queue"), "no queues here");
        assert_eq!(why("pipe"), "pipe was not measured so, in this place, in this run");
        assert!(why("ring, batched").contains("nothing to batch"));
    }

    #[test]
    fn a_ladder_stays_in_one_placement_class() {
        let stream = |mechanism, class, rate| Row {
            class: Some(class),
            messages_per_s: Some(rate),
            p50_ns: None,
            measure: Measure::Throughput,
            ..row(mechanism, 0.0, 2.0, 2)
        };
        let mut near = limit("line", 40.0);
        near.class = Some(Class::Ccx);
        let rows = [
            near,
            limit("line", 90.0),
            stream("sysv", Class::Ccx, 4e6),
            stream("sysv", Class::Far, 1e6),
            stream("pipe", Class::Far, 2e6),
            stream("unix-stream", Class::Ccx, 4e6),
            stream("posix-mq", Class::Far, 1e6),
        ];
        let ladder = ladders(&rows).remove(0);
        let found: Vec<_> = ladder.steps.iter().map(|step| (step.name, step.ns)).collect();
        assert_eq!(found, [("System V queue", 1000.0), ("POSIX queue", 1000.0), ("pipe", 500.0)]);
        assert!(
            ladder.missing.iter().any(|(name, why)| *name == "Unix socket" && why.contains("in this place"))
        );
        assert_eq!(Prices::of(&rows).line, Some(90.0));
    }

    #[test]
    fn a_batch_shares_lines_and_fences_among_as_many_messages_as_it_has() {
        let prices = Prices { line: Some(80.0), ..Prices::default() };
        for (size, fewer) in [(64, 63.0 / 64.0), (4096, 7.0 / 8.0)] {
            let of = |variant| Row {
                variant: Some(variant),
                ..Row::blank(Measure::Throughput, "ring-spsc", size)
            };
            let parts = prices.parts(&of(Variant::InPlace), &of(Variant::Batch));
            let parts: Vec<_> = parts.iter().map(|part| (part.name, part.fewer)).collect();
            assert_eq!(parts, [("serial line transfers", fewer)]);
        }
    }

    #[test]
    fn the_price_of_a_copy_is_that_of_its_own_size() {
        let mut rows = [limit("copy", 5.0), row("pipe", 900.0, 4.0, 2), row("sem-shm", 700.0, 4.0, 0)];
        assert_eq!(ladders(&rows)[0].steps[1].parts.len(), 1);
        rows.iter_mut().for_each(|row| row.size = 4096);
        assert_eq!(ladders(&rows)[0].steps[1].parts, []);
    }
}
