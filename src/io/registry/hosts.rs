//! The hosts spoken to: a budget, a bound of requests in flight, and counters for each.

use super::{RegistryConfig, RegistryProblem, RequestKind};
use crate::io::http::{
    budget::{Admission, Budget},
    lock,
};
use reqwest::{StatusCode, header::HeaderMap};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Semaphore, SemaphorePermit};

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

/// All hosts; bounded by the policies and their token services.
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
        let (rate, flight) = self.limits.get(name).copied().unwrap_or((None, UNNAMED));
        let host = Arc::new(Host {
            name: name.to_owned(),
            flight: Semaphore::new(flight.min(Semaphore::MAX_PERMITS)),
            budget: Mutex::new(Budget::new(Instant::now(), rate)),
            counts: Mutex::default(),
            page: AtomicUsize::new(PAGES.len()),
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

    pub(crate) fn parked(&self) -> BTreeMap<String, Duration> {
        let hosts: Vec<Arc<Host>> = lock(&self.hosts).values().cloned().collect();
        let now = Instant::now();
        hosts
            .iter()
            .filter_map(|host| Some((host.name.clone(), lock(&host.budget).parked(now)?)))
            .collect()
    }
}

pub(crate) struct Host {
    name: String,
    flight: Semaphore,
    budget: Mutex<Budget>,
    counts: Mutex<BTreeMap<RequestKind, u64>>,
    page: AtomicUsize,
}

impl Host {
    /// Waits for a place and for the pace.
    ///
    /// # Errors
    /// If the host wants to be left alone; that wait is the caller's.
    pub(crate) async fn admit(&self) -> Result<Ticket<'_>, RegistryProblem> {
        let permit = self
            .flight
            .acquire()
            .await
            .map_err(|_| RegistryProblem::Setup("the registry room is closed".to_owned()))?;
        let parked = |retry_after| RegistryProblem::Throttled {
            host: self.name.clone(),
            retry_after,
        };
        let admission = lock(&self.budget).admit(Instant::now());
        match admission {
            Admission::Parked(rest) => Err(parked(rest)),
            Admission::After(wait) => {
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                    // Another request may have been throttled meanwhile.
                    if let Some(rest) = lock(&self.budget).parked(Instant::now()) {
                        return Err(parked(rest));
                    }
                }
                Ok(Ticket {
                    host: self,
                    _permit: permit,
                })
            }
        }
    }

    /// The place in [`PAGES`] that the host is known to take; past its end while
    /// unknown.
    pub(crate) fn page(&self) -> Option<usize> {
        Some(self.page.load(Ordering::Relaxed)).filter(|place| *place < PAGES.len())
    }

    pub(crate) fn set_page(&self, place: usize) {
        self.page.store(place, Ordering::Relaxed);
    }
}

/// The right to one request.
pub(crate) struct Ticket<'a> {
    host: &'a Host,
    _permit: SemaphorePermit<'a>,
}

impl Ticket<'_> {
    pub(crate) fn count(&self, kind: RequestKind) {
        *lock(&self.host.counts).entry(kind).or_default() += 1;
    }

    /// The request turned out to be of another kind.
    pub(crate) fn recount(&self, from: RequestKind, to: RequestKind) {
        let mut counts = lock(&self.host.counts);
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
        *counts.entry(to).or_default() += 1;
    }

    /// Updates the budget; returns the wait that begins, if one does.
    pub(crate) fn answered(&self, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        lock(&self.host.budget).answered(Instant::now(), jiff::Timestamp::now(), status, headers)
    }
}
