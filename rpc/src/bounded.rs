//! Postcard within bounds: whoever sends, neither the stack nor the time of who reads is used up by a few bytes.
//!
//! A wrapper stands around each part of a (de)serializer, and around each value in it, and knows how deep it is. Both sides
//! count in the same way, so that what can be sent can be read.

mod read;
mod write;

use crate::error::Malformed;
use serde::{Serialize, de::DeserializeOwned};
use std::cell::Cell;

/// Levels of values in values: each `Some`, each wrapper of one field, each field or element is one below what it is in.
/// As many as serde_json takes.
const DEEPEST: u32 = 128;
const TOO_DEEP: Malformed = Malformed("it is nested deeper than 128 levels");

/// Elements of one value's sequences and maps that take no byte.
pub(crate) const MOST_OF_NO_SIZE: usize = 1 << 16;
pub(crate) const TOO_MANY_OF_NO_SIZE: Malformed = Malformed("it has more than 65536 elements of no size");

/// Adds a value to the bytes.
pub(crate) fn write<T: Serialize>(value: &T, bytes: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    let tally = Tally::default();
    let inner = Bounded { inner: value, level: Level::first(&tally) };
    postcard::to_extend(&inner, bytes).map_err(|_| {
        tally.breach.get().unwrap_or(Malformed("postcard can't write it: a sequence of unknown length"))
    })
}

/// Takes a value from the start of the bytes; gives it, and the rest.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Malformed> {
    let tally = Tally::default();
    let mut inner = postcard::Deserializer::from_bytes(bytes);
    T::deserialize(Bounded { inner: &mut inner, level: Level::first(&tally) })
        .and_then(|value| Ok((value, inner.finalize()?)))
        .map_err(|_| tally.breach.get().unwrap_or(Malformed("it is nothing of postcard's")))
}

/// A part of a (de)serializer, or a value, and where in the whole value that is.
struct Bounded<'t, T> {
    inner: T,
    level: Level<'t>,
}

#[derive(Clone, Copy)]
struct Level<'t> {
    depth: u32,
    /// Whether the type leaves the number of what is in it open: a sequence, a map.
    is_open: bool,
    tally: &'t Tally,
}

/// What is counted in one value.
struct Tally {
    /// Elements of no size that there may still be: an element costs one, and every value that takes a byte of its own gives
    /// one. An element that takes bytes has such a value in it, so only the others cost anything.
    left: Cell<usize>,
    breach: Cell<Option<Malformed>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { left: Cell::new(MOST_OF_NO_SIZE), breach: Cell::new(None) }
    }
}

impl<'t> Level<'t> {
    fn first(tally: &'t Tally) -> Self {
        Self { depth: 0, is_open: false, tally }
    }

    fn around<T>(self, inner: T) -> Bounded<'t, T> {
        Bounded { inner, level: self }
    }

    /// That of a sequence or a map here.
    fn open(self) -> Self {
        Self { is_open: true, ..self }
    }

    /// What is in it; fails in the words of the (de)serializer.
    fn within<T, E>(self, inner: T, fail: impl FnOnce(Malformed) -> E) -> Result<Bounded<'t, T>, E> {
        if self.depth == DEEPEST {
            return Err(fail(self.breach(TOO_DEEP)));
        }
        Ok(Self { depth: self.depth + 1, is_open: false, ..self }.around(inner))
    }

    /// Something here takes a byte at least.
    fn takes_bytes(self) -> Self {
        self.tally.left.set(self.tally.left.get().saturating_add(1));
        self
    }

    /// One of the things that are in it is complete.
    fn count<E>(self, fail: impl FnOnce(Malformed) -> E) -> Result<(), E> {
        if self.is_open {
            let left = self.tally.left.get().checked_sub(1);
            self.tally.left.set(left.ok_or_else(|| fail(self.breach(TOO_MANY_OF_NO_SIZE)))?);
        }
        Ok(())
    }

    /// Postcard's errors have no words: so they are kept here.
    fn breach(self, why: Malformed) -> Malformed {
        self.tally.breach.set(Some(why));
        why
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    enum Tree {
        Leaf,
        Next(Box<Tree>),
        Both { left: Box<Tree>, right: Box<Tree> },
        Pair(Box<Tree>, u8),
        Some(Option<Box<Tree>>),
        Many(Vec<Tree>),
        Named(BTreeMap<u8, Tree>),
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Wrapper(Vec<Wrapper>);

    /// Only a reader can be sent into it: it takes no byte.
    #[derive(Deserialize, Debug)]
    struct Endless(#[allow(dead_code, reason = "no value of it can be made")] Box<Endless>);

    fn nested(levels: u32, around: impl Fn(Tree) -> Tree) -> Tree {
        (0..levels).fold(Tree::Leaf, |tree, _| around(tree))
    }

    type Way = fn(Tree) -> Tree;

    /// All ways to nest a value, and how many levels one takes.
    fn ways() -> [(u32, Way); 6] {
        [
            (1, |tree| Tree::Next(tree.into())),
            (1, |tree| Tree::Both { left: Tree::Leaf.into(), right: tree.into() }),
            (1, |tree| Tree::Pair(tree.into(), 1)),
            (2, |tree| Tree::Some(Some(tree.into()))),
            (2, |tree| Tree::Many(vec![Tree::Leaf, tree])),
            (2, |tree| Tree::Named([(1, tree)].into())),
        ]
    }

    #[test]
    fn what_is_as_deep_as_allowed_comes_back_and_one_level_more_is_not_sent() {
        for (levels, around) in ways() {
            let deepest = nested(DEEPEST / levels, around);
            let bytes = write(&deepest, Vec::new()).unwrap();
            assert_eq!(bytes, postcard::to_allocvec(&deepest).unwrap(), "it is what postcard writes");
            assert_eq!(read(&bytes).unwrap(), (deepest, &[][..]));
            let deeper = nested(DEEPEST / levels + 1, around);
            assert_eq!(write(&deeper, Vec::new()), Err(TOO_DEEP));
            let bytes = postcard::to_allocvec(&deeper).unwrap();
            assert_eq!(read::<Tree>(&bytes), Err(TOO_DEEP));
        }
    }

    #[test]
    fn no_bytes_lead_deeper_than_allowed() {
        // Each is a start of a value without end.
        for variant in 1..=6 {
            assert_eq!(read::<Tree>(&[variant, 1].repeat(1 << 20)), Err(TOO_DEEP), "{variant}");
        }
        assert_eq!(read::<Wrapper>(&vec![1; 1 << 20]), Err(TOO_DEEP));
        assert_eq!(read::<Endless>(&[]).unwrap_err(), TOO_DEEP);
    }

    #[test]
    fn elements_of_no_size_have_a_bound_and_others_have_none_but_their_bytes() {
        type Mixed = Vec<((), u8, [(); 3])>;
        let most = vec![(); MOST_OF_NO_SIZE + 1];
        let bytes = write(&most, Vec::new()).unwrap();
        assert_eq!(read::<Vec<()>>(&bytes).unwrap().0.len(), most.len(), "its length takes bytes, too");
        for more in [MOST_OF_NO_SIZE + 2, usize::MAX] {
            assert_eq!(write(&vec![(); more], Vec::new()), Err(TOO_MANY_OF_NO_SIZE));
            let bytes = postcard::to_allocvec(&more).unwrap();
            assert_eq!(read::<Vec<()>>(&bytes), Err(TOO_MANY_OF_NO_SIZE));
            assert_eq!(read::<Vec<[(); 3]>>(&bytes), Err(TOO_MANY_OF_NO_SIZE));
        }
        // Also in many parts of one value.
        let parts = vec![vec![(); 1000]; 100];
        assert_eq!(write(&parts, Vec::new()), Err(TOO_MANY_OF_NO_SIZE));
        assert_eq!(read::<Vec<Vec<()>>>(&postcard::to_allocvec(&parts).unwrap()), Err(TOO_MANY_OF_NO_SIZE));
        let mixed: Mixed = vec![((), 1, [(); 3]); 3 * MOST_OF_NO_SIZE];
        assert_eq!(read::<Mixed>(&write(&mixed, Vec::new()).unwrap()).unwrap().0, mixed);
        let maps = vec![BTreeMap::from([((), vec![String::new(); 4])]); MOST_OF_NO_SIZE];
        assert_eq!(
            read::<Vec<BTreeMap<(), Vec<String>>>>(&write(&maps, Vec::new()).unwrap()).unwrap().0,
            maps
        );
    }
}
