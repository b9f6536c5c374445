//! Pull requests that have ended, by merge or close, and what people refused by closing them.

use super::{
    authors::{Authorship, RequestAuthors},
    recent_merges::RecentMerges,
};
use crate::{
    core::text::plain,
    images::policy::{HeldMove, MoveOrigin},
    io::forge,
    review::{
        Marker, Proposed,
        lifecycle::{ClosedRequest, SUPERSEDED},
    },
    spec::ImagePolicy,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// How long after its opening a pull request may be closed by the forge along with the deleted
/// branch of its predecessor.
const SWEPT_AFTER_OPENING: SignedDuration = SignedDuration::from_mins(1);

/// How long after the end of its predecessor that may happen.
const SWEPT_AFTER_PREDECESSOR: SignedDuration = SignedDuration::from_mins(5);

/// A pull request that has ended.
#[derive(Debug, Clone)]
pub(crate) struct EndedRequest {
    pub(crate) head: String,
    /// The commit that the forge knew as its head.
    pub(crate) head_commit: String,
    pub(crate) base: String,
    pub(crate) how: ClosedRequest,
    pub(crate) opened: Option<Timestamp>,
    pub(crate) at: Timestamp,
    /// Who closed it; none as long as the forge has not been asked.
    pub(crate) by: Option<Option<String>>,
    pub(crate) author: String,
    /// The commit that its merge made.
    pub(crate) commit: Option<String>,
    pub(crate) marker: Option<Marker>,
    /// True if another updater declares its Environment.
    pub(crate) foreign: bool,
    /// Who opened it: a pull request of a stranger decides nothing.
    pub(crate) authorship: Authorship,
}

impl EndedRequest {
    fn new(
        request: &forge::PullRequest,
        how: ClosedRequest,
        (authorship, marker): (Authorship, Option<Marker>),
        now: Timestamp,
    ) -> Self {
        let forge::PullRequest {
            head,
            head_commit,
            base,
            opened,
            author,
            ended,
            ..
        } = request.clone();
        let commit = ended.and_then(|ended| ended.commit);
        Self {
            head,
            head_commit,
            base,
            how,
            opened,
            at: now,
            by: None,
            author,
            commit,
            marker,
            foreign: false,
            authorship,
        }
    }

    fn is_of_stranger(&self) -> bool {
        self.authorship == Authorship::Stranger
    }
}

/// The pull requests that have ended, and how far the forge has been read. All of it can be read
/// again.
#[derive(Debug, Default, Clone)]
pub(crate) struct EndedRequests {
    /// By number.
    pub(crate) all: BTreeMap<u64, EndedRequest>,
    /// True once the forge, or the store in its place, has told which have ended.
    pub(crate) is_known: bool,
    /// The closures as the store has them; none before the store was read.
    pub(crate) stored: Option<Vec<u8>>,
    /// The latest change of any pull request that the forge has shown.
    pub(crate) since: Option<Timestamp>,
    pub(crate) recent: RecentMerges,
}

impl EndedRequests {
    /// Returns those for a base that no other updater owns and no other account opened.
    pub(crate) fn ours<'s>(
        &'s self,
        base: &'s str,
    ) -> impl Iterator<Item = (u64, &'s EndedRequest)> {
        self.all
            .iter()
            .filter(move |(_, ended)| {
                !ended.foreign && !ended.is_of_stranger() && ended.base == base
            })
            .map(|(number, ended)| (*number, ended))
    }

    /// Adds a pull request, if it has ended.
    pub(crate) fn add(
        &mut self,
        request: &forge::PullRequest,
        authors: Option<&RequestAuthors>,
        warnings: &mut Vec<String>,
        now: Timestamp,
    ) {
        let superseded = request.labels.iter().any(|label| label == SUPERSEDED);
        let how = match request.state {
            forge::RequestStatus::Open => return,
            forge::RequestStatus::Merged => ClosedRequest::Merged,
            forge::RequestStatus::Closed if superseded => ClosedRequest::Superseded,
            forge::RequestStatus::Closed => ClosedRequest::Closed,
        };
        let known = self.all.get(&request.number);
        let fresh = authors.map_or(Authorship::Stranger, |known| known.authorship(request));
        let Judgement {
            authorship,
            marker,
            doubt,
        } = Judgement::new(known, fresh, request);
        // It appears once: for a new one, and for one that has held something back until now.
        let is_news = known.is_none_or(|known| known.marker.is_some());
        if let Some(doubt) = doubt.filter(|_| how == ClosedRequest::Closed && is_news) {
            warnings.push(format!(
                "pull request #{} ({}) was closed by hand, but {}: it holds nothing back",
                request.number,
                plain(&request.url),
                plain(&doubt)
            ));
        }
        self.recent.add(request, marker.as_ref());
        let by = known
            .filter(|known| known.how == how)
            .and_then(|known| known.by.clone());
        let at = request
            .ended
            .as_ref()
            .and_then(|ended| ended.at)
            .or(request.updated)
            .unwrap_or(now);
        self.all.insert(
            request.number,
            EndedRequest {
                at,
                by,
                ..EndedRequest::new(request, how, (authorship, marker), now)
            },
        );
    }

    /// Adds a pull request that this process has just merged or closed.
    pub(crate) fn end(&mut self, request: &forge::PullRequest, how: ClosedRequest, now: Timestamp) {
        let marker = Marker::of(request);
        self.recent.add(request, marker.as_ref());
        // The listing that shows it judges it.
        let known = (Authorship::Unknown, marker);
        self.all
            .insert(request.number, EndedRequest::new(request, how, known, now));
    }

    /// Tells whether there are any that another login of the bot could have opened.
    pub(crate) fn has_doubtful(&self) -> bool {
        let is_doubtful = |request: &EndedRequest| {
            matches!(
                request.authorship,
                Authorship::Unknown | Authorship::Stranger
            )
        };
        self.all.values().any(is_doubtful)
    }

    /// Returns how the latest pull request of a branch ended.
    ///
    /// One that the forge closed by itself counts as closed by the bot.
    pub(crate) fn last(&self, branch: &str, base: &str) -> Option<ClosedRequest> {
        let (number, last) = self
            .ours(base)
            .filter(|(_, ended)| ended.head == branch)
            .last()?;
        Some(
            if last.how == ClosedRequest::Closed && self.is_swept(number, last) {
                ClosedRequest::Superseded
            } else {
                last.how
            },
        )
    }

    /// Tells whether the forge closed a pull request by itself.
    ///
    /// Some forges close the pull requests of a deleted branch a moment later, in the name of the
    /// user who deleted it. By then the branch may exist again, with a new pull request.
    fn is_swept(&self, number: u64, request: &EndedRequest) -> bool {
        let by_bot = request
            .by
            .as_ref()
            .is_some_and(|by| by.as_ref() == Some(&request.author));
        let within = |since: Timestamp, most| {
            request.at >= since && request.at.duration_since(since) <= most
        };
        let mut before = self
            .all
            .range(..number)
            .map(|(_, ended)| ended)
            .filter(|ended| ended.head == request.head && !ended.is_of_stranger());
        by_bot
            && request
                .opened
                .is_some_and(|opened| within(opened, SWEPT_AFTER_OPENING))
            && before.any(|ended| within(ended.at, SWEPT_AFTER_PREDECESSOR))
    }

    /// Returns the pull requests that people closed.
    pub(crate) fn closed(&self) -> impl Iterator<Item = (u64, &EndedRequest)> {
        let closed = self.all.iter().filter(|(_, request)| {
            request.how == ClosedRequest::Closed && !request.is_of_stranger()
        });
        closed
            .filter(|(number, request)| !self.is_swept(**number, request))
            .map(|(number, request)| (*number, request))
    }

    /// Tells whether a commit is the merge of a pull request that proposed this move.
    ///
    /// A person may have squashed it with another message.
    pub(crate) fn proposed(
        &self,
        environment: &str,
        policy: &ImagePolicy,
        base: &str,
        step: &HeldMove,
    ) -> bool {
        let merged =
            |request: &&EndedRequest| request.how == ClosedRequest::Merged && request.base == base;
        let MoveOrigin::Commit { id, .. } = &step.origin else {
            return false;
        };
        let of = |request: &&EndedRequest| request.commit.as_deref() == Some(id.as_str());
        let markers = self
            .all
            .values()
            .filter(merged)
            .filter(of)
            .filter_map(|request| request.marker.as_ref());
        markers
            .filter(|marker| marker.environment == environment)
            .any(|marker| {
                // A move that had no room in the marker was in the pull request all the same.
                let was_cut =
                    marker.cut > 0 && !marker.moves.iter().any(|row| row.policy == policy.name);
                was_cut || marker.moves.iter().any(|row| is_of(row, policy, step))
            })
    }

    /// Returns the latest ones closed by a person of whom the name is unknown.
    pub(crate) fn closer_unknown(&self, most: usize) -> Vec<u64> {
        let is_unknown = |request: &EndedRequest| {
            request.how == ClosedRequest::Closed && request.marker.is_some() && request.by.is_none()
        };
        self.all
            .iter()
            .rev()
            .filter(|(_, request)| is_unknown(request))
            .map(|(number, _)| *number)
            .take(most)
            .collect()
    }

    /// Returns what people refused of a policy in an Environment, as moves back, oldest first.
    pub(crate) fn refused(
        &self,
        environment: &str,
        policy: &ImagePolicy,
        base: &str,
    ) -> Vec<HeldMove> {
        let mut moves = Vec::new();
        for (number, request) in self
            .closed()
            .filter(|(_, request)| request.base == base && !request.foreign)
        {
            let Some(marker) = request
                .marker
                .as_ref()
                .filter(|marker| marker.environment == environment)
            else {
                continue;
            };
            for row in marker
                .moves
                .iter()
                .filter(|row| row.policy == policy.name && row.repository == policy.image)
            {
                let by_digest = policy.choice.followed().is_some()
                    || row.old.as_deref() == Some(row.new.as_str());
                let digest = row.digest.as_ref().filter(|_| by_digest);
                moves.push(HeldMove {
                    origin: MoveOrigin::ClosedRequest {
                        number,
                        author: request
                            .by
                            .clone()
                            .flatten()
                            .unwrap_or_else(|| "someone".to_owned()),
                    },
                    time: request.at,
                    by_bot: false,
                    old: digest.map_or_else(
                        || row.new.as_str().to_owned(),
                        |digest| digest.as_str().to_owned(),
                    ),
                    new: row.old.clone().unwrap_or_default(),
                    tag: digest.map(|_| row.new.as_str().to_owned()),
                });
            }
        }
        moves.sort_by_key(|row| row.time);
        moves
    }
}

/// Who opened a pull request that has ended, and what it says.
struct Judgement {
    authorship: Authorship,
    marker: Option<Marker>,
    /// The reason why its marker does not count.
    doubt: Option<String>,
}

impl Judgement {
    fn new(known: Option<&EndedRequest>, fresh: Authorship, request: &forge::PullRequest) -> Self {
        let before = known.and_then(|known| Some((known.authorship, known.marker.clone()?)));
        let (authorship, marker, doubt) = match (before, fresh, Marker::read(&request.body)) {
            // The bot's account may change or be deleted, and people may edit the text: neither
            // takes back what was read before.
            (Some((own @ (Authorship::Signed | Authorship::Account), marker)), ..) => {
                (own, Some(marker), None)
            }
            (_, Authorship::Signed, Ok(marker)) => (fresh, marker, None),
            (Some((_, marker)), Authorship::Account | Authorship::Unknown, _) => {
                (fresh, Some(marker), None)
            }
            (_, Authorship::Stranger, Ok(None)) => (fresh, None, None),
            (_, Authorship::Stranger, _) => {
                let doubt = format!("{} opened it, who is not the bot", request.author);
                (fresh, None, Some(doubt))
            }
            (_, _, Ok(marker)) => (fresh, marker, None),
            (_, _, Err(error)) => (fresh, None, Some(error.to_string())),
        };
        Self {
            authorship,
            marker,
            doubt,
        }
    }
}

/// Tells whether a step is the proposed one.
fn is_of(row: &Proposed, policy: &ImagePolicy, step: &HeldMove) -> bool {
    let ours = row.policy == policy.name && row.repository == policy.image;
    // The step of a digest names the tag beside it.
    let new = match &step.tag {
        None => row.new.as_str() == step.new,
        Some(tag) => {
            row.new.as_str() == tag
                && row
                    .digest
                    .as_ref()
                    .is_some_and(|digest| digest.as_str() == step.new)
        }
    };
    ours && new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposed_counts_moves_cut_from_the_marker() {
        let text = "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {name: web}\nspec: {image: example.org/web, policy: {semver: {range: 1.x}}}\n";
        let declared = crate::spec::read([("p.yaml", text.as_bytes())], None);
        let policy = declared.policies.values().next().unwrap();
        let proposed = Proposed {
            policy: policy.name.clone(),
            repository: policy.image.clone(),
            old: Some("1.0.0".to_owned()),
            new: crate::core::image::Tag::new("1.1.0").unwrap(),
            digest: None,
        };
        let step = |new: &str, commit: &str| HeldMove {
            origin: MoveOrigin::Commit {
                id: commit.to_owned(),
                author: "Ann".to_owned(),
            },
            time: Timestamp::UNIX_EPOCH,
            by_bot: false,
            old: "1.0.0".to_owned(),
            new: new.to_owned(),
            tag: None,
        };
        // A policy with moves in the marker has all of them there; of others it is unknown.
        for (moves, cut, new, commit, expected) in [
            (vec![proposed.clone()], 0, "1.1.0", "c", true),
            (vec![proposed.clone()], 0, "1.2.0", "c", false),
            (vec![proposed], 1, "1.2.0", "c", false),
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
                how: ClosedRequest::Merged,
                opened: None,
                at: Timestamp::UNIX_EPOCH,
                by: None,
                author: String::new(),
                commit: Some("c".to_owned()),
                marker: Some(marker.clone()),
                foreign: false,
                authorship: Authorship::Signed,
            };
            let known = EndedRequests {
                all: BTreeMap::from([(1, ended)]),
                ..EndedRequests::default()
            };
            assert_eq!(
                known.proposed("prod", policy, "main", &step(new, commit)),
                expected,
                "{marker:?} {new} {commit}"
            );
            assert!(!known.proposed("dev", policy, "main", &step(new, commit)));
        }
    }
}
