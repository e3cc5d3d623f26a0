//! Two machines and a broker between them, each part a process of its own. A machine is a directory of rings.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, thread};

use ringpost::{Builder, RecvError, SendError};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, waitpid};

/// Far more than anything here takes: only a hang comes so far.
const FAR: Duration = Duration::from_secs(60);

/// Where each broker listens, at an address of its own.
const PORT: u16 = 1883;

const ROLE: &str = "RINGPOST_BRIDGE_TEST_ROLE";

/// Before what a child says to its parent; the rest of its output is the test harness's.
const SAYS: &str = "=> ";

/// Two directories of rings, and an address for the broker.
pub struct World {
    pub a: PathBuf,
    pub b: PathBuf,
    address: Ipv4Addr,
}

impl World {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let machine = |name: &str| {
            let directory = format!("ringpost-bridge-{}-{number}-{name}", std::process::id());
            let directory = Path::new("/dev/shm").join(directory);
            fs::create_dir(&directory).unwrap();
            directory
        };
        // Another one of this machine than any other test has at the same time: a free port would not stay free.
        let [_, high, middle, low] = (std::process::id() << 6 | (number & 0x3f)).to_be_bytes();
        Self { a: machine("a"), b: machine("b"), address: Ipv4Addr::new(127, high, middle, low) }
    }

    pub fn ring_a(&self, name: &str) -> Builder {
        ringpost::builder(name).directory(&self.a)
    }

    pub fn ring_b(&self, name: &str) -> Builder {
        ringpost::builder(name).directory(&self.b)
    }

    /// Where the bridges look for a broker.
    pub fn broker_address(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    pub fn broker(&self) -> Process {
        Process::child(&format!("broker {}", self.broker_address()))
    }

    /// `out`, on machine A.
    pub fn out(&self, line: &str) -> Process {
        self.bridge("out", &self.a, line)
    }

    /// `in`, on machine B, with its subscription.
    pub fn subscribed(&self, line: &str) -> Process {
        let mut process = self.bridge("in", &self.b, line);
        process.await_error("subscribed");
        process
    }

    fn bridge(&self, direction: &str, directory: &Path, line: &str) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost-bridge"));
        command
            .args([direction, "--topic", "test/messages", "--broker"])
            .arg(self.broker_address().to_string());
        command.args(line.split_whitespace()).arg("--dir").arg(directory);
        Process::start(command)
    }

    /// Sends the messages from `first` up to `end` into a ring of machine A, and says each.
    pub fn sender(&self, name: &str, first: u64, end: u64) -> Process {
        Process::child(&format!("sender {} {name} {first} {end}", self.a.display()))
    }

    /// The same into a mailbox.
    pub fn mailer(&self, name: &str, first: u64, end: u64) -> Process {
        Process::child(&format!("mailer {} {name} {first} {end}", self.a.display()))
    }

    /// Receives from a ring of machine B, and says the number of each message, until all senders have closed, and with
    /// `on_death` "stay" beyond a sender's death.
    pub fn receiver(&self, name: &str, on_death: &str) -> Process {
        Process::child(&format!("receiver {} {name} {on_death}", self.b.display()))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.a);
        let _ = fs::remove_dir_all(&self.b);
    }
}

/// A process of the test's. Killed when the test ends before it.
pub struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    errors: mpsc::Receiver<String>,
}

impl Process {
    fn child(role: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "child_process", "--nocapture"]).env(ROLE, role);
        Self::start(command)
    }

    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (stdout, stderr): (ChildStdout, ChildStderr) =
            (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Self { child, lines: lines(stdout, SAYS), errors: lines(stderr, "") }
    }

    /// The number that it says next; `None` when it has ended.
    pub fn next(&mut self) -> Option<u64> {
        match self.lines.recv_timeout(FAR) {
            Ok(line) => Some(line.parse().unwrap()),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(error) => {
                panic!("it says nothing: {error}; errors: {:?}", self.errors.try_iter().collect::<Vec<_>>())
            }
        }
    }

    /// All the numbers until it has said this one.
    pub fn until(&mut self, last: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        while numbers.last() != Some(&last) {
            numbers.push(self.next().expect("more of them"));
        }
        numbers
    }

    /// All the numbers until it ends.
    pub fn rest(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Waits for a line on standard error that has this in it.
    #[track_caller]
    pub fn await_error(&mut self, part: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.errors.recv_timeout(FAR) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("no line with {part:?}: {error}; but {before:?}"),
            }
        }
    }

    /// Waits for its end, which is with this code; gives what it has said on standard error.
    #[track_caller]
    pub fn ended_with(&mut self, code: i32) -> String {
        let errors: Vec<_> = std::iter::from_fn(|| match self.errors.recv_timeout(FAR) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end"),
            line => line.ok(),
        })
        .collect();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(code), "{errors:?}");
        errors.join("\n")
    }

    /// Kills it at whatever instruction it is.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        let status: ExitStatus = self.child.wait().unwrap();
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
    }

    /// Stops it, and waits until it is stopped.
    pub fn stop(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that begin so, without that, as they come.
fn lines(from: impl Read + Send + 'static, beginning: &'static str) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            // The harness may have left its own line open before the first.
            if let Some((_, line)) = line.split_once(beginning) {
                let _ = sender.send(line.to_owned());
            }
        }
    });
    receiver
}

/// Message `number`: 8 to 3007 bytes, and each fiftieth about 60,000.
pub fn message(number: u64) -> Vec<u8> {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let length = if number % 50 == 49 { 60_000 + mixed % 100 } else { mixed % 3000 };
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|index| (index.wrapping_mul(mixed | 1) >> 3) as u8));
    bytes
}

/// The number of a message, all of whose bytes are as they were.
fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == message(number), "message {number} has changed");
    number
}

/// Each of the numbers as it came for the first time.
pub fn first_times(numbers: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    numbers.iter().copied().filter(|&number| seen.insert(number)).collect()
}

/// What the processes do; returns at once in the test's own process.
pub fn play_role() {
    let Ok(role) = env::var(ROLE) else { return };
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    match *role.split(' ').collect::<Vec<_>>() {
        ["broker", listen] => broker(listen.parse().unwrap()),
        ["sender", directory, name, first, end] => {
            send(directory, name, first.parse().unwrap(), end.parse().unwrap())
        }
        ["mailer", directory, name, first, end] => {
            mail(directory, name, first.parse().unwrap(), end.parse().unwrap())
        }
        ["receiver", directory, name, on_death] => receive(directory, name, on_death == "stay"),
        _ => panic!("no such role: {role}"),
    }
}

fn say(number: u64) {
    println!("\n{SAYS}{number}");
}

/// It keeps all in memory, and acknowledges and throws away what nobody has subscribed to.
fn broker(listen: SocketAddr) {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 1 << 20,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server =
        ServerSettings { name: "v5".into(), listen, tls: None, next_connection_delay_ms: 1, connections };
    let router = RouterConfig {
        max_connections: 100,
        max_outgoing_packet_count: 200,
        max_segment_size: 100 << 20,
        max_segment_count: 10,
        ..Default::default()
    };
    let config = Config { router, v5: Some(HashMap::from([("1".into(), server)])), ..Default::default() };
    Broker::new(config).start().unwrap();
}

fn send(directory: &str, name: &str, first: u64, end: u64) {
    let ring = ringpost::builder(name).directory(directory).open_or_create().unwrap();
    let mut sender = ring.sender().unwrap();
    for number in first..end {
        // Another bridge comes when one was killed.
        while let Err(error) = sender.send(&message(number)) {
            assert!(matches!(error, SendError::PeerDied { .. }), "{error}");
            thread::sleep(Duration::from_millis(2));
        }
        say(number);
    }
}

fn mail(directory: &str, name: &str, first: u64, end: u64) {
    let mailbox = ringpost::builder(name).directory(directory).open().unwrap();
    let mut mailbox = mailbox.mailbox().unwrap();
    for number in first..end {
        mailbox.send(0, &message(number)).unwrap();
        say(number);
    }
    mailbox.close_for_all();
}

fn receive(directory: &str, name: &str, stays: bool) {
    let ring = ringpost::builder(name).directory(directory).open_or_create().unwrap();
    let mut receiver = ring.receiver().unwrap();
    loop {
        match receiver.recv().map(|message| number(&message.to_vec())) {
            Ok(number) => say(number),
            Err(RecvError::PeerDied { .. }) if stays => receiver.reopen(),
            Err(_) => return,
        }
    }
}

/// Looks again and again. The bound only ends a test that has failed.
pub fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = std::time::Instant::now() + FAR;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(std::time::Instant::now() < end, "it does not come");
        thread::sleep(Duration::from_millis(5));
    }
}
