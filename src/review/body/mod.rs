//! Text of a pull request: Markdown from a change set and its facts, within the forge's limit.
//!
//! The text is a function of its [`MoveStory`]: it has absolute dates only, so that the same facts
//! make the same text. It is read alike by GitHub, GitLab and Gitea: tables, fences, `details`.
//! Foreign text goes through `text` or `notes`. Rows that do not fit are left out by `parts`, and
//! the text says so.

mod clusters;
mod merging;
mod notes;
mod parts;
mod story;
mod text;

pub use merging::merging_words;
pub use story::{
    DescribedMove, ImageLabels, MoveFacts, MoveStory, ReleaseNotes, SeenBy, SeenSince,
};

use super::{FileLine, ImageMove, preview::Preview};
use crate::core::{
    image::{Digest, Platform},
    version::Bump,
};
use parts::{BodyPart, BodyPiece, BodyRow, RowRank, count, fit};
use std::collections::BTreeMap;
pub(crate) use text::code;
use text::{cell_code, html, line, link, linkable, prose, prose_in_link, short};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestBody {
    pub text: String,
    /// True if rows were left out; the text says which.
    pub cut: bool,
}

/// Characters of a name, a tag or a path.
const NAME: usize = 300;
/// Characters of a sentence.
const WORDS: usize = 500;
/// Characters of the notes of one release.
const NOTES: usize = 6_000;
/// Characters of the notes of one source: three long ones.
const ALL_NOTES: usize = 18_000;
/// Files that are listed without being folded.
const FILES: usize = 5;
/// Platforms of an image that are named.
const PLATFORMS: usize = 4;

/// Writes the text of a pull request, with at most `limit` characters.
///
/// Only a marker longer than `limit` makes it longer.
pub fn body(story: &MoveStory<'_>, limit: usize) -> RequestBody {
    let mut pieces = vec![BodyPiece::Fixed(first(story))];
    pieces.extend(story.preview.and_then(clusters::refused));
    pieces.push(table(story.moves));
    pieces.extend(sources(story.moves));
    pieces.extend(releases(story.moves));
    pieces.extend(story.preview.map(clusters::changes));
    pieces.extend(newer(story.moves));
    pieces.extend(files(story.moves));
    pieces.push(BodyPiece::Fixed(last(story)));
    let (text, cut) = fit(pieces, story.marker, limit);
    RequestBody { text, cut }
}

/// Writes the preview alone, with at most `limit` characters, in the same words as a pull request.
pub fn markdown(preview: &Preview, limit: usize) -> RequestBody {
    let mut pieces: Vec<BodyPiece> = clusters::refused(preview).into_iter().collect();
    pieces.push(clusters::changes(preview));
    let (text, cut) = fit(pieces, "", limit);
    RequestBody { text, cut }
}

fn first(story: &MoveStory<'_>) -> String {
    let group = story
        .group
        .map_or(String::new(), |group| format!(" ({})", code(group, NAME)));
    let what = if story.moves.len() == 1 {
        "this image"
    } else {
        "these images"
    };
    format!(
        "Updates {what} in {}{group}. {}",
        code(story.environment, NAME),
        prose(story.merging, WORDS)
    )
    .trim_end()
    .to_owned()
}

fn last(story: &MoveStory<'_>) -> String {
    let these = if story.moves.len() == 1 {
        "this version"
    } else {
        "these versions"
    };
    format!(
        "---\n\nClosing this without a merge holds {these} back until a newer one appears. \
         The label `tagboat/hold` pauses it; `tagboat/rebase` rebuilds it. \
         Foreign commits on its branch are never overwritten: tagboat stops there."
    )
}

/// Head of a column, and its cell for a move.
type ClusterColumn = (&'static str, fn(&DescribedMove) -> String);

/// The table of images. Empty columns are left out.
fn table(moves: &[DescribedMove]) -> BodyPiece {
    let columns: [ClusterColumn; 7] = [
        ("Image", |described| {
            cell_code(described.image.repository.as_str(), NAME)
        }),
        ("Change", step),
        ("Bump", |described| described.image.bump.to_string()),
        ("Policy", policy),
        ("First seen", |described| {
            described.seen.as_ref().map_or(String::new(), seen)
        }),
        ("Digest", |described| {
            digest(described).map_or(String::new(), |digest| cell_code(digest.short(), NAME))
        }),
        ("Platforms", |described| {
            platforms(&described.facts.platforms)
        }),
    ];
    let cells: Vec<[String; 7]> = moves
        .iter()
        .map(|described| columns.map(|(_, cell)| cell(described)))
        .collect();
    let wanted: Vec<usize> = (0..columns.len())
        .filter(|at| cells.iter().any(|row| !row[*at].is_empty()))
        .collect();
    let row = |cells: &[&str]| format!("| {} |", cells.join(" | "));
    let head: Vec<&str> = wanted.iter().map(|at| columns[*at].0).collect();
    let rule = vec!["---"; wanted.len()];
    let rows = cells
        .iter()
        .map(|cells| {
            BodyRow::new(row(&wanted
                .iter()
                .map(|at| cells[*at].as_str())
                .collect::<Vec<_>>()))
        })
        .collect();
    let head = format!("{}\n{}\n", row(&head), row(&rule));
    let (called, lacks) = (("image", "images"), ("", ""));
    BodyPiece::Part(BodyPart {
        rank: RowRank::Moves,
        title: String::new(),
        head,
        rows,
        tail: "",
        between: "\n",
        called,
        lacks,
    })
}

fn step(described: &DescribedMove) -> String {
    let ImageMove { old, new, bump, .. } = &described.image;
    let new = cell_code(new.as_str(), NAME);
    match (digest(described), old) {
        (Some(digest), _) if *bump == Bump::Digest => {
            format!("{new} → {}", cell_code(digest.short(), NAME))
        }
        (_, Some(old)) if !old.is_empty() => format!("{} → {new}", cell_code(old, NAME)),
        _ => format!("(none) → {new}"),
    }
}

fn policy(described: &DescribedMove) -> String {
    format!(
        "{}: {}",
        cell_code(&described.image.policy.to_string(), NAME),
        cell_code(&described.policy, NAME)
    )
}

fn seen(seen: &SeenSince) -> String {
    let clock = match seen.clock {
        SeenBy::Tagboat => "tagboat",
        SeenBy::Registry => "registry",
    };
    format!("{} ({clock})", seen.at.strftime("%Y-%m-%d %H:%M UTC"))
}

/// The digest that was written, else the digest of the tag.
fn digest(described: &DescribedMove) -> Option<&Digest> {
    described
        .image
        .digest
        .as_ref()
        .or(described.facts.digest.as_ref())
}

fn platforms(all: &[Platform]) -> String {
    let names: Vec<String> = all
        .iter()
        .take(PLATFORMS)
        .map(Platform::to_string)
        .collect();
    let more = all.len().saturating_sub(PLATFORMS);
    let more = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    format!("{}{more}", names.join(", "))
}

/// Sources of the images, by their own labels.
fn sources(moves: &[DescribedMove]) -> Option<BodyPiece> {
    let row = |described: &DescribedMove| {
        let MoveFacts {
            created,
            old,
            new,
            compare,
            missing,
            ..
        } = &described.facts;
        let mut words = Vec::new();
        if let Some(source) = &new.source {
            words.push(linked(source));
        }
        if let Some(url) = compare.as_deref().and_then(linkable) {
            let short = |revision: &Option<String>| {
                code(
                    &revision
                        .as_deref()
                        .unwrap_or("?")
                        .chars()
                        .take(10)
                        .collect::<String>(),
                    NAME,
                )
            };
            words.push(link(
                &format!(
                    "compare {} with {}",
                    short(&old.revision),
                    short(&new.revision)
                ),
                &url,
            ));
        } else if let Some(revision) = &new.revision {
            words.push(format!("commit {}", code(revision, 64)));
        }
        if let Some(version) = new
            .version
            .as_deref()
            .filter(|version| !same_version(version, described.image.new.as_str()))
        {
            words.push(format!("labelled {}", code(version, 80)));
        }
        if let Some(created) = created {
            words.push(format!("built {}", created.strftime("%Y-%m-%d")));
        }
        let mut text = words.join(" · ");
        if let Some(missing) = missing {
            text.push_str(if text.is_empty() { "" } else { ". " });
            text.push_str(&prose(missing, WORDS));
        }
        (!text.is_empty())
            .then(|| BodyRow::new(format!("- {}: {text}", code(described.image.image(), NAME))))
    };
    let rows: Vec<BodyRow> = moves.iter().filter_map(row).collect();
    let title = "### Source\n\nFrom the images' own labels:".to_owned();
    let (called, lacks) = (("image", "images"), ("", ""));
    (!rows.is_empty()).then(|| {
        BodyPiece::Part(BodyPart {
            rank: RowRank::Links,
            title,
            head: String::new(),
            rows,
            tail: "",
            between: "\n",
            called,
            lacks,
        })
    })
}

/// A URL, linked if that does no harm.
fn linked(address: &str) -> String {
    match linkable(address) {
        Some(url) => link(&prose_in_link(&short(address), NAME), &url),
        None => code(address, NAME),
    }
}

fn same_version(label: &str, tag: &str) -> bool {
    label.trim_start_matches('v') == tag.trim_start_matches('v')
}

/// Release notes. Images of one source share theirs.
fn releases(moves: &[DescribedMove]) -> Option<BodyPiece> {
    let mut shared: Vec<(&[ReleaseNotes], Vec<&str>)> = Vec::new();
    for described in moves
        .iter()
        .filter(|described| !described.facts.releases.is_empty())
    {
        match shared
            .iter_mut()
            .find(|(known, _)| *known == described.facts.releases.as_slice())
        {
            Some((_, images)) => images.push(described.image.image()),
            None => shared.push((&described.facts.releases, vec![described.image.image()])),
        }
    }
    let rows: Vec<BodyRow> = shared
        .into_iter()
        .map(|(releases, images)| notes_of(releases, &images.join(", ")))
        .collect();
    let title = "### Release notes".to_owned();
    let (called, lacks) = (("source", "sources"), ("text", "texts"));
    (!rows.is_empty()).then(|| {
        BodyPiece::Part(BodyPart {
            rank: RowRank::Notes,
            title,
            head: String::new(),
            rows,
            tail: "",
            between: "\n\n",
            called,
            lacks,
        })
    })
}

/// Releases of one source, folded, with their notes as long as there is room.
fn notes_of(releases: &[ReleaseNotes], images: &str) -> BodyRow {
    let mut room = ALL_NOTES;
    let mut described = Vec::new();
    for release in releases {
        let title = title(release);
        let notes::SafeNotes { text, cut } = notes::notes(&release.notes, NOTES.min(room));
        room = room.saturating_sub(text.chars().count());
        let text = if text.is_empty() {
            String::new()
        } else {
            format!("\n>\n{text}")
        };
        let rest = if cut {
            "\n>\n> *The rest of these notes is left out.*"
        } else {
            ""
        };
        described.push(format!("> {title}{text}{rest}"));
    }
    let all = count(releases.len(), ("release", "releases"));
    let summary = format!("<summary>{}: {all}</summary>", html(images, NAME));
    let whole = format!(
        "<details>{summary}\n\n{}\n\n</details>",
        described.join("\n\n")
    );
    let latest = releases.first().map_or(String::new(), |latest| {
        format!(", latest {}", title(latest))
    });
    BodyRow::with_short(whole, format!("- {}: {all}{latest}", prose(images, NAME)))
}

fn title(release: &ReleaseNotes) -> String {
    let name = if line(&release.name, NAME).is_empty() {
        &release.tag
    } else {
        &release.name
    };
    let title = match linkable(&release.url) {
        Some(url) => link(&prose_in_link(name, NAME), &url),
        None => prose_in_link(name, NAME),
    };
    format!(
        "{title}{}",
        release
            .at
            .map_or(String::new(), |at| format!(", {}", at.strftime("%Y-%m-%d")))
    )
}

/// Newer tags that were refused.
fn newer(moves: &[DescribedMove]) -> Option<BodyPiece> {
    let row = |(image, (tag, reason)): (&str, &(String, String))| {
        let name = if moves.len() == 1 {
            String::new()
        } else {
            format!("{} ", code(image, NAME))
        };
        BodyRow::new(
            format!("- {name}{} {}", code(tag, NAME), prose(reason, WORDS))
                .trim_end()
                .to_owned(),
        )
    };
    let rows: Vec<BodyRow> = moves
        .iter()
        .flat_map(|described| {
            described
                .refused
                .iter()
                .map(|refused| (described.image.image(), refused))
        })
        .map(row)
        .collect();
    let title = "### Newer tags that were refused".to_owned();
    let (called, lacks) = (("tag", "tags"), ("", ""));
    (!rows.is_empty()).then(|| {
        BodyPiece::Part(BodyPart {
            rank: RowRank::Newer,
            title,
            head: String::new(),
            rows,
            tail: "",
            between: "\n",
            called,
            lacks,
        })
    })
}

fn files(moves: &[DescribedMove]) -> Option<BodyPiece> {
    let mut lines: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for FileLine { file, line } in moves.iter().flat_map(|described| &described.image.places) {
        let known = lines.entry(file).or_default();
        if !known.contains(line) {
            known.push(*line);
        }
    }
    let all: usize = lines.values().map(Vec::len).sum();
    let summary = format!(
        "{}, {}",
        count(lines.len(), ("file", "files")),
        count(all, ("line", "lines"))
    );
    let (head, tail) = match lines.len() {
        0..=FILES => (String::new(), ""),
        _ => (
            format!("<details><summary>{summary}</summary>\n\n"),
            "\n\n</details>",
        ),
    };
    let row = |(file, mut lines): (&str, Vec<u32>)| {
        lines.sort_unstable();
        let word = if lines.len() == 1 { "line" } else { "lines" };
        let lines: Vec<String> = lines.iter().map(u32::to_string).collect();
        BodyRow::new(format!(
            "- {}: {word} {}",
            code(file, NAME),
            lines.join(", ")
        ))
    };
    let rows: Vec<BodyRow> = lines.into_iter().map(row).collect();
    let (called, lacks) = (("file", "files"), ("", ""));
    let title = "### Files".to_owned();
    if rows.is_empty() {
        return None;
    }
    Some(BodyPiece::Part(BodyPart {
        rank: RowRank::Files,
        title,
        head,
        rows,
        tail,
        between: "\n",
        called,
        lacks,
    }))
}
