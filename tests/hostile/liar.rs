//! The process that writes whatever it likes to every word.

use super::*;

pub struct Hostile {
    pub segment: Segment,
    pub noise: Noise,
    /// Every word of the areas that means something.
    pub known: Vec<usize>,
}

impl Hostile {
    pub fn at(ring: &Ring, seed: u64) -> Self {
        let segment = Segment::of(ring);
        let of_receiver = [0, 128, 136, 144, 256, 264, 320, 1024].map(|at| RECEIVER_AREA + at);
        let of_senders = [0, 128, 136, 144].map(|at| SENDERS_AREA + at);
        let of_slots = (0..segment.slots)
            .flat_map(|slot| [0, 8, 16, 24, 128, 136, 176, LOAN].map(|at| SLOTS + slot * SLOT + at));
        let known = of_receiver.into_iter().chain(of_senders).chain(of_slots).collect();
        Self { segment, noise: Noise(seed), known }
    }

    /// Storms with a calm behind each, in which the victim gets somewhere.
    pub fn write_for_ever(mut self, line: &Line) {
        line.tell(0);
        line.hear();
        loop {
            while self.segment.word(TRUCE).load(Relaxed) != 0 {
                thread::sleep(Duration::from_millis(1));
            }
            if self.noise.below(3) == 0 {
                self.mend();
            }
            let storm = self.noise.one_of(&[1, 3, 10, 100, 1000]);
            (0..storm).for_each(|_| self.write());
            let calm = self.noise.one_of(&[0, 0, 100, 1000, 20_000]);
            (0..calm).for_each(|_| std::hint::spin_loop());
        }
    }

    pub fn write(&mut self) {
        let (segment, noise) = (&self.segment, &mut self.noise);
        let position = segment.word(RECEIVER_AREA).load(Relaxed) & ((1 << 56) - 1);
        if noise.below(3) == 0 {
            // A record near the receiver's position, some of them sound.
            let at = position + noise.one_of(&[0, 0, 0, 1, 2, 3, 5, 8, 13, 100]);
            let capacity = segment.capacity as u64;
            let lengths = [0, 1, 8, 24, 100, 4000, capacity - 16, capacity - 15, capacity / 8, capacity];
            let odd = [u64::from(u32::MAX), 1 << 31, capacity + 1, capacity / 8 + 1, noise.below(1 << 32)];
            let length = if noise.below(4) == 0 { noise.one_of(&odd) } else { noise.one_of(&lengths) };
            let low = noise.number() & 0xffff_ffff;
            return segment.forge(at, noise.one_of(&[1, 1, 1, 2, 3, 0, 4]), length << 32 | low);
        }
        let at = match noise.below(4) {
            0 => noise.below(segment.map.len() as u64 / 8) as usize * 8,
            1 => noise.below(segment.control as u64 / 8) as usize * 8,
            _ => noise.one_of(&self.known),
        };
        let old = segment.word(at).load(Relaxed);
        let near = noise.below(33).wrapping_sub(16);
        let any = noise.number() & 0x3f_ffff;
        let pid = noise.one_of(&[IMPOSSIBLE, INIT, process::id().into(), any]);
        let value = match noise.below(11) {
            0 => 0,
            1 => u64::MAX,
            2 => noise.number(),
            3 => old ^ 1 << noise.below(64),
            4 => old.wrapping_add(near),
            5 => position.wrapping_add(near),
            6 => position.wrapping_add(near) << 8 | noise.below(4),
            7 => claim_of(pid, noise.below(4)),
            8 => position.wrapping_add(near) << 16 | noise.below(5) << 8,
            9 => old & !0xff | noise.below(5),
            _ => 1 << noise.below(64),
        };
        if at == TRUCE {
            return;
        }
        if noise.below(4) == 0 {
            segment.half(at + 4 * noise.below(2) as usize).store(value as u32, Relaxed);
        } else {
            segment.word(at).store(value, Relaxed);
        }
    }

    /// Makes the ring look like an empty one that nobody uses, so that the victim gets farther than the first check.
    pub fn mend(&mut self) {
        let segment = &self.segment;
        let tail = segment.word(SENDERS_AREA).load(Relaxed) >> 8;
        // Lent to nobody.
        segment.word(SENDERS_AREA).store(tail << 8 | 1, Relaxed);
        segment.claims().for_each(|claim| segment.word(claim).store(0, Relaxed));
        segment.word(RECEIVER_AREA).store(tail, Relaxed);
        segment.word(RECEIVER_AREA + 128).store(0, Relaxed);
    }
}

/// Claims every place for one dead process after the other, faster than anybody can prove their deaths: there is a
/// process with their id, which started at another time.
pub fn claim_in_many_names(ring: &Ring, line: &Line) {
    let segment = Segment::of(ring);
    let mut started = 0;
    line.tell(0);
    loop {
        started += 1;
        let claim = started << 30 | INIT << 8 | 1;
        segment.claims().for_each(|at| segment.word(at).store(claim, Relaxed));
    }
}
