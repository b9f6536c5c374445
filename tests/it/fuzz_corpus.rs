//! The inputs of the fuzzer's corpus, and the large ones of reports, each within its bounds.

use std::{fs, path::Path, time::Instant};

#[path = "../fuzz/targets.rs"]
mod targets;

#[test]
fn fuzz_corpus_is_read_without_a_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let folder = fs::read_dir(corpus.join(name)).unwrap();
        let mut count = 0;
        for entry in folder {
            target(&fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "{name} has no corpus");
    }
}

/// Inputs that took minutes or gigabytes once. The test's own time limit is generous: what grows
/// with the square of these takes hours.
#[test]
fn fuzz_targets_take_large_inputs_in_proportion() {
    let many = |unit: &str, count: usize| unit.repeat(count).into_bytes();
    let marker = "image: ghcr.io/acme/web:1.0.0 # {\"$imagepolicy\": \"apps:web\"}\n";
    let inputs: Vec<(&str, Vec<u8>)> = vec![
        ("markers", many(marker, 20_000)),
        (
            "markers",
            many("# {\"$imagepolicy\": \"apps:web\"}\n", 50_000),
        ),
        ("manifests", many("- ", 50_000)),
        ("manifests", many("[", 100_000)),
        ("manifests", many("---\n", 50_000)),
        ("declarations", many("---\nkind: ImagePolicy\n", 5_000)),
        ("declarations", many("&a [*a, ", 20_000)),
        ("tag-lists", many("{\"tags\":", 20_000)),
        ("pull-requests", many("<!-- tagboat ", 50_000)),
        ("advertisements", many("0005a", 100_000)),
    ];
    for (name, input) in inputs {
        let (_, target) = targets::TARGETS
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap();
        // The markers' first byte chooses the kind of the file.
        let input = match name {
            "markers" => [b"\0", input.as_slice()].concat(),
            _ => input,
        };
        let begun = Instant::now();
        target(&input);
        assert!(
            begun.elapsed().as_secs() < 60,
            "{name}: {} bytes took {:?}",
            input.len(),
            begun.elapsed()
        );
    }
}
