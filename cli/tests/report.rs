//! The page of `ringpost bench`, from a recorded run: what is drawn is what was measured, in a real browser too.

mod drawn;
mod recorded;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use drawn::{Picture, read};
use recorded::{RUN, Scratch, bench};

#[track_caller]
fn draw(arguments: &[&str]) {
    let output = bench(&[&["--from", RUN], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn rows() -> Vec<Value> {
    let text = fs::read_to_string(RUN).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["run"].is_null())
        .collect()
}

/// All pictures of a page, as it was written or as a browser gives it back.
fn pictures(page: &str) -> Vec<Picture> {
    let ends = page.match_indices("</svg>").map(|(end, tag)| end + tag.len());
    page.match_indices("<svg").zip(ends).map(|((start, _), end)| Picture::parse(&page[start..end])).collect()
}

/// Which rows a picture is to show.
fn belongs(picture: &str, row: &Value) -> bool {
    let is = |measure: &str, wait: &str| {
        row["measure"] == measure && row["wait"] == wait && row["sweep"].is_null()
    };
    let one_core = row["class"] == "same-core";
    let limit = |names: &[&str]| {
        let place = row["mechanism"] == "syscall" || one_core == picture.ends_with("one-core");
        row["measure"] == "limit" && names.iter().any(|name| row["mechanism"] == *name) && place
    };
    match picture {
        "latency-spin" => is("latency", "spin") && !one_core || limit(&["line", "syscall"]),
        "latency-sleep" => is("latency", "sleep") && !one_core || limit(&["futex", "syscall"]),
        "latency-one-core" => is("latency", "sleep") && one_core || limit(&["futex", "syscall"]),
        "bands-spin" => is("latency", "spin") && !one_core,
        "bands-sleep" => is("latency", "sleep") && !one_core,
        "bands-one-core" => is("latency", "sleep") && one_core,
        "percentiles-spin" => is("latency", "spin") && !one_core && row["size"] == 64 || limit(&["line"]),
        "percentiles-sleep" => is("latency", "sleep") && !one_core && row["size"] == 64 || limit(&["futex"]),
        "percentiles-one-core" => {
            is("latency", "sleep") && one_core && row["size"] == 64 || limit(&["futex"])
        }
        "messages-spin" => is("throughput", "spin") || limit(&["line", "syscall"]),
        "messages-sleep" => is("throughput", "sleep") || limit(&["futex", "syscall"]),
        "bytes-spin" => is("throughput", "spin") || limit(&["memcpy"]),
        "bytes-sleep" => is("throughput", "sleep") || limit(&["memcpy"]),
        "growth-cpu-spin" => is("throughput", "spin"),
        "growth-cpu-sleep" => is("throughput", "sleep"),
        cost if cost.starts_with("cost-") => {
            let wait = cost.rsplit('-').next().unwrap();
            is("throughput", wait) && row["size"] == 64
        }
        sweep if sweep.starts_with("sweep-") => {
            let sweep = &sweep["sweep-".len()..];
            row["sweep"] == sweep.strip_suffix("-cpu").unwrap_or(sweep)
        }
        other => panic!("an unknown picture: {other}"),
    }
}

const PERCENTILES: [&str; 6] = ["p50_ns", "p90_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns"];

/// Holds each picture against the rows: an element for each value that there is, and none besides.
fn hold_against_rows(page: &str) {
    let rows = rows();
    let pictures = pictures(page);
    let names: BTreeSet<_> = pictures.iter().map(|picture| picture.name.as_str()).collect();
    let needed = [
        "bands-spin",
        "bands-sleep",
        "bands-one-core",
        "percentiles-one-core",
        "growth-cpu-spin",
        "growth-cpu-sleep",
        "sweep-fan-in-cpu",
        "sweep-capacity-cpu",
        "sweep-batch-cpu",
        "ladder-latency",
        "ladder-throughput",
        "latency-spin",
        "latency-sleep",
        "latency-one-core",
        "percentiles-spin",
        "percentiles-sleep",
        "messages-spin",
        "messages-sleep",
        "bytes-spin",
        "bytes-sleep",
        "cost-cpu-spin",
        "cost-cpu-sleep",
        "cost-switches-spin",
        "cost-switches-sleep",
        "cost-calls-spin",
        "cost-calls-sleep",
        "cost-copies-spin",
        "cost-copies-sleep",
        "sweep-fan-in",
        "sweep-capacity",
        "sweep-batch",
        "sweep-waiting",
        "sweep-waiting-cpu",
    ];
    assert!(needed.iter().all(|name| names.contains(name)), "{names:?}");
    for picture in &pictures {
        picture.hold_to_scale();
        let value = |row: usize, field: &str| match rows[row][field].as_f64() {
            // A limit across the rates: how often it goes into a second.
            None if field == "messages_per_s" => rows[row]["p50_ns"].as_f64().map(|ns| 1e9 / ns),
            value => value,
        };
        hold_steps(picture, &rows);
        if picture.name.starts_with("ladder-") {
            for mark in picture.marks() {
                let measured = value(mark.row, &picture.field).unwrap();
                let measured = if picture.field == "p50_ns" { measured } else { 1e9 / measured };
                assert!((mark.value - measured).abs() < 1e-6 * measured, "{} {mark:?}", picture.name);
            }
            continue;
        }
        let fields: Vec<&str> = match &*picture.field {
            "percentiles" => PERCENTILES.into(),
            several => several.split(' ').collect(),
        };
        let mut expected: Vec<(usize, f64)> = (0..rows.len())
            .filter(|&row| rows[row]["error"].is_null() && belongs(&picture.name, &rows[row]))
            .flat_map(|row| fields.iter().map(move |field| (row, *field)))
            .filter_map(|(row, field)| Some((row, value(row, field)?)))
            .collect();
        let mut drawn: Vec<_> = picture.marks().map(|mark| (mark.row, mark.value)).collect();
        let order = |a: &(usize, f64), b: &(usize, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
        expected.sort_by(order);
        drawn.sort_by(order);
        assert_eq!(drawn, expected, "{}", picture.name);
    }
}

/// Each mark of a line stands above the step that is its row's.
fn hold_steps(picture: &Picture, rows: &[Value]) {
    for series in &picture.series {
        for (index, mark) in series.marks.iter().chain(&series.highs).enumerate() {
            let row = &rows[mark.row];
            let step = match picture.name.trim_end_matches("-cpu") {
                "sweep-batch" => row["batch"].to_string(),
                "sweep-capacity" => match row["capacity"].as_u64().unwrap() >> 10 {
                    kibibytes if kibibytes < 1024 => format!("{kibibytes} KiB"),
                    kibibytes => format!("{} MiB", kibibytes >> 10),
                },
                name if name.starts_with("percentiles-") => {
                    assert_eq!(row[PERCENTILES[index]].as_f64(), Some(mark.value), "{name}");
                    ["p50", "p90", "p99", "p99.9", "p99.99", "longest"][index].into()
                }
                _ => format!("{} B", row["size"]),
            };
            assert_eq!(picture.step_of(mark), step, "{}", picture.name);
        }
    }
}

#[test]
fn the_page_shows_every_row_and_nothing_else() {
    let scratch = Scratch::new("page");
    let page = scratch.path("page.html");
    draw(&["--report", &page]);
    let text = fs::read_to_string(&page).unwrap();
    hold_against_rows(&text);
    let start = text.find("id=\"rows\">").unwrap() + "id=\"rows\">".len();
    let embedded = &text[start..start + text[start..].find("</script>").unwrap()];
    assert_eq!(serde_json::from_str::<Vec<Value>>(embedded).unwrap(), rows());
    assert!(!text.contains("src=") && !text.contains("<link"), "it needs no network");
}

#[test]
fn a_browser_draws_it_in_the_light_and_in_the_dark() {
    let Some(browser) = browser() else {
        eprintln!("NO BROWSER: install chromium; only the written page was checked, by the other test");
        return;
    };
    let scratch = Scratch::new("browser");
    let page = scratch.path("page.html");
    draw(&["--report", &page]);
    // 0 is dark, 1 is light.
    for scheme in [0, 1] {
        let output = Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
            .arg(format!("--user-data-dir={}", scratch.path("profile")))
            .arg(format!("file://{page}"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        hold_against_rows(&String::from_utf8(output.stdout).unwrap());
    }
}

/// Looks for texts that are cut off by their picture or lie on each other, and for a page wider than its window.
const LOOK: &str = "<script>
  const wrong = [];
  for (const svg of document.querySelectorAll('svg.chart')) {
    const name = svg.dataset.chart, frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([text, box], index) => {
      if (box.left < frame.left || box.right > frame.right || box.top < frame.top || box.bottom > frame.bottom + 1)
        wrong.push(`${name}: “${text}” is cut`);
      for (const [other, its] of texts.slice(0, index)) {
        const wide = Math.min(box.right, its.right) - Math.max(box.left, its.left);
        const high = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
        if (wide > 1 && high > 0.4 * Math.min(box.height, its.height)) wrong.push(`${name}: “${text}” lies on “${other}”`);
      }
    });
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push('the page is wider than its window');
  document.body.dataset.looked = wrong.join('; ') || 'well';
</script></body>";

#[test]
fn in_a_browser_nothing_is_cut_or_lies_on_something_else() {
    let Some(browser) = browser() else {
        eprintln!("NO BROWSER: install chromium; nobody has looked at the page");
        return;
    };
    let scratch = Scratch::new("look");
    let page = scratch.path("page.html");
    // Where the processes were met in two placement classes there are twice as many series, with longer names.
    let twice = changed(&scratch, "twice.jsonl", |run| run.clone() + &second_class(&run));
    for (run, width) in [(RUN, 1280), (RUN, 500), (&twice, 1280)] {
        let output = bench(&["--from", run, "--report", &page, "--compare", RUN]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::write(&page, fs::read_to_string(&page).unwrap().replace("</body>", LOOK)).unwrap();
        let output = Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"])
            .arg(format!("--window-size={width},2000"))
            .arg(format!("--user-data-dir={}", scratch.path("profile")))
            .arg(format!("file://{page}"))
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        let found = shown.split("data-looked=\"").nth(1).and_then(|rest| rest.split('"').next());
        assert_eq!(found, Some("well"), "{run}, {width} pixels wide");
    }
}

/// The rows between two cores once more, as if these had been closer for a while.
fn second_class(run: &str) -> String {
    let far = run.lines().filter(|line| line.contains("\"class\":\"far\""));
    far.map(|line| line.replace("\"class\":\"far\"", "\"class\":\"ccx\"") + "\n").collect()
}

fn browser() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places)
        .flat_map(|place| names.map(|name| place.join(name)))
        .find(|path| path.is_file())
}

#[test]
fn pictures_stand_alone_and_the_table_has_the_fields_of_the_rows() {
    let scratch = Scratch::new("files");
    let (directory, table, copy) =
        (scratch.path("pictures"), scratch.path("run.csv"), scratch.path("copy.jsonl"));
    draw(&["--svg", &directory, "--csv", &table, "--save", &copy]);
    let drawn = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    for path in drawn {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("class=\"paper\""), "it can be read on any ground");
        let picture = Picture::parse(&text);
        assert_eq!(Some(picture.name.as_str()), path.file_stem().and_then(|name| name.to_str()));
    }
    let table = fs::read_to_string(&table).unwrap();
    let header: BTreeSet<&str> = table.lines().next().unwrap().split(',').collect();
    let rows = rows();
    assert_eq!(header, rows[0].as_object().unwrap().keys().map(String::as_str).collect());
    assert_eq!(table.lines().count(), rows.len() + 1);
    let json = |path: &Path| -> Vec<Value> {
        fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(json(Path::new(&copy)), json(Path::new(RUN)));
}

#[test]
fn the_page_says_of_whom_the_calls_were_not_counted() {
    let scratch = Scratch::new("uncounted");
    let (run, page, table) =
        (scratch.path("run.jsonl"), scratch.path("page.html"), scratch.path("table.csv"));
    let uncounted = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["mechanism"] == "pipe" && line["measure"] != "limit" {
            line["calls_per_million"] = Value::Null;
            line["calls_error"] = "nobody may look".into();
        }
        format!("{line}\n")
    };
    fs::write(&run, fs::read_to_string(RUN).unwrap().lines().map(uncounted).collect::<String>()).unwrap();
    let output = bench(&["--from", &run, "--report", &page, "--csv", &table]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(&page).unwrap().contains("pipe (nobody may look)"));
    assert!(fs::read_to_string(&table).unwrap().contains("nobody may look"));
}

#[test]
fn each_mechanism_has_its_calls_and_the_ladder_has_every_rung() {
    let scratch = Scratch::new("ladder");
    let page = scratch.path("page.html");
    draw(&["--report", &page]);
    let pictures = pictures(&fs::read_to_string(&page).unwrap());
    let rows = rows();
    let shown = |name: &str| -> BTreeSet<&str> {
        let picture = pictures.iter().find(|picture| picture.name == name).unwrap();
        picture.marks().map(|mark| rows[mark.row]["mechanism"].as_str().unwrap()).collect()
    };
    let messages = rows.iter().filter(|row| row["measure"] == "throughput" && row["sweep"].is_null());
    let mechanisms: BTreeSet<&str> = messages.map(|row| row["mechanism"].as_str().unwrap()).collect();
    assert_eq!(shown("cost-calls-sleep"), mechanisms);
    let rungs = [
        ("System V queue", "sysv", "copy", "sleep"),
        ("POSIX queue", "posix-mq", "copy", "sleep"),
        ("pipe", "pipe", "copy", "sleep"),
        ("Unix socket", "unix-stream", "copy", "sleep"),
        ("shared memory, semaphores", "sem-shm", "in-place", "sleep"),
        ("shared memory, futex", "futex-shm", "in-place", "sleep"),
        ("ring, copying", "ring-spsc", "copy", "sleep"),
        ("ring, in place", "ring-spsc", "in-place", "sleep"),
        ("ring, batched", "ring-spsc", "batch", "sleep"),
        ("ring, batched, spinning", "ring-spsc", "batch", "spin"),
    ];
    for (name, due) in
        [("ladder-latency", &rungs[..8]), ("ladder-throughput", &[&rungs[..5], &rungs[6..]].concat())]
    {
        let bars = &pictures.iter().find(|picture| picture.name == name).unwrap().bars;
        let row = |bar: &drawn::Bar, field: &str| rows[bar.mark.row][field].as_str().unwrap().to_string();
        let found: Vec<_> = bars
            .iter()
            .map(|bar| (bar.name.clone(), row(bar, "mechanism"), row(bar, "variant"), row(bar, "wait")))
            .collect();
        let due: Vec<_> =
            due.iter().map(|rung| (rung.0.into(), rung.1.into(), rung.2.into(), rung.3.into())).collect();
        assert_eq!(found, due, "{name}");
        for pair in bars.windows(2) {
            let more = pair[1].mark.value - pair[0].mark.value;
            let said = read(pair[1].texts[1].split(';').next().unwrap());
            assert!((said - more).abs() <= 0.006 * more.abs(), "{name}: {said} instead of {more}");
        }
    }
}

#[test]
fn a_run_beside_itself_differs_nowhere_and_another_schema_is_refused() {
    let scratch = Scratch::new("compare");
    let output = bench(&["--from", RUN, "--compare", RUN]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Against the older run: 0 of "), "{text}");
    let older = scratch.path("older.jsonl");
    fs::write(&older, fs::read_to_string(RUN).unwrap().replace("\"schema\":3", "\"schema\":1")).unwrap();
    let output = bench(&["--from", RUN, "--compare", &older]);
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.contains(&older) && complaint.contains("measure again"), "{complaint}");
}

/// The recorded run with its lines changed.
fn changed(scratch: &Scratch, name: &str, change: impl Fn(String) -> String) -> String {
    let path = scratch.path(name);
    fs::write(&path, change(fs::read_to_string(RUN).unwrap())).unwrap();
    path
}

#[test]
fn a_run_of_another_machine_is_refused_before_anything_is_measured() {
    let scratch = Scratch::new("machine");
    let other =
        changed(&scratch, "other.jsonl", |run| run.replacen("\"processor\":\"", "\"processor\":\"Other ", 1));
    let page = scratch.path("page.html");
    for arguments in [&["--rounds", "1", "--sizes", "8", "--mechanisms", "line"][..], &["--from", RUN]] {
        let output = bench(&[arguments, &["--compare", &other, "--report", &page]].concat());
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint.contains(&other) && complaint.contains("another machine (Other "), "{complaint}");
        assert!(output.stdout.is_empty() && !Path::new(&page).exists());
    }
}

#[test]
fn what_was_measured_is_shown_even_if_there_is_nothing_to_compare_it_with() {
    let scratch = Scratch::new("nothing");
    let foreign =
        changed(&scratch, "foreign.jsonl", |run| run.replace("\"mechanism\":\"", "\"mechanism\":\"foreign-"));
    let page = scratch.path("page.html");
    let output = bench(&["--from", RUN, "--compare", &foreign, "--report", &page]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no cell in common"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("Latency, both sides spinning"));
    hold_against_rows(&fs::read_to_string(&page).unwrap());
}

#[test]
fn an_older_run_without_a_head_is_compared_and_its_machine_is_said_to_be_unknown() {
    let scratch = Scratch::new("headless");
    let rows = changed(&scratch, "rows.jsonl", |run| run.split_once('\n').unwrap().1.into());
    let output = bench(&["--from", RUN, "--compare", &rows]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("does not say on which machine"), "{text}");
}

#[test]
fn a_file_that_is_no_run_is_refused_with_advice() {
    let scratch = Scratch::new("bad");
    let cut = |run: String| run[..run.len() / 2].to_string();
    let bad = [
        (changed(&scratch, "cut", cut), "is not JSON"),
        (changed(&scratch, "old", |run| run.replace("\"schema\":3", "\"schema\":2")), "measure again"),
        (changed(&scratch, "foreign", |_| "{\"a\":1}\n".into()), "give a file of --save"),
        (changed(&scratch, "empty", |_| String::new()), "give a file of --save"),
        (scratch.path("absent"), "No such file"),
    ];
    for flag in ["--from", "--compare"] {
        for (path, advice) in &bad {
            let output = bench(&[flag, path]);
            let complaint = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{flag} {path}");
            assert!(complaint.contains(path) && complaint.contains(advice), "{complaint}");
            assert!(output.stdout.is_empty());
        }
    }
}

#[test]
fn whatever_figures_and_names_a_run_has_its_page_is_drawn() {
    let scratch = Scratch::new("odd");
    let page = scratch.path("page.html");
    for odd in [0.0, -1.0, 1e12] {
        let run = changed(&scratch, "odd.jsonl", |run| {
            let change = |line: &str| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                for field in ["p50_ns", "p999_ns", "messages_per_s", "cpu_s_per_million", "calls_per_million"]
                {
                    if line[field].is_number() {
                        line[field] = odd.into();
                    }
                }
                if line["mechanism"] == "tcp" {
                    line["mechanism"] = "<!--<script></script>".into();
                }
                format!("{line}\n")
            };
            run.lines().map(change).collect()
        });
        let output = bench(&["--from", &run, "--report", &page]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(&page).unwrap();
        assert!(pictures(&text).len() > 20 && !text.contains("NaN") && !text.contains("\"inf\""), "{odd}");
        assert!(!text.contains("<!--"));
    }
}

#[test]
fn a_run_that_has_not_all_of_its_rounds_says_so() {
    let scratch = Scratch::new("short");
    let page = scratch.path("page.html");
    let run = changed(&scratch, "short.jsonl", |run| run.replacen("\"rounds\":1", "\"rounds\":3", 1));
    assert!(bench(&["--from", &run, "--report", &page]).status.success());
    assert!(fs::read_to_string(&page).unwrap().contains("of them have fewer than 3 samples"));
    draw(&["--report", &page]);
    assert!(!fs::read_to_string(&page).unwrap().contains("of them have fewer"));
}

#[test]
fn what_was_dropped_of_a_cell_and_the_cell_itself_count_once_in_however_many_classes_it_was_met() {
    let scratch = Scratch::new("dropped");
    let page = scratch.path("page.html");
    let run = changed(&scratch, "dropped.jsonl", |run| {
        let run = run.replacen("\"rounds\":1", "\"rounds\":2", 1).replace("\"samples\":1", "\"samples\":2");
        let pipe = |line: &str| match line.contains("\"mechanism\":\"pipe\"")
            && line.contains("\"class\":\"far\"")
        {
            true => line.replace("\"dropped\":0", "\"dropped\":1").replace("\"samples\":2", "\"samples\":1"),
            false => line.into(),
        };
        let run: String = run.lines().map(|line| pipe(line) + "\n").collect();
        let far = run
            .lines()
            .filter(|line| line.contains("\"mechanism\":\"pipe\"") && line.contains("\"class\":\"far\""));
        let near: String =
            far.map(|line| line.replace("\"class\":\"far\"", "\"class\":\"ccx\"") + "\n").collect();
        run + &near
    });
    let pipe = |row: &Value| row["mechanism"] == "pipe" && row["class"] == "far";
    let dropped = rows().iter().filter(|row| pipe(row)).count();
    draw(&["--report", &page]);
    let cells = |page: &str| -> usize {
        let text = fs::read_to_string(page).unwrap();
        text.split("Samples: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().parse().unwrap()
    };
    let before = cells(&page);
    assert!(bench(&["--from", &run, "--report", &page]).status.success());
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains(&format!("{dropped} samples dropped because")), "{dropped}");
    assert_eq!(cells(&page), before);
    assert!(!text.contains("of them have fewer than"));
}

#[test]
fn a_run_beside_something_else_is_called_that() {
    let scratch = Scratch::new("beside");
    let page = scratch.path("page.html");
    let busy = changed(&scratch, "busy.jsonl", |run| {
        let change = |line: &str| match line.contains("\"mechanism\":\"line\"") {
            true => line.replacen("\"ratio\":", "\"ratio\":7", 1) + "\n",
            false => format!("{line}\n"),
        };
        run.lines().map(change).collect()
    });
    let said = || fs::read_to_string(&page).unwrap().contains("Something else was running");
    assert!(bench(&["--from", &busy, "--report", &page]).status.success() && said());
    draw(&["--report", &page]);
    assert!(!said());
}

#[test]
fn the_page_and_the_table_say_when_the_run_was_measured() {
    const WHEN: &str = "2026-01-31T23:59:59Z";
    let scratch = Scratch::new("when");
    let (page, copy) = (scratch.path("page.html"), scratch.path("copy.jsonl"));
    let head = format!("\"run\":{{\"measured\":\"{WHEN}\",");
    let dated = changed(&scratch, "dated.jsonl", |run| run.replacen("\"run\":{", &head, 1));
    for (run, said) in [(RUN, "measured: not recorded".into()), (&dated, format!("measured: {WHEN}"))] {
        let output = bench(&["--from", run, "--report", &page, "--save", &copy]);
        assert!(fs::read_to_string(&page).unwrap().contains(&said), "{said}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(&said), "{said}");
        assert_eq!(fs::read_to_string(&copy).unwrap().contains(WHEN), run == dated);
    }
}

#[test]
fn the_page_says_what_was_not_asked_for() {
    let scratch = Scratch::new("asked");
    let page = scratch.path("page.html");
    draw(&["--report", &page]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("Not asked for: mailbox, rendezvous, fifo, unix-seqpacket, unix-dgram."));
    assert!(!text.contains("made without --sweeps"));
    let run = changed(&scratch, "alone.jsonl", |run| {
        let plain = run.lines().filter(|line| line.contains("\"sweep\":null") || line.contains("\"run\":"));
        plain.map(|line| format!("{line}\n")).collect()
    });
    assert!(bench(&["--from", &run, "--report", &page]).status.success());
    assert!(fs::read_to_string(&page).unwrap().contains("made without --sweeps"));
}

#[test]
fn a_ladder_adds_up_its_steps_and_names_the_rungs_that_it_has_not() {
    let scratch = Scratch::new("rungs");
    let page = scratch.path("page.html");
    let run = changed(&scratch, "no-pipe.jsonl", |run| {
        let others = run.lines().filter(|line| !line.contains("\"mechanism\":\"pipe\""));
        others.map(|line| format!("{line}\n")).collect()
    });
    assert!(bench(&["--from", &run, "--report", &page]).status.success());
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("No rung “pipe”: pipe was not measured so, in this place, in this run."));
    assert!(text.contains("No rung “shared memory, futex”: it has one slot"));
    assert_eq!(text.matches("first to last").count(), 2);
}

#[test]
fn what_cannot_be_written_is_known_before_anything_is_measured() {
    for flag in ["--report", "--csv", "--save", "--svg"] {
        let output = bench(&[flag, "/proc/nowhere/x", "--rounds", "10000"]);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flag}");
        assert!(complaint.contains("/proc/nowhere/x") && complaint.contains("give a "), "{complaint}");
        assert!(output.stdout.is_empty());
    }
}
