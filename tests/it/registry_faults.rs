//! Registries with pages, rate limits, cut or slow responses, redirects and wrong content.

use crate::it::support::wire::{
    Manner, Reply, Seen, Wire, config, registries_with, reply, tags, timing,
};
use std::time::{Duration, Instant};
use tagboat::{
    core::{
        error::Classify,
        image::{Digest, ImageRepository, Tag},
    },
    io::{
        http::HttpTimeouts,
        registry::{
            Listing, Registries, RegistryError, RegistryLogin, RegistryProblem, RegistryTimeouts,
            RequestKind, Tags, Validator,
        },
    },
};

pub(super) async fn list(wire: &Wire) -> Result<Listing, RegistryError> {
    list_with(wire, &wire.registries(RegistryLogin::Anonymous)).await
}

pub(super) async fn list_with(
    wire: &Wire,
    registries: &Registries,
) -> Result<Listing, RegistryError> {
    match registries.list_tags(&wire.repository(), None).await? {
        Tags::Listed(listing) => Ok(listing),
        Tags::NotModified => panic!("304 to an unconditional request"),
    }
}

pub(super) fn names(listing: &Listing) -> Vec<&str> {
    listing.tags.iter().collect()
}

pub(super) fn query<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    seen.target
        .split_once('?')?
        .1
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

#[tokio::test]
async fn tag_pages_are_followed_to_the_last() {
    let wire = Wire::start(|seen, _| match query(seen, "last") {
        None => tags(["1", "2"])
            .with("Link", r#"</v2/team/app/tags/list?n=2&last=2>; rel="next""#)
            .with("ETag", "\"page-1\""),
        Some("2") => tags(["3", "4"]).with("Link", r#"<?n=2&last=4>; rel=next"#),
        Some(_) => tags(["5"]),
    })
    .await;
    let listing = list(&wire).await.unwrap();
    assert_eq!(names(&listing), ["1", "2", "3", "4", "5"]);
    assert_eq!(
        listing.validator, None,
        "an ETag of the first page says nothing about the others"
    );
    assert_eq!(
        wire.targets(),
        [
            "/v2/team/app/tags/list?n=1000",
            "/v2/team/app/tags/list?n=2&last=2",
            "/v2/team/app/tags/list?n=2&last=4"
        ]
    );
}

#[tokio::test]
async fn tag_page_size_refused_is_reduced_and_kept() {
    let wire = Wire::start(|seen, _| match query(seen, "n") {
        Some("1000") => reply(400, r#"{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}"#),
        _ => tags(["1"]),
    })
    .await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    for _ in 0..2 {
        assert_eq!(names(&list_with(&wire, &registries).await.unwrap()), ["1"]);
    }
    let list = "/v2/team/app/tags/list";
    assert_eq!(
        wire.targets(),
        [
            format!("{list}?n=1000"),
            format!("{list}?n=100"),
            format!("{list}?n=100")
        ]
    );
}

#[tokio::test]
async fn tag_page_full_without_link_is_continued() {
    let all: Vec<String> = (0..1500).map(|n| format!("{n:04}")).collect();
    let (whole, paged) = (all.clone(), all.clone());
    let forgets_links = Wire::start(move |seen, _| match query(seen, "last") {
        None => tags(paged[..1000].iter().map(String::as_str)),
        Some(last) => tags(
            paged
                .iter()
                .map(String::as_str)
                .filter(|tag| *tag > last)
                .take(1000),
        ),
    })
    .await;
    assert_eq!(names(&list(&forgets_links).await.unwrap()), all);
    let knows_no_pages =
        Wire::start(move |_, _| tags(whole[..1000].iter().map(String::as_str))).await;
    assert_eq!(names(&list(&knows_no_pages).await.unwrap()), all[..1000]);
    // Also a page of one tag, from which links would have been learnt.
    assert_eq!(knows_no_pages.seen().len(), 3);
}

/// Where a list is known to name its next page in a link, a full page without one is the last.
#[tokio::test]
async fn tag_page_full_at_the_end_costs_one_request() {
    let all: Vec<String> = (0..1000).map(|n| format!("{n:04}")).collect();
    let listed = all.clone();
    let wire = Wire::start(move |seen, _| {
        let size: usize = query(seen, "n").unwrap().parse().unwrap();
        let last = query(seen, "last").unwrap_or_default();
        let names = listed.iter().map(String::as_str);
        let rest: Vec<&str> = names.filter(|tag| *tag > last).collect();
        let page = tags(rest.iter().take(size).copied());
        match rest.get(size) {
            Some(_) => page.with(
                "Link",
                format!(
                    "</v2/app/tags/list?n={size}&last={}>; rel=\"next\"",
                    rest[size - 1]
                ),
            ),
            None => page,
        }
    })
    .await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    // At first the next page, and one of one tag; then the list alone.
    for requests in [3, 4, 5] {
        assert_eq!(names(&list_with(&wire, &registries).await.unwrap()), all);
        assert_eq!(wire.seen().len(), requests);
    }
}

/// A list without links is continued in every scan, also when its last page is full.
#[tokio::test]
async fn tag_page_full_is_always_continued_without_links() {
    let wire = Wire::start(|seen, number| {
        // The tags after the thousandth come between the scans.
        let all: Vec<String> = (0..1000 + number / 3).map(|n| format!("{n:04}")).collect();
        let size: usize = query(seen, "n").unwrap().parse().unwrap();
        let last = query(seen, "last").unwrap_or_default();
        let names = all.iter().map(String::as_str);
        tags(names.filter(|tag| *tag > last).take(size))
    })
    .await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    assert_eq!(
        list_with(&wire, &registries).await.unwrap().tags.len(),
        1000
    );
    assert!(list_with(&wire, &registries).await.unwrap().tags.len() > 1000);
}

#[tokio::test]
async fn tag_list_with_etag_is_conditional() {
    let wire = Wire::start(|seen, _| match seen.header("if-none-match") {
        "\"v1\"" => reply(304, ""),
        _ => tags(["1"]).with("ETag", "\"v1\""),
    })
    .await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    let listing = list_with(&wire, &registries).await.unwrap();
    assert_eq!(listing.validator, Some(Validator("\"v1\"".into())));
    let again = registries
        .list_tags(&wire.repository(), listing.validator.as_ref())
        .await
        .unwrap();
    assert_eq!(again, Tags::NotModified);
    assert_eq!(
        (
            wire.seen().len(),
            registries.stats().total(RequestKind::Tags)
        ),
        (2, 2)
    );
}

/// Every response that is not a complete list is an error that names the repository and the cause.
#[tokio::test]
async fn tag_list_incomplete_is_an_error() {
    let html =
        || reply(200, "<!doctype html><title>Sign in</title>").with("Content-Type", "text/html");
    let next = |to: &str| tags(["1"]).with("Link", format!("<{to}>; rel=\"next\""));
    let on_page_two = |second: Reply| {
        move |seen: &Seen| {
            if seen.target.contains("last") {
                second.clone()
            } else {
                tags(["1"]).with("Link", "<?last=1>; rel=next")
            }
        }
    };
    type Handler = Box<dyn Fn(&Seen) -> Reply + Send + Sync>;
    let always = |reply: Reply| -> Handler { Box::new(move |_| reply.clone()) };
    let cases: Vec<(&str, Handler, &str)> = vec![
        ("html", always(html()), "HTML"),
        (
            "html with 404",
            always(Reply::with(
                reply(404, "<html>"),
                "Content-Type",
                "text/html",
            )),
            "HTML with status 404",
        ),
        (
            "not found",
            always(reply(404, r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#)),
            "no such repository",
        ),
        (
            "denied",
            always(reply(
                403,
                r#"{"errors":[{"code":"DENIED","message":"no \u001b[31m"}]}"#,
            )),
            r#"DENIED: no \u{1b}[31m"#,
        ),
        (
            "cut text",
            always(reply(200, r#"{"tags":["1","#)),
            "ends early",
        ),
        (
            "other json",
            always(reply(200, r#"{"hello":1}"#)),
            "missing field `tags`",
        ),
        ("no content", always(reply(204, "")), "answered 204"),
        ("unasked 304", always(reply(304, "")), "answered 304"),
        ("server error", always(reply(500, "")), "answered 500"),
        (
            "cut body",
            always(tags(["1", "2"]).manner(Manner::Cut(12))),
            "cannot reach",
        ),
        ("page two html", Box::new(on_page_two(html())), "HTML"),
        (
            "page two gone",
            Box::new(on_page_two(reply(404, "{}"))),
            "answered 404 to the next page",
        ),
        (
            "page two cut",
            Box::new(on_page_two(tags(["2"]).manner(Manner::Cut(5)))),
            "cannot reach",
        ),
        (
            "link without a query",
            always(next("/v2/team/app/tags/list")),
            "says no position",
        ),
        (
            "link without an end",
            always(tags(["1"]).with("Link", "<?last=1")),
            "cannot be read",
        ),
        (
            "redirect with credentials",
            always(reply(307, "").with("Location", "http://u:p@192.0.2.1/x")),
            "carries credentials",
        ),
        (
            "redirect to nowhere",
            always(reply(302, "")),
            "the place cannot be read",
        ),
        (
            "redirect in a circle",
            Box::new(|seen| reply(302, "").with("Location", &seen.target)),
            "too many in a row",
        ),
        (
            "said to be huge",
            always(reply(200, "{").with("Content-Length", "99999999999")),
            "more than 33554432 bytes",
        ),
    ];
    for (name, handler, expected) in cases {
        let wire = Wire::start(move |seen, _| handler(seen)).await;
        let error = list(&wire).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(expected), "{name}: {text}");
        assert!(
            text.starts_with(wire.repository().as_str()),
            "{name}: {text}"
        );
        assert!(!text.contains('\u{1b}'), "{name}: {text:?}");
        assert!(
            wire.seen().len() <= 6,
            "{name}: {} requests",
            wire.seen().len()
        );
    }
}

#[tokio::test]
async fn tag_pages_are_bounded() {
    let repeating = Wire::start(|seen, n| {
        tags(["1", "2"]).with("Link", format!("<{}?page={n}>; rel=next", seen.path()))
    })
    .await;
    let error = list(&repeating).await.unwrap_err();
    assert!(
        matches!(error.problem, RegistryProblem::Endless { .. }),
        "{error}"
    );
    assert_eq!(repeating.seen().len(), 2);
    let circling = Wire::start(|_, n| {
        tags([n.to_string().as_str()]).with("Link", format!("<?last={}>; rel=next", n % 3))
    })
    .await;
    let error = list(&circling).await.unwrap_err();
    assert!(
        matches!(error.problem, RegistryProblem::Endless { .. }),
        "{error}"
    );
    assert!(circling.seen().len() < 10);
}

#[tokio::test]
async fn tag_hostile_name_loses_no_other() {
    let wire =
        Wire::start(|_, _| tags(["1.0", "a\nb", "x: y", "#", "\u{1b}[2J", "\"", "1.1"])).await;
    let listing = list(&wire).await.unwrap();
    assert_eq!(names(&listing), ["1.0", "1.1"]);
    assert_eq!(
        (listing.refused.count, listing.refused.names[3].as_str()),
        (5, r#""\u{1b}[2J""#)
    );
}

#[tokio::test]
async fn throttled_host_gets_no_further_request() {
    let wire = Wire::start(|_, _| reply(429, "").with("Retry-After", "120")).await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    let tag = Tag::new("1").unwrap();
    let first = registries.head(&wire.repository(), &tag).await.unwrap_err();
    assert_eq!(first.retry_after(), Some(Duration::from_secs(120)));
    let second = list_with(&wire, &registries).await.unwrap_err();
    assert!(
        matches!(second.problem, RegistryProblem::Throttled { .. }),
        "{second}"
    );
    assert!(second.retry_after().unwrap() > Duration::from_secs(60));
    assert_eq!(
        wire.seen().len(),
        1,
        "a throttled HEAD becomes no GET, and nothing is sent while parked"
    );
    let lane = (wire.host.clone(), "anonymous".to_owned());
    assert!(registries.parked().keys().eq([&lane]));
}

#[tokio::test]
async fn exhausted_budget_parks_the_host() {
    let wire = Wire::start(|_, _| {
        tags(["1"])
            .with("RateLimit-Remaining", "0;w=60")
            .with("RateLimit-Limit", "2;w=60")
    })
    .await;
    let registries = wire.registries(RegistryLogin::Anonymous);
    assert_eq!(
        names(&list_with(&wire, &registries).await.unwrap()),
        ["1"],
        "the answer itself is good"
    );
    let error = list_with(&wire, &registries).await.unwrap_err();
    assert!(
        error.retry_after().unwrap() <= Duration::from_secs(30),
        "{error}"
    );
    assert_eq!(wire.seen().len(), 1);
}

#[tokio::test]
async fn transient_errors_are_retried_within_bounds() {
    let wire = Wire::start(|_, n| match n {
        0 => reply(503, ""),
        1 => tags(["1"]).manner(Manner::Cut(3)),
        _ => tags(["1"]),
    })
    .await;
    assert_eq!(names(&list(&wire).await.unwrap()), ["1"]);
    let broken = Wire::start(|_, _| reply(502, "")).await;
    list(&broken).await.unwrap_err();
    assert_eq!((wire.seen().len(), broken.seen().len()), (3, 3));
}

#[tokio::test]
async fn slow_connection_times_out() {
    let short = RegistryTimeouts {
        http: HttpTimeouts {
            headers: Duration::from_millis(300),
            idle: Duration::from_millis(300),
            body: Duration::from_millis(900),
            attempts: 1,
            ..timing().http
        },
        ..timing()
    };
    for (manner, expected) in [
        (Manner::Silent, "no headers within 300 ms"),
        (Manner::Stall, "no more of the body within 300 ms"),
        (
            Manner::Drip(Duration::from_millis(100)),
            "no whole body within 900 ms",
        ),
    ] {
        let wire = Wire::start(move |_, _| tags(["1", "2", "3"]).manner(manner)).await;
        let registries = registries_with(vec![config(&wire.host, RegistryLogin::Anonymous)], short);
        let begun = Instant::now();
        let error = list_with(&wire, &registries).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{manner:?}");
    }
    let gone = ImageRepository::new("127.0.0.1:1/team/app").unwrap();
    let registries = registries_with(
        vec![config("127.0.0.1:1", RegistryLogin::Anonymous)],
        timing(),
    );
    let error = registries.list_tags(&gone, None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("127.0.0.1:1/team/app: cannot reach 127.0.0.1:1: "),
        "{error}"
    );
}

#[tokio::test]
async fn requests_in_flight_are_bounded() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (flying, peak) = (now.clone(), most.clone());
    let wire = Wire::start(move |_, _| {
        peak.fetch_max(flying.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let flying = flying.clone();
        // The response is sent after at least this long; the count falls just before its end.
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            flying.fetch_sub(1, Ordering::SeqCst);
        });
        tags(["1"]).manner(Manner::Drip(Duration::from_millis(2)))
    })
    .await;
    let mut config = config(&wire.host, RegistryLogin::Anonymous);
    config.concurrency = 2;
    let registries = registries_with(vec![config], timing());
    let repository = wire.repository();
    let all =
        futures::future::join_all((0..8).map(|_| registries.list_tags(&repository, None))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

fn manifest() -> (String, Digest) {
    let body = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"sha256:{}"}}}}"#,
        "0".repeat(64)
    );
    let digest = sha256(body.as_bytes());
    (body, digest)
}

fn sha256(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Digest::new(format!("sha256:{hex}")).unwrap()
}

#[tokio::test]
async fn digest_from_head_or_hash_of_get() {
    let (body, digest) = manifest();
    let wrong = Digest::new(format!("sha256:{}", "1".repeat(64))).unwrap();
    let whole = |seen: &Seen, body: &str| reply(200, if seen.method == "HEAD" { "" } else { body });
    for (name, says_head, says_get, expected, requests) in [
        ("by HEAD", Some(&digest), None, Ok(&digest), 1),
        ("by GET", None, None, Ok(&digest), 2),
        ("by GET that promises", None, Some(&digest), Ok(&digest), 2),
        (
            "by GET that lies",
            None,
            Some(&wrong),
            Err("has digest sha256:"),
            2,
        ),
    ] {
        let (body, says_head, says_get) = (body.clone(), says_head.cloned(), says_get.cloned());
        let wire = Wire::start(move |seen, _| {
            let says = if seen.method == "HEAD" {
                &says_head
            } else {
                &says_get
            };
            let reply = whole(seen, &body);
            says.as_ref().map_or(reply.clone(), |digest| {
                reply.with("Docker-Content-Digest", digest)
            })
        })
        .await;
        let registries = wire.registries(RegistryLogin::Anonymous);
        let found = registries
            .digest(&wire.repository(), &Tag::new("1").unwrap())
            .await
            .map_err(|error| error.to_string());
        match expected {
            Ok(digest) => assert_eq!(found.as_ref(), Ok(digest), "{name}"),
            Err(part) => assert!(
                found.as_ref().unwrap_err().contains(part),
                "{name}: {found:?}"
            ),
        }
        let seen = wire.seen();
        assert_eq!(seen.len(), requests, "{name}");
        for kind in [
            "oci.image.index",
            "oci.image.manifest",
            "docker.distribution.manifest.list",
            "docker.distribution.manifest.v2",
        ] {
            assert!(
                seen.iter().all(|seen| seen.header("accept").contains(kind)),
                "{name}: {kind}"
            );
        }
    }
}

#[tokio::test]
async fn digest_missing_is_an_error() {
    for (reply_with, expected) in [
        (reply(404, ""), "no such tag"),
        (
            reply(200, "<html>").with("Content-Type", "text/html"),
            "HTML",
        ),
        (
            reply(200, "{}").with("Docker-Content-Digest", "sha256:short"),
            "neither an index nor an image",
        ),
        (
            reply(200, "{}").with(
                "Content-Type",
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
            ),
            "which no cluster pulls any more",
        ),
        (
            reply(400, r#"{"errors":[{"code":"UNSUPPORTED"}]}"#),
            "answered 400",
        ),
    ] {
        let wire = Wire::start(move |_, _| reply_with.clone()).await;
        let error = wire
            .registries(RegistryLogin::Anonymous)
            .digest(&wire.repository(), &Tag::new("1").unwrap())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.subject.ends_with("/team/app:1"), "{error}");
    }
}

#[tokio::test]
async fn push_time_is_used_only_where_configured() {
    let (_, digest) = manifest();
    let wire = Wire::start(move |_, _| {
        reply(200, "")
            .with("Docker-Content-Digest", &digest)
            .with("Last-Modified", "Fri, 20 Nov 2026 10:00:00 GMT")
    })
    .await;
    for (trust, expected) in [
        (true, Some("2026-11-20T10:00:00Z".parse().unwrap())),
        (false, None),
    ] {
        let mut config = config(&wire.host, RegistryLogin::Anonymous);
        config.push_time = trust;
        let head = registries_with(vec![config], timing())
            .head(&wire.repository(), &Tag::new("1").unwrap())
            .await
            .unwrap();
        assert_eq!(head.pushed, expected);
    }
}

#[tokio::test]
async fn content_of_wrong_digest_or_size_is_refused() {
    let (body, digest) = manifest();
    let deep = format!("{{\"x\":{}", "[".repeat(200_000));
    let huge = "x".repeat(4 * 1024 * 1024 + 1);
    for (body, digest, expected) in [
        (
            body,
            Digest::new(format!("sha256:{}", "1".repeat(64))).unwrap(),
            "has digest sha256:",
        ),
        (deep.clone(), sha256(deep.as_bytes()), "ends early"),
        (
            huge.clone(),
            sha256(huge.as_bytes()),
            "more than 4194304 bytes",
        ),
    ] {
        let wire = Wire::start(move |_, _| reply(200, body.clone())).await;
        let error = wire
            .registries(RegistryLogin::Anonymous)
            .describe(&wire.repository(), &digest)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(digest.short().len(), 19);
}
