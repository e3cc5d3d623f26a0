//! Running the command in processes of its own, on rings of a directory of the test's own.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;

/// A directory for rings, removed with everything in it.
pub struct Rings {
    pub directory: PathBuf,
}

impl Rings {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Relaxed);
        let directory = Path::new("/dev/shm").join(format!("ringpost-cli-{}-{number}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        Self { directory }
    }

    /// A verb with its arguments, separated by blanks. Whoever started the tests may ignore signals, as `nohup` does; the verb does not
    /// begin so.
    pub fn command(&self, line: &str) -> Command {
        let heard = || {
            for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
                // SAFETY: no handler is installed.
                unsafe { signal(number, SigHandler::SigDfl) }?;
            }
            Ok(())
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        // SAFETY: between fork and exec it makes system calls alone.
        unsafe { command.pre_exec(heard) };
        command.args(line.split_whitespace()).arg("--dir").arg(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a verb that reads nothing.
    #[allow(dead_code, reason = "not all tests leave one running")]
    pub fn start(&self, line: &str) -> Running {
        Running(self.command(line).spawn().unwrap())
    }

    /// Starts a verb that reads what the test writes.
    pub fn start_with_input(&self, line: &str) -> (Running, ChildStdin) {
        let mut child = self.command(line).stdin(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        (Running(child), input)
    }

    /// Runs a verb on `input` to its end.
    pub fn run(&self, line: &str, input: &[u8]) -> Output {
        let (running, mut stdin) = self.start_with_input(line);
        thread::scope(|scope| {
            // A verb that ends early leaves some of its input.
            scope.spawn(move || stdin.write_all(input).unwrap_or_default());
            running.finish()
        })
    }

    /// A handle of the test's own on the ring.
    #[allow(dead_code, reason = "not all tests look at the ring")]
    pub fn ring(&self, name: &str) -> ringpost::Ring {
        eventually("the ring is there", || ringpost::builder(name).directory(&self.directory).open().ok())
    }
}

impl Drop for Rings {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A running verb. Killed when the test ends before it.
pub struct Running(Child);

#[allow(dead_code, reason = "not all tests use all of it")]
impl Running {
    pub fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }

    /// What it writes until it ends.
    pub fn finish(mut self) -> Output {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            let errors = self.0.stderr.take();
            let errors = scope.spawn(|| errors.map(|mut errors| errors.read_to_end(&mut stderr).unwrap()));
            if let Some(mut output) = self.0.stdout.take() {
                output.read_to_end(&mut stdout).unwrap();
            }
            errors.join().unwrap();
        });
        Output { status: self.wait(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again. The bound only ends a test that has failed.
#[allow(dead_code, reason = "not all tests wait")]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within a minute: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a verb said on standard error.
pub fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// It ended with this code, and if that is 0, without a word.
#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    let complaint = complaint(output);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert_eq!(complaint.is_empty(), code == 0, "{complaint}");
    assert!(code <= 2 || complaint.starts_with("ringpost: "), "{complaint}");
}
