//! What each way of passing messages costs beside the plain ring, between two processes. Those of a table take turns.
//!
//! ```text
//! cargo bench --package ringpost --bench patterns                all, about two minutes
//! cargo bench --package ringpost --bench patterns -- regions     one table: streams, waking or regions
//! ```

mod other;
mod regions;
mod streams;
mod waking;

use ringpost::{Message, RecvError};
use std::env;

/// Bytes of a message where its size is not what is measured.
const SIZE: usize = 64;
const ROUNDS: usize = 9;

/// Message `number`: every byte is written, and the first word says which it is.
fn message(number: u64) -> [u8; SIZE] {
    let mut message = [number as u8; SIZE];
    message[..8].copy_from_slice(&number.to_ne_bytes());
    message
}

fn number(message: &[u8]) -> u64 {
    u64::from_ne_bytes(message[..8].try_into().unwrap())
}

/// The number of a message that is copied out.
fn copied(message: &Message<'_>) -> u64 {
    let mut bytes = [0; SIZE];
    message.read_at(0, &mut bytes);
    number(&bytes)
}

/// The number of what was received; `None` when there was nothing.
fn taken(received: Result<Message<'_>, RecvError>) -> Option<u64> {
    match received {
        Ok(message) => Some(copied(&message)),
        Err(RecvError::Empty) => None,
        Err(end) => panic!("{end}"),
    }
}

/// Measures all in turn, again and again: for each, what was measured, in order of size.
fn take_turns<T>(ways: &[T], measure: impl Fn(&T) -> f64) -> Vec<[f64; ROUNDS]> {
    let mut measured = vec![[0.0; ROUNDS]; ways.len()];
    for round in 0..ROUNDS {
        for (way, measured) in ways.iter().zip(&mut measured) {
            measured[round] = measure(way);
        }
    }
    measured.iter_mut().for_each(|measured| measured.sort_by(f64::total_cmp));
    measured
}

/// Prints the median, the least, the most, and the median beside that of the first.
fn print_table(title: &str, rows: impl Iterator<Item = (&'static str, [f64; ROUNDS])>) {
    println!("\n{title:<48} median (min..max of {ROUNDS})   to the first");
    let mut first = None;
    for (name, measured) in rows {
        let [least, .., most] = measured;
        let middle = measured[ROUNDS / 2];
        let range = format!("({least:.2}..{most:.2})");
        println!("{name:<48} {middle:>6.2} {range:<18} {:>10.2}", middle / *first.get_or_insert(middle));
    }
}

fn main() {
    if let Some(role) = other::role() {
        return match role[0].as_str() {
            "streams" => streams::send(&role[1..]),
            "waking" => waking::answer(&role[1..]),
            _ => regions::send(&role[1..]),
        };
    }
    // Cargo adds `--bench`.
    let chosen: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let tables: [(&str, fn()); 3] =
        [("streams", streams::compare), ("waking", waking::compare), ("regions", regions::compare)];
    for name in &chosen {
        assert!(
            tables.iter().any(|(table, _)| table == name),
            "there are streams, waking and regions, no {name}"
        );
    }
    for (name, compare) in tables {
        if chosen.is_empty() || chosen.iter().any(|chosen| chosen == name) {
            compare();
        }
    }
}
