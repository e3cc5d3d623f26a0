//! Standard output: data only, and a reader that leaves ends the command quietly.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::MetadataExt,
    },
};

use anyhow::{Context, Result};

use crate::ending::Ending;

/// Writes `text` to standard output and flushes it.
pub fn print(text: &str) -> Result<()> {
    match open().and_then(|mut out| out.write_all(text.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ending::StdoutClosed.into()),
        other => other.context("cannot write to standard output"),
    }
}

/// The text as it may stand in a line of a table: what would end the line, move the cursor or turn the direction of writing, and
/// what can't be seen, is spelt out, and so is the backslash that begins such a spelling.
pub fn visible(text: &str) -> String {
    let spelt_out = |letter: char| {
        letter.is_control()
            || matches!(letter, '\\' | '\u{ad}' | '\u{61c}' | '\u{feff}')
            || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    text.chars().fold(String::new(), |mut shown, letter| {
        if spelt_out(letter) {
            shown.extend(letter.escape_default())
        } else {
            shown.push(letter)
        }
        shown
    })
}

/// Standard output, past the buffer of the standard library; an error when it was closed.
pub fn open() -> io::Result<File> {
    let output: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    if was_closed(&output) {
        return Err(io::Error::other("it is closed"));
    }
    Ok(output)
}

/// Whether the descriptor was closed when the program started: the runtime then puts /dev/null in its place, open for
/// reading and writing, which `>/dev/null` is not.
fn was_closed(output: &File) -> bool {
    let is_null = |null: fs::Metadata| output.metadata().is_ok_and(|own| own.rdev() == null.rdev());
    let flags = fs::read_to_string(format!("/proc/self/fdinfo/{}", output.as_raw_fd())).unwrap_or_default();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
    let read_and_write = flags.trim().ends_with('2');
    read_and_write && fs::metadata("/dev/null").is_ok_and(is_null)
}

#[cfg(test)]
mod tests {
    use super::visible;

    #[test]
    fn what_would_break_a_line_is_spelt_out_and_nothing_else() {
        assert_eq!(visible("plain-name_1.x ünï 名"), "plain-name_1.x ünï 名");
        assert_eq!(visible("a\nb\tc\r\u{1b}[2J\u{7f}\u{85}"), r"a\nb\tc\r\u{1b}[2J\u{7f}\u{85}");
        assert_eq!(visible("\u{202e}gpj.exe\u{200b}\u{2028}"), r"\u{202e}gpj.exe\u{200b}\u{2028}");
        assert_eq!(visible(r"a\nb"), r"a\\nb", "it is told from a newline");
    }
}
