//! Values to bytes and back.
//!
//! What a type is tells how: plain old data goes as its bytes, a `Vec` of it as a length and the bytes, all else by postcard,
//! within bounds. The generated code asks by calling a method on `&&&&Codec<T>`: the compiler takes the first of the traits below that the
//! type has, each one reference further in.

use crate::{
    bounded::{self, MOST_OF_NO_SIZE, TOO_MANY_OF_NO_SIZE},
    error::{CallError, Malformed},
};
use ringpost::Region;
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, marker::PhantomData, vec::Drain};
use zerocopy::{Immutable, IntoBytes, TryFromBytes};

/// What is sent: the arguments of a call, or an answer.
#[derive(Debug, Default)]
pub struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// They go ahead of it, each in a message of its own.
    pub(crate) regions: Vec<Region>,
}

impl Frame {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.regions.clear();
    }

    /// What a call ends with that has an argument which can't be written. The regions before it are the caller's to free. For
    /// generated code.
    #[cold]
    pub fn refuse(&mut self, why: Malformed) -> CallError {
        self.clear();
        CallError::Argument(why)
    }
}

/// What was received: the arguments of a call, or an answer.
#[derive(Debug)]
pub struct Parcel<'a> {
    bytes: &'a [u8],
    /// Whoever reads one has it alone.
    regions: Drain<'a, Region>,
}

impl<'a> Parcel<'a> {
    pub(crate) fn new(frame: &'a mut Frame) -> Self {
        Self { bytes: &frame.bytes, regions: frame.regions.drain(..) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Malformed("it ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// [`Malformed`] when something is.
    pub fn end(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() && self.regions.len() == 0 {
            Ok(())
        } else {
            Err(Malformed("something is left behind its end"))
        }
    }
}

/// How the values of a type go over the wire: both sides must agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// So many bytes, as they lie in memory.
    Plain(usize),
    /// A length, and so many bytes for each element.
    List(usize),
    /// As postcard writes it.
    Postcard,
    /// As a [`Region`]: its memory itself.
    Region,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(length) => write!(f, "{length} bytes"),
            Self::List(length) => write!(f, "list of {length} bytes"),
            Self::Postcard => f.write_str("postcard"),
            Self::Region => f.write_str("region"),
        }
    }
}

/// A type that can be passed by value: with serde's `Serialize` and `Deserialize`, and nothing borrowed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be passed to another process by value",
    label = "neither plain old data nor owned and serializable",
    note = "a reference or a pointer into the caller means nothing to the server: pass an owned value",
    note = "plain old data derives zerocopy's `TryFromBytes`, `IntoBytes`, `Immutable`; all else serde's `Serialize`, `Deserialize`"
)]
pub trait Argument: Serialize + DeserializeOwned {}

impl<T: Serialize + DeserializeOwned> Argument for T {}

/// The way of one type.
#[derive(Debug)]
pub struct Codec<T>(PhantomData<fn(T)>);

impl<T> Codec<T> {
    /// The only one.
    pub const NEW: Self = Self(PhantomData);
}

/// Large arguments, whose memory goes over the link itself.
pub trait AsRegion {
    /// How it goes over the wire.
    fn form(&self) -> Form {
        Form::Region
    }
    /// Adds it to the frame.
    fn write(&self, value: &Region, frame: &mut Frame) -> Result<(), Malformed>;
    /// Takes it out of the parcel.
    fn read(&self, parcel: &mut Parcel<'_>) -> Result<Region, Malformed>;
}

impl AsRegion for &&&Codec<Region> {
    fn write(&self, value: &Region, frame: &mut Frame) -> Result<(), Malformed> {
        if frame.regions.len() == MOST_REGIONS {
            return Err(Malformed("a call takes 16 regions at most"));
        }
        frame.regions.push(value.clone());
        Ok(())
    }

    fn read(&self, parcel: &mut Parcel<'_>) -> Result<Region, Malformed> {
        parcel.regions.next().ok_or(Malformed("a region is missing"))
    }
}

/// Regions of one call, or of one answer.
pub(crate) const MOST_REGIONS: usize = 16;

/// Plain old data: without padding, checked when it is read.
pub trait AsBytes<T> {
    /// How it goes over the wire.
    fn form(&self) -> Form {
        Form::Plain(size_of::<T>())
    }
    /// Adds it to the frame.
    fn write(&self, value: &T, frame: &mut Frame) -> Result<(), Malformed>;
    /// Takes it out of the parcel.
    fn read(&self, parcel: &mut Parcel<'_>) -> Result<T, Malformed>;
}

impl<T: IntoBytes + TryFromBytes + Immutable> AsBytes<T> for &&Codec<T> {
    #[inline]
    fn write(&self, value: &T, frame: &mut Frame) -> Result<(), Malformed> {
        frame.bytes.extend_from_slice(value.as_bytes());
        Ok(())
    }

    #[inline]
    fn read(&self, parcel: &mut Parcel<'_>) -> Result<T, Malformed> {
        plain(parcel.take(size_of::<T>())?)
    }
}

#[inline]
fn plain<T: TryFromBytes>(bytes: &[u8]) -> Result<T, Malformed> {
    T::try_read_from_bytes(bytes).map_err(|_| Malformed("its bytes are no value of the type"))
}

/// Many values of plain old data.
#[allow(clippy::ptr_arg, reason = "the argument's type is what it is")]
pub trait AsList<T> {
    /// How it goes over the wire.
    fn form(&self) -> Form {
        Form::List(size_of::<T>())
    }
    /// Adds them to the frame.
    fn write(&self, value: &Vec<T>, frame: &mut Frame) -> Result<(), Malformed>;
    /// Takes them out of the parcel.
    fn read(&self, parcel: &mut Parcel<'_>) -> Result<Vec<T>, Malformed>;
}

impl<T: IntoBytes + TryFromBytes + Immutable> AsList<T> for &Codec<Vec<T>> {
    fn write(&self, value: &Vec<T>, frame: &mut Frame) -> Result<(), Malformed> {
        check_count::<T>(value.len())?;
        frame.bytes.extend_from_slice(&value.len().to_ne_bytes());
        frame.bytes.extend_from_slice(value.as_slice().as_bytes());
        Ok(())
    }

    fn read(&self, parcel: &mut Parcel<'_>) -> Result<Vec<T>, Malformed> {
        const NO_ROOM: Malformed = Malformed("it claims more elements than there are");
        let count: usize = plain(parcel.take(size_of::<usize>())?)?;
        check_count::<T>(count)?;
        let bytes = parcel.take(count.checked_mul(size_of::<T>()).ok_or(NO_ROOM)?)?;
        if size_of::<T>() == 0 {
            return (0..count).map(|_| plain(bytes)).collect();
        }
        bytes.chunks_exact(size_of::<T>()).map(plain).collect()
    }
}

/// Elements that take no room must be few: nobody may be kept busy with what is nowhere.
fn check_count<T>(count: usize) -> Result<(), Malformed> {
    if size_of::<T>() == 0 && count > MOST_OF_NO_SIZE { Err(TOO_MANY_OF_NO_SIZE) } else { Ok(()) }
}

/// All else.
pub trait ByPostcard<T> {
    /// How it goes over the wire.
    fn form(&self) -> Form {
        Form::Postcard
    }
    /// Adds it to the frame.
    fn write(&self, value: &T, frame: &mut Frame) -> Result<(), Malformed>
    where
        T: Argument;
    /// Takes it out of the parcel.
    fn read(&self, parcel: &mut Parcel<'_>) -> Result<T, Malformed>
    where
        T: Argument;
}

impl<T> ByPostcard<T> for Codec<T> {
    fn write(&self, value: &T, frame: &mut Frame) -> Result<(), Malformed>
    where
        T: Argument,
    {
        frame.bytes = bounded::write(value, std::mem::take(&mut frame.bytes))?;
        Ok(())
    }

    fn read(&self, parcel: &mut Parcel<'_>) -> Result<T, Malformed>
    where
        T: Argument,
    {
        let (value, rest) = bounded::read(parcel.bytes)?;
        parcel.bytes = rest;
        Ok(value)
    }
}
