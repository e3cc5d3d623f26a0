//! How the command ends: one place that turns a result into an exit code.

use std::fmt;
use std::process::ExitCode;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, raise, signal, sigprocmask};

/// Shown under `--help`; the codes that the verbs keep to.
pub const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 error, 2 usage, 3 no such channel, 4 time-out, 5 peer died";

/// Endings that are more than "an error, code 1".
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// A process that this one worked with is gone (code 5).
    PeerDied(String),
    /// A signal asked for the end; it is raised again once everything is cleaned up.
    Interrupted(Signal),
    /// The reader of standard output has gone: end quietly, as by SIGPIPE.
    StdoutClosed,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerDied(what) => f.write_str(what),
            Self::Interrupted(signal) => write!(f, "ended by {signal}"),
            Self::StdoutClosed => f.write_str("standard output is closed"),
        }
    }
}

impl std::error::Error for Ending {}

/// Prints what went wrong, if anything did, and says with which code to exit.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    match error.downcast_ref::<Ending>() {
        Some(Ending::StdoutClosed) => die_by(Signal::SIGPIPE),
        Some(Ending::Interrupted(signal)) => die_by(*signal),
        Some(Ending::PeerDied(_)) => {
            eprintln!("ringpost: {error:#}");
            ExitCode::from(5)
        }
        None => {
            eprintln!("ringpost: {error:#}");
            ExitCode::from(1)
        }
    }
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
    fn peer_death_is_code_five_and_other_errors_are_one() {
        let died = anyhow::Error::new(Ending::PeerDied("process 7 is gone".into()));
        assert_eq!(format!("{:?}", exit_code(Err(died))), format!("{:?}", ExitCode::from(5)));
        assert_eq!(
            format!("{:?}", exit_code(Err(anyhow::anyhow!("no")))),
            format!("{:?}", ExitCode::from(1))
        );
        assert_eq!(format!("{:?}", exit_code(Ok(()))), format!("{:?}", ExitCode::SUCCESS));
    }
}
