//! The names of what a config repository declares, in a small file beside its mirror: shell
//! completion reads it without opening the store or the mirror.

use crate::spec::Declarations;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    path::Path,
};

const FILE: &str = "names.json";

/// The declared names of one revision, sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredNames {
    pub policies: BTreeSet<String>,
    pub environments: BTreeSet<String>,
    pub applications: BTreeSet<String>,
    /// The image repositories of the policies.
    pub images: BTreeSet<String>,
}

impl From<&Declarations> for DeclaredNames {
    fn from(declared: &Declarations) -> Self {
        let policies = declared.policies.values();
        Self {
            policies: declared.policies.keys().map(ToString::to_string).collect(),
            environments: declared.environments.keys().cloned().collect(),
            applications: declared
                .applications
                .keys()
                .map(ToString::to_string)
                .collect(),
            images: policies.map(|policy| policy.image.to_string()).collect(),
        }
    }
}

impl DeclaredNames {
    /// Writes the names into the folder of a config repository. The file is replaced whole.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(folder.join(FILE))?;
        Ok(())
    }

    /// Reads the names from the folder of a config repository; none if no pass has written them.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }
}
