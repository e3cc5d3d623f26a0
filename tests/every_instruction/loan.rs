//! The tail of a ring with many senders is lent to one of them (`docs/PROTOCOL.md`), and whoever has to do with that is killed.

use super::{
    judge::{Dead, SLOT, SLOTS},
    victim::put,
    *,
};

/// Where the words of a loan lie: `docs/LAYOUT.md`.
const TAIL: u64 = 8192;
const LOAN: u64 = 240;
const INTENT_END: u64 = 16;

const LENT: u64 = 1;
const RECALLED: u64 = 2;
const RETURNED: u64 = 3;

/// Messages in a row with the last of which the tail is lent, behind one of another sender.
const CALM: u64 = 66;
/// Units of the shortest message.
const SHORTEST: u64 = 2;

/// What happens to a loan before the victim is stepped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recall {
    None,
    /// Another sender has sent.
    Done,
    /// Whoever wanted to call it back has got as far as the mark.
    Marked,
    /// The same, as far as the end, and the tail still says that it is lent.
    Decided,
}

/// Who has borrowed the tail when the victim comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Borrower {
    /// The victim, which has sent so many.
    Victim(u64),
    Living,
    Dead,
}

/// The words of a loan, in a ring.
struct Words(Shared);

impl Words {
    fn of(ring: &Ring) -> Self {
        Self(Shared::of(ring))
    }

    /// The slot to which the tail is lent.
    fn borrower(&self) -> Option<u64> {
        let tail = self.0.word(TAIL);
        (tail & 0xff == 0).then_some(tail >> 8 & 0xff)
    }

    /// Calls the tail back as far as that.
    fn call_back(&self, recall: Recall) {
        if matches!(recall, Recall::None | Recall::Done) {
            return;
        }
        let slot = self.borrower().expect("the tail is lent");
        let area = SLOTS + SLOT * (slot - 1);
        let loan = self.0.word(area + LOAN);
        assert_eq!(loan & 0xff, LENT);
        let end = self.0.word(area + INTENT_END);
        self.0.set(
            area + LOAN,
            if recall == Recall::Marked { loan & !0xff | RECALLED } else { end << 8 | RETURNED },
        );
    }
}

/// Whether these bytes of a ring say that its tail is lent, and called back.
pub fn is_called_back(bytes: &[u8]) -> bool {
    let word = |at: u64| u64::from_ne_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let [low, slot] = [word(TAIL) & 0xff, word(TAIL) >> 8 & 0xff];
    low == 0 && word(SLOTS + SLOT * (slot - 1) + LOAN) & 0xff == RECALLED
}

/// So many of the shortest messages, from this number on.
fn short(first: u64, count: u64) -> Vec<(u64, usize)> {
    (first..first + count).map(|number| (number, 0)).collect()
}

impl Study {
    /// A scene in which the tail is lent. What is there before was sent by another sender, which is the borrower if the victim is not.
    /// Gives to which slot the tail is lent before and after.
    fn run_lent(&mut self, scene: &Scene, borrower: Borrower, recall: Recall) -> [Option<u64>; 2] {
        let builder = ringpost::unnamed().capacity(8 * CAPACITY).start_position(scene.start);
        let ring = builder.many_senders(MANY).memfd().unwrap();
        assert!(ring.info().asymmetric_fences, "nothing is lent without membarrier(2)");
        let (words, mut scene) = (Words::of(&ring), scene.clone());
        let mut other = ring.multi_sender().unwrap();
        // What it has left lies before the loan.
        let fallen = scene.fallen.then(|| ring.multi_sender().unwrap());
        let _fallen = fallen.map(|mut sender| {
            std::mem::forget(sender.try_reserve(40).unwrap());
            Shared::of(&ring).bury(2, &self.dead);
            sender
        });
        put_all(&mut other, &scene.before);
        let calm = if let Borrower::Victim(calm) = borrower { calm } else { 0 };
        if calm == 0 {
            put_all(&mut other, &short(100, CALM));
            if scene.open {
                std::mem::forget(other.try_reserve(40).unwrap());
            }
            if borrower == Borrower::Dead {
                Shared::of(&ring).bury(1, &self.dead);
                (scene.fallen, scene.living, scene.open) = (true, 0, false);
            }
            words.call_back(recall);
        }
        scene.before.extend(short(100, calm.max(CALM * u64::from(calm == 0))));
        let between = (recall == Recall::Done).then_some((500, 24));
        scene.before.extend(between);
        let mut lent = [words.borrower(), None];
        let meanwhile = (calm > 0 || scene.operation.reserves_before()).then_some(|| {
            lent[0] = words.borrower();
            if calm > 0 {
                words.call_back(recall);
            }
            let all = between.iter().chain(&scene.behind);
            all.for_each(|&message| put(&mut other, message).expect("there is room"));
        });
        let order = scene.operation.code() | calm << 16;
        let name = format!("lent, {:?}", scene.operation);
        let judge = |bytes: &[u8], victim, dead: &Dead, all, progress: &mut Progress| {
            judge(&scene, bytes.to_vec(), victim, dead, all, progress);
        };
        let [end, _] = self.watch_for_two(&name, order, &ring, meanwhile, judge);
        assert_eq!(end.sent, !scene.full && !scene.operation.sends().is_empty(), "{scene:?}");
        assert_eq!(end.released, scene.releases, "{scene:?}");
        lent[1] = words.borrower();
        lent
    }
}

/// The slots of the other sender and of the victim.
const OTHER: u64 = 1;
const VICTIM: u64 = 2;
/// The same, where the second is dead.
const BEHIND_THE_FALLEN: u64 = 3;

#[test]
fn a_borrower_of_the_tail_is_killed_at_every_instruction() {
    study("borrowers", "victim", 5, |study, chance| {
        for start in starts(chance) {
            for length in lengths(chance) {
                for operation in Operation::with_length(length).into_iter().chain([Operation::Leave]) {
                    let scene = Scene { before: vec![(1, 40), (2, 0)], ..Scene::new(true, start, operation) };
                    let mut run = |scene: &Scene, recall| {
                        let lent = study.run_lent(scene, Borrower::Victim(CALM), recall);
                        assert_eq!(lent[0], Some(VICTIM), "{scene:?}");
                        lent[1]
                    };
                    let after = run(&scene, Recall::None);
                    assert_eq!(after, Some(VICTIM), "nobody has called it back");
                    for recall in [Recall::Marked, Recall::Decided] {
                        let after = run(&scene, recall);
                        let reserves = !operation.reserves_before() && operation != Operation::Leave;
                        assert_eq!(after.is_none(), reserves, "who reserves gives it back: {scene:?}");
                    }
                    if operation.reserves_before() {
                        run(&Scene { behind: vec![(1600, 24)], ..scene }, Recall::None);
                    } else {
                        run(&scene, Recall::Done);
                    }
                }
                for recall in [Recall::None, Recall::Marked, Recall::Decided] {
                    let before = vec![(1, 40)];
                    let scene = Scene::new(true, start, Operation::Send(length));
                    let scene = Scene { before, fallen: true, ..scene };
                    let lent = study.run_lent(&scene, Borrower::Victim(CALM), recall);
                    assert_eq!(lent[0], Some(BEHIND_THE_FALLEN), "{scene:?}");
                }
                // Just room enough, and one unit too little.
                let own = units(LENGTHS[length as usize]);
                for (full, rest) in [(false, own), (true, own - 1)] {
                    let before = vec![(1, (CAPACITY - rest - SHORTEST * (CALM + 1)) as usize * 8)];
                    let scene = Scene { before, full, ..Scene::new(true, start, Operation::Send(length)) };
                    for recall in [Recall::None, Recall::Marked, Recall::Decided] {
                        study.run_lent(&scene, Borrower::Victim(CALM), recall);
                    }
                }
            }
        }
    });
}

#[test]
fn who_is_about_to_borrow_the_tail_is_killed_at_every_instruction() {
    study("about to borrow", "victim", 5, |study, chance| {
        for start in starts(chance) {
            for length in lengths(chance) {
                for operation in
                    [Operation::Send(length), Operation::Reserve(length), Operation::Batch(length % 5)]
                {
                    let scene = Scene { before: vec![(1, 40)], ..Scene::new(true, start, operation) };
                    let lent = study.run_lent(&scene, Borrower::Victim(CALM - 1), Recall::None);
                    assert_eq!(lent, [None, Some(VICTIM)], "{scene:?}");
                }
            }
        }
    });
}

/// Each way in which the victim finds the tail lent to another: that one lives or is dead, stands in a reservation or not, and somebody has
/// called it back as far as that.
fn lent_to_another(mut each: impl FnMut(bool, Borrower, Recall)) {
    for open in [false, true] {
        for borrower in [Borrower::Living, Borrower::Dead] {
            for recall in [Recall::None, Recall::Marked, Recall::Decided] {
                each(open, borrower, recall);
            }
        }
    }
}

#[test]
fn who_calls_the_tail_back_is_killed_at_every_instruction() {
    study("recalls", "victim", 5, |study, chance| {
        for start in starts(chance) {
            let length = lengths(chance)[0];
            lent_to_another(|open, borrower, recall| {
                for operation in
                    [Operation::Send(length), Operation::Reserve(length), Operation::Batch(length % 5)]
                {
                    let before = vec![(1, 40), (2, 0)];
                    let scene = Scene { before, open, ..Scene::new(true, start, operation) };
                    let fallen = Scene { fallen: true, ..scene.clone() };
                    for scene in [scene, fallen] {
                        let lent = study.run_lent(&scene, borrower, recall);
                        assert_eq!(lent, [Some(OTHER), None], "{scene:?}");
                    }
                }
            });
        }
    });
}

#[test]
fn who_comes_or_receives_while_the_tail_is_lent_is_killed_at_every_instruction() {
    study("beside a loan", "victim", 5, |study, chance| {
        let start = starts(chance)[0];
        lent_to_another(|open, borrower, recall| {
            let operations = [
                (Operation::Join, 0),
                (Operation::Listen, 0),
                (Operation::Receive, 1),
                (Operation::ReceiveMany, 3),
                (Operation::Hush, 0),
            ];
            for (operation, releases) in operations {
                // It takes long to find out that a process lives.
                let attaches = matches!(operation, Operation::Join | Operation::Listen);
                if attaches && borrower == Borrower::Living && !common::long() {
                    continue;
                }
                let scene = Scene { open, releases, ..Scene::new(true, start, operation) };
                let lent = study.run_lent(&scene, borrower, recall);
                assert_eq!(lent[0], Some(OTHER), "{scene:?}");
            }
        });
    });
}
