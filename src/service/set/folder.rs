//! All files of a folder, rewritten in place without Git or network.
//!
//! Two threads walk the folder, and a search for a few words saves most files the parse. A changed
//! file is written to a temporary file beside it and renamed, so that a full disk or a kill leaves
//! either the old or the new file. Symbolic links are never followed.

use crate::{
    images::{
        references::{FileKind, Needles, Note, YamlFile},
        rewrite::{self, Choices, RewriteOutcome},
    },
    service::{file_error::FileError, safe_point},
};
use ignore::{DirEntry, WalkBuilder, WalkState};
use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Options of [`rewrite()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetOptions {
    /// False to report changes without writing them.
    pub write: bool,
    /// True to keep the bytes of changed files before and after, for a diff.
    pub keep_bytes: bool,
    /// True to parse every file, not only those that mention a repository or a marker.
    pub parse_all: bool,
    /// The number of threads; more than two do not make it faster.
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

/// The result of rewriting a folder.
#[derive(Debug, Default)]
pub struct SetReport {
    /// The files with a reference or a note, by path.
    pub files: Vec<SetFile>,
    /// Files that could not be read or written; the others are rewritten all the same.
    pub errors: Vec<FileError>,
    /// The number of YAML files read.
    pub read: usize,
    /// The number of files parsed.
    pub parsed: usize,
}

/// A file with a reference or a note.
#[derive(Debug)]
pub struct SetFile {
    /// The path from the folder, with `/`.
    pub path: String,
    /// Its changes, and the references left alone.
    pub outcome: RewriteOutcome,
    /// Text that looks like a reference or marker and is none.
    pub notes: Vec<Note>,
    /// The bytes before and after, if asked for and different.
    pub bytes: Option<(Vec<u8>, Vec<u8>)>,
}

/// Writes `choices` into all files below `root`.
///
/// # Errors
/// If `root` is no readable folder; failures inside are in [`SetReport::errors`].
pub fn rewrite(
    root: &Path,
    choices: &Choices<'_>,
    options: SetOptions,
) -> Result<SetReport, FileError> {
    let opened = fs::canonicalize(root).and_then(|root| fs::read_dir(&root).map(|_| root));
    let root = opened.map_err(|source| FileError::new("open", root, source))?;
    let needles = Needles::new(choices.repositories());
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
    needles: Needles,
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
                Err(FileError::new("walk", self.root, source))
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

    fn file(&self, path: &Path, buffer: &mut Vec<u8>) -> Result<Option<SetFile>, FileError> {
        let failure = |action| move |source| FileError::new(action, path, source);
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
        let mut file = fs::File::open(path).map_err(failure("open"))?;
        let length = read(&mut file, buffer).map_err(failure("read"))?;
        let source = &buffer[..length];
        self.read.fetch_add(1, Ordering::Relaxed);
        if !self.options.parse_all && !self.needles.hit(source) {
            return Ok(None);
        }
        self.parsed.fetch_add(1, Ordering::Relaxed);
        let found = YamlFile::new(kind, source).watched_findings(&self.needles);
        let outcome = rewrite::rewrite(source, &found.references, self.choices);
        let mut bytes = None;
        if !outcome.edits.is_empty() {
            let after = rewrite::apply(source, &outcome.edits);
            if self.options.write {
                safe_point::uninterrupted(|| replace(path, &file, &after))
                    .map_err(failure("write"))?;
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

/// Reads a file into a reused buffer and returns its length. Asking for the size first, as the
/// standard library does, would double the system calls for small files.
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

/// Replaces the file at `path`, keeping the permissions of `old`. Not synced to disk: the folder is
/// a working copy, and its history is in Git.
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
