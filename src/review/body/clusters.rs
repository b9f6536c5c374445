//! Effect of a change on clusters: refusals first, then object by object.

use super::{
    parts::{BodyPart, BodyPiece, BodyRow, RowRank, count},
    text::{code, fence, html, prose},
};
use crate::review::preview::{
    ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview, Preview,
};
use std::collections::HashMap;

/// Characters of a server's sentence.
const WORDS: usize = 1_000;
/// Characters of a name.
const NAME: usize = 200;
/// Lines of one object's diff; `tagboat preview` shows all of them.
const LINES: usize = 300;
/// Characters of one object's diff.
const DIFF: usize = 16_000;

/// Refusals by clusters, if there are any.
pub(crate) fn refused(preview: &Preview) -> Option<BodyPiece> {
    let row = |application: &ApplicationPreview, object: &ObjectPreview| {
        let DryRunVerdict::Refused { reason: why } = &object.verdict else {
            return None;
        };
        let (object, name) = (
            code(&object.object, NAME),
            code(&application.name.to_string(), NAME),
        );
        let why = quoted(&prose(why, WORDS));
        Some(BodyRow::new(format!(
            "- {object} of {name} on cluster {}:\n  {why}",
            code(&application.cluster, NAME)
        )))
    };
    let rows: Vec<BodyRow> = objects(preview)
        .filter_map(|(application, object)| row(application, object))
        .collect();
    if rows.is_empty() {
        return None;
    }
    let title = format!(
        "**{} would be refused.** The clusters' answers to a dry run of this change:",
        count(rows.len(), ("object", "objects"))
    );
    let (called, lacks) = (("refused object", "refused objects"), ("", ""));
    Some(BodyPiece::Part(BodyPart {
        rank: RowRank::Refused,
        title,
        head: String::new(),
        rows,
        tail: "",
        between: "\n",
        called,
        lacks,
    }))
}

fn quoted(words: &str) -> String {
    if words.is_empty() {
        "> (no reason given)".to_owned()
    } else {
        format!("> {words}")
    }
}

fn objects(preview: &Preview) -> impl Iterator<Item = (&ApplicationPreview, &ObjectPreview)> {
    preview.applications.iter().flat_map(|application| {
        application
            .objects
            .iter()
            .map(move |object| (application, object))
    })
}

/// The changed objects of each Application, with diffs and dry-run answers.
pub(crate) fn changes(preview: &Preview) -> BodyPiece {
    let mut rows: Vec<BodyRow> = preview
        .trouble
        .iter()
        .map(|trouble| BodyRow::new(format!("- Unknown: {}", prose(&trouble.message, WORDS))))
        .collect();
    let mut shown: HashMap<(&str, &str), &ApplicationPreview> = HashMap::new();
    for application in &preview.applications {
        let mut own: Vec<BodyRow> = application
            .trouble
            .iter()
            .map(|trouble| BodyRow::new(format!("- Unknown: {}", prose(&trouble.message, WORDS))))
            .collect();
        own.extend(
            application
                .notes
                .iter()
                .map(|note| BodyRow::new(format!("- {}", prose(note, WORDS)))),
        );
        for object in &application.objects {
            let first = *shown
                .entry((&object.object, &object.diff))
                .or_insert(application);
            own.push(if std::ptr::eq(first, application) {
                row(object)
            } else {
                again(object, first)
            });
        }
        if own.is_empty() {
            own.push(BodyRow::new("- Nothing changes.".to_owned()));
        }
        let change = match application.change {
            ApplicationChange::New => ", new there",
            ApplicationChange::Declaration => ", its declaration changes",
            ApplicationChange::Files => "",
            ApplicationChange::Gone => ", no longer declared",
        };
        let (name, cluster) = (
            code(&application.name.to_string(), NAME),
            code(&application.cluster, NAME),
        );
        let heading = format!("**{name}** on cluster {cluster}{change}\n\n");
        rows.extend(
            own.into_iter()
                .enumerate()
                .map(|(at, row)| if at == 0 { row.below(&heading) } else { row }),
        );
    }
    let mut title = "### Preview".to_owned();
    if rows.is_empty() {
        title.push_str("\n\nNo Application reads what changes here, so no cluster is touched.");
    }
    let (called, lacks) = (("object", "objects"), ("diff", "diffs"));
    BodyPiece::Part(BodyPart {
        rank: RowRank::Objects,
        title,
        head: String::new(),
        rows,
        tail: "",
        between: "\n\n",
        called,
        lacks,
    })
}

/// An object with its diff, folded; the short form has no diff.
fn row(object: &ObjectPreview) -> BodyRow {
    let change = change(object.change);
    let (verdict, further) = match &object.verdict {
        DryRunVerdict::Accepted { warnings } if warnings.is_empty() => {
            ("accepted".to_owned(), Vec::new())
        }
        DryRunVerdict::Accepted { warnings } => (
            format!(
                "accepted with {}",
                count(warnings.len(), ("warning", "warnings"))
            ),
            warnings.clone(),
        ),
        DryRunVerdict::Refused { .. } => ("refused".to_owned(), Vec::new()),
        DryRunVerdict::NotAsked { reason: why } => ("no dry run".to_owned(), vec![why.clone()]),
    };
    let further: Vec<String> = further
        .iter()
        .map(|words| prose(words, WORDS))
        .filter(|words| !words.is_empty())
        .collect();
    let more = if further.is_empty() {
        String::new()
    } else {
        format!(" ({})", further.join("; "))
    };
    let short = format!("- {} {change}: {verdict}{more}", code(&object.object, NAME));
    if object.diff.trim().is_empty() {
        return BodyRow::new(short);
    }
    let strong = if matches!(object.verdict, DryRunVerdict::Refused { .. }) {
        format!("<b>{verdict}</b>")
    } else {
        verdict
    };
    let list: String = further.iter().map(|words| format!("- {words}\n")).collect();
    let gap = if list.is_empty() { "" } else { "\n" };
    let summary = format!(
        "<summary>{} {change}: {strong}</summary>",
        html(&object.object, NAME)
    );
    BodyRow::with_short(
        format!(
            "<details>{summary}\n\n{list}{gap}{}\n\n</details>",
            diff(&object.diff)
        ),
        short,
    )
}

/// An object whose diff was shown already, for fleets of many clusters.
fn again(object: &ObjectPreview, first: &ApplicationPreview) -> BodyRow {
    let BodyRow { text, short } = row(object);
    let as_there = format!(
        ", the same diff as in {} on {}",
        code(&first.name.to_string(), NAME),
        code(&first.cluster, NAME)
    );
    BodyRow::new(short.unwrap_or(text) + &as_there)
}

fn change(change: ObjectChange) -> &'static str {
    match change {
        ObjectChange::Create => "is new",
        ObjectChange::Change => "changes",
        ObjectChange::Delete => "is deleted",
    }
}

/// A diff, cut between lines.
fn diff(text: &str) -> String {
    let mut length = 0;
    let all = text.lines().count();
    let fits = |line: &&str| {
        length += line.chars().count() + 1;
        length <= DIFF
    };
    let lines: Vec<&str> = text.lines().take(LINES).take_while(fits).collect();
    let block = fence("diff", &lines.join("\n"));
    match all - lines.len() {
        0 => block,
        left => format!(
            "{block}\n\n*{} of this diff left out.*",
            count(left, ("further line", "further lines"))
        ),
    }
}
