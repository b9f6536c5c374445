//! What a request says to people: its title and its text, from all that the pass knows.

use crate::update::{
    EnvironmentReport, FactsGatherer, FactsQuery, ImageUpdater, PATIENCE, RepoSnapshot, Scans,
};
use crate::{
    io::{forge::Forge, git::ObjectId},
    review::{ChangeSet, Marker, MarkerScope, MoveStory, Preview, body, merging_words, subject},
    spec::{Environment, WriteMode},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Of the form of the text; with another one texts are written anew.
const FORM: u8 = 3;

/// Of how many characters that a text may have one is the marker's: what it has no room for, the
/// bot does not know again.
const MARKER_SHARE: usize = 2;

/// What a text is made from.
pub(crate) struct BodyComposer<'a> {
    /// The changes.
    pub(crate) set: &'a ChangeSet,
    /// What is declared, and the target's head.
    pub(crate) world: &'a RepoSnapshot,
    /// The commit of the target that the branch is made on.
    pub(crate) base: ObjectId,
    /// The head of the branch; the mirror has it.
    pub(crate) head: ObjectId,
    /// What registries have said in this pass: digests, first-seen times, platforms.
    pub(crate) scans: &'a Scans,
    /// The Environment's row, with its policies: what was chosen and what refused.
    pub(crate) row: &'a EnvironmentReport,
    /// The forge.
    pub(crate) forge: &'a dyn Forge,
    /// The time of the pass.
    pub(crate) now: Timestamp,
    /// The time by now.
    pub(crate) at: Timestamp,
}

/// What is told.
pub(crate) struct ComposedBody {
    /// The title.
    pub(crate) title: String,
    /// The whole text, with the marker.
    pub(crate) body: String,
}

impl BodyComposer<'_> {
    /// A hash of what the text is made from: as long as it is the same, the text stays as it is,
    /// and people may edit it.
    pub(crate) fn content(&self) -> String {
        content(
            self.set,
            self.head,
            self.world.declared.environments.get(&self.set.environment),
        )
    }
}

/// How the request of a set is merged, in words for people.
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

/// See [`BodyComposer::content`].
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
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl ImageUpdater {
    /// Makes the title and the text of a request: what registry and forge tell is gathered, the
    /// change is previewed.
    pub(crate) async fn tell(&self, telling: &BodyComposer<'_>) -> ComposedBody {
        let BodyComposer {
            set,
            world,
            base,
            head,
            scans,
            row,
            forge,
            now,
            at,
            ..
        } = telling;
        let asked: Vec<FactsQuery<'_>> = set
            .moves
            .iter()
            .map(|image| FactsQuery {
                image,
                policy: world.declared.policies.get(&image.policy),
                scan: scans.get(&image.repository),
                refused: row
                    .policies
                    .iter()
                    .find(|policy| policy.name == image.policy)
                    .map_or(&[], |policy| &policy.refused),
            })
            .collect();
        let gatherer = FactsGatherer {
            scanner: &self.scanner,
            forge: Some(*forge),
            now: *now,
            patience: PATIENCE,
        };
        let (gathered, preview) = tokio::join!(
            gatherer.gather(&asked),
            self.preview(set, world.commit, *base, *head, *at)
        );
        let mut marker = Marker::new(
            &set.environment,
            set.group.as_deref(),
            &set.moves,
            telling.content(),
        );
        marker.refused = preview.as_ref().is_some_and(Preview::is_refused);
        // What a cluster refuses today it may take tomorrow: a policy there is changed, too.
        marker.again = gathered.may_tell_more
            || marker.refused
            || preview.as_ref().is_some_and(Preview::may_tell_more);
        let environment = world.declared.environments.get(&set.environment);
        let target = self.mirror.remote().branch();
        marker.scope = environment.map(|known| MarkerScope {
            file: known.place.file.clone(),
            target: target.to_owned(),
        });
        let limit = forge.limits().body;
        let hidden = marker.write(limit / MARKER_SHARE);
        let story = MoveStory {
            environment: &set.environment,
            group: set.group.as_deref(),
            moves: &gathered.told,
            preview: preview.as_ref(),
            merging: &merging(set, environment),
            marker: &hidden,
        };
        ComposedBody {
            title: subject(set),
            body: body(&story, limit).text,
        }
    }
}
