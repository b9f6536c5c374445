//! The images that the files of a repository refer to.

use crate::{
    core::{
        image::{ImageRepository, Tag},
        name::Name,
    },
    service::survey::Survey,
};
use std::collections::{BTreeMap, BTreeSet};

/// A file that `flux bootstrap` generates: an upgrade of Flux updates its images.
const FLUX_COMPONENTS: &str = "gotk-components.yaml";

/// The references to one image.
#[derive(Debug, Default)]
pub(super) struct ImageUsage {
    pub tags: BTreeSet<String>,
    pub files: BTreeSet<String>,
    /// Policies that markers name and no file declares.
    pub markers: BTreeSet<Name>,
    pub declared: Vec<Name>,
}

/// Collects the images of all files.
pub(super) fn find(survey: &Survey) -> BTreeMap<ImageRepository, ImageUsage> {
    let mut images: BTreeMap<ImageRepository, ImageUsage> = BTreeMap::new();
    for file in survey.files.iter() {
        if file.path.ends_with(FLUX_COMPONENTS) {
            continue;
        }
        for reference in &file.findings.references {
            let Some(repository) = &reference.repository else {
                continue;
            };
            let image = images.entry(repository.clone()).or_default();
            image.files.insert(file.path.clone());
            let tag = reference.tag();
            image
                .tags
                .extend(tag.filter(|tag| Tag::new(tag.as_str()).is_ok()));
            let is_undeclared = |name: &&Name| !survey.declared.policies.contains_key(*name);
            let marker = reference.policy().filter(is_undeclared);
            image.markers.extend(marker.cloned());
        }
    }
    for policy in survey.declared.policies.values() {
        if let Some(image) = images.get_mut(&policy.image) {
            image.declared.push(policy.name.clone());
        }
    }
    images
}

/// Returns an unused name for the policy of a repository: its last word, with more of the words
/// before it where that is taken.
pub(super) fn free_name(repository: &ImageRepository, taken: &BTreeSet<Name>) -> Name {
    let words: Vec<&str> = repository.path().split('/').collect();
    let longer = (1..=words.len()).map(|count| label(&words[words.len() - count..].join("-")));
    let numbered = (2..).map(|number| format!("{}-{number}", label(repository.last_segment())));
    longer
        .chain(numbered)
        .filter_map(|word| Name::new("default", &word).ok())
        .find(|name| !taken.contains(name))
        .expect("the words of a repository are valid names, and the numbers never end")
}

fn label(text: &str) -> String {
    let lower = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let word: String = text.chars().map(lower).collect();
    word.trim_matches('-').chars().take(200).collect()
}
