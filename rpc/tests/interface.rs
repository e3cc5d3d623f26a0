//! What an interface may look like.

#[path = "../../tests/common/mod.rs"]
mod common;

use common::place::Place;
use ringpost_rpc::{Binding, Description, Server};

/// Names that are words of the language, and methods that are not there, or there in one of two forms.
#[ringpost_rpc::interface]
trait Odd {
    fn r#match(&self, r#type: &mut u32, r#fn: u8) -> u32;
    #[cfg(any())]
    fn never(&self, a: NoSuchType) -> NoOtherType;
    #[cfg(any())]
    fn either(&self) -> NoSuchType;
    /// The one that is there.
    #[cfg(not(any()))]
    fn either(&self) -> u8;
}

/// Types with names that generated code uses.
mod names {
    #[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
    pub struct Codec(pub u8);
    #[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
    pub struct AsBytes(pub Codec);
    #[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
    pub struct Frame;
    #[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
    pub struct Result;
    #[derive(serde::Serialize, serde::Deserialize, Clone, PartialEq, Debug)]
    pub struct Implementation;

    #[ringpost_rpc::interface]
    pub trait Names {
        fn implementation(&self, given: Implementation) -> Implementation;
        /// As every value has it, by value.
        fn into(&self) -> u8;
        fn try_into(&mut self, number: u8) -> u8;
        fn codec(&self, client: Codec, frame: Frame, answer: &mut AsBytes) -> Option<Codec>;
        fn client(&self, call: Result) -> Result;
    }
}

/// Warnings are for who calls what is deprecated, and those that are silenced are so in all that is made of a method.
#[deny(warnings)]
mod silent {
    #[deprecated]
    #[ringpost_rpc::interface]
    pub trait Old {
        fn f(&self);
    }

    #[allow(non_snake_case, clippy::too_many_arguments)]
    #[ringpost_rpc::interface]
    pub trait Legacy {
        #[deprecated]
        fn old(&self);
        fn GetAll(&self, A: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: &mut u8) -> u8;
    }

    #[ringpost_rpc::interface]
    pub trait Mixed {
        #[allow(non_snake_case)]
        fn GetOne(&self, A: u8, B: &mut u8);
    }
}

/// No method is left of it.
#[ringpost_rpc::interface]
trait Empty {
    #[cfg(any())]
    fn never(&self, a: NoSuchType);
}

#[derive(Clone)]
struct Work;

impl Odd for Work {
    fn r#match(&self, r#type: &mut u32, r#fn: u8) -> u32 {
        *r#type += 1;
        r#fn.into()
    }

    fn either(&self) -> u8 {
        7
    }
}

#[test]
fn child_process() {
    common::play_role(|words, line| {
        let server = Server::on(ringpost::listen(words[1]).unwrap());
        line.tell(0);
        server.serve(OddServer(Work));
    });
}

#[test]
fn words_of_the_language_are_names_and_conditions_hold_for_all_that_is_made_of_a_method() {
    let place = Place::new();
    let _server = place.server("serve", "");
    let mut client = OddClient::bind(Binding::path(&*place)).unwrap();
    let mut number = 1;
    assert_eq!(client.r#match(&mut number, 5).unwrap(), 5);
    assert_eq!((number, client.either().unwrap()), (2, 7));
    // Numbers are a part of it: another method before this one, that is not there, is a difference.
    let described = Description::of::<OddInterface>();
    assert!(described.text().contains("  3 either() -> u8 (1 bytes)"), "{}", described.text());
    assert!(!described.text().contains("never"));
    assert_eq!(Description::of::<EmptyInterface>().text(), "interface Empty\n");
}
