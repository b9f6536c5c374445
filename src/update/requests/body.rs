//! Title and text of a pull request, from all that the pass knows.

use super::{
    RequestContext,
    facts::{FactsGatherer, FactsQuery, PATIENCE},
    preview,
};
use crate::{
    core::text::hex,
    io::{blocking, git::ObjectId},
    review::{ChangeSet, Marker, MarkerScope, MoveStory, Preview, body, merging_words, subject},
    spec::{Environment, WriteMode},
    update::{EnvironmentReport, RepoSnapshot, Scans, pass_state::PassClock},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Version of the text's form. A new one has all texts written again.
const FORM: u8 = 3;

/// The marker may take one of this many shares of a text. What it has no room for is lost to the
/// bot.
const MARKER_SHARE: usize = 2;

/// Inputs of a text.
pub(crate) struct BodyInputs<'a> {
    pub(crate) set: &'a Arc<ChangeSet>,
    pub(crate) snapshot: &'a RepoSnapshot,
    /// The commit of the target that the branch is made on.
    pub(crate) base: ObjectId,
    pub(crate) head: ObjectId,
    /// The branch.
    pub(crate) branch: &'a str,
    /// Author and number of the open pull request; none before it is opened.
    pub(crate) opened: Option<(&'a str, u64)>,
    /// See [`content`].
    pub(crate) content: &'a str,
    pub(crate) scans: &'a Scans,
    pub(crate) row: &'a EnvironmentReport,
    /// Start of the pass.
    pub(crate) now: Timestamp,
    pub(crate) clock: PassClock,
}

pub(crate) struct ComposedBody {
    pub(crate) title: String,
    /// The whole text, with the marker.
    pub(crate) body: String,
}

/// Explains how the pull request of a change set is merged.
fn merging(set: &ChangeSet, environment: Option<&Environment>) -> String {
    let auto_merge = environment.and_then(|environment| match &environment.via {
        WriteMode::PullRequest { auto_merge, .. } => auto_merge.as_ref(),
        WriteMode::Commit => None,
    });
    merging_words(
        auto_merge,
        environment.map_or(&[], |environment| &environment.windows),
        &set.moves,
    )
}

/// Returns a hash of everything that the text is made from. As long as it is the same, the text
/// stays as it is, so that people may edit it.
pub(crate) fn content(
    set: &ChangeSet,
    head: ObjectId,
    environment: Option<&Environment>,
) -> String {
    let mut hash = Sha256::new();
    hash.update([FORM]);
    hash.update(head.as_bytes());
    hash.update(
        serde_json::to_vec(&(&set.environment, &set.group, &set.moves)).unwrap_or_default(),
    );
    hash.update(Sha256::digest(merging(set, environment)));
    hash.update(Sha256::digest(
        environment.map_or("", |environment| &environment.place.file),
    ));
    for file in &set.files {
        hash.update(Sha256::digest(&file.path));
        hash.update(Sha256::digest(&file.before));
        hash.update(Sha256::digest(&file.after));
    }
    hex(&hash.finalize()[..8])
}

/// Writes title and text: gathers facts from registry and forge, and previews the change.
pub(crate) async fn compose(context: RequestContext<'_>, inputs: &BodyInputs<'_>) -> ComposedBody {
    let BodyInputs {
        set,
        snapshot,
        base,
        head,
        row,
        ..
    } = *inputs;
    let declared = &snapshot.declared;
    let queries: Vec<FactsQuery<'_>> = set
        .moves
        .iter()
        .map(|image| FactsQuery {
            image,
            policy: declared.policies.get(&image.policy),
            scan: inputs.scans.get(&image.repository),
            refused: row
                .policies
                .iter()
                .find(|policy| policy.name == image.policy)
                .map_or(&[], |policy| &policy.refused),
        })
        .collect();
    let forge = &**context.forge;
    let gatherer = FactsGatherer {
        scanner: context.scanner,
        forge: Some(forge),
        now: inputs.now,
        patience: PATIENCE,
    };
    let now = inputs.clock.now();
    let (gathered, preview) = tokio::join!(
        gatherer.gather(&queries),
        preview::preview(context, set, snapshot.commit, base, head, now)
    );
    let environment = declared.environments.get(&set.environment);
    let mut marker = Marker::new(
        &set.environment,
        set.group.as_deref(),
        &set.moves,
        inputs.content.to_owned(),
    );
    marker.released = row
        .released
        .iter()
        .filter(|released| set.moves.iter().any(|image| released.is_in(image)))
        .cloned()
        .collect();
    marker.refused = preview.as_ref().is_some_and(Preview::is_refused);
    // A refusal may end, too: the cluster's policies change.
    marker.again = gathered.may_tell_more
        || marker.refused
        || preview.as_ref().is_some_and(Preview::may_tell_more);
    marker.scope = environment.map(|environment| MarkerScope {
        file: environment.place.file.clone(),
        target: context.target().to_owned(),
    });
    let (set, limit) = (Arc::clone(set), forge.limits().body);
    let merging = merging(&set, environment);
    let branch = inputs.branch.to_owned();
    let opened = inputs
        .opened
        .map(|(author, number)| (author.to_owned(), number));
    let authors = context.authors();
    blocking(move || {
        let signer = authors.as_ref();
        let opened = opened
            .as_ref()
            .map(|(author, number)| (author.as_str(), *number));
        let signer = signer.and_then(|known| known.signer(&branch, opened));
        let story = MoveStory {
            environment: &set.environment,
            group: set.group.as_deref(),
            moves: &gathered.moves,
            preview: preview.as_ref(),
            merging: &merging,
            marker: &marker.write(limit / MARKER_SHARE, signer),
        };
        ComposedBody {
            title: subject(&set),
            body: body(&story, limit).text,
        }
    })
    .await
}
