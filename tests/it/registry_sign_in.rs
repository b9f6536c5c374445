//! Sign-in: both token flows, Basic, docker configs and credential helpers; and places that must
//! not get credentials.

use crate::it::support::wire::{
    Reply, Seen, Wire, config, registries, registries_with, reply, tags, timing,
};
use base64::Engine;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tagboat::{
    core::{
        image::{Digest, Tag},
        secret::Secret,
    },
    io::registry::{RegistryLogin, RegistryProblem, RegistryTimeouts, RequestKind},
};

fn user() -> RegistryLogin {
    RegistryLogin::Basic {
        username: "robot".into(),
        password: Secret::new("hunter2").into(),
    }
}

fn basic(pair: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

/// A registry and its token service on one port: tokens are `token-1`, `token-2`, …, and only the
/// latest is accepted.
async fn token_registry(answer: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Wire {
    let issued = Arc::new(AtomicUsize::new(0));
    Wire::start(move |seen, _| {
        if seen.path() == "/token" {
            return answer(seen, issued.fetch_add(1, Ordering::SeqCst) + 1);
        }
        if seen.header("authorization") == format!("Bearer token-{}", issued.load(Ordering::SeqCst)) {
            return tags(["1"]);
        }
        let path = seen.path().trim_start_matches("/v2/").trim_end_matches("/tags/list");
        let challenge = format!(
            r#"Bearer realm="http://{}/token",service="the registry",scope="repository:{path}:metadata_read""#,
            seen.header("host")
        );
        reply(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#).with("WWW-Authenticate", challenge)
    })
    .await
}

fn token(n: usize, seconds: u32) -> Reply {
    reply(
        200,
        format!(r#"{{"token":"token-{n}","expires_in":{seconds}}}"#),
    )
}

#[tokio::test]
async fn anonymous_token_is_fetched_once_per_scope() {
    let wire = token_registry(|_, n| token(n, 300)).await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    for _ in 0..3 {
        registries
            .list_tags(&wire.repository(), None)
            .await
            .unwrap();
    }
    assert_eq!(
        wire.targets()[..3],
        [
            "/v2/team/app/tags/list?n=1000",
            "/token?service=the+registry&scope=repository%3Ateam%2Fapp%3Ametadata_read",
            "/v2/team/app/tags/list?n=1000"
        ]
    );
    let stats = registries.stats();
    let counts = [
        RequestKind::Challenge,
        RequestKind::Token,
        RequestKind::Tags,
    ]
    .map(|kind| stats.total(kind));
    assert_eq!((counts, stats.all()), ([1, 1, 3], 5));
    assert!(
        !wire.seen()[1].headers.contains_key("authorization"),
        "anonymous has no password"
    );
    // The next repository of the host causes no new challenge: its token is fetched first.
    let other =
        tagboat::core::image::ImageRepository::new(&format!("{}/team/other", wire.host)).unwrap();
    registries.list_tags(&other, None).await.unwrap();
    assert_eq!(
        wire.targets()[5],
        "/token?service=the+registry&scope=repository%3Ateam%2Fother%3Ametadata_read"
    );
    assert_eq!(registries.stats().total(RequestKind::Challenge), 1);
}

#[tokio::test]
async fn token_is_renewed_early_and_when_refused() {
    let wire = token_registry(|_, n| token(n, 1)).await;
    let registries = wire.registries(user());
    registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap();
    let got = Instant::now();
    // It is renewed after three quarters of its second.
    tokio::time::sleep(Duration::from_millis(800)).await;
    registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap();
    assert!(got.elapsed() >= Duration::from_millis(800));
    assert_eq!(
        (
            registries.stats().total(RequestKind::Token),
            registries.stats().total(RequestKind::Challenge)
        ),
        (2, 1)
    );
    assert_eq!(
        wire.seen()[1].header("authorization"),
        basic("robot:hunter2")
    );

    let revoking = token_registry(|_, n| token(n, 3600)).await;
    let (one, other) = (revoking.registries(user()), revoking.registries(user()));
    one.list_tags(&revoking.repository(), None).await.unwrap();
    other.list_tags(&revoking.repository(), None).await.unwrap();
    one.list_tags(&revoking.repository(), None)
        .await
        .expect("the token of `one` was replaced by that of `other`");
    assert_eq!(one.stats().total(RequestKind::Token), 2);
}

#[tokio::test]
async fn concurrent_requests_share_one_token() {
    let wire = token_registry(|_, n| token(n, 300)).await;
    let registries = wire.registries(user());
    let repository = wire.repository();
    registries.list_tags(&repository, None).await.unwrap();
    let all =
        futures::future::join_all((0..10).map(|_| registries.list_tags(&repository, None))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(registries.stats().total(RequestKind::Token), 1);
}

#[tokio::test]
async fn token_endpoint_uses_post_where_needed() {
    let wire = token_registry(|seen, n| match seen.method.as_str() {
        "POST"
            if seen
                .body
                .contains("grant_type=refresh_token&refresh_token=s%26cret") =>
        {
            reply(200, format!(r#"{{"access_token":"token-{n}"}}"#))
        }
        _ => reply(400, r#"{"error":"invalid_grant"}"#),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(
        &path,
        serde_json::json!({"auths": {&wire.host: {"identitytoken": "s&cret"}}}).to_string(),
    )
    .unwrap();
    wire.registries(RegistryLogin::DockerConfig { path })
        .list_tags(&wire.repository(), None)
        .await
        .unwrap();
    let body = &wire.seen()[1].body;
    assert!(
        body.contains("client_id=tagboat")
            && body.contains("scope=repository%3Ateam%2Fapp%3Ametadata_read"),
        "{body}"
    );

    // `n` counts the refused GET, too.
    let no_get = token_registry(|seen, n| match seen.method.as_str() {
        "POST"
            if seen
                .body
                .contains("grant_type=password&username=robot&password=hunter2") =>
        {
            token(n, 60)
        }
        _ => reply(405, ""),
    })
    .await;
    no_get
        .registries(user())
        .list_tags(&no_get.repository(), None)
        .await
        .unwrap();
}

#[tokio::test]
async fn refusal_names_credential_source_not_secret() {
    for (name, answer, expected) in [
        (
            "token service",
            reply(401, r#"{"details":"incorrect password"}"#),
            r#"with user "robot": "incorrect password""#,
        ),
        ("no token", reply(200, r#"{"token":""}"#), "no token in it"),
        (
            "html",
            reply(200, "<html>hunter2"),
            "HTML instead of a token",
        ),
        ("not json", reply(200, "hunter2"), "no JSON with a token"),
        (
            "header injection",
            reply(200, "{\"token\":\"a\\r\\nX: y\"}"),
            "characters that no header may have",
        ),
        (
            "elsewhere",
            reply(302, "").with("Location", "http://192.0.2.1/"),
            "answered 302 to a token request",
        ),
        (
            "useless token",
            reply(200, r#"{"token":"wrong"}"#),
            r#"(401) with user "robot": "UNAUTHORIZED""#,
        ),
        (
            "huge",
            reply(200, vec![b'x'; 300_000]),
            "more than 262144 bytes",
        ),
    ] {
        let wire = token_registry(move |_, _| answer.clone()).await;
        let error = wire
            .registries(user())
            .list_tags(&wire.repository(), None)
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(
            !text.contains("hunter2") && !text.contains("aHVudGVyMg"),
            "{name}: {text}"
        );
        assert!(wire.seen().len() <= 4, "{name}: {:?}", wire.targets());
    }
}

#[tokio::test]
async fn basic_auth_sent_after_the_first_challenge() {
    let wire =
        Wire::start(
            |seen, _| match seen.header("authorization") == basic("robot:hunter2") {
                true => tags(["1"]),
                false => reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
            },
        )
        .await;
    let registries = wire.registries(user());
    for _ in 0..2 {
        registries
            .list_tags(&wire.repository(), None)
            .await
            .unwrap();
    }
    assert_eq!(wire.seen().len(), 3);
    let error = wire
        .registries(RegistryLogin::Anonymous)
        .list_tags(&wire.repository(), None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("refused (401) with no credentials"),
        "{error}"
    );
    let wrong = RegistryLogin::Basic {
        username: "robot".into(),
        password: Secret::new("wrong").into(),
    };
    let before = wire.seen().len();
    let error = wire
        .registries(wrong)
        .list_tags(&wire.repository(), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(r#"with user "robot""#),
        "{error}"
    );
    assert_eq!(
        wire.seen().len() - before,
        2,
        "a wrong password is not retried"
    );
}

#[tokio::test]
async fn rotated_secret_is_read_when_old_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old\n").unwrap();
    let good = Arc::new(std::sync::Mutex::new("old"));
    let taken = good.clone();
    let wire = Wire::start(move |seen, _| {
        match seen.header("authorization") == format!("Bearer {}", taken.lock().unwrap()) {
            true => tags(["1"]),
            false => reply(401, "").with(
                "WWW-Authenticate",
                "Bearer realm=\"http://192.0.2.1/never\"",
            ),
        }
    })
    .await;
    let registries = wire.registries(RegistryLogin::Bearer(
        tagboat::io::registry::SecretLocation::File(path.clone()),
    ));
    registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap();
    *good.lock().unwrap() = "new";
    std::fs::write(&path, "new\n").unwrap();
    registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap();
    std::fs::write(&path, "\n").unwrap();
    *good.lock().unwrap() = "newer";
    let error = registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it is empty"), "{error}");
}

#[tokio::test]
async fn redirect_to_another_host_gets_no_credentials() {
    let body = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{}"}}}}"#,
        sha256(b"{}")
    );
    let digest = sha256(body.as_bytes());
    let storage = Wire::start(move |seen, _| {
        reply(
            200,
            if seen.path().starts_with("/blob") {
                "{}".to_owned()
            } else {
                body.clone()
            },
        )
    })
    .await;
    let to = storage.host.clone();
    let wire = Wire::start(move |seen, _| {
        if seen.header("authorization") != basic("robot:hunter2") {
            return reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        }
        let place = if seen.path().contains("/blobs/") {
            "blob"
        } else {
            "manifest"
        };
        reply(307, "").with("Location", format!("http://{to}/{place}?signature=x"))
    })
    .await;
    let registries = wire.registries(user());
    let description = registries
        .describe(&wire.repository(), &digest)
        .await
        .unwrap();
    assert!(description.platforms.is_empty());
    assert_eq!(
        storage.targets(),
        ["/manifest?signature=x", "/blob?signature=x"]
    );
    // The list is asked for there, too; what comes is none.
    let error = registries
        .list_tags(&wire.repository(), None)
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem, RegistryProblem::Content { .. }),
        "{error}"
    );
    assert_eq!(storage.seen().len(), 3);
    assert!(
        storage
            .seen()
            .iter()
            .all(|seen| !seen.headers.contains_key("authorization"))
    );
}

#[tokio::test]
async fn head_request_follows_redirect() {
    let digest = sha256(b"{}");
    let answer = digest.clone();
    let storage =
        Wire::start(move |_, _| reply(200, "").with("Docker-Content-Digest", &answer)).await;
    let to = storage.host.clone();
    let wire =
        Wire::start(move |_, _| reply(302, "").with("Location", format!("http://{to}/m"))).await;
    let found = wire
        .registries(user())
        .digest(&wire.repository(), &Tag::new("1").unwrap())
        .await
        .unwrap();
    assert_eq!((found, storage.seen()[0].method.as_str()), (digest, "HEAD"));
}

fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Digest::new(format!("sha256:{hex}")).unwrap()
}

/// A credential helper that is a shell script.
fn helper(folder: &Path, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("docker-credential-test");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn credential_helper_runs_once_per_host() {
    let wire =
        Wire::start(
            |seen, _| match seen.header("authorization") == basic("robot:hunter2") {
                true => tags(["1"]),
                false => reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
            },
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked");
    let script = format!(
        r#"[ "$1" = get ] && cat >> '{0}' && echo >> '{0}' && echo '{{"ServerURL":"x","Username":"robot","Secret":"hunter2"}}'"#,
        asked.display()
    );
    let program = helper(folder.path(), &script).display().to_string();
    let config_file = folder.path().join("config.json");
    std::fs::write(
        &config_file,
        serde_json::json!({"credHelpers": {&wire.host: program.clone()}}).to_string(),
    )
    .unwrap();
    for credentials in [
        RegistryLogin::Helper { program },
        RegistryLogin::DockerConfig { path: config_file },
    ] {
        let _ = std::fs::remove_file(&asked);
        let registries = wire.registries(credentials);
        for _ in 0..3 {
            registries
                .list_tags(&wire.repository(), None)
                .await
                .unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(&asked).unwrap(),
            format!("{}\n", wire.host)
        );
    }
}

#[tokio::test]
async fn credential_helper_faults_are_named() {
    let wire =
        Wire::start(|_, _| reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let short = RegistryTimeouts {
        helper: Duration::from_secs(2),
        ..timing()
    };
    for (script, expected) in [
        (
            "exec sleep 60",
            "gave no answer within 2000 ms and was stopped",
        ),
        (
            "echo 'no way'; exit 1",
            r#"failed (exit status: 1): "no way""#,
        ),
        (
            "echo 'hunter2 is not JSON'",
            "its answer is not the JSON of a credential",
        ),
        (
            "exec head -c 200000 /dev/zero",
            "said more than 65536 bytes",
        ),
        (
            "echo 'credentials not found in native keychain'; exit 1",
            "refused (401) with credential helper",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let program = helper(folder.path(), script).display().to_string();
        let registries = registries_with(
            vec![config(&wire.host, RegistryLogin::Helper { program })],
            short,
        );
        let begun = Instant::now();
        let error = registries
            .list_tags(&wire.repository(), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{script}");
    }
    let nowhere = RegistryLogin::Helper {
        program: "no-such-helper-anywhere".into(),
    };
    let error = wire
        .registries(nowhere)
        .list_tags(&wire.repository(), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(
            r#"credential helper "docker-credential-no-such-helper-anywhere": cannot be started"#
        ),
        "{error}"
    );
}

#[tokio::test]
async fn hostile_challenge_is_not_followed() {
    for (challenge, expected) in [
        ("Bearer realm=\"ftp://127.0.0.1/\"", "scheme \"ftp\""),
        ("Negotiate", "unknown scheme"),
        (
            "Bearer realm=\"http://u:p@127.0.0.1/\"",
            "carries credentials",
        ),
    ] {
        let wire =
            Wire::start(move |_, _| reply(401, "").with("WWW-Authenticate", challenge)).await;
        let error = wire
            .registries(user())
            .list_tags(&wire.repository(), None)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(wire.seen().len(), 1);
    }
}

#[tokio::test]
async fn credentials_of_the_longest_prefix_are_used() {
    let wire = Wire::start(|seen, _| match seen.header("authorization") {
        "" => reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        who => tags([if who == basic("team:x") {
            "team"
        } else {
            "host"
        }]),
    })
    .await;
    let as_user = |name: &str| RegistryLogin::Basic {
        username: name.into(),
        password: Secret::new("x").into(),
    };
    let registries = registries(vec![
        config(&wire.host, as_user("host")),
        config(&format!("{}/team", wire.host), as_user("team")),
    ]);
    for (path, expected) in [("team/app", "team"), ("teams/app", "host")] {
        let repository =
            tagboat::core::image::ImageRepository::new(&format!("{}/{path}", wire.host)).unwrap();
        let tagboat::io::registry::Tags::Listed(listing) =
            registries.list_tags(&repository, None).await.unwrap()
        else {
            panic!("a list")
        };
        assert_eq!(listing.tags.iter().collect::<Vec<_>>(), [expected]);
    }
}
