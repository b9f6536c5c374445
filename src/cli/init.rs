//! `tagboat init`.

use super::{Failure, Outcome, Screen, counted, safe, screen::Color};
use crate::{
    core::name::Name,
    service::init::{self, DraftFile, DraftState, FoundImage, InitAnswer, InitQuery, abbreviated},
};
use std::path::PathBuf;

/// Draft policies and Environments for a config repository from the images in its files
///
/// Lists the images, guesses a policy for each from its tags, and takes folders such as envs/* or
/// clusters/* for Environments. Prints the drafts, or with --write saves them as policies/*.yaml
/// and tagboat.yaml. Overwrites no file, and uses no network.
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
        let name = screen.paint(Color::Bold, &environment.name);
        let paths = environment.paths.join(" ");
        screen.line(format_args!("{lead}Environment {name}: {paths}"));
    }
    if !answer.declared_environments.is_empty() {
        let names = answer.declared_environments.join(", ");
        screen.line(format_args!("{lead}declared Environments: {names}"));
    }
    for file in &answer.files {
        self::file(file, screen);
    }
    for error in &answer.errors {
        screen.note(format_args!("error: {}", safe(error)));
    }
    match answer.count(DraftState::Drafted) {
        0 if answer.count(DraftState::Written) > 0 => {
            screen.note("Read the drafts, set the URL in tagboat.yaml, then run: tagboat check");
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

/// Lists the policies of an image, or gives the reason why it has none.
fn policies(image: &FoundImage) -> String {
    let join = |names: &[Name]| {
        let names: Vec<String> = names.iter().map(Name::to_string).collect();
        names.join(", ")
    };
    let (declared, drafted) = (join(&image.declared), join(&image.drafted));
    match (declared.as_str(), drafted.as_str()) {
        ("", "") if image.present.is_empty() => "no policy: the files have no tag".to_owned(),
        ("", "") => "no policy: its marker is also beside another image".to_owned(),
        ("", drafted) => format!("drafted {drafted}"),
        (declared, "") => format!("declared {declared}"),
        (declared, drafted) => format!("declared {declared}, drafted {drafted}"),
    }
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
