//! Pass A, from registry to commit.
//!
//! ```text
//! fetch ─▶ world ─▶ scans ─▶ decide ─▶ edits ─▶ holds ─▶ change sets ─▶ commit and push
//!            ▲                                                              │ conflict
//!            └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! [`Updater::pass`] is this picture, top to bottom. It is the same for `run`, `run --once` and `plan`; `plan` stops
//! before the last step. What blocks (Git, files) runs on a thread of its own, and from drafting a commit to the
//! answer of its push nothing can interrupt it.

mod decide;
mod history;
mod report;
mod world;

pub use decide::{Decided, Local, Present, concerns, decision};
pub use history::{History, Wanted};
pub use report::{CommitReport, EnvironmentReport, FailureReport, LeftReport, PolicyReport, RefusedReport, Report, Requests, State};
pub use world::{Memory, Watched, World, read};

use crate::{
    declare::{Choice, Environment, Mistake, References, Severity, Via, process::ConfigRepository},
    error::Kind,
    findings,
    git::{self, GitError, Mirror, Person, Pushed, RepoPath, SigningKey},
    image::Repository,
    name::Name,
    policy::{Chosen, Details, Holds, Needs, holds},
    publish::{ChangeSet, Message, group},
    references::Needles,
    registry::RequestKind,
    scan::{Scan, ScanError, Scanner},
    schedule,
};
use decide::Edits;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Repositories scanned at once; each registry has its own bound beside that.
const SCANS: usize = 16;

/// How often a pass begins again because somebody else pushed first. A branch that moves ten times while one pass
/// needs a second is left to the next pass.
const ATTEMPTS: u32 = 10;

/// One config repository with all that a pass needs.
pub struct Updater {
    /// What the process file says of it.
    pub config: ConfigRepository,
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// The folder of the index files.
    pub folder: PathBuf,
    /// Registries and store.
    pub scanner: Scanner,
    /// Signs commits.
    pub key: Option<Arc<SigningKey>>,
    memory: Arc<Mutex<(Memory, History)>>,
    confirmed: Mutex<Confirmed>,
    /// Whether the pass under way pushes or has pushed something, which its report has yet to tell.
    publishing: AtomicBool,
    /// Whether a pass shall end at its next safe point.
    ending: AtomicBool,
}

/// What a pass is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Commit and push.
    Write,
    /// Say what would be done.
    Plan,
}

/// Which repositories are listed anew.
#[derive(Debug, Clone)]
pub enum Rescan {
    /// All that have references.
    All,
    /// These, and those never listed.
    Only {
        /// These.
        due: HashSet<Repository>,
        /// In trouble: not even if they were never listed.
        resting: HashSet<Repository>,
    },
}

/// What one pass knows of repositories; repositories that could not be scanned are missing.
type Scans = HashMap<Repository, Scan>;

/// What registries have confirmed of single tags since their repositories were listed.
type Confirmed = HashMap<Repository, HashMap<String, Details>>;

/// How many confirmed tags of a repository are kept between its scans: three policies' clocks. With more it is asked
/// again, so that memory stays small.
const MOST_CONFIRMED: usize = 64;

/// What a pass keeps when it begins again on a newer commit: registries are asked once, and what was pushed is told.
struct Pass<'p> {
    mode: Mode,
    rescan: &'p Rescan,
    now: Timestamp,
    scans: Scans,
    /// Repositories that could not be scanned.
    failed: HashSet<Repository>,
    /// Commits that were pushed, by Environment.
    pushed: BTreeMap<String, Vec<CommitReport>>,
    /// A push whose answer was lost, with its Environment: the next fetch shows what became of it.
    unsure: Option<(git::ObjectId, String, CommitReport)>,
}

/// The changes of one Environment, before anything is published.
struct Prepared {
    report: EnvironmentReport,
    sets: Vec<ChangeSet>,
    person: Option<Person>,
}

impl Updater {
    /// Puts an updater together. Nothing is sent.
    pub fn new(config: ConfigRepository, mirror: Mirror, folder: PathBuf, scanner: Scanner, key: Option<SigningKey>) -> Self {
        Self {
            config,
            mirror: Arc::new(mirror),
            folder,
            scanner,
            key: key.map(Arc::new),
            memory: Arc::default(),
            confirmed: Mutex::default(),
            publishing: AtomicBool::default(),
            ending: AtomicBool::default(),
        }
    }

    /// Asks passes to end. Gives whether one is at a push or has done one: then it must be waited for, and ends before it
    /// does more. Any other can be dropped where it is.
    pub fn end(&self) -> bool {
        self.ending.store(true, Ordering::SeqCst);
        self.publishing.load(Ordering::SeqCst)
    }

    /// One pass. Never fails as a whole: what went wrong stands in the report beside what went well.
    pub async fn pass(&self, mode: Mode, rescan: &Rescan, now: Timestamp) -> Report {
        let mut report = Report { repository: self.config.name.clone(), ..Report::default() };
        let before = self.scanner.registries.stats();
        let (scans, failed, pushed, unsure) = Default::default();
        let mut pass = Pass { mode, rescan, now, scans, failed, pushed, unsure };
        let (mut conflicts, mut rebuilt) = (0, false);
        while !self.ending.load(Ordering::SeqCst) {
            let step = match self.world(&mut report).await {
                Ok(world) => self.once(&world, &mut pass, &mut report).await,
                Err(error) => Err(error),
            };
            match step {
                Ok(Step::Done) => break,
                // Later sets build on this commit, so the world is read again; nothing is scanned again.
                Ok(Step::Pushed) => conflicts = 0,
                Ok(Step::Conflict) if conflicts < ATTEMPTS => {
                    conflicts += 1;
                    tokio::time::sleep(jitter(conflicts)).await;
                }
                Ok(Step::Conflict) => {
                    report.failures.push(FailureReport {
                        kind: Kind::Conflict,
                        message: format!("{}: somebody else pushed first, {ATTEMPTS} times in a row", self.mirror.remote().shown()),
                        hint: Some("The next pass tries again.".to_owned()),
                        repository: None,
                        retry_after: None,
                    });
                    break;
                }
                // The mirror is a cache.
                Err(error @ GitError::Broken { .. }) if !rebuilt => {
                    rebuilt = true;
                    report.warnings.push(format!("{error}; the mirror is cloned anew"));
                    if let Err(error) = self.forget().await {
                        report.failures.push(FailureReport::new(&error));
                        break;
                    }
                }
                Err(error) => {
                    report.failures.push(FailureReport::new(&error));
                    break;
                }
            }
        }
        self.publishing.store(false, Ordering::SeqCst);
        if report.failures.is_empty()
            && let Err(error) = self.compact().await
        {
            report.warnings.push(error.to_string());
        }
        let Pass { mut pushed, scans, .. } = pass;
        *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = scans.into_iter().filter_map(confirmed).collect();
        // A pass that ended in trouble may not have come to the rows of what it had pushed.
        for name in pushed.keys() {
            if !report.environments.iter().any(|environment| environment.name == *name) {
                report.environments.push(EnvironmentReport::new(name, State::Committed));
            }
        }
        report.environments.sort_by(|left, right| left.name.cmp(&right.name));
        for environment in &mut report.environments {
            if let Some(mut commits) = pushed.remove(&environment.name) {
                commits.append(&mut environment.commits);
                environment.commits = commits;
                if matches!(environment.state, State::UpToDate | State::Unknown) {
                    environment.state = State::Committed;
                }
            }
        }
        let after = self.scanner.registries.stats();
        report.requests.listings = after.total(RequestKind::Tags) - before.total(RequestKind::Tags);
        report.requests.heads = after.total(RequestKind::Head) - before.total(RequestKind::Head);
        report.requests.registry = after.all() - before.all();
        report
    }

    /// One walk through the picture. Commits that were pushed are noted in `pass` at once, so that no later trouble
    /// hides them.
    async fn once(&self, world: &World, pass: &mut Pass<'_>, report: &mut Report) -> Result<Step, GitError> {
        report.revision = Some(world.commit.to_string());
        if let Some((commit, environment, row)) = pass.unsure.take()
            && self.mirror.contains(world.commit, commit)?
        {
            pass.pushed.entry(environment).or_default().push(row);
        }
        report.environments.clear();
        let (locals, found) = findings::find(&world.declared, &world.files);
        report.findings = found;
        self.scan(&locals, pass, report).await;
        let mut all = Vec::new();
        for local in &locals {
            all.push(self.prepare(world, local, pass, report).await?);
        }
        for Prepared { report: mut environment, sets, person } in all {
            // Where nothing changes, nothing waits.
            let blocked = !sets.is_empty() && gate(world.declared.environments.get(&environment.name), pass.now, &mut environment, report);
            for set in sets {
                let message = match Message::new(self.config.message.clone()).of(&set) {
                    Ok(message) => message,
                    Err(error) => {
                        environment.state = State::Failed;
                        report.failures.push(FailureReport::new(&error));
                        break;
                    }
                };
                let planned = CommitReport { id: None, message, images: set.moves.clone(), files: set.files.clone() };
                if blocked || pass.mode == Mode::Plan {
                    if !blocked {
                        environment.state = State::Planned;
                    }
                    environment.commits.push(planned);
                    continue;
                }
                let done = pass.pushed.get(&environment.name);
                if done.is_some_and(|done| done.iter().any(|commit| commit.images == set.moves)) {
                    environment.state = State::Failed;
                    report.failures.push(undone(self.mirror.remote().shown(), &planned));
                    environment.commits.push(planned);
                    break;
                }
                match self.publish(&set, &planned.message, person.as_ref(), pass.now).await {
                    Ok(Published::Done(commit)) => {
                        let commit = CommitReport { id: Some(commit.to_string()), ..planned };
                        pass.pushed.entry(environment.name.clone()).or_default().push(commit);
                        return Ok(Step::Pushed);
                    }
                    Ok(Published::Unsure(commit)) => {
                        let row = CommitReport { id: Some(commit.to_string()), ..planned };
                        pass.unsure = Some((commit, environment.name.clone(), row));
                        return Ok(Step::Conflict);
                    }
                    Ok(Published::Conflict) => return Ok(Step::Conflict),
                    Ok(Published::Refused(refusal)) => {
                        environment.state = State::Failed;
                        report.failures.push(FailureReport::new(&refusal));
                        environment.commits.push(planned);
                        break;
                    }
                    Err(error @ GitError::Broken { .. }) => return Err(error),
                    Err(error) => {
                        environment.state = State::Failed;
                        report.failures.push(FailureReport::new(&error));
                        environment.commits.push(planned);
                        break;
                    }
                }
            }
            report.environments.push(environment);
        }
        Ok(Step::Done)
    }

    /// Forgets the mirror with everything that was read from it.
    async fn forget(&self) -> Result<(), GitError> {
        let (mirror, memory) = (Arc::clone(&self.mirror), Arc::clone(&self.memory));
        blocking(move || {
            *memory.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
            mirror.rebuild()
        })
        .await
    }

    /// Keeps the mirror small; a look at a folder most of the time.
    async fn compact(&self) -> Result<(), GitError> {
        let mirror = Arc::clone(&self.mirror);
        blocking(move || mirror.compact().map(drop)).await
    }

    /// Fetches, and reads the revision.
    async fn world(&self, report: &mut Report) -> Result<World, GitError> {
        report.requests.ls_refs += 1;
        let (mirror, memory) = (Arc::clone(&self.mirror), Arc::clone(&self.memory));
        let (policies, folder) = (self.config.policies.clone(), self.folder.clone());
        let (world, warnings) = blocking(move || {
            let head = mirror.fetch()?;
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            read(&mirror, head.commit, policies.as_deref(), &folder, &mut memory.0)
        })
        .await?;
        report.warnings.extend(warnings);
        Ok(world)
    }

    /// Lists the tags of every repository that has references, each once in a pass.
    async fn scan(&self, locals: &[Local<'_>], pass: &mut Pass<'_>, report: &mut Report) {
        let (rescan, now) = (pass.rescan, pass.now);
        let known = |repository: &Repository| pass.scans.contains_key(repository) || pass.failed.contains(repository);
        let wanted: BTreeSet<Repository> = locals
            .iter()
            .filter(|local| !local.environment.suspend)
            .flat_map(|local| local.policies.values())
            .filter(|present| !present.policy.suspend && !known(&present.policy.image) && !self.rests(&present.policy.image, rescan))
            .map(|present| present.policy.image.clone())
            .collect();
        let results: Vec<(Repository, Result<Scan, ScanError>)> = stream::iter(wanted)
            .map(|repository| async move {
                let result = self.scan_one(&repository, rescan, now).await;
                (repository, result)
            })
            .buffer_unordered(SCANS)
            .collect()
            .await;
        let mut failed = Vec::new();
        for (repository, result) in results {
            match result {
                Ok(scan) => {
                    if scan.hostile > 0 {
                        report.warnings.push(format!("{repository}: the registry lists {} names that no tag can have", scan.hostile));
                    }
                    pass.scans.insert(repository, scan);
                }
                Err(error) => {
                    failed.push(FailureReport::new(&error).of(&repository));
                    pass.failed.insert(repository);
                }
            }
        }
        failed.sort_by(|left, right| left.message.cmp(&right.message));
        for failure in failed {
            if !report.failures.contains(&failure) {
                report.failures.push(failure);
            }
        }
    }

    /// Whether a repository waits for the end of its trouble.
    fn rests(&self, repository: &Repository, rescan: &Rescan) -> bool {
        matches!(rescan, Rescan::Only { resting, .. } if resting.contains(repository))
            && self.scanner.last(repository).is_ok_and(|known| known.is_none())
    }

    async fn scan_one(&self, repository: &Repository, rescan: &Rescan, now: Timestamp) -> Result<Scan, ScanError> {
        let config = self.scanner.registries.config(repository);
        if !config.allowed_repositories.is_empty() && !config.allowed_repositories.contains(&self.config.name) {
            return Err(ScanError::Forbidden {
                repository: repository.clone(),
                prefix: config.prefix.clone(),
                config: self.config.name.clone(),
            });
        }
        if let Rescan::Only { due, .. } = rescan
            && !due.contains(repository)
            && let Some((mut scan, _)) = self.scanner.last(repository)?
        {
            let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(details) = confirmed.get(repository) {
                (scan.details, scan.remembered) = (details.clone(), true);
            }
            return Ok(scan);
        }
        self.scanner.scan(repository, now).await
    }

    /// Decides and edits, first as if nothing had ever been reverted and no tag had moved since its scan. Only where
    /// something would change are digests confirmed again, and the history is read, and decided again under what it
    /// holds back.
    async fn prepare(&self, world: &World, local: &Local<'_>, pass: &mut Pass<'_>, report: &mut Report) -> Result<Prepared, GitError> {
        let (scans, now) = (&mut pass.scans, pass.now);
        let environment = local.environment;
        let mut row = EnvironmentReport::new(&environment.name, State::UpToDate);
        let person = environment.author.as_ref().and_then(|author| Person::new(&author.name, &author.email).ok());
        if environment.suspend {
            row.state = State::Suspended;
            return Ok(Prepared { report: row, sets: Vec::new(), person });
        }
        let nothing_held: BTreeMap<Name, Holds> = BTreeMap::new();
        let (mut decided, mut edits) = self.decide(world, local, scans, &nothing_held, now, report).await?;
        if !edits.files.is_empty() && doubt(local, scans) {
            (decided, edits) = self.decide(world, local, scans, &nothing_held, now, report).await?;
        }
        let mut held = nothing_held;
        if !edits.files.is_empty() {
            held = self.holds(world, local, now).await?;
            if held.values().any(|holds| !holds.is_empty()) {
                (decided, edits) = self.decide(world, local, scans, &held, now, report).await?;
            }
        }
        let none = Holds::default();
        row.policies = local
            .policies
            .iter()
            .map(|(name, present)| {
                let scan = scans.get(&present.policy.image);
                present.report(decided.get(*name), scan, held.get(*name).unwrap_or(&none), now)
            })
            .collect();
        row.left = edits.left;
        let unasked = |image: &Repository| {
            !scans.contains_key(image) || report.failures.iter().any(|failure| failure.repository.as_ref() == Some(image))
        };
        if local.policies.values().any(|present| !present.policy.suspend && unasked(&present.policy.image)) {
            row.state = State::Unknown;
        }
        let sets = group(&environment.name, environment.group, &edits.files);
        Ok(Prepared { report: row, sets, person })
    }

    /// Every policy of an Environment decides, and the files are edited; digests that only the files ask for are
    /// looked up on the way.
    async fn decide(
        &self,
        world: &World,
        local: &Local<'_>,
        scans: &mut Scans,
        held: &BTreeMap<Name, Holds>,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<(BTreeMap<Name, Decided>, Edits), GitError> {
        let mut decided: BTreeMap<Name, Decided> = BTreeMap::new();
        let none = Holds::default();
        for (name, present) in &local.policies {
            let decision = match scans.get_mut(&present.policy.image) {
                None if present.policy.suspend => Decided::nothing("the policy is suspended"),
                None => Decided::nothing("its repository could not be scanned"),
                Some(scan) => {
                    let holds = held.get(*name).unwrap_or(&none);
                    match present.decide(&self.scanner, scan, holds, now).await {
                        Ok(decision) => decision,
                        Err(error) => failed(report, &present.policy.image, &error),
                    }
                }
            };
            decided.insert((*name).clone(), decision);
        }
        let mut edits = self.edit(world, local, &decided, scans)?;
        // A choice gets its digest once; what is still missing then is left alone, with that reason.
        for name in std::mem::take(&mut edits.needs_digest) {
            let (Some(present), Some(Decided::Chosen(chosen))) = (local.policies.get(&name), decided.get_mut(&name)) else { continue };
            let Some(scan) = scans.get_mut(&present.policy.image) else { continue };
            let needs = Needs { digests: vec![chosen.tag.clone()], ..Needs::default() };
            match self.scanner.answer(scan, &needs, now).await {
                Ok(()) => chosen.digest = scan.details.get(chosen.tag.as_str()).and_then(|details| details.digest.clone()),
                Err(error) => {
                    let nothing = failed(report, &present.policy.image, &error);
                    decided.insert(name, nothing);
                }
            }
            edits.needs_digest.clear();
        }
        let edits =
            if edits.left.iter().any(|left| left.code == "needs-digest") { self.edit(world, local, &decided, scans)? } else { edits };
        Ok((decided, edits))
    }

    fn edit(&self, world: &World, local: &Local<'_>, decided: &BTreeMap<Name, Decided>, scans: &Scans) -> Result<Edits, GitError> {
        let revision = self.mirror.at(world.commit)?;
        local.edits(world, decided, scans, |file| match file.blob {
            Some(blob) => revision.blob(blob),
            None => Ok(revision.read(&file.path)?.map(|found| found.bytes).unwrap_or_default()),
        })
    }

    /// What reverts hold back, for each policy of an Environment.
    pub async fn holds(&self, world: &World, local: &Local<'_>, now: Timestamp) -> Result<BTreeMap<Name, Holds>, GitError> {
        let (mirror, memory, commit) = (Arc::clone(&self.mirror), Arc::clone(&self.memory), world.commit);
        let needles = Needles::new(world.declared.policies.values().map(|policy| &policy.image));
        let walked = blocking(move || {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            memory.1.walk(&mirror, commit, &needles, now)
        });
        walked.await?;
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let contains = |path: &str| local.environment.paths.contains(path);
        let of = |present: &Present<'_>| {
            let policy = present.policy;
            let wanted = Wanted {
                policy: &policy.name,
                repository: &policy.image,
                automatic: local.environment.references == References::Auto,
                digests: matches!(policy.choice, Choice::Digest(_)),
                contains: &contains,
            };
            holds(policy, &memory.1.moves(&wanted))
        };
        Ok(local.policies.iter().map(|(name, present)| ((*name).clone(), of(present))).collect())
    }

    /// Commits a change set on the head that was read, and pushes it.
    async fn publish(&self, set: &ChangeSet, message: &str, person: Option<&Person>, now: Timestamp) -> Result<Published, GitError> {
        let mirror = Arc::clone(&self.mirror);
        let key = self.key.clone();
        let bot = Person::new(&self.config.author.name, &self.config.author.email)?;
        let author = person.cloned().unwrap_or_else(|| bot.clone());
        let edits = set
            .files
            .iter()
            .map(|file| Ok(git::Edit { path: RepoPath::new(&file.path)?, bytes: file.after.clone() }))
            .collect::<Result<Vec<_>, GitError>>()?;
        let (message, before) = (message.to_owned(), set.files.clone());
        self.publishing.store(true, Ordering::SeqCst);
        blocking(move || {
            let Some(head) = mirror.head() else { return Ok(Published::Conflict) };
            // The head may be another one than the edits were made on; then their sources differ, or nothing is lost.
            let revision = mirror.at(head)?;
            for file in &before {
                if revision.read(&file.path)?.map(|found| found.bytes) != Some(file.before.clone()) {
                    return Ok(Published::Conflict);
                }
            }
            let text = git::Message { author: &author, committer: &bot, seconds: now.as_second(), text: &message, key: key.as_deref() };
            let Some(draft) = mirror.draft(head, &edits, &text)? else { return Ok(Published::Conflict) };
            match mirror.push(&draft) {
                Ok(Pushed::Done) => Ok(Published::Done(draft.commit)),
                Err(GitError::Unanswered { .. }) => Ok(Published::Unsure(draft.commit)),
                Err(error) => Err(error),
                Ok(Pushed::Rejected(refusals)) => match refusals.into_iter().next() {
                    Some(refusal) if refusal.kind != Kind::Conflict => Ok(Published::Refused(refusal)),
                    _ => Ok(Published::Conflict),
                },
            }
        })
        .await
    }

    /// What the revision of the last pass declares.
    pub fn declared(&self) -> Option<Arc<crate::declare::Declarations>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).0.declared()
    }

    /// Reads the revision that the remote has now, for commands that only look.
    ///
    /// # Errors
    /// If the remote cannot be asked or the mirror is damaged.
    pub async fn look(&self, report: &mut Report) -> Result<World, GitError> {
        self.world(report).await
    }

    /// Writes the held version of a policy once in an Environment, which lifts the hold. A policy that follows a digest
    /// holds digests: then `chosen` has one.
    ///
    /// # Errors
    /// If the remote cannot be asked, or the push is refused.
    pub async fn release(
        &self,
        world: &World,
        local: &Local<'_>,
        policy: &Name,
        mut chosen: Chosen,
        now: Timestamp,
    ) -> Result<Released, GitError> {
        let Some(present) = local.policies.get(policy) else { return Ok(Released::Nothing) };
        let version = chosen.digest.as_ref().map_or(chosen.tag.as_str(), |digest| digest.as_str()).to_owned();
        let mut scans = Scans::new();
        let scan = Scan {
            repository: present.policy.image.clone(),
            tags: Arc::new([chosen.tag.as_str()].into_iter().collect()),
            hostile: 0,
            details: HashMap::new(),
            remembered: false,
        };
        scans.insert(present.policy.image.clone(), scan);
        let mut edits = Edits::default();
        for _ in 0..2 {
            let decided = BTreeMap::from([(policy.clone(), Decided::Chosen(chosen.clone()))]);
            edits = self.edit(world, local, &decided, &scans)?;
            if edits.needs_digest.is_empty() {
                break;
            }
            match self.scanner.registries.digest(&present.policy.image, &chosen.tag).await {
                Ok(digest) => chosen.digest = Some(digest),
                Err(error) => return Ok(Released::Unknown(FailureReport::new(&error))),
            }
        }
        let Some(set) = group(&local.environment.name, crate::declare::Group::All, &edits.files).into_iter().next() else {
            return Ok(Released::Nothing);
        };
        let message = Message::default().of(&set).unwrap_or_default();
        let message = message.replacen('\n', &format!("\n\nReleased by hand: the hold of {version} is lifted.\n"), 1);
        match self.publish(&set, &message, None, now).await? {
            Published::Done(commit) => Ok(Released::Done { commit: commit.to_string(), images: set.moves }),
            Published::Conflict | Published::Unsure(_) => Ok(Released::Conflict),
            Published::Refused(refusal) => Ok(Released::Unknown(FailureReport::new(&refusal))),
        }
    }
}

/// What became of a release.
#[derive(Debug)]
pub enum Released {
    /// The version was written.
    Done {
        /// The commit.
        commit: String,
        /// The images that moved.
        images: Vec<crate::publish::ImageMove>,
    },
    /// No reference of the policy could be edited.
    Nothing,
    /// Somebody else pushed first.
    Conflict,
    /// A registry or the Git server said no.
    Unknown(FailureReport),
}

/// How one walk ended.
enum Step {
    /// Nothing is left to do.
    Done,
    /// A commit was pushed; there may be more to do.
    Pushed,
    /// Somebody else has moved the branch.
    Conflict,
}

enum Published {
    Done(git::ObjectId),
    /// The commit was sent and no answer came.
    Unsure(git::ObjectId),
    Conflict,
    Refused(git::Refusal),
}

/// Whether changes must wait: for a window, or for a way of publishing that is not there yet.
fn gate(environment: Option<&Environment>, now: Timestamp, row: &mut EnvironmentReport, report: &mut Report) -> bool {
    let Some(environment) = environment else { return true };
    if matches!(environment.via, Via::PullRequest { .. }) {
        row.state = State::NotYet;
        report.findings.push(Mistake {
            place: environment.place.clone(),
            severity: Severity::Warning,
            message: format!("Environment {}: update.via: pullRequest is not yet done; write via: commit to update it", environment.name),
        });
        return true;
    }
    if let Err(next) = schedule::open(&environment.windows, now) {
        (row.state, row.until) = (State::WindowClosed, next);
        return true;
    }
    false
}

/// The same change is wanted again right after it was pushed: somebody undoes it, and a pass does not fight.
fn undone(remote: &str, commit: &CommitReport) -> FailureReport {
    let subject = commit.message.lines().next().unwrap_or_default();
    FailureReport {
        kind: Kind::Conflict,
        message: format!("git remote {remote}: \"{subject}\" was pushed and is gone again"),
        hint: Some("Another program or a hook rewrites these files; let one of the two leave them alone.".to_owned()),
        repository: None,
        retry_after: None,
    }
}

fn failed(report: &mut Report, repository: &Repository, error: &ScanError) -> Decided {
    let failure = FailureReport::new(error).of(repository);
    let reason = failure.message.clone();
    if !report.failures.contains(&failure) {
        report.failures.push(failure);
    }
    Decided::nothing(reason)
}

/// What a pass leaves for those until the next scan: the tags that the registry has confirmed.
fn confirmed((repository, scan): (Repository, Scan)) -> Option<(Repository, HashMap<String, Details>)> {
    let fresh: HashMap<String, Details> = scan.details.into_iter().filter(|(_, details)| details.fresh).collect();
    (1..=MOST_CONFIRMED).contains(&fresh.len()).then_some((repository, fresh))
}

/// Forgets what earlier passes have confirmed for the policies of an Environment; says whether there was something.
fn doubt(local: &Local<'_>, scans: &mut Scans) -> bool {
    let mut any = false;
    for present in local.policies.values() {
        if let Some(scan) = scans.get_mut(&present.policy.image).filter(|scan| scan.remembered) {
            (scan.remembered, any) = (false, true);
            scan.details.clear();
        }
    }
    any
}

/// Runs what blocks on a thread of its own. A panic there is a panic here.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("blocking tasks are never cancelled"),
        },
    }
}

/// A pause that grows with the attempts and differs between processes: up to 50 ms, 100 ms, …, half a second.
fn jitter(attempt: u32) -> Duration {
    use std::hash::{BuildHasher, Hasher};
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    Duration::from_millis(random % u64::from(50 * attempt.min(10)))
}
