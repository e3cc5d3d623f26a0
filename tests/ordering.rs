//! Every atomic access in the product says which ordering it has and why, and `docs/ORDERING.md` knows every label.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// How far above an access its comment may begin, in lines.
const REACH: usize = 12;

/// What an access to an atomic looks like.
const ACCESSES: [&str; 6] = [".load(", ".store(", ".swap(", "compare_exchange", ".fetch_", "fence("];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The product's source files, without their unit tests.
fn sources() -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                let text = fs::read_to_string(&path).unwrap();
                let tests = text.find("#[cfg(test)]\nmod").or_else(|| text.find("#[cfg(all(test"));
                found.push((path, text[..tests.unwrap_or(text.len())].to_string()));
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    assert!(found.len() > 10, "the sources are there");
    found
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The `ORDERING:` comments of a file, each in one line.
fn comments(text: &str) -> Vec<String> {
    let mut comments: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let line = line.trim_start();
        if line.starts_with("// ORDERING:") {
            comments.push(line.to_string());
            open = true;
        } else if open && line.starts_with("// ") {
            let comment = comments.last_mut().unwrap();
            comment.push_str(&line[2..]);
        } else {
            open = false;
        }
    }
    comments
}

/// Labels such as `P1` in a text: a capital and a digit, by themselves.
fn labels(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_label = |word: &&str| matches!(word.as_bytes(), [letter, digit] if letter.is_ascii_uppercase() && digit.is_ascii_digit());
    words.filter(is_label).map(str::to_string).collect()
}

/// The labels in the first column of the tables of `docs/ORDERING.md`.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("docs/ORDERING.md")).unwrap();
    let first_cells = text.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next());
    first_cells.flat_map(labels).collect()
}

#[test]
fn every_label_in_the_sources_is_documented_and_every_documented_one_is_used() {
    let used: BTreeSet<String> =
        sources().iter().flat_map(|(_, text)| comments(text)).flat_map(|comment| labels(&comment)).collect();
    assert!(used.contains("P1") && used.contains("C1"), "labels are found: {used:?}");
    assert_eq!(used, documented(), "left: in src, right: in docs/ORDERING.md");
}

/// Whether a function of this name has the label in one of its comments.
fn has_label(function: &str, label: &str) -> bool {
    sources().iter().any(|(_, text)| {
        let bodies = text.split("fn ").skip(1);
        bodies
            .filter(|body| body.starts_with(&format!("{function}(")))
            .any(|body| comments(body).iter().any(|comment| labels(comment).contains(label)))
    })
}

#[test]
fn every_site_of_the_table_has_its_label() {
    let text = fs::read_to_string(root().join("docs/ORDERING.md")).unwrap();
    let mut found = 0;
    for row in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, label, site, _, ..] = cells[..] else { continue };
        let Some(label) = labels(label).pop_first().filter(|_| label.len() == 2) else { continue };
        for code in site.split('`').skip(1).step_by(2) {
            let function = code.rsplit("::").next().unwrap();
            if code.contains("::") {
                assert!(has_label(function, &label), "{label} is not in {code}");
                found += 1;
            }
        }
    }
    assert!(found > 40, "only {found} sites are named");
}

#[test]
fn both_ends_of_every_pair_are_in_the_sources() {
    for (path, text) in sources() {
        for comment in comments(&text).into_iter().filter(|comment| comment.contains("pairs with")) {
            // A pair outside the protocol, between the threads of one handle, names a function instead.
            let names = labels(&comment).len();
            assert!(names != 1, "{}: `{comment}` names one end only", path.display());
        }
    }
}

#[test]
fn every_atomic_access_says_why_its_ordering_is_enough() {
    let mut silent = Vec::new();
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let is_access = ACCESSES.iter().any(|access| line.contains(access));
            let names_an_ordering =
                ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst", "order)", "Ordering::"];
            if is_comment(line) || line.trim_start().starts_with("use ") || line.contains("fn ") || !is_access
            {
                continue;
            }
            // rustfmt may have put the ordering on a line of its own.
            let whole = lines[number..lines.len().min(number + 6)].join(" ");
            if !names_an_ordering.iter().any(|ordering| whole.contains(ordering)) {
                continue;
            }
            let above = &lines[number.saturating_sub(REACH)..number];
            let since_function = above.iter().rposition(|line| line.contains("fn ")).map_or(0, |at| at + 1);
            if !above[since_function..].iter().any(|line| line.contains("// ORDERING:")) {
                let file = path.strip_prefix(root()).unwrap().display();
                silent.push(format!("{file}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(silent.is_empty(), "without a comment:\n{}", silent.join("\n"));
}
