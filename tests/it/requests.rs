//! Pull requests in passes against the sandbox's forge. `forge_real` has their life cycle on a real
//! Gitea.

use super::update_support::{
    Fleet, Setup, deployment, env, environment, hours, hours_ago, now, semver,
};
use gix::refs::{
    Target,
    transaction::{Change, LogChange, PreviousValue, RefEdit},
};
use jiff::Timestamp;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tagboat::{
    core::secret::Secret,
    io::git::ObjectId,
    review::{
        ApplicationChange, ApplicationPreview, DryRunVerdict, ObjectChange, ObjectPreview, Preview,
        PreviewTrouble,
    },
    sandbox::forge::SandboxForge,
    service::engine::Engine,
    update::{EnvironmentState, PassMode, PassReport, Previews, RequestState},
};

pub(super) const FILE: &str = "envs/prod/a.yaml";

/// A fleet whose repository is on a forge.
pub(super) struct Reviewed {
    pub fleet: Fleet,
    pub forge: Arc<SandboxForge>,
}

impl Reviewed {
    /// Declares `prod` by requests with this text below `update`, and `dev` by commits.
    pub(super) fn new(update: &str) -> Self {
        let declared = Self::declared(update);
        let images = deployment(&["web:1.0.0"]);
        Self::of(&[
            ("p.yaml", &declared),
            (FILE, &images),
            ("envs/dev/a.yaml", &images),
        ])
    }

    /// A fleet with these files, and `team/web` in two versions.
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let fleet = Fleet::new(files);
        fleet.publish("team/web", &["1.0.0", "1.1.0"]);
        let token = Secret::new("t0ken");
        let forge = fleet
            .runtime
            .block_on(SandboxForge::start(
                fleet.repository.clone(),
                "acme/fleet",
                &token,
            ))
            .unwrap();
        std::fs::write(fleet.dir.path().join("token"), token.expose()).unwrap();
        let url = forge.clone_url();
        let api = url.replace("/acme/fleet.git", "/api/v1");
        let lines = format!("    token: {{file: token}}\n    forge: {{kind: gitea, url: {api}}}\n");
        fleet.configure(
            &url,
            &Setup {
                repository: lines.leak(),
                ..Setup::default()
            },
        );
        Self {
            fleet,
            forge: Arc::new(forge),
        }
    }

    fn declared(update: &str) -> String {
        semver("web", "1.x", "") + &env("dev", "") + &reviewed("prod", update)
    }

    /// A process that reads its declarations in this folder, with a store of its own.
    pub(super) fn engine_in(&self, policies: &str) -> Engine {
        let (text, name) = (
            std::fs::read_to_string(self.fleet.config()).unwrap(),
            policies.replace('/', "-"),
        );
        let text = text.replace("store: store", &format!("store: store-{name}"))
            + &format!("    policies: {policies}\n");
        let config = self.fleet.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&config, text).unwrap();
        self.fleet.engine_of(&config)
    }

    /// Runs a pass without failures; process and forge use this time.
    pub(super) fn pass_of(&self, engine: &Engine, mode: PassMode, at: Timestamp) -> PassReport {
        self.forge.set_clock(Some(at));
        let report = self.fleet.pass_of(engine, mode, at);
        assert!(
            report.failures.is_empty() && report.findings.is_empty(),
            "{report:#?}"
        );
        report
    }

    pub(super) fn pass(&self, at: Timestamp) -> PassReport {
        self.pass_of(&self.fleet.engine(), PassMode::Write, at)
    }

    /// Sets a person's branch to an existing commit.
    pub(super) fn set_branch(&self, name: &str, commit: &str) {
        let repo = self.fleet.repo();
        let change = Change::Update {
            log: LogChange::default(),
            expected: PreviousValue::Any,
            new: Target::Object(commit.parse::<ObjectId>().unwrap()),
        };
        let edit = RefEdit {
            change,
            name: format!("refs/heads/{name}").try_into().unwrap(),
            deref: false,
        };
        let who = gix::actor::SignatureRef {
            name: "Ann".into(),
            email: "ann@example.org".into(),
            time: "0 +0000",
        };
        repo.edit_references_as([edit], Some(who)).unwrap();
    }

    pub(super) fn open(&self) -> Vec<u64> {
        self.forge
            .requests()
            .iter()
            .filter(|request| request.open)
            .map(|request| request.number)
            .collect()
    }
}

/// An Environment that updates via pull requests.
pub(super) fn reviewed(name: &str, update: &str) -> String {
    env(name, update).replace("via: commit", "via: pullRequest")
}

pub(super) fn states(report: &PassReport) -> Vec<RequestState> {
    environment(report, "prod")
        .requests
        .iter()
        .map(|row| row.state)
        .collect()
}

#[test]
fn commit_and_request_environments_coexist() {
    let reviewed = Reviewed::new("");
    let engine = reviewed.fleet.engine();
    let planned = reviewed.pass_of(&engine, PassMode::Plan, now());
    assert_eq!(
        (
            environment(&planned, "dev").state,
            environment(&planned, "prod").state
        ),
        (EnvironmentState::Planned, EnvironmentState::Planned)
    );
    assert!(planned.has_changes() && reviewed.open().is_empty() && reviewed.fleet.log().len() == 1);

    let report = reviewed.pass_of(&engine, PassMode::Write, now());
    assert_eq!(
        (
            environment(&report, "dev").state,
            environment(&report, "prod").state
        ),
        (EnvironmentState::Committed, EnvironmentState::Proposed)
    );
    assert_eq!(
        (states(&report), reviewed.open()),
        (vec![RequestState::Opened], vec![1])
    );
    // Only dev was committed, and the request is based on that commit.
    assert_eq!(reviewed.fleet.subjects()[1..], ["dev: web 1.0.0 → 1.1.0"]);
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.0.0"]));
    let repo = reviewed.fleet.repo();
    let id = |name: &str| repo.rev_parse_single(name).unwrap().detach();
    assert_eq!(id("refs/heads/tagboat/prod/all^"), id("main"));
    // No rule needs the tag's age; the reviewer sees it all the same.
    assert!(
        reviewed.body().contains("2026-11-20 12:00 UTC (tagboat)"),
        "{}",
        reviewed.body()
    );

    let before = reviewed.forge.requests();
    let again = reviewed.pass_of(&engine, PassMode::Write, hours(1));
    assert_eq!(states(&again), [RequestState::Open]);
    assert!(!again.has_changes(), "{again:#?}");
    drop(engine);
    assert_eq!(
        (states(&reviewed.pass(hours(2))), reviewed.forge.requests()),
        (vec![RequestState::Open], before)
    );

    // A person merges it on the forge and leaves the branch: the bot deletes it.
    reviewed.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    let report = reviewed.pass(hours(3));
    assert_eq!(
        (states(&report), reviewed.open()),
        (vec![RequestState::Closed], vec![]),
        "{report:#?}"
    );
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert!(
        reviewed
            .fleet
            .repo()
            .try_find_reference("refs/heads/tagboat/prod/all")
            .unwrap()
            .is_none()
    );
    assert!(states(&reviewed.pass(hours(4))).is_empty());
}

#[test]
fn closed_request_holds_and_commands_show_it() {
    let reviewed = Reviewed::new("");
    let earlier = hours_ago(2);
    reviewed.pass(earlier);
    reviewed.forge.close(1, "ann").unwrap();
    let report = reviewed.pass(hours_ago(1));
    assert!(
        states(&report).is_empty() && reviewed.open().is_empty(),
        "{report:#?}"
    );
    let output = reviewed.fleet.tagboat(&["holds"]).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(
        text.contains(&format!(
            "prod default/web: versions up to 1.1.0 — ann closed pull request #1 (1.1.0) on {}",
            earlier.strftime("%Y-%m-%d")
        )),
        "{text}"
    );
}

/// `release` proposes the held version in a pull request. While that is open its hold rests; closed
/// it holds again, merged it lifts the hold.
#[test]
fn release_goes_through_a_pull_request() {
    let reviewed = Reviewed::new("");
    let out = |arguments: &[&str]| {
        let assert = reviewed.fleet.tagboat(arguments).assert().success();
        String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
    };
    reviewed.pass(hours_ago(6));
    reviewed.forge.close(1, "ann").unwrap();
    reviewed.pass(hours_ago(5));
    reviewed.forge.set_clock(None);
    let released = out(&["release", "prod", "default/web"]);
    assert!(
        released.starts_with("prod: default/web 1.1.0 is proposed by pull request #2 ("),
        "{released}"
    );
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.0.0"]));
    assert_eq!(out(&["holds"]), "nothing is held\n");
    for _ in 0..2 {
        let report = reviewed.pass(Timestamp::now());
        assert_eq!(environment(&report, "prod").requests[0].number, Some(2));
        assert_eq!(reviewed.open().len(), 1);
    }
    reviewed.forge.close(2, "ann").unwrap();
    reviewed.pass(Timestamp::now());
    assert!(reviewed.open().is_empty());
    let holds = out(&["holds"]);
    assert!(
        holds.contains("ann closed pull request #2 (1.1.0)"),
        "{holds}"
    );

    out(&["release", "prod", "default/web"]);
    reviewed.forge.merge(3, ("Ann", "ann@example.org")).unwrap();
    reviewed.pass(Timestamp::now());
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert_eq!(out(&["holds"]), "nothing is held\n");
}

#[test]
fn merge_waits_for_window_and_tag_age() {
    // Noon of a Friday; the window opens at two at night, and the tag must be a day old.
    let reviewed = Reviewed::new(
        "autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}, windows: [{cron: '0 2 * * *', duration: 1h}]",
    );
    let report = reviewed.pass(now());
    let row = &environment(&report, "prod").requests[0];
    assert_eq!(
        (row.state, row.waits.len()),
        (RequestState::Opened, 2),
        "{row:#?}"
    );
    assert!(
        row.waits[0].contains("was first seen 2026-11-20 12:00:00 UTC"),
        "{row:#?}"
    );
    assert!(
        row.waits[1].starts_with("No window is open before 2026-11-21 02:00"),
        "{row:#?}"
    );
    assert_eq!(
        environment(&report, "prod").until,
        Some(hours(24)),
        "the next check of a daemon"
    );
    // In the window and too young; old enough and outside; both.
    assert_eq!(states(&reviewed.pass(hours(14))), [RequestState::Open]);
    assert_eq!(
        environment(&reviewed.pass(hours(24)), "prod").until,
        Some(hours(38))
    );
    let report = reviewed.pass(hours(38));
    assert_eq!(
        (states(&report), reviewed.open()),
        (vec![RequestState::Merged], vec![]),
        "{report:#?}"
    );
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert!(states(&reviewed.pass(hours(39))).is_empty());
}

#[test]
fn moved_tag_restarts_its_age_before_merge() {
    let reviewed =
        Reviewed::new("autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}");
    reviewed.pass(now());
    let moved = tagboat::sandbox::registry::SandboxImage {
        salt: "moved".into(),
        ..Default::default()
    };
    reviewed.fleet.image("team/web", "1.1.0", &moved);
    let report = reviewed.pass(hours(25));
    assert_eq!(states(&report), [RequestState::Open], "{report:#?}");
    assert_eq!(environment(&report, "prod").until, Some(hours(49)));
    assert_eq!(states(&reviewed.pass(hours(49))), [RequestState::Merged]);
}

#[test]
fn lost_store_closes_and_merges_nothing() {
    let reviewed =
        Reviewed::new("autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}");
    reviewed.pass(now());
    std::fs::remove_dir_all(reviewed.fleet.dir.path().join("store")).unwrap();
    let report = reviewed.pass(hours(48));
    assert_eq!(
        (states(&report), reviewed.open()),
        (vec![RequestState::Open], vec![1]),
        "{report:#?}"
    );
    assert_eq!(
        environment(&report, "prod").until,
        Some(hours(72)),
        "it waits longer, and is never further ahead"
    );
}

/// Merges at once, unless something blocks it.
const AT_ONCE: &str = "autoMerge: {bump: [minor], requireChecks: false}";

/// Previews with given results, and a hook that runs meanwhile.
#[derive(Default)]
struct FakePreviews {
    says: Mutex<Preview>,
    take_count: AtomicUsize,
    /// The previewed base and head.
    of: Mutex<Option<(ObjectId, ObjectId)>>,
    meanwhile: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[async_trait::async_trait]
impl Previews for FakePreviews {
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview {
        self.take_count.fetch_add(1, Ordering::SeqCst);
        *self.of.lock().unwrap() = Some((base, head));
        if let Some(meanwhile) = &*self.meanwhile.lock().unwrap() {
            meanwhile();
        }
        self.says.lock().unwrap().clone()
    }
}

impl FakePreviews {
    fn new(says: Preview) -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(says),
            ..Self::default()
        })
    }

    fn set(&self, preview: Preview) {
        *self.says.lock().unwrap() = preview;
    }

    fn take_count(&self) -> usize {
        self.take_count.swap(0, Ordering::SeqCst)
    }
}

/// A preview of one object with this verdict.
fn verdict(verdict: DryRunVerdict, trouble: Vec<PreviewTrouble>) -> Preview {
    let object = ObjectPreview {
        object: "Deployment shop/web".into(),
        change: ObjectChange::Change,
        diff: "-a\n+b".into(),
        verdict,
    };
    let (name, cluster) = ("shop/web".parse().unwrap(), "test".to_owned());
    let (change, notes) = (ApplicationChange::Files, Vec::new());
    let application = ApplicationPreview {
        name,
        cluster,
        change,
        notes,
        objects: vec![object],
        trouble,
    };
    Preview {
        applications: vec![application],
        trouble: Vec::new(),
    }
}

fn accepted() -> Preview {
    verdict(
        DryRunVerdict::Accepted {
            warnings: Vec::new(),
        },
        Vec::new(),
    )
}

fn refused() -> Preview {
    verdict(
        DryRunVerdict::Refused {
            reason: "no minor steps on Fridays".into(),
        },
        Vec::new(),
    )
}

fn troubled(message: &str, transient: bool) -> Preview {
    verdict(
        DryRunVerdict::NotAsked {
            reason: message.into(),
        },
        vec![PreviewTrouble {
            message: message.into(),
            transient,
        }],
    )
}

impl Reviewed {
    /// A process with these previews.
    fn engine(&self, previews: &Arc<FakePreviews>) -> Engine {
        let engine = self.fleet.engine();
        let _ = engine.updaters[0]
            .previews
            .set(Arc::<FakePreviews>::clone(previews));
        engine
    }

    fn waits(&self, engine: &Engine, mode: PassMode, at: Timestamp) -> (RequestState, String) {
        let report = self.pass_of(engine, mode, at);
        let row = environment(&report, "prod").requests[0].clone();
        (row.state, row.waits.join(" "))
    }

    fn body(&self) -> String {
        self.forge.requests()[0].body.clone()
    }
}

#[test]
fn merge_uses_a_fresh_cluster_preview() {
    for (says, why) in [
        (
            refused(),
            "A cluster refuses it in a dry run: Deployment shop/web: no minor steps on Fridays.",
        ),
        (
            troubled("helm ended with 1", false),
            "Its effect on clusters cannot be determined: helm ended with 1.",
        ),
        (
            troubled("cluster test cannot be asked", true),
            "Its effect on clusters is not known yet: cluster test cannot be asked.",
        ),
    ] {
        let reviewed = Reviewed::new(AT_ONCE);
        let previews = FakePreviews::new(says);
        let engine = reviewed.engine(&previews);
        let minutes = |minutes: i64| now() + jiff::SignedDuration::from_mins(minutes);
        assert_eq!(
            reviewed.waits(&engine, PassMode::Write, minutes(0)),
            (RequestState::Opened, why.to_owned())
        );
        // A blocked request is not previewed every minute.
        assert_eq!(previews.take_count(), 1);
        assert_eq!(
            reviewed.waits(&engine, PassMode::Write, minutes(1)),
            (RequestState::Open, why.to_owned())
        );
        assert_eq!(previews.take_count(), 0);
        // A body that users edited does not count, nor does that of another process.
        let body = reviewed.body();
        let edited = body
            .replace(",\"refused\":true", "")
            .replace(",\"again\":true", "");
        reviewed.forge.rewrite(1, &edited).unwrap();
        drop(engine);
        let engine = reviewed.engine(&previews);
        assert_eq!(reviewed.waits(&engine, PassMode::Plan, minutes(2)).1, why);
        assert_eq!(reviewed.waits(&engine, PassMode::Write, minutes(2)).1, why);
        assert!(previews.take_count() > 0);
        // The cluster's policy was changed: it merges, and its body is current.
        previews.set(accepted());
        let report = reviewed.pass_of(&engine, PassMode::Write, minutes(13));
        assert_eq!(states(&report), [RequestState::Merged], "{report:#?}");
        assert!(
            !reviewed.body().contains("would be refused"),
            "{}",
            reviewed.body()
        );
    }
}

/// Each run has another key for its signatures, and the text may become better.
#[test]
fn improvable_text_is_kept_without_a_store() {
    let reviewed = Reviewed::new("");
    let previews = FakePreviews::new(troubled("cluster test cannot be asked", true));
    let mut texts = Vec::new();
    for _ in 0..3 {
        let engine = reviewed.engine(&previews);
        reviewed.pass_of(&engine, PassMode::Write, now());
        drop(engine);
        std::fs::remove_dir_all(reviewed.fleet.dir.path().join("store")).unwrap();
        texts.push(reviewed.body());
    }
    assert!(texts[0].contains("\"again\":true"), "{}", texts[0]);
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:#?}");
}

#[test]
fn merge_repeats_an_old_preview() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor]}");
    let previews = FakePreviews::new(accepted());
    let engine = reviewed.engine(&previews);
    assert!(
        reviewed
            .waits(&engine, PassMode::Write, now())
            .1
            .contains("No check has reported")
    );
    assert_eq!(previews.take_count(), 1);
    assert!(!reviewed.body().contains("would be refused"));
    // Its check turns green a day later, when a new policy forbids the change.
    previews.set(refused());
    reviewed.forge.check(1, "ci/build", "success").unwrap();
    let (state, waits) = reviewed.waits(&engine, PassMode::Write, hours(24));
    assert!(
        waits.contains("A cluster refuses it in a dry run"),
        "{state:?} {waits}"
    );
    assert!(
        reviewed.body().contains("**1 object would be refused.**"),
        "{}",
        reviewed.body()
    );
    // The label previews at once, and the body is current.
    previews.set(accepted());
    reviewed.forge.label(1, "tagboat/rebase").unwrap();
    let report = reviewed.pass_of(&engine, PassMode::Write, hours(24));
    assert_eq!(states(&report), [RequestState::Merged], "{report:#?}");
    assert!(!reviewed.body().contains("would be refused"));
}

#[test]
fn merge_sees_user_action_during_preview() {
    type Act = fn(&SandboxForge);
    let cases: [(Act, RequestState, &str); 3] = [
        (
            |forge| forge.retarget(1, "stable").unwrap(),
            RequestState::Stopped,
            "Its base was changed to stable",
        ),
        (
            |forge| forge.label(1, "tagboat/hold").unwrap(),
            RequestState::Open,
            "The label tagboat/hold is on the pull request.",
        ),
        (
            |forge| forge.close(1, "ann").unwrap(),
            RequestState::Open,
            "The pull request is no longer open.",
        ),
    ];
    for (act, state, why) in cases {
        // The preview in the body is stale when the window opens.
        let reviewed = Reviewed::new(&format!(
            "{AT_ONCE}, windows: [{{cron: '0 13 * * *', duration: 1h}}]"
        ));
        let previews = FakePreviews::new(accepted());
        let engine = reviewed.engine(&previews);
        let forge = Arc::clone(&reviewed.forge);
        // There is no request yet while the body is written; the merge comes later.
        *previews.meanwhile.lock().unwrap() = Some(Box::new(move || {
            if !forge.requests().is_empty() {
                act(&forge);
            }
        }));
        assert!(
            reviewed
                .waits(&engine, PassMode::Write, now())
                .1
                .contains("No window is open")
        );
        let (found, waits) = reviewed.waits(&engine, PassMode::Write, hours(1));
        assert!(found == state && waits.contains(why), "{found:?} {waits}");
        assert_eq!(
            reviewed.fleet.text(FILE),
            deployment(&["web:1.0.0"]),
            "{why}"
        );
    }
}

#[test]
fn merge_sees_window_close_during_preview() {
    let reviewed = Reviewed::new(&format!(
        "{AT_ONCE}, windows: [{{cron: '0 12 * * *', duration: 1h}}]"
    ));
    let previews = FakePreviews::new(accepted());
    let engine = reviewed.engine(&previews);
    *previews.meanwhile.lock().unwrap() =
        Some(Box::new(|| std::thread::sleep(Duration::from_millis(600))));
    // Half a second before its end.
    let late = hours(1) - jiff::SignedDuration::from_millis(500);
    let (state, waits) = reviewed.waits(&engine, PassMode::Write, late);
    assert!(
        state == RequestState::Opened
            && waits.contains("No window is open before 2026-11-21 12:00"),
        "{state:?} {waits}"
    );
    *previews.meanwhile.lock().unwrap() = None;
    assert_eq!(
        states(&reviewed.pass_of(&engine, PassMode::Write, hours(24))),
        [RequestState::Merged]
    );
}

#[test]
fn preview_is_of_the_merge_result() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor]}");
    let previews = FakePreviews::new(accepted());
    let engine = reviewed.engine(&previews);
    reviewed.waits(&engine, PassMode::Write, now());
    let first = previews.of.lock().unwrap().unwrap();
    // The branch stays, because none of its files changed. But the target has more commits.
    reviewed
        .fleet
        .person(&[("apps/more.yaml", "more\n")], "more");
    let main = reviewed
        .fleet
        .repo()
        .rev_parse_single("main")
        .unwrap()
        .detach();
    reviewed.forge.check(1, "ci/build", "success").unwrap();
    previews.set(refused());
    let minutes = |minutes: i64| now() + jiff::SignedDuration::from_mins(minutes);
    let (_, waits) = reviewed.waits(&engine, PassMode::Write, minutes(5));
    assert!(
        waits.contains("A cluster refuses it in a dry run"),
        "{waits}"
    );
    let (base, head) = previews.of.lock().unwrap().unwrap();
    assert!(base == main && head != first.1, "{base} {head}");
    let mirror = &engine.updaters[0].repo.mirror;
    let read = |path: &str| {
        mirror
            .at(head)
            .unwrap()
            .read(path)
            .unwrap()
            .map(|found| String::from_utf8(found.bytes).unwrap())
    };
    let new = deployment(&["web:1.1.0"]).replace("{host}", &reviewed.fleet.registry.host());
    assert_eq!(
        (read("apps/more.yaml").as_deref(), read(FILE)),
        (Some("more\n"), Some(new))
    );
    assert!(
        reviewed.body().contains("**1 object would be refused.**"),
        "{}",
        reviewed.body()
    );
    // The preview stays valid for a while, and the body is not written repeatedly.
    previews.take_count();
    let before = reviewed.forge.requests();
    reviewed.waits(&engine, PassMode::Write, minutes(6));
    assert_eq!(
        (previews.take_count(), reviewed.forge.requests() == before),
        (0, true)
    );
    previews.set(accepted());
    assert_eq!(
        states(&reviewed.pass_of(&engine, PassMode::Write, minutes(20))),
        [RequestState::Merged]
    );
}

#[test]
fn merge_sees_declaration_change_during_preview() {
    let reviewed = Reviewed::new(&format!(
        "{AT_ONCE}, windows: [{{cron: '0 13 * * *', duration: 1h}}]"
    ));
    let previews = FakePreviews::new(accepted());
    let engine = reviewed.engine(&previews);
    reviewed.waits(&engine, PassMode::Write, now());
    let freeze = Reviewed::declared("autoMerge: {bump: [patch]}")
        .replace("{host}", &reviewed.fleet.registry.host());
    let repository = reviewed.fleet.repository.clone();
    *previews.meanwhile.lock().unwrap() = Some(Box::new(move || {
        repository
            .commit(
                &[("p.yaml", &freeze)],
                ("Ann", "ann@example.org"),
                hours(1).as_second(),
                "freeze",
            )
            .unwrap();
    }));
    let (state, waits) = reviewed.waits(&engine, PassMode::Write, hours(1));
    assert!(
        waits.contains("is a minor step; autoMerge.bump allows patch only"),
        "{state:?} {waits}"
    );
    assert_eq!(
        (reviewed.open(), reviewed.fleet.text(FILE)),
        (vec![1], deployment(&["web:1.0.0"]))
    );
}
