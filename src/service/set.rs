//! A folder rewritten in place: find and rewrite over all its files, without Git and network.
//!
//! Two threads walk it, a search for a few words spares most files the parse, and a file is written
//! only if its bytes change: into a temporary file beside it, which then takes its place with its
//! permissions, so that a full disk or a kill leaves the old or the new file and nothing between.
//! Symbolic links are never followed.

use crate::{
    core::error::{Classify, ErrorKind},
    images::{
        references::{self, FileKind, Needles, Note},
        rewrite::{self, Choices, RewriteOutcome},
    },
};
use ignore::{DirEntry, WalkBuilder, WalkState};
use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// How to go through a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOptions {
    /// Writes what changes; otherwise only the report says what would.
    pub write: bool,
    /// Keeps the bytes before and after of each file that changes, for a diff.
    pub keep_bytes: bool,
    /// Parses every file, not only those that mention a repository or a marker.
    pub parse_all: bool,
    /// Threads; 2 is what disks and memory keep up with.
    pub threads: usize,
}

impl Default for SetOptions {
    fn default() -> Self {
        Self {
            write: true,
            keep_bytes: false,
            parse_all: false,
            threads: 2,
        }
    }
}

/// What was found in a folder, and done.
#[derive(Debug, Default)]
pub struct SetReport {
    /// The files that hold a reference or a note, by path.
    pub files: Vec<SetFile>,
    /// What could not be read or written; the other files are done all the same.
    pub errors: Vec<SetError>,
    /// YAML files read.
    pub read: usize,
    /// Files parsed, because they mention something.
    pub parsed: usize,
}

/// What was found in one file.
#[derive(Debug)]
pub struct SetFile {
    /// From the folder, with `/`.
    pub path: String,
    /// Changes, and what is left alone.
    pub outcome: RewriteOutcome,
    /// What looked like a reference and is none.
    pub notes: Vec<Note>,
    /// The bytes before and after, if they were asked for and differ.
    pub bytes: Option<(Vec<u8>, Vec<u8>)>,
}

/// A file or folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct SetError {
    what: &'static str,
    /// Which one.
    pub path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl SetError {
    /// `what` completes "cannot … PATH".
    pub(crate) fn new(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self {
            what,
            path: path.to_owned(),
            source,
        }
    }
}

impl Classify for SetError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

/// Brings all files under `root` to `choices`.
///
/// # Errors
/// Only if `root` itself is no folder that can be read; what fails inside is in [`SetReport::errors`].
pub fn rewrite(
    root: &Path,
    choices: &Choices<'_>,
    options: SetOptions,
) -> Result<SetReport, SetError> {
    let opened = fs::canonicalize(root).and_then(|root| fs::read_dir(&root).map(|_| root));
    let root = opened.map_err(|source| SetError {
        what: "open",
        path: root.to_owned(),
        source,
    })?;
    let needles = (!options.parse_all).then(|| Needles::new(choices.repositories()));
    let pass = SetPass {
        root: &root,
        choices,
        options,
        needles,
        report: Mutex::default(),
        read: AtomicUsize::new(0),
        parsed: AtomicUsize::new(0),
    };
    let mut walk = WalkBuilder::new(&root);
    walk.standard_filters(false)
        .follow_links(false)
        .threads(options.threads)
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git");
    walk.build_parallel().run(|| {
        let (pass, mut buffer) = (&pass, Vec::new());
        Box::new(move |entry| {
            pass.visit(entry, &mut buffer);
            WalkState::Continue
        })
    });
    let mut report = pass
        .report
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    report.files.sort_by(|a, b| a.path.cmp(&b.path));
    report.errors.sort_by(|a, b| a.path.cmp(&b.path));
    (report.read, report.parsed) = (pass.read.into_inner(), pass.parsed.into_inner());
    Ok(report)
}

struct SetPass<'p, 'c> {
    root: &'p Path,
    choices: &'p Choices<'c>,
    options: SetOptions,
    /// Nothing where every file is parsed.
    needles: Option<Needles>,
    report: Mutex<SetReport>,
    read: AtomicUsize,
    parsed: AtomicUsize,
}

impl SetPass<'_, '_> {
    fn visit(&self, entry: Result<DirEntry, ignore::Error>, buffer: &mut Vec<u8>) {
        let done = match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => {
                self.file(entry.path(), buffer)
            }
            Ok(_) => Ok(None),
            Err(error) => {
                let source = std::io::Error::other(error.to_string());
                Err(SetError {
                    what: "walk",
                    path: self.root.to_owned(),
                    source,
                })
            }
        };
        if matches!(done, Ok(None)) {
            return;
        }
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(file) => report.files.extend(file),
            Err(error) => report.errors.push(error),
        }
    }

    fn file(&self, path: &Path, buffer: &mut Vec<u8>) -> Result<Option<SetFile>, SetError> {
        let fault = |what| {
            move |source| SetError {
                what,
                path: path.to_owned(),
                source,
            }
        };
        let relative = path
            .strip_prefix(self.root)
            .unwrap_or(path)
            .to_string_lossy();
        let kind = FileKind::of(&relative, |chart| {
            self.root.join(chart).join("Chart.yaml").is_file()
        });
        if kind == FileKind::NotYaml {
            return Ok(None);
        }
        let mut file = fs::File::open(path).map_err(fault("open"))?;
        let length = read(&mut file, buffer).map_err(fault("read"))?;
        let source = &buffer[..length];
        self.read.fetch_add(1, Ordering::Relaxed);
        if self
            .needles
            .as_ref()
            .is_some_and(|needles| !needles.hit(source))
        {
            return Ok(None);
        }
        self.parsed.fetch_add(1, Ordering::Relaxed);
        let found = references::find(kind, source);
        let outcome = rewrite::rewrite(source, &found.references, self.choices);
        let mut bytes = None;
        if !outcome.edits.is_empty() {
            let after = rewrite::apply(source, &outcome.edits);
            if self.options.write {
                replace(path, &file, &after).map_err(fault("write"))?;
            }
            bytes = self.options.keep_bytes.then(|| (source.to_vec(), after));
        }
        if outcome.changes.is_empty() && outcome.left.is_empty() && found.notes.is_empty() {
            return Ok(None);
        }
        Ok(Some(SetFile {
            path: relative.into_owned(),
            outcome,
            notes: found.notes,
            bytes,
        }))
    }
}

/// Reads a file into a buffer that is kept from file to file; returns how much of it is the file.
/// Asking for the size first, as the standard library does, would be half of the system calls for
/// small files.
fn read(file: &mut fs::File, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut length = 0;
    loop {
        if length == buffer.len() {
            buffer.resize((buffer.len() * 2).max(64 << 10), 0);
        }
        match file.read(&mut buffer[length..]) {
            Ok(0) => return Ok(length),
            Ok(more) => length += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Puts `bytes` in the place of the file at `path`, with the permissions of `old`. Not synced to
/// disk: the folder is a work tree, and its history is elsewhere.
fn replace(path: &Path, old: &fs::File, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".tagboat-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(bytes)?;
        let permissions = old.metadata()?.permissions();
        if file.metadata()?.permissions() != permissions {
            file.set_permissions(permissions)?;
        }
        fs::rename(&temporary, path)
    };
    let written = write();
    if written
        .as_ref()
        .is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists)
    {
        let _ = fs::remove_file(&temporary);
    }
    written
}
