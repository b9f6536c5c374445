//! Refusals in the store: a forge that is down when a process starts changes nothing then.
//!
//! As long as neither the forge nor the store has told what was refused, nothing is written that it
//! could hold back. That holds for commits, too: only the forge knows whether an Environment used
//! pull requests before.

use super::{
    RequestContext,
    authors::Authorship,
    closed::{EndedRequest, EndedRequests},
};
use crate::{
    io::blocking,
    review::{ChangeSet, Marker, lifecycle::ClosedRequest},
    spec,
    update::{EnvironmentReport, EnvironmentState, PassReport},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Table of the store. A key is a repository on a forge.
const TABLE: &str = "refused";

/// The stored form of a pull request that a person closed.
#[derive(Serialize, Deserialize)]
struct StoredClosure {
    number: u64,
    head: String,
    base: String,
    opened: Option<Timestamp>,
    at: Timestamp,
    by: Option<Option<String>>,
    author: String,
    marker: Marker,
    /// Earlier versions stored only what they took for the bot's.
    #[serde(default = "StoredClosure::earlier")]
    authorship: Authorship,
}

impl StoredClosure {
    fn earlier() -> Authorship {
        Authorship::Account
    }
}

fn key(place: &spec::ForgeSpec) -> String {
    format!("{} {}", place.api, place.project)
}

impl EndedRequests {
    fn closures(&self) -> Vec<StoredClosure> {
        let row = |(number, request): (u64, &EndedRequest)| {
            let EndedRequest {
                head,
                base,
                opened,
                at,
                by,
                author,
                marker,
                authorship,
                ..
            } = request.clone();
            Some(StoredClosure {
                number,
                head,
                base,
                opened,
                at,
                by,
                author,
                marker: marker?,
                authorship,
            })
        };
        self.closed().filter_map(row).collect()
    }
}

/// Loads the closures from the store, once in a process.
pub(crate) async fn load(context: RequestContext<'_>, report: &mut PassReport) {
    if context.cache.lock().ended.stored.is_some() {
        return;
    }
    let (store, key) = (
        Arc::clone(&context.scanner.store),
        key(context.forge.place()),
    );
    let bytes = blocking(move || store.get(TABLE, &key))
        .await
        .unwrap_or_else(|error| {
            report.warnings.push(error.to_string());
            None
        });
    // An entry that cannot be read counts as none: the forge is read in each pass.
    let closures: Option<Vec<StoredClosure>> = bytes
        .as_deref()
        .and_then(|bytes| serde_json::from_slice(bytes).ok());
    let ended = &mut context.cache.lock().ended;
    ended.is_known |= closures.is_some();
    for closure in closures.into_iter().flatten() {
        let request = EndedRequest {
            head: closure.head,
            head_commit: String::new(),
            base: closure.base,
            how: ClosedRequest::Closed,
            opened: closure.opened,
            at: closure.at,
            by: closure.by,
            author: closure.author,
            commit: None,
            marker: Some(closure.marker),
            foreign: false,
            authorship: closure.authorship,
        };
        ended.all.entry(closure.number).or_insert(request);
    }
    ended.stored = Some(bytes.unwrap_or_default());
}

/// Saves the closures, if they have changed.
pub(crate) async fn save(context: RequestContext<'_>, report: &mut PassReport) {
    let bytes = {
        let ended = &context.cache.lock().ended;
        match serde_json::to_vec(&ended.closures()) {
            Ok(bytes) if ended.stored.as_ref() != Some(&bytes) => bytes,
            _ => return,
        }
    };
    let (store, key) = (
        Arc::clone(&context.scanner.store),
        key(context.forge.place()),
    );
    let (bytes, saved) = blocking(move || {
        let saved = store.put(TABLE, &key, &bytes);
        (bytes, saved)
    })
    .await;
    match saved {
        Ok(()) => context.cache.lock().ended.stored = Some(bytes),
        Err(error) => report.warnings.push(error.to_string()),
    }
}

/// Tells whether commits must wait because people may have refused them, and reports it.
pub(crate) fn blocks_commits(
    context: RequestContext<'_>,
    sets: &[Arc<ChangeSet>],
    row: &mut EnvironmentReport,
    report: &mut PassReport,
) -> bool {
    if sets.is_empty() || context.cache.lock().ended.is_known {
        return false;
    }
    row.state = EnvironmentState::Waiting;
    let place = context.forge.place();
    report.add_warning(format!(
        "{} waits: a closed pull request at {} {} may hold back its changes, and the forge could not be read yet",
        row.name, place.kind, place.project
    ));
    true
}
