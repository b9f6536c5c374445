//! Reads lists page by page, and caches the parsed entries.

use super::{ApiCall, ForgeApi, MOST_PAGES, PageProgress};
use crate::io::{
    forge::{ForgeError, ForgeOperation, ForgeProblem, RequestFilter, cache::CachedPage},
    http::lock,
};
use jiff::Timestamp;
use reqwest::{Url, header::ETAG};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

impl ForgeApi {
    /// Reads all pages of a list, or those up to the first entry older than `until`. `keep` parses
    /// an entry into the cached form, which `name` identifies. A page that came with an ETag is
    /// requested conditionally.
    pub(crate) async fn pages<T, U>(
        &self,
        list: &List<'_>,
        keep: impl Fn(T) -> Entry<U>,
    ) -> Result<Vec<U>, ForgeError>
    where
        T: DeserializeOwned,
        U: Clone + Send + Sync + 'static,
    {
        Ok(self.dated(list, keep).await?.found)
    }

    /// The same with the times of its entries, wanted or not.
    pub(crate) async fn dated<T, U>(
        &self,
        list: &List<'_>,
        keep: impl Fn(T) -> Entry<U>,
    ) -> Result<Dated<U>, ForgeError>
    where
        T: DeserializeOwned,
        U: Clone + Send + Sync + 'static,
    {
        let (mut found, mut latest) = (Vec::new(), None);
        let (mut url, mut seen, mut pages) = (list.first.clone(), 0, 0);
        loop {
            let page = self.page(list, url.clone(), seen, &keep).await?;
            found.extend(page.items.iter().cloned());
            latest = latest.max(page.latest);
            seen += page.count;
            pages += 1;
            let early = list
                .until
                .is_some_and(|until| page.oldest.is_some_and(|oldest| oldest < until));
            match &page.next {
                Some(next) if !early && pages < list.most.unwrap_or(MOST_PAGES) => {
                    url = next.clone()
                }
                Some(_) if !early && list.most.is_none() => {
                    let endpoint = format!("GET {}", list.first.path());
                    return Err(self.error(
                        list.operation,
                        ForgeProblem::Endless {
                            endpoint,
                            pages: MOST_PAGES,
                        },
                    ));
                }
                next => {
                    let back_to = next.as_ref().filter(|_| !early).and(page.oldest.or(latest));
                    return Ok(Dated {
                        found,
                        latest,
                        back_to,
                    });
                }
            }
        }
    }

    async fn page<T, U>(
        &self,
        list: &List<'_>,
        url: Url,
        seen: usize,
        keep: impl Fn(T) -> Entry<U>,
    ) -> Result<Arc<CachedPage<U>>, ForgeError>
    where
        T: DeserializeOwned,
        U: Clone + Send + Sync + 'static,
    {
        let key = format!("{} {url}", list.name);
        let known = lock(&self.cache).get::<CachedPage<U>>(&key);
        let etag = known.as_ref().map(|(etag, _)| etag.clone());
        let call = ApiCall::get(list.operation, url.clone()).conditional(etag);
        let answer = self.send(&call).await?;
        if let (304, Some((_, page))) = (answer.status.as_u16(), known) {
            return Ok(page);
        }
        let entries: Vec<T> = match list.inside {
            None => self.read(&call, &answer)?,
            Some(field) => {
                let mut whole: Value = self.read(&call, &answer)?;
                let inner = whole.get_mut(field).map(Value::take).unwrap_or(Value::Null);
                serde_json::from_value(inner).map_err(|error| {
                    self.error(
                        list.operation,
                        ForgeProblem::Content {
                            endpoint: call.endpoint(),
                            why: format!("no such {field}: {error}"),
                        },
                    )
                })?
            }
        };
        let mut page = CachedPage {
            count: entries.len(),
            items: Vec::new(),
            oldest: None,
            latest: None,
            next: None,
        };
        for entry in entries {
            let Entry { stamp, kept } = keep(entry);
            page.oldest = stamp.or(page.oldest);
            page.latest = page.latest.max(stamp);
            page.items.extend(kept);
        }
        page.next = (self.dialect.next_page)(
            &answer,
            PageProgress {
                seen: seen + page.count,
                count: page.count,
            },
        )
        .map_err(|problem| self.error(list.operation, problem))?;
        let page = Arc::new(page);
        match answer.headers.get(ETAG) {
            Some(etag) => lock(&self.cache).put(key, etag.clone(), page.clone(), answer.body.len()),
            None => lock(&self.cache).forget(&key),
        }
        Ok(page)
    }
}

impl RequestFilter {
    /// Closed requests too far back are skipped; open ones must be complete.
    pub(crate) fn most_pages(self) -> Option<usize> {
        matches!(self, RequestFilter::EndedSince(_)).then_some(MOST_PAGES)
    }
}

/// The list to read, and how far.
pub(crate) struct List<'a> {
    pub(crate) operation: ForgeOperation,
    pub(crate) first: Url,
    /// The name of the cached form.
    pub(crate) name: &'a str,
    /// The field of the response object that contains the list.
    pub(crate) inside: Option<&'a str>,
    /// Stop at entries older than this; the list is ordered by time, latest first.
    pub(crate) until: Option<Timestamp>,
    /// Read at most so many pages, and be content.
    pub(crate) most: Option<usize>,
}

impl<'a> List<'a> {
    pub(crate) fn all(operation: ForgeOperation, first: Url, name: &'a str) -> Self {
        Self {
            operation,
            first,
            name,
            inside: None,
            until: None,
            most: None,
        }
    }
}

/// The entries read from a list.
pub(crate) struct Dated<U> {
    pub(crate) found: Vec<U>,
    /// The latest time of any entry.
    pub(crate) latest: Option<Timestamp>,
    /// The time of the last entry that was read, where [`List::most`] left pages unread.
    pub(crate) back_to: Option<Timestamp>,
}

/// The cached form of an entry, and its time for [`List::until`].
pub(crate) struct Entry<U> {
    pub(crate) stamp: Option<Timestamp>,
    pub(crate) kept: Option<U>,
}

impl<U> From<Option<U>> for Entry<U> {
    fn from(kept: Option<U>) -> Self {
        Self { stamp: None, kept }
    }
}
