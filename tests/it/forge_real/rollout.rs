//! Rollout reports: the result of a merged request, as a commit status and in one comment.

use super::world::World;
use crate::it::support::stage::{Stage, rollout, timing, until};
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tagboat::{
    events::Recorder,
    io::forge::{Forge, ForgeOperation},
    objects::plan::RolloutOutcome,
    reconcile::ApplicationState,
    review::rollout::MergedRequest,
    rollout::{RolloutSource, report},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// A reporter, from its start to its end.
struct RunningReporter {
    task: JoinHandle<()>,
    stop: CancellationToken,
    merged: watch::Sender<Arc<[MergedRequest]>>,
}

impl RunningReporter {
    fn start(stage: &Arc<Stage>, forge: &Arc<dyn Forge>) -> Self {
        let (merged, stop) = (watch::Sender::new(Arc::from([])), CancellationToken::new());
        let ground: Arc<dyn RolloutSource> = stage.clone();
        let task = tokio::spawn(report(
            ground,
            Arc::clone(forge),
            merged.subscribe(),
            timing(),
            Recorder::default(),
            stop.clone(),
        ));
        Self { task, stop, merged }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Context, state and text of each status ever set on a commit, oldest first.
pub(super) async fn statuses(world: &World, commit: &str) -> Vec<String> {
    let answer = world
        .admin(
            Method::GET,
            &format!("commits/{commit}/statuses?limit=50"),
            Value::Null,
        )
        .await;
    let mut all: Vec<&Value> = answer.as_array().unwrap().iter().collect();
    all.sort_by_key(|status| status["id"].as_u64());
    let line = |status: &Value| {
        let text = |name: &str| status[name].as_str().unwrap_or_default().to_owned();
        format!(
            "{} {}: {}",
            text("context"),
            text("status"),
            text("description")
        )
    };
    all.into_iter().map(line).collect()
}

/// Text and last change of each comment.
async fn comments(world: &World, number: u64) -> Vec<(String, String)> {
    let answer = world
        .admin(
            Method::GET,
            &format!("issues/{number}/comments"),
            Value::Null,
        )
        .await;
    let text = |comment: &Value, name: &str| comment[name].as_str().unwrap_or_default().to_owned();
    answer
        .as_array()
        .unwrap()
        .iter()
        .map(|comment| (text(comment, "body"), text(comment, "updated_at")))
        .collect()
}

/// A comment as Gitea renders it.
async fn page(world: &World, text: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = json!({"Text": text, "Mode": "comment", "Context": world.project});
    let request = client
        .post(format!("{}/api/v1/markdown", world.gitea.url))
        .bearer_auth(&world.ann_token)
        .json(&body);
    request
        .send()
        .await
        .unwrap()
        .error_for_status()
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn rollout_reported_as_status_and_comment() {
    let world = World::new().await;
    let request = world.request("tagboat/prod/all").await;
    // Merged by a person.
    let body = json!({"Do": "squash", "head_commit_id": request.head_commit});
    world
        .ann(
            Method::POST,
            &format!("pulls/{}/merge", request.number),
            body,
        )
        .await;
    let ended = world.forge.get(request.number).await.unwrap();
    let merged = MergedRequest::new(
        &ended,
        "prod",
        vec!["shop/web".to_owned(), "shop/api".to_owned()],
    )
    .unwrap();
    assert_ne!(merged.commit, request.head_commit);

    let stage = Stage::new(Duration::from_secs(300));
    let first = RunningReporter::start(&stage, &world.forge);
    // Gitea's clock has whole seconds, so the merge may seem to precede the task's start. It is
    // reported all the same once its result is clear.
    let why = "Deployment shop/api: pod api-1, container api: ImagePullBackOff: no `api:9`, says @ann <b>#1</b>";
    let failure = rollout(
        "s1",
        RolloutOutcome::Degraded,
        merged.at + SignedDuration::from_secs(9),
        why,
    );
    stage.record("shop/api", std::slice::from_ref(&failure));
    stage.turn("shop/api", "s1", ApplicationState::Degraded, |status| {
        status.rollout = Some(failure)
    });
    stage.turn("shop/web", "s1", ApplicationState::Synced, |_| {});
    first.merged.send_replace(Arc::from([merged.clone()]));
    let failing = format!("tagboat/rollout/prod@east failure: shop/api failed: {why}");
    let shown = async || {
        (
            statuses(&world, &merged.commit).await,
            comments(&world, merged.request.number).await,
        )
    };
    wait(&world, &merged, 1).await;
    let (found, texts) = shown().await;
    assert_eq!(found, [failing]);
    let commit = format!(
        "[`{}`]({})",
        &merged.commit[..10],
        world.forge.commit_url(&merged.commit)
    );
    let text = format!(
        "<!-- tagboat:rollout -->\n**Rollout of {commit}**: 1 failing, 1 done\n\n\
         - ❌ `shop/api` on `east` failed: ``{why}``\n\
         - ✅ `shop/web` on `east` has nothing to change"
    );
    assert_eq!(
        texts
            .iter()
            .map(|(text, _)| text.trim_end())
            .collect::<Vec<_>>(),
        [text]
    );
    // No mention and no link: the forge renders foreign text as code.
    let page = page(&world, &texts[0].0).await;
    assert!(page.contains("@ann &lt;b&gt;#1&lt;/b&gt;</code>"), "{page}");
    assert!(!page.contains("<b>") && !page.contains("/ann\""), "{page}");
    first.end().await;

    // The next process finds everything reported.
    let second = RunningReporter::start(&stage, &world.forge);
    let comment_calls = world
        .forge
        .calls()
        .get(&ForgeOperation::Comment)
        .copied()
        .unwrap_or_default();
    second.merged.send_replace(Arc::from([merged.clone()]));
    until("the comment is read", || {
        world.forge.calls()[&ForgeOperation::Comment] > comment_calls
    })
    .await;
    stage.turn("shop/api", "s1", ApplicationState::Synced, |status| {
        status.rollout = Some(rollout(
            "s1",
            RolloutOutcome::Applied,
            merged.at + SignedDuration::from_secs(600),
            "",
        ));
    });
    wait(&world, &merged, 2).await;
    until_comment(&world, &merged, "rolled out in 10m").await;
    let (now, then) = shown().await;
    assert_eq!(
        now,
        [
            found[0].clone(),
            "tagboat/rollout/prod@east success: 1 rolled out in 10m, 1 with nothing to change"
                .to_owned()
        ]
    );
    assert_eq!(then.len(), 1, "one comment, kept up to date: {then:?}");
    second.end().await;

    // A third process, after the final report, changes nothing.
    let third = RunningReporter::start(&stage, &world.forge);
    let comment_calls = world.forge.calls()[&ForgeOperation::Comment];
    third.merged.send_replace(Arc::from([merged.clone()]));
    stage.record(
        "shop/api",
        &[rollout(
            "s1",
            RolloutOutcome::Applied,
            merged.at + SignedDuration::from_secs(600),
            "",
        )],
    );
    until("the comment is read", || {
        world.forge.calls()[&ForgeOperation::Comment] > comment_calls
    })
    .await;
    third.end().await;
    assert_eq!(shown().await, (now, then));
    // A status set by the bot is no check of a later merge.
    let mut beside = merged.request.clone();
    beside.head_commit.clone_from(&merged.commit);
    let checks = world.forge.checks(&beside).await.unwrap();
    let own = |name: &str| name.starts_with(tagboat::review::merging::OWN_STATUS);
    assert!(
        !checks.named.is_empty() && checks.named.iter().all(|check| own(&check.name)),
        "{checks:?}"
    );
}

/// Waits until a commit has this many statuses.
async fn wait(world: &World, merged: &MergedRequest, count: usize) {
    for _ in 0..600 {
        if statuses(world, &merged.commit).await.len() >= count {
            return until_comment(world, merged, "Rollout of").await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "not within 30 s: {count} statuses: {:?}",
        statuses(world, &merged.commit).await
    );
}

/// Waits until the comment contains a text.
async fn until_comment(world: &World, merged: &MergedRequest, words: &str) {
    for _ in 0..600 {
        if comments(world, merged.request.number)
            .await
            .iter()
            .any(|(text, _)| text.contains(words))
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not within 30 s: {words}");
}
