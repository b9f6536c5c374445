//! A cache of what was extracted from each blob of a commit: an unchanged blob is never read again.
//!
//! The caller says which paths matter and what to extract from their bytes ([`Extractor`]). This
//! file finds the blobs that are new since the commit of the cache, reads them on two threads, and
//! keeps the records in one flat file.

use super::{
    error::GitError,
    mirror::{Mirror, cached},
    revision::tree_of,
    snapshot::{IndexFile, IndexRecord},
    tree::{TreeChange, difference, walk},
};
use gix::{
    ObjectId,
    objs::tree::{EntryKind, EntryMode},
    prelude::FindExt,
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Blobs that a thread takes at once: neighbours in a tree are neighbours in a pack and share bases
/// of deltas.
const CHUNK: usize = 128;

/// Selects files and extracts the record to keep of each.
pub trait Extractor: Sync {
    /// Returns the class of a path, handed back to [`Extractor::extract`]; `None` for an irrelevant
    /// path. Called for regular files only: no links, no submodules.
    fn class(&self, path: &str) -> Option<u8>;

    /// Identifies everything that decides the results of `class` and `extract`. A different
    /// fingerprint rebuilds the index.
    fn fingerprint(&self) -> [u8; 16];

    /// Returns the record to keep; empty if there is nothing of interest. Must depend on `class`
    /// and `bytes` only, because a known blob is not extracted again.
    fn extract(&self, class: u8, bytes: &[u8]) -> Vec<u8>;
}

/// The records of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index(IndexFile);

/// An index and its origin.
#[derive(Debug)]
pub struct Indexed {
    /// The index of the commit asked for.
    pub index: Index,
    pub how: IndexOrigin,
    /// The reason why the index could not be saved; the next process then starts from an older one.
    pub unsaved: Option<String>,
}

/// The work that was needed for an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexOrigin {
    /// None: no blob was read.
    Same,
    /// None: no path that changed has a record, or may have one.
    Untouched,
    /// The number of blobs read, of the changed paths.
    Updated(usize),
    /// The number of blobs read, of all paths; with the reason if an index existed.
    Built(usize, Option<String>),
}

impl IndexOrigin {
    /// Returns whether all records are those of the index before.
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Self::Same | Self::Untouched)
    }
}

impl Index {
    /// Opens the index of `commit` from `file`, or brings it up to date and saves it there.
    ///
    /// # Errors
    /// [`GitError::Broken`] if an object is missing. A damaged file is no error;
    /// [`IndexOrigin::Built`] has the reason.
    pub fn open(
        mirror: &Mirror,
        commit: ObjectId,
        file: &Path,
        extract: &dyn Extractor,
    ) -> Result<Indexed, GitError> {
        let old = match std::fs::read(file) {
            Ok(data) => IndexFile::from_bytes(data)
                .map(Some)
                .map_err(|why| format!("{}: {why}", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", file.display())),
        };
        let (index, how) = match old {
            Ok(Some(old)) => Self(old).update(mirror, commit, extract)?,
            Ok(None) => Self::build(mirror, commit, extract, None)?,
            Err(why) => Self::build(mirror, commit, extract, Some(why))?,
        };
        Ok(index.saved(file, how))
    }

    /// [`Index::update`], saved to `file` for the next process if it took anything.
    ///
    /// # Errors
    /// [`GitError::Broken`] if an object is missing.
    pub fn follow(
        self,
        mirror: &Mirror,
        commit: ObjectId,
        file: &Path,
        extract: &dyn Extractor,
    ) -> Result<Indexed, GitError> {
        let (index, how) = self.update(mirror, commit, extract)?;
        Ok(index.saved(file, how))
    }

    /// The index of another commit, reading what differs.
    pub fn update(
        self,
        mirror: &Mirror,
        commit: ObjectId,
        extract: &dyn Extractor,
    ) -> Result<(Self, IndexOrigin), GitError> {
        if self.0.fingerprint() != extract.fingerprint() {
            return Self::build(mirror, commit, extract, None);
        }
        if self.0.commit() == commit {
            return Ok((self, IndexOrigin::Same));
        }
        let repo = mirror.local();
        let tree = tree_of(mirror.dir(), &repo, commit)?;
        if self.0.tree() == tree {
            let same = Self(self.0.for_commit(commit, tree));
            return Ok((same, IndexOrigin::Untouched));
        }
        if !repo.has_object(self.0.tree()) {
            return Self::build(
                mirror,
                commit,
                extract,
                Some("the mirror does not have its commit any more".into()),
            );
        }
        let mut differences = Vec::new();
        difference(
            mirror.dir(),
            &repo,
            Some(self.0.tree()),
            Some(tree),
            &mut differences,
        )?;
        drop(repo);
        let may_have_record = |change: &TreeChange| extract.class(&change.path).is_some();
        if !differences.iter().any(may_have_record) {
            let same = Self(self.0.for_commit(commit, tree));
            return Ok((same, IndexOrigin::Untouched));
        }
        let (snapshot, read) = self.apply(mirror, (commit, tree), &differences, extract)?;
        Ok((Self(snapshot), IndexOrigin::Updated(read)))
    }

    pub fn commit(&self) -> ObjectId {
        self.0.commit()
    }

    /// The records, in the order of their paths.
    pub fn records(&self) -> impl Iterator<Item = IndexRecord<'_>> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn build(
        mirror: &Mirror,
        commit: ObjectId,
        extract: &dyn Extractor,
        why: Option<String>,
    ) -> Result<(Self, IndexOrigin), GitError> {
        let repo = mirror.local();
        let tree = tree_of(mirror.dir(), &repo, commit)?;
        let mut wanted = Vec::new();
        walk(mirror.dir(), &repo, tree, "", &mut |path, entry| {
            wanted.extend(WantedBlob::new(
                path,
                entry.mode,
                entry.oid.to_owned(),
                extract,
            ));
        })?;
        let found = read(mirror, &repo, &wanted, extract)?;
        let mut snapshot = IndexFile::new(extract.fingerprint(), commit, tree);
        for (wanted, bytes) in wanted.iter().zip(&found) {
            wanted.record(bytes, &mut snapshot);
        }
        Ok((Self(snapshot), IndexOrigin::Built(wanted.len(), why)))
    }

    /// Old records and differences are both in the order of paths: one merge.
    fn apply(
        &self,
        mirror: &Mirror,
        (commit, tree): (ObjectId, ObjectId),
        differences: &[TreeChange],
        extract: &dyn Extractor,
    ) -> Result<(IndexFile, usize), GitError> {
        let known: HashMap<(ObjectId, u8), &[u8]> = match differences.len() {
            // For so few blobs, looking each up costs more than reading it.
            0..16 => HashMap::new(),
            _ => self
                .0
                .iter()
                .map(|record| ((record.blob, record.class), record.bytes))
                .collect(),
        };
        let wanted = differences.iter().filter_map(|difference| {
            let (mode, id) = difference.new?;
            WantedBlob::new(&difference.path, mode, id, extract)
        });
        let (have, wanted): (Vec<_>, Vec<_>) =
            wanted.partition(|wanted| known.contains_key(&(wanted.id, wanted.class)));
        let found = read(mirror, &mirror.local(), &wanted, extract)?;
        let mut fresh: Vec<(&WantedBlob, &[u8])> =
            wanted.iter().zip(found.iter().map(Vec::as_slice)).collect();
        fresh.extend(
            have.iter()
                .map(|wanted| (wanted, known[&(wanted.id, wanted.class)])),
        );
        fresh.sort_by(|a, b| a.0.path.cmp(&b.0.path));

        let mut snapshot = IndexFile::new(extract.fingerprint(), commit, tree);
        let (mut fresh, mut gone) = (
            fresh.into_iter().peekable(),
            differences.iter().map(|d| d.path.as_str()).peekable(),
        );
        for record in self.0.iter() {
            while let Some((wanted, bytes)) =
                fresh.next_if(|(wanted, _)| wanted.path.as_str() <= record.path)
            {
                wanted.record(bytes, &mut snapshot);
            }
            while gone.next_if(|path| *path < record.path).is_some() {}
            if gone.peek() != Some(&record.path) {
                snapshot.push(record);
            }
        }
        for (wanted, bytes) in fresh {
            wanted.record(bytes, &mut snapshot);
        }
        Ok((snapshot, wanted.len()))
    }

    fn saved(self, file: &Path, how: IndexOrigin) -> Indexed {
        let unsaved = match how {
            // An older commit is as good a start for the next process.
            IndexOrigin::Same | IndexOrigin::Untouched => None,
            _ => self
                .save(file)
                .err()
                .map(|error| format!("{}: {error}", file.display())),
        };
        Indexed {
            index: self,
            how,
            unsaved,
        }
    }

    /// Writes a temporary file and renames it, so that a reader sees the old index or the new one.
    /// Not synced: damage is detected, and lost content is rebuilt.
    fn save(&self, file: &Path) -> std::io::Result<()> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(format!(".{}.new", std::process::id()));
        let result = std::fs::write(&beside, self.0.clone().into_bytes())
            .and_then(|()| std::fs::rename(&beside, file));
        if result.is_err() {
            let _ = std::fs::remove_file(&beside);
        }
        result
    }
}

/// A blob to be looked at.
struct WantedBlob {
    path: String,
    kind: EntryKind,
    id: ObjectId,
    class: u8,
}

impl WantedBlob {
    fn new(path: &str, mode: EntryMode, id: ObjectId, extract: &dyn Extractor) -> Option<Self> {
        let kind = mode.kind();
        if !matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable) {
            return None;
        }
        Some(Self {
            path: path.to_owned(),
            kind,
            id,
            class: extract.class(path)?,
        })
    }

    fn record(&self, bytes: &[u8], snapshot: &mut IndexFile) {
        if !bytes.is_empty() {
            snapshot.push(IndexRecord {
                path: &self.path,
                kind: self.kind,
                class: self.class,
                blob: self.id,
                bytes,
            });
        }
    }
}

/// Extracts the records of blobs, in their order; on two threads if there are enough of them.
fn read(
    mirror: &Mirror,
    repo: &gix::Repository,
    wanted: &[WantedBlob],
    extract: &dyn Extractor,
) -> Result<Vec<Vec<u8>>, GitError> {
    let one = |repo: &gix::Repository, wanted: &WantedBlob, buffer: &mut Vec<u8>| {
        let blob = repo
            .objects
            .find_blob(&wanted.id, buffer)
            .map_err(|error| mirror.broken("blob", wanted.id, &error))?;
        Ok(extract.extract(wanted.class, blob.data))
    };
    let mut buffer = Vec::new();
    if wanted.len() <= CHUNK {
        return wanted
            .iter()
            .map(|wanted| one(repo, wanted, &mut buffer))
            .collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Ok(Vec::new()); wanted.len().div_ceil(CHUNK)]);
    let work = |repo: &gix::Repository| {
        let mut buffer = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = wanted.chunks(CHUNK).nth(at) else {
                return;
            };
            let found: Result<Vec<_>, GitError> = chunk
                .iter()
                .map(|wanted| one(repo, wanted, &mut buffer))
                .collect();
            done.lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)[at] = found;
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| work(&cached(&mirror.shared())));
        work(repo);
    });
    let mut out = Vec::with_capacity(wanted.len());
    for chunk in done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
    {
        out.extend(chunk?);
    }
    Ok(out)
}
