//! GitLab's dialect: authentication, paging, and the permissions of tokens.

use super::Gitlab;
use crate::{
    io::{
        forge::{
            ForgeOperation, ForgeProblem,
            api::{Dialect, PageProgress, linked_page, numbered_page},
        },
        http::HttpResponse,
    },
    spec::ForgeKind,
};
use reqwest::{Url, header::HeaderName};
use std::sync::Arc;

pub(crate) const DIALECT: Dialect = Dialect {
    kind: ForgeKind::Gitlab,
    headers: &[("accept", "application/json")],
    authorization: |token| (HeaderName::from_static("private-token"), token.to_owned()),
    token_source: None,
    next_page,
    scope,
    compare_path: &["-", "compare"],
    connect: |api, place| Arc::new(Gitlab::new(api, place)),
};

/// Follows `x-next-page`, or the `Link` header where a large list has no page numbers.
fn next_page(response: &HttpResponse, _: PageProgress) -> Result<Option<Url>, ForgeProblem> {
    let Some(page) = response.header("x-next-page") else {
        return linked_page(response);
    };
    let page = page.trim();
    let is_number = !page.is_empty() && page.bytes().all(|byte| byte.is_ascii_digit());
    Ok(is_number.then(|| numbered_page(&response.url, page)))
}

fn scope(operation: ForgeOperation) -> &'static str {
    match operation {
        ForgeOperation::Merge | ForgeOperation::AutoMerge | ForgeOperation::Branch => {
            "the scope api and a role that may merge into the branch (Developer or Maintainer)"
        }
        ForgeOperation::Releases => "the scope read_api",
        _ => "the scope api and the role Developer",
    }
}
