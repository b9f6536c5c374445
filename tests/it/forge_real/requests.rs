//! Pull requests: opened, found, changed, labelled, commented, closed.

use super::world::{World, forge_of, label, merge, new};
use crate::servers::git::{Program, git};
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::json;
use tagboat::io::forge::{
    CommentOutcome, ForgeOperation, NewRequest, RequestFilter, RequestPatch, RequestStatus,
    RequestedReviewer,
};

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn request_opened_updated_and_closed() {
    let world = World::new().await;
    let forge = &world.forge;
    let head = world.push("tagboat/dev/web", "web.yaml");
    assert_eq!(forge.find("tagboat/dev/web").await.unwrap(), None);
    let opened = forge.open(&new("tagboat/dev/web")).await.unwrap();
    assert!(!opened.found);
    let request = opened.request;
    assert_eq!(
        (request.head.as_str(), request.base.as_str()),
        ("tagboat/dev/web", "main")
    );
    assert_eq!(
        (
            request.head_commit.as_str(),
            request.state,
            request.author.as_str()
        ),
        (head.as_str(), RequestStatus::Open, world.bot.as_str())
    );
    assert_eq!(request.body, "What moves.\n\n`tagboat/dev/web`");

    // Opening again returns the same request.
    let again = forge.open(&new("tagboat/dev/web")).await.unwrap();
    assert!(again.found);
    assert_eq!(again.request.number, request.number);
    assert_eq!(
        forge.find("tagboat/dev/web").await.unwrap().unwrap().number,
        request.number
    );
    assert_eq!(
        forge.find("tagboat/dev/we").await.unwrap(),
        None,
        "a branch that another begins with"
    );

    forge
        .update(
            &request,
            &RequestPatch {
                title: Some("web 1 → 2".into()),
                body: Some("new ä".into()),
            },
        )
        .await
        .unwrap();
    forge
        .label(
            request.number,
            &[label("tagboat/hold"), label("images")],
            &[],
        )
        .await
        .unwrap();
    forge
        .label(
            request.number,
            &[label("images")],
            &["tagboat/hold", "never-there"],
        )
        .await
        .unwrap();
    let changed = forge.get(request.number).await.unwrap();
    assert_eq!(
        (changed.title.as_str(), changed.body.as_str()),
        ("web 1 → 2", "new ä")
    );
    assert_eq!(changed.labels, ["images"]);
    let known = world.admin(Method::GET, "labels", json!(null)).await;
    let made: Vec<(&str, &str)> = known
        .as_array()
        .unwrap()
        .iter()
        .map(|label| {
            (
                label["name"].as_str().unwrap(),
                label["color"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        made,
        [("images", "0b7285"), ("tagboat/hold", "0b7285")],
        "each made once, in its colour"
    );

    let before = Timestamp::now() - SignedDuration::from_mins(1);
    forge.close(request.number).await.unwrap();
    forge.close(request.number).await.unwrap();
    let closed = forge.get(request.number).await.unwrap();
    let ended = closed.ended.unwrap();
    assert_eq!(
        (closed.state, ended.by.as_deref(), ended.commit),
        (RequestStatus::Closed, Some(world.bot.as_str()), None)
    );
    assert!(ended.at.unwrap() >= before);
    assert!(
        forge
            .list(RequestFilter::Open, "tagboat/")
            .await
            .unwrap()
            .is_empty()
    );
    assert!(forge.delete_branch("tagboat/dev/web").await.unwrap());
    assert!(
        !forge.delete_branch("tagboat/dev/web").await.unwrap(),
        "gone already"
    );
    let ended = forge
        .list(RequestFilter::EndedSince(before), "tagboat/")
        .await
        .unwrap();
    assert_eq!(
        ended
            .iter()
            .map(|request| (request.number, request.head.as_str()))
            .collect::<Vec<_>>(),
        [(request.number, "tagboat/dev/web")]
    );
    let later = Timestamp::now() + SignedDuration::from_mins(1);
    assert!(
        forge
            .list(RequestFilter::EndedSince(later), "tagboat/")
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        forge.find("tagboat/dev/web").await.unwrap().unwrap().state,
        RequestStatus::Closed
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn request_end_names_the_user() {
    let world = World::new().await;
    let (one, other) = (
        world.request("tagboat/one").await,
        world.request("tagboat/other").await,
    );
    world
        .ann(
            Method::PATCH,
            &format!("pulls/{}", one.number),
            json!({"state": "closed"}),
        )
        .await;
    let body = json!({"Do": "merge"});
    world
        .ann(Method::POST, &format!("pulls/{}/merge", other.number), body)
        .await;
    let closed = world.forge.get(one.number).await.unwrap();
    assert_eq!(
        (closed.state, closed.ended.unwrap().by),
        (RequestStatus::Closed, Some(world.ann.clone()))
    );
    let merged = world.forge.get(other.number).await.unwrap();
    let ended = merged.ended.unwrap();
    assert_eq!(
        (merged.state, ended.by),
        (RequestStatus::Merged, Some(world.ann.clone()))
    );
    let main = git(&world.clone, &["ls-remote", "origin", "refs/heads/main"]).text();
    assert_eq!(main.split_whitespace().next(), ended.commit.as_deref());
    // Merged with the verified head: it does not matter that a person merged it.
    assert_eq!(
        world
            .forge
            .merge(other.number, &merge(&other.head_commit))
            .await
            .unwrap(),
        ended.commit
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn request_draft_state_is_kept() {
    let world = World::new().await;
    world.push("tagboat/draft", "d");
    let opened = world
        .forge
        .open(&NewRequest {
            draft: true,
            ..new("tagboat/draft")
        })
        .await
        .unwrap()
        .request;
    assert_eq!(
        (opened.draft, opened.title.as_str()),
        (true, "move tagboat/draft")
    );
    world
        .forge
        .update(
            &opened,
            &RequestPatch {
                title: Some("other".into()),
                body: None,
            },
        )
        .await
        .unwrap();
    let changed = world.forge.get(opened.number).await.unwrap();
    assert_eq!((changed.draft, changed.title.as_str()), (true, "other"));
    let error = world
        .forge
        .merge(opened.number, &merge(&opened.head_commit))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("Work in progress"), "{error}");
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn request_comment_is_updated_in_place() {
    let world = World::new().await;
    let request = world.request("tagboat/talk").await;
    let comments = format!("issues/{}/comments", request.number);
    // A comment of another user with the same marker is not the bot's.
    world
        .ann(
            Method::POST,
            &comments,
            json!({"body": "<!-- tagboat:rollout -->\nmine"}),
        )
        .await;
    let say = async |text: &str| {
        world
            .forge
            .comment(&request, "rollout", text)
            .await
            .unwrap()
    };
    assert_eq!(say("dev: rolling out").await, CommentOutcome::Made);
    assert_eq!(say("dev: rolling out").await, CommentOutcome::Same);
    assert_eq!(say("dev: done").await, CommentOutcome::Changed);
    assert_eq!(
        world
            .forge
            .comment(&request, "other", "else")
            .await
            .unwrap(),
        CommentOutcome::Made
    );
    let all = world.admin(Method::GET, &comments, json!(null)).await;
    let texts: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|comment| comment["body"].as_str().unwrap())
        .collect();
    assert_eq!(
        texts,
        [
            "<!-- tagboat:rollout -->\nmine",
            "<!-- tagboat:rollout -->\ndev: done",
            "<!-- tagboat:other -->\nelse"
        ]
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn reviewers_requested_and_unknown_ones_named() {
    let world = World::new().await;
    let team = json!({"name": "platform", "units": ["repo.code", "repo.pulls"], "permission": "write", "includes_all_repositories": true});
    let team = world
        .gitea
        .admin(Method::POST, &format!("orgs/{}/teams", world.org), team)
        .await;
    let member = world.gitea.user("member").await;
    world
        .gitea
        .admin(
            Method::PUT,
            &format!("teams/{}/members/{member}", team["id"]),
            json!(null),
        )
        .await;
    let request = world.request("tagboat/ask").await;
    let wanted: Vec<RequestedReviewer> = [
        world.ann.as_str(),
        "team/platform",
        "nobody-here",
        "elsewhere/team",
        "team/none",
        world.bot.as_str(),
    ]
    .into_iter()
    .map(RequestedReviewer::parse)
    .collect();
    let unasked = world.forge.ask_reviews(&request, &wanted).await.unwrap();
    assert_eq!(
        unasked
            .iter()
            .map(|unasked| unasked.reviewer.to_string())
            .collect::<Vec<_>>(),
        ["nobody-here", "elsewhere/team", "team/none"]
    );
    assert!(
        unasked.iter().all(|unasked| !unasked.why.is_empty()),
        "{unasked:?}"
    );
    let shown = world
        .admin(
            Method::GET,
            &format!("pulls/{}", request.number),
            json!(null),
        )
        .await;
    assert_eq!(shown["requested_reviewers"][0]["login"], world.ann);
    assert_eq!(shown["requested_reviewers_teams"][0]["name"], "platform");
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn requests_list_all_pages_without_forks() {
    let world = World::new().await;
    world.push("tagboat/all", "all");
    let branches: Vec<String> = (0..105)
        .map(|number| format!("tagboat/many/{number:03}"))
        .collect();
    let refs: Vec<String> = branches
        .iter()
        .map(|branch| format!("HEAD:refs/heads/{branch}"))
        .collect();
    let arguments: Vec<&str> = ["push", "-q", "origin"]
        .into_iter()
        .chain(refs.iter().map(String::as_str))
        .collect();
    git(&world.clone, &arguments).ok();
    let opened = branches.iter().map(|branch| {
        let (forge, wish) = (world.forge.clone(), new(branch));
        async move { forge.open(&wish).await.unwrap() }
    });
    let opened: Vec<_> = futures::stream::iter(opened)
        .buffer_unordered(4)
        .collect()
        .await;
    assert!(opened.iter().all(|opened| !opened.found));
    // A request from a fork, whose branch is named like one of the bot.
    let stranger = world.gitea.user("stranger").await;
    let token = world.gitea.token(&stranger, &["all"]).await;
    let forked = world
        .gitea
        .call(
            &token,
            Method::POST,
            &format!("repos/{}/forks", world.project),
            Some(json!({})),
        )
        .await;
    assert!(forked.0.is_success(), "{forked:?}");
    let file = json!({"content": "aGk=", "message": "m", "branch": "tagboat/many/000"});
    let path = format!("repos/{stranger}/fleet/contents/x");
    let pushed = world
        .gitea
        .call(&token, Method::POST, &path, Some(file))
        .await;
    assert!(pushed.0.is_success(), "{pushed:?}");
    let body =
        json!({"head": format!("{stranger}:tagboat/many/000"), "base": "main", "title": "mine"});
    let opened = world
        .gitea
        .call(
            &token,
            Method::POST,
            &format!("repos/{}/pulls", world.project),
            Some(body),
        )
        .await;
    assert!(opened.0.is_success(), "{opened:?}");
    let foreign = opened.1["number"].as_u64().unwrap();

    let before = world
        .forge
        .calls()
        .get(&ForgeOperation::List)
        .copied()
        .unwrap_or_default();
    let listed = world
        .forge
        .list(RequestFilter::Open, "tagboat/many/")
        .await
        .unwrap();
    let calls = world.forge.calls()[&ForgeOperation::List] - before;
    let mut heads: Vec<String> = listed.iter().map(|request| request.head.clone()).collect();
    heads.sort();
    assert_eq!(heads, branches);
    assert!(
        listed
            .iter()
            .all(|request| request.number != foreign && request.author == world.bot)
    );
    assert_eq!(
        calls, 3,
        "106 requests in pages of 50, which Gitea allows at most"
    );
    assert!(
        world
            .forge
            .get(foreign)
            .await
            .unwrap_err()
            .to_string()
            .contains("fork")
    );
    assert_eq!(
        world
            .forge
            .find("tagboat/many/000")
            .await
            .unwrap()
            .unwrap()
            .author,
        world.bot
    );
}

#[tokio::test]
#[ignore = "needs Gitea: run tests/run forge"]
async fn forge_releases_and_urls_are_right() {
    let world = World::new().await;
    for tag in ["v1.0.0", "v1.1.0", "v1.2.0", "v2.0.0"] {
        let body = json!({"tag_name": tag, "name": format!("Release {tag}"), "body": format!("notes of {tag} @ann"), "target_commitish": "main"});
        world.admin(Method::POST, "releases", body).await;
    }
    let found = world
        .forge
        .releases(&world.project, "1.0.0", "1.2.0")
        .await
        .unwrap();
    let shown: Vec<(&str, &str)> = found
        .iter()
        .map(|release| (release.tag.as_str(), release.notes.as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            ("v1.2.0", "notes of v1.2.0 @ann"),
            ("v1.1.0", "notes of v1.1.0 @ann")
        ]
    );
    // A project with tags but no releases.
    let bare = World::new().await;
    for tag in ["1.0.0", "1.1.0"] {
        bare.admin(
            Method::POST,
            "tags",
            json!({"tag_name": tag, "target": "main"}),
        )
        .await;
    }
    let tags = world
        .forge
        .releases(&bare.project, "1.0.0", "1.1.0")
        .await
        .unwrap();
    assert_eq!(
        tags.iter()
            .map(|release| (release.tag.as_str(), release.notes.as_str()))
            .collect::<Vec<_>>(),
        [("1.1.0", "")]
    );

    let commit = git(&world.clone, &["rev-parse", "HEAD"]).text();
    world.push("tagboat/url", "u");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let addresses = [
        world.forge.commit_url(&commit),
        world.forge.compare_url("main", "tagboat/url"),
        tags[0].url.clone(),
        found[0].url.clone(),
    ];
    for address in addresses {
        let answer = client.get(&address).send().await.unwrap();
        assert!(
            answer.status().is_success(),
            "{address}: {}",
            answer.status()
        );
    }
    let nobody = forge_of(
        world.gitea,
        "no/project",
        "0000000000000000000000000000000000000000",
    );
    assert!(nobody.releases(&world.project, "1", "2").await.is_err());
}
