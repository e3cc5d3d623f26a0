//! What client and server must agree on.

use crate::{
    codec::{Form, Frame, Parcel},
    context::Context,
    error::Refusal,
};
use std::fmt::Write;

/// The methods of a service, as both sides know them. Made by [`interface`](macro@crate::interface).
pub trait Interface {
    /// The name of the trait.
    const NAME: &'static str;

    /// Adds each method.
    fn describe(description: &mut Description);
}

/// An interface in words: name, methods, the types of arguments and results as written, and how each goes over the wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description(String);

impl Description {
    /// That of an interface.
    pub fn of<I: Interface>() -> Self {
        let mut description = Self(format!("interface {}\n", I::NAME));
        I::describe(&mut description);
        description
    }

    /// Adds a method: its number in calls, its name, its arguments and its result.
    pub fn method(&mut self, number: u16, name: &str, arguments: &[(&str, Form)], returned: (&str, Form)) {
        let arguments: Vec<_> = arguments.iter().map(|(kind, form)| format!("{kind} ({form})")).collect();
        let (kind, form) = returned;
        let _ = writeln!(self.0, "  {number} {name}({}) -> {kind} ({form})", arguments.join(", "));
    }

    /// The words.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Tells interfaces apart: FNV-1a of the words, in 64 bits. It finds mistakes, not attacks.
    pub fn hash(&self) -> u64 {
        self.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

/// Answers the calls of one interface with an implementation. Made by [`interface`](macro@crate::interface).
pub trait Service {
    /// What it answers.
    type Interface: Interface;
    /// What does the work.
    type Implementation;

    /// A service of this implementation.
    fn new(implementation: Self::Implementation) -> Self;

    /// The implementation, with what the calls have changed in it.
    fn into_implementation(self) -> Self::Implementation;

    /// Does what a call asks for.
    ///
    /// # Errors
    /// [`Refusal::NoSuchMethod`]; [`Refusal::Malformed`], when the arguments, or the answer, are none of this interface.
    fn call(
        &mut self,
        method: u16,
        context: &Context<'_>,
        arguments: Parcel<'_>,
        answer: &mut Frame,
    ) -> Result<(), Refusal>;
}
