//! The preview of a change, for its reviewers: the difference between two revisions on the
//! clusters.
//!
//! ```text
//! two commits ─▶ reach (which Applications) ─▶ render both sides ─▶ compare (objects, diffs) ─▶ ask (dry run) ─▶ Preview
//! ```
//!
//! An Application whose declaration and files are equal on both sides is not reached: it costs a
//! few lookups in trees. A preview changes nothing. A failure of one Application or cluster hides
//! no other; clusters have a time limit, texts a size limit. Values of Secrets never get into a
//! preview.

mod asking;
mod clusters;
mod compare;
mod reach;
mod text;

pub use clusters::PreviewClusters;
pub(crate) use compare::BuiltinScopes;

use crate::{
    core::{
        error::{Classify as _, ErrorKind},
        name::Name,
    },
    io::{
        git::{Checkout, GitError, Mirror, ObjectId, Revision},
        render::{RenderError, RenderSource, Rendered, Renderer},
    },
    review::{ApplicationPreview, DryRunVerdict, Preview, PreviewTrouble},
    spec::{Application, Declarations},
    update::{self, DeclarationScope, Previews},
};
use clusters::ClusterPermit;
use compare::ComparedApplication;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use reach::ReachedApplication;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Renderings at once: they block, and the machines this is made for have two cores.
const RENDERINGS: usize = 2;

/// The repository that contains the compared commits.
#[derive(Debug, Clone)]
pub enum RevisionFiles {
    Mirror(Arc<Mirror>),
    Checkout(Arc<Checkout>),
}

impl RevisionFiles {
    /// Opens a commit for reading.
    ///
    /// # Errors
    /// [`GitError::Broken`] if it is not there.
    fn at(&self, commit: ObjectId) -> Result<Revision<'_>, GitError> {
        match self {
            RevisionFiles::Mirror(mirror) => mirror.at(commit),
            RevisionFiles::Checkout(checkout) => checkout.at(commit),
        }
    }

    /// The branch that the settings file names, if there is one.
    fn branch(&self) -> Option<&str> {
        match self {
            RevisionFiles::Mirror(mirror) => Some(mirror.remote().branch()),
            RevisionFiles::Checkout(_) => None,
        }
    }
}

/// Makes previews of one config repository.
#[derive(Debug, Clone)]
pub struct Previewer {
    pub files: RevisionFiles,
    /// Where the repository declares things, and its rights.
    pub scope: DeclarationScope,
    pub renderer: Arc<Renderer>,
    /// The clusters that can be asked.
    pub clusters: PreviewClusters,
}

#[async_trait::async_trait]
impl Previews for Previewer {
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview {
        self.between(base, head, None).await
    }
}

/// The rendering of one side; `None` if the Application is not declared there.
type PreviewSide = Option<Result<Arc<Rendered>, RenderError>>;

impl Previewer {
    /// Compares `base` and `head`, for all Applications or a selection.
    pub async fn between(
        &self,
        base: ObjectId,
        head: ObjectId,
        only: Option<&BTreeSet<Name>>,
    ) -> Preview {
        let (this, wanted) = (self.clone(), only.cloned());
        let found =
            blocking(move || reach::find(&this.files, base, head, &this.scope, wanted.as_ref()))
                .await;
        let (reached, trouble) = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                let trouble = PreviewTrouble {
                    transient: error.kind() != ErrorKind::Config,
                    message: text::line(&error.to_string()),
                };
                return Preview {
                    applications: Vec::new(),
                    trouble: vec![trouble],
                };
            }
            Err(ended) => {
                return Preview {
                    applications: Vec::new(),
                    trouble: vec![ended],
                };
            }
        };
        let permitted = reached.iter().filter(|one| one.refusal.is_none());
        let names: BTreeSet<&str> = permitted.map(|one| one.cluster.as_str()).collect();
        let (rendered, doors) = tokio::join!(
            self.render_all(base, head, &reached),
            self.clusters.doors(&names)
        );
        let compared: Vec<ComparedApplication> = reached
            .iter()
            .zip(rendered)
            .map(|(one, (before, after))| {
                let open = doors.get(one.cluster.as_str());
                let door = open.filter(|_| one.refusal.is_none());
                compare::compare(one, before, after, door.unwrap_or(&ClusterPermit::UNKNOWN))
            })
            .collect();
        let answers = asking::ask(&reached, &compared, &doors, &self.clusters).await;
        let mut room = text::TextBudget::default();
        let applications: Vec<ApplicationPreview> = reached
            .into_iter()
            .zip(compared)
            .zip(answers)
            .map(|((one, compared), answers)| assemble(one, compared, answers, &mut room))
            .collect();
        Preview {
            applications,
            trouble,
        }
    }

    /// Returns the declarations of a commit; blocks.
    ///
    /// # Errors
    /// If an object is missing.
    pub fn declared(&self, commit: ObjectId) -> Result<Declarations, GitError> {
        update::declared_in(&self.files.at(commit)?, &self.scope, self.files.branch())
    }

    /// Both sides of every Application, in their order.
    async fn render_all(
        &self,
        base: ObjectId,
        head: ObjectId,
        reached: &[ReachedApplication],
    ) -> Vec<(PreviewSide, PreviewSide)> {
        let mut all: Vec<BoxFuture<'_, (PreviewSide, PreviewSide)>> = Vec::new();
        for one in reached {
            let both = async {
                let before = self.side(base, one.before.as_ref()).await;
                (before, self.side(head, one.after.as_ref()).await)
            };
            all.push(both.boxed());
        }
        stream::iter(all).buffered(RENDERINGS).collect().await
    }

    async fn side(&self, commit: ObjectId, application: Option<&Application>) -> PreviewSide {
        let source = RenderSource::from(application?);
        let (files, renderer, path) = (
            self.files.clone(),
            Arc::clone(&self.renderer),
            source.path.clone(),
        );
        let rendered = blocking(move || renderer.render_at(files.at(commit)?, &source)).await;
        Some(rendered.unwrap_or_else(|ended| {
            Err(RenderError::Disk {
                path: path.into(),
                why: ended.message,
            })
        }))
    }
}

/// Combines the comparison of one Application with its dry-run verdicts.
fn assemble(
    one: ReachedApplication,
    compared: ComparedApplication,
    answers: asking::ApplicationAnswers,
    room: &mut text::TextBudget,
) -> ApplicationPreview {
    let ReachedApplication {
        name,
        cluster,
        change,
        mut notes,
        ..
    } = one;
    let ComparedApplication {
        objects,
        notes: more,
        mut trouble,
        ..
    } = compared;
    notes.extend(more);
    trouble.extend(answers.trouble);
    let mut shown = Vec::new();
    let mut left = 0usize;
    for (mut object, verdict) in objects.into_iter().zip(answers.verdicts) {
        let Some(verdict) = verdict else { continue };
        if shown.len() >= text::OBJECTS && !matches!(verdict, DryRunVerdict::Refused { .. }) {
            left += 1;
            continue;
        }
        object.preview.verdict = verdict;
        object.preview.diff = room.cut(&object.preview.diff);
        shown.push(object.preview);
    }
    if left > 0 {
        notes.push(format!("{left} more objects change, which are not shown"));
    }
    let notes = notes.iter().map(|note| text::line(note)).collect();
    let mut seen = BTreeSet::new();
    trouble.retain(|trouble| seen.insert(trouble.message.clone()));
    ApplicationPreview {
        name,
        cluster: text::line(&cluster),
        change,
        notes,
        objects: shown,
        trouble,
    }
}

/// Runs what blocks on a thread of its own; if it ends unasked, that is trouble like any other.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PreviewTrouble> {
    crate::io::try_blocking(work)
        .await
        .map_err(|error| PreviewTrouble {
            message: format!("it ended unasked: {}", text::line(&error.to_string())),
            transient: false,
        })
}

/// The doors by the names of their clusters.
type ClusterPermits = BTreeMap<String, ClusterPermit>;
