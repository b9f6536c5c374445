//! Renderings of several repositories: a slow one does not hold up another.

use super::support::fleet::{Backend, Fleet, config, repository};
use std::time::{Duration, Instant};
use tagboat::reconcile::ApplicationState;

/// Runs each scenario of this module.
macro_rules! for_each_fairness_scenario {
    ($run:ident) => {
        $run!(reconcile_fair: slow_charts_delay_no_other_repository,);
    };
}
pub(super) use for_each_fairness_scenario;

/// Waits until so many programs run, and as many have ended.
async fn reached<K: Backend>(fleet: &Fleet<K>, counts: (usize, usize)) {
    let end = Instant::now() + Duration::from_secs(60);
    while fleet.files.programs.counts() != counts {
        assert!(Instant::now() < end, "{:?}", fleet.files.programs.counts());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn slow_charts_delay_no_other_repository<K: Backend>(slow: Fleet<K>) {
    slow.files.programs.close();
    for number in 0..12 {
        let name = format!("chart-{number}");
        slow.application(&name, "");
        slow.manifests(&name, vec![config(&name, "1")]);
    }
    let charts = slow.commit();
    reached(&slow, (2, 0)).await;
    // Both slots are taken.
    let other = slow.beside(repository("other", "git.example.org"));
    for name in ["plain", "chart-web"] {
        other.application(name, "");
        other.manifests(name, vec![config(name, "1")]);
    }
    let revision = other.commit();
    let is_applied = |name: &'static str| {
        move |statuses: &std::collections::BTreeMap<
            String,
            tagboat::reconcile::ApplicationStatus,
        >| {
            statuses
                .get(name)
                .is_some_and(|status| status.state == ApplicationState::Synced)
        }
    };
    other
        .until("plain manifests need no slot", is_applied("plain"))
        .await;
    assert_eq!(slow.files.programs.counts(), (2, 0));
    // The first slot that becomes free is the other repository's.
    slow.files.programs.let_one_through();
    other
        .until("its turn is next", is_applied("chart-web"))
        .await;
    assert_eq!(slow.files.programs.counts().1, 1);
    slow.files.programs.open();
    other.settled(&revision).await;
    slow.settled(&charts).await;
    assert_eq!(slow.files.programs.counts(), (0, 12));
}
