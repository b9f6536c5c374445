//! `tagboat init`.

mod draft;
mod images;
mod places;
mod way;

use super::{Exit, Failure, Screen, counted, safe, screen::Color};
use crate::{
    core::{image::ImageRepository, name::Name},
    service::survey::{self, PROCESS_FILE, Survey},
};
use images::ImageUsage;
use places::EnvironmentDraft;
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};
use way::PolicyRule;

/// Draft policies and Environments for a config repository, from the images in its files
///
/// Lists the images, guesses from their tags how the next one is chosen, and takes folders such as
/// envs/* or clusters/* for environments. Prints the drafts; with --write they become files:
/// policies/*.yaml and tagboat.yaml. No file that exists is overwritten, and nothing is sent
/// anywhere.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the repository
    #[arg(default_value = ".")]
    dir: PathBuf,

    /// Write the drafts into DIR
    #[arg(long)]
    write: bool,
}

/// A policy to draft.
struct PolicyDraft {
    name: Name,
    image: ImageRepository,
    way: PolicyRule,
    notes: Vec<String>,
}

/// A file to write.
struct DraftFile {
    path: String,
    text: String,
    state: DraftState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum DraftState {
    Drafted,
    Written,
    Exists,
    Failed(String),
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    if arguments.dir.is_file() {
        return Err(Failure::input(format!(
            "{}: this is a file; name a folder",
            arguments.dir.display()
        )));
    }
    let survey = survey::survey(&arguments.dir)?;
    let images = images::find(&survey);
    let drafts = drafts(&survey, &images);
    let places = places(&survey, &images, &drafts);
    let mut files = files(&survey, &drafts, &places);
    for file in &mut files {
        let path = arguments.dir.join(&file.path);
        file.state = match path.symlink_metadata() {
            Ok(_) => DraftState::Exists,
            Err(_) if !arguments.write => DraftState::Drafted,
            Err(_) => write(&path, &file.text).map_or_else(
                |error| DraftState::Failed(error.to_string()),
                |()| DraftState::Written,
            ),
        };
    }
    if screen.is_json() {
        print_json(&images, &drafts, &places, &files, screen);
    } else {
        print(
            arguments,
            &survey,
            (&images, &drafts, &places),
            &files,
            screen,
        );
    }
    let failed = files
        .iter()
        .any(|file| matches!(file.state, DraftState::Failed(_)));
    Ok(if failed || !survey.errors.is_empty() {
        Exit::Partly
    } else {
        Exit::Done
    })
}

/// A new file with its folder; one that exists is an error, even if it came in between.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    io::Write::write_all(&mut fs::File::create_new(path)?, text.as_bytes())
}

/// A policy for each image that has a tag and no policy, and for each marker that names a policy
/// nobody declares.
fn drafts(survey: &Survey, images: &BTreeMap<ImageRepository, ImageUsage>) -> Vec<PolicyDraft> {
    let mut taken: BTreeSet<Name> = survey.declared.policies.keys().cloned().collect();
    taken.extend(
        images
            .values()
            .flat_map(|image| image.markers.iter().cloned()),
    );
    let mut drafts: Vec<PolicyDraft> = Vec::new();
    for (repository, image) in images {
        let Some(way) = way::guess(&image.tags) else {
            continue;
        };
        let mut names: Vec<Name> = image.markers.iter().cloned().collect();
        if names.is_empty() && image.declared.is_empty() {
            names.push(images::name(repository, &taken));
        }
        let others: Vec<&str> = image
            .tags
            .iter()
            .map(String::as_str)
            .filter(|tag| *tag != way.from)
            .collect();
        let mut notes = Vec::new();
        if !others.is_empty() {
            notes.push(format!(
                "The files also have {}: look whether one policy can be for all of them.",
                some(&others)
            ));
        }
        for name in names {
            // A marker may name one policy beside two images; the first one it is.
            if drafts.iter().all(|draft| draft.name != name) {
                taken.insert(name.clone());
                drafts.push(PolicyDraft {
                    name,
                    image: repository.clone(),
                    way: way.clone(),
                    notes: notes.clone(),
                });
            }
        }
    }
    drafts
}

/// A few of many.
fn some(all: &[&str]) -> String {
    match all.len() {
        0..=3 => all.join(", "),
        many => format!("{} and {} more", all[..2].join(", "), many - 2),
    }
}

/// The Environments of the files that policies will be for; none where some are declared already.
fn places(
    survey: &Survey,
    images: &BTreeMap<ImageRepository, ImageUsage>,
    drafts: &[PolicyDraft],
) -> Vec<EnvironmentDraft> {
    if !survey.declared.environments.is_empty() {
        return Vec::new();
    }
    let with_policy = images.iter().filter(|(repository, image)| {
        !image.declared.is_empty() || drafts.iter().any(|draft| draft.image == **repository)
    });
    let files: BTreeSet<&str> = with_policy
        .flat_map(|(_, image)| image.files.keys().map(String::as_str))
        .collect();
    if files.is_empty() {
        Vec::new()
    } else {
        places::find(files)
    }
}

fn files(survey: &Survey, drafts: &[PolicyDraft], places: &[EnvironmentDraft]) -> Vec<DraftFile> {
    let mut files = Vec::new();
    let mut used: BTreeSet<String> = BTreeSet::from(["environments".to_owned()]);
    for draft in drafts {
        let mut stem = draft.name.name().to_owned();
        if !used.insert(stem.clone()) {
            stem = format!("{}-{}", draft.name.namespace(), draft.name.name());
            used.insert(stem.clone());
        }
        let text = draft::policy(&draft.name, &draft.image, &draft.way, &draft.notes);
        files.push(DraftFile {
            path: format!("policies/{stem}.yaml"),
            text,
            state: DraftState::Drafted,
        });
    }
    if !places.is_empty() {
        files.push(DraftFile {
            path: "policies/environments.yaml".to_owned(),
            text: draft::environments(places),
            state: DraftState::Drafted,
        });
    }
    if survey.process.is_empty() && (!files.is_empty() || !survey.declared.policies.is_empty()) {
        let declared = &survey.declared;
        let mut places = declared
            .policies
            .values()
            .map(|policy| &policy.place)
            .chain(declared.environments.values().map(|one| &one.place));
        let folder = places.all(|place| place.file.starts_with("policies/"));
        files.push(DraftFile {
            path: PROCESS_FILE.to_owned(),
            text: draft::process(folder),
            state: DraftState::Drafted,
        });
    }
    files
}

/// The policies of an image, or why it has none.
fn outcome(repository: &ImageRepository, image: &ImageUsage, drafts: &[PolicyDraft]) -> String {
    let drafted: Vec<String> = drafts
        .iter()
        .filter(|draft| draft.image == *repository)
        .map(|draft| draft.name.to_string())
        .collect();
    let declared: Vec<String> = image.declared.iter().map(Name::to_string).collect();
    match (drafted.is_empty(), declared.is_empty()) {
        (false, true) => format!("drafted {}", drafted.join(", ")),
        (false, false) => format!(
            "declared {}, drafted {}",
            declared.join(", "),
            drafted.join(", ")
        ),
        (true, false) => format!("declared {}", declared.join(", ")),
        (true, true) if image.tags.is_empty() => "no policy: no tag stands there".to_owned(),
        (true, true) => "no policy: its marker is beside another image, too".to_owned(),
    }
}

fn print(
    arguments: &Arguments,
    survey: &Survey,
    (images, drafts, places): (
        &BTreeMap<ImageRepository, ImageUsage>,
        &[PolicyDraft],
        &[EnvironmentDraft],
    ),
    files: &[DraftFile],
    screen: &mut Screen,
) {
    // Without --write everything on standard output together is YAML, the list as comments.
    let lead = if arguments.write { "" } else { "# " };
    if images.is_empty() {
        screen.note(format_args!(
            "no images found in {} ({} read)",
            arguments.dir.display(),
            counted(survey.parsed, "file")
        ));
    }
    for (repository, image) in images {
        let tags: Vec<&str> = image.tags.iter().map(String::as_str).collect();
        let tags = if tags.is_empty() {
            String::new()
        } else {
            format!(": {}", some(&tags))
        };
        screen.line(format_args!(
            "{lead}{}{tags}",
            screen.paint(Color::Bold, repository)
        ));
        screen.line(format_args!(
            "{lead}  in {}; {}",
            shown_files(image),
            outcome(repository, image, drafts)
        ));
    }
    for place in places {
        screen.line(format_args!(
            "{lead}Environment {}: {}",
            screen.paint(Color::Bold, &place.name),
            place.paths.join(" ")
        ));
    }
    if !survey.declared.environments.is_empty() {
        let names: Vec<&str> = survey
            .declared
            .environments
            .keys()
            .map(String::as_str)
            .collect();
        screen.line(format_args!(
            "{lead}Environments are declared already: {}",
            names.join(", ")
        ));
    }
    for file in files {
        match &file.state {
            DraftState::Drafted => {
                screen.line("---");
                screen.line(screen.paint(Color::Cyan, format_args!("# {}", file.path)));
                screen.print(&file.text);
            }
            DraftState::Written => screen.line(format_args!(
                "{} {}",
                screen.paint(Color::Green, "wrote"),
                file.path
            )),
            DraftState::Exists => screen.note(format_args!(
                "note: {} exists and stays as it is",
                file.path
            )),
            DraftState::Failed(why) => {
                screen.note(format_args!("error: cannot write {}: {why}", file.path))
            }
        }
    }
    for error in &survey.errors {
        screen.note(format_args!("error: {}", safe(&error.to_string())));
    }
    let drafted = files
        .iter()
        .filter(|file| file.state == DraftState::Drafted)
        .count();
    if drafted > 0 {
        screen.note(format_args!(
            "{} drafted; write with --write, then read and commit",
            counted(drafted, "file")
        ));
    } else if files.iter().any(|file| file.state == DraftState::Written) {
        screen.note("read the drafts, set the URL in tagboat.yaml, then run: tagboat check");
    } else if !images.is_empty() && files.is_empty() {
        screen.note("nothing to draft");
    }
}

fn shown_files(image: &ImageUsage) -> String {
    let files: Vec<&str> = image.files.keys().map(String::as_str).collect();
    safe(&some(&files))
}

fn print_json(
    images: &BTreeMap<ImageRepository, ImageUsage>,
    drafts: &[PolicyDraft],
    places: &[EnvironmentDraft],
    files: &[DraftFile],
    screen: &mut Screen,
) {
    let images = images.iter().map(|(repository, image)| {
        let drafted = drafts.iter().filter(|draft| draft.image == *repository);
        json!({
            "repository": repository, "tags": image.tags, "files": image.files.keys().collect::<Vec<_>>(),
            "declared": image.declared, "drafted": drafted.map(|draft| draft.name.to_string()).collect::<Vec<_>>(),
        })
    });
    let places = places
        .iter()
        .map(|EnvironmentDraft { name, paths }| json!({"name": name, "paths": paths}));
    let files = files.iter().map(|DraftFile { path, text, state }| {
        let (word, error) = match state {
            DraftState::Drafted => ("drafted", None),
            DraftState::Written => ("written", None),
            DraftState::Exists => ("exists", None),
            DraftState::Failed(why) => ("failed", Some(why)),
        };
        json!({"path": path, "text": text, "state": word, "error": error})
    });
    screen.json(&json!({
        "images": images.collect::<Vec<_>>(),
        "environments": places.collect::<Vec<_>>(),
        "files": files.collect::<Vec<_>>(),
    }));
}
