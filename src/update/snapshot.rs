//! Snapshot of one revision: its declarations, and the references in its files.
//!
//! There are two indexes, because the watched repositories follow from the declarations. The first
//! knows which files declare something (and where charts are), the second the references of files
//! that mention a watched repository.

use crate::{
    images::{
        lint,
        references::{self, FileKind, Findings, Needles, YamlFile},
        scope::{EnvironmentScope, ReferencedFile, bound_references},
    },
    io::blocking,
    io::git::{EntryKind, Extractor, GitError, Index, IndexOrigin, Mirror, ObjectId, Revision},
    objects::tenancy,
    spec::{
        self, Declarations, Diagnostic, Severity, SourcePlace, rights::RepositoryRights,
        settings::ConfigRepository,
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::{Arc, OnceLock},
};

/// A revision as a pass sees it.
#[derive(Debug, Clone)]
pub struct RepoSnapshot {
    pub commit: ObjectId,
    pub declared: Arc<Declarations>,
    /// Files that mention a watched repository, in the order of their paths.
    pub files: Arc<Vec<ReferencedFile>>,
    /// The texts that name a watched repository, compiled at first use and shared by all snapshots
    /// of the same declarations: of a thousand repositories that takes milliseconds.
    pub needles: Arc<OnceLock<Needles>>,
}

impl RepoSnapshot {
    /// Returns the texts of which a file that refers to a watched repository has one.
    pub(crate) fn needles(&self) -> &Needles {
        needles_of(&self.needles, &self.declared)
    }

    /// Returns the scope of each Environment, and all findings; see [`lint::find`].
    pub async fn lint(&self) -> (Vec<Arc<EnvironmentScope>>, Vec<Diagnostic>) {
        let (declared, files) = (Arc::clone(&self.declared), Arc::clone(&self.files));
        blocking(move || lint::find(&declared, &files)).await
    }
}

fn needles_of<'n>(needles: &'n OnceLock<Needles>, declared: &Declarations) -> &'n Needles {
    needles.get_or_init(|| {
        let policies = declared.policies.values();
        Needles::new(policies.map(|policy| &policy.image))
    })
}

/// Where a repository declares things, and the rights under which it does.
#[derive(Debug, Clone, Default)]
pub struct DeclarationScope {
    /// The folder of declarations; the whole repository if unset.
    pub folder: Option<String>,
    pub rights: Arc<RepositoryRights>,
}

impl From<&ConfigRepository> for DeclarationScope {
    fn from(config: &ConfigRepository) -> Self {
        Self {
            folder: config.policies.clone(),
            rights: Arc::clone(&config.rights),
        }
    }
}

impl From<Option<&str>> for DeclarationScope {
    fn from(folder: Option<&str>) -> Self {
        Self {
            folder: folder.map(str::to_owned),
            ..Self::default()
        }
    }
}

/// The indexes and the last snapshot, kept between passes.
#[derive(Debug, Default)]
pub struct SnapshotCache {
    declaring: Option<Index>,
    watching: Option<Index>,
    /// Files that the declarations of `last` were read from.
    sources: Vec<(String, ObjectId)>,
    last: Option<RepoSnapshot>,
}

impl SnapshotCache {
    /// Returns the declarations of the last revision.
    pub fn declared(&self) -> Option<Arc<Declarations>> {
        self.last.as_ref().map(|last| Arc::clone(&last.declared))
    }
}

/// Extracts the files that may declare something.
struct DeclarationFiles<'a> {
    folder: Option<&'a str>,
}

const DECLARES: u8 = 0;
const CHART: u8 = 1;

impl Extractor for DeclarationFiles<'_> {
    fn class(&self, path: &str) -> Option<u8> {
        if path == "Chart.yaml" || path.ends_with("/Chart.yaml") {
            return Some(CHART);
        }
        let inside = self.folder.is_none_or(|folder| {
            path.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with('/'))
        });
        (inside
            && [".yaml", ".yml", ".json"]
                .iter()
                .any(|ending| path.ends_with(ending)))
        .then_some(DECLARES)
    }

    fn fingerprint(&self) -> [u8; 16] {
        shorten(Sha256::digest(format!("declaring 1\n{}", self.folder.unwrap_or_default())).into())
    }

    fn extract(&self, class: u8, bytes: &[u8]) -> Vec<u8> {
        let counts = class == CHART || spec::may_declare("x.yaml", bytes);
        if counts { vec![1] } else { Vec::new() }
    }
}

/// Extracts the references of files that mention a watched repository.
struct ReferencedFiles<'n> {
    needles: &'n Needles,
    charts: HashSet<String>,
}

impl Extractor for ReferencedFiles<'_> {
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
        let findings = YamlFile::new(kind_of(class), bytes).watched_findings(self.needles);
        if findings.is_empty() {
            Vec::new()
        } else {
            findings.encode()
        }
    }
}

fn shorten(hash: [u8; 32]) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hash[..16]);
    short
}

fn kind_of(class: u8) -> FileKind {
    [
        FileKind::Yaml,
        FileKind::Kustomization,
        FileKind::ChartTemplate,
        FileKind::Json,
    ]
    .into_iter()
    .find(|kind| *kind as u8 == class)
    .unwrap_or(FileKind::NotYaml)
}

/// Reads a revision, as far as possible from the cache. The index files lie in `store`.
///
/// Returns warnings, too: an index that was damaged, or cannot be saved.
///
/// # Errors
/// If an object of the mirror, or the folder of declarations, is missing. A folder with a wrong
/// name must not look like an empty one, because what is no longer declared may be deleted.
pub fn read(
    mirror: &Mirror,
    commit: ObjectId,
    scope: &DeclarationScope,
    store: &Path,
    memory: &mut SnapshotCache,
) -> Result<(RepoSnapshot, Vec<String>), GitError> {
    if let Some(last) = memory.last.as_ref().filter(|last| last.commit == commit) {
        return Ok((last.clone(), Vec::new()));
    }
    check_folder(mirror, commit, scope.folder.as_deref())?;
    check_files(&mirror.at(commit)?, scope)?;
    let mut warnings = Vec::new();
    let declaring = DeclarationFiles {
        folder: scope.folder.as_deref(),
    };
    let (first, first_how) = index(
        mirror,
        commit,
        &store.join("declared.index"),
        &declaring,
        memory.declaring.take(),
        &mut warnings,
    )?;
    let last = memory.last.take();
    let is_same = last.is_some() && first_how.is_unchanged();
    let sources = match is_same {
        true => std::mem::take(&mut memory.sources),
        false => declaring_files(&first),
    };
    let (declared, needles, known) = match last {
        Some(last) if is_same || memory.sources == sources => {
            (last.declared, last.needles, Some(last.files))
        }
        last => (
            Arc::new(declarations(
                &mirror.at(commit)?,
                &sources,
                scope,
                Some(mirror.remote().branch()),
            )?),
            Arc::default(),
            last.map(|last| last.files),
        ),
    };
    let charts = first
        .records()
        .filter(|record| record.class == CHART)
        .map(|record| {
            record
                .path
                .strip_suffix("Chart.yaml")
                .unwrap_or_default()
                .trim_end_matches('/')
                .to_owned()
        });
    let watching = ReferencedFiles {
        needles: needles_of(&needles, &declared),
        charts: charts.collect(),
    };
    let (second, how) = index(
        mirror,
        commit,
        &store.join("references.index"),
        &watching,
        memory.watching.take(),
        &mut warnings,
    )?;
    let files = match known {
        Some(known) if is_same && how.is_unchanged() => known,
        known => {
            // In a rebuilt index a blob may have another class, in which other references count.
            let known = known
                .filter(|_| !matches!(how, IndexOrigin::Built(..)))
                .map(Arc::unwrap_or_clone)
                .unwrap_or_default();
            Arc::new(files(&second, known, &mut warnings))
        }
    };
    let world = RepoSnapshot {
        commit,
        declared,
        files,
        needles,
    };
    *memory = SnapshotCache {
        declaring: Some(first),
        watching: Some(second),
        sources,
        last: Some(world.clone()),
    };
    Ok((world, warnings))
}

/// Returns the files that declare something, with their blobs.
fn declaring_files(index: &Index) -> Vec<(String, ObjectId)> {
    let declares = index.records().filter(|record| record.class == DECLARES);
    declares
        .map(|record| (record.path.to_owned(), record.blob))
        .collect()
}

/// Returns the files of an index.
///
/// Files in `known` with the same content are not decoded again. Both lists are sorted by path, so
/// this is one merge.
fn files(
    index: &Index,
    known: Vec<ReferencedFile>,
    warnings: &mut Vec<String>,
) -> Vec<ReferencedFile> {
    let mut known = known.into_iter().peekable();
    let mut files = Vec::with_capacity(index.len());
    for record in index.records() {
        while known
            .next_if(|file| file.path.as_str() < record.path)
            .is_some()
        {}
        let regular = matches!(record.kind, EntryKind::Blob | EntryKind::BlobExecutable);
        if let Some(file) =
            known.next_if(|file| file.path == record.path && file.blob == Some(record.blob))
            && !file.findings.is_bounded()
        {
            files.push(ReferencedFile { regular, ..file });
            continue;
        }
        match Findings::decode(record.bytes) {
            Ok(findings) => files.push(ReferencedFile {
                path: record.path.to_owned(),
                blob: Some(record.blob),
                regular,
                findings,
            }),
            Err(_) => warnings.push(format!(
                "{}: cannot decode the cached references; they are read again",
                record.path
            )),
        }
    }
    bound_references(&mut files);
    files
}

fn index(
    mirror: &Mirror,
    commit: ObjectId,
    file: &Path,
    extract: &dyn Extractor,
    known: Option<Index>,
    warnings: &mut Vec<String>,
) -> Result<(Index, IndexOrigin), GitError> {
    let indexed = match known {
        Some(known) => known.follow(mirror, commit, file, extract)?,
        None => Index::open(mirror, commit, file, extract)?,
    };
    if let IndexOrigin::Built(_, Some(why)) = &indexed.how {
        warnings.push(format!("the index is rebuilt: {why}"));
    }
    warnings.extend(
        indexed
            .unsaved
            .map(|why| format!("cannot save the index: {why}; the next start reads more files")),
    );
    Ok((indexed.index, indexed.how))
}

/// Reads the declarations of a commit, without an index. `branch` is the followed branch, if any.
///
/// # Errors
/// If an object is missing.
pub fn declared_in(
    revision: &Revision<'_>,
    scope: &DeclarationScope,
    branch: Option<&str>,
) -> Result<Declarations, GitError> {
    check_files(revision, scope)?;
    let declaring = DeclarationFiles {
        folder: scope.folder.as_deref(),
    };
    let entries = revision.list("")?;
    let regular = |kind| matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable);
    let sources = entries
        .into_iter()
        .filter(|entry| regular(entry.kind) && declaring.class(&entry.path) == Some(DECLARES));
    declarations(
        revision,
        &sources
            .map(|entry| (entry.path, entry.id))
            .collect::<Vec<_>>(),
        scope,
        branch,
    )
}

pub(crate) fn declared_at(
    mirror: &Mirror,
    commit: ObjectId,
    scope: &DeclarationScope,
) -> Result<Declarations, GitError> {
    check_folder(mirror, commit, scope.folder.as_deref())?;
    declared_in(&mirror.at(commit)?, scope, Some(mirror.remote().branch()))
}

/// Fails if a commit lacks the folder of declarations.
fn check_folder(mirror: &Mirror, commit: ObjectId, policies: Option<&str>) -> Result<(), GitError> {
    let Some(folder) = policies else {
        return Ok(());
    };
    match mirror.at(commit)?.find(folder)? {
        Some(entry) if entry.kind == EntryKind::Tree => Ok(()),
        _ => Err(GitError::NoFolder {
            remote: mirror.remote().shown().to_owned(),
            commit: commit.to_string(),
            folder: folder.to_owned(),
        }),
    }
}

fn declarations(
    revision: &Revision<'_>,
    sources: &[(String, ObjectId)],
    scope: &DeclarationScope,
    branch: Option<&str>,
) -> Result<Declarations, GitError> {
    let limit = scope.rights.limits().map(|limits| limits.file_size);
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for (path, blob) in sources {
        let bytes = revision.blob(*blob)?;
        match limit.and_then(|limit| tenancy::file_refusal(limit, bytes.len())) {
            None => files.push((path.as_str(), bytes)),
            Some(message) => refused.push(Diagnostic {
                place: SourcePlace::file(path),
                severity: Severity::Error,
                message,
            }),
        }
    }
    let mut declared = spec::read(
        files.iter().map(|(path, bytes)| (*path, bytes.as_slice())),
        branch,
    );
    if !refused.is_empty() {
        declared.mistakes.append(&mut refused);
        declared.mistakes.sort();
    }
    declared.restrict(&scope.rights);
    Ok(declared)
}

/// Fails if a commit has more files and folders than a tenant may commit.
fn check_files(revision: &Revision<'_>, scope: &DeclarationScope) -> Result<(), GitError> {
    let Some(limits) = scope.rights.limits() else {
        return Ok(());
    };
    let checked = revision.check_entries(limits.files);
    checked.map_err(|error| match error {
        GitError::Limit { place, why } => GitError::Limit {
            place,
            why: format!("{why} (tenant.limits.files)"),
        },
        error => error,
    })
}

impl SnapshotCache {
    /// Returns the files that declare something at `commit`, if that was read last.
    pub(crate) fn sources(&self, commit: ObjectId) -> Option<&[(String, ObjectId)]> {
        self.last
            .as_ref()
            .filter(|last| last.commit == commit)
            .map(|_| self.sources.as_slice())
    }
}
