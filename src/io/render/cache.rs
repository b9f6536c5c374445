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

/// Bytes of objects, as JSON, that are kept in memory. What was applied needs none to be known
/// again, and what a program rendered lies on disk.
const KEPT: usize = 16 << 20;

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

/// The inputs that an Application's options led to the last time.
#[derive(Debug, Clone)]
pub(super) struct KnownInputs {
    pub paths: Arc<[String]>,
    pub way: FolderKind,
    pub key: InputsKey,
}

/// Bounded by bytes. What no options lead to any more goes first, then the least recently used.
#[derive(Debug, Default)]
pub(crate) struct RenderCache {
    results: HashMap<InputsKey, CachedRender>,
    /// By options. One for each Application, at most [`RenderCache::INPUTS`].
    inputs: HashMap<InputsKey, KnownInputs>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct CachedRender {
    outcome: CachedOutcome,
    options: InputsKey,
    bytes: usize,
    used: u64,
}

impl RenderCache {
    /// Applications whose inputs are known; beyond it all are scanned again.
    const INPUTS: usize = 50_000;

    pub(super) fn inputs(&self, options: InputsKey) -> Option<KnownInputs> {
        self.inputs.get(&options).cloned()
    }

    pub(super) fn get(&mut self, key: InputsKey) -> Option<CachedOutcome> {
        self.clock += 1;
        let kept = self.results.get_mut(&key)?;
        kept.used = self.clock;
        Some(kept.outcome.clone())
    }

    pub(super) fn put(&mut self, options: InputsKey, inputs: KnownInputs, outcome: &CachedOutcome) {
        // Transient failures are not cached.
        if outcome
            .as_ref()
            .is_err_and(|error| error.kind() != ErrorKind::Config || error.may_pass())
        {
            return;
        }
        if self.inputs.len() >= Self::INPUTS {
            self.inputs.clear();
        }
        let key = inputs.key;
        self.inputs.insert(options, inputs);
        let bytes = 1024
            + outcome.as_ref().map_or(0, |rendered| {
                rendered.manifests.iter().map(CompactObject::bytes).sum()
            });
        self.clock += 1;
        let cached = CachedRender {
            outcome: outcome.clone(),
            options,
            bytes,
            used: self.clock,
        };
        if let Some(old) = self.results.insert(key, cached) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        if self.bytes > KEPT {
            self.evict();
        }
    }

    /// Makes room for a tenth of all; the newest result stays.
    fn evict(&mut self) {
        let is_wanted = |(key, cached): (&InputsKey, &CachedRender)| {
            let known = self.inputs.get(&cached.options);
            known.is_some_and(|known| known.key == *key)
        };
        let mut order: Vec<(bool, u64, InputsKey)> = self
            .results
            .iter()
            .filter(|(_, cached)| cached.used != self.clock)
            .map(|(key, cached)| (is_wanted((key, cached)), cached.used, *key))
            .collect();
        order.sort_unstable();
        for (_, _, key) in order {
            if self.bytes <= KEPT / 10 * 9 {
                break;
            }
            if let Some(gone) = self.results.remove(&key) {
                self.bytes -= gone.bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::render::RenderMethod;

    fn rendered(bytes: usize) -> CachedOutcome {
        let object = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{}"}}}}"#,
            "a".repeat(bytes)
        );
        Ok(Arc::new(Rendered {
            manifests: vec![CompactObject::from_json(object, None).unwrap()],
            how: RenderMethod::Plain,
            warnings: Vec::new(),
            left_out: Vec::new(),
            hash: String::new(),
            inputs: None,
        }))
    }

    #[test]
    fn cache_forgets_first_what_nobody_wants() {
        let mut cache = RenderCache::default();
        let mut put = |options: u8, key: u8| {
            let inputs = KnownInputs {
                paths: Arc::default(),
                way: FolderKind::Plain,
                key: [key; 32],
            };
            cache.put([options; 32], inputs, &rendered(KEPT / 4));
        };
        // The second rendering of the first Application replaces the first one.
        for (options, key) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
            put(options, key);
        }
        let kept = [1, 2, 3, 4].map(|key| cache.get([key; 32]).is_some());
        assert_eq!(kept, [false, true, true, true]);
        assert!(cache.bytes <= KEPT);
    }
}
