//! What a request says to people: its title and its text, from all that the pass knows.

use super::{EnvironmentReport, Scans, Updater, World};
use crate::{
    forge::{self, Forge},
    git::ObjectId,
    publish::{ChangeSet, Marker, subject},
};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

/// Of the form of the text; with another one texts are written anew.
const FORM: u8 = 1;

/// Characters of the marker, of those that a text may have.
const MARKER_SHARE: usize = 4;

/// What a text is made from.
#[allow(dead_code, reason = "the text of now tells of the changes alone")]
pub(super) struct Telling<'a> {
    /// The changes.
    pub(super) set: &'a ChangeSet,
    /// The message of their commit.
    pub(super) message: &'a str,
    /// What is declared, and the target's head.
    pub(super) world: &'a World,
    /// The commit of the target that the branch is made on.
    pub(super) base: ObjectId,
    /// The head of the branch; the mirror has it.
    pub(super) head: ObjectId,
    /// What registries have said in this pass: digests, first-seen times, platforms.
    pub(super) scans: &'a Scans,
    /// The Environment's row, with its policies: what was chosen and what refused.
    pub(super) row: &'a EnvironmentReport,
    /// The forge.
    pub(super) forge: &'a dyn Forge,
    /// The request, if it is open.
    pub(super) request: Option<&'a forge::Request>,
    /// The time.
    pub(super) now: Timestamp,
}

/// What is told.
#[allow(dead_code, reason = "the marker is read again from the text")]
pub(super) struct Told {
    /// The title.
    pub(super) title: String,
    /// The whole text, with the marker.
    pub(super) body: String,
    /// The marker that stands in it.
    pub(super) marker: Marker,
}

impl Telling<'_> {
    /// A hash of what the text is made from: as long as it is the same, the text stays as it is, and people may edit it.
    pub(super) fn content(&self) -> String {
        content(self.set, self.head)
    }
}

/// See [`Telling::content`].
pub(super) fn content(set: &ChangeSet, head: ObjectId) -> String {
    let mut hash = Sha256::new();
    hash.update([FORM]);
    hash.update(head.as_bytes());
    hash.update(serde_json::to_vec(&(&set.environment, &set.group, &set.moves)).unwrap_or_default());
    for file in &set.files {
        hash.update(Sha256::digest(&file.path));
        hash.update(Sha256::digest(&file.before));
        hash.update(Sha256::digest(&file.after));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

impl Updater {
    /// Makes the title and the text of a request.
    pub(super) async fn tell(&self, telling: &Telling<'_>) -> Told {
        let Telling { set, message, world: _, base: _, head: _, scans: _, row: _, forge, request: _, now: _ } = telling;
        let marker = Marker::new(&set.environment, set.group.as_deref(), &set.moves, telling.content());
        let limits = forge.limits();
        let hidden = marker.write(limits.body / MARKER_SHARE);
        // Indented, so that nothing of it means anything to a forge.
        let rows: Vec<String> = message.lines().skip(1).map(|line| format!("    {line}")).collect();
        let room = limits.body.saturating_sub(hidden.chars().count() + 8);
        let text: String = rows.join("\n").chars().take(room).collect();
        Told { title: subject(set), body: format!("{hidden}\n\n{text}\n"), marker }
    }
}
