//! The rules of kstatus and of Argo CD, row by row, and the ready-made rules of the documentation.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fs, path::Path};
use tagboat::{
    objects::{
        health::{self, HealthStatus, KindTraits},
        object::Object,
    },
    spec,
};

const CREATED: &str = "2024-05-01T10:00:00Z";

/// A branch of another tool's rule.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Row {
    rule: String,
    theirs: String,
    ours: String,
    /// The row of the page that explains why they differ.
    docs: Option<String>,
    /// Seconds after the creation of the object; for good if it is not set.
    after: Option<i64>,
    #[serde(default)]
    writes_status: bool,
    object: Map<String, Value>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read<T: for<'de> Deserialize<'de>>(path: &str) -> T {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Completes a short object: name, namespace, creation.
fn object(mut fields: Map<String, Value>) -> Object {
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    for (name, value) in [
        ("name", "web"),
        ("namespace", "shop"),
        ("creationTimestamp", CREATED),
    ] {
        metadata
            .as_object_mut()
            .unwrap()
            .entry(name)
            .or_insert_with(|| value.into());
    }
    Object::new(Value::Object(fields)).unwrap()
}

/// Returns the first cells of the table that compares health rules.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(root().join("docs/what-tagboat-does-with.md")).unwrap();
    let table = page
        .split("| object | tagboat | kstatus | Argo CD |")
        .nth(1);
    let rows = table.expect("the table of health rules").lines().skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.split('|').nth(1).unwrap().trim().to_owned())
        .collect()
}

/// Returns the verdict of another tool in our terms.
fn same(theirs: &str) -> &str {
    match theirs {
        "Healthy" | "None" => "Current",
        "Progressing" => "InProgress",
        "Degraded" => "Failed",
        other => other,
    }
}

#[test]
fn health_rules_of_other_tools_row_by_row() {
    let documented = documented();
    let mut explained = BTreeSet::new();
    let mut rules = BTreeSet::new();
    for file in ["kstatus", "argocd"] {
        let rows: Vec<Row> = read(&format!("tests/cases/health/{file}.yaml"));
        assert!(rows.len() > 60, "{file}: {} rows", rows.len());
        for row in rows {
            let rule = format!("{file}: {}", row.rule);
            let object = object(row.object);
            let group = object.gvk().group;
            let traits = KindTraits::of(&group, row.writes_status);
            let created: jiff::Timestamp = CREATED.parse().unwrap();
            let at = row.after.map_or(jiff::Timestamp::MAX, |seconds| {
                created + jiff::SignedDuration::from_secs(seconds)
            });
            let verdict = health::assess(&object, traits, None).at(at).clone();
            assert_eq!(verdict.status.as_str(), row.ours, "{rule}: {verdict:?}");
            let differs = same(&row.theirs) != row.ours;
            assert_eq!(row.docs.is_some(), differs, "{rule}: explain what differs");
            if let Some(docs) = row.docs {
                assert!(documented.contains(&docs), "{rule}: no row {docs:?}");
                explained.insert(docs);
            }
            assert!(rules.insert(rule.clone()), "{rule} is there twice");
        }
    }
    // A row of the page is backed by a case here.
    let unfounded: Vec<&String> = documented.difference(&explained).collect();
    assert!(unfounded.is_empty(), "{unfounded:?}");
}

/// A sample object for a ready-made rule.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sample {
    expect: String,
    object: Map<String, Value>,
}

#[test]
fn health_rules_in_docs_judge_samples() {
    let page = fs::read_to_string(root().join("docs/guides/health-rules.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let mut rules = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        // A block is an Application, or a list of rules for one.
        let text = match block.starts_with("apiVersion") {
            true => (*block).to_owned(),
            false => format!(
                "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: a}}\nspec:\n  environment: dev\n  path: a\n  cluster: dev\n{}",
                block
                    .lines()
                    .map(|line| format!("  {line}\n"))
                    .collect::<String>()
            ),
        };
        let name = format!("block {index}");
        let read = spec::read_health_rules([(name.as_str(), text.as_bytes())]);
        rules.extend(read.unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{text}")));
    }
    let samples: Vec<Sample> = read("tests/cases/health/samples.yaml");
    let mut judged = BTreeSet::new();
    for sample in samples {
        let object = object(sample.object);
        let key = object.key();
        let rule = health::rule_for(&rules, &key)
            .unwrap_or_else(|| panic!("no rule for {} of {:?}", key.kind, key.group));
        let verdict = health::assess_at(&object, Some(&rule), jiff::Timestamp::MAX);
        assert_eq!(verdict.status.as_str(), sample.expect, "{key}: {verdict:?}");
        judged.insert((key.group.clone(), key.kind.clone(), sample.expect));
    }
    for rule in &rules {
        let verdict = |status: HealthStatus| {
            judged.contains(&(
                rule.group.clone(),
                rule.kind.clone(),
                status.as_str().to_owned(),
            ))
        };
        assert!(verdict(HealthStatus::Current), "{}", rule.kind);
        assert!(verdict(HealthStatus::InProgress), "{}", rule.kind);
        assert!(
            rule.failed.is_none() || verdict(HealthStatus::Failed),
            "{}",
            rule.kind
        );
    }
}
