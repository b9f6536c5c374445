//! Pages of lists by their ETag, so that a list in which nothing changed costs no body.

use jiff::Timestamp;
use reqwest::{Url, header::HeaderValue};
use std::{any::Any, collections::HashMap, sync::Arc};

/// Pages remembered; a pass over some hundred requests needs a few.
const PAGES: usize = 64;
/// Bytes of the answers that the remembered pages came from, at most; what is kept of them is less.
const BYTES: usize = 16 << 20;

/// A page of a list, as it is kept.
pub(super) struct Page<U> {
    /// What was wanted of it.
    pub(super) items: Vec<U>,
    /// How many entries it had, wanted or not.
    pub(super) count: usize,
    /// The time of its last entry, in lists ordered by time.
    pub(super) oldest: Option<Timestamp>,
    /// The next one.
    pub(super) next: Option<Url>,
}

struct Known {
    etag: HeaderValue,
    page: Arc<dyn Any + Send + Sync>,
    size: usize,
}

/// Pages by their name. When it is full, all is forgotten: the next pass reads whole pages once.
#[derive(Default)]
pub(super) struct Cache {
    pages: HashMap<String, Known>,
    size: usize,
}

impl Cache {
    /// The ETag and the page of this name.
    pub(super) fn get<U: Send + Sync + 'static>(&self, key: &str) -> Option<(HeaderValue, Arc<Page<U>>)> {
        let known = self.pages.get(key)?;
        Some((known.etag.clone(), known.page.clone().downcast().ok()?))
    }

    pub(super) fn put<U: Send + Sync + 'static>(&mut self, key: String, etag: HeaderValue, page: Arc<Page<U>>, size: usize) {
        self.forget(&key);
        if self.pages.len() >= PAGES || self.size + size > BYTES {
            self.pages.clear();
            self.size = 0;
        }
        if size <= BYTES {
            self.size += size;
            self.pages.insert(key, Known { etag, page, size });
        }
    }

    pub(super) fn forget(&mut self, key: &str) {
        if let Some(known) = self.pages.remove(key) {
            self.size -= known.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let page = |count| Arc::new(Page::<u8> { items: Vec::new(), count, oldest: None, next: None });
        let etag = HeaderValue::from_static("\"1\"");
        let mut cache = Cache::default();
        for number in 0..PAGES {
            cache.put(number.to_string(), etag.clone(), page(number), 10);
            assert_eq!(cache.get::<u8>(&number.to_string()).unwrap().1.count, number);
        }
        assert_eq!(cache.size, 10 * PAGES);
        cache.put("0".into(), etag.clone(), page(7), 20);
        assert_eq!((cache.pages.len(), cache.size), (PAGES, 10 * PAGES + 10), "the same name replaces");
        cache.put("more".into(), etag.clone(), page(0), 10);
        assert_eq!((cache.pages.len(), cache.size), (1, 10));
        cache.put("huge".into(), etag, page(0), BYTES + 1);
        assert!(cache.get::<u8>("huge").is_none());
        assert!(cache.get::<u16>("more").is_none(), "of another kind");
    }
}
