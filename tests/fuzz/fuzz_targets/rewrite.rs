//! Finding and rewriting of arbitrary bytes: no panic, no edit outside of the file, and a second
//! rewrite changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tagboat::{core::{image::{ImageRepository, Tag}, yaml}, images::{references::{FileKind, Findings, find}, rewrite::{Choices, RewriteDecision, DigestReflection, UpdateDirection, apply, rewrite}}};

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, source) = (if input.0 & 1 == 0 { FileKind::Yaml } else { FileKind::Kustomization }, input.1);
    let mut choices = Choices::new(input.0 & 2 == 0);
    for (policy, repository) in [("ns/n", "a/b"), ("default/m", "ghcr.io/x/y")] {
        choices.add(RewriteDecision {
            policy: policy.parse().expect("a name"),
            repository: ImageRepository::new(repository).expect("a repository"),
            tag: Tag::new("1.10").expect("a tag"),
            digest: None,
            digest_reflection: DigestReflection::Never,
            unpin: input.0 & 4 == 0,
            allow_downgrade: false,
            compare: Box::new(|_| UpdateDirection::Newer),
        });
    }
    let found = find(kind, source);
    assert_eq!(Findings::decode(&found.encode()).as_ref(), Ok(&found));
    let _ = Findings::decode(source);
    let outcome = rewrite(source, &found.references, &choices);
    if outcome.edits.is_empty() {
        return;
    }
    assert!(outcome.edits.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
    let after = apply(source, &outcome.edits);
    let (before, later) = (std::str::from_utf8(source).expect("edited"), std::str::from_utf8(&after).expect("still UTF-8"));
    let (before, later) = (tagboat::core::yaml::parse(before).expect("edited"), tagboat::core::yaml::parse(later).expect("still YAML"));
    assert_eq!(before.nodes().len(), later.nodes().len());
    let changed = before.nodes().zip(later.nodes()).filter(|(old, new)| old.value() != new.value()).count();
    assert!(changed <= outcome.edits.len());
    assert!(rewrite(&after, &find(kind, &after).references, &choices).edits.is_empty(), "a second rewrite edits again");
});
