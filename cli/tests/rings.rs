//! `ringpost ls`, `stat` and `unlink`.

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::{ffi::OsStrExt, fs::symlink};
use std::process::Output;

use common::{Rings, assert_code, complaint, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    text(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_empty_directory_is_an_empty_list_and_a_missing_one_an_error() {
    let rings = Rings::new();
    for list in ["ls", "ls --json"] {
        let output = rings.run(list, b"");
        assert_code(&output, 0);
        assert_eq!(text(&output), "");
    }
    fs::remove_dir(&rings.directory).unwrap();
    let output = rings.run("ls", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("can't use the directory"), "{}", complaint(&output));
}

#[test]
fn a_standard_output_that_is_closed_is_an_error() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\n"), 0);
    for verb in ["ls", "ls --json", "stat x"] {
        let script =
            format!("exec {} {verb} --dir {} >&-", env!("CARGO_BIN_EXE_ringpost"), rings.directory.display());
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_code(&output, 1);
        assert!(complaint(&output).contains("closed"), "{}", complaint(&output));
    }
}

#[test]
fn a_mailbox_is_shown_with_its_seats() {
    let rings = Rings::new();
    let ring =
        ringpost::builder("jobs").directory(&rings.directory).mailbox(8).priorities(3).create().unwrap();
    let (mut one, mut two) = (ring.mailbox().unwrap(), ring.mailbox().unwrap());
    for kind in 0..3 {
        one.send(kind, b"to do").unwrap();
    }
    drop(two.recv(ringpost::Pick::Kind(1)).unwrap());
    let list = rings.run("ls", b"");
    assert!(text(&list).contains("2 of 63 seats") && text(&list).contains("mailbox"), "{}", text(&list));
    let row = &rows(&rings.run("stat jobs --json", b""))[0];
    assert_eq!(row["mailbox"], json!({ "messages": 8, "priorities": 3, "seats": 63 }));
    assert_eq!((&row["pending_messages"], &row["sent_messages"]), (&json!(2), &json!(3)));
    let facts = rings.run("stat jobs", b"");
    assert!(text(&facts).contains("each message to one; 8 messages, 3 priorities"), "{}", text(&facts));
    for refused in [rings.run("recv jobs", b""), rings.run("send jobs", b"x\n")] {
        assert_code(&refused, 1);
        assert!(complaint(&refused).contains("a mailbox"), "{}", complaint(&refused));
    }
}

#[test]
fn a_broadcast_is_shown_with_its_readers() {
    let rings = Rings::new();
    let ring = ringpost::builder("all").directory(&rings.directory).broadcast(3).create().unwrap();
    let (mut publisher, readers) = (ring.publisher().unwrap(), [(); 2].map(|()| ring.subscriber().unwrap()));
    publisher.send(b"to all").unwrap();
    let list = rings.run("ls", b"");
    assert_code(&list, 0);
    assert!(text(&list).contains("1 of 1") && text(&list).contains("2 of 3 readers"), "{}", text(&list));
    let facts = rings.run("stat all", b"");
    assert_code(&facts, 0);
    for fact in ["up to 3, each gets every message", "sender", "reader 1", "reader 2"] {
        assert!(text(&facts).contains(fact), "{fact}: {}", text(&facts));
    }
    let row = &rows(&rings.run("stat all --json", b""))[0];
    assert_eq!((&row["broadcast"], &row["receiver"]), (&json!(3), &Value::Null));
    assert_eq!((&row["sent_messages"], &row["readers"][1]["state"]), (&json!(1), &json!("alive")));
    let refused = rings.run("recv all", b"");
    assert_code(&refused, 1);
    assert!(complaint(&refused).contains("many readers"), "{}", complaint(&refused));
    drop(readers);
}

#[test]
fn rings_are_listed_with_what_is_in_them_and_who_holds_them() {
    let rings = Rings::new();
    assert_code(&rings.run("send b --capacity 64K", b"1\n22\n"), 0);
    assert_code(&rings.run("send a --many 4", b""), 0);
    let _receiver = rings.start("recv a");
    let (mut sender, mut stdin) = rings.start_with_input("send b");
    stdin.write_all(b"333\n").unwrap();
    let ring = rings.ring("b");
    eventually("three messages", || (ring.statistics().pending_messages() == 3).then_some(()));
    sender.signal(Signal::SIGKILL);
    sender.wait();

    let output = rings.run("ls --json", b"");
    assert_code(&output, 0);
    let rows = rows(&output);
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    for row in &rows {
        assert_eq!((&row["schema"], &row["error"]), (&json!(1), &Value::Null));
    }
    assert_eq!((&rows[0]["many_senders"], &rows[0]["pending_messages"]), (&json!(4), &json!(0)));
    assert_eq!((&rows[1]["many_senders"], &rows[1]["pending_messages"]), (&Value::Null, &json!(3)));
    assert_eq!((&rows[1]["capacity"], &rows[1]["receiver"]), (&json!(65536), &Value::Null));
    assert_eq!(
        (&rows[1]["senders"][0]["state"], &rows[1]["senders"][0]["pid"]),
        (&json!("dead"), &json!(sender.pid()))
    );

    let table = rings.run("ls", b"");
    let line = text(&table).lines().find(|line| line.starts_with("b ")).unwrap().to_string();
    assert!(line.contains("64.00 KiB") && line.contains(&format!("0 of 1, {} dead", sender.pid())), "{line}");
    assert!(!text(&table).contains("Not usable") && !text(&table).contains('\x1b'));
}

#[test]
fn what_only_looks_like_a_ring_is_listed_with_what_is_wrong() {
    let rings = Rings::new();
    assert_code(&rings.run("send good", b""), 0);
    let at = |name: &str| rings.directory.join(format!("ringpost.{name}"));
    fs::write(at("garbage"), [0xaa; 9000]).unwrap();
    fs::write(at("short"), "").unwrap();
    symlink(at("good"), at("link")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    fs::write(rings.directory.join(std::ffi::OsStr::from_bytes(b"ringpost.\xff")), "").unwrap();
    fs::write(rings.directory.join("something-else"), "").unwrap();

    let rows = rows(&rings.run("ls --json", b""));
    let wrong = |name: &str| {
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is missing"));
        row["error"].as_str().map(String::from)
    };
    assert_eq!(rows.len(), 6);
    assert_eq!(wrong("good"), None);
    for (name, why) in [
        ("garbage", "not a ring"),
        ("short", "not a ring"),
        ("link", "symbolic link"),
        ("folder", "not a regular file"),
        ("\u{fffd}", "not UTF-8"),
    ] {
        assert!(wrong(name).unwrap().contains(why), "{name}: {:?}", wrong(name));
    }
    let table = rings.run("ls", b"");
    assert_code(&table, 0);
    assert!(text(&table).contains("Not usable:\nfolder: "), "{}", text(&table));
}

#[test]
fn stat_tells_everything_about_a_ring() {
    let rings = Rings::new();
    assert_code(&rings.run("send x --capacity 4K", b"1\n22\n333\n"), 0);
    assert_code(&rings.run("recv x -n 2", b""), 0);
    let output = rings.run("stat x --json", b"");
    assert_code(&output, 0);
    let row = &rows(&output)[0];
    for (field, value) in [
        ("schema", json!(1)),
        ("name", json!("x")),
        ("capacity", json!(4096)),
        ("longest_message", json!(4080)),
        ("many_senders", Value::Null),
        ("item_size", Value::Null),
        ("sent_messages", json!(3)),
        ("pending_messages", json!(1)),
    ] {
        assert_eq!(row[field], value, "{field}");
    }
    assert_eq!((&row["receiver"]["messages"], &row["receiver"]["state"]), (&json!(2), &json!("closed")));
    assert_eq!((&row["senders"][0]["bytes"], &row["senders"][0]["slot"]), (&json!(6), &json!(1)));
    assert_eq!(row["instance"].as_str().unwrap().len(), 16);

    let output = rings.run("stat x", b"");
    assert_code(&output, 0);
    let facts = text(&output);
    assert!(
        facts.contains("4096 bytes") && facts.contains("one at a time") && facts.contains("receiver"),
        "{facts}"
    );
    // No sender has had to look, though three messages were there.
    assert!(facts.contains("at least 0 bytes"), "{facts}");
}

#[test]
fn a_name_that_is_not_there_is_code_three() {
    let rings = Rings::new();
    for line in ["stat nothing", "unlink nothing"] {
        let output = rings.run(line, b"");
        assert_code(&output, 3);
        assert!(complaint(&output).contains("nothing does not exist"), "{}", complaint(&output));
    }
    assert_code(&rings.run("stat a/b", b""), 1);
}

#[test]
fn unlink_removes_all_that_it_can_and_tells_of_the_rest() {
    let rings = Rings::new();
    for name in ["a", "b"] {
        assert_code(&rings.run(&format!("send {name}"), b""), 0);
    }
    fs::write(rings.directory.join("ringpost.junk"), "no ring").unwrap();
    let output = rings.run("unlink a missing junk gone b", b"");
    assert_code(&output, 3);
    let complaints = complaint(&output);
    let named: Vec<_> = complaints.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(named, ["missing", "gone"]);
    assert_eq!(text(&rings.run("ls", b"")), "");
}

#[test]
fn a_ring_without_its_name_goes_on() {
    let rings = Rings::new();
    let receiver = rings.start("recv x");
    let (_sender, mut stdin) = rings.start_with_input("send x");
    stdin.write_all(b"before\n").unwrap();
    eventually("a message", || (rings.ring("x").statistics().receiver.messages == 1).then_some(()));
    assert_code(&rings.run("unlink x", b""), 0);
    stdin.write_all(b"after\n").unwrap();
    drop(stdin);
    assert_eq!(receiver.finish().stdout, b"before\nafter\n");
}
