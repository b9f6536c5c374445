//! Approvals on GitHub, and how many the base requires.

use super::{APPROVALS_WANTED, MOST_ASKED, shapes::GithubReview};
use crate::{
    io::forge::{
        Approvals, ForgeError, ForgeOperation, ForgeProblem, PullRequest, api::List, github::Github,
    },
    review::types::ReviewVerdict,
};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

impl Github {
    /// Returns the number of approvals that the base requires; `None` if only administrators may
    /// read it.
    pub(super) async fn approvals_wanted(&self, base: &str) -> Result<Option<u32>, ForgeError> {
        let wanted = self.base_wants(base).await?;
        if !wanted.protected {
            return Ok(Some(wanted.approvals));
        }
        let classic = self
            .api
            .pass_cache
            .once(
                &format!("approvals {base}"),
                Box::pin(self.classic_approvals(base)),
            )
            .await?;
        Ok(classic
            .map(|classic| classic.max(wanted.approvals))
            .or(Some(wanted.approvals).filter(|count| *count > 0)))
    }

    /// Returns the approvals required by classic protection. REST reports them to administrators
    /// only, GraphQL to every writer; `None` if it does not, as on a GitHub Enterprise without that
    /// field.
    pub(super) async fn classic_approvals(&self, base: &str) -> Result<Option<u32>, ForgeError> {
        let (owner, name) = self.place.project.split_once('/').unwrap_or_default();
        let variables = json!({"owner": owner, "name": name, "ref": format!("refs/heads/{base}")});
        match self
            .graphql(ForgeOperation::Settings, APPROVALS_WANTED, variables)
            .await
        {
            Ok(data) => {
                let found = &data["repository"]["ref"];
                let count = found["refUpdateRule"]["requiredApprovingReviewCount"]
                    .as_u64()
                    .unwrap_or(0);
                Ok(found
                    .is_object()
                    .then(|| u32::try_from(count).unwrap_or(u32::MAX)))
            }
            Err(error)
                if matches!(
                    error.problem,
                    ForgeProblem::NotFound { .. }
                        | ForgeProblem::Forbidden { .. }
                        | ForgeProblem::Refused { .. }
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn read_approvals(
        &self,
        request: &PullRequest,
    ) -> Result<Approvals, ForgeError> {
        let number = request.number.to_string();
        let list = List::all(
            ForgeOperation::Approvals,
            self.repo(&["pulls", &number, "reviews"], &[("per_page", "100")]),
            "",
        );
        let reviews = self.api.pages(&list, |review: GithubReview| {
            let belongs = review.belongs();
            review
                .user
                .map(|user| (user.login, belongs, review.state, review.commit_id))
                .into()
        });
        let (reviews, wanted) = futures::try_join!(reviews, self.approvals_wanted(&request.base))?;
        // Reviews are ordered by time: the last one with a verdict counts; comments have none.
        let mut last = BTreeMap::new();
        for (login, belongs, state, commit) in reviews {
            let word = match state.as_str() {
                // An approval of an earlier head says nothing about the present one.
                "APPROVED" if commit.as_deref() == Some(&request.head_commit) => {
                    ReviewVerdict::Approved
                }
                "APPROVED" => ReviewVerdict::Earlier,
                "CHANGES_REQUESTED" => ReviewVerdict::Against,
                "DISMISSED" => {
                    last.remove(&login);
                    continue;
                }
                _ => continue,
            };
            last.insert(login, (word, belongs));
        }
        let (mut said, mut asked) = (BTreeMap::new(), 0);
        for (login, (word, belongs)) in last {
            let counts = match belongs {
                true => Some(true),
                false if asked == MOST_ASKED => None,
                false => {
                    asked += 1;
                    self.may_write(&login).await?
                }
            };
            // If the permission is unknown, an objection counts and an approval does not.
            if counts.unwrap_or(word == ReviewVerdict::Against) {
                said.insert(login, word);
            }
        }
        Ok(Approvals::of(&said, wanted))
    }

    /// Returns whether a user may write to the repository, cached for a pass; `None` if this token
    /// may not ask.
    pub(super) async fn may_write(&self, login: &str) -> Result<Option<bool>, ForgeError> {
        #[derive(Deserialize)]
        struct Permission {
            permission: String,
        }
        let ask = async {
            let url = self.repo(&["collaborators", login, "permission"], &[]);
            match self
                .api
                .find::<Permission>(ForgeOperation::Approvals, url)
                .await
            {
                // `maintain` is reported as `write`, `triage` as `read`.
                Ok(found) => Ok(Some(found.is_some_and(|found| {
                    matches!(found.permission.as_str(), "admin" | "maintain" | "write")
                }))),
                Err(error) if matches!(error.problem, ForgeProblem::Forbidden { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        Ok(*self
            .api
            .pass_cache
            .once(&format!("permission {login}"), ask)
            .await?)
    }
}
