//! How a step of the story is told: a heading, the command a user would type, its answer, and what was checked.

use crate::{
    cli::{Exit, Failure, Screen, screen::Color, show},
    update::Report,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Why the story is not told to its end.
#[derive(Debug)]
pub enum End {
    /// Nobody reads any more.
    Closed,
    /// Something did not happen as told, or could not be set up.
    Failed(Failure),
}

impl<F: Into<Failure>> From<F> for End {
    fn from(failure: F) -> Self {
        End::Failed(failure.into())
    }
}

/// One step, while it is put together.
#[derive(Debug, Default)]
pub struct Step {
    title: &'static str,
    time: Option<Timestamp>,
    text: Vec<String>,
    command: Option<&'static str>,
    report: Option<Report>,
    printed: Vec<String>,
    checked: Vec<String>,
    untrue: Option<String>,
}

impl Step {
    /// A step at a moment of the story.
    pub fn new(title: &'static str, time: Timestamp) -> Self {
        Self { title, time: Some(time), ..Self::default() }
    }

    /// A step at no moment of its own: a command, and the lines that it prints.
    pub fn look(title: &'static str, command: &'static str, printed: Vec<String>) -> Self {
        Self { title, command: Some(command), printed, ..Self::default() }
    }

    /// Adds a line of text.
    pub fn say(mut self, line: impl Into<String>) -> Self {
        self.text.push(line.into());
        self
    }

    /// The command, and what it answered; only these Environments are shown.
    pub fn answer(mut self, command: &'static str, report: &Report, environments: &[&str]) -> Self {
        let mut report = report.clone();
        self = self.check(report.failures.is_empty() && report.findings.is_empty() && report.warnings.is_empty(), "");
        report.environments.retain(|environment| environments.contains(&environment.name.as_str()));
        (self.command, self.report) = (Some(command), Some(report));
        self
    }

    /// Checks what is told: the demo is its own test. An empty text is checked and not told.
    pub fn check(mut self, is_true: bool, what: impl Into<String>) -> Self {
        let what = what.into();
        if !is_true {
            let what = if what.is_empty() { "nothing goes wrong at the servers or in the files".to_owned() } else { what };
            self.untrue.get_or_insert(what);
        } else if !what.is_empty() {
            self.checked.push(what);
        }
        self
    }
}

/// Tells steps on a screen, or collects them for JSON.
pub struct Teller<'s> {
    screen: &'s mut Screen,
    steps: Vec<Value>,
}

impl<'s> Teller<'s> {
    /// Tells on `screen`.
    pub fn new(screen: &'s mut Screen) -> Self {
        Self { screen, steps: Vec::new() }
    }

    /// Text between the steps; JSON has none of it.
    pub fn say(&mut self, text: &str) -> Result<(), End> {
        if self.screen.is_json() || self.screen.offer(text) { Ok(()) } else { Err(End::Closed) }
    }

    /// Tells a step.
    ///
    /// # Errors
    /// If it is untrue, after it was told; or nobody reads any more.
    pub fn tell(&mut self, step: Step) -> Result<(), End> {
        let number = self.steps.len() + 1;
        let text = self.render(number, &step);
        let said = self.say(&text);
        let Step { title, time, text, command, report, printed, checked, untrue } = step;
        self.steps.push(json!({
            "step": number, "title": title, "time": time, "text": text, "command": command, "report": report, "printed": printed,
            "checked": checked, "failed": untrue,
        }));
        if let Some(untrue) = untrue {
            let error = anyhow::anyhow!("step {number} ({title}) did not happen as told; untrue is: {untrue}");
            let hint =
                Some("This is a defect of tagboat, or something on this machine came between the demo and its own servers.".to_owned());
            return Err(End::Failed(Failure { exit: Exit::Partly, error, hint }));
        }
        said
    }

    /// The steps told so far.
    pub fn into_steps(self) -> Vec<Value> {
        self.steps
    }

    fn render(&self, number: usize, step: &Step) -> String {
        let (output, color) = self.screen.form();
        let mut page = Screen::collecting(output, color);
        let time = step.time.map_or(String::new(), |time| time.strftime("%a %e %b, %H:%M").to_string());
        let heading = format!("{number}. {}", step.title);
        let gap = " ".repeat(84usize.saturating_sub(heading.chars().count() + time.len()).max(2));
        page.line(format_args!("\n{}{gap}{}", page.paint(Color::Bold, &heading), page.paint(Color::Dim, time)));
        for line in &step.text {
            page.line(line);
        }
        if let Some(command) = step.command {
            page.line(page.paint(Color::Cyan, format_args!("$ {command}")));
        }
        if let Some(report) = &step.report {
            show::report(report, true, &mut page);
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
        let kept = page.into_kept();
        kept.out + &kept.err
    }
}
