//! Requests in passes against the sandbox's forge: what needs no real one to be seen. The life of a request is proved on a
//! real Gitea, in `forge_real`.

use super::update_support::{Fleet, Setup, deployment, env, environment, hours, now, semver};
use gix::refs::{
    Target,
    transaction::{Change, LogChange, PreviousValue, RefEdit},
};
use jiff::Timestamp;
use tagboat::{
    cli::context::Engine,
    sandbox::forge::SandboxForge,
    secret::Secret,
    update::{Mode, Report, RequestState, State},
};

pub const FILE: &str = "envs/prod/a.yaml";

/// A fleet whose repository lies on a forge.
pub struct Reviewed {
    pub fleet: Fleet,
    pub forge: SandboxForge,
}

impl Reviewed {
    /// `prod` by requests with this below `update`, and `dev` by commits.
    pub fn new(update: &str) -> Self {
        let declared = semver("web", "1.x", "") + &env("dev", "") + &reviewed("prod", update);
        let images = deployment(&["web:1.0.0"]);
        Self::of(&[("p.yaml", &declared), (FILE, &images), ("envs/dev/a.yaml", &images)])
    }

    /// These files, and `team/web` in two versions.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let fleet = Fleet::new(files);
        fleet.publish("team/web", &["1.0.0", "1.1.0"]);
        let token = Secret::new("t0ken");
        let forge = fleet.runtime.block_on(SandboxForge::start(fleet.repository.clone(), "acme/fleet", &token)).unwrap();
        std::fs::write(fleet.dir.path().join("token"), token.expose()).unwrap();
        let url = forge.clone_url();
        let api = url.replace("/acme/fleet.git", "/api/v1");
        let lines = format!("    token: {{file: token}}\n    forge: {{kind: gitea, url: {api}}}\n");
        fleet.configure(&url, &Setup { repository: lines.leak(), ..Setup::default() });
        Self { fleet, forge }
    }

    /// A process that reads its declarations in this folder, with a store of its own.
    pub fn engine(&self, policies: &str) -> Engine {
        let (text, name) = (std::fs::read_to_string(self.fleet.config()).unwrap(), policies.replace('/', "-"));
        let text = text.replace("store: store", &format!("store: store-{name}")) + &format!("    policies: {policies}\n");
        let config = self.fleet.dir.path().join(format!("{name}.yaml"));
        std::fs::write(&config, text).unwrap();
        self.fleet.engine_of(&config)
    }

    /// A pass without trouble, by a process and a forge at this time.
    pub fn pass_of(&self, engine: &Engine, mode: Mode, at: Timestamp) -> Report {
        self.forge.set_clock(Some(at));
        let report = self.fleet.pass_of(engine, mode, at);
        assert!(report.failures.is_empty() && report.findings.is_empty(), "{report:#?}");
        report
    }

    pub fn pass(&self, at: Timestamp) -> Report {
        self.pass_of(&self.fleet.engine(), Mode::Write, at)
    }

    /// A person's branch, at a commit that is there.
    pub fn set_branch(&self, name: &str, commit: &str) {
        let repo = self.fleet.repo();
        let change = Change::Update {
            log: LogChange::default(),
            expected: PreviousValue::Any,
            new: Target::Object(commit.parse::<gix::ObjectId>().unwrap()),
        };
        let edit = RefEdit { change, name: format!("refs/heads/{name}").try_into().unwrap(), deref: false };
        let who = gix::actor::SignatureRef { name: "Ann".into(), email: "ann@example.org".into(), time: "0 +0000" };
        repo.edit_references_as([edit], Some(who)).unwrap();
    }

    pub fn open(&self) -> Vec<u64> {
        self.forge.requests().iter().filter(|request| request.open).map(|request| request.number).collect()
    }
}

/// An Environment whose changes are for review.
pub fn reviewed(name: &str, update: &str) -> String {
    env(name, update).replace("via: commit", "via: pullRequest")
}

pub fn states(report: &Report) -> Vec<RequestState> {
    environment(report, "prod").requests.iter().map(|row| row.state).collect()
}

#[test]
fn commits_and_requests_live_side_by_side() {
    let reviewed = Reviewed::new("");
    let engine = reviewed.fleet.engine();
    let planned = reviewed.pass_of(&engine, Mode::Plan, now());
    assert_eq!((environment(&planned, "dev").state, environment(&planned, "prod").state), (State::Planned, State::Planned));
    assert!(planned.has_changes() && reviewed.open().is_empty() && reviewed.fleet.log().len() == 1);

    let report = reviewed.pass_of(&engine, Mode::Write, now());
    assert_eq!((environment(&report, "dev").state, environment(&report, "prod").state), (State::Committed, State::Proposed));
    assert_eq!((states(&report), reviewed.open()), (vec![RequestState::Opened], vec![1]));
    // Only dev was committed, and the request is made on that commit.
    assert_eq!(reviewed.fleet.subjects()[1..], ["dev: web 1.0.0 → 1.1.0"]);
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.0.0"]));
    let repo = reviewed.fleet.repo();
    let id = |name: &str| repo.rev_parse_single(name).unwrap().detach();
    assert_eq!(id("refs/heads/tagboat/prod/all^"), id("main"));

    let before = reviewed.forge.requests();
    let again = reviewed.pass_of(&engine, Mode::Write, hours(1));
    assert_eq!(states(&again), [RequestState::Open]);
    assert!(!again.has_changes(), "{again:#?}");
    drop(engine);
    assert_eq!((states(&reviewed.pass(hours(2))), reviewed.forge.requests()), (vec![RequestState::Open], before));

    // A person merges it by the button, and leaves the branch: it is cleared away.
    reviewed.forge.merge(1, ("Ann", "ann@example.org")).unwrap();
    let report = reviewed.pass(hours(3));
    assert_eq!((states(&report), reviewed.open()), (vec![RequestState::Closed], vec![]), "{report:#?}");
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert!(reviewed.fleet.repo().try_find_reference("refs/heads/tagboat/prod/all").unwrap().is_none());
    assert!(states(&reviewed.pass(hours(4))).is_empty());
}

#[test]
fn a_closed_request_holds_and_commands_say_so() {
    let reviewed = Reviewed::new("");
    reviewed.pass(now());
    reviewed.forge.close(1, "ann").unwrap();
    let report = reviewed.pass(hours(1));
    assert!(states(&report).is_empty() && reviewed.open().is_empty(), "{report:#?}");
    let output = reviewed.fleet.tagboat(&["holds"]).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(text.contains("prod default/web: versions up to 1.1.0 — ann closed request #1 (1.1.0) on 2026-11-20"), "{text}");
    // Released by hand, it is written once.
    reviewed.fleet.tagboat(&["release", "prod", "default/web"]).assert().success();
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    let output = reviewed.fleet.tagboat(&["holds"]).assert().success();
    assert_eq!(String::from_utf8_lossy(&output.get_output().stdout), "nothing is held\n");
}

#[test]
fn a_merge_waits_for_its_window_and_the_age_of_its_tags() {
    // Noon of a Friday; the window is at two at night, and a day must have gone by.
    let reviewed =
        Reviewed::new("autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}, windows: [{cron: '0 2 * * *', duration: 1h}]");
    let report = reviewed.pass(now());
    let row = &environment(&report, "prod").requests[0];
    assert_eq!((row.state, row.waits.len()), (RequestState::Opened, 2), "{row:#?}");
    assert!(row.waits[0].contains("was first seen 2026-11-20 12:00:00 UTC"), "{row:#?}");
    assert!(row.waits[1].starts_with("No window is open before 2026-11-21 02:00"), "{row:#?}");
    assert_eq!(environment(&report, "prod").until, Some(hours(24)), "when a daemon looks again");
    // In the window and too young; old enough and no window; both.
    assert_eq!(states(&reviewed.pass(hours(14))), [RequestState::Open]);
    assert_eq!(environment(&reviewed.pass(hours(24)), "prod").until, Some(hours(38)));
    let report = reviewed.pass(hours(38));
    assert_eq!((states(&report), reviewed.open()), (vec![RequestState::Merged], vec![]), "{report:#?}");
    assert_eq!(reviewed.fleet.text(FILE), deployment(&["web:1.1.0"]));
    assert!(states(&reviewed.pass(hours(39))).is_empty());
}

#[test]
fn a_tag_that_moves_before_the_merge_begins_its_age_anew() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}");
    reviewed.pass(now());
    let moved = tagboat::sandbox::registry::Image { salt: "moved".into(), ..Default::default() };
    reviewed.fleet.image("team/web", "1.1.0", &moved);
    let report = reviewed.pass(hours(25));
    assert_eq!(states(&report), [RequestState::Open], "{report:#?}");
    assert_eq!(environment(&report, "prod").until, Some(hours(49)));
    assert_eq!(states(&reviewed.pass(hours(49))), [RequestState::Merged]);
}

#[test]
fn a_lost_store_closes_and_merges_nothing() {
    let reviewed = Reviewed::new("autoMerge: {bump: [minor], minimumAge: 24h, requireChecks: false}");
    reviewed.pass(now());
    std::fs::remove_dir_all(reviewed.fleet.dir.path().join("store")).unwrap();
    let report = reviewed.pass(hours(48));
    assert_eq!((states(&report), reviewed.open()), (vec![RequestState::Open], vec![1]), "{report:#?}");
    assert_eq!(environment(&report, "prod").until, Some(hours(72)), "it waits longer, and is never further ahead");
}
