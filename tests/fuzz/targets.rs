//! Functions that read input of others, for the fuzzer and for the tests that replay its corpus.
//!
//! A target ends for every input: it never panics, and never takes time or memory out of
//! proportion. Where a property holds for all inputs, it is asserted.

use std::{
    collections::BTreeSet,
    io::{self, Cursor},
};
use tagboat::{
    core::{
        image::{ImageRepository, Tag, TagList},
        yaml,
    },
    images::{
        references::{FileKind, Findings, Needles, YamlFile, find},
        rewrite::{Choices, DigestReflection, RewriteDecision, UpdateDirection, apply, rewrite},
    },
    io::registry::{InvalidNames, read_page},
    objects::manifest::Manifests,
    review::{Marker, MarkerKey, MarkerSubject},
    spec::{self, settings},
};

/// A target, by name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets. Their corpora are `corpus/NAME`.
pub(crate) const TARGETS: &[Target] = &[
    ("declarations", declarations),
    ("markers", markers),
    ("manifests", manifests),
    ("tag-lists", tag_lists),
    ("pull-requests", pull_requests),
    ("advertisements", advertisements),
];

/// Declarations of a config repository, and `tagboat.yaml`.
pub(crate) fn declarations(input: &[u8]) {
    let declared = spec::read([("a.yaml", input)], Some("main"));
    assert!(
        declared.mistakes.len() <= input.len() + 1,
        "findings are bounded by the input"
    );
    if let Ok(text) = std::str::from_utf8(input) {
        drop(settings::read("tagboat.yaml", text));
    }
}

/// References and markers in files, and their rewriting. The first byte chooses kind and policies.
///
/// What is found survives the index; an edit changes nothing else, and a second rewrite nothing.
pub(crate) fn markers(input: &[u8]) {
    let Some((&flags, source)) = input.split_first() else {
        return;
    };
    let kinds = [FileKind::Yaml, FileKind::Kustomization, FileKind::Json];
    let kind = kinds[usize::from(flags >> 4) % kinds.len()];
    let choices = choices(flags);
    let found = find(kind, source);
    assert_eq!(Findings::decode(&found.encode()).as_ref(), Ok(&found));
    let _ = Findings::decode(source);
    let needles = Needles::new(&repositories());
    drop(YamlFile::new(kind, source).watched_findings(&needles));
    let outcome = rewrite(source, &found.references, &choices);
    if outcome.edits.is_empty() {
        return;
    }
    let ranges = outcome.edits.windows(2);
    for pair in ranges {
        assert!(pair[0].range.end <= pair[1].range.start, "{pair:?}");
    }
    let after = apply(source, &outcome.edits);
    let again = rewrite(&after, &find(kind, &after).references, &choices);
    assert!(again.edits.is_empty(), "a second rewrite edits again");
    let text = |bytes| std::str::from_utf8(bytes).expect("an edited file is text");
    let (before, after) = (yaml::parse(text(source)), yaml::parse(text(&after)));
    let (before, after) = (before.expect("edited"), after.expect("still YAML"));
    assert_eq!(before.nodes().len(), after.nodes().len());
    let nodes = before.nodes().zip(after.nodes());
    let changed = nodes.filter(|(old, new)| old.value() != new.value());
    assert!(changed.count() <= outcome.edits.len());
}

fn repositories() -> Vec<ImageRepository> {
    ["a/b", "ghcr.io/acme/web"]
        .map(|text| ImageRepository::new(text).expect("a repository"))
        .to_vec()
}

fn choices(flags: u8) -> Choices<'static> {
    let mut choices = Choices::new(flags & 1 == 0);
    for (policy, repository) in ["ns/n", "apps/web"].into_iter().zip(repositories()) {
        choices.add(RewriteDecision {
            policy: policy.parse().expect("a name"),
            repository,
            tag: Tag::new("1.10").expect("a tag"),
            digest: None,
            digest_reflection: DigestReflection::Never,
            unpin: flags & 2 == 0,
            allow_downgrade: false,
            compare: Box::new(|_| UpdateDirection::Newer),
        });
    }
    choices
}

/// Manifests of Kubernetes objects.
pub(crate) fn manifests(input: &[u8]) {
    for name in ["a.yaml", "a.json"] {
        let mut manifests = Manifests::default();
        manifests.read(name, input);
        manifests.find_duplicates();
    }
}

/// Pages of tag lists: every tag is one by grammar.
pub(crate) fn tag_lists(input: &[u8]) {
    let (mut tags, mut refused) = (TagList::new(), InvalidNames::default());
    let _ = read_page(input, &mut tags, &mut refused);
    let unique: BTreeSet<&str> = tags.iter().collect();
    assert!(unique.len() <= input.len());
}

/// Texts of pull requests: no text is signed by a key that did not sign it.
pub(crate) fn pull_requests(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let key = MarkerKey::new(&[7; 32]);
    let subject = MarkerSubject {
        repository: "acme/fleet",
        head: "tagboat/dev",
        author: "tagboat[bot]",
        number: Some(7),
    };
    assert!(!key.has_signed(subject, text), "nobody has this key");
    if let Ok(Some(marker)) = Marker::read(text) {
        let written = marker.write(60_000, Some((&key, subject)));
        assert!(key.has_signed(subject, &written));
        assert!(!written[4..written.len() - 3].contains("-->"), "{written}");
        let read = Marker::read(&written).expect("our own text");
        assert!(read.is_some());
    }
}

/// What a Git server says first: capabilities and references.
pub(crate) fn advertisements(input: &[u8]) {
    use gix_transport::{
        Protocol, Service,
        client::{
            blocking_io::Transport as _,
            git::{ConnectMode, blocking_io::Connection},
        },
    };
    let mut connection = Connection::new(
        Cursor::new(input.to_vec()),
        io::sink(),
        Protocol::V2,
        "fleet.git",
        None::<(&str, Option<u16>)>,
        ConnectMode::Process,
        false,
    );
    // The references of version 0 are left out: gix-protocol 0.68 panics on a `symref` of a name
    // that is not listed, which `Mirror` turns into an error.
    if let Ok(answer) = connection.handshake(Service::UploadPack, &[]) {
        let names = answer.capabilities.iter().map(|one| one.name().len());
        // A server that names none is given those of the oldest.
        assert!(names.sum::<usize>() <= input.len() + 100);
    }
}
