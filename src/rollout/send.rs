//! Sends commit statuses and comments to the forge.

use super::reporter::{ReportTrouble, RequestReport, RolloutReporter};
use crate::{
    core::error::Classify,
    events::{Event, EventReason},
    io::forge::{CommentOutcome, ForgeError, ForgeProblem},
    review::rollout::{self, MARKER, RolloutStatus},
};
use std::sync::Arc;
use tokio::time::Instant;

impl RolloutReporter {
    /// Sends what is new: the statuses, then the comment, which completes them. The first time the
    /// comment goes first: if it exists already, an earlier process has sent everything.
    pub(super) async fn send(
        &self,
        report: &mut RequestReport,
        reached: &[RolloutStatus],
    ) -> Result<(), ReportTrouble> {
        let merged = Arc::clone(&report.merged);
        let statuses = rollout::statuses(&merged, reached);
        let text = rollout::comment(&merged, reached, self.forge.limits().comment, |commit| {
            self.forge.commit_url(commit)
        });
        let mut sent = false;
        if report.text.is_none() && !report.muted.comment {
            let commented = self.comment(report, &text).await?;
            if commented == Some(CommentOutcome::Same) {
                report.statuses = statuses
                    .iter()
                    .map(|status| (status.context.clone(), status.clone()))
                    .collect();
            }
            sent |= commented.is_some_and(|commented| commented != CommentOutcome::Same);
        }
        for status in &statuses {
            if report.muted.statuses || report.statuses.get(&status.context) == Some(status) {
                continue;
            }
            match self.forge.set_status(&merged.commit, status).await {
                Ok(()) => {
                    report
                        .statuses
                        .insert(status.context.clone(), status.clone());
                    sent = true;
                }
                Err(error) if is_final(&error) => {
                    let message = format!("cannot report rollouts as commit statuses: {error}");
                    let event = Event::warning(EventReason::RolloutReportFailed, message);
                    self.record_event(&merged, event.hint(error.hint()));
                    report.muted.statuses = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if report.text.as_ref() != Some(&text) && !report.muted.comment {
            sent |= self
                .comment(report, &text)
                .await?
                .is_some_and(|commented| commented != CommentOutcome::Same);
        }
        report.reported_at = Some(Instant::now());
        if sent {
            let message = "reported the rollout of a pull request";
            self.record_event(&merged, Event::info(EventReason::RolloutReported, message));
        }
        Ok(())
    }

    /// Writes the comment; returns `None` if the token may not.
    async fn comment(
        &self,
        report: &mut RequestReport,
        text: &str,
    ) -> Result<Option<CommentOutcome>, ReportTrouble> {
        match self
            .forge
            .comment(&report.merged.request, MARKER, text)
            .await
        {
            Ok(commented) => {
                report.text = Some(text.to_owned());
                Ok(Some(commented))
            }
            Err(error) if is_final(&error) => {
                let message = format!("cannot report rollouts in the pull request: {error}");
                let event = Event::warning(EventReason::RolloutReportFailed, message);
                self.record_event(&report.merged, event.hint(error.hint()));
                report.muted.comment = true;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns whether a retry is useless: the token lacks a right, the target is gone, or the forge
/// refuses.
fn is_final(error: &ForgeError) -> bool {
    matches!(
        error.problem,
        ForgeProblem::Forbidden { .. }
            | ForgeProblem::NotFound { .. }
            | ForgeProblem::Refused { .. }
            | ForgeProblem::Unsupported(_)
            | ForgeProblem::Setup(_)
    )
}
