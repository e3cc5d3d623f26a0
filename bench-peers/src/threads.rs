//! Peers that live inside one process: both ends are threads of the leader, on the cores of the two processes, while the
//! follower sleeps.

pub mod values;

use std::{
    fs::File,
    io::{Read, Write},
    mem::take,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::{Pid, pipe},
};
use ringpost_cli::bench::{
    link::{Figures, Link, Mechanism, Pair, Setup, Unavailable},
    memory::Shared,
    shape::Measure,
    station::{Bench, Board, Role, Station, Turns},
    usage::Usage,
};

/// How the follower says where it runs, and how it is woken when the sample is over.
pub struct Rendezvous {
    cores: (File, File),
    over: (File, File),
}

impl Rendezvous {
    /// Before the processes are forked.
    pub fn new() -> Result<Self> {
        let pair = || -> Result<(File, File)> {
            let (read, write) = pipe().context("cannot make a pipe")?;
            Ok((read.into(), write.into()))
        };
        Ok(Self { cores: pair()?, over: pair()? })
    }

    /// Runs a sample of the `pair` that `make` gives between two threads of the leader.
    pub fn run<L: Link + Send + Sync + 'static>(
        &self,
        measure: Measure,
        setup: &Setup,
        bench: &mut Bench<'_>,
        make: impl FnOnce() -> Result<Pair<L>>,
    ) -> Result<Option<Figures>> {
        let mut word = [0; 8];
        if !bench.leads() {
            (&self.cores.1).write_all(&sched_getcpu()?.to_ne_bytes())?;
            (&self.over.0).read_exact(&mut word[..1])?;
            bench.station.agree(Ok(()))?;
            return Ok(None);
        }
        (&self.cores.0).read_exact(&mut word)?;
        let figures =
            make().and_then(|pair| between(pair, usize::from_ne_bytes(word), measure, setup, bench));
        (&self.over.1).write_all(&[0])?;
        match figures {
            // The sample broke off in the middle: that ends the run.
            Err(error) if !error.is::<Unavailable>() => Err(error),
            figures => bench.station.agree(figures),
        }
    }
}

/// What a thread has to say of its side: what it measured, what it used, and its time stamps to be used again.
type Told = (Result<Option<Figures>>, Usage, Vec<u64>);

/// Runs both sides. When one fails the other may wait for it for ever: then it is left behind, and ends with the process.
fn between<L: Link + Send + Sync + 'static>(
    pair: Pair<L>,
    core: usize,
    measure: Measure,
    setup: &Setup,
    bench: &mut Bench<'_>,
) -> Result<Option<Figures>> {
    let shared = Arc::new((pair, Shared::<Board>::zeroed()?, bench.window.clone()));
    let (tell, told) = mpsc::channel();
    for role in [Role::Leader, Role::Follower] {
        let (shared, tell, setup) = (shared.clone(), tell.clone(), *setup);
        let (budget, counted) = (bench.budget, bench.counted);
        let stamps = if role == Role::Leader { take(&mut bench.stamps) } else { Vec::new() };
        let side = move || -> Told {
            let (pair, board, window) = &*shared;
            let station = Station::new(board, role, Turns::default());
            let mut bench = Bench { station, window, budget, stamps, usage: Usage::default(), counted };
            let pinned = if role == Role::Follower { pin(core) } else { Ok(()) };
            let run = AssertUnwindSafe(|| pinned.and_then(|()| pair.run(measure, &setup, &mut bench)));
            let figures = catch_unwind(run).unwrap_or_else(|_| bail!("a side of the sample panicked"));
            (figures, bench.usage, bench.stamps)
        };
        thread::spawn(move || tell.send((role, side())));
    }
    let mut figures = Ok(None);
    for _ in 0..2 {
        let (role, (result, usage, stamps)) = told.recv()?;
        match result {
            // Both have learnt of it, and the one that says why comes first.
            Err(error) if error.is::<Unavailable>() => {
                let silent = figures.as_ref().is_ok_and(Option::is_none) || error.to_string() != "";
                if silent {
                    figures = Err(error);
                }
            }
            Err(error) => return Err(error),
            Ok(found) if role == Role::Leader => figures = Ok(found),
            Ok(_) => {}
        }
        if role == Role::Leader {
            (bench.usage, bench.stamps) = (usage, stamps);
        }
    }
    figures
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).context("cannot pin the second thread")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringpost_cli::bench::{
        link::{RecvHalf, SendHalf},
        payload::{Input, Window},
        shape::{Variant, Wait},
    };

    use super::*;

    /// It never carries anything, and one of its ends says so.
    struct Broken(Role);

    /// An end of it: one that fails, or one that waits for ever.
    struct End(bool);

    impl End {
        fn end(&self) -> Result<()> {
            anyhow::ensure!(!self.0, "it broke");
            loop {
                thread::park();
            }
        }
    }

    impl SendHalf for End {
        fn send(&mut self, _: usize, _: impl FnOnce(&mut [u8])) -> Result<()> {
            self.end()
        }
    }

    impl RecvHalf for End {
        fn recv(&mut self, _: usize, _: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
            self.end()
        }
    }

    impl Link for Broken {
        type Sender<'a> = End;
        type Receiver<'a> = End;

        fn sender(&self, _: &Setup) -> Result<End> {
            Ok(End(self.0 == Role::Follower))
        }

        fn receiver(&self, _: &Setup) -> Result<End> {
            Ok(End(self.0 == Role::Leader))
        }
    }

    #[test]
    fn when_one_side_fails_nobody_waits_for_the_other() {
        let mut window = Window::default();
        window.load(&Input::of(&[1; 64]), 0, 8);
        for fails in [Role::Leader, Role::Follower] {
            let board = Shared::<Board>::zeroed().unwrap();
            let mut bench = Bench {
                station: Station::new(&board, Role::Leader, Turns::default()),
                window: &window,
                budget: Duration::from_millis(1),
                stamps: Vec::new(),
                usage: Usage::default(),
                counted: None,
            };
            let setup = Setup { size: 8, variant: Variant::Copy, wait: Wait::Sleep };
            let pair = Pair { there: Broken(fails), back: Broken(fails) };
            let error = between(pair, 0, Measure::Throughput, &setup, &mut bench).unwrap_err();
            assert_eq!(error.to_string(), "it broke");
        }
    }
}
