//! Kustomizations without the kustomize program: what `objects::kustomize` builds.

use super::{
    FolderKind, RenderError, RenderInputs, RenderMethod, RenderSource, Rendered, Renderer,
    cache::{self, KnownInputs},
    finish::finished,
    tree::{EntryType, RenderTree},
};
use crate::{
    objects::{
        kustomize::{self, Handover, HandoverKind, KustomizeFiles, Unreadable},
        manifest::Manifests,
        object::Object,
    },
    spec::settings::KustomizeMode,
};
use serde_json::Value;
use std::{cell::RefCell, sync::Arc};

/// Part of the cache key: another implementation may make other objects.
pub(super) const VERSION: &str = "in the process, 1";

/// Differences that are named for one folder.
const MOST_DIFFERENCES: usize = 10;

/// The outcome of rendering without the program.
pub(super) enum InProcess {
    Done(Arc<Rendered>),
    Handover(Handover),
    /// The settings want the program.
    Unwanted,
}

impl Renderer {
    /// Renders a kustomization in the process, if the settings allow it and it can be.
    pub(super) fn in_process(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        paths: &Arc<[String]>,
    ) -> Result<InProcess, RenderError> {
        if self.settings.kustomize_mode != KustomizeMode::Auto {
            return Ok(InProcess::Unwanted);
        }
        let options = cache::key_of_options(source);
        let key = self.key(tree, options, paths, FolderKind::InProcess)?;
        let known = key.and_then(|key| {
            let in_memory = self.lock().get(key);
            in_memory.or_else(|| self.kept(options, FolderKind::InProcess, paths, key))
        });
        if let Some(result) = known {
            return result.map(InProcess::Done);
        }
        let manifests = match build(tree, &source.path)? {
            Ok(manifests) => manifests,
            Err(handover) => return Ok(InProcess::Handover(handover)),
        };
        let mut warnings = Vec::new();
        note_links(tree, paths, &mut warnings)?;
        let result = finished(
            manifests,
            RenderMethod::KustomizeInProcess,
            FolderKind::InProcess,
            warnings,
            key.map(|key| RenderInputs {
                key,
                paths: Arc::clone(paths),
            }),
        );
        if let Some(key) = key {
            if let Ok(rendered) = &result {
                self.keep(rendered);
            }
            let inputs = KnownInputs {
                paths: Arc::clone(paths),
                way: FolderKind::InProcess,
                key,
            };
            self.lock().put(options, inputs, &result);
        }
        result.map(InProcess::Done)
    }

    /// Adds a warning for each difference to the objects of the program, where the settings ask
    /// for a comparison.
    pub(super) fn compare(
        &self,
        tree: &RenderTree<'_>,
        source: &RenderSource,
        printed: &Manifests,
        warnings: &mut Vec<String>,
    ) -> Result<(), RenderError> {
        if self.settings.kustomize_mode != KustomizeMode::Compare {
            return Ok(());
        }
        if let Ok(built) = build(tree, &source.path)? {
            let folder = super::shown(&source.path);
            for difference in differences(&built.objects, &printed.objects) {
                warnings.push(format!(
                    "{folder}: rendered in the process, it differs from kustomize: {difference}; please report it with the folder"
                ));
            }
        }
        Ok(())
    }
}

/// Builds a folder; the inner error is the reason to run the program.
fn build(tree: &RenderTree<'_>, folder: &str) -> Result<Result<Manifests, Handover>, RenderError> {
    let files = TreeFiles {
        tree,
        failure: RefCell::new(None),
    };
    let built = kustomize::build(&files, folder);
    match (built, files.failure.into_inner()) {
        (_, Some(failure)) => Err(failure),
        (Ok(objects), None) => Ok(Ok(kustomize::manifests(objects))),
        (Err(handover), None) => Ok(Err(handover)),
    }
}

/// Names the links that are skipped, as for the program.
fn note_links(
    tree: &RenderTree<'_>,
    paths: &[String],
    warnings: &mut Vec<String>,
) -> Result<(), RenderError> {
    for path in paths {
        if tree.kind(path)? != Some(EntryType::Folder) {
            continue;
        }
        for entry in tree.list(path)? {
            match entry.kind {
                EntryType::Link => {
                    warnings.push(format!("{}: symbolic links are not followed", entry.path));
                }
                EntryType::Submodule => {
                    warnings.push(format!("{}: submodules are not read", entry.path));
                }
                EntryType::File | EntryType::Folder => {}
            }
        }
    }
    Ok(())
}

/// The files of a tree, with the first failure.
struct TreeFiles<'t> {
    tree: &'t RenderTree<'t>,
    failure: RefCell<Option<RenderError>>,
}

impl TreeFiles<'_> {
    fn kept<T>(&self, result: Result<T, RenderError>) -> Result<T, Unreadable> {
        result.map_err(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            Unreadable
        })
    }
}

impl KustomizeFiles for TreeFiles<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Unreadable> {
        self.kept(self.tree.read(path))
    }

    fn is_folder(&self, path: &str) -> Result<bool, Unreadable> {
        self.kept(self.tree.kind(path))
            .map(|kind| kind == Some(EntryType::Folder))
    }
}

/// Puts the place of the mistake into a failure of the program.
pub(super) fn placed(error: RenderError, handover: Option<&Handover>) -> RenderError {
    let Some(handover) = handover else {
        return error;
    };
    match error {
        RenderError::Failed {
            program,
            why,
            remote,
            ..
        } if handover.kind == HandoverKind::Refused => RenderError::Failed {
            path: handover.origin.to_string(),
            program,
            why,
            remote,
        },
        RenderError::NoProgram {
            path,
            program,
            binary,
            why,
        } => RenderError::NoProgram {
            path,
            program,
            binary,
            why: format!("{why}; it is not rendered in the process, because of {handover}"),
        },
        error => error,
    }
}

/// Names the differences between objects that were built and printed.
fn differences(built: &[Object], printed: &[Object]) -> Vec<String> {
    let mut all = Vec::new();
    for object in printed {
        let key = object.key();
        match built.iter().find(|other| other.key() == key) {
            None => all.push(format!("{key} is missing")),
            Some(other) => {
                let (own, theirs) = (other.clone().into_value(), object.clone().into_value());
                if let Some(field) = difference(&own, &theirs) {
                    all.push(format!("{key} at {field}"));
                }
            }
        }
    }
    for object in built {
        let key = object.key();
        if !printed.iter().any(|other| other.key() == key) {
            all.push(format!("{key} is not printed by kustomize"));
        }
    }
    let more = all.len().saturating_sub(MOST_DIFFERENCES);
    all.truncate(MOST_DIFFERENCES);
    if more > 0 {
        all.push(format!("{more} more objects"));
    }
    all
}

/// Returns the path of the first difference, without any value.
fn difference(one: &Value, other: &Value) -> Option<String> {
    let below = |name: &str, path: String| match path.as_str() {
        "" => format!("/{name}"),
        path => format!("/{name}{path}"),
    };
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys()
                .chain(b.keys())
                .find_map(|name| match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => difference(a, b).map(|path| below(name, path)),
                    _ => Some(below(name, String::new())),
                })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .find_map(|(at, (a, b))| difference(a, b).map(|path| below(&at.to_string(), path))),
        (a, b) => (a != b).then(String::new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn difference_names_fields_not_values() {
        let object = |value: Value| Object::new(value).unwrap();
        let secret = |data: &str| {
            object(
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"key": [data]}}),
            )
        };
        let map =
            object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}));
        let found = differences(&[secret("hidden")], &[secret("other"), map.clone()]);
        assert_eq!(found, ["Secret a at /data/key/0", "ConfigMap b is missing"]);
        let found = differences(&[secret("same"), map], &[secret("same")]);
        assert_eq!(found, ["ConfigMap b is not printed by kustomize"]);
    }
}
