//! The rendering of an Application in two stages: the files, then the program that they need.

use super::Message;
use crate::{
    core::retry,
    io::{
        git::{Mirror, ObjectId},
        render::{
            InputsKey, RenderError, RenderInputs, RenderPrograms, RenderSource, RenderStart,
            Rendered, Renderer,
        },
    },
    spec::Application,
};
use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

/// The renderings of a revision.
pub type RenderFn = dyn RevisionRenderer;

/// Renders the Applications of a config repository at a revision.
pub trait RevisionRenderer: Send + Sync {
    /// Begins to render an Application. Blocks.
    ///
    /// # Errors
    /// [`RenderFailure`]
    fn begin(&self, application: &Application) -> Result<RenderStage, RenderFailure>;

    /// Returns the key of the inputs of an Application that was rendered before. Renders nothing;
    /// blocks.
    fn known_inputs(&self, application: &Application) -> Option<InputsKey>;

    /// Returns whether all that was read at an earlier revision is known to be the same at this
    /// one. Reads nothing.
    fn is_untouched(&self, earlier: &str, inputs: &RenderInputs) -> bool;
}

/// A function renders again at each revision.
impl<F> RevisionRenderer for F
where
    F: Fn(&Application) -> Result<RenderStage, RenderFailure> + Send + Sync,
{
    fn begin(&self, application: &Application) -> Result<RenderStage, RenderFailure> {
        self(application)
    }

    fn known_inputs(&self, _application: &Application) -> Option<InputsKey> {
        None
    }

    fn is_untouched(&self, _earlier: &str, _inputs: &RenderInputs) -> bool {
        false
    }
}

/// Runs a program, and returns its objects. Blocks.
pub type RenderProgram = dyn FnOnce() -> Result<Arc<Rendered>, RenderFailure> + Send;

/// A rendering after its first stage.
pub enum RenderStage {
    Rendered(Arc<Rendered>),
    /// A program must run, for which there are few slots.
    Program {
        run: Box<RenderProgram>,
        /// The inputs, if they are known.
        inputs: Option<InputsKey>,
    },
}

impl RenderStage {
    /// Runs the program, if one is needed.
    ///
    /// # Errors
    /// [`RenderFailure`]
    pub fn finish(self) -> Result<Arc<Rendered>, RenderFailure> {
        match self {
            Self::Rendered(rendered) => Ok(rendered),
            Self::Program { run, .. } => run(),
        }
    }
}

impl From<Arc<Rendered>> for RenderStage {
    fn from(rendered: Arc<Rendered>) -> Self {
        Self::Rendered(rendered)
    }
}

impl fmt::Debug for RenderStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rendered(_) => "Rendered",
            Self::Program { .. } => "Program",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderFailure {
    pub message: Message,
    /// The first back-off before another attempt at the same revision; none if it cannot succeed.
    pub retry: Option<Duration>,
}

/// The first back-off after a transient failure.
pub const SHORT_RETRY: Duration = Duration::from_secs(1);

/// The first back-off after a time-out: another attempt takes a slot for as long again.
pub const TIMEOUT_RETRY: Duration = Duration::from_secs(300);

/// Back-offs grow to this, or to twelve times the first one.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

/// Returns the back-off after a number of failed renderings in a row.
pub(super) fn back_off(first: Duration, failures: u32) -> Duration {
    retry::delay(failures, first, LONGEST_RETRY.max(first * 12))
}

impl From<Message> for RenderFailure {
    /// Creates a failure whose cause lies in Git.
    fn from(message: Message) -> Self {
        Self {
            message,
            retry: None,
        }
    }
}

impl From<RenderError> for RenderFailure {
    fn from(error: RenderError) -> Self {
        use crate::core::error::Classify as _;
        let retry = if error.is_timeout() {
            Some(TIMEOUT_RETRY)
        } else {
            error.may_pass().then_some(SHORT_RETRY)
        };
        Self {
            message: Message::application(error.to_string()).with_hint(error.hint()),
            retry,
        }
    }
}

/// A commit of a mirror, with what it changes.
#[derive(Debug)]
pub struct GitRevision {
    renderer: Arc<Renderer>,
    mirror: Arc<Mirror>,
    commit: ObjectId,
    programs: RenderPrograms,
    changes: Option<CommitChanges>,
}

/// The difference between a commit and an earlier one.
#[derive(Debug)]
struct CommitChanges {
    since: String,
    /// All files and folders that are not the same.
    paths: HashSet<String>,
}

impl GitRevision {
    pub fn new(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Self {
        let programs = renderer.programs();
        Self {
            renderer,
            mirror,
            commit,
            programs,
            changes: None,
        }
    }

    /// Opens a later commit. Reads the folders that differ; blocks.
    #[must_use]
    pub fn followed_by(&self, commit: ObjectId) -> Self {
        let mut next = Self::new(Arc::clone(&self.renderer), Arc::clone(&self.mirror), commit);
        if next.programs == self.programs {
            // Without the difference, every Application looks its own inputs up.
            let paths = self.mirror.changed_paths(self.commit, commit).ok();
            next.changes = paths.map(|paths| CommitChanges {
                since: self.commit.to_string(),
                paths,
            });
        }
        next
    }
}

impl RevisionRenderer for GitRevision {
    fn begin(&self, application: &Application) -> Result<RenderStage, RenderFailure> {
        let source = RenderSource::from(application);
        Ok(
            match self.renderer.begin(&self.mirror, self.commit, &source)? {
                RenderStart::Done(rendered) => RenderStage::Rendered(rendered),
                RenderStart::Program(call) => {
                    let (renderer, mirror) = (Arc::clone(&self.renderer), Arc::clone(&self.mirror));
                    let commit = self.commit;
                    RenderStage::Program {
                        inputs: call.inputs,
                        run: Box::new(move || Ok(renderer.finish(&mirror, commit, &source, call)?)),
                    }
                }
            },
        )
    }

    fn known_inputs(&self, application: &Application) -> Option<InputsKey> {
        let source = RenderSource::from(application);
        let known = self
            .renderer
            .known_inputs(&self.mirror, self.commit, &source);
        known.ok().flatten()
    }

    fn is_untouched(&self, earlier: &str, inputs: &RenderInputs) -> bool {
        let changes = self.changes.as_ref();
        changes.is_some_and(|changes| {
            changes.since == earlier
                && !inputs.paths.iter().any(|path| changes.paths.contains(path))
        })
    }
}

/// Returns the renderings of a commit of a mirror.
pub fn from_git(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Arc<RenderFn> {
    Arc::new(GitRevision::new(renderer, mirror, commit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::render::RenderLimit;

    #[test]
    fn render_timeout_backs_off_from_minutes() {
        let stopped = |limit| {
            RenderFailure::from(RenderError::Stopped {
                path: "shop".to_owned(),
                program: "helm",
                why: "it took longer than 60 s".to_owned(),
                limit,
            })
        };
        assert_eq!(
            stopped(RenderLimit::Time).retry,
            Some(Duration::from_secs(300))
        );
        assert_eq!(stopped(RenderLimit::Memory).retry, None);
        let missing = RenderError::NoProgram {
            path: "shop".to_owned(),
            program: "helm",
            binary: "helm".into(),
            why: "is not on PATH".to_owned(),
        };
        assert_eq!(
            RenderFailure::from(missing).retry,
            Some(Duration::from_secs(1))
        );
    }

    #[test]
    fn render_back_off_grows_to_its_cap() {
        let seconds = |first| [1, 2, 3, 5, 20].map(|failures| back_off(first, failures).as_secs());
        assert_eq!(seconds(SHORT_RETRY), [1, 2, 4, 16, 300]);
        assert_eq!(seconds(TIMEOUT_RETRY), [300, 600, 1200, 3600, 3600]);
    }
}
