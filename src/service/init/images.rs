//! The images that the files of a repository refer to.

use crate::{
    core::{
        image::{ImageRepository, Tag},
        name::Name,
    },
    images::{
        includes::{IncludeGraph, Reached},
        references::{Reference, ReferenceOrigin},
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
    /// The tags of references without a marker.
    pub unmarked: BTreeSet<String>,
    /// Policies that markers name and no file declares, with the tags at these markers.
    pub markers: BTreeMap<Name, BTreeSet<String>>,
    pub declared: Vec<Name>,
    /// The images that kustomize puts in place of it. References that it replaces have no tags
    /// here.
    pub replaced_by: BTreeSet<ImageRepository>,
}

/// Collects the images of all files.
pub(super) fn find(
    survey: &Survey,
    graph: &IncludeGraph<'_>,
) -> BTreeMap<ImageRepository, ImageUsage> {
    let renames = Renames::new(survey, graph);
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
            let tag = tag.filter(|tag| Tag::new(tag.as_str()).is_ok());
            image.tags.extend(tag.clone());
            match reference.policy() {
                Some(policy) if survey.declared.policies.contains_key(policy) => {}
                Some(policy) => image.markers.entry(policy.clone()).or_default().extend(tag),
                None => match renames.of(reference, &file.path) {
                    Some(new_name) => drop(image.replaced_by.insert(new_name.clone())),
                    None => image.unmarked.extend(tag),
                },
            }
        }
    }
    for policy in survey.declared.policies.values() {
        if let Some(image) = images.get_mut(&policy.image) {
            image.declared.push(policy.name.clone());
        }
    }
    images
}

/// The renames of kustomizations, with the files that each of them reaches.
struct Renames<'s> {
    by_image: BTreeMap<&'s ImageRepository, Vec<(usize, &'s ImageRepository)>>,
    reached: Vec<Reached<'s>>,
}

impl<'s> Renames<'s> {
    fn new(survey: &'s Survey, graph: &IncludeGraph<'s>) -> Self {
        let mut by_image: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut reached = Vec::new();
        for includes in survey.includes.iter().filter(|one| !one.renames.is_empty()) {
            for (name, new_name) in &includes.renames {
                by_image
                    .entry(name)
                    .or_default()
                    .push((reached.len(), new_name));
            }
            reached.push(graph.reached_from([includes.file.as_str()].into_iter()));
        }
        Self { by_image, reached }
    }

    /// Returns the image that a kustomization puts in place of a reference.
    fn of(&self, reference: &Reference, file: &str) -> Option<&'s ImageRepository> {
        if reference.why != ReferenceOrigin::ImageField {
            return None;
        }
        let renames = self.by_image.get(reference.repository.as_ref()?)?;
        let found = renames
            .iter()
            .find(|(index, _)| self.reached[*index].contains(file));
        found.map(|(_, new_name)| *new_name)
    }
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
