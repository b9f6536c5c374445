//! `tagboat render`.

use super::{Failure, Outcome, Screen, safe};
use crate::{
    objects::manifest,
    service::render::{self, RenderAnswer, RenderQuery},
    spec::settings::{RenderSandbox, RenderSettings},
};
use clap::ValueEnum;
use std::path::PathBuf;

/// Print the objects of a folder as the reconciler renders them
///
/// Prints every manifest below the folder; with a kustomization, what kustomize makes of it; with a
/// Chart.yaml, the output of Helm. The objects come in the order of their files, and values of
/// Secrets are printed as they are. No cluster is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Read nothing outside of this repository; by default the nearest folder above DIR with a
    /// .git, else DIR itself
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Render the Helm release with this name; by default the folder's name
    #[arg(long, value_name = "NAME", help_heading = "Helm")]
    release: Option<String>,

    /// Render the Helm release for this namespace
    #[arg(
        long,
        value_name = "NAME",
        default_value = "default",
        help_heading = "Helm"
    )]
    namespace: String,

    /// Read Helm values from this file inside the repository; later files override earlier ones
    #[arg(long, value_name = "FILE", help_heading = "Helm")]
    values: Vec<PathBuf>,

    #[command(flatten)]
    programs: Programs,
}

/// The programs that render, where no settings name them.
#[derive(Debug, clap::Args)]
pub(super) struct Programs {
    /// Run this kustomize program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "kustomize",
        env = "TAGBOAT_KUSTOMIZE",
        help_heading = "Programs"
    )]
    kustomize: PathBuf,

    /// Run this helm program
    #[arg(
        long,
        value_name = "FILE",
        default_value = "helm",
        env = "TAGBOAT_HELM",
        help_heading = "Programs"
    )]
    helm: PathBuf,

    /// Allow kustomizations to read from other hosts
    #[arg(long, help_heading = "Programs")]
    allow_remote_bases: bool,

    /// Confine the programs with Landlock and seccomp
    #[arg(
        long,
        value_name = "MODE",
        value_enum,
        default_value_t = Sandbox::Auto,
        env = "TAGBOAT_SANDBOX",
        help_heading = "Programs"
    )]
    sandbox: Sandbox,
}

/// The values of `--sandbox`, as those of `render.sandbox`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sandbox {
    /// As far as the kernel can, with a warning where it cannot
    Auto,
    /// Run them only if the kernel can confine them
    Required,
    /// Do not confine them
    Disabled,
}

impl From<Sandbox> for RenderSandbox {
    fn from(sandbox: Sandbox) -> Self {
        match sandbox {
            Sandbox::Auto => Self::Auto,
            Sandbox::Required => Self::Required,
            Sandbox::Disabled => Self::Disabled,
        }
    }
}

impl Programs {
    pub(super) fn settings(&self) -> RenderSettings {
        RenderSettings {
            kustomize: self.kustomize.clone(),
            helm: self.helm.clone(),
            allow_remote_bases: self.allow_remote_bases,
            sandbox: self.sandbox.into(),
            ..RenderSettings::default()
        }
    }
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let query = RenderQuery {
        folder: arguments.folder.clone(),
        root: arguments.root.clone(),
        release: arguments.release.clone(),
        namespace: arguments.namespace.clone(),
        values: arguments.values.clone(),
        programs: arguments.programs.settings(),
    };
    let answer = render::render(&query)?;
    screen.answer(&answer, text);
    Ok(Outcome::Done)
}

fn text(answer: &RenderAnswer, screen: &mut Screen) {
    for declaration in &answer.declarations {
        screen.note(safe(&format!(
            "note: {declaration} is a declaration for tagboat and not applied"
        )));
    }
    for warning in &answer.warnings {
        screen.note(safe(&format!("warning: {warning}")));
    }
    if let Some(program) = &answer.rendered_by {
        screen.note(format_args!("note: rendered by {program}"));
    }
    screen.print(manifest::to_yaml_stream(&answer.objects));
}
