use super::*;
use crate::{io::git::has_trailer, review::TRAILER};

fn outcome(reverted: usize) -> RollbackOutcome {
    let one = |n: usize| RevertedCommit {
        commit: format!("{n:040x}"),
        subject: "Tagboat-Update: dev".to_owned(),
        author: "Ann".to_owned(),
    };
    RollbackOutcome {
        application: "dev/podinfo".parse().unwrap(),
        path: "envs/dev/podinfo".to_owned(),
        commit: None,
        from: "f".repeat(40),
        to: format!("1a2b3c4d5e{}", "0".repeat(30)),
        files: Vec::new(),
        kept: Vec::new(),
        reverted: (0..reverted).map(one).collect(),
        outside: Vec::new(),
        held: Vec::new(),
        suspended: false,
        warnings: Vec::new(),
    }
}

#[test]
fn rollback_message_has_no_trailer() {
    let text = message(&outcome(2));
    assert_eq!(
        text,
        "Roll back dev/podinfo to 1a2b3c4d5e\n\n\
         envs/dev/podinfo is as it was at 1a2b3c4d5e000000000000000000000000000000.\n\
         Before this commit the branch was at ffffffffffffffffffffffffffffffffffffffff.\n\n\
         Undone:\n- 0000000000 Tagboat-Update: dev\n- 0000000000 Tagboat-Update: dev\n\n\
         By `tagboat rollback dev/podinfo --to 1a2b3c4d5e`.\n"
    );
    for count in [0, 1, 2, 50] {
        let text = message(&outcome(count));
        assert!(!has_trailer(text.as_bytes(), TRAILER), "{text}");
        assert!(text.lines().count() < 40, "{text}");
    }
}

#[test]
fn is_below_compares_whole_segments() {
    for (path, folder, below) in [
        ("a", "a", true),
        ("a/b", "a", true),
        ("ab", "a", false),
        ("", "a", false),
        ("x", "", true),
    ] {
        assert_eq!(is_below(path, folder), below, "{path} {folder}");
    }
}
