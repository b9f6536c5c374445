//! `tagboat render`.

use super::{Exit, Failure, Screen, counted, safe};
use crate::{
    core::error::Classify as _,
    io::render::{RenderError, RenderMethod, RenderSource, Renderer},
    objects::manifest,
    spec::{Helm, settings::RenderSettings},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Print the objects of a folder, as the reconciler sees them
///
/// Every file of manifests below the folder; or what kustomize builds, where it holds a
/// kustomization; or what Helm renders, where it holds a Chart.yaml. The objects come in the order
/// of their files. Values of Secrets are printed as the files have them. Nothing is sent to a
/// cluster, and no cluster is asked.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// The repository, out of which nothing is read; else the nearest folder above DIR with a .git,
    /// else DIR itself
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// The name of the Helm release; the folder's name if none is given
    #[arg(long, value_name = "NAME", help_heading = "Helm")]
    release: Option<String>,

    /// The namespace of the Helm release
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        help_heading = "Helm"
    )]
    namespace: String,

    /// A file of Helm values inside the repository; a later one counts more
    #[arg(long, value_name = "FILE", help_heading = "Helm")]
    values: Vec<PathBuf>,

    #[command(flatten)]
    programs: Programs,
}

/// The programs that render, where no process file names them.
#[derive(Debug, clap::Args)]
pub struct Programs {
    /// The kustomize program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "kustomize",
        env = "TAGBOAT_KUSTOMIZE",
        help_heading = "Programs"
    )]
    kustomize: PathBuf,

    /// The helm program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "helm",
        env = "TAGBOAT_HELM",
        help_heading = "Programs"
    )]
    helm: PathBuf,

    /// Let a kustomization read from other hosts
    #[arg(long, help_heading = "Programs")]
    allow_remote_bases: bool,
}

impl Programs {
    /// As a process file would say it.
    pub fn settings(&self) -> RenderSettings {
        RenderSettings {
            kustomize: self.kustomize.clone(),
            helm: self.helm.clone(),
            allow_remote_bases: self.allow_remote_bases,
            ..RenderSettings::default()
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let (root, source) = source(arguments)?;
    let settings = arguments.programs.settings();
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::input(format!("no temporary folder can be made: {error}")))?;
    let rendered = match Renderer::new(&settings, temporary.path()).render_folder(&root, &source) {
        Ok(rendered) => rendered,
        Err(RenderError::Manifests(mistakes)) => {
            for mistake in &mistakes {
                screen.note(safe(&mistake.to_string()));
            }
            let folder = safe(&arguments.folder.display().to_string());
            return Err(Failure::input(format!(
                "{folder}: {}",
                counted(mistakes.len(), "mistake")
            )));
        }
        Err(error @ RenderError::Outside { .. })
            if error.hint().is_none() && arguments.root.is_none() =>
        {
            return Err(Failure::from(error).hint("--root says where the repository is."));
        }
        Err(error) => return Err(error.into()),
    };
    for (origin, key) in &rendered.left_out {
        screen.note(safe(&format!(
            "note: {origin}: {key} is a declaration for tagboat and not applied"
        )));
    }
    for warning in &rendered.warnings {
        screen.note(safe(&format!("warning: {warning}")));
    }
    if rendered.how != RenderMethod::Plain {
        screen.note(format_args!("note: rendered by {}", rendered.how));
    }
    if screen.is_json() {
        screen.json(
            &rendered
                .objects()
                .iter()
                .map(|object| object.value())
                .collect::<Vec<_>>(),
        );
    } else {
        screen.print(manifest::to_yaml_stream(
            rendered.objects().iter().map(|object| object.value()),
        ));
    }
    Ok(Exit::Done)
}

/// The root, and what lies below it.
fn source(arguments: &Arguments) -> Result<(PathBuf, RenderSource), Failure> {
    let folder = real(&arguments.folder)?;
    if !folder.is_dir() {
        return Err(Failure::input(format!(
            "{}: is no folder",
            safe(&arguments.folder.display().to_string())
        )));
    }
    let root = match &arguments.root {
        Some(root) => real(root)?,
        None => folder
            .ancestors()
            .find(|above| above.join(".git").exists())
            .unwrap_or(&folder)
            .to_owned(),
    };
    let inside = |path: &Path, written: &Path| {
        let relative = path
            .strip_prefix(&root)
            .ok()
            .and_then(Path::to_str)
            .map(str::to_owned);
        relative.ok_or_else(|| {
            Failure::input(format!(
                "{}: is not inside {}",
                safe(&written.display().to_string()),
                safe(&root.display().to_string())
            ))
            .hint("--root says where the repository is.")
        })
    };
    let path = inside(&folder, &arguments.folder)?;
    let files = arguments
        .values
        .iter()
        .map(|file| inside(&real(file)?, file))
        .collect::<Result<Vec<String>, Failure>>()?;
    let name = folder.file_name().map_or_else(
        || "release".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let is_asked = arguments.release.is_some() || !files.is_empty();
    let helm = is_asked.then(|| Helm {
        release_name: arguments.release.clone(),
        value_files: files,
        ..Helm::default()
    });
    Ok((
        root,
        RenderSource {
            path,
            helm,
            name,
            namespace: arguments.namespace.clone(),
        },
    ))
}

fn real(path: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(path)
        .map_err(|error| Failure::input(format!("{}: {error}", safe(&path.display().to_string()))))
}
