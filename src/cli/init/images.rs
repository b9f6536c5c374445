//! The images that the files of a repository name.

use crate::{
    core::{image::ImageRepository, name::Name},
    images::references::ReferencePart,
    service::survey::Survey,
};
use std::collections::{BTreeMap, BTreeSet};

/// Files that `flux bootstrap` writes anew: what updates Flux updates them.
const FLUX_OWN: &str = "gotk-components.yaml";

/// What files say of one image.
#[derive(Debug, Default)]
pub(super) struct ImageUsage {
    /// The tags that stand there.
    pub tags: BTreeSet<String>,
    /// The files, and how many references each has.
    pub files: BTreeMap<String, usize>,
    /// Policies that markers name and nothing declares.
    pub markers: BTreeSet<Name>,
    /// Policies that are declared for it.
    pub declared: Vec<Name>,
    /// References with neither tag nor digest, or with an empty tag.
    pub untagged: usize,
}

/// Every image, by its repository.
pub(super) fn find(survey: &Survey) -> BTreeMap<ImageRepository, ImageUsage> {
    let mut images: BTreeMap<ImageRepository, ImageUsage> = BTreeMap::new();
    for file in survey
        .files
        .iter()
        .filter(|file| !file.path.ends_with(FLUX_OWN))
    {
        for reference in &file.findings.references {
            let Some(repository) = &reference.repository else {
                continue;
            };
            let image = images.entry(repository.clone()).or_default();
            *image.files.entry(file.path.clone()).or_default() += 1;
            match reference.tag() {
                Some(tag) if crate::core::image::Tag::new(tag.as_str()).is_ok() => {
                    image.tags.insert(tag);
                }
                _ if reference.slot(ReferencePart::Name).is_some() => {}
                _ => image.untagged += 1,
            }
            image.markers.extend(
                reference
                    .policy()
                    .filter(|name| !survey.declared.policies.contains_key(name))
                    .cloned(),
            );
        }
    }
    for policy in survey.declared.policies.values() {
        if let Some(image) = images.get_mut(&policy.image) {
            image.declared.push(policy.name.clone());
        }
    }
    images
}

/// A name for the policy of a repository that no other has: its last word, with more words before
/// it where that is taken.
pub(super) fn name(repository: &ImageRepository, taken: &BTreeSet<Name>) -> Name {
    let label = |text: &str| -> String {
        let word: String = text
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() {
                    c.to_ascii_lowercase()
                } else {
                    '-'
                }
            })
            .collect();
        word.trim_matches('-').chars().take(200).collect()
    };
    let words: Vec<&str> = repository.path().split('/').collect();
    let longer = (1..=words.len()).map(|count| label(&words[words.len() - count..].join("-")));
    let numbered = (2..).map(|number| format!("{}-{number}", label(repository.last_segment())));
    let free = longer
        .chain(numbered)
        .filter_map(|word| Name::new("default", &word).ok())
        .find(|name| !taken.contains(name));
    free.expect("one of endlessly many numbers is free, since a repository's words make a name")
}
