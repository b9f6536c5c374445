//! What a pass asks of whoever can say what a change does on clusters: this room renders nothing and talks to no cluster.

use crate::{git::ObjectId, publish::Preview};

/// Says what a change does on clusters.
#[async_trait::async_trait]
pub trait Previews: Send + Sync {
    /// What becomes different from `base` (the target's head, or the parent of a request's commit) to `head`. Both are
    /// commits of the mirror. Never fails: what cannot be known stands in the preview.
    async fn preview(&self, base: ObjectId, head: ObjectId) -> Preview;
}
