//! Hostile registries: pages, bodies and headers without an end, and rate limits that others must
//! not feel.

use super::registry_faults::{list_with, query};
use crate::it::support::wire::{
    Manner, Reply, Seen, Wire, config, registries, registries_with, reply, tags, timing,
};
use jiff::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tagboat::{
    core::image::ImageRepository,
    io::{
        facts::{BackgroundScans, ScanError, Scanner},
        http::SecretLocation,
        registry::{Registries, RegistryLogin, RegistryProblem},
        store::Store,
    },
};

fn scanner(registries: Registries) -> (Scanner, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("store.redb")).unwrap();
    (Scanner::new(Arc::new(registries), Arc::new(store)), folder)
}

/// A page with one tag and a link to the next, which no earlier page has named.
fn endless(seen: &Seen) -> Reply {
    let page: u64 = query(seen, "last").map_or(0, |last| last.parse().unwrap());
    tags([page.to_string().as_str()]).with(
        "Link",
        format!("</v2/team/app/tags/list?last={}>; rel=\"next\"", page + 1),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn scan_ends_at_its_deadline_whatever_is_sent() {
    let pause = Duration::from_millis(50);
    for manner in [
        Manner::Whole,
        Manner::Drip(Duration::from_secs(1)),
        Manner::EndlessHeaders(pause),
        Manner::Silent,
        Manner::Stall,
    ] {
        let wire = Wire::start(move |seen, _| endless(seen).manner(manner)).await;
        let (scanner, _folder) = scanner(wire.registries(RegistryLogin::Anonymous));
        let timeout = Duration::from_secs(2);
        let begun = Instant::now();
        let error = scanner
            .scan(&wire.repository(), timeout, Timestamp::UNIX_EPOCH)
            .await
            .unwrap_err();
        let is_bounded = matches!(error, ScanError::Deadline { .. } | ScanError::Registry(_));
        assert!(is_bounded, "{manner:?}: {error}");
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{manner:?}: {:?}",
            begun.elapsed()
        );
        assert!(error.to_string().contains("/team/app"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patient_scan_goes_on_and_is_found_later() {
    let slow =
        Wire::start(|_, _| tags(["1", "2"]).manner(Manner::Drip(Duration::from_millis(200)))).await;
    let fast = Wire::start(|_, _| tags(["1"])).await;
    let configs = [&slow, &fast].map(|wire| config(&wire.host, RegistryLogin::Anonymous));
    let (scanner, _folder) = scanner(registries(configs.to_vec()));
    let scans = Arc::new(BackgroundScans::default());
    let patient = scanner.patient(&scans, Duration::from_secs(3));
    let scan = |wire: &Wire| {
        let (patient, repository) = (patient.clone(), wire.repository());
        async move {
            let timeout = Duration::from_secs(60);
            patient
                .scan(&repository, timeout, Timestamp::UNIX_EPOCH)
                .await
        }
    };
    scans.begin_pass();
    let (late, done) = tokio::join!(scan(&slow), scan(&fast));
    assert!(matches!(late, Err(ScanError::Running { .. })), "{late:?}");
    assert_eq!(done.unwrap().tags.get().unwrap().len(), 1);
    // As long as it runs, no pass waits for it and no second scan begins.
    let again = scan(&slow).await;
    assert!(matches!(again, Err(ScanError::Running { .. })), "{again:?}");
    tokio::time::timeout(Duration::from_secs(60), scans.next_finished())
        .await
        .unwrap();
    assert_eq!(scan(&slow).await.unwrap().tags.get().unwrap().len(), 2);
    assert_eq!(slow.seen().len(), 1);
    assert!(scans.repositories().is_empty());
}

#[tokio::test]
async fn throttled_anonymous_requests_park_one_owner() {
    let wire = Wire::start(|seen, _| match seen.path().contains("/team/app/") {
        true => reply(429, "").with("Retry-After", "21600"),
        false => tags(["1"]),
    })
    .await;
    let shared = wire.registries(RegistryLogin::Anonymous);
    let (greedy, modest) = (shared.owned_by("greedy"), shared.owned_by("modest"));
    let error = list_with(&wire, &greedy).await.unwrap_err();
    assert!(
        matches!(error.problem, RegistryProblem::Throttled { .. }),
        "{error}"
    );
    // The registry counts by address: each further image would learn its own 429.
    for at in 0..300 {
        let other = ImageRepository::new(&format!("{}/other/app{at}", wire.host)).unwrap();
        greedy.list_tags(&other, None).await.unwrap_err();
    }
    assert_eq!(wire.seen().len(), 1, "nothing is sent while parked");
    let other = ImageRepository::new(&format!("{}/other/app", wire.host)).unwrap();
    modest.list_tags(&other, None).await.unwrap();
}

#[tokio::test]
async fn throttled_credential_parks_its_own_requests() {
    let wire = Wire::start(|seen, _| match seen.header("authorization") {
        "" => reply(401, "").with("WWW-Authenticate", "Basic realm=\"r\""),
        // one:secret
        "Basic b25lOnNlY3JldA==" => reply(429, "").with("Retry-After", "21600"),
        _ => tags(["1"]),
    })
    .await;
    let login = |username: &str| RegistryLogin::Basic {
        username: username.to_owned(),
        password: SecretLocation::Value(tagboat::core::secret::Secret::new("secret")),
    };
    let registries = registries(vec![
        config(&format!("{}/one", wire.host), login("one")),
        config(&format!("{}/two", wire.host), login("two")),
    ]);
    let list = async |path: &str| {
        let image = ImageRepository::new(&format!("{}/{path}", wire.host)).unwrap();
        registries.list_tags(&image, None).await
    };
    list("one/a").await.unwrap_err();
    let asked = wire.seen().len();
    list("one/b").await.unwrap_err();
    assert_eq!(wire.seen().len(), asked, "the credential is parked");
    list("two/a").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn registry_is_shared_between_repositories() {
    let wire = Wire::start(|_, _| tags(["1"]).manner(Manner::Drip(Duration::from_millis(2)))).await;
    let mut limited = config(&wire.host, RegistryLogin::Anonymous);
    limited.concurrency = 2;
    let shared = registries_with(vec![limited], timing());
    let (greedy, modest) = (shared.owned_by("greedy"), shared.owned_by("modest"));
    let image = |path: &str| ImageRepository::new(&format!("{}/{path}", wire.host)).unwrap();
    let done = AtomicUsize::new(0);
    let many: Vec<ImageRepository> = (0..40).map(|at| image(&format!("greedy/{at}"))).collect();
    let all = futures::future::join_all(many.iter().map(|image| async {
        greedy.list_tags(image, None).await.unwrap();
        done.fetch_add(1, Ordering::SeqCst);
    }));
    let one = image("modest/app");
    let modest = async {
        modest.list_tags(&one, None).await.unwrap();
        done.load(Ordering::SeqCst)
    };
    let (_, before) = tokio::join!(all, modest);
    assert!(
        before < 10,
        "{before} requests of another repository came first"
    );
}
