//! Each peer that is there moves messages, checked word by word, between two processes (or threads); one that is not says
//! why.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PEERS: [&str; 10] = [
    "iceoryx2",
    "iceoryx2-waitset",
    "ipc-channel",
    "shmring",
    "boost-mq",
    "zeromq",
    "nng",
    "rtrb-threads",
    "crossbeam-threads",
    "kanal-threads",
];

/// A short run, as JSON Lines.
fn run(mechanisms: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-peers"));
    command.args(["--json", "--rounds", "1", "--quick", "--sizes", "64,4096", "--mechanisms", mechanisms]);
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{mechanisms}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn each_peer_moves_messages_or_says_why_not() {
    let rows = run(&PEERS.join(","));
    for peer in PEERS {
        let own: Vec<_> =
            rows.lines().filter(|row| row.contains(&format!("\"mechanism\":\"{peer}\""))).collect();
        assert!(own.len() >= 4, "{peer}: {own:?}");
        for row in own {
            let measured = row.contains("\"error\":null") && row.contains("\"samples\":1");
            let says_why = ["not installed", "without the feature", "lies on the heap"]
                .iter()
                .any(|why| row.contains(why));
            assert!(measured || says_why, "{row}");
            // Their own threads share the two cores.
            let crowded = measured && ["zeromq", "nng"].contains(&peer);
            assert_eq!(row.contains("\"oversubscribed\":true"), crowded, "{row}");
        }
    }
}

#[test]
fn a_run_that_is_ended_leaves_nothing_behind_and_ends_by_the_signal() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-peers"));
    command.args(["--json", "--rounds", "10000", "--sizes", "64", "--mechanisms", "shmring"]);
    let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it can be started");
    let own = format!("bench-peers-{}-", run.id());
    let left = || {
        let files = fs::read_dir("/dev/shm").expect("it is there").flatten();
        files.filter(|file| file.file_name().to_string_lossy().starts_with(&own)).count()
    };
    while left() == 0 && run.try_wait().expect("it is a child").is_none() {
        thread::yield_now();
    }
    kill(Pid::from_raw(run.id() as i32), Signal::SIGTERM).expect("it runs");
    assert_eq!(run.wait().expect("it is a child").signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(left(), 0);
}
