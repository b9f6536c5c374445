//! `spec.suspend` in every style of declarations: the edit changes one entry and no other byte, and
//! undoing it restores the file.

use tagboat::{
    images::rewrite::SuspendError,
    spec::{self, Declarations, SourcePlace},
};

/// Each declared resource: its name, its place, and if it is suspended.
fn declared(declared: &Declarations) -> Vec<(String, SourcePlace, bool)> {
    let policies = declared
        .policies
        .values()
        .map(|it| (format!("policy {}", it.name), it.place.clone(), it.suspend));
    let environments = declared.environments.values().map(|it| {
        (
            format!("environment {}", it.name),
            it.place.clone(),
            it.suspend,
        )
    });
    let applications = declared.applications.values().map(|it| {
        (
            format!("application {}", it.name),
            it.place.clone(),
            it.suspend,
        )
    });
    let repositories = declared.repositories.values().map(|it| {
        (
            format!("repository {}", it.name),
            it.place.clone(),
            it.suspend,
        )
    });
    policies
        .chain(environments)
        .chain(applications)
        .chain(repositories)
        .collect()
}

fn read(source: &str) -> Vec<(String, SourcePlace, bool)> {
    declared(&spec::read([("x.yaml", source.as_bytes())], Some("main")))
}

fn edited(source: &str, what: &str, rest: bool) -> Option<String> {
    let all = read(source);
    let (_, place, _) = all
        .iter()
        .find(|(name, ..)| name == what)
        .unwrap_or_else(|| panic!("no {what} in {source}: {all:?}"));
    let edit =
        tagboat::images::rewrite::suspend(source, (place.line as u32, place.column as u32), rest)
            .unwrap_or_else(|error| panic!("{error}: {source}"))?;
    let after =
        String::from_utf8(tagboat::images::rewrite::apply(source.as_bytes(), &[edit])).unwrap();
    for ((before, _, was), (name, _, is)) in read(source).into_iter().zip(read(&after)) {
        assert_eq!(before, name, "{after}");
        // A policy is suspended with its repository.
        let follows = what.starts_with("repository") && name.starts_with("policy");
        assert!(
            follows || is == if name == what { rest } else { was },
            "{name}: {after}"
        );
    }
    assert_eq!(read(source).len(), read(&after).len(), "{after}");
    Some(after)
}

const APP: &str =
    "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: a, namespace: dev}\n";
const ENV: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata:\n  name: dev\nspec:\n  paths: ['a/**']\n  update: {via: commit}\n";
const OTHER: &str = "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {name: b, namespace: dev}\nspec:\n  environment: dev\n  path: b\n  cluster: c\n";
const FLUX: &str = "apiVersion: image.toolkit.fluxcd.io/v1\n";

/// Before and after, in both directions.
#[test]
fn suspend_adds_one_entry_in_the_file_style() {
    let app = "application dev/a";
    for (what, before, after) in [
        (app, format!("{APP}spec:\n  environment: dev\n  path: a\n  cluster: c\n"), format!("{APP}spec:\n  suspend: true\n  environment: dev\n  path: a\n  cluster: c\n")),
        // Comments stay with their neighbours; odd indents and quotes are kept.
        (
            app,
            format!("# head\n{APP}spec: # what\n\n      # where\n      'environment': dev # here\n      path: \"a\"\n      cluster: c\n# tail"),
            format!("# head\n{APP}spec: # what\n      'suspend': true\n\n      # where\n      'environment': dev # here\n      path: \"a\"\n      cluster: c\n# tail"),
        ),
        // No line end at the end of the file, and spec before the name.
        (
            app,
            "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nspec:\n environment: dev\n path: a\n cluster: c\nmetadata: {name: a, namespace: dev}".to_owned(),
            "apiVersion: tagboat.dev/v1alpha1\nkind: Application\nspec:\n suspend: true\n environment: dev\n path: a\n cluster: c\nmetadata: {name: a, namespace: dev}".to_owned(),
        ),
        (
            app,
            format!("{APP}spec:\n  environment: dev\n  path: a\n  cluster: c\n").replace('\n', "\r\n"),
            format!("{APP}spec:\n  suspend: true\n  environment: dev\n  path: a\n  cluster: c\n").replace('\n', "\r\n"),
        ),
        (app, format!("{APP}spec: {{environment: dev, path: a, cluster: c}}\n"), format!("{APP}spec: {{suspend: true, environment: dev, path: a, cluster: c}}\n")),
        (app, format!("{APP}spec: {{ environment: dev, path: a, cluster: c }} # é\n"), format!("{APP}spec: {{ suspend: true, environment: dev, path: a, cluster: c }} # é\n")),
        (
            app,
            format!("{APP}spec: {{\n  environment: dev, # x\n  path: a,\n  cluster: c,\n}}\n"),
            format!("{APP}spec: {{\n  suspend: true,\n  environment: dev, # x\n  path: a,\n  cluster: c,\n}}\n"),
        ),
        // JSON, in one line and in several.
        (
            app,
            r#"{"apiVersion":"tagboat.dev/v1alpha1","kind":"Application","metadata":{"name":"a","namespace":"dev"},"spec":{"environment":"dev","path":"a","cluster":"c"}}"#.to_owned(),
            r#"{"apiVersion":"tagboat.dev/v1alpha1","kind":"Application","metadata":{"name":"a","namespace":"dev"},"spec":{"suspend":true,"environment":"dev","path":"a","cluster":"c"}}"#.to_owned(),
        ),
        (
            app,
            "{\n  \"apiVersion\": \"tagboat.dev/v1alpha1\",\n  \"kind\": \"Application\",\n  \"metadata\": {\"name\": \"a\", \"namespace\": \"dev\"},\n  \"spec\": {\n    \"environment\": \"dev\",\n    \"path\": \"a\",\n    \"cluster\": \"c\"\n  }\n}\n".to_owned(),
            "{\n  \"apiVersion\": \"tagboat.dev/v1alpha1\",\n  \"kind\": \"Application\",\n  \"metadata\": {\"name\": \"a\", \"namespace\": \"dev\"},\n  \"spec\": {\n    \"suspend\": true,\n    \"environment\": \"dev\",\n    \"path\": \"a\",\n    \"cluster\": \"c\"\n  }\n}\n".to_owned(),
        ),
        // One of several similar documents.
        (
            app,
            format!("---\n# suspend: true\n{ENV}---\nkind: ConfigMap\nspec: {{suspend: true}}\n---\n{APP}spec:\n  environment: dev\n  path: a\n  cluster: c\n---\n\n---\n{OTHER}"),
            format!("---\n# suspend: true\n{ENV}---\nkind: ConfigMap\nspec: {{suspend: true}}\n---\n{APP}spec:\n  suspend: true\n  environment: dev\n  path: a\n  cluster: c\n---\n\n---\n{OTHER}"),
        ),
        ("environment dev", format!("\u{feff}%YAML 1.2\n---\n{ENV}...\n"), format!("\u{feff}%YAML 1.2\n---\n{}...\n", ENV.replace("  paths", "  suspend: true\n  paths"))),
        // Flux: each of its kinds has its own `suspend`.
        (
            "repository f/r",
            format!("{FLUX}kind: ImageRepository\nmetadata:\n  name: r\n  namespace: f\nspec:\n  image: ghcr.io/a/b\n  interval: 5m\n"),
            format!("{FLUX}kind: ImageRepository\nmetadata:\n  name: r\n  namespace: f\nspec:\n  suspend: true\n  image: ghcr.io/a/b\n  interval: 5m\n"),
        ),
        (
            "policy f/p",
            format!("{FLUX}kind: ImageRepository\nmetadata: {{name: r, namespace: f}}\nspec: {{image: ghcr.io/a/b}}\n---\n{FLUX}kind: ImagePolicy\nmetadata: {{name: p, namespace: f}}\nspec:\n  imageRepositoryRef:\n    name: r\n  policy:\n    semver:\n      range: 1.x\n"),
            format!("{FLUX}kind: ImageRepository\nmetadata: {{name: r, namespace: f}}\nspec: {{image: ghcr.io/a/b}}\n---\n{FLUX}kind: ImagePolicy\nmetadata: {{name: p, namespace: f}}\nspec:\n  suspend: true\n  imageRepositoryRef:\n    name: r\n  policy:\n    semver:\n      range: 1.x\n"),
        ),
        (
            "environment f/all",
            format!("{FLUX}kind: ImageUpdateAutomation\nmetadata: {{name: all, namespace: f}}\nspec: {{}}\n"),
            format!("{FLUX}kind: ImageUpdateAutomation\nmetadata: {{name: all, namespace: f}}\nspec: {{suspend: true}}\n"),
        ),
    ] {
        assert_eq!(edited(&before, what, true).as_deref(), Some(after.as_str()), "{before}");
        assert_eq!(edited(&after, what, false).as_deref(), Some(before.as_str()), "{after}");
        assert_eq!((edited(&after, what, true), edited(&before, what, false)), (None, None), "the edit is not idempotent: {before}");
    }
}

/// An existing entry keeps its place and its comment; only the value changes.
#[test]
fn suspend_existing_entry_changes_its_value_only() {
    let spec = "environment: dev\n  path: a\n  cluster: c";
    for (before, rest, after) in [
        (
            format!("{APP}spec:\n  suspend: false\n  {spec}\n"),
            true,
            format!("{APP}spec:\n  suspend: true\n  {spec}\n"),
        ),
        (
            format!("{APP}spec:\n  {spec}\n  suspend: true\n"),
            false,
            format!("{APP}spec:\n  {spec}\n  suspend: false\n"),
        ),
        (
            format!("{APP}spec:\n  suspend: true # until the move\n  {spec}\n"),
            false,
            format!("{APP}spec:\n  suspend: false # until the move\n  {spec}\n"),
        ),
        (
            format!("{APP}spec:\n  \"suspend\":   true\n  {spec}\n"),
            false,
            format!("{APP}spec:\n  \"suspend\":   false\n  {spec}\n"),
        ),
        (
            format!("{APP}spec:\n  suspend:\n    true\n  {spec}\n"),
            false,
            format!("{APP}spec:\n  suspend:\n    false\n  {spec}\n"),
        ),
        (
            format!("{APP}spec: {{environment: dev, path: a, suspend: true, cluster: c}}\n"),
            false,
            format!("{APP}spec: {{environment: dev, path: a, suspend: false, cluster: c}}\n"),
        ),
        (
            format!("{APP}spec: {{environment: dev, path: a, suspend : false, cluster: c}}\n"),
            true,
            format!("{APP}spec: {{environment: dev, path: a, suspend : true, cluster: c}}\n"),
        ),
        (
            format!("{APP}spec:\r\n  {spec}\r\n  suspend: false"),
            true,
            format!("{APP}spec:\r\n  {spec}\r\n  suspend: true"),
        ),
        // The comment between belongs to the entry below it.
        (
            format!(
                "{APP}spec:\n  # about suspend\n  suspend: true\n  # about the rest\n  {spec}\n"
            ),
            false,
            format!(
                "{APP}spec:\n  # about suspend\n  suspend: false\n  # about the rest\n  {spec}\n"
            ),
        ),
    ] {
        assert_eq!(
            edited(&before, "application dev/a", rest).as_deref(),
            Some(after.as_str()),
            "{before}"
        );
        assert_eq!(edited(&after, "application dev/a", rest), None, "{after}");
    }
}

#[test]
fn suspend_ambiguous_source_is_refused() {
    for source in [
        format!("{APP}? spec\n: environment: dev\n  path: a\n  cluster: c\n"),
        format!("{APP}spec: {{&e environment: dev, path: a, cluster: c}}\n"),
        format!(
            "{APP}spec:\n  suspend: &s false\n  wait: *s\n  environment: dev\n  path: a\n  cluster: c\n"
        ),
    ] {
        let at = source
            .lines()
            .position(|line| line.contains("name: a"))
            .unwrap() as u32
            + 1;
        let error = tagboat::images::rewrite::suspend(&source, (at, 12), true).unwrap_err();
        assert!(
            matches!(error, SuspendError::Unwritable { .. }),
            "{error}: {source}"
        );
    }
    let nowhere = tagboat::images::rewrite::suspend(APP, (1, 1), true).unwrap_err();
    assert!(
        matches!(nowhere, SuspendError::NoDeclaration { .. }),
        "{nowhere}"
    );
    assert!(matches!(
        tagboat::images::rewrite::suspend("a: [", (1, 1), true).unwrap_err(),
        SuspendError::Yaml(_)
    ));
}

/// The examples that users copy, and the files of Flux's guide.
#[test]
fn suspend_and_resume_restore_every_example() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for file in std::fs::read_dir(root.join("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .chain([root.join("tests/cases/declare/flux.yaml")])
    {
        let Ok(source) = std::fs::read_to_string(&file) else {
            continue;
        };
        for (what, _, rests) in read(&source) {
            if rests {
                continue;
            }
            let after = edited(&source, &what, true).unwrap();
            assert_eq!(
                edited(&after, &what, false).as_deref(),
                Some(source.as_str()),
                "{}: {what}",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 8, "{seen}");
}

mod properties {

    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Pieces of declarations after a header, in any order: well-formed or not.
    fn pieces() -> impl Strategy<Value = String> {
        let head = prop::sample::select(vec![
            "",
            "# c\n",
            "\u{feff}",
            "---\n",
            "kind: x\n---\n",
            "a: [1]\r\n",
        ]);
        let spec = prop::sample::select(vec![
            "spec:\n",
            "spec: # c\n",
            "spec:\r\n",
            "spec: &a\n",
            "spec: {",
            "spec: {\n",
            "\"spec\": { ",
            "? spec\n: ",
            "",
        ]);
        let piece = prop::sample::select(vec![
            "  suspend: true\n",
            "  suspend: true\r\n",
            "  suspend: true # c\n",
            "  \"suspend\": false\n",
            "  suspend: &s false\n",
            "  a: *s\n",
            "suspend: true, ",
            "\"suspend\":true,",
            "suspend: false",
            "  path: a # x\n",
            "  path: a\r\n",
            " path: a\n",
            "\tpath: a\n",
            "b: 1, ",
            "\"b\":1,",
            "c: [1, {d: e}]",
            "}\n",
            "\n}\n",
            "---\n",
            "...\n",
            "# c\n",
            "  # c\n",
            "\r\n",
            "\r",
            "\n",
            "  é: ü\n",
            "  ? b\n",
            "  : c\n",
            "  x: |\n    suspend: true\n\n",
            "  <<: {suspend: true}\n",
            ",",
            "'",
            "- ",
            "metadata:\n  name: b\n",
            "kind: Application\n",
        ]);
        (
            head,
            any::<bool>(),
            spec,
            prop::collection::vec(piece, 0..6),
        )
            .prop_map(|(head, before, spec, pieces)| {
                let (name, spec) = (
                    "metadata: {name: a}\n",
                    format!("{spec}{}", pieces.concat()),
                );
                if before {
                    format!("{head}{name}{spec}")
                } else {
                    format!("{head}{spec}\n{name}")
                }
            })
    }

    /// The place of the first declaration's name.
    fn named(source: &str) -> Option<(u32, u32)> {
        let stream = tagboat::core::yaml::parse(source).ok()?;
        let path = [
            tagboat::core::yaml::PathStep::Key("metadata"),
            tagboat::core::yaml::PathStep::Key("name"),
        ];
        stream
            .documents()
            .flatten()
            .find_map(|root| root.find(&path))
            .map(|found| found.line_column())
    }

    static EDITED: AtomicUsize = AtomicUsize::new(0);

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12_000, ..ProptestConfig::default() })]

        /// For any text: no panic, an edit has an effect, and removing an added entry leaves no
        /// trace.
        fn what_is_edited_can_be_taken_back(source in pieces(), rest: bool) {
            let Some(Ok(Some(edit))) = named(&source).map(|name| tagboat::images::rewrite::suspend(&source, name, rest)) else { return Ok(()) };
            EDITED.fetch_add(1, Ordering::Relaxed);
            let inserted = edit.range.is_empty();
            let after = String::from_utf8(tagboat::images::rewrite::apply(source.as_bytes(), &[edit])).unwrap();
            prop_assert_ne!(&after, &source);
            let name = named(&after).unwrap();
            prop_assert_eq!(tagboat::images::rewrite::suspend(&after, name, rest), Ok(None), "{:?}", after);
            let back = tagboat::images::rewrite::suspend(&after, name, !rest).unwrap().unwrap();
            let back = String::from_utf8(tagboat::images::rewrite::apply(after.as_bytes(), &[back])).unwrap();
            if inserted {
                prop_assert_eq!(back, source);
            }
        }
    }

    #[test]
    fn suspend_any_source_can_be_resumed() {
        what_is_edited_can_be_taken_back();
        let edited = EDITED.load(Ordering::Relaxed);
        assert!(
            edited > 400,
            "only {edited} of the texts could be edited: they prove nothing"
        );
    }
}
