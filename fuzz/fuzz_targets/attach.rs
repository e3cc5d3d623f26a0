//! A segment of any content: opened, attached to, and used.
//!
//! The first byte says how the segment is made: of the input's bytes alone, or from a sound ring of this machine, whose
//! header the input then changes, with a checksum that is right again. The rest is a script, see `lib.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringpost::WaitStrategy;
use ringpost_fuzz::{Script, Victim, Words, forged, segment, sound};

/// Bytes of the largest segment. What the header claims beyond is refused as too short.
const MOST: usize = 1 << 18;

/// Steps after opening.
const STEPS: usize = 64;

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new(input);
    let Some(way) = script.byte() else { return };
    let fd = if way & 1 == 0 {
        segment(script.rest(), script.rest().len())
    } else {
        let Some((header, length)) = forged(sound(way & 2 != 0), &mut script) else { return };
        segment(&header, length.min(MOST))
    };
    let words = Words::of(fd.try_clone().unwrap());
    for _ in 0..script.byte().unwrap_or(0) {
        words.disturb(&mut script);
    }
    let Ok(ring) = ringpost::unnamed().wait(WaitStrategy::Sleep).from_fd(fd) else { return };
    let mut victim = Victim::new(ring);
    for _ in 0..STEPS {
        if victim.step(&mut script).is_none() {
            break;
        }
    }
});
