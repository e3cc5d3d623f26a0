//! A run as a file: a line about the run, then its rows, as JSON Lines. Rows alone, as `--json` prints them, do as well.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::environment::Run;
use super::super::row::{Row, SCHEMA};
use super::super::units;
use crate::report::json;

/// No run is longer: one of all mechanisms has less than a hundredth of this.
const LONGEST: u64 = 64 << 20;
const ADVICE: &str = "give a file of --save, or the output of --json";

/// A run that was measured, now or before.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Where and how; `None` of rows alone.
    pub run: Option<Run>,
    /// What.
    pub rows: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    schema: u32,
    run: Run,
}

impl Recorded {
    /// Reads what [`Self::text`] or `--json` has written.
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        // It may have no end, as a device has none.
        let read = File::open(path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        read.with_context(|| format!("cannot read {}", path.display()))?;
        let text = match bytes.len() as u64 > LONGEST {
            true => Err(anyhow!("it is longer than {}: {ADVICE}", units::size(LONGEST as usize))),
            false => String::from_utf8(bytes).map_err(|_| anyhow!("it is not text: {ADVICE}")),
        };
        text.and_then(|text| Self::parse(&text))
            .with_context(|| format!("{} does not hold a run", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let mut recorded = Self { run: None, rows: Vec::new() };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let number = number + 1;
            let value: Value = serde_json::from_str(line).map_err(|error| {
                // What is parsed is one line: of the whole file it is another one.
                let why = error.to_string().replace(" at line 1 column ", ", column ");
                anyhow!("line {number} is not JSON: {why}")
            })?;
            if let Some((field, figure)) = beyond_all(&value) {
                bail!("line {number}: {field} is {figure:e}, which nothing takes and no machine does");
            }
            match value["schema"].as_u64() {
                Some(schema) if schema == u64::from(SCHEMA) => {}
                Some(other) => bail!(
                    "line {number} has schema {other}, and this program knows {SCHEMA} only: measure again with this \
                     program, or use the one that wrote the file"
                ),
                None => bail!("line {number} has no schema: {ADVICE}"),
            }
            match value.get("run").is_some() {
                true if recorded.run.is_none() && recorded.rows.is_empty() => {
                    let head: Head = serde_json::from_value(value).map_err(|error| {
                        anyhow!("line {number} is not the head of a run of schema {SCHEMA}: {error}")
                    })?;
                    recorded.run = Some(head.run);
                }
                true => bail!("line {number} begins another run: give one run a file"),
                false => {
                    let row = serde_json::from_value(value)
                        .map_err(|error| anyhow!("line {number} is not a row of schema {SCHEMA}: {error}"))?;
                    recorded.rows.push(row);
                }
            }
        }
        ensure!(!recorded.rows.is_empty(), "it has no rows: {ADVICE}");
        Ok(recorded)
    }

    /// As it is saved.
    pub fn text(&self) -> Result<String> {
        let head = self.run.clone().map(|run| Head { schema: SCHEMA, run });
        Ok(json(&head)? + &json(&self.rows)?)
    }
}

/// A figure of a row with which nothing can be reckoned.
fn beyond_all(row: &Value) -> Option<(&str, f64)> {
    let figures =
        row.as_object()?.iter().filter_map(|(field, value)| Some((field.as_str(), value.as_f64()?)));
    figures.into_iter().find(|(_, figure)| figure.abs() > 1e15)
}

#[cfg(test)]
mod tests {
    use super::super::super::shape::Measure;
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let run = Run { command: "ringpost bench".into(), ..Run::default() };
        for run in [Some(run), None] {
            let recorded = Recorded { run, rows: vec![Row::blank(Measure::Limit, "line", 8)] };
            assert_eq!(Recorded::parse(&recorded.text().unwrap()).unwrap(), recorded);
        }
    }

    #[test]
    fn what_is_no_run_is_refused_with_advice() {
        for (text, advice) in [
            ("", "--save"),
            ("x", "not JSON"),
            ("{}", "--json"),
            ("{}\n{", "line 1 has no schema"),
            ("\n{", "line 2 is not JSON: EOF while parsing an object, column 1"),
            ("{\"schema\":3,\"p50_ns\":1.7e308}", "line 1: p50_ns is 1.7e308"),
            ("{\"schema\":1}", "measure again"),
            ("{\"schema\":3}", "not a row"),
            ("\n{\"schema\":3,\"run\":{}}", "line 2 is not the head of a run"),
        ] {
            let error = Recorded::parse(text).unwrap_err().to_string();
            assert!(error.contains(advice), "{text}: {error}");
        }
    }
}
