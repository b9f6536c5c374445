//! Files that users copy: `policies/` passes check and its JSON schema, and `deploy/` matches its
//! description.

use std::{
    fs,
    path::{Path, PathBuf},
};
use tagboat::spec::{self, PolicyKind, SchemaKind, WriteMode};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(path: &str) -> String {
    fs::read_to_string(folder(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The example declarations, as name and text.
fn policies() -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = fs::read_dir(folder("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .map(|name| (name.clone(), read(&format!("policies/{name}"))))
        .collect();
    files.sort();
    files
}

pub(super) fn documents(text: &str) -> Vec<serde_json::Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[test]
fn examples_pass_check() {
    let files = policies();
    let declared = spec::read(
        files
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_bytes())),
        None,
    );
    assert_eq!(declared.mistakes, []);
    let mut kinds: Vec<&str> = declared
        .policies
        .values()
        .map(|policy| policy.choice.kind())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["digest", "newest", "numerical", "semver", "semver"]);
    assert!(
        declared
            .policies
            .values()
            .any(|policy| policy.minimum_age.is_some() && policy.platforms.len() == 2)
    );
    assert!(
        declared
            .policies
            .values()
            .any(|policy| matches!(policy.choice, PolicyKind::Newest))
    );
    assert_eq!(
        declared.environments.keys().collect::<Vec<_>>(),
        ["dev", "prod"]
    );
    assert!(
        declared
            .environments
            .values()
            .all(|environment| matches!(environment.via, WriteMode::Commit)),
        "the behaviour of passes today"
    );
    assert_eq!(declared.applications.len(), 1);
    for (environment, some) in &declared.environments {
        assert!(
            declared
                .policies
                .values()
                .any(|policy| some.selects(policy)),
            "{environment} selects none of the examples"
        );
    }
}

#[test]
fn examples_schema_is_linked_and_current() {
    let committed: serde_json::Value = serde_json::from_str(&read("policies/schema.json")).unwrap();
    let same = committed == spec::schema(SchemaKind::All);
    assert!(
        same,
        "policies/schema.json is stale: write it with `cargo run -- schema > policies/schema.json`"
    );
    let schema = jsonschema::validator_for(&committed).unwrap();
    for (name, text) in policies() {
        let mut lines = text.lines();
        let file = lines
            .next()
            .and_then(|line| line.strip_prefix("# yaml-language-server: $schema="));
        assert!(
            file.is_some_and(|file| folder("policies").join(file).is_file()),
            "{name} names its schema in the first line"
        );
        assert!(
            lines.next().is_some_and(|line| line.starts_with("# ")),
            "{name} says what it does"
        );
        for mut document in documents(&text) {
            let errors: Vec<String> = schema
                .iter_errors(&document)
                .map(|error| error.to_string())
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
            document["spec"]["imege"] = "misspelt".into();
            assert!(
                !schema.is_valid(&document),
                "{name}: the schema takes any field"
            );
        }
    }
}

#[test]
fn deploy_rights_on_one_namespace_are_bound() {
    let all = documents(&read("deploy/rbac-namespace.yaml"));
    let bot = documents(&read("deploy/kubernetes.yaml"));
    let account = bot
        .iter()
        .find(|object| object["kind"] == "ServiceAccount")
        .unwrap();
    let of = |kind: &'static str| all.iter().filter(move |object| object["kind"] == kind);
    assert_eq!(of("Role").count() + of("RoleBinding").count(), all.len());
    for role in of("Role") {
        let [namespace, name] = ["namespace", "name"].map(|field| &role["metadata"][field]);
        let binding = of("RoleBinding")
            .find(|binding| binding["metadata"]["namespace"] == *namespace)
            .unwrap();
        assert_eq!(binding["roleRef"]["kind"], "Role");
        assert_eq!(binding["roleRef"]["name"], *name);
        for field in ["name", "namespace"] {
            assert_eq!(binding["subjects"][0][field], account["metadata"][field]);
        }
    }
}

#[test]
fn deploy_manifest_runs_one_bot_with_its_rights() {
    let all = documents(&read("deploy/kubernetes.yaml"));
    let of = |kind: &str| {
        all.iter()
            .find(|object| object["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    let account = &of("ServiceAccount")["metadata"];
    for kind in ["ClusterRoleBinding", "RoleBinding"] {
        let subject = &of(kind)["subjects"][0];
        assert_eq!(
            (&subject["name"], &subject["namespace"]),
            (&account["name"], &account["namespace"]),
            "{kind}"
        );
    }
    let role = of("Role");
    let verbs = serde_json::json!(["get", "list", "create", "update", "delete"]);
    assert_eq!(role["rules"][0]["verbs"], verbs);
    assert!(
        !all.iter().any(|object| object["kind"] == "Secret"),
        "no secret in a file"
    );
    let (process, warnings) = spec::settings::read(
        "tagboat.yaml",
        of("ConfigMap")["data"]["tagboat.yaml"].as_str().unwrap(),
    )
    .unwrap();
    assert_eq!(
        (
            process.repositories.len(),
            process.clusters.len(),
            warnings.len()
        ),
        (1, 1, 0)
    );
    assert_eq!(
        role["metadata"]["namespace"], process.clusters[0].namespace,
        "the role is where the records are"
    );

    let deployment = &of("Deployment")["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    let pod = &deployment["template"]["spec"];
    assert_eq!(
        (
            &pod["automountServiceAccountToken"],
            &pod["securityContext"]["runAsNonRoot"]
        ),
        (&true.into(), &true.into())
    );
    let container = &pod["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mounted = |path: &Path| {
        container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()))
    };
    assert!(
        mounted(process.store.as_deref().unwrap()),
        "a read-only root file system needs a volume for the store"
    );
    assert!(
        mounted(Path::new("/etc/tagboat/tagboat.yaml"))
            && mounted(Path::new("/etc/tagboat/secrets/git-token"))
    );
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(
            pod["volumes"]
                .as_array()
                .unwrap()
                .iter()
                .any(|volume| volume["name"] == mount["name"]),
            "{mount}"
        );
    }
}

#[test]
fn container_has_no_demo_and_no_root() {
    let text = read("deploy/Containerfile");
    let last = text.rsplit("\nFROM ").next().unwrap();
    assert!(text.contains("cargo build --release --locked --no-default-features"));
    assert!(
        last.contains("\nUSER 65532:65532\n") && last.contains("ca-certificates openssh-client")
    );
    let manifest = read("Cargo.toml");
    let wanted = format!(
        "docker.io/library/rust:{}-",
        manifest
            .split("rust-version = \"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
    );
    assert!(
        text.contains(&wanted),
        "the base image must have the package's Rust version: {wanted}"
    );
    for copied in text
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|line| !line.starts_with("--from"))
    {
        let sources: Vec<&str> = copied.split(' ').collect();
        assert!(
            sources[..sources.len() - 1]
                .iter()
                .all(|source| folder(source).exists()),
            "{copied}"
        );
    }
}

/// The calls of `tagboat` in a file, as the words after its name.
fn calls(text: &str) -> Vec<Vec<String>> {
    let words = |line: &str| {
        line.split_whitespace()
            .map(|word| word.trim_matches('"').to_owned())
            .collect()
    };
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            line.split_once("tagboat ")
                .filter(|(before, _)| before.is_empty() || before.ends_with([' ', '/']))
        })
        .map(|(_, rest)| words(rest))
        .collect()
}

#[test]
fn ci_job_and_systemd_unit_call_existing_commands() {
    let ci = read("deploy/ci.yaml");
    let jobs = documents(&ci).remove(0);
    assert!(
        jobs["jobs"].as_object().unwrap().len() == 2
            && jobs["jobs"]
                .as_object()
                .unwrap()
                .values()
                .all(|job| job["steps"].is_array())
    );
    let unit = read("deploy/tagboat.service");
    for section in ["[Unit]", "[Service]", "[Install]"] {
        assert!(unit.lines().any(|line| line == section), "{section}");
    }
    let calls: Vec<Vec<String>> = calls(&ci).into_iter().chain(calls(&unit)).collect();
    let commands: Vec<&str> = calls.iter().map(|words| words[0].as_str()).collect();
    assert_eq!(commands, ["set", "plan", "run"]);
    for words in calls {
        // Every flag of the example exists.
        let help = crate::servers::environment::tagboat()
            .args([&words[0], "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.iter().filter(|word| word.starts_with('-')) {
            assert!(
                help.contains(flag.as_str()),
                "tagboat {} has no {flag}",
                words[0]
            );
        }
    }
}
