//! A sound ring, between whose operations another process writes to its words. The input is a script of both, see `lib.rs`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringpost::WaitStrategy;
use ringpost_fuzz::{Script, Victim, Words};

/// Steps of one run.
const STEPS: usize = 128;

fuzz_target!(|input: &[u8]| {
    let mut script = Script::new(input);
    let Some(way) = script.byte() else { return };
    let builder = ringpost::unnamed().capacity(4096).wait(WaitStrategy::Sleep);
    let builder = if way & 1 == 0 { builder } else { builder.many_senders(1 + (way >> 6)) };
    let builder = if way & 2 == 0 { builder } else { builder.start_position((1 << 56) - 100) };
    let ring = builder.memfd().unwrap();
    let words = Words::of(ring.fd().unwrap().try_clone_to_owned().unwrap());
    let mut victim = Victim::new(ring);
    for _ in 0..STEPS {
        let Some(choice) = script.byte() else { break };
        let gone_on = if choice & 1 == 0 { words.disturb(&mut script) } else { victim.step(&mut script) };
        if gone_on.is_none() {
            break;
        }
    }
});
