//! A folder read as the update pass reads a revision: its declarations and references, without Git.
//!
//! Every file is parsed, since an unusual spelling may hide a repository's name from a search.
//! Notes about a file count only if the file mentions a watched image. Symbolic links are never
//! followed.

use super::file_error::FileError;
use crate::{
    images::{
        includes::{self, Includes},
        references::{FileKind, Needles, YamlFile},
        scope::bound_references,
        unsupported::{self, Unsupported, UnwatchedImages},
    },
    spec::{self, Declarations},
    update::ReferencedFile,
};
use ignore::WalkBuilder;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

/// The name of the settings file.
pub const SETTINGS_FILE: &str = "tagboat.yaml";

/// The content of a folder.
#[derive(Debug, Default)]
pub struct Survey {
    /// The declarations.
    pub declared: Declarations,
    /// The files with a reference or a note, by path.
    pub files: Arc<Vec<ReferencedFile>>,
    /// The settings files, each with its path from the folder.
    pub settings: Vec<(String, Vec<u8>)>,
    /// The files and folders that could not be read.
    pub errors: Vec<FileError>,
    /// The number of parsed files.
    pub parsed: usize,
    /// The files that include others, or rename images.
    pub includes: Vec<Includes>,
    /// The charts and units that are not handled yet.
    pub unsupported: Vec<Unsupported>,
    /// The images that no policy watches.
    pub unwatched: Vec<Unsupported>,
}

/// The most bytes of files kept from the walk until the policies are known; files beyond are read
/// twice.
const MOST_KEPT: usize = 64 << 20;

/// The fewest files that are worth a thread.
const LEAST_SHARE: usize = 256;

/// Reads a folder.
///
/// # Errors
/// If `root` is no readable folder; failures inside are in [`Survey::errors`].
pub fn survey(root: &Path) -> Result<Survey, FileError> {
    let mut survey = Survey::default();
    let mut declaring = Vec::new();
    let mut kept = 0;
    let mut errors = Vec::new();
    let files = walk(root, &mut errors, |full, path| {
        let has_chart = |chart: &str| root.join(chart).join("Chart.yaml").is_file();
        let kind = FileKind::of(&path, has_chart);
        if kind == FileKind::NotYaml && !path.ends_with(".json") {
            return Ok(None);
        }
        let bytes = fs::read(full)?;
        if path.rsplit('/').next() == Some(SETTINGS_FILE) {
            survey.settings.push((path.clone(), bytes.clone()));
        } else if spec::may_declare(&path, &bytes) {
            declaring.push((path.clone(), bytes.clone()));
        }
        kept += bytes.len();
        let bytes = (kept <= MOST_KEPT).then_some(bytes);
        Ok(Some(WalkedFile { path, kind, bytes }))
    })?;
    let declaring = declaring
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()));
    survey.declared = spec::read(declaring, None);
    survey.parsed = files.len();
    let policies = survey.declared.policies.values();
    let needles = Needles::new(policies.map(|policy| &policy.image));
    let mut unwatched = UnwatchedImages::default();
    let mut referenced = Vec::new();
    for part in read_all(root, files, &needles) {
        for includes in &part.includes {
            unwatched.add_renames(includes);
        }
        unwatched.add_all(part.unwatched);
        survey.includes.extend(part.includes);
        survey.unsupported.extend(part.unsupported);
        referenced.extend(part.files);
        errors.extend(part.errors);
    }
    survey.unwatched = unwatched.finish();
    survey.errors = errors;
    bound_references(&mut referenced);
    survey.files = Arc::new(referenced);
    Ok(survey)
}

/// Parses files, some on each processor; the parts are in the order of the files.
fn read_all(root: &Path, mut files: Vec<WalkedFile>, needles: &Needles) -> Vec<SurveyPart> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = files.len().div_ceil(threads).max(LEAST_SHARE);
    let mut shares = Vec::new();
    while files.len() > share {
        let rest = files.split_off(share);
        shares.push(std::mem::replace(&mut files, rest));
    }
    thread::scope(|scope| {
        let others: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || SurveyPart::read(root, share, needles)))
            .collect();
        let last = SurveyPart::read(root, files, needles);
        let parts = others.into_iter().map(|part| {
            part.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        parts.chain([last]).collect()
    })
}

/// What some of the files have.
#[derive(Debug, Default)]
struct SurveyPart {
    files: Vec<ReferencedFile>,
    includes: Vec<Includes>,
    unsupported: Vec<Unsupported>,
    unwatched: UnwatchedImages,
    errors: Vec<FileError>,
}

impl SurveyPart {
    fn read(root: &Path, files: Vec<WalkedFile>, needles: &Needles) -> Self {
        let mut part = Self::default();
        for file in files {
            let bytes = match file.bytes {
                Some(bytes) => Ok(bytes),
                None => fs::read(root.join(&file.path)),
            };
            match bytes {
                Ok(bytes) => part.file(file.path, file.kind, &bytes, needles),
                Err(source) => {
                    let path = root.join(&file.path);
                    part.errors.push(FileError::new("read", &path, source));
                }
            }
        }
        part
    }

    fn file(&mut self, path: String, kind: FileKind, bytes: &[u8], needles: &Needles) {
        let source = YamlFile::new(kind, bytes);
        self.includes.extend(includes::read(&path, &source));
        self.unsupported.extend(unsupported::find(&path, &source));
        let findings = source.watched_findings(needles);
        self.unwatched.add(&path, &findings, needles);
        if !findings.is_empty() {
            self.files.push(ReferencedFile {
                path,
                blob: None,
                regular: true,
                findings,
            });
        }
    }
}

/// A file that the walk met.
struct WalkedFile {
    path: String,
    kind: FileKind,
    /// The content; none if it is to be read again.
    bytes: Option<Vec<u8>>,
}

/// Returns the files below `path`, or `path` itself, that may have declarations.
///
/// # Errors
/// If a file cannot be read: with some policies missing, the others would mean something else.
pub fn declaring(path: &Path) -> Result<Vec<(String, Vec<u8>)>, FileError> {
    if !path.is_dir() {
        let bytes = fs::read(path).map_err(|source| FileError::new("read", path, source))?;
        // The reader goes by endings, and a file named by the user may have any.
        let mut name = path.display().to_string();
        if !has_known_ending(&name) {
            name.push_str(".yaml");
        }
        return Ok(vec![(name, bytes)]);
    }
    let mut errors = Vec::new();
    let files = walk(path, &mut errors, |file, _| {
        let name = file.display().to_string();
        if !has_known_ending(&name) {
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

fn has_known_ending(name: &str) -> bool {
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

/// Calls `visit` for every regular file below `root` in the order of their names, with the path and
/// the path from `root`.
fn walk<T>(
    root: &Path,
    errors: &mut Vec<FileError>,
    mut visit: impl FnMut(&Path, String) -> io::Result<Option<T>>,
) -> Result<Vec<T>, FileError> {
    fs::read_dir(root).map_err(|source| FileError::new("open", root, source))?;
    // The root itself may be a symbolic link.
    let canonical = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let mut walk = WalkBuilder::new(&canonical);
    walk.standard_filters(false)
        .follow_links(false)
        // Files that Git ignores are in no revision.
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
                errors.push(walk_error(&canonical, root, &error));
                continue;
            }
        };
        let path = entry.path();
        let relative = path.strip_prefix(&canonical).unwrap_or(path);
        let path = root.join(relative);
        match visit(&path, relative.to_string_lossy().into_owned()) {
            Ok(one) => found.extend(one),
            Err(source) => errors.push(FileError::new("read", &path, source)),
        }
    }
    Ok(found)
}

/// Converts the error of a folder that the walk could not enter.
fn walk_error(canonical: &Path, root: &Path, error: &ignore::Error) -> FileError {
    fn path_of(error: &ignore::Error) -> Option<PathBuf> {
        match error {
            ignore::Error::WithPath { path, .. } => Some(path.clone()),
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                path_of(err)
            }
            _ => None,
        }
    }
    let path = match path_of(error) {
        Some(path) => root.join(path.strip_prefix(canonical).unwrap_or(&path)),
        None => root.to_owned(),
    };
    let kind = error
        .io_error()
        .map_or(io::ErrorKind::Other, io::Error::kind);
    FileError::new("walk", &path, io::Error::from(kind))
}
