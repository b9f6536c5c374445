//! The decision of a policy.

use crate::{core::name::Name, images::policy::Chosen};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The outcome of a policy in a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyDecision {
    Chosen(Chosen),
    Nothing {
        reason: String,
        /// The time at which the first tag that is only too young becomes old enough.
        free_at: Option<Timestamp>,
    },
}

/// Decisions of each policy of an Environment.
pub(crate) type Decisions = BTreeMap<Name, PolicyDecision>;

impl PolicyDecision {
    /// A decision for nothing, with a reason that does not end by itself.
    pub fn nothing(reason: impl Into<String>) -> Self {
        PolicyDecision::Nothing {
            reason: reason.into(),
            free_at: None,
        }
    }
}
