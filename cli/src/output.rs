//! Standard output: data only, and a reader that leaves ends the command quietly. And whether it, or standard input, is there.

use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
};

use anyhow::{Context, Result};
use libc::{STDIN_FILENO, STDOUT_FILENO};

use crate::ending::Ending;

/// Writes `text` to standard output and flushes it.
pub fn print(text: &str) -> Result<()> {
    match open().and_then(|mut out| out.write_all(text.as_bytes())) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Ending::StdoutClosed.into()),
        other => other.context("can't write to standard output"),
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
    closed::check(STDOUT_FILENO)?;
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// An error when standard input was closed.
pub fn input() -> io::Result<()> {
    closed::check(STDIN_FILENO)
}

/// Which of the first descriptors were closed when the program started. The runtime opens /dev/null in their place, which looks
/// like the /dev/null that somebody gave on purpose; so it is asked before.
mod closed {
    use std::{
        io,
        sync::atomic::{AtomicBool, Ordering::Relaxed},
    };

    static CLOSED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

    // SAFETY: the loader calls what stands in this section once, before the runtime begins; it may take no arguments.
    #[used]
    #[unsafe(link_section = ".init_array")]
    static ASK: extern "C" fn() = {
        extern "C" fn ask() {
            for (fd, closed) in CLOSED.iter().enumerate() {
                // SAFETY: the call looks at a descriptor and changes nothing.
                let flags = unsafe { libc::fcntl(fd as i32, libc::F_GETFD) };
                // ORDERING: Relaxed; there is no other thread yet.
                closed.store(flags == -1, Relaxed);
            }
        }
        ask
    };

    pub fn check(fd: i32) -> io::Result<()> {
        // ORDERING: Relaxed; stored before there was any other thread.
        if CLOSED[fd as usize].load(Relaxed) { Err(io::Error::other("it is closed")) } else { Ok(()) }
    }
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
