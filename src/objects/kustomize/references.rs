//! References to names that have changed, brought up to date.

use super::{
    field_spec::{FieldSpec, Made},
    node::{Fields, Node},
    problem::Problem,
    reference_table::{REFERENCES, Reference},
    resource::{ObjectId, Resource, Resources, sure_text},
    source::Source,
};
use std::collections::{HashMap, HashSet};

/// The facts about a resource that others may refer to.
struct Referent {
    id: ObjectId,
    namespace: String,
    original_namespace: String,
    former: Vec<ObjectId>,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
}

/// Resources that may have another name now, by the names that they had.
struct Referents {
    all: Vec<Referent>,
    /// The most resources that had one name.
    largest: usize,
    by_former: HashMap<String, Vec<usize>>,
}

/// Updates the names in all resources.
pub(super) fn update(resources: &mut Resources, source: &Source<'_>) -> Result<(), Problem> {
    let targets = Referents::of(resources);
    for resource in &mut resources.0 {
        let original = resource.original_id();
        let referrer = Referrer::of(resource)?;
        let origin = resource.origin.clone();
        for reference in REFERENCES.iter() {
            if !original.is_selected(reference.group, reference.version, reference.kind) {
                continue;
            }
            let spec = FieldSpec {
                group: "",
                version: "",
                kind: "",
                path: &reference.path,
                create: false,
            };
            spec.edit(resource, Made::Nothing, &mut |node| {
                source.work(targets.largest)?;
                targets.update(node, &referrer, reference)
            })
            .map_err(|problem| problem.of(&referrer.id).at(&origin))?;
        }
    }
    Ok(())
}

/// The resource whose references are updated.
struct Referrer {
    id: ObjectId,
    prefixes: Vec<String>,
    suffixes: Vec<String>,
    /// Of a RoleBinding: the namespaces of its ServiceAccounts.
    namespaces: HashSet<String>,
    /// Of a binding: group and kind of its role.
    role: Option<(String, String)>,
}

impl Referrer {
    fn of(resource: &Resource) -> Result<Self, Problem> {
        let mut namespaces = HashSet::new();
        if resource.kind() == "RoleBinding" {
            let subjects = resource.fields.get("subjects").and_then(Node::as_list);
            for subject in subjects.unwrap_or_default() {
                let Some(namespace) = subject.get("namespace") else {
                    continue;
                };
                if subject.get("kind").and_then(Node::as_string) != Some("ServiceAccount") {
                    continue;
                }
                let Some(namespace) = namespace.as_string() else {
                    return Err(Problem::refused("the namespace of a subject is no text"));
                };
                namespaces.insert(namespace.to_owned());
            }
        }
        let role = |field: &str| {
            let value = resource.fields.get("roleRef")?.get(field)?;
            Some(value.compared().to_owned())
        };
        Ok(Self {
            id: resource.id(),
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
            namespaces,
            role: role("apiGroup").zip(role("kind")),
        })
    }
}

impl Referents {
    fn of(resources: &Resources) -> Self {
        let mut by_former: HashMap<String, Vec<usize>> = HashMap::new();
        let mut all = Vec::with_capacity(resources.0.len());
        for (at, resource) in resources.0.iter().enumerate() {
            let former: Vec<ObjectId> = resource.former_ids().collect();
            let names: HashSet<&str> = former.iter().map(|id| id.name.as_str()).collect();
            for name in names {
                by_former.entry(name.to_owned()).or_default().push(at);
            }
            all.push(Referent {
                id: resource.id(),
                namespace: resource.namespace().to_owned(),
                original_namespace: resource.original_id().effective_namespace().to_owned(),
                former,
                prefixes: resource.prefixes.clone(),
                suffixes: resource.suffixes.clone(),
            });
        }
        let largest = by_former.values().map(Vec::len).max().unwrap_or(0);
        Self {
            all,
            largest,
            by_former,
        }
    }

    fn update(
        &self,
        node: &mut Node,
        referrer: &Referrer,
        reference: &Reference,
    ) -> Result<(), Problem> {
        match node {
            Node::Null { .. } => Ok(()),
            Node::Scalar(_) => self.update_text(node, referrer, reference),
            Node::Map(fields) => self.update_map(fields, referrer, reference),
            Node::List(items) => {
                for item in items {
                    match item {
                        Node::Null { .. } => {}
                        Node::Scalar(_) => self.update_text(item, referrer, reference)?,
                        Node::Map(fields) => self.update_map(fields, referrer, reference)?,
                        Node::List(_) => {
                            return Err(Problem::refused("a list stands where a name is expected"));
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn update_text(
        &self,
        node: &mut Node,
        referrer: &Referrer,
        reference: &Reference,
    ) -> Result<(), Problem> {
        let old = node.compared();
        let candidates = self.named(old, referrer);
        let same = |one: &Referent, other: &Referent| one.id.name == other.id.name;
        if let Some(target) = self.select(candidates, referrer, reference, same)?
            && target.id.name != old
        {
            *node = sure_text(&target.id.name)?;
        }
        Ok(())
    }

    /// Updates a mapping with a name and perhaps a namespace.
    fn update_map(
        &self,
        fields: &mut Fields,
        referrer: &Referrer,
        reference: &Reference,
    ) -> Result<(), Problem> {
        let Some(name) = fields.get("name") else {
            return Err(Problem::refused("there is no name"));
        };
        let old = name.compared().to_owned();
        let mut candidates = self.named(&old, referrer);
        if let Some(namespace) = fields.get("namespace") {
            let namespace = namespace.compared();
            // The namespaces of all that could be meant decide which of the two counts.
            let is_original = self.all.iter().any(|target| {
                could_refer(referrer, target) && target.original_namespace == namespace
            });
            candidates.retain(|target| match is_original {
                true => target.original_namespace == namespace,
                false => {
                    !target.id.is_cluster_scoped && target.id.effective_namespace() == namespace
                }
            });
        }
        let same = |one: &Referent, other: &Referent| {
            one.id.name == other.id.name && one.namespace == other.namespace
        };
        let Some(target) = self.select(candidates, referrer, reference, same)? else {
            return Ok(());
        };
        if target.id.name == old && target.namespace.is_empty() {
            return Ok(());
        }
        fields.set("name", sure_text(&target.id.name)?);
        if !target.namespace.is_empty() {
            fields.set("namespace", sure_text(&target.namespace)?);
        }
        Ok(())
    }

    /// Returns the resources that were called so and that the referrer could mean.
    fn named(&self, name: &str, referrer: &Referrer) -> Vec<&Referent> {
        self.by_former
            .get(name)
            .into_iter()
            .flatten()
            .map(|at| &self.all[*at])
            .filter(|target| could_refer(referrer, target))
            .collect()
    }

    fn select<'t>(
        &'t self,
        mut candidates: Vec<&'t Referent>,
        referrer: &Referrer,
        reference: &Reference,
        same: impl Fn(&Referent, &Referent) -> bool,
    ) -> Result<Option<&'t Referent>, Problem> {
        candidates.retain(|target| {
            target.former.iter().any(|id| {
                id.is_selected(
                    reference.target_group,
                    reference.target_version,
                    reference.target_kind,
                )
            })
        });
        if let (true, Some((group, kind))) =
            (reference.path.ends_with("roleRef/name"), &referrer.role)
        {
            candidates.retain(|target| {
                target
                    .former
                    .iter()
                    .any(|id| id.is_selected(group, "", kind))
            });
        }
        candidates.retain(|target| {
            referrer.id.is_cluster_scoped
                || target.id.is_cluster_scoped
                || target.id.kind == "ServiceAccount"
                || referrer.id.effective_namespace() == target.id.effective_namespace()
        });
        if let [target] = candidates.as_slice() {
            return Ok(Some(target));
        }
        candidates.retain(|target| has_same_affixes(target, referrer, true));
        if candidates.len() > 1 {
            candidates.retain(|target| has_same_affixes(target, referrer, false));
        }
        let Some((first, rest)) = candidates.split_first() else {
            return Ok(None);
        };
        if rest.iter().all(|other| same(first, other)) {
            Ok(Some(first))
        } else {
            Err(Problem::refused(format!(
                "more than one {} may be meant by {}",
                reference.target_kind, reference.path
            )))
        }
    }
}

fn could_refer(referrer: &Referrer, target: &Referent) -> bool {
    referrer.id.is_cluster_scoped
        || target.id.is_cluster_scoped
        || target.id.effective_namespace() == referrer.id.effective_namespace()
        || referrer.namespaces.contains(&target.namespace)
}

fn has_same_affixes(target: &Referent, referrer: &Referrer, allow_none: bool) -> bool {
    let same = |one: &[String], other: &[String]| {
        let none = one.is_empty() || other.is_empty();
        match none {
            true => allow_none || one.len() == other.len(),
            false => {
                let count = one.len().min(other.len());
                one[one.len() - count..] == other[other.len() - count..]
            }
        }
    };
    same(&target.prefixes, &referrer.prefixes) && same(&target.suffixes, &referrer.suffixes)
}
