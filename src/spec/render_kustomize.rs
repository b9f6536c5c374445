//! The values of `render.kustomize`.

use std::path::PathBuf;

/// The renderer of kustomizations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KustomizeMode {
    /// Always by the kustomize program.
    #[default]
    Program,
    /// In the process where that is expected to give the same objects, else by the program.
    Auto,
    /// By both, with a warning for each difference; the program's objects count.
    Compare,
}

/// Reads `render.kustomize` and `render.kustomizeProgram`: the mode, and the program if one is
/// named. The path of a program instead of a mode means that program, always.
///
/// # Errors
/// Two programs are named.
pub(super) fn mode(
    kustomize: Option<&str>,
    program: Option<PathBuf>,
) -> Result<(KustomizeMode, Option<PathBuf>), String> {
    let mode = match kustomize {
        None | Some("program") => KustomizeMode::Program,
        Some("auto") => KustomizeMode::Auto,
        Some("compare") => KustomizeMode::Compare,
        Some(_) if program.is_some() => {
            return Err(
                "write auto, program or compare here; render.kustomizeProgram names the program"
                    .to_owned(),
            );
        }
        Some(path) => return Ok((KustomizeMode::Program, Some(path.into()))),
    };
    Ok((mode, program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kustomize_path_is_a_program_for_all() {
        let path = || Some(PathBuf::from("/opt/kustomize"));
        let read = |text, program| mode(Some(text), program);
        assert_eq!(mode(None, None), Ok((KustomizeMode::Program, None)));
        assert_eq!(mode(None, path()), Ok((KustomizeMode::Program, path())));
        assert_eq!(read("auto", path()), Ok((KustomizeMode::Auto, path())));
        assert_eq!(
            read("compare", path()),
            Ok((KustomizeMode::Compare, path()))
        );
        assert_eq!(
            read("/opt/kustomize", None),
            Ok((KustomizeMode::Program, path()))
        );
        assert!(read("/opt/kustomize", path()).is_err());
    }
}
