//! The two header words of a record. Pure.
//!
//! ```text
//! tag    key ^ ( position : 56 | state : 8 )
//! info   length : 32 | kind : 16 | owner : 8 | previous : 8
//! ```

use super::position::Position;

/// What a valid tag says of the record at its position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// A message. `info.length` counts the bytes of the payload.
    Committed = 1,
    /// Nothing to deliver. `info.length` counts the units of the whole record.
    Discarded = 2,
    /// Nothing to deliver, one unit long: there is no info word.
    Filler = 3,
    /// A message that its sender can still take back, in a rendezvous. `info.length` counts the bytes of the payload.
    Offered = 4,
    /// Was offered, and taken back: nothing to deliver. `info.length` counts the bytes of the payload that it had.
    Withdrawn = 5,
}

/// The tag that makes a header valid at `position`, and at no other.
#[inline]
pub(crate) const fn tag(key: u64, position: Position, state: State) -> u64 {
    key ^ position.with_low_byte(state as u8)
}

/// The state that `tag` gives the record at `position`; `None` when it isn't valid there.
#[inline]
pub(crate) const fn state_at(key: u64, position: Position, tag: u64) -> Option<State> {
    match (tag ^ key).wrapping_sub(position.with_low_byte(0)) {
        1 => Some(State::Committed),
        2 => Some(State::Discarded),
        3 => Some(State::Filler),
        4 => Some(State::Offered),
        5 => Some(State::Withdrawn),
        _ => None,
    }
}

/// The second header word. Kept whole, and taken apart where a field is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Info(pub(super) u64);

impl Info {
    /// `owner` is the slot of the sender, from 1, and `previous` the slot of whoever reserved before it, 0 for the first
    /// reservation. In a ring with one sender: its turn (`claim.rs`), and nothing.
    #[inline]
    pub(crate) const fn new(length: u32, kind: u16, owner: u8, previous: u8) -> Self {
        Self((length as u64) << 32 | (kind as u64) << 16 | (owner as u64) << 8 | previous as u64)
    }

    #[inline]
    pub(crate) const fn with_length(self, length: u32) -> Self {
        Self::new(length, self.kind(), self.owner(), self.previous())
    }

    #[inline]
    pub(crate) const fn with_kind(self, kind: u16) -> Self {
        Self::new(self.length(), kind, self.owner(), self.previous())
    }

    /// As it stands in memory.
    pub(crate) const fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// Bytes of the payload, or units of the record: see [`State`].
    #[inline]
    pub(crate) const fn length(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The user's kind of message.
    #[inline]
    pub(crate) const fn kind(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    pub(crate) const fn owner(self) -> u8 {
        (self.0 >> 8) as u8
    }

    #[inline]
    pub(crate) const fn previous(self) -> u8 {
        self.0 as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_valid_at_its_own_position_only() {
        let key = 0x0123_4567_89ab_cdef;
        let here = Position::new(u64::MAX);
        for state in [State::Committed, State::Discarded, State::Filler, State::Offered, State::Withdrawn] {
            let word = tag(key, here, state);
            assert_eq!(state_at(key, here, word), Some(state));
            for other in [here.plus(1), here.plus(1 << 13), here.plus((1 << 56) - 1)] {
                assert_eq!(state_at(key, other, word), None);
            }
            assert_eq!(state_at(key + 1, here, word), None);
        }
        assert_eq!(state_at(key, here, 0), None);
        assert_eq!(state_at(key, here, key ^ here.with_low_byte(0)), None);
        assert_eq!(state_at(key, here, key ^ here.with_low_byte(6)), None);
    }

    #[test]
    fn info_survives_the_round_trip() {
        let info = Info::new(u32::MAX - 1, 0xfffe, 0xfd, 0xfc);
        assert_eq!(info.0, 0xffff_fffe_fffe_fdfc);
        assert_eq!(
            (info.length(), info.kind(), info.owner(), info.previous()),
            (u32::MAX - 1, 0xfffe, 0xfd, 0xfc)
        );
    }
}
