//! `tagboat init`.

use super::{Failure, Outcome, Screen, counted, safe, screen::Color, unsupported};
use crate::{
    core::name::Name,
    service::init::{
        self, DraftFile, DraftState, DraftedEnvironment, FoundImage, InitAnswer, InitQuery,
        WriteVia, abbreviated,
    },
};
use std::path::PathBuf;

/// Draft policies and Environments for a config repository from the images in its files
///
/// Lists the images, guesses a policy for each from its tags where their order is sure, and takes
/// Environments from the names of folders and files, such as prod or values-staging.yaml.
/// Production is drafted with pull requests. Prints the drafts, or with --write saves them as
/// policies/*.yaml and tagboat.yaml. Overwrites no file, and uses no network.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder of the repository
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// Write the drafts into DIR
    #[arg(long)]
    write: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = InitQuery {
        folder: arguments.dir.clone(),
        write: arguments.write,
    };
    let answer = init::init(&query)?;
    screen.answer(&answer, |answer, screen| text(answer, arguments, screen));
    Ok(answer.outcome())
}

fn text(answer: &InitAnswer, arguments: &Arguments, screen: &mut Screen) {
    // Without --write, standard output as a whole is YAML, with the list as comments.
    let lead = if arguments.write { "" } else { "# " };
    if answer.images.is_empty() {
        screen.note(format_args!(
            "no images found in {} ({} read)",
            arguments.dir.display(),
            counted(answer.files_read, "file")
        ));
    }
    for image in &answer.images {
        self::image(image, lead, screen);
    }
    for environment in &answer.environments {
        self::environment(environment, lead, screen);
    }
    if !answer.declared_environments.is_empty() {
        let names = answer.declared_environments.join(", ");
        screen.line(format_args!("{lead}declared Environments: {names}"));
    }
    for line in unsupported::lines(&answer.unsupported) {
        screen.line(format_args!("{lead}{line}"));
    }
    for file in &answer.files {
        self::file(file, screen);
    }
    for error in &answer.errors {
        screen.note(format_args!("error: {}", safe(error)));
    }
    match answer.count(DraftState::Drafted) {
        0 if answer.count(DraftState::Written) > 0 => {
            let has_todo = answer.files.iter().any(|file| file.text.contains("# TODO"));
            screen.note(match has_todo {
                true => {
                    "Read the drafts, fill in each TODO of tagboat.yaml, then run: tagboat check"
                }
                false => "Read the drafts, then run: tagboat check",
            });
        }
        0 if answer.files.is_empty() && !answer.images.is_empty() => {
            screen.note("nothing to draft");
        }
        0 => {}
        count => screen.note(format_args!(
            "{} drafted; write them with --write, then read and commit them",
            counted(count, "file")
        )),
    }
}

fn image(image: &FoundImage, lead: &str, screen: &mut Screen) {
    let name = screen.paint(Color::Bold, &image.image);
    let shown = |texts: &[String]| abbreviated(&Vec::from_iter(texts.iter().map(String::as_str)));
    match image.present.as_slice() {
        [] => screen.line(format_args!("{lead}{name}")),
        tags => screen.line(format_args!("{lead}{name}: {}", shown(tags))),
    }
    let files = safe(&shown(&image.files));
    screen.line(format_args!("{lead}  in {files}; {}", policies(image)));
}

fn environment(environment: &DraftedEnvironment, lead: &str, screen: &mut Screen) {
    let name = screen.paint(Color::Bold, &environment.name);
    let paths = environment.paths.join(" ");
    let via = match environment.via {
        WriteVia::Commit => "",
        WriteVia::PullRequest => " by pull request",
    };
    screen.line(format_args!("{lead}Environment {name}{via}: {paths}"));
}

/// Lists the policies of an image, and the reasons why it lacks some.
fn policies(image: &FoundImage) -> String {
    let join = |names: &[Name]| {
        let names: Vec<String> = names.iter().map(Name::to_string).collect();
        names.join(", ")
    };
    let mut parts = Vec::new();
    for (verb, names) in [("declared", &image.declared), ("drafted", &image.drafted)] {
        if !names.is_empty() {
            parts.push(format!("{verb} {}", join(names)));
        }
    }
    let reasons = image.reasons.iter();
    parts.extend(reasons.map(|reason| format!("no policy: {reason}")));
    parts.join(", ")
}

fn file(file: &DraftFile, screen: &mut Screen) {
    let path = &file.path;
    match file.state {
        DraftState::Drafted => {
            screen.line("---");
            screen.line(screen.paint(Color::Cyan, format_args!("# {path}")));
            screen.print(&file.text);
        }
        DraftState::Written => {
            let verb = screen.paint(Color::Green, "wrote");
            screen.line(format_args!("{verb} {path}"));
        }
        DraftState::Exists => screen.note(format_args!("note: {path} exists and is not changed")),
        DraftState::Failed => {
            let error = file.error.as_deref().unwrap_or_default();
            screen.note(format_args!("error: cannot write {path}: {error}"));
        }
    }
}
