//! The conventions in which the APIs of forges differ. Each forge's folder has its own.

use super::ForgeApi;
use crate::{
    core::secret::Secret,
    io::{
        forge::{Forge, ForgeLogin, ForgeOperation, ForgeProblem},
        http::{
            HttpResponse,
            link::{self, LinkError},
        },
    },
    spec::{ForgeKind, ForgeSpec},
};
use async_trait::async_trait;
use reqwest::{Url, header::HeaderName};
use std::sync::Arc;

/// The conventions of one forge.
pub(crate) struct Dialect {
    pub kind: ForgeKind,
    /// Headers of every request.
    pub headers: &'static [(&'static str, &'static str)],
    /// Returns the header that carries a token.
    pub authorization: fn(&str) -> (HeaderName, String),
    /// Creates the source of short-lived tokens for an App, if the forge has Apps.
    pub token_source: Option<NewTokenSource>,
    /// Returns the URL of the next page of a list.
    pub next_page: fn(&HttpResponse, PageProgress) -> Result<Option<Url>, ForgeProblem>,
    /// Returns the permission that an operation requires of a token.
    pub scope: fn(ForgeOperation) -> &'static str,
    /// The path of the page that compares two commits, below the project and before the range.
    pub compare_path: &'static [&'static str],
    pub connect: fn(ForgeApi, ForgeSpec) -> Arc<dyn Forge>,
}

/// Creates a token source, if the login is an App's.
pub(crate) type NewTokenSource = fn(&ForgeLogin) -> Option<Box<dyn TokenSource>>;

/// The entries of a list read so far, and on the last page.
#[derive(Clone, Copy)]
pub(crate) struct PageProgress {
    pub seen: usize,
    pub count: usize,
}

/// Obtains short-lived tokens.
#[async_trait]
pub(crate) trait TokenSource: Send + Sync {
    /// Returns a token, cached or new. Concurrent callers wait for the same one.
    async fn token(&self, api: &ForgeApi) -> Result<Secret, ForgeProblem>;

    /// Forgets a token that was refused.
    async fn forget(&self, token: &Secret);
}

impl std::fmt::Debug for Dialect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dialect({})", self.kind)
    }
}

/// Follows the `Link` header.
pub(crate) fn linked_page(response: &HttpResponse) -> Result<Option<Url>, ForgeProblem> {
    let links = response
        .headers
        .get_all("link")
        .iter()
        .filter_map(|value| value.to_str().ok());
    link::next(links, &response.url).map_err(|why| match why {
        LinkError::Elsewhere(to) => ForgeProblem::Redirect { to },
        LinkError::Unreadable => ForgeProblem::Content {
            endpoint: format!("GET {}", response.url.path()),
            why: "the link to the next page is not a URL".to_owned(),
        },
    })
}

/// Replaces the parameter `page` of a URL.
pub(crate) fn numbered_page(url: &Url, page: &str) -> Url {
    let mut url = url.clone();
    let others: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| name != "page")
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(others)
        .append_pair("page", page);
    url
}
