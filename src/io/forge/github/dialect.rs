//! GitHub's dialect: authentication, paging, and the permissions of tokens.

use super::{Github, app};
use crate::{
    io::forge::{
        ForgeOperation,
        api::{Dialect, linked_page},
    },
    spec::ForgeKind,
};
use reqwest::header::AUTHORIZATION;
use std::sync::Arc;

pub(crate) const DIALECT: Dialect = Dialect {
    kind: ForgeKind::Github,
    headers: &[
        ("accept", "application/vnd.github+json"),
        ("x-github-api-version", "2022-11-28"),
    ],
    // An App's own token is a JWT, and is sent the same way.
    authorization: |token| (AUTHORIZATION, format!("Bearer {token}")),
    token_source: Some(app::source),
    next_page: |response, _| linked_page(response),
    scope,
    compare_path: &["compare"],
    connect: |api, place| Arc::new(Github::new(api, place)),
};

fn scope(operation: ForgeOperation) -> &'static str {
    match operation {
        ForgeOperation::SignIn => {
            "an App that is installed on the repository, its id and its own private key"
        }
        ForgeOperation::Settings => {
            "\"Metadata: read\" and \"Contents: read\" (classic: scope repo)"
        }
        ForgeOperation::List | ForgeOperation::Read | ForgeOperation::Approvals => {
            "\"Pull requests: read\" (classic: scope repo)"
        }
        ForgeOperation::Open | ForgeOperation::Change | ForgeOperation::Reviewers => {
            "\"Pull requests: read and write\" (classic: scope repo)"
        }
        ForgeOperation::Label | ForgeOperation::Comment => {
            "\"Pull requests: read and write\" and \"Issues: read and write\" (classic: scope repo)"
        }
        ForgeOperation::Checks => {
            "\"Checks: read\" and \"Commit statuses: read\" (classic: scope repo)"
        }
        ForgeOperation::Merge | ForgeOperation::AutoMerge => {
            "\"Contents: read and write\" and \"Pull requests: read and write\" (classic: scope repo), and leave of the branch's rules"
        }
        ForgeOperation::Branch => "\"Contents: read and write\" (classic: scope repo)",
        ForgeOperation::Status => {
            "\"Commit statuses: read and write\" (classic: scope repo:status)"
        }
        ForgeOperation::Releases => "\"Contents: read\" of that repository",
    }
}
