//! `init`: drafts of policies, Environments and settings for a config repository.

mod draft;
mod environments;
mod images;
mod policy_rule;

use super::{
    Failure, Outcome,
    survey::{self, SETTINGS_FILE, Survey},
};
use crate::core::{image::ImageRepository, name::Name};
use environments::EnvironmentDraft;
use images::ImageUsage;
use policy_rule::PolicyRule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

/// Asks for drafts.
#[derive(Debug, Clone)]
pub struct InitQuery {
    /// The folder of the repository.
    pub folder: PathBuf,
    /// True to write the drafts into the folder.
    pub write: bool,
}

/// The images of a repository, and drafts for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitAnswer {
    /// The images that the files refer to.
    pub images: Vec<FoundImage>,
    /// The drafted Environments; empty if some are declared.
    pub environments: Vec<DraftedEnvironment>,
    /// The declared Environments.
    pub declared_environments: Vec<String>,
    /// The drafted files.
    pub files: Vec<DraftFile>,
    /// Files and folders that could not be read.
    pub errors: Vec<String>,
    /// The number of files that were read.
    pub files_read: usize,
}

/// An image that files refer to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundImage {
    /// The image repository.
    pub image: ImageRepository,
    /// The tags in the files.
    pub present: Vec<String>,
    /// The files.
    pub files: Vec<String>,
    /// The declared policies for it.
    pub declared: Vec<Name>,
    /// The drafted policies for it.
    pub drafted: Vec<Name>,
}

/// A drafted Environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DraftedEnvironment {
    /// The name.
    pub name: String,
    /// The globs of its files.
    pub paths: Vec<String>,
}

/// A drafted file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DraftFile {
    /// The path from the folder.
    pub path: String,
    /// The content.
    pub text: String,
    /// The state of the file.
    pub state: DraftState,
    /// The reason why it could not be written.
    pub error: Option<String>,
}

/// The state of a drafted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DraftState {
    /// Not written: the query did not ask for it.
    Drafted,
    /// Written.
    Written,
    /// Not written: a file of this name exists.
    Exists,
    /// Could not be written.
    Failed,
}

impl InitAnswer {
    /// Classifies the answer.
    pub fn outcome(&self) -> Outcome {
        let has_failed = |file: &DraftFile| file.state == DraftState::Failed;
        Outcome::partly_if(!self.errors.is_empty() || self.files.iter().any(has_failed))
    }

    /// The number of files in a state.
    pub fn count(&self, state: DraftState) -> usize {
        self.files.iter().filter(|file| file.state == state).count()
    }
}

/// A drafted policy.
struct PolicyDraft {
    name: Name,
    image: ImageRepository,
    rule: PolicyRule,
    notes: Vec<String>,
}

/// Drafts what a repository lacks, and writes it if asked to. Existing files are never changed.
///
/// # Errors
/// If the folder cannot be read.
pub fn init(query: &InitQuery) -> Result<InitAnswer, Failure> {
    if query.folder.is_file() {
        return Err(Failure::input(format!(
            "{}: not a folder",
            query.folder.display()
        )));
    }
    let survey = survey::survey(&query.folder)?;
    let images = images::find(&survey);
    let drafts = policy_drafts(&survey, &images);
    let environments = environment_drafts(&survey, &images, &drafts);
    let mut files = files(&survey, &drafts, &environments);
    for file in &mut files {
        let path = query.folder.join(&file.path);
        if path.symlink_metadata().is_ok() {
            file.state = DraftState::Exists;
        } else if query.write {
            match write(&path, &file.text) {
                Ok(()) => file.state = DraftState::Written,
                Err(error) => {
                    file.state = DraftState::Failed;
                    file.error = Some(error.to_string());
                }
            }
        }
    }
    let found = images.into_iter().map(|(image, usage)| FoundImage {
        drafted: drafts
            .iter()
            .filter(|draft| draft.image == image)
            .map(|draft| draft.name.clone())
            .collect(),
        image,
        present: usage.tags.into_iter().collect(),
        files: usage.files.into_iter().collect(),
        declared: usage.declared,
    });
    Ok(InitAnswer {
        images: found.collect(),
        environments: environments
            .into_iter()
            .map(|EnvironmentDraft { name, paths }| DraftedEnvironment { name, paths })
            .collect(),
        declared_environments: survey.declared.environments.keys().cloned().collect(),
        files,
        errors: survey.errors.iter().map(ToString::to_string).collect(),
        files_read: survey.parsed,
    })
}

/// Creates a file and its folder; an existing file is an error, also if it came in between.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    io::Write::write_all(&mut fs::File::create_new(path)?, text.as_bytes())
}

/// Drafts a policy for each image with a tag and without a policy, and for each marker whose policy
/// is not declared.
fn policy_drafts(
    survey: &Survey,
    images: &BTreeMap<ImageRepository, ImageUsage>,
) -> Vec<PolicyDraft> {
    let mut taken: BTreeSet<Name> = survey.declared.policies.keys().cloned().collect();
    let markers = images.values().flat_map(|image| &image.markers);
    taken.extend(markers.cloned());
    let mut drafts: Vec<PolicyDraft> = Vec::new();
    for (repository, image) in images {
        let Some(rule) = policy_rule::guess(&image.tags) else {
            continue;
        };
        let mut names: Vec<Name> = image.markers.iter().cloned().collect();
        if names.is_empty() && image.declared.is_empty() {
            names.push(images::free_name(repository, &taken));
        }
        let is_other = |tag: &&str| *tag != rule.from;
        let others: Vec<&str> = image
            .tags
            .iter()
            .map(String::as_str)
            .filter(is_other)
            .collect();
        let mut notes = Vec::new();
        if !others.is_empty() {
            notes.push(format!(
                "The files also have {}: check that one policy fits all of them.",
                abbreviated(&others)
            ));
        }
        for name in names {
            // A marker may name one policy beside two images: the first one gets it.
            if drafts.iter().all(|draft| draft.name != name) {
                taken.insert(name.clone());
                drafts.push(PolicyDraft {
                    name,
                    image: repository.clone(),
                    rule: rule.clone(),
                    notes: notes.clone(),
                });
            }
        }
    }
    drafts
}

/// Joins up to three values; of more, the first two and the number of the others.
pub fn abbreviated(values: &[&str]) -> String {
    match values.len() {
        0..=3 => values.join(", "),
        many => format!("{} and {} more", values[..2].join(", "), many - 2),
    }
}

/// Drafts the Environments of the files with policies; none where some are declared.
fn environment_drafts(
    survey: &Survey,
    images: &BTreeMap<ImageRepository, ImageUsage>,
    drafts: &[PolicyDraft],
) -> Vec<EnvironmentDraft> {
    if !survey.declared.environments.is_empty() {
        return Vec::new();
    }
    let has_policy = |(repository, image): &(&ImageRepository, &ImageUsage)| {
        !image.declared.is_empty() || drafts.iter().any(|draft| draft.image == **repository)
    };
    let files: BTreeSet<&str> = images
        .iter()
        .filter(has_policy)
        .flat_map(|(_, image)| image.files.iter().map(String::as_str))
        .collect();
    if files.is_empty() {
        Vec::new()
    } else {
        environments::find(files)
    }
}

fn files(
    survey: &Survey,
    drafts: &[PolicyDraft],
    environments: &[EnvironmentDraft],
) -> Vec<DraftFile> {
    let file = |path: String, text: String| DraftFile {
        path,
        text,
        state: DraftState::Drafted,
        error: None,
    };
    let mut files = Vec::new();
    let mut stems: BTreeSet<String> = BTreeSet::from(["environments".to_owned()]);
    for draft in drafts {
        let mut stem = draft.name.name().to_owned();
        if !stems.insert(stem.clone()) {
            stem = format!("{}-{}", draft.name.namespace(), draft.name.name());
            stems.insert(stem.clone());
        }
        files.push(file(format!("policies/{stem}.yaml"), draft::policy(draft)));
    }
    if !environments.is_empty() {
        let text = draft::environments(environments);
        files.push(file("policies/environments.yaml".to_owned(), text));
    }
    let declared = &survey.declared;
    if survey.settings.is_empty() && (!files.is_empty() || !declared.policies.is_empty()) {
        let policies = declared.policies.values().map(|policy| &policy.place);
        let environments = declared.environments.values().map(|one| &one.place);
        let in_folder = policies
            .chain(environments)
            .all(|place| place.file.starts_with("policies/"));
        files.push(file(SETTINGS_FILE.to_owned(), draft::settings(in_folder)));
    }
    files
}
