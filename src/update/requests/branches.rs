//! The bot's branches in the mirror: which exist, whose commits they have, and whether they make
//! the desired change.

use super::{
    RequestContext, blocked, body,
    closed::EndedRequests,
    merged::changed,
    state::{BranchState, BranchSurvey, DesiredRequest, OwnedCommits},
};
use crate::{
    io::{
        forge,
        git::{GitError, Mirror, ObjectId, Person},
    },
    review::{ChangeSet, lifecycle::BranchCommits},
    update::RepoSnapshot,
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Commits of one branch that are read. A branch with more of them is not the bot's.
const MOST_COMMITS: usize = 20;

/// Reads which of the bot's branches exist, and which must wait.
pub(crate) async fn survey(
    context: RequestContext<'_>,
    target: ObjectId,
    open: &[forge::PullRequest],
    now: Timestamp,
) -> Result<BranchSurvey, GitError> {
    let ended: EndedRequests = context.cache.lock().ended.clone();
    let open: BTreeSet<String> = open.iter().map(|request| request.head.clone()).collect();
    context
        .repo
        .read(move |mirror| {
            let base = mirror.remote().branch();
            let heads = mirror.branches()?;
            let ended_heads: BTreeSet<String> = ended
                .ours(base)
                .map(|(_, ended)| ended.head.clone())
                .collect();
            let mut files = BTreeMap::new();
            for (branch, head) in &heads {
                let is_known = ended_heads.contains(branch) || open.contains(branch);
                let changed = if is_known || mirror.contains(target, *head)? {
                    None
                } else {
                    Some(changed(mirror, *head)?)
                };
                files.insert(branch.clone(), changed);
            }
            let blocked = blocked::branches(mirror, target, &ended, &heads, &open, now)?;
            Ok(BranchSurvey {
                heads,
                files,
                blocked,
                ended: ended_heads,
            })
        })
        .await
}

/// Compares each branch that exists with what is desired of it.
pub(crate) async fn states(
    context: RequestContext<'_>,
    snapshot: &RepoSnapshot,
    desired: &[DesiredRequest<'_>],
    heads: &BTreeMap<String, ObjectId>,
) -> Result<HashMap<String, BranchState>, GitError> {
    let target = snapshot.commit;
    let wanted: Vec<(String, ObjectId, Option<Arc<ChangeSet>>)> = desired
        .iter()
        .filter_map(|item| {
            let head = *heads.get(&item.branch)?;
            Some((item.branch.clone(), head, item.set.cloned()))
        })
        .collect();
    let used: BTreeSet<ObjectId> = wanted.iter().map(|(_, head, _)| *head).collect();
    let mut commits = {
        let mut cache = context.cache.lock();
        cache
            .commits
            .retain(|(head, of), _| *of == target && used.contains(head));
        cache.previews.retain(|head| used.contains(&head));
        cache.commits.clone()
    };
    let declared = Arc::clone(&snapshot.declared);
    let bot = context.publisher.bot()?;
    let (states, commits) = context
        .repo
        .read(move |mirror| -> Result<_, GitError> {
            let mut states = HashMap::new();
            for (branch, head, set) in wanted {
                let (owned, parent) = match commits.get(&(head, target)) {
                    Some(known) => known.clone(),
                    None => {
                        let found = owned_commits(mirror, head, target, &bot)?;
                        commits.insert((head, target), found.clone());
                        found
                    }
                };
                let matches = match (&set, parent) {
                    (Some(set), Some(parent)) => {
                        let files: Vec<_> = set
                            .files
                            .iter()
                            .map(|file| (file.path.as_str(), &file.before[..], &file.after[..]))
                            .collect();
                        mirror.makes(parent, head, &files)?
                    }
                    _ => false,
                };
                let content = set.as_ref().map_or_else(String::new, |set| {
                    let environment = declared.environments.get(&set.environment);
                    body::content(set, head, environment)
                });
                let state = BranchState {
                    head,
                    commits: owned,
                    parent,
                    matches,
                    on_head: parent == Some(target),
                    content,
                };
                states.insert(branch, state);
            }
            Ok((states, commits))
        })
        .await?;
    context.cache.lock().commits = commits;
    Ok(states)
}

/// Returns whose commits a branch has beyond its target.
fn owned_commits(
    mirror: &Mirror,
    head: ObjectId,
    target: ObjectId,
    bot: &Person,
) -> Result<OwnedCommits, GitError> {
    let others = |commit: String, author: String, remade: Option<String>| {
        let commits = BranchCommits::Others {
            commit,
            author,
            remade,
        };
        (commits, None)
    };
    let Some(own) = mirror.beyond(head, target, MOST_COMMITS)? else {
        return Ok(others(head.to_string(), "several people".to_owned(), None));
    };
    // A commit that a person wrote says more than one that a person has only rebased.
    let written = own.iter().find(|commit| {
        let is_ours = commit.is_by(bot) || commit.is_remade(bot);
        !is_ours
    });
    let rebased = own.iter().find(|commit| !commit.is_by(bot));
    Ok(match (written, rebased, own.as_slice()) {
        (Some(commit), ..) => others(commit.id.to_string(), commit.author.clone(), None),
        (None, Some(commit), _) => others(
            commit.id.to_string(),
            commit.author.clone(),
            Some(commit.committer.clone()),
        ),
        (None, None, []) => (BranchCommits::None, None),
        (None, None, [one]) => (BranchCommits::Own, one.parents.first().copied()),
        (None, None, _) => (BranchCommits::Own, None),
    })
}
