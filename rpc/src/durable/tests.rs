//! A commit that ends after any of its stores.

use super::*;
use std::{fs, os::unix::fs::FileExt, path::PathBuf, process::Command, sync::Barrier, thread};

struct Nothing;

impl Interface for Nothing {
    const NAME: &'static str = "Nothing";

    fn describe(_: &mut Description) {}
}

type State = [u64; 3];

const A: Session = Session([1; 16]);
const B: Session = Session([2; 16]);

/// A file that is gone with this value.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        Self(format!("/dev/shm/ringpost-rpc-{name}-{}", std::process::id()).into())
    }

    fn open(&self) -> Durable<State> {
        Durable::open::<Nothing>(&self.0, &[7; 3]).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn commit(durable: &mut Durable<State>, session: Session, number: u64, state: u64, answer: &str) {
    let place = durable.place(session).unwrap();
    durable.commit(&[state; 3], place, session, Owner::default(), number, answer.as_bytes()).unwrap();
}

/// The answer that is remembered, when it is.
fn recall(durable: &Durable<State>, session: Session, number: u64) -> Option<String> {
    let mut answer = Vec::new();
    match durable.recall(session, number, &mut answer) {
        Recollection::Answered => Some(String::from_utf8(answer).unwrap()),
        Recollection::New | Recollection::Later => None,
    }
}

#[test]
fn a_kill_after_any_store_of_a_commit_leaves_all_of_it_or_nothing() {
    let file = File::new("commit");
    let mut seen = [0, 0];
    for stores in 0.. {
        let _ = fs::remove_file(&file.0);
        let mut durable = file.open();
        commit(&mut durable, A, 1, 10, "first of A");
        commit(&mut durable, B, 1, 20, "of B");
        durable.words.stores_left.set(stores);
        commit(&mut durable, A, 2, 30, "a longer one, the second of A");
        let complete = durable.words.stores_left.get() > 0;
        drop(durable);
        let mut durable = file.open();
        let done = durable.state() == [30; 3];
        seen[usize::from(done)] += 1;
        if done {
            assert_eq!(recall(&durable, A, 2).as_deref(), Some("a longer one, the second of A"));
            assert!(matches!(durable.recall(A, 1, &mut Vec::new()), Recollection::Later));
        } else {
            assert!(!complete);
            assert_eq!(durable.state(), [20; 3], "after {stores} stores");
            assert_eq!(recall(&durable, A, 1).as_deref(), Some("first of A"));
            assert!(matches!(durable.recall(A, 2, &mut Vec::new()), Recollection::New));
        }
        assert_eq!(recall(&durable, B, 1).as_deref(), Some("of B"));
        commit(&mut durable, B, 2, 40, "");
        assert_eq!((durable.state(), recall(&durable, B, 2).as_deref()), ([40; 3], Some("")));
        assert!(recall(&durable, A, if done { 2 } else { 1 }).is_some());
        if complete {
            break;
        }
    }
    assert!(seen[0] > 100 && seen[1] >= 2, "{seen:?}");
}

#[test]
fn a_kill_after_any_store_of_the_making_leaves_a_state_that_is_made_anew_or_whole() {
    let file = File::new("making");
    for stores in 0..20 {
        // As one leaves it that was killed while it made it.
        let whole = {
            let _ = fs::remove_file(&file.0);
            drop(file.open());
            fs::read(&file.0).unwrap()
        };
        fs::write(&file.0, vec![0; whole.len()]).unwrap();
        let part = fs::File::options().read(true).write(true).open(&file.0).unwrap();
        let words = Words::map(&part.into(), 64).unwrap();
        let all: Vec<u64> =
            whole.chunks(8).map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap())).collect();
        let order = (HEAD_AT..COMMIT_AT).chain(COPIES_AT..COPIES_AT + 3).chain([MAGIC_AT]);
        for at in order.take(stores) {
            words.publish(at, all[at]);
        }
        drop(words);
        assert_eq!(file.open().state(), [7; 3], "after {stores} stores");
    }
}

#[test]
fn memory_is_asked_for_in_steps_and_again_when_a_signal_comes() {
    let (mut steps, mut signals) = (Vec::new(), 0);
    allocate(20 << 20, |offset, length| {
        signals += 1;
        if signals % 3 != 0 {
            return Err(Errno::INTR);
        }
        steps.push((offset >> 20, length >> 20));
        Ok(())
    })
    .unwrap();
    assert_eq!((steps, signals), (vec![(0, 8), (8, 8), (16, 4)], 9));
    assert_eq!(allocate(1, |_, _| Err(Errno::NOSPC)), Err(Errno::NOSPC));
}

#[test]
fn a_file_that_is_there_in_part_is_made_anew_when_it_is_of_a_killed_server_and_refused_else() {
    let file = File::new("part");
    drop(file.open());
    let whole = fs::metadata(&file.0).unwrap().len();
    for length in [0, 1, 64, 4096, 5000, whole / 2, whole - 1] {
        fs::write(&file.0, vec![0; length as usize]).unwrap();
        let mut durable = file.open();
        assert_eq!(durable.state(), [7; 3], "{length} bytes");
        commit(&mut durable, A, 1, 10, "of A");
        drop(durable);
        let durable = file.open();
        assert_eq!((durable.state(), recall(&durable, A, 1).as_deref()), ([10; 3], Some("of A")));
        drop(durable);
        let found = fs::metadata(&file.0).unwrap();
        assert_eq!(found.len(), whole);
        for at in (0..length).step_by(1000).chain(length.checked_sub(1)) {
            let mut other = vec![0; length as usize];
            other[at as usize] = 1;
            fs::write(&file.0, &other).unwrap();
            let refused = Durable::<State>::open::<Nothing>(&file.0, &[7; 3]);
            assert!(matches!(refused, Err(DurableError::Mismatch)), "{length} bytes, one at {at}");
            assert_eq!(fs::read(&file.0).unwrap(), other, "it is left alone");
        }
    }
    // As long as it should be, and something else.
    for at in [MAGIC_AT, COMMIT_AT, whole as usize / 8 - 1] {
        let mut other = vec![0; whole as usize];
        other[at * 8] = 1;
        fs::write(&file.0, &other).unwrap();
        let refused = Durable::<State>::open::<Nothing>(&file.0, &[7; 3]);
        assert!(matches!(refused, Err(DurableError::Mismatch)), "one in word {at}");
        assert_eq!(fs::read(&file.0).unwrap(), other, "it is left alone");
    }
    // As long as it should be, and nothing there.
    fs::write(&file.0, []).unwrap();
    fs::File::options().write(true).open(&file.0).unwrap().set_len(whole).unwrap();
    assert_eq!(file.open().state(), [7; 3]);
}

#[test]
fn a_session_keeps_its_place_until_another_has_committed_there() {
    let file = File::new("place");
    let mut durable = file.open().forget_after(Duration::ZERO);
    let session = |number: usize| Session((number as u128 + 1).to_ne_bytes());
    (0..PLACES).for_each(|number| commit(&mut durable, session(number), 1, 1, "first"));
    let remembered = |durable: &Durable<State>| {
        (0..PLACES).filter(|&of| recall(durable, session(of), 1).is_some()).count()
    };
    // Nobody has a link; the newcomer's calls fail, and then one succeeds.
    let newcomer = session(PLACES);
    let place = durable.place(newcomer).unwrap();
    let too_long = vec![0; LONGEST_ANSWER + 1];
    let failed = durable.commit(&[2; 3], place, newcomer, Owner::default(), 1, &too_long);
    assert_eq!(failed, Err(Refusal::AnswerTooLong));
    assert_eq!((remembered(&durable), durable.state()), (PLACES, [1; 3]));
    commit(&mut durable, newcomer, 1, 3, "of the newcomer");
    assert_eq!(remembered(&durable), PLACES - 1);
    drop(durable);
    let durable = file.open();
    assert_eq!(remembered(&durable), PLACES - 1);
    assert_eq!(recall(&durable, newcomer, 1).as_deref(), Some("of the newcomer"));
}

#[test]
fn a_state_that_was_let_go_is_free_while_a_child_that_is_being_started_has_its_file() {
    let file = File::new("inherited");
    let durable = file.open();
    let inherited = durable.lock.file().try_clone().unwrap();
    let refused = Durable::<State>::open::<Nothing>(&file.0, &[7; 3]);
    assert!(matches!(refused, Err(DurableError::InUse)));
    drop(durable);
    drop(file.open());
    drop(inherited);
}

#[test]
fn of_many_that_open_the_state_of_a_dead_server_at_once_one_has_it() {
    let file = File::new("together");
    drop(file.open());
    let mut server = Command::new("sleep").arg("600").spawn().unwrap();
    let dead = Owner::of(server.id());
    server.kill().unwrap();
    server.wait().unwrap();
    let raw = fs::File::options().write(true).open(&file.0).unwrap();
    let together = Barrier::new(4);
    for _ in 0..if std::env::var_os("RINGPOST_LONG").is_some() { 5000 } else { 200 } {
        raw.write_all_at(dead.as_bytes(), OWNER_AT as u64 * 8).unwrap();
        let open = || {
            together.wait();
            let opened = Durable::<State>::open::<Nothing>(&file.0, &[7; 3]);
            // Nobody lets go before all have tried.
            together.wait();
            opened.is_ok()
        };
        let opened: Vec<_> = thread::scope(|threads| {
            let threads: Vec<_> = (0..4).map(|_| threads.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|&&is_ours| is_ours).count(), 1);
    }
}

#[test]
fn the_other_copy_keeps_what_the_commit_before_has_changed() {
    let file = File::new("copies");
    let mut durable = file.open();
    for number in 1..10 {
        commit(&mut durable, A, number, number, "A");
        commit(&mut durable, B, number, number, "B");
        assert_eq!(recall(&durable, A, number).as_deref(), Some("A"));
        assert_eq!(recall(&durable, B, number).as_deref(), Some("B"));
    }
    durable.forget(A);
    commit(&mut durable, B, 10, 10, "B");
    drop(durable);
    let durable = file.open();
    assert!(recall(&durable, A, 9).is_none());
    assert_eq!(recall(&durable, B, 10).as_deref(), Some("B"));
}
