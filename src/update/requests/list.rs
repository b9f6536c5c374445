//! The forge's pull requests: the open ones, listed once in a pass, and those that have ended, of
//! which only the changes since the last listing are read.
//!
//! A pull request that a person closed holds back what it proposed.

use super::{RequestContext, authors, closed::EndedRequest, closed_store, ownership};
use crate::{
    io::{
        forge::{self, Forge, ForgeError, ForgeProblem, RequestFilter, RequestList},
        git::GitError,
    },
    review::{Marker, PREFIX, same_text},
    update::{
        FailureReport, PassReport, RepoSnapshot,
        pass_state::{PassState, RequestPhase},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashSet};

/// How far back closed pull requests count, as reverts do (DESIGN, "Hold after revert").
const SINCE: SignedDuration = SignedDuration::from_hours(180 * 24);

/// Overlap of two listings: replicas of a forge may lag behind each other.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// Pull requests that one pass asks who closed them; later passes ask about the others.
const MOST_ASKED: usize = 20;

/// Lists the forge's pull requests, once in a pass.
///
/// It does so also where no Environment uses pull requests any more, because refusals stay in
/// force. A failure stands in the report; then nothing is known of any open pull request.
pub(crate) async fn once(
    context: RequestContext<'_>,
    snapshot: &RepoSnapshot,
    pass: &mut PassState<'_>,
    report: &mut PassReport,
) -> Result<(), GitError> {
    if matches!(pass.requests, RequestPhase::NotListed) {
        pass.requests = match list(context, report, pass.now).await {
            Ok(open) => RequestPhase::Listed(open),
            Err(failure) => {
                report.failures.push(failure);
                RequestPhase::Failed
            }
        };
    }
    let open = match &pass.requests {
        RequestPhase::Listed(open) => Some(&open[..]),
        _ => None,
    };
    learn_released(context, snapshot, open).await
}

/// Lists the forge's pull requests for commands that show holds.
///
/// # Errors
/// If an object of the mirror is missing.
pub(crate) async fn for_holds(
    context: RequestContext<'_>,
    snapshot: &RepoSnapshot,
    report: &mut PassReport,
) -> Result<(), GitError> {
    let open = match list(context, report, Timestamp::now()).await {
        Ok(open) => Some(open),
        Err(failure) => {
            report.failures.push(failure);
            None
        }
    };
    learn_released(context, snapshot, open.as_deref()).await
}

/// Reads the ownership of pull requests, which depends on the declarations and so on the snapshot,
/// and the held versions that the open ones propose again. If these could not be listed, what was
/// known before stays. A marker lifts a hold only if it is signed for its pull request's number.
async fn learn_released(
    context: RequestContext<'_>,
    snapshot: &RepoSnapshot,
    open: Option<&[forge::PullRequest]>,
) -> Result<(), GitError> {
    let ownership = ownership::read(context, snapshot, open.unwrap_or_default()).await?;
    if let (Some(open), Some(authors)) = (open, context.authors()) {
        let cache = &mut context.cache.lock();
        // This process wrote the text, and has not signed it yet.
        let is_unsigned = |request: &forge::PullRequest| {
            let notes = cache.notes.get(&request.number);
            let unsigned = notes.and_then(|notes| notes.unsigned_text.as_deref());
            unsigned.is_some_and(|text| same_text(text, &request.body))
        };
        let mut released = Vec::new();
        for marker in open
            .iter()
            .filter(|request| request.base == context.target())
            .filter(|request| authors.is_signed_for_number(request) || is_unsigned(request))
            .filter_map(Marker::of)
            .filter(|marker| ownership.is_ours(marker))
        {
            let environment = marker.environment;
            let versions = marker.released.into_iter();
            released.extend(versions.map(|version| (environment.clone(), version)));
        }
        cache.released = released;
    }
    Ok(())
}

/// Returns the open pull requests, and remembers those that have ended.
async fn list(
    context: RequestContext<'_>,
    report: &mut PassReport,
    now: Timestamp,
) -> Result<Vec<forge::PullRequest>, FailureReport> {
    authors::load(context)
        .await
        .map_err(|error| FailureReport::new(&error))?;
    closed_store::load(context, report).await;
    let at_forge = |error: ForgeError| FailureReport::at_forge(&error);
    // In this order: what ends between the two calls is in both lists, not in none.
    let open = context.forge.list(RequestFilter::Open, PREFIX).await;
    let mut open = open.map_err(at_forge)?;
    authors::ask(context, &open, &mut report.warnings)
        .await
        .map_err(at_forge)?;
    learn_ended(context, report, now).await.map_err(at_forge)?;
    {
        let mut cache = context.cache.lock();
        let ended_later = |request: &forge::PullRequest, all: &BTreeMap<u64, EndedRequest>| {
            all.get(&request.number)
                .is_some_and(|ended| request.updated.is_none_or(|updated| ended.at > updated))
        };
        open.retain(|request| !ended_later(request, &cache.ended.all));
        for request in &open {
            cache.ended.all.remove(&request.number);
        }
        let numbers: HashSet<u64> = open.iter().map(|request| request.number).collect();
        cache.notes.retain(|number, _| numbers.contains(number));
    }
    closed_store::save(context, report).await;
    Ok(open)
}

/// Reads the pull requests that ended since the last time.
async fn learn_ended(
    context: RequestContext<'_>,
    report: &mut PassReport,
    now: Timestamp,
) -> Result<(), ForgeError> {
    let (forge, cache) = (&**context.forge, context.cache);
    let since = cache.lock().ended.since;
    let oldest = now.checked_sub(SINCE).unwrap_or(Timestamp::MIN);
    let from = since.map_or(start_of_day(oldest), |since| {
        since.checked_sub(OVERLAP).unwrap_or(since)
    });
    let listed = forge.look(RequestFilter::EndedSince(from), PREFIX).await?;
    if let Some(back) = listed.back_to {
        report.warnings.push(unread(forge, back));
    }
    authors::ask(context, &listed.requests, &mut report.warnings).await?;
    let authors = context.authors();
    let closer_unknown = {
        let ended = &mut cache.lock().ended;
        let RequestList {
            requests,
            latest,
            back_to,
        } = &listed;
        if since.is_none() {
            // The list is complete: what it lacks was deleted, or lies too far back to be read.
            let numbers: HashSet<u64> = requests.iter().map(|request| request.number).collect();
            ended.all.retain(|number, known| {
                numbers.contains(number) || back_to.is_some_and(|back| known.at < back)
            });
        }
        ended.is_known = true;
        for request in requests {
            ended.add(request, authors.as_deref(), &mut report.warnings, now);
        }
        // Whatever the forge has shown need not be read again. An imported pull request may have a
        // time in the future, which must not hide what happens until then.
        if ended.since == since {
            ended.since = latest.map(|latest| latest.min(now)).max(since);
        }
        ended.all.retain(|_, request| request.at >= oldest);
        ended.closer_unknown(MOST_ASKED)
    };
    for number in closer_unknown {
        let found = forge.get(number).await;
        let all = &mut cache.lock().ended.all;
        match found {
            Ok(request) => {
                let by = request.ended.and_then(|ended| ended.by);
                all.entry(number).and_modify(|known| known.by = Some(by));
            }
            // Deleted meanwhile: it refuses nothing any more.
            Err(ForgeError {
                problem: ForgeProblem::NotFound { .. },
                ..
            }) => drop(all.remove(&number)),
            // Its refusals hold without a name, too. The next pass asks again.
            Err(error) => {
                report.warnings.push(format!(
                    "cannot read who closed pull request #{number}: {error}"
                ));
                break;
            }
        }
    }
    Ok(())
}

/// The warning about a forge that has more ended pull requests than can be read.
///
/// It appears once, since later listings ask for changes only.
fn unread(forge: &dyn Forge, back: Timestamp) -> String {
    let place = forge.place();
    format!(
        "{} {} has more closed pull requests than can be read: those last changed before {} hold back only what tagboat already knows",
        place.kind,
        place.project,
        back.strftime("%Y-%m-%d %H:%M UTC")
    )
}

/// Returns the start of the day in UTC, so that a URL with it in it stays cacheable for a day.
fn start_of_day(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(24 * 3600)).unwrap_or(at)
}
