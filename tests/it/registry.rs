//! The registry client against the registry of the sandbox.

use crate::it::support::wire::{config, registries};
use std::collections::BTreeMap;
use tagboat::{
    core::image::Tag,
    io::registry::{Registries, RegistryLogin, RequestKind, Tags},
    sandbox::registry::{SandboxImage, SandboxRegistry},
};

fn tag(text: &str) -> Tag {
    Tag::new(text).unwrap()
}

fn poller(sandbox: &SandboxRegistry) -> Registries {
    registries(vec![config(&sandbox.host(), RegistryLogin::Anonymous)])
}

#[tokio::test]
async fn sandbox_image_has_digest_date_and_platforms() {
    let sandbox = SandboxRegistry::start().await.unwrap();
    let registries = poller(&sandbox);
    let repository = sandbox.repository("team/app").unwrap();
    let single = SandboxImage {
        created: Some("2026-11-01T00:00:00Z".parse().unwrap()),
        ..SandboxImage::default()
    };
    let source = (
        "org.opencontainers.image.source".to_owned(),
        "https://git.example/app".to_owned(),
    );
    let index = SandboxImage {
        created: None,
        platforms: vec![
            "linux/amd64".parse().unwrap(),
            "linux/arm/v7".parse().unwrap(),
        ],
        labels: BTreeMap::from([source.clone()]),
        salt: String::new(),
    };
    let one = sandbox
        .publish("team/app", &tag("1.0"), &single)
        .await
        .unwrap();
    let two = sandbox
        .publish("team/app", &tag("1.1"), &index)
        .await
        .unwrap();
    let Tags::Listed(listing) = registries.list_tags(&repository, None).await.unwrap() else {
        panic!("a list")
    };
    assert_eq!(listing.tags.iter().collect::<Vec<_>>(), ["1.0", "1.1"]);
    assert_eq!(
        registries.digest(&repository, &tag("1.0")).await.unwrap(),
        one
    );
    assert_eq!(
        registries.digest(&repository, &tag("1.1")).await.unwrap(),
        two
    );
    let stats = registries.stats();
    assert_eq!(
        (
            stats.total(RequestKind::Tags),
            stats.total(RequestKind::Head),
            stats.all()
        ),
        (1, 2, 3)
    );

    let described = registries.describe(&repository, &one).await.unwrap();
    assert_eq!(
        described.created.unwrap().to_string(),
        "2026-11-01T00:00:00Z"
    );
    assert_eq!(
        described
            .platforms
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["linux/amd64"]
    );
    let described = registries.describe(&repository, &two).await.unwrap();
    assert_eq!(described.created, None);
    assert_eq!(
        described
            .platforms
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["linux/amd64", "linux/arm/v7"]
    );
    assert_eq!(described.labels, BTreeMap::from([source]));
    sandbox.stop().await.unwrap();
}

#[tokio::test]
async fn sandbox_publish_is_reproducible_until_salted() {
    let sandbox = SandboxRegistry::start().await.unwrap();
    let image = SandboxImage::default();
    let first = sandbox.publish("a", &tag("1"), &image).await.unwrap();
    assert_eq!(
        sandbox.publish("a", &tag("2"), &image).await.unwrap(),
        first
    );
    let rebuilt = sandbox
        .publish(
            "a",
            &tag("1"),
            &SandboxImage {
                salt: "again".into(),
                ..image
            },
        )
        .await
        .unwrap();
    assert_ne!(rebuilt, first);
    assert_eq!(
        poller(&sandbox)
            .digest(&sandbox.repository("a").unwrap(), &tag("1"))
            .await
            .unwrap(),
        rebuilt
    );
}

#[tokio::test]
async fn tags_of_many_pages_are_listed_completely() {
    let sandbox = SandboxRegistry::start().await.unwrap();
    for n in 0..2001 {
        sandbox
            .publish("many", &tag(&format!("{n:05}")), &SandboxImage::default())
            .await
            .unwrap();
    }
    let Tags::Listed(listing) = poller(&sandbox)
        .list_tags(&sandbox.repository("many").unwrap(), None)
        .await
        .unwrap()
    else {
        panic!("a list")
    };
    let expected: Vec<String> = (0..2001).map(|n| format!("{n:05}")).collect();
    assert_eq!(listing.tags.iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn sandbox_stopped_registry_is_unreachable() {
    let sandbox = SandboxRegistry::start().await.unwrap();
    let (registries, repository) = (poller(&sandbox), sandbox.repository("a").unwrap());
    sandbox
        .publish("a", &tag("1"), &SandboxImage::default())
        .await
        .unwrap();
    registries.list_tags(&repository, None).await.unwrap();
    sandbox.stop().await.unwrap();
    let error = registries.list_tags(&repository, None).await.unwrap_err();
    assert!(error.to_string().contains("cannot reach"), "{error}");
}
