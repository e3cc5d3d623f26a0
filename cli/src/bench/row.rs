//! One line of the result, with exactly the fields of the schema.

use serde::Serialize;

use super::anchor::Class;
use super::shape::{Measure, Variant, Wait};

/// Raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// What is known about one cell in one placement class. A field without a value is `null`, never absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was measured.
    pub measure: Measure,
    /// Name of the mechanism.
    pub mechanism: &'static str,
    /// `None` for limits: they carry no payload in and out.
    pub variant: Option<Variant>,
    /// `None` where nobody waits.
    pub wait: Option<Wait>,
    /// Bytes of a message.
    pub size: usize,
    /// Where the two processes were; `None` when nothing was measured.
    pub class: Option<Class>,
    /// One way of the ping-pong around the samples (of a line; on one core of a futex).
    pub anchor_ns: Option<f64>,
    /// Half of the round trip.
    pub p50_ns: Option<f64>,
    /// Its 99th percentile.
    pub p99_ns: Option<f64>,
    /// Its 99.9th percentile.
    pub p999_ns: Option<f64>,
    /// Median over the samples of p50 to anchor.
    pub ratio: Option<f64>,
    /// By the receiver's clock.
    pub messages_per_s: Option<f64>,
    /// Payload only.
    pub bytes_per_s: Option<f64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_exactly_the_fields_of_the_schema() {
        let row = Row {
            schema: SCHEMA,
            measure: Measure::Latency,
            mechanism: "pipe",
            variant: Some(Variant::Copy),
            wait: Some(Wait::Sleep),
            size: 8,
            class: None,
            anchor_ns: None,
            p50_ns: None,
            p99_ns: None,
            p999_ns: None,
            ratio: None,
            messages_per_s: None,
            bytes_per_s: None,
            samples: 0,
            dropped: 2,
            min: None,
            max: None,
            error: Some("no".into()),
        };
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(
            text,
            "{\"schema\":1,\"measure\":\"latency\",\"mechanism\":\"pipe\",\"variant\":\"copy\",\
             \"wait\":\"sleep\",\"size\":8,\"class\":null,\"anchor_ns\":null,\"p50_ns\":null,\
             \"p99_ns\":null,\"p999_ns\":null,\"ratio\":null,\"messages_per_s\":null,\
             \"bytes_per_s\":null,\"samples\":0,\"dropped\":2,\"min\":null,\"max\":null,\"error\":\"no\"}"
        );
    }
}
