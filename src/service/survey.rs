//! A folder as a pass sees a revision: what its files declare, and the references in them. Without
//! Git, without writing.
//!
//! Every file is parsed, since a spelling may hide a repository's name from a search; but what is
//! wrong with a file counts only if the file mentions something watched. Symbolic links are never
//! followed.

use crate::{
    images::references::{self, FileKind, Needles},
    service::set::SetError,
    spec::{self, Declarations},
    update::ReferencedFile,
};
use ignore::WalkBuilder;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The name of the process file.
pub const PROCESS_FILE: &str = "tagboat.yaml";

/// What a folder holds.
#[derive(Debug, Default)]
pub struct Survey {
    /// What is declared.
    pub declared: Declarations,
    /// The files that hold a reference or a note, in the order of their paths.
    pub files: Vec<ReferencedFile>,
    /// Process files, each with its path from the folder and its bytes.
    pub process: Vec<(String, Vec<u8>)>,
    /// What could not be read.
    pub errors: Vec<SetError>,
    /// How many files were parsed.
    pub parsed: usize,
}

/// Reads a folder.
///
/// # Errors
/// Only if `root` itself is no folder that can be read; what fails inside is in [`Survey::errors`].
pub fn survey(root: &Path) -> Result<Survey, SetError> {
    let mut survey = Survey::default();
    let mut declaring = Vec::new();
    walk(root, &mut survey.errors, |path, relative| {
        let kind = FileKind::of(&relative, |chart| {
            root.join(chart).join("Chart.yaml").is_file()
        });
        if kind == FileKind::NotYaml && !relative.ends_with(".json") {
            return Ok(None);
        }
        let bytes = fs::read(path)?;
        survey.parsed += 1;
        let findings = references::find(kind, &bytes);
        let watched = (!findings.references.is_empty() || !findings.notes.is_empty()).then(|| {
            ReferencedFile {
                path: relative.clone(),
                blob: None,
                regular: true,
                findings,
            }
        });
        if relative.rsplit('/').next() == Some(PROCESS_FILE) {
            survey.process.push((relative, bytes));
        } else if spec::may_declare(&relative, &bytes) {
            declaring.push((relative, bytes));
        }
        Ok(watched)
    })?
    .into_iter()
    .for_each(|watched| survey.files.push(watched));
    survey.declared = spec::read(
        declaring
            .iter()
            .map(|(path, bytes)| (path.as_str(), bytes.as_slice())),
        None,
    );
    let needles = Needles::new(
        survey
            .declared
            .policies
            .values()
            .map(|policy| &policy.image),
    );
    for file in survey
        .files
        .iter_mut()
        .filter(|file| !file.findings.notes.is_empty())
    {
        // Rather too much is said than too little about a file that cannot be read a second time.
        if fs::read(root.join(&file.path)).is_ok_and(|bytes| !needles.hit(&bytes)) {
            file.findings.notes.clear();
        }
    }
    Ok(survey)
}

/// The files below `path`, or `path` itself, that may declare something, for [`spec::read`].
///
/// # Errors
/// If one cannot be read: with some policies missing the others would mean something else.
pub fn declaring(path: &Path) -> Result<Vec<(String, Vec<u8>)>, SetError> {
    if !path.is_dir() {
        let bytes = fs::read(path).map_err(|source| SetError::new("read", path, source))?;
        // A file that is named counts whatever its ending; the reader goes by endings.
        let name = path.display().to_string();
        return Ok(vec![(
            if is_declaration(&name) {
                name
            } else {
                format!("{name}.yaml")
            },
            bytes,
        )]);
    }
    let mut errors = Vec::new();
    let files = walk(path, &mut errors, |file, _| {
        let name = file.display().to_string();
        if !is_declaration(&name) {
            return Ok(None);
        }
        let bytes = fs::read(file)?;
        Ok(spec::may_declare(&name, &bytes).then_some((name, bytes)))
    })?;
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(files),
    }
}

fn is_declaration(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Shows every regular file below `root` to `visit`, in the order of their names, with its path
/// from there.
fn walk<T>(
    root: &Path,
    errors: &mut Vec<SetError>,
    mut visit: impl FnMut(&Path, String) -> io::Result<Option<T>>,
) -> Result<Vec<T>, SetError> {
    fs::read_dir(root).map_err(|source| SetError::new("open", root, source))?;
    // A folder that is itself reached by a link is meant; links inside are not followed.
    let from = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mut walk = WalkBuilder::new(&from);
    walk.standard_filters(false)
        .follow_links(false)
        // What Git ignores no pass will see.
        .parents(true)
        .git_ignore(true)
        .git_exclude(true)
        .sort_by_file_name(Ord::cmp)
        .filter_entry(|entry| entry.depth() == 0 || entry.file_name() != ".git");
    let mut found = Vec::new();
    for entry in walk.build() {
        let entry = match entry {
            Ok(entry) if entry.file_type().is_some_and(|kind| kind.is_file()) => entry,
            Ok(_) => continue,
            Err(error) => {
                errors.push(walk_error(&from, root, &error));
                continue;
            }
        };
        let relative = entry.path().strip_prefix(&from).unwrap_or(entry.path());
        let shown = root.join(relative);
        match visit(&shown, relative.to_string_lossy().into_owned()) {
            Ok(one) => found.extend(one),
            Err(source) => errors.push(SetError::new("read", &shown, source)),
        }
    }
    Ok(found)
}

/// A folder that the walk could not enter, by name where it says so.
fn walk_error(from: &Path, root: &Path, error: &ignore::Error) -> SetError {
    fn path_of(error: &ignore::Error) -> Option<PathBuf> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path.clone()),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                path_of(err)
            }
            _ => None,
        }
    }
    let path = path_of(error).map_or_else(
        || root.to_owned(),
        |path| root.join(path.strip_prefix(from).unwrap_or(&path)),
    );
    let kind = error
        .io_error()
        .map_or(io::ErrorKind::Other, io::Error::kind);
    SetError::new("walk", &path, io::Error::from(kind))
}
