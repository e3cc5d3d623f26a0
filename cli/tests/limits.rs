//! `ringpost limits`.

mod common;

use common::{Rings, assert_code, complaint};
use nix::sys::resource::{Resource, getrlimit};
use ringpost::{OpenError, limits, unnamed};
use serde_json::Value;

fn found(rings: &Rings) -> Value {
    let output = rings.start("limits --json").finish();
    assert_code(&output, 0);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the library says to a builder that asks for more.
#[track_caller]
fn most<T: std::fmt::Debug>(beyond: Result<T, OpenError>) -> u64 {
    match beyond {
        Err(OpenError::Setting { most, given, .. }) if given > most => most,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_numbers_are_those_at_which_the_library_refuses() {
    let found = found(&Rings::new());
    let (ring, mailbox) = (&found["ring"], &found["mailbox"]);
    assert_eq!(ring["largest_capacity"], most(unnamed().capacity(u64::MAX).memfd()));
    assert_eq!(ring["smallest_ceiling"], limits::SMALLEST_CEILING);
    assert_eq!(mailbox["messages"], most(unnamed().mailbox(u32::MAX).memfd()));
    assert_eq!(mailbox["priorities"], most(unnamed().mailbox(2).priorities(u8::MAX).memfd()));
    assert_eq!(mailbox["seats"], most(unnamed().mailbox(2).seats(u8::MAX).memfd()));
    assert_eq!(mailbox["longest_message"], most(unnamed().mailbox(2).longest_message(u64::MAX).memfd()));
    let default = unnamed().memfd().unwrap().info();
    assert_eq!(ring["default_capacity"], default.capacity);
    assert_eq!(ring["longest_message_by_default"], default.longest_message);
    let smallest = unnamed().capacity(1).memfd().unwrap().info();
    assert_eq!(ring["smallest_capacity"], smallest.capacity);
    assert_eq!(ring["message_overhead"], smallest.capacity - smallest.longest_message as u64);
    let name = |length: u64| ringpost::builder("n".repeat(length as usize)).open();
    let longest = ring["longest_name"].as_u64().unwrap();
    assert!(matches!(name(longest), Err(OpenError::Segment(_))));
    assert!(matches!(name(longest + 1), Err(OpenError::Name { .. })));
}

#[test]
fn as_many_as_it_says_can_attach_and_no_more() {
    let found = found(&Rings::new());
    let many = unnamed().capacity(1).many_senders(u8::MAX).in_process().unwrap();
    let senders: Vec<_> = std::iter::from_fn(|| many.multi_sender().ok()).collect();
    assert_eq!(found["ring"]["senders"], senders.len());
    let news = unnamed().capacity(1).broadcast(u8::MAX).in_process().unwrap();
    let readers: Vec<_> = std::iter::from_fn(|| news.subscriber().ok()).collect();
    assert_eq!(found["readers"], readers.len());
    let rings: Vec<_> = (0..=limits::LANES).map(|_| unnamed().capacity(1).in_process().unwrap()).collect();
    let mut lanes = ringpost::Lanes::new();
    let added = rings.iter().take_while(|ring| lanes.add(ring.receiver().unwrap()).is_ok()).count();
    assert_eq!(found["lanes"], added);
}

#[test]
fn the_place_the_process_and_the_kernel_are_looked_at() {
    let rings = Rings::new();
    let before = found(&rings);
    let free = |found: &Value| found["place"]["free"].as_u64().unwrap();
    assert!(free(&before) <= before["place"]["total"].as_u64().unwrap());
    assert_eq!(before["place"]["path"], rings.directory.to_str().unwrap());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!(before["process"]["descriptors"], soft);
    assert_eq!(before["process"]["descriptors_at_most"], hard);
    assert!(before["process"]["pid_max"].as_u64().unwrap() >= u64::from(std::process::id()));
    let kernel = limits::kernel();
    assert_eq!(before["kernel"]["futex_waitv"], kernel.futex_waitv);
    assert_eq!(before["kernel"]["membarrier"], kernel.membarrier);
    assert_eq!(before["kernel"]["memfd_seals"], kernel.memfd_seals);
    assert_eq!(kernel.membarrier, unnamed().memfd().unwrap().info().asymmetric_fences);
    assert!(kernel.memfd_seals, "links could not be made");
}

#[test]
fn a_limit_of_the_process_is_shown_as_it_is() {
    let rings = Rings::new();
    let command = env!("CARGO_BIN_EXE_ringpost");
    let script = format!("ulimit -Sn 20; exec {command} limits --json --dir {}", rings.directory.display());
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["process"]["descriptors"], 20);
    assert_eq!(found["kernel"]["pidfd"], limits::kernel().pidfd);
}

#[test]
fn people_get_a_table() {
    let rings = Rings::new();
    let output = rings.run("limits", b"");
    assert_code(&output, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in ["largest capacity", "senders at a time", "seats", "room that is free", "futex_waitv"] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(text.contains(&format!("({} bytes)", limits::LARGEST_CAPACITY)), "{text}");
    assert!(text.lines().all(|line| line == line.trim_end()));
}

#[test]
fn a_place_that_is_not_there_is_an_error() {
    let rings = Rings::new();
    std::fs::remove_dir(&rings.directory).unwrap();
    let output = rings.run("limits", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("can't use the directory"), "{}", complaint(&output));
}
