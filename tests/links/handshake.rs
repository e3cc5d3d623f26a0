//! Who connects and does not do what it should: the listener says what was wrong, loses no descriptor, and goes on.

use super::{
    Child, FAR, Line, Place, descriptors,
    raw::{
        FIRST, HELLO, JOIN, OFFER, Raw, RawListener, SEALS, SECOND, SENDS, WELCOME, hollow, memory, message,
        own_half, sealed, versioned,
    },
    receive_letters, send_letters,
};
use ringpost::{LinkError, OpenError, RecvError, SegmentError};
use rustix::{
    fs::{FallocateFlags, SealFlags, fallocate},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    thread,
    time::Instant,
};

/// How an attempt to make a link ends, as a word. Its place in this list goes over the line.
const OUTCOMES: [&str; 16] = [
    "made",
    "not accepted",
    "refused",
    "timed out",
    "hung up",
    "malformed",
    "mismatch",
    "not sealed",
    "not regular",
    "too short",
    "too long",
    "holes",
    "no descriptor",
    "no ring",
    "too slow",
    "other",
];

fn outcome<T>(result: &Result<T, OpenError>) -> &'static str {
    match result {
        Ok(_) => "made",
        Err(OpenError::Mismatch { .. }) => "mismatch",
        Err(OpenError::NotARing { .. }) => "no ring",
        Err(OpenError::Link(error)) => match error {
            LinkError::NotAccepted { .. } => "not accepted",
            LinkError::Refused { .. } => "refused",
            LinkError::TimedOut { .. } => "timed out",
            LinkError::HungUp { .. } => "hung up",
            LinkError::Malformed { .. } => "malformed",
            LinkError::NoDescriptor { .. } => "no descriptor",
            LinkError::TooSlow => "too slow",
            _ => "other",
        },
        Err(OpenError::Segment(error)) => match error {
            SegmentError::NotSealed { .. } => "not sealed",
            SegmentError::NotRegular { .. } => "not regular",
            SegmentError::TooShort { .. } => "too short",
            SegmentError::TooLong { .. } => "too long",
            SegmentError::Holes { .. } => "holes",
            SegmentError::NoDescriptor { .. } => "no descriptor",
            _ => "other",
        },
        Err(_) => "other",
    }
}

fn tell_outcome<T>(line: &Line, result: &Result<T, OpenError>) {
    if let (Err(error), "other") = (result, outcome(result)) {
        eprintln!("{error}");
    }
    line.tell(OUTCOMES.iter().position(|&word| word == outcome(result)).unwrap() as u64);
}

/// A child that accepts whenever it is told to, says how that went, and checks that no descriptor is lost.
pub fn host(path: &Path, line: &Line) {
    let listener = ringpost::unnamed().capacity(4096).listen(path).unwrap();
    line.tell(0);
    // What is opened at the first use, once.
    line.hear();
    let first = listener.accept();
    tell_outcome(line, &first);
    drop(first);
    let before = descriptors();
    while line.next().is_some() {
        let start = Instant::now();
        let accepted = listener.accept();
        assert!(start.elapsed() < FAR, "the deadline is a second");
        tell_outcome(line, &accepted);
        if let Ok(mut receiver) = accepted {
            receive_letters(&mut receiver, 3);
            assert_eq!(receiver.recv_timeout(FAR).unwrap_err(), RecvError::Disconnected);
        }
        assert_eq!(descriptors(), before);
    }
}

struct Host(Child);

impl Host {
    fn new(place: &Place) -> Self {
        let host = Self(place.child("host", ""));
        host.0.hear();
        assert_eq!(host.accepts(|| drop(ringpost::connect(&**place).unwrap())), "made");
        host
    }

    /// How the host fares with what `client` does.
    fn accepts<T>(&self, client: impl FnOnce() -> T) -> &'static str {
        self.0.tell(0);
        let _held = client();
        OUTCOMES[self.0.hear() as usize]
    }

    /// It is as it was: the next one gets its link.
    #[track_caller]
    fn goes_on(self, place: &Place) {
        let send = || send_letters(&mut ringpost::connect(&**place).unwrap(), 3);
        assert_eq!(self.accepts(send), "made");
        // It ends when its line does.
        let Self(child) = self;
        let id = child.id();
        child.hang_up();
        assert!(child.end().success(), "host {id}");
    }
}

#[test]
fn whoever_says_nonsense_is_refused_and_the_next_one_is_not() {
    let place = Place::new();
    let host = Host::new(&place);
    let hello = message(HELLO, SENDS);
    let mut longer = hello.clone();
    longer.push(0);
    let samples: [(&[u8], &str); 12] = [
        (b"R", "malformed"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed"),
        (&[0xff; 32], "malformed"),
        (&[0; 200], "malformed"),
        (&hello[..7], "malformed"),
        (&hello[..31], "malformed"),
        (&longer, "malformed"),
        (&message(WELCOME, 0), "malformed"),
        (&message(HELLO, 0), "malformed"),
        (&message(HELLO, SENDS | 8), "malformed"),
        (&versioned([2, 1], HELLO, SENDS), "mismatch"),
        (&versioned([1, 2], HELLO, SENDS), "mismatch"),
    ];
    for (bytes, expected) in samples {
        let said = || {
            let raw = Raw::connect(&place);
            raw.say(bytes, &[]);
            raw
        };
        assert_eq!(host.accepts(said), expected, "{}", bytes.escape_ascii());
    }
    host.goes_on(&place);
}

#[test]
fn memory_that_is_not_a_half_is_refused_and_no_descriptor_is_lost() {
    let place = Place::new();
    let host = Host::new(&place);
    let join = |fds: Vec<OwnedFd>| {
        host.accepts(|| {
            let (raw, _) = Raw::greeted(&place);
            let fds: Vec<_> = fds.iter().map(OwnedFd::as_fd).collect();
            raw.say(&message(JOIN, 0), &fds);
            raw
        })
    };
    let good = || own_half().0;
    for missing in [SealFlags::FUTURE_WRITE, SealFlags::SHRINK, SealFlags::GROW, SealFlags::SEAL] {
        assert_eq!(
            join(vec![sealed(memory(SECOND), SEALS.difference(missing))]),
            "not sealed",
            "{missing:?}"
        );
    }
    assert_eq!(join(vec![sealed(memory(SECOND - 4096), SEALS)]), "too short");
    assert_eq!(join(vec![sealed(memory(SECOND + 4096), SEALS)]), "too long");
    assert_eq!(join(vec![sealed(hollow(SECOND), SEALS)]), "holes");
    // As many blocks as a half has, behind its end.
    let deceiving = hollow(SECOND);
    fallocate(&deceiving, FallocateFlags::KEEP_SIZE, SECOND, SECOND).unwrap();
    assert_eq!(join(vec![sealed(deceiving, SEALS)]), "holes");
    assert_eq!(join(vec![File::open("/dev/null").unwrap().into()]), "not regular");
    assert_eq!(join(vec![File::open("/proc/self/exe").unwrap().into()]), "not sealed");
    let (read, _write) = std::io::pipe().unwrap();
    assert_eq!(join(vec![read.into()]), "not regular");
    assert_eq!(join(vec![]), "malformed");
    assert_eq!(join(vec![good(), good()]), "malformed");
    assert_eq!(join((0..16).map(|_| good()).collect()), "malformed");
    let _ = good;
    host.goes_on(&place);
}

#[test]
fn descriptors_that_come_too_early_are_closed() {
    let place = Place::new();
    let host = Host::new(&place);
    let too_early = || {
        let (raw, half) = (Raw::connect(&place), own_half().0);
        raw.say(&message(HELLO, SENDS), &[half.as_fd(), half.as_fd(), half.as_fd()]);
        raw.hear();
        raw.say(b"nonsense", &[]);
        raw
    };
    assert_eq!(host.accepts(too_early), "malformed");
    host.goes_on(&place);
}

#[test]
fn whoever_is_silent_is_given_up_after_the_deadline() {
    let place = Place::new();
    let host = Host::new(&place);
    assert_eq!(host.accepts(|| Raw::connect(&place)), "timed out");
    assert_eq!(host.accepts(|| Raw::greeted(&place)), "timed out");
    host.goes_on(&place);
}

#[test]
fn who_is_given_up_for_being_slow_is_told_so_at_each_step() {
    let place = Place::new();
    let patience = std::time::Duration::from_millis(1);
    let listener = place.listen_with(ringpost::unnamed().capacity(4096).handshake_timeout(patience));
    let accepting = thread::spawn(move || (0..2).map(|_| listener.accept().map(|_| ())).collect::<Vec<_>>());
    // It has 1 ms for all of it, so the offer may come or not.
    for words in [vec![], message(HELLO, SENDS)] {
        let raw = Raw::connect(&place);
        if !words.is_empty() {
            raw.say(&words, &[]);
        }
        // Before it there may be an offer, or the word that not all was listened to.
        assert!((0..3).any(|_| raw.hear().0 == message(5, 8)));
    }
    for given_up in accepting.join().unwrap() {
        let error = given_up.unwrap_err();
        assert!(matches!(error, OpenError::Link(LinkError::TimedOut { .. })), "{error}");
    }
}

/// A client that goes up to a step, says so, and waits to be killed.
pub fn go_to(step: &str, path: &Path, line: &Line) {
    let raw = match step {
        "connect" => Raw::connect(path),
        "hello" => {
            let raw = Raw::connect(path);
            raw.say(&message(HELLO, SENDS), &[]);
            raw
        }
        "offer" => Raw::greeted(path).0,
        _ => super::raw::welcomed(path).0,
    };
    line.tell(0);
    line.hear();
    drop(raw);
}

#[test]
fn whoever_dies_in_between_is_noticed_and_the_next_one_gets_its_link() {
    for step in ["connect", "hello", "offer"] {
        let place = Place::new();
        let host = Host::new(&place);
        let die = || {
            let mut child = place.child("die-after", step);
            child.hear();
            child.kill();
        };
        assert_eq!(host.accepts(die), "hung up", "{step}");
        host.goes_on(&place);
    }
    // From the welcome on it is the receiver that tells.
    let place = Place::new();
    let listener = place.listen();
    let mut child = place.child("die-after", "welcome");
    let mut receiver = listener.accept().unwrap();
    child.hear();
    let pid = child.id();
    child.kill();
    assert_eq!(super::end_of(&mut receiver), RecvError::PeerDied { pid, unfinished: 0 });
}

/// A child that connects whenever it is told to, and says how that went.
pub fn connector(path: &Path, line: &Line) {
    let connect = || ringpost::unnamed().handshake_timeout(std::time::Duration::from_secs(1)).connect(path);
    line.hear();
    tell_outcome(line, &connect());
    let before = descriptors();
    while line.next().is_some() {
        tell_outcome(line, &connect());
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn a_listener_that_lies_is_found_out_and_no_descriptor_is_lost() {
    let place = Place::new();
    let listener = RawListener::at(&place);
    let child = place.child("connector", "");
    let fares_with = |answer: &dyn Fn(&Raw)| {
        child.tell(0);
        let raw = listener.accept();
        raw.hear();
        answer(&raw);
        OUTCOMES[child.hear() as usize]
    };
    let offer = |fd: OwnedFd| move |raw: &Raw| raw.say(&message(OFFER, 0), &[fd.as_fd()]);
    assert_eq!(fares_with(&|raw| raw.say(b"nonsense", &[])), "malformed");
    assert_eq!(fares_with(&|raw| raw.say(&versioned([9, 1], 5, 1), &[])), "mismatch");
    assert_eq!(fares_with(&|raw| raw.say(&message(5, 2), &[])), "refused");
    assert_eq!(fares_with(&|raw| raw.say(&message(5, 8), &[])), "too slow");
    assert_eq!(fares_with(&|raw| raw.say(&message(OFFER, 0), &[])), "malformed");
    assert_eq!(fares_with(&|_| ()), "timed out");
    assert_eq!(fares_with(&offer(memory(FIRST))), "not sealed");
    assert_eq!(fares_with(&offer(sealed(hollow(FIRST), SEALS))), "holes");
    assert_eq!(fares_with(&offer(sealed(memory(FIRST), SEALS))), "no ring");
    // A header of ours on a half that is too long.
    let true_offer = |length: u64| {
        let ring = ringpost::unnamed().capacity(4096).memfd().unwrap();
        let (mut header, half) = ([0; 128], memory(length));
        rustix::io::pread(ring.fd().unwrap(), &mut header, 0).unwrap();
        rustix::io::pwrite(&half, &header, 0).unwrap();
        sealed(half, SEALS)
    };
    assert_eq!(fares_with(&offer(true_offer(FIRST + 4096))), "too long");
    assert_eq!(fares_with(&offer(true_offer(4096))), "too short");
    assert_eq!(fares_with(&offer(true_offer(FIRST))), "timed out", "it has said all but its welcome");
    child.hang_up();
    assert!(child.end().success());
}

#[test]
fn a_listener_that_dies_in_between_is_noticed() {
    let place = Place::new();
    let listener = RawListener::at(&place);
    let child = place.child("connector", "");
    child.tell(0);
    drop(listener.accept());
    assert_eq!(OUTCOMES[child.hear() as usize], "hung up");
    child.hang_up();
    assert!(child.end().success());
}

/// Lets this process open `more` descriptors and no more.
pub fn limit_descriptors(more: usize) {
    let is_free = |fd: &u64| std::fs::read_link(format!("/proc/self/fd/{fd}")).is_err();
    let limit = Rlimit { current: (0..).filter(is_free).nth(more), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Tries with one more descriptor each time; tells how it went.
fn try_with_more_and_more<T>(line: &Line, attempt: impl Fn() -> Result<T, OpenError>) {
    let before = getrlimit(Resource::Nofile);
    for more in 0.. {
        line.hear();
        limit_descriptors(more);
        let result = attempt();
        setrlimit(Resource::Nofile, before).unwrap();
        tell_outcome(line, &result);
        if result.is_ok() {
            break;
        }
    }
}

pub fn connect_limited(path: &Path, line: &Line) {
    drop(ringpost::connect(path).unwrap());
    let before = descriptors();
    try_with_more_and_more(line, || ringpost::connect(path));
    assert_eq!(descriptors(), before);
}

pub fn accept_limited(path: &Path, line: &Line) {
    let listener = ringpost::listen(path).unwrap();
    line.tell(0);
    drop(listener.accept().unwrap());
    let before = descriptors();
    try_with_more_and_more(line, || listener.accept());
    assert_eq!(descriptors(), before);
}

/// Has the child try again until it gets its link; there must have been failures for want of a descriptor.
#[track_caller]
fn until_made(child: &Child, mut meanwhile: impl FnMut()) {
    let mut wants = 0;
    loop {
        child.tell(0);
        meanwhile();
        match OUTCOMES[child.hear() as usize] {
            "made" => break,
            "no descriptor" => wants += 1,
            other => panic!("{other}"),
        }
    }
    assert!(wants >= 3, "failed for want of a descriptor {wants} times only");
}

#[test]
fn who_connects_with_too_few_descriptors_is_told_so_and_loses_none() {
    let place = Place::new();
    let listener = place.listen();
    // Until somebody says something.
    let accepting =
        thread::spawn(move || while !listener.accept().is_ok_and(|mut receiver| receiver.recv().is_ok()) {});
    let child = place.child("connect-limited", "");
    until_made(&child, || ());
    child.finish();
    ringpost::connect(&*place).unwrap().send(b"the last one").unwrap();
    accepting.join().unwrap();
}

#[test]
fn who_accepts_with_too_few_descriptors_is_told_so_and_loses_none() {
    let place = Place::new();
    let child = place.child("accept-limited", "");
    child.hear();
    drop(ringpost::connect(&*place).unwrap());
    // A connection that could not be accepted stays: one that was connected may so be greeted by a later try.
    let path = place.to_path_buf();
    let connecting = thread::spawn(move || {
        while let Err(error) = ringpost::connect(&path) {
            assert!(!matches!(error, OpenError::Link(LinkError::NotListening { .. })));
        }
    });
    until_made(&child, || ());
    connecting.join().unwrap();
    child.finish();
}

#[test]
fn who_is_silent_holds_up_no_sender_when_each_is_greeted_by_itself() {
    let place = Place::new();
    let listener = place.listen_with(ringpost::unnamed().handshake_timeout(FAR));
    let silent = Raw::connect(&place);
    let first = listener.incoming().unwrap();
    let path = place.to_path_buf();
    let sender = thread::spawn(move || ringpost::connect(path).unwrap().send(b"hi").unwrap());
    let mut receiver = listener.incoming().unwrap().accept().unwrap();
    assert_eq!(receiver.recv().unwrap().to_vec(), b"hi");
    sender.join().unwrap();
    drop(silent);
    assert!(matches!(first.accept(), Err(OpenError::Link(LinkError::HungUp { .. }))));
}
