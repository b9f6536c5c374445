//! The second half of the story: from Git to the cluster, back, and on. The clock is real here, so
//! that times can be measured.

use super::{
    cluster::{self, DemoCluster, READY_AFTER},
    log::DemoLog,
    narrator::{Narrator, StoryEnd, StoryStep},
    report::{chosen, commits, environment},
    seed,
    servers::{self, DemoServers, pass},
};
use crate::{
    cli::{Screen, applications, rollback, safe},
    core::name::Name,
    daemon,
    objects::object::Object,
    reconcile::{ApplicationState, ApplicationStatus, ReconcileMode, Reconciler},
    service::{Failure, engine::Engine},
    update::{CommandAuthor, CommandCommit, ImageUpdater, PassMode, PassReport},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Time for a rollout, or a repair, on a busy machine.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// The tags of podinfo, in the order of their publication.
const FIRST: &str = "6.7.0";
pub(super) const SECOND: &str = "6.7.1";
pub(super) const THIRD: &str = "6.7.2";

/// The tag published after the story.
pub(super) const NEXT: &str = "6.7.3";

/// One pass, and its rollout.
pub(super) struct SyncedPass {
    pub report: PassReport,
    /// The time until everything was committed and pushed.
    pushed: Duration,
    applied: Option<Duration>,
    /// The time until everything was ready; none if it did not become ready in time.
    pub ready: Option<Duration>,
}

/// The servers and the cluster of this half.
pub(super) struct DeployChapter<'a> {
    pub servers: &'a DemoServers,
    pub cluster: &'a DemoCluster,
    pub updater: &'a ImageUpdater,
    reconciler: Arc<Reconciler>,
    log: &'a DemoLog,
    color: bool,
}

/// Plays this half, and stops the reconciler.
pub(super) async fn play(
    servers: &DemoServers,
    cluster: &DemoCluster,
    engine: &Engine,
    updater: &Arc<ImageUpdater>,
    log: &DemoLog,
    narrator: &mut Narrator<'_>,
) -> Result<(), StoryEnd> {
    let context = servers.context()?;
    let reconciler = context
        .reconciler(ReconcileMode::Act, &cluster.stop)
        .await?
        .ok_or_else(|| Failure::input("the demo's tagboat.yaml names a cluster"))?;
    cluster.set_reconciler(&reconciler);
    // The background tasks of the daemon.
    let following = tokio::spawn(daemon::follow(
        Arc::clone(updater),
        Arc::clone(&reconciler),
        Arc::clone(&engine.renderer),
        context.events.clone(),
        cluster.stop.clone(),
    ));
    context
        .preview_with(updater, &engine.renderer, Some(&reconciler))
        .await;
    let reporting = daemon::report_rollouts(
        updater,
        &reconciler,
        context.events.clone(),
        cluster.stop.clone(),
    );
    let reporting = tokio::spawn(reporting);
    let chapter = DeployChapter {
        servers,
        cluster,
        updater,
        reconciler,
        log,
        color: narrator.has_color(),
    };
    chapter.declare(narrator).await?;
    chapter.deploy(narrator).await?;
    chapter.drift(narrator).await?;
    chapter.roll_back(narrator).await?;
    chapter.stay_rolled_back(narrator).await?;
    chapter.pass_the_hold(narrator).await?;
    chapter.review(narrator).await?;
    cluster.stop_reconciler().await;
    let _ = following.await;
    let _ = reporting.await;
    Ok(())
}

impl DeployChapter<'_> {
    /// Ada declares podinfo, and it is deployed.
    async fn declare(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            servers, cluster, ..
        } = self;
        servers.publish("shop/podinfo", FIRST).await?;
        let files = seed::podinfo(
            &servers.registry(),
            cluster.name,
            &cluster.namespace,
            FIRST,
            cluster.replicas(),
        );
        let now = Timestamp::now();
        let message = "podinfo: deploy it to dev";
        let id = servers.commit(&seed::borrowed(&files), message, now)?;
        let synced = self.sync().await?;
        let mut step = StoryStep::new("A cluster, and an Application", Timestamp::now());
        for line in self.introduction() {
            step = step.say(line);
        }
        step = step
            .say(format!(
                "Ada commits a Deployment and a Service, {}, and",
                seed::PODINFO
            ))
            .say(format!("in {}:", seed::APPLICATION));
        for line in files[0].1.lines() {
            step = step.say(format!("    {line}"));
        }
        let is_live = self.is_live(FIRST).await?;
        let statement = match synced.ready {
            Some(ready) => {
                let (word, ready) = (self.ready_word(), ms(ready));
                format!("podinfo {FIRST} is {word}, {ready} after the pass started")
            }
            None => format!("podinfo {FIRST} is {}", self.ready_word()),
        };
        self.tell(
            narrator,
            step.command("tagboat run")
                .output(self.log.lines("create"))
                .check(
                    servers.head()? == id && synced.ready.is_some() && is_live,
                    statement,
                ),
        )
    }

    fn introduction(&self) -> Vec<String> {
        let server = safe(&self.cluster.server());
        if !self.cluster.is_real() {
            return vec![
                format!("Cluster {server}, in this process: a small Kubernetes API."),
                format!(
                    "It runs no containers; its pods report ready after {} ms.",
                    READY_AFTER.as_millis()
                ),
            ];
        }
        let namespace = &self.cluster.namespace;
        vec![
            format!("Cluster {server}, yours. Everything happens in namespace {namespace},"),
            "which was created for the demo and is deleted at the end.".to_owned(),
            "Your nodes cannot pull from the demo's registry, so that podinfo has 0 replicas."
                .to_owned(),
        ]
    }

    /// A new tag is deployed.
    async fn deploy(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        self.servers.publish("shop/podinfo", SECOND).await?;
        let synced = self.sync().await?;
        let is_in_git = self.is_in_git(SECOND)?;
        let is_live = self.is_live(SECOND).await?;
        let word = self.ready_word();
        let step = StoryStep::new(
            "A new tag, from the registry to a ready Deployment",
            Timestamp::now(),
        )
        .say(format!(
            "CI pushes podinfo {SECOND}. Measured from the start of the pass:"
        ))
        .pass(&synced.report, &["dev"])
        .output(synced.timeline(word))
        .check(commits(&synced.report, "dev").len() == 1, "")
        .check(
            is_in_git && is_live && synced.ready.is_some(),
            format!("the cluster matches Git: podinfo {SECOND} is {word}"),
        );
        self.tell(narrator, step)?;
        let statuses = self.reconciler.statuses();
        let output = self.lines(|page| applications::statuses(&statuses, page));
        let step = StoryStep::show("The status of the Application", "tagboat status", output)
            .check(statuses.len() == 1 && self.is_synced(), "");
        self.tell(narrator, step)
    }

    /// A user changes the cluster without Git.
    async fn drift(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self { cluster, log, .. } = self;
        let (drifted, desired) = (self.image("debug"), self.image(SECOND));
        let start = Instant::now();
        let edited = cluster.edit_image(&drifted).await?;
        let repaired = cluster
            .wait_until(start, STEP_TIMEOUT, |live| cluster::image(live) == desired)
            .await?;
        // The reconciler logs the repair after the API server has answered.
        while log.lines("repaired").is_empty() && start.elapsed() < STEP_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let logged = log.lines("repaired");
        let names_manager = logged.iter().any(|line| line.contains("kubectl-edit"));
        let statement = match repaired {
            Some(time) => format!(
                "tagboat repaired it {} after the edit; the log names the field manager",
                ms(time)
            ),
            None => "tagboat repaired it; the log names the field manager".to_owned(),
        };
        let is_synced = self.wait_until_synced().await?;
        let step = StoryStep::new("Drift is repaired", Timestamp::now())
            .say(format!(
                "A user sets the image to {drifted} without Git. The demo sends what"
            ))
            .say(format!(
                "`kubectl edit deployment podinfo -n {}` would send; the daemon logs:",
                cluster.namespace
            ))
            .output(logged)
            .check(cluster::image(&edited) == drifted, "")
            .check(repaired.is_some() && names_manager, statement)
            .check(is_synced, "");
        self.tell(narrator, step)
    }

    /// A rollback in Git, which the cluster follows.
    async fn roll_back(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            servers,
            cluster,
            updater,
            ..
        } = self;
        let name = Name::new(&cluster.namespace, cluster::DEPLOYMENT);
        let name = name.map_err(servers::setup_failure)?;
        let before = servers.head()?;
        let start = Instant::now();
        let (ada, email) = servers::ADA;
        let commit = CommandCommit {
            author: Some(CommandAuthor {
                name: ada.to_owned(),
                email: email.to_owned(),
            }),
            message: None,
        };
        let rollback = updater
            .roll_back(&name, None, &commit, Timestamp::now())
            .await?;
        let is_synced = self.wait_until_synced().await?;
        let time = ms(start.elapsed());
        let is_pushed = rollback.commit == Some(servers.head()?) && rollback.from == before;
        let is_live = self.is_live(FIRST).await?;
        let output = self.lines(|page| rollback::text(&rollback, page));
        let step = StoryStep::new("Roll back", Timestamp::now())
            .say(format!(
                "Suppose that {SECOND} was a mistake. Ada rolls back; that is a commit, and the cluster follows:"
            ))
            .command(format!("tagboat rollback {name}"))
            .output(output)
            .check(
                rollback.warnings.is_empty() && rollback.held.len() == 1,
                "",
            )
            .check(self.is_in_git(FIRST)? && is_pushed, "the rollback is in Git")
            .check(
                is_synced && is_live,
                format!("podinfo {FIRST} is {} after {time}", self.ready_word()),
            );
        self.tell(narrator, step)
    }

    /// A pass while the version is held.
    async fn stay_rolled_back(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        let Self {
            servers,
            cluster,
            updater,
            ..
        } = self;
        let (head, writes) = (servers.head()?, self.writes());
        let live = cluster.deployment().await?;
        let synced = self.sync().await?;
        let tags = servers.tags(updater, "shop/podinfo").await?;
        let is_offered = tags.iter().any(|tag| tag == SECOND);
        let is_same = live.is_some() && cluster.deployment().await? == live;
        let is_unchanged = servers.head()? == head && is_same && self.writes() == writes;
        let step = StoryStep::new("It stays rolled back", Timestamp::now())
            .say(format!(
                "The registry still has {SECOND}, and the policy would select it. Another pass:"
            ))
            .pass(&synced.report, &["dev"])
            .check_refused(
                environment(&synced.report, "dev"),
                "dev/podinfo",
                SECOND,
                "is held",
            )
            .check(
                is_offered && is_unchanged,
                "nothing was written, neither to Git nor to the cluster",
            );
        self.tell(narrator, step)
    }

    /// A newer version, which is not held.
    async fn pass_the_hold(&self, narrator: &mut Narrator<'_>) -> Result<(), StoryEnd> {
        self.servers.publish("shop/podinfo", THIRD).await?;
        let synced = self.sync().await?;
        let is_live = self.is_live(THIRD).await?;
        let is_chosen = environment(&synced.report, "dev")
            .is_some_and(|dev| chosen(dev, "dev/podinfo") == Some(THIRD));
        let word = self.ready_word();
        let step = StoryStep::new("A newer tag is not held", Timestamp::now())
            .say(format!("CI pushes podinfo {THIRD}."))
            .pass(&synced.report, &["dev"])
            .output(synced.timeline(word))
            .check(is_chosen, "")
            .check(
                is_live && synced.ready.is_some(),
                format!("podinfo {THIRD} is {word}, and {SECOND} did not come back"),
            );
        self.tell(narrator, step)
    }

    /// Tells a step; one that fails comes with the statuses and the log.
    pub(super) fn tell(
        &self,
        narrator: &mut Narrator<'_>,
        step: StoryStep,
    ) -> Result<(), StoryEnd> {
        narrator.tell(step.evidence(|| {
            let statuses = self.reconciler.statuses();
            let mut lines = self.lines(|page| applications::statuses(&statuses, page));
            lines.extend(self.log.lines(""));
            lines
        }))
    }

    /// Returns the number of writes that the reconciler has sent to the cluster.
    fn writes(&self) -> u64 {
        self.reconciler
            .cluster(self.cluster.name)
            .map_or(0, |cluster| cluster.stats().writes())
    }

    /// Makes one pass, and waits until the cluster matches Git.
    pub(super) async fn sync(&self) -> Result<SyncedPass, Failure> {
        let start = Instant::now();
        let report = pass(self.updater, PassMode::Write, Timestamp::now()).await;
        let pushed = start.elapsed();
        let revision = self.servers.head()?;
        let mut applied = None;
        let is_applied = |status: &ApplicationStatus| {
            status.revision.as_deref() == Some(revision.as_str())
                && matches!(
                    status.state,
                    ApplicationState::Progressing | ApplicationState::Synced
                )
        };
        let on_change = |statuses: &[ApplicationStatus]| {
            if !statuses.is_empty() && statuses.iter().all(is_applied) {
                applied.get_or_insert_with(|| start.elapsed());
            }
        };
        let repository = &self.updater.repo.config.name;
        let is_observed = self
            .reconciler
            .wait_until_observed(repository, &revision, None, STEP_TIMEOUT, on_change)
            .await;
        Ok(SyncedPass {
            report,
            pushed,
            applied,
            ready: (is_observed && self.is_synced()).then(|| start.elapsed()),
        })
    }

    /// Waits until every Application is observed at the head; returns true if all are synced.
    async fn wait_until_synced(&self) -> Result<bool, Failure> {
        let revision = self.servers.head()?;
        let repository = &self.updater.repo.config.name;
        let is_observed = self
            .reconciler
            .wait_until_observed(repository, &revision, None, STEP_TIMEOUT, |_| {})
            .await;
        Ok(is_observed && self.is_synced())
    }

    fn is_synced(&self) -> bool {
        let statuses = self.reconciler.statuses();
        statuses
            .iter()
            .all(|status| status.state == ApplicationState::Synced)
    }

    fn is_in_git(&self, tag: &str) -> Result<bool, Failure> {
        let file = servers::file(self.updater, seed::PODINFO)?;
        Ok(file.contains(&format!("podinfo:{tag}\n")))
    }

    async fn is_live(&self, tag: &str) -> Result<bool, Failure> {
        let live = self.cluster.deployment().await?;
        Ok(live.is_some_and(|live| self.has_rolled_out(&live, tag)))
    }

    /// Returns true if a Deployment has this tag and all its replicas are ready.
    pub(super) fn has_rolled_out(&self, live: &Object, tag: &str) -> bool {
        let count = |pointer: &str| {
            live.pointer(pointer)
                .and_then(|count| count.as_i64())
                .unwrap_or_default()
        };
        let replicas = self.cluster.replicas();
        cluster::image(live) == self.image(tag)
            && count("/status/readyReplicas") == replicas
            && count("/spec/replicas") == replicas
    }

    pub(super) fn image(&self, tag: &str) -> String {
        format!("{}/shop/podinfo:{tag}", self.servers.registry())
    }

    /// Returns the word for a finished rollout; without replicas, nothing is ready.
    pub(super) fn ready_word(&self) -> &'static str {
        if self.cluster.is_real() {
            "rolled out"
        } else {
            "ready"
        }
    }

    /// Returns the lines that a command prints.
    fn lines(&self, print: impl FnOnce(&mut Screen)) -> Vec<String> {
        let mut page = Screen::buffer(self.color);
        print(&mut page);
        page.into_text().lines().map(str::to_owned).collect()
    }
}

impl SyncedPass {
    /// Returns the times of a pass and its rollout, a line each.
    fn timeline(&self, ready_word: &str) -> Vec<String> {
        let times = [
            (Some(self.pushed), "committed and pushed"),
            (self.applied, "applied"),
            (self.ready, ready_word),
        ];
        times
            .into_iter()
            .filter_map(|(time, event)| Some(format!("{:>10}  {event}", ms(time?))))
            .collect()
    }
}

/// Returns a time in milliseconds.
pub(super) fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
