//! What is refused, and in which words.

use super::*;
use proc_macro2::{Ident, TokenTree};
use quote::ToTokens;
use syn::parse_str;

#[track_caller]
fn assert_refused(declared: &str, words: &str) {
    let declared: ItemTrait = parse_str(declared).unwrap();
    let error = expand(&declared).map(|code| code.to_string()).unwrap_err().to_string();
    assert!(error.contains(words), "{error}");
}

#[track_caller]
fn assert_refused_type(kind: &str, words: &str) {
    assert_refused(&format!("trait T {{ fn f(&self, first: u8, a: {kind}); }}"), words);
    assert_refused(&format!("trait T {{ fn f(&self) -> {kind}; }}"), words);
}

#[test]
fn what_points_into_the_caller_is_refused() {
    for kind in ["&str", "&'static [u8]", "Option<&u8>", "(u8, Vec<&mut u8>)", "[&u8; 4]", "&Context"] {
        assert_refused_type(kind, "a reference points into the caller");
    }
    assert_refused("trait T { fn f(&self, a: &mut &u8); }", "a reference points into the caller");
    assert_refused("trait T { fn f(&self) -> &mut u8; }", "a reference points into the caller");
    for kind in ["*const u8", "*mut u8", "Vec<*const u8>"] {
        assert_refused_type(kind, "a pointer points into the caller");
    }
    assert_refused_type("fn(u8) -> u8", "a function pointer points into the caller's code");
    assert_refused_type("Box<dyn Fn()>", "a trait object can't be passed by value");
    assert_refused_type("Cow<'static, str>", "a value with a lifetime borrows from the caller");
    assert_refused_type("impl Clone", "the type must be named");
    assert_refused("trait T { fn f(&self, a: &mut [u8]); }", "use `Vec<T>` or `[T; N]`");
    for kind in ["Self", "Vec<Self>", "Self::Output", "<Self as A>::Output", "[u8; Self::LENGTH]"] {
        assert_refused_type(kind, "name the type");
    }
}

#[test]
fn what_is_no_remote_method_is_refused() {
    for (declared, words) in [
        ("trait T {}", "at least one method"),
        ("trait T<A> { fn f(&self); }", "can't be generic"),
        ("trait T { const A: u8; fn f(&self); }", "has methods only"),
        ("trait T { fn f<A>(&self, a: A); }", "can't be generic"),
        ("trait T { async fn f(&self); }", "can't be `async`"),
        ("trait T { unsafe fn f(&self); }", "can't be `unsafe`"),
        ("trait T { fn f(&self) {} }", "has no body"),
        ("trait T { fn f(); }", "takes `&self` or `&mut self`"),
        ("trait T { fn f(self); }", "takes `&self` or `&mut self`"),
        ("trait T { fn f(&'static self); }", "takes `&self` or `&mut self`"),
        ("trait T { fn f(&self, (a, b): (u8, u8)); }", "needs a plain name"),
        ("trait T { fn bind(&self); }", "take another name"),
        ("trait T { fn f(&self, #[cfg(unix)] a: u8); }", "no condition of its own"),
    ] {
        assert_refused(declared, words);
    }
}

#[test]
fn types_are_spelt_by_their_tokens_alone() {
    for (written, spelt) in [
        ("Vec < u8 >", "Vec<u8>"),
        ("[ u8 ; 4 ]", "[u8;4]"),
        ("( a :: B, )", "(a::B,)"),
        ("Box<dyn  A>", "Box<dyn A>"),
    ] {
        assert_eq!(spell(&parse_str::<syn::Type>(written).unwrap()), spelt);
    }
}

#[test]
fn what_a_type_lacks_is_told_where_the_type_stands() {
    let declared: ItemTrait = parse_str("trait T { fn f(&self, a: A, b: &mut B) -> C; }").unwrap();
    let columns = |code: Code, word: &str| -> Vec<usize> {
        words(code)
            .into_iter()
            .filter(|found| found == word)
            .map(|found| found.span().start().column)
            .collect()
    };
    let types = ["A", "B", "C"].map(|name| columns(declared.to_token_stream(), name)[0]);
    for way in ["write", "read"] {
        let mut found = columns(expand(&declared).unwrap(), way);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found, types, "{way}");
    }
}

/// All words of the code.
fn words(code: Code) -> Vec<Ident> {
    let words = code.into_iter().flat_map(|token| match token {
        TokenTree::Group(group) => words(group.stream()),
        TokenTree::Ident(word) => vec![word],
        _ => Vec::new(),
    });
    words.collect()
}
