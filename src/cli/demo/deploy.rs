//! The second half of the story: from Git to the cluster, back, and on. The clock is the real one
//! here, so that times can be measured.

use super::{
    fleet,
    ground::{self, DemoCluster, READY_AFTER},
    log::DemoLog,
    stage::{self, DemoServers, pass},
    story::{chosen, commits, environment},
    teller::{Narrator, StoryEnd, StoryStep},
};
use crate::{
    cli::{Screen, applications, rollback},
    core::name::Name,
    core::text::escape_control,
    daemon,
    objects::object::Object,
    reconcile::{self, ApplicationState, ApplicationStatus, Reconciler},
    service::Failure,
    service::engine::Engine,
    update::{ImageUpdater, PassMode, PassReport},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// How long a rollout, or a repair, may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The tags of podinfo, in the order in which they come.
const FIRST: &str = "6.7.0";
pub const SECOND: &str = "6.7.1";
pub const THIRD: &str = "6.7.2";

/// The tag that comes after the story.
pub const NEXT: &str = "6.7.3";

/// What one pass has brought about.
pub struct SyncedStep {
    pub report: PassReport,
    /// How long it took until everything was committed and pushed.
    pushed: Duration,
    /// How long until it was applied.
    applied: Option<Duration>,
    /// How long until everything was ready; nothing if it did not come to that.
    pub ready: Option<Duration>,
}

/// Who plays.
pub struct DeployChapter<'a> {
    pub stage: &'a DemoServers,
    pub ground: &'a DemoCluster,
    pub updater: &'a ImageUpdater,
    reconciler: Arc<Reconciler>,
    log: &'a DemoLog,
    color: bool,
}

/// Tells it, and leaves the cluster as it is then, with nobody who looks after it.
pub async fn tell(
    stage: &DemoServers,
    ground: &DemoCluster,
    engine: &Engine,
    updater: &Arc<ImageUpdater>,
    log: &DemoLog,
    teller: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let reconciler = stage
        .context()?
        .reconciler(reconcile::ReconcileMode::Act, &ground.stop)
        .await?;
    let reconciler =
        reconciler.ok_or_else(|| Failure::input("the demo's tagboat.yaml names a cluster"))?;
    ground.works_with(&reconciler);
    // As in the daemon.
    let following = daemon::follow(
        Arc::clone(updater),
        Arc::clone(&reconciler),
        Arc::clone(&engine.renderer),
        ground.stop.clone(),
    );
    let following = tokio::spawn(following);
    let context = stage.context()?;
    context
        .preview_with(updater, &engine.renderer, Some(&reconciler))
        .await;
    let talking = tokio::spawn(daemon::report_rollouts(
        updater,
        &reconciler,
        ground.stop.clone(),
    ));
    let act = DeployChapter {
        stage,
        ground,
        updater,
        reconciler,
        log,
        color: teller.has_color(),
    };
    act.begin(teller).await?;
    act.deploy(teller).await?;
    act.drift(teller).await?;
    act.back_and_on(teller).await?;
    act.review(teller).await?;
    ground.rest().await;
    let _ = following.await;
    let _ = talking.await;
    Ok(())
}

impl DeployChapter<'_> {
    /// Ada declares podinfo; it comes to the cluster.
    async fn begin(&self, teller: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self { stage, ground, .. } = self;
        stage.publish("shop/podinfo", FIRST).await?;
        let files = fleet::podinfo(
            &stage.registry(),
            ground.name,
            &ground.namespace,
            FIRST,
            ground.replicas(),
        );
        let changes: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (*path, text.as_str()))
            .collect();
        let id = stage.commit(&changes, "podinfo: deploy it to dev", Timestamp::now())?;
        let brought = self.bring().await?;
        let mut step = StoryStep::new("A cluster, and an application", Timestamp::now());
        step = match ground.is_real() {
            false => step
                .say(format!("Cluster {}, in this process: a small Kubernetes API.", ground.server()))
                .say(format!("It runs no containers; its pods say that they are ready after {} ms.", READY_AFTER.as_millis())),
            true => step
                .say(format!(
                    "Cluster {}, yours. Everything happens in namespace {},",
                    escape_control(&ground.server()),
                    ground.namespace
                ))
                .say("which was made for this and is deleted at the end.")
                .say("Your nodes cannot pull from the demo's registry: podinfo has 0 replicas, so no pod is made."),
        };
        step = step
            .say(format!(
                "Ada commits a Deployment and a Service, {}, and",
                fleet::PODINFO
            ))
            .say(format!("in {}:", fleet::APPLICATION));
        for line in files[0].1.lines() {
            step = step.say(format!("    {line}"));
        }
        let image = self.image(FIRST);
        let live = ground.deployment().await?;
        let made = live
            .as_ref()
            .is_some_and(|live| ground::image(live) == image && self.is_ready(live));
        let ready = brought.ready.map_or(String::new(), |ready| {
            format!(", {} after tagboat looked", ms(ready))
        });
        self.tell(
            teller,
            step.run("tagboat run")
                .print(self.log.lines("create"))
                .check(
                    stage.head()? == id && brought.ready.is_some() && made,
                    format!("podinfo {FIRST} is {}{ready}", self.ready_word()),
                ),
        )
    }

    /// A new tag, all the way.
    async fn deploy(&self, teller: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            stage,
            ground,
            updater,
            ..
        } = self;
        stage.publish("shop/podinfo", SECOND).await?;
        let brought = self.bring().await?;
        let live = ground.deployment().await?;
        let step = StoryStep::new(
            "A new tag, from the registry to a ready Deployment",
            Timestamp::now(),
        )
        .say(format!(
            "CI pushes podinfo {SECOND}. Measured from the moment that tagboat looks:"
        ))
        .pass(&brought.report, &["dev"])
        .print(brought.timeline(self.ready_word()))
        .check(commits(&brought.report, "dev").len() == 1, "")
        .check(
            stage::file(updater, fleet::PODINFO)?.contains(&format!("podinfo:{SECOND}\n"))
                && live.is_some_and(|live| {
                    ground::image(&live) == self.image(SECOND) && self.is_ready(&live)
                })
                && brought.ready.is_some(),
            format!(
                "the cluster has what Git says: podinfo {SECOND}, {}",
                self.ready_word()
            ),
        );
        self.tell(teller, step)?;
        let statuses = self.reconciler.statuses();
        self.tell(
            teller,
            StoryStep::look(
                "How is it?",
                "tagboat status",
                self.page(|page| applications::statuses(&statuses, page)),
            )
            .check(
                statuses.len() == 1
                    && statuses
                        .iter()
                        .all(|status| status.state == ApplicationState::Synced),
                "",
            ),
        )
    }

    /// Somebody changes the cluster past Git.
    async fn drift(&self, teller: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self { ground, log, .. } = self;
        let (hand_made, said) = (self.image("debug"), self.image(SECOND));
        let begun = Instant::now();
        let edited = ground.edit(&hand_made).await?;
        let back = ground
            .until(begun, PATIENCE, |live| ground::image(live) == said)
            .await?;
        // The reconciler says so after it has the answer.
        while log.lines("repaired").is_empty() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = log.lines("repaired");
        let known = told.iter().any(|line| line.contains("kubectl-edit"));
        let took = back.map_or_else(
            || "in time".to_owned(),
            |took| format!("{} after the edit was sent", ms(took)),
        );
        let settled = self.settled().await?;
        self.tell(
            teller,
            StoryStep::new("Somebody changes the cluster by hand", Timestamp::now())
                .say(format!(
                    "Past Git, somebody sets the image to {hand_made}. The demo sends what"
                ))
                .say(format!(
                    "`kubectl edit deployment podinfo -n {}` would send; the daemon logs:",
                    ground.namespace
                ))
                .print(told)
                .check(ground::image(&edited) == hand_made, "")
                .check(
                    back.is_some() && known,
                    format!("it was put back {took}; the log says who had changed it"),
                )
                .check(settled, ""),
        )
    }

    /// Back to the tag before, where it stays until a newer one comes.
    async fn back_and_on(&self, teller: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            stage,
            ground,
            updater,
            ..
        } = self;
        let name = Name::new(&ground.namespace, ground::DEPLOYMENT).map_err(stage::broken)?;
        let (before, begun) = (stage.head()?, Instant::now());
        let done = updater.roll_back(&name, None, Timestamp::now()).await?;
        let settled = self.settled().await?;
        let took = begun.elapsed();
        let live = ground.deployment().await?;
        let back = live
            .as_ref()
            .is_some_and(|live| ground::image(live) == self.image(FIRST) && self.is_ready(live));
        let pushed = done.commit.as_ref() == Some(&stage.head()?) && done.from == before;
        self.tell(
            teller,
            StoryStep::new("Roll back", Timestamp::now())
                .say(format!(
                    "Say that {SECOND} was a mistake. Git goes back, and the cluster follows it:"
                ))
                .run(format!("tagboat rollback {name}"))
                .print(self.page(|page| rollback::text(&done, page)))
                .check(done.warnings.is_empty() && done.held.len() == 1, "")
                .check(
                    stage::file(updater, fleet::PODINFO)?.contains(&format!("podinfo:{FIRST}\n"))
                        && pushed,
                    "Git says so by a commit",
                )
                .check(
                    settled && back,
                    format!(
                        "podinfo {FIRST} is {} in the cluster, after {}",
                        self.ready_word(),
                        ms(took)
                    ),
                ),
        )?;

        let (head, before) = (stage.head()?, self.writes());
        let brought = self.bring().await?;
        let offered = stage
            .tags(updater, "shop/podinfo")
            .await?
            .iter()
            .any(|tag| tag == SECOND);
        let same = live.is_some() && ground.deployment().await? == live;
        self.tell(
            teller,
            StoryStep::new("It stays rolled back", Timestamp::now())
                .say(format!("The registry still offers {SECOND}, and the policy would take it. Another pass:"))
                .pass(&brought.report, &["dev"])
                .refused(environment(&brought.report, "dev"), "dev/podinfo", SECOND, "is held")
                .check(
                    offered && stage.head()? == head && same && self.writes() == before,
                    "nothing was written, neither to Git nor to the cluster",
                ),
        )?;

        stage.publish("shop/podinfo", THIRD).await?;
        let brought = self.bring().await?;
        let live = ground.deployment().await?;
        let deployed = live
            .is_some_and(|live| ground::image(&live) == self.image(THIRD) && self.is_ready(&live));
        self.tell(
            teller,
            StoryStep::new("A newer tag passes the hold", Timestamp::now())
                .say(format!("CI pushes podinfo {THIRD}."))
                .pass(&brought.report, &["dev"])
                .print(brought.timeline(self.ready_word()))
                .check(
                    environment(&brought.report, "dev")
                        .is_some_and(|dev| chosen(dev, "dev/podinfo") == Some(THIRD)),
                    "",
                )
                .check(
                    deployed && brought.ready.is_some(),
                    format!(
                        "podinfo {THIRD} is {}; {SECOND} has not come back",
                        self.ready_word()
                    ),
                ),
        )
    }

    /// Tells a step; of one that is untrue, with how the Applications are and what was logged.
    pub fn tell(&self, teller: &mut Narrator<'_>, step: StoryStep) -> Result<(), StoryEnd> {
        teller.tell(step.instead(|| {
            let mut seen =
                self.page(|page| applications::statuses(&self.reconciler.statuses(), page));
            seen.extend(self.log.lines(""));
            seen
        }))
    }

    /// Writes sent to the cluster by the reconciler.
    fn writes(&self) -> u64 {
        self.reconciler
            .cluster(self.ground.name)
            .map_or(0, |cluster| cluster.stats().writes())
    }

    /// Looks at Git and the registry once, and waits until the cluster is as Git says.
    pub async fn bring(&self) -> Result<SyncedStep, Failure> {
        let begun = Instant::now();
        let report = pass(self.updater, PassMode::Write, Timestamp::now()).await;
        let pushed = begun.elapsed();
        let revision = self.stage.head()?;
        let mut applied = None;
        let done = |status: &ApplicationStatus| {
            matches!(
                status.state,
                ApplicationState::Progressing | ApplicationState::Synced
            )
        };
        let tell = |statuses: &[ApplicationStatus]| {
            let here = statuses.iter().all(|status| {
                status.revision.as_deref() == Some(revision.as_str()) && done(status)
            });
            if here && !statuses.is_empty() {
                applied.get_or_insert_with(|| begun.elapsed());
            }
        };
        let settled = self
            .reconciler
            .wait_until_observed(&self.updater.config.name, &revision, None, PATIENCE, tell)
            .await;
        let settled = settled
            && self
                .reconciler
                .statuses()
                .iter()
                .all(|status| status.state == ApplicationState::Synced);
        Ok(SyncedStep {
            report,
            pushed,
            applied,
            ready: settled.then(|| begun.elapsed()),
        })
    }

    /// Whether everything comes to rest in step.
    async fn settled(&self) -> Result<bool, Failure> {
        let revision = self.stage.head()?;
        let settled = self
            .reconciler
            .wait_until_observed(&self.updater.config.name, &revision, None, PATIENCE, |_| {})
            .await;
        Ok(settled
            && self
                .reconciler
                .statuses()
                .iter()
                .all(|status| status.state == ApplicationState::Synced))
    }

    pub fn image(&self, tag: &str) -> String {
        format!("{}/shop/podinfo:{tag}", self.stage.registry())
    }

    /// Whether as many pods are ready as Git says.
    pub fn is_ready(&self, live: &Object) -> bool {
        let count = |pointer: &str| {
            live.pointer(pointer)
                .and_then(|count| count.as_i64())
                .unwrap_or_default()
        };
        count("/status/readyReplicas") == self.ground.replicas()
            && count("/spec/replicas") == self.ground.replicas()
    }

    pub fn ready_word(&self) -> &'static str {
        if self.ground.is_real() {
            "rolled out"
        } else {
            "ready"
        }
    }

    /// What a command prints.
    fn page(&self, print: impl FnOnce(&mut Screen)) -> Vec<String> {
        let mut page = Screen::buffer(self.color);
        print(&mut page);
        page.into_text().lines().map(str::to_owned).collect()
    }
}

impl SyncedStep {
    /// When what was done, a line each.
    fn timeline(&self, ready: &str) -> Vec<String> {
        let rows = [
            (Some(self.pushed), "committed and pushed"),
            (self.applied, "applied"),
            (self.ready, ready),
        ];
        rows.into_iter()
            .filter_map(|(took, what)| Some(format!("{:>10}  {what}", ms(took?))))
            .collect()
    }
}

/// A short time.
pub fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
