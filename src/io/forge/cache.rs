//! Responses by ETag, so that unchanged resources cost no body, and on some forges no rate limit.

use jiff::Timestamp;
use reqwest::{Url, header::HeaderValue};
use std::{any::Any, collections::HashMap, sync::Arc};

/// Cached responses: for each of some hundred requests the request itself, its checks and its
/// reviews, beside the pages of lists.
const ANSWERS: usize = 2_048;
/// The limit of cached bytes, counted before parsing; pages keep less.
const BYTES: usize = 16 << 20;

/// The cached form of a page.
pub(crate) struct CachedPage<U> {
    pub(crate) items: Vec<U>,
    /// The number of entries on the page, kept or not.
    pub(crate) count: usize,
    /// The time of its last entry, in lists ordered by time.
    pub(crate) oldest: Option<Timestamp>,
    /// The latest time of all its entries.
    pub(crate) latest: Option<Timestamp>,
    pub(crate) next: Option<Url>,
}

struct CachedResponse {
    etag: HeaderValue,
    value: Arc<dyn Any + Send + Sync>,
    size: usize,
}

/// Responses, or their parsed form, by name. A full cache is cleared: the next pass reads
/// everything once.
#[derive(Default)]
pub(crate) struct ResponseCache {
    answers: HashMap<String, CachedResponse>,
    size: usize,
}

impl ResponseCache {
    /// The ETag and the value of this name.
    pub(crate) fn get<V: Send + Sync + 'static>(&self, key: &str) -> Option<(HeaderValue, Arc<V>)> {
        let known = self.answers.get(key)?;
        Some((known.etag.clone(), known.value.clone().downcast().ok()?))
    }

    pub(crate) fn put<V: Send + Sync + 'static>(
        &mut self,
        key: String,
        etag: HeaderValue,
        value: Arc<V>,
        size: usize,
    ) {
        self.forget(&key);
        if self.answers.len() >= ANSWERS || self.size + size > BYTES {
            self.answers.clear();
            self.size = 0;
        }
        if size <= BYTES {
            self.size += size;
            self.answers
                .insert(key, CachedResponse { etag, value, size });
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(known) = self.answers.remove(key) {
            self.size -= known.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forge_cache_is_bounded() {
        let page = |count| {
            Arc::new(CachedPage::<u8> {
                items: Vec::new(),
                count,
                oldest: None,
                latest: None,
                next: None,
            })
        };
        let etag = HeaderValue::from_static("\"1\"");
        let mut cache = ResponseCache::default();
        for number in 0..ANSWERS {
            cache.put(number.to_string(), etag.clone(), page(number), 10);
            assert_eq!(
                cache
                    .get::<CachedPage<u8>>(&number.to_string())
                    .unwrap()
                    .1
                    .count,
                number
            );
        }
        assert_eq!(cache.size, 10 * ANSWERS);
        cache.put("0".into(), etag.clone(), page(7), 20);
        assert_eq!(
            (cache.answers.len(), cache.size),
            (ANSWERS, 10 * ANSWERS + 10),
            "the same name replaces"
        );
        cache.put("more".into(), etag.clone(), page(0), 10);
        assert_eq!((cache.answers.len(), cache.size), (1, 10));
        cache.put("huge".into(), etag, page(0), BYTES + 1);
        assert!(cache.get::<CachedPage<u8>>("huge").is_none());
        assert!(
            cache.get::<CachedPage<u16>>("more").is_none(),
            "of another kind"
        );
    }
}
