//! Exhaustive breadth-first search over the states of a model, and the proof that the end stays within reach.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// What one atomic step did, for the trace: (who, number, what).
pub type Label = (&'static str, u8, &'static str);

/// The broken promise, in a few words.
pub type Broken = &'static str;

pub trait Model {
    type State: Copy + Eq + Hash + fmt::Debug;
    fn initial(&self) -> Self::State;
    /// Every step that some process can take next.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self::State>);
    /// Whether everything is done here; what must hold at the end is checked here too.
    fn ended(&self, state: &Self::State) -> Result<bool, Broken>;
}

/// The steps out of one state. A fault (kill, stop) is explored, but no progress may depend on one.
pub struct Steps<S> {
    found: Vec<(Label, bool, Result<S, Broken>)>,
}

impl<S> Steps<S> {
    pub fn push(&mut self, label: Label, next: Result<S, Broken>) {
        self.found.push((label, false, next));
    }

    pub fn fault(&mut self, label: Label, next: Result<S, Broken>) {
        self.found.push((label, true, next));
    }
}

/// A path from the initial state, one label a step.
pub type Trace = Vec<Label>;

pub enum Verdict {
    Holds,
    /// A safety invariant is violated at the end of the trace, on a shortest path.
    Broken(Broken, Trace),
    /// After the trace the end can't be reached any more, unless somebody is killed.
    Stuck(Trace),
    /// More states than allowed: says nothing.
    TooLarge,
}

pub struct Report {
    pub states: usize,
    pub transitions: usize,
    pub depth: usize,
    pub time: Duration,
    pub verdict: Verdict,
}

const NOBODY: u32 = u32::MAX;

/// Multiply and rotate, word by word: states are many and small.
#[derive(Default)]
struct StateHasher(u64);

impl StateHasher {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

impl Hasher for StateHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((word, tail)) = rest.split_first_chunk::<8>() {
            self.mix(u64::from_le_bytes(*word));
            rest = tail;
        }
        let mut last = 0;
        for &byte in rest {
            last = last << 8 | u64::from(byte);
        }
        self.mix(last);
    }
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n));
    }
    fn write_isize(&mut self, n: isize) {
        self.mix(n as u64);
    }
    fn write_usize(&mut self, _length_of_an_array: usize) {}
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 29
    }
}

/// All states seen, each once; found again by an open-addressed table of indices.
struct Visited<S> {
    states: Vec<S>,
    table: Vec<u32>,
}

impl<S: Copy + Eq + Hash> Visited<S> {
    fn new() -> Self {
        Visited { states: Vec::new(), table: vec![NOBODY; 1 << 16] }
    }

    fn slot(&self, state: &S) -> usize {
        let mut hasher = StateHasher::default();
        state.hash(&mut hasher);
        let mask = self.table.len() - 1;
        let mut at = (hasher.finish() >> 7) as usize & mask;
        while self.table[at] != NOBODY && self.states[self.table[at] as usize] != *state {
            at = (at + 1) & mask;
        }
        at
    }

    /// The state's index, and whether it is new.
    fn insert(&mut self, state: S) -> (u32, bool) {
        let at = self.slot(&state);
        if self.table[at] != NOBODY {
            return (self.table[at], false);
        }
        let index = self.states.len() as u32;
        self.table[at] = index;
        self.states.push(state);
        if self.states.len() * 2 > self.table.len() {
            self.table = vec![NOBODY; self.table.len() * 4];
            for index in 0..self.states.len() {
                let at = self.slot(&self.states[index]);
                self.table[at] = index as u32;
            }
        }
        (index, true)
    }
}

/// Explores everything, or up to the first violation; then walks back from the ends.
pub fn explore<M: Model>(model: &M, limit: usize) -> Report {
    let start = Instant::now();
    let mut visited = Visited::new();
    let mut parents = vec![NOBODY];
    let mut depths = vec![0u16];
    let mut edges: Vec<(u32, u32)> = Vec::new();
    let mut ends = Vec::new();
    let mut transitions = 0;
    let mut steps = Steps { found: Vec::new() };
    visited.insert(model.initial());
    let mut broken = None;
    let mut from = 0u32;
    while (from as usize) < visited.states.len() && broken.is_none() && visited.states.len() <= limit {
        let state = visited.states[from as usize];
        match model.ended(&state) {
            Ok(true) => ends.push(from),
            Ok(false) => {}
            Err(what) => broken = Some((what, from, None)),
        }
        model.steps(&state, &mut steps);
        for (label, fault, next) in steps.found.drain(..) {
            transitions += 1;
            match next {
                Ok(next) => {
                    let (to, new) = visited.insert(next);
                    if new {
                        parents.push(from);
                        depths.push(depths[from as usize] + 1);
                    }
                    if !fault && to != from {
                        edges.push((to, from));
                    }
                }
                Err(what) if broken.is_none() => broken = Some((what, from, Some(label))),
                Err(_) => {}
            }
        }
        from += 1;
    }
    let trace = |to| trace(model, &visited.states, &parents, to);
    let verdict = if let Some((what, at, last)) = broken {
        let mut path = trace(at);
        path.extend(last);
        Verdict::Broken(what, path)
    } else if visited.states.len() > limit {
        Verdict::TooLarge
    } else {
        match first_stuck(visited.states.len(), edges, ends) {
            Some(state) => Verdict::Stuck(trace(state)),
            None => Verdict::Holds,
        }
    };
    let depth = usize::from(*depths.last().expect("the initial state"));
    Report { states: visited.states.len(), transitions, depth, time: start.elapsed(), verdict }
}

/// The first state from which no end can be reached. `edges` are (to, from).
fn first_stuck(states: usize, edges: Vec<(u32, u32)>, ends: Vec<u32>) -> Option<u32> {
    let mut starts = vec![0u32; states + 1];
    for &(to, _) in &edges {
        starts[to as usize + 1] += 1;
    }
    for state in 0..states {
        starts[state + 1] += starts[state];
    }
    let mut next = starts.clone();
    let mut sources = vec![0u32; edges.len()];
    for (to, from) in edges {
        sources[next[to as usize] as usize] = from;
        next[to as usize] += 1;
    }
    let mut good = vec![false; states];
    let mut open = ends;
    for &end in &open {
        good[end as usize] = true;
    }
    while let Some(to) = open.pop() {
        for &from in &sources[starts[to as usize] as usize..starts[to as usize + 1] as usize] {
            if !good[from as usize] {
                good[from as usize] = true;
                open.push(from);
            }
        }
    }
    good.iter().position(|good| !good).map(|state| state as u32)
}

/// Labels of a shortest path to the state, found by taking the steps once more.
fn trace<M: Model>(model: &M, states: &[M::State], parents: &[u32], mut to: u32) -> Trace {
    let mut labels = Vec::new();
    let mut steps = Steps { found: Vec::new() };
    while parents[to as usize] != NOBODY {
        let from = parents[to as usize];
        model.steps(&states[from as usize], &mut steps);
        let taken = steps.found.drain(..).find(|(_, _, next)| *next == Ok(states[to as usize]));
        labels.extend(taken.map(|(label, ..)| label));
        to = from;
    }
    labels.reverse();
    labels
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, transitions, depth, time, verdict } = self;
        write!(f, "{states:>9} states {transitions:>10} transitions {depth:>4} deep {time:>7.1?}: ")?;
        match verdict {
            Verdict::Holds => write!(f, "holds"),
            Verdict::Broken(what, trace) => write!(f, "broken after {} steps: {what}", trace.len()),
            Verdict::Stuck(trace) => write!(f, "stuck after {} steps", trace.len()),
            Verdict::TooLarge => write!(f, "too large"),
        }
    }
}

impl Report {
    /// The trace in words, steps of one process in a row on one line.
    pub fn told(&self) -> String {
        let (Verdict::Broken(_, trace) | Verdict::Stuck(trace)) = &self.verdict else { return String::new() };
        let mut text = String::new();
        let mut last = ("", 0);
        for &(who, number, what) in trace {
            if (who, number) == last {
                text += &format!("; {what}");
            } else {
                text += &format!("\n  {who}{number}: {what}");
                last = (who, number);
            }
        }
        text
    }
}
