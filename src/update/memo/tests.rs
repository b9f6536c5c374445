//! Every input of a decision is compared: a memory that overlooks one decides wrongly.

use super::*;
use crate::{
    core::image::{Digest, ImageRepository, Tag, TagList},
    images::policy::{Chosen, HeldMove, MoveOrigin, holds},
    io::{
        registry::{Registries, RegistryTimeouts},
        store::Store,
    },
    spec,
    update::{
        EnvironmentState,
        evaluate::{RowInputs, policy_report},
    },
};
use std::collections::BTreeSet;

const NOW: &str = "2026-06-10T12:00:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn usage(spec: &str, present: &[&str]) -> Arc<PolicyUsage> {
    let file = format!(
        "apiVersion: tagboat.dev/v1alpha1\nkind: ImagePolicy\nmetadata: {{name: p}}\nspec: {{image: example.com/app, {spec}}}\n"
    );
    let declared = spec::read([("p.yaml", file.as_bytes())], None);
    assert!(declared.mistakes.is_empty(), "{:?}", declared.mistakes);
    Arc::new(PolicyUsage {
        policy: declared.policies.into_values().next().unwrap(),
        tags: present.iter().map(|tag| (*tag).to_owned()).collect(),
        digests: BTreeSet::new(),
    })
}

fn held(policy: &ImagePolicy) -> Holds {
    let moved = HeldMove {
        origin: MoveOrigin::Commit {
            id: "0123456789".to_owned(),
            author: "Ann".to_owned(),
        },
        time: at(NOW),
        by_bot: false,
        old: "1.1.0".to_owned(),
        new: "1.0.0".to_owned(),
        tag: None,
    };
    holds(policy, &[moved])
}

fn confirmed_tag(letter: char) -> TagFacts {
    TagFacts {
        digest: Digest::new(format!("sha256:{}", letter.to_string().repeat(64))).ok(),
        fresh: true,
        since: Some(at(NOW)),
        ..TagFacts::default()
    }
}

/// A decision in memory, and what it was made from.
struct RememberedCase {
    memory: PassMemory,
    scanner: Scanner,
    scan: RepositoryScan,
    usage: Arc<PolicyUsage>,
    holds: Holds,
    decision: PolicyDecision,
    _folder: tempfile::TempDir,
}

impl RememberedCase {
    fn of(spec: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(&folder.path().join("store.redb")).unwrap();
        let registries = Registries::new(Vec::new(), RegistryTimeouts::one_shot()).unwrap();
        let scanner = Scanner::new(Arc::new(registries), Arc::new(store));
        list(&scanner, &["1.0.0", "1.1.0"]);
        let usage = usage(spec, &["1.0.0"]);
        let mut scan = scanned(&scanner);
        scan.details.insert("1.1.0".to_owned(), confirmed_tag('a'));
        let remembered = Self {
            memory: PassMemory::default(),
            decision: PolicyDecision::Chosen(Chosen {
                tag: Tag::new("1.1.0").unwrap(),
                digest: None,
            }),
            holds: Holds::default(),
            scanner,
            scan,
            usage,
            _folder: folder,
        };
        let question = remembered.question();
        let (scan, decision) = (&remembered.scan, &remembered.decision);
        remembered.memory.keep_decision(&question, scan, decision);
        let row = PolicyReport {
            name: remembered.usage.policy.name.clone(),
            repository: image(),
            present: Vec::new(),
            chosen: None,
            digest: None,
            unlisted: Vec::new(),
            reason: None,
            refused: Vec::new(),
            free_at: None,
            held: Vec::new(),
            young: Vec::new(),
            unknown: false,
            suspended: false,
        };
        remembered.memory.keep_row(&question, scan, decision, &row);
        assert!(remembered.is_known(&question, scan));
        remembered
    }

    fn question(&self) -> MemoryQuestion<'_> {
        MemoryQuestion {
            environment: "dev",
            usage: &self.usage,
            holds: &self.holds,
            facts: facts_version(&self.usage.policy, &self.scanner),
            now: at(NOW),
        }
    }

    /// Asks for the decision and for the row of the report, which have the same inputs.
    fn is_known(&self, question: &MemoryQuestion<'_>, scan: &RepositoryScan) -> bool {
        let decision = self.memory.decision(question, scan).is_some();
        let row = self.memory.row(question, scan, &self.decision).is_some();
        assert_eq!(decision, row);
        decision
    }
}

fn image() -> ImageRepository {
    "example.com/app".parse().unwrap()
}

fn list(scanner: &Scanner, tags: &[&str]) {
    let tags: TagList = tags.iter().copied().collect();
    let store = &scanner.store;
    store.put_tags(&image(), &tags, None, at(NOW)).unwrap();
}

fn scanned(scanner: &Scanner) -> RepositoryScan {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let last = runtime.unwrap().block_on(scanner.last(&image()));
    last.unwrap().unwrap().0
}

const SEMVER: &str = "policy: {semver: {range: '*'}}";
const AGED: &str = "policy: {semver: {range: '*'}}, minimumAge: 2h";

#[test]
fn memory_same_inputs_give_the_decision() {
    for spec in [SEMVER, AGED, "policy: {newest: {}}"] {
        let remembered = RememberedCase::of(spec);
        // Declared again, by the same text at another place.
        let same = usage(spec, &["1.0.0"]);
        let question = MemoryQuestion {
            usage: &same,
            ..remembered.question()
        };
        assert!(remembered.is_known(&question, &remembered.scan), "{spec}");
    }
}

#[test]
fn memory_another_policy_text_decides_anew() {
    let remembered = RememberedCase::of(SEMVER);
    for spec in [
        "policy: {semver: {range: '<1.1.0'}}",
        "policy: {alphabetical: {}}",
        "policy: {semver: {range: '*'}}, platforms: [linux/arm64]",
        "policy: {semver: {range: '*'}}, minimumAge: 1h",
        "policy: {semver: {range: '*'}}, ignoreTags: [1.1.0]",
        "policy: {semver: {range: '*'}}, digestReflectionPolicy: Always",
        "policy: {semver: {range: '*'}}, suspend: true",
        "policy: {semver: {range: '*'}}, filterTags: {pattern: '0$'}",
        "policy: {semver: {range: '*'}}, filterTags: {pattern: '(.*)', extract: '$1'}",
        "policy: {semver: {range: '*'}}, filterTags: {exclude: ['^1.1']}",
    ] {
        let other = usage(spec, &["1.0.0"]);
        let question = MemoryQuestion {
            usage: &other,
            // So that nothing but the policy itself differs.
            facts: None,
            ..remembered.question()
        };
        assert!(!remembered.is_known(&question, &remembered.scan), "{spec}");
    }
}

#[test]
fn memory_other_present_values_decide_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let other = usage(SEMVER, &["1.1.0"]);
    let question = MemoryQuestion {
        usage: &other,
        ..remembered.question()
    };
    assert!(!remembered.is_known(&question, &remembered.scan));
    let mut pinned = PolicyUsage::clone(&remembered.usage);
    pinned.digests.insert("sha256:1".to_owned());
    let pinned = Arc::new(pinned);
    let question = MemoryQuestion {
        usage: &pinned,
        ..remembered.question()
    };
    assert!(!remembered.is_known(&question, &remembered.scan));
}

#[test]
fn memory_of_another_environment_decides_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let question = MemoryQuestion {
        environment: "prod",
        ..remembered.question()
    };
    assert!(!remembered.is_known(&question, &remembered.scan));
}

#[test]
fn memory_other_holds_decide_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let held = held(&remembered.usage.policy);
    let question = MemoryQuestion {
        holds: &held,
        ..remembered.question()
    };
    assert!(!remembered.is_known(&question, &remembered.scan));
    // Both decisions of a pass are remembered, with and without holds.
    let memory = &remembered.memory;
    memory.keep_decision(&question, &remembered.scan, &remembered.decision);
    assert!(memory.decision(&question, &remembered.scan).is_some());
    let free = remembered.question();
    assert!(memory.decision(&free, &remembered.scan).is_some());
}

#[test]
fn memory_another_tag_list_decides_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let details = remembered.scan.details.clone();
    let is_known = || {
        let mut scan = scanned(&remembered.scanner);
        scan.details = details.clone();
        remembered.is_known(&remembered.question(), &scan)
    };
    list(&remembered.scanner, &["1.0.0", "1.1.0"]);
    assert!(is_known());
    list(&remembered.scanner, &["1.0.0", "1.1.0", "1.2.0"]);
    assert!(!is_known());
    // The list is as it was; the times at which its tags appeared are not.
    list(&remembered.scanner, &["1.0.0", "1.1.0"]);
    assert!(!is_known());
}

#[test]
fn memory_another_confirmation_decides_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let question = remembered.question();
    let mut scan = remembered.scan.clone();
    scan.details.insert("1.1.0".to_owned(), confirmed_tag('b'));
    assert!(!remembered.is_known(&question, &scan));
    scan.details.clear();
    assert!(!remembered.is_known(&question, &scan));
    scan.details.insert("1.1.0".to_owned(), confirmed_tag('a'));
    assert!(remembered.is_known(&question, &scan));
    scan.details.insert("1.0.0".to_owned(), confirmed_tag('c'));
    assert!(!remembered.is_known(&question, &scan));
}

#[test]
fn memory_other_facts_of_the_store_decide_anew() {
    let plain = RememberedCase::of(SEMVER);
    let aged = RememberedCase::of(AGED);
    for remembered in [&plain, &aged] {
        let seen = [(
            Tag::new("1.0.0").unwrap(),
            confirmed_tag('d').digest.unwrap(),
        )];
        let store = &remembered.scanner.store;
        store.see(&image(), &seen, at(NOW)).unwrap();
    }
    assert!(
        plain.is_known(&plain.question(), &plain.scan),
        "goes by tags alone"
    );
    assert!(!aged.is_known(&aged.question(), &aged.scan));
}

#[test]
fn memory_ends_when_a_tag_is_old_enough() {
    let aged = RememberedCase::of(AGED);
    let is_known = |now: &str| {
        let question = MemoryQuestion {
            now: at(now),
            ..aged.question()
        };
        aged.is_known(&question, &aged.scan)
    };
    assert!(is_known("2026-06-10T13:59:59Z"));
    assert!(!is_known("2026-06-10T14:00:00Z"));
    assert!(!is_known("2026-06-10T11:59:59Z"), "the clock went back");
    let plain = RememberedCase::of(SEMVER);
    let question = MemoryQuestion {
        now: at("2030-01-01T00:00:00Z"),
        ..plain.question()
    };
    assert!(plain.is_known(&question, &plain.scan), "has no clock");
}

#[test]
fn memory_ends_when_a_date_is_believed() {
    let newest = RememberedCase::of("policy: {newest: {}}");
    let mut scan = newest.scan.clone();
    scan.believed_from = Some(at("2026-06-11T00:00:00Z"));
    let question = newest.question();
    newest
        .memory
        .keep_decision(&question, &scan, &newest.decision);
    let later = MemoryQuestion {
        now: at("2026-06-11T00:00:00Z"),
        ..question
    };
    assert!(newest.memory.decision(&question, &scan).is_some());
    assert!(newest.memory.decision(&later, &scan).is_none());
}

#[test]
fn memory_row_of_another_decision_is_made_anew() {
    let remembered = RememberedCase::of(SEMVER);
    let other = PolicyDecision::nothing("the digest is held");
    let (memory, scan) = (&remembered.memory, &remembered.scan);
    assert!(memory.row(&remembered.question(), scan, &other).is_none());
}

#[test]
fn memory_is_bounded() {
    let mut remembered = RememberedCase::of(SEMVER);
    remembered.memory.most_bytes = usize::MAX;
    for n in 0..MOST_POLICIES + 10 {
        let mut usage = PolicyUsage::clone(&remembered.usage);
        usage.policy.name = format!("p-{n}").parse().unwrap();
        let question = MemoryQuestion {
            usage: &Arc::new(usage),
            ..remembered.question()
        };
        let (scan, decision) = (&remembered.scan, &remembered.decision);
        remembered.memory.keep_decision(&question, scan, decision);
    }
    let kept = |memory: &PassMemory| -> usize {
        memory.lock().values().map(|one| one.policies.len()).sum()
    };
    assert_eq!(kept(&remembered.memory), MOST_POLICIES);
    remembered.memory.keep_only(&[], |name| name == "dev");
    assert_eq!(kept(&remembered.memory), MOST_POLICIES);
    remembered.memory.keep_only(&[], |_| false);
    assert_eq!(kept(&remembered.memory), 0);
    let mut scan = remembered.scan.clone();
    for n in 0..=MOST_CONFIRMED {
        scan.details.insert(format!("2.{n}"), confirmed_tag('a'));
    }
    assert!(remembered.question().inputs(&scan).is_none());
}

#[test]
fn memory_bytes_are_counted() {
    let mut remembered = RememberedCase::of(SEMVER);
    let held = |memory: &PassMemory| memory.lock()["dev"].bytes;
    let bytes = held(&remembered.memory);
    assert!(bytes > 2 * ENTRY_BYTES, "a decision and a row: {bytes}");
    // What is replaced is not counted twice.
    remembered.memory.most_bytes = bytes;
    let question = remembered.question();
    for _ in 0..3 {
        let (scan, decision) = (&remembered.scan, &remembered.decision);
        remembered.memory.keep_decision(&question, scan, decision);
    }
    assert_eq!(held(&remembered.memory), bytes);
    assert!(remembered.is_known(&question, &remembered.scan));
    let row = EnvironmentReport::new("dev", EnvironmentState::UpToDate);
    remembered.memory.keep_only(&[row], |_| true);
    assert_eq!(held(&remembered.memory), 0);
    assert!(!remembered.is_known(&question, &remembered.scan));
}

#[test]
fn memory_without_room_judges_again_alike() {
    let remembered = RememberedCase::of(AGED);
    let judged = |most_bytes: usize| {
        let memory = PassMemory {
            most_bytes,
            ..PassMemory::default()
        };
        let row = || {
            let inputs = RowInputs {
                environment: "dev",
                usage: &remembered.usage,
                decision: Some(&remembered.decision),
                holds: &remembered.holds,
                now: at(NOW),
            };
            let mut scan = remembered.scan.clone();
            policy_report(inputs, &memory, &remembered.scanner, Some(&mut scan)).unwrap()
        };
        let rows = (row(), row());
        assert_eq!(rows.0, rows.1);
        (rows.0, memory.work(0).explanations)
    };
    let (row, explanations) = judged(MOST_BYTES);
    assert_eq!(explanations, 1);
    assert_eq!(judged(100), (row, 2));
}
