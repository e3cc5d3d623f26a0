//! The walls between the modules, read off the sources.
//!
//! Each wall is a function from sources to breaches. It holds for the tree, and a bad sample shows that it can fail.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What the modules of the library may name besides themselves: parts of `crate`, and of other crates. What is not listed
/// is forbidden.
const MAY_NAME: [(&str, &[&str]); 9] = [
    ("lib", &["crate"]),
    ("error", &["std", "crate::sys::segment", "crate::sys::socket"]),
    ("sync", &["core", "crate::mortal"]),
    ("layout", &["core", "crate::sync"]),
    (
        "header",
        &[
            "core",
            "std",
            "crate::error",
            "crate::layout",
            "crate::ring::elastic",
            "crate::ring::mailbox",
            "crate::ring::position",
        ],
    ),
    (
        "ring",
        &[
            "core",
            "std::any",
            "std::sync",
            "crate::layout",
            "crate::ring",
            "crate::sync",
            "crate::sys::barrier",
            "loom::cell",
        ],
    ),
    (
        "wait",
        &[
            "core",
            "std",
            "crate::layout",
            "crate::ring::claim",
            "crate::ring::loan",
            "crate::ring::memory",
            "crate::ring::position",
            "crate::sync",
            "crate::sys",
            "crate::wait",
        ],
    ),
    ("sys", &["core", "std", "crate::sys", "rustix", "nix", "libc", "memmap2", "atomic_wait"]),
    (
        "channel",
        &[
            "core",
            "std",
            "crate::channel",
            "crate::error",
            "crate::header",
            "crate::layout",
            "crate::ring",
            "crate::sync",
            "crate::sys",
            "crate::wait",
            "crate::SegmentError",
            "crc32c",
            "shared_memory",
            "zerocopy",
        ],
    ),
];

/// Crates whose use is the business of a few files, however their items are brought in.
const CRATES: [&str; 9] =
    ["rustix", "nix", "libc", "memmap2", "atomic_wait", "crc32c", "shared_memory", "zerocopy", "loom"];

/// Who uses the hardware's atomics besides `sync.rs`, for what is no part of the protocol; the comments there say what.
/// Directories end in a slash.
const OWN_ATOMICS: [&str; 5] = ["sync.rs", "layout.rs", "wait.rs", "channel/vigil.rs", "sys/"];

/// Of these, where the protocol's own words are as well: here each use of the others is spelt out in full.
const BOTH_ATOMICS: [&str; 2] = ["layout.rs", "wait.rs"];

/// The files with unsafe code. All else is safe Rust.
const UNSAFE: [&str; 27] = [
    "channel/attach.rs",
    "channel/batch.rs",
    "channel/builder.rs",
    "channel/builder/hosted.rs",
    "channel/checksum.rs",
    "channel/copy.rs",
    "channel/link/meeting.rs",
    "channel/mailbox/letter.rs",
    "channel/message.rs",
    "channel/region.rs",
    "channel/reservation.rs",
    "channel/ring.rs",
    "channel/shared.rs",
    "channel/signal.rs",
    "channel/vigil.rs",
    "ring/mailbox/area.rs",
    "ring/memory.rs",
    "sys/fork.rs",
    "sys/futex.rs",
    "sys/heap.rs",
    "sys/peer.rs",
    "sys/porter.rs",
    "sys/segment/mapping.rs",
    "sys/segment/tests/limited.rs",
    "sys/segment/tests/mapped.rs",
    "sys/socket.rs",
    "sys/watch.rs",
];

/// Lines that a file may have.
const MOST_LINES: usize = 600;

/// A source file: its path from the root of its tree, its text, and its text without comments and literals.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), code: code(text) }
    }

    /// The first part of its module path.
    fn module(&self) -> &str {
        self.path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// Its module path: `ring/memory.rs` is `crate::ring::memory`.
    fn module_path(&self) -> Vec<&str> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        std::iter::once("crate").chain(path.split('/').filter(|&part| part != "lib")).collect()
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || place.ends_with('/') && self.path.starts_with(place))
    }
}

/// All sources below a directory of the package.
fn tree(directory: &str) -> Vec<Source> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    collect(&root, &mut found);
    found.sort();
    assert!(!found.is_empty(), "no sources in {directory}");
    let path = |file: &Path| file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|file| Source::new(&path(file), &fs::read_to_string(file).unwrap())).collect()
}

/// The text with its comments and its string and character literals blanked out, line by line as before.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word_before = code.ends_with(|before: char| before.is_alphanumeric() || before == '_');
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => quoted(rest, '"'),
            'r' if !word_before || code.ends_with('b') => raw_string(rest).unwrap_or(0),
            '\'' if rest[1..].starts_with('\\') || rest[1..].chars().nth(1) == Some('\'') => {
                quoted(rest, '\'')
            }
            _ => 0,
        };
        let (blanked, kept) = if length > 0 { (length, 0) } else { (0, first.len_utf8()) };
        code.extend(rest[..blanked].chars().map(|c| if c == '\n' { c } else { ' ' }));
        code.push_str(&rest[..kept]);
        rest = &rest[blanked + kept..];
    }
    code
}

/// Length of the literal at the start of `rest`, quotes included.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    let end = rest.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(rest.len(), |(at, _)| at + 1)
}

/// Length of the raw string at the start of `rest`, if there is one.
fn raw_string(rest: &str) -> Option<usize> {
    let hashes = rest[1..].chars().take_while(|&c| c == '#').count();
    let open = 1 + hashes;
    rest[open..].starts_with('"').then_some(())?;
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[open + 1..].find(&close).map_or(rest.len(), |end| open + 1 + end + close.len()))
}

/// A path as the code names it, from `crate` or a crate's name on, and whether a `use` does.
#[derive(PartialEq, Eq, Debug)]
struct Named {
    path: String,
    imported: bool,
}

/// All paths of two parts and more, those in the braces of a `use` written out.
fn paths(source: &Source) -> Vec<Named> {
    let words = words(&source.code);
    let (mut found, mut at, mut imported) = (Vec::new(), 0, false);
    // The module here, and at which depth of braces its inner ones began.
    let (mut module, mut depth, mut inner) = (source.module_path(), 0, Vec::new());
    while at < words.len() {
        match words[at] {
            "use" => imported = true,
            ";" => imported = false,
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inner.pop_if(|&mut began| began == depth).is_some() {
                    module.pop();
                }
            }
            "mod" if words.get(at + 2) == Some(&"{") => {
                inner.push(depth);
                module.push(words[at + 1]);
                at += 1;
            }
            word if is_name(word) => {
                at = follow(&words, at, &module, &[], &mut |path| {
                    found.push(Named { path: path.join("::"), imported });
                });
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Follows one path from `at`, behind `prefix`; gives where it ends.
fn follow<'s>(
    words: &[&'s str],
    mut at: usize,
    module: &[&'s str],
    prefix: &[&'s str],
    found: &mut impl FnMut(&[&'s str]),
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match words.get(at) {
            Some(&"{") if !path.is_empty() => {
                at += 1;
                while at < words.len() && words[at] != "}" {
                    at = if words[at] == "," { at + 1 } else { follow(words, at, module, &path, found) };
                }
                return at + 1;
            }
            Some(&"super") => {
                let above = if path.is_empty() { module } else { &path };
                path = above[..above.len() - 1].to_vec();
            }
            Some(&"self") if path.is_empty() => path = module.to_vec(),
            Some(&"self") => {}
            Some(&word) => path.push(word),
            None => return at,
        }
        at += 1;
        if words.get(at) != Some(&"::") || words.get(at + 1) == Some(&"<") {
            break;
        }
        at += 1;
    }
    if path.len() > 1 {
        found(&path);
    }
    if words.get(at) == Some(&"as") { at + 2 } else { at }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other character alone.
fn words(code: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), code.trim_start());
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (word, behind) = rest.split_at(length);
        words.push(word);
        rest = behind.trim_start();
    }
    words
}

fn is_within(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What a module names beyond what it may.
fn forbidden_names(source: &Source) -> Vec<String> {
    let Some((_, allowed)) = MAY_NAME.iter().find(|(module, _)| *module == source.module()) else {
        return vec![format!("{}: a module of which no wall knows", source.path)];
    };
    let outside = ["crate", "std", "core", "alloc"];
    let own = source.module_path().join("::");
    let breach = |Named { path, .. }: &Named| {
        let first = path.split("::").next().unwrap();
        (outside.contains(&first) || CRATES.contains(&first))
            && !is_within(path, &own)
            && !allowed.iter().any(|place| is_within(path, place))
    };
    let named = paths(source).into_iter().filter(breach);
    named.map(|Named { path, .. }| format!("{} names {path}", source.path)).collect()
}

/// Atomics that don't come through `sync.rs`.
fn foreign_atomics(source: &Source) -> Vec<String> {
    let breach = |Named { path, imported }: &Named| {
        let own = is_within(path, "core::sync::atomic") || is_within(path, "std::sync::atomic");
        own && (!source.is_in(&OWN_ATOMICS) || *imported && source.is_in(&BOTH_ATOMICS))
    };
    let named = paths(source).into_iter().filter(breach);
    named.map(|Named { path, .. }| format!("{} names {path}", source.path)).collect()
}

/// Blocks and implementations that are unsafe and don't say above why they are sound.
fn unexplained_unsafe(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let is_comment = |line: &str| line.trim_start().starts_with("//");
    let explained = |at: usize| {
        // Up to the first line of the statement, then through the comment above it.
        let ends = |line: &str| [';', '{', '}'].iter().any(|&end| line.trim_end().ends_with(end));
        let above = lines[..at].iter().rev().skip_while(|line| !is_comment(line) && !ends(line));
        above.take_while(|line| is_comment(line)).any(|line| line.trim_start().starts_with("// SAFETY: "))
    };
    let mut breaches = Vec::new();
    for (at, line) in source.code.lines().enumerate() {
        let words = words(line);
        let duty = words.windows(2).any(|pair| pair[0] == "unsafe" && ["{", "impl"].contains(&pair[1]));
        if duty && !explained(at) {
            breaches.push(format!("{}:{}: no SAFETY", source.path, at + 1));
        }
    }
    breaches
}

/// The files with unsafe code.
fn with_unsafe(sources: &[Source]) -> BTreeSet<&str> {
    let unsafe_ones = sources.iter().filter(|source| words(&source.code).contains(&"unsafe"));
    unsafe_ones.map(|source| source.path.as_str()).collect()
}

/// What is left to be done: work put off, and tests that don't run.
fn unfinished(source: &Source) -> Vec<String> {
    let words = words(&source.code);
    let put_off = words.windows(2).filter(|pair| matches!(pair, ["todo" | "unimplemented", "!"]));
    let ignored = words.windows(3).filter(|three| matches!(three, ["#", "[", "ignore"]));
    put_off.chain(ignored).map(|words| format!("{}: {}", source.path, words.concat())).collect()
}

fn too_long(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    (lines > MOST_LINES).then(|| format!("{} has {lines} lines", source.path)).into_iter().collect()
}

/// The sources of these directories that are there, each with its directory in its path.
fn trees(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let there = directories.iter().filter(|directory| root.join(directory).is_dir());
    let placed = |directory: &str| {
        let path = |source: &Source| format!("{directory}/{}", source.path);
        tree(directory).into_iter().map(|source| Source { path: path(&source), ..source }).collect::<Vec<_>>()
    };
    there.flat_map(|directory| placed(directory)).collect()
}

/// Every source of the repository.
fn everything() -> Vec<Source> {
    trees(&[
        "src",
        "tests",
        "benches",
        "examples",
        "cli",
        "loom-tests",
        "rpc",
        "fuzz/src",
        "fuzz/fuzz_targets",
    ])
}

#[track_caller]
fn assert_none(breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<_> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[track_caller]
fn assert_breach(wall: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert!(!wall(&Source::new(path, text)).is_empty(), "this should be a breach in {path}:\n{text}");
}

#[track_caller]
fn assert_sound(wall: impl Fn(&Source) -> Vec<String>, path: &str, text: &str) {
    assert_none(wall(&Source::new(path, text)));
}

#[test]
fn modules_name_only_what_lies_below_them() {
    assert_none(tree("src").iter().flat_map(forbidden_names));
}

#[test]
fn a_name_across_a_wall_is_found() {
    let breaches = [
        ("ring/spsc.rs", "use crate::sys::futex;"),
        ("ring/spsc.rs", "use crate::{layout::Slot, wait::Bell};"),
        ("ring/spsc.rs", "use super::super::channel::Ring;"),
        ("ring/spsc.rs", "fn f() { std::io::stdout(); }"),
        ("ring/spsc.rs", "use std::{any::Any, io};"),
        ("ring/mod.rs", "use super::sys;"),
        ("layout.rs", "use crate::{sync::AtomicU32, ring::memory::Memory};"),
        ("layout.rs", "use super::wait::Bell;"),
        ("wait.rs", "use crate::ring::mpsc::Producer;"),
        ("wait.rs", "use crate::channel::Ring;"),
        ("wait.rs", "use rustix::thread::futex;"),
        ("sys/segment/mapping.rs", "use crate::{ring, wait};"),
        ("sys/futex.rs", "use super::super::layout::Slot;"),
        ("channel/ring.rs", "fn f() { libc::getpid(); }"),
        ("channel/ring.rs", "use memmap2::{MmapRaw as Raw};"),
        ("error.rs", "use nix::errno::Errno;"),
        ("error.rs", "use crate::{sys::{futex, segment::SegmentError}};"),
        ("layout.rs", "mod tests { use super::*; } use super::wait::Bell;"),
        ("layout.rs", "mod tests { fn f() {} use super::super::wait::Bell; }"),
        ("novelty.rs", ""),
    ];
    for (path, text) in breaches {
        assert_breach(forbidden_names, path, text);
    }
    let sound = [
        (
            "ring/spsc.rs",
            "// use crate::sys;\nuse super::{memory::Memory, position};\nuse crate::sync::AtomicU64;",
        ),
        ("ring/spsc.rs", "const TEXT: &str = \"crate::sys::futex \\\" std::io::x\"; const C: char = '\"';"),
        ("ring/spsc.rs", "const TEXT: &str = r#\"a \" crate::sys::futex\"#; fn f<'a>(_: &'a str) {}"),
        ("layout.rs", "mod tests { use super::*; fn f() { self::g() } }"),
        ("wait.rs", "use crate::{ring::memory::{self, Memory}, sys::{barrier, futex::{self, Scope}}};"),
        ("sys/segment/mapping.rs", "use super::{SegmentError, super::clock::Deadline};"),
    ];
    for (path, text) in sound {
        assert_sound(forbidden_names, path, text);
    }
}

#[test]
fn atomics_of_the_protocol_come_through_sync() {
    assert_none(tree("src").iter().flat_map(foreign_atomics));
}

#[test]
fn an_atomic_past_sync_is_found() {
    assert_breach(foreign_atomics, "ring/spsc.rs", "use core::sync::atomic::AtomicU64;");
    assert_breach(foreign_atomics, "channel/ring.rs", "use std::{io, sync::{Arc, atomic::AtomicU64}};");
    assert_breach(foreign_atomics, "channel/ring.rs", "fn f() { core::sync::atomic::fence(SeqCst) }");
    assert_breach(foreign_atomics, "wait.rs", "use core::{fmt, sync::atomic::AtomicU32};");
    assert_sound(foreign_atomics, "wait.rs", "struct News(core::sync::atomic::AtomicU32);");
    assert_sound(foreign_atomics, "sys/futex.rs", "use core::sync::atomic::AtomicU32;");
}

#[test]
fn unsafe_code_lies_in_the_files_of_the_list() {
    assert_eq!(with_unsafe(&tree("src")), BTreeSet::from(UNSAFE));
    let rpc = trees(&["rpc/src", "rpc/macros/src"]);
    // The walls know the word; the macro only refuses it.
    assert_eq!(with_unsafe(&rpc), BTreeSet::from(["rpc/src/durable/words.rs"]));
}

#[test]
fn unsafe_code_is_found_and_the_word_alone_is_not() {
    let sources = [
        Source::new("block.rs", "fn f() { unsafe { g() } }"),
        Source::new("function.rs", "pub unsafe fn f() {}"),
        Source::new("word.rs", "//! `unsafe` once\nconst S: &str = \"unsafe\"; mod unsafe_not {}"),
    ];
    assert_eq!(with_unsafe(&sources), BTreeSet::from(["block.rs", "function.rs"]));
}

#[test]
fn all_unsafe_code_says_why_it_is_sound() {
    assert_none(everything().iter().flat_map(unexplained_unsafe));
}

#[test]
fn unsafe_code_that_says_nothing_is_found() {
    let wall = unexplained_unsafe;
    assert_breach(wall, "a.rs", "fn f() {\n    unsafe { g() }\n}");
    assert_breach(wall, "a.rs", "// SAFETY: of another\nlet a = 1;\nlet b = unsafe { g() };");
    assert_breach(wall, "a.rs", "// because\nunsafe impl Send for A {}");
    assert_sound(wall, "a.rs", "// SAFETY: it is ours.\nunsafe impl Send for A {}");
    assert_sound(wall, "a.rs", "// SAFETY: it is ours,\n// as said.\nlet long =\n    unsafe { g() };");
}

#[test]
fn nothing_is_put_off_and_no_test_is_ignored() {
    assert_none(everything().iter().flat_map(unfinished));
}

#[test]
fn work_put_off_is_found() {
    assert_breach(unfinished, "a.rs", "fn f() { todo!() }");
    assert_breach(unfinished, "a.rs", "fn f() { unimplemented!(\"later\") }");
    assert_breach(unfinished, "a.rs", "#[test]\n#[ignore]\nfn f() {}");
    assert_breach(unfinished, "a.rs", "#[ignore = \"slow\"]\nfn f() {}");
    assert_sound(unfinished, "a.rs", "// todo!\nconst S: &str = \"#[ignore]\"; fn ignore(todo: u8) {}");
}

#[test]
fn files_fit_a_head() {
    assert_none(everything().iter().flat_map(too_long));
}

#[test]
fn a_long_file_is_found() {
    assert_breach(too_long, "a.rs", &"\n".repeat(MOST_LINES + 1));
    assert_sound(too_long, "a.rs", &"\n".repeat(MOST_LINES));
}
