//! The rendering of an Application in two stages: the files, then the program that they need.

use super::Message;
use crate::{
    core::retry,
    io::{
        git::{Mirror, ObjectId},
        render::{RenderError, RenderSource, RenderStart, Rendered, Renderer},
    },
    spec::Application,
};
use std::{fmt, sync::Arc, time::Duration};

/// Begins to render an Application at a revision. Blocks.
pub type RenderFn = dyn Fn(&Application) -> Result<RenderStage, RenderFailure> + Send + Sync;

/// SHA-256 over the inputs of a rendering: another revision with the same inputs has the same.
pub type RenderInputs = [u8; 32];

/// Runs a program, and returns its objects. Blocks.
pub type RenderProgram = dyn FnOnce() -> Result<Arc<Rendered>, RenderFailure> + Send;

/// A rendering after its first stage.
pub enum RenderStage {
    Rendered(Arc<Rendered>),
    /// A program must run, for which there are few slots.
    Program {
        run: Box<RenderProgram>,
        /// The hash of all that the rendering depends on, if it is known.
        inputs: Option<RenderInputs>,
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

/// Returns a function that renders from a commit of a mirror.
pub fn from_git(renderer: Arc<Renderer>, mirror: Arc<Mirror>, commit: ObjectId) -> Arc<RenderFn> {
    Arc::new(move |application| {
        let source = RenderSource::from(application);
        Ok(match renderer.begin(&mirror, commit, &source)? {
            RenderStart::Done(rendered) => RenderStage::Rendered(rendered),
            RenderStart::Program(call) => {
                let (renderer, mirror) = (Arc::clone(&renderer), Arc::clone(&mirror));
                RenderStage::Program {
                    inputs: call.inputs,
                    run: Box::new(move || Ok(renderer.finish(&mirror, commit, &source, call)?)),
                }
            }
        })
    })
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
