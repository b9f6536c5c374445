//! Cached renderings, and the paths that each rendering read.

use super::{FolderKind, RenderError, RenderSource, Rendered};
use crate::{
    core::{
        error::{Classify as _, ErrorKind},
        text::hex,
    },
    objects::object::{CompactObject, Object},
    spec::Helm,
};
use sha2::{Digest as _, Sha256};
use std::{collections::HashMap, sync::Arc};

/// SHA-256 over all that a rendering depends on.
pub type InputsKey = [u8; 32];

/// Bytes of objects, as JSON, that are kept: 10,000 objects of 2 KiB are 20 MiB.
const KEPT: usize = 48 << 20;

/// Counts each part with its length, so that no two lists of parts are the same bytes.
#[derive(Default)]
pub(crate) struct KeyHasher(Sha256);

impl KeyHasher {
    pub(super) fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    pub(super) fn done(self) -> InputsKey {
        self.0.finalize().into()
    }
}

/// A hash over what a declaration says about its rendering.
pub(super) fn key_of_options(source: &RenderSource) -> InputsKey {
    let RenderSource {
        path,
        helm,
        name,
        namespace,
        file_limit,
    } = source;
    let mut hasher = KeyHasher::default();
    [path, name, namespace]
        .iter()
        .for_each(|text| hasher.add(text.as_bytes()));
    // A result without a limit, or with a larger one, may hold a file that is refused here.
    hasher.add(&file_limit.unwrap_or(u64::MAX).to_le_bytes());
    if let Some(Helm {
        release_name,
        value_files,
        values,
    }) = helm
    {
        hasher.add(format!("{release_name:?} {value_files:?}").as_bytes());
        hasher.add(&serde_json::to_vec(values).unwrap_or_default());
    }
    hasher.done()
}

/// A hash over objects, in hex.
pub(crate) fn hash_of(objects: &[Object]) -> String {
    let mut hasher = KeyHasher::default();
    for object in objects {
        hasher.add(&serde_json::to_vec(object.value()).unwrap_or_default());
    }
    hex(&hasher.done())
}

type CachedOutcome = Result<Arc<Rendered>, RenderError>;

/// Bounded by bytes; evicts the least recently used.
#[derive(Debug, Default)]
pub(crate) struct RenderCache {
    results: HashMap<InputsKey, CachedRender>,
    /// By options: the paths read the last time, and the kind of folder. One for each Application,
    /// at most [`RenderCache::READS`].
    reads: HashMap<InputsKey, (Arc<[String]>, FolderKind)>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct CachedRender {
    outcome: CachedOutcome,
    bytes: usize,
    used: u64,
}

impl RenderCache {
    /// Applications whose read paths are cached; beyond it all are scanned again.
    const READS: usize = 50_000;

    pub(super) fn reads(&self, options: InputsKey) -> Option<(Arc<[String]>, FolderKind)> {
        self.reads.get(&options).cloned()
    }

    pub(super) fn get(&mut self, key: InputsKey) -> Option<CachedOutcome> {
        self.clock += 1;
        let kept = self.results.get_mut(&key)?;
        kept.used = self.clock;
        Some(kept.outcome.clone())
    }

    pub(super) fn put(
        &mut self,
        options: InputsKey,
        reads: (Arc<[String]>, FolderKind),
        key: InputsKey,
        outcome: &CachedOutcome,
    ) {
        // Transient failures are not cached.
        if outcome
            .as_ref()
            .is_err_and(|error| error.kind() != ErrorKind::Config || error.may_pass())
        {
            return;
        }
        if self.reads.len() >= Self::READS {
            self.reads.clear();
        }
        self.reads.insert(options, reads);
        let bytes = 1024
            + outcome.as_ref().map_or(0, |rendered| {
                rendered.manifests.iter().map(CompactObject::bytes).sum()
            });
        self.clock += 1;
        if let Some(old) = self.results.insert(
            key,
            CachedRender {
                outcome: outcome.clone(),
                bytes,
                used: self.clock,
            },
        ) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.bytes > KEPT && self.results.len() > 1 {
            let Some((&oldest, _)) = self.results.iter().min_by_key(|(_, kept)| kept.used) else {
                break;
            };
            if let Some(gone) = self.results.remove(&oldest) {
                self.bytes -= gone.bytes;
            }
        }
    }
}
