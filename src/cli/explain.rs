//! `tagboat explain`.

use super::{
    Exit, Failure, Screen,
    client::{self, Query},
    screen::Color,
    show,
};
use crate::service::engine::ProcessOptions;
use crate::{
    core::name::Name,
    images::{
        lint,
        policy::{self, Holds, PolicyInput, PolicyOutcome, RegistryFacts},
    },
    update::{ImageUpdater, PassReport, PolicyDecision},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeSet, sync::Arc};

/// Explain why a policy chooses what it chooses, tag by tag, and what is held until when
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    process: ProcessOptions,

    /// The policy, as ns/name
    #[arg(value_name = "NS/NAME")]
    policy: Name,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    client::run(
        &arguments.process,
        &Query::Explain {
            policy: arguments.policy.clone(),
        },
        screen,
    )
}

/// Answers, for each Environment in which the policy has references.
pub async fn answer(
    updaters: &[Arc<ImageUpdater>],
    name: &Name,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let now = Timestamp::now();
    let (mut answers, mut exit) = (Vec::new(), Exit::Done);
    let mut known = BTreeSet::new();
    let mut declared = false;
    for updater in updaters {
        let mut report = PassReport::default();
        let world = updater.look_for_holds(&mut report).await?;
        exit = client::mind_failures(&report, screen).unwrap_or(exit);
        client::mind_errors(&world.declared, screen);
        known.extend(world.declared.policies.keys().map(Name::to_string));
        let Some(policy) = world.declared.policies.get(name) else {
            continue;
        };
        declared = true;
        let mut scan = updater.scanner.scan(&policy.image, now).await?;
        let (locals, _) = lint::find(&world.declared, &world.files);
        for local in locals
            .iter()
            .filter(|local| local.policies.contains_key(name))
        {
            let present = &local.policies[name];
            let holds = updater
                .holds(&world, local, now)
                .await?
                .remove(name)
                .unwrap_or_default();
            let decided = present
                .decide(&updater.scanner, &mut scan, &holds, now)
                .await?;
            let least = present.report(None, None, &holds, now).present;
            let question = PolicyInput {
                policy,
                present: present.least(),
                holds: &holds,
                now,
            };
            let (outcome, refused) = policy::explain(
                &question,
                &RegistryFacts {
                    tags: &scan.tags,
                    details: &scan.details,
                },
            );
            answers.push(one(
                updater,
                &local.environment.name,
                name,
                &least,
                &decided,
                &outcome,
                &refused,
                &holds,
            ));
        }
    }
    if !declared {
        let known: Vec<String> = known.into_iter().collect();
        return Err(Failure::input(format!(
            "there is no ImagePolicy {name}; known are {}",
            known.join(", ")
        )));
    }
    if screen.is_json() {
        screen.json(&answers);
        return Ok(exit);
    }
    if answers.is_empty() {
        screen.line(format_args!(
            "{name} has nothing to update: no file of an Environment refers to its image"
        ));
    }
    for answer in &answers {
        print(answer, screen);
    }
    Ok(exit)
}

#[allow(clippy::too_many_arguments, reason = "the columns of one answer")]
fn one(
    updater: &ImageUpdater,
    environment: &str,
    name: &Name,
    present: &[String],
    decided: &PolicyDecision,
    outcome: &PolicyOutcome,
    refused: &[(String, policy::Refusal)],
    holds: &Holds,
) -> Value {
    let (chosen, reason, free_at) = match (decided, outcome) {
        (PolicyDecision::Chosen(chosen), _) => (json!(chosen.tag), Value::Null, None),
        (PolicyDecision::Nothing { reason, free_at }, _) => (Value::Null, json!(reason), *free_at),
    };
    json!({
        "repository": updater.config.name,
        "environment": environment,
        "policy": name,
        "present": present,
        "selected": chosen,
        "reason": reason,
        "freeAt": free_at,
        "held": holds.iter().map(|hold| json!({"value": hold.value, "reason": hold.to_string()})).collect::<Vec<_>>(),
        "refused": refused.iter().map(|(tag, refusal)| json!({"tag": tag, "reason": refusal.to_string()})).collect::<Vec<_>>(),
    })
}

fn print(answer: &Value, screen: &mut Screen) {
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    let rows = |key: &str| answer[key].as_array().cloned().unwrap_or_default();
    let present: Vec<String> = rows("present")
        .iter()
        .filter_map(Value::as_str)
        .map(|tag| tag.escape_debug().to_string())
        .collect();
    screen.line(screen.paint(
        Color::Bold,
        format_args!(
            "{} in {} ({})",
            text("policy"),
            text("environment"),
            text("repository")
        ),
    ));
    screen.line(format_args!(
        "  present   {}",
        if present.is_empty() {
            "(none)".to_owned()
        } else {
            present.join(", ")
        }
    ));
    match answer["selected"].as_str() {
        Some(tag) => screen.line(format_args!(
            "  chosen    {}",
            screen.paint(Color::Green, tag)
        )),
        None => screen.line(format_args!("  chosen    nothing: {}", text("reason"))),
    }
    if let Some(time) = answer["freeAt"].as_str().and_then(|time| time.parse().ok()) {
        screen.line(format_args!("  free at   {}", show::shown(time)));
    }
    for hold in rows("held") {
        screen.line(format_args!(
            "  held      {}: {}",
            hold["value"].as_str().unwrap_or_default(),
            hold["reason"].as_str().unwrap_or_default()
        ));
    }
    for row in rows("refused") {
        let line = format!(
            "  {} {}",
            row["tag"].as_str().unwrap_or_default(),
            row["reason"].as_str().unwrap_or_default()
        );
        screen.line(screen.paint(Color::Dim, line));
    }
}
