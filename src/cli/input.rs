//! Files that the user names, with `-` for standard input.

use super::Failure;
use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

/// Reads a file, or standard input.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    bytes.map_err(|error| Failure::input(error).within(path.display()))
}

/// Reads files with their names.
pub(super) fn read_all<'p>(
    paths: impl IntoIterator<Item = &'p std::path::PathBuf>,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut files = Vec::new();
    for path in paths {
        let name = match path.as_os_str() == "-" {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        files.push((name, read(path)?));
    }
    Ok(files)
}
