//! What the forge has: the open requests, listed once in a pass, and those that ended, of which only the news are asked
//! for. Requests that people closed hold back what they proposed.

use super::{
    FailureReport, History, Pass, Report, Updater, Wanted, World, merged::Lately, previews::Outlooks, refused::Refusal,
    requesting::Requesting,
};
use crate::{
    declare::{Choice, ImagePolicy, Via},
    forge::{self, Forge, ForgeError, Which},
    git::{GitError, ObjectId},
    policy::Move,
    publish::{
        Marker, PREFIX,
        life::{Commits, Ended, SUPERSEDED},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::PoisonError,
};

/// How far back requests that ended count, as reverts do (DESIGN, "Hold after revert").
const SINCE: SignedDuration = SignedDuration::from_hours(180 * 24);

/// What is asked for once more with the news: a forge of several machines may be a little behind itself.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);

/// Requests that are asked in one pass who closed them; of the others it is said later.
const MOST_ASKED: usize = 20;

/// What a process remembers of requests between passes. All of it can be had again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that ended.
    pub(super) ended: BTreeMap<u64, EndedRequest>,
    /// The latest change that was seen of one.
    since: Option<Timestamp>,
    /// The commit of somebody else that a request has been told of.
    pub(super) told: HashMap<u64, String>,
    /// When a text was last made that may become better.
    pub(super) tried: HashMap<u64, Timestamp>,
    /// Requests whose labels have been looked at.
    pub(super) dressed: HashSet<u64>,
    /// Merges that the forge has refused.
    pub(super) refusals: HashMap<u64, Refusal>,
    /// Those merged lately.
    pub(super) lately: Lately,
    /// What previews have said.
    pub(super) outlooks: Outlooks,
    /// Whose commits a branch has, by its head and that of its target; with the parent where it is one of the bot's.
    pub(super) commits: HashMap<(ObjectId, ObjectId), (Commits, Option<ObjectId>)>,
}

/// A request that ended.
#[derive(Debug, Clone)]
pub(super) struct EndedRequest {
    pub(super) head: String,
    pub(super) base: String,
    pub(super) how: Ended,
    pub(super) opened: Option<Timestamp>,
    /// When; of one closed by a person.
    at: Timestamp,
    /// Who closed it, as far as it has been asked.
    by: Option<Option<String>>,
    /// The commit that its merge made.
    commit: Option<String>,
    pub(super) marker: Option<Marker>,
}

impl Known {
    fn take(&mut self, request: &forge::Request, warnings: &mut Vec<String>, now: Timestamp) {
        let superseded = request.labels.iter().any(|label| label == SUPERSEDED);
        let how = match request.state {
            forge::State::Open => return,
            forge::State::Merged => Ended::Merged,
            forge::State::Closed if superseded => Ended::Superseded,
            forge::State::Closed => Ended::Closed,
        };
        let known = self.ended.get(&request.number);
        let marker = match Marker::read(&request.body) {
            Ok(marker) => marker,
            Err(error) => {
                if how == Ended::Closed && known.is_none() {
                    warnings
                        .push(format!("request #{} ({}) was closed by hand, but {error}: it holds nothing", request.number, request.url));
                }
                None
            }
        };
        self.lately.take(request, marker.as_ref());
        let by = known.filter(|known| known.how == how).and_then(|known| known.by.clone());
        let at = request.ended.as_ref().and_then(|ended| ended.at).or(request.updated).unwrap_or(now);
        let (head, base, opened) = (request.head.clone(), request.base.clone(), request.opened);
        let commit = request.ended.as_ref().and_then(|ended| ended.commit.clone());
        self.ended.insert(request.number, EndedRequest { head, base, how, opened, at, by, commit, marker });
    }

    /// Notes that a request has just ended.
    pub(super) fn end(&mut self, request: &forge::Request, how: Ended, now: Timestamp) {
        let (head, base, opened) = (request.head.clone(), request.base.clone(), request.opened);
        let marker = Marker::read(&request.body).ok().flatten();
        self.lately.take(request, marker.as_ref());
        let commit = request.ended.as_ref().and_then(|ended| ended.commit.clone());
        self.ended.insert(request.number, EndedRequest { head, base, how, opened, at: now, by: None, commit, marker });
    }

    /// How the latest request of a branch ended.
    pub(super) fn last(&self, branch: &str, base: &str) -> Option<&EndedRequest> {
        self.ended.values().rev().find(|ended| ended.head == branch && ended.base == base)
    }

    /// Whether a commit is the merge of a request that proposed this move: a person may have squashed it under a message of
    /// her own.
    fn proposed(&self, environment: &str, policy: &ImagePolicy, base: &str, step: &Move) -> bool {
        let merged = |request: &&EndedRequest| request.how == Ended::Merged && request.base == base;
        let of = |request: &&EndedRequest| request.commit.as_deref() == Some(step.commit.as_str());
        let markers = self.ended.values().filter(merged).filter(of).filter_map(|request| request.marker.as_ref());
        markers.filter(|marker| marker.environment == environment).flat_map(|marker| &marker.moves).any(|row| {
            let ours = row.policy == policy.name && row.repository == policy.image;
            // A digest that moved stands beside the tag that it is of.
            let new = match &step.tag {
                None => row.new.as_str() == step.new,
                Some(tag) => row.new.as_str() == tag && row.digest.as_ref().is_some_and(|digest| digest.as_str() == step.new),
            };
            ours && new
        })
    }

    /// What people refused of a policy in an Environment, as moves back, oldest first.
    fn refused(&self, environment: &str, policy: &ImagePolicy, base: &str) -> Vec<Move> {
        let mut moves = Vec::new();
        for (number, request) in self.ended.iter().filter(|(_, request)| request.how == Ended::Closed && request.base == base) {
            let Some(marker) = request.marker.as_ref().filter(|marker| marker.environment == environment) else { continue };
            for row in marker.moves.iter().filter(|row| row.policy == policy.name && row.repository == policy.image) {
                let by_digest = matches!(policy.choice, Choice::Digest(_)) || row.old.as_deref() == Some(row.new.as_str());
                let digest = row.digest.as_ref().filter(|_| by_digest);
                moves.push(Move {
                    commit: String::new(),
                    author: request.by.clone().flatten().unwrap_or_else(|| "somebody".to_owned()),
                    time: request.at,
                    by_bot: false,
                    old: digest.map_or_else(|| row.new.as_str().to_owned(), |digest| digest.as_str().to_owned()),
                    new: row.old.clone().unwrap_or_default(),
                    tag: digest.map(|_| row.new.as_str().to_owned()),
                    request: Some(*number),
                });
            }
        }
        moves.sort_by_key(|row| row.time);
        moves
    }
}

impl Updater {
    /// Lists what the forge has, once in a pass, where anything can depend on it. What goes wrong is told in the report;
    /// then nothing is known of any request.
    pub(super) async fn list(&self, world: &World, pass: &mut Pass<'_>, report: &mut Report) -> Result<(), GitError> {
        let Some(forge) = self.forge.as_deref() else { return Ok(()) };
        if !matches!(pass.requesting, Requesting::Unasked) {
            return Ok(());
        }
        let reviewed = world.declared.environments.values().any(|environment| matches!(environment.via, Via::PullRequest { .. }));
        if !reviewed && self.mirror.branches()?.is_empty() {
            return Ok(());
        }
        pass.requesting = match self.listed(forge, report, pass.now).await {
            Ok(open) => Requesting::Listed(open),
            Err(error) => {
                report.failures.push(FailureReport::at_forge(&error));
                Requesting::Failed
            }
        };
        Ok(())
    }

    /// The open requests, and the news of those that ended, which are remembered.
    async fn listed(&self, forge: &dyn Forge, report: &mut Report, now: Timestamp) -> Result<Vec<forge::Request>, ForgeError> {
        // In this order: what ends between the two questions is in both, and not in none.
        let mut open = forge.list(Which::Open, PREFIX).await?;
        self.learn(forge, report, now).await?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let later = |request: &forge::Request, known: &Known| {
            known.ended.get(&request.number).is_some_and(|ended| request.updated.is_none_or(|updated| ended.at > updated))
        };
        open.retain(|request| !later(request, &known));
        for request in &open {
            known.ended.remove(&request.number);
        }
        let numbers: HashSet<u64> = open.iter().map(|request| request.number).collect();
        known.told.retain(|number, _| numbers.contains(number));
        known.tried.retain(|number, _| numbers.contains(number));
        known.dressed.retain(|number| numbers.contains(number));
        known.refusals.retain(|number, _| numbers.contains(number));
        Ok(open)
    }

    /// Asks for the requests that ended since the last time.
    async fn learn(&self, forge: &dyn Forge, report: &mut Report, now: Timestamp) -> Result<(), ForgeError> {
        let since = self.known.lock().unwrap_or_else(PoisonError::into_inner).since;
        let oldest = now.checked_sub(SINCE).unwrap_or(Timestamp::MIN);
        let from = since.map_or(oldest, |since| since.checked_sub(OVERLAP).unwrap_or(since));
        let news = forge.list(Which::EndedSince(from), PREFIX).await?;
        let unasked: Vec<u64> = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for request in &news {
                known.take(request, &mut report.warnings, now);
            }
            known.since = news.iter().filter_map(|request| request.updated).max().max(since);
            known.ended.retain(|_, request| request.at >= oldest);
            let unasked = |request: &EndedRequest| request.how == Ended::Closed && request.marker.is_some() && request.by.is_none();
            known.ended.iter().rev().filter(|(_, request)| unasked(request)).map(|(number, _)| *number).take(MOST_ASKED).collect()
        };
        for number in unasked {
            let by = forge.get(number).await?.ended.and_then(|ended| ended.by);
            if let Some(request) = self.known.lock().unwrap_or_else(PoisonError::into_inner).ended.get_mut(&number) {
                request.by = Some(by);
            }
        }
        Ok(())
    }

    /// For commands that only look: what people refused counts for holds, too.
    pub(super) async fn learn_for_holds(&self, world: &World, report: &mut Report) {
        let reviewed = world.declared.environments.values().any(|environment| matches!(environment.via, Via::PullRequest { .. }));
        if let Some(forge) = self.forge.as_deref().filter(|_| reviewed)
            && let Err(error) = self.listed(forge, report, Timestamp::now()).await
        {
            report.failures.push(FailureReport::at_forge(&error));
        }
    }

    /// The moves of a policy's references: those of commits, and what people refused, each at its time.
    pub(super) fn moves(&self, environment: &str, policy: &ImagePolicy, history: &History, wanted: &Wanted<'_>) -> Vec<Move> {
        let mut moves = history.moves(wanted);
        let base = self.mirror.remote().branch();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for row in moves.iter_mut().filter(|row| !row.by_bot) {
            row.by_bot = known.proposed(environment, policy, base, row);
        }
        for refused in known.refused(environment, policy, base) {
            let at = moves.iter().position(|row| row.time > refused.time).unwrap_or(moves.len());
            moves.insert(at, refused);
        }
        moves
    }
}
