//! When a request merges by itself: only when every rule of `autoMerge` and of the repository
//! holds, each of which is a sentence while it does not.

use super::{
    ImageMove, PreviewSummary,
    types::{Approvals, CheckState, Checks, ChecksState, Mergeable, PullRequest, RequestStatus},
};
use crate::{
    core::{
        schedule::{self, Window},
        text::plain,
        version::Bump,
    },
    spec::{AutoMerge, RequireChecks},
};
use jiff::{SignedDuration, Timestamp};

/// The label by which people stop everything that is done with a request, until they take it off.
pub const HOLD: &str = "tagboat/hold";

/// What the names of the bot's own statuses begin with. They never count as checks: it would wait
/// for itself.
pub const OWN_STATUS: &str = "tagboat/";

/// How long after its last check ended a request waits for others that may begin, where neither the
/// base nor the Environment says which there are.
pub const SETTLING: SignedDuration = SignedDuration::from_mins(2);

/// Names told in one sentence; of more only the number.
const NAMED: usize = 5;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct MergeInput<'a> {
    /// What the Environment lets merge.
    pub auto_merge: &'a AutoMerge,
    /// The Environment's windows; empty means always.
    pub windows: &'a [Window],
    /// The images that the request moves.
    pub moves: &'a [ImageMove],
    /// When each move's tag was first seen with its digest, in the order of `moves`; nothing where
    /// no scan has seen it.
    pub first_seen: &'a [Option<Timestamp>],
    /// The request as the forge last told it.
    pub request: &'a PullRequest,
    /// The checks of its head commit; nothing if they have not been asked for.
    pub checks: Option<&'a Checks>,
    /// Its approvals; nothing if they have not been asked for.
    pub approvals: Option<&'a Approvals>,
    /// Whether all commits of its branch are the bot's.
    pub own: bool,
    /// Whether its head is the commit that holds what is wanted now.
    pub current: bool,
    /// The branch that it is to be merged into.
    pub target: &'a str,
    /// What a preview of exactly this head says; clear as long as none was made, which comes last.
    pub preview: &'a PreviewSummary,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeDecision {
    /// Every rule holds: merge exactly `request.head_commit`.
    Now,
    /// Something stands in the way.
    Waits {
        /// All of it, one whole sentence each; never empty.
        reasons: Vec<String>,
        /// When the last of the times has come that it waits for; nothing if it waits for none, or
        /// for one that never comes.
        until: Option<Timestamp>,
        /// Whether nothing stands in the way but what the forge has to say (checks, approvals,
        /// whether it can be merged): only then these are worth asking for.
        ask: bool,
    },
}

/// Decides whether a request merges now. A pass asks first without checks and approvals, and again
/// with them where `ask` says so.
pub fn decide(asked: &MergeInput<'_>) -> MergeDecision {
    let mut waits = MergeBlockers::default();
    waits.for_people(asked);
    waits.for_steps(asked);
    waits.for_ages(asked);
    waits.for_windows(asked);
    let ask = waits.reasons.is_empty();
    waits.for_checks(asked, ask);
    waits.for_approvals(asked, ask);
    waits.for_forge(asked);
    if waits.reasons.is_empty() {
        return MergeDecision::Now;
    }
    MergeDecision::Waits {
        reasons: waits.reasons,
        until: waits.until.filter(|_| !waits.never),
        ask,
    }
}

/// What stands in the way, rule by rule.
#[derive(Default)]
struct MergeBlockers {
    reasons: Vec<String>,
    until: Option<Timestamp>,
    /// Whether it waits for a time that does not come.
    never: bool,
}

impl MergeBlockers {
    fn say(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    fn wait(&mut self, until: Timestamp) {
        self.until = self.until.max(Some(until));
    }

    /// What somebody has done to the request or its branch, and what the preview found.
    fn for_people(&mut self, asked: &MergeInput<'_>) {
        let request = asked.request;
        if request.state != RequestStatus::Open {
            self.say("The request is not open any more.");
        }
        if request.draft {
            self.say("The request is a draft.");
        }
        if request.labels.iter().any(|label| label == HOLD) {
            self.say(format!("The label {HOLD} is on the request."));
        }
        if request.base != asked.target {
            self.say(format!(
                "It was pointed at {}, not at {}.",
                plain(&request.base),
                plain(asked.target)
            ));
        }
        if !asked.own {
            self.say("Its branch has a commit by somebody else.");
        }
        if !asked.current {
            self.say("Its branch does not have what is wanted now; it is built anew first.");
        }
        match asked.preview {
            PreviewSummary::Clear => {}
            PreviewSummary::Refused(why) => self.say(format!(
                "A cluster refuses it in a dry run: {}",
                sentence(why)
            )),
            PreviewSummary::Broken(why) => self.say(format!(
                "What it does on clusters cannot be said: {}",
                sentence(why)
            )),
            PreviewSummary::Unknown(why) => self.say(format!(
                "What it does on clusters is not known yet: {}",
                sentence(why)
            )),
        }
        match &request.mergeable {
            Mergeable::Conflicts => self.say(format!(
                "It conflicts with {}; it is built anew first.",
                plain(&request.base)
            )),
            Mergeable::Behind => {
                self.say(format!(
                    "Its branch must contain the newest commit of {}; it is built anew first.",
                    plain(&request.base)
                ));
            }
            Mergeable::Yes | Mergeable::Unknown | Mergeable::Blocked(_) => {}
        }
    }

    fn for_steps(&mut self, asked: &MergeInput<'_>) {
        if asked.moves.is_empty() {
            self.say("Which images it moves is not known.");
        }
        let allowed: Vec<&str> = asked
            .auto_merge
            .bump
            .iter()
            .map(|bump| word(*bump))
            .collect();
        for row in asked
            .moves
            .iter()
            .filter(|row| !asked.auto_merge.bump.contains(&row.bump))
        {
            let (image, step, bump) = (plain(row.image()), plain(&row.step()), word(row.bump));
            self.say(format!(
                "{image} {step} is a step of kind {bump}; autoMerge.bump has {} only.",
                list(&allowed)
            ));
        }
    }

    fn for_ages(&mut self, asked: &MergeInput<'_>) {
        let Some(age) = asked.auto_merge.minimum_age else {
            return;
        };
        for (index, row) in asked.moves.iter().enumerate() {
            let what = format!("{} {}", plain(row.image()), row.new);
            let Some(since) = asked.first_seen.get(index).copied().flatten() else {
                self.say(format!(
                    "{what} has not been seen by a scan yet, so that its age is not known."
                ));
                continue;
            };
            match since.checked_add(age) {
                Ok(free) if asked.now >= free => {}
                Ok(free) => {
                    self.say(format!(
                        "{what} was first seen {}; it is {} old at {}.",
                        time(since),
                        schedule::show(age),
                        time(free)
                    ));
                    self.wait(free);
                }
                Err(_) => {
                    self.say(format!(
                        "{what} never comes to an age of {}.",
                        schedule::show(age)
                    ));
                    self.never = true;
                }
            }
        }
    }

    fn for_windows(&mut self, asked: &MergeInput<'_>) {
        match schedule::open(asked.windows, asked.now) {
            Ok(()) => {}
            Err(Some(opens)) => {
                self.say(format!("No window is open before {}.", time(opens)));
                self.wait(opens);
            }
            Err(None) => {
                self.say("No window ever opens again.");
                self.never = true;
            }
        }
    }

    fn for_checks(&mut self, asked: &MergeInput<'_>, ask: bool) {
        let Some(checks) = asked.checks else {
            // Nobody needs to read that something was not asked for because it would not have
            // mattered.
            if ask {
                self.say("Its checks have not been read yet.");
            }
            return;
        };
        let checks = checks
            .clone()
            .without(|check| check.name.starts_with(OWN_STATUS));
        let named = |state: CheckState| -> Vec<String> {
            checks
                .named
                .iter()
                .filter(|check| check.state == state)
                .map(|check| plain(&check.name))
                .collect()
        };
        match checks.state {
            ChecksState::Passed | ChecksState::None => {}
            ChecksState::Failed => self.say(format!(
                "{} failed.",
                checks_named(&named(CheckState::Failed))
            )),
            ChecksState::Pending => {
                let pending = named(CheckState::Pending);
                let have = if pending.len() == 1 { "has" } else { "have" };
                self.say(format!("{} {have} not ended.", checks_named(&pending)));
            }
        }
        match (&asked.auto_merge.require_checks, checks.state) {
            (RequireChecks::Named(names), _) => self.for_named(names, &checks),
            (RequireChecks::Any, ChecksState::None) => {
                self.say("No check has said anything about it; autoMerge.requireChecks: false merges without.");
            }
            (RequireChecks::Any, ChecksState::Passed) => self.for_others(asked, &checks),
            _ => {}
        }
    }

    /// The checks that must have passed by name; what failed or has not ended was told.
    fn for_named(&mut self, names: &[String], checks: &Checks) {
        let of = |name: &str| {
            checks
                .named
                .iter()
                .filter(|check| check.name == name)
                .map(|check| check.state)
                .max()
        };
        let are = |state: Option<CheckState>| -> Vec<String> {
            names
                .iter()
                .filter(|name| of(name) == state)
                .map(|name| plain(name))
                .collect()
        };
        let (silent, skipped) = (are(None), are(Some(CheckState::Skipped)));
        if !silent.is_empty() {
            let have = if silent.len() == 1 { "has" } else { "have" };
            self.say(format!(
                "{} {have} said nothing yet.",
                checks_named(&silent)
            ));
        }
        if !skipped.is_empty() {
            let were = if skipped.len() == 1 { "was" } else { "were" };
            self.say(format!(
                "{} {were} skipped, and must pass.",
                checks_named(&skipped)
            ));
        }
    }

    /// Where nobody says which checks there are, others than those that passed may not have begun
    /// yet: a job that waits for another, a service that was slower.
    fn for_others(&mut self, asked: &MergeInput<'_>, checks: &Checks) {
        if checks.named.iter().any(|check| check.required) {
            return;
        }
        let base = plain(&asked.request.base);
        let told: Option<Vec<Timestamp>> = checks.named.iter().map(|check| check.at).collect();
        let ended = told
            .and_then(|times| times.into_iter().max())
            .or(asked.request.updated);
        let Some((ended, free)) =
            ended.and_then(|ended| Some((ended, ended.checked_add(SETTLING).ok()?)))
        else {
            self.say("When its checks ended is not told; name them in autoMerge.requireChecks.");
            return;
        };
        if asked.now < free {
            self.say(format!(
                "Its checks ended at {}; another one may begin until {}. It does not wait for checks that autoMerge.requireChecks names or {base} requires.",
                time(ended),
                time(free)
            ));
            self.wait(free);
        }
    }

    fn for_approvals(&mut self, asked: &MergeInput<'_>, ask: bool) {
        let Some(approvals) = asked.approvals else {
            if ask {
                self.say("Its approvals have not been read yet.");
            }
            return;
        };
        let people = |logins: &[String]| -> Vec<String> {
            logins.iter().map(|login| plain(login)).collect()
        };
        if !approvals.changes_requested.is_empty() {
            let people = people(&approvals.changes_requested);
            self.say(format!(
                "{} {} changes.",
                list(&people),
                if people.len() == 1 { "wants" } else { "want" }
            ));
        }
        if approvals.only_earlier() {
            let people = list(&people(&approvals.earlier));
            self.say(format!(
                "{people} approved an earlier state of it; how many approvals {} needs is not told.",
                plain(&asked.request.base)
            ));
        }
        let required = approvals.required.unwrap_or(0) as usize;
        if approvals.by.len() < required {
            let by = if approvals.by.is_empty() {
                String::new()
            } else {
                format!(", by {}", list(&people(&approvals.by)))
            };
            let earlier = match approvals.earlier.as_slice() {
                [] => String::new(),
                earlier => format!(
                    "; {} approved an earlier state of it",
                    list(&people(earlier))
                ),
            };
            self.say(format!(
                "It has {} of {required} approvals{by}{earlier}.",
                approvals.by.len()
            ));
        }
    }

    /// What else the forge wants, if nothing else has been said: it speaks of the same things in
    /// other words.
    fn for_forge(&mut self, asked: &MergeInput<'_>) {
        match &asked.request.mergeable {
            Mergeable::Blocked(why) if self.reasons.is_empty() => {
                self.say(format!("The forge does not merge it yet: {}.", plain(why)))
            }
            Mergeable::Unknown if self.reasons.is_empty() => {
                self.say("The forge has not said yet whether it can be merged.")
            }
            _ => {}
        }
    }
}

/// `The check a`, or `The checks a and b`.
fn checks_named(names: &[String]) -> String {
    format!(
        "The check{} {}",
        if names.len() == 1 { "" } else { "s" },
        list(names)
    )
}

/// `a`, `a and b`, `a, b and c`; of more than [`NAMED`] the number of the others.
pub(crate) fn list<S: AsRef<str>>(words: &[S]) -> String {
    let rest = words.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = words
        .iter()
        .take(NAMED)
        .map(|word| word.as_ref().to_owned())
        .collect();
    if rest > 0 {
        shown.push(format!("{rest} more"));
    }
    match shown.split_last() {
        None => "none".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, before)) => format!("{} and {last}", before.join(", ")),
    }
}

/// A kind of step as it is written.
fn word(bump: Bump) -> &'static str {
    match bump {
        Bump::Major => "major",
        Bump::Minor => "minor",
        Bump::Patch => "patch",
        Bump::Digest => "digest",
        Bump::Other => "other",
    }
}

/// What a server or a program said, as the end of a sentence.
fn sentence(why: &str) -> String {
    let why: String = plain(why).chars().take(300).collect();
    let why = why.trim_end();
    if why.ends_with('.') {
        why.to_owned()
    } else {
        format!("{why}.")
    }
}

/// A time for people; the zone is said, because it is hardly theirs.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests;
