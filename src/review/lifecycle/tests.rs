//! Every case of a request's life, and that each way through it comes to an end.

use super::*;
use crate::review::types::RequestStatus;
use proptest::{option::of, prelude::*};

const HEAD: &str = "6dcb09b5b57875f334f61aebed695e2e4193db5e";

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn request() -> PullRequest {
    PullRequest {
        number: 12,
        url: "https://forge.example.org/acme/fleet/pulls/12".into(),
        state: RequestStatus::Open,
        head: "tagboat/prod/all".into(),
        head_commit: HEAD.into(),
        base: "main".into(),
        title: "prod: web 1.0.0 → 1.1.0".into(),
        body: String::new(),
        labels: vec!["images".into()],
        author: "bot".into(),
        draft: false,
        opened: None,
        updated: None,
        ended: None,
        mergeable: Mergeable::Unknown,
        id: String::new(),
    }
}

/// An input that owns its parts; by default a pull request that is up to date.
#[derive(Debug, Clone)]
struct Model {
    desired: DesiredBranch,
    branch: Option<BranchInfo>,
    request: Option<PullRequest>,
    marker: Option<Marker>,
    text_due: bool,
    unsigned: bool,
    lacks_labels: bool,
    shared: bool,
    ended: Option<ClosedRequest>,
    quota: RequestQuota,
}

impl Model {
    fn up_to_date() -> Self {
        Self {
            desired: DesiredBranch::Change {
                content: "one".into(),
            },
            branch: Some(BranchInfo {
                head: HEAD.into(),
                commits: BranchCommits::Own,
                matches: true,
                on_head: true,
            }),
            request: Some(request()),
            marker: Some(Marker::new("prod", None, &[], "one".into())),
            text_due: false,
            unsigned: false,
            lacks_labels: false,
            shared: false,
            ended: None,
            quota: RequestQuota {
                open: 1,
                ..RequestQuota::default()
            },
        }
    }

    fn but(change: impl FnOnce(&mut Self)) -> Self {
        let mut model = Self::up_to_date();
        change(&mut model);
        model
    }

    fn decide(&self) -> LifecycleStep {
        decide(&LifecycleInput {
            desired: self.desired.clone(),
            target: "main",
            branch: self.branch.clone(),
            request: self.request.as_ref(),
            marker: self.marker.as_ref(),
            text_due: self.text_due,
            unsigned: self.unsigned,
            lacks_labels: self.lacks_labels,
            shared: self.shared,
            ended: self.ended,
            quota: self.quota.clone(),
            now: now(),
        })
    }

    /// Does what was decided, as far as a forge and a Git server would.
    fn apply(&mut self, action: RequestAction) {
        match action {
            RequestAction::Push => {
                self.branch = Some(BranchInfo {
                    head: "b".repeat(40),
                    commits: BranchCommits::Own,
                    matches: true,
                    on_head: true,
                });
                // What a forge says of the old head says nothing of the new one.
                self.request
                    .iter_mut()
                    .for_each(|request| request.mergeable = Mergeable::Unknown);
            }
            RequestAction::Open => {
                self.request = Some(request());
                (self.text_due, self.lacks_labels) = (false, false);
                self.apply(RequestAction::UpdateText);
            }
            RequestAction::UpdateText => {
                self.unsigned = false;
                if let DesiredBranch::Change { content } = &self.desired {
                    self.marker = Some(Marker::new("prod", None, &[], content.clone()));
                }
            }
            RequestAction::SetLabels => self.lacks_labels = false,
            RequestAction::RemoveLabels => {
                self.request.iter_mut().for_each(|request| {
                    request
                        .labels
                        .retain(|label| label != REBASE && label != SUPERSEDED)
                });
            }
            RequestAction::Close => {
                (self.request, self.ended) = (None, Some(ClosedRequest::Superseded));
                self.branch = self.branch.take().filter(|_| self.shared);
            }
            RequestAction::Delete => self.branch = None,
            RequestAction::Nothing
            | RequestAction::Wait
            | RequestAction::Stop
            | RequestAction::UpToDate => {}
        }
    }
}

fn with_label(label: &str) -> Model {
    Model::but(|model| model.request.as_mut().unwrap().labels.push(label.into()))
}

fn with_branch(change: impl FnOnce(&mut BranchInfo)) -> Model {
    Model::but(|model| change(model.branch.as_mut().unwrap()))
}

fn unwanted(change: impl FnOnce(&mut Model)) -> Model {
    let mut model = Model::but(|model| {
        model.desired = DesiredBranch::Nothing {
            why: "main has it already.".into(),
        }
    });
    change(&mut model);
    model
}

fn unknown(change: impl FnOnce(&mut Model)) -> Model {
    let mut model = Model::but(|model| {
        model.desired = DesiredBranch::Unknown {
            why: "The registry could not be asked.".into(),
        }
    });
    change(&mut model);
    model
}

fn by_ann() -> BranchCommits {
    BranchCommits::Others {
        commit: HEAD.into(),
        author: "Ann <script>\u{202e}".into(),
        remade: None,
    }
}

/// As a forge's button leaves it.
fn remade() -> BranchCommits {
    BranchCommits::Others {
        commit: HEAD.into(),
        author: "tagboat".into(),
        remade: Some("Ann".into()),
    }
}

fn ago(minutes: i64) -> Timestamp {
    now()
        .checked_sub(SignedDuration::from_mins(minutes))
        .unwrap()
}

#[test]
fn decide_each_state_has_its_step() {
    use RequestAction::{
        Close, Delete, Nothing, Open, Push, RemoveLabels, SetLabels, Stop, UpToDate, UpdateText,
        Wait,
    };
    let new = |change: fn(&mut Model)| {
        let mut model = Model::but(|model| {
            (model.branch, model.request, model.marker, model.quota.open) = (None, None, None, 0)
        });
        change(&mut model);
        model
    };
    let table: Vec<(&str, Model, RequestAction, &str)> = vec![
        ("as it should be", Model::up_to_date(), UpToDate, ""),
        // Opening.
        ("nothing there", new(|_| {}), Push, "does not exist"),
        (
            "pushed, not opened",
            Model::but(|m| (m.request, m.marker) = (None, None)),
            Open,
            "branch exists",
        ),
        (
            "pushed, then wanted otherwise",
            Model::but(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().matches = false;
            }),
            Push,
            "has changed",
        ),
        (
            "a branch that the target has",
            Model::but(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().commits = BranchCommits::None;
            }),
            Push,
            "main contains",
        ),
        (
            "too many open",
            new(|m| {
                m.quota = RequestQuota {
                    max_open: Some(2),
                    open: 2,
                    ..RequestQuota::default()
                }
            }),
            Wait,
            "Open pull requests: 2; request.maxOpen is 2",
        ),
        (
            "quota for one",
            new(|m| {
                m.quota = RequestQuota {
                    max_open: Some(2),
                    open: 1,
                    ..RequestQuota::default()
                }
            }),
            Push,
            "does not exist",
        ),
        (
            "none may be open",
            new(|m| m.quota.max_open = Some(0)),
            Wait,
            "maxOpen is 0",
        ),
        (
            "too many this hour",
            new(|m| {
                m.quota = RequestQuota {
                    per_hour: Some(1),
                    opened: vec![ago(10)],
                    ..RequestQuota::default()
                }
            }),
            Wait,
            "perHour is 1",
        ),
        (
            "too many last hour",
            new(|m| {
                m.quota = RequestQuota {
                    per_hour: Some(1),
                    opened: vec![ago(60)],
                    ..RequestQuota::default()
                }
            }),
            Push,
            "does not exist",
        ),
        (
            "pushed, then no quota",
            Model::but(|m| {
                m.request = None;
                m.quota = RequestQuota {
                    max_open: Some(1),
                    open: 1,
                    ..RequestQuota::default()
                };
            }),
            Wait,
            "maxOpen",
        ),
        (
            "no quota for others says nothing of itself",
            Model::but(|m| {
                m.quota = RequestQuota {
                    max_open: Some(1),
                    open: 3,
                    ..RequestQuota::default()
                }
            }),
            UpToDate,
            "",
        ),
        // In place.
        (
            "a newer tag, or a file changed",
            with_branch(|b| b.matches = false),
            Push,
            "The desired change is different now, or main has changed in a file that it edits",
        ),
        (
            "the target moved elsewhere",
            with_branch(|b| b.on_head = false),
            UpToDate,
            "",
        ),
        (
            "the branch was deleted by hand",
            Model::but(|m| m.branch = None),
            Push,
            "does not exist",
        ),
        (
            "protection wants the newest",
            Model::but(|m| {
                m.branch.as_mut().unwrap().on_head = false;
                m.request.as_mut().unwrap().mergeable = Mergeable::Behind;
            }),
            Push,
            "newest commit of main",
        ),
        (
            "it conflicts",
            Model::but(|m| {
                m.branch.as_mut().unwrap().on_head = false;
                m.request.as_mut().unwrap().mergeable = Mergeable::Conflicts;
            }),
            Push,
            "conflicts",
        ),
        (
            "a conflict that building anew does not mend",
            Model::but(|m| m.request.as_mut().unwrap().mergeable = Mergeable::Conflicts),
            UpToDate,
            "",
        ),
        (
            "asked to rebase",
            Model::but(|m| {
                *m = with_label(REBASE);
                m.branch.as_mut().unwrap().on_head = false;
            }),
            Push,
            "tagboat/rebase",
        ),
        ("rebased", with_label(REBASE), RemoveLabels, "newest commit"),
        (
            "rebased by a button",
            with_branch(|b| b.commits = remade()),
            Stop,
            "Ann rebased from the bot's",
        ),
        (
            "rebased by a button, and asked to",
            Model::but(|m| {
                *m = with_label(REBASE);
                m.branch.as_mut().unwrap().commits = remade();
            }),
            Push,
            "tagboat/rebase",
        ),
        (
            "rebased by a button, and not wanted",
            unwanted(|m| {
                m.request = with_label(REBASE).request;
                m.branch.as_mut().unwrap().commits = remade();
            }),
            Stop,
            "merge or close by hand",
        ),
        (
            "rebased by a button without a request",
            Model::but(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().commits = remade();
            }),
            Stop,
            "when the branch is deleted",
        ),
        (
            "somebody's commit, and asked to rebase",
            Model::but(|m| {
                *m = with_label(REBASE);
                m.branch.as_mut().unwrap().commits = by_ann();
            }),
            Stop,
            "is not the bot's",
        ),
        (
            "wanted again",
            with_label(SUPERSEDED),
            RemoveLabels,
            "wanted again",
        ),
        // The text.
        (
            "another text",
            Model::but(|m| {
                m.desired = DesiredBranch::Change {
                    content: "two".into(),
                }
            }),
            UpdateText,
            "has changed",
        ),
        (
            "its marker is gone",
            Model::but(|m| m.marker = None),
            UpdateText,
            "no readable marker",
        ),
        (
            "more may be known",
            Model::but(|m| {
                m.text_due = true;
                m.marker.as_mut().unwrap().again = true;
            }),
            UpdateText,
            "More may be known",
        ),
        (
            "more may be known, asked lately",
            Model::but(|m| m.marker.as_mut().unwrap().again = true),
            UpToDate,
            "",
        ),
        (
            "unsigned",
            Model::but(|m| m.unsigned = true),
            UpdateText,
            "not signed yet",
        ),
        (
            "all is known",
            Model::but(|m| m.text_due = true),
            UpToDate,
            "",
        ),
        (
            "killed before its labels",
            Model::but(|m| m.lacks_labels = true),
            SetLabels,
            "labels",
        ),
        // People.
        ("held", with_label(HOLD), Wait, "tagboat/hold"),
        (
            "held, though unwanted",
            Model::but(|m| {
                *m = with_label(HOLD);
                m.desired = DesiredBranch::Nothing { why: "x".into() };
            }),
            Wait,
            "tagboat/hold",
        ),
        (
            "held, though changed",
            Model::but(|m| {
                *m = with_label(HOLD);
                m.branch.as_mut().unwrap().matches = false;
            }),
            Wait,
            "tagboat/hold",
        ),
        (
            "pointed elsewhere",
            Model::but(|m| m.request.as_mut().unwrap().base = "release".into()),
            Stop,
            "changed to release; change it back to main",
        ),
        (
            "pointed elsewhere, unwanted",
            unwanted(|m| m.request.as_mut().unwrap().base = "release".into()),
            Stop,
            "release",
        ),
        (
            "somebody's commit",
            with_branch(|b| b.commits = by_ann()),
            Stop,
            "6dcb09b5b5 by Ann <script>",
        ),
        (
            "somebody's commit, changed",
            with_branch(|b| (b.commits, b.matches) = (by_ann(), false)),
            Stop,
            "not the bot's",
        ),
        (
            "somebody's commit, no request",
            Model::but(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().commits = by_ann();
            }),
            Stop,
            "not the bot's",
        ),
        (
            "somebody's commit, unwanted",
            unwanted(|m| m.branch.as_mut().unwrap().commits = by_ann()),
            Stop,
            "not the bot's",
        ),
        (
            "somebody's branch, unwanted",
            unwanted(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().commits = by_ann();
            }),
            Nothing,
            "",
        ),
        // The end.
        (
            "no longer needed",
            unwanted(|_| {}),
            Close,
            "main has it already.",
        ),
        (
            "no longer needed, its branch is gone",
            unwanted(|m| m.branch = None),
            Close,
            "main has it already.",
        ),
        (
            "left behind by a close",
            unwanted(|m| (m.request, m.ended) = (None, Some(ClosedRequest::Superseded))),
            Delete,
            "main has it",
        ),
        (
            "left behind by a merge",
            unwanted(|m| {
                m.request = None;
                m.ended = Some(ClosedRequest::Merged);
                m.branch.as_mut().unwrap().commits = BranchCommits::None;
            }),
            Delete,
            "main has it",
        ),
        (
            "pushed and never opened",
            unwanted(|m| m.request = None),
            Delete,
            "main has it",
        ),
        (
            "of use to somebody else",
            unwanted(|m| (m.request, m.shared) = (None, true)),
            Nothing,
            "",
        ),
        (
            "closed by a person, who may open it again",
            unwanted(|m| (m.request, m.ended) = (None, Some(ClosedRequest::Closed))),
            Nothing,
            "",
        ),
        (
            "a person's branch without a commit",
            unwanted(|m| {
                m.request = None;
                m.branch.as_mut().unwrap().commits = BranchCommits::None;
            }),
            Nothing,
            "",
        ),
        (
            "nothing desired, nothing there",
            unwanted(|m| (m.request, m.branch) = (None, None)),
            Nothing,
            "",
        ),
        // Not known.
        ("facts are missing", unknown(|_| {}), Wait, "registry"),
        (
            "facts are missing, and it differs",
            unknown(|m| m.branch.as_mut().unwrap().matches = false),
            Wait,
            "registry",
        ),
        (
            "facts are missing, pushed only",
            unknown(|m| m.request = None),
            Wait,
            "registry",
        ),
        (
            "facts are missing, nothing there",
            unknown(|m| (m.request, m.branch) = (None, None)),
            Nothing,
            "",
        ),
    ];
    for (name, model, action, words) in table {
        let decision = model.decide();
        assert_eq!(decision.action, action, "{name}: {}", decision.reason);
        assert!(
            decision.reason.contains(words) && decision.reason.is_empty() == words.is_empty(),
            "{name}: {}",
            decision.reason
        );
        assert!(
            !decision
                .reason
                .chars()
                .any(|c| c.is_control() || c == '\u{202e}'),
            "{name}: {}",
            decision.reason
        );
    }
}

#[test]
fn quota_per_hour_frees_when_requests_age() {
    let quota = RequestQuota {
        per_hour: Some(2),
        opened: vec![ago(5), ago(50), ago(20), ago(70)],
        ..RequestQuota::default()
    };
    let wait = quota.full(now()).unwrap();
    assert_eq!(
        wait.until,
        Some(now().checked_add(SignedDuration::from_mins(40)).unwrap()),
        "the one of 50 and the one of 20 minutes ago"
    );
    assert_eq!(quota.full(wait.until.unwrap()), None);
    assert_eq!(
        RequestQuota {
            per_hour: Some(0),
            ..RequestQuota::default()
        }
        .full(now())
        .unwrap()
        .until,
        None
    );
}

#[test]
fn comment_has_no_mention_and_no_markup() {
    assert_eq!(
        comment_text("@ann closes #1 <b>\n`x`"),
        "@\u{200b}ann closes #\u{200b}1 &lt;b&gt; \\`x\\`"
    );
    assert_eq!(
        comment_text("web is 1.2.0 already."),
        "web is 1.2.0 already."
    );
}

fn any_model() -> impl Strategy<Value = Model> {
    let desired = prop_oneof![
        3 => Just(DesiredBranch::Change { content: "one".into() }),
        2 => Just(DesiredBranch::Nothing { why: "gone".into() }),
        1 => Just(DesiredBranch::Unknown { why: "unknown".into() }),
    ];
    let commits = prop_oneof![
        Just(BranchCommits::None),
        Just(BranchCommits::Own),
        Just(by_ann())
    ];
    let branch = (commits, any::<bool>(), any::<bool>()).prop_map(|(commits, matches, on_head)| {
        BranchInfo {
            head: HEAD.into(),
            commits,
            matches,
            on_head,
        }
    });
    let mergeable = prop_oneof![
        Just(Mergeable::Yes),
        Just(Mergeable::Behind),
        Just(Mergeable::Conflicts)
    ];
    let labels = proptest::sample::subsequence(vec![REBASE, SUPERSEDED, "images"], 0..3);
    let request = (
        mergeable,
        labels,
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(mergeable, labels, hold, elsewhere)| {
            let mut labels: Vec<String> = labels.into_iter().map(str::to_owned).collect();
            labels.extend(hold.then(|| HOLD.to_owned()));
            PullRequest {
                mergeable,
                labels,
                base: if elsewhere { "release" } else { "main" }.into(),
                ..request()
            }
        });
    let marker = (any::<bool>(), any::<bool>()).prop_map(|(matches, again)| {
        let mut marker = Marker::new(
            "prod",
            None,
            &[],
            if matches { "one" } else { "two" }.into(),
        );
        marker.again = again;
        marker
    });
    let ended = of(proptest::sample::select(vec![
        ClosedRequest::Merged,
        ClosedRequest::Superseded,
        ClosedRequest::Closed,
    ]));
    let quota = (of(0u32..3), 0usize..3).prop_map(|(max_open, open)| RequestQuota {
        max_open,
        open,
        ..RequestQuota::default()
    });
    (
        desired,
        of(branch),
        of(request),
        of(marker),
        any::<(bool, bool, bool, bool)>(),
        ended,
        quota,
    )
        .prop_map(|(desired, branch, request, marker, flags, ended, quota)| {
            let (text_due, unsigned, lacks_labels, shared) = flags;
            Model {
                desired,
                branch,
                request,
                marker,
                text_due,
                unsigned,
                lacks_labels,
                shared,
                ended,
                quota,
            }
        })
}

proptest! {
    #[test]
    fn lifecycle_terminates_and_spares_foreign_work(mut model in any_model()) {
        let mut steps = Vec::new();
        loop {
            let decision = model.decide();
            if decision.action.is_quiet() {
                break;
            }
            let others = model.branch.as_ref().is_some_and(|branch| matches!(branch.commits, BranchCommits::Others { .. }));
            let held = model.request.as_ref().is_some_and(|request| request.base != "main" || request.labels.iter().any(|label| label == HOLD));
            let unknown = matches!(model.desired, DesiredBranch::Unknown { .. });
            let needed = model.shared && decision.action == RequestAction::Delete;
            prop_assert!(!others && !held && !unknown && !needed, "{:?} on {:?}", decision, model);
            steps.push(decision.action);
            prop_assert!(steps.len() < 6, "it goes round: {:?}", steps);
            model.apply(decision.action);
        }
        // The second pass.
        prop_assert!(model.decide().action.is_quiet());
        if steps.contains(&RequestAction::Close) {
            prop_assert!(model.request.is_none() && !steps.contains(&RequestAction::Open));
        }
    }
}
