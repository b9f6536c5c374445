//! A real Gitea passes the test of the sandbox's forge.

use super::world::World;
use crate::it::sandbox_forge::{WALK, walk};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Gitea: run tests/run forge"]
async fn gitea_behaves_like_the_sandbox() {
    let world = World::new().await;
    let log = walk(&*world.forge, |branch| {
        drop(world.push(branch, &branch.replace('/', "-")))
    })
    .await;
    assert_eq!(log, WALK);
}
