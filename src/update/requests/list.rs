//! What the forge has: the open requests, listed once in a pass, and those that ended, of which
//! only the news are asked for. Requests that people closed hold back what they proposed.

use super::{RequestsPhase, closed::EndedRequest, ownership::RequestOwner};
use crate::update::{
    FailureReport, HoldHistory, ImageUpdater, MoveFilter, PassReport, PassState, RepoSnapshot,
};
use crate::{
    images::policy::HeldMove,
    io::{
        forge::{self, Forge, ForgeError, ForgeProblem, RequestFilter, RequestList},
        git::GitError,
    },
    review::PREFIX,
    spec::ImagePolicy,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashSet};

/// How far back requests that ended count, as reverts do (DESIGN, "Hold after revert").
const SINCE: SignedDuration = SignedDuration::from_hours(180 * 24);

/// What is asked for once more with the news: a forge of several machines may be a little behind
/// itself.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// Requests that are asked in one pass who closed them; of the others it is said later.
const MOST_ASKED: usize = 20;

impl ImageUpdater {
    /// Lists what the forge has, once in a pass: also where nothing is for review any more, what
    /// people refused holds. What goes wrong is told in the report; then nothing is known of any
    /// request that is open.
    pub(crate) async fn list(
        &self,
        world: &RepoSnapshot,
        pass: &mut PassState<'_>,
        report: &mut PassReport,
    ) -> Result<(), GitError> {
        let Some(forge) = self.forge.as_deref() else {
            return Ok(());
        };
        if !matches!(pass.requesting, RequestsPhase::Unasked) {
            // Which are whose may be otherwise in another world.
            return self.whose(world, &[]).map(drop);
        }
        pass.requesting = match self.listed(forge, report, pass.now).await {
            Ok(open) => RequestsPhase::Listed(open),
            Err(error) => {
                report.failures.push(FailureReport::at_forge(&error));
                RequestsPhase::Failed
            }
        };
        self.whose(world, &[]).map(drop)
    }

    /// Whose requests are, at a revision; noted of those that ended.
    pub(crate) fn whose(
        &self,
        world: &RepoSnapshot,
        open: &[forge::PullRequest],
    ) -> Result<RequestOwner, GitError> {
        let mut known = self.known();
        let whose = RequestOwner::new(
            &self.mirror,
            world,
            self.config.policies.as_deref(),
            open,
            &known.ended,
        )?;
        for ended in known.ended.all.values_mut() {
            ended.foreign = ended
                .marker
                .as_ref()
                .is_some_and(|marker| !whose.is_ours(marker));
        }
        Ok(whose)
    }

    /// The open requests, and the news of those that ended, which are remembered.
    async fn listed(
        &self,
        forge: &dyn Forge,
        report: &mut PassReport,
        now: Timestamp,
    ) -> Result<Vec<forge::PullRequest>, ForgeError> {
        self.recall(report);
        // In this order: what ends between the two questions is in both, and not in none.
        let mut open = forge.list(RequestFilter::Open, PREFIX).await?;
        self.learn(forge, report, now).await?;
        let mut known = self.known();
        let later = |request: &forge::PullRequest, known: &BTreeMap<u64, EndedRequest>| {
            known
                .get(&request.number)
                .is_some_and(|ended| request.updated.is_none_or(|updated| ended.at > updated))
        };
        open.retain(|request| !later(request, &known.ended.all));
        for request in &open {
            known.ended.all.remove(&request.number);
        }
        let numbers: HashSet<u64> = open.iter().map(|request| request.number).collect();
        known.notes.retain(|number, _| numbers.contains(number));
        drop(known);
        self.keep(report);
        Ok(open)
    }

    /// Asks for the requests that ended since the last time.
    async fn learn(
        &self,
        forge: &dyn Forge,
        report: &mut PassReport,
        now: Timestamp,
    ) -> Result<(), ForgeError> {
        let since = self.known().ended.since;
        let oldest = now.checked_sub(SINCE).unwrap_or(Timestamp::MIN);
        let from = since.map_or(whole_day(oldest), |since| {
            since.checked_sub(OVERLAP).unwrap_or(since)
        });
        let RequestList {
            requests: news,
            latest,
            back_to,
        } = forge.look(RequestFilter::EndedSince(from), PREFIX).await?;
        let unasked: Vec<u64> = {
            let known = &mut self.known().ended;
            if since.is_none() {
                // All of them: what is not among them is not there any more, or lies too far back
                // to be read.
                let there: HashSet<u64> = news.iter().map(|request| request.number).collect();
                known.all.retain(|number, ended| {
                    there.contains(number) || back_to.is_some_and(|back| ended.at < back)
                });
            }
            if let Some(back) = back_to {
                report.warnings.push(unread(forge, back));
            }
            known.learnt = true;
            for request in &news {
                known.take(request, &mut report.warnings, now);
            }
            // Whatever the forge has shown, of anybody, need not be read again. What was brought
            // from elsewhere may have a time that is still to come: it must not hide what happens
            // until then.
            known.since = latest.map(|latest| latest.min(now)).max(since);
            known.all.retain(|_, request| request.at >= oldest);
            known.unasked(MOST_ASKED)
        };
        for number in unasked {
            let found = forge.get(number).await;
            let known = &mut self.known().ended.all;
            match found {
                Ok(request) => {
                    known.entry(number).and_modify(|known| {
                        known.by = Some(request.ended.and_then(|ended| ended.by))
                    });
                }
                // Deleted meanwhile: nobody refuses anything with it any more.
                Err(ForgeError {
                    problem: ForgeProblem::NotFound { .. },
                    ..
                }) => drop(known.remove(&number)),
                // What it refuses holds without a name, too. The next pass asks again.
                Err(error) => {
                    report.warnings.push(format!(
                        "who closed request #{number} is not known: {error}"
                    ));
                    break;
                }
            }
        }
        Ok(())
    }

    /// For commands that only look: what people refused counts for holds, too.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub(crate) async fn learn_for_holds(
        &self,
        world: &RepoSnapshot,
        report: &mut PassReport,
    ) -> Result<(), GitError> {
        if let Some(forge) = self.forge.as_deref()
            && let Err(error) = self.listed(forge, report, Timestamp::now()).await
        {
            report.failures.push(FailureReport::at_forge(&error));
        }
        self.whose(world, &[]).map(drop)
    }

    /// The moves of a policy's references: those of commits, and what people refused, each at its
    /// time.
    pub(crate) fn moves(
        &self,
        environment: &str,
        policy: &ImagePolicy,
        history: &HoldHistory,
        wanted: &MoveFilter<'_>,
    ) -> Vec<HeldMove> {
        let mut moves = history.moves(wanted);
        let base = self.mirror.remote().branch();
        let known = &self.known().ended;
        for row in moves.iter_mut().filter(|row| !row.by_bot) {
            row.by_bot = known.proposed(environment, policy, base, row);
        }
        for refused in known.refused(environment, policy, base) {
            let at = moves
                .iter()
                .position(|row| row.time > refused.time)
                .unwrap_or(moves.len());
            moves.insert(at, refused);
        }
        moves
    }
}

/// What is said where there are too many requests to read: once, as later only the news are asked
/// for.
fn unread(forge: &dyn Forge, back: Timestamp) -> String {
    let place = forge.place();
    format!(
        "{} {} has more requests that ended than can be read: those that last changed before {} hold nothing that tagboat does not know yet",
        place.kind,
        place.project,
        back.strftime("%Y-%m-%d %H:%M UTC")
    )
}

/// The beginning of its day: an address with it in it stays the same for so long.
fn whole_day(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(24 * 3600)).unwrap_or(at)
}
