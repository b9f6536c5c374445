//! `check`: every mistake in declarations, and every marker and reference that matches nothing.

use super::{
    Failure, Outcome, Progress, check_rights,
    engine::SettingsFile,
    survey::{self, Survey},
    unsupported::UnsupportedFindings,
};
use crate::{
    images::lint,
    spec::{Diagnostic, Severity, SourcePlace, settings},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

/// Asks for the mistakes below some paths.
#[derive(Debug, Clone)]
pub struct CheckQuery {
    /// Folders or files.
    pub paths: Vec<PathBuf>,
    /// The settings, with the repository by whose rights Applications are judged.
    pub settings: Option<SettingsFile>,
}

/// The mistakes below some paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckAnswer {
    /// The diagnostics, by place. Paths are relative to the working folder.
    pub diagnostics: Vec<Diagnostic>,
    /// The repositories that were read.
    pub folders: Vec<String>,
    /// The number of files that were read.
    pub files: usize,
    /// The number of files and folders that could not be read.
    pub unreadable: usize,
    /// The charts and units that are not handled yet. They are no mistakes.
    pub unsupported: UnsupportedFindings,
}

impl CheckAnswer {
    /// Classifies the answer; with `strict`, warnings count as errors do.
    pub fn outcome(&self, strict: bool) -> Outcome {
        let counts = |found: &Diagnostic| strict || found.severity == Severity::Error;
        if self.unreadable > 0 {
            Outcome::Partly
        } else {
            Outcome::findings_if(self.diagnostics.iter().any(counts))
        }
    }
}

/// Reads each path's repository as a whole and reports on the files below the paths.
///
/// # Errors
/// If a path does not exist, or the settings cannot be used.
pub fn check(query: &CheckQuery, progress: &dyn Progress) -> Result<CheckAnswer, Failure> {
    let mut roots: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in &query.paths {
        let full =
            fs::canonicalize(path).map_err(|error| Failure::input(error).within(path.display()))?;
        roots.entry(root_of(&full)).or_default().push(full);
    }
    let here = std::env::current_dir()
        .and_then(fs::canonicalize)
        .unwrap_or_default();
    let mut answer = CheckAnswer {
        diagnostics: Vec::new(),
        folders: roots.keys().map(|root| relative(&here, root)).collect(),
        files: 0,
        unreadable: 0,
        unsupported: UnsupportedFindings::default(),
    };
    let rights = query
        .settings
        .as_ref()
        .map(check_rights::rights)
        .transpose()?;
    let mut unsupported = Vec::new();
    for (root, paths) in &roots {
        progress.update(&format!("reading {}", relative(&here, root)));
        let mut survey = survey::survey(root)?;
        answer.files += survey.parsed;
        answer.unreadable += survey.errors.len();
        let shown = |file: &str| {
            let file = root.join(file);
            let is_asked = paths.iter().any(|path| file.starts_with(path));
            is_asked.then(|| relative(&here, &file))
        };
        let mut found = diagnostics(&survey);
        if let Some(rights) = &rights {
            found.extend(check_rights::refusals(root, &mut survey.declared, rights)?);
        }
        for mut diagnostic in found {
            if let Some(file) = shown(&diagnostic.place.file) {
                diagnostic.place.file = file;
                answer.diagnostics.push(diagnostic);
            }
        }
        let found = std::mem::take(&mut survey.unsupported).into_iter();
        for mut item in found.chain(std::mem::take(&mut survey.unwatched)) {
            if let Some(file) = shown(&item.file) {
                item.file = file;
                unsupported.push(item);
            }
        }
        answer.diagnostics.extend(survey.errors.iter().map(|error| {
            let full = fs::canonicalize(&error.path).unwrap_or_else(|_| error.path.clone());
            Diagnostic {
                place: SourcePlace::file(&relative(&here, &full)),
                severity: Severity::Error,
                message: error.to_string(),
            }
        }));
    }
    answer.diagnostics.sort();
    answer.diagnostics.dedup();
    answer.unsupported = UnsupportedFindings::new(unsupported);
    Ok(answer)
}

/// Returns every mistake in a folder; paths start at the folder.
fn diagnostics(survey: &Survey) -> Vec<Diagnostic> {
    let (_, mut all) = lint::find(&survey.declared, &survey.files);
    for (file, bytes) in &survey.settings {
        match std::str::from_utf8(bytes) {
            Ok(source) => all.extend(match settings::read(file, source) {
                Ok((_, warnings)) => warnings,
                Err(diagnostics) => diagnostics,
            }),
            Err(_) => all.push(Diagnostic {
                place: SourcePlace::file(file),
                severity: Severity::Error,
                message: "the file is not UTF-8".to_owned(),
            }),
        }
    }
    all
}

/// Returns the nearest folder above with a `.git`; without one the path itself, or the folder of a
/// file.
fn root_of(full: &Path) -> PathBuf {
    let start = if full.is_dir() {
        full
    } else {
        full.parent().unwrap_or(full)
    };
    let repository = start
        .ancestors()
        .find(|folder| folder.join(".git").exists());
    repository.unwrap_or(start).to_owned()
}

/// Returns a path relative to `here`, as a user would type it there.
fn relative(here: &Path, path: &Path) -> String {
    let mut from = here.components().peekable();
    let mut to = path.components().peekable();
    while from.peek().is_some() && from.peek() == to.peek() {
        from.next();
        to.next();
    }
    let up = from.map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(to).collect();
    if relative.as_os_str().is_empty() {
        ".".to_owned()
    } else if relative.starts_with("../../..") {
        // The absolute path is shorter to read.
        path.display().to_string()
    } else {
        relative.display().to_string()
    }
}
