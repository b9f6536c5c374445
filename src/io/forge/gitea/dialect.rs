//! Gitea's dialect: authentication, paging, and the permissions of tokens.

use super::Gitea;
use crate::{
    io::{
        forge::{
            ForgeOperation, ForgeProblem,
            api::{Dialect, PageProgress, numbered_page},
        },
        http::HttpResponse,
    },
    spec::ForgeKind,
};
use reqwest::{Url, header::AUTHORIZATION};
use std::sync::Arc;

pub(crate) const DIALECT: Dialect = Dialect {
    kind: ForgeKind::Gitea,
    headers: &[("accept", "application/json")],
    authorization: |token| (AUTHORIZATION, format!("token {token}")),
    token_source: None,
    next_page,
    scope,
    compare_path: &["compare"],
    connect: |api, place| Arc::new(Gitea::new(api, place)),
};

/// Counts pages: Gitea builds its links from the address that it believes to have.
fn next_page(response: &HttpResponse, progress: PageProgress) -> Result<Option<Url>, ForgeProblem> {
    let total = response
        .header("x-total-count")
        .and_then(|total| total.parse().ok())
        .unwrap_or(0);
    if progress.count == 0 || progress.seen >= total {
        return Ok(None);
    }
    let pairs = response.url.query_pairs();
    let present = pairs.into_iter().find(|(name, _)| name == "page");
    let present: u64 = present.and_then(|(_, page)| page.parse().ok()).unwrap_or(1);
    Ok(Some(numbered_page(
        &response.url,
        &(present + 1).to_string(),
    )))
}

fn scope(operation: ForgeOperation) -> &'static str {
    match operation {
        ForgeOperation::Label | ForgeOperation::Comment => {
            "the scope write:issue and write access to the repository"
        }
        ForgeOperation::List
        | ForgeOperation::Read
        | ForgeOperation::Approvals
        | ForgeOperation::Checks
        | ForgeOperation::Settings => "the scope read:repository and read access to the repository",
        ForgeOperation::Releases => "the scope read:repository",
        ForgeOperation::Merge | ForgeOperation::AutoMerge => {
            "the scope write:repository and a user who may merge into the branch"
        }
        _ => "the scope write:repository and write access to the repository",
    }
}
