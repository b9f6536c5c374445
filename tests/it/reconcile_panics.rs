//! Bugs: a panic in the pass of one Application ends that pass alone.

use super::{
    reconcile::Sandbox,
    support::{
        fleet::{config, problems},
        rights::{Rights, all_of},
    },
};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tagboat::{
    core::name::Name,
    events::{Event, EventReason, EventSink, Recorder},
    reconcile::{ApplicationState, ApplicationStatus, Reason, ReconcileMode},
};

/// Panics once, when an event is recorded.
#[derive(Clone)]
struct Bug(Arc<BugState>);

struct BugState {
    of: Option<Name>,
    at: EventReason,
    is_armed: AtomicBool,
    reported: Mutex<Vec<Event>>,
}

impl Bug {
    fn new(at: EventReason, of: Option<Name>, is_armed: bool) -> Self {
        Self(Arc::new(BugState {
            of,
            at,
            is_armed: AtomicBool::new(is_armed),
            reported: Mutex::default(),
        }))
    }

    fn arm(&self) {
        self.0.is_armed.store(true, Ordering::SeqCst);
    }

    fn recorder(&self) -> Recorder {
        Recorder::new(vec![Box::new(self.clone())])
    }

    /// Returns the panics that were reported.
    fn reported(&self) -> Vec<Event> {
        self.0.reported.lock().unwrap().clone()
    }
}

impl EventSink for Bug {
    fn record(&self, event: &Event) {
        let bug = &*self.0;
        let is_due = event.reason == bug.at && event.subject.application == bug.of;
        if is_due && bug.is_armed.swap(false, Ordering::SeqCst) {
            panic!("a bug");
        }
        if event.reason == EventReason::TaskPanicked {
            bug.reported.lock().unwrap().push(event.clone());
        }
    }
}

#[tokio::test]
async fn panic_ends_one_pass_and_starts_over() {
    let sandbox = Sandbox::start_with(&Rights::default()).await;
    let mut fleet = sandbox.fleet(ReconcileMode::Act).await;
    let bug = Bug::new(EventReason::SyncSucceeded, Some(fleet.name("web")), true);
    fleet.record_to(&bug.recorder()).await;
    for name in ["web", "db"] {
        fleet.application(name, "");
        fleet.manifests(name, vec![config(name, "1")]);
    }
    let mut work_lost = fleet.reconciler.work_lost();
    let revision = fleet.commit();
    let statuses = fleet.settled(&revision).await;
    let status = &statuses["web"];
    assert_eq!(
        (status.state, status.reason),
        (ApplicationState::Failed, Reason::TaskPanicked)
    );
    assert!(problems(status)[0].contains("the pass panicked: a bug"));
    assert!(status.problems[0].hint.is_some());
    assert_eq!(statuses["db"].state, ApplicationState::Synced);
    let reported = bug.reported();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert_eq!(reported[0].subject.application, Some(fleet.name("web")));

    // It asks for its work, and the same revision is enough.
    work_lost.changed().await.unwrap();
    fleet.follow(&revision);
    fleet
        .until("the new start", |statuses| {
            statuses["web"].state == ApplicationState::Synced
        })
        .await;
    assert!(fleet.live("configmaps", "web").await.is_some());
}

/// A Job that the cluster deletes as soon as it has completed.
fn job(name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"ttlSecondsAfterFinished": 0, "backoffLimit": 0, "template": {
            "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.org/migrate:1"}]},
        }},
    })
}

#[tokio::test]
async fn panic_keeps_the_record() {
    let sandbox = Sandbox::start_with(&Rights::default()).await;
    let mut fleet = sandbox.fleet(ReconcileMode::Act).await;
    let bug = Bug::new(EventReason::SyncSucceeded, Some(fleet.name("web")), false);
    fleet.application("web", "");
    fleet.manifests("web", vec![job("migrate"), config("web", "1")]);
    let has_run = |status: &ApplicationStatus| {
        let mut notes = status.notes.iter();
        status.state == ApplicationState::Synced
            && notes.any(|note| note.message.contains("it has completed and is gone"))
    };
    let first = fleet.commit();
    fleet
        .until("the Job has run", |statuses| {
            statuses.get("web").is_some_and(has_run)
        })
        .await;
    // Another process, which has read the record of the first one.
    fleet.record_to(&bug.recorder()).await;
    fleet.follow(&first);
    fleet
        .until("nothing is left to do", |statuses| {
            statuses.get("web").is_some_and(has_run)
        })
        .await;
    bug.arm();
    fleet.manifests("web", vec![job("migrate"), config("web", "2")]);
    let before = fleet.stats();
    let mut work_lost = fleet.reconciler.work_lost();
    let second = fleet.commit();
    work_lost.changed().await.unwrap();
    assert_eq!(bug.reported().len(), 1);
    fleet.follow(&second);
    fleet
        .until("the new start", |statuses| has_run(&statuses["web"]))
        .await;
    // The ConfigMap twice, since the panic came before its apply was recorded; the Job never.
    assert_eq!(fleet.stats().since(&before).of("apply"), 2);
    assert!(fleet.live("batch/jobs", "migrate").await.is_none());
    fleet.end().await;
    let record = fleet.record("web").await.unwrap();
    let history = record["data"]["history.json"].as_str().unwrap();
    for revision in [&first, &second] {
        assert!(history.contains(revision.as_str()), "{history}");
    }
}

#[tokio::test]
async fn panic_in_a_removal_is_continued() {
    let sandbox = Sandbox::start_with(&Rights::default()).await;
    let mut fleet = sandbox.fleet(ReconcileMode::Act).await;
    let bug = Bug::new(EventReason::ObjectPruned, Some(fleet.name("web")), true);
    fleet.record_to(&bug.recorder()).await;
    for name in ["web", "db"] {
        fleet.application(name, ", prune: true, deletionPolicy: Delete");
    }
    fleet.manifests("web", vec![config("a", "1"), config("b", "1")]);
    fleet.manifests("db", vec![config("db", "1")]);
    fleet.applied().await;
    fleet.undeclare("web");
    let mut work_lost = fleet.reconciler.work_lost();
    let revision = fleet.commit();
    work_lost.changed().await.unwrap();
    fleet.follow(&revision);
    fleet
        .until("the Application is gone", |statuses| {
            !statuses.contains_key("web")
        })
        .await;
    assert_eq!(bug.reported().len(), 1);
    for name in ["a", "b"] {
        assert!(fleet.live("configmaps", name).await.is_none(), "{name}");
    }
    assert!(fleet.record("web").await.is_none());
}

#[tokio::test]
async fn panic_on_a_watch_event_lists_again() {
    let rights = Rights::default();
    let sandbox = Sandbox::start_with(&rights).await;
    rights.set(vec![all_of("shop")]);
    let mut fleet = sandbox.confined().await;
    let bug = Bug::new(EventReason::WatchNarrowed, None, true);
    fleet.record_to(&bug.recorder()).await;
    fleet.application("web", "");
    fleet.manifests("web", vec![config("web", "1")]);
    fleet.commit();
    fleet
        .until("the kind is listed", |statuses| {
            let status = statuses.get("web");
            status.is_some_and(|status| status.state == ApplicationState::Synced)
        })
        .await;
    let reported = bug.reported();
    assert_eq!(reported.len(), 1, "{reported:?}");
    assert!(reported[0].message.contains("listed again"), "{reported:?}");
}
