//! The attribute `interface` of ringpost-rpc: client and server stubs from one trait.

mod method;
mod spelling;
#[cfg(test)]
mod tests;

use method::{Method, codecs, is_allowance, local};
use proc_macro::TokenStream;
use proc_macro2::TokenStream as Code;
use quote::{format_ident, quote};
use spelling::spell;
use syn::{Error, ItemTrait, Result, TraitItem, parse_macro_input, spanned::Spanned};

/// Makes of a trait `Name` what both sides of a remote procedure call need: `NameClient`, whose methods call, and
/// `NameServer`, which answers with an implementation of the trait. See the documentation of `ringpost-rpc`.
#[proc_macro_attribute]
pub fn interface(arguments: TokenStream, item: TokenStream) -> TokenStream {
    if !arguments.is_empty() {
        let here = Code::from(arguments);
        return Error::new_spanned(here, "`interface` takes no arguments").to_compile_error().into();
    }
    let declared = parse_macro_input!(item as ItemTrait);
    let refused = |error: Error| {
        // With the trait, so that who implements it gets no errors of its own.
        let error = error.to_compile_error();
        quote!(#error #declared)
    };
    expand(&declared).unwrap_or_else(refused).into()
}

fn expand(declared: &ItemTrait) -> Result<Code> {
    let methods = methods(declared)?;
    let ItemTrait { vis, ident: name, .. } = declared;
    let text = name.to_string();
    let (interface, client, server) =
        (format_ident!("{name}Interface"), format_ident!("{name}Client"), format_ident!("{name}Server"));
    let numbered = || (0..).zip(&methods);
    let described = numbered().map(|(number, method)| method.described(number));
    let calls = numbered().map(|(number, method)| method.call(number));
    let answers = numbered().map(|(number, method)| method.answer(number, name));
    let about_interface = format!("What client and server of [`{name}`] must agree on.");
    let about_client = format!("Calls the methods of [`{name}`] in another process.");
    let about_server = format!("Answers calls with an implementation of [`{name}`].");
    // Hygiene ends before types: a type of the interface may be called `Implementation`.
    let implementation = format_ident!("__Implementation");
    let codecs = codecs();
    let allowed: Vec<_> = declared.attrs.iter().filter(|attribute| is_allowance(attribute)).collect();
    let [method, context, arguments, answer] = ["method", "context", "arguments", "answer"].map(local);
    Ok(quote! {
        // A program may be one side only.
        #[allow(dead_code)]
        #declared

        #[doc = #about_interface]
        #[allow(dead_code)]
        #vis struct #interface;

        impl ::ringpost_rpc::Interface for #interface {
            const NAME: &'static str = #text;

            #[allow(unused_variables)]
            fn describe(description: &mut ::ringpost_rpc::Description) {
                #codecs
                #(#described)*
            }
        }

        #[doc = #about_client]
        #[derive(Debug)]
        #[allow(dead_code)]
        #vis struct #client {
            /// The session with the server, whatever its interface.
            pub client: ::ringpost_rpc::Client,
        }

        #[allow(dead_code)]
        #(#allowed)*
        impl #client {
            /// Binds to a server: connects, and checks that its interface is this one.
            ///
            /// # Errors
            /// As for [`Client::bind`](::ringpost_rpc::Client::bind).
            pub fn bind(
                binding: impl ::core::convert::Into<::ringpost_rpc::Binding>,
            ) -> ::core::result::Result<Self, ::ringpost_rpc::BindError> {
                let client = ::ringpost_rpc::Client::bind::<#interface>(binding)?;
                ::core::result::Result::Ok(Self { client })
            }

            #(#calls)*
        }

        #[doc = #about_server]
        #[derive(Clone, Debug)]
        #[allow(dead_code)]
        #vis struct #server<Implementation>(
            /// What does the work.
            pub Implementation,
        );

        // Who declares it deprecated tells its callers, not its server.
        #[allow(deprecated)]
        #(#allowed)*
        impl<#implementation: #name> ::ringpost_rpc::Service for #server<#implementation> {
            type Interface = #interface;
            type Implementation = #implementation;

            fn new(implementation: #implementation) -> Self {
                Self(implementation)
            }

            fn into_implementation(self) -> #implementation {
                self.0
            }

            // Conditions may leave no method.
            #[allow(unused_variables, unused_mut, unreachable_code)]
            fn call(
                &mut self,
                #method: u16,
                #context: &::ringpost_rpc::Context<'_>,
                mut #arguments: ::ringpost_rpc::Parcel<'_>,
                #answer: &mut ::ringpost_rpc::Frame,
            ) -> ::core::result::Result<(), ::ringpost_rpc::Refusal> {
                #codecs
                match #method {
                    #(#answers)*
                    _ => return ::core::result::Result::Err(::ringpost_rpc::Refusal::NoSuchMethod),
                }
                ::core::result::Result::Ok(())
            }
        }
    })
}

fn methods(declared: &ItemTrait) -> Result<Vec<Method<'_>>> {
    if let Some(parameter) = declared.generics.params.first() {
        return Err(Error::new(
            parameter.span(),
            "an interface can't be generic: its hash names exact types",
        ));
    }
    let mut methods = Vec::new();
    for item in &declared.items {
        match item {
            TraitItem::Fn(function) => methods.push(Method::new(function)?),
            other => return Err(Error::new(other.span(), "an interface has methods only")),
        }
    }
    match methods.len() {
        0 => Err(Error::new(declared.ident.span(), "an interface has at least one method")),
        more if more > 0x7fff => Err(Error::new(declared.ident.span(), "too many methods")),
        _ => Ok(methods),
    }
}
