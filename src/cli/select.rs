//! `tagboat select`.

use super::{Failure, Outcome, Screen, input, safe, screen::Color};
use crate::{
    core::name::Name,
    service::select::{self, SelectAnswer, SelectQuery},
};
use std::path::PathBuf;

/// Select among given tags, one a line, without any network
///
/// Exits with 1 if the policy selects none of them. Ignores minimumAge and platforms, which need a
/// registry.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Read the policy from this file, which may be one of Flux
    #[arg(short, long = "file", value_name = "POLICY.yaml", required = true)]
    files: Vec<PathBuf>,

    /// Use this policy, where the file has several
    #[arg(long, value_name = "NS/NAME")]
    policy: Option<Name>,

    /// Read the tags from FILE, one a line; "-" reads standard input
    #[arg(long, value_name = "FILE")]
    tags: PathBuf,

    /// Give the reason of every refused tag, also of a long list
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = SelectQuery {
        files: input::read_all(&arguments.files)?,
        policy: arguments.policy.clone(),
        tags: String::from_utf8_lossy(&input::read(&arguments.tags)?).into_owned(),
        all: arguments.all,
    };
    let answer = select::select(&query)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &SelectAnswer, screen: &mut Screen) {
    for diagnostic in &answer.diagnostics {
        screen.note(safe(&diagnostic.to_string()));
    }
    for field in &answer.ignored {
        screen.note(format_args!(
            "note: {field} is ignored: it needs the registry"
        ));
    }
    if let Some(selected) = &answer.selected {
        screen.line(screen.paint(Color::Green, &selected.tag));
    }
    // In one piece: standard error is not buffered, and there may be 100,000 lines.
    let refused = answer.refused.iter().map(|refused| {
        let line = format!("  {} {}", refused.tag.escape_debug(), refused.reason);
        screen.paint(Color::Dim, line)
    });
    let refused: Vec<String> = refused.collect();
    if !refused.is_empty() {
        screen.note(refused.join("\n"));
    }
    if answer.omitted > 0 {
        let count = answer.omitted;
        let line = format!("  {count} further refused tags are left out: --all lists them");
        screen.note(screen.paint(Color::Dim, line));
    }
    if let Some(reason) = &answer.reason {
        screen.note(format_args!("nothing was selected: {reason}"));
    }
}
