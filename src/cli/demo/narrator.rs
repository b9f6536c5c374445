//! The steps of the demo: a heading, the command that a user would type, its output, and checks.

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

/// Columns of a line, so that it fits common terminals and a page with a margin.
const WIDTH: usize = 92;

/// The reason why the story ends early.
#[derive(Debug)]
pub(super) enum StoryEnd {
    /// The reader has closed the pipe.
    Closed,
    /// A check failed, or the servers could not be set up.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for StoryEnd {
    fn from(failure: F) -> Self {
        StoryEnd::Failed(failure.into())
    }
}

/// A step of the story.
#[derive(Debug, Default)]
pub(super) struct StoryStep {
    title: &'static str,
    time: Option<Timestamp>,
    text: Vec<String>,
    command: Option<String>,
    pass: Option<PassSummary>,
    is_plan: bool,
    output: Vec<String>,
    checks: Vec<String>,
    /// The first check that failed.
    failed: Option<String>,
    /// Statuses and log lines, collected when a check has failed.
    evidence: Vec<String>,
}

impl StoryStep {
    /// A step at a time of the story.
    pub(super) fn new(title: &'static str, time: Timestamp) -> Self {
        Self {
            title,
            time: Some(time),
            ..Self::default()
        }
    }

    /// A step without a time: a command and its output.
    pub(super) fn show(
        title: &'static str,
        command: impl Into<String>,
        output: Vec<String>,
    ) -> Self {
        Self {
            title,
            command: Some(command.into()),
            output,
            ..Self::default()
        }
    }

    /// Adds a line of text.
    pub(super) fn say(mut self, line: impl Into<String>) -> Self {
        self.text.push(line.into());
        self
    }

    /// Sets the command that a user would type.
    pub(super) fn command(self, command: impl Into<String>) -> Self {
        Self {
            command: Some(command.into()),
            ..self
        }
    }

    /// Adds lines of output.
    pub(super) fn output(mut self, lines: Vec<String>) -> Self {
        self.output.extend(lines);
        self
    }

    /// Shows the output of `tagboat plan`.
    pub(super) fn plan(self, report: &PassReport) -> Self {
        let step = Self {
            is_plan: true,
            ..self.command("tagboat plan")
        };
        step.report(report, &["dev", "prod"])
    }

    /// Shows the output of `tagboat run --once` for these Environments, and its commits.
    pub(super) fn pass(self, report: &PassReport, environments: &[&str]) -> Self {
        self.command("tagboat run --once")
            .report(report, environments)
    }

    fn report(self, report: &PassReport, environments: &[&str]) -> Self {
        let mut pass = PassSummary::from(report);
        let is_clean =
            pass.failures.is_empty() && pass.diagnostics.is_empty() && pass.warnings.is_empty();
        pass.environments
            .retain(|environment| environments.contains(&environment.name.as_str()));
        let step = self.check(is_clean, "");
        Self {
            pass: Some(pass),
            ..step
        }
    }

    /// Checks that a tag was refused for a reason with these words, and shows the reason.
    pub(super) fn check_refused(
        self,
        environment: Option<&EnvironmentReport>,
        policy: &str,
        tag: &str,
        words: &str,
    ) -> Self {
        let policies = environment.map_or(&[][..], |environment| &environment.policies);
        let reason = policies
            .iter()
            .filter(|report| report.name.to_string() == policy)
            .flat_map(|report| &report.refused)
            .find(|refused| refused.tag == tag)
            .map(|refused| &refused.reason);
        let name = environment.map_or("", |environment| environment.name.as_str());
        match reason {
            Some(reason) if reason.contains(words) => {
                self.check(true, format!("{name} does not get {tag}: it {reason}"))
            }
            other => self.check(
                false,
                format!("{name} refuses {tag} because it {words} (the reason is {other:?})"),
            ),
        }
    }

    /// Checks a statement and shows it; an empty one is checked and not shown. The demo is its own
    /// test.
    pub(super) fn check(mut self, is_true: bool, statement: impl Into<String>) -> Self {
        let mut statement = statement.into();
        if is_true {
            self.checks
                .extend(Some(statement).filter(|text| !text.is_empty()));
        } else {
            if statement.is_empty() {
                statement = "no server fails and no file is invalid".to_owned();
            }
            self.failed.get_or_insert(statement);
        }
        self
    }

    /// Adds evidence, if a check failed.
    pub(super) fn evidence(mut self, collect: impl FnOnce() -> Vec<String>) -> Self {
        if self.failed.is_some() {
            self.evidence = collect();
        }
        self
    }
}

/// Prints steps, or collects them for JSON.
pub(super) struct Narrator<'s> {
    screen: &'s mut Screen,
    steps: Vec<Value>,
}

impl<'s> Narrator<'s> {
    pub(super) fn new(screen: &'s mut Screen) -> Self {
        Self {
            screen,
            steps: Vec::new(),
        }
    }

    pub(super) fn has_color(&self) -> bool {
        self.screen.has_color()
    }

    /// Prints text between the steps, which JSON does not contain.
    ///
    /// # Errors
    /// If the reader has closed the pipe.
    pub(super) fn say(&mut self, text: &str) -> Result<(), StoryEnd> {
        if self.screen.is_json() || self.screen.try_print(text) {
            Ok(())
        } else {
            Err(StoryEnd::Closed)
        }
    }

    /// Prints a step.
    ///
    /// # Errors
    /// If one of its checks failed, or the reader has closed the pipe.
    pub(super) fn tell(&mut self, step: StoryStep) -> Result<(), StoryEnd> {
        let number = self.steps.len() + 1;
        let text = self.render(number, &step);
        let printed = self.say(&text);
        let StoryStep { title, failed, .. } = step;
        self.steps.push(json!({
            "step": number,
            "title": title,
            "time": step.time,
            "text": step.text,
            "command": step.command,
            "pass": step.pass,
            "output": step.output,
            "checks": step.checks,
            "failed": failed,
        }));
        let Some(failed) = failed else {
            return printed;
        };
        let mut message = format!("step {number} ({title}): this is not true: {failed}");
        if !step.evidence.is_empty() {
            message.push_str("; observed:\n");
            message.push_str(&step.evidence.join("\n"));
        }
        Err(StoryEnd::Failed(
            Failure::new(ErrorKind::Bug, message).hint(
                "Report this as a bug of tagboat, unless another program on this machine \
                 disturbed the demo's servers.",
            ),
        ))
    }

    /// Returns the steps so far.
    pub(super) fn into_steps(self) -> Vec<Value> {
        self.steps
    }

    fn render(&self, number: usize, step: &StoryStep) -> String {
        let mut page = Screen::buffer(self.has_color());
        heading(number, step, &mut page);
        for line in &step.text {
            page.line(line);
        }
        if let Some(command) = &step.command {
            page.line(page.paint(Color::Cyan, format_args!("$ {command}")));
        }
        match &step.pass {
            Some(pass) if step.is_plan => print::pass(pass, Detail::Reasons, &mut page),
            Some(pass) => {
                print::pass(pass, Detail::Results, &mut page);
                commits(pass, &mut page);
            }
            None => {}
        }
        for line in &step.output {
            page.line(line);
        }
        for check in &step.checks {
            page.line(format_args!("{} {check}", page.paint(Color::Green, "✓")));
        }
        if let Some(failed) = &step.failed {
            page.line(format_args!("{} {failed}", page.paint(Color::Red, "✗")));
        }
        let text = page.into_text();
        text.lines().map(|line| wrap(line) + "\n").collect()
    }
}

fn heading(number: usize, step: &StoryStep, page: &mut Screen) {
    let heading = format!("{number}. {}", step.title);
    let title = page.paint(Color::Bold, &heading);
    match step.time {
        Some(time) => {
            let time = time.strftime("%a %e %b, %H:%M").to_string();
            let gap = WIDTH.saturating_sub(heading.chars().count() + time.len());
            let gap = " ".repeat(gap.max(2));
            let time = page.paint(Color::Dim, time);
            page.line(format_args!("\n{title}{gap}{time}"));
        }
        None => page.line(format_args!("\n{title}")),
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
        let command = format!("$ git show {}", &id[..id.len().min(7)]);
        page.line(page.paint(Color::Cyan, command));
        for line in commit.message.trim_end().lines() {
            page.line(format!("    {line}").trim_end());
        }
        print::diffs(&commit.files, page);
    }
}

/// Breaks a line at blanks after [`WIDTH`] columns and indents the rest. Colours take no columns.
fn wrap(line: &str) -> String {
    let indent = line.len() - line.trim_start().len() + 4;
    let mut wrapped = String::new();
    let mut column = 0;
    let mut in_escape = false;
    for word in line.split_inclusive(' ') {
        let mut width = 0;
        for c in word.trim_end().chars() {
            match (in_escape, c) {
                (false, '\x1b') => in_escape = true,
                (true, 'm') => in_escape = false,
                (true, _) => {}
                (false, _) => width += 1,
            }
        }
        if column + width > WIDTH && column > indent {
            wrapped.truncate(wrapped.trim_end().len());
            wrapped.push('\n');
            wrapped.push_str(&" ".repeat(indent));
            column = indent;
        }
        wrapped.push_str(word);
        column += width + (word.len() - word.trim_end().len());
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrap_breaks_long_lines_at_blanks() {
        let mut words = vec!["  word".to_owned()];
        words.extend((0..40).map(|n| format!("w{n}")));
        let words = words.join(" ");
        let wrapped = wrap(&words);
        let lines: Vec<&str> = wrapped.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert!(lines[1].starts_with("      w"), "{lines:?}");
        let joined = format!("{} {}", lines[0].trim(), lines[1].trim());
        assert_eq!(joined, words.trim());
        let long_word = "y".repeat(200);
        assert_eq!(wrap(&long_word), long_word);
    }

    #[test]
    fn wrap_does_not_count_colours() {
        let colored = format!("\x1b[32m{}\x1b[0m", "x ".repeat(WIDTH / 2 - 1));
        assert_eq!(wrap(&colored), colored);
    }
}
