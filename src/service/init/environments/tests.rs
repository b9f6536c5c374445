use super::*;
use crate::images::{
    includes::{self, Includes},
    references::{FileKind, YamlFile},
};

fn found(files: &[&str]) -> Vec<(String, Vec<String>)> {
    find(files.iter().copied(), &[], &IncludeGraph::default(), &[])
        .into_iter()
        .map(|draft| (draft.name, draft.paths))
        .collect()
}

fn draft(name: &str, paths: &[&str]) -> (String, Vec<String>) {
    (
        name.to_owned(),
        paths.iter().map(|path| (*path).to_owned()).collect(),
    )
}

#[test]
fn environments_follow_folders() {
    assert_eq!(
        found(&["app.yaml"]),
        [draft("default", &["**", "!policies/**"])]
    );
    assert_eq!(
        found(&["envs/dev/a.yaml", "envs/dev/x/b.yaml", "envs/prod/a.yaml"]),
        [
            draft("dev", &["envs/dev/**"]),
            draft("prod", &["envs/prod/**"])
        ]
    );
    assert_eq!(
        found(&[
            "apps/a/overlays/prod/k.yaml",
            "apps/b/overlays/prod/k.yaml",
            "apps/a/base/d.yaml"
        ]),
        [
            draft(
                "prod",
                &["apps/a/overlays/prod/**", "apps/b/overlays/prod/**"]
            ),
            draft(
                "shared",
                &[
                    "**",
                    "!apps/a/overlays/prod/**",
                    "!apps/b/overlays/prod/**",
                    "!policies/**"
                ]
            ),
        ]
    );
    // A file directly in the parent folder belongs to no environment, unless its name tells.
    assert_eq!(
        found(&["clusters/a.yaml"]),
        [draft("default", &["**", "!policies/**"])]
    );
    assert_eq!(
        found(&["envs/D[e]v_1/a.yaml"]),
        [draft("d-e-v-1", &["envs/D[[]e[]]v_1/**"])]
    );
    assert_eq!(
        found(&["clusters/prod/envs/dev/a.yaml"]),
        [draft("prod", &["clusters/prod/**"])]
    );
    // A folder of an environment inside that of a cluster is taken out of it.
    assert_eq!(
        found(&["clusters/home/a.yaml", "clusters/home/dev/b.yaml"]),
        [
            draft("dev", &["clusters/home/dev/**"]),
            draft("home", &["clusters/home/**", "!clusters/home/dev/**"]),
        ]
    );
}

/// A file, and the environment that its path names.
#[test]
fn environment_of_a_file_follows_known_words() {
    for (file, name) in [
        ("apps/production/web/k.yaml", "production"),
        ("k8s/prod-eu-west-1/a.yaml", "prod-eu-west-1"),
        ("aws-staging/a.yaml", "aws-staging"),
        ("live/prod/a.yaml", "prod"),
        ("apps/web/overlays/web-prod/a.yaml", "prod"),
        ("apps/web/overlays/arm64/a.yaml", ""),
        ("apps/web/overlays/with-postgres/a.yaml", ""),
        ("tenants/team-a/a.yaml", ""),
        ("apps/live-chat/a.yaml", ""),
        ("apps/test-runner/a.yaml", ""),
        ("clusters/eu-west/a.yaml", "eu-west"),
        ("envs/customer1/a.yaml", "customer1"),
        ("charts/web/values-prod.yaml", "prod"),
        ("charts/web/values.staging.yaml", "staging"),
        ("charts/web/prod-values.yaml", "prod"),
        ("environments/prod.yaml", "prod"),
        ("web-qa.yaml", "qa"),
        ("values-prod-eu.yaml", "prod-eu"),
        ("prod-web-deployment.yaml", ""),
        ("apps/product/deployment.yaml", ""),
    ] {
        assert_eq!(
            hit(file).map_or(String::new(), |hit| hit.name),
            name,
            "{file}"
        );
    }
}

#[test]
fn environment_of_an_ambiguous_word_needs_another() {
    assert_eq!(
        found(&["test/a.yaml"]),
        [draft("default", &["**", "!policies/**"])]
    );
    assert_eq!(
        found(&["test/a.yaml", "live/b.yaml"]),
        [draft("live", &["live/**"]), draft("test", &["test/**"])]
    );
    assert_eq!(
        found(&["envs/test/a.yaml"]),
        [draft("test", &["envs/test/**"])]
    );
}

#[test]
fn production_is_recognised_by_name() {
    for (name, expected) in [
        ("prod", true),
        ("eu-production", true),
        ("live", true),
        ("prod2", true),
        ("products", false),
        ("dev", false),
        ("non-prod", false),
        ("pre-prod", false),
        ("preprod", false),
    ] {
        assert_eq!(is_production(name), expected, "{name}");
    }
}

fn included(path: &str, resource: &str) -> Includes {
    let source = format!("resources: [{resource}]\n");
    let file = YamlFile::new(FileKind::Kustomization, source.as_bytes());
    includes::read(path, &file).unwrap()
}

/// Returns the reasons for pull requests, by name.
fn reviews(files: &[&str], all: &[Includes]) -> Vec<(String, Option<ReviewReason>)> {
    let including: Vec<&str> = all.iter().map(|one| one.file.as_str()).collect();
    find(
        files.iter().copied(),
        &[],
        &IncludeGraph::new(all),
        &including,
    )
    .into_iter()
    .map(|draft| (draft.name, draft.review))
    .collect()
}

#[test]
fn review_is_drafted_for_bases_of_production() {
    let production = Some(ReviewReason::Production);
    let base = Some(ReviewReason::IncludedByProduction);
    let files = ["web/base/d.yaml", "web/prod/k.yaml", "web/dev/k.yaml"];
    let dev = included("web/dev/kustomization.yaml", "../base");
    let prod = included("web/prod/kustomization.yaml", "../base");
    let expected = |shared| {
        [
            ("dev".to_owned(), None),
            ("prod".to_owned(), production),
            ("shared".to_owned(), shared),
        ]
    };
    assert_eq!(reviews(&files, std::slice::from_ref(&dev)), expected(None));
    assert_eq!(reviews(&files, &[dev, prod]), expected(base));
    // The values that all environments of a chart share.
    let files = [
        "web/values.yaml",
        "web/values-prod.yaml",
        "web/values-dev.yaml",
    ];
    assert_eq!(reviews(&files, &[]), expected(base));
    assert_eq!(reviews(&["a.yaml"], &[]), [("default".to_owned(), None)]);
}
