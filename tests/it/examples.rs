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

/// The files with rights, beside the manifest that runs the bot.
const RIGHTS: [&str; 4] = [
    "deploy/rbac-records.yaml",
    "deploy/rbac-impersonate.yaml",
    "deploy/rbac-namespace.yaml",
    "deploy/rbac-platform.yaml",
];

#[test]
fn deploy_rights_are_bound_and_no_admin() {
    let bot = documents(&read("deploy/kubernetes.yaml"));
    let account = bot
        .iter()
        .find(|object| object["kind"] == "ServiceAccount")
        .unwrap();
    for file in RIGHTS {
        let all = documents(&read(file));
        let of = |kind: &'static str| all.iter().filter(move |object| object["kind"] == kind);
        let mut to_bot = 0;
        for (kind, bound_by) in [
            ("Role", "RoleBinding"),
            ("ClusterRole", "ClusterRoleBinding"),
        ] {
            assert_eq!(of(kind).count(), of(bound_by).count(), "{file}");
            for role in of(kind) {
                let metadata = &role["metadata"];
                let binding = of(bound_by)
                    .find(|binding| {
                        binding["metadata"]["namespace"] == metadata["namespace"]
                            && binding["roleRef"]["name"] == metadata["name"]
                    })
                    .unwrap_or_else(|| panic!("{file}: {metadata}"));
                assert_eq!(binding["roleRef"]["kind"], kind);
                let subject = &binding["subjects"][0];
                let is_bot = ["name", "namespace"]
                    .iter()
                    .all(|field| subject[field] == account["metadata"][field]);
                to_bot += usize::from(is_bot);
                for rule in role["rules"].as_array().unwrap() {
                    let text = rule.to_string();
                    assert!(!text.contains('*'), "{file}: {text}");
                    for verb in ["escalate", "bind"] {
                        assert!(!text.contains(&format!("\"{verb}\"")), "{file}: {text}");
                    }
                    if text.contains("impersonate") {
                        assert!(kind == "Role" && rule["resourceNames"].is_array(), "{text}");
                    }
                }
            }
        }
        assert_eq!(to_bot, 1, "{file}");
        assert!(
            read("docs/security.md").contains(&format!("../{file}")),
            "docs/security.md does not name {file}"
        );
        assert!(!read(file).contains("name: cluster-admin"), "{file}");
    }
}

/// The number of bytes that a quantity or a systemd size stands for.
fn mebibytes(text: &str) -> u64 {
    let digits = text.trim_end_matches("Mi").trim_end_matches('M');
    digits.parse().unwrap_or_else(|_| panic!("{text}"))
}

#[test]
fn guide_of_tenants_shows_valid_settings() {
    let guide = read("docs/guides/tenants.md");
    let example = guide.split("```yaml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let (settings, warnings) = spec::settings::read("tagboat.yaml", example).unwrap();
    assert_eq!(warnings, []);
    let tenant = settings.repositories[1].rights.tenant.as_ref().unwrap();
    assert_eq!(
        tenant.limits,
        Default::default(),
        "the guide shows the defaults"
    );
    for repository in &settings.repositories {
        assert_eq!(repository.rights.cluster_refusal("prod-eu"), None);
    }
}

#[test]
fn deploy_limits_fit_two_renderings() {
    let all = documents(&read("deploy/kubernetes.yaml"));
    let of = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap();
    let settings = of("ConfigMap")["data"]["tagboat.yaml"].as_str().unwrap();
    let (settings, _) = spec::settings::read("tagboat.yaml", settings).unwrap();
    let needed = 2 * (settings.render.memory >> 20) + 256;
    let container = &of("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let limit = container["resources"]["limits"]["memory"].as_str().unwrap();
    assert!(mebibytes(limit) >= needed, "{limit}");
    let unit = read("deploy/tagboat.service");
    let line = |name: &str| {
        let found = unit.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("{name} is missing"))
    };
    let usual = 2 * (spec::settings::RenderSettings::default().memory >> 20) + 256;
    assert!(mebibytes(line("MemoryMax=")) >= usual);
    assert_eq!(line("ProtectProc="), "invisible");
    assert_eq!(line("ProtectHome="), "read-only");
    let denied = line("IPAddressDeny=");
    // The pods and the unit are kept from the same addresses.
    let egress = &of("NetworkPolicy")["spec"]["egress"][0];
    let excepted: Vec<&str> = egress["to"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|to| to["ipBlock"]["except"].as_array().unwrap())
        .map(|address| address.as_str().unwrap())
        .collect();
    for (address, network) in [
        ("169.254.169.254", "169.254.0.0/16"),
        ("fd00:ec2::254", "fd00:ec2::254/128"),
    ] {
        assert!(denied.contains(address), "{denied}");
        assert!(excepted.contains(&network), "{excepted:?}");
    }
    assert_eq!(
        of("NetworkPolicy")["spec"]["ingress"],
        serde_json::json!([])
    );
    let selector = &of("NetworkPolicy")["spec"]["podSelector"]["matchLabels"];
    assert_eq!(
        selector,
        &of("Deployment")["spec"]["template"]["metadata"]["labels"]
    );
}

#[test]
fn deploy_manifest_runs_one_bot_with_its_rights() {
    let all = documents(&read("deploy/kubernetes.yaml"));
    let of = |kind: &str| {
        all.iter()
            .find(|object| object["kind"] == kind)
            .unwrap_or_else(|| panic!("no {kind}"))
    };
    // Updates need nothing of the cluster.
    assert_eq!(of("ServiceAccount")["automountServiceAccountToken"], false);
    for kind in [
        "Secret",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
    ] {
        assert!(!all.iter().any(|object| object["kind"] == kind), "{kind}");
    }
    let settings = of("ConfigMap")["data"]["tagboat.yaml"].as_str().unwrap();
    // With what the comment adds for a bot that deploys.
    let deploying = settings.replace("# clusters:", "clusters:");
    for (text, clusters) in [(settings, 0), (&deploying, 1)] {
        let (process, warnings) = spec::settings::read("tagboat.yaml", text).unwrap();
        let found = (process.repositories.len(), process.clusters.len());
        assert_eq!((found, warnings.len()), ((1, clusters), 0));
    }
    let (process, _) = spec::settings::read("tagboat.yaml", &deploying).unwrap();
    let records = documents(&read("deploy/rbac-records.yaml"));
    assert_eq!(records[0]["metadata"], of("ServiceAccount")["metadata"]);
    assert_eq!(records[0]["automountServiceAccountToken"], true);
    let verbs = serde_json::json!(["get", "list", "create", "update", "delete"]);
    assert_eq!(records[1]["rules"][0]["verbs"], verbs);
    assert_eq!(
        records[1]["metadata"]["namespace"], process.clusters[0].namespace,
        "the role is where the records are"
    );

    let deployment = &of("Deployment")["spec"];
    assert_eq!(
        (&deployment["replicas"], &deployment["strategy"]["type"]),
        (&1.into(), &"Recreate".into())
    );
    let pod = &deployment["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert!(
        pod["automountServiceAccountToken"].is_null(),
        "the account decides"
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
        last.contains("\nUSER 65532:65532\n")
            && last.contains("ca-certificates gpgv openssh-client")
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
