//! Tag lists: all pages or none.

use super::{
    RegistryProblem,
    hosts::{Host, PAGES},
    http::{ErrorBody, HttpResponse, RegistryRequest, RequestKind, host_of},
    session::Session,
    tag_json::{InvalidNames, read_page},
};
use crate::{
    core::image::TagList,
    io::http::link::{self, LinkError},
};
use reqwest::{Url, header::HeaderValue};
use std::collections::HashSet;

/// The largest honest lists have some 100,000 tags; a tag has at most 128 characters.
const MOST_TAGS: usize = 2_000_000;
const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The size limit of one page: registries without paging send everything at once.
const PAGE_BYTES: usize = 32 * 1024 * 1024;
/// At 50 a page, the smallest known, that is the largest list above.
const MOST_PAGES: usize = 40_000;

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
        let next = link::next(named, &answer.url).map_err(|why| match why {
            LinkError::Elsewhere(to) => RegistryProblem::Redirect {
                host: answer.host(),
                what: "the next page of a tag list",
                to,
                why: "it leaves the registry",
            },
            LinkError::Unreadable => RegistryProblem::Content {
                host: answer.host(),
                what: WHAT,
                why: "the link to the next page cannot be read".to_owned(),
            },
        })?;
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
                let last = tags.iter().last().unwrap_or_default().to_owned();
                match after(session, size, &last, &tags).await? {
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
            sized(session, size, None),
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

/// The page after `last`, asked for without a link; none if the registry does not page so (its list
/// was whole).
async fn after(
    session: &Session<'_>,
    size: Option<usize>,
    last: &str,
    have: &TagList,
) -> Result<Option<HttpResponse>, RegistryProblem> {
    let url = sized(session, size, Some(last));
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

fn sized(session: &Session<'_>, size: Option<usize>, last: Option<&str>) -> Url {
    let mut url = session.url("tags/list");
    if let Some(size) = size {
        url.query_pairs_mut().append_pair("n", &size.to_string());
    }
    if let Some(last) = last {
        url.query_pairs_mut().append_pair("last", last);
    }
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
