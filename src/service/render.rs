//! `render`: the objects of a folder.

use super::Failure;
use crate::{
    core::error::Classify as _,
    io::render::{RenderError, RenderMethod, RenderSource, Renderer, sandbox_warning},
    spec::{Helm, settings::RenderSettings},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Asks for the objects of a folder.
#[derive(Debug, Clone)]
pub struct RenderQuery {
    /// The folder.
    pub folder: PathBuf,
    /// The repository; by default the nearest folder above with a `.git`, else the folder itself.
    pub root: Option<PathBuf>,
    /// The name of the Helm release.
    pub release: Option<String>,
    /// The namespace of the Helm release.
    pub namespace: String,
    /// Files of Helm values; later ones override earlier ones.
    pub values: Vec<PathBuf>,
    /// The programs that render.
    pub programs: RenderSettings,
}

/// The objects of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RenderAnswer {
    /// The rendered objects, in the order of their files.
    pub objects: Vec<Map<String, Value>>,
    /// The program that rendered them; none for plain manifests.
    pub rendered_by: Option<String>,
    /// Declarations for tagboat, which are not applied, each with its place.
    pub declarations: Vec<String>,
    /// Warnings of the program.
    pub warnings: Vec<String>,
}

/// Renders a folder as the reconciler does, without any cluster.
///
/// # Errors
/// If the folder cannot be read or rendered, or its manifests are invalid.
pub fn render(query: &RenderQuery) -> Result<RenderAnswer, Failure> {
    let (root, source) = source(query)?;
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("cannot create a temporary folder: {error}")))?;
    let rendered = Renderer::new(&query.programs, temporary.path()).render_folder(&root, &source);
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(RenderError::Manifests(mistakes)) => {
            let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            return Err(Failure::input(lines.join("\n")));
        }
        Err(error @ RenderError::Outside { .. })
            if error.hint().is_none() && query.root.is_none() =>
        {
            return Err(Failure::from(error).hint(NAME_ROOT));
        }
        Err(error) => return Err(error.into()),
    };
    let declarations = rendered.left_out.iter();
    let mut warnings = rendered.warnings.clone();
    let by_program = !matches!(
        rendered.how,
        RenderMethod::Plain | RenderMethod::KustomizeInProcess
    );
    if by_program {
        warnings.extend(sandbox_warning(&query.programs));
    }
    Ok(RenderAnswer {
        objects: rendered
            .objects()
            .iter()
            .map(|object| object.value().clone())
            .collect(),
        rendered_by: (rendered.how != RenderMethod::Plain).then(|| rendered.how.to_string()),
        declarations: declarations
            .map(|(origin, key)| format!("{origin}: {key}"))
            .collect(),
        warnings,
    })
}

const NAME_ROOT: &str = "Name the folder of the repository with --root.";

/// Returns the root of the repository, and the folder below it.
fn source(query: &RenderQuery) -> Result<(PathBuf, RenderSource), Failure> {
    let folder = canonical(&query.folder)?;
    if !folder.is_dir() {
        return Err(Failure::input(format!(
            "{}: not a folder",
            query.folder.display()
        )));
    }
    let root = match &query.root {
        Some(root) => canonical(root)?,
        None => folder
            .ancestors()
            .find(|above| above.join(".git").exists())
            .unwrap_or(&folder)
            .to_owned(),
    };
    let inside = |path: &Path, given: &Path| {
        let relative = path.strip_prefix(&root).ok().and_then(Path::to_str);
        relative.map(str::to_owned).ok_or_else(|| {
            Failure::input(format!(
                "{}: not inside {}",
                given.display(),
                root.display()
            ))
            .hint(NAME_ROOT)
        })
    };
    let path = inside(&folder, &query.folder)?;
    let value_files = query
        .values
        .iter()
        .map(|file| inside(&canonical(file)?, file))
        .collect::<Result<Vec<String>, Failure>>()?;
    let name = match folder.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "release".to_owned(),
    };
    let uses_helm = query.release.is_some() || !value_files.is_empty();
    let helm = uses_helm.then(|| Helm {
        release_name: query.release.clone(),
        value_files,
        ..Helm::default()
    });
    let source = RenderSource {
        path,
        helm,
        name,
        namespace: query.namespace.clone(),
        file_limit: None,
    };
    Ok((root, source))
}

fn canonical(path: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(path).map_err(|error| Failure::input(error).within(path.display()))
}
