//! What a revision of the config repository says: declarations, and the references of every file that may matter.
//!
//! Two indexes in a row, because what is watched follows from what is declared: the first knows which files declare
//! something (and where charts are), the second the references of files that mention a watched repository.

use crate::{
    declare::{self, Declarations},
    git::{EntryKind, Extract, GitError, How, Index, Mirror, ObjectId},
    image::Repository,
    references::{self, FileKind, Findings, Needles},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
};

/// A revision, read.
#[derive(Debug, Clone)]
pub struct World {
    /// The commit.
    pub commit: ObjectId,
    /// What is declared.
    pub declared: Arc<Declarations>,
    /// The files that mention something watched, in the order of their paths.
    pub files: Arc<Vec<Watched>>,
}

/// A file that mentions something watched.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The path from the root of the repository.
    pub path: String,
    /// Its content in Git; nothing for a file of a folder.
    pub blob: Option<ObjectId>,
    /// Whether it may be written: a regular file.
    pub regular: bool,
    /// What was found in it.
    pub findings: Findings,
}

/// Indexes and what was read from them, kept between passes.
#[derive(Debug, Default)]
pub struct Memory {
    declaring: Option<Index>,
    watching: Option<Index>,
    last: Option<World>,
}

impl Memory {
    /// What the last revision declares.
    pub fn declared(&self) -> Option<Arc<Declarations>> {
        self.last.as_ref().map(|last| Arc::clone(&last.declared))
    }
}

/// Which files may declare something.
struct Declaring<'a> {
    folder: Option<&'a str>,
}

const DECLARES: u8 = 0;
const CHART: u8 = 1;

impl Extract for Declaring<'_> {
    fn class(&self, path: &str) -> Option<u8> {
        if path == "Chart.yaml" || path.ends_with("/Chart.yaml") {
            return Some(CHART);
        }
        let inside = self.folder.is_none_or(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
        (inside && [".yaml", ".yml", ".json"].iter().any(|ending| path.ends_with(ending))).then_some(DECLARES)
    }

    fn fingerprint(&self) -> [u8; 16] {
        shorten(Sha256::digest(format!("declaring 1\n{}", self.folder.unwrap_or_default())).into())
    }

    fn extract(&self, class: u8, bytes: &[u8]) -> Vec<u8> {
        let counts = class == CHART || declare::may_declare("x.yaml", bytes);
        if counts { vec![1] } else { Vec::new() }
    }
}

/// Which files may mention something watched.
struct Watching {
    needles: Needles,
    charts: HashSet<String>,
}

impl Extract for Watching {
    fn class(&self, path: &str) -> Option<u8> {
        let kind = FileKind::of(path, |directory| self.charts.contains(directory));
        (kind != FileKind::NotYaml).then_some(kind as u8)
    }

    fn fingerprint(&self) -> [u8; 16] {
        let mut hash = Sha256::new();
        hash.update([references::VERSION]);
        hash.update(self.needles.fingerprint());
        for chart in self.charts.iter().collect::<BTreeSet<_>>() {
            hash.update(chart);
            hash.update("\n");
        }
        shorten(hash.finalize().into())
    }

    fn extract(&self, class: u8, bytes: &[u8]) -> Vec<u8> {
        if !self.needles.hit(bytes) {
            return Vec::new();
        }
        let findings = references::find(kind_of(class), bytes);
        if findings.references.is_empty() && findings.notes.is_empty() { Vec::new() } else { findings.encode() }
    }
}

fn shorten(hash: [u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

fn kind_of(class: u8) -> FileKind {
    [FileKind::Yaml, FileKind::Kustomization, FileKind::ChartTemplate]
        .into_iter()
        .find(|kind| *kind as u8 == class)
        .unwrap_or(FileKind::NotYaml)
}

/// Reads a revision, from what is remembered as far as it goes. `store` is the folder of the index files. Besides the
/// revision: what is worth a warning (an index that was damaged, or cannot be saved).
///
/// # Errors
/// If an object of the mirror is missing.
pub fn read(
    mirror: &Mirror,
    commit: ObjectId,
    policies: Option<&str>,
    store: &Path,
    memory: &mut Memory,
) -> Result<(World, Vec<String>), GitError> {
    if let Some(last) = memory.last.as_ref().filter(|last| last.commit == commit) {
        return Ok((last.clone(), Vec::new()));
    }
    let mut warnings = Vec::new();
    let declaring = Declaring { folder: policies };
    let (first, how) = index(mirror, commit, &store.join("declared.index"), &declaring, memory.declaring.take(), &mut warnings)?;
    let unchanged = matches!(how, How::Same | How::Updated(0));
    let declared = match memory.last.take().filter(|_| unchanged) {
        Some(last) => last.declared,
        None => Arc::new(declarations(mirror, commit, &first)?),
    };
    let charts = first
        .records()
        .filter(|record| record.class == CHART)
        .map(|record| record.path.strip_suffix("Chart.yaml").unwrap_or_default().trim_end_matches('/').to_owned());
    let watched: BTreeSet<&Repository> = declared.policies.values().map(|policy| &policy.image).collect();
    let watching = Watching { needles: Needles::new(watched), charts: charts.collect() };
    let (second, _) = index(mirror, commit, &store.join("references.index"), &watching, memory.watching.take(), &mut warnings)?;
    let mut files = Vec::with_capacity(second.len());
    for record in second.records() {
        match Findings::decode(record.bytes) {
            Ok(findings) => files.push(Watched {
                path: record.path.to_owned(),
                blob: Some(record.blob),
                regular: matches!(record.kind, EntryKind::Blob | EntryKind::BlobExecutable),
                findings,
            }),
            Err(_) => warnings.push(format!("{}: the remembered references cannot be read; they are looked for again", record.path)),
        }
    }
    let world = World { commit, declared, files: Arc::new(files) };
    *memory = Memory { declaring: Some(first), watching: Some(second), last: Some(world.clone()) };
    Ok((world, warnings))
}

fn index(
    mirror: &Mirror,
    commit: ObjectId,
    file: &Path,
    extract: &dyn Extract,
    known: Option<Index>,
    warnings: &mut Vec<String>,
) -> Result<(Index, How), GitError> {
    let same = known.filter(|known| known.commit() == commit);
    if let Some(known) = same {
        let (index, how) = known.update(mirror, commit, extract)?;
        return Ok((index, how));
    }
    let indexed = Index::open(mirror, commit, file, extract)?;
    if let How::Built(_, Some(why)) = &indexed.how {
        warnings.push(format!("the index is built anew: {why}"));
    }
    warnings.extend(indexed.unsaved.map(|why| format!("the index cannot be saved, the next start begins further back: {why}")));
    Ok((indexed.index, indexed.how))
}

fn declarations(mirror: &Mirror, commit: ObjectId, index: &Index) -> Result<Declarations, GitError> {
    let revision = mirror.at(commit)?;
    let mut files = Vec::new();
    for record in index.records().filter(|record| record.class == DECLARES) {
        files.push((record.path.to_owned(), revision.blob(record.blob)?));
    }
    let branch = mirror.remote().branch();
    Ok(declare::read(files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())), Some(branch)))
}
