//! `tagboat demo`: the whole way from a registry through Git to a cluster, with nothing installed.
//! Feature `demo`.
//!
//! [`story`] is what happens up to Git, [`deploy`] what happens from there, [`review`] what people
//! see before; [`stage`] and [`ground`] are where, [`teller`] is how it is printed, [`log`] what
//! the reconciler said, and [`fleet`] are the files.

mod deploy;
mod fleet;
mod ground;
mod log;
mod review;
mod stage;
mod story;
mod teller;

use super::{Failure, Outcome, Screen, screen::Color};
use crate::{core::error::ErrorKind, service::engine};
use ground::{DemoCluster, RealCluster};
use jiff::Timestamp;
use log::DemoLog;
use serde_json::json;
use stage::DemoServers;
use std::{path::Path, time::Duration};
use teller::{Narrator, StoryEnd};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long servers and passes get to end after the story.
const GRACE: Duration = Duration::from_secs(5);

/// Show the whole way from a registry through Git to a cluster; needs nothing
///
/// Starts a registry, a Git server and a small Kubernetes API in this process, keeps a fleet in
/// them up to date and deploys it, with the same code as `tagboat run`. Nothing outside a temporary
/// folder is touched, and the folder is deleted at the end. Every step checks what it tells; one
/// that does not happen as told ends the demo with exit code 4.
///
/// With --kubeconfig it deploys to a real cluster, in a namespace that is made for it and deleted
/// at the end. Nothing is pulled there: the Deployment has no replicas.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep the servers running at the end, and say how to look at them, until Ctrl-C
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    real: RealCluster,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Outcome, Failure> {
    let runtime = engine::runtime()?;
    // Before there is anything that a signal could leave behind.
    let signals = runtime.block_on(async {
        Ok((
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ))
    });
    let (interrupt, terminate) =
        signals.map_err(|error: std::io::Error| Failure::input(format!("signals: {error}")))?;
    let folder = tempfile::Builder::new()
        .prefix("tagboat-demo-")
        .tempdir()
        .map_err(|error| {
            Failure::input(format!("no temporary folder: {error}"))
                .hint("Set TMPDIR to a folder that can be written.")
        })?;
    let result = runtime.block_on(visit(
        arguments,
        folder.path(),
        &mut Signals {
            interrupt,
            terminate,
        },
        screen,
    ));
    // Whatever still works there has ended before the folder goes.
    runtime.shutdown_timeout(GRACE);
    let kept = folder.path().display().to_string();
    folder
        .close()
        .map_err(|error| Failure::input(format!("the folder {kept} is left: {error}")))?;
    result
}

/// What asks the demo to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn interrupted() -> Failure {
    Failure::new(ErrorKind::Bug, "interrupted; nothing is left behind")
}

/// Finds the cluster, plays, and leaves the cluster as it was, however the play ends.
async fn visit(
    arguments: &Arguments,
    folder: &Path,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<Outcome, Failure> {
    let ground = tokio::select! {
        biased;
        () = signals.any() => return Err(interrupted()),
        ground = DemoCluster::reach(&arguments.real, folder) => ground?,
    };
    // Not to be interrupted: what was made is deleted again.
    ground.claim().await?;
    let played = play(arguments.keep, folder, &ground, signals, screen).await;
    match (played, ground.leave(screen).await) {
        (played, Ok(())) => played,
        (Ok(_), Err(left)) => Err(left),
        (Err(failure), Err(left)) => {
            screen.failure(&left);
            Err(failure)
        }
    }
}

async fn play(
    keep: bool,
    folder: &Path,
    ground: &DemoCluster,
    signals: &mut Signals,
    screen: &mut Screen,
) -> Result<Outcome, Failure> {
    let mut teller = Narrator::new(screen);
    let told = tokio::select! {
        biased;
        () = signals.any() => None,
        told = tell(keep, folder, ground, &mut teller) => Some(told),
    };
    let steps = teller.into_steps();
    let (stage, failure) = match told {
        Some(Ok(stage)) => (Some(stage), None),
        Some(Err(StoryEnd::Failed(failure))) => (None, Some(failure)),
        Some(Err(StoryEnd::Closed)) => return Ok(Outcome::Done),
        None => (None, Some(interrupted())),
    };
    let kept = stage.filter(|_| keep);
    if screen.is_json() && failure.is_none() {
        let kept = kept.as_ref().map(|stage| {
            json!({
                "git": stage.clone_url(), "registry": format!("http://{}", stage.registry()), "config": stage.config(),
                "cluster": ground.server(), "namespace": ground.namespace,
            })
        });
        screen.json(&json!({"steps": steps, "kept": kept}));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let Some(stage) = kept {
        // New tags, so that the commands below have something to do.
        stage.publish("shop/web", "1.5.2").await?;
        stage.publish("shop/podinfo", deploy::NEXT).await?;
        if screen.is_json() || screen.try_print(guide(&stage, ground, screen)) {
            signals.any().await;
        }
    }
    Ok(Outcome::Done)
}

/// The story between its first and its last line.
async fn tell(
    keep: bool,
    folder: &Path,
    ground: &DemoCluster,
    teller: &mut Narrator<'_>,
) -> Result<DemoServers, StoryEnd> {
    let begun = std::time::Instant::now();
    let log = DemoLog::begin();
    let all = if ground.is_real() {
        "Everything but your cluster"
    } else {
        "Everything"
    };
    teller.say(&format!(
        "tagboat demo: a small shop, from its registry through Git to a cluster.\n\
         {all} runs in this process and a temporary folder; the passes are those of `tagboat run`.\n\
         First four days of updates. Their clock is put forward from step to step, so that nobody\n\
         waits. Times are UTC.\n",
    ))?;
    let stage = story::tell(folder, Timestamp::now(), ground, &log, teller).await?;
    teller.say(&format!(
        "\nEverything happened as told, in {:.1} s.\n",
        begun.elapsed().as_secs_f64()
    ))?;
    let mut more = Vec::new();
    if !keep {
        more.push("  tagboat demo --keep                 the same, and the servers stay for you to play with");
    }
    if !ground.is_real() {
        more.push("  tagboat demo --kubeconfig FILE      the same on a cluster of yours, in a namespace of its own");
    }
    more.push("  tagboat init                        begin with a repository of yours");
    teller.say(&format!("\nWhat to try next:\n{}\n", more.join("\n")))?;
    Ok(stage)
}

/// How to look at what is kept running.
fn guide(stage: &DemoServers, ground: &DemoCluster, screen: &Screen) -> String {
    let registry = format!("http://{}/v2/shop/web", stage.registry());
    let config = stage.config().display();
    // As it was typed: the program need not be in the path.
    let tagboat = std::env::args()
        .next()
        .unwrap_or_else(|| "tagboat".to_owned());
    let command = |text: String| screen.paint(Color::Cyan, format_args!("  {text}\n"));
    [
        format!("\nThe servers keep running; web 1.5.2 and podinfo {} have just been published. In another terminal:\n", deploy::NEXT),
        "Look at the cluster, the repository and the registry:\n".to_owned(),
        command(format!("{} get deploy -n {}", ground.kubectl(), ground.namespace)),
        command(format!("git clone {}", stage.clone_url())),
        command(format!("curl {registry}/tags/list")),
        "See what a pass would change, make it, or let the daemon watch:\n".to_owned(),
        command(format!("{tagboat} plan -c {config}")),
        command(format!("{tagboat} run --once -c {config}")),
        command(format!("{tagboat} run -c {config}")),
        "How is the application, and what was deployed?\n".to_owned(),
        command(format!("{tagboat} status -c {config}")),
        command(format!("{tagboat} history {}/podinfo -c {config}", ground.namespace)),
        "Publish a further tag:\n".to_owned(),
        command(format!("curl {registry}/manifests/1.5.2 | curl -T - -H 'Content-Type: application/vnd.oci.image.index.v1+json' {registry}/manifests/1.5.3")),
        match ground.is_real() {
            false => "Ctrl-C ends the servers and deletes the folder.\n".to_owned(),
            true => format!("Ctrl-C ends the servers and deletes the folder and namespace {}.\n", ground.namespace),
        },
    ]
    .concat()
}
