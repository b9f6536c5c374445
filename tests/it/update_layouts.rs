//! `tagboat plan` over small public layouts, with the declarations that `tagboat init` drafts for
//! them: the `init_*` cases of `tests/cases/cli`. Expected texts are in `tests/cases/plan`.

use super::{
    cli_support::{cases, tree},
    update_support::{Fleet, Setup},
};
use std::path::Path;
use tagboat::{core::secret::Secret, sandbox::forge::SandboxForge};

/// Plans one layout, with these tags in the registry, by repository.
fn plan(layout: &str, tags: &[(&str, &[&str])]) {
    let files: Vec<(String, String)> = tree(&cases().join(layout).join("expected"))
        .into_iter()
        .filter(|(path, _)| path != "tagboat.yaml")
        .map(|(path, bytes)| (path, String::from_utf8(bytes).unwrap()))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let fleet = Fleet::with(&files, &Setup::default());
    for (path, tags) in tags {
        fleet.publish(path, tags);
    }
    let token = Secret::new("t0ken");
    let repository = fleet.repository.clone();
    let forge = SandboxForge::start(repository, "acme/fleet", &token);
    let forge = fleet.runtime.block_on(forge).unwrap();
    let (url, registry) = (forge.clone_url(), fleet.registry.host());
    let api = url.replace("/acme/fleet.git", "/api/v1");
    // The sandbox's registry stands in for every host, as their proxy.
    let through = format!("insecure: true, proxy: 'http://{registry}'");
    let settings = format!(
        "store: store\nregistries:\n- {{prefix: ghcr.io, {through}}}\n- {{prefix: docker.io, {through}}}\nrepositories:\n- name: fleet\n  url: {url}\n  token: {{file: token}}\n  forge: {{kind: gitea, url: '{api}'}}\n"
    );
    std::fs::write(fleet.dir.path().join("token"), token.expose()).unwrap();
    std::fs::write(fleet.config(), settings).unwrap();
    let output = fleet.tagboat_std(&["plan"]).output().unwrap();
    let shown = format!(
        "{}--- beside it\n{}--- exit {}\n",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        output.status.code().unwrap()
    );
    let shown = shown
        .replace(&url, "[URL]")
        .replace(&registry, "[REGISTRY]");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases/plan")
        .join(format!("{layout}.txt"));
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        shown == expected,
        "{layout}: set UPDATE_EXPECTED=1 to take the new text after reading it\n{}",
        similar::TextDiff::from_lines(&expected, &shown).unified_diff()
    );
}

#[test]
fn plan_of_flux_homelab_names_everything() {
    plan(
        "init_flux_homelab",
        &[
            (
                "nodered/node-red",
                &[
                    "3.1.0-18-minimal",
                    "3.1.3-18-minimal",
                    "4.0.0-18-minimal",
                    "3.1.4",
                ],
            ),
            (
                "home-assistant/home-assistant",
                &["2024.11.2", "2025.1.0", "beta"],
            ),
            ("onedr0p/sonarr", &["4.0.9.2244", "4.0.10.2544", "rolling"]),
        ],
    );
}

#[test]
fn plan_of_flux_automations_follows_each() {
    plan(
        "init_flux_automations",
        &[
            ("envoyproxy/envoy", &["v1.28.0", "v1.29.1", "v1.29-latest"]),
            (
                "library/redis",
                &[
                    "7.2.4-alpine3.19",
                    "7.2.4-alpine3.20",
                    "7.2.5-alpine3.9",
                    "7.2.5",
                ],
            ),
            (
                "acme/web",
                &[
                    "1.4.2",
                    "1.5.0",
                    "main-1a2b3c4-1700000000",
                    "main-2b3c4d5-1700000100",
                    "pr-7-3c4d5e6-1800000000",
                ],
            ),
        ],
    );
}

#[test]
fn plan_of_argo_apps_names_everything() {
    plan(
        "init_argo_apps",
        &[(
            "acme/web",
            &[
                "v3.9.0-177-g159857a0b",
                "v3.9.0-1000-g2aaaaaaa0",
                "v3.9.0-999-g3bbbbbbb0",
            ],
        )],
    );
}

#[test]
fn plan_of_kustomize_overlays_reviews_prod() {
    plan(
        "init_kustomize_overlays",
        &[
            ("envoyproxy/envoy", &["v1.28.0", "v1.28.1"]),
            ("acme/web", &["1.2.0", "1.2.1", "1.3.0-rc.2"]),
        ],
    );
}

#[test]
fn plan_of_helm_values_reviews_prod() {
    plan(
        "init_helm_values",
        &[("acme/web", &["1.2.0", "1.3.0", "1.3.1", "2.0.0"])],
    );
}
