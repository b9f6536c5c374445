//! `tagboat set`.

use super::{Failure, Outcome, Screen, counted, print, safe, screen::Color};
use crate::service::set::{self, SetAnswer, SetQuery};
use clap::ValueEnum;
use std::path::PathBuf;

/// Write given tags into the files of a folder
///
/// For a CI job that has just built an image: needs no registry, no Git and no declarations.
/// Finds references by their repository and by markers, and changes nothing else, byte for byte.
/// Lists every reference left alone with the reason.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folder
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The policy, image and tag to write; a digest is written, too (with -f, as the policy says)
    #[arg(value_name = "NS:NAME=IMAGE:TAG[@DIGEST]", required = true)]
    choices: Vec<String>,

    /// Read the policies, also those of Flux, from this file or folder, and follow their order and
    /// digestReflectionPolicy
    #[arg(short = 'f', long = "file", value_name = "PATH")]
    files: Vec<PathBuf>,

    /// Write these references
    #[arg(long, value_enum, default_value_t = ReferenceMode::Auto)]
    references: ReferenceMode,

    /// Remove the digest of pinned references whose choice has none
    #[arg(long)]
    unpin: bool,

    /// Print the changes as a unified diff, and write nothing
    #[arg(long)]
    diff: bool,

    /// Write nothing, and exit with 1 if something would change
    #[arg(long)]
    check: bool,
}

const EXAMPLES: &str = "\
Examples:
  tagboat set . apps:podinfo=ghcr.io/stefanprodan/podinfo:6.7.1
  tagboat set envs/dev apps:web=registry.example.com/web:1.4.0@sha256:… --diff
  tagboat set . flux-system:podinfo=ghcr.io/stefanprodan/podinfo:6.7.1 -f clusters/ \
--references markers

Without -f, a choice is an explicit order: any other tag of its image is replaced, even a higher \
one. With -f, the policy's order applies, so that a lower version is left alone.";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ReferenceMode {
    /// Every reference to the image, and the marked ones
    Auto,
    /// Only references with a marker
    Markers,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = SetQuery {
        folder: arguments.dir.clone(),
        choices: arguments.choices.clone(),
        declarations: arguments.files.clone(),
        markers_only: arguments.references == ReferenceMode::Markers,
        unpin: arguments.unpin,
        write: !arguments.diff && !arguments.check,
        diffs: arguments.diff,
    };
    let answer = set::set(&query)?;
    screen.answer(&answer, |answer, screen| {
        text(answer, arguments.diff, screen)
    });
    Ok(match answer.outcome() {
        Outcome::Done if arguments.check => Outcome::findings_if(!answer.changes.is_empty()),
        outcome => outcome,
    })
}

fn text(answer: &SetAnswer, diff: bool, screen: &mut Screen) {
    if diff {
        print::diffs(&answer.files, screen);
    } else {
        changes(answer, screen);
    }
    left(answer, screen);
    for note in &answer.notes {
        let place = print::place(&note.file, note.line, note.column, screen);
        screen.note(format_args!("note: {place}: {}", note.reason));
    }
    for diagnostic in &answer.diagnostics {
        screen.note(safe(&diagnostic.to_string()));
    }
    for failure in &answer.errors {
        let label = screen.paint(Color::Red, "error:");
        screen.note(format_args!("{label} {}", safe(&failure.error)));
    }
    for unmatched in &answer.unmatched {
        screen.note(format_args!(
            "note: found no reference to {} and no marker for {}",
            unmatched.image, unmatched.policy
        ));
    }
    if answer.left.iter().any(|left| left.code == "needs-digest") {
        screen.note("hint: Give the digest, as IMAGE:TAG@DIGEST, or remove digests with --unpin.");
    }
    let verb = match answer.written {
        true => "changed",
        false => "would change",
    };
    match answer.changes.len() {
        0 => screen.note("nothing to change"),
        values => screen.note(format_args!(
            "{verb} {} in {}",
            counted(values, "value"),
            counted(answer.changed_files(), "file")
        )),
    }
}

fn changes(answer: &SetAnswer, screen: &mut Screen) {
    for change in &answer.changes {
        let place = print::place(&change.file, change.line, change.column, screen);
        let new = screen.paint(Color::Green, &change.new);
        let (old, policy) = (safe(&change.old), &change.policy);
        screen.line(format_args!("{place}: {old} → {new} ({policy})"));
    }
}

fn left(answer: &SetAnswer, screen: &mut Screen) {
    for left in &answer.left {
        let is_expected = matches!(
            left.code.as_str(),
            "no-policy" | "no-choice" | "markers-only" | "up-to-date"
        );
        if !is_expected {
            let place = print::place(&left.file, left.line, left.column, screen);
            screen.note(format_args!("left alone: {place}: {}", left.reason));
        }
    }
}
