//! For any text from outside, the body has the same structure as for harmless text.

use super::{application, known_move, object, reader, story};
use proptest::prelude::*;
use tagboat::review::{DescribedMove, DryRunVerdict, MoveStory, Preview, body};

/// Fragments with a meaning in Markdown, HTML or on a forge.
const PIECES: &[&str] = &[
    "@ann",
    "@",
    "#12",
    "#",
    "GH-4",
    "!5",
    "!",
    "acme/web#7",
    "$1",
    "~bug",
    "%1",
    "&8",
    "^",
    "ABC-9",
    "0123abc",
    "closes",
    "fixes:",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\r\n",
    "\t",
    "`",
    "``",
    "```",
    "````",
    "~~~",
    "<",
    ">",
    "</details>",
    "<details>",
    "<summary>",
    "</summary>",
    "<!--",
    "-->",
    "<b>",
    "<img src=x>",
    "<a href=\"https://x.y\">",
    "|",
    "\\|",
    "\\",
    "---",
    "===",
    "- ",
    "* ",
    "1. ",
    "> ",
    "# ",
    "/close",
    "\n/close",
    "[x](https://x.y/z)",
    "[x](javascript:alert(1))",
    "![x](https://x.y/p.png)",
    "[",
    "]",
    "](",
    "(",
    ")",
    "https://x.y/a_b?c=d&e=f",
    "https://github.com/a/b/issues/1",
    "https://github.com/a/b/%69ssues/1",
    "http://u:p@x.y",
    "www.x.y",
    "mailto:a@b.c",
    "a@b.c",
    "<a@b.c>",
    "<https://x.y>",
    "**",
    "*",
    "_",
    "~~",
    "~",
    "&lt;",
    "&#64;ann",
    "&#35;1",
    "&nbsp;",
    "\u{202e}",
    "\u{200b}",
    "\u{feff}",
    "\u{0}",
    "\u{1b}[31m",
    "\u{2028}",
    "\u{e0041}",
    "| a | b |\n|---|---|\n| c | d |",
    "[^1]",
    "[^1]: x",
    "[a]: https://x.y",
    ":tada:",
    "    code",
    "ä",
    "word",
    "x",
    "tagboat:request",
    "Deployment",
    "'",
    "\"",
    ".",
    ",",
    ":",
    "=",
    "+",
    "-",
    "/",
    "$$",
    "{",
    "}",
];

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![9 => prop::sample::select(PIECES).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

/// A move with the given texts in every place that text from outside can reach.
fn hostile_move(texts: &[String]) -> DescribedMove {
    let text = |at: usize| texts[at % texts.len()].clone();
    let mut described = known_move("ghcr.io/acme/podinfo", "6.5.0", "6.5.1");
    described.image.old = Some(format!("o{}", text(0)));
    described.image.places[0].file = format!("f{}", text(1));
    described.policy = format!("p{}", text(2));
    described.refused = vec![(format!("t{}", text(3)), text(4))];
    described.facts.new.source = Some(format!("https://x.y/{}", text(5)));
    described.facts.new.version = Some(text(6));
    described.facts.new.revision = Some(text(7));
    described.facts.old.revision = Some(text(8));
    described.facts.compare = Some(text(9));
    described.facts.missing = Some(text(10));
    described.facts.releases[0].name = text(11);
    described.facts.releases[0].url = text(12);
    described.facts.releases[0].notes = text(13);
    described
}

fn preview(texts: &[String]) -> Preview {
    let text = |at: usize| format!("x{}", texts[at % texts.len()]);
    let objects = vec![
        object(
            &text(0),
            &text(1),
            DryRunVerdict::Refused { reason: text(2) },
        ),
        object(
            &text(3),
            &text(4),
            DryRunVerdict::Accepted {
                warnings: vec![text(5)],
            },
        ),
        object(
            &text(6),
            &text(7),
            DryRunVerdict::NotAsked { reason: text(8) },
        ),
    ];
    Preview {
        applications: vec![application("prod/podinfo", &text(9), objects)],
        ..Preview::default()
    }
}

proptest! {
    #[test]
    fn body_foreign_text_stays_in_its_place(
        texts in prop::collection::vec(hostile(), 14),
        clusters in prop::collection::vec(hostile(), 10),
        limit in prop_oneof![Just(65_536_usize), 200_usize..6_000],
    ) {
        let moves = [hostile_move(&texts)];
        let preview = preview(&clusters);
        let (group, merging) = (&clusters[0], &texts[0]);
        let story = MoveStory { group: Some(group), merging, ..story(&moves, Some(&preview)) };
        let found = body(&story, limit);
        prop_assert!(found.text.chars().count() <= limit);
        let seen = reader::check(&found.text);
        prop_assert!(seen.tables.len() <= 1 && seen.tables.iter().all(|rows| *rows == 2), "{:?}\n{}", seen, found.text);
        prop_assert!(seen.cells.is_multiple_of(7) && seen.cells <= 14, "{:?}\n{}", seen, found.text);
        if !found.cut {
            prop_assert_eq!((seen.tables.len(), seen.cells, seen.details), (1, 14, 4), "{}", found.text);
            prop_assert_eq!(seen.headings, 5, "{}", found.text);
        }
    }

    #[test]
    fn body_is_deterministic_and_cut_is_shorter(texts in prop::collection::vec(hostile(), 14), limit in 100_usize..5_000) {
        let moves = [hostile_move(&texts)];
        let story = story(&moves, None);
        prop_assert_eq!(body(&story, limit), body(&story, limit));
        let whole = body(&story, usize::MAX);
        let cut = body(&story, limit);
        prop_assert_eq!(cut.cut, whole.text.chars().count() > limit);
    }
}
