//! Tag lists: all pages or none.

use super::{
    RegistryProblem,
    hosts::{Host, PAGES},
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestKind, host_of},
    session::Session,
    tag_json::{InvalidNames, read_page},
};
use crate::{core::image::TagList, io::http::link};
use reqwest::{Url, header::HeaderValue};
use std::collections::HashSet;

/// The largest honest lists have some 100,000 tags; a tag has at most 128 characters.
const MOST_TAGS: usize = 2_000_000;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The size limit of one page: registries without paging send everything at once.
const PAGE_BYTES: usize = 32 * 1024 * 1024;
/// At 50 a page, the smallest known, that is the largest list above.
const MOST_PAGES: usize = 40_000;
/// Positions in a list are tags or opaque tokens of at most some two kilobytes.
const LONGEST_QUERY: usize = 8 * 1024;

/// An `ETag`. Sent back in a conditional request, it lets the registry answer 304 Not Modified.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validator(pub String);

/// The tags of a repository, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The tags in the registry's order.
    pub tags: TagList,
    /// Names that are no tags.
    pub refused: InvalidNames,
    /// The validator for the next listing; only for a list of one page, since it does not cover
    /// further ones.
    pub validator: Option<Validator>,
}

/// The answer to a question for the tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    Listed(Listing),
    /// The list is the one for which the validator was given.
    NotModified,
}

const WHAT: &str = "a tag list";

pub(crate) async fn list(
    session: &Session<'_>,
    previous: Option<&Validator>,
) -> Result<Tags, RegistryProblem> {
    let host = session.sender.hosts.get(&host_of(&session.base));
    let (size, mut answer) = match first_page(session, &host, previous).await? {
        Some(page) => page,
        None => return Ok(Tags::NotModified),
    };
    let (mut tags, mut refused, mut bytes) = (TagList::new(), InvalidNames::default(), 0);
    let mut asked = HashSet::from([answer.url.clone()]);
    let mut firsts: HashSet<String> = HashSet::new();
    let validator = answer
        .header("etag")
        .filter(|etag| (1..=1024).contains(&etag.len()))
        .map(|etag| Validator(etag.to_owned()));
    loop {
        let endless = |why: String| RegistryProblem::Endless {
            host: answer.host(),
            why,
        };
        bytes += answer.body.len();
        let before = tags.len();
        let page = read_page(&answer.body, &mut tags, &mut refused)
            .map_err(|error| unreadable(&answer, &error))?;
        if tags.len() > MOST_TAGS || bytes > MOST_BYTES {
            return Err(endless(format!(
                "{} tags in {bytes} bytes so far",
                tags.len()
            )));
        }
        let named = answer
            .headers
            .get_all("link")
            .iter()
            .map(|value| value.to_str().unwrap_or("<"));
        let lost = |why: &str| RegistryProblem::Content {
            host: answer.host(),
            what: WHAT,
            why: format!("the link to the next page {why}"),
        };
        let next = match link::next_target(named).map_err(|_| lost("cannot be read"))? {
            None => None,
            Some(target) => Some(
                next_page(target, &answer.url)
                    .ok_or_else(|| lost("says no position in the list"))?,
            ),
        };
        let repeated = page.first.is_some_and(|first| !firsts.insert(first));
        let next = match next {
            Some(next) if repeated => {
                return Err(endless(format!(
                    "a page comes again before {}",
                    crate::core::image::shown(next.as_str())
                )));
            }
            Some(next) => next,
            // A page as full as was asked for and no link: the registry may be one that forgets
            // links.
            None if Some(page.names) == size && tags.len() > before && !repeated => {
                match after_full_page(session, &host, &answer.url, &tags).await? {
                    None => break,
                    Some(more) => {
                        answer = more;
                        asked.insert(answer.url.clone());
                        continue;
                    }
                }
            }
            None => break,
        };
        if !asked.insert(next.clone()) || asked.len() > MOST_PAGES {
            return Err(endless(format!("{} pages so far", asked.len())));
        }
        let page = session
            .send(&RegistryRequest::get(
                next,
                "application/json",
                RequestKind::Tags,
                WHAT,
                PAGE_BYTES,
            ))
            .await?;
        answer = match page.status.as_u16() {
            200 => page,
            _ => return Err(page.unexpected("the next page of a tag list")),
        };
    }
    tags.shrink();
    Ok(Tags::Listed(Listing {
        tags,
        refused,
        validator: validator.filter(|_| asked.len() == 1),
    }))
}

/// The first page, in the largest size that the registry takes; none if nothing has changed.
async fn first_page(
    session: &Session<'_>,
    host: &Host,
    previous: Option<&Validator>,
) -> Result<Option<(Option<usize>, HttpResponse)>, RegistryProblem> {
    let etag = previous.and_then(|Validator(etag)| HeaderValue::from_str(etag).ok());
    let known = host.page();
    for (place, size) in PAGES.into_iter().enumerate().skip(known.unwrap_or(0)) {
        let mut request = RegistryRequest::get(
            sized(session, size),
            "application/json",
            RequestKind::Tags,
            WHAT,
            PAGE_BYTES,
        );
        request.call = request.call.conditional(etag.clone());
        let answer = session.send(&request).await?;
        match answer.status.as_u16() {
            200 => {
                host.set_page(place);
                return Ok(Some((size, answer)));
            }
            304 if etag.is_some() => return Ok(None),
            404 => return Err(not_found(&answer)),
            400 | 405 | 413 | 416 | 422 if size.is_some() => {}
            _ => return Err(answer.unexpected(WHAT)),
        }
    }
    Err(RegistryProblem::Content {
        host: host_of(&session.base),
        what: WHAT,
        why: "every page size is refused".to_owned(),
    })
}

/// Returns the page after a full one without a link; none if the list ends there.
async fn after_full_page(
    session: &Session<'_>,
    host: &Host,
    page: &Url,
    tags: &TagList,
) -> Result<Option<HttpResponse>, RegistryProblem> {
    let list = list_of(page);
    if host.links(&list) == Some(true) {
        return Ok(None);
    }
    let last = tags.iter().last().unwrap_or_default();
    let more = after(session, page, last, tags).await?;
    match &more {
        Some(_) => host.set_links(&list, false),
        None => learn_links(session, host, page).await,
    }
    Ok(more)
}

/// Learns whether a list names its next page in a link, from a page of one tag.
///
/// Otherwise the end of a list that fills its last page would be asked for in every scan. A failure
/// teaches nothing.
async fn learn_links(session: &Session<'_>, host: &Host, page: &Url) {
    let list = list_of(page);
    if host.links(&list).is_some() {
        return;
    }
    let url = page_of_one(page);
    let request =
        RegistryRequest::get(url, "application/json", RequestKind::Tags, WHAT, PAGE_BYTES);
    if let Ok(answer) = session.send(&request).await
        && answer.status.as_u16() == 200
    {
        let named = answer.headers.get_all("link").iter();
        let named = named.map(|value| value.to_str().unwrap_or("<"));
        host.set_links(&list, matches!(link::next_target(named), Ok(Some(_))));
    }
}

/// Returns the URL of a list without the position in it.
fn list_of(page: &Url) -> String {
    let mut url = page.clone();
    url.set_query(None);
    url.into()
}

/// Returns the URL of the first page of a list, in the size of one tag.
fn page_of_one(page: &Url) -> Url {
    let mut url = page.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| name != "last" && name != "n")
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair("n", "1");
    url
}

/// The page after `last`, asked for without a link; none if the registry does not page so (its list
/// was whole).
async fn after(
    session: &Session<'_>,
    page: &Url,
    last: &str,
    have: &TagList,
) -> Result<Option<HttpResponse>, RegistryProblem> {
    let url = page_after(page, last);
    let answer = session
        .send(&RegistryRequest::get(
            url,
            "application/json",
            RequestKind::Tags,
            WHAT,
            PAGE_BYTES,
        ))
        .await?;
    if answer.status.as_u16() != 200 {
        return Err(answer.unexpected("the next page of a tag list"));
    }
    let mut more = TagList::new();
    read_page(&answer.body, &mut more, &mut InvalidNames::default())
        .map_err(|error| unreadable(&answer, &error))?;
    let first = more.iter().next();
    Ok(first
        .is_some_and(|first| !have.contains(first))
        .then_some(answer))
}

fn sized(session: &Session<'_>, size: Option<usize>) -> Url {
    let mut url = session.url("tags/list");
    if let Some(size) = size {
        url.query_pairs_mut().append_pair("n", &size.to_string());
    }
    url
}

/// Returns the URL of the next page: the page's own, with the query of its link.
///
/// Scheme, host and path of a link are often wrong: Artifactory leaves out the virtual repository,
/// Nexus and registries behind a proxy name their inner address. Ignoring them keeps the list to
/// one repository, whatever the link says. None if the link has no query, or none that is a
/// position.
fn next_page(target: &str, page: &Url) -> Option<Url> {
    let target = target.split('#').next().unwrap_or_default();
    let (_, query) = target.split_once('?')?;
    (1..=LONGEST_QUERY).contains(&query.len()).then(|| {
        let mut url = page.clone();
        url.set_query(Some(query));
        url
    })
}

/// Returns the URL of the page that begins after a tag, in the size of `page`.
fn page_after(page: &Url, last: &str) -> Url {
    let mut url = page.clone();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .into_owned()
        .filter(|(name, _)| name != "last")
        .collect();
    url.query_pairs_mut()
        .clear()
        .extend_pairs(kept)
        .append_pair("last", last);
    url
}

fn not_found(answer: &HttpResponse) -> RegistryProblem {
    match answer.is_html() {
        true => answer.unexpected(WHAT),
        false => RegistryProblem::NotFound { what: "repository" },
    }
}

fn unreadable(answer: &HttpResponse, error: &serde_json::Error) -> RegistryProblem {
    let why = match error.classify() {
        _ if answer.is_html() => "HTML".to_owned(),
        serde_json::error::Category::Eof => "it ends early".to_owned(),
        _ => format!(
            "no tag list: {}",
            error
                .to_string()
                .chars()
                .take(200)
                .collect::<String>()
                .escape_debug()
        ),
    };
    RegistryProblem::Content {
        host: answer.host(),
        what: WHAT,
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_takes_only_the_query_of_a_link() {
        let page: Url = "https://r.example/v2/virtual/app/tags/list?n=2"
            .parse()
            .unwrap();
        let next = |query: &str| {
            Some(format!(
                "https://r.example/v2/virtual/app/tags/list?{query}"
            ))
        };
        for (target, expected) in [
            ("/v2/virtual/app/tags/list?last=b&n=2", next("last=b&n=2")),
            ("?last=b", next("last=b")),
            // Artifactory leaves out the virtual repository.
            ("/v2/app/tags/list?last=b&n=2", next("last=b&n=2")),
            // Nexus, and registries behind a proxy.
            (
                "http://nexus.internal:8081/repository/docker/v2/app/tags/list?last=b",
                next("last=b"),
            ),
            (
                "http://r.example/v2/virtual/app/tags/list?last=b",
                next("last=b"),
            ),
            (
                "https://r.example:5000/v2/virtual/app/tags/list?last=b",
                next("last=b"),
            ),
            ("//evil.example/v2/secret/tags/list?last=b", next("last=b")),
            ("http://[?last=b", next("last=b")),
            ("/v2/other/tags/list?last=b#?last=c", next("last=b")),
            ("?last=a b\u{e9}", next("last=a%20b%C3%A9")),
            ("/v2/virtual/app/tags/list", None),
            ("/v2/virtual/app/tags/list?", None),
            ("#?last=b", None),
        ] {
            let url = next_page(target, &page).map(String::from);
            assert_eq!(url, expected, "{target}");
        }
        assert_eq!(
            next_page(&format!("?last={}", "x".repeat(9000)), &page),
            None
        );
    }

    #[test]
    fn next_page_after_a_tag_keeps_the_size() {
        for (page, expected) in [
            ("https://r.example/l?n=2", "https://r.example/l?n=2&last=b"),
            (
                "https://r.example/l?n=2&last=a",
                "https://r.example/l?n=2&last=b",
            ),
            ("https://r.example/l", "https://r.example/l?last=b"),
        ] {
            assert_eq!(page_after(&page.parse().unwrap(), "b").as_str(), expected);
        }
    }
}
