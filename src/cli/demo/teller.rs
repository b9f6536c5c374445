//! How a step of the story is told: a heading, the command a user would type, its answer, and what
//! was checked.

use crate::{
    cli::{
        Screen,
        print::{self, Detail},
        screen::Color,
    },
    core::error::ErrorKind,
    service::{Failure, pass_summary::PassSummary},
    update::{EnvironmentReport, PassReport},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of a line: fits the terminals that people open by default, with room for a margin of a
/// document.
const WIDTH: usize = 92;

/// Why the story is not told to its end.
#[derive(Debug)]
pub enum StoryEnd {
    /// Nobody reads any more.
    Closed,
    /// Something did not happen as told, or could not be set up.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for StoryEnd {
    fn from(failure: F) -> Self {
        StoryEnd::Failed(failure.into())
    }
}

/// One step, while it is put together.
#[derive(Debug, Default)]
pub struct StoryStep {
    title: &'static str,
    time: Option<Timestamp>,
    text: Vec<String>,
    command: Option<String>,
    report: Option<PassSummary>,
    diff: bool,
    printed: Vec<String>,
    checked: Vec<String>,
    untrue: Option<String>,
    instead: Vec<String>,
}

impl StoryStep {
    /// A step at a moment of the story.
    pub fn new(title: &'static str, time: Timestamp) -> Self {
        Self {
            title,
            time: Some(time),
            ..Self::default()
        }
    }

    /// A step at no moment of its own: a command, and the lines that it prints.
    pub fn look(title: &'static str, command: impl Into<String>, printed: Vec<String>) -> Self {
        Self {
            title,
            command: Some(command.into()),
            printed,
            ..Self::default()
        }
    }

    /// Adds a line of text.
    pub fn say(mut self, line: impl Into<String>) -> Self {
        self.text.push(line.into());
        self
    }

    /// The command that a user would type.
    pub fn run(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }

    /// Adds lines that a command prints.
    pub fn print(mut self, lines: Vec<String>) -> Self {
        self.printed.extend(lines);
        self
    }

    /// What `tagboat plan` answered.
    pub fn plan(self, report: &PassReport) -> Self {
        let step = Self {
            command: Some("tagboat plan".to_owned()),
            diff: true,
            ..self
        };
        step.report(report, &["dev", "prod"])
    }

    /// What `tagboat run --once` answered; only these Environments are shown. With commits, their
    /// diffs.
    pub fn pass(self, report: &PassReport, environments: &[&str]) -> Self {
        let step = Self {
            command: Some("tagboat run --once".to_owned()),
            ..self
        };
        step.report(report, environments)
    }

    fn report(mut self, report: &PassReport, environments: &[&str]) -> Self {
        let mut report = report.clone();
        self = self.check(
            report.failures.is_empty() && report.findings.is_empty() && report.warnings.is_empty(),
            "",
        );
        report
            .environments
            .retain(|environment| environments.contains(&environment.name.as_str()));
        self.report = Some(PassSummary::from(&report));
        self
    }

    /// Checks that a tag was refused with a reason that has these words, and tells the reason.
    pub fn refused(
        mut self,
        environment: Option<&EnvironmentReport>,
        policy: &str,
        tag: &str,
        words: &str,
    ) -> Self {
        let policies = environment.map_or(&[][..], |environment| &environment.policies);
        let rows = policies
            .iter()
            .filter(|row| row.name.to_string() == policy)
            .flat_map(|row| &row.refused);
        let reason = rows
            .filter(|row| row.tag == tag)
            .map(|row| row.reason.clone())
            .next();
        let place = environment.map_or("", |environment| environment.name.as_str());
        match reason {
            Some(reason) if reason.contains(words) => {
                self = self.check(true, format!("{place} does not get {tag}: it {reason}"))
            }
            other => {
                self = self.check(
                    false,
                    format!("{place} refuses {tag} because it {words} (the reason is {other:?})"),
                )
            }
        }
        self
    }

    /// Checks what is told: the demo is its own test. An empty text is checked and not told.
    pub fn check(mut self, is_true: bool, what: impl Into<String>) -> Self {
        let what = what.into();
        if !is_true {
            let what = if what.is_empty() {
                "nothing goes wrong at the servers or in the files".to_owned()
            } else {
                what
            };
            self.untrue.get_or_insert(what);
        } else if !what.is_empty() {
            self.checked.push(what);
        }
        self
    }

    /// Adds what was seen, if something is untrue.
    pub fn instead(mut self, seen: impl FnOnce() -> Vec<String>) -> Self {
        if self.untrue.is_some() {
            self.instead = seen();
        }
        self
    }
}

/// Tells steps on a screen, or collects them for JSON.
pub struct Narrator<'s> {
    screen: &'s mut Screen,
    steps: Vec<Value>,
}

impl<'s> Narrator<'s> {
    /// Tells on `screen`.
    pub fn new(screen: &'s mut Screen) -> Self {
        Self {
            screen,
            steps: Vec::new(),
        }
    }

    /// Whether it is told in colour.
    pub fn has_color(&self) -> bool {
        self.screen.has_color()
    }

    /// Text between the steps; JSON has none of it.
    pub fn say(&mut self, text: &str) -> Result<(), StoryEnd> {
        if self.screen.is_json() || self.screen.try_print(text) {
            Ok(())
        } else {
            Err(StoryEnd::Closed)
        }
    }

    /// Tells a step.
    ///
    /// # Errors
    /// If it is untrue, after it was told; or nobody reads any more.
    pub fn tell(&mut self, step: StoryStep) -> Result<(), StoryEnd> {
        let number = self.steps.len() + 1;
        let text = self.render(number, &step);
        let said = self.say(&text);
        let StoryStep {
            title,
            time,
            text,
            command,
            report,
            diff: _,
            printed,
            checked,
            untrue,
            instead,
        } = step;
        self.steps.push(json!({
            "step": number, "title": title, "time": time, "text": text, "command": command, "report": report, "printed": printed,
            "checked": checked, "failed": untrue,
        }));
        if let Some(untrue) = untrue {
            let seen = if instead.is_empty() {
                String::new()
            } else {
                format!("; seen was:\n{}", instead.join("\n"))
            };
            let message = format!(
                "step {number} ({title}) did not happen as told; untrue is: {untrue}{seen}"
            );
            return Err(StoryEnd::Failed(Failure::new(ErrorKind::Bug, message).hint(
                "Report this as a bug of tagboat, unless another program on this machine disturbed \
                 the demo's servers.",
            )));
        }
        said
    }

    /// The steps told so far.
    pub fn into_steps(self) -> Vec<Value> {
        self.steps
    }

    fn render(&self, number: usize, step: &StoryStep) -> String {
        let mut page = Screen::buffer(self.screen.has_color());
        let time = step.time.map_or(String::new(), |time| {
            time.strftime("%a %e %b, %H:%M").to_string()
        });
        let heading = format!("{number}. {}", step.title);
        let gap = WIDTH
            .saturating_sub(heading.chars().count() + time.len())
            .max(2);
        let time = if time.is_empty() {
            time
        } else {
            " ".repeat(gap) + &page.paint(Color::Dim, time)
        };
        page.line(format_args!(
            "\n{}{time}",
            page.paint(Color::Bold, &heading)
        ));
        for line in &step.text {
            page.line(line);
        }
        if let Some(command) = &step.command {
            page.line(page.paint(Color::Cyan, format_args!("$ {command}")));
        }
        if let Some(report) = &step.report {
            let detail = if step.diff {
                Detail::Reasons
            } else {
                Detail::Results
            };
            print::pass(report, detail, &mut page);
            if !step.diff {
                commits(report, &mut page);
            }
        }
        for line in &step.printed {
            page.line(line);
        }
        for checked in &step.checked {
            page.line(format_args!("{} {checked}", page.paint(Color::Green, "✓")));
        }
        if let Some(untrue) = &step.untrue {
            page.line(format_args!("{} {untrue}", page.paint(Color::Red, "✗")));
        }
        page.into_text()
            .lines()
            .map(|line| wrapped(line) + "\n")
            .collect()
    }
}

/// Prints the pushed commits as `git show` does.
fn commits(pass: &PassSummary, page: &mut Screen) {
    let commits = pass
        .environments
        .iter()
        .flat_map(|environment| &environment.commits);
    for commit in commits {
        let Some(id) = &commit.id else { continue };
        let command = format_args!("$ git show {}", &id[..id.len().min(7)]);
        page.line(page.paint(Color::Cyan, command));
        for line in commit.message.trim_end().lines() {
            page.line(format!("    {line}").trim_end());
        }
        print::diffs(&commit.files, page);
    }
}

/// A line of more than [`WIDTH`] columns, broken at its blanks; what follows is indented. Colours
/// take no columns.
fn wrapped(line: &str) -> String {
    let indent = line.len() - line.trim_start().len() + 4;
    let (mut out, mut column, mut colored) = (String::new(), 0, false);
    for word in line.split_inclusive(' ') {
        let mut width = 0;
        for c in word.trim_end().chars() {
            match (colored, c) {
                (false, '\x1b') => colored = true,
                (true, 'm') => colored = false,
                (true, _) => {}
                (false, _) => width += 1,
            }
        }
        if column + width > WIDTH && column > indent {
            out.truncate(out.trim_end().len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            column = indent;
        }
        out.push_str(word);
        column += width + (word.len() - word.trim_end().len());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_break_at_blanks_and_colours_take_no_columns() {
        let words = ["  word".to_owned()]
            .into_iter()
            .chain((0..40).map(|n| format!("w{n}")))
            .collect::<Vec<_>>()
            .join(" ");
        let lines: Vec<String> = wrapped(&words).lines().map(str::to_owned).collect();
        assert!(
            lines.len() == 2 && lines.iter().all(|line| line.chars().count() <= WIDTH),
            "{lines:?}"
        );
        assert!(lines[1].starts_with("      w"), "{lines:?}");
        assert_eq!(
            lines
                .iter()
                .map(|line| line.trim())
                .collect::<Vec<_>>()
                .join(" "),
            words.trim()
        );
        let colored = format!("\x1b[32m{}\x1b[0m", "x ".repeat(WIDTH / 2 - 1));
        assert_eq!(wrapped(&colored), colored);
        assert_eq!(
            wrapped(&"y".repeat(200)),
            "y".repeat(200),
            "a word is not broken"
        );
    }
}
