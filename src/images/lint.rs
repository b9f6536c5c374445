//! What is wrong in a repository beside the declarations themselves: markers that belong to
//! nothing, files that cannot be read, policies nobody uses, files of two Environments. Nothing is
//! ignored silently.

use crate::{
    images::references::{Note, NoteKind, ReferenceOrigin},
    spec::{Declarations, Diagnostic, Environment, ReferenceScope, Severity, SourcePlace},
    update::{EnvironmentScope, ReferencedFile, concerns},
};
use std::collections::BTreeSet;

/// Everything that is wrong with the declarations and `files` of one state of a repository, and
/// what belongs to each Environment there. A pass and `tagboat check` both ask this, so that they
/// say the same.
pub fn find<'w>(
    declared: &'w Declarations,
    files: &'w [ReferencedFile],
) -> (Vec<EnvironmentScope<'w>>, Vec<Diagnostic>) {
    let mut findings = of_files(declared, files);
    let shared = overlaps(declared, files, &mut findings);
    let locals: Vec<EnvironmentScope<'_>> = declared
        .environments
        .values()
        .map(|environment| EnvironmentScope::new(declared, files, environment, &shared))
        .collect();
    findings.extend(unused(declared, files, &locals));
    (locals, findings)
}

/// What the declarations and the notes of the files say.
fn of_files(declared: &Declarations, files: &[ReferencedFile]) -> Vec<Diagnostic> {
    let mut all = declared.mistakes.clone();
    // A declaration that cannot be read was reported as that.
    let unread: BTreeSet<&str> = declared
        .mistakes
        .iter()
        .map(|mistake| mistake.place.file.as_str())
        .collect();
    let said = |file: &str, note: &Note| {
        matches!(note.kind, NoteKind::Unparsable | NoteKind::NotUtf8) && unread.contains(file)
    };
    for file in files {
        all.extend(
            file.findings
                .notes
                .iter()
                .filter(|note| !said(&file.path, note))
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

/// A note as a finding. What tagboat only declines to edit is a warning; what somebody has written
/// wrongly an error.
fn of_note(file: &str, note: &Note) -> Diagnostic {
    let severity = match note.kind {
        NoteKind::Unparsable | NoteKind::BadMarker | NoteKind::LostMarker | NoteKind::NotUtf8 => {
            Severity::Error
        }
        NoteKind::LfsPointer
        | NoteKind::Encrypted
        | NoteKind::Template
        | NoteKind::Alias
        | NoteKind::DoubledKey => Severity::Warning,
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

/// What a note says where it stands alone: what the parser expected means little without the word
/// YAML.
pub fn message_of(note: &Note) -> String {
    match note.kind {
        NoteKind::Unparsable => format!("not YAML: {}", note.message),
        _ => note.message.clone(),
    }
}

/// The files that several Environments claim, so that none of them may write there. Imported
/// automations may share files with each other: their markers decide.
fn overlaps(
    declared: &Declarations,
    files: &[ReferencedFile],
    findings: &mut Vec<Diagnostic>,
) -> BTreeSet<String> {
    let mut shared = BTreeSet::new();
    let mut said: BTreeSet<(&str, &str)> = BTreeSet::new();
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
            if said.insert((&pair[0].name, &pair[1].name)) {
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

/// Policies and Environments that have nothing to do.
fn unused(
    declared: &Declarations,
    files: &[ReferencedFile],
    locals: &[EnvironmentScope<'_>],
) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for policy in declared.policies.values() {
        if policy.suspend
            || locals
                .iter()
                .any(|local| local.policies.contains_key(&policy.name))
        {
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
                let owner = locals
                    .iter()
                    .find(|local| local.environment.paths.contains(&file.path));
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
    let empty = locals
        .iter()
        .filter(|local| local.files.is_empty() && !local.environment.suspend);
    for local in empty.filter(|local| chooses(local.environment)) {
        all.push(Diagnostic {
            place: local.environment.place.clone(),
            severity: Severity::Warning,
            message: format!(
                "no file of Environment {} mentions a watched image",
                local.environment.name
            ),
        });
    }
    all
}
