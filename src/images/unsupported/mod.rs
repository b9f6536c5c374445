//! Charts and units that tagboat does not handle yet, and images that no policy watches: named so
//! that nothing is ignored silently.
//!
//! A chart version is pinned in a HelmRelease, an OCIRepository, `Chart.yaml`, a kustomization or
//! an Argo CD Application. A unit is a Flux or Argo CD object that deploys something, a source of
//! one, or what notifies of it.

mod unwatched;

pub use unwatched::UnwatchedImages;

use super::{
    includes::is_remote,
    references::{FileKind, YamlFile},
};
use crate::core::yaml::Node;
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// The most findings of one file, and of one answer. The largest public repositories have a few
/// hundred.
pub const MOST: usize = 1000;

/// Files beyond this size are no hand-written manifests: generated CRDs have 2 MB.
const MOST_BYTES: usize = 8 << 20;

/// Texts of which a file with a finding contains one, unless its name tells.
static NEEDLES: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let texts =
        r"toolkit\.fluxcd\.io/|argoproj\.io/|helmCharts|helmChartInflationGenerator|helm\.sh/hook";
    Regex::new(texts).ok()
});

/// A chart or a unit that is not handled yet, or an image that no policy watches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unsupported {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The kind.
    pub kind: UnsupportedKind,
    /// The chart, the name of the object, or the image repository.
    pub name: String,
    /// The pinned version; none where none is written.
    pub version: Option<String>,
}

/// The kinds of what is not handled.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum UnsupportedKind {
    /// The chart of a HelmRelease.
    HelmReleaseChart,
    /// A HelmRelease whose chart is an object of its own.
    HelmRelease,
    /// A dependency in `Chart.yaml`.
    ChartDependency,
    /// A chart of a kustomization.
    KustomizeChart,
    /// A remote base of a kustomization.
    RemoteBase,
    /// The chart of an Argo CD Application.
    ArgoChart,
    /// An Argo CD Application of a Git repository.
    ArgoApplication,
    /// An Argo CD ApplicationSet.
    ArgoApplicationSet,
    /// A Flux Kustomization.
    FluxKustomization,
    /// A Flux GitRepository.
    GitRepository,
    /// A Flux OCIRepository.
    OciRepository,
    /// A Flux HelmRepository.
    HelmRepository,
    /// A Flux HelmChart.
    HelmChart,
    /// A Flux Bucket.
    Bucket,
    /// A Flux Alert.
    Alert,
    /// A Flux Provider of notifications.
    AlertProvider,
    /// A Flux Receiver of webhooks.
    Receiver,
    /// A hook of Helm or Argo CD outside of a chart.
    Hook,
    /// An image that no policy watches.
    Image,
}

impl UnsupportedKind {
    /// The kind in texts, for one of it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HelmReleaseChart => "HelmRelease chart",
            Self::HelmRelease => "HelmRelease",
            Self::ChartDependency => "Chart.yaml dependency",
            Self::KustomizeChart => "kustomize chart",
            Self::RemoteBase => "remote base",
            Self::ArgoChart => "Argo CD chart",
            Self::ArgoApplication => "Argo CD Application",
            Self::ArgoApplicationSet => "Argo CD ApplicationSet",
            Self::FluxKustomization => "Flux Kustomization",
            Self::GitRepository => "Flux GitRepository",
            Self::OciRepository => "Flux OCIRepository",
            Self::HelmRepository => "Flux HelmRepository",
            Self::HelmChart => "Flux HelmChart",
            Self::Bucket => "Flux Bucket",
            Self::Alert => "Flux Alert",
            Self::AlertProvider => "Flux Provider",
            Self::Receiver => "Flux Receiver",
            Self::Hook => "hook",
            Self::Image => "image",
        }
    }

    /// The reason why it is not handled, in texts.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Image => "no ImagePolicy",
            Self::Hook => "applied like any other object",
            _ => "not handled yet",
        }
    }
}

/// Returns the charts and units of a file, in the order of the text, at most [`MOST`].
///
/// A file that cannot be parsed has none: `references::find` reports it.
pub fn find(path: &str, file: &YamlFile<'_>) -> Vec<Unsupported> {
    let bytes = file.bytes();
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let is_chart = matches!(file_name, "Chart.yaml" | "requirements.yaml");
    let is_kustomization = file.kind() == FileKind::Kustomization;
    let has_needle = || {
        NEEDLES
            .as_ref()
            .is_none_or(|needles| needles.is_match(bytes))
    };
    let may_match = is_chart || is_kustomization || has_needle();
    if !may_match
        || matches!(file.kind(), FileKind::ChartTemplate | FileKind::NotYaml)
        || bytes.len() > MOST_BYTES
    {
        return Vec::new();
    }
    let Some(stream) = file.stream() else {
        return Vec::new();
    };
    let mut scan = Scan {
        file: path,
        found: Vec::new(),
    };
    for root in stream.documents().flatten() {
        if is_chart {
            scan.dependencies(root);
        } else if is_kustomization {
            scan.kustomization(root);
        } else {
            scan.object(root);
        }
    }
    scan.found.sort_by_key(|found| found.line);
    scan.found.truncate(MOST);
    scan.found
}

struct Scan<'f> {
    file: &'f str,
    found: Vec<Unsupported>,
}

impl Scan<'_> {
    fn add(&mut self, kind: UnsupportedKind, name: &str, version: Option<Node<'_>>, at: Node<'_>) {
        let version_text = version.and_then(text);
        let at = version.filter(|_| version_text.is_some()).unwrap_or(at);
        self.found.push(Unsupported {
            kind,
            file: self.file.to_owned(),
            line: at.line(),
            name: name.to_owned(),
            version: version_text.map(str::to_owned),
        });
    }

    fn object(&mut self, root: Node<'_>) {
        if let (Some("List"), Some(items)) = (word(root, "kind"), root.get("items")) {
            items.items().for_each(|item| self.object(item));
            return;
        }
        let (Some(api), Some(kind)) = (word(root, "apiVersion"), word(root, "kind")) else {
            return;
        };
        let group = api.split_once('/').map_or("", |(group, _)| group);
        let metadata = root.get("metadata");
        let field = |key| metadata.and_then(|metadata| word(metadata, key));
        let name = field("name")
            .or(field("generateName"))
            .unwrap_or("without a name");
        let name = match field("namespace") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        self.hook(kind, &name, metadata);
        let Some(spec) = root.get("spec") else { return };
        let at = metadata
            .and_then(|metadata| metadata.get("name"))
            .unwrap_or(spec);
        match (group, kind) {
            ("helm.toolkit.fluxcd.io", "HelmRelease") => self.helm_release(spec, &name, at),
            ("kustomize.toolkit.fluxcd.io", "Kustomization")
                if spec.get("path").or(spec.get("sourceRef")).is_some() =>
            {
                self.add(UnsupportedKind::FluxKustomization, &name, None, at);
            }
            ("source.toolkit.fluxcd.io", kind) => self.source(kind, spec, &name, at),
            ("notification.toolkit.fluxcd.io", "Alert") => {
                self.add(UnsupportedKind::Alert, &name, None, at);
            }
            ("notification.toolkit.fluxcd.io", "Provider") => {
                self.add(UnsupportedKind::AlertProvider, &name, None, at);
            }
            ("notification.toolkit.fluxcd.io", "Receiver") => {
                self.add(UnsupportedKind::Receiver, &name, None, at);
            }
            ("argoproj.io", "Application") => self.argo(spec, &name, at),
            ("argoproj.io", "ApplicationSet") => {
                let template = spec
                    .get("template")
                    .and_then(|template| template.get("spec"));
                let before = self.found.len();
                if let Some(template) = template {
                    self.argo_charts(template);
                }
                if self.found.len() == before {
                    self.add(UnsupportedKind::ArgoApplicationSet, &name, None, at);
                }
            }
            ("kustomize.config.k8s.io", "Kustomization") => self.kustomization(root),
            _ => {}
        }
    }

    /// A hook's phase counts as its version.
    fn hook(&mut self, kind: &str, name: &str, metadata: Option<Node<'_>>) {
        let annotations = metadata.and_then(|metadata| metadata.get("annotations"));
        let hook = ["argocd.argoproj.io/hook", "helm.sh/hook"]
            .iter()
            .find_map(|annotation| annotations?.get(annotation));
        if let Some(hook) = hook {
            let name = format!("{kind} {name}");
            self.add(UnsupportedKind::Hook, &name, Some(hook), hook);
        }
    }

    /// A patch of a HelmRelease, without a chart, is no finding of its own.
    fn helm_release(&mut self, spec: Node<'_>, name: &str, at: Node<'_>) {
        let chart = spec.get("chart").and_then(|chart| chart.get("spec"));
        if let Some(chart) = chart {
            let chart_name = word(chart, "chart");
            // An overlay may patch the version alone.
            if chart_name.is_some() || chart.get("version").is_some() {
                let shown = chart_name.unwrap_or(name);
                let node = chart.get("chart").unwrap_or(at);
                let kind = UnsupportedKind::HelmReleaseChart;
                self.add(kind, shown, chart.get("version"), node);
            }
        } else if let Some(reference) = spec.get("chartRef") {
            self.add(UnsupportedKind::HelmRelease, name, None, reference);
        }
    }

    fn source(&mut self, kind: &str, spec: Node<'_>, name: &str, at: Node<'_>) {
        let reference = spec.get("ref");
        let pinned = |keys: &[&str]| {
            let reference = reference?;
            keys.iter().find_map(|key| reference.get(key))
        };
        // Patches of a source without its address are no findings of their own.
        let is_whole = spec.get("url").is_some() || spec.get("endpoint").is_some();
        match kind {
            "GitRepository" if is_whole || reference.is_some() => {
                let version = pinned(&["commit", "name", "semver", "tag"]);
                self.add(UnsupportedKind::GitRepository, name, version, at);
            }
            "OCIRepository" if is_whole || reference.is_some() => {
                let version = pinned(&["digest", "semver", "tag"]);
                self.add(UnsupportedKind::OciRepository, name, version, at);
            }
            "HelmRepository" if is_whole => {
                self.add(UnsupportedKind::HelmRepository, name, None, at);
            }
            "HelmChart" if spec.get("chart").is_some() => {
                let chart = word(spec, "chart").unwrap_or(name);
                self.add(UnsupportedKind::HelmChart, chart, spec.get("version"), at);
            }
            "Bucket" if is_whole => self.add(UnsupportedKind::Bucket, name, None, at),
            _ => {}
        }
    }

    fn argo(&mut self, spec: Node<'_>, name: &str, at: Node<'_>) {
        let before = self.found.len();
        self.argo_charts(spec);
        let sources = sources(spec);
        if self.found.len() == before && !sources.is_empty() {
            let version = sources
                .iter()
                .find_map(|source| source.get("targetRevision"));
            self.add(UnsupportedKind::ArgoApplication, name, version, at);
        }
    }

    fn argo_charts(&mut self, spec: Node<'_>) {
        for source in sources(spec) {
            if let Some((chart, name)) = source.get("chart").and_then(|n| Some((n, text(n)?))) {
                let version = source.get("targetRevision");
                self.add(UnsupportedKind::ArgoChart, name, version, chart);
            }
        }
    }

    fn dependencies(&mut self, root: Node<'_>) {
        for dependency in list(root, "dependencies") {
            if let Some(name) = word(dependency, "name") {
                let version = dependency.get("version");
                self.add(UnsupportedKind::ChartDependency, name, version, dependency);
            }
        }
    }

    fn kustomization(&mut self, root: Node<'_>) {
        for (key, name_key) in [
            ("helmCharts", "name"),
            ("helmChartInflationGenerator", "chartName"),
        ] {
            for chart in list(root, key) {
                let version = chart.get("version").or(chart.get("chartVersion"));
                let name = word(chart, name_key).or(word(chart, "name"));
                let name = name.unwrap_or("without a name");
                self.add(UnsupportedKind::KustomizeChart, name, version, chart);
            }
        }
        for key in ["resources", "bases", "components"] {
            for base in list(root, key) {
                let remote = base.value().filter(|base| is_remote(base));
                if let Some(remote) = remote {
                    let (address, version) = remote_base(remote);
                    self.found.push(Unsupported {
                        kind: UnsupportedKind::RemoteBase,
                        file: self.file.to_owned(),
                        line: base.line(),
                        name: address,
                        version: version.map(str::to_owned),
                    });
                }
            }
        }
    }
}

/// Returns `source` and `sources` of an Argo CD Application.
fn sources(spec: Node<'_>) -> Vec<Node<'_>> {
    spec.get("source")
        .into_iter()
        .chain(list(spec, "sources"))
        .collect()
}

fn list<'t>(node: Node<'t>, key: &str) -> impl Iterator<Item = Node<'t>> + use<'t> {
    node.get(key).into_iter().flat_map(Node::items)
}

fn word<'t>(node: Node<'t>, key: &str) -> Option<&'t str> {
    node.get(key).and_then(text)
}

/// The text of a scalar that says something; an alias counts as what it repeats.
fn text(node: Node<'_>) -> Option<&str> {
    node.target()
        .unwrap_or(node)
        .value()
        .filter(|value| !value.is_empty())
}

/// Splits a remote base into its address, without user and password, and its version.
fn remote_base(entry: &str) -> (String, Option<&str>) {
    let (address, query) = entry.split_once('?').unwrap_or((entry, ""));
    let version = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ref=").or(pair.strip_prefix("version=")));
    let address = match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}/{path}")
        }
        None => address.to_owned(),
    };
    (address, version.filter(|version| !version.is_empty()))
}

#[cfg(test)]
mod tests;
