//! Why a reference is left alone.

use crate::{
    image::{Repository, shown},
    name::Name,
};
use std::fmt;

/// Why a reference is left alone. Displayed as a clause for people; [`Reason::code`] is for
/// programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// It says what was chosen already.
    UpToDate,
    /// Its version equals the chosen one in the policy's order and is still listed.
    EqualVersion {
        /// The present tag.
        present: String,
    },
    /// The chosen version is lower.
    Downgrade {
        /// The present tag.
        present: String,
        /// The chosen tag.
        chosen: String,
    },
    /// The policy has no place for the present value in its order.
    Unorderable {
        /// The present tag or digest.
        present: String,
    },
    /// The repository that stands there is not the policy's.
    Foreign {
        /// What stands there.
        present: Repository,
        /// The policy's.
        policy: Repository,
    },
    /// The repository is to be written beside a registry of another name, which has no marker.
    ForeignRegistry {
        /// The registry that stands there.
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
    /// No policy is for this repository.
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

impl Reason {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::UpToDate => "up-to-date",
            Reason::EqualVersion { .. } => "equal-version",
            Reason::Downgrade { .. } => "downgrade",
            Reason::Unorderable { .. } => "unorderable",
            Reason::Foreign { .. } => "foreign-repository",
            Reason::ForeignRegistry { .. } => "foreign-registry",
            Reason::NeedsDigest => "needs-digest",
            Reason::PinnedByKey => "pinned-by-key",
            Reason::EmptyTag => "empty-tag",
            Reason::NoTag => "no-tag",
            Reason::NotAReference => "not-a-reference",
            Reason::NoPolicy => "no-policy",
            Reason::UnknownPolicy => "unknown-policy",
            Reason::SeveralPolicies(_) => "several-policies",
            Reason::MarkersOnly => "markers-only",
            Reason::NothingChosen(_) => "nothing-chosen",
            Reason::Unwritable => "unwritable",
            Reason::Overlap => "overlap",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::UpToDate => f.write_str("it is up to date"),
            Reason::EqualVersion { present } => write!(
                f,
                "{} equals the chosen version and is still listed",
                shown(present)
            ),
            Reason::Downgrade { present, chosen } => {
                write!(f, "the chosen {chosen} is lower than {}", shown(present))
            }
            Reason::Unorderable { present } => {
                write!(
                    f,
                    "the policy cannot order the present value {}; a marker would say to replace it",
                    shown(present)
                )
            }
            Reason::Foreign { present, policy } => write!(
                f,
                "the repository here is {present}, the policy's is {policy}"
            ),
            Reason::ForeignRegistry { present } => write!(
                f,
                "the registry beside it is {}, not the policy's",
                shown(present)
            ),
            Reason::NeedsDigest => f.write_str("the digest of the chosen tag is not known"),
            Reason::PinnedByKey => {
                f.write_str("it is pinned by a digest in a key of its own, which is not removed")
            }
            Reason::EmptyTag => f.write_str("its tag is empty"),
            Reason::NoTag => f.write_str("it has neither a tag nor a digest"),
            Reason::NotAReference => f.write_str(
                "it is no image reference and does not hold exactly one of the policy's repository",
            ),
            Reason::NoPolicy => f.write_str("no policy is for this repository"),
            Reason::UnknownPolicy => {
                f.write_str("the marker names a policy that does not exist here")
            }
            Reason::SeveralPolicies(names) => {
                let names: Vec<_> = names.iter().map(Name::to_string).collect();
                write!(
                    f,
                    "several policies are for this repository ({}): a marker must say which",
                    names.join(", ")
                )
            }
            Reason::MarkersOnly => f.write_str("only marked references are edited here"),
            Reason::NothingChosen(why) => write!(f, "the policy chose nothing: {why}"),
            Reason::Unwritable => f.write_str("the new value cannot be written in this place"),
            Reason::Overlap => f.write_str("another reference edits the same value"),
        }
    }
}
