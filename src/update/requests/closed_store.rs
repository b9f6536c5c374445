//! What people refused by closing requests, kept beside the forge's word: a forge that is down when
//! a process begins changes nothing then. As long as neither the forge nor the store has said it,
//! nothing is written that it could hold back: whether an Environment had requests before it wrote
//! commits, only the forge knows.

use super::closed::{EndedRequest, EndedRequests};
use crate::update::{EnvironmentReport, EnvironmentState, ImageUpdater, PassReport};
use crate::{
    review::{ChangeSet, Marker, lifecycle::ClosedRequest},
    spec,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The table of the store. A key is a repository on a forge.
const TABLE: &str = "refused";

/// A request that a person closed, as it is kept.
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
}

fn key(place: &spec::ForgeSpec) -> String {
    format!("{} {}", place.api, place.project)
}

impl EndedRequests {
    fn refused_all(&self) -> Vec<StoredClosure> {
        let row = |(number, request): (u64, &EndedRequest)| {
            let EndedRequest {
                head,
                base,
                opened,
                at,
                by,
                author,
                marker,
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
            })
        };
        self.closed().filter_map(row).collect()
    }
}

impl ImageUpdater {
    /// Takes up what the store has, once in a process.
    pub(crate) fn recall(&self, report: &mut PassReport) {
        let Some(forge) = &self.forge else { return };
        let known = &mut self.known().ended;
        if known.kept.is_some() {
            return;
        }
        let bytes = self
            .scanner
            .store
            .get(TABLE, &key(forge.place()))
            .unwrap_or_else(|error| {
                report.warnings.push(error.to_string());
                None
            });
        // What cannot be read is as good as nothing: the forge is asked in each pass.
        let refused: Option<Vec<StoredClosure>> = bytes
            .as_deref()
            .and_then(|bytes| serde_json::from_slice(bytes).ok());
        known.learnt |= refused.is_some();
        for StoredClosure {
            number,
            head,
            base,
            opened,
            at,
            by,
            author,
            marker,
        } in refused.into_iter().flatten()
        {
            let request = EndedRequest {
                head,
                head_commit: String::new(),
                base,
                how: ClosedRequest::Closed,
                opened,
                at,
                by,
                author,
                commit: None,
                marker: Some(marker),
                foreign: false,
            };
            known.all.entry(number).or_insert(request);
        }
        known.kept = Some(bytes.unwrap_or_default());
    }

    /// Keeps what the forge has said, where it is news.
    pub(crate) fn keep(&self, report: &mut PassReport) {
        let Some(forge) = &self.forge else { return };
        let known = &mut self.known().ended;
        let bytes = match serde_json::to_vec(&known.refused_all()) {
            Ok(bytes) if known.kept.as_ref() != Some(&bytes) => bytes,
            _ => return,
        };
        match self.scanner.store.put(TABLE, &key(forge.place()), &bytes) {
            Ok(()) => known.kept = Some(bytes),
            Err(error) => report.warnings.push(error.to_string()),
        }
    }

    /// Whether changes must wait because people may have refused them, for all that is known. Says
    /// so.
    pub(crate) fn in_doubt(
        &self,
        sets: &[ChangeSet],
        row: &mut EnvironmentReport,
        report: &mut PassReport,
    ) -> bool {
        let Some(forge) = self.forge.as_deref().filter(|_| !sets.is_empty()) else {
            return false;
        };
        if self.known().ended.learnt {
            return false;
        }
        row.state = EnvironmentState::Waiting;
        let place = forge.place();
        let warning = format!(
            "{} waits: a request that somebody closed at {} {} may hold back what it would write, and that could not be asked yet",
            row.name, place.kind, place.project
        );
        if !report.warnings.contains(&warning) {
            report.warnings.push(warning);
        }
        true
    }
}
