//! Tag lists on other hosts, with links that are wrong, and hosts that ask for patience.

use super::registry_faults::{list, list_with, names, query};
use crate::it::support::wire::{Wire, config, registries_with, reply, tags, timing};
use std::{
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};
use tagboat::{
    core::{error::Classify, image::ImageRepository, secret::Secret},
    io::registry::{RegistryConfig, RegistryLogin, RegistryProblem, RegistryTimeouts},
};

/// registry.k8s.io answers 307 to another host, drops the query and adds its own.
#[tokio::test]
async fn tag_list_on_another_host_is_read_anonymously() {
    let backend = Wire::start(|seen, _| {
        assert_eq!(seen.header("authorization"), "");
        assert_eq!(seen.path(), "/v2/images/app/tags/list");
        match query(seen, "last") {
            None => tags(["1", "2"]).with(
                "Link",
                r#"</v2/other/secret/tags/list?n=2&last=2>; rel="next""#,
            ),
            Some(_) => tags(["3"]),
        }
    })
    .await;
    let place = format!("http://{}/v2/images/app/tags/list?rid=7", backend.host);
    let wire = Wire::start(move |seen, _| match seen.header("authorization") {
        "" => reply(401, "").with("WWW-Authenticate", "Basic realm=\"x\""),
        _ => reply(307, "").with("Location", &place),
    })
    .await;
    let registries = wire.registries(RegistryLogin::Basic {
        username: "user".into(),
        password: Secret::new("hunter2").into(),
    });
    let listing = list_with(&wire, &registries).await.unwrap();
    assert_eq!(names(&listing), ["1", "2", "3"]);
    assert_eq!(
        backend.targets(),
        [
            "/v2/images/app/tags/list?rid=7",
            "/v2/images/app/tags/list?n=2&last=2"
        ]
    );
    assert_eq!(
        wire.seen().len(),
        2,
        "the further page is asked for where the first one is"
    );
}

/// A full page without a link is continued where the redirect led.
#[tokio::test]
async fn tag_list_on_another_host_is_continued_there() {
    let all: Vec<String> = (0..1500).map(|n| format!("{n:04}")).collect();
    let paged = all.clone();
    let backend = Wire::start(move |seen, _| {
        let last = query(seen, "last").unwrap_or_default();
        tags(
            paged
                .iter()
                .map(String::as_str)
                .filter(|tag| *tag > last)
                .take(1000),
        )
    })
    .await;
    let place = format!("http://{}/l", backend.host);
    let wire = Wire::start(move |_, _| reply(307, "").with("Location", &place)).await;
    assert_eq!(names(&list(&wire).await.unwrap()), all);
    assert_eq!(wire.seen().len(), 1);
}

/// Whatever a link names, the next page is one of the same repository.
#[tokio::test]
async fn tag_link_never_leads_to_another_repository() {
    for target in [
        "/v2/app/tags/list?last=1",
        "/v2/other/secret/tags/list?last=1",
        "http://inner.example:8081/repository/docker/v2/app/tags/list?last=1",
        "https://192.0.2.1/v2/other/secret/tags/list?last=1",
        "//192.0.2.1/v2/team/app/tags/list?last=1",
        "http://[?last=1",
    ] {
        let wire = Wire::start(move |seen, _| match (seen.path(), query(seen, "last")) {
            ("/v2/team/app/tags/list", None) => {
                tags(["1"]).with("Link", format!("<{target}>; rel=\"next\""))
            }
            ("/v2/team/app/tags/list", Some("1")) => tags(["2"]),
            _ => tags(["secret"]),
        })
        .await;
        assert_eq!(names(&list(&wire).await.unwrap()), ["1", "2"], "{target}");
    }
}

#[tokio::test]
async fn retry_after_short_is_waited_out() {
    let patient = RegistryTimeouts {
        retry_after: Duration::from_secs(60),
        ..timing()
    };
    let limited = |wait: u64| {
        move |_: &crate::it::support::wire::Seen, n| match n {
            0 => reply(429, "").with("Retry-After", wait),
            _ => tags(["1"]),
        }
    };
    let short = Wire::start(limited(1)).await;
    let config = |wire: &Wire| vec![config(&wire.host, RegistryLogin::Anonymous)];
    let registries = registries_with(config(&short), patient);
    let begun = Instant::now();
    assert_eq!(names(&list_with(&short, &registries).await.unwrap()), ["1"]);
    assert!(begun.elapsed() >= Duration::from_millis(900));
    let long = Wire::start(limited(61)).await;
    let registries = registries_with(config(&long), patient);
    let error = list_with(&long, &registries).await.unwrap_err();
    assert!(
        matches!(error.problem, RegistryProblem::Throttled { .. }),
        "{error}"
    );
    let daemon = Wire::start(limited(1)).await;
    let error = list(&daemon).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn plain_http_server_is_named_as_such() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent a TLS hello");
        }
    });
    let secure = RegistryConfig {
        insecure: false,
        ..config(&host, RegistryLogin::Anonymous)
    };
    let registries = registries_with(vec![secure], timing());
    let repository = ImageRepository::new(&format!("{host}/team/app")).unwrap();
    let error = registries.list_tags(&repository, None).await.unwrap_err();
    assert!(
        error.to_string().contains("it answers in plain HTTP"),
        "{error}"
    );
    assert!(
        error.hint().unwrap().contains("`insecure: true`"),
        "{error:?}"
    );
    drop(server);
}
