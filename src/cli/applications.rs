//! What the commands about Applications share: which are meant, at which revision, and clusters to
//! look at.

use super::{
    Failure,
    client::{self, Service},
    screen::{Color, Screen},
};
use crate::{
    core::name::Name,
    io::git::ObjectId,
    reconcile::{
        self, ApplicationState, ApplicationStatus, Message, ReconcileMode, Reconciler, RenderFn,
        RepositoryId,
    },
    spec::{Application, Declarations},
    update::{ImageUpdater, PassReport},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// How long clusters may take beside what Applications wait for themselves.
const SPARE: Duration = Duration::from_secs(60);

/// Which Applications a command is about.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct ApplicationSelector {
    /// The Applications, as ns/name
    #[arg(value_name = "APPLICATION")]
    pub applications: Vec<Name>,

    /// All Applications
    #[arg(long)]
    all: bool,
}

/// The Applications of one repository that are meant.
pub(super) struct RepositoryApplications {
    pub updater: Arc<ImageUpdater>,
    pub commit: ObjectId,
    pub declared: Arc<Declarations>,
    /// Those that are meant; none means all.
    pub only: Option<BTreeSet<Name>>,
}

impl RepositoryApplications {
    /// The Applications that are meant.
    pub fn applications(&self) -> Vec<&Application> {
        self.declared
            .applications
            .values()
            .filter(|one| {
                self.only
                    .as_ref()
                    .is_none_or(|only| only.contains(&one.name))
            })
            .collect()
    }

    /// The repository, as clusters know it.
    pub fn repository(&self) -> RepositoryId {
        RepositoryId::from(&self.updater.config)
    }

    pub fn revision(&self) -> String {
        self.commit.to_string()
    }

    /// Renders from this revision.
    pub fn render(&self, desk: &Service) -> Arc<RenderFn> {
        reconcile::from_git(
            Arc::clone(&desk.renderer),
            Arc::clone(&self.updater.mirror),
            self.commit,
        )
    }

    /// How long the slowest of them may take.
    pub fn patience(&self) -> Duration {
        self.applications()
            .iter()
            .map(|application| application.timeout)
            .max()
            .unwrap_or_default()
            + SPARE
    }
}

/// Reads the revision of each repository and finds the Applications that are meant, all of them if
/// none is named.
pub(super) async fn find(
    desk: &Service,
    wanted: &[Name],
    screen: &mut Screen,
) -> Result<Vec<RepositoryApplications>, Failure> {
    let (mut scopes, missing) = look_for(desk, wanted, screen).await?;
    if let Some(name) = missing.first() {
        return Err(unknown(name, &scopes));
    }
    scopes.retain(|scope| scope.only.as_ref().is_none_or(|only| !only.is_empty()));
    Ok(scopes)
}

/// An Application that nobody declares.
pub(super) fn unknown(name: &Name, scopes: &[RepositoryApplications]) -> Failure {
    let known: Vec<String> = scopes
        .iter()
        .flat_map(|scope| scope.declared.applications.keys().map(ToString::to_string))
        .collect();
    let known = match known.is_empty() {
        true => "none is declared".to_owned(),
        false => format!("known are {}", known.join(", ")),
    };
    Failure::input(format!("there is no Application {name}: {known}"))
}

/// The same, with those that no repository declares.
pub(super) async fn look_for(
    desk: &Service,
    wanted: &[Name],
    screen: &mut Screen,
) -> Result<(Vec<RepositoryApplications>, Vec<Name>), Failure> {
    let mut scopes = Vec::new();
    for updater in &desk.updaters {
        let world = {
            let _turn = updater.turn.lock().await;
            updater.look(&mut PassReport::default()).await?
        };
        client::mind_errors(&world.declared, screen);
        let only: Option<BTreeSet<Name>> = (!wanted.is_empty()).then(|| {
            wanted
                .iter()
                .filter(|name| world.declared.applications.contains_key(*name))
                .cloned()
                .collect()
        });
        scopes.push(RepositoryApplications {
            updater: Arc::clone(updater),
            commit: world.commit,
            declared: world.declared,
            only,
        });
    }
    let declared = |name: &Name| {
        scopes
            .iter()
            .any(|scope| scope.declared.applications.contains_key(name))
    };
    let missing = wanted
        .iter()
        .filter(|name| !declared(name))
        .cloned()
        .collect();
    Ok((scopes, missing))
}

/// The clusters of a process file, for one command.
pub(super) struct CommandClusters {
    pub reconciler: Arc<Reconciler>,
    stop: CancellationToken,
}

impl CommandClusters {
    /// Opens them; nothing is sent yet.
    pub async fn open(desk: &Service, mode: ReconcileMode) -> Result<Self, Failure> {
        let stop = CancellationToken::new();
        let reconciler = desk
            .context
            .reconciler(mode, &stop)
            .await?
            .ok_or_else(none)?;
        Ok(Self { reconciler, stop })
    }

    /// Ends what was begun, at a safe point.
    pub async fn end(self) {
        self.stop.cancel();
        self.reconciler.shut_down().await;
    }
}

/// The process file names no clusters.
pub(super) fn none() -> Failure {
    Failure::input("tagboat.yaml names no clusters")
        .hint("Write clusters: [{name: dev, kubeconfig: PATH, context: NAME}]; README.md (\"tagboat.yaml\") shows all fields.")
}

/// Applications shown while they are worked on; of more only the number.
const SHOWN: usize = 6;
/// Objects of each that are shown.
const OBJECTS: usize = 3;
/// Characters of a line, so that it is one on common terminals.
const WIDTH: usize = 110;

/// How far many Applications are: a line for all, and below it each one that is not done, with the
/// objects that it waits for.
pub(super) fn progress(
    statuses: &[ApplicationStatus],
    done: impl Fn(&ApplicationStatus) -> bool,
) -> String {
    let busy: Vec<&ApplicationStatus> = statuses.iter().filter(|status| !done(status)).collect();
    let mut lines = vec![format!(
        "{} of {} done",
        statuses.len() - busy.len(),
        statuses.len()
    )];
    for status in busy.iter().take(SHOWN) {
        let healthy = status.objects.saturating_sub(status.unhealthy.len());
        let healthy = if status.objects == 0 {
            String::new()
        } else {
            format!(", {healthy} of {} objects healthy", status.objects)
        };
        lines.push(format!(
            "  {} on {}: {}{healthy}",
            status.application, status.cluster, status.state
        ));
        let rows: Vec<String> = status
            .problems
            .iter()
            .chain(&status.unhealthy)
            .map(ToString::to_string)
            .collect();
        lines.extend(rows.iter().take(OBJECTS).map(|row| format!("    {row}")));
        lines.extend(
            (rows.len() > OBJECTS).then(|| format!("    and {} more", rows.len() - OBJECTS)),
        );
    }
    lines.extend((busy.len() > SHOWN).then(|| format!("  and {} more", busy.len() - SHOWN)));
    let line = |line: &String| super::safe(line).chars().take(WIDTH).collect::<String>();
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The colour of a state.
pub(super) fn color(state: ApplicationState) -> Color {
    match state {
        ApplicationState::Synced => Color::Green,
        ApplicationState::Failed
        | ApplicationState::Degraded
        | ApplicationState::ConfirmationRequired => Color::Red,
        ApplicationState::Suspended | ApplicationState::Orphaned | ApplicationState::Pending => {
            Color::Dim
        }
        _ => Color::Cyan,
    }
}

/// Prints what there is to say about an Application beside its state, a line each.
pub(super) fn rows(status: &ApplicationStatus, screen: &mut Screen) {
    let row = |row: &Message, color: Color, screen: &mut Screen| {
        screen.line(format_args!(
            "    {}",
            screen.paint(color, super::safe(&row.to_string()))
        ));
        if let Some(hint) = &row.hint {
            screen.line(format_args!(
                "      {}",
                screen.paint(Color::Dim, super::safe(hint))
            ));
        }
    };
    for problem in &status.problems {
        row(
            problem,
            if status.state.needs_attention() {
                Color::Red
            } else {
                Color::Cyan
            },
            screen,
        );
    }
    for drifted in &status.drifted {
        screen.line(format_args!(
            "    {}",
            screen.paint(Color::Cyan, super::safe(&drifted.to_string()))
        ));
    }
    for unhealthy in &status.unhealthy {
        row(unhealthy, Color::Cyan, screen);
    }
    for note in &status.notes {
        row(note, Color::Dim, screen);
    }
}

/// Text columns as wide as their widest entry; the last one is as it is. Colours come after the
/// width is known.
pub(super) fn table(
    heads: &[&str],
    rows: &[Vec<(String, Option<Color>)>],
    screen: &mut Screen,
) -> Vec<String> {
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].0.chars().count())
                .chain([heads[column].len()])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |cells: Vec<(String, Option<Color>)>| {
        let last = cells.len() - 1;
        let cells = cells
            .into_iter()
            .enumerate()
            .map(|(column, (text, color))| {
                let padded = if column == last {
                    text
                } else {
                    format!("{text:<width$}", width = widths[column])
                };
                color.map_or(padded.clone(), |color| screen.paint(color, &padded))
            });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let heads = heads
        .iter()
        .map(|head| ((*head).to_owned(), Some(Color::Dim)))
        .collect();
    std::iter::once(line(heads))
        .chain(rows.iter().cloned().map(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_names_the_objects_that_are_waited_for() {
        let status = |name: &str, observed: bool, unhealthy: &[&str]| ApplicationStatus {
            revision: Some("0".repeat(40)),
            state: if observed {
                ApplicationState::Synced
            } else {
                ApplicationState::Progressing
            },
            objects: 4,
            unhealthy: unhealthy
                .iter()
                .map(|message| Message {
                    object: Some("Deployment dev/web".into()),
                    place: None,
                    message: (*message).into(),
                    hint: None,
                })
                .collect(),
            observed,
            ..ApplicationStatus::new(name.parse().unwrap(), "fleet", "test")
        };
        let statuses = [
            status("dev/api", true, &[]),
            status(
                "dev/web",
                false,
                &["InProgress: 1 of 3 are updated", "Failed: \u{1b}[2J"],
            ),
            ApplicationStatus {
                objects: 0,
                ..status("dev/job", false, &[])
            },
        ];
        assert_eq!(
            progress(&statuses, |status| status.observed),
            "1 of 3 done\n  dev/web on test: progressing, 2 of 4 objects healthy\n    Deployment dev/web: InProgress: 1 of 3 are updated\n    \
             Deployment dev/web: Failed: \\u{1b}[2J\n  dev/job on test: progressing"
        );
        let many: Vec<ApplicationStatus> = (0..100)
            .map(|n| status(&format!("dev/a{n}"), false, &["x".repeat(500).as_str(); 9]))
            .collect();
        let text = progress(&many, |status| status.observed);
        assert!(text.ends_with("    and 6 more\n  and 94 more"), "{text}");
        assert!(
            text.lines().count() == 2 + SHOWN * (OBJECTS + 2)
                && text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }
}
