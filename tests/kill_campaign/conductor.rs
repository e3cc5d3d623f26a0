//! The process that starts the actors, kills them and puts successors in their places.

use super::*;

/// How often a ring is filled while nobody is killed.
const LAPS: u64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Sender { id: u64 },
    Receiver,
}

#[derive(Debug)]
pub struct Actor {
    pub pid: Pid,
    pub role: Role,
    /// It will stop itself.
    pub awaited: bool,
}

pub struct Campaign {
    pub ring: Ring,
    pub many: bool,
    /// Whether each sends many in a row.
    pub in_rows: bool,
    pub ledger: &'static Ledger,
    pub actors: Vec<Actor>,
    pub next_id: u64,
    pub seed: u64,
    pub steps: u64,
    pub kills: u64,
    pub at_points: u64,
    pub resumed: u64,
    /// The sender that dies when all others have gone, until it has.
    last: Option<Pid>,
}

impl Campaign {
    pub fn new(ring: Ring, kind: &str, senders: u64, seed: u64) -> Self {
        let (many, in_rows) = (kind != "one", kind == "rows");
        let ledger = Ledger::new();
        ledger.names_senders.store(many.into(), Relaxed);
        let (actors, counts) = (Vec::new(), 0);
        let mut campaign = Self {
            ring,
            many,
            in_rows,
            ledger,
            actors,
            next_id: 0,
            seed,
            steps: 0,
            kills: counts,
            at_points: counts,
            resumed: counts,
            last: None,
        };
        let roles = [Role::Receiver].into_iter().chain((0..senders).map(|_| Role::Sender { id: 0 }));
        let actors = roles.map(|role| campaign.cast(role)).collect();
        campaign.actors = actors;
        campaign
    }

    pub fn chance(&mut self, limit: u64) -> u64 {
        self.steps += 1;
        scatter(self.seed ^ self.steps << 16) % limit
    }

    /// Somebody for the role. Every other one will stop itself at a named point.
    pub fn cast(&mut self, role: Role) -> Actor {
        let awaited = self.chance(2) == 0;
        let points = if role == Role::Receiver { &OF_RECEIVERS[..] } else { &OF_SENDERS };
        let point = points[self.chance(points.len() as u64) as usize];
        // Often at once: then nothing that comes later hides what a predecessor has left.
        let passes = if self.chance(2) == 0 { 0 } else { self.chance(30) };
        let plan = Plan { point: awaited.then_some(point), passes };
        let (ring, ledger, many, seed) = (&self.ring, self.ledger, self.many, self.seed ^ self.steps);
        let rows = self.in_rows;
        let id = self.next_id;
        let (pid, role) = match role {
            Role::Receiver => (begin(|| act_as_receiver(ring, ledger, seed, plan)), role),
            Role::Sender { .. } if many => {
                (begin(|| act_as_sender::<Many>(ring, ledger, id, rows, plan)), Role::Sender { id })
            }
            Role::Sender { .. } => {
                (begin(|| act_as_sender::<Single>(ring, ledger, id, rows, plan)), Role::Sender { id })
            }
        };
        self.next_id += u64::from(role != Role::Receiver);
        assert!(self.next_id < MOST_SENDERS as u64);
        Actor { pid, role, awaited }
    }

    pub fn run(&mut self, kills: u64) {
        let mut last = Instant::now();
        while self.kills < kills {
            if self.chance(100) == 0 {
                self.watch_them_work();
            } else if let Some(stopped) = self.stopped() {
                self.serve(stopped);
            } else if self.chance(50) == 0 {
                (0..self.actors.len()).for_each(|index| self.end(index));
                (0..self.actors.len()).for_each(|index| self.replace(index));
            } else if let Some(index) = self.anybody() {
                self.after_a_moment();
                self.end(index);
                self.replace(index);
            } else {
                // All will stop themselves.
                assert!(last.elapsed() < STUCK, "nobody gets on\n{}", self.dump());
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            last = Instant::now();
        }
        self.finish();
    }

    /// An actor that has stopped itself.
    pub fn stopped(&mut self) -> Option<usize> {
        match waitpid(None, Some(WaitPidFlag::WUNTRACED | WaitPidFlag::WNOHANG)).unwrap() {
            WaitStatus::StillAlive => None,
            WaitStatus::Signaled(pid, Signal::SIGKILL, _) if self.last == Some(pid) => {
                self.last = None;
                None
            }
            WaitStatus::Stopped(pid, _) => self.actors.iter().position(|actor| actor.pid == pid),
            other => panic!("{other:?}\n{}", self.dump()),
        }
    }

    /// Leaves them alone until the ring was filled and emptied some times: all who wait are woken by each other.
    pub fn watch_them_work(&mut self) {
        let (before, start) = (self.ledger.last.load(Acquire), Instant::now());
        while self.ledger.last.load(Acquire) < before + LAPS * self.ring.info().capacity / 8 {
            assert!(start.elapsed() < STUCK, "nobody gets on\n{}", self.dump());
            match self.stopped() {
                Some(stopped) => self.resume(stopped),
                None => thread::sleep(Duration::from_micros(50)),
            }
        }
    }

    pub fn resume(&mut self, index: usize) {
        kill(self.actors[index].pid, Signal::SIGCONT).unwrap();
        self.actors[index].awaited = false;
        self.resumed += 1;
    }

    /// Kills who has stopped at a named point; or lets it go on after a while, in which nobody takes it for dead.
    pub fn serve(&mut self, index: usize) {
        self.at_points += 1;
        if self.chance(3) != 0 {
            self.end(index);
            return self.replace(index);
        }
        self.after_a_moment();
        if let Role::Sender { id } = self.actors[index].role {
            let account = self.ledger.account(id);
            let (about, received) = (account.about.load(Relaxed), account.received.load(Acquire));
            assert!(received <= about, "sender {id} is stopped\n{}", self.dump());
        }
        self.resume(index);
    }

    /// One of those who will not stop themselves.
    pub fn anybody(&mut self) -> Option<usize> {
        let there = (0..self.actors.len()).filter(|&index| !self.actors[index].awaited).collect::<Vec<_>>();
        let count = there.len() as u64;
        (count > 0).then(|| there[self.chance(count) as usize])
    }

    pub fn after_a_moment(&mut self) {
        let moment = self.chance(12);
        thread::sleep(Duration::from_micros(scatter(self.seed ^ self.steps) % (1 << moment)));
    }

    /// Kills an actor at whatever instruction it is.
    pub fn end(&mut self, index: usize) {
        let pid = self.actors[index].pid;
        kill(pid, Signal::SIGKILL).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => self.kills += 1,
            other => panic!("{other:?}\n{}", self.dump()),
        }
    }

    pub fn replace(&mut self, index: usize) {
        let role = self.actors[index].role;
        self.actors[index] = self.cast(role);
    }

    /// Kills all senders, lets the receivers come to the end, and compares both sides of the ledger.
    pub fn finish(&mut self) {
        for index in 0..self.actors.len() {
            if self.actors[index].role != Role::Receiver {
                self.end(index);
            }
        }
        self.actors.retain(|actor| actor.role == Role::Receiver);
        self.ledger.finishing.store(1, Release);
        self.last = Some(self.one_more_sender_that_dies());
        let start = Instant::now();
        while self.ledger.ended.load(Acquire) == 0 {
            assert!(start.elapsed() < STUCK, "the end is not seen\n{}", self.dump());
            match self.stopped() {
                Some(stopped) => self.serve(stopped),
                None => thread::sleep(Duration::from_micros(50)),
            }
        }
        self.end(0);
        if let Some(last) = self.last.take() {
            kill(last, Signal::SIGKILL).unwrap();
            waitpid(last, None).unwrap();
        }
        self.ledger.finish_noting();
        for id in 0..self.next_id {
            let account = self.ledger.account(id);
            let [about, committed, received] =
                [&account.about, &account.committed, &account.received].map(|count| count.load(Acquire));
            let whole = [committed, about].contains(&received) && about - committed <= BATCH;
            assert!(whole, "sender {id}: {committed} committed, {about} begun, {received} received");
        }
    }

    /// Of the others, the last may have been killed before it came; and the death of the one before it was told, perhaps, to a receiver
    /// that is dead by now. A death is told once.
    fn one_more_sender_that_dies(&self) -> Pid {
        let (ring, many) = (&self.ring, self.many);
        begin(|| {
            if many {
                std::mem::forget(attach_when_free::<Many>(ring));
            } else {
                std::mem::forget(attach_when_free::<Single>(ring));
            }
            raise(Signal::SIGKILL).unwrap();
        })
    }

    pub fn dump(&self) -> String {
        let state = |actor: &Actor| {
            let state = tasks(actor.pid);
            let account = match actor.role {
                Role::Sender { id } => self.ledger.account(id),
                Role::Receiver => self.ledger.account(0),
            };
            let counts =
                [&account.about, &account.committed, &account.received].map(|count| count.load(Relaxed));
            format!("{actor:?} {state}, about to commit, committed, received: {counts:?}\n")
        };
        let actors: String = self.actors.iter().map(state).collect();
        format!("seed {}, {} kills\n{actors}{:#?}", self.seed, self.kills, self.ring.statistics())
    }

    pub fn report(&self, line: &Line) {
        let received = |id| self.ledger.account(id).received.load(Relaxed);
        let messages = (0..self.next_id).map(received).sum();
        let [repeated, borrowed, called_back] =
            [&self.ledger.repeated, &self.ledger.borrowed, &self.ledger.called_back]
                .map(|count| count.load(Relaxed));
        [self.kills, self.at_points, self.resumed, messages, repeated, borrowed, called_back]
            .into_iter()
            .for_each(|n| line.tell(n));
    }
}

/// What each thread of the process does: its name, its state, and the system call in which it is.
fn tasks(pid: Pid) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read =
        |task: &std::fs::DirEntry, what| std::fs::read_to_string(task.path().join(what)).unwrap_or_default();
    let of = |task: std::fs::DirEntry| {
        let status = read(&task, "status");
        let state = status.lines().find(|line| line.starts_with("State")).unwrap_or("gone").to_owned();
        format!("{} {state} in {}", read(&task, "comm").trim(), read(&task, "syscall").trim())
    };
    tasks.map(of).collect::<Vec<_>>().join("; ")
}
