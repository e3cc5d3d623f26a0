//! Every row of `docs/FAULTS.md` has its test, or says what is open.
//!
//! What is wrong with a table is a function of its text and of the sources, so that a bad sample shows that it is found.

use std::{fs, path::Path};

/// Faults that were known from the start; more may follow.
const LEAST: usize = 40;

const OPEN: &str = "open: ";

/// A row of the table.
struct Row<'a> {
    number: usize,
    fault: &'a str,
    /// File and name of each test.
    tests: Vec<(&'a str, &'a str)>,
    /// What is not handled.
    open: Option<&'a str>,
}

/// The rows, and what is wrong with their form.
fn rows(table: &str) -> (Vec<Row<'_>>, Vec<String>) {
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for line in table.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let Ok(number) = cells[0].parse() else { continue };
        let [_, fault, handling, shown, _figure] = cells[..] else {
            wrong.push(format!("row {number} has {} cells", cells.len()));
            continue;
        };
        let (tests, open) = match shown.split_once(OPEN) {
            Some((tests, open)) => (tests, Some(open)),
            None => (shown, None),
        };
        let mut names = Vec::new();
        for name in tests.split_whitespace() {
            match name.trim_matches('`').split_once("::") {
                Some(test) => names.push(test),
                None => wrong.push(format!("row {number}: {name} is no test")),
            }
        }
        if fault.is_empty() || handling.is_empty() || open.is_some_and(str::is_empty) {
            wrong.push(format!("row {number} leaves something unsaid"));
        }
        rows.push(Row { number, fault, tests: names, open });
    }
    (rows, wrong)
}

/// What is wrong with the table; `source` gives the text of a file.
fn breaches(table: &str, least: usize, source: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let (rows, mut wrong) = rows(table);
    if rows.len() < least {
        wrong.push(format!("{} rows of {least}", rows.len()));
    }
    for (index, row) in rows.iter().enumerate() {
        if row.number != index + 1 {
            wrong.push(format!("row {} stands where {} should", row.number, index + 1));
        }
        if row.tests.is_empty() && row.open.is_none() {
            wrong.push(format!("row {} has no test: {}", row.number, row.fault));
        }
        for (file, name) in &row.tests {
            match source(file) {
                None => wrong.push(format!("row {}: there is no {file}", row.number)),
                Some(text) if is_test(&text, name) => {}
                Some(_) => wrong.push(format!("row {}: {file} has no test {name}", row.number)),
            }
        }
    }
    wrong
}

/// Whether the source has a function of this name that is a test, however many attributes stand between.
fn is_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let functions = (0..lines.len()).filter(|&line| lines[line].starts_with(&format!("fn {name}(")));
    functions.into_iter().any(|line| {
        let above = lines[..line].iter().rev();
        above
            .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
            .any(|&line| line == "#[test]")
    })
}

fn file(path: &str) -> Option<String> {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

#[test]
fn every_fault_has_its_test_or_says_what_is_open() {
    let table = file("docs/FAULTS.md").unwrap();
    let wrong = breaches(&table, LEAST, file);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let (rows, _) = rows(&table);
    let open: Vec<_> = rows.iter().filter_map(|row| Some((row.number, row.open?))).collect();
    println!("{} faults, {} of them open:", rows.len(), open.len());
    open.iter().for_each(|(number, what)| println!("{number}: {what}"));
}

#[test]
fn a_row_without_its_test_is_found() {
    let source = |path: &str| {
        let text = "#[test]\n// why\n#[cfg(unix)]\nfn shown() {}\nfn helper() {}\n#[test]\nfn other() {}";
        (path == "tests/a.rs").then(|| text.to_string())
    };
    let found = |table: &str| breaches(table, 1, source).join("; ");
    assert_eq!(
        found("| | fault | handling | shown by | |\n|---|\n| 1 | a | b | `tests/a.rs::shown` | |"),
        ""
    );
    assert_eq!(found("| 1 | a | b | open: later | |"), "");
    assert_eq!(found("| 1 | a | b | `tests/a.rs::shown` `tests/a.rs::other` open: the rest | 9 |"), "");
    for (table, breach) in [
        ("", "0 rows of 1"),
        ("| 1 | a | b | | |", "row 1 has no test: a"),
        ("| 1 | a | b | `tests/a.rs::gone` | |", "tests/a.rs has no test gone"),
        ("| 1 | a | b | `tests/a.rs::helper` | |", "tests/a.rs has no test helper"),
        ("| 1 | a | b | `tests/b.rs::shown` | |", "there is no tests/b.rs"),
        ("| 1 | a | b | shown | |", "shown is no test"),
        ("| 2 | a | b | `tests/a.rs::shown` | |", "row 2 stands where 1 should"),
        ("| 1 | a | | `tests/a.rs::shown` | |", "leaves something unsaid"),
        ("| 1 | a | b | `tests/a.rs::shown` |", "row 1 has 4 cells"),
    ] {
        assert!(found(table).contains(breach), "{table}: {}", found(table));
    }
}
