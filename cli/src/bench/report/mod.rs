//! What a run leaves behind beside its table: a page, pictures, a table for other programs, the run itself.

mod charts;
mod compare;
mod ladder;
mod page;
mod panels;
mod saved;
mod short;
mod svg;
mod words;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::stat::{FileStat, fstat};

use super::arguments::{BenchArguments, ReportArguments};
use super::row::Row;
use compare::Older;

pub use saved::Recorded;

/// The files that were asked for, opened before anything is measured.
pub struct Outputs {
    report: Option<Target>,
    csv: Option<Target>,
    save: Option<Target>,
    pictures: Option<PathBuf>,
    older: Option<Older>,
}

/// Where a file is to be. Until it is written, what is there stays as it is: a run that fails leaves no empty file.
enum Target {
    /// It is written beside its place, under another name, and then moved there.
    File { place: PathBuf, beside: PathBuf, permissions: Option<Permissions> },
    /// A terminal, a pipe.
    Other(PathBuf, File),
}

impl Target {
    fn open(path: &Path) -> Result<Self> {
        Self::make(path).with_context(|| {
            format!("cannot write {}: give a file in a directory that is there and yours", path.display())
        })
    }

    fn make(path: &Path) -> Result<Self> {
        let place = place(path)?;
        let there = match OpenOptions::new().write(true).open(&place) {
            Ok(file) if !file.metadata()?.is_file() => return Ok(Self::Other(place, file)),
            Ok(file) => Some(file.metadata()?.permissions()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let name = place.file_name().context("it has no name")?.to_string_lossy();
        let beside = place.with_file_name(format!(".{name}.{}", std::process::id()));
        // Nothing lies there while the run lasts, so nothing is left however it ends.
        OpenOptions::new().write(true).create_new(true).open(&beside)?;
        fs::remove_file(&beside)?;
        Ok(Self::File { place, beside, permissions: there })
    }

    fn write(self, text: &str) -> Result<()> {
        let (place, written) = match &self {
            Self::File { place, beside, permissions } => {
                let written = fs::write(beside, text)
                    .and_then(|()| permissions.clone().map_or(Ok(()), |old| fs::set_permissions(beside, old)))
                    .and_then(|()| fs::rename(beside, place));
                (place, written.inspect_err(|_| drop(fs::remove_file(beside))))
            }
            Self::Other(place, file) => (place, (&*file).write_all(text.as_bytes())),
        };
        written.with_context(|| format!("cannot write {}", place.display()))
    }
}

/// Which file a path means: behind links, so that they stay; in its directory, where it is not there yet.
fn place(path: &Path) -> Result<PathBuf> {
    let directory = |path: &Path| {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        directory.unwrap_or(Path::new(".")).to_path_buf()
    };
    let new = || {
        // A link may lead to what is not there yet.
        let path = fs::read_link(path).map_or(path.into(), |to| directory(path).join(to));
        let name = path.file_name().context("it has no name")?;
        Ok(fs::canonicalize(directory(&path))?.join(name))
    };
    fs::canonicalize(path).or_else(|_| new())
}

/// No file is written twice, and none that is read is written over, but by the same run (`--from` with `--save`) or one that comes
/// after it (`--compare` with `--save`).
fn apart(BenchArguments { input, report: asked, .. }: &BenchArguments) -> Result<()> {
    let ReportArguments { report, csv, save, compare, from, .. } = asked;
    let meant = |path: &Option<PathBuf>| path.as_deref().and_then(|path| place(path).ok());
    if let Some(path) = [report, csv, save].into_iter().filter_map(meant).find(|path| is_shown_in(path)) {
        bail!("{} is where the table goes, or what goes wrong is told: give another file", path.display());
    }
    let pairs = [
        (report, csv),
        (report, save),
        (csv, save),
        (report, from),
        (csv, from),
        (report, compare),
        (csv, compare),
        (report, input),
        (csv, input),
        (save, input),
    ];
    for (one, other) in pairs {
        if let (Some(path), Some(same)) = (meant(one), meant(other))
            && path == same
            && (path.is_file() || !path.exists())
        {
            bail!("{} is asked for twice: give each file a name of its own", path.display());
        }
    }
    Ok(())
}

/// Whether standard output or standard error goes to this file: moved there, a page would put it out of sight.
fn is_shown_in(path: &Path) -> bool {
    let Ok(file) = fs::metadata(path) else { return false };
    let streams = [fstat(std::io::stdout()), fstat(std::io::stderr())];
    let same = |stream: &FileStat| (stream.st_dev, stream.st_ino) == (file.dev(), file.ino());
    file.is_file() && streams.iter().flatten().any(same)
}

impl Outputs {
    /// Whether all that can be written can be written, and all that is to be read is there.
    pub fn open(arguments: &BenchArguments) -> Result<Self> {
        apart(arguments)?;
        let arguments = &arguments.report;
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

    /// Whether a run of this machine may be held against the older one: known before anything is measured.
    pub fn comparable(&self, machine: Option<&str>) -> Result<()> {
        self.older.as_ref().map_or(Ok(()), |older| older.comparable(machine))
    }

    /// Writes them, each for itself: one that can't be written keeps no other from it. Inside: whether all were, and what the
    /// comparison says, for people, or why there is none.
    pub fn write(self, recorded: &Recorded) -> (Result<()>, Result<String>) {
        let rows = &recorded.rows;
        let comparison = self.older.map(|older| older.against(recorded)).transpose();
        let compared = comparison.as_ref().ok().and_then(Option::as_ref);
        let write = |target: Option<Target>, text: &dyn Fn() -> Result<String>| {
            target.map_or(Ok(()), |target| target.write(&text()?))
        };
        let written = [
            write(self.save, &|| recorded.text()),
            write(self.csv, &|| csv(rows)),
            self.pictures.map_or(Ok(()), |directory| draw(&directory, rows)),
            write(self.report, &|| page::page(recorded, compared)),
        ];
        let words = comparison.map(|found| found.map(|found| found.table(rows)).unwrap_or_default());
        let failed: Vec<_> =
            written.into_iter().filter_map(|written| Some(format!("{:#}", written.err()?))).collect();
        let written = if failed.is_empty() { Ok(()) } else { Err(anyhow!(failed.join("; "))) };
        (written, words)
    }
}

/// The pictures, a file each.
fn draw(directory: &Path, rows: &[Row]) -> Result<()> {
    page::charts(rows).iter().try_for_each(|chart| {
        let path = directory.join(format!("{}.svg", chart.id()));
        Target::open(&path)?.write(&chart.draw().into_string())
    })
}

/// Made and removed, to see whether a directory can be written into.
const PROBE: &str = ".ringpost-probe";

/// All rows, the fields of the JSON as the header.
fn csv(rows: &[Row]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    Ok(String::from_utf8(writer.into_inner()?)?)
}
