//! A watch: the changes of one kind as lines of JSON, as long as the client is connected.

use super::{
    super::{
        SandboxState,
        kinds::SandboxKind,
        refusal::KubeRefusal,
        selector::ListSelector,
        table::{self, Include},
    },
    request::{ResponseForm, UrlQuery},
};
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use futures::stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Between two bookmarks; a real server sends one a minute.
const BOOKMARK: Duration = Duration::from_secs(30);
/// The longest a watch lasts without being asked for less; a real server ends it after half an hour
/// to an hour.
const LONGEST: u64 = 3600;

struct Watch {
    cluster: Arc<SandboxState>,
    kind: SandboxKind,
    namespace: Option<String>,
    name: Option<String>,
    selector: ListSelector,
    form: ResponseForm,
    include: Include,
    bookmarks: bool,
    /// The last revision that was looked at.
    seen: u64,
    ready: VecDeque<Value>,
    end: Instant,
    over: bool,
    changes: tokio::sync::watch::Receiver<u64>,
}

/// Answers with a stream of events.
///
/// # Errors
/// If the selectors or the revision cannot be read, or the revision is too old.
pub(super) fn watch(
    cluster: &Arc<SandboxState>,
    kind: SandboxKind,
    (namespace, name): (Option<String>, Option<String>),
    query: &UrlQuery,
    form: ResponseForm,
) -> Result<Response, KubeRefusal> {
    let changes = cluster.revision.subscribe();
    let from = query.get("resourceVersion");
    let initial = query.get("sendInitialEvents");
    let seconds = query
        .get("timeoutSeconds")
        .parse()
        .unwrap_or(LONGEST)
        .min(LONGEST);
    let mut watch = Watch {
        kind,
        namespace,
        name,
        selector: query.selector()?,
        form,
        include: query.include(),
        bookmarks: query.is("allowWatchBookmarks"),
        seen: 0,
        ready: VecDeque::new(),
        end: Instant::now() + Duration::from_secs(seconds),
        over: false,
        changes,
        cluster: cluster.clone(),
    };
    let starts_with_all = initial == "true" || (initial.is_empty() && matches!(from, "" | "0"));
    if starts_with_all {
        let (objects, revision) = cluster.with(|store| {
            let list = store.list(
                &watch.kind.group,
                &watch.kind.plural,
                watch.namespace.as_deref(),
            );
            (
                list.filter(|object| watch.wants(object))
                    .cloned()
                    .collect::<Vec<_>>(),
                store.revision(),
            )
        });
        watch.seen = revision;
        for object in objects {
            let event = watch.event("ADDED", &object);
            watch.ready.push_back(event);
        }
        if initial == "true" {
            let mut mark = watch.bookmark();
            mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] = json!("true");
            watch.ready.push_back(mark);
        }
    } else {
        watch.seen = match from {
            "" | "0" => cluster.with(|store| store.revision()),
            text => text.parse().map_err(|_| {
                KubeRefusal::BadRequest(format!("invalid resource version: {text}"))
            })?,
        };
        watch.gather()?;
    }
    let lines = stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((
            Ok::<_, std::convert::Infallible>(Bytes::from(format!("{event}\n"))),
            watch,
        ))
    });
    Ok((
        [("content-type", "application/json")],
        Body::from_stream(lines),
    )
        .into_response())
}

impl Watch {
    fn wants(&self, object: &Value) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| object["metadata"]["name"] == **name)
            && self.selector.matches(object)
    }

    /// The next event; none when the watch is over.
    async fn next(&mut self) -> Option<Value> {
        let mut mark = Instant::now() + BOOKMARK;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            self.changes.mark_unchanged();
            if let Err(refusal) = self.gather() {
                self.over = true;
                return Some(json!({"type": "ERROR", "object": refusal.status(None, "")}));
            }
            if !self.ready.is_empty() {
                continue;
            }
            let wake = mark.min(self.end);
            tokio::select! {
                changed = self.changes.changed() => if changed.is_err() { return None },
                () = tokio::time::sleep_until(wake.into()) => {
                    if Instant::now() >= self.end {
                        return None;
                    }
                    mark = Instant::now() + BOOKMARK;
                    if self.bookmarks {
                        return Some(self.bookmark());
                    }
                }
            }
        }
    }

    /// Collects the changes since the last event.
    fn gather(&mut self) -> Result<(), KubeRefusal> {
        let cluster = self.cluster.clone();
        let (events, revision) = cluster.with(|store| {
            let revision = store.revision();
            let too_old = || {
                KubeRefusal::Expired(format!(
                    "too old resource version: {} ({revision})",
                    self.seen
                ))
            };
            let changes = store.changes_after(self.seen).ok_or_else(too_old)?;
            let of_kind = changes.filter(|change| {
                change.id.group == self.kind.group && change.id.plural == self.kind.plural
            });
            let here = of_kind.filter(|change| {
                self.namespace
                    .as_ref()
                    .is_none_or(|namespace| change.id.namespace == *namespace)
            });
            let events: Vec<Value> = here
                .filter_map(|change| {
                    // A watch sees an object only while its selector matches.
                    let before = change.old.as_ref().is_some_and(|old| self.wants(old));
                    let after = !change.deleted && self.wants(&change.new);
                    match (before, after) {
                        (false, true) => Some(self.event("ADDED", &change.new)),
                        (true, true) => Some(self.event("MODIFIED", &change.new)),
                        (true, false) => Some(self.event("DELETED", &change.new)),
                        (false, false) => None,
                    }
                })
                .collect();
            Ok((events, revision))
        })?;
        self.ready.extend(events);
        self.seen = revision;
        Ok(())
    }

    fn event(&self, kind: &str, object: &Value) -> Value {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.kind.api_version());
        let shown = match self.form {
            ResponseForm::Whole => object,
            ResponseForm::Metadata => table::metadata(&object),
            ResponseForm::Table => table::table(
                &self.kind,
                &[&object],
                self.seen,
                self.include,
                Timestamp::now(),
            ),
        };
        json!({"type": kind, "object": shown})
    }

    fn bookmark(&self) -> Value {
        let object = json!({
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(),
            "metadata": {"resourceVersion": self.seen.to_string(), "creationTimestamp": null},
        });
        json!({"type": "BOOKMARK", "object": object})
    }
}
