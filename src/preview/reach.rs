//! Finds the Applications that a change reaches: those whose declaration differs, or a file that
//! their rendering reads.

use super::{RevisionFiles, text};
use crate::{
    core::name::Name,
    io::{
        git::{GitError, ObjectId, Revision},
        render::{self, RenderSource},
    },
    objects::tenancy,
    review::{ApplicationChange, PreviewTrouble},
    spec::{Application, Declarations, DeletionPolicy, Severity},
    update::{self, DeclarationScope},
};
use std::collections::{BTreeMap, BTreeSet};

/// New mistakes that are listed; more are counted.
const MISTAKES: usize = 20;

/// An Application on one cluster, before and after; at least one of the two exists.
#[derive(Debug)]
pub(super) struct ReachedApplication {
    pub name: Name,
    pub cluster: String,
    pub before: Option<Application>,
    pub after: Option<Application>,
    pub change: ApplicationChange,
    pub notes: Vec<String>,
    /// Why its repository has no right to deploy it; then no cluster is asked.
    pub refusal: Option<String>,
}

/// Compares both revisions; also returns new diagnostics of declarations.
pub(super) fn find(
    files: &RevisionFiles,
    base: ObjectId,
    head: ObjectId,
    scope: &DeclarationScope,
    only: Option<&BTreeSet<Name>>,
) -> Result<(Vec<ReachedApplication>, Vec<PreviewTrouble>), GitError> {
    let (old, new) = (files.at(base)?, files.at(head)?);
    if old.tree() == new.tree() {
        return Ok(Default::default());
    }
    let before = update::declared_in(&old, scope, files.branch())?;
    let after = update::declared_in(&new, scope, files.branch())?;
    let trouble = mistakes(&before, &after);
    let broken = after.has_errors();
    let mut pairs: BTreeMap<(Name, String), [Option<Application>; 2]> = BTreeMap::new();
    for (side, declared) in [before, after].into_iter().enumerate() {
        for (name, application) in declared.applications {
            if only.is_none_or(|only| only.contains(&name)) {
                let key = (name, application.cluster.clone());
                pairs.entry(key).or_default()[side] = Some(application);
            }
        }
    }
    let moves: Vec<(Name, String)> = pairs.keys().cloned().collect();
    let elsewhere = |name: &Name, cluster: &str| {
        moves
            .iter()
            .find(|(other, at)| other == name && at != cluster)
            .map(|(_, at)| at.as_str())
    };
    let mut reached = Vec::new();
    for ((name, cluster), [before, after]) in pairs {
        let mut notes = Vec::new();
        let change = match (&before, &after) {
            (Some(before), Some(after)) => {
                let fields = changed(before, after);
                if fields.is_empty() && same_files(files, (&old, before), (&new, after))? {
                    continue;
                }
                if !fields.is_empty() {
                    notes.push(format!("its declaration changes: {}", fields.join(", ")));
                }
                if fields.is_empty() {
                    ApplicationChange::Files
                } else {
                    ApplicationChange::Declaration
                }
            }
            (None, _) => {
                if let Some(from) = elsewhere(&name, &cluster) {
                    notes.push(format!("it comes from cluster {from}"));
                }
                ApplicationChange::New
            }
            (Some(before), None) => {
                notes.push(match (elsewhere(&name, &cluster), broken, before.deletion) {
                    (Some(to), ..) => format!("it moves to cluster {to}; {}", stays(before.deletion)),
                    (None, true, _) => {
                        "it is not declared any more, or its declaration cannot be read; what it has applied stays meanwhile".to_owned()
                    }
                    (None, false, deletion) => format!("it is not declared any more; {}", stays(deletion)),
                });
                ApplicationChange::Gone
            }
        };
        if after.as_ref().is_some_and(|after| after.suspend) {
            notes.push("it is suspended: nothing is applied until it is resumed".to_owned());
        }
        let refusal = after.as_ref().or(before.as_ref());
        reached.push(ReachedApplication {
            refusal: refusal.and_then(tenancy::unit_refusal),
            name,
            cluster,
            before,
            after,
            change,
            notes,
        });
    }
    Ok((reached, trouble))
}

/// Describes the fate of the objects of a removed Application.
fn stays(deletion: DeletionPolicy) -> &'static str {
    match deletion {
        DeletionPolicy::Orphan => "what it has applied stays (deletionPolicy: Orphan)",
        DeletionPolicy::Delete => "what it has applied is deleted (deletionPolicy: Delete)",
    }
}

/// Returns the declared fields that differ.
fn changed(before: &Application, after: &Application) -> Vec<&'static str> {
    // Destructured, so that a new field cannot be forgotten here. The position in the file does not
    // matter.
    let Application {
        name: _,
        place: _,
        environment,
        path,
        cluster: _,
        target_namespace,
        create_namespace,
        prune,
        wait,
        timeout,
        depends_on,
        service_account,
        deletion,
        helm,
        drift,
        ignore,
        health,
        suspend,
        rights: _,
        exceeds_units: _,
    } = before;
    let fields = [
        ("environment", *environment != after.environment),
        ("path", *path != after.path),
        (
            "targetNamespace",
            *target_namespace != after.target_namespace,
        ),
        (
            "createNamespace",
            *create_namespace != after.create_namespace,
        ),
        ("prune", *prune != after.prune),
        ("wait", *wait != after.wait),
        ("timeout", *timeout != after.timeout),
        ("dependsOn", *depends_on != after.depends_on),
        (
            "serviceAccountName",
            *service_account != after.service_account,
        ),
        ("deletionPolicy", *deletion != after.deletion),
        ("helm", *helm != after.helm),
        ("drift", *drift != after.drift),
        ("ignore", *ignore != after.ignore),
        ("health", *health != after.health),
        ("suspend", *suspend != after.suspend),
    ];
    fields
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect()
}

/// Returns whether everything that either side's rendering may read is identical.
fn same_files(
    files: &RevisionFiles,
    before: (&Revision<'_>, &Application),
    after: (&Revision<'_>, &Application),
) -> Result<bool, GitError> {
    let mut paths = BTreeSet::new();
    for (revision, application) in [before, after] {
        let source = RenderSource::from(application);
        // An unreadable folder fails when it is rendered; until then its own folder counts as its
        // input.
        paths.extend(render::reads_at(files.at(revision.commit())?, &source).unwrap_or_default());
        paths.insert(source.path);
    }
    for path in paths {
        let found = |revision: &Revision<'_>| {
            Ok::<_, GitError>(revision.find(&path)?.map(|entry| (entry.kind, entry.id)))
        };
        if found(before.0)? != found(after.0)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Mistakes in declarations that were not there before. A mistake that only moved to another line
/// is none.
fn mistakes(before: &Declarations, after: &Declarations) -> Vec<PreviewTrouble> {
    let known: BTreeSet<(&str, &str)> = before
        .mistakes
        .iter()
        .map(|mistake| (mistake.place.file.as_str(), mistake.message.as_str()))
        .collect();
    let new: Vec<_> = after
        .mistakes
        .iter()
        .filter(|mistake| {
            mistake.severity == Severity::Error
                && !known.contains(&(mistake.place.file.as_str(), mistake.message.as_str()))
        })
        .collect();
    let trouble = |message: String| PreviewTrouble {
        message,
        transient: false,
    };
    let mut all: Vec<PreviewTrouble> = new
        .iter()
        .take(MISTAKES)
        .map(|mistake| trouble(text::line(&mistake.to_string())))
        .collect();
    if new.len() > MISTAKES {
        all.push(trouble(format!(
            "{} more mistakes in declarations; `tagboat check` names them",
            new.len() - MISTAKES
        )));
    }
    all
}
