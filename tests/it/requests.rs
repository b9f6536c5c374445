//! Requests in passes against the sandbox's forge: what needs no real one to be seen. The life of a
//! request is proved on a real Gitea, in `forge_real`.

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

pub const FILE: &str = "envs/prod/a.yaml";

/// A fleet whose repository lies on a forge.
pub struct Reviewed {
    pub fleet: Fleet,
    pub forge: Arc<SandboxForge>,
}

impl Reviewed {
    /// `prod` by requests with this below `update`, and `dev` by commits.
    pub fn new(update: &str) -> Self {
        let declared = Self::declared(update);
        let images = deployment(&["web:1.0.0"]);
        Self::of(&[
            ("p.yaml", &declared),
            (FILE, &images),
            ("envs/dev/a.yaml", &images),
        ])
    }

    /// These files, and `team/web` in two versions.
    pub fn of(files: &[(&str, &str)]) -> Self {
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
    pub fn engine_in(&self, policies: &str) -> Engine {
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

    /// A pass without trouble, by a process and a forge at this time.
    pub fn pass_of(&self, engine: &Engine, mode: PassMode, at: Timestamp) -> PassReport {
        self.forge.set_clock(Some(at));
        let report = self.fleet.pass_of(engine, mode, at);
        assert!(
            report.failures.is_empty() && report.findings.is_empty(),
            "{report:#?}"
        );
        report
    }

    pub fn pass(&self, at: Timestamp) -> PassReport {
        self.pass_of(&self.fleet.engine(), PassMode::Write, at)
    }

    /// A person's branch, at a commit that is there.
    pub fn set_branch(&self, name: &str, commit: &str) {
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

    pub fn open(&self) -> Vec<u64> {
        self.forge
            .requests()
            .iter()
            .filter(|request| request.open)
            .map(|request| request.number)
            .collect()
    }
}

/// An Environment whose changes are for review.
pub fn reviewed(name: &str, update: &str) -> String {
    env(name, update).replace("via: commit", "via: pullRequest")
}

pub fn states(report: &PassReport) -> Vec<RequestState> {
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
    // Only dev was committed, and the request is made on that commit.
    assert_eq!(reviewed.fleet.subjects()[1..], ["dev: web 1.0.0 → 1.1.0"]);
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.0.0"]));
    let repo = reviewed.fleet.repo();
    let id = |name: &str| repo.rev_parse_single(name).unwrap().detach();
    assert_eq!(id("refs/heads/tagboat/prod/all^"), id("main"));
    // No rule goes by the tag's age; the reviewer sees it all the same.
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

    // A person merges it by the button, and leaves the branch: it is cleared away.
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
    // Released by hand, it is written once.
    reviewed
        .fleet
        .tagboat(&["release", "prod", "default/web"])
        .assert()
        .success();
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    let output = reviewed.fleet.tagboat(&["holds"]).assert().success();
    assert_eq!(
        String::from_utf8_lossy(&output.get_output().stdout),
        "nothing is held\n"
    );
}

#[test]
fn merge_waits_for_window_and_tag_age() {
    // Noon of a Friday; the window is at two at night, and a day must have gone by.
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
        "when a daemon looks again"
    );
    // In the window and too young; old enough and no window; both.
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

/// Merges at once, when nothing speaks against it.
const AT_ONCE: &str = "autoMerge: {bump: [minor], requireChecks: false}";

/// Previews that are told what to say, and what happens meanwhile.
#[derive(Default)]
struct Told {
    says: Mutex<Preview>,
    asked: AtomicUsize,
    /// Of what: base and head.
    of: Mutex<Option<(ObjectId, ObjectId)>>,
    meanwhile: Mutex<Option<Box<dyn Fn() + Send>>>,
}

#[async_trait::async_trait]
impl Previews for Told {
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview {
        self.asked.fetch_add(1, Ordering::SeqCst);
        *self.of.lock().unwrap() = Some((base, head));
        if let Some(meanwhile) = &*self.meanwhile.lock().unwrap() {
            meanwhile();
        }
        self.says.lock().unwrap().clone()
    }
}

impl Told {
    fn new(says: Preview) -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(says),
            ..Self::default()
        })
    }

    fn say(&self, preview: Preview) {
        *self.says.lock().unwrap() = preview;
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// A preview of one object to which its cluster says this.
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
    /// A process whose previews say this.
    fn engine(&self, told: &Arc<Told>) -> Engine {
        let engine = self.fleet.engine();
        let _ = engine.updaters[0].previews.set(Arc::<Told>::clone(told));
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
        let told = Told::new(says);
        let engine = reviewed.engine(&told);
        let minutes = |minutes: i64| now() + jiff::SignedDuration::from_mins(minutes);
        assert_eq!(
            reviewed.waits(&engine, PassMode::Write, minutes(0)),
            (RequestState::Opened, why.to_owned())
        );
        // What stood in the way is not asked for each minute.
        assert_eq!(told.asked(), 1);
        assert_eq!(
            reviewed.waits(&engine, PassMode::Write, minutes(1)),
            (RequestState::Open, why.to_owned())
        );
        assert_eq!(told.asked(), 0);
        // A text that people have made good counts for nothing, nor does another process's.
        let body = reviewed.body();
        let edited = body
            .replace(",\"refused\":true", "")
            .replace(",\"again\":true", "");
        reviewed.forge.rewrite(1, &edited).unwrap();
        drop(engine);
        let engine = reviewed.engine(&told);
        assert_eq!(reviewed.waits(&engine, PassMode::Plan, minutes(2)).1, why);
        assert_eq!(reviewed.waits(&engine, PassMode::Write, minutes(2)).1, why);
        assert!(told.asked() > 0);
        // The policy of the cluster was changed: it merges, and its text says no more what is not
        // so.
        told.say(accepted());
        let report = reviewed.pass_of(&engine, PassMode::Write, minutes(13));
        assert_eq!(states(&report), [RequestState::Merged], "{report:#?}");
        assert!(
            !reviewed.body().contains("would be refused"),
            "{}",
            reviewed.body()
        );
    }
}

#[test]
fn merge_repeats_an_old_preview() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor]}");
    let told = Told::new(accepted());
    let engine = reviewed.engine(&told);
    assert!(
        reviewed
            .waits(&engine, PassMode::Write, now())
            .1
            .contains("No check has reported")
    );
    assert_eq!(told.asked(), 1);
    assert!(!reviewed.body().contains("would be refused"));
    // Its check turns green a day later, when a new policy forbids it.
    told.say(refused());
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
    // The label asks at once, and so is the text made anew.
    told.say(accepted());
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
        // The preview of the text has grown old when the window opens.
        let reviewed = Reviewed::new(&format!(
            "{AT_ONCE}, windows: [{{cron: '0 13 * * *', duration: 1h}}]"
        ));
        let told = Told::new(accepted());
        let engine = reviewed.engine(&told);
        let forge = Arc::clone(&reviewed.forge);
        // While the text is written there is no request yet; then comes the merge.
        *told.meanwhile.lock().unwrap() = Some(Box::new(move || {
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
    let told = Told::new(accepted());
    let engine = reviewed.engine(&told);
    *told.meanwhile.lock().unwrap() =
        Some(Box::new(|| std::thread::sleep(Duration::from_millis(600))));
    // Half a second before its end.
    let late = hours(1) - jiff::SignedDuration::from_millis(500);
    let (state, waits) = reviewed.waits(&engine, PassMode::Write, late);
    assert!(
        state == RequestState::Opened
            && waits.contains("No window is open before 2026-11-21 12:00"),
        "{state:?} {waits}"
    );
    *told.meanwhile.lock().unwrap() = None;
    assert_eq!(
        states(&reviewed.pass_of(&engine, PassMode::Write, hours(24))),
        [RequestState::Merged]
    );
}

#[test]
fn preview_is_of_the_merge_result() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor]}");
    let told = Told::new(accepted());
    let engine = reviewed.engine(&told);
    reviewed.waits(&engine, PassMode::Write, now());
    let first = told.of.lock().unwrap().unwrap();
    // The branch stays as it is: nothing of what it edits is changed. But there is more on the
    // target now.
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
    told.say(refused());
    let minutes = |minutes: i64| now() + jiff::SignedDuration::from_mins(minutes);
    let (_, waits) = reviewed.waits(&engine, PassMode::Write, minutes(5));
    assert!(
        waits.contains("A cluster refuses it in a dry run"),
        "{waits}"
    );
    let (base, head) = told.of.lock().unwrap().unwrap();
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
    // It stands for a while, and the text is not written again and again.
    told.asked();
    let before = reviewed.forge.requests();
    reviewed.waits(&engine, PassMode::Write, minutes(6));
    assert_eq!(
        (told.asked(), reviewed.forge.requests() == before),
        (0, true)
    );
    told.say(accepted());
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
    let told = Told::new(accepted());
    let engine = reviewed.engine(&told);
    reviewed.waits(&engine, PassMode::Write, now());
    let freeze = Reviewed::declared("autoMerge: {bump: [patch]}")
        .replace("{host}", &reviewed.fleet.registry.host());
    let repository = reviewed.fleet.repository.clone();
    *told.meanwhile.lock().unwrap() = Some(Box::new(move || {
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
