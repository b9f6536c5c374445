//! What the forge has: the open requests, listed once in a pass, and those that ended, of which only the news are asked
//! for. Requests that people closed hold back what they proposed.

use super::{
    FailureReport, History, Pass, Report, Updater, Wanted, World, merged::Lately, previews::Outlooks, refused::Refusal,
    requesting::Requesting, whose::Whose,
};
use crate::{
    declare::{Choice, ImagePolicy},
    forge::{self, Forge, ForgeError, Listed, Problem, Which},
    git::{GitError, ObjectId},
    policy::Move,
    publish::{
        Marker, PREFIX, Proposed,
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

/// How long after its opening a request may be closed by the forge together with the branch of the one before it, and how
/// long after the end of that one.
const SWEPT: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(1), SignedDuration::from_mins(5));

/// Requests that are asked in one pass who closed them; of the others it is said later.
const MOST_ASKED: usize = 20;

/// What a process remembers of requests between passes. All of it can be had again.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that ended.
    pub(super) ended: BTreeMap<u64, EndedRequest>,
    /// Whether the forge, or the store in its place, has said which have ended.
    pub(super) learnt: bool,
    /// What the store keeps of those that people closed; nothing before it has been looked at.
    pub(super) kept: Option<Vec<u8>>,
    /// The latest change that the forge has shown of any request, its own or not.
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
    /// When a request was built anew because its base wants that.
    pub(super) rebuilt: HashMap<u64, Timestamp>,
    /// The one of those that merge by themselves which others wait for, and since when.
    pub(super) front: Option<(u64, Timestamp)>,
    /// Whose commits a branch has, by its head and that of its target; with the parent where it is one of the bot's.
    pub(super) commits: HashMap<(ObjectId, ObjectId), (Commits, Option<ObjectId>)>,
}

/// A request that ended.
#[derive(Debug, Clone)]
pub(super) struct EndedRequest {
    pub(super) head: String,
    /// The commit that the forge knew as its head.
    pub(super) head_commit: String,
    pub(super) base: String,
    pub(super) how: Ended,
    pub(super) opened: Option<Timestamp>,
    /// When; of one closed by a person.
    pub(super) at: Timestamp,
    /// Who closed it, as far as it has been asked.
    pub(super) by: Option<Option<String>>,
    /// Who opened it.
    pub(super) author: String,
    /// The commit that its merge made.
    pub(super) commit: Option<String>,
    pub(super) marker: Option<Marker>,
    /// Whether another updater declares its Environment.
    pub(super) foreign: bool,
}

impl EndedRequest {
    /// A request that has just ended, as far as nobody has said more.
    fn new(request: &forge::Request, how: Ended, marker: Option<Marker>, now: Timestamp) -> Self {
        let forge::Request { head, head_commit, base, opened, author, ended, .. } = request.clone();
        let commit = ended.and_then(|ended| ended.commit);
        Self { head, head_commit, base, how, opened, at: now, by: None, author, commit, marker, foreign: false }
    }
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
        self.ended.insert(request.number, EndedRequest { at, by, ..EndedRequest::new(request, how, marker, now) });
    }

    /// Notes that a request has just ended.
    pub(super) fn end(&mut self, request: &forge::Request, how: Ended, now: Timestamp) {
        let marker = Marker::of(request);
        self.lately.take(request, marker.as_ref());
        self.ended.insert(request.number, EndedRequest::new(request, how, marker, now));
    }

    /// How the latest request of a branch ended. What the forge closed by itself is the bot's to clear away.
    pub(super) fn last(&self, branch: &str, base: &str) -> Option<Ended> {
        let of = |ended: &&EndedRequest| !ended.foreign && ended.head == branch && ended.base == base;
        let (number, last) = self.ended.iter().rev().find(|(_, ended)| of(ended))?;
        Some(if last.how == Ended::Closed && self.is_swept(*number, last) { Ended::Superseded } else { last.how })
    }

    /// Whether the forge closed a request by itself. Some end the requests of a deleted branch a moment later, in the name
    /// of whoever deleted it, and by then the branch may be there anew with a request that has just been opened.
    fn is_swept(&self, number: u64, request: &EndedRequest) -> bool {
        let by_bot = request.by.as_ref().is_some_and(|by| by.as_ref() == Some(&request.author));
        let within = |since: Timestamp, most| request.at >= since && request.at.duration_since(since) <= most;
        let mut before = self.ended.range(..number).map(|(_, ended)| ended).filter(|ended| ended.head == request.head);
        by_bot && request.opened.is_some_and(|opened| within(opened, SWEPT.0)) && before.any(|ended| within(ended.at, SWEPT.1))
    }

    /// The requests that people closed.
    pub(super) fn closed(&self) -> impl Iterator<Item = (u64, &EndedRequest)> {
        let closed = self.ended.iter().filter(|(_, request)| request.how == Ended::Closed);
        closed.filter(|(number, request)| !self.is_swept(**number, request)).map(|(number, request)| (*number, request))
    }

    /// Whether a commit is the merge of a request that proposed this move: a person may have squashed it under a message of
    /// her own.
    fn proposed(&self, environment: &str, policy: &ImagePolicy, base: &str, step: &Move) -> bool {
        let merged = |request: &&EndedRequest| request.how == Ended::Merged && request.base == base;
        let of = |request: &&EndedRequest| request.commit.as_deref() == Some(step.commit.as_str());
        let markers = self.ended.values().filter(merged).filter(of).filter_map(|request| request.marker.as_ref());
        markers.filter(|marker| marker.environment == environment).any(|marker| {
            // What had no room in its text was in the request all the same.
            let untold = marker.cut > 0 && !marker.moves.iter().any(|row| row.policy == policy.name);
            untold || marker.moves.iter().any(|row| is_of(row, policy, step))
        })
    }

    /// What people refused of a policy in an Environment, as moves back, oldest first.
    fn refused(&self, environment: &str, policy: &ImagePolicy, base: &str) -> Vec<Move> {
        let mut moves = Vec::new();
        for (number, request) in self.closed().filter(|(_, request)| request.base == base && !request.foreign) {
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
                    request: Some(number),
                });
            }
        }
        moves.sort_by_key(|row| row.time);
        moves
    }
}

impl Updater {
    /// Lists what the forge has, once in a pass: also where nothing is for review any more, what people refused holds. What
    /// goes wrong is told in the report; then nothing is known of any request that is open.
    pub(super) async fn list(&self, world: &World, pass: &mut Pass<'_>, report: &mut Report) -> Result<(), GitError> {
        let Some(forge) = self.forge.as_deref() else { return Ok(()) };
        if !matches!(pass.requesting, Requesting::Unasked) {
            // Which are whose may be otherwise in another world.
            return self.whose(world, &[]).map(drop);
        }
        pass.requesting = match self.listed(forge, report, pass.now).await {
            Ok(open) => Requesting::Listed(open),
            Err(error) => {
                report.failures.push(FailureReport::at_forge(&error));
                Requesting::Failed
            }
        };
        self.whose(world, &[]).map(drop)
    }

    /// Whose requests are, at a revision; noted of those that ended.
    pub(super) fn whose(&self, world: &World, open: &[forge::Request]) -> Result<Whose, GitError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let whose = Whose::new(&self.mirror, world, self.config.policies.as_deref(), open, &known)?;
        for ended in known.ended.values_mut() {
            ended.foreign = ended.marker.as_ref().is_some_and(|marker| !whose.is_ours(marker));
        }
        Ok(whose)
    }

    /// The open requests, and the news of those that ended, which are remembered.
    async fn listed(&self, forge: &dyn Forge, report: &mut Report, now: Timestamp) -> Result<Vec<forge::Request>, ForgeError> {
        self.recall(report);
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
        known.rebuilt.retain(|number, _| numbers.contains(number));
        known.refusals.retain(|number, _| numbers.contains(number));
        drop(known);
        self.keep(report);
        Ok(open)
    }

    /// Asks for the requests that ended since the last time.
    async fn learn(&self, forge: &dyn Forge, report: &mut Report, now: Timestamp) -> Result<(), ForgeError> {
        let since = self.known.lock().unwrap_or_else(PoisonError::into_inner).since;
        let oldest = now.checked_sub(SINCE).unwrap_or(Timestamp::MIN);
        let from = since.map_or(whole_day(oldest), |since| since.checked_sub(OVERLAP).unwrap_or(since));
        let Listed { requests: news, latest, back_to } = forge.look(Which::EndedSince(from), PREFIX).await?;
        let unasked: Vec<u64> = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if since.is_none() {
                // All of them: what is not among them is not there any more, or lies too far back to be read.
                let there: HashSet<u64> = news.iter().map(|request| request.number).collect();
                known.ended.retain(|number, ended| there.contains(number) || back_to.is_some_and(|back| ended.at < back));
            }
            if let Some(back) = back_to {
                report.warnings.push(unread(forge, back));
            }
            known.learnt = true;
            for request in &news {
                known.take(request, &mut report.warnings, now);
            }
            // Whatever the forge has shown, of anybody, need not be read again. What was brought from elsewhere may have a
            // time that is still to come: it must not hide what happens until then.
            known.since = latest.map(|latest| latest.min(now)).max(since);
            known.ended.retain(|_, request| request.at >= oldest);
            let unasked = |request: &EndedRequest| request.how == Ended::Closed && request.marker.is_some() && request.by.is_none();
            known.ended.iter().rev().filter(|(_, request)| unasked(request)).map(|(number, _)| *number).take(MOST_ASKED).collect()
        };
        for number in unasked {
            let found = forge.get(number).await;
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            match found {
                Ok(request) => {
                    known.ended.entry(number).and_modify(|known| known.by = Some(request.ended.and_then(|ended| ended.by)));
                }
                // Deleted meanwhile: nobody refuses anything with it any more.
                Err(ForgeError { problem: Problem::NotFound { .. }, .. }) => drop(known.ended.remove(&number)),
                // What it refuses holds without a name, too. The next pass asks again.
                Err(error) => {
                    report.warnings.push(format!("who closed request #{number} is not known: {error}"));
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
    pub(super) async fn learn_for_holds(&self, world: &World, report: &mut Report) -> Result<(), GitError> {
        if let Some(forge) = self.forge.as_deref()
            && let Err(error) = self.listed(forge, report, Timestamp::now()).await
        {
            report.failures.push(FailureReport::at_forge(&error));
        }
        self.whose(world, &[]).map(drop)
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

/// What is said where there are too many requests to read: once, as later only the news are asked for.
fn unread(forge: &dyn Forge, back: Timestamp) -> String {
    let place = forge.place();
    format!(
        "{} {} has more requests that ended than can be read: those that last changed before {} hold nothing that tagboat does not know yet",
        place.kind,
        place.project,
        back.strftime("%Y-%m-%d %H:%M UTC")
    )
}

/// Whether a step is what was proposed.
fn is_of(row: &Proposed, policy: &ImagePolicy, step: &Move) -> bool {
    let ours = row.policy == policy.name && row.repository == policy.image;
    // A digest that moved stands beside the tag that it is of.
    let new = match &step.tag {
        None => row.new.as_str() == step.new,
        Some(tag) => row.new.as_str() == tag && row.digest.as_ref().is_some_and(|digest| digest.as_str() == step.new),
    };
    ours && new
}

/// The beginning of its day: an address with it in it stays the same for so long.
fn whole_day(at: Timestamp) -> Timestamp {
    let second = at.as_second();
    Timestamp::from_second(second - second.rem_euclid(24 * 3600)).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_no_room_in_a_text_was_proposed_all_the_same() {
        let text = "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: web}\nspec: {image: example.org/web, policy: {semver: {range: 1.x}}}\n";
        let declared = crate::declare::read([("p.yaml", text.as_bytes())], None);
        let policy = declared.policies.values().next().unwrap();
        let told = Proposed {
            policy: policy.name.clone(),
            repository: policy.image.clone(),
            old: Some("1.0.0".to_owned()),
            new: crate::image::Tag::new("1.1.0").unwrap(),
            digest: None,
        };
        let step = |new: &str, commit: &str| Move {
            commit: commit.to_owned(),
            author: "Ann".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            by_bot: false,
            old: "1.0.0".to_owned(),
            new: new.to_owned(),
            tag: None,
            request: None,
        };
        // What its text says of a policy is all of it; of others nobody knows.
        for (moves, cut, new, commit, expected) in [
            (vec![told.clone()], 0, "1.1.0", "c", true),
            (vec![told.clone()], 0, "1.2.0", "c", false),
            (vec![told], 1, "1.2.0", "c", false),
            (vec![], 0, "1.1.0", "c", false),
            (vec![], 1, "1.1.0", "c", true),
            (vec![], 1, "1.1.0", "another", false),
        ] {
            let mut marker = Marker::new("prod", None, &[], String::new());
            (marker.moves, marker.cut) = (moves, cut);
            let ended = EndedRequest {
                head: String::new(),
                head_commit: String::new(),
                base: "main".to_owned(),
                how: Ended::Merged,
                opened: None,
                at: Timestamp::UNIX_EPOCH,
                by: None,
                author: String::new(),
                commit: Some("c".to_owned()),
                marker: Some(marker.clone()),
                foreign: false,
            };
            let known = Known { ended: BTreeMap::from([(1, ended)]), ..Known::default() };
            assert_eq!(known.proposed("prod", policy, "main", &step(new, commit)), expected, "{marker:?} {new} {commit}");
            assert!(!known.proposed("dev", policy, "main", &step(new, commit)));
        }
    }
}
