//! How the command ends: the exit codes of `ringpost`.

use std::fmt;
use std::process::ExitCode;

/// Shown under `--help`.
pub const EXIT_CODES: &str = "Exit codes: 0 done, 1 error, 2 usage, 5 peer died";

/// A process at the other end of the ring is gone (code 5).
#[derive(Debug)]
pub struct PeerDied(pub String);

impl fmt::Display for PeerDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PeerDied {}

/// Prints what went wrong, if anything did, and says with which code to exit.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    tell(&format!("{error:#}"));
    ExitCode::from(if error.is::<PeerDied>() { 5 } else { 1 })
}

/// Tells on standard error.
pub fn tell(what: &str) {
    eprintln!("ringpost-bridge: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ending_has_its_code() {
        let died = || anyhow::Error::new(PeerDied("x".into()));
        for (result, code) in
            [(Ok(()), 0), (Err(anyhow::anyhow!("no")), 1), (Err(died().context("while")), 5)]
        {
            assert_eq!(format!("{:?}", exit_code(result)), format!("{:?}", ExitCode::from(code)));
        }
    }
}
