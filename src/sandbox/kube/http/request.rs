//! Parses a request: path, query and body.

use super::{
    super::{
        kinds::SandboxKind,
        refusal::KubeRefusal,
        selector::ListSelector,
        table::Include,
        write::{Deletion, PatchBody, WritePart},
    },
    protobuf::{self, ProtobufError},
};
use axum::http::{HeaderMap, Uri, header};
use serde_json::Value;
use std::collections::BTreeMap;

/// A path below a group's version: which objects, and which part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResourcePath {
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// `deployments`.
    pub plural: String,
    /// None: all of them, or the kind has none.
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub part: WritePart,
}

impl ResourcePath {
    /// Reads `/api/v1/…` and `/apis/GROUP/VERSION/…`; none for every other path.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let of = |namespace: Option<&str>, plural: &str, name: Option<&str>, part| {
            Some(Self {
                group: group.to_owned(),
                version: version.to_owned(),
                plural: plural.to_owned(),
                namespace: namespace.map(str::to_owned),
                name: name.map(str::to_owned),
                part,
            })
        };
        let part = |text: &str| match text {
            "status" => Some(WritePart::Status),
            "scale" => Some(WritePart::Scale),
            // Only what empties a namespace writes there; its body is the namespace.
            "finalize" => Some(WritePart::Main),
            _ => None,
        };
        match rest {
            ["namespaces", name, text @ ("status" | "finalize")] => {
                of(None, "namespaces", Some(name), part(text)?)
            }
            ["namespaces", namespace, plural] => of(Some(namespace), plural, None, WritePart::Main),
            ["namespaces", namespace, plural, name] => {
                of(Some(namespace), plural, Some(name), WritePart::Main)
            }
            ["namespaces", namespace, plural, name, text] => {
                of(Some(namespace), plural, Some(name), part(text)?)
            }
            [plural] => of(None, plural, None, WritePart::Main),
            [plural, name] => of(None, plural, Some(name), WritePart::Main),
            [plural, name, text] => of(None, plural, Some(name), part(text)?),
            _ => None,
        }
    }

    /// Returns the kind at this path.
    pub(super) fn kind(&self, kinds: &[SandboxKind]) -> Option<SandboxKind> {
        let same = |kind: &&SandboxKind| {
            kind.group == self.group && kind.version == self.version && kind.plural == self.plural
        };
        let kind = kinds.iter().find(same)?;
        let has_part = match self.part {
            WritePart::Main => true,
            WritePart::Status => kind.status,
            WritePart::Scale => kind.scale,
        };
        let is_in_scope = kind.namespaced || self.namespace.is_none();
        (has_part && is_in_scope).then(|| kind.clone())
    }
}

/// The query of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct UrlQuery(BTreeMap<String, String>);

impl UrlQuery {
    /// Parses the query; an invalid one is empty.
    pub(super) fn parse(uri: &Uri) -> Self {
        axum::extract::Query::try_from_uri(uri)
            .map(|axum::extract::Query(pairs)| Self(pairs))
            .unwrap_or_default()
    }

    /// A value; empty if there is none.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Returns whether the parameter is true.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1" | "True")
    }

    /// Parses the selectors.
    ///
    /// # Errors
    /// If they are invalid.
    pub(super) fn selector(&self) -> Result<ListSelector, KubeRefusal> {
        ListSelector::parse(self.get("labelSelector"), self.get("fieldSelector"))
    }

    /// Returns how much of an object goes with its row of a table.
    pub(super) fn include(&self) -> Include {
        match self.get("includeObject") {
            "None" => Include::Nothing,
            "Object" => Include::Whole,
            _ => Include::Metadata,
        }
    }
}

/// The representation of objects in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseForm {
    Whole,
    Metadata,
    Table,
}

impl ResponseForm {
    /// Returns the form of the first supported media type in `Accept`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = text(headers, header::ACCEPT.as_str());
        for kind in accept.split(',') {
            if kind.contains("as=Table") {
                return Self::Table;
            }
            if kind.contains("as=PartialObjectMetadata") {
                return Self::Metadata;
            }
            if kind.contains("json") && !kind.contains("as=") {
                return Self::Whole;
            }
        }
        Self::Whole
    }
}

/// Returns the part of a Pod at a path that only a running container has.
pub(super) fn needs_container(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["api", "v1", "namespaces", _, "pods", _, part] => {
            let parts = [
                "log",
                "exec",
                "attach",
                "portforward",
                "ephemeralcontainers",
            ];
            parts.into_iter().find(|known| known == part)
        }
        _ => None,
    }
}

/// A header as text; empty if there is none.
pub(super) fn text(headers: &HeaderMap, name: &str) -> String {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned()
}

/// Returns the field manager: the parameter, else the program's name.
pub(super) fn manager(query: &UrlQuery, headers: &HeaderMap) -> String {
    match query.get("fieldManager") {
        "" => text(headers, header::USER_AGENT.as_str())
            .split('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("unknown")
            .to_owned(),
        said => said.to_owned(),
    }
}

/// Reads a body of JSON, YAML or protobuf.
///
/// # Errors
/// If it is neither, or has a part that the sandbox does not know.
pub(super) fn body(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, KubeRefusal> {
    let kind = text(headers, header::CONTENT_TYPE.as_str());
    if kind.contains("protobuf") {
        return protobuf::object(bytes).map_err(|error| match error {
            ProtobufError::Malformed => {
                KubeRefusal::BadRequest("error decoding the body: it is no protobuf".to_owned())
            }
            ProtobufError::Unsupported(part) => KubeRefusal::Protobuf(part),
        });
    }
    if kind.contains("cbor") {
        return Err(KubeRefusal::MediaType(kind));
    }
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let wrong =
        |error: String| KubeRefusal::BadRequest(format!("error decoding the body: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string()))
}

/// Reads the body of a PATCH.
///
/// # Errors
/// If its type is unknown, or it does not parse.
pub(super) fn patch(
    headers: &HeaderMap,
    query: &UrlQuery,
    bytes: &[u8],
) -> Result<PatchBody, KubeRefusal> {
    let kind = text(headers, header::CONTENT_TYPE.as_str());
    match kind.split(';').next().unwrap_or_default().trim() {
        "application/json-patch+json" => {
            let read = serde_json::from_slice(bytes).map_err(|error| {
                KubeRefusal::BadRequest(format!("error decoding the patch: {error}"))
            })?;
            Ok(PatchBody::Json(read))
        }
        "application/merge-patch+json" => Ok(PatchBody::Merge(body(headers, bytes)?)),
        "application/strategic-merge-patch+json" => Ok(PatchBody::Strategic(body(headers, bytes)?)),
        "application/apply-patch+yaml" => {
            Ok(PatchBody::Apply(body(headers, bytes)?, query.is("force")))
        }
        other => Err(KubeRefusal::MediaType(other.to_owned())),
    }
}

/// Reads what a DELETE asks for, in its body or query.
///
/// # Errors
/// If the body does not parse.
pub(super) fn deletion(
    headers: &HeaderMap,
    query: &UrlQuery,
    bytes: &[u8],
) -> Result<(Deletion, bool), KubeRefusal> {
    let options = if bytes.is_empty() {
        Value::Null
    } else {
        body(headers, bytes)?
    };
    let said = |pointer: &str| {
        options
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let queried = Some(query.get("propagationPolicy"))
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let orphan = (options["orphanDependents"] == true).then(|| "Orphan".to_owned());
    let dry_run = query.get("dryRun") == "All" || options["dryRun"] == serde_json::json!(["All"]);
    let deletion = Deletion {
        uid: said("/preconditions/uid"),
        revision: said("/preconditions/resourceVersion"),
        propagation: said("/propagationPolicy").or(queried).or(orphan),
    };
    Ok((deletion, dry_run))
}
