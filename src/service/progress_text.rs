//! The progress of Applications as a few lines.

use crate::{core::text::escape_control, reconcile::ApplicationStatus};

/// The most unfinished Applications shown; of the others only the number.
const MAX_APPLICATIONS: usize = 6;
/// The most objects shown of each.
const MAX_OBJECTS: usize = 3;
/// The most characters of a line, so that it stays one line beside the spinner on a terminal of
/// eighty columns.
const MAX_WIDTH: usize = 76;

/// Returns a line with the count of finished Applications, and below it the unfinished ones, each
/// with the objects that are not healthy yet.
pub(super) fn lines(
    statuses: &[ApplicationStatus],
    is_done: impl Fn(&ApplicationStatus) -> bool,
) -> String {
    let busy: Vec<&ApplicationStatus> = statuses.iter().filter(|status| !is_done(status)).collect();
    let done = statuses.len() - busy.len();
    let mut lines = vec![format!("{done} of {} done", statuses.len())];
    for status in busy.iter().take(MAX_APPLICATIONS) {
        let healthy = match status.objects {
            0 => String::new(),
            objects => format!(
                ", {} of {objects} objects healthy",
                objects.saturating_sub(status.unhealthy.len())
            ),
        };
        lines.push(format!(
            "  {} on {}: {}{healthy}",
            status.application, status.cluster, status.state
        ));
        let messages: Vec<_> = status.problems.iter().chain(&status.unhealthy).collect();
        let shown = messages.iter().take(MAX_OBJECTS);
        lines.extend(shown.map(|message| format!("    {message}")));
        if messages.len() > MAX_OBJECTS {
            lines.push(format!("    and {} more", messages.len() - MAX_OBJECTS));
        }
    }
    if busy.len() > MAX_APPLICATIONS {
        lines.push(format!("  and {} more", busy.len() - MAX_APPLICATIONS));
    }
    let shortened =
        |line: &String| -> String { escape_control(line).chars().take(MAX_WIDTH).collect() };
    lines.iter().map(shortened).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::{ApplicationState, Message};

    fn status(name: &str, observed: bool, unhealthy: &[&str]) -> ApplicationStatus {
        let message = |message: &&str| Message {
            object: Some("Deployment dev/web".into()),
            place: None,
            message: (*message).into(),
            hint: None,
        };
        ApplicationStatus {
            revision: Some("0".repeat(40)),
            state: if observed {
                ApplicationState::Synced
            } else {
                ApplicationState::Progressing
            },
            objects: 4,
            unhealthy: unhealthy.iter().map(message).collect(),
            observed,
            ..ApplicationStatus::new(name.parse().unwrap(), "fleet", "test")
        }
    }

    #[test]
    fn progress_names_unhealthy_objects() {
        let statuses = [
            status("dev/api", true, &[]),
            status(
                "dev/web",
                false,
                &["InProgress: 1 of 3 are updated", "Failed: \u{1b}[2J"],
            ),
            ApplicationStatus {
                objects: 0,
                ..status("dev/job", false, &[])
            },
        ];
        assert_eq!(
            lines(&statuses, |status| status.observed),
            "1 of 3 done\n\
             \x20 dev/web on test: progressing, 2 of 4 objects healthy\n\
             \x20   Deployment dev/web: InProgress: 1 of 3 are updated\n\
             \x20   Deployment dev/web: Failed: \\u{1b}[2J\n\
             \x20 dev/job on test: progressing"
        );
    }

    #[test]
    fn progress_of_many_is_bounded() {
        let many: Vec<ApplicationStatus> = (0..100)
            .map(|n| status(&format!("dev/a{n}"), false, &["x".repeat(500).as_str(); 9]))
            .collect();
        let text = lines(&many, |status| status.observed);
        assert!(text.ends_with("    and 6 more\n  and 94 more"), "{text}");
        let height = 2 + MAX_APPLICATIONS * (MAX_OBJECTS + 2);
        assert_eq!(text.lines().count(), height, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= MAX_WIDTH));
    }
}
