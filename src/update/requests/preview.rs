//! Previews of the merges of pull requests.

use super::RequestContext;
use crate::{
    core::text::plain,
    io::{
        blocking,
        git::{CommitMeta, GitError, ObjectId},
    },
    review::{ChangeSet, Preview, PreviewTrouble},
    update::commit::edit_files,
};
use jiff::Timestamp;
use std::sync::Arc;

/// Previews the merge of a branch into the target, on which the branch may have been made a while
/// ago (`parent`). None if there are no previews.
pub(super) async fn preview(
    context: RequestContext<'_>,
    set: &Arc<ChangeSet>,
    target: ObjectId,
    parent: ObjectId,
    head: ObjectId,
    now: Timestamp,
) -> Option<Preview> {
    let previews = Arc::clone(context.previews?);
    let merged = if parent == target {
        Ok(head)
    } else {
        merge_result(context, set, target, head).await
    };
    let preview = match merged {
        Ok(merged) => previews.preview(target, merged).await,
        Err(error) => Preview {
            applications: Vec::new(),
            trouble: vec![PreviewTrouble {
                message: plain(&error.to_string()),
                transient: true,
            }],
        },
    };
    context
        .cache
        .lock()
        .previews
        .insert(target, head, now, preview.summary());
    Some(preview)
}

/// Makes the commit that a merge would make on the target. It is deterministic and stays in the
/// mirror.
async fn merge_result(
    context: RequestContext<'_>,
    set: &Arc<ChangeSet>,
    target: ObjectId,
    head: ObjectId,
) -> Result<ObjectId, GitError> {
    let mirror = Arc::clone(&context.repo.mirror);
    let make = edit_files(set.files.clone())?;
    let bot = context.publisher.bot()?;
    blocking(move || {
        let meta = CommitMeta {
            author: &bot,
            committer: &bot,
            seconds: 0,
            text: "What a merge would make",
            key: None,
        };
        match make(&mirror, target, &meta)? {
            Some(draft) => mirror.keep(&draft).map(|()| draft.commit),
            // The target moved in an edited file; the branch itself shows the change.
            None => Ok(head),
        }
    })
    .await
}
