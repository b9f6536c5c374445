//! The rate limit of a host: its pace, and the times during which it is parked. Time is an
//! argument.

use jiff::Timestamp;
use reqwest::{StatusCode, header::HeaderMap};
use std::time::{Duration, Instant};

/// No wish of a host stops us for longer; the longest window known of a public registry is six
/// hours.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// First wait after a 429 that does not say how long; doubled with each further one, up to
/// [`STRIKES`] times.
const UNSAID: Duration = Duration::from_secs(30);
const STRIKES: u32 = 5;

/// The budget of one host.
#[derive(Debug)]
pub struct Budget {
    interval: Duration,
    next: Instant,
    parked: Option<Instant>,
    strikes: u32,
}

/// The admission of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Admission {
    /// Send it after this wait.
    After(Duration),
    /// Send nothing for this long.
    Parked(Duration),
}

impl Budget {
    /// Creates a budget without history; at most so many requests a second.
    pub fn new(now: Instant, requests_per_second: Option<u32>) -> Self {
        let interval =
            requests_per_second.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1));
        Self {
            interval,
            next: now,
            parked: None,
            strikes: 0,
        }
    }

    /// Takes the next slot, unless the host is parked.
    pub fn admit(&mut self, now: Instant) -> Admission {
        if let Some(rest) = self.parked(now) {
            return Admission::Parked(rest);
        }
        let slot = self.next.max(now);
        self.next = slot + self.interval;
        Admission::After(slot - now)
    }

    /// Returns how long the host remains parked.
    pub fn parked(&self, now: Instant) -> Option<Duration> {
        self.parked
            .and_then(|until| until.checked_duration_since(now))
            .filter(|rest| !rest.is_zero())
    }

    /// Learns from an answer; the wait that it begins, if it does.
    pub fn answered(
        &mut self,
        now: Instant,
        clock: Timestamp,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Duration> {
        let retry_after = text(headers, "retry-after").and_then(|value| wait(value, clock));
        let wish = if status == StatusCode::TOO_MANY_REQUESTS {
            let unsaid = UNSAID * 2u32.pow(self.strikes.min(STRIKES));
            self.strikes = self.strikes.saturating_add(1);
            retry_after
                .or_else(|| reset(headers, clock))
                .unwrap_or(unsaid)
                .max(Duration::from_secs(1))
        } else if let (StatusCode::SERVICE_UNAVAILABLE | StatusCode::FORBIDDEN, Some(wish)) =
            (status, retry_after)
        {
            // 403: GitHub's second limit says it so.
            wish
        } else {
            if status.is_success() {
                self.strikes = 0;
            }
            exhausted(headers, clock)?
        };
        let wish = wish.min(LONGEST);
        self.park(now, wish);
        Some(wish)
    }

    /// Sends nothing for this long, or longer if that was so already.
    pub fn park(&mut self, now: Instant, wait: Duration) {
        self.parked = Some(
            self.parked
                .map_or(now + wait, |until| until.max(now + wait)),
        );
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `Retry-After`: seconds or a date.
fn wait(value: &str, clock: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(clock)).unwrap_or(Duration::ZERO))
}

/// A limit header, `76` or `76;w=21600`: the count and the window in seconds.
fn limit(value: &str) -> Option<(u64, Option<u64>)> {
    let mut parts = value.split([';', ',']);
    let count = parts.next()?.trim().parse().ok()?;
    Some((
        count,
        parts.find_map(|part| part.trim().strip_prefix("w=")?.parse().ok()),
    ))
}

/// Returns the time until the budget is full again. The header has seconds from now (the IETF
/// draft), or seconds since 1970 (GitHub, GitLab), which are too large for a wait.
fn reset(headers: &HeaderMap, clock: Timestamp) -> Option<Duration> {
    let seconds: u64 = text(headers, "ratelimit-reset")
        .or_else(|| text(headers, "x-ratelimit-reset"))?
        .parse()
        .ok()?;
    let now = u64::try_from(clock.as_second()).unwrap_or(0);
    Some(Duration::from_secs(if seconds > 1_000_000_000 {
        seconds.saturating_sub(now)
    } else {
        seconds
    }))
}

/// The wait after the last request of a budget: until its reset; else until a sliding window frees
/// one request.
fn exhausted(headers: &HeaderMap, clock: Timestamp) -> Option<Duration> {
    let remaining =
        text(headers, "ratelimit-remaining").or_else(|| text(headers, "x-ratelimit-remaining"))?;
    let (remaining, window) = limit(remaining)?;
    if remaining > 0 {
        return None;
    }
    let sliding = || {
        let (limit, own) = limit(text(headers, "ratelimit-limit")?)?;
        Some(Duration::from_secs(
            own.or(window)?.div_ceil(limit.max(1)).max(1),
        ))
    };
    Some(
        reset(headers, clock)
            .or_else(sliding)
            .unwrap_or(Duration::from_secs(60))
            .max(Duration::from_secs(1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn budget_obeys_rate_limit_headers() {
        let clock: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        for (status, pairs, seconds) in [
            (200, vec![], None),
            (200, vec![("ratelimit-remaining", "5")], None),
            (
                200,
                vec![("RateLimit-Remaining", "0"), ("ratelimit-reset", "17")],
                Some(17),
            ),
            (
                200,
                vec![
                    ("ratelimit-remaining", "0;w=21600"),
                    ("ratelimit-limit", "100;w=21600"),
                ],
                Some(216),
            ),
            (200, vec![("ratelimit-remaining", "0")], Some(60)),
            (200, vec![("ratelimit-remaining", "hostile")], None),
            (429, vec![("retry-after", "7")], Some(7)),
            (
                429,
                vec![("retry-after", "Fri, 20 Nov 2026 10:01:30 GMT")],
                Some(90),
            ),
            (
                429,
                vec![("retry-after", "Fri, 20 Nov 2020 10:01:30 GMT")],
                Some(1),
            ),
            (429, vec![("retry-after", "99999999999999")], Some(6 * 3600)),
            (429, vec![("retry-after", "-1")], Some(30)),
            (429, vec![], Some(30)),
            (429, vec![("ratelimit-reset", "12")], Some(12)),
            (
                200,
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1795168842"),
                ],
                Some(42),
            ),
            (
                200,
                vec![
                    ("ratelimit-remaining", "0"),
                    ("ratelimit-reset", "1795168800"),
                ],
                Some(1),
            ),
            (
                403,
                vec![
                    ("x-ratelimit-remaining", "0"),
                    ("x-ratelimit-reset", "1795169100"),
                ],
                Some(300),
            ),
            (
                403,
                vec![("retry-after", "60"), ("x-ratelimit-remaining", "4000")],
                Some(60),
            ),
            (403, vec![("x-ratelimit-remaining", "4000")], None),
            (503, vec![("retry-after", "5")], Some(5)),
            (503, vec![], None),
        ] {
            let now = Instant::now();
            let mut budget = Budget::new(now, None);
            let said = budget.answered(
                now,
                clock,
                StatusCode::from_u16(status).unwrap(),
                &headers(&pairs),
            );
            assert_eq!(
                said.map(|wait| wait.as_secs()),
                seconds,
                "{status} {pairs:?}"
            );
            let expected = seconds.map_or(Admission::After(Duration::ZERO), |seconds| {
                Admission::Parked(Duration::from_secs(seconds))
            });
            assert_eq!(budget.admit(now), expected, "{status} {pairs:?}");
            if let Some(seconds) = seconds {
                assert_eq!(
                    budget.admit(now + Duration::from_secs(seconds)),
                    Admission::After(Duration::ZERO)
                );
            }
        }
    }

    #[test]
    fn budget_429_without_delay_doubles_the_wait() {
        let (now, clock) = (Instant::now(), Timestamp::UNIX_EPOCH);
        let mut budget = Budget::new(now, None);
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(
                budget
                    .answered(now, clock, StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new())
                    .unwrap()
                    .as_secs(),
            );
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 960]);
        assert_eq!(
            budget.answered(now, clock, StatusCode::OK, &HeaderMap::new()),
            None
        );
        assert_eq!(
            budget.answered(now, clock, StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new()),
            Some(UNSAID)
        );
        assert_eq!(
            budget.parked(now).unwrap().as_secs(),
            960,
            "a shorter wish does not end a longer wait"
        );
    }

    #[test]
    fn budget_spaces_requests() {
        let now = Instant::now();
        let mut budget = Budget::new(now, Some(4));
        let waits: Vec<_> = (0..3).map(|_| budget.admit(now)).collect();
        assert_eq!(
            waits,
            [0, 250, 500].map(|ms| Admission::After(Duration::from_millis(ms)))
        );
        let later = now + Duration::from_secs(5);
        assert_eq!(
            budget.admit(later),
            Admission::After(Duration::ZERO),
            "an idle host saves nothing up"
        );
        assert_eq!(
            budget.admit(later),
            Admission::After(Duration::from_millis(250))
        );
    }
}
