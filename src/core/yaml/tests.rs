use super::*;

fn shape(node: Node<'_>) -> String {
    match node.kind() {
        NodeKind::Scalar(_) => format!("{:?}", node.value().unwrap()),
        NodeKind::Alias => node.written().to_owned(),
        NodeKind::Sequence { .. } => format!(
            "[{}]",
            node.items().map(shape).collect::<Vec<_>>().join(",")
        ),
        NodeKind::Mapping { .. } => {
            format!(
                "{{{}}}",
                node.entries()
                    .map(|(key, value)| format!("{}:{}", shape(key), shape(value)))
                    .collect::<Vec<_>>()
                    .join(",")
            )
        }
    }
}

#[test]
fn yaml_shapes_and_values_table() {
    for (text, expected) in [
        (
            "a: 1\nb: [x, 'y''z', \"q\\n\"]\n",
            r#"{"a":"1","b":["x","y'z","q\n"]}"#,
        ),
        ("- a\n-\n- {k: , l}\n", r#"["a","",{"k":"","l":""}]"#),
        ("a: &x 1\nb: *x\n", r#"{"a":"1","b":*x}"#),
        (
            "a: |-\n  one\n  two\nb: >\n  f\n  g\n",
            r#"{"a":"one\ntwo","b":"f g\n"}"#,
        ),
        ("a: 1\na: 2\n", r#"{"a":"1","a":"2"}"#),
        (
            "\u{feff}a: 1\r\nb: two words\r\n",
            r#"{"a":"1","b":"two words"}"#,
        ),
        ("? {a: b}\n: c\n", r#"{{"a":"b"}:"c"}"#),
    ] {
        let stream = parse(text).unwrap();
        assert_eq!(shape(stream.document(0).unwrap()), expected, "{text:?}");
    }
}

#[test]
fn yaml_spans_cover_the_written_text() {
    let text = "é: \"x\" # c1\nlit: |  # head\n  repo:1\nfold: >-\n    a\n    b\nempty:\nlast: 'z'   # c2\n";
    let stream = parse(text).unwrap();
    let root = stream.document(0).unwrap();
    let written = |key: &str| root.get(key).unwrap().written();
    assert_eq!(written("é"), "\"x\"");
    assert_eq!(written("lit").trim_start_matches(' '), "repo:1\n");
    assert_eq!(written("fold").trim_start_matches(' '), "a\n    b\n");
    assert_eq!(written("last"), "'z'");
    assert!(root.get("empty").unwrap().span().is_empty());
    let comments: Vec<_> = stream
        .comments()
        .iter()
        .map(|c| (stream.comment_text(c), c.line(), c.column()))
        .collect();
    assert_eq!(
        comments,
        [("# c1", 1, 8), ("# head", 2, 9), ("# c2", 8, 13)]
    );
    let value = root.get("é").unwrap();
    assert_eq!(
        (value.line(), value.column()),
        stream.line_column(value.span().start)
    );
}

#[test]
fn yaml_pointer_finds_nearest_node() {
    let text = "a: 1\n---\nspec:\n  list:\n    - x: 1\n    - y/z: 2\n";
    let stream = parse(text).unwrap();
    assert_eq!(stream.documents().len(), 2);
    for (pointer, exact, place) in [
        ("", true, (3, 1)),
        ("/spec", true, (3, 1)),
        ("/spec/list/0/x", true, (5, 7)),
        ("/spec/list/1/y~1z", true, (6, 7)),
        ("/spec/list/7", false, (4, 3)),
        ("/spec/lost/deep/deeper", false, (3, 1)),
    ] {
        let found = stream.locate(1, pointer).unwrap();
        assert_eq!(
            (found.exact, found.line_column()),
            (exact, place),
            "{pointer}"
        );
    }
    let found = stream
        .document(1)
        .unwrap()
        .find(&[
            PathStep::Key("spec"),
            PathStep::Key("list"),
            PathStep::Index(1),
        ])
        .unwrap();
    assert!(found.value.is_mapping() && found.key.is_none());
}

#[test]
fn yaml_syntax_error_has_line_and_column() {
    for (text, place) in [
        ("a: b: c\n", (1, 5)),
        ("a: [1, 2\n", (1, 4)),
        ("a: *nothing\n", (1, 4)),
        ("a:\n\t- b\n", (2, 2)),
        ("é: {{ x }} y\n", (1, 12)),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!((error.line, error.column), place, "{text:?} {error}");
        assert!(!error.message.is_empty());
    }
    for hostile in [
        "a: *x\u{1b}[31m\n",
        "%TAG ! \u{7}\n",
        "!\u{1b}!x y\n",
        "a: \u{0}\n",
    ] {
        assert!(
            parse(hostile).is_err_and(|error| !error.to_string().contains(char::is_control)),
            "{hostile:?}"
        );
    }
    assert!(parse(&"[".repeat(100_000)).is_err());
    assert_eq!(parse("").unwrap().documents().len(), 0);
    assert!(parse("---\n---\nb: 1\n").is_ok());
}

#[test]
fn yaml_long_comments_and_many_documents_parse() {
    let mut text = "# line\n".repeat(5_000);
    text.push_str("a: 1\n");
    text.push_str(&"---\nb: 1\n".repeat(100_000));
    let stream = parse(&text).unwrap();
    assert_eq!(stream.documents().len(), 100_001);
    assert_eq!(stream.comments().len(), 5_000);
    assert_eq!(
        stream.document(100_000).unwrap().get("b").unwrap().value(),
        Some("1")
    );
}

#[test]
fn yaml_alias_resolves_to_its_anchor() {
    let stream =
        parse("a: &x one\nb: *x\nc: &x {k: two}\nd: *x\n---\ne: &x three\nf: *x\n").unwrap();
    let written = |document: usize, key: &str| {
        stream
            .document(document)
            .unwrap()
            .get(key)
            .unwrap()
            .target()
            .map(Node::written)
    };
    assert_eq!(
        (written(0, "b"), written(0, "d"), written(1, "f")),
        (Some("one"), Some("{k: two}"), Some("three"))
    );
    assert_eq!(written(0, "a"), None);
}

#[test]
fn yaml_block_scalar_knows_its_header_line() {
    let stream = parse("a: |  # one\n\n\n  x\nb:\n  - >-\n    y\nc: 'z'\n").unwrap();
    let lines: Vec<_> = stream
        .nodes()
        .filter(|node| node.value().is_some())
        .map(|node| (node.line(), node.head_line()))
        .collect();
    assert_eq!(lines, [(1, 1), (4, 1), (5, 5), (7, 6), (8, 8), (8, 8)]);
}
