//! Memory and time of `tagboat run` as users run it, on a config repository of its own.

use jiff::Timestamp;
use serde_json::Value;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tagboat::sandbox::git::BareRepository;

/// The daemon is idle when it used no processor time for this long.
const QUIET: Duration = Duration::from_secs(5);
/// The allocator returns freed memory with a delay.
const REST: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(900);

pub(crate) struct DaemonFixture(PathBuf);

pub(crate) struct DaemonUsage {
    /// Resident memory in MiB when everything was synced and the daemon was idle.
    pub resident: f64,
    /// Peak resident memory in MiB.
    pub greatest: f64,
    /// The part of it that is mapped from the program's own file.
    pub program: f64,
    /// Seconds until the daemon was idle.
    pub seconds: f64,
    /// Seconds of processor time.
    pub worked: f64,
    /// Synced Applications.
    pub synced: usize,
}

impl DaemonFixture {
    /// Writes a repository into an existing folder: `declared` has all declarations, `objects`
    /// those of each Application.
    pub(crate) fn new(
        folder: &Path,
        kubeconfig: &Path,
        declared: &str,
        objects: impl Iterator<Item = (String, Vec<Value>)>,
    ) -> Self {
        let mut files = vec![("policies/apps.yaml".to_owned(), declared.to_owned())];
        files.extend(objects.map(|(path, objects)| {
            let mut text = String::new();
            objects
                .iter()
                .for_each(|object| writeln!(text, "---\n{object}").unwrap());
            (format!("{path}/all.yaml"), text)
        }));
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let seconds = Timestamp::now().as_second() - 60;
        BareRepository::create(
            &folder.join("fleet.git"),
            &files,
            ("Ann", "ann@example.org"),
            seconds,
            "first",
        )
        .unwrap();
        let text = format!(
            "store: store\nrepositories:\n- name: fleet\n  url: file://{}\n  policies: policies\n  interval: 24h\nclusters:\n- name: test\n  kubeconfig: {}\n",
            folder.join("fleet.git").display(),
            kubeconfig.display()
        );
        std::fs::write(folder.join("tagboat.yaml"), text).unwrap();
        Self(folder.to_owned())
    }

    /// Runs the daemon until it is idle.
    pub(crate) fn run(&self) -> DaemonUsage {
        let begun = Instant::now();
        let mut daemon = Daemon(
            self.tagboat("run")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let (mut worked, mut since) = (0.0, Instant::now());
        while since.elapsed() < QUIET {
            assert!(
                begun.elapsed() < PATIENCE && daemon.0.try_wait().unwrap().is_none(),
                "the daemon is busy for too long, or has ended"
            );
            std::thread::sleep(Duration::from_millis(100));
            let now = super::processor_time(Some(daemon.0.id()));
            // A timer or two may fire while it is idle.
            if now - worked > 0.02 {
                (worked, since) = (now, Instant::now());
            }
        }
        let seconds = begun.elapsed().saturating_sub(QUIET).as_secs_f64();
        std::thread::sleep(REST);
        let (resident, greatest) = (
            super::memory(Some(daemon.0.id()), "VmRSS"),
            super::memory(Some(daemon.0.id()), "VmHWM"),
        );
        let program = super::memory(Some(daemon.0.id()), "RssFile");
        // Queried last, because the answer takes memory, too.
        let output = self
            .tagboat("status")
            .arg("--output")
            .arg("json")
            .output()
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let applications = answer["applications"].as_array().unwrap();
        let synced = applications
            .iter()
            .filter(|status| status["state"] == "synced")
            .count();
        DaemonUsage {
            resident,
            greatest,
            program,
            seconds,
            worked,
            synced,
        }
    }

    fn tagboat(&self, command: &str) -> Command {
        let mut tagboat = Command::new(env!("CARGO_BIN_EXE_tagboat"));
        tagboat
            .arg(command)
            .args(["--config", "tagboat.yaml"])
            .current_dir(&self.0)
            .stdin(Stdio::null());
        tagboat
    }
}

/// Killed on drop.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}
