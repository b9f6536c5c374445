//! Verified sources: the revision of a config repository that may be deployed.
//!
//! ```text
//! head of the branch ─▶ signatures, `from`, last verified revision ─▶ head | last verified | none
//! ```
//!
//! The update pass works on the head of the branch in any case. What it commits on top of a head
//! that is not verified is deployed no sooner: its own signature counts for its own change alone.

use super::{RepoFollower, RepoSnapshot, blocking};
use crate::{
    core::text::short_id,
    io::{
        git::{CommitKeys, GitError, Mirror, ObjectId, SignatureVerdict},
        store::Store,
    },
    spec::{
        Declarations,
        settings::{VerifyMode, VerifySettings},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{Arc, PoisonError},
};
use tokio::sync::Mutex;

/// Table of the store. A key is a remote and a branch, a value the last verified commit.
const TABLE: &str = "verified-head";

/// Commits that are looked at below a head. A first look at a long history needs `from`.
const MAX_COMMITS: usize = 2000;

/// Decides which revisions of a config repository may be deployed.
#[derive(Debug)]
pub struct CommitVerifier {
    settings: VerifySettings,
    keys: CommitKeys,
    state: Mutex<VerifiedState>,
    /// The head that was judged last, if it is refused.
    refused: std::sync::Mutex<Option<RefusedHead>>,
}

/// What was verified, as far as this process knows.
#[derive(Debug, Default)]
struct VerifiedState {
    /// Whether the store was read.
    is_loaded: bool,
    /// The last verified commit. The mirror may have lost it after a force-push.
    last: Option<ObjectId>,
    /// The head that was judged last, and why it is refused.
    judged: Option<(ObjectId, Option<String>)>,
}

/// The revision of a config repository that may be deployed.
#[derive(Debug, Clone)]
pub struct DeployableRevision {
    /// The revision; none if none was ever verified, or it is no longer in the repository.
    pub revision: Option<(ObjectId, Arc<Declarations>)>,
    /// The head of the branch, if it may not be deployed.
    pub refused: Option<RefusedHead>,
}

/// A head that is not deployed, because it is not verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedHead {
    /// The config repository.
    pub repository: String,
    /// The full commit ID.
    pub commit: String,
    /// The reason, as the rest of a sentence about the commit.
    pub reason: String,
    /// The full ID of the verified commit that stays in force; none if there is none.
    pub in_force: Option<String>,
}

/// Writes "fleet: commit 0123456789 is not deployed: it is not signed; 9876543210 stays in force".
impl fmt::Display for RefusedHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (commit, reason) = (short_id(&self.commit), &self.reason);
        write!(
            f,
            "{}: commit {commit} is not deployed: it {reason}; ",
            self.repository
        )?;
        match &self.in_force {
            Some(commit) => write!(f, "{} stays in force", short_id(commit)),
            None => f.write_str("nothing is deployed before a verified commit"),
        }
    }
}

impl RefusedHead {
    /// The advice for the user.
    pub const HINT: &str = "Push a commit that is signed by a key of repositories[].verify, or add the key of its author there.";
}

impl CommitVerifier {
    /// Creates a verifier that has judged nothing yet.
    pub fn new(settings: VerifySettings, keys: CommitKeys) -> Self {
        Self {
            settings,
            keys,
            state: Mutex::default(),
            refused: std::sync::Mutex::default(),
        }
    }

    /// Returns the revision that may be deployed, where `snapshot` is the head.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub(super) async fn deployable(
        self: &Arc<Self>,
        repo: &RepoFollower,
        store: &Arc<Store>,
        snapshot: &RepoSnapshot,
    ) -> Result<DeployableRevision, GitError> {
        let (this, mirror) = (Arc::clone(self), Arc::clone(&repo.mirror));
        let (store, head) = (Arc::clone(store), snapshot.commit);
        let (refused, last) = blocking(move || this.follow(&mirror, &store, head)).await?;
        let Some(reason) = refused else {
            self.set_refused(None);
            return Ok(DeployableRevision {
                revision: Some((head, Arc::clone(&snapshot.declared))),
                refused: None,
            });
        };
        let kept = last.filter(|last| repo.mirror.at(*last).is_ok());
        let revision = match kept {
            Some(last) => Some((last, Arc::new(repo.declared_at(last).await?))),
            None => None,
        };
        let refused = RefusedHead {
            repository: repo.config.name.clone(),
            commit: head.to_string(),
            reason,
            in_force: kept.map(|last| last.to_string()),
        };
        self.set_refused(Some(refused.clone()));
        Ok(DeployableRevision {
            revision,
            refused: Some(refused),
        })
    }

    fn set_refused(&self, head: Option<RefusedHead>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(super) fn refused_head(&self) -> Option<RefusedHead> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.clone()
    }

    /// Returns why a commit may not be deployed by a command that names it; none if it may.
    ///
    /// # Errors
    /// If an object of the mirror is missing.
    pub(super) async fn refusal_of(
        self: &Arc<Self>,
        repo: &RepoFollower,
        commit: ObjectId,
    ) -> Result<Option<String>, GitError> {
        let (this, mirror) = (Arc::clone(self), Arc::clone(&repo.mirror));
        blocking(move || this.refusal(&mirror, commit, None)).await
    }

    /// Judges a head, and remembers it if it is verified. Returns why it is refused, and the last
    /// verified commit.
    fn follow(
        &self,
        mirror: &Mirror,
        store: &Store,
        head: ObjectId,
    ) -> Result<(Option<String>, Option<ObjectId>), GitError> {
        let mut state = self.state.blocking_lock();
        let remote = mirror.remote();
        let key = format!("{} {}", remote.shown(), remote.branch());
        if !state.is_loaded {
            state.last = self.recorded(mirror, store, &key)?;
            state.is_loaded = true;
        }
        if let Some((judged, refused)) = &state.judged
            && *judged == head
        {
            return Ok((refused.clone(), state.last));
        }
        // A new head has the last one among its next few commits. Only after a force-push the whole
        // history is searched.
        let is_forward = match state.last {
            Some(last) => mirror.contains(head, last)?,
            None => false,
        };
        let mut refused = self.refusal(mirror, head, state.last.filter(|_| is_forward))?;
        if refused.is_none()
            && !is_forward
            && let Some(last) = state.last
        {
            refused = leaves_behind(mirror, head, last)?;
        }
        if refused.is_none() && state.last != Some(head) {
            state.last = Some(head);
            let row = format!("{head} {}", self.from());
            // Without the store, a restart waits for the next verified commit.
            let _ = store.put(TABLE, &key, row.as_bytes());
        }
        state.judged = Some((head, refused.clone()));
        Ok((refused, state.last))
    }

    /// Returns the commit that an earlier process verified last. The mirror may have lost it.
    ///
    /// Returns none if its key has been removed since, or `from` has been changed.
    fn recorded(
        &self,
        mirror: &Mirror,
        store: &Store,
        key: &str,
    ) -> Result<Option<ObjectId>, GitError> {
        let row = store.get(TABLE, key).map_err(|error| GitError::Mirror {
            dir: mirror.dir().to_owned(),
            why: format!("cannot read the last verified commit: {error}"),
        })?;
        let row = row.and_then(|row| String::from_utf8(row).ok());
        let Some((commit, from)) = row.as_deref().and_then(|row| row.split_once(' ')) else {
            return Ok(None);
        };
        let Ok(commit) = ObjectId::from_hex(commit.as_bytes()) else {
            return Ok(None);
        };
        if from != self.from() {
            return Ok(None);
        }
        if mirror.at(commit).is_err() {
            return Ok(Some(commit));
        }
        // What is below it was verified then, maybe by keys of people who have left.
        let refused = self.walk(mirror, commit, None, VerifyMode::Head)?;
        Ok(refused.is_none().then_some(commit))
    }

    /// The commit that `from` names, as the store keeps it.
    fn from(&self) -> &str {
        self.settings.from.as_deref().unwrap_or("-")
    }

    /// Returns why a commit may not be deployed. `last` is verified, and in its history.
    fn refusal(
        &self,
        mirror: &Mirror,
        head: ObjectId,
        last: Option<ObjectId>,
    ) -> Result<Option<String>, GitError> {
        let from = ObjectId::from_hex(self.from().as_bytes()).ok();
        if let Some(from) = from
            && last.is_none()
            && !mirror.contains(head, from)?
        {
            let from = from.to_string();
            return Ok(Some(format!(
                "does not descend from {}, which verify.from names",
                short_id(&from)
            )));
        }
        self.walk(mirror, head, last, self.settings.mode)
    }

    /// Follows first parents down to a commit that makes the head trusted.
    fn walk(
        &self,
        mirror: &Mirror,
        head: ObjectId,
        last: Option<ObjectId>,
        mode: VerifyMode,
    ) -> Result<Option<String>, GitError> {
        let from = ObjectId::from_hex(self.from().as_bytes()).ok();
        let mut at = head;
        for _ in 0..MAX_COMMITS {
            if Some(at) == from || Some(at) == last {
                return Ok(None);
            }
            match mirror.judge_signature(at, &self.keys)? {
                SignatureVerdict::Trusted if mode == VerifyMode::Head => {
                    return Ok(None);
                }
                SignatureVerdict::Trusted | SignatureVerdict::Own => {}
                SignatureVerdict::Refused(why) if at == head => return Ok(Some(why)),
                SignatureVerdict::Refused(why) => {
                    let below = at.to_string();
                    return Ok(Some(format!("builds on {}, which {why}", short_id(&below))));
                }
            }
            match mirror.first_parent(at)? {
                Some(parent) => at = parent,
                // The root of the history is signed as everything above it is.
                None if mode == VerifyMode::History => return Ok(None),
                None => {
                    return Ok(Some(
                        "builds on commits of tagboat alone, whose signature counts for its own change only".to_owned(),
                    ));
                }
            }
        }
        Ok(Some(format!(
            "has more than {MAX_COMMITS} commits below it to verify: name a newer commit in verify.from"
        )))
    }
}

/// Returns why a head that does not build on the last verified commit is not followed.
fn leaves_behind(
    mirror: &Mirror,
    head: ObjectId,
    last: ObjectId,
) -> Result<Option<String>, GitError> {
    let text = last.to_string();
    let short = short_id(&text);
    if mirror.at(last).is_err() {
        // Whether the head is older cannot be told any more.
        return Ok(Some(format!(
            "does not descend from {short}, which was deployed and is no longer in the repository: \
             name a commit of the new history in verify.from"
        )));
    }
    let is_older = mirror.contains(last, head)?;
    Ok(
        is_older
            .then(|| format!("is older than {short}, which was deployed: the branch was reset")),
    )
}
