//! `ringpost send` and `ringpost recv` in two processes: the same bytes come out, whoever starts first and whoever ends
//! how, and what is not written is not lost.

mod common;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{Rings, Running, assert_code, complaint, eventually};
use nix::sys::signal::Signal;

/// Bytes without a pattern, all values among them.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn prefixed(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|message| [&(message.len() as u32).to_le_bytes(), *message].concat()).collect()
}

/// Sends `input` and receives it, the receiver being there first, and then the sender.
#[track_caller]
fn round_trip(send: &str, recv: &str, input: &[u8], expected: &[u8]) {
    let rings = Rings::new();
    let check = |receiver: Running, sender: Running, mut stdin: ChildStdin, order: &str| {
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            let output = receiver.finish();
            assert_code(&output, 0);
            assert!(output.stdout == expected, "{send} | {recv}, the {order} first");
            assert_code(&sender.finish(), 0);
        })
    };
    let receiver = rings.start(&format!("recv x {recv}"));
    attached(&rings, "x");
    let (sender, stdin) = rings.start_with_input(&format!("send x {send}"));
    check(receiver, sender, stdin, "receiver");

    let (sender, stdin) = rings.start_with_input(&format!("send y {send}"));
    rings.ring("y");
    check(rings.start(&format!("recv y {recv}")), sender, stdin, "sender");
}

/// Waits until somebody receives from the ring.
fn attached(rings: &Rings, name: &str) {
    let ring = rings.ring(name);
    eventually("a receiver", || ring.statistics().receiver.attached.then_some(()));
}

/// Waits until so many messages are in the ring.
fn pending(rings: &Rings, name: &str, count: u64) {
    let ring = rings.ring(name);
    eventually("messages", || (ring.statistics().pending_messages() == count).then_some(()));
}

#[test]
fn any_bytes_come_out_as_they_went_in() {
    for input in [
        b"".as_slice(),
        b"\n",
        b"one\ntwo\n",
        b"one\ntwo",
        b"\0\n\0\0",
        b"a\0b\n\r\n\xff\xfe",
        &noise(300_000),
    ] {
        for framing in ["", "--lines", "-0", "--raw", "--raw --size 7"] {
            round_trip(framing, "", input, input);
        }
    }
}

#[test]
fn five_megabytes_pass_through_rings_of_any_size() {
    let input = noise(5_000_000);
    round_trip("--capacity 64K", "--capacity 64K", &input, &input);
    round_trip("--capacity 16M --raw --size 1M", "--raw --capacity 16M", &input, &input);
    round_trip("--capacity 4K -0 --many 2", "--capacity 4K --many 2", &input, &input);
}

#[test]
fn lines_that_are_longer_than_any_message_are_joined_again() {
    let mut input = vec![b'x'; 20_000];
    input.extend(b"\nshort\n");
    input.extend(vec![0; 4081]);
    round_trip("--capacity 4096", "--capacity 4096", &input, &input);

    let rings = Rings::new();
    let (_sender, mut stdin) = rings.start_with_input("send x --capacity 4096");
    rings.ring("x");
    let (long, _) = input.split_at(20_001);
    thread::scope(|scope| {
        scope.spawn(|| stdin.write_all(long).unwrap());
        assert!(rings.run("recv x -n 1", b"").stdout == long, "its parts are one message");
    });
}

#[test]
fn the_receiver_may_ask_for_another_framing() {
    round_trip("", "-0", b"one\ntwo\n", b"one\0two\0");
    round_trip("", "--raw", b"one\ntwo\n", b"onetwo");
    round_trip("", "--length-prefixed", b"one\n\n", &prefixed(&[b"one", b""]));
    round_trip("--length-prefixed", "--lines", &prefixed(&[b"one", b"two"]), b"one\ntwo\n");
    let messages = prefixed(&[b"", b"a\nb\0c", &noise(70_000)]);
    round_trip("--length-prefixed", "", &messages, &messages);
    round_trip("--length-prefixed", "--length-prefixed", &messages, &messages);
}

#[test]
fn the_messages_of_programs_are_lines() {
    let rings = Rings::new();
    let ring = ringpost::builder("x").directory(&rings.directory).create().unwrap();
    let mut sender = ring.sender().unwrap();
    sender.send(b"hello").unwrap();
    sender.send_kind(7, b"world").unwrap();
    drop(sender);
    assert_eq!(rings.run("recv x", b"").stdout, b"hello\nworld\n");

    assert_code(&rings.run("send y", b"one\ntwo\n"), 0);
    let received: Vec<_> =
        rings.ring("y").receiver().unwrap().iter().map(|message| message.to_vec()).collect();
    assert_eq!(received, [b"one", b"two"]);
}

#[test]
fn a_tree_of_files_passes_as_a_tar_archive() {
    let tree = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    let Ok(mut pack) = Command::new("tar").args(["c", "-C", tree, "."]).stdout(Stdio::piped()).spawn() else {
        return; // no tar here
    };
    let rings = Rings::new();
    let unpacked = rings.directory.join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut sender = rings.command("send x").stdin(pack.stdout.take().unwrap()).spawn().unwrap();
    let mut receiver = rings.command("recv x").spawn().unwrap();
    let mut unpack = Command::new("tar");
    unpack.arg("x").arg("-C").arg(&unpacked).stdin(receiver.stdout.take().unwrap());
    assert!(unpack.status().unwrap().success());
    assert!(
        pack.wait().unwrap().success()
            && sender.wait().unwrap().success()
            && receiver.wait().unwrap().success()
    );
    assert!(Command::new("diff").arg("-r").arg(tree).arg(&unpacked).status().unwrap().success());
}

#[test]
fn a_line_arrives_while_the_input_pauses() {
    let rings = Rings::new();
    let (mut sender, mut stdin) = rings.start_with_input("send x");
    stdin.write_all(b"first\nsecond\nunfinished").unwrap();
    let mut receiver = rings.start("recv x");
    let mut lines = [0; 13];
    let mut output = receiver.stdout();
    output.read_exact(&mut lines).unwrap();
    assert_eq!(&lines, b"first\nsecond\n");
    drop(stdin);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "unfinished");
    assert!(sender.wait().success() && receiver.wait().success());
}

#[test]
fn a_count_ends_either_side_and_leaves_the_rest() {
    let rings = Rings::new();
    assert_code(&rings.run("send x -n 3", b"1\n2\n3\n4\n5\n"), 0);
    assert_eq!(rings.run("recv x -n 2", b"").stdout, b"1\n2\n");
    assert_eq!(rings.run("recv x -n 0", b"").stdout, b"");
    assert_eq!(rings.run("recv x -n 9", b"").stdout, b"3\n");
}

#[test]
fn a_receiver_that_has_closed_ends_the_sender() {
    let rings = Rings::new();
    let (sender, mut stdin) = rings.start_with_input("send x");
    stdin.write_all(b"1\n2\n").unwrap();
    assert_eq!(rings.run("recv x -n 1", b"").stdout, b"1\n");
    stdin.write_all(b"3\n").unwrap();
    let output = sender.finish();
    assert_code(&output, 1);
    assert!(complaint(&output).contains("the receiver has closed"), "{}", complaint(&output));
}

#[test]
fn waiting_ends_after_the_timeout_with_code_four() {
    let rings = Rings::new();
    let output = rings.run("recv x --timeout 0.02", b"");
    assert_code(&output, 4);
    assert!(complaint(&output).contains("ringpost send x"), "{}", complaint(&output));

    let lines = b"0123456\n".repeat(1000);
    let output = rings.run("send y --capacity 4K --timeout 0.02", &lines);
    assert_code(&output, 4);
    let sent = 4096 / 24;
    assert!(complaint(&output).contains(&format!("after {sent} messages")), "{}", complaint(&output));
    assert!(rings.run("recv y", b"").stdout == lines[..8 * sent], "what was sent is there");

    assert_code(&rings.run("send z", b"one\n"), 0);
    let output = rings.run("recv z --follow --timeout 0.02", b"");
    assert!(complaint(&output).contains("after 1 message:"), "{}", complaint(&output));
}

#[test]
fn a_receiver_that_follows_goes_on_behind_the_end() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\n"), 0);
    let output = rings.run("recv x --follow --timeout 0.1", b"");
    assert_code(&output, 4);
    assert_eq!(output.stdout, b"one\n");

    let mut receiver = rings.start("recv x --follow -n 2");
    attached(&rings, "x");
    let (mut output, mut line) = (receiver.stdout(), [0; 4]);
    for text in [b"two\n", b"six\n"] {
        assert_code(&rings.run("send x", text), 0);
        output.read_exact(&mut line).unwrap();
        assert_eq!(&line, text);
    }
    assert!(receiver.wait().success());
}

#[test]
fn a_sender_that_is_killed_is_code_five_after_all_that_it_sent() {
    let rings = Rings::new();
    let receiver = rings.start("recv x");
    let (sender, mut stdin) = rings.start_with_input("send x");
    stdin.write_all(b"one\ntwo\nhalf").unwrap();
    let ring = rings.ring("x");
    eventually("two messages", || (ring.statistics().receiver.messages == 2).then_some(()));
    sender.signal(Signal::SIGKILL);
    let output = receiver.finish();
    assert_code(&output, 5);
    assert_eq!(output.stdout, b"one\ntwo\n");
    assert!(complaint(&output).contains(&sender.pid().to_string()), "{}", complaint(&output));
}

#[test]
fn a_receiver_that_is_killed_is_code_five_for_a_sender_that_waits_for_room() {
    let rings = Rings::new();
    let (receiver, sender, mut stdin) = stuck(&rings);
    let feeder = thread::spawn(move || stdin.write_all(&vec![b'x'; 1 << 20]).unwrap_or_default());
    let ring = rings.ring("x");
    eventually("a full ring", || {
        ring.statistics().senders.iter().any(|sender| sender.blocked > 0).then_some(())
    });
    receiver.signal(Signal::SIGKILL);
    assert_code(&sender.finish(), 5);
    feeder.join().unwrap();
}

/// A receiver whose output nobody reads, with a message in hand, and a sender whose input is open.
fn stuck(rings: &Rings) -> (Running, Running, ChildStdin) {
    let receiver = rings.start("recv x --capacity 256K");
    attached(rings, "x");
    let (sender, mut stdin) = rings.start_with_input("send x --raw --size 100K");
    stdin.write_all(&[b'y'; 100 << 10]).unwrap();
    (receiver, sender, stdin)
}

#[test]
fn closed_output_ends_quietly_and_keeps_the_messages() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\ntwo\nthree\n"), 0);
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = rings.command("recv x").stdout(writer).output().unwrap();
    assert_eq!((output.status.signal(), complaint(&output)), (Some(Signal::SIGPIPE as i32), String::new()));
    assert_eq!(rings.run("recv x", b"").stdout, b"one\ntwo\nthree\n");
}

#[test]
fn without_any_output_nothing_is_taken() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\ntwo\n"), 0);
    let script =
        format!("exec {} recv x --dir {} >&-", env!("CARGO_BIN_EXE_ringpost"), rings.directory.display());
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_code(&output, 1);
    assert!(complaint(&output).contains("closed"), "{}", complaint(&output));
    assert_eq!(rings.run("recv x", b"").stdout, b"one\ntwo\n");
}

#[test]
fn full_output_is_an_error_and_keeps_the_messages() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"one\ntwo\n"), 0);
    let mut command = rings.command("recv x");
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    assert_code(&output, 1);
    assert!(complaint(&output).contains("still in the ring"), "{}", complaint(&output));
    assert_eq!(rings.run("recv x", b"").stdout, b"one\ntwo\n");
}

#[test]
fn output_that_fails_halfway_loses_no_line_and_repeats_none() {
    let rings = Rings::new();
    let lines: String = (0..3000).map(|number| format!("{number:05}\n")).collect();
    assert_code(&rings.run("send x", lines.as_bytes()), 0);
    let (program, directory) = (env!("CARGO_BIN_EXE_ringpost"), rings.directory.display());
    let script =
        format!("trap '' XFSZ; ulimit -f 8; exec {program} recv x --dir {directory} > {directory}/file");
    assert_code(&Command::new("sh").args(["-c", &script]).output().unwrap(), 1);
    let mut received = fs::read(rings.directory.join("file")).unwrap();
    assert!((1000..lines.len()).contains(&received.len()), "the file took a part: {}", received.len());
    received.truncate(received.iter().rposition(|&byte| byte == b'\n').unwrap() + 1);
    received.extend(rings.run("recv x", b"").stdout);
    assert!(received == lines.as_bytes());
}

#[test]
fn an_interrupt_while_waiting_loses_nothing() {
    let rings = Rings::new();
    let mut receiver = rings.start("recv x");
    attached(&rings, "x");
    receiver.signal(Signal::SIGINT);
    assert_eq!(receiver.wait().signal(), Some(Signal::SIGINT as i32));
    assert_code(&rings.run("send x", b"one\n"), 0);
    assert_eq!(rings.run("recv x", b"").stdout, b"one\n");
}

#[test]
fn an_interrupt_while_writing_waits_until_the_message_is_written() {
    let rings = Rings::new();
    let input = noise(2_000_000);
    let messages: Vec<_> = input.chunks(200_000).collect();
    assert_code(&rings.run("send x --length-prefixed", &prefixed(&messages)), 0);
    let mut receiver = rings.start("recv x --raw");
    let mut output = receiver.stdout();
    let mut received = vec![0; 1];
    output.read_exact(&mut received).unwrap();
    // More of the message than a pipe holds is not written yet.
    receiver.signal(Signal::SIGTERM);
    output.read_to_end(&mut received).unwrap();
    assert_eq!(receiver.wait().signal(), Some(Signal::SIGTERM as i32));
    assert!(received == messages[0]);
    received.extend(rings.run("recv x --raw", b"").stdout);
    assert!(received == input, "the others are still there");
}

#[test]
fn four_senders_at_once_keep_the_order_of_each() {
    let rings = Rings::new();
    let receiver = rings.start("recv x --many 4 --capacity 16K --follow -n 8000");
    attached(&rings, "x");
    let output = thread::scope(|scope| {
        for sender in 0..4 {
            let lines: String = (0..2000).map(|number| format!("{sender} {number}\n")).collect();
            let rings = &rings;
            scope.spawn(move || assert_code(&rings.run("send x", lines.as_bytes()), 0));
        }
        receiver.finish()
    });
    assert_code(&output, 0);
    let mut next = [0; 4];
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (sender, number) = line.split_once(' ').unwrap();
        let next = &mut next[sender.parse::<usize>().unwrap()];
        assert_eq!(number.parse(), Ok(*next), "of sender {sender}");
        *next += 1;
    }
    assert_eq!(next, [2000; 4]);
}

#[test]
fn senders_that_share_a_ring_part_no_lines() {
    let rings = Rings::new();
    let output =
        rings.run("send x --many 2 --capacity 4096", &[b"fits\n".as_slice(), &[b'x'; 5000]].concat());
    assert_code(&output, 1);
    assert!(complaint(&output).contains("4080 bytes"), "{}", complaint(&output));
    assert_eq!(rings.run("recv x", b"").stdout, b"fits\n");
}

#[test]
fn a_place_that_is_taken_is_refused_with_the_reason() {
    let rings = Rings::new();
    let receiver = rings.start("recv x");
    attached(&rings, "x");
    let output = rings.run("recv x", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains(&receiver.pid().to_string()), "{}", complaint(&output));

    let (_first, mut stdin) = rings.start_with_input("send x");
    stdin.write_all(b"here\n").unwrap();
    eventually("a message", || (rings.ring("x").statistics().sent() == 1).then_some(()));
    let output = rings.run("send x", b"no\n");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("made with --many"), "{}", complaint(&output));

    let (_only, mut stdin) = rings.start_with_input("send y --many 1");
    stdin.write_all(b"here\n").unwrap();
    pending(&rings, "y", 1);
    let output = rings.run("send y", b"no\n");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("all 1 sender slots"), "{}", complaint(&output));
}

#[test]
fn a_message_that_is_too_long_is_named_with_the_maximum() {
    let rings = Rings::new();
    let input = prefixed(&[b"fits", &[0; 5000]]);
    let output = rings.run("send x --length-prefixed --capacity 4K", &input);
    assert_code(&output, 1);
    let text = complaint(&output);
    assert!(text.contains("5000 bytes") && text.contains("4080 are taken at most"), "{text}");
    assert_eq!(rings.run("recv x", b"").stdout, input[..8]);

    let output = rings.run("send x --raw --size 8K", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("4080 are taken at most"), "{}", complaint(&output));
    assert_code(&rings.run("send x --length-prefixed", &[1, 0]), 1);
}

#[test]
fn create_and_open_insist() {
    let rings = Rings::new();
    assert_code(&rings.run("send x --open", b""), 3);
    assert_code(&rings.run("recv x --open", b""), 3);
    assert_code(&rings.run("send x --create --capacity 5000", b""), 0);
    let output = rings.run("send x --create", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("exists already"), "{}", complaint(&output));
    assert_code(&rings.run("recv x --open --capacity 8K", b""), 0);
    for other in ["send x --capacity 4K", "send x --many 2", "recv x --capacity 1M"] {
        let output = rings.run(other, b"");
        assert_code(&output, 1);
        assert!(complaint(&output).contains("the ring has"), "{}", complaint(&output));
    }
}

#[test]
fn the_name_goes_at_the_end_when_that_is_asked_for() {
    let rings = Rings::new();
    assert_code(&rings.run("send x", b"1\n2\n"), 0);
    assert_code(&rings.run("recv x -n 1 --unlink", b""), 0);
    assert_eq!(rings.run("recv x --unlink", b"").stdout, b"2\n", "the end had not come yet");
    assert_code(&rings.run("recv x --open", b""), 3);
}

#[test]
fn what_is_sent_while_the_name_goes_is_received_now_or_later() {
    let rings = Rings::new();
    for round in 0..10 {
        let receiver = rings.start("recv x --unlink");
        let sent = thread::scope(|scope| {
            let first = scope.spawn(|| rings.run("send x", b"first\n"));
            let second = scope.spawn(|| rings.run("send x", b"second\n"));
            [("first", first), ("second", second)].map(|(line, sender)| (line, sender.join().unwrap()))
        });
        let mut received = receiver.finish().stdout;
        received.extend(rings.run("recv x --open --timeout 0", b"").stdout);
        let received = String::from_utf8(received).unwrap();
        for (line, sender) in sent {
            let times = received.lines().filter(|&found| found == line).count();
            assert_eq!(times, usize::from(sender.status.success()), "{line} of round {round}: {received}");
        }
    }
}

#[test]
fn bad_flags_are_code_two_and_bad_names_code_one() {
    let rings = Rings::new();
    for flags in [
        "send",
        "send x --lines --raw",
        "send x --size 5",
        "send x --lines --size 5",
        "send x -0 --size 5",
        "send x --length-prefixed --size 5",
        "send x --raw --size 0",
        "send x --capacity 1X",
        "send x --many 0",
        "send x --many 256",
        "send x --timeout -1",
        "send x --rate 0",
        "send x --open --create",
        "recv x -n x",
        "recv x --follow --unlink",
        "recv x -0 --lines",
    ] {
        let output = rings.run(flags, b"");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{flags}");
    }
    for (flags, right) in [
        ("send x --timeout -1", "from 0 up"),
        ("send x --rate -5", "from one message a year up"),
        ("recv x -n -1", "invalid value '-1'"),
    ] {
        let output = rings.run(flags, b"");
        assert!(complaint(&output).contains(right), "{}", complaint(&output));
    }
    for name in ["a/b", ".hidden", &"x".repeat(247)] {
        let output = rings.run(&format!("send {name}"), b"");
        assert_code(&output, 1);
        assert!(complaint(&output).contains("can't be the name"), "{}", complaint(&output));
    }
    let output = rings.run("send x --capacity 2048G", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("must be from"), "{}", complaint(&output));
}

#[test]
fn a_ring_that_there_is_no_room_for_is_an_error_with_advice() {
    let rings = Rings::new();
    let script = format!(
        "ulimit -f 64; exec {} send x --dir {}",
        env!("CARGO_BIN_EXE_ringpost"),
        rings.directory.display()
    );
    let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap();
    assert_code(&output, 1);
    assert!(complaint(&output).contains("ulimit -f"), "{}", complaint(&output));
}

#[test]
fn a_rate_is_not_exceeded() {
    let rings = Rings::new();
    let start = Instant::now();
    assert_code(&rings.run("send x --rate 100/s", b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"), 0);
    assert!(start.elapsed() >= Duration::from_millis(80 - 20), "eight intervals, less what may be caught up");
    assert_eq!(rings.run("recv x", b"").stdout.len(), 18);
}
