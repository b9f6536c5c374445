//! Facts for reviewers, from labels of images and the config repository's own forge, gathered once.

use crate::it::support::{
    forge::{forge, json, sent},
    wire::{Manner, Wire, config, registries, reply},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tagboat::{
    core::image::{Digest, ImageRepository, Tag},
    io::{
        facts::Scanner,
        forge::Forge,
        registry::{RegistryLogin, RequestKind},
        store::Store,
    },
    review::{DescribedMove, FileLine, ImageMove},
    sandbox::registry::{SandboxImage, SandboxRegistry},
    spec::ForgeKind,
    update::{FactsGatherer, FactsQuery, GatheredFacts, PATIENCE, RefusedReport},
};

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A registry with two versions of an image whose labels name `source`.
struct World {
    registry: SandboxRegistry,
    scanner: Scanner,
    repository: ImageRepository,
    new: Digest,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(source: &str) -> Self {
        let registry = SandboxRegistry::start().await.unwrap();
        let image = |digit: &str, version: &str| SandboxImage {
            created: Some("2026-11-17T20:00:00Z".parse().unwrap()),
            labels: BTreeMap::from([
                (
                    "org.opencontainers.image.source".to_owned(),
                    source.to_owned(),
                ),
                (
                    "org.opencontainers.image.revision".to_owned(),
                    digit.repeat(40),
                ),
                (
                    "org.opencontainers.image.version".to_owned(),
                    version.to_owned(),
                ),
            ]),
            ..SandboxImage::default()
        };
        registry
            .publish(
                "acme/web",
                &Tag::new("1.0.0").unwrap(),
                &image("1", "1.0.0"),
            )
            .await
            .unwrap();
        let new = registry
            .publish(
                "acme/web",
                &Tag::new("1.1.0").unwrap(),
                &image("2", "1.1.0"),
            )
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store")).unwrap();
        let anonymous = config(&registry.host(), RegistryLogin::Anonymous);
        let registries = Arc::new(registries(vec![anonymous]));
        let scanner = Scanner::new(registries, Arc::new(store));
        let repository = registry.repository("acme/web").unwrap();
        Self {
            registry,
            scanner,
            repository,
            new,
            _folder: folder,
        }
    }

    fn image(&self) -> ImageMove {
        ImageMove {
            policy: "apps/web".parse().unwrap(),
            repository: self.repository.clone(),
            old: Some("1.0.0".to_owned()),
            new: Tag::new("1.1.0").unwrap(),
            digest: None,
            bump: tagboat::core::version::bump(Some("1.0.0"), "1.1.0"),
            places: vec![FileLine {
                file: "app.yaml".to_owned(),
                line: 1,
            }],
        }
    }

    async fn gather(&self, forge: Option<&dyn Forge>, now: Timestamp) -> GatheredFacts {
        self.gather_within(forge, now, PATIENCE).await
    }

    async fn gather_within(
        &self,
        forge: Option<&dyn Forge>,
        now: Timestamp,
        patience: Duration,
    ) -> GatheredFacts {
        let refused = [RefusedReport {
            tag: "2.0.0".to_owned(),
            reason: "is outside the range".to_owned(),
        }];
        let image = self.image();
        let sent = [FactsQuery {
            image: &image,
            policy: None,
            scan: None,
            refused: &refused,
        }];
        FactsGatherer {
            scanner: &self.scanner,
            forge,
            now,
            patience,
        }
        .gather(&sent)
        .await
    }

    fn registry_requests(&self) -> u64 {
        self.scanner.registries.stats().all()
    }
}

fn one(gathered: GatheredFacts) -> DescribedMove {
    let [described] = <[DescribedMove; 1]>::try_from(gathered.moves).unwrap();
    described
}

fn releases(tag: &str) -> serde_json::Value {
    json!([{"tag_name": tag, "name": "One", "body": "- fixed", "html_url": "https://forge.example/r", "published_at": "2026-11-17T20:00:00Z", "draft": false}])
}

#[tokio::test]
async fn facts_are_gathered_once_per_version() {
    let wire = Wire::start(|seen, _| match seen.path() {
        "/repos/acme/web/releases" => json(200, &releases("v1.1.0")),
        other => panic!("unexpected request: {other}"),
    })
    .await;
    let world = World::new(&format!("http://{}/acme/web", wire.host)).await;
    world
        .scanner
        .store
        .see(
            &world.repository,
            &[(Tag::new("1.1.0").unwrap(), world.new.clone())],
            now(),
        )
        .unwrap();
    let forge = forge(&wire, ForgeKind::Github, "", "acme/fleet");
    let gathered = world.gather(Some(&*forge), now()).await;
    assert!(!gathered.may_tell_more);
    let described = one(gathered);
    assert_eq!(described.facts.digest.as_ref(), Some(&world.new));
    assert_eq!(described.facts.missing, None);
    assert_eq!(described.facts.new.version.as_deref(), Some("1.1.0"));
    assert_eq!(
        described.facts.compare.unwrap(),
        format!(
            "http://{}/acme/web/compare/{}...{}",
            wire.host,
            "1".repeat(40),
            "2".repeat(40)
        )
    );
    assert_eq!(
        described
            .facts
            .releases
            .iter()
            .map(|release| release.notes.as_str())
            .collect::<Vec<_>>(),
        ["- fixed"]
    );
    assert_eq!(described.seen.unwrap().at, now());
    assert_eq!(
        described.refused,
        [("2.0.0".to_owned(), "is outside the range".to_owned())]
    );

    let (of_forge, of_registry) = (sent(&wire).len(), world.registry_requests());
    assert_eq!(world.scanner.registries.stats().total(RequestKind::Head), 2);
    let again = one(world
        .gather(Some(&*forge), now() + SignedDuration::from_hours(1_000))
        .await);
    assert_eq!(
        (sent(&wire).len(), world.registry_requests()),
        (of_forge, of_registry),
        "the next pass sends nothing"
    );
    assert_eq!(again.facts.releases.len(), 1);
    world.registry.stop().await.unwrap();
}

#[tokio::test]
async fn facts_label_cannot_reach_another_forge() {
    let own = Wire::start(|_, _| json(200, &json!([]))).await;
    let other = Wire::start(|_, _| json(200, &releases("1.1.0"))).await;
    let port = other.host.rsplit(':').next().unwrap().to_owned();
    for source in [
        format!("http://{}/acme/web", other.host),
        format!("http://{}@{}/acme/web", own.host, other.host),
        format!("http://github.localhost:{port}/acme/web"),
        "file:///etc/passwd".to_owned(),
        "javascript:alert(1)".to_owned(),
    ] {
        let world = World::new(&source).await;
        let forge = forge(&own, ForgeKind::Github, "", "acme/fleet");
        let gathered = world.gather(Some(&*forge), now()).await;
        assert!(!gathered.may_tell_more);
        let described = one(gathered);
        assert_eq!(
            (
                described.facts.new.source.as_ref(),
                described.facts.releases.len()
            ),
            (Some(&source), 0)
        );
        world.registry.stop().await.unwrap();
    }
    assert_eq!(
        sent(&own),
        [""; 0],
        "another project's notes are not requested here"
    );
    assert_eq!(sent(&other), [""; 0], "a label causes no request");
}

#[tokio::test]
async fn facts_failure_is_shown_and_retried_hourly() {
    let wire = Wire::start(|_, before| match before {
        0 => reply(
            403,
            r#"{"message": "Resource not accessible by @integration"}"#,
        )
        .with("Content-Type", "application/json"),
        _ => json(200, &releases("1.1.0")),
    })
    .await;
    let world = World::new(&format!("http://{}/acme/web", wire.host)).await;
    let forge = forge(&wire, ForgeKind::Github, "", "acme/fleet");
    let gathered = world.gather(Some(&*forge), now()).await;
    assert!(gathered.may_tell_more);
    let described = one(gathered);
    assert!(
        described
            .facts
            .missing
            .unwrap()
            .starts_with("Cannot read the release notes: ")
    );
    assert!(described.facts.compare.is_some(), "the earlier facts stay");
    let soon = world
        .gather(Some(&*forge), now() + SignedDuration::from_mins(59))
        .await;
    assert!(soon.may_tell_more && sent(&wire).len() == 1);
    let later = world
        .gather(Some(&*forge), now() + SignedDuration::from_mins(60))
        .await;
    assert!(!later.may_tell_more);
    assert_eq!(one(later).facts.releases.len(), 1);
    world.registry.stop().await.unwrap();
}

#[tokio::test]
async fn facts_silent_forge_delays_within_bound() {
    let wire = Wire::start(|_, _| json(200, &json!([])).manner(Manner::Silent)).await;
    let world = World::new(&format!("http://{}/acme/web", wire.host)).await;
    let forge = forge(&wire, ForgeKind::Github, "", "acme/fleet");
    let started = Instant::now();
    let gathered = world
        .gather_within(Some(&*forge), now(), Duration::from_secs(3))
        .await;
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert!(gathered.may_tell_more);
    let described = one(gathered);
    assert!(
        described.facts.missing.is_some()
            && described.facts.digest.is_some()
            && described.facts.new.source.is_some()
    );
    world.registry.stop().await.unwrap();
}
