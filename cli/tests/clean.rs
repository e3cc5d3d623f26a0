//! `ringpost clean`: what nobody uses goes, what somebody uses stays.

mod common;

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{Rings, assert_code, complaint, eventually};
use nix::sys::signal::Signal;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

/// One test at a time: whoever starts a process lends it, until that runs, what another test has open.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What `clean --json` lists.
fn found(rings: &Rings, more: &str) -> Vec<Value> {
    let output = rings.run(&format!("clean --json {more}"), b"");
    assert_code(&output, 0);
    text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn named<'a>(found: &'a [Value], name: &str) -> &'a Value {
    found.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is missing: {found:?}"))
}

fn names(rings: &Rings) -> Vec<String> {
    let names = ringpost::names(&rings.directory).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn path(rings: &Rings, name: &str) -> PathBuf {
    rings.directory.join(format!("ringpost.{name}"))
}

fn received(rings: &Rings, name: &str, count: u64) {
    let ring = rings.ring(name);
    eventually("the receiver has it", || (ring.statistics().receiver.messages == count).then_some(()));
}

fn attached(rings: &Rings, name: &str) {
    let ring = rings.ring(name);
    let anybody = || {
        let statistics = ring.statistics();
        statistics.receiver.attached || statistics.senders.iter().any(|sender| sender.attached)
    };
    eventually("somebody is attached", || anybody().then_some(()));
}

#[test]
fn what_is_left_is_listed_with_what_is_in_it_and_removed_only_when_that_is_asked_for() {
    let _alone = alone();
    let rings = Rings::new();
    assert_code(&rings.run("send closed --capacity 64K", b"1\n22\n333\n"), 0);
    assert_code(&rings.run("recv closed -n 1", b""), 0);
    drop(ringpost::builder("unused").directory(&rings.directory).create().unwrap());
    let (mut sender, mut stdin) = rings.start_with_input("send killed");
    stdin.write_all(b"4444\n").unwrap();
    let pending = || rings.ring("killed").statistics().pending_messages();
    eventually("a message", || (pending() == 1).then_some(()));
    sender.signal(Signal::SIGKILL);
    sender.wait();

    for _ in 0..2 {
        let found = found(&rings, "");
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|row| (&row["state"], &row["schema"]) == (&json!("left"), &json!(1))));
        let [closed, unused, killed] = ["closed", "unused", "killed"].map(|name| named(&found, name));
        assert_eq!((&closed["pending_messages"], &closed["pending_bytes"]), (&json!(2), &json!(5)));
        assert_eq!(closed["why"], json!("everybody has closed"));
        assert!(closed["memory_bytes"].as_u64().unwrap() >= 1 << 16);
        assert_eq!(
            (&unused["pending_messages"], &unused["why"]),
            (&json!(0), &json!("nobody has ever attached"))
        );
        assert_eq!((&killed["pending_messages"], &killed["pending_bytes"]), (&json!(1), &json!(4)));
        assert_eq!(killed["why"], json!(format!("process {} died", sender.pid())));
    }
    let table = rings.run("clean", b"");
    assert_code(&table, 0);
    let line = text(&table).lines().find(|line| line.starts_with("closed ")).unwrap();
    assert!(line.contains("left") && line.ends_with("everybody has closed"), "{line}");
    assert_eq!(names(&rings).len(), 3, "nothing was removed");

    let removed = found(&rings, "--yes");
    assert_eq!(removed.len(), 3);
    assert!(removed.iter().all(|row| row["state"] == "removed"));
    assert_eq!(names(&rings), [""; 0]);
    assert_eq!(text(&rings.run("clean --yes", b"")), "");
}

#[test]
fn who_died_with_several_places_is_named_once() {
    const DIRECTORY: &str = "RINGPOST_TEST_MAIL";
    if let Some(directory) = env::var_os(DIRECTORY) {
        // The other process.
        let ring = ringpost::builder("mail").directory(directory).mailbox(4).create().unwrap();
        let _places = [ring.mailbox().unwrap(), ring.mailbox().unwrap()];
        nix::sys::signal::raise(Signal::SIGKILL).unwrap();
    }
    let _alone = alone();
    let rings = Rings::new();
    let name = "who_died_with_several_places_is_named_once";
    let mut other = Command::new(env::current_exe().unwrap());
    let mut other = other.args(["--exact", name]).env(DIRECTORY, &rings.directory).spawn().unwrap();
    assert_eq!(other.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    let found = found(&rings, "");
    assert_eq!(named(&found, "mail")["why"], json!(format!("process {} died", other.id())));
}

#[test]
fn what_somebody_has_open_stays_whether_he_sends_receives_sleeps_or_is_stopped() {
    let _alone = alone();
    let rings = Rings::new();
    let (_sender, mut to_sender) = rings.start_with_input("send sender");
    to_sender.write_all(b"kept\n").unwrap();
    let _receiver = rings.start("recv receiver");
    let (stopped, _to_stopped) = rings.start_with_input("send stopped");
    for name in ["sender", "receiver", "stopped"] {
        attached(&rings, name);
    }
    stopped.signal(Signal::SIGSTOP);
    let open = ringpost::builder("open").directory(&rings.directory).create().unwrap();

    assert_eq!(found(&rings, "--yes"), [] as [Value; 0]);
    assert_eq!(names(&rings), ["open", "receiver", "sender", "stopped"]);
    assert!(open.is_current());

    stopped.signal(Signal::SIGKILL);
    drop((open, stopped));
    let removed = found(&rings, "--yes");
    assert_eq!(removed.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["open", "stopped"]);
    // The others go on.
    let taker = rings.start("recv sender");
    received(&rings, "sender", 1);
    drop(to_sender);
    assert_eq!(taker.finish().stdout, b"kept\n");
}

#[test]
fn garbage_of_this_user_goes_and_what_may_be_somebody_elses_stays() {
    let _alone = alone();
    let rings = Rings::new();
    assert_code(&rings.run("send cut", b"x\n"), 0);
    OpenOptions::new().write(true).open(path(&rings, "cut")).unwrap().set_len(9000).unwrap();
    fs::write(path(&rings, "empty"), "").unwrap();
    fs::write(path(&rings, "noise"), [0xaa; 9000]).unwrap();
    File::create(path(&rings, "zeros")).unwrap().set_len(1 << 20).unwrap();
    let garbage = ["cut", "empty", "noise", "zeros"];

    let target = rings.directory.join("target");
    fs::write(&target, "not ours").unwrap();
    symlink(&target, path(&rings, "link")).unwrap();
    fs::create_dir(path(&rings, "folder")).unwrap();
    mkfifo(&path(&rings, "pipe"), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    fs::write(path(&rings, "open-to-all"), "").unwrap();
    fs::set_permissions(path(&rings, "open-to-all"), Permissions::from_mode(0o666)).unwrap();
    fs::hard_link(&target, path(&rings, "second-name")).unwrap();
    // Of a layout that this build can't read, so it may be in use.
    assert_code(&rings.run("send version", b""), 0);
    let file = OpenOptions::new().write(true).open(path(&rings, "version")).unwrap();
    file.write_all_at(&77u32.to_ne_bytes(), 8).unwrap();
    // Of another PID namespace, and of the `shared_memory` crate: who is attached can't be told, or holds no lock.
    for name in ["namespace", "hosted"] {
        assert_code(&rings.run(&format!("send {name}"), b""), 0);
    }
    forge(&path(&rings, "namespace"), 88, &[7; 8]);
    forge(&path(&rings, "hosted"), 20, &[0; 4]);
    forge(&path(&rings, "hosted"), 40, &100u32.to_ne_bytes());
    let kept = ["folder", "hosted", "link", "namespace", "open-to-all", "pipe", "second-name", "version"];

    let found = found(&rings, "--yes");
    assert_eq!(found.len(), garbage.len() + kept.len());
    for (name, why) in garbage.into_iter().zip(["truncated", "not a ring", "not a ring", "not a ring"]) {
        let row = named(&found, name);
        assert_eq!((&row["state"], &row["pending_messages"]), (&json!("removed"), &Value::Null), "{name}");
        assert!(row["why"].as_str().unwrap().contains(why), "{row}");
    }
    let reasons = [
        "not a regular",
        "hosted",
        "symbolic link",
        "namespace",
        "mode 0666",
        "not a regular",
        "2 names",
        "version",
    ];
    for (name, why) in kept.into_iter().zip(reasons) {
        let row = named(&found, name);
        assert_eq!(row["state"], "kept", "{name}");
        assert!(row["why"].as_str().unwrap().contains(why), "{row}");
    }
    assert_eq!(names(&rings), kept);
    assert_eq!(fs::read(&target).unwrap(), b"not ours");
    let table = rings.run("clean", b"");
    assert!(text(&table).starts_with("Kept:\nfolder: "), "{}", text(&table));
}

#[test]
fn a_ring_of_another_boot_goes() {
    let _alone = alone();
    let rings = Rings::new();
    assert_code(&rings.run("send old", b"x\n"), 0);
    forge(&path(&rings, "old"), 72, &[7; 16]);
    let output = rings.run("recv old --open", b"");
    assert_code(&output, 1);
    assert!(complaint(&output).contains("`ringpost clean`"), "{}", complaint(&output));
    let found = found(&rings, "--yes");
    assert_eq!(found[0]["state"], "removed");
    assert!(found[0]["why"].as_str().unwrap().contains("before the machine last started"), "{}", found[0]);
    assert_eq!(names(&rings), [""; 0]);
}

/// Overwrites a field of the header, and makes the checksum of `docs/LAYOUT.md` right again.
fn forge(path: &PathBuf, offset: usize, field: &[u8]) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut header = [0; 128];
    file.read_exact_at(&mut header, 0).unwrap();
    header[offset..offset + field.len()].copy_from_slice(field);
    let sum = header[..120].iter().fold(0xcbf2_9ce4_8422_2325u64, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    header[120..].copy_from_slice(&sum.to_ne_bytes());
    file.write_all_at(&header, 0).unwrap();
}

#[test]
fn what_belongs_to_another_user_is_listed_and_left_alone() {
    let _alone = alone();
    let rings = Rings::new();
    if !is_root(&rings) {
        return println!("skipped: only root can give a file away");
    }
    assert_code(&rings.run("send theirs", b"x\n"), 0);
    chown(path(&rings, "theirs"), Some(65534), None).unwrap();
    let found = found(&rings, "--yes");
    assert_eq!((found.len(), &found[0]["state"]), (1, &json!("kept")));
    assert!(found[0]["why"].as_str().unwrap().contains("belongs to user 65534"), "{}", found[0]);
    assert_eq!(names(&rings), ["theirs"]);
}

#[test]
fn what_can_not_be_removed_is_an_error_with_the_reason() {
    let _alone = alone();
    let rings = Rings::new();
    if !is_root(&rings) {
        return println!("skipped: only root can keep everybody from removing files");
    }
    for name in ["a", "b"] {
        assert_code(&rings.run(&format!("send {name}"), b""), 0);
    }
    let Some(_kept) = AppendOnly::new(&rings.directory) else {
        return println!("skipped: the file system has no directories in which nothing can be removed");
    };
    let output = rings.run("clean --yes --json", b"");
    assert_code(&output, 1);
    let complaints = complaint(&output);
    assert!(complaints.contains("ringpost: a: ") && complaints.contains("ringpost: b: "), "{complaints}");
    assert!(complaints.contains("permission denied"), "{complaints}");
    assert_eq!(text(&output).matches("\"left\"").count(), 2);
    assert_eq!(names(&rings), ["a", "b"]);
}

fn is_root(rings: &Rings) -> bool {
    fs::metadata(&rings.directory).unwrap().uid() == 0
}

/// A directory in which not even root can remove a file.
struct AppendOnly<'a>(&'a Path);

impl<'a> AppendOnly<'a> {
    fn new(path: &'a Path) -> Option<Self> {
        let kept = Self(path);
        if !kept.set("+a") {
            return None;
        }
        fs::write(path.join("probe"), "").unwrap();
        fs::remove_file(path.join("probe")).is_err().then_some(kept)
    }

    fn set(&self, flag: &str) -> bool {
        let mut chattr = Command::new("chattr");
        chattr.arg(flag).arg(self.0).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for AppendOnly<'_> {
    fn drop(&mut self) {
        self.set("-a");
    }
}
