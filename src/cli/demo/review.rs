//! The part of the story in which people, and checks, see a change before it is merged.

use super::{
    deploy::{DeployChapter, PATIENCE, SECOND, THIRD, ms},
    fleet,
    ground::image,
    stage,
    story::environment,
    teller::{Narrator, StoryEnd, StoryStep},
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
    /// A request: opened with all that its reviewer wants to know, merged when its check is green,
    /// and told what became of it.
    pub async fn review(&self, teller: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            stage,
            ground,
            updater,
            ..
        } = self;
        let files = fleet::stage(
            &stage.registry(),
            ground.name,
            &ground.namespace,
            SECOND,
            ground.replicas(),
        );
        let changes: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        let head = stage.commit(&changes, "podinfo: a stage, by review", Timestamp::now())?;
        let brought = self.bring().await?;
        let opened = stage.forge().requests();
        let mut step = StoryStep::new("A stage that is reviewed", Timestamp::now()).say(format!(
            "Ada commits a second Deployment, {STAGED} at {SECOND}, and its Environment:"
        ));
        for line in files[0].1.split("---\n").nth(1).unwrap_or_default().lines() {
            step = step.say(format!("    {line}"));
        }
        step = step
            .pass(&brought.report, &["stage"])
            .print(opened.first().map_or_else(Vec::new, page));
        let told = |request: &PullView| {
            let diff = format!("+        image: {}\n", self.image(THIRD));
            request.open
                && request.title == format!("stage: podinfo {SECOND} → {THIRD}")
                && request.body.contains(&diff)
        };
        self.tell(
            teller,
            step.check(
                state(&brought.report) == Some(RequestState::Opened) && opened.len() == 1,
                "a request is open",
            )
            .check(
                opened.iter().all(told),
                "it shows what changes on the cluster, and what the cluster says to it",
            )
            .check(stage.head()? == head, "main is as Ada left it"),
        )?;

        let again = self.bring().await?;
        let waits = waits(&again.report);
        self.tell(
            teller,
            StoryStep::new("Nothing is merged without a check", Timestamp::now())
                .pass(&again.report, &["stage"])
                .check(waits.contains("check"), "it says what it waits for")
                .check(
                    stage.head()? == head && stage.forge().requests() == opened,
                    "nothing has changed, neither in Git nor at the forge",
                ),
        )?;

        let Some(request) = opened.first() else {
            return Ok(());
        };
        stage
            .forge()
            .check(request.number, "ci", "success")
            .map_err(stage::broken)?;
        let begun = Instant::now();
        let brought = self.bring().await?;
        let live = ground.named(STAGED).await?;
        let deployed =
            live.is_some_and(|live| image(&live) == self.image(THIRD) && self.is_ready(&live));
        let comment = self.comment(request.number, begun).await?;
        let ended = stage.forge().requests().iter().all(|request| !request.open);
        let took = begun.elapsed();
        self.tell(
            teller,
            StoryStep::new("Its check turns green", Timestamp::now())
                .say("CI says that all is well. Patches may merge by themselves, says the Environment.")
                .pass(&brought.report, &["stage"])
                .print(comment.iter().flat_map(|text| text.lines().map(str::to_owned)).collect())
                .check(
                    state(&brought.report) == Some(RequestState::Merged)
                        && ended
                        && stage::file(updater, fleet::STAGED)?.contains(&format!("podinfo:{THIRD}\n")),
                    "it merged by itself, and its branch is gone",
                )
                .check(
                    deployed && brought.ready.is_some() && comment.is_some_and(|text| text.contains("rolled out")),
                    format!("podinfo {THIRD} is {} on the stage, and the request says so, {} later", self.ready_word(), ms(took)),
                ),
        )
    }

    /// The comment in which a merged request is told what became of it on the clusters.
    async fn comment(&self, number: u64, begun: Instant) -> Result<Option<String>, Failure> {
        while begun.elapsed() < PATIENCE {
            let requests = self.stage.forge().requests();
            let said = requests
                .iter()
                .filter(|request| request.number == number)
                .flat_map(|request| &request.comments);
            if let Some(text) = said.into_iter().find(|text| text.contains("rolled out")) {
                return Ok(Some(unmarked(text)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(None)
    }
}

/// The state of the stage's request in a report.
fn state(report: &PassReport) -> Option<RequestState> {
    environment(report, "stage")?
        .requests
        .first()
        .map(|request| request.state)
}

/// What it waits for.
fn waits(report: &PassReport) -> String {
    environment(report, "stage").map_or(String::new(), |stage| {
        stage
            .requests
            .iter()
            .flat_map(|request| request.waits.clone())
            .collect()
    })
}

/// A request as its page shows it, in a frame.
fn page(request: &PullView) -> Vec<String> {
    let labels = if request.labels.is_empty() {
        String::new()
    } else {
        format!("  [{}]", request.labels.join(", "))
    };
    let mut lines = vec![format!("┌ #{} {}{labels}", request.number, request.title)];
    lines.extend(
        unmarked(&request.body)
            .trim()
            .lines()
            .map(|line| format!("│ {line}").trim_end().to_owned()),
    );
    lines.push("└".to_owned());
    lines
}

/// A text without what people do not see: hidden lines, and the addresses of links.
fn unmarked(text: &str) -> String {
    let mut seen = String::new();
    for line in text.lines().filter(|line| !line.starts_with("<!--")) {
        let mut rest = line;
        while let Some((before, link)) = rest.split_once("](") {
            seen.push_str(before);
            seen.push(']');
            rest = link.split_once(')').map_or("", |(_, after)| after);
        }
        seen.push_str(rest);
        seen.push('\n');
    }
    seen
}
