//! Findings about a repository beyond the declarations themselves: markers without a policy,
//! unreadable files, unused policies, files that several Environments claim.

use super::{
    references::{Note, NoteKind, ReferenceOrigin},
    scope::{EnvironmentScope, ReferencedFile, concerns},
};
use crate::core::{image::ImageRepository, name::Name};
use crate::spec::{Declarations, Diagnostic, Environment, ReferenceScope, Severity, SourcePlace};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Returns the scope of each Environment, and all findings about the repository.
///
/// A pass and `tagboat check` share it, so that they report the same findings.
pub fn find(
    declared: &Declarations,
    files: &Arc<Vec<ReferencedFile>>,
) -> (Vec<Arc<EnvironmentScope>>, Vec<Diagnostic>) {
    let mut findings = of_files(declared, files);
    let shared = overlaps(declared, files, &mut findings);
    let scopes: Vec<Arc<EnvironmentScope>> = declared
        .environments
        .values()
        .map(|environment| Arc::new(EnvironmentScope::new(declared, files, environment, &shared)))
        .collect();
    for scope in &scopes {
        findings.extend(undecided(declared, scope));
    }
    findings.extend(unused(declared, files, &scopes));
    (scopes, bounded(findings))
}

/// Findings of one repository; the others are counted.
const MAX_FINDINGS: usize = 2_000;

/// The end of the finding that counts those left out.
const LEFT_OUT: &str = "further findings are left out: correct those before it first";

/// Keeps the first findings, and counts the others at the place of the first of them.
fn bounded(mut findings: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if findings.len() <= MAX_FINDINGS {
        return findings;
    }
    let left_out = findings.split_off(MAX_FINDINGS);
    let is_error = |finding: &Diagnostic| finding.severity == Severity::Error;
    findings.push(Diagnostic {
        place: left_out[0].place.clone(),
        severity: match left_out.iter().any(is_error) {
            true => Severity::Error,
            false => Severity::Warning,
        },
        message: format!("{} {LEFT_OUT}", left_out.len()),
    });
    findings
}

/// Tells whether a finding stands for others that were left out, which may concern any file.
pub fn stands_for_others(finding: &Diagnostic) -> bool {
    finding.message.ends_with(LEFT_OUT)
}

/// Findings of the declarations, of the notes of files, and of markers without a policy.
fn of_files(declared: &Declarations, files: &[ReferencedFile]) -> Vec<Diagnostic> {
    let mut all = declared.mistakes.clone();
    // A declaration that cannot be parsed has a diagnostic already.
    let reported: BTreeSet<&str> = declared
        .mistakes
        .iter()
        .map(|mistake| mistake.place.file.as_str())
        .collect();
    for file in files {
        let is_reported = reported.contains(file.path.as_str());
        all.extend(
            file.findings
                .notes
                .iter()
                .filter(|note| {
                    let unreadable = matches!(note.kind, NoteKind::Unparsable | NoteKind::NotUtf8);
                    !(is_reported && unreadable)
                })
                .map(|note| of_note(&file.path, note)),
        );
        for reference in &file.findings.references {
            if let ReferenceOrigin::Marker {
                policy,
                line,
                column,
            } = &reference.why
                && !declared.policies.contains_key(policy)
            {
                all.push(Diagnostic {
                    place: SourcePlace {
                        file: file.path.clone(),
                        line: *line as usize,
                        column: *column as usize,
                    },
                    severity: Severity::Error,
                    message: format!("the marker names the policy {policy}, which is not declared"),
                });
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

/// Converts a note: a warning for what tagboat declines to edit, an error for what is written
/// wrongly.
fn of_note(file: &str, note: &Note) -> Diagnostic {
    let severity = match note.kind {
        NoteKind::Unparsable
        | NoteKind::BadMarker
        | NoteKind::LostMarker
        | NoteKind::NotUtf8
        | NoteKind::TooMany => Severity::Error,
        NoteKind::LfsPointer
        | NoteKind::Encrypted
        | NoteKind::Template
        | NoteKind::MarkerInText
        | NoteKind::Alias
        | NoteKind::DoubledKey
        | NoteKind::Unmanaged => Severity::Warning,
    };
    let place = SourcePlace {
        file: file.to_owned(),
        line: note.line as usize,
        column: note.column as usize,
    };
    Diagnostic {
        place,
        severity,
        message: message_of(note),
    }
}

/// Returns the message of a note for use on its own.
///
/// A parser's message is only understood beside the word YAML.
pub fn message_of(note: &Note) -> String {
    match note.kind {
        NoteKind::Unparsable => format!("not YAML: {}", note.message),
        _ => note.message.clone(),
    }
}

/// Returns the files that several Environments claim, so that none of them may edit them.
///
/// Imported automations may share files with each other: their markers decide.
fn overlaps(
    declared: &Declarations,
    files: &[ReferencedFile],
    findings: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    let mut shared = BTreeSet::new();
    let mut reported: BTreeSet<(&str, &str)> = BTreeSet::new();
    for file in files
        .iter()
        .filter(|file| !file.findings.references.is_empty())
    {
        let owners: Vec<_> = declared
            .environments
            .values()
            .filter(|environment| environment.paths.contains(&file.path))
            .collect();
        if owners.len() < 2 || owners.iter().all(|environment| environment.imported) {
            continue;
        }
        shared.insert(file.path.clone());
        for pair in owners.windows(2) {
            if reported.insert((&pair[0].name, &pair[1].name)) {
                findings.push(Diagnostic {
                    place: pair[1].place.clone(),
                    severity: Severity::Error,
                    message: format!(
                        "Environments {} and {} both claim {}; files of two Environments are not edited (narrow paths, or exclude with '!')",
                        pair[0].name, pair[1].name, file.path
                    ),
                });
            }
        }
    }
    shared
}

/// References of an Environment that several policies are for, without a marker that decides.
fn undecided(declared: &Declarations, scope: &EnvironmentScope) -> Vec<Diagnostic> {
    let environment = &scope.environment;
    if environment.references != ReferenceScope::Auto || environment.suspend {
        return Vec::new();
    }
    let mut by_image: BTreeMap<&ImageRepository, Vec<&Name>> = BTreeMap::new();
    for policy in declared.policies.values() {
        if environment.selects(policy) {
            by_image
                .entry(&policy.image)
                .or_default()
                .push(&policy.name);
        }
    }
    by_image.retain(|_, names| names.len() > 1);
    if by_image.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for file in scope.files() {
        for reference in &file.findings.references {
            let several = reference
                .repository
                .as_ref()
                .filter(|_| reference.policy().is_none())
                .and_then(|image| Some((image, by_image.get(image)?)));
            if let Some((image, names)) = several {
                let (line, column) = reference.line_column();
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                all.push(Diagnostic {
                    place: SourcePlace {
                        file: file.path.clone(),
                        line: line as usize,
                        column: column as usize,
                    },
                    severity: Severity::Error,
                    message: format!(
                        "several policies of Environment {} are for {image} ({}): write a marker for one of them",
                        environment.name,
                        names.join(", ")
                    ),
                });
            }
        }
    }
    all
}

/// Findings of policies and Environments that have nothing to do.
fn unused(
    declared: &Declarations,
    files: &[ReferencedFile],
    scopes: &[Arc<EnvironmentScope>],
) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for policy in declared.policies.values() {
        let is_used = scopes
            .iter()
            .any(|scope| scope.policies.contains_key(&policy.name));
        if policy.suspend || is_used {
            continue;
        }
        let elsewhere = files.iter().find(|file| {
            file.findings
                .references
                .iter()
                .any(|reference| concerns(reference, policy))
        });
        let why = match elsewhere {
            None => format!("nothing refers to {} or has a marker for it", policy.image),
            Some(file) => {
                let owner = scopes
                    .iter()
                    .find(|scope| scope.environment.paths.contains(&file.path));
                match owner {
                    None => format!("{} refers to it and belongs to no Environment", file.path),
                    Some(owner) if !owner.environment.selects(policy) => {
                        format!(
                            "{} refers to it, but Environment {} does not select it",
                            file.path, owner.environment.name
                        )
                    }
                    Some(owner) if owner.environment.references == ReferenceScope::Markers => {
                        format!(
                            "{} refers to it without a marker, and Environment {} goes by markers",
                            file.path, owner.environment.name
                        )
                    }
                    Some(owner) => format!(
                        "{} of Environment {} is not edited",
                        file.path, owner.environment.name
                    ),
                }
            }
        };
        all.push(Diagnostic {
            place: policy.place.clone(),
            severity: Severity::Warning,
            message: format!("ImagePolicy {} has nothing to update: {why}", policy.name),
        });
    }
    // An Environment of Applications alone has no images to mention.
    let chooses = |environment: &Environment| {
        declared
            .policies
            .values()
            .any(|policy| environment.selects(policy))
    };
    let empty = scopes
        .iter()
        .filter(|scope| scope.is_empty() && !scope.environment.suspend);
    for scope in empty.filter(|scope| chooses(&scope.environment)) {
        all.push(Diagnostic {
            place: scope.environment.place.clone(),
            severity: Severity::Warning,
            message: format!(
                "no file of Environment {} mentions a watched image",
                scope.environment.name
            ),
        });
    }
    all
}
