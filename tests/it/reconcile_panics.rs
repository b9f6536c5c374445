//! Bugs: a panic in the pass of one Application ends that pass alone.

use super::{
    reconcile::Sandbox,
    support::{
        fleet::{config, problems},
        rights::Rights,
    },
};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};
use tagboat::{
    core::name::Name,
    events::{Event, EventReason, EventSink, Recorder},
    reconcile::{ApplicationState, Reason, ReconcileMode},
};

/// Panics once, when an Application is synced: within its pass.
struct Bug {
    of: Name,
    is_armed: AtomicBool,
    reported: &'static Mutex<Vec<Event>>,
}

impl EventSink for Bug {
    fn record(&self, event: &Event) {
        let is_due = event.reason == EventReason::SyncSucceeded
            && event.subject.application.as_ref() == Some(&self.of);
        if is_due && self.is_armed.swap(false, Ordering::SeqCst) {
            panic!("a bug");
        }
        if event.reason == EventReason::TaskPanicked {
            self.reported.lock().unwrap().push(event.clone());
        }
    }
}

#[tokio::test]
async fn panic_ends_one_pass_and_starts_over() {
    static REPORTED: Mutex<Vec<Event>> = Mutex::new(Vec::new());
    let sandbox = Sandbox::start_with(&Rights::default()).await;
    let mut fleet = sandbox.fleet(ReconcileMode::Act).await;
    let bug = Bug {
        of: fleet.name("web"),
        is_armed: AtomicBool::new(true),
        reported: &REPORTED,
    };
    fleet.record_to(&Recorder::new(vec![Box::new(bug)])).await;
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
    {
        let reported = REPORTED.lock().unwrap();
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert_eq!(reported[0].subject.application, Some(fleet.name("web")));
    }

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
