//! Images that files name with a version and no policy watches.

use super::{Unsupported, UnsupportedKind};
use crate::{
    core::image::ImageRepository,
    images::{
        includes::Includes,
        references::{Findings, Needles, Reference},
    },
};
use std::collections::{BTreeMap, HashSet};

/// Collects the images of files, each at its first place.
#[derive(Debug, Default)]
pub struct UnwatchedImages {
    found: BTreeMap<ImageRepository, Unsupported>,
    /// Placeholders that kustomize replaces.
    renamed: HashSet<ImageRepository>,
}

impl UnwatchedImages {
    /// Adds the references of a file; a marker names the policy of its own.
    pub fn add(&mut self, file: &str, findings: &Findings, needles: &Needles) {
        let unmarked = |reference: &&Reference| reference.policy().is_none();
        for reference in findings.references.iter().filter(unmarked) {
            let Some(repository) = &reference.repository else {
                continue;
            };
            if self.found.contains_key(repository) || needles.watches(repository) {
                continue;
            }
            let version = reference.tag().or_else(|| reference.digest());
            let image = Unsupported {
                file: file.to_owned(),
                line: reference.line_column().0,
                kind: UnsupportedKind::Image,
                name: repository.to_string(),
                version,
            };
            self.found.insert(repository.clone(), image);
        }
    }

    /// Adds the images of later files.
    pub fn add_all(&mut self, later: Self) {
        for (repository, image) in later.found {
            self.found.entry(repository).or_insert(image);
        }
        self.renamed.extend(later.renamed);
    }

    /// Adds the images that a kustomization replaces.
    pub fn add_renames(&mut self, includes: &Includes) {
        let names = includes.renames.iter().map(|(name, _)| name.clone());
        self.renamed.extend(names);
    }

    /// Returns the images without a policy, by file and line.
    pub fn finish(self) -> Vec<Unsupported> {
        let renamed = self.renamed;
        let images = self.found.into_iter();
        let mut images: Vec<Unsupported> = images
            .filter(|(repository, _)| !renamed.contains(repository))
            .map(|(_, image)| image)
            .collect();
        images.sort();
        images
    }
}
