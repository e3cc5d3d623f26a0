//! How much has passed, as `pv` shows it.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shown on standard error when that is a terminal on which no data pass.
pub struct Meter {
    bar: ProgressBar,
    messages: u64,
}

impl Meter {
    /// `data` is where the messages come from or go to.
    pub fn new(data: &impl IsTerminal) -> Self {
        let shown = stderr().is_terminal() && !data.is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(5) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg} messages, {bytes}, {elapsed}, {bytes_per_sec}")
        {
            bar.set_style(style);
        }
        Self { bar, messages: 0 }
    }

    /// So many more messages, of so many bytes together, have passed.
    pub fn add(&mut self, messages: u64, bytes: usize) {
        self.messages += messages;
        if !self.bar.is_hidden() {
            self.bar.set_message(self.messages.to_string());
            self.bar.inc(bytes as u64);
        }
    }

    /// Messages that have passed.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// How many that were, for people.
    pub fn so_far(&self) -> String {
        format!("after {} message{}", self.messages, if self.messages == 1 { "" } else { "s" })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.abandon();
    }
}
