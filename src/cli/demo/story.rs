//! The story, step by step. Each step makes the real pass and checks its statements.
//!
//! The clock of the story starts five days ago, so that waiting for a day takes no time. Everything
//! written (commits, first-seen times) is in the past when the story ends.

use super::{
    cluster::DemoCluster,
    deploy,
    log::DemoLog,
    narrator::{Narrator, StoryEnd, StoryStep},
    report::{chosen, commits, environment},
    seed,
    servers::{self, DemoServers, pass},
};
use crate::{
    service::Failure,
    update::{EnvironmentState, ImageUpdater, PassMode, PassReport},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::path::Path;

/// The tags in the files of the first commit.
const WEB: &str = "1.4.0";
const WORKER: &str = "main-41-3f2a9c1";

/// The times of the story.
struct StoryClock {
    midnight: Timestamp,
}

impl StoryClock {
    fn new(now: Timestamp) -> Self {
        let day = SignedDuration::from_hours(24);
        let today = now
            .to_zoned(TimeZone::UTC)
            .start_of_day()
            .map_or(now, |start| start.timestamp());
        Self {
            midnight: today.checked_sub(day * 5).unwrap_or(today),
        }
    }

    /// Returns a time of day on day 1 to 5.
    fn at(&self, day: i64, hour: i64, minute: i64) -> Timestamp {
        let minutes = ((day - 1) * 24 + hour) * 60 + minute;
        self.midnight
            .checked_add(SignedDuration::from_mins(minutes))
            .unwrap_or(self.midnight)
    }
}

/// Plays the whole story, and returns the servers as they are at its end.
pub(super) async fn play(
    folder: &Path,
    now: Timestamp,
    cluster: &DemoCluster,
    log: &DemoLog,
    narrator: &mut Narrator<'_>,
) -> Result<DemoServers, StoryEnd> {
    let clock = StoryClock::new(now);
    let images = [
        ("shop/web", WEB),
        ("shop/web", "1.4.1"),
        ("shop/worker", WORKER),
    ];
    let start = clock.at(1, 9, 30);
    let settings = cluster.settings();
    let servers = DemoServers::start(folder, &settings, &images, (WEB, WORKER), start).await?;
    let engine = servers.open()?;
    let [updater] = engine.updaters.as_slice() else {
        return Err(Failure::input("the demo's tagboat.yaml has one repository").into());
    };
    setup(&servers, updater, &clock, narrator).await?;
    first_pass(&servers, updater, &clock, narrator).await?;
    new_tags(&servers, updater, &clock, narrator).await?;
    age_and_window(&servers, updater, &clock, narrator).await?;
    revert(&servers, updater, &clock, narrator).await?;
    narrator.say(
        "\n--- From Git to the cluster. From here on, the clock is real and times are measured. ---\n",
    )?;
    deploy::play(&servers, cluster, &engine, updater, log, narrator).await?;
    history(&servers, updater, narrator)?;
    engine.scanner.store.flush()?;
    Ok(servers)
}

/// Shows the registry and the repository.
async fn setup(
    servers: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let registry = servers.registry();
    let mut step = StoryStep::new("A registry and a Git repository", clock.at(1, 9, 30))
        .say(format!("Registry {registry}, in this process:"));
    for path in ["shop/web", "shop/worker"] {
        let tags = servers.tags(updater, path).await?.join("  ");
        step = step.say(format!("  {path:<11}  {tags}"));
    }
    step = step
        .say(format!(
            "Repository {}, in this process:",
            servers.clone_url()
        ))
        .say("  envs/dev/web.yaml  envs/dev/worker/values.yaml  envs/prod/web.yaml")
        .say(format!(
            "  and {}, which declares the policies:",
            seed::POLICIES
        ));
    for line in seed::files(&registry, WEB, WORKER)[0].1.lines() {
        step = step.say(format!("    {line}"));
    }
    narrator.tell(step)
}

/// A plan, a pass, and a pass with nothing to do.
async fn first_pass(
    servers: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let now = clock.at(1, 10, 0);
    let head = servers.head()?;
    let plan = pass(updater, PassMode::Plan, now).await;
    let (dev, prod) = (environment(&plan, "dev"), environment(&plan, "prod"));
    let is_planned = dev.is_some_and(|dev| {
        dev.state == EnvironmentState::Planned && chosen(dev, "dev/web") == Some("1.4.1")
    });
    narrator.tell(
        StoryStep::new("What would a pass change?", now)
            .plan(&plan)
            .check(is_planned, "dev would get 1.4.1")
            .check_refused(prod, "prod/web", "1.4.1", "must be seen for 24h")
            .check(servers.head()? == head, "nothing was written"),
    )?;

    let before = servers::file(updater, seed::DEV_WEB)?;
    let report = pass(updater, PassMode::Write, now).await;
    let after = servers::file(updater, seed::DEV_WEB)?;
    let id = commits(&report, "dev").first().cloned().unwrap_or_default();
    let is_pushed = !id.is_empty() && servers.head()? == id;
    let is_minimal = before.replace(WEB, "1.4.1") == after && before != after;
    narrator.tell(
        StoryStep::new("One pass", now)
            .pass(&report, &["dev"])
            .check(is_pushed, "the commit was pushed")
            .check(is_minimal, "only the tag has changed, and no other byte"),
    )?;

    let now = clock.at(1, 10, 5);
    let report = pass(updater, PassMode::Write, now).await;
    let requests = &report.requests;
    let is_idle = !report.has_changes()
        && requests.ls_refs == 1
        && requests.listings == 2
        && requests.heads == 1;
    let statement = format!(
        "it asked for {} tag lists, {} digest and 1 branch, and wrote nothing",
        requests.listings, requests.heads
    );
    narrator.tell(
        StoryStep::new("The next pass has nothing to do", now)
            .pass(&report, &["dev", "prod"])
            .check(is_idle && servers.head()? == id, statement),
    )
}

/// Newer tags, some of which the policies refuse.
async fn new_tags(
    servers: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    for (path, tag) in [
        ("shop/web", "1.5.0"),
        ("shop/web", "1.6.0-rc.1"),
        ("shop/web", "2.0.0"),
        ("shop/worker", "main-42-b07d1e5"),
        ("shop/worker", "nightly"),
    ] {
        servers.publish(path, tag).await?;
    }
    let now = clock.at(1, 16, 0);
    let report = pass(updater, PassMode::Write, now).await;
    let dev = environment(&report, "dev");
    let has_both = dev.is_some_and(|dev| {
        chosen(dev, "dev/web") == Some("1.5.0")
            && chosen(dev, "dev/worker") == Some("main-42-b07d1e5")
    });
    let values = servers::file(updater, seed::DEV_WORKER)?;
    narrator.tell(
        StoryStep::new("Newer tags are published", now)
            .say("CI pushes web 1.5.0, 1.6.0-rc.1 and 2.0.0, and worker main-42-b07d1e5 and nightly.")
            .pass(&report, &["dev"])
            .check(
                has_both && commits(&report, "dev").len() == 1,
                "both updates are in one commit",
            )
            .check_refused(dev, "dev/web", "1.6.0-rc.1", "pre-release")
            .check_refused(dev, "dev/web", "2.0.0", "outside the range")
            .check(
                values.contains("tag: main-42-b07d1e5\n"),
                "the Helm values of the worker were found without a marker",
            ),
    )
}

/// The minimum age and the window of prod.
async fn age_and_window(
    servers: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let has_prod = |report: &PassReport, version: &str| -> Result<bool, Failure> {
        let file = servers::file(updater, seed::PROD_WEB)?;
        Ok(file.contains(&format!("web:{version} #")) && commits(report, "prod").len() == 1)
    };

    let now = clock.at(2, 10, 30);
    let report = pass(updater, PassMode::Write, now).await;
    let prod = environment(&report, "prod");
    narrator.tell(
        StoryStep::new("A day later, prod takes what is old enough", now)
            .pass(&report, &["prod"])
            .check(has_prod(&report, "1.4.1")?, "prod has 1.4.1")
            .check_refused(prod, "prod/web", "1.5.0", "must be seen for 24h"),
    )?;

    let now = clock.at(2, 18, 0);
    let head = servers.head()?;
    let report = pass(updater, PassMode::Write, now).await;
    let is_waiting = environment(&report, "prod").is_some_and(|prod| {
        prod.state == EnvironmentState::WindowClosed && prod.until == Some(clock.at(3, 9, 0))
    });
    narrator.tell(
        StoryStep::new("In the evening, the window is closed", now)
            .say("1.5.0 is old enough by now, but prod may change only between 9:00 and 17:00.")
            .pass(&report, &["prod"])
            .check(
                is_waiting && servers.head()? == head,
                "prod waits until 09:00",
            ),
    )?;

    let now = clock.at(3, 9, 0);
    let report = pass(updater, PassMode::Write, now).await;
    narrator.tell(
        StoryStep::new("The window opens", now)
            .pass(&report, &["prod"])
            .check(has_prod(&report, "1.5.0")?, "prod has 1.5.0"),
    )
}

/// A user reverts a version, and a newer one comes.
async fn revert(
    servers: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let message = "prod: back to web 1.4.1, the checkout fails";
    let file = servers::file(updater, seed::PROD_WEB)?.replace("web:1.5.0 #", "web:1.4.1 #");
    let reverted = servers.commit(&[(seed::PROD_WEB, &file)], message, clock.at(3, 11, 0))?;
    let now = clock.at(3, 11, 5);
    let report = pass(updater, PassMode::Write, now).await;
    let prod = environment(&report, "prod");
    narrator.tell(
        StoryStep::new("Ada reverts prod, and tagboat respects it", now)
            .say(format!(
                "Ada commits \"{message}\". tagboat sees the revert in Git."
            ))
            .pass(&report, &["prod"])
            .check_refused(prod, "prod/web", "1.5.0", "is held")
            .check(
                servers.head()? == reverted,
                "the reverted version does not come back",
            ),
    )?;

    let now = clock.at(3, 12, 0);
    servers.publish("shop/web", "1.4.2").await?;
    let report = pass(updater, PassMode::Write, now).await;
    let (dev, prod) = (environment(&report, "dev"), environment(&report, "prod"));
    narrator.tell(
        StoryStep::new("A fix of the old version, 1.4.2, is published", now)
            .pass(&report, &["dev"])
            .check(
                dev.is_some_and(|dev| chosen(dev, "dev/web") == Some("1.5.0")),
                "dev stays at 1.5.0, which is higher",
            )
            .check_refused(prod, "prod/web", "1.4.2", "must be seen for 24h"),
    )?;

    let now = clock.at(4, 12, 0);
    let has_prod = |report: &PassReport, version: &str| -> Result<bool, Failure> {
        let file = servers::file(updater, seed::PROD_WEB)?;
        Ok(file.contains(&format!("web:{version} #")) && commits(report, "prod").len() == 1)
    };
    let report = pass(updater, PassMode::Write, now).await;
    narrator.tell(
        StoryStep::new("A version published after the revert is not held", now)
            .say("A hold covers 1.5.0 and what was listed below it before the revert.")
            .pass(&report, &["prod"])
            .check(has_prod(&report, "1.4.2")?, "prod has 1.4.2"),
    )?;

    servers.publish("shop/web", "1.5.1").await?;
    pass(updater, PassMode::Write, now).await;
    let now = clock.at(5, 12, 0);
    let report = pass(updater, PassMode::Write, now).await;
    narrator.tell(
        StoryStep::new("A higher version ends the hold", now)
            .say("1.5.1 was published a day ago; dev has had it since.")
            .pass(&report, &["prod"])
            .check(
                has_prod(&report, "1.5.1")?,
                "prod has 1.5.1, and 1.5.0 never came back",
            ),
    )
}

/// Shows the history of the repository.
fn history(
    servers: &DemoServers,
    updater: &ImageUpdater,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let (mut by_ada, mut updates, mut others) = (0, 0, 0);
    let mut lines = Vec::new();
    let head = updater.repo.mirror.head();
    for commit in head
        .into_iter()
        .flat_map(|head| updater.repo.mirror.history(head, 0, 100))
    {
        let commit = commit?;
        if commit.update {
            updates += 1;
        } else if commit.author == servers::ADA.0 {
            by_ada += 1;
        } else {
            others += 1;
        }
        let id = commit.id.to_hex_with_len(7);
        lines.push(format!("{id} {}: {}", commit.author, commit.subject));
    }
    let is_complete = head.map(|id| id.to_string()) == Some(servers.head()?)
        && (by_ada, updates, others) == (5, 10, 0);
    let statement =
        format!("{updates} updates by tagboat, and {by_ada} commits by Ada, her rollback included");
    narrator.tell(
        StoryStep::show("The history in Git", "git log --format='%h %an: %s'", lines)
            .check(is_complete, statement),
    )
}
