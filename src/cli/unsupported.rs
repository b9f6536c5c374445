//! The text about charts, units and images that are not handled.

use super::safe;
use crate::{
    images::unsupported::{Unsupported, UnsupportedKind},
    service::unsupported::UnsupportedFindings,
};
use std::collections::BTreeMap;

/// The most findings with a line of their own; of more, each kind has one.
const MOST_LINES: usize = 30;

/// The findings of one kind that are named where there are many.
const MOST_EXAMPLES: usize = 4;

/// Returns the findings as lines without control characters.
pub(super) fn lines(findings: &UnsupportedFindings) -> Vec<String> {
    if findings.total <= MOST_LINES {
        return findings.items.iter().map(line).collect();
    }
    let mut kinds: BTreeMap<UnsupportedKind, Vec<&Unsupported>> = BTreeMap::new();
    for item in &findings.items {
        kinds.entry(item.kind).or_default().push(item);
    }
    let mut lines: Vec<String> = kinds
        .iter()
        .map(|(kind, items)| group(*kind, items))
        .collect();
    if findings.total > findings.items.len() {
        let more = findings.total - findings.items.len();
        lines.push(format!("{more} more"));
    }
    lines.push("list them with -o json".to_owned());
    lines
}

/// Returns the number of findings in words.
pub(super) fn counted(total: usize) -> String {
    match total {
        1 => "1 place is not managed".to_owned(),
        total => format!("{total} places are not managed"),
    }
}

fn line(item: &Unsupported) -> String {
    format!(
        "{}: {} {}: {}",
        place(item),
        item.kind.as_str(),
        subject(item),
        item.kind.reason()
    )
}

fn group(kind: UnsupportedKind, items: &[&Unsupported]) -> String {
    let examples = items.iter().take(MOST_EXAMPLES);
    let examples: Vec<String> = examples
        .map(|item| format!("{} at {}", subject(item), place(item)))
        .collect();
    let more = match items.len().saturating_sub(MOST_EXAMPLES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} × {}: {}: {}{more}",
        items.len(),
        kind.as_str(),
        kind.reason(),
        examples.join(", ")
    )
}

fn place(item: &Unsupported) -> String {
    format!("{}:{}", safe(&item.file), item.line)
}

fn subject(item: &Unsupported) -> String {
    match &item.version {
        Some(version) => safe(&format!("{} {version}", item.name)),
        None => safe(&item.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(count: u32) -> UnsupportedFindings {
        let item = |line| Unsupported {
            kind: UnsupportedKind::HelmReleaseChart,
            file: "a.yaml".to_owned(),
            line,
            name: "redis".to_owned(),
            version: Some("17.1.0".to_owned()),
        };
        UnsupportedFindings {
            total: count as usize,
            items: (1..=count).map(item).collect(),
        }
    }

    #[test]
    fn unsupported_lines_are_grouped_where_many() {
        assert_eq!(
            lines(&findings(1)),
            ["a.yaml:1: HelmRelease chart redis 17.1.0: not handled yet"]
        );
        let many = lines(&findings(181));
        assert_eq!(many.len(), 2);
        assert!(
            many[0].starts_with(
                "181 × HelmRelease chart: not handled yet: redis 17.1.0 at a.yaml:1, "
            ),
            "{many:?}"
        );
        assert!(many[0].ends_with(" and 177 more"), "{many:?}");
    }
}
