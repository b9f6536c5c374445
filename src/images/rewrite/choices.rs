//! The chosen values and the references they apply to.

use crate::{
    core::{
        image::{Digest, ImageRepository, Tag},
        name::Name,
    },
    images::references::{Reference, ReferenceOrigin},
    spec::DigestReflection,
};
use std::{collections::HashMap, fmt};

/// The choice of one policy, with the options for writing it.
pub struct RewriteDecision<'a> {
    pub policy: Name,
    pub repository: ImageRepository,
    pub tag: Tag,
    /// The digest that the tag has now; `None` while it is not known.
    pub digest: Option<Digest>,
    /// The rule for writing digests. A policy that follows the digest of a tag passes
    /// [`DigestReflection::Always`].
    pub digest_reflection: DigestReflection,
    /// True to remove the digest from pinned references.
    pub unpin: bool,
    pub allow_downgrade: bool,
    /// Compares the chosen tag with a present one (or with a present digest, if there is no tag) in
    /// the policy's order. Never called with the chosen tag itself.
    pub compare: Box<dyn Fn(&str) -> UpdateDirection + Send + Sync + 'a>,
}

/// The position of a chosen tag relative to a present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateDirection {
    /// The chosen one is higher.
    Newer,
    Equal {
        /// True if the registry still lists the present tag.
        listed: bool,
    },
    /// The chosen one is lower.
    Lower,
    /// The present one has no place in the order.
    Unorderable,
}

/// All choices that apply to a file.
#[derive(Debug)]
pub struct Choices<'a> {
    entries: Vec<ChoiceEntry<'a>>,
    by_name: HashMap<Name, usize>,
    by_repository: HashMap<ImageRepository, Vec<usize>>,
    automatic: bool,
}

#[derive(Debug)]
enum ChoiceEntry<'a> {
    Decision(RewriteDecision<'a>),
    Nothing { policy: Name, reason: String },
}

/// The choices that apply to one reference.
#[derive(Debug)]
pub enum MatchingChoices<'c, 'a> {
    One(&'c RewriteDecision<'a>),
    /// The policy chose nothing.
    Nothing {
        policy: &'c Name,
        reason: &'c str,
    },
    /// Several policies are for its repository, and no marker says which counts.
    Several(Vec<&'c Name>),
    /// The marker names a policy that does not exist here.
    UnknownPolicy(&'c Name),
    /// A policy is for it, but only markers count.
    MarkersOnly,
    NoPolicy,
}

impl<'a> Choices<'a> {
    /// No choices yet; `automatic` says whether references without a marker count (`references:
    /// auto`).
    pub fn new(automatic: bool) -> Self {
        Self {
            entries: vec![],
            by_name: HashMap::new(),
            by_repository: HashMap::new(),
            automatic,
        }
    }

    /// Adds a decision. One policy decides once: a second one of its name replaces what its marker
    /// finds.
    pub fn add(&mut self, decision: RewriteDecision<'a>) {
        let (policy, repository) = (decision.policy.clone(), decision.repository.clone());
        self.insert(policy, Some(repository), ChoiceEntry::Decision(decision));
    }

    /// Adds a policy without a choice, so that its references are left alone with `reason`. Without
    /// a repository it takes no part in automatic references (a policy of another environment).
    pub fn add_nothing(
        &mut self,
        policy: Name,
        repository: Option<ImageRepository>,
        reason: impl Into<String>,
    ) {
        self.insert(
            policy.clone(),
            repository,
            ChoiceEntry::Nothing {
                policy,
                reason: reason.into(),
            },
        );
    }

    fn insert(
        &mut self,
        policy: Name,
        repository: Option<ImageRepository>,
        entry: ChoiceEntry<'a>,
    ) {
        self.by_name.insert(policy, self.entries.len());
        if let Some(repository) = repository {
            self.by_repository
                .entry(repository)
                .or_default()
                .push(self.entries.len());
        }
        self.entries.push(entry);
    }

    /// The repositories that automatic references are looked for; none where only markers count.
    pub fn repositories(&self) -> impl Iterator<Item = &ImageRepository> {
        self.by_repository.keys().filter(|_| self.automatic)
    }

    /// Returns the choices for `reference`: by the policy its marker names, else by its repository.
    pub fn matching<'c>(&'c self, reference: &'c Reference) -> MatchingChoices<'c, 'a> {
        let found = match &reference.why {
            ReferenceOrigin::Marker { policy, .. } => match self.by_name.get(policy) {
                Some(&index) => index,
                None => return MatchingChoices::UnknownPolicy(policy),
            },
            ReferenceOrigin::ImageField | ReferenceOrigin::Kustomize | ReferenceOrigin::Helm => {
                let all = reference
                    .repository
                    .as_ref()
                    .and_then(|repository| self.by_repository.get(repository));
                match all.map(Vec::as_slice) {
                    None | Some([]) => return MatchingChoices::NoPolicy,
                    Some(_) if !self.automatic => return MatchingChoices::MarkersOnly,
                    Some(&[index]) => index,
                    Some(several) => {
                        return MatchingChoices::Several(
                            several
                                .iter()
                                .map(|&index| self.entries[index].policy())
                                .collect(),
                        );
                    }
                }
            }
        };
        match &self.entries[found] {
            ChoiceEntry::Decision(decision) => MatchingChoices::One(decision),
            ChoiceEntry::Nothing { policy, reason } => MatchingChoices::Nothing { policy, reason },
        }
    }
}

impl ChoiceEntry<'_> {
    fn policy(&self) -> &Name {
        match self {
            ChoiceEntry::Decision(decision) => &decision.policy,
            ChoiceEntry::Nothing { policy, .. } => policy,
        }
    }
}

impl fmt::Debug for RewriteDecision<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}:{}", self.policy, self.repository, self.tag)
    }
}
