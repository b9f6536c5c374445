//! The inputs of renderings: equal ones give equal objects.

use super::{
    FolderKind, ProgramIdentity, RenderError, RenderSource, Renderer,
    cache::{self, InputsKey, KnownInputs},
    in_process,
    tree::RenderTree,
};
use crate::{
    io::git::{Mirror, ObjectId},
    spec::settings::KustomizeMode,
};
use std::sync::Arc;

/// The inputs of a rendering.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderInputs {
    /// SHA-256 over the options, the ids of all files, and the program.
    pub key: InputsKey,
    /// The folders and files that were read, from the root, none of them below another. The empty
    /// path is the whole repository.
    pub paths: Arc<[String]>,
}

/// The binaries of kustomize and helm, where they are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderPrograms([Option<ProgramIdentity>; 2]);

impl Renderer {
    /// Returns the key of the inputs of `source` at a commit, if it was rendered before. Costs a
    /// few look-ups in trees.
    ///
    /// # Errors
    /// [`RenderError`], if the mirror cannot be read.
    pub fn known_inputs(
        &self,
        mirror: &Mirror,
        commit: ObjectId,
        source: &RenderSource,
    ) -> Result<Option<InputsKey>, RenderError> {
        self.known_key(&RenderTree::Git(Box::new(mirror.at(commit)?)), source)
    }

    /// Returns the binaries that render now: another one may render otherwise.
    pub fn programs(&self) -> RenderPrograms {
        let identity = |way| self.identity(way).ok();
        RenderPrograms([FolderKind::Kustomize, FolderKind::Helm].map(identity))
    }

    /// Returns the key of what was read the last time, as it is in a tree now. The kustomizations
    /// that name the paths are among them, so that an equal key means equal paths.
    pub(super) fn known_key(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
    ) -> Result<Option<InputsKey>, RenderError> {
        let options = cache::key_of_options(source);
        let known = self.lock().inputs(options);
        match known {
            Some(KnownInputs { paths, way, .. }) => self.key(tree, options, &paths, way),
            None => Ok(None),
        }
    }

    /// Returns the cache key of a result: options, the ids of everything that is read, and the
    /// program. `None` without ids or without the program.
    pub(super) fn key(
        &self,
        tree: &RenderTree<'_>,
        options: InputsKey,
        paths: &[String],
        way: FolderKind,
    ) -> Result<Option<InputsKey>, RenderError> {
        if !tree.has_ids() {
            return Ok(None);
        }
        let mut hasher = cache::KeyHasher::default();
        hasher.add(&options);
        for path in paths {
            hasher.add(path.as_bytes());
            hasher.add(&tree.id(path)?.unwrap_or_default());
        }
        if way == FolderKind::InProcess {
            hasher.add(in_process::VERSION.as_bytes());
        } else if way != FolderKind::Plain {
            let Ok(ProgramIdentity {
                file,
                size,
                modified,
                changed,
            }) = self.identity(way)
            else {
                return Ok(None);
            };
            let identity = format!("{} {size} {modified:?} {changed:?}", file.display());
            hasher.add(identity.as_bytes());
            // A comparison adds warnings.
            hasher.add(&[u8::from(
                self.settings.kustomize_mode == KustomizeMode::Compare,
            )]);
        }
        Ok(Some(hasher.done()))
    }
}
