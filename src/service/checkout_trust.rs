//! Settings that come with a checkout: its author must not choose programs and credentials.

use super::Failure;
use crate::{io::render, spec::settings::Settings};
use std::{
    fs,
    path::{Component, Path, PathBuf},
};

const NAME_FILE: &str =
    "Read the file. If you trust it, name it: --config tagboat.yaml, or TAGBOAT_CONFIG.";

const KEEP_OUTSIDE: &str =
    "Keep these settings in a file outside of the checkout, and name it with --config.";

/// Returns true if a file, or the file that a link of this name leads to, lies in a Git working
/// copy.
pub(super) fn is_in_working_copy(file: &Path) -> bool {
    let contains = |path: PathBuf| path.ancestors().any(|above| above.join(".git").exists());
    contains(lexical(file)) || fs::canonicalize(file).is_ok_and(contains)
}

/// Refuses settings of a working copy that need the user's trust.
///
/// # Errors
/// If they name a program, a credential, a cluster or a store.
pub(super) fn check(settings: &Settings, file: &Path) -> Result<(), Failure> {
    if !is_in_working_copy(file) {
        return Ok(());
    }
    refuse_sensitive(settings, file, NAME_FILE)
}

/// Refuses such settings in a revision of a working copy.
///
/// The author of a change may have written any revision that a clone offers: its commits before
/// the last one, or the default branch of a fork.
///
/// # Errors
/// As [`check`].
pub(super) fn check_revision(settings: &Settings, file: &Path) -> Result<(), Failure> {
    refuse_sensitive(settings, file, KEEP_OUTSIDE)
}

fn refuse_sensitive(settings: &Settings, file: &Path, hint: &str) -> Result<(), Failure> {
    let fields = settings.sensitive_fields();
    if fields.is_empty() {
        return Ok(());
    }
    Err(Failure::input(format!(
        "{} lies in a Git working copy, and these settings count only in a file that you name: {}",
        file.display(),
        fields.join(", ")
    ))
    .hint(hint))
}

/// Refuses programs and kubeconfigs inside of a working copy.
///
/// # Errors
/// If there is one, or PATH leads to one.
pub(super) fn check_paths(
    programs: &[PathBuf],
    kubeconfigs: &[PathBuf],
    copy: &Path,
) -> Result<(), Failure> {
    let refuse = |field: &str, path: &Path| {
        let name = path.display();
        Err(Failure::input(format!(
            "{field} {name} lies inside the working copy that is previewed, and is not used"
        ))
        .hint("Keep it elsewhere, or name the settings file with --config."))
    };
    for program in programs {
        let program = render::find_program(program).unwrap_or_else(|| program.clone());
        if program.components().count() > 1 && is_inside(&program, copy) {
            return refuse("the program", &program);
        }
    }
    match kubeconfigs.iter().find(|file| is_inside(file, copy)) {
        Some(file) => refuse("the kubeconfig", file),
        None => Ok(()),
    }
}

/// Returns true if a path, or what it leads to, is below a folder, which is a canonical path.
pub(super) fn is_inside(path: &Path, folder: &Path) -> bool {
    let parent = || {
        // The file itself may be missing.
        let folder = fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    };
    lexical(path).starts_with(folder)
        || parent().is_some_and(|path| path.starts_with(folder))
        || fs::canonicalize(path).is_ok_and(|path| path.starts_with(folder))
}

/// Returns the absolute path without `.` and `..`, links not followed.
fn lexical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}
