use super::*;

fn check(name: &str, state: CheckState) -> Check {
    Check {
        name: name.to_owned(),
        state,
        required: false,
        url: None,
        at: None,
        app: None,
    }
}

#[test]
fn checks_state_is_the_worst_reported() {
    use CheckState::{Failed, Passed, Pending, Skipped};
    for (states, expected) in [
        (vec![], ChecksState::None),
        (vec![Skipped], ChecksState::None),
        (vec![Passed, Skipped], ChecksState::Passed),
        (vec![Passed, Pending], ChecksState::Pending),
        (vec![Pending, Failed, Passed], ChecksState::Failed),
    ] {
        let checks = Checks::of(states.iter().map(|state| check("c", *state)).collect());
        assert_eq!(checks.state, expected, "{states:?}");
    }
}

#[test]
fn checks_missing_required_is_pending() {
    let mut named = vec![check("build", CheckState::Passed)];
    Checks::require(
        &mut named,
        &["build".to_owned(), "lint".to_owned()],
        |word, name| word == name,
    );
    let checks = Checks::of(named);
    assert_eq!(checks.state, ChecksState::Pending);
    assert!(checks.named.iter().all(|check| check.required));
    assert_eq!(
        checks.without(|check| check.name == "lint").state,
        ChecksState::Passed
    );
}

#[test]
fn reviewers_parse_users_and_teams() {
    for (text, expected) in [
        ("ann", RequestedReviewer::User("ann".into())),
        ("@ann", RequestedReviewer::User("ann".into())),
        (
            "team/platform",
            RequestedReviewer::Team {
                owner: None,
                name: "platform".into(),
            },
        ),
        (
            "acme/platform",
            RequestedReviewer::Team {
                owner: Some("acme".into()),
                name: "platform".into(),
            },
        ),
        (
            "acme/sub/platform",
            RequestedReviewer::Team {
                owner: Some("acme/sub".into()),
                name: "platform".into(),
            },
        ),
    ] {
        assert_eq!(RequestedReviewer::parse(text), expected, "{text}");
    }
}

#[test]
fn text_is_cut_at_a_character() {
    assert_eq!(cut("aäö", 3), "aäö");
    assert_eq!(cut("aäöü", 3), "aä…");
}
