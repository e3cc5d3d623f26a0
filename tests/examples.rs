//! Each example does what it shows, ends by itself and leaves nothing behind.
//!
//! `cargo test` builds the examples first; with `--test examples` alone they must have been built before.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

/// Far more than any example takes: only a hang comes so far.
const FAR: Duration = Duration::from_secs(60);

/// The program of an example.
#[track_caller]
fn program_of(example: &str) -> Command {
    // …/deps/examples-HASH stands beside …/examples/NAME.
    let test = env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example);
    assert!(program.exists(), "{} is missing: cargo build --package ringpost --examples", program.display());
    Command::new(program)
}

/// The lines that an example prints. It must end well.
#[track_caller]
fn lines_of(example: &str) -> Vec<String> {
    let mut child = program_of(example).stdout(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let text = output_of(&mut child);
    let status = child.wait().unwrap();
    assert!(status.success(), "{example}: {status}\n{text}");
    assert_eq!(left_behind_by(id), Vec::<PathBuf>::new(), "{example}");
    text.lines().map(str::to_owned).collect()
}

/// All that it prints; it is killed when it does not come to an end.
#[track_caller]
fn output_of(child: &mut Child) -> String {
    let mut stdout = child.stdout.take().unwrap();
    let (done, output) = mpsc::channel();
    thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text).map(|_| text);
        // Nobody listens when it came too late.
        let _ = done.send(read);
    });
    output.recv_timeout(FAR).map(Result::unwrap).unwrap_or_else(|_| {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it hangs");
    })
}

/// The named rings of the example that ran as process `id`: its rings have that number in their names.
fn left_behind_by(id: u32) -> Vec<PathBuf> {
    let rings = fs::read_dir("/dev/shm").unwrap().map(|entry| entry.unwrap().path());
    rings.filter(|path| path.to_string_lossy().ends_with(&format!("-{id}"))).collect()
}

#[test]
fn hello_receives_both_messages_from_the_other_process() {
    let lines = lines_of("hello");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains(r#"received "hello" from process"#), "{lines:?}");
    assert!(lines[1].contains(r#"received "and goodbye" from process"#), "{lines:?}");
}

#[test]
fn the_program_of_the_lectures_prints_the_same_with_both_queues() {
    let expected = [
        "asked for  0: type 3, the third kind comes first in the file",
        "asked for  2: type 2, two",
        "asked for  1: type 3, the third kind again",
        "asked for -2: type 1, one",
        "3 messages remain",
        "the kernel's queue: the same",
    ];
    assert_eq!(lines_of("message_queue"), expected);
}

#[test]
fn producers_and_consumers_lose_and_double_nothing_in_any_form() {
    let head = include_str!("../examples/producer_consumer/main.rs")
        .lines()
        .map_while(|line| line.strip_prefix("//!"));
    let expected: Vec<_> = head.map(str::trim_start).filter(|line| line.contains(" items, sum ")).collect();
    assert_eq!(expected.len(), 14, "as many as there are forms");
    assert_eq!(lines_of("producer_consumer"), expected);
}

/// What a page says between two strings, each time.
fn all_between<'a>(page: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    page.split(before).skip(1).filter_map(move |rest| Some(rest.split_once(after)?.0))
}

#[test]
fn the_lecture_speaks_of_each_form() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let text_of =
        |path: &str| fs::read_to_string(docs.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (lecture, forms) = (text_of("LECTURE.md"), text_of("../examples/producer_consumer/main.rs"));

    // Each form is there, has its link, and is spoken of.
    let names: Vec<_> =
        all_between(&forms, "\nfn ", "() -> Form").filter(|name| !name.contains('(')).collect();
    assert_eq!(names.len(), 14);
    for name in names {
        assert!(
            lecture.contains(&format!("\n[`{name}`]: ../examples/producer_consumer/main.rs\n")),
            "{name}"
        );
        assert!(lecture.matches(&format!("[`{name}`]")).count() > 1, "{name}");
    }
}

#[test]
fn acknowledged_knows_when_a_message_was_taken() {
    let expected = ["received, taken: false", "released, taken: true", "called back", "handed over"];
    assert_eq!(lines_of("acknowledged"), expected);
}

#[test]
fn ping_pong_prints_its_median_round_trip() {
    let lines = lines_of("ping_pong");
    let [line] = &lines[..] else { panic!("{lines:?}") };
    let median_ns: u64 = line.split(' ').rev().nth(1).unwrap().parse().unwrap();
    assert!(line.starts_with("median round trip of 10000: ") && median_ns > 0, "{line}");
}

#[test]
fn log_collector_prints_each_line_with_its_sender() {
    let lines = lines_of("log_collector");
    let (total, log) = lines.split_last().unwrap();
    assert_eq!((total.as_str(), log.len()), ("20 lines from 4 processes", 20));
    for line in log {
        // [PID] LEVEL: line NUMBER of process PID
        let (known, said) = line.split_once(' ').unwrap();
        assert_eq!(known, format!("[{}]", said.rsplit(' ').next().unwrap()));
        assert_eq!(said.starts_with("warning"), said.contains("line 4"), "{line}");
    }
}

#[test]
fn broadcast_gives_every_reader_everything() {
    let mut lines = lines_of("broadcast");
    lines.sort();
    let reader = "a reader got 10000 prices, in order";
    let watcher = "the watcher came late: 10000 prices in all, some of them missed: true";
    assert_eq!(lines, [reader, reader, reader, watcher]);
}

#[test]
fn typed_prints_values_of_its_type() {
    let lines = lines_of("typed");
    assert_eq!(lines.len(), 10);
    assert_eq!(lines[0], "Reading { number: 0, celsius: 20.0, sensor: 7, quality: Good, reserved: 0 }");
    assert_eq!(lines[9], "Reading { number: 9, celsius: 24.5, sensor: 7, quality: Doubtful, reserved: 0 }");
}

#[test]
fn memfd_child_gets_every_number() {
    assert_eq!(
        lines_of("memfd_child"),
        ["1000 numbers came through a ring without a name, their sum is 499500"]
    );
}

#[test]
fn duplex_answers_every_client_and_outlives_the_one_that_dies() {
    let mut lines = lines_of("duplex");
    lines.sort();
    let counted = |number, ones| format!("CLIENT {number}: {ones} ones in 8388608 bytes");
    let closed = "a client has ended: every sender has closed, or the mailbox was closed".to_owned();
    let died = lines.iter_mut().find(|line| line.ends_with(") died")).expect("one client dies");
    let (before, pid) = died.strip_suffix(") died").unwrap().rsplit_once(' ').unwrap();
    assert!(before == "a client has ended: the sender (process" && pid.parse::<u32>().is_ok(), "{died}");
    let died = died.clone();
    let clients = [counted(0, 4_194_304), counted(1, 2_796_203), counted(2, 2_097_152)];
    assert_eq!(lines, [&clients[..], &[closed.clone(), closed.clone(), closed, died]].concat());
}

#[test]
fn select_hears_of_ring_link_and_timer() {
    let lines = lines_of("select");
    let of = |source: &str| lines.iter().filter(|line| line.starts_with(source)).cloned().collect::<Vec<_>>();
    for source in ["ring", "link"] {
        let [first, second, third, end] = &of(source)[..] else { panic!("{lines:?}") };
        let messages = [1, 2, 3].map(|number| format!("{source}: message {number}"));
        assert_eq!([first, second, third], messages.each_ref());
        assert_eq!(*end, format!("{source}: every sender has closed, or the mailbox was closed"));
    }
    let ticks = of("timer");
    assert!(ticks.last().unwrap().strip_prefix("timer: ").unwrap().parse::<u64>().unwrap() >= 3, "{lines:?}");
}

#[test]
fn plugin_goes_on_with_the_others_when_one_is_killed_and_one_does_harm() {
    let lines = lines_of("plugin");
    let of = |plugin: &str| lines.iter().filter(|line| line.starts_with(plugin)).cloned().collect::<Vec<_>>();
    assert_eq!(
        of("honest"),
        [
            "honest: line 1",
            "honest: line 2",
            "honest: line 3",
            "honest has ended: every sender has closed, or the mailbox was closed"
        ]
    );
    let [said, ended] = &of("killed")[..] else { panic!("{lines:?}") };
    assert_eq!(said, "killed: about to do something great");
    assert!(
        ended.starts_with("killed has ended: the sender (process ") && ended.ends_with(" died"),
        "{ended}"
    );
    let [refused, ended] = &of("hostile")[..] else { panic!("{lines:?}") };
    assert!(refused.contains("the host's memory: Permission denied"), "{refused}");
    assert!(ended.contains("claims an impossible length of 4294967295"), "{ended}");
}

#[test]
fn an_example_that_can_not_listen_says_where_comes_to_an_end_and_leaves_nothing() {
    for example in ["producer_consumer", "duplex", "plugin", "select"] {
        let mut program = program_of(example);
        program.env("TMPDIR", "/is/not/there").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();
        let mut complaint = child.stderr.take().unwrap();
        output_of(&mut child);
        assert!(!child.wait().unwrap().success(), "{example}");
        let mut text = String::new();
        complaint.read_to_string(&mut text).unwrap();
        assert!(text.contains("/is/not/there"), "{example}: {text}");
        assert_eq!(left_behind_by(child.id()), Vec::<PathBuf>::new(), "{example}");
    }
}
