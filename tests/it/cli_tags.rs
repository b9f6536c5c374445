//! `tagboat tags` against the sandbox's registry.

use super::cli_support::Case;
use jiff::Timestamp;
use tagboat::{
    core::image::Tag,
    sandbox::registry::{SandboxImage, SandboxRegistry},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_are_listed_and_described() {
    let registry = SandboxRegistry::start().await.unwrap();
    let created: Timestamp = "2026-03-04T05:06:07Z".parse().unwrap();
    for (number, tag) in ["latest", "1.9.0", "1.10.0", "1.10.0-rc.1"]
        .into_iter()
        .enumerate()
    {
        let platforms: &[&str] = if number == 0 {
            &[]
        } else {
            &["linux/amd64", "linux/arm/v7"]
        };
        let image = SandboxImage {
            created: (number < 3).then_some(created),
            platforms: platforms
                .iter()
                .map(|platform| platform.parse().unwrap())
                .collect(),
            salt: tag.to_owned(),
            ..SandboxImage::default()
        };
        registry
            .publish("team/app", &Tag::new(tag).unwrap(), &image)
            .await
            .unwrap();
    }
    let host = registry.host();
    // A port that was free a moment ago, without a listener.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    tokio::task::spawn_blocking(move || {
        let mut case = Case::new("tags");
        case.replace(&host, "[REGISTRY]");
        case.run("tags [REGISTRY]/team/app --insecure");
        case.run("tags [REGISTRY]/team/app --insecure --limit 2");
        case.run("tags [REGISTRY]/team/app:latest --insecure -o json");
        case.run("tags [REGISTRY]/team/app:none --insecure");
        case.run("tags [REGISTRY]/team/nothing --insecure");
        case.run("tags [REGISTRY]/team/nothing --insecure -o json");
        case.replace(&nobody, "[NOBODY]");
        assert_eq!(case.run("tags [NOBODY]/app --insecure").exit, 3);
        // The settings file says how to reach it, and needs no config repository for that.
        let process = format!("registries: [{{prefix: '{host}', insecure: true}}]\n");
        case.file("tagboat.yaml", &process);
        case.file("other.yaml", process.replace("insecure", "insecur"));
        case.run("tags [REGISTRY]/team/app --limit 1");
        case.run("tags [REGISTRY]/team/app -c other.yaml");
        case.run("tags [REGISTRY]/team/app -c none.yaml");
        case.run("tags [REGISTRY]/team/app --limit 1 --all");
        case.run("tags Nginx");
        case.run(
            "tags nginx@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        );
        case.finish();
    })
    .await
    .unwrap();
    registry.stop().await.unwrap();
}
