//! The documents speak of what there is: links lead somewhere, the tests and models that they name are there, each crate is
//! explained, and counts are right.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a folder, and of those in it, whose names end so.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|entry| entry.path().is_dir());
    let below = folders.iter().map(|inner| format!("{folder}/{}", inner.file_name().display()));
    let files =
        files.into_iter().map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(end));
    files.chain(below.flat_map(|inner| self::files(&inner, end))).collect()
}

/// Every document, by its path from the root.
fn documents() -> Vec<String> {
    let names = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned);
    let inner = ["loom-tests", "bench-peers", "bridge"].map(|folder| format!("{folder}/README.md"));
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.display())).filter(|path| path.ends_with(".md"));
    names.into_iter().chain(inner).chain(docs).collect()
}

/// Its headings, as a link names them.
fn anchors(text: &str) -> Vec<String> {
    // Every second piece is text, and no code.
    let lines = text.split("\n```").step_by(2).flat_map(str::lines);
    let headings = lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']));
    let kept = |letter: &char| letter.is_alphanumeric() || ['-', '_'].contains(letter);
    headings.map(|heading| heading.to_lowercase().replace(' ', "-").chars().filter(kept).collect()).collect()
}

/// The links of a document that lead nowhere; `document` gives the text of another one, if it is there.
fn dead_links(path: &str, document: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap();
    let text = document(Path::new(path)).unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let is_dead = |link: &&str| {
        let (file, section) = link.split_once('#').unwrap_or((link, ""));
        let target = if file.is_empty() { PathBuf::from(path) } else { folder.join(file) };
        !link.starts_with("https://")
            && document(&target).is_none_or(|found| {
                !section.is_empty() && anchors(&found).iter().all(|anchor| anchor != section)
            })
    };
    links.filter(is_dead).map(|link| format!("{path}: {link}")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let found = |path: &Path| match root().join(path) {
        path if path.is_dir() => Some(String::new()),
        path => fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let dead: Vec<_> = documents().iter().flat_map(|path| dead_links(path, found)).collect();
    assert!(dead.is_empty(), "\n{}", dead.join("\n"));
}

#[test]
fn a_dead_link_is_found() {
    let found = |path: &Path| match path.to_str().unwrap() {
        "docs/A.md" => {
            Some("[x](B.md) [y](#one-two) [z](B.md#three) [w](https://b) [v](C.md) [u](#four)".to_owned())
        }
        "docs/B.md" => Some("# One\n```sh\n# four\n```\n## Three\n".to_owned()),
        _ => None,
    };
    assert_eq!(
        dead_links("docs/A.md", found),
        ["docs/A.md: #one-two", "docs/A.md: C.md", "docs/A.md: #four"]
    );
    assert_eq!(
        anchors("a\n```sh\n# four\n```\n## `mq_notify`: what, and why?\n"),
        ["mq_notify-what-and-why"]
    );
}

/// What stands between backticks and is one word.
fn code(text: &str) -> impl Iterator<Item = &str> {
    // Every second piece is code.
    text.split('`').skip(1).step_by(2).filter(|code| !code.contains(char::is_whitespace))
}

/// Whether what a document names in code is there; nothing when that is no file, no test and no model.
fn is_there(place: &str) -> Option<bool> {
    let Some((module, name)) = place.rsplit_once("::") else {
        let is_file = place.contains('/') && place.ends_with(".rs");
        return is_file
            .then(|| ["", "src", "loom-tests/src"].iter().any(|at| root().join(at).join(place).exists()));
    };
    if module.ends_with(".rs") {
        let source = fs::read_to_string(root().join(module));
        return Some(source.is_ok_and(|source| source.contains(&format!("fn {name}()"))));
    }
    let model =
        fs::read_to_string(root().join(format!("loom-tests/src/models/{}.rs", module.replace("::", "/"))));
    // Some models are called like the part of the library that they are about.
    let is_function = |file: &PathBuf| text_of(file).contains(&format!("fn {name}("));
    Some(model.ok()?.contains(&format!("fn {name}()")) || files("src", ".rs").iter().any(is_function))
}

#[test]
fn files_tests_and_models_that_are_named_are_there() {
    let texts: Vec<_> = documents().into_iter().map(|path| (text_of(&path), path)).collect();
    let places = texts.iter().flat_map(|(text, path)| code(text).map(move |place| (path, place)));
    let (there, missing): (Vec<_>, Vec<_>) = places
        .filter_map(|(path, place)| Some((is_there(place)?, format!("{path}: {place}"))))
        .partition(|(is_there, _)| *is_there);
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(there.len() > 600, "only {} are named", there.len());
}

#[test]
fn a_test_a_model_or_a_file_that_is_not_there_is_found() {
    let there = [
        "tests/docs.rs",
        "sys/peer.rs",
        "tests/docs.rs::every_crate_is_explained",
        "single::what_is_sent_is_received",
    ];
    assert!(there.iter().all(|place| is_there(place) == Some(true)));
    for missing in ["tests/gone.rs", "tests/docs.rs::gone", "tests/gone.rs::gone", "single::is_not_there"] {
        assert_eq!(is_there(missing), Some(false), "{missing}");
    }
    assert_eq!((is_there("Builder::create"), is_there("README.md")), (None, None));
}

/// The crates that a manifest asks for, but for our own.
fn crates(manifest: &str) -> Vec<String> {
    let mut crates = Vec::new();
    let mut asks = false;
    for line in text_of(manifest).lines() {
        if line.starts_with('[') {
            asks = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| asks) {
            crates.push(name.to_owned());
        }
    }
    assert!(!crates.is_empty(), "{manifest}");
    crates.into_iter().filter(|name| !name.starts_with("ringpost")).collect()
}

#[test]
fn every_crate_is_explained() {
    let explained = |manifest: &str, document: &str| {
        let text = text_of(document);
        for name in crates(manifest) {
            assert!(text.contains(&format!("`{name}`")), "{name} of {manifest} is not in {document}");
        }
    };
    for manifest in
        ["Cargo.toml", "cli/Cargo.toml", "rpc/Cargo.toml", "rpc/macros/Cargo.toml", "loom-tests/Cargo.toml"]
    {
        explained(manifest, "docs/DEPENDENCIES.md");
    }
    explained("bridge/Cargo.toml", "bridge/README.md");
}

#[test]
fn models_and_mutants_are_counted() {
    let models: usize = files("loom-tests/src/models", ".rs")
        .iter()
        .map(|file| text_of(file).matches("#[test]").count())
        .sum();
    let mutants = text_of("loom-tests/tests/mutations.rs").matches("\n    mutation(\"").count();
    let reliability = text_of("docs/RELIABILITY.md");
    for count in [format!("{models} models"), format!("{mutants} mutants")] {
        assert!(reliability.contains(&count), "docs/RELIABILITY.md does not say {count}");
    }
}
