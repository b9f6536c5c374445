//! Rollout reports with a forge and clusters of the test's choice. `forge_github`, `forge_gitlab`
//! and `forge_real` test the forges.

use super::support::stage::{Stage, rollout, timing, until};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tagboat::{
    events::Recorder,
    io::forge::{
        Approvals, Checks, CommentOutcome, CommitStatus, Forge, ForgeError, ForgeOperation,
        ForgeProblem, ForgeRelease, MergeCommand, Mergeable, NewRequest, OpenedRequest,
        PullRequest, RequestEnd, RequestFilter, RequestLabel, RequestList, RequestPatch,
        RequestStatus as RequestState, RequestedReviewer, TextLimits, UnrequestedReview,
    },
    objects::plan::RolloutOutcome,
    reconcile::{ApplicationState, ApplicationStatus, Message},
    review::rollout::MergedRequest,
    rollout::{ReportTiming, RolloutSource, report},
    spec::{self, ForgeCredentials, ForgeKind},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A forge that records all calls, and fails on demand.
#[derive(Debug)]
struct FakeForge {
    place: spec::ForgeSpec,
    /// The writing calls, in order.
    calls: Mutex<Vec<String>>,
    comments: Mutex<BTreeMap<u64, String>>,
    /// The number of comments that were already current.
    same: Mutex<usize>,
    /// The failures of the next calls of an operation.
    failing: Mutex<VecDeque<(ForgeOperation, ForgeProblem)>>,
}

impl FakeForge {
    fn new() -> Arc<Self> {
        let place = spec::ForgeSpec {
            kind: ForgeKind::Gitea,
            api: "https://forge.example.org/api/v1".parse().unwrap(),
            web: "https://forge.example.org".parse().unwrap(),
            project: "acme/fleet".to_owned(),
            credentials: ForgeCredentials::Anonymous,
        };
        Arc::new(Self {
            place,
            calls: Mutex::default(),
            comments: Mutex::default(),
            same: Mutex::default(),
            failing: Mutex::default(),
        })
    }

    fn fail(&self, operation: ForgeOperation, problem: ForgeProblem) {
        self.failing.lock().unwrap().push_back((operation, problem));
    }

    fn trouble(&self, operation: ForgeOperation) -> Result<(), ForgeError> {
        let mut failing = self.failing.lock().unwrap();
        if failing.front().is_none_or(|(next, _)| *next != operation) {
            return Ok(());
        }
        let (_, problem) = failing.pop_front().unwrap();
        let (host, repository) = ("forge.example.org", "acme/fleet");
        self.calls
            .lock()
            .unwrap()
            .push(format!("{operation}: fails"));
        Err(ForgeError {
            forge: ForgeKind::Gitea,
            host: host.into(),
            repository: repository.into(),
            operation,
            permission: "",
            problem,
        })
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl Forge for FakeForge {
    fn place(&self) -> &spec::ForgeSpec {
        &self.place
    }
    fn limits(&self) -> TextLimits {
        TextLimits {
            title: 255,
            body: 60_000,
            comment: 60_000,
            status: 140,
        }
    }
    fn calls(&self) -> BTreeMap<ForgeOperation, u64> {
        BTreeMap::new()
    }
    async fn account(&self) -> Result<Option<String>, ForgeError> {
        unreachable!("not called")
    }
    fn commit_url(&self, commit: &str) -> String {
        format!("https://forge.example.org/acme/fleet/commit/{commit}")
    }
    fn compare_url(&self, _: &str, _: &str) -> String {
        unreachable!("nothing is compared")
    }
    async fn look(&self, _: RequestFilter, _: &str) -> Result<RequestList, ForgeError> {
        unreachable!("not called")
    }
    async fn find(&self, _: &str) -> Result<Option<PullRequest>, ForgeError> {
        unreachable!("not called")
    }
    async fn get(&self, _: u64) -> Result<PullRequest, ForgeError> {
        unreachable!("not called")
    }
    async fn open(&self, _: &NewRequest) -> Result<OpenedRequest, ForgeError> {
        unreachable!("nothing is opened")
    }
    async fn update(&self, _: &PullRequest, _: &RequestPatch) -> Result<(), ForgeError> {
        unreachable!("the request's own text stays")
    }
    async fn label(&self, _: u64, _: &[RequestLabel], _: &[&str]) -> Result<(), ForgeError> {
        unreachable!("nothing is labelled")
    }
    async fn ask_reviews(
        &self,
        _: &PullRequest,
        _: &[RequestedReviewer],
    ) -> Result<Vec<UnrequestedReview>, ForgeError> {
        unreachable!("not called")
    }
    async fn comment(
        &self,
        request: &PullRequest,
        marker: &str,
        text: &str,
    ) -> Result<CommentOutcome, ForgeError> {
        assert_eq!(marker, "rollout");
        self.trouble(ForgeOperation::Comment)?;
        let before = self
            .comments
            .lock()
            .unwrap()
            .insert(request.number, text.to_owned());
        if before.as_deref() == Some(text) {
            *self.same.lock().unwrap() += 1;
            return Ok(CommentOutcome::Same);
        }
        let rows: Vec<&str> = text
            .lines()
            .skip(2)
            .map(|row| row.trim_start_matches("- "))
            .collect();
        self.calls
            .lock()
            .unwrap()
            .push(format!("#{}: {}", request.number, rows.join(" / ")));
        Ok(if before.is_some() {
            CommentOutcome::Changed
        } else {
            CommentOutcome::Made
        })
    }
    async fn wants_newest(&self, _: &str) -> Result<bool, ForgeError> {
        unreachable!("nothing is merged")
    }
    async fn checks(&self, _: &PullRequest) -> Result<Checks, ForgeError> {
        unreachable!("no checks are read")
    }
    async fn approvals(&self, _: &PullRequest) -> Result<Approvals, ForgeError> {
        unreachable!("no approvals are read")
    }
    async fn merge(&self, _: u64, _: &MergeCommand) -> Result<Option<String>, ForgeError> {
        unreachable!("nothing is merged")
    }
    fn auto_merge_keeps_head(&self) -> bool {
        false
    }
    async fn merge_when_ready(&self, _: &PullRequest, _: &MergeCommand) -> Result<(), ForgeError> {
        unreachable!("nothing is merged")
    }
    async fn cancel_merge(&self, _: &PullRequest) -> Result<(), ForgeError> {
        unreachable!("nothing is merged")
    }
    async fn close(&self, _: u64) -> Result<(), ForgeError> {
        unreachable!("nothing is closed")
    }
    async fn delete_branch(&self, _: &str) -> Result<bool, ForgeError> {
        unreachable!("nothing is deleted")
    }
    async fn set_status(&self, commit: &str, status: &CommitStatus) -> Result<(), ForgeError> {
        self.trouble(ForgeOperation::Status)?;
        self.calls.lock().unwrap().push(format!(
            "{commit} {} {:?}: {}",
            status.context, status.state, status.description
        ));
        Ok(())
    }
    async fn releases(&self, _: &str, _: &str, _: &str) -> Result<Vec<ForgeRelease>, ForgeError> {
        unreachable!("no releases are read")
    }
}

/// A reporter under test.
struct World {
    stage: Arc<Stage>,
    forge: Arc<FakeForge>,
    merged: watch::Sender<Arc<[MergedRequest]>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn start(stage: &Arc<Stage>, forge: &Arc<FakeForge>, timing: ReportTiming) -> Self {
        let merged = watch::Sender::new(Arc::from([]));
        let stop = CancellationToken::new();
        let (ground, expected): (Arc<dyn RolloutSource>, Arc<dyn Forge>) =
            (stage.clone(), forge.clone());
        let task = tokio::spawn(report(
            ground,
            expected,
            merged.subscribe(),
            timing,
            Recorder::default(),
            stop.clone(),
        ));
        Self {
            stage: stage.clone(),
            forge: forge.clone(),
            merged,
            stop,
            task,
        }
    }

    /// A reporter without history, and the time of a merge that it sees happen.
    fn fresh() -> (Self, Timestamp) {
        let world = Self::start(
            &Stage::new(Duration::from_secs(300)),
            &FakeForge::new(),
            timing(),
        );
        (world, Timestamp::now() + SignedDuration::from_secs(2))
    }

    fn merge(&self, list: &[MergedRequest]) {
        self.merged.send_replace(list.into());
    }

    /// Waits until this many calls were made; returns those from `from` on.
    async fn calls(&self, from: usize, to: usize) -> Vec<String> {
        until("the calls", || self.forge.calls().len() >= to).await;
        let calls = self.forge.calls();
        assert_eq!(calls.len(), to, "{calls:#?}");
        calls[from..].to_vec()
    }

    /// Waits until the reporter has processed every change so far.
    async fn looked(&self) {
        let looks = || self.stage.looks.lock().unwrap().0;
        let before = looks();
        self.stage.turned.send_modify(|count| *count += 1);
        until("a query", || looks() > before).await;
        // The observed query may have begun before the change. The next one has not, and follows
        // the calls of the first.
        self.stage.turned.send_modify(|count| *count += 1);
        until("another query", || looks() > before + 1).await;
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

/// A request that was merged as commit `s1…`, and affects these Applications.
fn merged(number: u64, commit: &str, at: Timestamp, reaches: &[&str]) -> MergedRequest {
    let request = PullRequest {
        number,
        url: String::new(),
        state: RequestState::Merged,
        head: "tagboat/prod/all".to_owned(),
        head_commit: "head".to_owned(),
        base: "main".to_owned(),
        title: String::new(),
        body: String::new(),
        labels: Vec::new(),
        author: "bot".to_owned(),
        draft: false,
        opened: None,
        updated: None,
        ended: Some(RequestEnd {
            at: Some(at),
            by: Some("ann".to_owned()),
            commit: Some(commit.to_owned()),
        }),
        mergeable: Mergeable::Unknown,
        id: String::new(),
    };
    MergedRequest::new(
        &request,
        "prod",
        reaches.iter().map(|name| (*name).to_owned()).collect(),
    )
    .unwrap()
}

fn seconds(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

#[tokio::test]
async fn report_from_merge_to_result() {
    let (world, at) = World::fresh();
    let stage = &world.stage;
    stage.turn("shop/web", "b1", ApplicationState::Synced, |_| {});
    world.merge(&[merged(7, "s1", at, &["shop/web"])]);
    let first = [
        "#7: ⏳ `shop/web` on `east` waits: `it is still at b1`",
        "s1 tagboat/rollout/prod@east Pending: 0 of 1 rolled out",
    ];
    assert_eq!(world.calls(0, 2).await, first);
    world.looked().await;
    assert_eq!(world.calls(0, 2).await, first, "nothing has changed");
    // The status does not change while the rollout is in progress.
    stage.turn("shop/web", "s1", ApplicationState::Applying, |_| {});
    assert_eq!(
        world.calls(2, 3).await,
        ["#7: ⏳ `shop/web` on `east` is being applied"]
    );
    stage.turn("shop/web", "s1", ApplicationState::Synced, |status| {
        status.rollout = Some(rollout("s1", RolloutOutcome::Applied, at + seconds(42), ""));
    });
    let last = [
        "s1 tagboat/rollout/prod@east Success: rolled out in 42s",
        "#7: ✅ `shop/web` on `east` rolled out in 42s",
    ];
    assert_eq!(world.calls(3, 5).await, last);
    // Later changes do not concern this request. The next request shows that everything before it
    // was processed.
    stage.turn("shop/web", "o1", ApplicationState::Failed, |status| {
        status.problems = vec![Message::application("broken")]
    });
    stage.turn("shop/api", "s1", ApplicationState::Synced, |_| {});
    world.merge(&[
        merged(7, "s1", at, &["shop/web"]),
        merged(8, "s2", at, &["shop/api"]),
    ]);
    let next = [
        "#8: ✅ `shop/api` on `east` has nothing to change",
        "s2 tagboat/rollout/prod@east Success: has nothing to change",
    ];
    assert_eq!(world.calls(5, 7).await, next);
    world.end().await;
}

#[tokio::test]
async fn report_failure_stays_until_a_result() {
    let (world, at) = World::fresh();
    let why = "Deployment shop/web: pod web-1, container web: ImagePullBackOff: no such image";
    let failed = |status: &mut ApplicationStatus| {
        status.rollout = Some(rollout(
            "s1",
            RolloutOutcome::Degraded,
            at + seconds(9),
            why,
        ))
    };
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Degraded, failed);
    world.merge(&[merged(7, "s1", at, &["shop/web"])]);
    let expected = [
        format!("#7: ❌ `shop/web` on `east` failed: `{why}`"),
        format!("s1 tagboat/rollout/prod@east Failure: shop/web failed: {why}"),
    ];
    assert_eq!(world.calls(0, 2).await, expected);
    // A retry is not reported.
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Applying, failed);
    world.looked().await;
    assert_eq!(world.calls(0, 2).await, expected);
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Synced, |status| {
            status.rollout = Some(rollout(
                "s1",
                RolloutOutcome::Applied,
                at + seconds(600),
                "",
            ));
        });
    let well = [
        "s1 tagboat/rollout/prod@east Success: rolled out in 10m",
        "#7: ✅ `shop/web` on `east` rolled out in 10m",
    ];
    assert_eq!(world.calls(2, 4).await, well);
    world.end().await;
}

#[tokio::test]
async fn report_after_restart_is_not_sent_twice() {
    let (world, at) = World::fresh();
    // Merged a while ago, as the next process finds it.
    let at = at - seconds(600);
    let list = [merged(7, "s1", at, &["shop/api", "shop/web"])];
    let result = rollout("s1", RolloutOutcome::Applied, at + seconds(42), "");
    let failure = rollout(
        "s1",
        RolloutOutcome::Failed,
        at + seconds(42),
        "Service shop/api: refused",
    );
    world
        .stage
        .record("shop/web", std::slice::from_ref(&result));
    world
        .stage
        .record("shop/api", std::slice::from_ref(&failure));
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Synced, |status| {
            status.rollout = Some(result.clone())
        });
    world
        .stage
        .turn("shop/api", "s1", ApplicationState::Failed, |status| {
            status.rollout = Some(failure)
        });
    world.merge(&list);
    let expected = [
        "#7: ❌ `shop/api` on `east` failed: `Service shop/api: refused` / ✅ `shop/web` on `east` rolled out in 42s",
        "s1 tagboat/rollout/prod@east Failure: shop/api failed: Service shop/api: refused",
    ];
    assert_eq!(world.calls(0, 2).await, expected);
    let (stage, forge) = (Arc::clone(&world.stage), Arc::clone(&world.forge));
    world.end().await;

    // The next process knows no Application at first, then other revisions of one.
    stage.statuses.lock().unwrap().clear();
    let world = World::start(&stage, &forge, timing());
    world.merge(&list);
    until("the comment is found", || *forge.same.lock().unwrap() == 1).await;
    let later = rollout("o1", RolloutOutcome::Applied, at + seconds(300), "");
    stage.record("shop/web", &[later.clone(), result]);
    stage.turn("shop/web", "o1", ApplicationState::Synced, |status| {
        status.rollout = Some(later)
    });
    world.looked().await;
    assert_eq!(world.calls(0, 2).await, expected);
    // The report continues from what it can determine again.
    stage.turn("shop/api", "s1", ApplicationState::Synced, |status| {
        status.rollout = Some(rollout(
            "s1",
            RolloutOutcome::Applied,
            at + seconds(599),
            "",
        ))
    });
    let well = [
        "s1 tagboat/rollout/prod@east Success: 2 rolled out in 9m59s",
        "#7: ✅ `shop/api` on `east` rolled out in 9m59s / ✅ `shop/web` on `east` rolled out in 42s",
    ];
    assert_eq!(world.calls(2, 4).await, well);
    world.end().await;
}

#[tokio::test]
async fn report_merge_before_start_within_a_day() {
    let (world, now) = World::fresh();
    let (hours, days) = (now - seconds(5 * 3600), now - seconds(25 * 3600));
    // Its own revision was rolled out, and another one since.
    let rollouts = [
        rollout("o1", RolloutOutcome::Failed, now - seconds(60), "broken"),
        rollout("s1", RolloutOutcome::Applied, hours + seconds(7), ""),
        rollout("b1", RolloutOutcome::Applied, days, ""),
    ];
    world.stage.record("shop/web", &rollouts);
    world
        .stage
        .turn("shop/web", "o1", ApplicationState::Failed, |status| {
            status.rollout = Some(rollouts[0].clone())
        });
    world.merge(&[
        merged(5, "s0", days, &["shop/web"]),
        merged(7, "s1", hours, &["shop/web"]),
    ]);
    let expected = [
        "#7: ✅ `shop/web` on `east` rolled out in 7s",
        "s1 tagboat/rollout/prod@east Success: rolled out in 7s",
    ];
    assert_eq!(world.calls(0, 2).await, expected);
    assert_eq!(world.stage.cluster_queries(), 1);
    world.end().await;
}

#[tokio::test]
async fn report_unclear_after_start_waits() {
    let (world, now) = World::fresh();
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Waiting, |status| {
            status.problems = vec![Message::application(
                "waiting for the first list of Deployment",
            )];
        });
    world.merge(&[merged(7, "s1", now - seconds(60), &["shop/web"])]);
    until("a query", || world.stage.cluster_queries() == 1).await;
    world.looked().await;
    assert_eq!(world.calls(0, 0).await, Vec::<String>::new());
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Synced, |_| {});
    let expected = [
        "#7: ✅ `shop/web` on `east` has nothing to change",
        "s1 tagboat/rollout/prod@east Success: has nothing to change",
    ];
    assert_eq!(world.calls(0, 2).await, expected);
    assert_eq!(
        world.stage.cluster_queries(),
        1,
        "the cluster was asked once, not at each query"
    );
    world.end().await;
}

#[tokio::test]
async fn report_names_a_newer_revision_that_came_first() {
    let (world, at) = World::fresh();
    let newest = rollout(
        "o123456789abcdef",
        RolloutOutcome::Applied,
        at + seconds(9),
        "",
    );
    world.stage.record(
        "shop/web",
        &[
            newest.clone(),
            rollout("s1", RolloutOutcome::Superseded, at + seconds(4), ""),
        ],
    );
    world.stage.turn(
        "shop/web",
        "o123456789abcdef",
        ApplicationState::Synced,
        |status| status.rollout = Some(newest),
    );
    world.merge(&[merged(7, "s1", at, &["shop/web"])]);
    let expected = [
        "#7: ✅ `shop/web` on `east` superseded by \
         [`o123456789`](https://forge.example.org/acme/fleet/commit/o123456789abcdef) before it was rolled out",
        "s1 tagboat/rollout/prod@east Success: superseded by o123456789 before it was rolled out",
    ];
    assert_eq!(world.calls(0, 2).await, expected);
    assert_eq!(world.stage.cluster_queries(), 1);
    world.end().await;
}

#[tokio::test]
async fn report_without_result_times_out() {
    let stage = Stage::new(Duration::from_millis(1500));
    let world = World::start(
        &stage,
        &FakeForge::new(),
        ReportTiming {
            bound: Duration::from_millis(500),
            ..timing()
        },
    );
    let at = Timestamp::now() + seconds(2);
    let waits = |status: &mut ApplicationStatus| {
        status.problems = vec![Message::application("waits for shop/db, which is failed")]
    };
    stage.turn("shop/web", "s1", ApplicationState::Waiting, waits);
    stage.turn("shop/api", "s1", ApplicationState::Synced, |_| {});
    // A commit that never reaches the branch is not reported.
    world.merge(&[
        merged(6, "unknown", at, &["shop/web"]),
        merged(7, "s1", at, &["shop/web"]),
    ]);
    let last = "#7: ❌ `shop/web` on `east` not rolled out within 2s: `waits for shop/db, which is failed`";
    until("the final report", || {
        world.forge.calls().last().is_some_and(|call| call == last)
    })
    .await;
    assert_eq!(
        world.calls(2, 4).await[0],
        "s1 tagboat/rollout/prod@east Failure: shop/web not rolled out within 2s: waits for shop/db, which is failed"
    );
    stage.turn("shop/web", "s1", ApplicationState::Synced, |_| {});
    world.merge(&[
        merged(7, "s1", at, &["shop/web"]),
        merged(8, "s2", at, &["shop/api"]),
    ]);
    assert!(world.calls(4, 6).await[0].starts_with("#8: "));
    world.end().await;
}

#[tokio::test]
async fn report_progress_is_rate_limited() {
    let world = World::start(
        &Stage::new(Duration::from_secs(300)),
        &FakeForge::new(),
        ReportTiming {
            pace: Duration::from_secs(3600),
            ..timing()
        },
    );
    let at = Timestamp::now() + seconds(2);
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Applying, |_| {});
    world.merge(&[merged(7, "s1", at, &["shop/web"])]);
    world.calls(0, 2).await;
    for number in 0..5 {
        world
            .stage
            .turn("shop/web", "s1", ApplicationState::Progressing, |status| {
                status.unhealthy = vec![Message::application(format!("{number} of 5"))]
            });
        world.looked().await;
    }
    world.calls(0, 2).await;
    // A result is reported at once.
    world.stage.turn(
        "shop/web",
        "s1",
        ApplicationState::ConfirmationRequired,
        |status| status.problems = vec![Message::application("11 objects would go")],
    );
    assert_eq!(
        world.calls(2, 4).await[1],
        "#7: ❌ `shop/web` on `east` needs confirmation: `11 objects would go`"
    );
    world.end().await;
}

#[tokio::test]
async fn report_forge_error_retried_unless_final() {
    let (world, at) = World::fresh();
    world.forge.fail(
        ForgeOperation::Comment,
        ForgeProblem::Transport("connection refused".to_owned()),
    );
    world.forge.fail(
        ForgeOperation::Comment,
        ForgeProblem::Throttled {
            retry_after: Duration::from_millis(30),
        },
    );
    world.forge.fail(
        ForgeOperation::Status,
        ForgeProblem::Transport("connection reset".to_owned()),
    );
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Applying, |_| {});
    world.merge(&[merged(7, "s1", at, &["shop/web"])]);
    let expected = [
        "comment on a pull request: fails",
        "comment on a pull request: fails",
        "#7: ⏳ `shop/web` on `east` is being applied",
        "set a commit status: fails",
        "s1 tagboat/rollout/prod@east Pending: 0 of 1 rolled out",
    ];
    assert_eq!(world.calls(0, 5).await, expected);
    // Without the right to set statuses the comment is still kept up to date, and the reverse.
    world.forge.fail(
        ForgeOperation::Status,
        ForgeProblem::Forbidden { message: None },
    );
    world
        .stage
        .turn("shop/web", "s1", ApplicationState::Synced, |status| {
            status.rollout = Some(rollout("s1", RolloutOutcome::Applied, at + seconds(5), ""));
        });
    assert_eq!(
        world.calls(5, 7).await,
        [
            "set a commit status: fails",
            "#7: ✅ `shop/web` on `east` rolled out in 5s"
        ]
    );
    world.forge.fail(
        ForgeOperation::Comment,
        ForgeProblem::NotFound { message: None },
    );
    world.merge(&[merged(8, "s2", at, &["shop/web"])]);
    assert_eq!(
        world.calls(7, 9).await,
        [
            "comment on a pull request: fails",
            "s2 tagboat/rollout/prod@east Success: rolled out in 5s"
        ]
    );
    world.end().await;
}

#[tokio::test]
async fn report_cluster_error_delays_no_other() {
    let (world, now) = World::fresh();
    // For a request merged before the start, the cluster is queried first.
    *world.stage.down.lock().unwrap() = 2;
    world.stage.record(
        "shop/web",
        &[rollout(
            "s1",
            RolloutOutcome::Applied,
            now - seconds(300),
            "",
        )],
    );
    world
        .stage
        .turn("shop/api", "s1", ApplicationState::Synced, |_| {});
    world.merge(&[
        merged(7, "s1", now - seconds(600), &["shop/web"]),
        merged(8, "s2", now, &["shop/api"]),
    ]);
    let expected = [
        "#8: ✅ `shop/api` on `east` has nothing to change",
        "s2 tagboat/rollout/prod@east Success: has nothing to change",
        "#7: ✅ `shop/web` on `east` rolled out in 5m",
        "s1 tagboat/rollout/prod@east Success: rolled out in 5m",
    ];
    assert_eq!(world.calls(0, 4).await, expected);
    assert_eq!(world.stage.cluster_queries(), 3);
    world.end().await;
}
