//! The program as a user starts it, isolated: a cleared environment, a HOME of its own, and all
//! output in a transcript that is compared with `tests/cases/cli/<case>/transcript.txt`.
//!
//! A case is a folder: `original` is the working folder before, `expected` the working folder after
//! (without it: unchanged). A file `commands` has one command a line; cases without it are driven
//! from Rust.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

pub(super) struct Case {
    folder: PathBuf,
    temporary: TempDir,
    transcript: String,
    replaced: Vec<(String, String)>,
}

/// The output of one command.
pub(super) struct CommandOutput {
    pub exit: i32,
    pub out: String,
    pub err: String,
}

impl Case {
    /// Sets up the case of this name.
    pub(super) fn new(name: &str) -> Self {
        let folder = cases().join(name);
        // The real path: if the temporary folder is reached by a link, the program shows the
        // target.
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap();
        let case = Self {
            folder,
            transcript: String::new(),
            replaced: vec![
                (root.join("work").display().to_string(), "[WORK]".to_owned()),
                (root.join("home").display().to_string(), "[HOME]".to_owned()),
            ],
            temporary,
        };
        fs::create_dir_all(case.work()).unwrap();
        fs::create_dir_all(case.home()).unwrap();
        for (path, bytes) in tree(&case.folder.join("original")) {
            case.file(&path, &bytes);
        }
        case
    }

    pub(super) fn work(&self) -> PathBuf {
        self.temporary.path().join("work")
    }

    fn home(&self) -> PathBuf {
        self.temporary.path().join("home")
    }

    /// Writes a file into the working folder.
    pub(super) fn file(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let target = self.work().join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }

    /// Shows `text` (a port, a path) as `as_` in the transcript, and replaces `as_` by `text` in
    /// commands.
    #[cfg(feature = "demo")]
    pub(super) fn replace(&mut self, text: &str, as_: &str) {
        self.replaced.push((text.to_owned(), as_.to_owned()));
    }

    /// Runs `tagboat` with these words. `'…'` keeps a word together, and `< FILE` at the end is its
    /// standard input.
    pub(super) fn run(&mut self, line: &str) -> CommandOutput {
        let (command, input) = match line.split_once(" < ") {
            Some((command, file)) => (command, fs::read(self.work().join(file)).unwrap()),
            None => (line, Vec::new()),
        };
        let mut words = words(command);
        for (text, as_) in &self.replaced {
            words
                .iter_mut()
                .for_each(|word| *word = word.replace(as_, text));
        }
        let output = assert_cmd::Command::from_std(crate::servers::environment::tagboat())
            .env("HOME", self.home())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(self.work())
            .args(words.iter().map(OsStr::new))
            .write_stdin(input)
            .timeout(Duration::from_secs(60))
            .output()
            .unwrap();
        let shown = |bytes: &[u8]| {
            let mut text = String::from_utf8(bytes.to_vec()).unwrap();
            for (from, to) in &self.replaced {
                text = text.replace(from, to);
            }
            assert!(
                !text.contains('\u{1b}'),
                "an escape sequence reached the output of {line}: {text:?}"
            );
            text
        };
        let exit = output.status.code().unwrap_or_else(|| {
            panic!(
                "{line}: killed: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
        let output = CommandOutput {
            exit,
            out: shown(&output.stdout),
            err: shown(&output.stderr),
        };
        super::answer_schema::validate_output(line, exit, &output.out, &output.err);
        self.transcript
            .push_str(&format!("$ tagboat {line}\n{}", output.out));
        if !output.err.is_empty() {
            self.transcript
                .push_str(&format!("--- beside it\n{}", output.err));
        }
        self.transcript
            .push_str(&format!("--- exit {}\n\n", output.exit));
        output
    }

    /// Compares the transcript, and the working folder with `expected`.
    pub(super) fn finish(self) {
        let name = self
            .folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let transcript = self.folder.join("transcript.txt");
        let (before, after) = (tree(&self.folder.join("original")), tree(&self.work()));
        let expected = self.folder.join("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::create_dir_all(&self.folder).unwrap();
            fs::write(&transcript, &self.transcript).unwrap();
            if expected.exists() {
                fs::remove_dir_all(&expected).unwrap();
            }
            // Cases driven from Rust compare their own files.
            if self.folder.join("commands").exists() && before != after {
                for (path, bytes) in &after {
                    let target = expected.join(path);
                    fs::create_dir_all(target.parent().unwrap()).unwrap();
                    fs::write(target, bytes).unwrap();
                }
            }
        }
        let golden = fs::read_to_string(&transcript).unwrap_or_default();
        assert!(
            self.transcript == golden,
            "{name}: set UPDATE_EXPECTED=1 to take the new text after reading it\n{}",
            similar::TextDiff::from_lines(&golden, &self.transcript).unified_diff()
        );
        if self.folder.join("commands").exists() {
            let expected = if expected.exists() {
                tree(&expected)
            } else {
                before
            };
            assert_eq!(
                after.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "{name}: files"
            );
            for (path, bytes) in &expected {
                assert!(
                    after[path] == *bytes,
                    "{name}: {path} is\n{}",
                    String::from_utf8_lossy(&after[path])
                );
            }
        }
    }
}

pub(super) fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cli")
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    assert!(!quoted, "{line}");
    words.extend(word);
    words
}

/// Every file below a folder, by relative path. A missing folder is empty; links are not followed.
pub(super) fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files.insert(
                    path.strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    files
}
