//! The story, step by step. Each step runs the real pass and checks what it tells.
//!
//! The clock of the story begins four days ago, so that waiting for a day takes no time here, and
//! everything that is written (commits, first-seen times) lies in the past when it ends.

use super::{
    deploy, fleet,
    ground::DemoCluster,
    log::DemoLog,
    stage::{self, DemoServers, pass},
    teller::{Narrator, StoryEnd, StoryStep},
};
use crate::{
    service::Failure,
    update::{
        EnvironmentReport, EnvironmentState, ImageUpdater, PassMode, PassReport, PolicyReport,
    },
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use std::path::Path;

/// The tags of the first day, as they stand in the files.
const WEB: &str = "1.4.0";
const WORKER: &str = "main-41-3f2a9c1";

/// The moments of the story.
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
            midnight: today.checked_sub(day * 4).unwrap_or(today),
        }
    }

    /// A time of day on day 1 to 4.
    fn at(&self, day: i64, hour: i64, minute: i64) -> Timestamp {
        self.midnight
            .checked_add(SignedDuration::from_mins(
                ((day - 1) * 24 + hour) * 60 + minute,
            ))
            .unwrap_or(self.midnight)
    }
}

/// Tells everything, and leaves the servers as the story ends.
pub async fn tell(
    folder: &Path,
    now: Timestamp,
    ground: &DemoCluster,
    log: &DemoLog,
    teller: &mut Narrator<'_>,
) -> Result<DemoServers, StoryEnd> {
    let clock = StoryClock::new(now);
    let images = [
        ("shop/web", WEB),
        ("shop/web", "1.4.1"),
        ("shop/worker", WORKER),
    ];
    let stage = DemoServers::start(
        folder,
        &ground.declaration(),
        &images,
        (WEB, WORKER),
        clock.at(1, 9, 30),
    )
    .await?;
    let engine = stage.open()?;
    let [updater] = engine.updaters.as_slice() else {
        return Err(Failure::input("the demo's tagboat.yaml names one repository").into());
    };
    first_day(&stage, updater, &clock, teller).await?;
    patience(&stage, updater, &clock, teller).await?;
    revert(&stage, updater, &clock, teller).await?;
    teller.say("\n--- From Git to the cluster. From here on the clock is the real one, and times are measured. ---\n")?;
    deploy::tell(&stage, ground, &engine, updater, log, teller).await?;
    history(&stage, updater, teller)?;
    engine.scanner.store.flush()?;
    Ok(stage)
}

/// Registry and repository, a plan, a pass, a pass with nothing to do, and newer tags.
async fn first_day(
    stage: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    teller: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let now = clock.at(1, 9, 30);
    let mut step = StoryStep::new("A registry and a Git repository", now)
        .say(format!("Registry {}, in this process:", stage.registry()))
        .say(format!(
            "  shop/web     {}",
            stage.tags(updater, "shop/web").await?.join("  ")
        ))
        .say(format!(
            "  shop/worker  {}",
            stage.tags(updater, "shop/worker").await?.join("  ")
        ))
        .say(format!(
            "Repository {}, in this process:",
            stage.clone_url()
        ))
        .say("  envs/dev/web.yaml  envs/dev/worker/values.yaml  envs/prod/web.yaml")
        .say(format!(
            "  and {}, which says what is wanted where:",
            fleet::POLICIES
        ));
    for line in fleet::files(&stage.registry(), WEB, WORKER)[0].1.lines() {
        step = step.say(format!("    {line}"));
    }
    teller.tell(step)?;

    let now = clock.at(1, 10, 0);
    let head = stage.head()?;
    let plan = pass(updater, PassMode::Plan, now).await;
    let (dev, prod) = (environment(&plan, "dev"), environment(&plan, "prod"));
    teller.tell(
        StoryStep::new("What would a pass change?", now)
            .plan(&plan)
            .check(
                dev.is_some_and(|dev| {
                    dev.state == EnvironmentState::Planned
                        && chosen(dev, "dev/web") == Some("1.4.1")
                }),
                "dev would get 1.4.1",
            )
            .refused(prod, "prod/web", "1.4.1", "must be seen for 24h")
            .check(stage.head()? == head, "nothing was written anywhere"),
    )?;

    let before = stage::file(updater, fleet::DEV_WEB)?;
    let report = pass(updater, PassMode::Write, now).await;
    let after = stage::file(updater, fleet::DEV_WEB)?;
    let id = commits(&report, "dev").first().cloned().unwrap_or_default();
    teller.tell(
        StoryStep::new("One pass", now)
            .pass(&report, &["dev"])
            .check(
                !id.is_empty() && stage.head()? == id,
                "the commit was pushed",
            )
            .check(
                before.replace(WEB, "1.4.1") == after && before != after,
                "not a byte but the tag has changed",
            ),
    )?;

    let report = pass(updater, PassMode::Write, clock.at(1, 10, 5)).await;
    let requests = format!(
        "it asked for {} tag lists, {} digest and 1 branch, and wrote nothing",
        report.requests.listings, report.requests.heads
    );
    let idle = !report.has_changes()
        && report.requests.ls_refs == 1
        && report.requests.listings == 2
        && report.requests.heads == 1;
    teller.tell(
        StoryStep::new("Another pass has nothing to do", clock.at(1, 10, 5))
            .pass(&report, &["dev", "prod"])
            .check(idle && stage.head()? == id, requests),
    )?;

    let now = clock.at(1, 16, 0);
    for (path, tag) in [
        ("shop/web", "1.5.0"),
        ("shop/web", "1.6.0-rc.1"),
        ("shop/web", "2.0.0"),
        ("shop/worker", "main-42-b07d1e5"),
        ("shop/worker", "nightly"),
    ] {
        stage.publish(path, tag).await?;
    }
    let report = pass(updater, PassMode::Write, now).await;
    let dev = environment(&report, "dev");
    teller.tell(
        StoryStep::new("Newer tags are published", now)
            .say("CI pushes web 1.5.0, 1.6.0-rc.1 and 2.0.0, and worker main-42-b07d1e5 and nightly.")
            .pass(&report, &["dev"])
            .check(
                dev.is_some_and(|dev| chosen(dev, "dev/web") == Some("1.5.0") && chosen(dev, "dev/worker") == Some("main-42-b07d1e5"))
                    && commits(&report, "dev").len() == 1,
                "both arrive in one commit",
            )
            .refused(dev, "dev/web", "1.6.0-rc.1", "pre-release")
            .refused(dev, "dev/web", "2.0.0", "outside the range")
            .check(
                stage::file(updater, fleet::DEV_WORKER)?.contains("tag: main-42-b07d1e5\n"),
                "the Helm values of the worker were found without a marker",
            ),
    )?;
    Ok(())
}

/// Prod: an age, and a window.
async fn patience(
    stage: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    teller: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let now = clock.at(2, 10, 30);
    let report = pass(updater, PassMode::Write, now).await;
    let prod = environment(&report, "prod");
    teller.tell(
        StoryStep::new("A day later: prod takes what is old enough", now)
            .pass(&report, &["prod"])
            .check(
                stage::file(updater, fleet::PROD_WEB)?.contains("web:1.4.1 #")
                    && commits(&report, "prod").len() == 1,
                "prod has 1.4.1",
            )
            .refused(prod, "prod/web", "1.5.0", "must be seen for 24h"),
    )?;

    let now = clock.at(2, 18, 0);
    let (head, report) = (stage.head()?, pass(updater, PassMode::Write, now).await);
    let prod = environment(&report, "prod");
    teller.tell(
        StoryStep::new("In the evening the window is closed", now)
            .say("1.5.0 is old enough by now, but prod is changed between 9 and 17 o'clock only.")
            .pass(&report, &["prod"])
            .check(
                prod.is_some_and(|prod| {
                    prod.state == EnvironmentState::WindowClosed
                        && prod.until == Some(clock.at(3, 9, 0))
                }) && stage.head()? == head,
                "prod waits until 09:00",
            ),
    )?;

    let now = clock.at(3, 9, 0);
    let report = pass(updater, PassMode::Write, now).await;
    teller.tell(
        StoryStep::new("The window opens", now)
            .pass(&report, &["prod"])
            .check(
                stage::file(updater, fleet::PROD_WEB)?.contains("web:1.5.0 #")
                    && commits(&report, "prod").len() == 1,
                "prod has 1.5.0",
            ),
    )?;
    Ok(())
}

/// A person takes a version back, and something newer comes.
async fn revert(
    stage: &DemoServers,
    updater: &ImageUpdater,
    clock: &StoryClock,
    teller: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let good = stage::file(updater, fleet::PROD_WEB)?.replace("web:1.5.0 #", "web:1.4.1 #");
    let reverted = stage.commit(
        &[(fleet::PROD_WEB, &good)],
        "prod: back to web 1.4.1, the checkout fails",
        clock.at(3, 11, 0),
    )?;
    let now = clock.at(3, 11, 5);
    let report = pass(updater, PassMode::Write, now).await;
    let prod = environment(&report, "prod");
    teller.tell(
        StoryStep::new("Ada reverts prod; tagboat respects it", now)
            .say("Ada commits \"prod: back to web 1.4.1, the checkout fails\". tagboat sees it in Git.")
            .pass(&report, &["prod"])
            .refused(prod, "prod/web", "1.5.0", "is held")
            .check(stage.head()? == reverted, "the reverted version does not come back"),
    )?;

    let now = clock.at(3, 12, 0);
    stage.publish("shop/web", "1.5.1").await?;
    let report = pass(updater, PassMode::Write, now).await;
    let (dev, prod) = (environment(&report, "dev"), environment(&report, "prod"));
    teller.tell(
        StoryStep::new("The fix 1.5.1 is published", now)
            .pass(&report, &["dev"])
            .check(
                dev.is_some_and(|dev| chosen(dev, "dev/web") == Some("1.5.1")),
                "dev has it at once",
            )
            .refused(prod, "prod/web", "1.5.1", "must be seen for 24h"),
    )?;

    let now = clock.at(4, 12, 0);
    let report = pass(updater, PassMode::Write, now).await;
    teller.tell(
        StoryStep::new("A newer version passes the hold", now)
            .pass(&report, &["prod"])
            .check(
                stage::file(updater, fleet::PROD_WEB)?.contains("web:1.5.1 #")
                    && commits(&report, "prod").len() == 1,
                "prod has 1.5.1; 1.5.0 has never come back",
            ),
    )?;
    Ok(())
}

/// What the repository remembers.
fn history(
    stage: &DemoServers,
    updater: &ImageUpdater,
    teller: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let (mut people, mut updates, mut rollbacks, mut lines) = (0, 0, 0, Vec::new());
    if let Some(head) = updater.mirror.head() {
        for commit in updater.mirror.history(head, 0, 100) {
            let commit = commit?;
            let count = match (commit.update, commit.author == stage::PERSON.0) {
                (true, _) => &mut updates,
                (_, true) => &mut people,
                _ => &mut rollbacks,
            };
            *count += 1;
            lines.push(format!(
                "{} {}: {}",
                commit.id.to_hex_with_len(7),
                commit.author,
                commit.subject
            ));
        }
    }
    let truth = updater.mirror.head().map(|id| id.to_string()) == Some(stage.head()?);
    let step = StoryStep::look("What Git remembers", "git log --format='%h %an: %s'", lines);
    let said = format!(
        "{updates} updates and {rollbacks} rollback by tagboat, {people} commits of Ada, none lost"
    );
    teller.tell(step.check(truth && people == 4 && updates == 9 && rollbacks == 1, said))
}

/// What a report says of an Environment.
pub fn environment<'r>(report: &'r PassReport, name: &str) -> Option<&'r EnvironmentReport> {
    report
        .environments
        .iter()
        .find(|environment| environment.name == name)
}

fn policy<'r>(environment: &'r EnvironmentReport, name: &str) -> Option<&'r PolicyReport> {
    environment
        .policies
        .iter()
        .find(|policy| policy.name.to_string() == name)
}

/// The tag that a policy chose in an Environment.
pub fn chosen<'r>(environment: &'r EnvironmentReport, name: &str) -> Option<&'r str> {
    Some(policy(environment, name)?.chosen.as_ref()?.as_str())
}

/// The commits that a pass pushed to an Environment.
pub fn commits(report: &PassReport, name: &str) -> Vec<String> {
    environment(report, name).map_or(Vec::new(), |environment| {
        environment
            .commits
            .iter()
            .filter_map(|commit| commit.id.clone())
            .collect()
    })
}
