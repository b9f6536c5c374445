//! Recursions over trees: one whole tree, and the difference of two.
//!
//! The difference skips equal ids, so its cost is proportional to the change. (gix's own
//! `diff_tree_to_tree` loads an index first: 3.9 against 0.02 ms for one changed file among
//! 10,000.)

use super::{
    entry_budget::EntryBudget,
    error::{GitError, broken},
};
use gix::{
    ObjectId,
    objs::tree::{EntryMode, EntryRef},
    prelude::FindExt,
};
use std::{cmp::Ordering, path::Path};

/// A file that is not the same in two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeChange {
    pub path: String,
    pub old: Option<(EntryMode, ObjectId)>,
    pub new: Option<(EntryMode, ObjectId)>,
}

/// Calls `visit` for everything below `tree` that is no tree, in the order of full paths.
pub(crate) fn walk(
    dir: &Path,
    repo: &gix::Repository,
    tree: ObjectId,
    path: &str,
    visit: &mut dyn FnMut(&str, &EntryRef<'_>),
) -> Result<(), GitError> {
    let mut path = path.to_owned();
    let mut budget = EntryBudget::default();
    walk_in(dir, repo, tree, (&mut path, &mut budget), 0, visit)
}

/// Fails if there are more than `most` files and folders below `tree`.
pub(crate) fn check_entries(
    dir: &Path,
    repo: &gix::Repository,
    tree: ObjectId,
    most: usize,
) -> Result<(), GitError> {
    let (mut path, mut budget) = (String::new(), EntryBudget::new(most));
    walk_in(dir, repo, tree, (&mut path, &mut budget), 0, &mut |_, _| {})
}

fn walk_in(
    dir: &Path,
    repo: &gix::Repository,
    tree: ObjectId,
    (path, budget): (&mut String, &mut EntryBudget),
    depth: usize,
    visit: &mut dyn FnMut(&str, &EntryRef<'_>),
) -> Result<(), GitError> {
    bounded(dir, tree, depth)?;
    let mut buffer = Vec::new();
    let entries = repo
        .objects
        .find_tree_iter(&tree, &mut buffer)
        .map_err(|error| broken(dir, "tree", tree, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| broken(dir, "tree", tree, &error))?;
        let Ok(name) = std::str::from_utf8(entry.filename) else {
            continue;
        };
        let length = push(path, name);
        budget.spend(dir, path)?;
        if entry.mode.is_tree() {
            let tree = entry.oid.to_owned();
            walk_in(dir, repo, tree, (path, budget), depth + 1, visit)?;
        } else {
            visit(path, &entry);
        }
        path.truncate(length);
    }
    Ok(())
}

/// Appends to `out` every file, link and submodule that differs between two trees, in the order of
/// full paths. A missing tree is an empty one.
pub(crate) fn difference(
    dir: &Path,
    repo: &gix::Repository,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    out: &mut Vec<TreeChange>,
) -> Result<(), GitError> {
    let file = |entry: Option<&EntryRef<'_>>| {
        entry
            .filter(|entry| !entry.mode.is_tree())
            .map(|entry| (entry.mode, entry.oid.to_owned()))
    };
    differing_entries(dir, repo, (old, new), &mut |path, old, new| {
        if file(old).is_some() || file(new).is_some() {
            out.push(TreeChange {
                path: path.to_owned(),
                old: file(old),
                new: file(new),
            });
        }
    })
}

/// An entry of the old tree or of the new one, where there is one.
type EitherEntry<'e> = Option<&'e EntryRef<'e>>;

/// Calls `visit` for every entry, folders included, that differs between two trees. A folder comes
/// before its entries.
pub(super) fn differing_entries(
    dir: &Path,
    repo: &gix::Repository,
    trees: (Option<ObjectId>, Option<ObjectId>),
    visit: &mut dyn FnMut(&str, EitherEntry<'_>, EitherEntry<'_>),
) -> Result<(), GitError> {
    let (mut path, mut budget) = (String::new(), EntryBudget::default());
    difference_in(dir, repo, trees, (&mut path, &mut budget), 0, visit)
}

fn difference_in(
    dir: &Path,
    repo: &gix::Repository,
    (old, new): (Option<ObjectId>, Option<ObjectId>),
    (path, budget): (&mut String, &mut EntryBudget),
    depth: usize,
    visit: &mut dyn FnMut(&str, EitherEntry<'_>, EitherEntry<'_>),
) -> Result<(), GitError> {
    if old == new {
        return Ok(());
    }
    if let Some(tree) = old.or(new) {
        bounded(dir, tree, depth)?;
    }
    let (mut old_buffer, mut new_buffer) = (Vec::new(), Vec::new());
    let olds = entries(dir, repo, old, &mut old_buffer)?;
    let news = entries(dir, repo, new, &mut new_buffer)?;
    let (mut olds, mut news) = (olds.iter().peekable(), news.iter().peekable());
    loop {
        // Entries are ordered as if a tree's name ended in '/': a file and a tree of one name are
        // two steps of this merge.
        let order = match (olds.peek(), news.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.cmp(new),
        };
        let old = if order.is_le() { olds.next() } else { None };
        let new = if order.is_ge() { news.next() } else { None };
        if let (Some(old), Some(new)) = (old, new)
            && old.oid == new.oid
            && old.mode == new.mode
        {
            continue;
        }
        let Some(name) = old
            .or(new)
            .and_then(|entry| std::str::from_utf8(entry.filename).ok())
        else {
            continue;
        };
        let length = push(path, name);
        budget.spend(dir, path)?;
        visit(path, old, new);
        let tree = |entry: EitherEntry<'_>| {
            entry
                .filter(|entry| entry.mode.is_tree())
                .map(|entry| entry.oid.to_owned())
        };
        let trees = (tree(old), tree(new));
        difference_in(dir, repo, trees, (path, budget), depth + 1, visit)?;
        path.truncate(length);
    }
}

fn entries<'b>(
    dir: &Path,
    repo: &gix::Repository,
    tree: Option<ObjectId>,
    buffer: &'b mut Vec<u8>,
) -> Result<Vec<EntryRef<'b>>, GitError> {
    match tree {
        None => Ok(Vec::new()),
        Some(id) => Ok(repo
            .objects
            .find_tree(&id, buffer)
            .map_err(|error| broken(dir, "tree", id, &error))?
            .entries),
    }
}

/// Git itself stops at 2048 levels (`core.maxTreeDepth`); a quarter of it is far beyond any real
/// repository and far within a thread's stack.
fn bounded(dir: &Path, tree: ObjectId, depth: usize) -> Result<(), GitError> {
    if depth > 512 {
        return Err(broken(
            dir,
            "tree",
            tree,
            &"more than 512 folders within each other",
        ));
    }
    Ok(())
}

fn push(path: &mut String, name: &str) -> usize {
    let length = path.len();
    if length > 0 {
        path.push('/');
    }
    path.push_str(name);
    length
}
