//! Where answers and complaints are printed: answers to standard output, everything else to
//! standard error.

use super::{Exit, Output};
use crate::core::error::{Classify, ErrorKind};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;

/// Standard output and standard error, with the form that was asked for.
#[derive(Debug)]
pub struct Screen {
    output: Output,
    color: bool,
    /// Where a daemon collects the answer for a command that asked it, and tells it of the
    /// progress.
    kept: Option<(CapturedOutput, Option<UnboundedSender<String>>)>,
}

/// An answer that was collected instead of printed.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct CapturedOutput {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
}

/// Why a command did not do its work.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What went wrong; the whole chain of causes is shown.
    pub error: anyhow::Error,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// An argument or file is wrong.
    pub fn input(error: impl Display) -> Self {
        Self {
            exit: Exit::BadInput,
            error: anyhow::anyhow!("{error}"),
            hint: None,
        }
    }

    /// The same with advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<F: Classify> From<F> for Failure {
    fn from(fault: F) -> Self {
        let exit = match fault.kind() {
            ErrorKind::Config => Exit::BadInput,
            ErrorKind::Remote | ErrorKind::Conflict => Exit::Remote,
            ErrorKind::Bug => Exit::Partly,
        };
        Self {
            exit,
            hint: fault.hint(),
            error: fault.into(),
        }
    }
}

/// Something that takes its time; gone from the terminal when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    tell: Option<UnboundedSender<String>>,
}

impl Progress {
    /// Says how far it is.
    pub fn say(&self, text: impl Display) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_string());
        }
        if let Some(tell) = &self.tell {
            // Whoever does not listen any more has gone away.
            let _ = tell.send(text.to_string());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Colours of the sixteen that every terminal has.
#[derive(Debug, Clone, Copy)]
pub enum Color {
    /// For what was added or went well.
    Green,
    /// For what was removed or is wrong.
    Red,
    /// For places and headings.
    Cyan,
    /// For what matters less.
    Dim,
    /// For what matters most.
    Bold,
}

impl Screen {
    /// A screen; colour only on a terminal, and not if `NO_COLOR` is set.
    pub fn new(output: Output) -> Self {
        let color = output == Output::Text
            && io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            output,
            color,
            kept: None,
        }
    }

    /// A screen that collects, for a command in another process with this form and colour.
    pub fn collecting(output: Output, color: bool, tell: Option<UnboundedSender<String>>) -> Self {
        Self {
            output,
            color,
            kept: Some((CapturedOutput::default(), tell)),
        }
    }

    /// What was collected.
    pub fn into_kept(self) -> CapturedOutput {
        self.kept.map(|(kept, _)| kept).unwrap_or_default()
    }

    /// The form that was asked for, and whether it is in colour.
    pub fn form(&self) -> (Output, bool) {
        (self.output, self.color)
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Whether a person watches standard error, so that progress is worth drawing.
    pub fn shows_progress(&self) -> bool {
        self.kept.is_none() && self.output == Output::Text && io::stderr().is_terminal()
    }

    /// Shows that something takes its time, on a terminal only, until the value is dropped.
    pub fn progress(&self, text: &str) -> Progress {
        let bar = self.shows_progress().then(|| {
            let bar = ProgressBar::new_spinner().with_message(text.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let tell = self.kept.as_ref().and_then(|(_, tell)| tell.clone());
        let progress = Progress { bar, tell };
        progress.say(text);
        progress
    }

    /// Prints a line of the answer. A closed pipe ends the program quietly, as it does others.
    pub fn line(&mut self, text: impl Display) {
        self.print(format_args!("{text}\n"));
    }

    /// Prints text as it is.
    pub fn print(&mut self, text: impl Display) {
        if !self.offer(text) {
            std::process::exit(Exit::Done as i32);
        }
    }

    /// Prints text as it is, and says whether anybody still reads: for commands that tidy up before
    /// they end.
    pub fn offer(&mut self, text: impl Display) -> bool {
        if let Some((kept, _)) = &mut self.kept {
            kept.out.push_str(&text.to_string());
            return true;
        }
        let mut out = io::stdout().lock();
        !write!(out, "{text}")
            .and_then(|()| out.flush())
            .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints the whole answer as JSON.
    pub fn json(&mut self, value: &impl serde::Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(text),
            Err(error) => self.note(format_args!("error: the answer is no JSON: {error}")),
        }
    }

    /// Prints a line beside the answer.
    #[allow(
        clippy::print_stderr,
        reason = "this is the one place that prints beside the answer"
    )]
    pub fn note(&mut self, text: impl Display) {
        match &mut self.kept {
            Some((kept, _)) => kept.err.push_str(&format!("{text}\n")),
            None => eprintln!("{text}"),
        }
    }

    /// Prints why the command did not do its work: the causes in one line, the advice in another.
    pub fn failure(&mut self, failure: &Failure) {
        let Failure { exit, error, hint } = failure;
        if self.is_json() {
            let message = causes(error);
            self.json(&json!({"error": {"message": message, "hint": hint.clone().map_or(Value::Null, Value::from), "exit": *exit as u8}}));
            return;
        }
        self.note(format_args!("error: {}", causes(error)));
        if let Some(hint) = hint {
            self.note(format_args!("hint: {hint}"));
        }
    }

    /// Text in colour, where colour is shown.
    pub fn paint(&self, color: Color, text: impl Display) -> String {
        if !self.color {
            return text.to_string();
        }
        let code = match color {
            Color::Green => 32,
            Color::Red => 31,
            Color::Cyan => 36,
            Color::Dim => 2,
            Color::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// An error with its causes in one line; a cause that the text before ends with already is not said
/// twice.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
