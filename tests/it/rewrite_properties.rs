//! Random documents with comments in every style: an edit changes the marked scalars and nothing
//! else, neither in the tree nor in the bytes, and a second rewrite changes nothing.

use proptest::prelude::*;
use tagboat::{
    core::image::{ImageRepository, Tag},
    images::{
        references::{FileKind, Findings, find},
        rewrite::{
            Choices, DigestReflection, RewriteDecision, RewriteOutcome, UpdateDirection, apply,
            rewrite,
        },
    },
};

/// The tag of every marked scalar before the edit; nothing else in a document contains it.
const BEFORE: &str = "1.77.0";

/// A piece of a document.
#[derive(Debug, Clone)]
enum Piece {
    /// A scalar on one line.
    Plain(&'static str),
    /// A marked scalar, and if the marker has a line of its own above.
    Marked {
        text: &'static str,
        part: &'static str,
        above: bool,
    },
    /// A block scalar, with or without a marker above.
    Block {
        header: &'static str,
        marked: bool,
    },
    /// A flow mapping with a marker after it.
    Flow(&'static str),
    Map(Vec<(Decoration, Piece)>),
    List(Vec<(Decoration, Piece)>),
}

/// Comments and blank lines around a piece.
#[derive(Debug, Clone)]
struct Decoration {
    above: Option<&'static str>,
    behind: Option<&'static str>,
    wide: bool,
}

fn decoration() -> impl Strategy<Value = Decoration> {
    let above = prop::option::weighted(
        0.3,
        prop::sample::select(vec![
            "# above",
            "#",
            "# é: 'x' \"y\"",
            "",
            "# ghcr.io/t/app:1.77.1",
        ]),
    );
    let behind = prop::option::weighted(
        0.3,
        prop::sample::select(vec![
            "# behind",
            "#tight",
            "# {not: a, marker}",
            "# 日本",
            "#  wide   ",
        ]),
    );
    (above, behind, any::<bool>()).prop_map(|(above, behind, wide)| Decoration {
        above,
        behind,
        wide,
    })
}

fn piece() -> impl Strategy<Value = Piece> {
    let plain = [
        "x",
        "1.10",
        "'it''s'",
        "\"a # no\\tcomment\"",
        "ghcr.io/t/app:1.0.0",
        "[a, 'b', {c: d}]",
        "{}",
        "''",
        "é",
        "http://x/#y",
        "!!str 1",
    ];
    let leaf = prop_oneof![
        4 => prop::sample::select(plain.to_vec()).prop_map(Piece::Plain),
        3 => (prop::sample::select(vec!["ghcr.io/t/app:1.77.0", "'ghcr.io/t/app:1.77.0'", "\"ghcr.io/t/app:1.77.0\"", "--image=ghcr.io/t/app:1.77.0", "\"\\\"ghcr.io/t/app:1.77.0\\\"\""]), any::<bool>())
            .prop_map(|(text, above)| Piece::Marked { text, part: "", above }),
        2 => (prop::sample::select(vec!["1.77.0", "'1.77.0'", "\"1.77.0\"", "&a 1.77.0", "!!str 1.77.0"]), any::<bool>())
            .prop_map(|(text, above)| Piece::Marked { text, part: ":tag", above }),
        1 => (prop::sample::select(vec!["|", "|-", ">", ">+", "|2"]), any::<bool>()).prop_map(|(header, marked)| Piece::Block { header, marked }),
        1 => prop::sample::select(vec!["{image: 'ghcr.io/t/app:1.77.0', name: z}", "{a: [q, {image: ghcr.io/t/app:1.77.0}], b: c}", "[u, ghcr.io/t/app:1.77.0]"]).prop_map(Piece::Flow),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec((decoration(), inner.clone()), 1..6).prop_map(Piece::Map),
            prop::collection::vec((decoration(), inner), 1..6).prop_map(Piece::List),
        ]
    })
}

fn marker(part: &str) -> String {
    format!("# {{\"$imagepolicy\": \"ns:n{part}\"}}")
}

/// Writes `children` at `indent`; `head` makes the start of each line: a key, or a dash.
fn write(
    children: &[(Decoration, Piece)],
    indent: usize,
    head: &dyn Fn(usize) -> String,
    out: &mut String,
) {
    let pad = " ".repeat(indent);
    for (index, (around, piece)) in children.iter().enumerate() {
        if let Some(above) = around.above {
            out.push_str(&format!(
                "{}{above}\n",
                if above.is_empty() { "" } else { &pad }
            ));
        }
        let head = head(index);
        let gap = if around.wide { "   " } else { " " };
        let behind = around
            .behind
            .map(|comment| format!("{gap}{comment}"))
            .unwrap_or_default();
        match piece {
            Piece::Plain(text) => out.push_str(&format!("{pad}{head}{gap}{text}{behind}\n")),
            Piece::Marked {
                text,
                part,
                above: true,
            } => out.push_str(&format!(
                "{pad}{}\n{pad}{head}{gap}{text}{behind}\n",
                marker(part)
            )),
            Piece::Marked {
                text,
                part,
                above: false,
            } => out.push_str(&format!("{pad}{head}{gap}{text}{gap}{}\n", marker(part))),
            Piece::Block {
                header,
                marked: true,
            } => {
                out.push_str(&format!(
                    "{pad}{head}{gap}{header} {}\n{pad}  ghcr.io/t/app:1.77.0\n",
                    marker("")
                ));
            }
            Piece::Block {
                header,
                marked: false,
            } => out.push_str(&format!(
                "{pad}{head}{gap}{header}\n{pad}  # no comment\n{pad}  ghcr.io/t/app:1.0.0\n"
            )),
            Piece::Flow(text) => {
                out.push_str(&format!("{pad}{head}{gap}{text}{gap}{}\n", marker("")))
            }
            Piece::Map(inner) => {
                out.push_str(&format!("{pad}{head}{behind}\n"));
                write(inner, indent + 2, &|index| format!("k{index}:"), out);
            }
            Piece::List(inner) => {
                out.push_str(&format!("{pad}{head}{behind}\n"));
                write(inner, indent + 2, &|_| "-".to_owned(), out);
            }
        }
    }
}

fn document() -> impl Strategy<Value = String> {
    let documents =
        prop::collection::vec(prop::collection::vec((decoration(), piece()), 1..6), 1..4);
    (documents, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(documents, crlf, bom, end)| {
            let mut text = String::new();
            for (index, document) in documents.iter().enumerate() {
                if index > 0 {
                    text.push_str("--- # next\n");
                }
                write(document, 0, &|index| format!("key {index}:"), &mut text);
            }
            if !end {
                text.pop();
            }
            let text = if crlf {
                text.replace('\n', "\r\n")
            } else {
                text
            };
            if bom { format!("\u{feff}{text}") } else { text }
        },
    )
}

fn rewritten(text: &[u8], tag: &str) -> (Findings, RewriteOutcome, Vec<u8>) {
    let mut choices = Choices::new(true);
    choices.add(RewriteDecision {
        policy: "ns/n".parse().unwrap(),
        repository: ImageRepository::new("ghcr.io/t/app").unwrap(),
        tag: Tag::new(tag).unwrap(),
        digest: None,
        digest_reflection: DigestReflection::Never,
        unpin: false,
        allow_downgrade: false,
        compare: Box::new(|_| UpdateDirection::Newer),
    });
    let found = find(FileKind::Yaml, text);
    let outcome = rewrite(text, &found.references, &choices);
    let after = apply(text, &outcome.edits);
    (found, outcome, after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rewrite_changes_only_marked_references(text in document(), tag in prop::sample::select(vec!["v2.0.0", "2.0.1-rc.1", "1.10", "1e3", "2025-01-01", "latest"])) {
        let intended = text.lines().filter(|line| line.contains(BEFORE) && !line.contains("1.77.1")).count();
        let (found, outcome, after) = rewritten(text.as_bytes(), tag);
        prop_assert_eq!(&found.notes, &[]);
        prop_assert_eq!(outcome.edits.len(), intended, "{:?}", outcome.left);
        prop_assert_eq!(&Findings::decode(&found.encode()).unwrap(), &found);
        let after = String::from_utf8(after).unwrap();

        // The bytes: everything between the edits is equal.
        let (mut old, mut new) = (0, 0);
        for edit in &outcome.edits {
            let kept = &text[old..edit.range.start];
            prop_assert_eq!(kept, &after[new..new + kept.len()]);
            new += kept.len() + edit.text.len();
            old = edit.range.end;
        }
        prop_assert_eq!(&text[old..], &after[new..]);
        // An independent check: without quotes, the whole text is predictable.
        if tag == "v2.0.0" {
            prop_assert_eq!(&after, &text.replace("1.77.0", tag));
        }

        // The trees.
        let (before, later) = (tagboat::core::yaml::parse(&text).unwrap(), tagboat::core::yaml::parse(&after).unwrap());
        prop_assert_eq!(before.nodes().len(), later.nodes().len());
        for (old, new) in before.nodes().zip(later.nodes()) {
            prop_assert_eq!(new.value().map(str::to_owned), old.value().map(|value| value.replace("1.77.0", tag)));
            prop_assert_eq!(old.value().is_none(), new.value().is_none());
        }
        let comments = |stream: &tagboat::core::yaml::YamlStream<'_>| stream.comments().iter().map(|comment| stream.comment_text(comment).to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(comments(&before), comments(&later));

        let (_, again, _) = rewritten(after.as_bytes(), tag);
        prop_assert_eq!(again.edits, vec![]);
    }

    #[test]
    fn rewrite_any_bytes_never_panic(bytes in prop::collection::vec(prop::sample::select(b"abc:-#{}[]&*|>'\"\n\r\t ,.1/@~!%$\xc3\xa9\xff".to_vec()), 0..200), marked in any::<bool>()) {
        let mut text = bytes;
        if marked {
            text.extend_from_slice(b" ghcr.io/t/app:1.77.0 # {\"$imagepolicy\": \"ns:n\"}\n");
        }
        let (found, outcome, after) = rewritten(&text, "v2.0.0");
        prop_assert_eq!(&Findings::decode(&found.encode()).unwrap(), &found);
        prop_assert_eq!(found.references.len(), outcome.left.len() + outcome.changes.iter().map(|change| change.reference).collect::<std::collections::HashSet<_>>().len());
        let (_, again, _) = rewritten(&after, "v2.0.0");
        prop_assert_eq!(again.edits, vec![]);
    }
}
