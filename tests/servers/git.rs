//! Real Git programs for tests, cut off from the machine's and the user's configuration.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The result of a program.
pub trait Program {
    /// Standard output without its last line end; the program must have succeeded.
    fn text(&self) -> String;
    /// The program must have succeeded.
    fn ok(&self) {
        self.text();
    }
}

impl Program for Output {
    fn text(&self) -> String {
        assert!(self.status.success(), "{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr));
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// `git` without any configuration but what stands here.
pub fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", dir);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    for (role, name) in [("AUTHOR", "Ann"), ("COMMITTER", "Ann")] {
        command.env(format!("GIT_{role}_NAME"), name).env(format!("GIT_{role}_EMAIL"), "ann@example.org");
        command.env(format!("GIT_{role}_DATE"), "1780000000 +0000");
    }
    command
}

/// Runs `git` in `dir`.
pub fn git(dir: &Path, arguments: &[&str]) -> Output {
    command(dir).args(arguments).output().expect("git runs")
}

/// A bare repository `fleet.git` below `dir` with one commit on `main`.
pub fn seed(dir: &Path, files: &[(&str, &str)]) -> PathBuf {
    let (bare, work) = (dir.join("fleet.git"), dir.join("work"));
    git(dir, &["init", "-q", "--bare", "-b", "main", "fleet.git"]).ok();
    git(dir, &["clone", "-q", "fleet.git", "work"]).ok();
    for (path, text) in files {
        let file = work.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    git(&work, &["checkout", "-q", "-B", "main"]).ok();
    git(&work, &["add", "-A"]).ok();
    git(&work, &["commit", "-q", "-m", "first"]).ok();
    git(&work, &["push", "-q", "origin", "main"]).ok();
    bare
}
