//! An organisation with a repository, a bot that may write, a person, and a clone.

use crate::servers::{
    git::{Program, git},
    gitea::Gitea,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tagboat::{
    core::secret::Secret,
    io::forge::{
        Forge, ForgeConfig, ForgeLogin, MergeCommand, NewRequest, Proxy, PullRequest, RequestLabel,
        TIMEOUTS,
    },
    spec::{self, ForgeCredentials, ForgeKind},
};

/// The scopes of a token for everything that the bot does.
pub(super) const SCOPES: [&str; 3] = ["write:repository", "write:issue", "read:user"];

pub(super) struct World {
    pub gitea: &'static Gitea,
    pub org: String,
    pub project: String,
    pub bot: String,
    /// A person who may write.
    pub ann: String,
    pub ann_token: String,
    pub forge: Arc<dyn Forge>,
    pub clone: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        let gitea = tokio::task::spawn_blocking(Gitea::shared).await.unwrap();
        let (bot, ann) = (gitea.user("bot").await, gitea.user("ann").await);
        let org = format!("org-{bot}");
        gitea
            .admin(Method::POST, "orgs", json!({"username": org}))
            .await;
        gitea
            .admin(
                Method::POST,
                &format!("orgs/{org}/repos"),
                json!({"name": "fleet", "auto_init": true, "default_branch": "main"}),
            )
            .await;
        let project = format!("{org}/fleet");
        for user in [&bot, &ann] {
            gitea
                .admin(
                    Method::PUT,
                    &format!("repos/{project}/collaborators/{user}"),
                    json!({"permission": "write"}),
                )
                .await;
        }
        let token = gitea.token(&bot, &SCOPES).await;
        let ann_token = gitea.token(&ann, &["all"]).await;
        let folder = tempfile::tempdir().unwrap();
        let remote = gitea.remote(&project, &ann, &ann_token);
        git(folder.path(), &["clone", "-q", &remote, "clone"]).ok();
        let clone = folder.path().join("clone");
        Self {
            gitea,
            forge: forge_of(gitea, &project, &token),
            org,
            project,
            bot,
            ann,
            ann_token,
            clone,
            _folder: folder,
        }
    }

    /// Sends a request about the repository as the administrator.
    pub(super) async fn admin(&self, method: Method, path: &str, body: Value) -> Value {
        self.gitea
            .admin(method, &format!("repos/{}/{path}", self.project), body)
            .await
    }

    /// Sends a request about the repository as Ann, which must succeed.
    pub(super) async fn ann(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self
            .gitea
            .call(
                &self.ann_token,
                method,
                &format!("repos/{}/{path}", self.project),
                Some(body),
            )
            .await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// Pushes a commit with one file to a branch, which starts at main if it is new; returns the
    /// commit.
    pub(super) fn push(&self, branch: &str, file: &str) -> String {
        let there = git(
            &self.clone,
            &[
                "rev-parse",
                "-q",
                "--verify",
                &format!("refs/heads/{branch}"),
            ],
        )
        .status
        .success();
        git(&self.clone, &["fetch", "-q", "origin", "main"]).ok();
        let checkout = if there {
            vec!["checkout", "-q", branch]
        } else {
            vec!["checkout", "-q", "-b", branch, "FETCH_HEAD"]
        };
        git(&self.clone, &checkout).ok();
        std::fs::write(self.clone.join(file), format!("{branch} {file}\n")).unwrap();
        git(&self.clone, &["add", "-A"]).ok();
        git(&self.clone, &["commit", "-q", "-m", file]).ok();
        git(&self.clone, &["push", "-q", "origin", branch]).ok();
        git(&self.clone, &["rev-parse", "HEAD"]).text()
    }

    /// Pushes a branch and opens a request for it, which Gitea has checked.
    pub(super) async fn request(&self, branch: &str) -> PullRequest {
        self.push(branch, &branch.replace('/', "-"));
        let opened = self.forge.open(&new(branch)).await.unwrap();
        self.looked_at(opened.request.number).await
    }

    /// Waits until Gitea knows if a request has conflicts.
    pub(super) async fn looked_at(&self, number: u64) -> PullRequest {
        self.until(number, "Gitea checked it", |request| {
            request.mergeable == tagboat::io::forge::Mergeable::Yes
        })
        .await
    }

    /// Waits until a request satisfies a condition.
    pub(super) async fn until(
        &self,
        number: u64,
        what: &str,
        wanted: impl Fn(&PullRequest) -> bool,
    ) -> PullRequest {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let request = self.forge.get(number).await.unwrap();
            if wanted(&request) {
                return request;
            }
            assert!(
                Instant::now() < end,
                "not within two minutes: {what}: {request:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Protects main.
    pub(super) async fn protect(&self, approvals: u32, checks: &[&str]) {
        let body = json!({
            "rule_name": "main",
            "required_approvals": approvals,
            "enable_status_check": !checks.is_empty(),
            "status_check_contexts": checks,
        });
        self.admin(Method::POST, "branch_protections", body).await;
    }
}

pub(super) fn forge_of(gitea: &Gitea, project: &str, token: &str) -> Arc<dyn Forge> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let forge = spec::ForgeSpec {
        kind: ForgeKind::Gitea,
        api: format!("{}/api/v1", gitea.url).parse().unwrap(),
        web: gitea.url.parse().unwrap(),
        project: project.to_owned(),
        credentials: ForgeCredentials::Anonymous,
    };
    let credentials = ForgeLogin::Token(Secret::new(token).into());
    tagboat::io::forge::connect(&ForgeConfig {
        forge,
        credentials,
        ca_file: None,
        proxy: Proxy::System,
        timeouts: TIMEOUTS,
    })
    .unwrap()
}

pub(super) fn new(branch: &str) -> NewRequest {
    NewRequest {
        head: branch.to_owned(),
        base: "main".to_owned(),
        title: format!("move {branch}"),
        body: format!("What moves.\n\n`{branch}`"),
        draft: false,
    }
}

pub(super) fn label(name: &str) -> RequestLabel {
    RequestLabel {
        name: name.to_owned(),
        color: "0b7285".to_owned(),
        description: "set by tagboat".to_owned(),
    }
}

pub(super) fn merge(head: &str) -> MergeCommand {
    MergeCommand {
        head: head.to_owned(),
        method: None,
        title: String::new(),
        message: String::new(),
        delete_branch: false,
    }
}
