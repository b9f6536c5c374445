//! A forge with responses of the test's choice, and assertions that all forges share.

use super::wire::{Reply, Seen, Wire, reply};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tagboat::{
    core::secret::Secret,
    io::forge::{
        Forge, ForgeConfig, ForgeLogin, HttpTimeouts, MergeCommand, NewRequest, Proxy, TIMEOUTS,
    },
    spec::{self, ForgeCredentials, ForgeKind},
};

pub(crate) const TOKEN: &str = "s3cr3t-t0ken-of-a-bot";
pub(crate) const HEAD: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";

/// The forge at a server, below `path`, with a token.
pub(crate) fn forge(wire: &Wire, kind: ForgeKind, path: &str, project: &str) -> Arc<dyn Forge> {
    connect(
        wire,
        kind,
        path,
        project,
        ForgeLogin::Token(Secret::new(TOKEN).into()),
    )
}

pub(crate) fn connect(
    wire: &Wire,
    kind: ForgeKind,
    path: &str,
    project: &str,
    credentials: ForgeLogin,
) -> Arc<dyn Forge> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let place = spec::ForgeSpec {
        kind,
        api: format!("http://{}{path}", wire.host).parse().unwrap(),
        web: format!("http://{}", wire.host).parse().unwrap(),
        project: project.to_owned(),
        credentials: ForgeCredentials::Anonymous,
    };
    let timeouts = HttpTimeouts {
        backoff: Duration::from_millis(1),
        headers: Duration::from_secs(10),
        ..TIMEOUTS
    };
    tagboat::io::forge::connect(&ForgeConfig {
        forge: place,
        credentials,
        ca_file: None,
        proxy: Proxy::Direct,
        timeouts,
    })
    .unwrap()
}

/// `METHOD target` of each request, with its body as JSON if it had one.
pub(crate) fn sent(wire: &Wire) -> Vec<String> {
    let line = |seen: Seen| match seen.body.as_str() {
        "" => format!("{} {}", seen.method, seen.target),
        body => format!(
            "{} {} {}",
            seen.method,
            seen.target,
            serde_json::from_str::<Value>(body).unwrap()
        ),
    };
    wire.seen().into_iter().map(line).collect()
}

pub(crate) fn json(status: u16, body: &Value) -> Reply {
    reply(status, body.to_string()).with("Content-Type", "application/json; charset=utf-8")
}

pub(crate) fn new(head: &str) -> NewRequest {
    NewRequest {
        head: head.into(),
        base: "main".into(),
        title: "dev: web 1 → 2".into(),
        body: "text".into(),
        draft: false,
    }
}

pub(crate) fn merge() -> MergeCommand {
    MergeCommand {
        head: HEAD.into(),
        method: None,
        title: String::new(),
        message: String::new(),
        delete_branch: false,
    }
}
