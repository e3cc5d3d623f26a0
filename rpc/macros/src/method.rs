//! One method of an interface, and what is made of it.

use crate::spell;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Error, FnArg, Lifetime, Pat, Path, Receiver, Result, ReturnType, Token, TraitItemFn, Type,
    TypeBareFn, TypeImplTrait, TypePtr, TypeReference, TypeSlice, TypeTraitObject,
    ext::IdentExt,
    spanned::Spanned,
    visit::{Visit, visit_path},
};

pub struct Method<'a> {
    function: &'a TraitItemFn,
    /// The `mut` of `&mut self`.
    changing: Option<Token![mut]>,
    /// Whether the handler gets the context of the call.
    with_context: bool,
    arguments: Vec<Argument<'a>>,
    /// `()` where nothing is written.
    returned: Type,
}

struct Argument<'a> {
    name: &'a Ident,
    kind: &'a Type,
    /// Copied there and back.
    restored: bool,
}

impl<'a> Method<'a> {
    pub fn new(function: &'a TraitItemFn) -> Result<Self> {
        let signature = &function.sig;
        let wrong = |span: Span, why: &str| Err(Error::new(span, why));
        if let Some(parameter) = signature.generics.params.first() {
            return wrong(parameter.span(), "a remote method can't be generic: its hash names exact types");
        }
        if let Some(token) = &signature.asyncness {
            return wrong(token.span(), "a remote method is called and waited for: it can't be `async` here");
        }
        if let Some(token) = &signature.unsafety {
            return wrong(
                token.span(),
                "a remote method can't be `unsafe`: nothing reaches the caller's memory",
            );
        }
        if let Some(body) = &function.default {
            return wrong(body.span(), "a remote method has no body here: the server implements it");
        }
        if signature.ident == "bind" {
            return wrong(signature.ident.span(), "`bind` is what makes a client: take another name");
        }
        let mut inputs = signature.inputs.iter();
        let changing = match inputs.next() {
            Some(FnArg::Receiver(Receiver { reference: Some((_, None)), mutability, .. })) => *mutability,
            _ => return wrong(signature.ident.span(), "a remote method takes `&self` or `&mut self`"),
        };
        let (mut arguments, mut with_context) = (Vec::new(), false);
        for (index, input) in inputs.enumerate() {
            let FnArg::Typed(typed) = input else { continue };
            let Pat::Ident(name) = &*typed.pat else {
                return wrong(typed.pat.span(), "an argument of a remote method needs a plain name");
            };
            let (kind, restored) = match &*typed.ty {
                Type::Reference(reference) if index == 0 && is_context(reference) => {
                    with_context = true;
                    continue;
                }
                Type::Reference(TypeReference { mutability: Some(_), lifetime: None, elem, .. }) => {
                    (&**elem, true)
                }
                other => (other, false),
            };
            if let Some(attribute) = typed.attrs.iter().find(|attribute| is_condition(attribute)) {
                return wrong(
                    attribute.span(),
                    "an argument has no condition of its own: write the method twice",
                );
            }
            by_value(kind)?;
            arguments.push(Argument { name: &name.ident, kind, restored });
        }
        let returned = match &signature.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, kind) => (**kind).clone(),
        };
        by_value(&returned)?;
        Ok(Self { function, changing, with_context, arguments, returned })
    }

    /// Under which the method is there, with all that is made of it.
    fn conditions(&self) -> TokenStream {
        let conditions = self.function.attrs.iter().filter(|attribute| is_condition(attribute));
        quote!(#(#conditions)*)
    }

    /// Adds the method to the description.
    pub fn described(&self, number: u16) -> TokenStream {
        let conditions = self.conditions();
        let name = self.function.sig.ident.to_string();
        let arguments = self.arguments.iter().map(|Argument { kind, restored, .. }| {
            let text = format!("{}{}", if *restored { "&mut " } else { "" }, spell(kind));
            let codec = codec(kind);
            quote!((#text, #codec.form()))
        });
        let (text, codec) = (spell(&self.returned), codec(&self.returned));
        quote!(#conditions description.method(#number, #name, &[#(#arguments),*], (#text, #codec.form()));)
    }

    /// The method of the client.
    pub fn call(&self, number: u16) -> TokenStream {
        let (name, returned) = (&self.function.sig.ident, &self.returned);
        let conditions = self.conditions();
        let [frame, answer, value] = ["frame", "answer", "value"].map(local);
        let kept = self.function.attrs.iter().filter(|attribute| {
            is_documentation(attribute) || is_allowance(attribute) || attribute.path().is_ident("deprecated")
        });
        let title = self.function.attrs.iter().all(|attribute| !is_documentation(attribute));
        let title = title.then(|| format!("Calls `{name}` of the server."));
        let title = title.map(|text| quote!(#[doc = #text]));
        let parameters = self.arguments.iter().map(|Argument { name, kind, restored }| {
            if *restored { quote!(#name: &mut #kind) } else { quote!(#name: #kind) }
        });
        let written = self.arguments.iter().map(|argument| {
            let (name, codec) = (argument.name, codec(argument.kind));
            let write = way("write", argument.kind);
            let location = write.span();
            let reference = if argument.restored {
                quote_spanned!(location=> &*#name)
            } else {
                quote_spanned!(location=> &#name)
            };
            quote!(#codec.#write(#reference, #frame).map_err(|why| #frame.refuse(why))?;)
        });
        let restored = || self.arguments.iter().filter(|argument| argument.restored);
        let copy = |argument: &Argument<'_>| local(&format!("new_{}", argument.name.unraw()));
        let copies: Vec<_> = restored().map(copy).collect();
        let read = restored().zip(&copies).map(|(argument, copy)| {
            let (codec, read) = (codec(argument.kind), way("read", argument.kind));
            quote!(let #copy = #codec.#read(&mut #answer).map_err(::ringpost_rpc::CallError::Answer)?;)
        });
        let names = restored().map(|argument| argument.name);
        let (codec, codecs, read_answer) = (codec(returned), codecs(), way("read", returned));
        quote! {
            #conditions
            #title
            #(#kept)*
            ///
            /// # Errors
            /// As for [`CallError`](::ringpost_rpc::CallError). No argument is changed then.
            pub fn #name(
                &mut self #(, #parameters)*
            ) -> ::core::result::Result<#returned, ::ringpost_rpc::CallError> {
                #codecs
                #[allow(unused_variables)]
                let #frame = self.client.begin();
                #(#written)*
                let mut #answer = self.client.call(#number)?;
                let #value = #codec.#read_answer(&mut #answer).map_err(::ringpost_rpc::CallError::Answer)?;
                #(#read)*
                #answer.end().map_err(::ringpost_rpc::CallError::Answer)?;
                #(*#names = #copies;)*
                ::core::result::Result::Ok(#value)
            }
        }
    }

    /// The arm of the server of this trait.
    pub fn answer(&self, number: u16, declared: &Ident) -> TokenStream {
        let name = &self.function.sig.ident;
        let conditions = self.conditions();
        let allowed = self.function.attrs.iter().filter(|attribute| is_allowance(attribute));
        let [arguments, answer, context, value] = ["arguments", "answer", "context", "value"].map(local);
        let read = self.arguments.iter().map(|argument| {
            let (name, codec) = (argument.name, codec(argument.kind));
            let (mutable, read) = (argument.restored.then(|| quote!(mut)), way("read", argument.kind));
            quote!(let #mutable #name = #codec.#read(&mut #arguments)?;)
        });
        let context = self.with_context.then(|| quote!(#context,));
        let given = self.arguments.iter().map(
            |Argument { name, restored, .. }| {
                if *restored { quote!(&mut #name) } else { quote!(#name) }
            },
        );
        let restored = self.arguments.iter().filter(|argument| argument.restored).map(|argument| {
            let (name, codec, write) = (argument.name, codec(argument.kind), way("write", argument.kind));
            quote!(#codec.#write(&#name, #answer)?;)
        });
        let (codec, changing) = (codec(&self.returned), self.changing);
        let write = way("write", &self.returned);
        quote! {
            #conditions
            #(#allowed)*
            #number => {
                #(#read)*
                #arguments.end()?;
                let #value = #declared::#name(&#changing self.0, #context #(#given),*);
                #codec.#write(&#value, #answer)?;
                #(#restored)*
            }
        }
    }
}

/// A name that no argument's name meets.
pub fn local(name: &str) -> Ident {
    Ident::new(name, Span::mixed_site())
}

/// What takes a value of this type to bytes and back.
fn codec(kind: &Type) -> TokenStream {
    quote_spanned!(kind.span()=> (&&&&::ringpost_rpc::private::Codec::<#kind>::NEW))
}

/// Of its methods that of this name: what the type lacks for it is told where the type stands.
fn way(name: &str, kind: &Type) -> Ident {
    Ident::new(name, Span::call_site().located_at(kind.span()))
}

/// Makes its methods known, and no name that a type of the interface could have.
pub fn codecs() -> TokenStream {
    quote! {
        #[allow(unused_imports)]
        use ::ringpost_rpc::private::{AsBytes as _, AsList as _, AsRegion as _, ByPostcard as _};
    }
}

fn is_documentation(attribute: &Attribute) -> bool {
    attribute.path().is_ident("doc")
}

/// Whether it silences warnings, which then hold for all that is made of what has it.
pub fn is_allowance(attribute: &Attribute) -> bool {
    attribute.path().is_ident("allow")
}

/// Whether the compiler, which has not seen the attribute yet, may leave out what has it.
fn is_condition(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
}

fn is_context(reference: &TypeReference) -> bool {
    let Type::Path(path) = &*reference.elem else { return false };
    reference.mutability.is_none() && path.path.segments.last().is_some_and(|last| last.ident == "Context")
}

/// An error where a type reaches into the caller.
fn by_value(kind: &Type) -> Result<()> {
    let mut search = Search { found: None };
    search.visit_type(kind);
    search.found.map_or(Ok(()), |(span, why)| Err(Error::new(span, why)))
}

struct Search {
    found: Option<(Span, &'static str)>,
}

impl Search {
    fn find(&mut self, span: Span, why: &'static str) {
        self.found.get_or_insert((span, why));
    }
}

impl<'ast> Visit<'ast> for Search {
    fn visit_path(&mut self, found: &'ast Path) {
        if found.segments.first().is_some_and(|first| first.ident == "Self") {
            self.find(found.span(), "`Self` is another type in each server: name the type");
        }
        visit_path(self, found);
    }

    fn visit_type_reference(&mut self, found: &'ast TypeReference) {
        let why = "a reference points into the caller, where the server can't reach: pass the value; \
                   or, as the whole type of an argument, `&mut T`, which is copied there and back";
        self.find(found.span(), why);
    }

    fn visit_type_ptr(&mut self, found: &'ast TypePtr) {
        self.find(
            found.span(),
            "a pointer points into the caller, where the server can't reach: pass the value",
        );
    }

    fn visit_type_slice(&mut self, found: &'ast TypeSlice) {
        self.find(found.span(), "a slice can't be passed by value: use `Vec<T>` or `[T; N]`");
    }

    fn visit_type_bare_fn(&mut self, found: &'ast TypeBareFn) {
        self.find(
            found.span(),
            "a function pointer points into the caller's code: pass a value that says what to do",
        );
    }

    fn visit_type_trait_object(&mut self, found: &'ast TypeTraitObject) {
        self.find(found.span(), "a trait object can't be passed by value: name the type");
    }

    fn visit_type_impl_trait(&mut self, found: &'ast TypeImplTrait) {
        self.find(found.span(), "the type must be named: it is a part of the interface");
    }

    fn visit_lifetime(&mut self, found: &'ast Lifetime) {
        self.find(found.span(), "a value with a lifetime borrows from the caller: pass an owned value");
    }
}
