//! `ringpost bench` as its users run it: the real binary, two real processes. Nothing here depends on timing.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;

const FIELDS: [&str; 34] = [
    "anchor_ns",
    "batch",
    "bytes_per_s",
    "calls_error",
    "calls_per_million",
    "capacity",
    "class",
    "copied_bytes",
    "cpu_s_per_million",
    "dropped",
    "error",
    "max",
    "max_ns",
    "measure",
    "mechanism",
    "messages_per_s",
    "min",
    "oversubscribed",
    "p50_ns",
    "p90_ns",
    "p9999_ns",
    "p999_ns",
    "p99_ns",
    "preemptions_per_million",
    "ratio",
    "samples",
    "schema",
    "senders",
    "size",
    "strategy",
    "sweep",
    "variant",
    "wait",
    "waits_per_million",
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    command.arg("bench").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn each_line_has_the_schema_and_each_cell_a_line() {
    let output = run(&["--quick", "--sizes", "8", "--mechanisms", "pipe,sem-shm", "--rounds", "1", "--json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert_eq!(complaint(&output), "", "nothing on standard error when it is no terminal");
    let rows = rows(&output);
    for row in &rows {
        let fields: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, FIELDS);
        assert_eq!(row["schema"], 3);
        assert_eq!(row["size"], 8);
        assert!(["pipe", "sem-shm"].contains(&row["mechanism"].as_str().unwrap()));
        match (row["error"].as_str(), row["measure"].as_str().unwrap()) {
            (Some(reason), _) => {
                assert!(!reason.is_empty() && row["samples"] == 0 && row["p50_ns"].is_null())
            }
            (None, "latency") => {
                let figure = |name: &str| row[name].as_f64().unwrap();
                assert!(0.0 < figure("p50_ns") && figure("p50_ns") <= figure("p99_ns"));
                assert!(figure("p99_ns") <= figure("p999_ns"));
                assert!(figure("anchor_ns") > 0.0 && figure("ratio") > 0.0);
                assert!(row["class"].is_string() && row["messages_per_s"].is_null());
            }
            (None, "throughput") => {
                let (messages, bytes) = (row["messages_per_s"].as_f64(), row["bytes_per_s"].as_f64());
                assert!((messages.unwrap() * 8.0 - bytes.unwrap()).abs() <= 8.0);
                assert!(row["p50_ns"].is_null() && row["ratio"].is_null());
            }
            other => panic!("{other:?} was not asked for"),
        }
    }
    for mechanism in ["pipe", "sem-shm"] {
        for measure in ["latency", "throughput"] {
            for wait in ["spin", "sleep"] {
                let fits = |row: &&Value| {
                    row["mechanism"] == mechanism && row["measure"] == measure && row["wait"] == wait
                };
                assert!(rows.iter().any(|row| fits(&row)), "{mechanism} {measure} {wait} is missing");
            }
        }
    }
}

#[test]
fn the_ring_carries_verified_messages_in_every_variant() {
    let output =
        run(&["--quick", "--sizes", "100", "--mechanisms", "ring-spsc,ring-mpsc", "--rounds", "1", "--json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    for variant in ["copy", "in-place", "batch"] {
        assert!(rows(&output).iter().any(|row| row["variant"] == variant));
    }
}

/// The rows of a run that carries 64 bytes over these mechanisms, as far as they were measured.
fn counted(mechanisms: &str, prepare: impl FnOnce(&mut Command)) -> Vec<Value> {
    let mut command =
        command(&["--quick", "--sizes", "64", "--mechanisms", mechanisms, "--rounds", "1", "--json"]);
    prepare(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", complaint(&output));
    let rows: Vec<_> = rows(&output).into_iter().filter(|row| row["error"].is_null()).collect();
    assert!(!rows.is_empty());
    rows
}

/// System calls a message, the least of three more counts: what is done by the clock is much for few messages, and a busy machine moves few.
fn counted_again(row: &Value) -> f64 {
    let same = |other: &Value| ["wait", "variant"].iter().all(|field| other[field] == row[field]);
    let rows = (0..3).flat_map(|_| counted(row["mechanism"].as_str().unwrap(), |_| {})).filter(same);
    rows.map(|row| row["calls_per_million"].as_f64().unwrap() / 1e6).fold(f64::INFINITY, f64::min)
}

#[test]
fn system_calls_are_counted_and_only_those_of_the_messages() {
    for row in counted("pipe,unix-dgram,sem-shm,futex-shm,ring-spsc,ring-mpsc", |_| {}) {
        assert!(row["calls_error"].is_null(), "{row}");
        let calls = row["calls_per_million"].as_f64().unwrap() / 1e6;
        let kernel = ["pipe", "unix-dgram"].contains(&row["mechanism"].as_str().unwrap());
        match (kernel, row["wait"].as_str().unwrap()) {
            // One to send and one to receive; who sleeps in the call makes no other, short reads aside.
            (true, "sleep") => assert!((2.0..2.5).contains(&calls), "{row}"),
            // Besides, it polls.
            (true, _) => assert!(calls >= 2.0, "{row}"),
            // A thread of the ring looks now and then whether the other process lives.
            (false, "spin") => assert!(calls < 0.25 || counted_again(&row) < 0.25, "{row}"),
            // Each side sleeps and wakes the other at most; a sleep may be in vain.
            (false, _) => assert!(calls < 8.0, "{row}"),
        }
    }
}

/// Refuses `ptrace` to the process that is started, and to its children.
fn refuse_tracing(command: &mut Command) {
    use std::os::unix::process::CommandExt;

    let statement = |code, k, jt, jf| libc::sock_filter { code, jt, jf, k };
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let compare = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(compare, libc::SYS_ptrace as u32, 0, 1),
        statement(answer, refused, 0, 0),
        statement(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: both only change what this process may do; the program is alive while it is read.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        done.then_some(()).ok_or_else(std::io::Error::last_os_error)
    };
    // SAFETY: between fork and exec it makes system calls alone.
    unsafe { command.pre_exec(install) };
}

#[test]
fn where_tracing_is_refused_the_row_says_why_its_calls_are_unknown() {
    for row in counted("pipe", refuse_tracing) {
        assert!(row["calls_per_million"].is_null() && row["samples"] == 1, "{row}");
        let reason = row["calls_error"].as_str().unwrap();
        assert!(reason.contains("ptrace") && reason.contains("EPERM"), "{row}");
    }
}

#[test]
fn the_ring_alone_is_measured_at_every_setting_and_with_all_its_senders_at_once() {
    let output =
        run(&["--json", "--quick", "--rounds", "1", "--sizes", "8", "--mechanisms", "line", "--sweeps"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let swept: Vec<_> = rows(&output).into_iter().filter(|row| !row["sweep"].is_null()).collect();
    assert!(swept.len() >= 25, "{}", swept.len());
    for row in &swept {
        assert!(row["error"].is_null() && row["messages_per_s"].as_f64() > Some(0.0), "{row}");
    }
    assert!(swept.iter().any(|row| row["senders"] == 16 && row["samples"].as_u64() > Some(0)));
}

#[test]
fn the_ring_alone_stays_on_the_cores_of_the_run() {
    let asked = "--json --quick --rounds 1 --sizes 8 --mechanisms syscall --sweeps --pin same";
    let output = run(&asked.split(' ').collect::<Vec<_>>());
    assert!(output.status.success(), "{}", complaint(&output));
    for row in rows(&output).iter().filter(|row| !row["sweep"].is_null()) {
        assert!(row["strategy"] != "spin" && row["oversubscribed"] == true, "{row}");
    }
}

#[test]
fn what_a_mechanism_cannot_carry_is_a_row_with_the_limit() {
    let output =
        run(&["--quick", "--sizes", "1048576", "--mechanisms", "sysv,posix-mq", "--rounds", "1", "--json"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let rows = rows(&output);
    for (mechanism, path) in
        [("sysv", "/proc/sys/kernel/msg"), ("posix-mq", "/proc/sys/fs/mqueue/msgsize_max")]
    {
        let of_it: Vec<_> = rows.iter().filter(|row| row["mechanism"] == mechanism).collect();
        assert_eq!(of_it.len(), 4, "two measures, two ways to wait");
        for row in of_it {
            // A machine may be configured to carry it.
            assert!(
                row["error"].as_str().is_none_or(|reason| reason.contains(path) || reason.contains("core"))
            );
        }
    }
}

#[test]
fn the_table_names_environment_and_command() {
    let before = SystemTime::now() - Duration::from_secs(1);
    let output = run(&["--quick", "--pin", "same", "--sizes", "8", "--mechanisms", "pipe", "--rounds", "1"]);
    assert!(output.status.success(), "{}", complaint(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let when = text.split("measured: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
    let when = humantime::parse_rfc3339(when).unwrap();
    assert!((before..=SystemTime::now()).contains(&when), "{text}");
    assert!(text.contains("Linux") && text.contains("bench --quick --pin same"), "{text}");
    assert!(text.contains("same-core") && text.contains("Not measured"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours");
    assert_eq!(text.starts_with("An unoptimised build"), cfg!(debug_assertions), "{text}");
}

#[test]
fn the_command_is_told_with_its_quotes_whatever_its_words_are() {
    let directory = std::env::temp_dir().join(format!("ringpost.test-words-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let asked = ["--quick", "--rounds", "1", "--mechanisms", "syscall,fence", "--input"];
    for (name, shown) in [(&b"two words"[..], "two words'"), (b"not\xffUTF-8", "not\u{fffd}UTF-8'")] {
        let input = directory.join(OsStr::from_bytes(name));
        std::fs::write(&input, "some bytes").unwrap();
        let output = command(&asked).arg(&input).output().unwrap();
        assert!(output.status.success(), "{}", complaint(&output));
        let shown = format!("syscall,fence --input '{}/{shown}", directory.display());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&shown), "{shown}: {text}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn bad_flags_are_usage_errors() {
    for arguments in [
        &["--sizes", "7"][..],
        &["--sizes", "eight"],
        &["--sizes", "-8"],
        &["--sizes", "-8,64"],
        &["--rounds", "-1"],
        &["--mechanisms", "pigeon"],
        &["--pin", "0,100000"],
        &["--pin", "x"],
        &["--pin", "-1,0"],
        &["--rounds", "0"],
        &["--unknown"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(complaint(&output).contains(arguments[0]), "{}", complaint(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn the_help_names_every_mechanism() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let refusal = complaint(&run(&["--mechanisms", "pigeon"]));
    let names = refusal.split("there are ").nth(1).unwrap().lines().next().unwrap();
    let help: Vec<&str> = help.split([',', ' ', '\n']).collect();
    assert!(names.split(", ").all(|name| help.contains(&name)), "{names}");
    assert!(help.contains(&"anchored"), "it says how is measured");
}

#[test]
fn bad_input_is_named() {
    for (path, why) in [("/nonexistent", "No such file"), ("/dev/null", "is empty"), ("/", "directory")] {
        let output = run(&["--input", path]);
        assert_eq!(output.status.code(), Some(1), "{path}");
        let complaint = complaint(&output);
        assert!(complaint.contains(path) && complaint.contains(why), "{complaint}");
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    use std::os::unix::process::ExitStatusExt;

    let mut command =
        command(&["--quick", "--sizes", "8", "--mechanisms", "pipe", "--rounds", "1", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGPIPE));
    assert_eq!(complaint(&output), "");
}

/// Starts a run that lasts until it is ended, waits until both measuring processes are there, and hands over the run
/// and one of them.
#[expect(clippy::zombie_processes, reason = "the caller waits for it")]
fn long_run(more: &[&str]) -> (std::process::Child, u32) {
    let mut command = command(&["--sizes", "8", "--mechanisms", "sysv", "--rounds", "10000"]);
    let child = command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    loop {
        let pids = std::fs::read_to_string(&children).unwrap_or_default();
        let pids: Vec<u32> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if pids.len() == 2 {
            return (child, pids[1]);
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_run_that_is_ended_leaves_the_files_as_they_were() {
    let directory = std::env::temp_dir().join(format!("ringpost.test-ended-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (old, new) = (directory.join("old.jsonl"), directory.join("new.csv"));
    std::fs::write(&old, "what was there").unwrap();
    let files = ["--save", old.to_str().unwrap(), "--csv", new.to_str().unwrap()];
    let (child, _) = long_run(&files);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "what was there");
    kill(child.id(), nix::sys::signal::Signal::SIGINT);
    child.wait_with_output().unwrap();
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
    let text = std::fs::read_to_string(&old).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    assert_eq!((left, text.as_str()), (vec![old], "what was there"));
}

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

#[test]
fn the_death_of_a_measuring_process_is_code_five() {
    let (child, worker) = long_run(&[]);
    kill(worker, nix::sys::signal::Signal::SIGKILL);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let complaint = complaint(&output);
    assert!(complaint.contains(&worker.to_string()) && complaint.contains("SIGKILL"), "{complaint}");
}

#[test]
fn an_interrupt_leaves_no_process_behind() {
    use std::os::unix::process::ExitStatusExt;

    let (child, worker) = long_run(&[]);
    kill(child.id(), nix::sys::signal::Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGINT));
    assert!(!Path::new(&format!("/proc/{worker}")).exists());
}

#[test]
fn when_the_supervisor_is_killed_everything_ends() {
    let (child, worker) = long_run(&[]);
    kill(child.id(), nix::sys::signal::Signal::SIGKILL);
    // Standard output and error end when the last of the three processes closes them, a moment before it is gone.
    child.wait_with_output().unwrap();
    let gone = || {
        let state = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ") || state.contains(") X ")
    };
    while !gone() {
        std::thread::yield_now();
    }
}
