//! One of the two measuring processes: forked once, it runs every sample until the supervisor is gone.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::socket::{MsgFlags, recv, send};
use nix::unistd::{Pid, getppid};
use serde::{Deserialize, Serialize};

use super::anchor;
use super::cores;
use super::link::{Figures, Setup, Unavailable};
use super::mechanism::sysv;
use super::memory::Shared;
use super::payload::{Input, Window};
use super::plan::{Made, Plan};
use super::shape::{Variant, Wait};
use super::station::{Bench, Board, Role, Station, Turns};
use super::usage::Usage;

/// What the supervisor asks for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Index into the plan's cells.
    pub cell: usize,
    /// Which piece of the input: counts the samples.
    pub turn: u64,
    /// Round trips (or messages) of a sample in which system calls are counted, and nothing is timed.
    pub counted: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// The leader's anchors and figures; the follower's are 0 and `None`.
    Measured {
        /// One way of the ping-pong before the sample.
        before_ns: f64,
        /// And after it.
        after_ns: f64,
        /// In the leader.
        figures: Option<Figures>,
        /// Of the process that reports; of both when the supervisor has them.
        usage: Usage,
    },
    /// The mechanism could not be set up; the reason is empty when it is the other side's.
    Unavailable(String),
    /// Verification failed, or a mechanism broke down in the middle. The run is over.
    Failed(String),
}

/// What a worker is born with.
pub struct Birth<'a> {
    /// Which of the two it is.
    pub role: Role,
    /// Its end of the line to the supervisor.
    pub line: OwnedFd,
    /// The supervisor.
    pub parent: Pid,
    /// What is sent.
    pub input: &'a Input,
    /// What is run.
    pub plan: &'a Plan,
    /// The mechanisms.
    pub made: &'a Made,
    /// The page that both share.
    pub board: &'a Shared<Board>,
    /// Cores to run on when not pinned.
    pub usable: &'a [usize],
}

/// Longest order or report.
pub const LONGEST: usize = 16 << 10;

/// Serves orders until the supervisor hangs up.
pub fn serve(birth: &Birth<'_>) -> Result<()> {
    follow_parent_into_death(birth.parent)?;
    let mut turns = Turns::default();
    let mut window = Window::default();
    let mut stamps = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        let got = recv(birth.line.as_raw_fd(), &mut buffer, MsgFlags::empty()).context("no orders")?;
        if got == 0 {
            return Ok(());
        }
        let order: Order = serde_json::from_slice(&buffer[..got])?;
        window.load(birth.input, order.turn, birth.plan.cells[order.cell].size.max(8));
        let mut bench = Bench {
            station: Station::new(birth.board, birth.role, turns),
            window: &window,
            budget: birth.plan.budget,
            stamps: std::mem::take(&mut stamps),
            usage: Usage::default(),
            counted: order.counted,
        };
        let report = sample(birth, &order, &mut bench).unwrap_or_else(|error| match error.downcast() {
            Ok(Unavailable(reason)) => Report::Unavailable(reason),
            Err(error) => Report::Failed(format!("{error:#}")),
        });
        stamps = bench.stamps;
        turns = bench.station.turns;
        let report = serde_json::to_vec(&report)?;
        send(birth.line.as_raw_fd(), &report, MsgFlags::MSG_NOSIGNAL).context("cannot report")?;
    }
}

fn sample(birth: &Birth<'_>, order: &Order, bench: &mut Bench<'_>) -> Result<Report> {
    let cell = &birth.plan.cells[order.cell];
    let cores = birth.plan.cores(cell);
    let core = if bench.leads() { cores.leader } else { cores.follower };
    bench.station.agree(cores::pin(core, birth.usable))?;
    let Some(Ok(mechanism)) = &birth.made[cell.entry] else { panic!("ordered to run what was not made") };
    let setup = Setup {
        size: cell.size,
        variant: cell.offer.variant.unwrap_or(Variant::InPlace),
        wait: cell.offer.wait.unwrap_or(Wait::Spin),
    };
    let kind = if cores.same() { anchor::Kind::Futex } else { anchor::Kind::Line };
    let anchor = |bench: &mut Bench<'_>| match bench.counted {
        Some(_) => Ok(0.0),
        None => anchor::measure(bench, kind),
    };
    let before_ns = anchor(bench)?;
    let name = super::registry::entry(cell.entry).name;
    let figures = mechanism
        .run(cell.offer.measure, &setup, bench)
        .with_context(|| format!("{name} at {} bytes", cell.size))?;
    let usage = bench.usage;
    let after_ns = anchor(bench)?;
    Ok(Report::Measured { before_ns, after_ns, figures, usage })
}

/// Ends this process when the supervisor ends, in whatever way, and takes along what would outlive both.
fn follow_parent_into_death(parent: Pid) -> Result<()> {
    extern "C" fn clean_up_and_leave(_: libc::c_int) {
        sysv::remove_queues();
        // SAFETY: ends the process at once; allowed in a signal handler.
        unsafe { libc::_exit(1) };
    }
    // SAFETY: the handler only makes system calls.
    unsafe { signal(Signal::SIGTERM, SigHandler::Handler(clean_up_and_leave)) }?;
    set_pdeathsig(Signal::SIGTERM).context("prctl(PR_SET_PDEATHSIG)")?;
    let mut terminate = SigSet::empty();
    terminate.add(Signal::SIGTERM);
    terminate.thread_unblock().context("cannot unblock SIGTERM")?;
    // It may have died before the call above.
    anyhow::ensure!(getppid() == parent, "the supervisor is gone");
    Ok(())
}

/// The longest that a sample may take before it counts as stuck.
pub fn stuck_after(budget: Duration) -> Duration {
    budget * 20 + Duration::from_secs(20)
}
