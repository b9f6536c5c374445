//! `tagboat preview`.

use super::{
    Failure, Outcome, Screen, client, complete, counted, print, render::Programs, safe,
    screen::Color, settings::SettingsArguments,
};
use crate::{
    core::{name::Name, text::short_id},
    review::{
        self, ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview,
    },
    service::{
        engine,
        preview::{PreviewAnswer, PreviewQuery, WorkingCopy, preview_working_copy},
    },
};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  tagboat preview --head my-branch             show what merging the branch would do
  tagboat preview                              show what the last commit did
  tagboat preview -C . --no-cluster            preview in a CI job with nothing but a checkout
  tagboat preview -C . --base origin/main prod/shop

Without --base, the commit where the head left the branch is the base; for a head on the branch, \
its first parent. Without --head, it is the branch's newest commit, or with -C the checked-out \
one. For a repository in tagboat.yaml, revisions are branches, tags and commit ids; with -C, any \
revision that Git accepts. A shallow clone may lack the base: fetch the whole history in the CI \
job. With -C, the settings are those of the base revision or a file outside of the copy, unless \
--config names one; those of the base may name no program, cluster or credential. --kustomize and --helm have an effect only with -C and without settings.";

/// Show the effect of a change on clusters before it is merged
///
/// Shows the rendered objects of each affected Application before and after as a diff, with the
/// result of the server's dry run, so that a refusal by an admission policy, a quota or missing
/// rights is seen before the merge. Values of Secrets are masked, and nothing is changed. Exits
/// with 1 if something would be refused or cannot be rendered, with 4 if a cluster could not be
/// asked.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// Preview only these Applications, as ns/name
    #[arg(value_name = "APPLICATION", add = complete::applications())]
    applications: Vec<Name>,

    /// The revision before the change
    #[arg(long, value_name = "REV")]
    base: Option<String>,

    /// The revision after the change
    #[arg(long, value_name = "REV")]
    head: Option<String>,

    /// Render only, and ask no cluster
    #[arg(long)]
    no_cluster: bool,

    /// Use the Git working copy in DIR instead of a repository of tagboat.yaml, which may then be
    /// absent; uncommitted changes are ignored
    #[arg(short = 'C', long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Print Markdown for a comment of a CI job, at most 60,000 characters
    #[arg(long)]
    markdown: bool,

    #[command(flatten)]
    programs: Programs,
}

/// The most characters of Markdown: a comment of this length is accepted by every forge.
const MAX_MARKDOWN: usize = 60_000;

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = PreviewQuery {
        applications: arguments.applications.clone(),
        base: arguments.base.clone(),
        head: arguments.head.clone(),
        no_cluster: arguments.no_cluster,
    };
    let answer = match &arguments.folder {
        None => client::ask(&arguments.settings, &query, screen)?,
        Some(folder) => {
            let copy = WorkingCopy {
                folder: folder.clone(),
                settings: arguments.settings.file(),
                programs: arguments.programs.settings(),
            };
            let spinner = screen.spinner();
            engine::runtime()?.block_on(preview_working_copy(&copy, &query, &spinner))?
        }
    };
    screen.answer(&answer, |answer, screen| match arguments.markdown {
        true => screen.line(review::markdown(&answer.preview(), MAX_MARKDOWN).text),
        false => text(answer, screen),
    });
    Ok(answer.outcome())
}

fn text(answer: &PreviewAnswer, screen: &mut Screen) {
    for warning in &answer.warnings {
        screen.warning(warning);
    }
    let (base, head) = (short_id(&answer.base), short_id(&answer.head));
    let revisions = screen.paint(Color::Bold, format_args!("{base} → {head}"));
    screen.line(match answer.applications.len() {
        0 => format!("{revisions}: nothing changes on clusters"),
        1 => format!("{revisions}: 1 Application is affected"),
        count => format!("{revisions}: {count} Applications are affected"),
    });
    for trouble in &answer.trouble {
        screen.line(screen.paint(Color::Red, safe(&trouble.message)));
    }
    for application in &answer.applications {
        self::application(application, screen);
    }
}

fn application(application: &ApplicationPreview, screen: &mut Screen) {
    let change = match application.change {
        ApplicationChange::New => "new, ",
        ApplicationChange::Gone => "removed, ",
        ApplicationChange::Declaration | ApplicationChange::Files => "",
    };
    let count = match application.objects.len() {
        0 => "no object changes".to_owned(),
        1 => "1 object changes".to_owned(),
        count => format!("{} change", counted(count, "object")),
    };
    let name = screen.paint(Color::Bold, &application.name);
    let cluster = safe(&application.cluster);
    screen.line(format_args!("\n{name} on {cluster}: {change}{count}"));
    for note in &application.notes {
        screen.line(format_args!("  {}", safe(note)));
    }
    for trouble in &application.trouble {
        let message = screen.paint(Color::Red, safe(&trouble.message));
        screen.line(format_args!("  {message}"));
    }
    for object in &application.objects {
        self::object(object, screen);
    }
}

fn object(object: &ObjectPreview, screen: &mut Screen) {
    let change = match object.change {
        ObjectChange::Create => "is created",
        ObjectChange::Change => "changes",
        ObjectChange::Delete => "is deleted",
    };
    let verdict = match &object.verdict {
        DryRunVerdict::Accepted { .. } => screen.paint(Color::Green, "accepted by the cluster"),
        // The message of an admission policy says so itself.
        DryRunVerdict::Refused { reason: why } if why.starts_with("refused ") => {
            screen.paint(Color::Red, safe(why))
        }
        DryRunVerdict::Refused { reason: why } => {
            screen.paint(Color::Red, format_args!("refused: {}", safe(why)))
        }
        // A deletion has no dry run; the reason is the fate of the object.
        DryRunVerdict::NotAsked { reason: why } if object.change == ObjectChange::Delete => {
            screen.paint(Color::Cyan, safe(why))
        }
        DryRunVerdict::NotAsked { reason: why } => {
            screen.paint(Color::Dim, format_args!("not asked: {}", safe(why)))
        }
    };
    let name = screen.paint(Color::Bold, safe(&object.object));
    screen.line(format_args!("{name} {change}; {verdict}"));
    if let DryRunVerdict::Accepted { warnings } = &object.verdict {
        for warning in warnings {
            let label = screen.paint(Color::Cyan, "warning:");
            screen.line(format_args!("  {label} {}", safe(warning)));
        }
    }
    print::unified(&object.diff, screen);
}
