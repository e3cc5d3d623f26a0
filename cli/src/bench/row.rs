//! One line of the result, with exactly the fields of the schema.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::anchor::Class;
use super::shape::{Measure, Variant, Wait};

/// Raised when a field is added, changes its meaning or goes away.
pub const SCHEMA: u32 = 3;

/// What is known about one cell in one placement class. A field without a value is `null`, never absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured.
    pub measure: Measure,
    /// Name of the mechanism.
    pub mechanism: Cow<'static, str>,
    /// `None` for limits: they carry no payload in and out.
    pub variant: Option<Variant>,
    /// `None` where nobody waits, and where `strategy` says more.
    pub wait: Option<Wait>,
    /// Bytes of a message.
    pub size: usize,
    /// Where the two processes were; `None` when nothing was measured.
    pub class: Option<Class>,
    /// One way of the ping-pong around the samples (of a line; on one core of a futex).
    pub anchor_ns: Option<f64>,
    /// Half of the round trip.
    pub p50_ns: Option<f64>,
    /// Its 90th percentile.
    pub p90_ns: Option<f64>,
    /// Its 99th percentile.
    pub p99_ns: Option<f64>,
    /// Its 99.9th percentile.
    pub p999_ns: Option<f64>,
    /// Its 99.99th percentile.
    pub p9999_ns: Option<f64>,
    /// The longest.
    pub max_ns: Option<f64>,
    /// Median over the samples of p50 to anchor.
    pub ratio: Option<f64>,
    /// By the receiver's clock.
    pub messages_per_s: Option<f64>,
    /// Payload only.
    pub bytes_per_s: Option<f64>,
    /// Processor seconds of all processes of the sample, for a million messages.
    pub cpu_s_per_million: Option<f64>,
    /// Times that a process gave its core up to wait, for a million messages.
    pub waits_per_million: Option<f64>,
    /// Times that a process lost its core, for a million messages.
    pub preemptions_per_million: Option<f64>,
    /// System calls of both processes, for a million messages; of limits and sweeps they are not counted.
    pub calls_per_million: Option<f64>,
    /// Why they were not counted, though they should have been.
    pub calls_error: Option<String>,
    /// Bytes copied on the way of one message, beside writing it once and reading it once; by construction.
    pub copied_bytes: Option<usize>,
    /// What was varied, where something was.
    pub sweep: Option<Sweep>,
    /// How the ring waited, in a sweep.
    pub strategy: Option<Strategy>,
    /// Bytes of the ring, in a sweep.
    pub capacity: Option<u64>,
    /// Messages of a batch, in a sweep.
    pub batch: Option<usize>,
    /// Senders, in a sweep.
    pub senders: Option<usize>,
    /// Whether more processes, or threads of theirs, were at work than there were cores. Two that take turns on one have a class
    /// of their own instead.
    pub oversubscribed: bool,
    /// Samples that count: at most one a round.
    pub samples: usize,
    /// Samples of this cell that were thrown away because the placement changed under them.
    pub dropped: usize,
    /// Least of the samples: of `p50_ns`, or of `messages_per_s` where there is no latency.
    pub min: Option<f64>,
    /// Greatest of the samples, of the same.
    pub max: Option<f64>,
    /// Why nothing was measured.
    pub error: Option<String>,
}

/// What is varied while all else stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sweep {
    /// Bytes of the ring.
    Capacity,
    /// Messages of a batch.
    Batch,
    /// Senders.
    FanIn,
    /// How both sides wait.
    Waiting,
}

/// How a ring waits, by the names of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Polls for ever.
    Spin,
    /// Polls for a while.
    SpinThenSleep,
    /// Sleeps at once.
    Sleep,
}

impl Row {
    /// A row of which nothing is known yet.
    pub fn blank(measure: Measure, mechanism: impl Into<Cow<'static, str>>, size: usize) -> Self {
        Self {
            schema: SCHEMA,
            measure,
            mechanism: mechanism.into(),
            variant: None,
            wait: None,
            size,
            class: None,
            anchor_ns: None,
            p50_ns: None,
            p90_ns: None,
            p99_ns: None,
            p999_ns: None,
            p9999_ns: None,
            max_ns: None,
            ratio: None,
            messages_per_s: None,
            bytes_per_s: None,
            cpu_s_per_million: None,
            waits_per_million: None,
            preemptions_per_million: None,
            calls_per_million: None,
            calls_error: None,
            copied_bytes: None,
            sweep: None,
            strategy: None,
            capacity: None,
            batch: None,
            senders: None,
            oversubscribed: false,
            samples: 0,
            dropped: 0,
            min: None,
            max: None,
            error: None,
        }
    }

    /// Whether it is of such a measurement, with both sides waiting so.
    pub fn is(&self, measure: Measure, wait: Wait) -> bool {
        self.measure == measure && self.wait == Some(wait)
    }

    /// Whether both processes took turns on one core.
    pub fn on_one_core(&self) -> bool {
        self.class == Some(Class::SameCore)
    }

    /// What stands behind its name where there were too few cores.
    pub fn mark(&self) -> &'static str {
        if self.oversubscribed { " (oversubscribed)" } else { "" }
    }

    /// Context switches for a million messages. On one core the process that is woken takes it at once, so there one that has
    /// lost it makes way for the other as one that gives it up does; elsewhere it makes way for somebody else.
    pub fn switches_per_million(&self) -> Option<f64> {
        let preemptions = if self.on_one_core() { self.preemptions_per_million? } else { 0.0 };
        Some(self.waits_per_million? + preemptions)
    }

    /// System calls for a million messages of one that sleeps on a futex, as far as they are known of the samples that
    /// nobody traced: each time that it slept there it was one call to sleep and one to be woken. Tracing makes these calls
    /// so dear that the other side is done meanwhile: in a stream it sleeps for almost every message, and where two take turns
    /// it has its answer before it can sleep.
    pub fn untraced_calls_per_million(&self) -> Option<f64> {
        let futex = self.mechanism.starts_with("ring")
            || ["mailbox", "rendezvous", "sem-shm", "futex-shm"].contains(&&*self.mechanism);
        let sleeps = futex && self.wait == Some(Wait::Sleep);
        self.calls_per_million.and(self.waits_per_million).filter(|_| sleeps).map(|waits| 2.0 * waits)
    }
}

/// A mechanism's name, marked where one of its rows is.
pub fn marked<'a>(name: &str, rows: impl IntoIterator<Item = &'a Row>) -> String {
    let own = rows.into_iter().filter(|row| row.mechanism == name && row.sweep.is_none());
    format!("{name}{}", own.map(Row::mark).max().unwrap_or_default())
}

/// The mechanisms of the rows, each once, in their order.
pub fn mechanisms<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for row in rows {
        if !names.contains(&&*row.mechanism) {
            names.push(&*row.mechanism);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_on_a_futex_calls_twice_for_each_sleep_while_nobody_traces() {
        let row = |mechanism: &'static str, waits| Row {
            wait: Some(Wait::Sleep),
            calls_per_million: Some(2e6),
            waits_per_million: Some(waits),
            ..Row::blank(Measure::Throughput, mechanism, 64)
        };
        assert_eq!(row("ring-spsc", 25.0).untraced_calls_per_million(), Some(50.0));
        assert_eq!(row("futex-shm", 1.9e6).untraced_calls_per_million(), Some(3.8e6), "it took turns");
        assert_eq!(row("mailbox", 25.0).untraced_calls_per_million(), Some(50.0));
        assert_eq!(row("pipe", 25.0).untraced_calls_per_million(), None);
    }

    #[test]
    fn json_has_exactly_the_fields_of_the_schema_and_is_read_back() {
        let row = Row {
            variant: Some(Variant::Copy),
            wait: Some(Wait::Sleep),
            dropped: 2,
            error: Some("no".into()),
            ..Row::blank(Measure::Latency, "pipe", 8)
        };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(
            text,
            "{\"schema\":3,\"measure\":\"latency\",\"mechanism\":\"pipe\",\"variant\":\"copy\",\
             \"wait\":\"sleep\",\"size\":8,\"class\":null,\"anchor_ns\":null,\"p50_ns\":null,\"p90_ns\":null,\
             \"p99_ns\":null,\"p999_ns\":null,\"p9999_ns\":null,\"max_ns\":null,\"ratio\":null,\
             \"messages_per_s\":null,\"bytes_per_s\":null,\"cpu_s_per_million\":null,\
             \"waits_per_million\":null,\"preemptions_per_million\":null,\"calls_per_million\":null,\
             \"calls_error\":null,\"copied_bytes\":null,\"sweep\":null,\"strategy\":null,\"capacity\":null,\"batch\":null,\
             \"senders\":null,\"oversubscribed\":false,\"samples\":0,\"dropped\":2,\"min\":null,\"max\":null,\
             \"error\":\"no\"}"
        );
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}
