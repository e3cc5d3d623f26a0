//! For tests that need a process of their own: a test runs its own executable again, with a filter for
//! itself.

use std::env;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const AGAIN: &str = "RINGPOST_TEST_AGAIN";

/// Whether this process is the one that [`again`] started.
pub(super) fn is_again() -> bool {
    env::var_os(AGAIN).is_some()
}

/// Command that runs `test` of `module` (the caller's `module_path!()`), started by the command `wrapper` if
/// there is one.
pub(super) fn again(wrapper: &[&str], module: &str, test: &str) -> Command {
    let executable = env::current_exe().unwrap();
    let (_crate, module) = module.split_once("::").unwrap();
    let mut command = match wrapper {
        [] => Command::new(executable),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(executable);
            command
        }
    };
    // With one thread the harness would run the test in the main thread.
    command
        .args([&format!("{module}::{test}"), "--exact", "--nocapture", "--test-threads=2"])
        .env(AGAIN, "1");
    command
}

/// Runs it to its end; it must have found its test, and passed.
pub(super) fn run(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Lowers a limit of this process. Only in one that [`again`] started.
pub(super) fn limit(resource: Resource, value: u64) {
    assert!(is_again());
    setrlimit(resource, Rlimit { current: Some(value), ..getrlimit(resource) }).unwrap();
}
