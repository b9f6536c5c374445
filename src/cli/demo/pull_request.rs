//! The part of the story in which users and checks see a change before it is merged.

use super::{
    deploy::{DeployChapter, SECOND, STEP_TIMEOUT, SyncedPass, THIRD, ms},
    narrator::{Narrator, StoryEnd, StoryStep},
    report::environment,
    seed,
    servers::{file, setup_failure},
};
use crate::{
    sandbox::forge::PullView,
    service::Failure,
    update::{PassReport, RequestState},
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// The Deployment of the stage.
const STAGED: &str = "podinfo-stage";

impl DeployChapter<'_> {
    /// A pull request: opened with what its reviewer needs, merged when its check is green, and
    /// commented on after the rollout.
    pub(super) async fn review(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let head = self.open(narrator).await?;
        let opened = self.servers.forge().requests();
        let synced = self.sync().await?;
        let is_unchanged =
            self.servers.head()? == head && self.servers.forge().requests() == opened;
        self.tell(
            narrator,
            StoryStep::new("Nothing is merged without a green check", Timestamp::now())
                .pass(&synced.report, &["stage"])
                .check(
                    waits(&synced.report).contains("check"),
                    "the pass names the check that it waits for",
                )
                .check(
                    is_unchanged,
                    "nothing has changed, neither in Git nor at the forge",
                ),
        )?;
        match opened.first() {
            Some(request) => self.merge(request.number, narrator).await,
            None => Ok(()),
        }
    }

    /// Ada declares the stage, and a pass opens a pull request; returns the head of the branch.
    async fn open(&self, narrator: &mut Narrator<'_>) -> Result<String, StoryEnd> {
        let Self {
            servers, cluster, ..
        } = self;
        let files = seed::stage(
            &servers.registry(),
            cluster.name,
            &cluster.namespace,
            SECOND,
            cluster.replicas(),
        );
        let message = "podinfo: a stage, by review";
        let head = servers.commit(&seed::borrowed(&files), message, Timestamp::now())?;
        let synced = self.sync().await?;
        let opened = servers.forge().requests();
        let mut step = StoryStep::new("A stage with reviews", Timestamp::now()).say(format!(
            "Ada commits a second Deployment, {STAGED} at {SECOND}, and its Environment:"
        ));
        for line in files[0].1.split("---\n").nth(1).unwrap_or_default().lines() {
            step = step.say(format!("    {line}"));
        }
        let shows_change = |request: &PullView| {
            let line = format!("+        image: {}\n", self.image(THIRD));
            request.open
                && request.title == format!("stage: podinfo {SECOND} → {THIRD}")
                && request.body.contains(&line)
        };
        let is_open = state(&synced.report) == Some(RequestState::Opened) && opened.len() == 1;
        self.tell(
            narrator,
            step.pass(&synced.report, &["stage"])
                .output(opened.first().map_or_else(Vec::new, framed))
                .check(is_open, "a pull request is open")
                .check(
                    opened.iter().all(shows_change),
                    "it shows the rendered change and the result of the cluster's dry run",
                )
                .check(servers.head()? == head, "main has not changed"),
        )?;
        Ok(head)
    }

    /// The check turns green, and the pull request is merged and deployed.
    async fn merge(&self, number: u64, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let forge = self.servers.forge();
        let checked = forge.check(number, "ci", "success");
        checked.map_err(setup_failure)?;
        let start = Instant::now();
        let SyncedPass { report, ready, .. } = self.sync().await?;
        let live = self.cluster.deployment_named(STAGED).await?;
        let is_live = live.is_some_and(|live| self.has_rolled_out(&live, THIRD));
        let comment = self.comment(number, start).await?.unwrap_or_default();
        let time = ms(start.elapsed());
        let is_closed = forge.requests().iter().all(|request| !request.open);
        let is_merged = state(&report) == Some(RequestState::Merged)
            && file(self.updater, seed::STAGED)?.contains(&format!("podinfo:{THIRD}\n"));
        let word = self.ready_word();
        self.tell(
            narrator,
            StoryStep::new("The check turns green", Timestamp::now())
                .say("CI reports success. The Environment lets patch updates merge automatically.")
                .pass(&report, &["stage"])
                .output(comment.lines().map(str::to_owned).collect())
                .check(
                    is_merged && is_closed,
                    "it was merged automatically, and its branch is deleted",
                )
                .check(
                    is_live && ready.is_some() && comment.contains("rolled out"),
                    format!("podinfo {THIRD} is {word}, and a comment reports it after {time}"),
                ),
        )
    }

    /// Waits for the comment that reports the rollout of a merged pull request.
    async fn comment(&self, number: u64, start: Instant) -> Result<Option<String>, Failure> {
        while start.elapsed() < STEP_TIMEOUT {
            let requests = self.servers.forge().requests();
            let comment = requests
                .iter()
                .filter(|request| request.number == number)
                .flat_map(|request| &request.comments)
                .find(|text| text.contains("rolled out"));
            if let Some(text) = comment {
                return Ok(Some(visible(text)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }
}

/// Returns the state of the stage's pull request.
fn state(report: &PassReport) -> Option<RequestState> {
    let request = environment(report, "stage")?.requests.first()?;
    Some(request.state)
}

/// Returns the reasons why the stage's pull request is not merged.
fn waits(report: &PassReport) -> String {
    let requests = environment(report, "stage")
        .into_iter()
        .flat_map(|stage| &stage.requests);
    requests.flat_map(|request| request.waits.clone()).collect()
}

/// Returns a pull request as its page shows it, in a frame.
fn framed(request: &PullView) -> Vec<String> {
    let mut title = format!("┌ #{} {}", request.number, request.title);
    if !request.labels.is_empty() {
        title.push_str(&format!("  [{}]", request.labels.join(", ")));
    }
    let mut lines = vec![title];
    let body = visible(&request.body);
    let body = body.trim().lines();
    lines.extend(body.map(|line| format!("│ {line}").trim_end().to_owned()));
    lines.push("└".to_owned());
    lines
}

/// Returns the visible part of a text: no hidden comments, and links without their addresses.
fn visible(text: &str) -> String {
    let mut visible = String::new();
    for line in text.lines().filter(|line| !line.starts_with("<!--")) {
        let mut rest = line;
        while let Some((before, link)) = rest.split_once("](") {
            visible.push_str(before);
            visible.push(']');
            rest = link.split_once(')').map_or("", |(_, after)| after);
        }
        visible.push_str(rest);
        visible.push('\n');
    }
    visible
}
