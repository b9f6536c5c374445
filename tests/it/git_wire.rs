//! Git servers with malformed, partial, late or redirected responses.

use super::git_support::{Sandbox, draft, edit, mirror, provider, runtime};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt as _;
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};
use tagboat::{
    core::{
        error::{Classify, ErrorKind},
        secret::Secret,
    },
    io::git::{
        GitError, GitTimeout, ObjectId, PushOutcome, RefUpdate, RemoteAccess, RemoteCredentials,
    },
};

/// Serves `answer` for every request; returns the URL.
fn serve<F, R>(runtime: &tokio::runtime::Runtime, answer: F) -> String
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response> + Send + 'static,
{
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        format!("http://{address}")
    })
}

/// gix-protocol 0.68 panics where a symbolic reference is not among the references.
#[test]
fn panic_of_the_git_library_is_an_error() {
    provider();
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    for service in ["git-upload-pack", "git-receive-pack"] {
        let (id, other) = ("1".repeat(40), "2".repeat(40));
        let body = [
            line(&format!("# service={service}\n")),
            "0000".to_owned(),
            line(&format!(
                "{id} refs/heads/main\0symref=HEAD:refs/heads/main report-status\n"
            )),
            line(&format!("{other} refs/tags/v1\n")),
            "0000".to_owned(),
        ]
        .concat();
        let kind = format!("application/x-{service}-advertisement");
        let url = serve(&runtime, move |_| {
            let (kind, body) = (kind.clone(), body.clone());
            async move { ([(header::CONTENT_TYPE, kind)], body).into_response() }
        });
        let mirror = mirror(&dir.path().join(service), &url, RemoteAccess::default());
        let error = match service {
            "git-upload-pack" => mirror.fetch().unwrap_err(),
            _ => {
                let update = RefUpdate {
                    reference: "refs/heads/main".to_owned(),
                    old: None,
                    new: Some(ObjectId::from_hex(other.as_bytes()).unwrap()),
                };
                mirror.push_references(None, &[update]).unwrap_err()
            }
        };
        assert_eq!(error.kind(), ErrorKind::Remote);
        assert!(error.to_string().contains("panicked"), "{service}: {error}");
    }
}

#[test]
fn malformed_response_names_the_remote() {
    provider();
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let advertisement = [(
        header::CONTENT_TYPE,
        "application/x-git-upload-pack-advertisement",
    )];
    let html = (
        StatusCode::OK,
        [(header::CONTENT_TYPE, "text/html")],
        "<html>sign in</html>",
    )
        .into_response();
    let mut answers: Vec<(&str, Response, &str)> = vec![
        ("html", html, "not Git's"),
        ("404", StatusCode::NOT_FOUND.into_response(), "404"),
        ("403", StatusCode::FORBIDDEN.into_response(), "403"),
        (
            "500",
            StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            "500",
        ),
        (
            "empty",
            (advertisement.clone(), "").into_response(),
            "cannot fetch",
        ),
        (
            "cut",
            (advertisement.clone(), "001e# service=git-upl").into_response(),
            "cannot fetch",
        ),
        (
            "garbage",
            (advertisement.clone(), "zzzz\u{1b}[31m").into_response(),
            "cannot fetch",
        ),
        (
            "error",
            (advertisement, "0011ERR no \u{1b}[3m").into_response(),
            "cannot fetch",
        ),
    ];
    for (name, answer, expected) in answers.drain(..) {
        let answer = Arc::new(Mutex::new(Some(answer)));
        let url = serve(&runtime, move |_| {
            let answer = answer.lock().unwrap().take();
            async move { answer.unwrap_or_else(|| StatusCode::GONE.into_response()) }
        });
        let error = mirror(
            &dir.path().join(name),
            &format!("{url}/fleet.git"),
            RemoteAccess::default(),
        )
        .fetch()
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected) && text.contains(&url),
            "{name}: {text}"
        );
        assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
        assert_eq!(error.kind(), ErrorKind::Remote, "{name}");
    }
}

#[test]
fn silent_server_times_out() {
    provider();
    let runtime = runtime();
    let dir = tempfile::tempdir().unwrap();
    let url = serve(&runtime, |_| async { std::future::pending().await });
    let access = RemoteAccess {
        timeout: GitTimeout(Duration::from_millis(300)),
        ..RemoteAccess::default()
    };
    let begun = std::time::Instant::now();
    let error = mirror(&dir.path().join("m"), &url, access)
        .fetch()
        .unwrap_err();
    assert!(matches!(error, GitError::Wire { .. }), "{error}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}

/// A redirect to a host that the settings allow is followed, without what the other host must not
/// see; any other one reaches nothing.
#[test]
fn redirect_goes_to_allowed_hosts_only() {
    let secret = Secret::new("s3cret");
    let elsewhere = Sandbox::new(&[("a", "x")]);
    let seen = Arc::new(Mutex::new(Vec::<HeaderMap>::new()));
    let target = {
        let (seen, url) = (seen.clone(), elsewhere.server.url());
        let base = url.rsplit_once('/').unwrap().0.to_owned();
        serve(&elsewhere.runtime, move |request: Request| {
            seen.lock().unwrap().push(request.headers().clone());
            forward(base.clone(), request, false)
        })
    };
    let host = target["http://".len()..].to_owned();
    let front = serve(&elsewhere.runtime, move |request: Request| {
        let to = format!("{target}{}", request.uri());
        async move { (StatusCode::FOUND, [(header::LOCATION, to)]).into_response() }
    });
    let credentials = RemoteCredentials::Basic {
        username: "bot".into(),
        secret,
    };
    let with = |name: &str, allow_redirects_to: Vec<String>| {
        let access = RemoteAccess {
            credentials: credentials.clone(),
            allow_redirects_to,
            ..RemoteAccess::default()
        };
        let folder = elsewhere.dir.path().join(name);
        mirror(&folder, &format!("{front}/fleet.git"), access)
    };
    let error = with("wary", Vec::new()).fetch().unwrap_err();
    assert!(
        matches!(&error, GitError::Redirected { to, .. } if *to == host),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("allowRedirectsTo"));
    assert!(seen.lock().unwrap().is_empty(), "nothing was sent there");
    with("trusting", vec![host]).fetch().unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2, "the redirect was not followed");
    for secret in [header::AUTHORIZATION, header::REFERER] {
        assert!(seen.iter().all(|headers| !headers.contains_key(&secret)));
    }
}

/// Packet lines of Git's protocol.
fn packets(lines: &[&str]) -> String {
    let line = |line: &&str| format!("{:04x}{line}", line.len() + 4);
    lines.iter().map(line).collect()
}

/// A body that repeats a piece for ever, with a pause.
fn endless(piece: String, pause: Duration) -> Body {
    let bytes = Bytes::from(piece);
    Body::from_stream(futures::stream::unfold((), move |()| {
        let bytes = bytes.clone();
        async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, std::io::Error>(bytes), ()))
        }
    }))
}

#[test]
fn endless_listing_is_refused_alone() {
    let sandbox = Sandbox::new(&[("a", "x")]);
    let announced = packets(&["# service=git-upload-pack\n"])
        + "0000"
        + &packets(&["version 2\n", "ls-refs\n", "fetch=shallow\n"])
        + "0000";
    let reference = format!("{} refs/heads/x\n", "a".repeat(40));
    let listing = |body: Body, kind: &str| {
        let kind = format!("application/x-git-upload-pack-{kind}");
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    };
    let slow = Duration::from_millis(50);
    let none = Duration::ZERO;
    for (name, capabilities, references, expected) in [
        (
            "references",
            None,
            Some((packets(&[&reference]).repeat(1000), none)),
            "more than 16 MiB",
        ),
        (
            "capabilities",
            Some((packets(&["x=y\n"]).repeat(1000), none)),
            None,
            "more than 16 MiB",
        ),
        (
            "slow references",
            None,
            Some((packets(&[&reference]), slow)),
            "references for longer than",
        ),
        (
            "slow capabilities",
            Some((packets(&["x=y\n"]), slow)),
            None,
            "references for longer than",
        ),
    ] {
        let announced = announced.clone();
        let url = serve(&sandbox.runtime, move |request: Request| {
            let response = match (request.method().as_str(), &capabilities, &references) {
                ("GET", Some((piece, pause)), _) => {
                    let start = packets(&["# service=git-upload-pack\n"])
                        + "0000"
                        + &packets(&["version 2\n"]);
                    let start =
                        futures::stream::once(async { Ok::<_, axum::Error>(Bytes::from(start)) });
                    let rest = endless(piece.clone(), *pause).into_data_stream();
                    listing(Body::from_stream(start.chain(rest)), "advertisement")
                }
                ("GET", ..) => listing(Body::from(announced.clone()), "advertisement"),
                (_, _, Some((piece, pause))) => listing(endless(piece.clone(), *pause), "result"),
                _ => StatusCode::GONE.into_response(),
            };
            async move { response }
        });
        let access = RemoteAccess {
            timeout: GitTimeout(Duration::from_secs(1)),
            ..RemoteAccess::default()
        };
        let hostile = mirror(
            &sandbox.dir.path().join(name),
            &format!("{url}/fleet.git"),
            access,
        );
        let begun = std::time::Instant::now();
        let (error, honest) = std::thread::scope(|scope| {
            let hostile = scope.spawn(|| hostile.fetch().unwrap_err());
            let honest = sandbox.mirror(&format!("{name} honest")).fetch();
            (hostile.join().unwrap(), honest)
        });
        assert!(
            matches!(error, GitError::Wire { .. }) && error.to_string().contains(expected),
            "{name}: {error}"
        );
        assert!(honest.unwrap().changed, "{name}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name}");
    }
}

#[test]
fn push_with_lost_response_is_found_by_fetch() {
    let sandbox = Sandbox::new(&[("a", "x")]);
    let base = sandbox.server.url().rsplit_once('/').unwrap().0.to_owned();
    let url = serve(&sandbox.runtime, move |request: Request| {
        let cut = request.uri().path().ends_with("/git-receive-pack");
        forward(base.clone(), request, cut)
    });
    let mirror = mirror(
        &sandbox.dir.path().join("m"),
        &format!("{url}/fleet.git"),
        RemoteAccess::default(),
    );
    let head = mirror.fetch().unwrap();
    let made = draft(&mirror, head, &[edit("a", "y")], "y").unwrap();
    let error = mirror.push(&made).unwrap_err();
    assert!(
        matches!(error, GitError::Unanswered { .. }) && error.kind() == ErrorKind::Conflict,
        "{error}"
    );
    let after = mirror.fetch().unwrap();
    assert!(mirror.contains(after.commit, made.commit).unwrap());
    assert!(
        matches!(mirror.push(&made).unwrap(), PushOutcome::Rejected(_)),
        "never twice"
    );
}

/// Terminates TLS in front of an address, with a certificate of a new CA; returns the port and the
/// CA as PEM.
fn terminate(runtime: &tokio::runtime::Runtime, to: String) -> (u16, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pem = params.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up here.
                let Ok(mut client) = acceptor.accept(stream).await else {
                    return;
                };
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, pem)
}

#[test]
fn certificate_needs_its_ca() {
    let password = Secret::new("s3cret");
    let sandbox = Sandbox::with_account(&[("a", "x")], Some(("bot", &password)));
    let address = sandbox.server.url()["http://".len()..]
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    let (port, pem) = terminate(&sandbox.runtime, address);
    let file = |name: &str, text: &str| {
        let path = sandbox.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let url = format!("https://localhost:{port}/fleet.git");
    let credentials = RemoteCredentials::Basic {
        username: "bot".into(),
        secret: password,
    };
    let with = |name: &str, ca_file| {
        let access = RemoteAccess {
            ca_file,
            credentials: credentials.clone(),
            ..RemoteAccess::default()
        };
        mirror(&sandbox.dir.path().join(name), &url, access)
    };
    let trusting = with("trusting", Some(file("ca.pem", &pem)));
    let head = trusting.fetch().unwrap();
    let made = draft(&trusting, head, &[edit("a", "y")], "y").unwrap();
    assert_eq!(trusting.push(&made).unwrap(), PushOutcome::Done);

    let error = with("wary", None).fetch().unwrap_err();
    assert!(
        matches!(error, GitError::Wire { .. })
            && error.to_string().to_lowercase().contains("certificate"),
        "{error}"
    );
    for (name, path) in [
        ("empty", file("empty.pem", "")),
        ("missing", "/nowhere/ca.pem".into()),
    ] {
        let error = with(name, Some(path.clone())).fetch().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn proxy_is_used_where_configured() {
    let sandbox = Sandbox::new(&[("a", "x")]);
    let base = sandbox.server.url().rsplit_once('/').unwrap().0.to_owned();
    let proxy = serve(&sandbox.runtime, move |mut request: Request| {
        // A proxy receives whole URLs.
        assert_eq!(request.uri().host(), Some("git.invalid"));
        *request.uri_mut() = request
            .uri()
            .path_and_query()
            .unwrap()
            .as_str()
            .parse()
            .unwrap();
        forward(base.clone(), request, false)
    });
    let access = RemoteAccess {
        proxy: Some(proxy),
        ..RemoteAccess::default()
    };
    assert!(
        mirror(
            &sandbox.dir.path().join("m"),
            "http://git.invalid/fleet.git",
            access
        )
        .fetch()
        .unwrap()
        .changed
    );
}

/// Forwards a request; with `cut`, only the first bytes of the response come back.
async fn forward(base: String, request: Request, cut: bool) -> Response {
    let (parts, body) = request.into_parts();
    let body: Bytes = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut forwarded = client
        .request(parts.method, format!("{base}{}", parts.uri))
        .body(body);
    for name in ["content-type", "git-protocol", "content-encoding"] {
        if let Some(value) = parts.headers.get(name) {
            forwarded = forwarded.header(name, value);
        }
    }
    let answer = forwarded.send().await.unwrap();
    let (status, kind) = (
        answer.status(),
        answer.headers()[header::CONTENT_TYPE].clone(),
    );
    let bytes = answer.bytes().await.unwrap();
    let bytes = if cut {
        bytes.slice(..bytes.len().min(20))
    } else {
        bytes
    };
    (status, [(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response()
}
