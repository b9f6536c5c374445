//! GitLab approvals: by whom, and for which head. An approval outlives a push unless the project
//! says otherwise, and names no commit: its time decides.

use super::{Gitlab, read::GitlabUser};
use crate::io::forge::{Approvals, ForgeError, ForgeOperation, PullRequest, api::List};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashMap;

/// The system note of an approval.
const APPROVED: &str = "approved this merge request";
/// The number of pages read of the latest notes, and of versions; older ones are some hundred
/// pushes back.
const PAGES: usize = 3;

#[derive(Deserialize)]
struct ApprovalShape {
    #[serde(default)]
    approved_by: Vec<ApprovedBy>,
    approvals_required: Option<u32>,
}

#[derive(Deserialize)]
struct ApprovedBy {
    user: GitlabUser,
    /// Since GitLab 18.
    approved_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct GitlabReviewer {
    user: GitlabUser,
    #[serde(default)]
    state: String,
}

/// A version of the diff, created by a push.
#[derive(Deserialize)]
struct DiffVersion {
    id: u64,
    head_commit_sha: Option<String>,
    created_at: Option<Timestamp>,
}

#[derive(Deserialize)]
struct ApprovalNote {
    body: String,
    author: GitlabUser,
    #[serde(default)]
    system: bool,
    created_at: Option<Timestamp>,
}

impl Gitlab {
    pub(crate) async fn read_approvals(
        &self,
        request: &PullRequest,
    ) -> Result<Approvals, ForgeError> {
        let (op, number) = (ForgeOperation::Approvals, request.number.to_string());
        let approvals = self.api.get::<ApprovalShape>(
            op,
            self.project(&["merge_requests", &number, "approvals"], &[]),
        );
        let reviewers = self.api.find::<Vec<GitlabReviewer>>(
            op,
            self.project(&["merge_requests", &number, "reviewers"], &[]),
        );
        let (approvals, reviewers) = futures::try_join!(approvals, reviewers)?;
        let against = reviewers
            .into_iter()
            .flatten()
            .filter(|reviewer| reviewer.state == "requested_changes");
        let changes_requested = against.map(|reviewer| reviewer.user.username).collect();
        let ApprovalShape {
            approved_by,
            approvals_required: required,
        } = approvals;
        let login = |one: ApprovedBy| one.user.username;
        if approved_by.is_empty() || required.unwrap_or(0) == 0 {
            let by = approved_by.into_iter().map(login).collect();
            return Ok(Approvals {
                by,
                earlier: Vec::new(),
                required,
                changes_requested,
            });
        }
        let pushed = self.pushed(request).await?;
        let noted = match approved_by.iter().all(|one| one.approved_at.is_some()) {
            true => HashMap::new(),
            false => self.noted(&number).await?,
        };
        let (by, earlier): (Vec<_>, Vec<_>) = approved_by.into_iter().partition(|one| {
            let at = one
                .approved_at
                .or_else(|| noted.get(&one.user.username).copied());
            at.zip(pushed).is_some_and(|(at, pushed)| at >= pushed)
        });
        let logins = |list: Vec<ApprovedBy>| list.into_iter().map(login).collect();
        Ok(Approvals {
            by: logins(by),
            earlier: logins(earlier),
            required,
            changes_requested,
        })
    }

    /// Returns the time at which GitLab saw the head. Pushes to the base make further versions of
    /// the same head; the first of those in a row counts. `None` until GitLab has processed the
    /// push.
    async fn pushed(&self, request: &PullRequest) -> Result<Option<Timestamp>, ForgeError> {
        let url = self.project(
            &["merge_requests", &request.number.to_string(), "versions"],
            &[("per_page", "100")],
        );
        let list = List {
            most: Some(PAGES),
            ..List::all(ForgeOperation::Approvals, url, "")
        };
        let keep = |version: DiffVersion| {
            Some((version.id, version.head_commit_sha, version.created_at)).into()
        };
        let mut versions = self.api.pages(&list, keep).await?;
        versions.sort_by_key(|(id, ..)| std::cmp::Reverse(*id));
        let same = versions
            .into_iter()
            .take_while(|(_, head, _)| head.as_deref() == Some(&request.head_commit));
        Ok(same.last().and_then(|(_, _, at)| at))
    }

    /// Returns the time of each person's latest approval, from GitLab's system notes.
    async fn noted(&self, number: &str) -> Result<HashMap<String, Timestamp>, ForgeError> {
        let query = [
            ("activity_filter", "only_activity"),
            ("sort", "desc"),
            ("order_by", "created_at"),
            ("per_page", "100"),
        ];
        let url = self.project(&["merge_requests", number, "notes"], &query);
        let list = List {
            most: Some(PAGES),
            ..List::all(ForgeOperation::Approvals, url, "")
        };
        let keep = |note: ApprovalNote| {
            let told = note.system && note.body.trim() == APPROVED;
            note.created_at
                .filter(|_| told)
                .map(|at| (note.author.username, at))
                .into()
        };
        let mut noted = HashMap::new();
        for (login, at) in self.api.pages(&list, keep).await? {
            let latest = noted.entry(login).or_insert(at);
            *latest = at.max(*latest);
        }
        Ok(noted)
    }
}
