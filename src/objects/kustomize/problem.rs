//! Reasons to leave a kustomization to the kustomize program.

use crate::objects::object::ObjectOrigin;
use std::fmt;

/// The kind of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandoverKind {
    /// A part of kustomize that is not rendered in the process.
    Unsupported,
    /// kustomize is expected to refuse it, too.
    Refused,
    /// A file could not be read; the caller knows why.
    Unreadable,
}

/// The reason why a kustomization is left to the kustomize program, and its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {why}")]
pub struct Handover {
    pub kind: HandoverKind,
    pub origin: ObjectOrigin,
    pub why: String,
}

/// A reason whose place is not known yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Problem {
    pub kind: HandoverKind,
    why: String,
    /// The place, where it is not the one that is being worked on.
    origin: Option<ObjectOrigin>,
}

impl Problem {
    pub(super) fn unsupported(why: impl Into<String>) -> Self {
        Self {
            kind: HandoverKind::Unsupported,
            why: why.into(),
            origin: None,
        }
    }

    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self {
            kind: HandoverKind::Refused,
            why: why.into(),
            origin: None,
        }
    }

    pub(super) fn unreadable() -> Self {
        Self {
            kind: HandoverKind::Unreadable,
            why: "a file cannot be read".to_owned(),
            origin: None,
        }
    }

    /// Sets the place, unless a closer one is known.
    #[must_use]
    pub(super) fn at(mut self, origin: &ObjectOrigin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    /// Adds the object that was worked on.
    #[must_use]
    pub(super) fn of(mut self, object: impl fmt::Display) -> Self {
        self.why = format!("{object}: {}", self.why);
        self
    }

    pub(super) fn into_handover(self, usual: ObjectOrigin) -> Handover {
        Handover {
            kind: self.kind,
            origin: self.origin.unwrap_or(usual),
            why: self.why,
        }
    }
}
