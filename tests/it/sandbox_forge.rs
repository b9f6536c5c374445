//! The life of a request, walked through on the sandbox's forge and on a real Gitea with the same
//! results.

use std::sync::Arc;
use tagboat::{
    core::{error::Classify as _, secret::Secret},
    io::{
        forge::{
            CommitStatus, Forge, ForgeConfig, ForgeLogin, MergeCommand, Mergeable, NewRequest,
            Proxy, PullRequest, RequestFilter, RequestLabel, RequestPatch, RequestStatus,
            RequestedReviewer, StatusState, TIMEOUTS,
        },
        git::{CommitMeta, Mirror, Person, RefUpdate, Remote, RemoteAccess},
    },
    sandbox::{forge::SandboxForge, git::BareRepository},
    spec::{self, ForgeCredentials, ForgeKind, MergeMethod},
};

use super::git_support::{ANN, NOW, edit, provider};

fn label(name: &str) -> RequestLabel {
    RequestLabel {
        name: name.to_owned(),
        color: "0b7285".to_owned(),
        description: String::new(),
    }
}

/// A request without the parts that differ between servers.
fn summary(request: &PullRequest) -> String {
    let PullRequest {
        number,
        state,
        head,
        base,
        title,
        body,
        labels,
        draft,
        ended,
        ..
    } = request;
    let commit = ended.as_ref().map(|ended| ended.commit.is_some());
    format!(
        "#{number} {state:?} {head} → {base} {title:?} {body:?} {labels:?} draft {draft} merged {commit:?}"
    )
}

async fn looked_at(forge: &dyn Forge, number: u64) -> PullRequest {
    for _ in 0..600 {
        let request = forge.get(number).await.unwrap();
        if request.mergeable == Mergeable::Yes {
            return request;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("#{number} cannot be merged")
}

/// Walks through everything that the bot does with requests. `push` creates a branch with one
/// commit on main.
pub(super) async fn walk(forge: &dyn Forge, push: impl Fn(&str)) -> Vec<String> {
    let mut log = Vec::new();
    let new = |branch: &str| NewRequest {
        head: branch.to_owned(),
        base: "main".to_owned(),
        title: format!("move {branch}"),
        body: "What moves.".to_owned(),
        draft: false,
    };
    let missing = forge.open(&new("tagboat/none/all")).await.unwrap_err();
    log.push(format!("open without a branch: {:?}", missing.kind()));
    push("tagboat/dev/all");
    let opened = forge.open(&new("tagboat/dev/all")).await.unwrap();
    log.push(format!(
        "found {}: {}",
        opened.found,
        summary(&opened.request)
    ));
    let again = forge.open(&new("tagboat/dev/all")).await.unwrap();
    log.push(format!(
        "found {}: {}",
        again.found,
        summary(&again.request)
    ));
    let request = again.request;
    let change = RequestPatch {
        title: Some("moved".to_owned()),
        body: Some("More.".to_owned()),
    };
    forge.update(&request, &change).await.unwrap();
    forge
        .label(
            request.number,
            &[label("images"), label("tagboat/hold")],
            &[],
        )
        .await
        .unwrap();
    forge
        .label(request.number, &[], &["tagboat/hold", "never"])
        .await
        .unwrap();
    for text in ["one", "one", "two"] {
        log.push(format!(
            "comment {text}: {:?}",
            forge.comment(&request, "others", text).await.unwrap()
        ));
    }
    log.push(format!(
        "unasked {:?}",
        forge
            .ask_reviews(&request, &[RequestedReviewer::User(request.author.clone())])
            .await
            .unwrap()
    ));
    let listed = forge.list(RequestFilter::Open, "tagboat/").await.unwrap();
    log.extend(
        listed
            .iter()
            .map(|request| format!("listed {}", summary(request))),
    );
    log.push(format!(
        "checks {:?}",
        forge.checks(&request).await.unwrap().state
    ));
    let status = |state| CommitStatus {
        context: "ci".to_owned(),
        state,
        description: "said".to_owned(),
        url: None,
    };
    for state in [
        StatusState::Pending,
        StatusState::Failure,
        StatusState::Success,
    ] {
        forge
            .set_status(&request.head_commit, &status(state))
            .await
            .unwrap();
        log.push(format!(
            "checks {:?}",
            forge.checks(&request).await.unwrap().state
        ));
    }
    let approvals = forge.approvals(&request).await.unwrap();
    log.push(format!(
        "approvals {:?}, suffice {}",
        approvals.by,
        approvals.suffice()
    ));
    let request = looked_at(forge, request.number).await;
    let merge = |head: &str| MergeCommand {
        head: head.to_owned(),
        method: Some(MergeMethod::Squash),
        title: "dev: moved".to_owned(),
        message: String::new(),
        delete_branch: false,
    };
    let error = forge
        .merge(request.number, &merge(&"1".repeat(40)))
        .await
        .unwrap_err();
    log.push(format!("merge of another head: {:?}", error.kind()));
    let commit = forge
        .merge(request.number, &merge(&request.head_commit))
        .await
        .unwrap();
    log.push(format!("merged {}", commit.is_some()));
    log.push(summary(&forge.get(request.number).await.unwrap()));
    for _ in 0..2 {
        log.push(format!(
            "branch deleted {}",
            forge.delete_branch("tagboat/dev/all").await.unwrap()
        ));
    }
    push("tagboat/prod/all");
    let opened = forge.open(&new("tagboat/prod/all")).await.unwrap().request;
    forge.close(opened.number).await.unwrap();
    let found = forge.find("tagboat/prod/all").await.unwrap().unwrap();
    log.push(format!(
        "found {}, by itself {}",
        summary(&found),
        forge.get(found.number).await.unwrap().ended.unwrap().by == Some(found.author)
    ));
    let mut ended = forge
        .list(
            RequestFilter::EndedSince("2020-01-01T00:00:00Z".parse().unwrap()),
            "tagboat/",
        )
        .await
        .unwrap();
    ended.sort_by_key(|request| request.number);
    log.extend(
        ended
            .iter()
            .map(|request| format!("ended {:?} {}", request.state, request.head)),
    );
    log.push(format!(
        "releases {}",
        forge
            .releases(&forge.place().project, "1.0.0", "1.1.0")
            .await
            .unwrap()
            .len()
    ));
    assert_eq!(
        forge.get(found.number).await.unwrap().state,
        RequestStatus::Closed
    );
    log
}

/// The results of a real Gitea.
pub(super) const WALK: &[&str] = &[
    "open without a branch: Remote",
    r#"found false: #1 Open tagboat/dev/all → main "move tagboat/dev/all" "What moves." [] draft false merged None"#,
    r#"found true: #1 Open tagboat/dev/all → main "move tagboat/dev/all" "What moves." [] draft false merged None"#,
    "comment one: Made",
    "comment one: Same",
    "comment two: Changed",
    "unasked []",
    r#"listed #1 Open tagboat/dev/all → main "moved" "More." ["images"] draft false merged None"#,
    "checks None",
    "checks Pending",
    "checks Failed",
    "checks Passed",
    "approvals [], suffice true",
    "merge of another head: Conflict",
    "merged true",
    r#"#1 Merged tagboat/dev/all → main "moved" "More." ["images"] draft false merged Some(true)"#,
    "branch deleted true",
    "branch deleted false",
    r#"found #2 Closed tagboat/prod/all → main "move tagboat/prod/all" "What moves." [] draft false merged Some(false), by itself true"#,
    "ended Merged tagboat/dev/all",
    "ended Closed tagboat/prod/all",
    "releases 0",
];

/// Opens the forge of a sandbox, as the bot.
fn connect(server: &SandboxForge, token: &str) -> Arc<dyn Forge> {
    let web = server.clone_url();
    let web = &web[..web.find("/shop/").unwrap()];
    let place = spec::ForgeSpec {
        kind: ForgeKind::Gitea,
        api: format!("{web}/api/v1").parse().unwrap(),
        web: web.parse().unwrap(),
        project: server.project().to_owned(),
        credentials: ForgeCredentials::Anonymous,
    };
    let credentials = ForgeLogin::Token(Secret::new(token).into());
    tagboat::io::forge::connect(&ForgeConfig {
        forge: place,
        credentials,
        ca_file: None,
        proxy: Proxy::System,
        timeouts: TIMEOUTS,
    })
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn sandbox_forge_behaves_like_gitea() {
    provider();
    let dir = tempfile::tempdir().unwrap();
    let repository = BareRepository::create(
        &dir.path().join("fleet.git"),
        &[("a", "1\n")],
        ANN,
        NOW,
        "first",
    )
    .unwrap();
    let server = SandboxForge::start(repository.clone(), "shop/fleet", &Secret::new("s3cret"))
        .await
        .unwrap();
    let mirror = Mirror::open(
        &dir.path().join("mirror"),
        Remote::new(&server.clone_url(), Some("main"), RemoteAccess::default()).unwrap(),
    )
    .unwrap();
    let push = |branch: &str| {
        tokio::task::block_in_place(|| {
            let head = mirror.fetch().unwrap().commit;
            let ann = Person::new(ANN.0, ANN.1).unwrap();
            let message = CommitMeta {
                author: &ann,
                committer: &ann,
                seconds: NOW + 60,
                text: branch,
                key: None,
            };
            let draft = mirror
                .draft(head, &[edit(&branch.replace('/', "-"), "new\n")], &message)
                .unwrap()
                .unwrap();
            let update = RefUpdate {
                reference: format!("refs/heads/{branch}"),
                old: None,
                new: Some(draft.commit),
            };
            mirror.push_references(Some(&draft), &[update]).unwrap();
        });
    };
    let forge = connect(&server, "s3cret");
    assert_eq!(walk(&*forge, push).await, WALK);

    // A person changes it.
    push("tagboat/next/all");
    let opened = forge
        .open(&NewRequest {
            head: "tagboat/next/all".into(),
            base: "main".into(),
            title: "again".into(),
            body: String::new(),
            draft: false,
        })
        .await
        .unwrap()
        .request;
    server.check(opened.number, "ci", "success").unwrap();
    assert_eq!(
        forge.checks(&opened).await.unwrap().state,
        tagboat::io::forge::ChecksState::Passed
    );
    server.close(opened.number, "ann").unwrap();
    assert_eq!(
        forge
            .get(opened.number)
            .await
            .unwrap()
            .ended
            .unwrap()
            .by
            .as_deref(),
        Some("ann")
    );
    let error = connect(&server, "wrong")
        .get(opened.number)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.problem,
            tagboat::io::forge::ForgeProblem::Unauthorized { .. }
        ),
        "{error}"
    );
    // Both sides change a file: nothing is merged.
    push("tagboat/both/all");
    repository
        .commit(&[("tagboat-both-all", "other\n")], ANN, NOW + 120, "theirs")
        .unwrap();
    let new = NewRequest {
        head: "tagboat/both/all".into(),
        base: "main".into(),
        title: "both".into(),
        body: String::new(),
        draft: false,
    };
    let opened = forge.open(&new).await.unwrap().request;
    assert!(server.merge(opened.number, ANN).is_err());
    assert_ne!(
        forge.get(opened.number).await.unwrap().mergeable,
        Mergeable::Yes
    );
}
