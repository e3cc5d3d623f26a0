//! What a run leaves behind beside its table: a page, pictures, a table for other programs, the run itself.

mod charts;
mod compare;
mod ladder;
mod page;
mod saved;
mod svg;
mod words;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::arguments::ReportArguments;
use super::row::Row;
use compare::Older;

pub use saved::{Recorded, lines};

/// The files that were asked for, opened before anything is measured.
pub struct Outputs {
    report: Option<Target>,
    csv: Option<Target>,
    save: Option<Target>,
    pictures: Option<PathBuf>,
    older: Option<Older>,
}

/// A file that can be written.
struct Target {
    path: PathBuf,
    file: File,
}

impl Target {
    /// Opens the file and leaves what it holds, until there is something new.
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.with_context(|| {
            format!("cannot write {}: give a file in a directory that is there and yours", path.display())
        })?;
        Ok(Self { path: path.into(), file })
    }

    fn write(mut self, text: &str) -> Result<()> {
        let cleared = if self.file.metadata()?.is_file() { self.file.set_len(0) } else { Ok(()) };
        let written = cleared.and_then(|()| self.file.write_all(text.as_bytes()));
        written.with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Outputs {
    /// Whether all that can be written can be written, and all that is to be read is there.
    pub fn open(arguments: &ReportArguments) -> Result<Self> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Target::open).transpose();
        let read = |path: &PathBuf| anyhow::Ok(Older { path: path.clone(), recorded: Recorded::read(path)? });
        let older = arguments.compare.as_ref().map(read).transpose()?;
        if let Some(directory) = &arguments.svg {
            fs::create_dir_all(directory)
                .and_then(|()| File::create(directory.join(PROBE)))
                .and_then(|_| fs::remove_file(directory.join(PROBE)))
                .with_context(|| {
                    format!("cannot write into {}: give a directory of yours", directory.display())
                })?;
        }
        Ok(Self {
            report: open(&arguments.report)?,
            csv: open(&arguments.csv)?,
            save: open(&arguments.save)?,
            pictures: arguments.svg.clone(),
            older,
        })
    }

    /// Writes them; what the comparison says, for people.
    pub fn write(self, recorded: &Recorded) -> Result<String> {
        // First, so that a run is not lost by what comes after.
        if let Some(save) = self.save {
            save.write(&recorded.text()?)?;
        }
        if let Some(target) = self.csv {
            target.write(&csv(&recorded.rows)?)?;
        }
        if let Some(directory) = self.pictures {
            for chart in page::charts(&recorded.rows) {
                let path = directory.join(format!("{}.svg", chart.id()));
                fs::write(&path, chart.draw().into_string())
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        let pairs = self.older.map(|older| older.against(recorded)).transpose()?;
        if let Some(target) = self.report {
            target.write(&page::page(recorded, pairs.as_deref())?)?;
        }
        Ok(pairs.map(|pairs| compare::table(&recorded.rows, &pairs)).unwrap_or_default())
    }
}

/// Made and removed, to see whether a directory can be written into.
const PROBE: &str = ".ringpost-probe";

/// All rows, the fields of the JSON as the header.
fn csv(rows: &[Row]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}
