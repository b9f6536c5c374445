//! What `tagboat set` did, as text and as JSON.

use super::NO_CHOICE;
use crate::{
    cli::{Screen, counted, safe, screen::Color, show},
    core::{image::ImageRef, name::Name},
    images::{
        lint::message_of,
        rewrite::{LeaveReason, LeftAlone, ScalarChange},
    },
    service::set::{SetFile, SetReport},
    spec::{Declarations, Diagnostic, Severity},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};

/// What was done, and how to say it.
pub(super) struct SetSummary<'a> {
    /// The folder.
    pub dir: &'a Path,
    /// The choices.
    pub wanted: &'a BTreeMap<Name, ImageRef>,
    /// What `-f` declares, if it was given.
    pub declared: Option<&'a Declarations>,
    /// What was done.
    pub report: &'a SetReport,
}

impl SetSummary<'_> {
    /// Every scalar that changes.
    pub fn changes(&self) -> impl Iterator<Item = (&SetFile, &ScalarChange)> {
        self.report.files.iter().flat_map(|file| {
            file.outcome
                .changes
                .iter()
                .map(move |change| (file, change))
        })
    }

    fn left(&self) -> impl Iterator<Item = (&SetFile, &LeftAlone)> {
        self.report
            .files
            .iter()
            .flat_map(|file| file.outcome.left.iter().map(move |left| (file, left)))
    }

    /// What is wrong in the files of `-f`; what they say of Environments has no bearing here, so
    /// warnings rest.
    fn mistakes(&self) -> impl Iterator<Item = &Diagnostic> {
        let all = self
            .declared
            .into_iter()
            .flat_map(|declared| &declared.mistakes);
        all.filter(|mistake| mistake.severity == Severity::Error)
    }

    /// The reason as this command means it: that a marker names another policy is no mistake where
    /// only some are given.
    fn reason(&self, left: &LeftAlone) -> (&'static str, String) {
        let not_given = match (&left.reason, self.declared) {
            (LeaveReason::UnknownPolicy, None) => true,
            (LeaveReason::NothingChosen(why), _) => why == NO_CHOICE,
            _ => false,
        };
        match (not_given, &left.policy) {
            (true, Some(policy)) => ("no-choice", format!("no choice is given for {policy}")),
            _ => (left.reason.code(), left.reason.to_string()),
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let changes = self.changes().map(|(file, change)| {
            json!({
                "file": file.path, "line": change.line, "column": change.column, "part": change.part.as_str(),
                "old": change.old, "new": change.new, "policy": change.policy, "repository": change.repository,
                "oldTag": change.old_tag, "newTag": change.new_tag, "digest": change.new_digest.as_ref().map(|digest| digest.as_str()),
                "locator": change.locator,
            })
        });
        let left = self.left().map(|(file, left)| {
            let (code, reason) = self.reason(left);
            json!({
                "file": file.path, "line": left.line, "column": left.column, "reason": reason, "code": code,
                "policy": left.policy, "repository": left.repository, "locator": left.locator,
            })
        });
        let notes = self.report.files.iter().flat_map(|file| {
            file.notes.iter().map(
                |note| json!({"file": file.path, "line": note.line, "column": note.column, "kind": note.kind, "message": message_of(note)}),
            )
        });
        let root = std::fs::canonicalize(self.dir).unwrap_or_default();
        let errors = self.report.errors.iter().map(|error| {
            let file = error.path.strip_prefix(&root).unwrap_or(&error.path);
            json!({"file": file.display().to_string(), "message": error.to_string()})
        });
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "left": left.collect::<Vec<_>>(),
            "notes": notes.collect::<Vec<_>>(),
            "mistakes": self.mistakes().collect::<Vec<_>>(),
            "errors": errors.collect::<Vec<_>>(),
        })
    }

    /// For people: what changes, or the `diff`; then what does not and why. `dry`: nothing was
    /// written.
    pub fn print(&self, diff: bool, dry: bool, screen: &mut Screen) {
        if diff {
            for file in &self.report.files {
                if let Some((before, after)) = &file.bytes {
                    show::diff(&file.path, before, after, screen);
                }
            }
        } else {
            for (file, change) in self.changes() {
                let place = screen.paint(
                    Color::Cyan,
                    format_args!("{}:{}:{}", safe(&file.path), change.line, change.column),
                );
                let new = screen.paint(Color::Green, &change.new);
                screen.line(format_args!(
                    "{place}: {} → {new} ({})",
                    safe(&change.old),
                    change.policy
                ));
            }
        }
        // What nobody asked for, and what is well.
        let quiet = |code: &str| {
            matches!(
                code,
                "no-policy" | "no-choice" | "markers-only" | "up-to-date"
            )
        };
        let mut pinned = false;
        for (file, left) in self.left() {
            let (code, reason) = self.reason(left);
            if !quiet(code) {
                pinned |= left.reason == LeaveReason::NeedsDigest;
                let place = screen.paint(
                    Color::Cyan,
                    format_args!("{}:{}:{}", safe(&file.path), left.line, left.column),
                );
                screen.note(format_args!("left alone: {place}: {reason}"));
            }
        }
        for file in &self.report.files {
            for note in &file.notes {
                let place = screen.paint(
                    Color::Cyan,
                    format_args!("{}:{}:{}", safe(&file.path), note.line, note.column),
                );
                screen.note(format_args!("note: {place}: {}", message_of(note)));
            }
        }
        for mistake in self.mistakes() {
            screen.note(safe(&mistake.to_string()));
        }
        for error in &self.report.errors {
            screen.note(format_args!(
                "{} {}",
                screen.paint(Color::Red, "error:"),
                safe(&error.to_string())
            ));
        }
        for (name, image) in self.wanted {
            let concerns = |file: &&SetFile| {
                let outcome = &file.outcome;
                outcome.changes.iter().any(|change| change.policy == *name)
                    || outcome.left.iter().any(|left| {
                        left.policy.as_ref() == Some(name)
                            || left.repository.as_ref() == Some(&image.repository)
                    })
            };
            if !self.report.files.iter().any(|file| concerns(&file)) {
                screen.note(format_args!(
                    "note: no reference to {} and no marker for {name} was found",
                    image.repository
                ));
            }
        }
        if pinned {
            screen.note(
                "hint: give the digest, as IMAGE:TAG@DIGEST, or take digests away with --unpin",
            );
        }
        let files = self
            .report
            .files
            .iter()
            .filter(|file| !file.outcome.changes.is_empty())
            .count();
        let values = self.changes().count();
        if values == 0 {
            screen.note("nothing to change");
        } else {
            let verb = if dry { "would change" } else { "changed" };
            screen.note(format_args!(
                "{verb} {} in {}",
                counted(values, "value"),
                counted(files, "file")
            ));
        }
    }
}
