//! `ringpost pipe`: two programs and the ring between them, all in processes of their own.

use std::{
    fs,
    io::{self, Read, Write},
    process::{Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

fn ringpost() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Joins two programs, which are words separated by blanks.
fn pipe(programs: &str) -> Output {
    ringpost().args(["pipe", "--"]).args(programs.split_whitespace()).output().unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_second_program_reads_what_the_first_writes() {
    let output = pipe("seq 100000 -- tail -n 1");
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"100000\n");
    let listed = pipe("ls -a / -- cat");
    assert_eq!(listed.stdout, Command::new("ls").args(["-a", "/"]).output().unwrap().stdout);
}

#[test]
fn more_bytes_than_the_ring_holds_come_through_from_standard_input_to_standard_output() {
    let input: Vec<u8> = (0..20u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut child =
        ringpost().args(["pipe", "--", "cat", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut output = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&input).unwrap();
            drop(stdin);
        });
        stdout.read_to_end(&mut output).unwrap();
    });
    assert!(child.wait().unwrap().success());
    assert!(output == input);
}

#[test]
fn the_exit_code_is_the_seconds() {
    assert_code(&pipe("true -- false"), 1);
    assert_code(&pipe("false -- true"), 0);
    let sh = |second: &str| {
        ringpost().args(["pipe", "--", "echo", "word", "--", "sh", "-c", second]).output().unwrap()
    };
    let output = sh("cat; exit 42");
    assert_code(&output, 42);
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (b"word\n".as_slice(), b"".as_slice()));
    assert_code(&sh("kill -TERM $$"), 128 + 15);
}

#[test]
fn a_second_that_has_enough_ends_a_first_that_would_go_on_for_ever() {
    let output = pipe("yes -- head -n 3");
    assert_code(&output, 0);
    assert_eq!(output.stdout, b"y\ny\ny\n");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let complaint = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let first = pipe("no-such-program -- cat");
    assert_code(&first, 1);
    assert!(complaint(&first).contains("can't start no-such-program"), "{}", complaint(&first));
    let second = pipe("echo -- no-such-program");
    assert_code(&second, 1);
    assert!(complaint(&second).contains("can't start no-such-program"), "{}", complaint(&second));
    let nameless = ringpost().args(["pipe", "--", "", "--", "cat"]).output().unwrap();
    assert_code(&nameless, 1);
    assert!(complaint(&nameless).contains("can't start ''"), "{}", complaint(&nameless));
    for few in ["", "echo", "echo --", "-- cat"] {
        let few = pipe(few);
        assert_code(&few, 2);
        assert!(complaint(&few).contains("ringpost pipe --"), "{}", complaint(&few));
        assert!(!complaint(&few).contains("into-ring"), "{}", complaint(&few));
    }
}

#[test]
fn the_death_of_the_process_between_first_and_ring_is_told() {
    let heard = std::env::temp_dir().join(format!("ringpost-joined-{}", std::process::id()));
    let file = heard.display();
    // The first program kills the process that copies its output, once the second has that.
    let first = format!("echo word; until test -e {file}; do sleep 0.01; done; kill -KILL $PPID");
    let second = format!("read word; echo $word; touch {file}; cat");
    let output =
        ringpost().args(["pipe", "--", "sh", "-c", &first, "--", "sh", "-c", &second]).output().unwrap();
    fs::remove_file(&heard).unwrap();
    assert_code(&output, 5);
    assert_eq!(output.stdout, b"word\n");
}

#[test]
fn both_programs_end_when_ringpost_is_killed() {
    // One that fills the ring, and one that would take hours to fill it.
    for first in ["yes", "while echo word; do sleep 0.01; done"] {
        let mut child = ringpost().args(["pipe", "--", "sh", "-c", first, "--", "cat"]).spawn().unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        stdout.read_exact(&mut [0; 100]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        // All that were started have these open.
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let read = io::copy(&mut stdout, &mut io::sink()).and(stderr.read_to_end(&mut Vec::new()));
            done.send(read.is_ok()).unwrap();
        });
        assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(true), "{first}");
    }
}

#[test]
fn output_that_would_be_lost_is_not_begun() {
    let script = format!("exec {} pipe -- echo word -- cat >&-", env!("CARGO_BIN_EXE_ringpost"));
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_code(&output, 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is closed"));
}
