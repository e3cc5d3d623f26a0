//! `ringpost pipe`: two programs joined by a ring.
//!
//! The ring lies between two processes of `ringpost`: one starts the first program and writes what that prints to the ring,
//! the other starts the second and gives it what the ring has.

use std::{
    env,
    ffi::OsString,
    io::{self, Read, Write},
    mem,
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{self, Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::{Args, error::ErrorKind};
use nix::{
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::getppid,
};
use ringpost::{ByteReader, ByteWriter, Receiver, RecvError};

use crate::{channel::quoted, ending::Ending, input::CHUNK, output};

/// Join two programs by a ring, as `first | second` does by a pipe: ringpost pipe -- ls -l -- more
///
/// Ends when both have ended, with the exit code of the second (128 and the signal's number if a signal ended it). When that is 0:
/// with 1 if the first could not be started, with 5 if a process in between died and the output may not be whole. When the second closes its input, the first gets a broken pipe.
#[derive(Args, Debug)]
pub struct PipeArguments {
    /// The first program with its arguments, then `--`, then the second with its own
    #[arg(required = true, last = true, value_name = "FIRST … -- SECOND …")]
    programs: Vec<OsString>,

    /// Start this one program, and write what it prints to the ring that is standard output, as long as process PID lives
    #[arg(long, hide = true, value_name = "PID")]
    into_ring: Option<u32>,
}

/// Between two looks whether the process that will write to the ring lives.
const PAUSE: Duration = Duration::from_millis(100);

/// Joins the programs, and waits for both.
pub fn run(arguments: &PipeArguments) -> Result<()> {
    if let Some(starter) = arguments.into_ring {
        end_with(starter)?;
        return write_output_of(&arguments.programs);
    }
    let mut programs = arguments.programs.splitn(2, |word| word == "--");
    let (Some(first @ [_, ..]), Some(second @ [_, ..])) = (programs.next(), programs.next()) else {
        let what = "two programs are to be joined: ringpost pipe -- ls -l -- more\n";
        clap::Error::raw(ErrorKind::WrongNumberOfValues, what).exit();
    };
    output::open().context("can't use standard output")?;
    // It has no name: nothing is left of it, however all this ends.
    let ring = ringpost::unnamed().memfd()?;
    let receiver = ring.receiver()?;
    let mut second = command(second)?.stdin(Stdio::piped()).spawn().with_context(|| about(second))?;
    let passed = ring.fd().context("the ring has no descriptor")?.try_clone_to_owned()?;
    let mut writing = Command::new(env::current_exe()?)
        .args(["pipe", "--into-ring", &process::id().to_string(), "--"])
        .args(first)
        .stdout(passed)
        .spawn()
        .context("can't start ringpost again")?;
    let input = second.stdin.take().context("the second program has no input")?;
    let read = read_into(input, receiver, &mut writing);
    let status = second.wait()?;
    // It has said itself what kept it from writing all that the first program has printed.
    let has_written = writing.wait()?.success();
    match status.success() {
        false => Err(Ending::Program(code(status)).into()),
        true if has_written => read,
        true => read.and(Err(Ending::Program(1).into())),
    }
}

/// Gives a program what comes through the ring, to its end or the program's.
fn read_into(input: impl Write, mut receiver: Receiver, writing: &mut Child) -> Result<()> {
    if !has_come(&mut receiver, writing)? {
        return Ok(());
    }
    match pump(ByteReader::new(receiver), input) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
            Err(Ending::PeerDied(format!("{error}: the output of the first program may not be whole")).into())
        }
        copied => copied.context("can't copy from the ring"),
    }
}

/// Waits until there is something to read, or an end; false when the process that should write has ended without a word.
fn has_come(receiver: &mut Receiver, writing: &mut Child) -> io::Result<bool> {
    loop {
        let has_ended = writing.try_wait()?.is_some();
        match receiver.recv_timeout(PAUSE) {
            Ok(message) => {
                // It stays in the ring.
                mem::forget(message);
                return Ok(true);
            }
            Err(RecvError::TimedOut) if has_ended => return Ok(false),
            Err(RecvError::TimedOut) => {}
            Err(_) => return Ok(true),
        }
    }
}

/// This process is killed when its starter dies: else the first program would learn of that only when the ring is full.
fn end_with(starter: u32) -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("can't end with who has started this")?;
    if getppid().as_raw().cast_unsigned() != starter {
        bail!("who has started this is gone");
    }
    Ok(())
}

/// Starts the first program, and writes what it prints to the ring.
fn write_output_of(program: &[OsString]) -> Result<()> {
    let ring = io::stdout().as_fd().try_clone_to_owned()?;
    let writer = ByteWriter::new(ringpost::unnamed().from_fd(ring)?.sender()?);
    let mut first = command(program)?.stdout(Stdio::piped()).spawn().with_context(|| about(program))?;
    let output = first.stdout.take().context("the first program has no output")?;
    let copied = pump(output, writer);
    first.wait()?;
    match copied {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        copied => copied.context("can't copy to the ring"),
    }
}

/// Copies what there is as soon as it is there. Both ends are closed then.
fn pump(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn command(program: &[OsString]) -> Result<Command> {
    let [name, arguments @ ..] = program else { bail!("a program has no name") };
    let mut command = Command::new(name);
    command.args(arguments);
    Ok(command)
}

fn about(program: &[OsString]) -> String {
    format!("can't start {}", quoted(&program[0].to_string_lossy()))
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
