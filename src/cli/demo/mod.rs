//! `tagboat demo`: from a registry through Git to a cluster, with nothing installed. Feature
//! `demo`.
//!
//! [`story`] is the first half, up to Git; [`deploy`] and [`pull_request`] are the second half.
//! [`servers`], [`cluster`] and [`seed`] are the world of the story, [`narrator`] prints it, and
//! [`log`] collects the log of the reconciler.

mod cluster;
mod deploy;
mod log;
mod narrator;
mod pull_request;
mod report;
mod seed;
mod servers;
mod story;

use super::{Failure, Outcome, Screen, interrupt, screen::Color};
use crate::{core::error::ErrorKind, service::engine};
use cluster::{DemoCluster, RealCluster};
use jiff::Timestamp;
use log::DemoLog;
use narrator::{Narrator, StoryEnd};
use serde_json::json;
use servers::DemoServers;
use std::{io, path::Path, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Time for servers and passes to end after the story.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Show tagboat at work, from a registry through Git to a cluster, with nothing installed
///
/// Starts a registry, a Git server and a small Kubernetes API in this process, keeps a repository
/// up to date and deploys it, with the code of `tagboat run`. Writes only to a temporary folder,
/// and deletes it at the end. Every step checks its statements; a statement that is not true ends
/// the demo with exit code 4.
///
/// With --kubeconfig, deploys to a real cluster, in a namespace that is created for the demo and
/// deleted at the end. The Deployment there has no replicas, so that nothing is pulled.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Keep the servers running at the end, and explain how to look at them, until Ctrl-C
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    real: RealCluster,
}

pub(super) fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let runtime = engine::runtime()?;
    // Before a signal could leave anything behind.
    let signals = runtime.block_on(async { Signals::install() });
    interrupt::leave_to_command();
    let mut signals =
        signals.map_err(|error| Failure::input(format!("cannot handle signals: {error}")))?;
    let folder = tempfile::Builder::new()
        .prefix("tagboat-demo-")
        .tempdir()
        .map_err(|error| {
            Failure::input(format!("cannot create a temporary folder: {error}"))
                .hint("Set TMPDIR to a writable folder.")
        })?;
    let result = runtime.block_on(play_and_clean_up(
        arguments,
        folder.path(),
        &mut signals,
        screen,
    ));
    // Nothing may write to the folder when it is deleted.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    let path = folder.path().display().to_string();
    folder
        .close()
        .map_err(|error| Failure::input(format!("cannot delete the folder {path}: {error}")))?;
    result
}

/// The signals that end the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(
        ErrorKind::Interrupted,
        "interrupted; nothing is left behind",
    )
}

/// Plays the story, and cleans up the cluster however it ends.
async fn play_and_clean_up(
    arguments: &Arguments,
    folder: &Path,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<Outcome, Failure> {
    let cluster = tokio::select! {
        biased;
        () = signals.any() => return Err(interrupted()),
        cluster = DemoCluster::connect(&arguments.real, folder) => cluster?,
    };
    // Not interruptible: a created namespace has to be deleted.
    cluster.create_namespace().await?;
    let played = play(arguments.keep, folder, &cluster, signals, screen).await;
    match (played, cluster.clean_up(screen).await) {
        (played, Ok(())) => played,
        (Ok(_), Err(failure)) => Err(failure),
        (Err(failure), Err(left)) => {
            screen.failure(&left);
            Err(failure)
        }
    }
}

async fn play(
    keep: bool,
    folder: &Path,
    cluster: &DemoCluster,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<Outcome, Failure> {
    let mut narrator = Narrator::new(screen);
    let end = tokio::select! {
        biased;
        () = signals.any() => Err(StoryEnd::Failed(interrupted())),
        end = tell(keep, folder, cluster, &mut narrator) => end,
    };
    let steps = narrator.into_steps();
    let servers = match end {
        Ok(servers) => servers,
        Err(StoryEnd::Closed) => return Ok(Outcome::Done),
        Err(StoryEnd::Failed(failure)) => return Err(failure),
    };
    if screen.is_json() {
        let running = keep.then(|| {
            json!({
                "git": servers.clone_url(),
                "registry": format!("http://{}", servers.registry()),
                "config": servers.config(),
                "cluster": cluster.server(),
                "namespace": cluster.namespace,
            })
        });
        screen.json(&json!({"steps": steps, "servers": running}));
    }
    if keep {
        // New tags, so that the commands of the guide have something to do.
        servers.publish("shop/web", "1.5.2").await?;
        servers.publish("shop/podinfo", deploy::NEXT).await?;
        let guide = guide(&servers, cluster, screen);
        if screen.is_json() || screen.try_print(guide) {
            signals.any().await;
        }
    }
    Ok(Outcome::Done)
}

/// Tells the story with its first and last words.
async fn tell(
    keep: bool,
    folder: &Path,
    cluster: &DemoCluster,
    narrator: &mut Narrator<'_>,
) -> Result<DemoServers, StoryEnd> {
    let start = std::time::Instant::now();
    let log = DemoLog::begin();
    let everything = if cluster.is_real() {
        "Everything but your cluster"
    } else {
        "Everything"
    };
    narrator.say(&format!(
        "tagboat demo: a small shop, from its registry through Git to a cluster.\n\
         {everything} runs in this process and a temporary folder, \
         with the code of `tagboat run`.\n\
         The story starts with five days of updates. \
         Its clock moves forward from step to step, so\n\
         that you do not have to wait. Times are UTC.\n",
    ))?;
    let servers = story::play(folder, Timestamp::now(), cluster, &log, narrator).await?;
    narrator.say(&format!(
        "\nAll checks passed in {:.1} s.\n\nWhat to try next:\n",
        start.elapsed().as_secs_f64()
    ))?;
    if !keep {
        let keep =
            "  tagboat demo --keep                 keep the servers running and try it yourself\n";
        narrator.say(keep)?;
    }
    if !cluster.is_real() {
        let real =
            "  tagboat demo --kubeconfig FILE      use your own cluster, in a new namespace\n";
        narrator.say(real)?;
    }
    narrator.say("  tagboat init                        start with your own repository\n")?;
    Ok(servers)
}

/// Explains how to look at the running servers.
fn guide(servers: &DemoServers, cluster: &DemoCluster, screen: &Screen) -> String {
    let repository = format!("http://{}/v2/shop/web", servers.registry());
    let config = servers.config().display();
    let clone_url = servers.clone_url();
    let page = clone_url.trim_end_matches(".git");
    let api = page.replace("/shop/fleet", "/api/v1/repos/shop/fleet");
    let (kubectl, namespace) = (cluster.kubectl(), &cluster.namespace);
    // As it was typed: the program need not be on the PATH.
    let tagboat = std::env::args()
        .next()
        .unwrap_or_else(|| "tagboat".to_owned());
    let media_type = "application/vnd.oci.image.index.v1+json";
    let command = |text: String| screen.paint(Color::Cyan, format_args!("  {text}\n"));
    let end = match cluster.is_real() {
        false => "Ctrl-C stops the servers and deletes the folder.\n".to_owned(),
        true => {
            format!("Ctrl-C stops the servers and deletes the folder and namespace {namespace}.\n")
        }
    };
    [
        format!(
            "\nThe servers keep running; web 1.5.2 and podinfo {} have just been published. \
             In another terminal:\n",
            deploy::NEXT
        ),
        "Look at the cluster, the repository and the registry:\n".to_owned(),
        command(format!("{kubectl} get deploy -n {namespace}")),
        command(format!("git clone {clone_url}")),
        command(format!("curl {repository}/tags/list")),
        "Plan a pass, make it, or start the daemon:\n".to_owned(),
        command(format!("{tagboat} plan -c {config}")),
        command(format!("{tagboat} run --once -c {config}")),
        command(format!("{tagboat} run -c {config}")),
        "After a pass, read the pull request of the stage. With a green check, the next pass merges it:\n"
            .to_owned(),
        command(format!("{page}/pulls")),
        command(format!(
            "curl -H 'Authorization: token {}' -d '{{\"context\":\"ci\",\"state\":\"success\"}}' \
             {api}/statuses/$(git ls-remote {clone_url} 'tagboat/stage/*' | cut -f1)",
            servers::TOKEN
        )),
        "Show the state and the history of the Application:\n".to_owned(),
        command(format!("{tagboat} status -c {config}")),
        command(format!("{tagboat} history {namespace}/podinfo -c {config}")),
        "Publish another tag:\n".to_owned(),
        command(format!(
            "curl {repository}/manifests/1.5.2 | \
             curl -T - -H 'Content-Type: {media_type}' {repository}/manifests/1.5.3"
        )),
        end,
    ]
    .concat()
}
