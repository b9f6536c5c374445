//! `tagboat explain`.

use super::{
    Failure, Outcome, Screen, client, complete, print, screen::Color, settings::SettingsArguments,
};
use crate::{
    core::name::Name,
    service::explain::{ExplainAnswer, ExplainQuery, ExplainedDecision},
};

/// Explain what a policy selects, tag by tag, and what is held until when
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    settings: SettingsArguments,

    /// The policy, as ns/name
    #[arg(value_name = "NS/NAME", add = complete::policies())]
    policy: Name,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = ExplainQuery {
        policy: arguments.policy.clone(),
    };
    let answer = client::ask(&arguments.settings, &query, screen)?;
    screen.answer(&answer, text);
    Ok(answer.outcome())
}

fn text(answer: &ExplainAnswer, screen: &mut Screen) {
    if answer.decisions.is_empty() {
        screen.line(format_args!(
            "{} has nothing to update: no file of an Environment refers to its image",
            answer.policy
        ));
    }
    for decision in &answer.decisions {
        let title = format_args!(
            "{} in {} ({})",
            answer.policy, decision.environment, decision.repository
        );
        screen.line(screen.paint(Color::Bold, title));
        self::decision(decision, screen);
    }
    print::gaps(&answer.gaps, screen);
}

fn decision(decision: &ExplainedDecision, screen: &mut Screen) {
    let present = print::present(&decision.present);
    screen.line(format_args!("  present   {present}"));
    if !decision.unlisted.is_empty() {
        let unlisted = print::present(&decision.unlisted);
        screen.line(format_args!(
            "  unlisted  {unlisted}: the registry does not list it any more"
        ));
    }
    match &decision.selected {
        Some(selected) => {
            let tag = screen.paint(Color::Green, &selected.tag);
            screen.line(format_args!("  selected  {tag}"));
        }
        None => {
            let reason = decision.reason.as_deref().unwrap_or_default();
            screen.line(format_args!("  selected  nothing: {reason}"));
        }
    }
    if let Some(time) = decision.free_at {
        screen.line(format_args!("  free at   {}", print::minute(time)));
    }
    for held in &decision.held {
        screen.line(format_args!(
            "  held      {}: {}",
            held.version, held.reason
        ));
    }
    for refused in &decision.refused {
        let line = format!("  {} {}", refused.tag.escape_debug(), refused.reason);
        screen.line(screen.paint(Color::Dim, line));
    }
}
