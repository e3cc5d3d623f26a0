//! Copying from and to memory that another process may write at the same time. The result may then be torn, but nothing
//! is undefined: it is read by instructions that the compiler doesn't see through, and only the copy is looked at.

/// Copies `to.len()` bytes out of shared memory.
///
/// # Safety
/// `from` must be valid for reads of `to.len()` bytes, which don't overlap `to`.
pub(crate) unsafe fn out_of_shared(from: *const u8, to: &mut [u8]) {
    // SAFETY: as the caller promises; `to` is ours alone.
    unsafe { copy(from, to.as_mut_ptr(), to.len()) }
}

/// Copies `from` into shared memory.
///
/// # Safety
/// `to` must be valid for writes of `from.len()` bytes, which don't overlap `from`.
#[inline]
pub(crate) unsafe fn into_shared(from: &[u8], to: *mut u8) {
    // SAFETY: as the caller promises; `from` is borrowed.
    unsafe {
        match from.len() {
            8..=SHORT => copy_words(from.as_ptr(), to, from.len()),
            length => copy(from.as_ptr(), to, length),
        }
    }
}

/// Bytes of a message that its sender has just put together, as a rule: of fields that it has stored one by one. A load of more than was
/// stored at once waits until all stores before have left the processor, and before them come those of the last message.
const SHORT: usize = 128;

/// Eight bytes at a time, from the end: who polls the header's line would take it away again and again if the payload's
/// beginning, which lies there, were written while another line is still on its way here.
///
/// # Safety
/// As [`copy`], for at least 8 bytes.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_words(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the last 8 bytes, then full words down to the first, all inside `length`.
    unsafe {
        core::arch::asm!(
            "mov {x}, [{from} + {last}]",
            "mov [{to} + {last}], {x}",
            "test {at}, {at}",
            "jz 3f",
            "2:",
            "mov {x}, [{from} + {at} - 8]",
            "mov [{to} + {at} - 8], {x}",
            "sub {at}, 8",
            "jnz 2b",
            "3:",
            from = in(reg) from, to = in(reg) to, at = inout(reg) (length - 1) & !7 => _, last = in(reg) length - 8,
            x = out(reg) _, options(nostack),
        );
    }
}

/// 16 bytes at a time, or the processor's own string copy where that is faster. What is stored is read in pieces that are no larger: then
/// the reader need not wait.
///
/// # Safety
/// `from` and `to` must be valid for reads and writes of `length` bytes, which don't overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    use core::arch::asm;
    /// From here on `rep movsb` is faster than a loop.
    const STRING_COPY: usize = 2048;

    if length >= STRING_COPY {
        // SAFETY: reads and writes `length` bytes as promised; the direction flag is clear by the calling convention.
        unsafe {
            asm!("rep movsb", inout("rcx") length => _, inout("rsi") from => _, inout("rdi") to => _,
                options(nostack, preserves_flags));
        }
    } else if length >= 16 {
        // SAFETY: full blocks up to the last 16 bytes, at least one, then those 16, all inside `length`.
        unsafe {
            asm!(
                "2:",
                "movdqu {x}, [{from} + {at}]",
                "movdqu [{to} + {at}], {x}",
                "add {at}, 16",
                "cmp {at}, {last}",
                "jb 2b",
                "movdqu {x}, [{from} + {last}]",
                "movdqu [{to} + {last}], {x}",
                from = in(reg) from, to = in(reg) to, at = inout(reg) 0usize => _, last = in(reg) length - 16,
                x = out(xmm_reg) _, options(nostack),
            );
        }
    } else if length >= 8 {
        // SAFETY: the first and the last eight bytes, inside `length`.
        unsafe {
            asm!(
                "mov {x}, [{from}]",
                "mov [{to}], {x}",
                "mov {x}, [{from} + {last}]",
                "mov [{to} + {last}], {x}",
                from = in(reg) from, to = in(reg) to, last = in(reg) length - 8, x = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    } else if length >= 4 {
        // SAFETY: the first and the last four bytes, inside `length`.
        unsafe {
            asm!(
                "mov {x:e}, [{from}]",
                "mov [{to}], {x:e}",
                "mov {x:e}, [{from} + {last}]",
                "mov [{to} + {last}], {x:e}",
                from = in(reg) from, to = in(reg) to, last = in(reg) length - 4, x = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    } else {
        for at in 0..length {
            // SAFETY: inside `length`.
            unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", not(miri))))]
use copy as copy_words;

/// Words where both sides are aligned alike, else bytes.
///
/// # Safety
/// `from` and `to` must be valid for reads and writes of `length` bytes, which don't overlap.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    let mut at = 0;
    if from.addr() % 8 == 0 && to.addr() % 8 == 0 {
        while length - at >= 8 {
            // SAFETY: inside `length`, and aligned to 8.
            unsafe { to.add(at).cast::<u64>().write_volatile(from.add(at).cast::<u64>().read_volatile()) };
            at += 8;
        }
    }
    while at < length {
        // SAFETY: inside `length`.
        unsafe { to.add(at).write_volatile(from.add(at).read_volatile()) };
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_and_alignment_is_copied_exactly() {
        let source: Vec<u8> = (0..5000).map(|n| (n * 7 % 251) as u8).collect();
        let lengths =
            if cfg!(miri) { vec![0, 1, 7, 8, 17, 64] } else { (0..200).chain([2047, 2048, 4096]).collect() };
        for length in lengths {
            for shift in 0..9 {
                let mut target = vec![0xee; length + 16];
                // SAFETY: both vectors hold `shift + length` bytes and more.
                unsafe { out_of_shared(source.as_ptr().add(shift), &mut target[8..8 + length]) };
                assert_eq!(&target[8..8 + length], &source[shift..shift + length]);
                assert!(target[..8].iter().chain(&target[8 + length..]).all(|&byte| byte == 0xee));
                let mut back = vec![0xdd; length + 16];
                // SAFETY: `back` holds `shift + length` bytes and more.
                unsafe { into_shared(&target[8..8 + length], back.as_mut_ptr().add(shift)) };
                assert_eq!(&back[shift..shift + length], &source[shift..shift + length]);
                assert!(back[..shift].iter().chain(&back[shift + length..]).all(|&byte| byte == 0xdd));
            }
        }
    }
}
