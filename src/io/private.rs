//! Files and folders for the owner alone, from the moment they exist.
//!
//! The store has what other users of the machine may not read: private repositories, tag lists of
//! private registries, rendered Secrets.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::Path,
};

/// Creates a folder, and those above it that are missing, with mode 0700.
///
/// A folder that exists and is ours is closed to others. One that another user made, such as the
/// root of a mounted volume, stays as it is.
///
/// # Errors
/// If the folder cannot be created, or is no folder.
pub fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    close(path, 0o700)
}

/// Opens a file for reading and writing, creating it with mode 0600.
///
/// # Errors
/// If the file cannot be opened or created.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    close(path, 0o600)?;
    Ok(file)
}

/// Takes away what others may do with a file of ours.
fn close(path: &Path, mode: u32) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    let is_open = metadata.permissions().mode() & 0o077 != 0;
    if is_open && metadata.uid() == rustix::process::geteuid().as_raw() {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_folder_is_closed_with_those_above() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_folder(&inner).unwrap();
        assert_eq!(
            (mode(&folder.path().join("a")), mode(&inner)),
            (0o700, 0o700)
        );
    }

    #[test]
    fn private_of_an_earlier_version_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (inner, file) = (folder.path().join("a"), folder.path().join("b"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "kept").unwrap();
        for (path, open) in [(&inner, 0o755), (&file, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(open)).unwrap();
        }
        create_folder(&inner).unwrap();
        open_file(&file).unwrap();
        assert_eq!((mode(&inner), mode(&file)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    }
}
