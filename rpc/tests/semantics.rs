//! What a call is worth when its server is killed at each of its steps.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "semantics/state.rs"]
mod state;

use common::{
    Child, FAR, Line,
    fork::{assert_in_fork, leave_an_echo},
    long,
};
use ringpost_rpc::{
    Binding, CallError, Context, Description, Done, Durable, DurableError, Event, Refusal, Semantics, Server,
};
use rustix::process::{Signal, getpid, kill_process};
use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::process::ExitStatusExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// Does something once for each call, and can be asked how often it did.
#[ringpost_rpc::interface]
trait Effects {
    /// Has the effect `which`; gives how many effects there were, and this process.
    fn have(&mut self, which: u8) -> u64;
    /// Fails after it has had it.
    fn have_and_panic(&mut self, which: u8);
    fn count(&self, which: u8) -> u64;
    fn block(&self, context: &Context, bytes: u64) -> Vec<u8>;
    /// Has the effect, and gives so many bytes.
    fn have_and_block(&mut self, which: u8, bytes: u64) -> Vec<u8>;
}

/// The steps of a call at which its server is killed, in their order.
const STEPS: [&str; 7] =
    ["arrived", "received", "before-effect", "after-effect", "executed", "committed", "answered"];

/// Where this server dies: at a step of the call with this effect. Once, because its successor finds the file.
#[derive(Clone)]
struct Death {
    step: String,
    which: u8,
    /// The call that it is about has begun.
    begun: Arc<AtomicBool>,
    done: PathBuf,
}

impl Death {
    fn of_environment(directory: &Path) -> Option<Self> {
        let given = env::var("RPC_TEST_DEATH").ok()?;
        let (step, which) = given.split_once(':').unwrap();
        let done = directory.join("died");
        let death = Self {
            step: step.into(),
            which: which.parse().unwrap(),
            begun: Arc::default(),
            done: done.clone(),
        };
        (!done.exists()).then_some(death)
    }

    fn at(&self, step: &str) {
        if self.step == step {
            fs::write(&self.done, "").unwrap();
            kill_process(getpid(), Signal::KILL).unwrap();
            thread::park();
        }
    }
}

/// Steps before the method can't know what is asked for: they count calls.
fn observe(death: Option<Death>) -> impl Fn(&Event<'_>) + Send + Sync + 'static {
    let arrived = AtomicU32::new(0);
    move |event| {
        let Some(death) = &death else { return };
        if matches!(event, Event::Arrived) && arrived.fetch_add(1, Relaxed) + 1 == death.which.into() {
            death.begun.store(true, Relaxed);
        }
        if death.begun.load(Relaxed) {
            match event {
                Event::Arrived => death.at("arrived"),
                Event::Received => death.at("received"),
                Event::Executed => death.at("executed"),
                Event::Committed => death.at("committed"),
                Event::Answered => death.at("answered"),
                _ => {}
            }
        }
    }
}

/// Effects that outlive the server: bytes at the end of a file.
#[derive(Clone)]
struct InFile {
    file: PathBuf,
    death: Option<Death>,
}

impl Effects for InFile {
    fn have(&mut self, which: u8) -> u64 {
        let dies = self.death.as_ref().filter(|death| death.which == which);
        dies.inspect(|death| death.at("before-effect"));
        OpenOptions::new().create(true).append(true).open(&self.file).unwrap().write_all(&[which]).unwrap();
        dies.inspect(|death| death.at("after-effect"));
        fs::read(&self.file).unwrap().len() as u64
    }

    fn have_and_panic(&mut self, _: u8) {
        panic!("on purpose")
    }

    fn count(&self, which: u8) -> u64 {
        let bytes = fs::read(&self.file).unwrap_or_default();
        bytes.iter().filter(|&&byte| byte == which).count() as u64
    }

    fn block(&self, _: &Context, bytes: u64) -> Vec<u8> {
        vec![1; bytes as usize]
    }

    fn have_and_block(&mut self, which: u8, bytes: u64) -> Vec<u8> {
        self.have(which);
        vec![1; bytes as usize]
    }
}

/// Effects that are the state.
#[derive(TryFromBytes, IntoBytes, Immutable, Clone, Default)]
#[repr(C)]
struct InState {
    all: u64,
    each: [u64; 16],
}

impl Effects for InState {
    fn have(&mut self, which: u8) -> u64 {
        let death = death().filter(|death| death.which == which);
        death.inspect(|death| death.at("before-effect"));
        self.all += 1;
        self.each[usize::from(which)] += 1;
        death.inspect(|death| death.at("after-effect"));
        self.all
    }

    fn have_and_panic(&mut self, which: u8) {
        self.each[usize::from(which)] += 1;
        panic!("on purpose")
    }

    fn count(&self, which: u8) -> u64 {
        self.each[usize::from(which)]
    }

    fn block(&self, _: &Context, bytes: u64) -> Vec<u8> {
        vec![1; bytes as usize]
    }

    fn have_and_block(&mut self, which: u8, bytes: u64) -> Vec<u8> {
        self.have(which);
        vec![1; bytes as usize]
    }
}

/// That of this process: state is plain old data and can't hold it.
fn death() -> Option<&'static Death> {
    static DEATH: std::sync::OnceLock<Option<Death>> = std::sync::OnceLock::new();
    DEATH.get_or_init(|| Death::of_environment(Path::new(&env::var_os("RPC_TEST_DIRECTORY")?))).as_ref()
}

#[test]
fn child_process() {
    common::play_role(act);
}

fn act(words: &[&str], line: Line) {
    let [kind, directory] = *words else { panic!("no such role: {words:?}") };
    let directory = Path::new(directory);
    let state = || Durable::open::<EffectsInterface>(directory.join("state"), &InState::default());
    match kind {
        "volatile" | "durable" | "forgetful" | "narrow" | "forking" => {
            let longest = if kind == "narrow" { 256 } else { 4096 };
            let builder =
                ringpost::unnamed().capacity(1 << 16).longest_message(longest).handshake_timeout(FAR);
            let server = Server::on(builder.listen(directory.join("socket")).unwrap());
            let server = server.observe(observe(death().cloned()));
            if kind == "forking" {
                let state = state().unwrap();
                leave_an_echo(&line);
                line.tell(0);
                server.serve_exactly_once::<EffectsServer<_>>(state);
            }
            line.tell(0);
            match kind {
                "durable" | "narrow" => server.serve_exactly_once::<EffectsServer<_>>(state().unwrap()),
                "forgetful" => {
                    let state = state().unwrap().forget_after(Duration::ZERO);
                    server.serve_exactly_once::<EffectsServer<_>>(state)
                }
                _ => server.serve(EffectsServer(InFile {
                    file: directory.join("effects"),
                    death: death().cloned(),
                })),
            }
        }
        "open" => line.tell(matches!(state(), Err(DurableError::InUse)).into()),
        // Dies with calls that nobody says goodbye for.
        "client" => {
            let binding = Binding::path(directory.join("socket")).semantics(Semantics::ExactlyOnce);
            let mut client = EffectsClient::bind(binding).unwrap();
            client.have(1).unwrap();
            line.tell(0);
            line.hear();
        }
        // Its child can't serve, and takes nothing away from it when it drops what it has inherited.
        "inherited" => {
            let server = Server::on(ringpost::listen(directory.join("socket")).unwrap());
            let mut opened = state().ok();
            assert_in_fork(|| {
                let inherited = opened.take().unwrap();
                let serve = || server.serve_exactly_once::<EffectsServer<_>>(inherited);
                catch_unwind(AssertUnwindSafe(serve)).is_err()
            });
            assert!(matches!(state(), Err(DurableError::InUse)));
            line.tell(0);
            line.hear();
        }
        _ => panic!("no such role: {words:?}"),
    }
}

/// A directory with the server's socket, its effects or its state; gone with this value.
struct World(PathBuf);

impl World {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ringpost-rpc-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
        let directory = Path::new("/dev/shm").join(name);
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    fn start(&self, kind: &str, death: Option<(&str, u8)>) -> Child {
        let server = Child::start_with(&format!("{kind} {}", self.0.display()), |command| {
            command.env("RPC_TEST_DIRECTORY", &self.0);
            match death {
                Some((step, which)) => command.env("RPC_TEST_DEATH", format!("{step}:{which}")),
                None => command,
            }
        });
        assert_eq!(server.hear(), 0);
        server
    }

    fn bind(&self, semantics: Semantics) -> EffectsClient {
        EffectsClient::bind(Binding::path(self.0.join("socket")).semantics(semantics)).unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Calls of each run, of which the one in the middle costs the server its life.
const CALLS: u8 = 5;
const FATAL: u8 = 3;

/// What became of each call, and how often each effect was had.
type Run = Vec<(Result<u64, CallError>, u64)>;

/// Calls a server that is killed at a step of the fatal call, and that is started again as soon as it is dead.
fn run(kind: &str, semantics: Semantics, step: &'static str) -> Run {
    let world = World::new();
    let mut server = world.start(kind, Some((step, FATAL)));
    let mut client = world.bind(semantics);
    let session = client.client.session();
    let mortal = kind == "durable" || step != "committed";
    // A child dies with the thread that has started it: so the calls are made in another.
    let (mut results, _server): (Vec<_>, _) = thread::scope(|scope| {
        let calls = scope.spawn(|| (1..=FATAL).map(|which| client.have(which)).collect());
        if mortal {
            assert_eq!(server.end().signal(), Some(Signal::KILL.as_raw()), "at {step}");
            server = world.start(kind, None);
        }
        (calls.join().unwrap(), server)
    });
    results.extend((FATAL + 1..=CALLS).map(|which| client.have(which)));
    assert_eq!(client.client.session(), session);
    let mut judge = world.bind(semantics);
    (1..).zip(results).map(|(which, result)| (result, judge.count(which).unwrap())).collect()
}

fn rounds() -> u32 {
    if long() { 50 } else { 1 }
}

#[test]
fn at_most_once_is_never_twice_wherever_the_server_is_killed() {
    for step in (0..rounds()).flat_map(|_| STEPS) {
        let run = run("volatile", Semantics::AtMostOnce, step);
        let effects = run[usize::from(FATAL) - 1].1;
        let expected = match step {
            "arrived" | "received" | "before-effect" => 0,
            _ => 1,
        };
        assert_eq!(effects, expected, "at {step}: {run:?}");
        for (result, effects) in &run {
            match result {
                Ok(_) => assert_eq!(*effects, 1, "at {step}: {run:?}"),
                Err(CallError::Lost { done: Done::Perhaps }) => assert!(*effects <= 1, "at {step}: {run:?}"),
                other => panic!("at {step}: {other:?}"),
            }
        }
        if !["committed", "answered"].contains(&step) {
            assert!(run[usize::from(FATAL) - 1].0.is_err(), "at {step}: {run:?}");
        }
    }
}

#[test]
fn at_least_once_is_always_done_wherever_the_server_is_killed() {
    for step in (0..rounds()).flat_map(|_| STEPS) {
        let run = run("volatile", Semantics::AtLeastOnce, step);
        for (which, (result, effects)) in (1..).zip(&run) {
            let expected = match step {
                "after-effect" | "executed" if which == FATAL => 2,
                _ => 1,
            };
            assert!(result.is_ok(), "at {step}: {run:?}");
            assert_eq!(*effects, expected, "at {step}: {run:?}");
        }
    }
}

#[test]
fn exactly_once_is_once_wherever_the_server_is_killed() {
    for step in (0..rounds()).flat_map(|_| STEPS) {
        let run = run("durable", Semantics::ExactlyOnce, step);
        for (which, (result, effects)) in (1u64..).zip(&run) {
            assert_eq!(*result.as_ref().unwrap(), which, "at {step}: {run:?}");
            assert_eq!(*effects, 1, "at {step}: {run:?}");
        }
    }
}

#[test]
fn a_panic_leaves_nothing_in_a_durable_state() {
    let world = World::new();
    let _server = world.start("durable", None);
    let mut client = world.bind(Semantics::ExactlyOnce);
    assert_eq!(client.have(1).unwrap(), 1);
    assert!(matches!(client.have_and_panic(2), Err(CallError::Refused(Refusal::Panicked))));
    assert_eq!((client.count(1).unwrap(), client.count(2).unwrap()), (1, 0));
    assert_eq!(client.have(2).unwrap(), 2);
}

#[test]
fn an_answer_that_can_not_be_remembered_is_refused() {
    let world = World::new();
    let _server = world.start("durable", None);
    let mut client = world.bind(Semantics::ExactlyOnce);
    assert_eq!(client.block(1000).unwrap().len(), 1000);
    assert!(matches!(client.block(1024), Err(CallError::Refused(Refusal::AnswerTooLong))));
}

#[test]
fn a_call_whose_answer_is_too_long_has_done_nothing() {
    // Too long for what is remembered, and for the link.
    for (kind, bytes) in [("durable", 1024), ("narrow", 250)] {
        let world = World::new();
        let mut server = world.start(kind, None);
        let mut client = world.bind(Semantics::ExactlyOnce);
        assert_eq!(client.have(1).unwrap(), 1);
        let error = client.have_and_block(2, bytes).unwrap_err();
        assert!(matches!(error, CallError::Refused(Refusal::AnswerTooLong)), "{kind}: {error}");
        assert_eq!(client.count(2).unwrap(), 0, "{kind}");
        assert_eq!(client.have_and_block(3, 100).unwrap().len(), 100);
        server.kill();
        let _successor = world.start(kind, None);
        assert_eq!((client.count(2).unwrap(), client.have(4).unwrap()), (0, 3), "{kind}");
    }
}

const HELLO: u16 = 0xff00;
const WELCOME: u16 = 0xff02;
const AGAIN: u16 = 0xff06;
/// What is said of a call when one of its session was answered before.
const LONG_AGO: u64 = u64::MAX;
/// The answer of a server that has forgotten.
const FORGOTTEN: u16 = 9;

/// A session of exactly once by hand: its first call is that for the effect. What is said of it before, and how it was answered.
fn call_by_hand(world: &World, session: u128, again: Option<[u64; 2]>, which: u8) -> u16 {
    let mut link = ringpost::connect_duplex(world.0.join("socket")).unwrap();
    let interface = Description::of::<EffectsInterface>().hash().to_ne_bytes();
    let exactly_once = (Semantics::ExactlyOnce as u32).to_ne_bytes();
    let hello = [&1u32.to_ne_bytes()[..], &exactly_once, &interface, &session.to_ne_bytes()].concat();
    link.sender.send_kind(HELLO, &hello).unwrap();
    assert_eq!(link.recv().unwrap().kind(), WELCOME);
    if let Some(again) = again {
        link.sender.send_kind(AGAIN, &again.map(u64::to_ne_bytes).concat()).unwrap();
    }
    let call = [&[1u64, 0, 0].map(u64::to_ne_bytes).concat()[..], &[which]].concat();
    link.sender.send_kind(0, &call).unwrap();
    link.recv().unwrap().kind()
}

/// As many sessions as are remembered, whose goodbye was lost; this process lives.
fn strand(world: &World) {
    (1..=256).for_each(|session| assert_eq!(call_by_hand(world, session, None, 5), 0));
}

#[test]
fn a_session_whose_goodbye_is_lost_gives_its_place_up_after_a_time_and_not_before() {
    let (patient, forgetful) = (World::new(), World::new());
    let _servers = [patient.start("durable", None), forgetful.start("forgetful", None)];
    let of_both = [&patient, &forgetful].map(|world| {
        strand(world);
        world.bind(Semantics::ExactlyOnce)
    });
    let [mut waits, mut more] = of_both;
    assert!(matches!(waits.have(3), Err(CallError::Refused(Refusal::TooManySessions))));
    let start = Instant::now();
    // The server notices the end of each link in its own time.
    while let Err(error) = more.have(3) {
        assert!(matches!(error, CallError::Refused(Refusal::TooManySessions)), "{error}");
        assert!(start.elapsed() < FAR, "none was forgotten");
    }
    assert_eq!((more.count(3).unwrap(), more.count(5).unwrap()), (1, 256));
    // Those that come back within the time are known: their call is not done again.
    assert_eq!(call_by_hand(&patient, 7, Some([1, LONG_AGO]), 5), 0);
    drop(waits);
}

#[test]
fn a_repeated_call_of_a_session_that_may_be_forgotten_is_not_done() {
    let (patient, forgetful) = (World::new(), World::new());
    let _servers = [patient.start("durable", None), forgetful.start("forgetful", None)];
    let mut judges = [&patient, &forgetful].map(|world| world.bind(Semantics::ExactlyOnce));
    // It had an answer before, so it must have been forgotten.
    assert_eq!(call_by_hand(&patient, 1, Some([1, LONG_AGO]), 2), FORGOTTEN);
    // It was sent so short a time ago that it would be known if it had been done.
    assert_eq!(call_by_hand(&patient, 2, Some([1, 0]), 2), 0);
    assert_eq!(call_by_hand(&forgetful, 1, Some([1, 0]), 2), FORGOTTEN);
    // What is said of another call is not said of this one.
    assert_eq!(call_by_hand(&forgetful, 2, Some([9, LONG_AGO]), 2), 0);
    assert_eq!(judges.each_mut().map(|judge| judge.count(2).unwrap()), [1, 1]);
}

/// A server in PID and mount namespaces of its own, whose `/proc` shows no other process. `None` where the system forbids that.
fn start_inside(world: &World) -> Option<Child> {
    let map = format!("0 {} 1", rustix::process::geteuid().as_raw());
    let enter = move || {
        let fail = || Err(std::io::Error::last_os_error());
        let spaces = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        // SAFETY: between fork and exec there is one thread; the call changes this process alone.
        if unsafe { libc::unshare(spaces) } != 0 {
            return fail();
        }
        fs::write("/proc/self/uid_map", &map)?;
        // SAFETY: both processes go on with system calls only.
        match unsafe { libc::fork() } {
            0 => {
                let proc = c"proc".as_ptr();
                // SAFETY: strings that live for ever; the mount is of this namespace alone.
                let mounted = unsafe { libc::mount(proc, c"/proc".as_ptr(), proc, 0, std::ptr::null()) };
                if mounted == 0 { Ok(()) } else { fail() }
            }
            // SAFETY: closes what the child alone is to have, waits for it, and ends.
            child => unsafe {
                libc::close_range(0, u32::MAX, 0);
                libc::waitpid(child, std::ptr::null_mut(), 0);
                libc::_exit(0)
            },
        }
    };
    // SAFETY: `enter` makes system calls, and takes no lock that another thread could have held.
    let child = Child::try_start_with(&format!("durable {}", world.0.display()), |command| unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, enter)
    });
    let child = child.map_err(|error| eprintln!("not tested, no user namespaces here: {error}")).ok()?;
    assert_eq!(child.hear(), 0);
    Some(child)
}

#[test]
fn a_server_that_does_not_see_the_processes_of_its_sessions_takes_none_for_dead() {
    let world = World::new();
    let mut server = world.start("durable", None);
    strand(&world);
    server.kill();
    let Some(inside) = start_inside(&world) else { return };
    let mut client = world.bind(Semantics::ExactlyOnce);
    let error = client.have(1).unwrap_err();
    assert!(matches!(error, CallError::Refused(Refusal::TooManySessions)), "{error}");
    drop(inside);
}

#[test]
fn places_of_sessions_that_ended_and_of_clients_that_died_are_used_again() {
    let world = World::new();
    let _server = world.start("durable", None);
    for _ in 0..2 {
        let mut sessions: Vec<_> = (0..255).map(|_| world.bind(Semantics::ExactlyOnce)).collect();
        for client in &mut sessions {
            client.have(2).unwrap();
        }
        let mut dying = Child::start(&format!("client {}", world.0.display()));
        assert_eq!(dying.hear(), 0);
        let mut more = world.bind(Semantics::ExactlyOnce);
        assert!(matches!(more.have(3), Err(CallError::Refused(Refusal::TooManySessions))));
        dying.kill();
        more.have(3).unwrap();
        // They say goodbye; what they say is heard before what the next ones ask for.
        drop((sessions, more));
        let mut last = world.bind(Semantics::ExactlyOnce);
        while last.have(4).is_err() {}
    }
}

#[test]
fn a_server_that_never_comes_back_is_waited_for_until_the_deadline() {
    let world = World::new();
    let mut server = world.start("durable", None);
    let mut client = world.bind(Semantics::ExactlyOnce);
    client.have(1).unwrap();
    server.kill();
    client.client.set_timeout(Some(std::time::Duration::from_millis(30)));
    for _ in 0..2 {
        assert!(matches!(client.have(2), Err(CallError::TimedOut { .. })));
    }
    // What was given up is not done by the successor.
    let _server = world.start("durable", None);
    client.client.set_timeout(None);
    assert_eq!(client.have(3).unwrap(), 2);
    assert_eq!(client.count(2).unwrap(), 0);
}
