//! Several processes write their log lines into one ring; one process collects them.
//!
//! All lines come in one order, no line is lost or torn, and each comes with the process that sent it: the ring knows, the
//! text of a line need not say it.
//!
//! ```text
//! cargo run --package ringpost --example log_collector
//! ```

use ringpost::Lifetime;
use std::{
    collections::BTreeMap,
    env,
    error::Error,
    process::{self, Command},
};

const WRITERS: u8 = 4;
const LINES: usize = 5;
/// Kinds of message are the program's own numbers. Here: how bad it is.
const LEVELS: [&str; 2] = ["info", "warning"];

fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1) {
        None => collect(),
        Some(name) => write(&name),
    }
}

fn collect() -> Result<(), Box<dyn Error>> {
    let name = format!("log-{}", process::id());
    let ring = ringpost::builder(&name).many_senders(WRITERS + 1).lifetime(Lifetime::Owned).create()?;
    let mut receiver = ring.receiver()?;
    // A ring ends (`Disconnected`) when no sender is left. A log doesn't: it holds one itself, and never uses it.
    let _stays_open = ring.multi_sender()?;

    let start = |_| Command::new(env::current_exe()?).arg(&name).spawn();
    let mut writers = (0..WRITERS).map(start).collect::<Result<Vec<_>, _>>()?;

    // How many lines came from which process.
    let mut counts: BTreeMap<u32, usize> = writers.iter().map(|writer| (writer.id(), 0)).collect();
    while counts.values().any(|&count| count < LINES) {
        let message = receiver.recv()?;
        let (pid, level) = (message.sender().pid, LEVELS[usize::from(message.kind())]);
        // The ring names the process that sent the line. The line says so too; that is what we check.
        let line = String::from_utf8(message.to_vec())?;
        println!("[{pid}] {level}: {line}");
        let count = counts.get_mut(&pid).ok_or("a line from a stranger")?;
        assert_eq!(line, format!("line {count} of process {pid}"), "in the order in which it was sent");
        *count += 1;
    }

    for writer in &mut writers {
        assert!(writer.wait()?.success());
    }
    println!("{} lines from {} processes", counts.values().sum::<usize>(), counts.len());
    Ok(())
}

fn write(name: &str) -> Result<(), Box<dyn Error>> {
    let mut sender = ringpost::builder(name).open()?.multi_sender()?;
    for number in 0..LINES {
        let line = format!("line {number} of process {}", process::id());
        sender.send_kind(u16::from(number == LINES - 1), line.as_bytes())?;
    }
    Ok(())
}
