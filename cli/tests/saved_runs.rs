//! Saved runs that are not as they should be, and files that can't be written: `ringpost bench --from` and `--compare`.

mod recorded;

use std::fs;
use std::process::{Command, Output};

use recorded::{RUN, Scratch, bench};

/// The recorded run with its text changed.
fn changed(scratch: &Scratch, change: impl Fn(String) -> String) -> String {
    let path = scratch.path("changed.jsonl");
    fs::write(&path, change(fs::read_to_string(RUN).unwrap())).unwrap();
    path
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// The recorded run with one figure of each row replaced.
fn with_figure(scratch: &Scratch, field: &str, figure: &str) -> String {
    changed(scratch, |run| {
        let begin = format!("\"{field}\":");
        let change = |line: &str| match line.split_once(&begin) {
            Some((before, rest)) if !rest.starts_with("null") => {
                let after = rest.find([',', '}']).unwrap();
                format!("{before}{begin}{figure}{}\n", &rest[after..])
            }
            _ => format!("{line}\n"),
        };
        run.lines().map(change).collect()
    })
}

#[test]
fn a_page_of_the_ring_alone_says_what_is_not_there() {
    let scratch = Scratch::new("alone");
    let run = changed(&scratch, |run| {
        let kept = |line: &&str| line.contains("\"run\":{") || line.contains("\"sweep\":\"");
        run.lines().filter(kept).map(|line| format!("{line}\n")).collect()
    });
    let page = scratch.path("page.html");
    let output = bench(&["--from", &run, "--report", &page]);
    let (shown, complaint) = said(&output);
    assert!(output.status.success(), "{complaint}");
    assert!(shown.contains("| 1 round, "), "{shown}");
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("both in turns on one): ") && !page.contains(": ; "), "no class was met");
    assert!(page.contains("No limit was measured.") && !page.contains("<th>what it is</th>"));
}

#[test]
fn a_page_says_how_many_cells_have_no_spread() {
    let scratch = Scratch::new("single");
    let page = scratch.path("page.html");
    let output = bench(&["--from", RUN, "--report", &page]);
    assert!(output.status.success(), "{}", said(&output).1);
    let single = fs::read_to_string(RUN).unwrap().matches("\"samples\":1,").count();
    let said = format!(" in the worst; unknown in those with a single sample ({single}).");
    assert!(single > 0 && fs::read_to_string(&page).unwrap().contains(&said), "{said}");
}

#[test]
fn a_file_that_can_not_be_written_loses_neither_the_table_nor_the_other_files() {
    let scratch = Scratch::new("full");
    let (page, table, pictures) =
        (scratch.path("page.html"), scratch.path("table.csv"), scratch.path("pictures"));
    for full in ["--save", "--csv", "--report"] {
        let wanted = [("--report", &page), ("--csv", &table), ("--svg", &pictures)];
        let mut arguments = vec!["--from", RUN, full, "/dev/full"];
        arguments.extend(
            wanted.iter().filter(|(flag, _)| *flag != full).flat_map(|(flag, path)| [*flag, path.as_str()]),
        );
        let output = bench(&arguments);
        let (shown, complaint) = said(&output);
        assert_eq!(output.status.code(), Some(1), "{full}");
        assert!(complaint.contains("cannot write /dev/full: No space left on device"), "{complaint}");
        assert!(shown.contains("Latency, both sides spinning"), "{full}: {shown}");
        for (flag, path) in wanted.into_iter().filter(|(flag, _)| *flag != full) {
            assert!(fs::metadata(path).is_ok(), "{full} keeps {flag} from being written");
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
        }
    }
}

#[test]
fn a_link_stays_a_link_whether_its_file_is_there_or_not() {
    let scratch = Scratch::new("link");
    let (link, page) = (scratch.path("link"), scratch.path("page.html"));
    std::os::unix::fs::symlink("page.html", &link).unwrap();
    for _ in 0..2 {
        assert!(bench(&["--from", RUN, "--report", &link]).status.success());
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::metadata(&page).unwrap().is_file());
    }
}

#[test]
fn each_file_that_can_not_be_written_is_named() {
    let output = bench(&["--from", RUN, "--save", "/dev/full", "--report", "/dev/full"]);
    let (_, complaint) = said(&output);
    assert_eq!((output.status.code(), complaint.matches("cannot write /dev/full").count()), (Some(1), 2));
}

#[test]
fn a_file_that_is_too_long_is_refused_before_it_is_read_to_its_end() {
    let scratch = Scratch::new("long");
    let long = scratch.path("long");
    fs::File::create(&long).unwrap().set_len((64 << 20) + 1).unwrap();
    for arguments in [&["--from", &*long][..], &["--from", RUN, "--compare", &long]] {
        let (shown, complaint) = said(&bench(arguments));
        assert!(shown.is_empty() && complaint.contains("it is longer than 64 MiB"), "{complaint}");
    }
}

#[test]
fn no_file_is_written_over_another_one_of_the_same_run() {
    let scratch = Scratch::new("twice");
    let (one, dotted) = (scratch.path("one"), scratch.path("./one"));
    let run = changed(&scratch, |run| run);
    let before = fs::read(&run).unwrap();
    for arguments in [
        ["--from", RUN, "--report", &one, "--save", &dotted],
        ["--from", RUN, "--csv", &one, "--report", &one],
        ["--from", RUN, "--compare", &run, "--csv", &run],
    ] {
        let (shown, complaint) = said(&bench(&arguments));
        assert!(shown.is_empty() && complaint.contains("give each file a name of its own"), "{complaint}");
    }
    let little = ["--quick", "--rounds", "1", "--mechanisms", "syscall", "--input", &run];
    let read = [
        &["--from", &run, "--report"][..],
        &[&little[..], &["--csv"]].concat(),
        &[&little[..], &["--save"]].concat(),
    ];
    for arguments in read {
        let (_, complaint) = said(&bench(&[arguments, &[&*run]].concat()));
        assert!(complaint.contains("asked for twice") && fs::read(&run).unwrap() == before, "{complaint}");
    }
    assert!(!fs::exists(&one).unwrap());
    let both = bench(&["--from", &run, "--compare", &run, "--save", &run]);
    assert!(
        both.status.success()
            && bench(&["--from", RUN, "--csv", "/dev/null", "--save", "/dev/null"]).status.success()
    );
}

#[test]
fn no_file_takes_the_place_of_the_one_that_the_table_goes_to() {
    let scratch = Scratch::new("shown");
    let shown = scratch.path("shown");
    for (flag, path) in [("--report", "/dev/stdout"), ("--csv", &*shown), ("--save", "/dev/stderr")] {
        let file = fs::File::create(&shown).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
        let command = command.args(["bench", "--from", RUN, flag, path]).stdout(file.try_clone().unwrap());
        let ended = command.stderr(file).status().unwrap();
        let complaint = fs::read_to_string(&shown).unwrap();
        assert_eq!(ended.code(), Some(1), "{flag}");
        assert!(complaint.contains("is where the table goes") && complaint.contains(&shown), "{complaint}");
    }
    // Down a pipe both go.
    let (both, _) = said(&bench(&["--from", RUN, "--report", "/dev/stdout"]));
    assert!(both.starts_with("<!DOCTYPE html>") && both.contains("Latency, both sides spinning"));
}

#[test]
fn a_figure_that_no_machine_has_is_refused_and_named() {
    let scratch = Scratch::new("huge");
    for (field, figure) in [
        ("p50_ns", "1.7e308"),
        ("messages_per_s", "1.7e308"),
        ("waits_per_million", "-1.7e308"),
        ("dropped", "18446744073709551615"),
        ("capacity", "18446744073709551615"),
    ] {
        let run = with_figure(&scratch, field, figure);
        for arguments in [&["--from", &*run][..], &["--from", RUN, "--compare", &run]] {
            let output = bench(arguments);
            let (shown, complaint) = said(&output);
            assert_eq!((output.status.code(), shown.as_str()), (Some(1), ""), "{field}");
            assert!(
                complaint.contains(&format!("{field} is ")) && complaint.contains("no machine does"),
                "{complaint}"
            );
        }
    }
}

#[test]
fn of_almost_nothing_and_of_nothing_pictures_and_ratios_are_still_made() {
    let scratch = Scratch::new("tiny");
    let page = scratch.path("page.html");
    for (field, figure) in
        [("p50_ns", "5e-324"), ("messages_per_s", "5e-324"), ("messages_per_s", "0"), ("p50_ns", "0")]
    {
        let run = with_figure(&scratch, field, figure);
        let output = bench(&["--from", &run, "--compare", RUN, "--report", &page]);
        let (shown, complaint) = said(&output);
        assert!(output.status.success(), "{complaint}");
        let page = fs::read_to_string(&page).unwrap();
        for (what, text) in [("table", &shown), ("page", &page)] {
            for nonsense in ["NaN", "inf ", "\"inf\"", ">inf"] {
                assert!(!text.contains(nonsense), "{field} {figure}: {nonsense} in the {what}");
            }
        }
    }
}

#[test]
fn the_run_of_an_unoptimised_build_is_called_that_and_not_held_against_another_one() {
    let scratch = Scratch::new("build");
    let page = scratch.path("page.html");
    let run = changed(&scratch, |run| run.replacen("\"run\":{", "\"run\":{\"unoptimised\":true,", 1));
    for (run, warned) in [(RUN, false), (&*run, true)] {
        let (shown, _) = said(&bench(&["--from", run, "--report", &page]));
        for text in [shown, fs::read_to_string(&page).unwrap()] {
            assert_eq!(text.contains("An unoptimised build: its figures say little"), warned, "{run}");
        }
    }
    let (_, complaint) = said(&bench(&["--from", &run, "--compare", RUN]));
    assert!(complaint.contains("; this is ") && complaint.contains("an unoptimised build)"), "{complaint}");
}

#[test]
fn names_from_a_file_do_nothing_to_the_terminal() {
    let scratch = Scratch::new("escape");
    let run = changed(&scratch, |run| {
        let run = run.replacen("\"command\":\"", "\"command\":\"\\u001b[2J", 1);
        run.replace("\"mechanism\":\"tcp\"", "\"mechanism\":\"\\u001b]0;tcp\\u0007\"")
    });
    let output = bench(&["--from", &run, "--compare", &run]);
    let (shown, complaint) = said(&output);
    assert!(output.status.success(), "{complaint}");
    assert!(shown.contains(r"\u{1b}[2J") && shown.contains(r"\u{1b}]0;tcp\u{7}"), "{shown}");
    assert!(shown.chars().all(|letter| letter == '\n' || !letter.is_control()));
}

#[test]
fn what_is_no_text_is_refused_with_advice() {
    let scratch = Scratch::new("bytes");
    let path = scratch.path("bytes");
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    for arguments in [&["--from", &*path][..], &["--from", RUN, "--compare", &path]] {
        let output = bench(arguments);
        let (_, complaint) = said(&output);
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint.contains(&path) && complaint.contains("give a file of --save"), "{complaint}");
    }
}

#[test]
fn each_entry_of_the_pages_contents_leads_to_a_section_and_each_section_is_in_them() {
    let scratch = Scratch::new("contents");
    let page = scratch.path("page.html");
    let limits = changed(&scratch, |run| {
        let limits =
            run.lines().filter(|line| line.contains("\"run\":") || line.contains("\"measure\":\"limit\""));
        limits.map(|line| format!("{line}\n")).collect()
    });
    for (run, parts) in [(RUN, 13), (&*limits, 5)] {
        assert!(bench(&["--from", run, "--compare", RUN, "--report", &page]).status.success());
        let page = fs::read_to_string(&page).unwrap();
        let part = |begin: &str| -> Vec<String> {
            let parts = page.split(begin).skip(1).map(|rest| rest.split('"').next().unwrap().to_string());
            parts.collect()
        };
        let (led, sections) = (part("href=\"#"), part("<section id=\""));
        assert_eq!(led, sections);
        assert!(led.len() == parts && page.matches("<section").count() == parts, "{led:?}");
    }
}
