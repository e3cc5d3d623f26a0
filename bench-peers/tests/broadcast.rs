//! Both sides of the broadcast figure bring every message to every reader, in order, in processes of their own.

#![cfg(feature = "iceoryx2")]

use std::process::Command;

#[test]
fn every_reader_gets_every_message_from_both_sides() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadcast"));
    let output =
        command.args(["--json", "--rounds", "1", "--messages", "2000"]).output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows = String::from_utf8(output.stdout).expect("text");
    for waiting in ["polling", "own"] {
        for readers in [1, 2, 4] {
            let cell = format!(r#""readers":{readers},"waiting":"{waiting}""#);
            let row =
                rows.lines().find(|row| row.contains(&cell)).unwrap_or_else(|| panic!("no {cell} in {rows}"));
            for side in ["ringpost", "iceoryx2"] {
                assert!(rate(row, &format!(r#""{side}_per_s":"#)) > 0, "{row}");
            }
        }
    }
}

/// The whole number behind `key`.
fn rate(row: &str, key: &str) -> u64 {
    let (_, value) = row.split_once(key).unwrap_or_else(|| panic!("no {key} in {row}"));
    value.split(',').next().unwrap().parse().unwrap()
}
