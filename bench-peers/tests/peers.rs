//! Each peer that is there moves messages, checked word by word, between two processes (or threads); one that is not says
//! why.

use std::process::Command;

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
        }
    }
}
