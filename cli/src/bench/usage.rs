//! What a process has used of the machine: processor time and context switches, by its own count.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};

/// Since the process began, or the difference of two of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time, its own and that of the kernel for it.
    pub cpu_s: f64,
    /// Times that it gave its core up.
    pub waits: f64,
    /// Times that its core was taken away.
    pub preemptions: f64,
    /// Messages that passed meanwhile, where that is known.
    pub messages: f64,
}

impl Usage {
    /// Of the calling process until now; nothing where the kernel does not say.
    pub fn now() -> Self {
        let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Self::default() };
        let time = usage.user_time() + usage.system_time();
        Self {
            cpu_s: time.num_microseconds() as f64 / 1e6,
            waits: usage.voluntary_context_switches() as f64,
            preemptions: usage.involuntary_context_switches() as f64,
            messages: 0.0,
        }
    }

    /// Since `start`, while `messages` passed.
    pub fn since(start: Self, messages: u64) -> Self {
        let now = Self::now();
        Self {
            cpu_s: now.cpu_s - start.cpu_s,
            waits: now.waits - start.waits,
            preemptions: now.preemptions - start.preemptions,
            messages: messages as f64,
        }
    }

    /// Of two processes together; the messages are the same ones.
    pub fn with(self, other: Self) -> Self {
        Self {
            cpu_s: self.cpu_s + other.cpu_s,
            waits: self.waits + other.waits,
            preemptions: self.preemptions + other.preemptions,
            messages: self.messages.max(other.messages),
        }
    }

    /// One of its figures for a million messages; `None` when none passed.
    pub fn per_million(&self, figure: f64) -> Option<f64> {
        (self.messages > 0.0).then(|| figure / self.messages * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_add_up_and_their_messages_are_the_same() {
        let one = Usage { cpu_s: 1.0, waits: 2.0, preemptions: 0.0, messages: 2e6 };
        let other = Usage { cpu_s: 0.5, waits: 4.0, preemptions: 1.0, messages: 0.0 };
        let both = one.with(other);
        assert_eq!(both, Usage { cpu_s: 1.5, waits: 6.0, preemptions: 1.0, messages: 2e6 });
        assert_eq!(both.per_million(both.waits), Some(3.0));
        assert_eq!(Usage::default().per_million(1.0), None);
    }

    #[test]
    fn sleeping_is_counted_as_a_wait() {
        let start = Usage::now();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(Usage::since(start, 1).waits >= 1.0);
    }
}
