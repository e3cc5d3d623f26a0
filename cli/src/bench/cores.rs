//! On which cores the two processes run.

use std::fs;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What `--pin` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The leader on the first, the follower on the second.
    Two(usize, usize),
    /// Both on the first core that may be used.
    Same,
    /// Wherever the kernel puts them.
    Free,
}

/// Cores of one sample; `None` leaves it to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cores {
    /// Of the process with the clock.
    pub leader: Option<usize>,
    /// Of the other one.
    pub follower: Option<usize>,
}

impl Cores {
    /// Whether the two take turns on one core.
    pub fn same(&self) -> bool {
        self.leader.is_some() && self.leader == self.follower
    }

    /// Both on `core`.
    pub fn on(core: usize) -> Self {
        Self { leader: Some(core), follower: Some(core) }
    }
}

/// The cores that this process may run on, in order.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_else(|_| {
        let mut first = CpuSet::new();
        let _ = first.set(0);
        first
    });
    (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
}

/// Reads the value of `--pin`.
pub fn parse(text: &str) -> Result<Pin, String> {
    let usable = allowed();
    match text {
        "same" => return Ok(Pin::Same),
        "none" => return Ok(Pin::Free),
        _ => {}
    }
    let core = |text: &str| -> Result<usize, String> {
        let core =
            text.trim().parse().map_err(|_| "give two cores as A,B, or `same`, or `none`".to_string())?;
        match usable.contains(&core) {
            true => Ok(core),
            false => Err(format!("core {core} is not one of those that this process may use: {usable:?}")),
        }
    };
    let (leader, follower) = text.split_once(',').ok_or("give two cores as A,B, or `same`, or `none`")?;
    Ok(Pin::Two(core(leader)?, core(follower)?))
}

/// The cores for samples that are to run apart.
pub fn apart(pin: Option<Pin>, usable: &[usize]) -> Cores {
    match pin {
        Some(Pin::Two(leader, follower)) => Cores { leader: Some(leader), follower: Some(follower) },
        Some(Pin::Same) => Cores::on(usable[0]),
        Some(Pin::Free) if usable.len() > 1 => Cores { leader: None, follower: None },
        _ => {
            let first = usable[0];
            let other = usable.iter().find(|core| !siblings(first, **core));
            let second = other.or(usable.get(1)).copied().unwrap_or(first);
            Cores { leader: Some(first), follower: Some(second) }
        }
    }
}

/// Whether two logical cores are threads of one physical core (or the same), as far as the kernel says.
fn siblings(one: usize, other: usize) -> bool {
    let of = |core: usize, what: &str| {
        fs::read_to_string(format!("/sys/devices/system/cpu/cpu{core}/topology/{what}")).unwrap_or_default()
    };
    let place = |core| (of(core, "physical_package_id"), of(core, "core_id"));
    one == other || (!of(one, "core_id").is_empty() && place(one) == place(other))
}

/// Moves the calling process to `core`, or lets it run on all of `usable`.
pub fn pin(core: Option<usize>, usable: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    match core {
        Some(core) => set.set(core)?,
        None => usable.iter().try_for_each(|core| set.set(*core))?,
    }
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("cannot move to core {core:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_parsed_and_checked() {
        let first = allowed()[0];
        assert_eq!(parse("same"), Ok(Pin::Same));
        assert_eq!(parse("none"), Ok(Pin::Free));
        assert_eq!(parse(&format!("{first},{first}")), Ok(Pin::Two(first, first)));
        assert!(parse("0,100000").unwrap_err().contains("100000"));
        assert!(parse("0").is_err() && parse("a,b").is_err() && parse("").is_err());
    }

    #[test]
    fn one_core_means_the_same_core() {
        assert!(apart(None, &[3]).same());
        assert!(apart(Some(Pin::Free), &[3]).same());
        assert!(apart(Some(Pin::Same), &[0, 1]).same());
        assert!(!apart(Some(Pin::Two(0, 1)), &[0, 1]).same());
        assert_eq!(apart(Some(Pin::Free), &[0, 1]).leader, None);
    }
}
