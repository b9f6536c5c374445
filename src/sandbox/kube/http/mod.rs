//! The wire: which request is answered by what.

mod messages;
mod protobuf;
mod request;
mod watch;

use super::{
    SandboxState, discovery,
    kinds::{SandboxKind, kinds},
    refusal::{KubeRefusal, RefusalCause},
    store::{Id, ObjectStore},
    table,
    write::{PatchBody, WritePart, WriteRequest},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use request::{ResourcePath, ResponseForm, UrlQuery};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a request: what a real server takes.
const BODY: usize = 3 << 20;
/// The aggregated form of discovery, as its answers name it.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(super) fn router(cluster: Arc<SandboxState>) -> Router {
    Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(cluster)
}

async fn answer(
    State(cluster): State<Arc<SandboxState>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(wanted) = &cluster.authorization
        && request::text(&headers, header::AUTHORIZATION.as_str()) != *wanted
    {
        return refused(&KubeRefusal::Unauthorized, None, "");
    }
    let kinds = cluster.with(|store| kinds(store));
    if method == Method::GET
        && let Some(response) = about(&kinds, uri.path(), &headers)
    {
        return response;
    }
    let Some(place) = ResourcePath::parse(uri.path()) else {
        let refusal = match request::needs_container(uri.path()) {
            Some(part) => KubeRefusal::NoContainers(part),
            None => KubeRefusal::NoSuchPath,
        };
        return refused(&refusal, None, "");
    };
    let Some(kind) = place.kind(&kinds) else {
        return refused(&KubeRefusal::NoSuchPath, None, "");
    };
    let name = place.name.clone().unwrap_or_default();
    let asked = ObjectRequest {
        cluster,
        kind,
        place,
        query: UrlQuery::parse(&uri),
        headers,
        body,
    };
    let kind = asked.kind.clone();
    match asked.answer(&method) {
        Ok(response) => response,
        Err((refusal, named)) => refused(
            &refusal,
            Some(&kind),
            if named.is_empty() { &name } else { &named },
        ),
    }
}

fn refused(refusal: &KubeRefusal, kind: Option<&SandboxKind>, name: &str) -> Response {
    let code = StatusCode::from_u16(refusal.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, Json(refusal.status(kind, name))).into_response()
}

/// Answers discovery requests.
fn about(kinds: &[SandboxKind], path: &str, headers: &HeaderMap) -> Option<Response> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let aggregated =
        || request::text(headers, header::ACCEPT.as_str()).contains("as=APIGroupDiscoveryList");
    let whole = |core| {
        Some(
            (
                [(header::CONTENT_TYPE, AGGREGATED)],
                discovery::aggregated(kinds, core).to_string(),
            )
                .into_response(),
        )
    };
    let found = match parts.as_slice() {
        ["version"] => discovery::version(),
        ["healthz" | "readyz" | "livez"] => return Some("ok".into_response()),
        ["api"] if aggregated() => return whole(true),
        ["apis"] if aggregated() => return whole(false),
        ["api"] => discovery::core_versions(),
        ["apis"] => discovery::group_list(kinds),
        ["apis", group] => discovery::group(kinds, group)?,
        ["api", version] => discovery::resource_list(kinds, "", version)?,
        ["apis", group, version] => discovery::resource_list(kinds, group, version)?,
        ["openapi", "v3"] => discovery::openapi(kinds),
        ["openapi", "v3", "api", version] => discovery::openapi_document(kinds, "", version),
        ["openapi", "v3", "apis", group, version] => {
            discovery::openapi_document(kinds, group, version)
        }
        _ => return None,
    };
    Some(Json(found).into_response())
}

/// A request for objects.
struct ObjectRequest {
    cluster: Arc<SandboxState>,
    kind: SandboxKind,
    place: ResourcePath,
    query: UrlQuery,
    headers: HeaderMap,
    body: Bytes,
}

/// A refusal, with the object's name where the path has none.
type HttpOutcome = Result<Response, (KubeRefusal, String)>;

impl ObjectRequest {
    fn answer(self, method: &Method) -> HttpOutcome {
        let unnamed = |refusal| (refusal, String::new());
        match (method, &self.place.name) {
            (&Method::GET, name) if self.query.is("watch") => {
                let place = (self.place.namespace.clone(), name.clone());
                watch::watch(
                    &self.cluster,
                    self.kind.clone(),
                    place,
                    &self.query,
                    ResponseForm::of(&self.headers),
                )
                .map_err(unnamed)
            }
            (&Method::GET, Some(_)) => self.get().map_err(unnamed),
            (&Method::GET, None) => self.list().map_err(unnamed),
            (&Method::POST, None) => self.create(),
            (&Method::PUT, Some(_)) => self.update().map_err(unnamed),
            (&Method::PATCH, Some(_)) => self.patch().map_err(unnamed),
            (&Method::DELETE, Some(_)) => self.delete().map_err(unnamed),
            (&Method::DELETE, None) => self.delete_all().map_err(unnamed),
            _ => Err(unnamed(KubeRefusal::MethodNotAllowed)),
        }
    }

    fn id(&self, name: &str) -> Id {
        Id {
            group: self.kind.group.clone(),
            plural: self.kind.plural.clone(),
            namespace: self.place.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
        }
    }

    /// Does a write with the store held.
    fn write<T>(
        &self,
        name: &str,
        dry_run: bool,
        work: impl FnOnce(&mut ObjectStore, &WriteRequest<'_>) -> T,
    ) -> T {
        let manager = request::manager(&self.query, &self.headers);
        let time = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let write = WriteRequest {
            kind: &self.kind,
            namespace: self.place.namespace.as_deref().unwrap_or_default(),
            name,
            part: self.place.part,
            manager: &manager,
            dry_run,
            time: &time,
        };
        self.cluster.with(|store| work(store, &write))
    }

    fn dry_run(&self) -> bool {
        self.query.get("dryRun") == "All"
    }

    /// An object as its path's version shows it; its scale where that was asked for.
    fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.kind.api_version());
        if self.place.part != WritePart::Scale {
            return object;
        }
        let labels = object["spec"]["selector"]["matchLabels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let selector: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect();
        let metadata = [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
        ]
        .map(|name| (name.to_owned(), object["metadata"][name].clone()));
        json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata.into_iter().collect::<serde_json::Map<_, _>>(),
            "spec": {"replicas": object["spec"]["replicas"]},
            "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.join(",")},
        })
    }

    fn get(&self) -> Result<Response, KubeRefusal> {
        let id = self.id(self.place.name.as_deref().unwrap_or_default());
        let object = self
            .cluster
            .with(|store| store.get(&id).cloned())
            .ok_or(KubeRefusal::NotFound)?;
        let shown = self.shown(&object);
        let revision = shown["metadata"]["resourceVersion"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Ok(Json(match ResponseForm::of(&self.headers) {
            ResponseForm::Whole => shown,
            ResponseForm::Metadata => table::metadata(&shown),
            ResponseForm::Table => table::table(
                &self.kind,
                &[&shown],
                revision,
                self.query.include(),
                Timestamp::now(),
            ),
        })
        .into_response())
    }

    /// Returns the selected objects, and the revision of the selection.
    fn selected(&self) -> Result<(Vec<Arc<Value>>, u64), KubeRefusal> {
        let selector = self.query.selector()?;
        Ok(self.cluster.with(|store| {
            let list = store.list(
                &self.kind.group,
                &self.kind.plural,
                self.place.namespace.as_deref(),
            );
            (
                list.filter(|object| selector.matches(object))
                    .cloned()
                    .collect(),
                store.revision(),
            )
        }))
    }

    fn list(&self) -> Result<Response, KubeRefusal> {
        let (objects, revision) = self.selected()?;
        let mut shown: Vec<Value> = objects.iter().map(|object| self.shown(object)).collect();
        let metadata = json!({"resourceVersion": revision.to_string()});
        Ok(Json(match ResponseForm::of(&self.headers) {
            ResponseForm::Whole => {
                // A real server leaves out of each item what the list says.
                for item in shown.iter_mut().filter(|_| self.kind.builtin).filter_map(Value::as_object_mut) {
                    item.shift_remove("apiVersion");
                    item.shift_remove("kind");
                }
                json!({"kind": format!("{}List", self.kind.kind), "apiVersion": self.kind.api_version(), "metadata": metadata, "items": shown})
            }
            ResponseForm::Metadata => {
                let items: Vec<Value> = shown.iter().map(table::metadata).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
            }
            ResponseForm::Table => {
                table::table(&self.kind, &shown.iter().collect::<Vec<_>>(), revision, self.query.include(), Timestamp::now())
            }
        })
        .into_response())
    }

    fn create(&self) -> HttpOutcome {
        let body =
            request::body(&self.headers, &self.body).map_err(|refusal| (refusal, String::new()))?;
        let name = body["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if self.kind.namespaced && self.place.namespace.is_none() {
            return Err((
                KubeRefusal::BadRequest("an object of this kind needs a namespace".to_owned()),
                name,
            ));
        }
        let made = self
            .write("", self.dry_run(), |store, write| write.create(store, body))
            .map_err(|refusal| (refusal, name))?;
        Ok((StatusCode::CREATED, Json(self.shown(&made))).into_response())
    }

    fn name(&self) -> &str {
        self.place.name.as_deref().unwrap_or_default()
    }

    fn update(&self) -> Result<Response, KubeRefusal> {
        let body = request::body(&self.headers, &self.body)?;
        let stored = self.write(self.name(), self.dry_run(), |store, write| {
            write.update(store, body)
        })?;
        Ok(Json(self.shown(&stored)).into_response())
    }

    fn patch(&self) -> Result<Response, KubeRefusal> {
        let patch = request::patch(&self.headers, &self.query, &self.body)?;
        if matches!(patch, PatchBody::Strategic(_)) && !self.kind.builtin {
            return Err(KubeRefusal::MediaType(request::text(
                &self.headers,
                header::CONTENT_TYPE.as_str(),
            )));
        }
        let cause = |reason, field: &str, message: &str| RefusalCause {
            reason,
            field: field.to_owned(),
            message: message.to_owned(),
        };
        match (
            &patch,
            self.query.get("fieldManager"),
            self.query.get("force"),
        ) {
            (PatchBody::Apply(..), "", _) => {
                return Err(KubeRefusal::Invalid(vec![cause(
                    "FieldValueRequired",
                    "fieldManager",
                    "Required value: is required for apply patch",
                )]));
            }
            (PatchBody::Apply(..), ..) | (_, _, "") => {}
            _ => {
                return Err(KubeRefusal::Invalid(vec![cause(
                    "FieldValueForbidden",
                    "force",
                    "Forbidden: may not be specified for non-apply patch",
                )]));
            }
        }
        let (created, stored) = self.write(self.name(), self.dry_run(), |store, write| {
            write.patch(store, patch)
        })?;
        let code = if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Ok((code, Json(self.shown(&stored))).into_response())
    }

    fn delete(&self) -> Result<Response, KubeRefusal> {
        let (options, dry_run) = request::deletion(&self.headers, &self.query, &self.body)?;
        let (last, gone) = self.write(self.name(), dry_run, |store, write| {
            write.delete(store, &options)
        })?;
        if !gone {
            return Ok(Json(self.shown(&last)).into_response());
        }
        let details = json!({"name": self.name(), "group": self.kind.group, "kind": self.kind.plural, "uid": last["metadata"]["uid"]});
        Ok(Json(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})).into_response())
    }

    fn delete_all(&self) -> Result<Response, KubeRefusal> {
        let (options, dry_run) = request::deletion(&self.headers, &self.query, &self.body)?;
        let (objects, _) = self.selected()?;
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
            match self.write(name, dry_run, |store, write| {
                WriteRequest {
                    namespace,
                    ..*write
                }
                .delete(store, &options)
            }) {
                // A concurrent deletion was faster.
                Ok(_) | Err(KubeRefusal::NotFound) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        self.list()
    }
}
