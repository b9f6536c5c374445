//! Reasons to leave a reference alone.

use crate::core::{
    image::{ImageRepository, shown},
    name::Name,
};
use std::fmt;

/// The reason to leave a reference alone. Displayed as a clause; [`LeaveReason::code`] is for
/// programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaveReason {
    /// The reference already has the chosen value.
    UpToDate,
    /// The version equals the chosen one in the policy's order and is still listed.
    EqualVersion {
        present: String,
    },
    /// The chosen version is lower.
    Downgrade {
        present: String,
        chosen: String,
    },
    /// The policy has no place for the present value in its order.
    Unorderable {
        /// The present tag or digest.
        present: String,
    },
    /// The repository in the file is not the policy's.
    Foreign {
        present: ImageRepository,
        policy: ImageRepository,
    },
    /// The repository would be written beside a different registry that has no marker.
    ForeignRegistry {
        present: String,
    },
    /// The choice's digest is needed (the reference is pinned, or the policy pins) and not known
    /// yet.
    NeedsDigest,
    /// A digest in a key of its own cannot be taken away without removing the key.
    PinnedByKey,
    /// The tag is empty: something else decides, as a chart's own version.
    EmptyTag,
    /// There is no tag and no digest, so that everything here follows the default tag or another
    /// key.
    NoTag,
    /// The scalar is no image reference and does not hold exactly one of the policy's repository.
    NotAReference,
    /// The scalar of a tag has other text in it, and not exactly one piece that looks like a tag.
    NotATag,
    NoPolicy,
    /// The marker names a policy that does not exist here.
    UnknownPolicy,
    /// Several policies are for this repository and no marker says which counts.
    SeveralPolicies(Vec<Name>),
    /// Only marked references are edited here.
    MarkersOnly,
    /// The policy chose nothing, and why.
    NothingChosen(String),
    /// The new text cannot be written in the scalar's place (the file is another one than the
    /// reference was found in, or the scalar spans lines).
    Unwritable,
    /// Another reference edits the same scalar.
    Overlap,
}

impl LeaveReason {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            LeaveReason::UpToDate => "up-to-date",
            LeaveReason::EqualVersion { .. } => "equal-version",
            LeaveReason::Downgrade { .. } => "downgrade",
            LeaveReason::Unorderable { .. } => "unorderable",
            LeaveReason::Foreign { .. } => "foreign-repository",
            LeaveReason::ForeignRegistry { .. } => "foreign-registry",
            LeaveReason::NeedsDigest => "needs-digest",
            LeaveReason::PinnedByKey => "pinned-by-key",
            LeaveReason::EmptyTag => "empty-tag",
            LeaveReason::NoTag => "no-tag",
            LeaveReason::NotAReference => "not-a-reference",
            LeaveReason::NotATag => "not-a-tag",
            LeaveReason::NoPolicy => "no-policy",
            LeaveReason::UnknownPolicy => "unknown-policy",
            LeaveReason::SeveralPolicies(_) => "several-policies",
            LeaveReason::MarkersOnly => "markers-only",
            LeaveReason::NothingChosen(_) => "nothing-chosen",
            LeaveReason::Unwritable => "unwritable",
            LeaveReason::Overlap => "overlap",
        }
    }
}

impl fmt::Display for LeaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeaveReason::UpToDate => f.write_str("it is up to date"),
            LeaveReason::EqualVersion { present } => write!(
                f,
                "{} equals the chosen version and is still listed",
                shown(present)
            ),
            LeaveReason::Downgrade { present, chosen } => {
                write!(f, "the chosen {chosen} is lower than {}", shown(present))
            }
            LeaveReason::Unorderable { present } => {
                write!(
                    f,
                    "the policy cannot order the present value {}; a marker would say to replace it",
                    shown(present)
                )
            }
            LeaveReason::Foreign { present, policy } => write!(
                f,
                "the repository here is {present}, the policy's is {policy}"
            ),
            LeaveReason::ForeignRegistry { present } => write!(
                f,
                "the registry beside it is {}, not the policy's",
                shown(present)
            ),
            LeaveReason::NeedsDigest => f.write_str("the digest of the chosen tag is not known"),
            LeaveReason::PinnedByKey => {
                f.write_str("it is pinned by a digest in a key of its own, which is not removed")
            }
            LeaveReason::EmptyTag => f.write_str("its tag is empty"),
            LeaveReason::NoTag => f.write_str("it has neither a tag nor a digest"),
            LeaveReason::NotAReference => f.write_str(
                "it is no image reference and does not hold exactly one of the policy's repository",
            ),
            LeaveReason::NotATag => {
                f.write_str("it is no tag and does not hold exactly one piece that looks like one")
            }
            LeaveReason::NoPolicy => f.write_str("no policy is for this repository"),
            LeaveReason::UnknownPolicy => {
                f.write_str("the marker names a policy that does not exist here")
            }
            LeaveReason::SeveralPolicies(names) => {
                let names: Vec<_> = names.iter().map(Name::to_string).collect();
                write!(
                    f,
                    "several policies are for this repository ({}): a marker must say which",
                    names.join(", ")
                )
            }
            LeaveReason::MarkersOnly => f.write_str("only marked references are edited here"),
            LeaveReason::NothingChosen(why) => write!(f, "the policy chose nothing: {why}"),
            LeaveReason::Unwritable => f.write_str("the new value cannot be written in this place"),
            LeaveReason::Overlap => f.write_str("another reference edits the same value"),
        }
    }
}
