//! The harness against links that don't do what they promise.

use std::time::Duration;

use anyhow::Result;

use super::anchor::{self, Kind};
use super::is_enough;
use super::link::{Figures, RecvHalf};
use super::measure;
use super::memory::Shared;
use super::payload::{Filler, Input, Window};
use super::station::{Bench, Board, Role, Station, Turns};
use super::usage::Usage;

fn window(size: usize) -> Window {
    let mut window = Window::default();
    window.load(&Input::of(&(0..=255).collect::<Vec<u8>>()), 0, size);
    window
}

fn bench<'a>(board: &'a Shared<Board>, role: Role, window: &'a Window) -> Bench<'a> {
    Bench {
        station: Station::new(board, role, Turns::default()),
        window,
        budget: Duration::from_micros(50),
        stamps: Vec::new(),
        usage: Usage::default(),
        counted: None,
    }
}

/// Makes the messages itself and spoils one of them.
struct Spoiling<'a> {
    filler: Filler<'a>,
    message: Vec<u8>,
    left: u32,
}

impl RecvHalf for Spoiling<'_> {
    fn recv(&mut self, _size: usize, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        self.filler.fill(&mut self.message);
        self.left = self.left.wrapping_sub(1);
        if self.left == 0 {
            self.message[64] ^= 1;
        }
        check(&self.message)
    }
}

#[test]
fn a_spoilt_message_ends_the_sample_with_an_error() {
    let (board, window) = (Shared::zeroed().unwrap(), window(512));
    std::thread::scope(|scope| {
        scope.spawn(|| measure::answers(&mut bench(&board, Role::Follower, &window), |_| Ok(())).unwrap());
        let mut leader = bench(&board, Role::Leader, &window);
        let mut receiver = Spoiling { filler: window.filler(), message: vec![0; 512], left: 3 };
        let error = measure::drain(&mut leader, 512, &mut receiver).unwrap_err();
        assert!(error.to_string().contains("content of message 2"), "{error}");
        leader.station.announce(0);
    });
}

#[test]
fn a_sound_link_gives_figures() {
    let (board, window) = (Shared::zeroed().unwrap(), window(512));
    std::thread::scope(|scope| {
        scope.spawn(|| measure::answers(&mut bench(&board, Role::Follower, &window), |_| Ok(())).unwrap());
        let mut leader = bench(&board, Role::Leader, &window);
        let mut receiver = Spoiling { filler: window.filler(), message: vec![0; 512], left: 0 };
        let Figures::Throughput { messages_per_s, bytes_per_s } =
            measure::drain(&mut leader, 512, &mut receiver).unwrap()
        else {
            panic!("throughput was measured")
        };
        assert_eq!(bytes_per_s, messages_per_s * 512.0);
    });
}

#[test]
fn both_sides_agree_when_one_cannot() {
    let (board, window) = (Shared::zeroed().unwrap(), window(8));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut follower = bench(&board, Role::Follower, &window);
            assert_eq!(follower.station.agree(Ok(1)).unwrap(), 1);
            assert_eq!(follower.station.agree(Ok(1)).unwrap_err().to_string(), "");
        });
        let mut leader = bench(&board, Role::Leader, &window);
        assert_eq!(leader.station.agree(Ok(2)).unwrap(), 2);
        let refused = leader.station.agree(Err::<(), _>(anyhow::anyhow!("no room"))).unwrap_err();
        assert_eq!(refused.to_string(), "no room");
    });
}

#[test]
fn futex_ping_pong_counts_turns_on_both_sides() {
    let (board, window) = (Shared::zeroed().unwrap(), window(8));
    std::thread::scope(|scope| {
        scope.spawn(|| anchor::measure(&mut bench(&board, Role::Follower, &window), Kind::Futex));
        let mut leader = bench(&board, Role::Leader, &window);
        assert!(anchor::measure(&mut leader, Kind::Futex).unwrap() > 0.0);
        let turns = board.futex[1].0.load(std::sync::atomic::Ordering::Acquire);
        assert_eq!(turns, leader.station.turns.futex);
    });
}

#[test]
fn few_calls_are_counted_over_many_messages_so_that_what_begins_a_stream_is_not_taken_for_a_part_of_it() {
    let enough = |calls, counted, thoroughly| is_enough(calls, counted, 32, thoroughly);
    assert!(enough(2e6, 32, true), "two for each message");
    assert!(!enough(0.0, 32, true) && enough(0.0, 512, true), "none");
    // One call of 513 messages is not 1949 of a million.
    assert!(!enough(1949.0, 512, true) && enough(1949.0, 512, false) && enough(7.6, 131_072, true));
    assert!(enough(199_000.0, 512, true), "a good part of them");
}
