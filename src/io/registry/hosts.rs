//! The hosts spoken to: a budget, a bound of requests in flight, and counters for each.

use super::{RegistryConfig, RequestKind};
use crate::io::http::{HttpHost, lock};
use reqwest::StatusCode;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Page sizes to try, until the host accepts one; finally none.
pub(crate) const PAGES: [Option<usize>; 3] = [Some(1000), Some(100), None];

/// Requests in flight to a host that no prefix names: token services and storage.
const UNNAMED: usize = 8;

/// Request counts by host and kind. Retries count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryStats {
    pub requests: BTreeMap<String, BTreeMap<RequestKind, u64>>,
}

impl RegistryStats {
    /// Requests of `kind` to all hosts.
    pub fn total(&self, kind: RequestKind) -> u64 {
        self.requests
            .values()
            .filter_map(|counts| counts.get(&kind))
            .sum()
    }

    pub fn all(&self) -> u64 {
        self.requests.values().flat_map(BTreeMap::values).sum()
    }
}

/// Bounds of a host: requests a second, requests in flight.
type HostLimits = (Option<u32>, usize);

/// Hosts beyond which those without a request in flight or a rate limit are forgotten: redirects
/// may name a new one each time.
const MOST_HOSTS: usize = 1024;

/// All hosts.
pub(crate) struct Hosts {
    limits: HashMap<String, HostLimits>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
}

impl Hosts {
    /// The strictest wish of all prefixes of a host counts.
    pub(crate) fn new<'a>(configs: impl Iterator<Item = (String, &'a RegistryConfig)>) -> Self {
        let mut limits: HashMap<String, HostLimits> = HashMap::new();
        for (host, config) in configs {
            let concurrency = config.concurrency.max(1);
            let (rate, flight) = limits
                .entry(host)
                .or_insert((config.requests_per_second, concurrency));
            *rate = match (*rate, config.requests_per_second) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            *flight = concurrency.min(*flight);
        }
        Self {
            limits,
            hosts: Mutex::default(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Arc<Host> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(name) {
            return host.clone();
        }
        if hosts.len() >= MOST_HOSTS {
            hosts.retain(|name, host| {
                self.limits.contains_key(name)
                    || Arc::strong_count(host) > 1
                    || !host.http.parked().is_empty()
            });
        }
        let (rate, flight) = self.limits.get(name).copied().unwrap_or((None, UNNAMED));
        let host = Arc::new(Host {
            name: name.to_owned(),
            http: HttpHost::new(rate, flight, &[StatusCode::TOO_MANY_REQUESTS]),
            counts: Mutex::default(),
            share: (flight / 2).max(1),
            shares: Mutex::default(),
            page: AtomicUsize::new(PAGES.len()),
            links: Mutex::default(),
        });
        hosts.insert(name.to_owned(), host.clone());
        host
    }

    pub(crate) fn stats(&self) -> RegistryStats {
        let hosts: Vec<Arc<Host>> = lock(&self.hosts).values().cloned().collect();
        RegistryStats {
            requests: hosts
                .iter()
                .map(|host| (host.name.clone(), lock(&host.counts).clone()))
                .collect(),
        }
    }

    /// Returns the parked lanes, each as host and lane.
    pub(crate) fn parked(&self) -> BTreeMap<(String, String), Duration> {
        let hosts: Vec<Arc<Host>> = lock(&self.hosts).values().cloned().collect();
        let lanes = |host: &Arc<Host>| {
            let name = host.name.clone();
            let parked = host.http.parked().into_iter();
            parked.map(move |(lane, rest)| ((name.clone(), lane), rest))
        };
        hosts.iter().flat_map(lanes).collect()
    }
}

pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) http: HttpHost,
    counts: Mutex<BTreeMap<RequestKind, u64>>,
    /// Requests that one config repository may have under way or in the queue.
    share: usize,
    shares: Mutex<HashMap<String, Arc<Semaphore>>>,
    page: AtomicUsize,
    /// Lists, by their URL, that are known to name their next page in a link, or to forget it.
    links: Mutex<HashMap<String, bool>>,
}

/// Lists of a host whose links are remembered.
const MOST_LISTS: usize = 10_000;

impl Host {
    /// Waits until a config repository may queue a request: the queue of the host is first come,
    /// first served, so none waits for more than the shares of the others.
    pub(crate) async fn queue(&self, owner: &str) -> Option<OwnedSemaphorePermit> {
        let share = {
            let mut shares = lock(&self.shares);
            let new = || Arc::new(Semaphore::new(self.share));
            Arc::clone(shares.entry(owner.to_owned()).or_insert_with(new))
        };
        share.acquire_owned().await.ok()
    }

    pub(crate) fn count(&self, kind: RequestKind) {
        *lock(&self.counts).entry(kind).or_default() += 1;
    }

    /// Counts a request as one of another kind, which its response shows.
    pub(crate) fn recount(&self, from: RequestKind, to: RequestKind) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
        *counts.entry(to).or_default() += 1;
    }

    /// The place in [`PAGES`] that the host is known to take; past its end while
    /// unknown.
    pub(crate) fn page(&self) -> Option<usize> {
        Some(self.page.load(Ordering::Relaxed)).filter(|place| *place < PAGES.len())
    }

    /// Returns whether a list names its next page in a link, if that is known.
    pub(crate) fn links(&self, list: &str) -> Option<bool> {
        lock(&self.links).get(list).copied()
    }

    pub(crate) fn set_links(&self, list: &str, links: bool) {
        let mut known = lock(&self.links);
        if known.len() >= MOST_LISTS {
            known.clear();
        }
        known.insert(list.to_owned(), links);
    }

    pub(crate) fn set_page(&self, place: usize) {
        self.page.store(place, Ordering::Relaxed);
    }
}
