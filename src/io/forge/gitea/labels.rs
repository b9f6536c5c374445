//! Labels of a Gitea repository and its organisation.

use super::{Gitea, read::PAGE};
use crate::io::forge::{
    ForgeError, ForgeOperation, ForgeProblem, RequestLabel,
    api::{ApiCall, List},
};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// The cache key of the repository's labels.
const LABELS: &str = "labels";

/// Labels by name, with their ids.
pub(super) type LabelIds = Vec<(String, u64)>;

#[derive(Deserialize)]
struct GiteaLabel {
    id: u64,
    name: String,
}

pub(super) fn id_of(labels: &LabelIds, name: &str) -> Option<u64> {
    labels
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, id)| *id)
}

impl Gitea {
    /// Returns the labels of the repository, read again if one of `names` is missing.
    pub(super) async fn known_labels(&self, names: &[&str]) -> Result<Arc<LabelIds>, ForgeError> {
        let lacks = |known: &LabelIds| names.iter().any(|name| id_of(known, name).is_none());
        let known = self.api.pass_cache.once(LABELS, self.labels()).await?;
        if !lacks(&known) {
            return Ok(known);
        }
        // They may have been created since.
        self.api.pass_cache.forget(LABELS).await;
        self.api.pass_cache.once(LABELS, self.labels()).await
    }

    async fn labels(&self) -> Result<LabelIds, ForgeError> {
        let keep = |label: GiteaLabel| Some((label.name, label.id)).into();
        self.api
            .pages(
                &List::all(ForgeOperation::Label, self.repo(&["labels"], &[PAGE]), ""),
                keep,
            )
            .await
    }

    pub(super) async fn organisation_labels(&self) -> Result<LabelIds, ForgeError> {
        let url = self.api.url(["orgs", self.owner(), "labels"], &[PAGE]);
        let keep = |label: GiteaLabel| Some((label.name, label.id)).into();
        match self
            .api
            .pages(&List::all(ForgeOperation::Label, url, ""), keep)
            .await
        {
            Ok(labels) => Ok(labels),
            // The owner is a user, or the token may not look at organisations: then a label of the
            // repository is made.
            Err(error)
                if matches!(
                    error.problem,
                    ForgeProblem::NotFound { .. } | ForgeProblem::Forbidden { .. }
                ) =>
            {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn make_label(&self, label: &RequestLabel) -> Result<u64, ForgeError> {
        let body = json!({"name": label.name, "color": format!("#{}", label.color), "description": label.description});
        // Gitea would make a second one of the same name.
        let call = ApiCall::once(
            ForgeOperation::Label,
            Method::POST,
            self.repo(&["labels"], &[]),
            body,
        );
        let made = self.api.json::<GiteaLabel>(&call).await?.id;
        self.api.pass_cache.forget(LABELS).await;
        Ok(made)
    }
}
