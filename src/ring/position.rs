//! Positions and the arithmetic of the wrap. Pure.

/// Bytes in a unit; records begin and end at whole units.
pub(crate) const UNIT: u64 = 8;

/// Bits beside a position in a shared word: they hold a record state or an owner slot.
const LOW_BITS: u32 = 8;

/// A place in the stream of units that has passed through the ring since it was made, modulo 2^56.
///
/// Positions are compared by subtraction only ([`Position::since`]): they wrap, after 2^59 bytes.
///
/// Held as it stands in shared words, `units << 8`, so that 64-bit arithmetic wraps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position(u64);

impl Position {
    /// The position `units` after the birth of the ring, modulo 2^56.
    pub(crate) const fn new(units: u64) -> Self {
        Self(units << LOW_BITS)
    }

    /// Units since the birth of the ring, modulo 2^56.
    pub(crate) const fn units(self) -> u64 {
        self.0 >> LOW_BITS
    }

    /// The position `units` further on.
    #[inline]
    pub(crate) const fn plus(self, units: u64) -> Self {
        Self(self.0.wrapping_add(units << LOW_BITS))
    }

    /// The position `units` before.
    #[inline]
    pub(crate) const fn back(self, units: u64) -> Self {
        Self(self.0.wrapping_sub(units << LOW_BITS))
    }

    /// Units from `earlier` to `self`. An `earlier` that is later gives a number near 2^56.
    #[inline]
    pub(crate) const fn since(self, earlier: Self) -> u64 {
        self.0.wrapping_sub(earlier.0) >> LOW_BITS
    }

    /// Whether this position is `other` or behind it, when the two are less than 2^55 units apart.
    pub(crate) const fn has_reached(self, other: Self) -> bool {
        self.since(other) >> (63 - LOW_BITS) == 0
    }

    /// `position << 8 | low`: how positions stand in shared words.
    #[inline]
    pub(crate) const fn with_low_byte(self, low: u8) -> u64 {
        self.0 | low as u64
    }

    /// The reverse of [`Position::with_low_byte`].
    #[inline]
    pub(crate) const fn split(word: u64) -> (Self, u8) {
        (Self(word & !0xff), word as u8)
    }
}

/// Capacity and wrap rule of a data area: everything that is needed to place a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    capacity: u64,
    mirrored: bool,
    // What follows from the two.
    mask: u64,
    longest_payload: u64,
}

/// Units of a record's header.
pub(crate) const HEADER_UNITS: u64 = 2;

impl Geometry {
    /// `capacity` bytes, a power of two; `mirrored` when the area is mapped twice back to back.
    pub(crate) const fn new(capacity: u64, mirrored: bool) -> Self {
        assert!(capacity.is_power_of_two() && capacity >= 64);
        let room = capacity - HEADER_UNITS * UNIT;
        // Without the mirror a payload may have to leave out nearly its own length before the end of the area.
        let longest = if mirrored { room } else { (room / 2) & !(UNIT - 1) };
        let longest_payload = if longest < u32::MAX as u64 { longest } else { u32::MAX as u64 };
        Self { capacity, mirrored, mask: capacity - 1, longest_payload }
    }

    /// Bytes of the data area.
    pub(crate) const fn capacity(self) -> u64 {
        self.capacity
    }

    /// Units of the data area.
    #[inline]
    pub(crate) const fn capacity_units(self) -> u64 {
        self.capacity / UNIT
    }

    /// Whether the data area is mapped twice back to back.
    pub(crate) const fn mirrored(self) -> bool {
        self.mirrored
    }

    /// Byte offset of a position in the data area.
    #[inline]
    pub(crate) const fn offset(self, position: Position) -> u64 {
        (position.0 >> (LOW_BITS - UNIT.ilog2())) & self.mask
    }

    /// The longest payload that fits at every position, in bytes.
    #[inline]
    pub(crate) const fn longest_payload(self) -> u64 {
        self.longest_payload
    }

    /// Units between the header and the payload of a record at `position`: left out before the end of the area.
    #[inline]
    const fn gap_units(self, position: Position, length: u64) -> u64 {
        if self.mirrored {
            return 0;
        }
        let start = self.offset(position.plus(HEADER_UNITS));
        if start + length > self.capacity { (self.capacity - start) / UNIT } else { 0 }
    }

    /// Byte offset of the payload of a record at `position`.
    #[inline]
    pub(crate) const fn payload_offset(self, position: Position, length: u64) -> u64 {
        self.offset(position.plus(HEADER_UNITS + self.gap_units(position, length)))
    }

    /// Units of the whole record.
    #[inline]
    pub(crate) const fn size_units(self, position: Position, length: u64) -> u64 {
        HEADER_UNITS + self.gap_units(position, length) + length.div_ceil(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_wrap_and_are_compared_by_subtraction() {
        let last = Position::new(u64::MAX);
        assert_eq!(last.units(), (1 << 56) - 1);
        let next = last.plus(3);
        assert_eq!(next.units(), 2);
        assert_eq!(next.since(last), 3);
        assert_eq!(last.since(next), (1 << 56) - 3);
        assert!(next.has_reached(last) && next.has_reached(next) && !last.has_reached(next));
        assert_eq!(Position::split(last.with_low_byte(0xab)), (last, 0xab));
    }

    #[test]
    fn payload_never_crosses_the_end_and_sizes_add_up_at_every_position() {
        for mirrored in [false, true] {
            let geometry = Geometry::new(256, mirrored);
            for units in 0..64 {
                let position = Position::new((1 << 56) - 32 + units);
                for length in 0..=geometry.longest_payload() {
                    let start = geometry.payload_offset(position, length);
                    if !mirrored {
                        assert!(start + length <= 256, "{length} bytes at {units}");
                    }
                    let size = geometry.size_units(position, length);
                    assert!(size <= geometry.capacity_units());
                    let end = geometry.offset(position.plus(size));
                    let gap = end.wrapping_sub(start + length) & 255;
                    assert!(gap < UNIT || length == 0 && gap < 256, "{length} bytes at {units} leave {gap}");
                }
            }
        }
    }

    #[test]
    fn a_shorter_payload_is_never_the_larger_record() {
        let geometry = Geometry::new(128, false);
        for units in 0..16 {
            let sizes =
                (0..=geometry.longest_payload()).map(|n| geometry.size_units(Position::new(units), n));
            assert!(sizes.is_sorted());
        }
    }
}
