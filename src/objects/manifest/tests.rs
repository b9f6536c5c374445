//! Values as kubectl reads them, documents and lists, mistakes with their places, and texts that
//! come back as they went.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Equal to Kubernetes: an int64 is one, every other number a float64.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a == b,
            _ => a.as_f64() == b.as_f64(),
        },
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// `kubectl.txt` holds documents, `kubectl.jsonl` what the Go libraries of kubectl
/// (sigs.k8s.io/yaml v1.6.0, then unstructured.UnmarshalJSON of k8s.io/apimachinery v0.36.3) made
/// of each under a key `data`: JSON, or "error".
#[test]
fn manifest_values_equal_kubectl() {
    let texts = include_str!("../../../tests/cases/manifest/kubectl.txt").split("\n=====\n");
    let expected = include_str!("../../../tests/cases/manifest/kubectl.jsonl").lines();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (text, expected) in texts.zip(expected) {
        seen += 1;
        let (documents, problems) = yaml(&format!("data:\n{text}\n"));
        let value = documents
            .first()
            .map(|document| document.value["data"].clone())
            .filter(|_| problems.is_empty());
        let expected: Option<Value> =
            (expected != "error").then(|| serde_json::from_str(expected).unwrap());
        let known = KNOWN
            .iter()
            .find(|(known, _)| *known == text)
            .map(|(_, message)| *message);
        match (&value, &expected) {
            (None, None) if known.is_none() => {}
            (None, Some(_))
                if known.is_some_and(|known| {
                    problems
                        .iter()
                        .any(|problem| problem.message.contains(known))
                }) => {}
            (Some(value), Some(expected)) if same(value, expected) && known.is_none() => {}
            _ => wrong.push(format!(
                "{text:?}: {value:?} instead of {expected:?} {problems:?}"
            )),
        }
    }
    assert!(seen > 200, "{seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where this reader is stricter than kubectl, and what it says.
const KNOWN: [(&str, &str); 1] = [(
    "  a: 1\n  1: b\n  1.5: c\n  true: d\n  yes: x",
    "the key \"true\" is written twice, first at line 5",
)];

fn read(file: &str, text: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.read(file, text.as_bytes());
    manifests.find_duplicates();
    manifests
}

#[track_caller]
fn mistakes(file: &str, text: &str, expected: &[&str]) {
    let said: Vec<String> = read(file, text)
        .mistakes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(said, expected, "{text}");
}

#[test]
fn manifest_documents_and_lists_are_split() {
    let text = "# head\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: b}\n- apiVersion: apps/v1\n  kind: DeploymentList\n  items: [{metadata: {name: c}}]\n...\n---\napiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\n";
    let read = read("a.yaml", text);
    let keys: Vec<String> = read
        .objects
        .iter()
        .map(|object| format!("{} {}", object.key(), object.origin.as_ref().unwrap()))
        .collect();
    assert_eq!(
        keys,
        [
            "ConfigMap a a.yaml:4",
            "Secret b a.yaml:13",
            "Deployment c a.yaml:16"
        ]
    );
    assert_eq!(read.objects[2].gvk().api_version(), "apps/v1");
    assert_eq!(
        read.left_out
            .iter()
            .map(|(origin, key)| format!("{key} {origin}"))
            .collect::<Vec<_>>(),
        ["Environment.tagboat.dev dev a.yaml:21"]
    );
    assert_eq!(read.mistakes, []);
}

#[test]
fn manifest_json_keeps_lines() {
    let text = "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\",\n \"metadata\": {\"name\": \"a\"}, \"data\": {\"x\": \"\\ud83d\\ude00\", \"n\": 18446744073709551615}}\n\n{\"kind\": \"A\"}\n";
    let read = read("a.json", text);
    assert_eq!(
        read.objects[0].value()["data"],
        json!({"x": "😀", "n": 18446744073709551615_u64 as f64})
    );
    assert_eq!(
        read.mistakes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["a.json:4: A has no apiVersion"]
    );
    mistakes(
        "a.json",
        "{\"a\": 1,\n \"a\": 2}",
        &["a.json:2: the key \"a\" is written twice"],
    );
    mistakes("a.json", "\n[1", &["a.json:2: EOF while parsing a list"]);
    mistakes(
        "a.json",
        "\n[1]",
        &["a.json:2: this document is a list, no object"],
    );
}

#[test]
fn manifest_mistakes_have_line_and_column() {
    for (text, expected) in [
        (
            "a: 1\n",
            vec![
                "x.yaml:1: this is no manifest: it has neither apiVersion nor kind; keep other files out of this folder, or begin their names with \".\"",
            ],
        ),
        (
            "\n- a\n",
            vec!["x.yaml:2: this document is a list, no object"],
        ),
        (
            "apiVersion: v1\nmetadata: {name: a}\n",
            vec!["x.yaml:1: it has no kind"],
        ),
        (
            "apiVersion: v1\nkind: A\n",
            vec!["x.yaml:1: A has no metadata.name"],
        ),
        (
            "kind: A\nmetadata: {name: a}\n",
            vec!["x.yaml:1: A has no apiVersion"],
        ),
        (
            "apiVersion: 1\nkind: A\nmetadata: {name: a}\n",
            vec!["x.yaml:1: apiVersion is a number, not text; put it in quotes"],
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: 0123}\n",
            vec!["x.yaml:1: metadata.name is a number, not text; put it in quotes"],
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: {generateName: a-}\n",
            vec![
                "x.yaml:1: A has generateName, which gives another object at each apply; write metadata.name",
            ],
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n",
            vec!["x.yaml:5: A a is already at x.yaml:1"],
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nsops: {mac: 'ENC[x]'}\n",
            vec![
                "x.yaml:1: it is encrypted with SOPS: decryption is not done here, and ciphertext is never applied",
            ],
        ),
        (
            "a: 1\nb: {c: 1,\n c: 2}\n---\nd: .inf\n",
            vec![
                "x.yaml:3: the key \"c\" is written twice, first at line 2",
                "x.yaml:5: a manifest cannot hold infinity or NaN; put text in quotes",
            ],
        ),
        (
            "a: &a [*a]\n",
            vec!["x.yaml:1: aliases repeat too much here, or something that holds itself"],
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\n",
            vec![
                "x.yaml: it is a pointer of Git LFS, not the file itself; manifests belong into Git",
            ],
        ),
    ] {
        mistakes("x.yaml", text, &expected);
    }
    let mut manifests = Manifests::default();
    manifests.read("x.yaml", b"a: \xff\n");
    assert_eq!(
        manifests.mistakes[0].to_string(),
        "x.yaml: it is not UTF-8 text"
    );
}

#[test]
fn manifest_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for n in 1..20 {
        let before = format!("*a{}, ", n - 1).repeat(9);
        text.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    let (documents, problems) = yaml(&text);
    assert!(documents.is_empty() && problems.len() == 1, "{problems:?}");
    let long = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1 << 20),
        "*a, ".repeat(1000)
    );
    assert_eq!(yaml(&long).1.len(), 1);
    // What people do repeat is taken.
    let fair = format!(
        "a: &a {{x: 1, y: [1, 2, 3]}}\nb: [{}]\n",
        "*a, ".repeat(1000)
    );
    assert_eq!(yaml(&fair).1, []);
}

#[test]
fn manifest_writer_text_is_readable() {
    let value = json!({"apiVersion": "v1", "metadata": {"name": "web", "labels": {}}, "data": {"mode": "0644", "on": "yes", "n": 1, "f": 1.5, "e": 1e21, "t": true, "z": null,
        "v": "1.10", "image": "ghcr.io/a/b:1.2@sha256:ab", "time": "12:30", "s": "two words", "c": "a: b", "h": "a #b", "u": "é", "w": " x", "empty": "",
        "script": "#!/bin/sh\n  set -e\n\necho\n", "tail": "a\nb", "more": "a\nb\n\n", "tab": "a\n\tb\n"},
        "list": [{"a": 1, "b": [1, [2]]}, [], {}, "x\ny\n"]});
    let expected = r#"apiVersion: v1
metadata:
  name: web
  labels: {}
data:
  mode: "0644"
  "on": "yes"
  "n": 1
  f: 1.5
  e: 1.0e+21
  t: true
  z: null
  v: "1.10"
  image: ghcr.io/a/b:1.2@sha256:ab
  time: "12:30"
  s: two words
  c: "a: b"
  h: "a #b"
  u: "é"
  w: " x"
  empty: ""
  script: |
    #!/bin/sh
      set -e

    echo
  tail: |-
    a
    b
  more: |+
    a
    b

  tab: "a\n\tb\n"
list:
- a: 1
  b:
  - 1
  -
    - 2
- []
- {}
- |
  x
  y
"#;
    assert_eq!(to_yaml(value.as_object().unwrap()), expected);
}

fn any_text() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(
        include_str!("../../../tests/cases/manifest/kubectl.txt")
            .split("\n=====\n")
            .map(|text| text.trim().to_owned())
            .collect::<Vec<_>>(),
    );
    prop_oneof![
        odd,
        "[ -~\n\t]{0,24}",
        "[a-z0-9 :#\\-\n\"'é\u{85}\u{2028}\u{feff}\u{1f600}\u{7f}\u{0}]{0,20}",
        "[0-9a-fxob_.eE+\\-:]{1,8}",
        any::<String>()
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| scalar::float(number).unwrap_or_default()),
        any_text().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((any_text(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn manifest_written_text_round_trips(values in prop::collection::vec(prop::collection::vec((any_text(), any_value()), 1..4), 1..3)) {
        let values: Vec<Map<String, Value>> = values.into_iter().map(|fields| fields.into_iter().collect()).collect();
        let text = to_yaml_stream(&values);
        let (read, problems) = yaml(&text);
        prop_assert_eq!(problems, vec![], "{}", text);
        prop_assert_eq!(read.into_iter().map(|document| document.value).collect::<Vec<_>>(), values.iter().cloned().map(Value::Object).collect::<Vec<_>>(), "{}", text);
    }

    #[test]
    fn manifest_any_text_never_panics(text in "[a-z0-9:&*<>!|\\-\\[\\]{}, \n\"'%@#]{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        read("a.yaml", &text);
        read("a.json", &text);
        Manifests::default().read("b.yaml", &bytes);
    }
}

#[test]
fn printed_duplicate_key_counts_last() {
    let printed =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: '1'}\ndata: {k: '2'}\n";
    let origin = ObjectOrigin {
        file: "chart/Chart.yaml".into(),
        line: 0,
    };
    let mut manifests = Manifests::default();
    manifests.read_printed(&origin, printed);
    assert_eq!(manifests.objects[0].value()["data"]["k"], "2");
    assert_eq!(
        manifests.warnings,
        [
            "chart/Chart.yaml: line 5 of what was rendered: the key \"data\" is written twice, first at line 4; the last one counts, as in Kubernetes"
        ]
    );
    // In a file of the repository it is a mistake.
    let mut manifests = Manifests::default();
    manifests.read("a.yaml", printed.as_bytes());
    assert_eq!((manifests.objects.len(), manifests.mistakes.len()), (0, 1));
}
