//! The fields of a kustomization, and their places.

use super::{field_spec::FieldSpec, problem::Problem};
use crate::{
    core::yaml,
    objects::{manifest::printed_yaml, object::ObjectOrigin},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Fields that are left to the program, with what they are.
const UNSUPPORTED: [(&str, &str); 10] = [
    ("generators", "generator plugins are run by kustomize"),
    ("transformers", "transformer plugins are run by kustomize"),
    ("validators", "validator plugins are run by kustomize"),
    (
        "configurations",
        "transformer configurations are read by kustomize",
    ),
    (
        "crds",
        "references that CRDs declare are followed by kustomize",
    ),
    ("openapi", "a schema of its own is read by kustomize"),
    ("vars", "variables are substituted by kustomize"),
    ("helmCharts", "charts are inflated by kustomize"),
    ("helmGlobals", "charts are inflated by kustomize"),
    (
        "helmChartInflationGenerator",
        "charts are inflated by kustomize",
    ),
];

/// A kustomization or component.
#[derive(Debug, Default)]
pub(super) struct Kustomization {
    pub is_component: bool,
    pub resources: Vec<String>,
    pub components: Vec<String>,
    pub namespace: String,
    pub name_prefix: String,
    pub name_suffix: String,
    pub common_labels: BTreeMap<String, String>,
    pub labels: Vec<Label>,
    pub common_annotations: BTreeMap<String, String>,
    pub patches_strategic_merge: Vec<String>,
    pub patches_json6902: Vec<Patch>,
    pub patches: Vec<Patch>,
    pub images: Vec<Image>,
    pub replicas: Vec<Replica>,
    pub replacements: Vec<ReplacementEntry>,
    pub config_maps: Vec<Generator>,
    pub secrets: Vec<Generator>,
    pub generator_options: Option<GeneratorOptions>,
    pub sort_options: Option<SortOptions>,
    pub build_metadata: Vec<String>,
    places: Places,
}

/// The lines of the fields and of their items.
#[derive(Debug, Default)]
struct Places {
    file: Arc<str>,
    lines: HashMap<String, (usize, Vec<usize>)>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Label {
    pub pairs: BTreeMap<String, String>,
    pub include_selectors: bool,
    pub include_templates: bool,
    pub fields: Vec<LabelField>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LabelField {
    group: String,
    version: String,
    kind: String,
    path: String,
    create: bool,
}

impl LabelField {
    pub(super) fn spec(&self) -> FieldSpec<'_> {
        FieldSpec {
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
            path: &self.path,
            create: self.create,
        }
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Patch {
    pub path: String,
    pub patch: String,
    pub target: Option<Selector>,
    pub options: Option<PatchOptions>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PatchOptions {
    pub allow_name_change: bool,
    pub allow_kind_change: bool,
}

/// The objects that a patch or replacement means; parts that are empty match all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub annotation_selector: String,
    pub label_selector: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Image {
    pub name: String,
    pub new_name: String,
    pub tag_suffix: String,
    pub new_tag: String,
    pub digest: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Replica {
    pub name: String,
    pub count: i64,
}

/// The generator of a ConfigMap or Secret.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Generator {
    pub name: String,
    pub namespace: String,
    pub behavior: String,
    pub literals: Vec<String>,
    pub files: Vec<String>,
    pub envs: Vec<String>,
    pub env: String,
    pub options: Option<GeneratorOptions>,
    /// Of a Secret.
    #[serde(rename = "type")]
    pub secret_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GeneratorOptions {
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub disable_name_suffix_hash: bool,
    pub immutable: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReplacementEntry {
    pub path: String,
    pub source: Option<ReplacementSource>,
    pub source_value: Option<String>,
    pub targets: Vec<ReplacementTarget>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReplacementSource {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub name: String,
    pub namespace: String,
    pub field_path: String,
    pub options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ReplacementTarget {
    pub select: Option<Selector>,
    pub reject: Vec<Selector>,
    pub field_paths: Vec<String>,
    pub options: Option<FieldOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct FieldOptions {
    pub delimiter: String,
    pub index: i64,
    pub encoding: String,
    pub create: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SortOptions {
    pub order: String,
    pub legacy_sort_options: Option<LegacySortOptions>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LegacySortOptions {
    pub order_first: Vec<String>,
    pub order_last: Vec<String>,
}

/// The metadata of a kustomization, of which only the shape counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    name: String,
    namespace: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

impl Kustomization {
    /// Reads a kustomization.
    pub(super) fn read(file: &str, text: &str) -> Result<Self, Problem> {
        let file: Arc<str> = file.into();
        let at = |line: usize| ObjectOrigin {
            file: Arc::clone(&file),
            line,
        };
        let stream = printed_yaml(text);
        if let Some(problem) = stream.problems.first() {
            return Err(Problem::refused(&problem.message).at(&at(problem.line)));
        }
        if let Some(problem) = stream.duplicates.first() {
            return Err(Problem::unsupported(&problem.message).at(&at(problem.line)));
        }
        let mut documents = stream.documents;
        let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
            return Err(
                Problem::unsupported("a kustomization is one document, and not empty").at(&at(1)),
            );
        };
        let Value::Object(fields) = stripped(document.value) else {
            return Err(Problem::refused("a kustomization is a mapping").at(&at(document.line)));
        };
        let mut read = Self {
            places: Places::of(Arc::clone(&file), text)?,
            ..Self::default()
        };
        let (mut api_version, mut kind) = (String::new(), String::new());
        let mut bases = Vec::new();
        let mut image_tags = Vec::new();
        let mut is_empty = true;
        for (name, value) in fields {
            is_empty &= matches!(name.as_str(), "apiVersion" | "kind");
            let place = read.place(&name);
            let read_field = match name.as_str() {
                "apiVersion" => set(&mut api_version, value),
                "kind" => set(&mut kind, value),
                "metadata" => typed::<Metadata>(value).map(drop),
                "bases" => set(&mut bases, value),
                "imageTags" => set(&mut image_tags, value),
                _ => read.field(&name, value),
            };
            read_field.map_err(|problem| problem.of(&name).at(&place))?;
        }
        if is_empty {
            return Err(Problem::refused("the kustomization is empty").at(&at(1)));
        }
        read.is_component = kind == "Component";
        let version = match kind.as_str() {
            "" | "Kustomization" => "kustomize.config.k8s.io/v1beta1",
            "Component" => "kustomize.config.k8s.io/v1alpha1",
            other => {
                return Err(Problem::refused(format!("kind is {other:?}")).at(&read.place("kind")));
            }
        };
        if !api_version.is_empty() && api_version != version {
            return Err(Problem::refused(format!("apiVersion is {api_version:?}"))
                .at(&read.place("apiVersion")));
        }
        read.resources.append(&mut bases);
        read.images.append(&mut image_tags);
        for generator in read.config_maps.iter_mut().chain(&mut read.secrets) {
            if !generator.env.is_empty() {
                generator.envs.push(std::mem::take(&mut generator.env));
            }
        }
        Ok(read)
    }

    fn field(&mut self, name: &str, value: Value) -> Result<(), Problem> {
        match name {
            "resources" => set(&mut self.resources, value),
            "components" => set(&mut self.components, value),
            "namespace" => set(&mut self.namespace, value),
            "namePrefix" => set(&mut self.name_prefix, value),
            "nameSuffix" => set(&mut self.name_suffix, value),
            "commonLabels" => set(&mut self.common_labels, value),
            "labels" => set(&mut self.labels, value),
            "commonAnnotations" => set(&mut self.common_annotations, value),
            "patchesStrategicMerge" => set(&mut self.patches_strategic_merge, value),
            "patchesJson6902" => set(&mut self.patches_json6902, value),
            "patches" => set(&mut self.patches, value),
            "images" => set(&mut self.images, value),
            "replicas" => set(&mut self.replicas, value),
            "replacements" => set(&mut self.replacements, value),
            "configMapGenerator" => set(&mut self.config_maps, value),
            "secretGenerator" => set(&mut self.secrets, value),
            "generatorOptions" => set(&mut self.generator_options, value),
            "sortOptions" => set(&mut self.sort_options, value),
            "buildMetadata" => set(&mut self.build_metadata, value),
            _ => match UNSUPPORTED.iter().find(|(known, _)| *known == name) {
                Some(_) if value == Value::Array(Vec::new()) => Ok(()),
                Some((_, why)) => Err(Problem::unsupported(*why)),
                None => Err(Problem::refused("there is no such field")),
            },
        }
    }

    /// Returns the place of a field.
    pub(super) fn place(&self, field: &str) -> ObjectOrigin {
        self.places.of_field(field, None)
    }

    /// Returns the place of an item of a field.
    pub(super) fn item(&self, field: &str, index: usize) -> ObjectOrigin {
        self.places.of_field(field, Some(index))
    }
}

impl Places {
    fn of(file: Arc<str>, text: &str) -> Result<Self, Problem> {
        let mut lines = HashMap::new();
        let stream = yaml::parse(text).map_err(|error| Problem::refused(error.message))?;
        for root in stream.documents().flatten() {
            for (name, value) in root.entries() {
                let value = value.target().unwrap_or(value);
                let items = value.items().map(|item| item.line() as usize).collect();
                lines.insert(
                    name.value().unwrap_or_default().to_owned(),
                    (name.line() as usize, items),
                );
            }
        }
        Ok(Self { file, lines })
    }

    fn of_field(&self, field: &str, index: Option<usize>) -> ObjectOrigin {
        let line = self.lines.get(field).map_or(1, |(line, items)| {
            index
                .and_then(|index| items.get(index))
                .copied()
                .unwrap_or(*line)
        });
        ObjectOrigin {
            file: Arc::clone(&self.file),
            line,
        }
    }
}

/// Takes nulls out of mappings: to Go, they are fields left out.
fn stripped(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(name, value)| (name, stripped(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(stripped).collect()),
        value => value,
    }
}

fn set<T: DeserializeOwned>(field: &mut T, value: Value) -> Result<(), Problem> {
    *field = typed(value)?;
    Ok(())
}

pub(super) fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_json::from_value(value).map_err(|error| {
        // Other messages quote the value, which may be a secret.
        let text = error.to_string();
        let names_a_field = text.starts_with("unknown field") || text.starts_with("missing field");
        Problem::refused(match names_a_field {
            true => text,
            false => "a field has a value of another type".to_owned(),
        })
    })
}

/// Reads the replacements of a file: one, or a list.
pub(super) fn replacements(text: &str) -> Result<Vec<ReplacementEntry>, Problem> {
    let stream = printed_yaml(text);
    if let Some(problem) = stream.problems.first().or(stream.duplicates.first()) {
        return Err(Problem::refused(&problem.message));
    }
    let mut documents = stream.documents;
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return Err(Problem::unsupported(
            "a file of replacements is one document",
        ));
    };
    match stripped(document.value) {
        value @ Value::Array(_) => typed(value),
        value => Ok(vec![typed(value)?]),
    }
}
