//! When a request merges by itself: only when every rule of `autoMerge` and of the repository holds, each of which is a
//! sentence while it does not.

use super::ImageMove;
use crate::{
    declare::AutoMerge,
    forge::{Approvals, CheckState, Checks, ChecksState, Mergeable, Request, State},
    health::plain,
    schedule::{self, Window},
    version::Bump,
};
use jiff::Timestamp;

/// The label by which people stop everything that is done with a request, until they take it off.
pub const HOLD: &str = "tagboat/hold";

/// What the names of the bot's own statuses begin with. They never count as checks: it would wait for itself.
pub const OWN_STATUS: &str = "tagboat/";

/// Names told in one sentence; of more only the number.
const NAMED: usize = 5;

/// What the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the Environment lets merge.
    pub auto_merge: &'a AutoMerge,
    /// The Environment's windows; empty means always.
    pub windows: &'a [Window],
    /// The images that the request moves.
    pub moves: &'a [ImageMove],
    /// When each move's tag was first seen with its digest, in the order of `moves`; nothing where no scan has seen it.
    pub seen: &'a [Option<Timestamp>],
    /// The request as the forge last told it.
    pub request: &'a Request,
    /// The checks of its head commit; nothing if they have not been asked for.
    pub checks: Option<&'a Checks>,
    /// Its approvals; nothing if they have not been asked for.
    pub approvals: Option<&'a Approvals>,
    /// Whether all commits of its branch are the bot's.
    pub own: bool,
    /// Whether its head is the commit that holds what is wanted now.
    pub current: bool,
    /// Whether a cluster refuses something of it in the preview's dry run.
    pub refused: bool,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merging {
    /// Every rule holds: merge exactly `request.head_commit`.
    Now,
    /// Something stands in the way.
    Waits {
        /// All of it, one whole sentence each; never empty.
        reasons: Vec<String>,
        /// When the last of the times has come that it waits for; nothing if it waits for none, or for one that never
        /// comes.
        until: Option<Timestamp>,
        /// Whether nothing stands in the way but what the forge has to say (checks, approvals, whether it can be merged):
        /// only then these are worth asking for.
        ask: bool,
    },
}

/// Decides whether a request merges now. A pass asks first without checks and approvals, and again with them where `ask`
/// says so.
pub fn decide(asked: &Asked<'_>) -> Merging {
    let mut waits = Waits::default();
    waits.for_people(asked);
    waits.for_steps(asked);
    waits.for_ages(asked);
    waits.for_windows(asked);
    let ask = waits.reasons.is_empty();
    waits.for_checks(asked, ask);
    waits.for_approvals(asked, ask);
    waits.for_forge(asked);
    if waits.reasons.is_empty() {
        return Merging::Now;
    }
    Merging::Waits { reasons: waits.reasons, until: waits.until.filter(|_| !waits.never), ask }
}

/// What stands in the way, rule by rule.
#[derive(Default)]
struct Waits {
    reasons: Vec<String>,
    until: Option<Timestamp>,
    /// Whether it waits for a time that does not come.
    never: bool,
}

impl Waits {
    fn say(&mut self, reason: impl Into<String>) {
        self.reasons.push(reason.into());
    }

    fn wait(&mut self, until: Timestamp) {
        self.until = self.until.max(Some(until));
    }

    /// What somebody has done to the request or its branch, and what the preview found.
    fn for_people(&mut self, asked: &Asked<'_>) {
        let request = asked.request;
        if request.state != State::Open {
            self.say("The request is not open any more.");
        }
        if request.draft {
            self.say("The request is a draft.");
        }
        if request.labels.iter().any(|label| label == HOLD) {
            self.say(format!("The label {HOLD} is on the request."));
        }
        if !asked.own {
            self.say("Its branch has a commit by somebody else.");
        }
        if !asked.current {
            self.say("Its branch does not have what is wanted now; it is built anew first.");
        }
        if asked.refused {
            self.say("A cluster refuses it in a dry run; the preview says why.");
        }
        match &request.mergeable {
            Mergeable::Conflicts => self.say(format!("It conflicts with {}; it is built anew first.", plain(&request.base))),
            Mergeable::Behind => {
                self.say(format!("Its branch must contain the newest commit of {}; it is built anew first.", plain(&request.base)));
            }
            Mergeable::Yes | Mergeable::Unknown | Mergeable::Blocked(_) => {}
        }
    }

    fn for_steps(&mut self, asked: &Asked<'_>) {
        if asked.moves.is_empty() {
            self.say("Which images it moves is not known.");
        }
        let allowed: Vec<&str> = asked.auto_merge.bump.iter().map(|bump| word(*bump)).collect();
        for row in asked.moves.iter().filter(|row| !asked.auto_merge.bump.contains(&row.bump)) {
            let (image, step, bump) = (plain(row.image()), plain(&row.step()), word(row.bump));
            self.say(format!("{image} {step} is a step of kind {bump}; autoMerge.bump has {} only.", list(&allowed)));
        }
    }

    fn for_ages(&mut self, asked: &Asked<'_>) {
        let Some(age) = asked.auto_merge.minimum_age else { return };
        for (index, row) in asked.moves.iter().enumerate() {
            let what = format!("{} {}", plain(row.image()), row.new);
            let Some(since) = asked.seen.get(index).copied().flatten() else {
                self.say(format!("{what} has not been seen by a scan yet, so that its age is not known."));
                continue;
            };
            match since.checked_add(age) {
                Ok(free) if asked.now >= free => {}
                Ok(free) => {
                    self.say(format!("{what} was first seen {}; it is {} old at {}.", time(since), schedule::show(age), time(free)));
                    self.wait(free);
                }
                Err(_) => {
                    self.say(format!("{what} never comes to an age of {}.", schedule::show(age)));
                    self.never = true;
                }
            }
        }
    }

    fn for_windows(&mut self, asked: &Asked<'_>) {
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

    fn for_checks(&mut self, asked: &Asked<'_>, ask: bool) {
        let Some(checks) = asked.checks else {
            // Nobody needs to read that something was not asked for because it would not have mattered.
            if ask {
                self.say("Its checks have not been read yet.");
            }
            return;
        };
        let checks = checks.clone().without(|check| check.name.starts_with(OWN_STATUS));
        let named = |state: CheckState| -> Vec<String> {
            checks.named.iter().filter(|check| check.state == state).map(|check| plain(&check.name)).collect()
        };
        match checks.state {
            ChecksState::Passed => {}
            ChecksState::None if asked.auto_merge.require_checks => {
                self.say("No check has said anything about it; autoMerge.requireChecks: false merges without.");
            }
            ChecksState::None => {}
            ChecksState::Failed => self.say(format!("{} failed.", checks_named(&named(CheckState::Failed)))),
            ChecksState::Pending => {
                let pending = named(CheckState::Pending);
                let have = if pending.len() == 1 { "has" } else { "have" };
                self.say(format!("{} {have} not ended.", checks_named(&pending)));
            }
        }
    }

    fn for_approvals(&mut self, asked: &Asked<'_>, ask: bool) {
        let Some(approvals) = asked.approvals else {
            if ask {
                self.say("Its approvals have not been read yet.");
            }
            return;
        };
        let people = |logins: &[String]| -> Vec<String> { logins.iter().map(|login| plain(login)).collect() };
        if !approvals.changes_requested.is_empty() {
            let people = people(&approvals.changes_requested);
            self.say(format!("{} {} changes.", list(&people), if people.len() == 1 { "wants" } else { "want" }));
        }
        let required = approvals.required.unwrap_or(0) as usize;
        if approvals.by.len() < required {
            let by = if approvals.by.is_empty() { String::new() } else { format!(", by {}", list(&people(&approvals.by))) };
            self.say(format!("It has {} of {required} approvals{by}.", approvals.by.len()));
        }
    }

    /// What else the forge wants, if nothing else has been said: it speaks of the same things in other words.
    fn for_forge(&mut self, asked: &Asked<'_>) {
        match &asked.request.mergeable {
            Mergeable::Blocked(why) if self.reasons.is_empty() => self.say(format!("The forge does not merge it yet: {}.", plain(why))),
            Mergeable::Unknown if self.reasons.is_empty() => self.say("The forge has not said yet whether it can be merged."),
            _ => {}
        }
    }
}

/// `The check a`, or `The checks a and b`.
fn checks_named(names: &[String]) -> String {
    format!("The check{} {}", if names.len() == 1 { "" } else { "s" }, list(names))
}

/// `a`, `a and b`, `a, b and c`; of more than [`NAMED`] the number of the others.
fn list<S: AsRef<str>>(words: &[S]) -> String {
    let rest = words.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = words.iter().take(NAMED).map(|word| word.as_ref().to_owned()).collect();
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

/// A time for people; the zone is said, because it is hardly theirs.
fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forge::Check,
        publish::FileLine,
        schedule::{CronLine, duration},
        version,
    };
    use proptest::prelude::*;

    /// Saturday.
    const NOW: &str = "2026-11-21T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn row(image: &str, old: &str, new: &str) -> ImageMove {
        ImageMove {
            policy: format!("apps/{image}").parse().unwrap(),
            repository: crate::image::Repository::new(&format!("ghcr.io/acme/{image}")).unwrap(),
            old: Some(old.to_owned()),
            new: crate::image::Tag::new(new).unwrap(),
            digest: None,
            bump: version::bump(Some(old), new),
            places: vec![FileLine { file: "envs/dev/app.yaml".to_owned(), line: 12 }],
        }
    }

    fn check(name: &str, state: CheckState) -> Check {
        Check { name: name.to_owned(), state, required: false, url: None }
    }

    /// Everything that a decision borrows; as it is, every rule holds.
    #[derive(Debug, Clone)]
    struct World {
        auto_merge: AutoMerge,
        windows: Vec<Window>,
        moves: Vec<ImageMove>,
        seen: Vec<Option<Timestamp>>,
        request: Request,
        checks: Option<Checks>,
        approvals: Option<Approvals>,
        own: bool,
        current: bool,
        refused: bool,
        now: Timestamp,
    }

    impl World {
        fn good() -> Self {
            let request = Request {
                number: 12,
                url: "https://forge.example.org/acme/fleet/pulls/12".to_owned(),
                state: State::Open,
                head: "tagboat/dev/all".to_owned(),
                head_commit: "6dcb09b5b57875f334f61aebed695e2e4193db5e".to_owned(),
                base: "main".to_owned(),
                title: "dev: web 1.0.0 → 1.0.1".to_owned(),
                body: String::new(),
                labels: vec!["images".to_owned()],
                author: "bot".to_owned(),
                draft: false,
                opened: None,
                updated: None,
                ended: None,
                mergeable: Mergeable::Yes,
                id: String::new(),
            };
            Self {
                auto_merge: AutoMerge { bump: vec![Bump::Patch, Bump::Digest], minimum_age: None, require_checks: true },
                windows: Vec::new(),
                moves: vec![row("web", "1.0.0", "1.0.1")],
                seen: vec![Some(at("2026-11-21T10:00:00Z"))],
                request,
                checks: Some(Checks::of(vec![check("ci/build", CheckState::Passed)])),
                approvals: Some(Approvals::default()),
                own: true,
                current: true,
                refused: false,
                now: at(NOW),
            }
        }

        fn with(change: impl FnOnce(&mut Self)) -> Self {
            let mut world = Self::good();
            change(&mut world);
            world
        }

        fn decide(&self) -> Merging {
            decide(&Asked {
                auto_merge: &self.auto_merge,
                windows: &self.windows,
                moves: &self.moves,
                seen: &self.seen,
                request: &self.request,
                checks: self.checks.as_ref(),
                approvals: self.approvals.as_ref(),
                own: self.own,
                current: self.current,
                refused: self.refused,
                now: self.now,
            })
        }

        fn checks(&mut self, checks: &[(&str, CheckState)]) {
            self.checks = Some(Checks::of(checks.iter().map(|(name, state)| check(name, *state)).collect()));
        }
    }

    fn window(cron: &str, open: &str) -> Window {
        Window::new(CronLine::new(cron, None).unwrap(), duration(open).unwrap())
    }

    /// The reasons, the time, and whether the forge is to be asked.
    fn waits(world: &World) -> (Vec<String>, Option<String>, bool) {
        match world.decide() {
            Merging::Now => (Vec::new(), None, false),
            Merging::Waits { reasons, until, ask } => (reasons, until.map(|at| at.to_string()), ask),
        }
    }

    #[test]
    fn every_rule_is_a_sentence_while_it_does_not_hold() {
        type Case = (fn(&mut World), &'static str, Option<&'static str>, bool);
        let cases: &[Case] = &[
            (|w| w.request.state = State::Closed, "The request is not open any more.", None, false),
            (|w| w.request.draft = true, "The request is a draft.", None, false),
            (|w| w.request.labels.push(HOLD.to_owned()), "The label tagboat/hold is on the request.", None, false),
            (|w| w.own = false, "Its branch has a commit by somebody else.", None, false),
            (|w| w.current = false, "Its branch does not have what is wanted now; it is built anew first.", None, false),
            (|w| w.refused = true, "A cluster refuses it in a dry run; the preview says why.", None, false),
            (|w| w.request.mergeable = Mergeable::Conflicts, "It conflicts with main; it is built anew first.", None, false),
            (
                |w| w.request.mergeable = Mergeable::Behind,
                "Its branch must contain the newest commit of main; it is built anew first.",
                None,
                false,
            ),
            (|w| w.moves.clear(), "Which images it moves is not known.", None, false),
            (
                |w| w.moves = vec![row("web", "1.0.0", "2.0.0")],
                "web 1.0.0 → 2.0.0 is a step of kind major; autoMerge.bump has patch and digest only.",
                None,
                false,
            ),
            (
                |w| w.auto_merge.minimum_age = Some(duration("24h").unwrap()),
                "web 1.0.1 was first seen 2026-11-21 10:00:00 UTC; it is 24h old at 2026-11-22 10:00:00 UTC.",
                Some("2026-11-22T10:00:00Z"),
                false,
            ),
            (
                |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), vec![None]),
                "web 1.0.1 has not been seen by a scan yet, so that its age is not known.",
                None,
                false,
            ),
            (
                |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), Vec::new()),
                "web 1.0.1 has not been seen by a scan yet, so that its age is not known.",
                None,
                false,
            ),
            (
                |w| (w.auto_merge.minimum_age, w.seen) = (Some(duration("1h").unwrap()), vec![Some(Timestamp::MAX)]),
                "web 1.0.1 never comes to an age of 1h.",
                None,
                false,
            ),
            (
                |w| w.windows = vec![window("0 9 * * 1-5", "8h")],
                "No window is open before 2026-11-23 09:00:00 UTC.",
                Some("2026-11-23T09:00:00Z"),
                false,
            ),
            (|w| w.checks = None, "Its checks have not been read yet.", None, true),
            (|w| w.checks(&[]), "No check has said anything about it; autoMerge.requireChecks: false merges without.", None, true),
            (
                |w| w.checks(&[("ci/build", CheckState::Skipped)]),
                "No check has said anything about it; autoMerge.requireChecks: false merges without.",
                None,
                true,
            ),
            // The bot's own word is no check, good or bad.
            (
                |w| w.checks(&[("tagboat/rollout/dev", CheckState::Passed)]),
                "No check has said anything about it; autoMerge.requireChecks: false merges without.",
                None,
                true,
            ),
            (|w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Pending)]), "The check b has not ended.", None, true),
            (
                |w| {
                    w.auto_merge.require_checks = false;
                    w.checks(&["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, CheckState::Pending)));
                },
                "The checks a, b, c, d, e and 2 more have not ended.",
                None,
                true,
            ),
            (
                |w| {
                    w.auto_merge.require_checks = false;
                    w.checks(&[("lint\u{202e}\n", CheckState::Failed), ("a", CheckState::Pending)]);
                },
                "The check lint\\u{202e} failed.",
                None,
                true,
            ),
            (|w| w.approvals = None, "Its approvals have not been read yet.", None, true),
            (
                |w| w.approvals.as_mut().unwrap().changes_requested = vec!["ann".to_owned(), "bob".to_owned()],
                "ann and bob want changes.",
                None,
                true,
            ),
            (|w| w.approvals.as_mut().unwrap().required = Some(1), "It has 0 of 1 approvals.", None, true),
            (
                |w| (w.approvals) = Some(Approvals { by: vec!["ann".to_owned()], required: Some(2), changes_requested: Vec::new() }),
                "It has 1 of 2 approvals, by ann.",
                None,
                true,
            ),
            (
                |w| w.request.mergeable = Mergeable::Blocked("locked\nby ann".to_owned()),
                "The forge does not merge it yet: locked by ann.",
                None,
                true,
            ),
            (|w| w.request.mergeable = Mergeable::Unknown, "The forge has not said yet whether it can be merged.", None, true),
        ];
        assert_eq!(World::good().decide(), Merging::Now);
        for (change, reason, until, ask) in cases {
            let expected = (vec![(*reason).to_owned()], until.map(str::to_owned), *ask);
            assert_eq!(waits(&World::with(change)), expected, "{reason}");
        }
    }

    #[test]
    fn what_the_rules_allow_is_merged() {
        let cases: &[fn(&mut World)] = &[
            |w| w.checks(&[("a", CheckState::Passed), ("b", CheckState::Skipped)]),
            |w| w.checks(&[("a", CheckState::Passed), ("tagboat/rollout/dev", CheckState::Failed)]),
            |w| {
                w.auto_merge.require_checks = false;
                w.checks(&[]);
            },
            |w| w.auto_merge.minimum_age = Some(duration("2h").unwrap()),
            |w| w.windows = vec![window("0 9 * * 1-5", "8h"), window("0 12 * * 6", "1h")],
            |w| w.approvals = Some(Approvals { by: vec!["ann".to_owned()], required: Some(1), changes_requested: Vec::new() }),
            |w| w.request.labels = vec!["tagboat/rebase".to_owned(), "hold".to_owned()],
            // An age is asked for only where a minimum is written.
            |w| w.seen.clear(),
        ];
        for (index, change) in cases.iter().enumerate() {
            assert_eq!(World::with(change).decide(), Merging::Now, "case {index}");
        }
    }

    #[test]
    fn reasons_stand_together_and_the_last_time_counts() {
        let world = World::with(|w| {
            w.auto_merge.minimum_age = Some(duration("72h").unwrap());
            w.windows = vec![window("0 9 * * 1-5", "8h")];
            w.moves = vec![row("api", "1.0.0", "1.0.1"), row("web", "1.0.0", "1.1.0")];
            w.seen = vec![Some(at("2026-11-21T10:00:00Z")), Some(at("2026-11-01T10:00:00Z"))];
            w.checks = None;
            w.request.mergeable = Mergeable::Blocked("a check is missing".to_owned());
        });
        let (reasons, until, ask) = waits(&world);
        assert_eq!(
            reasons,
            [
                "web 1.0.0 → 1.1.0 is a step of kind minor; autoMerge.bump has patch and digest only.",
                "api 1.0.1 was first seen 2026-11-21 10:00:00 UTC; it is 72h old at 2026-11-24 10:00:00 UTC.",
                "No window is open before 2026-11-23 09:00:00 UTC.",
            ]
        );
        assert_eq!((until.as_deref(), ask), (Some("2026-11-24T10:00:00Z"), false));
        // A time that never comes leaves nothing to wake up for.
        let never = World::with(|w| {
            w.auto_merge.minimum_age = Some(duration("72h").unwrap());
            w.moves.push(row("api", "1.0.0", "1.0.1"));
            w.seen.push(Some(Timestamp::MAX));
        });
        assert_eq!(waits(&never).1, None);
    }

    /// The rules once more, as the declaration and the plan say them, without a word of the code above.
    fn allowed(w: &World) -> bool {
        let no_bad_check = |c: &Check| c.name.starts_with("tagboat/") || matches!(c.state, CheckState::Passed | CheckState::Skipped);
        let counts = |c: &Check| !c.name.starts_with("tagboat/") && c.state == CheckState::Passed;
        let checks = w.checks.as_ref().is_some_and(|checks| {
            checks.named.iter().all(no_bad_check) && (!w.auto_merge.require_checks || checks.named.iter().any(counts))
        });
        let approvals = w.approvals.as_ref().is_some_and(Approvals::suffice);
        let old_enough = w.auto_merge.minimum_age.is_none_or(|age| {
            w.seen.len() >= w.moves.len()
                && w.seen
                    .iter()
                    .take(w.moves.len())
                    .all(|seen| seen.is_some_and(|seen| w.now.as_second() - seen.as_second() >= i64::try_from(age.as_secs()).unwrap()))
        });
        let bumps = !w.moves.is_empty() && w.moves.iter().all(|row| w.auto_merge.bump.contains(&row.bump));
        let open = w.windows.is_empty() || w.windows.iter().any(|window| window.is_open(w.now));
        let quiet = !w.request.draft && !w.request.labels.iter().any(|label| label == "tagboat/hold");
        let forge = w.request.state == State::Open && w.request.mergeable == Mergeable::Yes;
        checks && approvals && old_enough && bumps && open && quiet && forge && w.own && w.current && !w.refused
    }

    /// Mostly the first.
    fn mostly<T: Clone + std::fmt::Debug + 'static>(usual: T, others: Vec<T>) -> impl Strategy<Value = T> {
        prop_oneof![6 => Just(usual), 1 => proptest::sample::select(others)]
    }

    prop_compose! {
        fn worlds()(
            people in (
                mostly(State::Open, vec![State::Merged, State::Closed]),
                mostly(false, vec![true]),
                mostly(vec![], vec![vec![HOLD.to_owned()], vec!["x".to_owned(), HOLD.to_owned()]]),
                mostly(Mergeable::Yes, vec![Mergeable::Unknown, Mergeable::Conflicts, Mergeable::Behind, Mergeable::Blocked("x".to_owned())]),
            ),
            branch in (mostly(true, vec![false]), mostly(true, vec![false]), mostly(false, vec![true])),
            images in proptest::collection::vec(
                (mostly("1.0.1", vec!["1.1.0", "2.0.0", "main"]), mostly(Some(7200), vec![None, Some(0), Some(3599), Some(3600)])),
                0..4,
            ),
            rules in (mostly(Some("1h"), vec![None]), any::<bool>(), mostly(vec!["0 12 * * *"], vec![vec!["0 9 * * 1-5"], vec!["0 3 * * 0", "0 12 * * 6"]])),
            checks in mostly(Some(()), vec![None]),
            named in proptest::collection::vec(
                (
                    proptest::sample::select(vec!["a", "b", "tagboat/rollout/dev"]),
                    mostly(CheckState::Passed, vec![CheckState::Skipped, CheckState::Pending, CheckState::Failed]),
                ),
                0..4,
            ),
            approvals in mostly(
                Some((1, Some(1), 0)),
                vec![None, Some((0, None, 0)), Some((0, Some(1), 0)), Some((2, Some(1), 1)), Some((2, Some(3), 0))],
            ),
        ) -> World {
            World::with(|w| {
                (w.request.state, w.request.draft, w.request.labels, w.request.mergeable) = people;
                (w.own, w.current, w.refused) = branch;
                w.moves = images.iter().map(|(new, _)| row("web", "1.0.0", new)).collect();
                let back = |age: i64| w.now.checked_sub(jiff::SignedDuration::from_secs(age)).unwrap();
                w.seen = images.iter().map(|(_, age)| age.map(back)).collect();
                (w.auto_merge.minimum_age, w.auto_merge.require_checks) = (rules.0.map(|age| duration(age).unwrap()), rules.1);
                w.windows = rules.2.iter().map(|cron| window(cron, "1h")).collect();
                w.checks = checks.map(|()| Checks::of(named.iter().map(|(name, state)| check(name, *state)).collect()));
                w.approvals = approvals.map(|(by, required, against): (usize, Option<u32>, usize)| Approvals {
                    by: vec!["ann".to_owned(); by],
                    required,
                    changes_requested: vec!["bob".to_owned(); against],
                });
            })
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn it_merges_exactly_if_every_rule_holds(world in worlds()) {
            match world.decide() {
                Merging::Now => prop_assert!(allowed(&world)),
                Merging::Waits { reasons, until, ask } => {
                    prop_assert!(!allowed(&world));
                    prop_assert!(!reasons.is_empty());
                    prop_assert!(reasons.iter().all(|reason| reason.ends_with('.') && !reason.contains('\n')));
                    prop_assert!(until.is_none_or(|until| until > world.now));
                    // Asking helps: with good answers from the forge it merges.
                    let mut answered = world;
                    if !matches!(answered.request.mergeable, Mergeable::Conflicts | Mergeable::Behind) {
                        answered.request.mergeable = Mergeable::Yes;
                    }
                    (answered.checks, answered.approvals) = (World::good().checks, World::good().approvals);
                    prop_assert_eq!(ask, answered.decide() == Merging::Now);
                }
            }
        }
    }
}
