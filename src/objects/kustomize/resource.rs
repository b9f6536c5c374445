//! Resources and their identities: what they are called, and what they were called before.

use super::{
    node::{Fields, Node},
    problem::Problem,
    schema,
};
use crate::objects::object::ObjectOrigin;
use std::collections::BTreeSet;
use std::{collections::HashMap, fmt};

/// The namespace of cluster-scoped objects, as kustomize compares namespaces.
const NO_NAMESPACE: &str = "_non_namespaceable_";

/// The namespace of objects that name none.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// An identity of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ObjectId {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub is_cluster_scoped: bool,
}

impl ObjectId {
    /// Returns the namespace that counts where two identities are compared.
    pub(super) fn effective_namespace(&self) -> &str {
        match self.namespace.as_str() {
            _ if self.is_cluster_scoped => NO_NAMESPACE,
            "" => DEFAULT_NAMESPACE,
            namespace => namespace,
        }
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.group == other.group
            && self.version == other.version
            && self.kind == other.kind
            && self.effective_namespace() == other.effective_namespace()
    }

    /// Returns whether a kind is selected by parts that may be empty.
    pub(super) fn is_selected(&self, group: &str, version: &str, kind: &str) -> bool {
        (group.is_empty() || self.group == group)
            && (version.is_empty() || self.version == version)
            && (kind.is_empty() || self.kind == kind)
    }

    fn key(&self) -> (String, String, String, String, String) {
        (
            self.group.clone(),
            self.version.clone(),
            self.kind.clone(),
            self.name.clone(),
            self.effective_namespace().to_owned(),
        )
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match (self.is_cluster_scoped, self.namespace.as_str()) {
            (true, _) | (_, "") => write!(f, " {}", self.name),
            (_, namespace) => write!(f, " {namespace}/{}", self.name),
        }
    }
}

/// A name that a resource had.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct FormerName {
    pub name: String,
    pub namespace: String,
    pub kind: String,
}

/// The effect of a generator on a resource of the same identity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Behavior {
    #[default]
    Create,
    Replace,
    Merge,
}

/// A resource, with what kustomize remembers of it in annotations of its own.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub fields: Fields,
    pub former: Vec<FormerName>,
    pub prefixes: Vec<String>,
    pub suffixes: Vec<String>,
    /// True if its name gets the hash of its content.
    pub hashed: bool,
    pub behavior: Behavior,
    /// True if a generator made it.
    pub generated: bool,
    /// Labels and annotations that one transformer has added at several places: kustomize keeps
    /// them as one value, which changes everywhere when it changes at one place.
    pub shared: BTreeSet<String>,
    pub origin: ObjectOrigin,
}

impl Resource {
    pub(super) fn new(fields: Fields, origin: ObjectOrigin) -> Self {
        Self {
            fields,
            former: Vec::new(),
            prefixes: Vec::new(),
            suffixes: Vec::new(),
            hashed: false,
            behavior: Behavior::Create,
            generated: false,
            shared: BTreeSet::new(),
            origin,
        }
    }

    pub(super) fn kind(&self) -> &str {
        self.fields.get("kind").map_or("", Node::compared)
    }

    pub(super) fn api_version(&self) -> &str {
        self.fields.get("apiVersion").map_or("", Node::compared)
    }

    pub(super) fn name(&self) -> &str {
        self.metadata("name")
    }

    pub(super) fn namespace(&self) -> &str {
        self.metadata("namespace")
    }

    fn metadata(&self, field: &str) -> &str {
        self.fields
            .get("metadata")
            .and_then(|metadata| metadata.get(field))
            .map_or("", Node::compared)
    }

    /// Returns the present identity.
    pub(super) fn id(&self) -> ObjectId {
        let (group, version) = split_api_version(self.api_version());
        ObjectId {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: self.kind().to_owned(),
            name: self.name().to_owned(),
            namespace: self.namespace().to_owned(),
            is_cluster_scoped: schema::is_cluster_scoped(self.api_version(), self.kind()),
        }
    }

    /// Returns the identities that it had, oldest first.
    pub(super) fn former_ids(&self) -> impl Iterator<Item = ObjectId> {
        let (group, version) = split_api_version(self.api_version());
        self.former.iter().map(move |former| ObjectId {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: former.kind.clone(),
            name: former.name.clone(),
            namespace: former.namespace.clone(),
            is_cluster_scoped: false,
        })
    }

    /// Returns the first identity that it had.
    pub(super) fn original_id(&self) -> ObjectId {
        self.former_ids().next().unwrap_or_else(|| self.id())
    }

    /// Returns whether any identity is accepted.
    pub(super) fn any_id(&self, accepts: impl Fn(&ObjectId) -> bool) -> bool {
        self.former_ids().any(|id| accepts(&id)) || accepts(&self.id())
    }

    /// Remembers the present identity.
    pub(super) fn remember_id(&mut self) {
        let id = self.id();
        self.former.push(FormerName {
            namespace: id.effective_namespace().to_owned(),
            name: id.name,
            kind: id.kind,
        });
    }

    /// Returns whether kustomize keeps annotations of its own on it.
    pub(super) fn has_notes(&self) -> bool {
        !self.former.is_empty() || self.generated || !self.prefixes.is_empty()
    }

    pub(super) fn set_metadata(&mut self, field: &str, text: &str) -> Result<(), Problem> {
        let metadata = self
            .fields
            .map("metadata")
            .ok_or_else(|| Problem::refused("metadata is no mapping"))?;
        metadata.set(field, sure_text(text)?);
        Ok(())
    }

    pub(super) fn remove_metadata(&mut self, field: &str) {
        if let Some(Node::Map(metadata)) = self.fields.get_mut("metadata") {
            metadata.remove(field);
        }
    }

    /// Returns the labels or annotations, as text.
    pub(super) fn texts(&self, field: &str) -> Vec<(&str, &str)> {
        self.fields
            .get("metadata")
            .and_then(|metadata| metadata.get(field))
            .and_then(Node::as_map)
            .map(|map| {
                map.iter()
                    .map(|(name, value)| (name, value.compared()))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Makes all labels or annotations text, and drops the field if there is none.
    pub(super) fn settle_texts(&mut self, field: &str) -> Result<(), Problem> {
        let Some(Node::Map(metadata)) = self.fields.get_mut("metadata") else {
            return Ok(());
        };
        let Some(node) = metadata.get_mut(field) else {
            return Ok(());
        };
        match node {
            Node::Map(map) if !map.is_empty() => {
                for (name, value) in map.iter_mut() {
                    let Some(text) = value.as_text() else {
                        return Err(Problem::unsupported(format!(
                            "metadata.{field} has {name:?}, whose value is no text"
                        )));
                    };
                    *value = Node::text(text);
                }
            }
            _ => {
                metadata.remove(field);
            }
        }
        Ok(())
    }

    /// Checks what is expected of every resource.
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.api_version().is_empty() {
            return Err(Problem::refused("the object has no apiVersion"));
        }
        self.check_named()
    }

    /// Checks what kustomize expects of resources and patches.
    pub(super) fn check_named(&self) -> Result<(), Problem> {
        for field in ["kind", "apiVersion"] {
            let value = self.fields.get(field);
            if value.is_some_and(|value| value.as_string().is_none()) {
                return Err(Problem::unsupported(format!("{field} is no text")));
            }
        }
        if self.kind().is_empty() {
            return Err(Problem::refused("the object has no kind"));
        }
        let metadata = self.fields.get("metadata").and_then(Node::as_map);
        let name = metadata.and_then(|metadata| metadata.get("name"));
        match name {
            Some(node) if node.as_string().is_some_and(|name| !name.is_empty()) => {}
            Some(node) if node.as_text().is_some() => {
                return Err(Problem::unsupported("metadata.name is no text"));
            }
            _ => return Err(Problem::refused("the object has no metadata.name")),
        }
        let namespace = metadata.and_then(|metadata| metadata.get("namespace"));
        if namespace.is_some_and(|namespace| namespace.as_string().is_none()) {
            return Err(Problem::unsupported("metadata.namespace is no text"));
        }
        let (group, _) = split_api_version(self.api_version());
        if group == "kustomize.config.k8s.io" || group == "config.kubernetes.io" {
            return Err(Problem::unsupported(format!(
                "{} is an object of kustomize itself",
                self.kind()
            )));
        }
        let annotations = self.texts("annotations");
        annotations
            .iter()
            .try_for_each(|(name, _)| check_reserved(name))
    }

    /// Checks that no value that kustomize shares between places is changed at some of them.
    pub(super) fn check_shared(&self, changes: &Node) -> Result<(), Problem> {
        match changes.names_any(&|name| self.shared.contains(name)) {
            true => Err(changes_shared()),
            false => Ok(()),
        }
    }
}

/// Returns the reason to leave a change of a shared value to the program.
pub(super) fn changes_shared() -> Problem {
    Problem::unsupported("a label or annotation that was added at several places is changed")
}

/// Checks that a label or annotation is not one that is reserved for kustomize.
pub(super) fn check_reserved(name: &str) -> Result<(), Problem> {
    let is_reserved = name.starts_with("internal.config.kubernetes.io/")
        || name.starts_with("config.kubernetes.io/") && name != LOCAL
        || name.starts_with("config.k8s.io/")
        || name.starts_with("alpha.config.kubernetes.io/")
        || name.starts_with("kustomize.config.k8s.io/");
    match is_reserved {
        true => Err(Problem::unsupported(format!(
            "{name} is reserved for kustomize"
        ))),
        false => Ok(()),
    }
}

/// The annotation of objects that are not for the cluster.
pub(super) const LOCAL: &str = "config.kubernetes.io/local-config";

pub(super) fn split_api_version(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

/// Returns a node of a text that kustomize writes without quotes.
pub(super) fn sure_text(text: &str) -> Result<Node, Problem> {
    if super::scalar::is_sure_text(text) {
        Ok(Node::text(text))
    } else {
        Err(Problem::unsupported(
            "a key or value is read as something else than text where it has no quotes",
        ))
    }
}

/// Resources in order, no two of one present identity.
#[derive(Debug, Clone, Default)]
pub(super) struct Resources(pub Vec<Resource>);

impl Resources {
    /// Checks that no two resources have one identity.
    pub(super) fn check_unique(&self, what: &str) -> Result<(), Problem> {
        let mut seen = HashMap::with_capacity(self.0.len());
        for resource in &self.0 {
            let id = resource.id();
            if seen.insert(id.key(), ()).is_some() {
                return Err(Problem::refused(format!("{id} {what}")).at(&resource.origin));
            }
        }
        Ok(())
    }

    /// Returns the place of the only resource that has or had an identity.
    pub(super) fn find(&self, id: &ObjectId) -> Result<usize, Problem> {
        let mut found = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, resource)| resource.any_id(|other| id.is_same(other)))
            .map(|(at, _)| at);
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (None, _) => Err(Problem::refused(format!("there is no {id} to change"))),
            _ => Err(Problem::refused(format!("more than one object is {id}"))),
        }
    }
}
