//! The words in which a cell of the table is described.

use ringpost::WaitStrategy;
use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// What the hardware or the kernel allows at best.
    Limit,
    /// The round trip, halved.
    Latency,
    /// One direction.
    Throughput,
}

/// How the payload gets in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Through a buffer of the caller at both ends.
    Copy,
    /// Written and read where it lies in shared memory.
    InPlace,
    /// In place, several messages published and received at once.
    Batch,
}

/// How a side waits for the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// Polls with one pause between two looks.
    Spin,
    /// Sleeps in the kernel.
    Sleep,
}

impl From<Wait> for WaitStrategy {
    /// How a ring does that.
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Spin => Self::Spin,
            Wait::Sleep => Self::Sleep,
        }
    }
}

/// Where the two processes are to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// As the command line says: two cores, unless there is only one.
    Apart,
    /// Both on one core.
    SameCore,
}

/// Which sizes a row is measured at.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// Those that the command line asks for.
    Asked,
    /// These, whatever was asked for.
    Fixed(&'static [usize]),
}

/// One series that a mechanism offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// What is measured.
    pub measure: Measure,
    /// `None` where there is no payload.
    pub variant: Option<Variant>,
    /// `None` where nobody waits.
    pub wait: Option<Wait>,
    /// At which sizes.
    pub sizes: Sizes,
}

impl Offer {
    /// Latency at the sizes that were asked for.
    pub const fn latency(variant: Variant, wait: Wait) -> Self {
        let (variant, wait) = (Some(variant), Some(wait));
        Self { measure: Measure::Latency, variant, wait, sizes: Sizes::Asked }
    }

    /// Throughput at the sizes that were asked for.
    pub const fn throughput(variant: Variant, wait: Wait) -> Self {
        let (variant, wait) = (Some(variant), Some(wait));
        Self { measure: Measure::Throughput, variant, wait, sizes: Sizes::Asked }
    }

    /// A limit.
    pub const fn limit(wait: Option<Wait>, sizes: &'static [usize]) -> Self {
        Self { measure: Measure::Limit, variant: None, wait, sizes: Sizes::Fixed(sizes) }
    }
}

macro_rules! word {
    ($($type:ty),*) => {$(
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}
word!(Measure, Variant, Wait);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_schema() {
        assert_eq!(Variant::InPlace.to_string(), "in-place");
        assert_eq!(Wait::Spin.to_string(), "spin");
        assert_eq!(Measure::Throughput.to_string(), "throughput");
    }
}
