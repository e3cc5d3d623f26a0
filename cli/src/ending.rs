//! How the command ends: one place that turns a result into an exit code.

use std::fmt;
use std::process::ExitCode;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask};

use crate::output::visible;

/// Shown under `--help`; the codes that the verbs keep to.
pub const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 error, 2 usage, 3 no such channel, 4 time-out, 5 peer died";

/// Endings that are more than "an error, code 1".
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// There is no ring of that name (code 3).
    NoSuchChannel(String),
    /// What was waited for did not come in time (code 4).
    TimedOut(String),
    /// A process that this one worked with is gone (code 5).
    PeerDied(String),
    /// A signal asked for the end; it is raised again once everything is cleaned up.
    Interrupted(Signal),
    /// A program that this one has started ended with this code; it has said itself why.
    Program(u8),
    /// The reader of standard output has gone: end quietly, as by SIGPIPE.
    StdoutClosed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchChannel(what) | Self::TimedOut(what) | Self::PeerDied(what) => f.write_str(what),
            Self::Interrupted(signal) => write!(f, "ended by {signal}"),
            Self::Program(code) => write!(f, "the program ended with code {code}"),
            Self::StdoutClosed => f.write_str("standard output is closed"),
        }
    }
}

impl std::error::Error for Ending {}

/// Prints what went wrong, if anything did, and says with which code to exit.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let code = match error.downcast_ref::<Ending>() {
        Some(Ending::StdoutClosed) => return die_by(Signal::SIGPIPE),
        Some(Ending::Interrupted(signal)) => return die_by(*signal),
        Some(Ending::Program(code)) => return ExitCode::from(*code),
        Some(Ending::NoSuchChannel(_)) => 3,
        Some(Ending::TimedOut(_)) => 4,
        Some(Ending::PeerDied(_)) => 5,
        None => 1,
    };
    complain(&error);
    ExitCode::from(code)
}

/// Goes on, and ends with this error; one that was to end it before is told now.
pub fn fail_at_the_end(result: &mut anyhow::Result<()>, error: anyhow::Error) {
    if let Err(earlier) = std::mem::replace(result, Err(error)) {
        complain(&earlier);
    }
}

/// Tells on standard error what went wrong.
fn complain(error: &anyhow::Error) {
    eprintln!("ringpost: {}", visible(&format!("{error:#}")));
}

/// Lets the shell see that a signal ended this process.
fn die_by(reason: Signal) -> ExitCode {
    let mut only = SigSet::empty();
    only.add(reason);
    // SAFETY: the default action replaces the handler; no code of ours runs in a handler afterwards.
    let _ = unsafe { signal(reason, SigHandler::SigDfl) };
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), None);
    let _ = raise(reason);
    ExitCode::from(1) // only when the signal could not be raised
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_has_its_code() {
        let text = || "x".to_string();
        let expected = [
            (Ok(()), 0),
            (Err(anyhow::anyhow!("no")), 1),
            (Err(Ending::NoSuchChannel(text()).into()), 3),
            (Err(Ending::TimedOut(text()).into()), 4),
            (Err(anyhow::Error::new(Ending::PeerDied(text())).context("while sending")), 5),
        ];
        for (result, code) in expected {
            assert_eq!(format!("{:?}", exit_code(result)), format!("{:?}", ExitCode::from(code)));
        }
    }
}
