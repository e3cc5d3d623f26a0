//! `ringpost bench` on a recorded run, with files of the test's own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

pub const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/run.jsonl");

/// A directory of this process and test, gone with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringpost.test-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().into()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringpost"));
    command.arg("bench").args(arguments).stdin(Stdio::null()).output().unwrap()
}
