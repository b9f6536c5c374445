//! Rules for automatic merges: every rule of `autoMerge` and of the repository must hold. A rule
//! that does not hold is a sentence.

use super::{
    ImageMove, PreviewSummary,
    types::{
        Approvals, Check, CheckState, Checks, ChecksState, Mergeable, PullRequest, RequestStatus,
    },
};
use crate::{
    core::{
        schedule::{self, Window},
        text::plain,
        version::Bump,
    },
    spec::{AutoMerge, RequireChecks, RequiredCheck},
};
use jiff::{SignedDuration, Timestamp};

/// The label with which people stop all work on a pull request, until they remove it.
pub const HOLD: &str = "tagboat/hold";

/// Prefix of the bot's own statuses. They never count as checks: the bot would wait for itself.
pub const OWN_STATUS: &str = "tagboat/";

/// How long after its last check finished a pull request waits for others that may start. It
/// applies if neither the base nor the Environment names the checks.
pub const SETTLING: SignedDuration = SignedDuration::from_mins(2);

/// Names listed in one sentence; the others are counted.
const NAMED: usize = 5;

/// Inputs of the decision.
#[derive(Debug, Clone, Copy)]
pub struct MergeInput<'a> {
    pub auto_merge: &'a AutoMerge,
    /// The Environment's windows; empty means always open.
    pub windows: &'a [Window],
    pub moves: &'a [ImageMove],
    /// When each tag was first seen with its digest, in the order of `moves`; none if no scan has
    /// seen it.
    pub first_seen: &'a [Option<Timestamp>],
    pub request: &'a PullRequest,
    /// The checks of its head; none if they have not been read.
    pub checks: Option<&'a Checks>,
    /// None if they have not been read.
    pub approvals: Option<&'a Approvals>,
    /// True if all commits of its branch are the bot's.
    pub own: bool,
    /// True if its head is the commit with the desired change.
    pub current: bool,
    pub target: &'a str,
    /// Preview of exactly this head. Clear as long as there is none; previews come last.
    pub preview: &'a PreviewSummary,
    pub now: Timestamp,
}

/// The decision about a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MergeDecision {
    /// Merge exactly `request.head_commit`.
    Now,
    Waits {
        /// Whole sentences; never empty.
        reasons: Vec<String>,
        /// When the last wait for a time ends; none if there is none, or if one never ends.
        until: Option<Timestamp>,
        /// True if only the forge's answers are missing (checks, approvals, mergeability): only
        /// then they are worth reading.
        ask: bool,
    },
}

/// Decides whether a pull request merges now.
///
/// A pass asks first without checks and approvals, and again with them if `ask` says so.
pub fn decide(input: &MergeInput<'_>) -> MergeDecision {
    let mut waits = MergeBlockers::default();
    waits.for_people(input);
    waits.for_steps(input);
    waits.for_ages(input);
    waits.for_windows(input);
    let ask = waits.reasons.is_empty();
    waits.for_checks(input, ask);
    waits.for_approvals(input, ask);
    waits.for_forge(input);
    if waits.reasons.is_empty() {
        return MergeDecision::Now;
    }
    MergeDecision::Waits {
        reasons: waits.reasons,
        until: waits.until.filter(|_| !waits.never),
        ask,
    }
}

/// Reasons against a merge, rule by rule.
#[derive(Default)]
struct MergeBlockers {
    reasons: Vec<String>,
    until: Option<Timestamp>,
    /// True if one of the waits never ends.
    never: bool,
}

impl MergeBlockers {
    fn say(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    fn wait(&mut self, until: Timestamp) {
        self.until = self.until.max(Some(until));
    }

    /// Changes by people to the pull request or its branch, and the preview.
    fn for_people(&mut self, input: &MergeInput<'_>) {
        let request = input.request;
        if request.state != RequestStatus::Open {
            self.say("The pull request is no longer open.");
        }
        if request.draft {
            self.say("The pull request is a draft.");
        }
        if request.labels.iter().any(|label| label == HOLD) {
            self.say(format!("The label {HOLD} is on the pull request."));
        }
        if request.base != input.target {
            self.say(format!(
                "Its base is {}, not {}.",
                plain(&request.base),
                plain(input.target)
            ));
        }
        if !input.own {
            self.say("Its branch has a commit by someone else.");
        }
        if !input.current {
            self.say("Its branch does not have the desired change; it is rebuilt first.");
        }
        match input.preview {
            PreviewSummary::Clear => {}
            PreviewSummary::Refused(why) => self.say(format!(
                "A cluster refuses it in a dry run: {}",
                sentence(why)
            )),
            PreviewSummary::Broken(why) => self.say(format!(
                "Its effect on clusters cannot be determined: {}",
                sentence(why)
            )),
            PreviewSummary::Unknown(why) => self.say(format!(
                "Its effect on clusters is not known yet: {}",
                sentence(why)
            )),
        }
        match &request.mergeable {
            Mergeable::Conflicts => self.say(format!(
                "It conflicts with {}; it is rebuilt first.",
                plain(&request.base)
            )),
            Mergeable::Behind => {
                self.say(format!(
                    "Its branch must contain the newest commit of {}; it is rebuilt first.",
                    plain(&request.base)
                ));
            }
            Mergeable::Yes | Mergeable::Unknown | Mergeable::Blocked(_) => {}
        }
    }

    fn for_steps(&mut self, input: &MergeInput<'_>) {
        if input.moves.is_empty() {
            self.say("The images that it moves are unknown.");
        }
        let allowed: Vec<&str> = input
            .auto_merge
            .bump
            .iter()
            .map(|bump| word(*bump))
            .collect();
        for row in input
            .moves
            .iter()
            .filter(|row| !input.auto_merge.bump.contains(&row.bump))
        {
            let (image, step, bump) = (plain(row.image()), plain(&row.step()), word(row.bump));
            self.say(format!(
                "{image} {step} is a {bump} step; autoMerge.bump allows {} only.",
                list(&allowed)
            ));
        }
    }

    fn for_ages(&mut self, input: &MergeInput<'_>) {
        let Some(age) = input.auto_merge.minimum_age else {
            return;
        };
        for (index, row) in input.moves.iter().enumerate() {
            let what = format!("{} {}", plain(row.image()), row.new);
            let Some(since) = input.first_seen.get(index).copied().flatten() else {
                self.say(format!(
                    "{what} has not been scanned yet, so its age is unknown."
                ));
                continue;
            };
            match since.checked_add(age) {
                Ok(free) if input.now >= free => {}
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
                        "{what} never reaches an age of {}.",
                        schedule::show(age)
                    ));
                    self.never = true;
                }
            }
        }
    }

    fn for_windows(&mut self, input: &MergeInput<'_>) {
        match schedule::open(input.windows, input.now) {
            Ok(()) => {}
            Err(Some(opens)) => {
                self.say(format!("No window is open before {}.", time(opens)));
                self.wait(opens);
            }
            Err(None) => {
                self.say("No window opens again.");
                self.never = true;
            }
        }
    }

    fn for_checks(&mut self, input: &MergeInput<'_>, ask: bool) {
        let Some(checks) = input.checks else {
            // If another reason stands in the way, the checks would not have mattered.
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
                self.say(format!("{} {have} not finished.", checks_named(&pending)));
            }
        }
        match (&input.auto_merge.require_checks, checks.state) {
            (RequireChecks::Named(names), _) => self.for_named(names, &checks),
            (RequireChecks::Any, ChecksState::None) => {
                self.say(
                    "No check has reported; autoMerge.requireChecks: false merges without checks.",
                );
            }
            (RequireChecks::Any, ChecksState::Passed) => self.for_others(input, &checks),
            _ => {}
        }
    }

    /// Checks that must pass by name; failed and pending ones are reported already.
    fn for_named(&mut self, wanted: &[RequiredCheck], checks: &Checks) {
        let named = |wanted: &RequiredCheck| {
            let name = wanted.name.clone();
            checks.named.iter().filter(move |check| check.name == name)
        };
        let of = |wanted: &RequiredCheck| {
            named(wanted)
                .filter(|check| wanted.app.is_none() || is_reported_by(check, wanted))
                .map(|check| check.state)
                .max()
        };
        let are = |state: Option<CheckState>| wanted.iter().filter(move |one| of(one) == state);
        let shown = |one: &RequiredCheck| plain(&one.to_string());
        let (others, silent): (Vec<_>, Vec<_>) =
            are(None).partition(|one| named(one).any(|check| check.state == CheckState::Passed));
        let silent: Vec<String> = silent.into_iter().map(shown).collect();
        let skipped: Vec<String> = are(Some(CheckState::Skipped)).map(shown).collect();
        for one in others {
            let by: Vec<String> = named(one)
                .map(|check| {
                    plain(
                        check
                            .app
                            .as_deref()
                            .unwrap_or("one that the forge does not tell"),
                    )
                })
                .collect();
            self.say(format!(
                "The check {} was reported by {}, and must pass by {}.",
                plain(&one.name),
                list(&by),
                plain(one.app.as_deref().unwrap_or_default())
            ));
        }
        if !silent.is_empty() {
            let have = if silent.len() == 1 { "has" } else { "have" };
            self.say(format!(
                "{} {have} not reported yet.",
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

    /// Waits for checks that may not have started yet, if their names are not declared: a job that
    /// waits for another, a service that is slower.
    fn for_others(&mut self, input: &MergeInput<'_>, checks: &Checks) {
        if checks.named.iter().any(|check| check.required) {
            return;
        }
        let base = plain(&input.request.base);
        let times: Option<Vec<Timestamp>> = checks.named.iter().map(|check| check.at).collect();
        let ended = times
            .and_then(|times| times.into_iter().max())
            .or(input.request.updated);
        let Some((ended, free)) =
            ended.and_then(|ended| Some((ended, ended.checked_add(SETTLING).ok()?)))
        else {
            self.say("The forge does not tell when its checks finished; name them in autoMerge.requireChecks.");
            return;
        };
        if input.now < free {
            self.say(format!(
                "Its checks finished at {}; another one may start until {}. Name them in autoMerge.requireChecks, or require them on {base}, to merge sooner.",
                time(ended),
                time(free)
            ));
            self.wait(free);
        }
    }

    fn for_approvals(&mut self, input: &MergeInput<'_>, ask: bool) {
        let Some(approvals) = input.approvals else {
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
                "{people} approved an earlier state; the number of approvals that {} requires is unknown.",
                plain(&input.request.base)
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
                earlier => format!("; {} approved an earlier state", list(&people(earlier))),
            };
            self.say(format!(
                "It has {} of {required} approvals{by}{earlier}.",
                approvals.by.len()
            ));
        }
    }

    /// The forge's own reasons, only if there are no others: it names the same ones in other words.
    fn for_forge(&mut self, input: &MergeInput<'_>) {
        match &input.request.mergeable {
            Mergeable::Blocked(why) if self.reasons.is_empty() => {
                self.say(format!("The forge does not merge it yet: {}.", plain(why)))
            }
            Mergeable::Unknown if self.reasons.is_empty() => {
                self.say("The forge has not determined yet whether it can be merged.")
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

/// Tells whether the App or account that a declaration names reported a check.
fn is_reported_by(check: &Check, wanted: &RequiredCheck) -> bool {
    check
        .app
        .as_deref()
        .zip(wanted.app.as_deref())
        .is_some_and(|(app, wanted)| app.eq_ignore_ascii_case(wanted))
}

/// Joins words as `a`, `a and b`, `a, b and c`; beyond [`NAMED`] the others are counted.
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

/// Returns the bump as it is written in `autoMerge`.
fn word(bump: Bump) -> &'static str {
    match bump {
        Bump::Major => "major",
        Bump::Minor => "minor",
        Bump::Patch => "patch",
        Bump::Digest => "digest",
        Bump::Other => "other",
    }
}

/// Returns the words of a server or program as the end of a sentence.
fn sentence(why: &str) -> String {
    let why: String = plain(why).chars().take(300).collect();
    let why = why.trim_end();
    if why.ends_with('.') {
        why.to_owned()
    } else {
        format!("{why}.")
    }
}

/// Formats a time with its zone, because readers are in other zones.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests;
