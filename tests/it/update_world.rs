//! What a pass remembers of a revision equals what it reads without any memory.

use super::git_support::Sandbox;
use tagboat::{
    git::{Mirror, ObjectId},
    update::{self, Memory, World},
};

fn policy(name: &str, image: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {name}, namespace: apps}}\nspec: {{image: ghcr.io/{image}, policy: {{semver: {{range: '*'}}}}}}\n"
    )
}

fn pod(image: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - image: ghcr.io/{image}\n")
}

fn read(mirror: &Mirror, commit: ObjectId, folder: &std::path::Path, memory: &mut Memory) -> World {
    let (world, warnings) = update::read(mirror, commit, None, folder, memory).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    world
}

/// Each revision and each way between two of them: forth is an addition or an edit, back is a deletion or an edit.
#[test]
fn every_way_between_revisions_ends_at_the_same_world() {
    let (web, db) = (policy("web", "team/web"), policy("db", "team/db"));
    let sandbox = Sandbox::new(&[("policies/web.yaml", &web), ("a.yaml", &pod("team/web:1")), ("z/templates/db.yaml", &pod("team/db:1"))]);
    let mirror = sandbox.mirror("m");
    let mut commits = vec![mirror.fetch().unwrap().commit];
    let edits: [&[(&str, &str)]; 7] = [
        &[("a.yaml", &pod("team/web:2"))],
        &[("policies/db.yaml", &db)],
        &[("b/c.yaml", &pod("team/db:1"))],
        &[("b/c.yaml", "kind: Pod\n")],
        &[("z/Chart.yaml", "name: z\n")],
        &[("policies/web.yaml", &policy("web", "other/site"))],
        &[("a.yaml/a.yaml", &pod("other/site:1")), ("a-b.yaml", &pod("other/site:1"))],
    ];
    for edit in edits {
        sandbox.person(edit, "next");
        commits.push(mirror.fetch().unwrap().commit);
    }
    let fresh: Vec<World> = commits
        .iter()
        .map(|commit| {
            let folder = tempfile::tempdir().unwrap();
            read(&mirror, *commit, folder.path(), &mut Memory::default())
        })
        .collect();
    let counts: Vec<_> = fresh.iter().map(|world| (world.declared.policies.len(), world.files.len())).collect();
    assert_eq!(counts, [(1, 1), (1, 1), (2, 2), (2, 3), (2, 2), (2, 2), (2, 1), (2, 3)]);

    let folder = tempfile::tempdir().unwrap();
    let mut memory = Memory::default();
    let mut held = None;
    for from in 0..commits.len() {
        for to in 0..commits.len() {
            for at in [from, to] {
                let world = read(&mirror, commits[at], folder.path(), &mut memory);
                assert_eq!(world.commit, commits[at]);
                assert_eq!(world.files, fresh[at].files, "{from} {to}");
                assert_eq!(format!("{:?}", world.declared), format!("{:?}", fresh[at].declared), "{from} {to}");
                // Half of the worlds are still held while the next is read.
                held = (to % 2 == 0).then_some(world);
            }
        }
    }
    drop(held);
}
