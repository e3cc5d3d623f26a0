//! `ringpost recv` is asked to end while nobody reads what it writes: it ends, and what it had released was written whole.

mod common;

use std::{
    fs::File,
    io::{self, PipeWriter, Read},
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, Command, Stdio},
    ptr,
};

use common::{Rings, assert_code, eventually};
use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Killed when the test ends before it.
struct Receiving(Child);

impl Receiving {
    fn start(rings: &Rings, line: &str, output: impl Into<Stdio>) -> Self {
        Self(rings.command(line).stdout(output).stderr(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    /// The signal that ends it.
    fn end(&mut self) -> Option<i32> {
        eventually("it ends", || self.0.try_wait().unwrap()).signal()
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until it takes nothing more, because nobody reads, and gives it up.
fn fill(input: PipeWriter) {
    eventually("a full pipe", || {
        let mut ready = [PollFd::new(input.as_fd(), PollFlags::POLLOUT)];
        (poll(&mut ready, PollTimeout::ZERO).unwrap() == 0).then_some(())
    });
}

fn all_of(mut output: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).unwrap();
    bytes
}

/// A ring with many lines, and those.
fn lines(rings: &Rings) -> Vec<u8> {
    let lines: Vec<u8> = (0..30_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    assert_code(&rings.run("send x", &lines), 0);
    lines
}

#[test]
fn each_signal_ends_a_receiver_whose_output_nobody_reads_and_no_line_is_cut_lost_or_doubled() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let rings = Rings::new();
        let lines = lines(&rings);
        let (output, input) = io::pipe().unwrap();
        let flags = fcntl(&input, FcntlArg::F_GETFL).unwrap();
        let mut receiving = Receiving::start(&rings, "recv x", input.try_clone().unwrap());
        fill(input.try_clone().unwrap());
        assert_eq!(fcntl(&input, FcntlArg::F_GETFL).unwrap(), flags, "others have the same description");
        receiving.signal(signal);
        assert_eq!(receiving.end(), Some(signal as i32));
        drop(input);
        let mut received = all_of(output);
        assert!(received.ends_with(b"\n"), "whole lines");
        received.extend(rings.run("recv x", b"").stdout);
        assert!(received == lines);
    }
}

#[test]
fn a_long_message_that_is_written_in_part_is_not_released() {
    let rings = Rings::new();
    let message: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
    let input = [&1_000_000u32.to_le_bytes(), message.as_slice()].concat();
    assert_code(&rings.run("send x --length-prefixed", &input), 0);
    let (output, input) = io::pipe().unwrap();
    let mut receiving = Receiving::start(&rings, "recv x --raw", input.try_clone().unwrap());
    fill(input);
    receiving.signal(Signal::SIGTERM);
    assert_eq!(receiving.end(), Some(Signal::SIGTERM as i32));
    let part = all_of(output);
    assert!(part.len() < message.len() && message.starts_with(&part));
    assert!(rings.run("recv x --raw", b"").stdout == message, "it comes again, whole");
}

#[test]
fn receivers_that_share_a_pipe_end_too() {
    let rings = Rings::new();
    lines(&rings);
    let other = Rings::new();
    lines(&other);
    let (_output, input) = io::pipe().unwrap();
    let both = [&rings, &other].map(|rings| Receiving::start(rings, "recv x", input.try_clone().unwrap()));
    fill(input);
    for mut receiving in both {
        receiving.signal(Signal::SIGTERM);
        assert_eq!(receiving.end(), Some(Signal::SIGTERM as i32));
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let rings = Rings::new();
    let lines = lines(&rings);
    let (output, input) = io::pipe().unwrap();
    let script = format!(
        "trap '' HUP; exec {} recv x --dir {}",
        env!("CARGO_BIN_EXE_ringpost"),
        rings.directory.display()
    );
    let mut receiving = Receiving(
        Command::new("sh").args(["-c", &script]).stdout(input.try_clone().unwrap()).spawn().unwrap(),
    );
    fill(input);
    receiving.signal(Signal::SIGHUP);
    assert!(all_of(output) == lines);
    assert_eq!(receiving.end(), None);
}

#[test]
fn whatever_the_output_is_all_of_it_arrives() {
    let rings = Rings::new();
    let expected = lines(&rings);
    let file = rings.directory.join("file");
    let mut receiving = Receiving::start(&rings, "recv x", File::create(&file).unwrap());
    assert_eq!(receiving.end(), None);
    assert!(std::fs::read(&file).unwrap() == expected, "a file");

    lines(&rings);
    let (output, socket) = UnixStream::pair().unwrap();
    let mut receiving = Receiving::start(&rings, "recv x", OwnedFd::from(socket));
    assert!(all_of(output) == expected, "a socket");
    assert_eq!(receiving.end(), None);

    lines(&rings);
    let (output, input) = io::pipe().unwrap();
    fcntl(&input, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let mut receiving = Receiving::start(&rings, "recv x", input.try_clone().unwrap());
    fill(input);
    assert!(all_of(output) == expected, "a pipe that somebody has made non-blocking");
    assert_eq!(receiving.end(), None);
}

/// Both ends of a new terminal.
fn terminal() -> (File, OwnedFd) {
    let mut ends = [-1; 2];
    let [master, slave] = &mut ends;
    // SAFETY: both descriptors are written, and of all else the kernel's own is wanted.
    let made = unsafe { libc::openpty(master, slave, ptr::null_mut(), ptr::null(), ptr::null()) };
    assert_eq!(made, 0);
    // SAFETY: they were just made, and are nobody else's.
    let [master, slave] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    (master.into(), slave)
}

#[test]
fn a_terminal_gets_all_and_a_signal_is_heard_while_it_takes_nothing() {
    let rings = Rings::new();
    let expected = lines(&rings);
    let (mut screen, slave) = terminal();
    let mut receiving = Receiving::start(&rings, "recv x", slave);
    let mut shown = vec![0; expected.len() + 30_000];
    screen.read_exact(&mut shown).unwrap();
    shown.retain(|&byte| byte != b'\r');
    assert!(shown == expected);
    assert_eq!(receiving.end(), None);

    lines(&rings);
    let (mut screen, slave) = terminal();
    let mut receiving = Receiving::start(&rings, "recv x", slave);
    // It has begun, and can't come to its end.
    screen.read_exact(&mut [0]).unwrap();
    receiving.signal(Signal::SIGINT);
    assert_eq!(receiving.end(), Some(Signal::SIGINT as i32));
}
