//! The files and policies of one Environment, with the values that its files have now.

use super::{
    policy::{self, Comparison},
    references::{Findings, Reference, ReferenceOrigin},
};
use crate::{
    core::{
        image::{ImageRepository, Tag, TagList},
        name::Name,
    },
    spec::{Declarations, Environment, ImagePolicy, ReferenceScope},
};
use gix::ObjectId;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// A file with references, or with a note why references in it are not edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferencedFile {
    /// Path from the root of the repository.
    pub path: String,
    /// The content in Git; none for a file of a plain directory.
    pub blob: Option<ObjectId>,
    /// True for regular files. Links and submodules are never written.
    pub regular: bool,
    pub findings: Findings,
}

/// Leaves the files alone whose references exceed the bound of one repository.
pub(crate) fn bound_references(files: &mut [ReferencedFile]) {
    let mut before = 0;
    for file in files {
        file.findings.bound_in_repository(&mut before);
    }
}

/// The policies of an Environment that have references in its files.
///
/// It owns all it needs, so that a blocking task can take it along.
#[derive(Debug)]
pub struct EnvironmentScope {
    pub environment: Environment,
    pub policies: BTreeMap<Name, Arc<PolicyUsage>>,
    snapshot: Arc<Vec<ReferencedFile>>,
    /// Indexes into `snapshot`.
    members: Vec<usize>,
}

/// A policy with the values of its references, each value once.
#[derive(Debug, Clone)]
pub struct PolicyUsage {
    pub policy: ImagePolicy,
    pub tags: BTreeSet<String>,
    pub digests: BTreeSet<String>,
}

impl EnvironmentScope {
    /// Collects the files and policies of an Environment.
    ///
    /// `excluded` files are claimed by several Environments, so that none of them edits them.
    pub fn new(
        declared: &Declarations,
        snapshot: &Arc<Vec<ReferencedFile>>,
        environment: &Environment,
        excluded: &BTreeSet<String>,
    ) -> Self {
        let members: Vec<usize> = (0..snapshot.len())
            .filter(|index| {
                let file = &snapshot[*index];
                file.regular
                    && environment.paths.contains(&file.path)
                    && !excluded.contains(&file.path)
            })
            .collect();
        let automatic = environment.references == ReferenceScope::Auto;
        let mut by_name: HashMap<&Name, &ImagePolicy> = HashMap::new();
        let mut by_repository: HashMap<&ImageRepository, Vec<&ImagePolicy>> = HashMap::new();
        for policy in declared.policies.values() {
            if environment.selects(policy) {
                by_name.insert(&policy.name, policy);
                by_repository.entry(&policy.image).or_default().push(policy);
            }
        }
        let mut policies: BTreeMap<Name, PolicyUsage> = BTreeMap::new();
        let references = members
            .iter()
            .flat_map(|index| &snapshot[*index].findings.references);
        for reference in references {
            let marked;
            let matching: &[&ImagePolicy] = match &reference.why {
                ReferenceOrigin::Marker { policy, .. } => {
                    marked = by_name.get(policy).copied();
                    marked.as_slice()
                }
                _ if automatic => reference
                    .repository
                    .as_ref()
                    .and_then(|repository| by_repository.get(repository))
                    .map_or(&[], Vec::as_slice),
                _ => &[],
            };
            for policy in matching {
                if !policies.contains_key(&policy.name) {
                    policies.insert(policy.name.clone(), PolicyUsage::new(policy));
                }
                if let Some(usage) = policies.get_mut(&policy.name) {
                    usage.tags.extend(reference.tag());
                    usage.digests.extend(reference.digest());
                }
            }
        }
        Self {
            environment: environment.clone(),
            policies: policies
                .into_iter()
                .map(|(name, usage)| (name, Arc::new(usage)))
                .collect(),
            snapshot: Arc::clone(snapshot),
            members,
        }
    }

    /// A copy with one policy alone.
    pub fn only(&self, policy: &Name) -> Self {
        Self {
            environment: self.environment.clone(),
            policies: self
                .policies
                .iter()
                .filter(|(name, _)| *name == policy)
                .map(|(name, usage)| (name.clone(), Arc::clone(usage)))
                .collect(),
            snapshot: Arc::clone(&self.snapshot),
            members: self.members.clone(),
        }
    }

    /// The files of the Environment, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &ReferencedFile> {
        self.members.iter().map(|index| &self.snapshot[*index])
    }

    /// Tells whether the Environment has no file with references.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

impl PolicyUsage {
    fn new(policy: &ImagePolicy) -> Self {
        Self {
            policy: policy.clone(),
            tags: BTreeSet::new(),
            digests: BTreeSet::new(),
        }
    }

    /// Returns whether two policies have the same references and decide alike.
    pub fn decides_like(&self, other: &Self) -> bool {
        self.tags == other.tags
            && self.digests == other.digests
            && self.policy.decides_like(&other.policy)
    }

    /// Returns the present tags that are not in a list of all tags. Text that no tag can be is
    /// none.
    pub fn unlisted(&self, listed: &TagList) -> Vec<String> {
        self.tags
            .iter()
            .filter(|tag| Tag::new(tag.as_str()).is_ok() && !listed.contains(tag))
            .cloned()
            .collect()
    }

    /// Returns the lowest present value that the policy can order.
    ///
    /// Ages are tracked for tags above it. For a digest policy it is the digest that all references
    /// share.
    pub fn least(&self) -> Option<&str> {
        if self.policy.choice.followed().is_some() {
            return self
                .digests
                .first()
                .filter(|_| self.digests.len() == 1)
                .map(String::as_str);
        }
        self.tags
            .iter()
            .filter(|tag| policy::orders(&self.policy, tag))
            .map(String::as_str)
            .reduce(|least, tag| {
                if policy::standing(&self.policy, least, tag) == Comparison::Lower {
                    tag
                } else {
                    least
                }
            })
    }
}

/// Tells whether a reference belongs to a policy, by its marker or its repository.
pub fn concerns(reference: &Reference, policy: &ImagePolicy) -> bool {
    match &reference.why {
        ReferenceOrigin::Marker { policy: name, .. } => *name == policy.name,
        _ => reference.repository.as_ref() == Some(&policy.image),
    }
}
