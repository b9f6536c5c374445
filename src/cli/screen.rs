//! Standard output for answers, and standard error for everything else.

use super::{Failure, Outcome, Output};
use crate::{
    core::text::{escape_json, is_hidden},
    service::Progress,
};
use indicatif::ProgressBar;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// Standard output and standard error in the format that the user asked for.
#[derive(Debug)]
pub(super) struct Screen {
    output: Output,
    color: bool,
    /// The columns of the terminal; none where standard output is no terminal.
    width: Option<usize>,
    /// Collects the text instead of printing it; for the demo, which prints it line by line.
    buffer: Option<String>,
}

/// A spinner on standard error; hidden unless a user watches, and removed when dropped.
#[derive(Debug)]
pub(super) struct Spinner(ProgressBar);

impl Progress for Spinner {
    fn update(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Colours of the sixteen that every terminal has.
#[derive(Debug, Clone, Copy)]
pub(super) enum Color {
    /// Additions and success.
    Green,
    /// Removals and errors.
    Red,
    /// Places and headings.
    Cyan,
    /// Details.
    Dim,
    /// Names.
    Bold,
}

impl Screen {
    /// A screen with colour only on a terminal, and not if `NO_COLOR` or `TERM=dumb` is set.
    pub(super) fn new(output: Output) -> Self {
        Self {
            output,
            color: output == Output::Text && shows_color(&io::stdout()),
            width: terminal_size::terminal_size_of(io::stdout())
                .map(|(terminal_size::Width(columns), _)| usize::from(columns)),
            buffer: None,
        }
    }

    /// A screen that collects text.
    #[cfg(any(feature = "demo", test))]
    pub(super) fn buffer(color: bool) -> Self {
        Self {
            output: Output::Text,
            color,
            width: None,
            buffer: Some(String::new()),
        }
    }

    /// Sets the columns of the terminal.
    #[cfg(test)]
    pub(super) fn with_width(self, width: usize) -> Self {
        Self {
            width: Some(width),
            ..self
        }
    }

    /// Returns the columns of the terminal; none where there is none.
    pub(super) fn width(&self) -> Option<usize> {
        self.width
    }

    /// Returns the collected text.
    #[cfg(feature = "demo")]
    pub(super) fn into_text(self) -> String {
        self.buffer.unwrap_or_default()
    }

    #[cfg(feature = "demo")]
    pub(super) fn has_color(&self) -> bool {
        self.color
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Returns true if a user watches standard error, so that progress is worth drawing.
    pub(super) fn shows_progress(&self) -> bool {
        self.output == Output::Text && io::stderr().is_terminal() && !is_dumb()
    }

    /// Starts a spinner.
    pub(super) fn spinner(&self) -> Spinner {
        if !self.shows_progress() {
            return Spinner(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        Spinner(bar)
    }

    /// Prints an answer: as JSON as it is, or with `text`.
    pub(super) fn answer<A: Serialize>(&mut self, answer: &A, text: impl FnOnce(&A, &mut Screen)) {
        if self.is_json() {
            self.json(answer);
        } else {
            text(answer, self);
        }
    }

    /// Prints a line to standard output.
    pub(super) fn line(&mut self, text: impl Display) {
        self.print(format_args!("{text}\n"));
    }

    /// Prints text to standard output. A closed pipe ends the program quietly.
    pub(super) fn print(&mut self, text: impl Display) {
        if !self.try_print(text) {
            std::process::exit(Outcome::Done.exit_code().into());
        }
    }

    /// Prints text to standard output; returns false if the reader has closed the pipe.
    pub(super) fn try_print(&mut self, text: impl Display) -> bool {
        let text = visible(&text.to_string(), self.color);
        if let Some(buffer) = &mut self.buffer {
            buffer.push_str(&text);
            return true;
        }
        let mut out = io::stdout().lock();
        let written = write!(out, "{text}").and_then(|()| out.flush());
        !written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Prints JSON to standard output.
    pub(super) fn json(&mut self, value: &impl Serialize) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(escape_json(&text)),
            Err(error) => self.note(format_args!("error: cannot print JSON: {error}")),
        }
    }

    /// Prints a line to standard error.
    #[allow(
        clippy::print_stderr,
        reason = "the one place that prints to standard error"
    )]
    pub(super) fn note(&mut self, text: impl Display) {
        let text = visible(&text.to_string(), self.color);
        match &mut self.buffer {
            Some(buffer) => buffer.push_str(&format!("{text}\n")),
            None => eprintln!("{text}"),
        }
    }

    /// Prints a warning to standard error; in JSON mode as an object.
    pub(super) fn warning(&mut self, text: &str) {
        match self.output {
            Output::Text => self.note(format_args!("warning: {text}")),
            Output::Json => {
                let json = serde_json::json!({ "warning": text }).to_string();
                self.note(escape_json(&json));
            }
        }
    }

    /// Prints a failure to standard error; in JSON mode as an object.
    pub(super) fn failure(&mut self, failure: &Failure) {
        if let Output::Json = self.output
            && let Ok(json) = serde_json::to_string_pretty(failure)
        {
            return self.note(escape_json(&json));
        }
        self.note(format_args!("error: {}", failure.error));
        if let Some(hint) = &failure.hint {
            self.note(format_args!("hint: {hint}"));
        }
    }

    /// Returns text in colour, where colour is shown.
    pub(super) fn paint(&self, color: Color, text: impl Display) -> String {
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

/// The sequences of [`Screen::paint`].
const PAINTS: [&str; 6] = [
    "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[36m",
];

/// Returns text with hidden characters escaped, whatever it is made of: all but line ends, tabs and
/// the colours of [`Screen::paint`].
fn visible(text: &str, color: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.char_indices() {
        let is_paint = || color && PAINTS.iter().any(|paint| text[at..].starts_with(paint));
        if !is_hidden(c) || matches!(c, '\n' | '\t') || (c == '\x1b' && is_paint()) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// Returns true if a stream is a terminal that shows colours, and the user wants them.
pub(super) fn shows_color(stream: &impl IsTerminal) -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !no_color && !is_dumb()
}

/// Returns true if the terminal understands no control sequences.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_escapes_what_is_hidden() {
        for (color, expected) in [
            (false, "a\\u{202e}b\\u{1b}[31mc\\u{1b}[2J\n\t→\n"),
            (true, "a\\u{202e}b\u{1b}[31mc\\u{1b}[2J\n\t→\n"),
        ] {
            let mut screen = Screen::buffer(color);
            screen.line("a\u{202e}b\u{1b}[31mc\u{1b}[2J\n\t→");
            assert_eq!(screen.buffer.as_deref(), Some(expected));
        }
        let mut screen = Screen::buffer(false);
        screen.json(&["\u{2066}x"]);
        assert_eq!(screen.buffer.as_deref(), Some("[\n  \"\\u2066x\"\n]\n"));
    }

    #[test]
    fn screen_keeps_its_own_colours() {
        let mut screen = Screen::buffer(true);
        let painted = screen.paint(Color::Dim, "x");
        screen.note(&painted);
        assert_eq!(screen.buffer, Some(format!("{painted}\n")));
    }
}
