//! Asking clusters what they would say: each object by the server's dry run, as whom and how it
//! would be sent.

use super::{
    ClusterPermits, PreviewClusters,
    clusters::ClusterPermit,
    compare::{ComparedApplication, ObjectQuestion},
    reach::ReachedApplication,
    text,
};
use crate::{
    core::error::Classify as _,
    io::cluster::{ClusterClient, ClusterProblem, RequestIdentity},
    objects::{
        object::ApplyMode,
        plan::{self, DesiredObject},
        tenancy,
    },
    reconcile::{ApplyRefusal, DryRun, DryRunResult, ForeignOwners},
    review::{DryRunVerdict, ObjectChange, PreviewTrouble},
    spec::Application,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, future::join_all, stream};
use std::{
    collections::{BTreeSet, HashSet},
    sync::OnceLock,
    time::Duration,
};
use tokio::time::Instant;

/// Concurrent dry runs; a cluster also has its own limit.
const AT_ONCE: usize = 8;

/// The time limit of all questions to one cluster.
const PATIENCE: Duration = Duration::from_secs(20);

/// The dry-run verdicts of one Application.
#[derive(Debug, Default)]
pub(super) struct ApplicationAnswers {
    /// In the order of its objects; `None` for one that is not shown.
    pub verdicts: Vec<Option<DryRunVerdict>>,
    pub trouble: Vec<PreviewTrouble>,
}

/// The preview on one cluster, with the state shared by its dry runs.
struct ClusterPreview<'a> {
    name: &'a str,
    cluster: &'a ClusterClient,
    namespaces: BTreeSet<&'a str>,
    kinds: HashSet<&'a (String, String)>,
    until: Instant,
    /// The reason why the cluster is no longer asked.
    down: OnceLock<String>,
    /// Set as soon as the cluster has responded once.
    answered: OnceLock<()>,
    foreign_owners: ForeignOwners,
    /// Records unresponsive clusters.
    clusters: &'a PreviewClusters,
}

/// An answer: of which Application, of which of its objects.
type DryRunAnswer = (usize, usize, Option<DryRunVerdict>, Option<PreviewTrouble>);

/// Asks about everything that differs; the clusters at the same time.
pub(super) async fn ask(
    reached: &[ReachedApplication],
    compared: &[ComparedApplication],
    doors: &ClusterPermits,
    clusters: &PreviewClusters,
) -> Vec<ApplicationAnswers> {
    let mut answers: Vec<ApplicationAnswers> = reached
        .iter()
        .zip(compared)
        .map(|(one, compared)| unasked(compared, doors.get(&one.cluster)))
        .collect();
    let mut asked: Vec<BoxFuture<'_, Vec<DryRunAnswer>>> = Vec::new();
    for (name, door) in doors {
        if let ClusterPermit::Open { cluster, .. } = door {
            asked.push(of_cluster(name, cluster, reached, compared, clusters).boxed());
        }
    }
    for (index, place, verdict, trouble) in join_all(asked).await.into_iter().flatten() {
        answers[index].verdicts[place] = verdict;
        answers[index].trouble.extend(trouble);
    }
    hand_over(reached, compared, &mut answers);
    answers
}

/// Returns the verdict that needs no dry run.
fn unasked(compared: &ComparedApplication, door: Option<&ClusterPermit>) -> ApplicationAnswers {
    let mut answers = ApplicationAnswers::default();
    for object in &compared.objects {
        answers.verdicts.push(match (&object.question, door) {
            (ObjectQuestion::Known(verdict), _) => Some(verdict.clone()),
            (ObjectQuestion::Ask(_), Some(ClusterPermit::Closed { why, trouble })) => {
                answers.trouble.extend(trouble.clone());
                Some(not(why))
            }
            _ => None,
        });
    }
    answers
}

/// Drops deletions of objects that move from one Application to another.
fn hand_over(
    reached: &[ReachedApplication],
    compared: &[ComparedApplication],
    answers: &mut [ApplicationAnswers],
) {
    for (index, one) in reached.iter().enumerate() {
        for (place, object) in compared[index]
            .objects
            .iter()
            .enumerate()
            .filter(|(_, object)| object.preview.change == ObjectChange::Delete)
        {
            let mut others = reached
                .iter()
                .zip(compared)
                .enumerate()
                .filter(|(other, (heir, _))| *other != index && heir.cluster == one.cluster);
            if let Some((_, (heir, _))) =
                others.find(|(_, (_, compared))| compared.keys.contains(&object.key))
            {
                answers[index].verdicts[place] =
                    Some(not(&format!("Application {} takes it over", heir.name)));
            }
        }
    }
}

/// Runs all dry runs of one cluster.
async fn of_cluster(
    name: &str,
    cluster: &ClusterClient,
    reached: &[ReachedApplication],
    compared: &[ComparedApplication],
    clusters: &PreviewClusters,
) -> Vec<DryRunAnswer> {
    let here = || {
        reached
            .iter()
            .zip(compared)
            .enumerate()
            .filter(|(_, (one, _))| one.cluster == name)
    };
    let talk = ClusterPreview {
        name,
        cluster,
        namespaces: here()
            .flat_map(|(_, (_, compared))| &compared.namespaces)
            .map(String::as_str)
            .collect(),
        kinds: here()
            .flat_map(|(_, (_, compared))| &compared.kinds)
            .collect(),
        until: Instant::now() + PATIENCE,
        down: OnceLock::new(),
        answered: OnceLock::new(),
        foreign_owners: ForeignOwners::default(),
        clusters,
    };
    let mut questions: Vec<BoxFuture<'_, DryRunAnswer>> = Vec::new();
    for (index, (one, compared)) in here() {
        let Some(application) = &one.after else {
            continue;
        };
        for (place, object) in compared.objects.iter().enumerate() {
            let (wanted, always) = match &object.question {
                ObjectQuestion::Ask(wanted) => (wanted, true),
                ObjectQuestion::Check(wanted) => (wanted, false),
                ObjectQuestion::Known(_) => continue,
            };
            let talk = &talk;
            questions.push(
                async move {
                    let (verdict, trouble) = talk.about(application, wanted).await;
                    let shown = always || matches!(verdict, DryRunVerdict::Refused { .. });
                    (index, place, shown.then_some(verdict), trouble)
                }
                .boxed(),
            );
        }
    }
    stream::iter(questions).buffered(AT_ONCE).collect().await
}

impl ClusterPreview<'_> {
    /// Runs the dry run of one object.
    async fn about(
        &self,
        application: &Application,
        one: &DesiredObject,
    ) -> (DryRunVerdict, Option<PreviewTrouble>) {
        if application.suspend {
            return (
                not("the Application is suspended: nothing is applied"),
                None,
            );
        }
        if one.settings.reconcile_disabled || one.settings.ssa == ApplyMode::Ignore {
            return (not("its annotations say that it is not applied"), None);
        }
        if !one.served
            && self
                .kinds
                .contains(&(one.key.group.clone(), one.key.kind.clone()))
        {
            return (
                not("its kind comes with the same change: the cluster does not serve it yet"),
                None,
            );
        }
        if let Some(why) = self.down.get() {
            return (not(why), None);
        }
        let identity =
            RequestIdentity::of(&application.name, application.service_account.as_deref());
        let question = DryRun {
            cluster: self.cluster,
            identity: &identity,
            one,
            application,
            applied: None,
            foreign_owners: &self.foreign_owners,
        };
        let asked = tokio::time::timeout_at(self.until, question.ask()).await;
        if matches!(&asked, Ok(Ok(_))) || matches!(&asked, Ok(Err(refusal)) if !is_silence(refusal))
        {
            let _ = self.answered.set(());
        }
        match asked {
            Ok(Ok(tried))
                if one.honors_annotations
                    && tried
                        .live
                        .as_ref()
                        .is_some_and(|live| live.settings().reconcile_disabled) =>
            {
                (
                    not("the live object's annotations say that it is not applied"),
                    None,
                )
            }
            Ok(Ok(tried)) => (
                DryRunVerdict::Accepted {
                    warnings: warnings(application, one, tried),
                },
                None,
            ),
            Ok(Err(refusal)) => self.refusal(application, one, &refusal),
            Err(_) => {
                let lost = self.lost(&format!(
                    "cluster {} did not answer everything within {} s",
                    self.name,
                    PATIENCE.as_secs()
                ));
                // Slow is not unresponsive.
                if self.answered.get().is_none() {
                    self.clusters
                        .note_silent(self.name, self.down.get().map_or("", String::as_str));
                }
                lost
            }
        }
    }

    /// The cluster cannot be asked any more.
    fn lost(&self, why: &str) -> (DryRunVerdict, Option<PreviewTrouble>) {
        let why = text::line(why);
        let _ = self.down.set(why.clone());
        (
            not(&why),
            Some(PreviewTrouble {
                message: why,
                transient: true,
            }),
        )
    }

    /// Classifies an error of a dry run: refused, as the real apply would be, or unknown at
    /// present.
    fn refusal(
        &self,
        application: &Application,
        one: &DesiredObject,
        refusal: &ApplyRefusal,
    ) -> (DryRunVerdict, Option<PreviewTrouble>) {
        let ApplyRefusal { error, why } = refusal;
        let creation = creation_refusal(application, &error.problem);
        let why = text::line(creation.as_ref().unwrap_or(why));
        match &*error.problem {
            ClusterProblem::NamespaceMissing { namespace, .. }
                if self.namespaces.contains(namespace.as_str()) =>
            {
                (
                    not(&format!(
                        "namespace {} comes with the same change, and is not there yet",
                        text::line(namespace)
                    )),
                    None,
                )
            }
            ClusterProblem::NamespaceMissing { namespace, .. }
                if application.creates_namespace(namespace) =>
            {
                let why = format!(
                    "namespace {} does not exist yet: it is created with the first object",
                    text::line(namespace)
                );
                (not(&why), None)
            }
            ClusterProblem::UnknownKind { .. } => (not(&why), None),
            ClusterProblem::Immutable { .. } if one.settings.force => (
                not(
                    "a field that cannot be changed differs: it would be deleted and re-created (force: enabled)",
                ),
                None,
            ),
            // A webhook that has effects of its own is not called in a dry run, and the server
            // refuses to guess.
            ClusterProblem::Invalid { message, .. }
                if message.contains("does not support dry run") =>
            {
                (not(&why), None)
            }
            ClusterProblem::Forbidden { .. }
            | ClusterProblem::Invalid { .. }
            | ClusterProblem::Immutable { .. }
            | ClusterProblem::Denied { .. }
            | ClusterProblem::TooLarge { .. }
            | ClusterProblem::Address { .. }
            | ClusterProblem::Refused { .. }
            | ClusterProblem::NamespaceMissing { .. }
            | ClusterProblem::NamespaceNotCreated { .. }
            | ClusterProblem::NamespaceTerminating { .. } => {
                (DryRunVerdict::Refused { reason: why }, None)
            }
            ClusterProblem::Kubeconfig { .. }
            | ClusterProblem::Credentials { .. }
            | ClusterProblem::Unreachable { .. }
            | ClusterProblem::Silent { .. }
            | ClusterProblem::Unauthorized { .. }
            | ClusterProblem::Throttled { .. } => {
                let hint = error
                    .hint()
                    .map_or(String::new(), |hint| format!(" ({hint})"));
                let lost = self.lost(&format!(
                    "cluster {} cannot be asked: {why}{hint}",
                    self.name
                ));
                if is_silence(refusal) {
                    self.clusters
                        .note_silent(self.name, self.down.get().map_or("", String::as_str));
                }
                lost
            }
            // A concurrent write, or trouble of the server itself.
            ClusterProblem::Conflict { .. }
            | ClusterProblem::NotFound
            | ClusterProblem::Webhook { .. }
            | ClusterProblem::Server { .. }
            | ClusterProblem::Replaced { .. }
            | ClusterProblem::AnswerTooLarge { .. }
            | ClusterProblem::NoRecordNamespace { .. }
            | ClusterProblem::Gone
            | ClusterProblem::Protocol { .. }
            | ClusterProblem::Stuck { .. } => {
                let message = text::line(&format!("{}: {why}", one.key));
                (
                    not(&why),
                    Some(PreviewTrouble {
                        message,
                        transient: true,
                    }),
                )
            }
        }
    }
}

/// Returns whether an error means that nothing responded.
fn is_silence(refusal: &ApplyRefusal) -> bool {
    matches!(*refusal.error.problem, ClusterProblem::Unreachable { .. })
}

/// Returns the server's warnings, and the present owner of the object.
fn warnings(application: &Application, one: &DesiredObject, tried: DryRunResult) -> Vec<String> {
    let DryRunResult {
        live,
        manifest,
        applied,
        removed,
        ..
    } = tried;
    let said =
        |text: &String| text::line(&plan::mask_values(text, [live.as_ref(), Some(&manifest)]));
    let mut warnings: Vec<String> = applied.warnings.iter().take(WARNINGS).map(said).collect();
    let removals = removed.iter().take(WARNINGS);
    warnings.extend(removals.map(|field| {
        let text = format!("{field}, which Git does not name: it is removed");
        text::line(&text)
    }));
    let owner = live.as_ref().and_then(plan::owner);
    match (&live, owner) {
        (Some(_), Some(owner)) if owner != application.name => {
            warnings.push(format!("it belongs to Application {owner} now, and is taken over only when that one does not want it any more"));
        }
        (Some(live), _) if one.settings.ssa == ApplyMode::IfNotPresent => {
            warnings.push(format!(
                "{} is there and stays as it is (ssa: IfNotPresent)",
                text::line(live.name())
            ));
        }
        _ => {}
    }
    warnings
}

/// Warnings of one object that are kept.
const WARNINGS: usize = 20;

fn not(why: &str) -> DryRunVerdict {
    DryRunVerdict::NotAsked {
        reason: why.to_owned(),
    }
}

/// Returns why a missing namespace is not created for a tenant.
fn creation_refusal(application: &Application, problem: &ClusterProblem) -> Option<String> {
    match problem {
        ClusterProblem::NamespaceMissing { namespace, .. } => {
            tenancy::creation_refusal(&application.rights, namespace)
        }
        _ => None,
    }
}
