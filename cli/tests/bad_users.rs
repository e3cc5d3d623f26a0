//! What a user may do wrong with any verb: each gets one clear line, and the exit code of the table.

mod common;

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::ffi::OsStrExt,
    process::Command,
};

use common::{Rings, assert_code, complaint};

const VERBS: [&str; 9] = [
    "send x",
    "recv x",
    "send x --open",
    "recv x --create",
    "stat x",
    "unlink x",
    "ls --json",
    "clean --yes",
    "limits --json",
];

#[test]
fn a_directory_that_is_none_is_the_same_error_of_every_verb() {
    let rings = Rings::new();
    fs::write(rings.directory.join("file"), "").unwrap();
    for (directory, why) in [("missing", "No such file"), ("file", "not a directory")] {
        let directory = rings.directory.join(directory);
        for verb in VERBS {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
            let output = command.args(verb.split(' ')).arg("--dir").arg(&directory).output().unwrap();
            assert_code(&output, 1);
            let text = complaint(&output);
            let path = directory.display().to_string();
            assert!(text.contains("can't use the directory") && text.contains(&path), "{verb}: {text}");
            assert!(text.contains(why) && text.lines().count() == 1, "{verb}: {text}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn a_name_that_would_break_a_line_is_spelt_out_in_tables_and_whole_in_json() {
    let rings = Rings::new();
    let name = "a\nb\u{1b}[2J\u{202e}";
    let ring = ringpost::builder(name).directory(&rings.directory).create().unwrap();
    fs::write(rings.directory.join(OsStr::from_bytes(b"ringpost.junk\nmail")), "no ring").unwrap();
    let spelt_out = r"a\nb\u{1b}[2J\u{202e}";
    for verb in ["ls", "clean"] {
        let output = rings.run(verb, b"");
        assert_code(&output, 0);
        let table = String::from_utf8(output.stdout).unwrap();
        assert!(table.lines().all(|line| !line.chars().any(char::is_control)), "{table}");
        assert!(table.contains(r"junk\nmail"), "{table}");
        assert!(verb == "clean" || table.contains(spelt_out), "{table}");
        let output = rings.run(&format!("{verb} --json"), b"");
        let rows = String::from_utf8(output.stdout).unwrap();
        let names = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let wanted = if verb == "ls" { name } else { "junk\nmail" };
        assert!(names.into_iter().any(|row| row["name"] == wanted), "{rows}");
    }
    drop(ring);
    for (verb, code) in [("stat", 0), ("unlink", 0), ("stat", 3), ("unlink", 3), ("recv --open", 3)] {
        let output = rings.command(verb).arg(name).output().unwrap();
        assert_code(&output, code);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().all(|line| !line.chars().any(char::is_control)), "{text}");
        assert!(verb == "unlink" && code == 0 || text.contains(spelt_out), "{text}");
    }
}

#[test]
fn sizes_go_up_to_the_largest_that_limits_names() {
    let rings = Rings::new();
    // There is not so much memory, but that is what is said, and not that the size is no size.
    for size in ["1T", "1TiB", "1024G", "1099511627776"] {
        let output = rings.run(&format!("send x --capacity {size}"), b"");
        assert_code(&output, 1);
        assert!(!complaint(&output).contains("must be from"), "{}", complaint(&output));
    }
    let output = rings.run("send x --capacity 2T", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("from 1 to 1099511627776"), "{}", complaint(&output));
    assert_code(&rings.run("send x --capacity 4KiB", b""), 0);
    assert_code(&rings.run("recv x --open --capacity 1", b""), 0);
}

#[test]
fn numbers_without_an_end_are_refused_with_what_would_be_right() {
    let rings = Rings::new();
    for (flags, advice) in [
        ("send x --rate inf", "leave --rate out"),
        ("send x --rate 1e999/s", "leave --rate out"),
        ("send x --rate nan", "leave --rate out"),
        ("send x --timeout inf", "leave it out"),
        ("recv x --timeout 1e30", "leave it out"),
        ("recv x --capacity 1P", "K, M, G or T"),
        ("recv x --capacity -4K", "'--capacity <BYTES>'"),
        ("send x --raw --size -4K", "'--size <BYTES>'"),
        ("send x --rate -5/s", "'--rate <N/s>'"),
        ("recv x --capacity 99999999999999999999", "more than there can be"),
    ] {
        let output = rings.run(flags, b"");
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(complaint(&output).contains(advice), "{flags}: {}", complaint(&output));
    }
    assert!(!rings.directory.join("ringpost.x").exists());
}

#[test]
fn a_ring_of_one_type_is_read_as_bytes_and_takes_no_others() {
    let rings = Rings::new();
    let ring = ringpost::builder("x").directory(&rings.directory).fixed::<u64>().create().unwrap();
    ring.sender().unwrap().typed::<u64>().unwrap().send(&u64::from_ne_bytes(*b"8 bytes\n")).unwrap();
    assert_eq!(rings.run("recv x --raw", b"").stdout, b"8 bytes\n");
    let output = rings.run("send x", b"12345678\nshort\n");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("each of its messages has 8"), "{}", complaint(&output));
    assert_eq!(rings.run("recv x", b"").stdout, b"12345678\n");
}

#[test]
fn a_name_that_is_none_is_told_once_and_advice_names_the_directory() {
    let rings = Rings::new();
    let there = format!("--dir {}`", rings.directory.display());
    for (line, code, wanted) in [
        ("stat a/b", 1, "ringpost: \"a/b\" can't be the name of a ring: it has a slash\n"),
        ("stat x", 3, &*format!("`ringpost ls {there} shows")),
        ("recv x --timeout 0", 4, &format!("`ringpost send x {there}")),
        ("send x --raw --size 5M", 1, "ringpost: x: a message of 5242880 bytes is too long"),
    ] {
        let output = rings.run(line, b"");
        assert_code(&output, code);
        assert!(complaint(&output).contains(wanted), "{line}: {}", complaint(&output));
    }
    // It is no flag where it is typed.
    let output = rings.command("recv --timeout 0").args(["--", "-x"]).output().unwrap();
    assert_code(&output, 4);
    let wanted = format!("`ringpost send --dir {} -- -x`", rings.directory.display());
    assert!(complaint(&output).contains(&wanted), "{}", complaint(&output));
}

#[test]
fn a_descriptor_that_is_closed_is_told_from_one_that_leads_nowhere() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\n"), 0);
    // As many programs give it to those that they start: for reading and writing.
    let nowhere = || File::options().read(true).write(true).open("/dev/null").unwrap();
    for verb in ["ls", "stat x", "limits", "clean", "recv x", "send x"] {
        let output = rings.command(verb).stdin(nowhere()).stdout(nowhere()).output().unwrap();
        assert_code(&output, 0);
    }
    let closed = |verb: &str, what: &str| {
        let program = env!("CARGO_BIN_EXE_ringpost");
        let script = format!("exec {program} {verb} --dir {} {what}", rings.directory.display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_code(&output, 1);
        assert!(complaint(&output).contains("it is closed"), "{verb}: {}", complaint(&output));
    };
    assert_code(&rings.run("send x", b"one\n"), 0);
    for verb in ["ls", "stat x", "limits", "clean", "recv x"] {
        closed(verb, ">&-");
    }
    closed("send x", "<&-");
    assert_eq!(rings.run("recv x", b"").stdout, b"one\n", "nothing was taken");
}

#[test]
fn sizes_of_the_bench_have_units_too() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    let output = bench.args(["bench", "--sizes", "64K,2M"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(complaint(&output).contains("'2M'"), "{}", complaint(&output));
}

#[test]
fn a_ring_for_programs_alone_is_refused_by_its_kind_and_left_as_it_is() {
    let rings = Rings::new();
    let builder = |name: &str| ringpost::builder(name).directory(&rings.directory);
    let jobs = builder("jobs").mailbox(4).create().unwrap();
    let news = builder("news").broadcast(3).create().unwrap();
    builder("met").rendezvous().create().unwrap();
    for (line, kind) in [
        ("send jobs", "this is a mailbox"),
        ("recv jobs", "this is a mailbox"),
        ("send news", "one sender to many readers"),
        ("recv news", "one sender to many readers"),
        ("send met", "rendezvous"),
    ] {
        let output = rings.run(line, b"hello\n");
        assert_code(&output, 1);
        assert!(complaint(&output).contains(kind), "{line}: {}", complaint(&output));
    }
    assert_eq!(jobs.statistics().sent() + news.statistics().sent(), 0);
    assert!(jobs.statistics().senders.is_empty() && news.statistics().senders.is_empty());
}

#[test]
fn the_help_of_a_verb_names_its_exit_codes() {
    for verb in ["send", "recv", "stat", "unlink"] {
        let output = Command::new(env!("CARGO_BIN_EXE_ringpost")).args(["help", verb]).output().unwrap();
        assert_code(&output, 0);
        assert!(String::from_utf8(output.stdout).unwrap().contains("3 no such channel"), "{verb}");
    }
}
