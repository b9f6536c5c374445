//! The interface of a policy kind.

use super::{PolicyInput, PolicyOutcome, Refusals, RegistryFacts};
use crate::spec::{ImagePolicy, TagFilter};
use std::cmp::Ordering;

/// One kind of policy: how it chooses among tags and compares two of them.
pub(super) trait Rule {
    /// Chooses a tag, or names the facts that are missing.
    fn choose(
        &self,
        question: &PolicyInput<'_>,
        facts: &RegistryFacts<'_>,
        refusals: &mut Refusals,
    ) -> PolicyOutcome;

    /// Compares two different values. Neither need be one that the rule would choose.
    fn compare(&self, filter: &TagFilter, present: &str, chosen: &str) -> Comparison;

    /// Returns whether the rule can order this value. Kinds that do not order by text order none.
    fn orders(&self, _filter: &TagFilter, _value: &str) -> bool {
        false
    }

    /// Returns whether the filters and the rule take this tag, whatever the other conditions say.
    fn admits(&self, policy: &ImagePolicy, tag: &str) -> bool;

    /// Returns whether values are ordered by their text, without facts of the registry.
    fn orders_by_text(&self) -> bool {
        false
    }

    /// The condition as a clause that completes a sentence.
    fn wanted(&self) -> String;

    /// The kind and its parameters in short.
    fn summary(&self) -> String;
}

/// The position of a chosen value relative to a present one, in the policy's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// The chosen one comes later in the order.
    Newer,
    /// Equal in the policy's order, whatever the spelling.
    Equal,
    /// The chosen one comes earlier: writing it would be a downgrade.
    Lower,
    /// The policy cannot order the present value.
    Unorderable,
}

impl From<Ordering> for Comparison {
    /// Reads the order of a chosen value relative to a present one.
    fn from(order: Ordering) -> Self {
        match order {
            Ordering::Greater => Self::Newer,
            Ordering::Equal => Self::Equal,
            Ordering::Less => Self::Lower,
        }
    }
}
