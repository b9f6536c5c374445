//! `tagboat preview`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query, Service},
    counted,
    render::Programs,
    safe,
    screen::Color,
    show,
};
use crate::service::engine::{self, ProcessContext, ProcessOptions};
use crate::{
    core::name::Name,
    io::{
        git::{Checkout, GitError, Mirror, ObjectId},
        render::Renderer,
    },
    preview::{PreviewClusters, Previewer, RevisionFiles},
    review::{
        self, ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview,
        Preview,
    },
    update::PassReport,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

const EXAMPLES: &str = "\
Examples:
  tagboat preview --head my-branch             what a merge of the branch would do
  tagboat preview                              what its last commit has done
  tagboat preview -C . --no-cluster            in a CI job with a checkout and nothing else
  tagboat preview -C . --base origin/main prod/shop

Without --base it is the commit where the head left the branch; for a head that is on the branch already, its first parent. \
Without --head it is the branch's newest commit, with -C what is checked out. Of a repository in tagboat.yaml, revisions are \
branches, tags and commit ids; with -C, whatever Git takes for one. A clone that is shallow may lack the base: let the CI job \
fetch the whole history. --kustomize and --helm count with -C where there is no tagboat.yaml, which else names them.";

/// Show what a change does on clusters, before it is there
///
/// For each Application that the change reaches: its rendered objects before and after, as a diff,
/// and what its cluster says to them in the server's dry run, so that a refusal by an admission
/// policy, a quota or missing rights is seen before the merge. Values of Secrets are masked,
/// nothing is changed. Exits with 1 if something would be refused or cannot be rendered, with 4 if
/// a cluster could not be asked.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// Only these Applications, as ns/name
    #[arg(value_name = "APPLICATION")]
    applications: Vec<Name>,

    /// The revision before
    #[arg(long, value_name = "REV")]
    base: Option<String>,

    /// The revision after
    #[arg(long, value_name = "REV")]
    head: Option<String>,

    /// Ask no cluster: only show what is rendered
    #[arg(long)]
    no_cluster: bool,

    /// The Git working copy in DIR instead of a repository of tagboat.yaml, which then need not be
    /// there; it is only read, and what is not committed is not seen
    #[arg(short = 'C', long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Print Markdown, as for a comment of a CI job; at most 60,000 characters
    #[arg(long)]
    markdown: bool,

    #[command(flatten)]
    programs: Programs,
}

/// Characters of Markdown: what a comment takes on every forge.
const MOST_MARKDOWN: usize = 60_000;

/// What is to be compared.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Between {
    /// Only these Applications; all if none is named.
    pub applications: Vec<Name>,
    /// The revision before.
    pub base: Option<String>,
    /// The revision after.
    pub head: Option<String>,
    /// Whether clusters are asked.
    pub clusters: bool,
    /// Whether the answer is Markdown.
    pub markdown: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let Arguments {
        process,
        applications,
        base,
        head,
        no_cluster,
        folder,
        markdown,
        programs,
    } = arguments;
    let between = Between {
        applications: applications.clone(),
        base: base.clone(),
        head: head.clone(),
        clusters: !no_cluster,
        markdown: *markdown,
    };
    match folder {
        None => client::run(process, &Query::Preview(between), screen),
        Some(folder) => {
            engine::runtime()?.block_on(checkout(folder, process, programs, &between, screen))
        }
    }
}

const NOT_TO_BE_ASKED: &str = "no cluster is asked (--no-cluster)";

/// Answers from the mirror of a repository.
pub async fn answer(
    desk: &Service,
    between: &Between,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let [updater] = desk.updaters.as_slice() else {
        let names: Vec<&str> = desk
            .updaters
            .iter()
            .map(|updater| updater.config.name.as_str())
            .collect();
        return Err(Failure::input(format!(
            "tagboat.yaml has several repositories: {}",
            names.join(", ")
        ))
        .hint("Name one of them with --repository."));
    };
    let progress = screen.progress("reading Git");
    let (base, head) = {
        let _turn = updater.turn.lock().await;
        let branch = updater.look(&mut PassReport::default()).await?.commit;
        let (mirror, between) = (Arc::clone(&updater.mirror), between.clone());
        blocking(move || in_mirror(&mirror, branch, &between)).await??
    };
    let mut previewer = desk
        .context
        .previewer(updater, &desk.renderer, desk.reconciler.as_deref())
        .await;
    if !between.clusters {
        previewer.clusters = PreviewClusters::none(NOT_TO_BE_ASKED);
    }
    progress.say("rendering, and asking clusters");
    let preview = preview(&previewer, base, head, between).await;
    drop(progress);
    tell(&preview?, base, head, between.markdown, screen)
}

fn in_mirror(
    mirror: &Mirror,
    branch: ObjectId,
    between: &Between,
) -> Result<(ObjectId, ObjectId), GitError> {
    let named = |text: &Option<String>| text.as_deref().map(|text| mirror.named(text)).transpose();
    let head = named(&between.head)?.unwrap_or(branch);
    Ok((
        named(&between.base)?.map_or_else(|| mirror.before(head, branch), Ok)?,
        head,
    ))
}

/// Answers from a working copy.
async fn checkout(
    folder: &Path,
    process: &ProcessOptions,
    programs: &Programs,
    between: &Between,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let checkout = Arc::new(Checkout::open(folder)?);
    let head = between
        .head
        .as_deref()
        .map_or_else(|| checkout.head(), |text| checkout.named(text))?;
    let base = between
        .base
        .as_deref()
        .map_or_else(|| checkout.before(head), |text| checkout.named(text))?;
    // A process file that was not asked for by name need not be there.
    let known = process.config.exists()
        || process.config != Path::new("tagboat.yaml")
        || process.repository.is_some();
    let context = if known {
        Some(ProcessContext::read(process)?)
    } else {
        None
    };
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("no temporary folder can be made: {error}")))?;
    let settings = context
        .as_ref()
        .map_or_else(|| programs.settings(), ProcessContext::render);
    let (clusters, policies) = match &context {
        None if between.clusters => (
            PreviewClusters::none("there is no tagboat.yaml that names clusters"),
            None,
        ),
        None => (PreviewClusters::none(NOT_TO_BE_ASKED), None),
        Some(context) => {
            let mut all = context.repositories();
            let (Some(repository), None) = (all.next(), all.next()) else {
                return Err(Failure::input("tagboat.yaml has several repositories, and it is not clear which of them this is a copy of")
                    .hint("Name it with --repository."));
            };
            let clusters = match between.clusters {
                true => {
                    PreviewClusters::open(
                        &context.process.clusters,
                        &repository.name,
                        |path: &Path| context.connect.path(path),
                    )
                    .await
                }
                false => PreviewClusters::none(NOT_TO_BE_ASKED),
            };
            (clusters, repository.policies.clone())
        }
    };
    let renderer = Arc::new(Renderer::new(&settings, temporary.path()));
    let previewer = Previewer {
        files: RevisionFiles::Checkout(checkout),
        policies,
        renderer,
        clusters,
    };
    let progress = screen.progress("rendering, and asking clusters");
    let preview = preview(&previewer, base, head, between).await;
    drop(progress);
    tell(&preview?, base, head, between.markdown, screen)
}

/// Makes the preview. A name that neither revision declares is a mistake of whoever wrote it.
async fn preview(
    previewer: &Previewer,
    base: ObjectId,
    head: ObjectId,
    between: &Between,
) -> Result<Preview, Failure> {
    let only: BTreeSet<Name> = between.applications.iter().cloned().collect();
    let preview = previewer
        .between(base, head, (!only.is_empty()).then_some(&only))
        .await;
    let reached: BTreeSet<&Name> = preview
        .applications
        .iter()
        .map(|application| &application.name)
        .collect();
    let unseen: Vec<Name> = only
        .into_iter()
        .filter(|name| !reached.contains(name))
        .collect();
    if unseen.is_empty() {
        return Ok(preview);
    }
    let previewer = previewer.clone();
    let known = blocking(move || {
        let mut known = BTreeSet::new();
        for commit in [base, head] {
            known.extend(previewer.declared(commit)?.applications.into_keys());
        }
        Ok::<_, GitError>(known)
    });
    let known = known.await??;
    match unseen.iter().find(|name| !known.contains(name)) {
        None => Ok(preview),
        Some(name) => {
            let known: Vec<String> = known.iter().map(ToString::to_string).collect();
            let known = if known.is_empty() {
                "none is declared".to_owned()
            } else {
                format!("known are {}", known.join(", "))
            };
            Err(Failure::input(format!(
                "there is no Application {name} in either revision: {known}"
            )))
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::input(format!("it ended unasked: {error}")))
}

/// Prints a preview; the exit code.
fn tell(
    preview: &Preview,
    base: ObjectId,
    head: ObjectId,
    markdown: bool,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    if screen.is_json() {
        let mut value = json!(preview);
        value["base"] = base.to_string().into();
        value["head"] = head.to_string().into();
        screen.json(&value);
    } else if markdown {
        screen.line(review::markdown(preview, MOST_MARKDOWN).text);
    } else {
        let between = format!(
            "{} → {}",
            base.to_hex_with_len(10),
            head.to_hex_with_len(10)
        );
        let said = match preview.applications.len() {
            0 => "nothing changes on clusters".to_owned(),
            1 => "1 Application is reached".to_owned(),
            count => format!("{count} Applications are reached"),
        };
        screen.line(format_args!(
            "{}: {said}",
            screen.paint(Color::Bold, between)
        ));
        for trouble in &preview.trouble {
            screen.line(screen.paint(Color::Red, safe(&trouble.message)));
        }
        for application in &preview.applications {
            self::application(application, screen);
        }
    }
    Ok(
        match (
            preview.is_refused() || preview.is_broken(),
            preview.may_tell_more(),
        ) {
            (true, _) => Exit::Findings,
            (false, true) => Exit::Partly,
            (false, false) => Exit::Done,
        },
    )
}

fn application(application: &ApplicationPreview, screen: &mut Screen) {
    let ApplicationPreview {
        name,
        cluster,
        change,
        notes,
        objects,
        trouble,
    } = application;
    let what = match change {
        ApplicationChange::New => "is new: ",
        ApplicationChange::Gone => "goes: ",
        ApplicationChange::Declaration | ApplicationChange::Files => "",
    };
    let count = match objects.len() {
        0 => "no object changes".to_owned(),
        1 => "1 object changes".to_owned(),
        count => format!("{} change", counted(count, "object")),
    };
    screen.line(format_args!(
        "\n{} on {}: {what}{count}",
        screen.paint(Color::Bold, name),
        safe(cluster)
    ));
    for note in notes {
        screen.line(format_args!("  {}", safe(note)));
    }
    for trouble in trouble {
        screen.line(format_args!(
            "  {}",
            screen.paint(Color::Red, safe(&trouble.message))
        ));
    }
    for object in objects {
        self::object(object, screen);
    }
}

fn object(object: &ObjectPreview, screen: &mut Screen) {
    let what = match object.change {
        ObjectChange::Create => "is new",
        ObjectChange::Change => "changes",
        ObjectChange::Delete => "goes",
    };
    let verdict = match &object.verdict {
        DryRunVerdict::Accepted { .. } => screen.paint(Color::Green, "the cluster takes it"),
        DryRunVerdict::Refused { why } => {
            // A policy's refusal says so itself.
            let word = if why.starts_with("refused ") {
                ""
            } else {
                "refused: "
            };
            screen.paint(Color::Red, format!("{word}{}", safe(why)))
        }
        DryRunVerdict::NotAsked { why } => {
            screen.paint(Color::Dim, format!("not asked: {}", safe(why)))
        }
    };
    // What becomes of it is said in place of what was not asked.
    let verdict = match (&object.change, &object.verdict) {
        (ObjectChange::Delete, DryRunVerdict::NotAsked { why }) => {
            screen.paint(Color::Cyan, safe(why))
        }
        _ => verdict,
    };
    screen.line(format_args!(
        "{} {what}; {verdict}",
        screen.paint(Color::Bold, safe(&object.object))
    ));
    if let DryRunVerdict::Accepted { warnings } = &object.verdict {
        for warning in warnings {
            screen.line(format_args!(
                "  {} {}",
                screen.paint(Color::Cyan, "warning:"),
                safe(warning)
            ));
        }
    }
    show::unified(&object.diff, screen);
}
