//! Peers that live inside one process: both ends are threads of the leader, on the cores of the two processes, while the
//! follower sleeps.

pub mod values;

use std::{
    fs::File,
    io::{Read, Write},
    mem::take,
};

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::{Pid, pipe},
};
use ringpost_cli::bench::{
    link::{Figures, Link, Mechanism, Pair, Setup},
    memory::Shared,
    shape::Measure,
    station::{Bench, Board, Role, Station, Turns},
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
    pub fn run<L: Link + Sync>(
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
            make().and_then(|pair| between(&pair, usize::from_ne_bytes(word), measure, setup, bench));
        (&self.over.1).write_all(&[0])?;
        bench.station.agree(figures)
    }
}

fn between<L: Link + Sync>(
    pair: &Pair<L>,
    core: usize,
    measure: Measure,
    setup: &Setup,
    bench: &mut Bench<'_>,
) -> Result<Option<Figures>> {
    let board = Shared::<Board>::zeroed()?;
    let side = |role, stamps| Bench {
        station: Station::new(&board, role, Turns::default()),
        window: bench.window,
        budget: bench.budget,
        stamps,
        usage: Default::default(),
    };
    let mut leader = side(Role::Leader, take(&mut bench.stamps));
    std::thread::scope(|scope| {
        let follow = || -> Result<Option<Figures>> {
            let mut cores = CpuSet::new();
            cores.set(core)?;
            sched_setaffinity(Pid::from_raw(0), &cores).context("cannot pin the second thread")?;
            pair.run(measure, setup, &mut side(Role::Follower, Vec::new()))
        };
        let follower = scope.spawn(follow);
        let figures = pair.run(measure, setup, &mut leader);
        bench.usage = leader.usage;
        let figures = figures?;
        follower.join().expect("the second thread does not panic")?;
        Ok(figures)
    })
}
