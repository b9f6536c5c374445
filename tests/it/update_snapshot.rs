//! A snapshot that is updated from memory equals one that is read without any memory.

use super::git_support::Sandbox;
use tagboat::{
    core::error::{Classify as _, ErrorKind},
    io::git::{Mirror, ObjectId},
    spec::settings,
    update::{self, DeclarationScope, RepoSnapshot, SnapshotCache},
};

fn policy(name: &str, image: &str) -> String {
    format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: {name}, namespace: apps}}\nspec: {{image: ghcr.io/{image}, policy: {{semver: {{range: '*'}}}}}}\n"
    )
}

fn pod(image: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n    - image: ghcr.io/{image}\n")
}

fn read(
    mirror: &Mirror,
    commit: ObjectId,
    folder: &std::path::Path,
    memory: &mut SnapshotCache,
) -> RepoSnapshot {
    let (world, warnings) =
        update::read(mirror, commit, &DeclarationScope::default(), folder, memory).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    world
}

/// Every revision, and every step between two of them, in both directions: additions, edits and
/// deletions.
#[test]
fn snapshot_update_equals_a_full_read() {
    let (web, db) = (policy("web", "team/web"), policy("db", "team/db"));
    let sandbox = Sandbox::new(&[
        ("policies/web.yaml", &web),
        ("a.yaml", &pod("team/web:1")),
        ("z/templates/db.yaml", &pod("team/db:1")),
    ]);
    let mirror = sandbox.mirror("m");
    let mut commits = vec![mirror.fetch().unwrap().commit];
    let edits: [&[(&str, &str)]; 7] = [
        &[("a.yaml", &pod("team/web:2"))],
        &[("policies/db.yaml", &db)],
        &[("b/c.yaml", &pod("team/db:1"))],
        &[("b/c.yaml", "kind: Pod\n")],
        &[("z/Chart.yaml", "name: z\n")],
        &[("policies/web.yaml", &policy("web", "other/site"))],
        &[
            ("a.yaml/a.yaml", &pod("other/site:1")),
            ("a-b.yaml", &pod("other/site:1")),
        ],
    ];
    for edit in edits {
        sandbox.person(edit, "next");
        commits.push(mirror.fetch().unwrap().commit);
    }
    let fresh: Vec<RepoSnapshot> = commits
        .iter()
        .map(|commit| {
            let folder = tempfile::tempdir().unwrap();
            read(
                &mirror,
                *commit,
                folder.path(),
                &mut SnapshotCache::default(),
            )
        })
        .collect();
    let counts: Vec<_> = fresh
        .iter()
        .map(|world| (world.declared.policies.len(), world.files.len()))
        .collect();
    assert_eq!(
        counts,
        [
            (1, 1),
            (1, 1),
            (2, 2),
            (2, 3),
            (2, 2),
            (2, 2),
            (2, 1),
            (2, 3)
        ]
    );

    let folder = tempfile::tempdir().unwrap();
    let mut memory = SnapshotCache::default();
    let mut held = None;
    for from in 0..commits.len() {
        for to in 0..commits.len() {
            for at in [from, to] {
                let world = read(&mirror, commits[at], folder.path(), &mut memory);
                assert_eq!(world.commit, commits[at]);
                assert_eq!(world.files, fresh[at].files, "{from} {to}");
                assert_eq!(
                    format!("{:?}", world.declared),
                    format!("{:?}", fresh[at].declared),
                    "{from} {to}"
                );
                // Half of the snapshots are still held while the next is read.
                held = (to % 2 == 0).then_some(world);
            }
        }
    }
    drop(held);
}

/// A missing folder must differ from an empty one, because objects that are no longer declared may
/// be deleted.
#[test]
fn snapshot_missing_policies_folder_is_an_error() {
    let web = policy("web", "team/web");
    let sandbox = Sandbox::new(&[("policies/web.yaml", &web), ("plain", "a file\n")]);
    let mirror = sandbox.mirror("m");
    let (commit, folder) = (mirror.fetch().unwrap().commit, tempfile::tempdir().unwrap());
    let mut memory = SnapshotCache::default();
    let read = |commit, policies, memory: &mut SnapshotCache| {
        update::read(
            &mirror,
            commit,
            &Some(policies).into(),
            folder.path(),
            memory,
        )
    };
    let declared =
        |memory: &SnapshotCache| memory.declared().map(|declared| declared.policies.len());
    assert_eq!(
        read(commit, "policies", &mut memory)
            .unwrap()
            .0
            .declared
            .policies
            .len(),
        1
    );
    sandbox.person(&[("x.yaml", "a: 1\n")], "next");
    let next = mirror.fetch().unwrap().commit;
    for wrong in ["policy", "policies/web", "plain"] {
        let error = read(next, wrong, &mut memory).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error
                .to_string()
                .contains(&format!("has no folder {wrong:?}"))
                && error.hint().is_some(),
            "{error}"
        );
        assert_eq!(declared(&memory), Some(1), "the earlier declarations stay");
    }
    assert_eq!(
        read(next, "policies", &mut memory)
            .unwrap()
            .0
            .declared
            .policies
            .len(),
        1
    );
}

/// A tenant's limits refuse the commit, or the one file, and say why.
#[test]
fn snapshot_limits_of_a_tenant_are_named() {
    let (web, large) = (policy("web", "team/web"), policy("db", "team/db"));
    let large = format!("{large}# {}\n", "x".repeat(2000));
    let files = [
        ("policies/web.yaml", web.as_str()),
        ("policies/large.yaml", &large),
    ];
    let sandbox = Sandbox::new(&files);
    let mirror = sandbox.mirror("m");
    let (commit, folder) = (mirror.fetch().unwrap().commit, tempfile::tempdir().unwrap());
    let scope = |limits: &str| {
        let text = format!(
            "repositories:\n- url: https://git.example.org/team\n  tenant: {{namespaces: [team], limits: {{{limits}}}}}\n"
        );
        let (settings, _) = settings::read("tagboat.yaml", &text).unwrap();
        DeclarationScope::from(&settings.repositories[0])
    };
    let read = |limits: &str| {
        let mut memory = SnapshotCache::default();
        update::read(&mirror, commit, &scope(limits), folder.path(), &mut memory)
    };
    // The folder counts, too.
    let (world, _) = read("files: 3, fileSize: 1Mi").unwrap();
    assert_eq!(world.declared.policies.len(), 2);
    let error = read("files: 2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error
            .to_string()
            .ends_with("a commit has more than 2 files and folders (tenant.limits.files)"),
        "{error}"
    );
    let (world, _) = read("fileSize: 1Ki").unwrap();
    let mistakes: Vec<String> = world
        .declared
        .mistakes
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        mistakes.len() == 1
            && mistakes[0].contains("policies/large.yaml")
            && mistakes[0].contains("more than 1024 (tenant.limits.fileSize)"),
        "{mistakes:?}"
    );
    assert_eq!(world.declared.policies.len(), 1, "the other file counts");
}
