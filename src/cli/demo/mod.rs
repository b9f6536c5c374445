//! `tagboat demo`: the whole way from a registry to a commit, with nothing installed. Feature `demo`.
//!
//! [`story`] is what happens, [`stage`] where, [`teller`] how it is printed; [`fleet`] are the files.

mod fleet;
mod stage;
mod story;
mod teller;

use super::{Exit, Failure, Screen, context};
use crate::cli::screen::Color;
use jiff::Timestamp;
use serde_json::json;
use stage::Stage;
use std::{path::Path, time::Duration};
use teller::{End, Teller};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long servers and passes get to end after the story.
const GRACE: Duration = Duration::from_secs(5);

/// Show the whole way from a registry to a commit; needs nothing
///
/// Starts a registry and a Git server in this process and keeps a small fleet in them up to date, with the same code
/// as `tagboat run --once`. Nothing outside a temporary folder is touched, and the folder is deleted at the end. Every
/// step checks what it tells; one that does not happen as told ends the demo with exit code 4.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Keep the servers running at the end, and say how to look at them, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments, screen: &mut Screen) -> Result<Exit, Failure> {
    let runtime = context::runtime()?;
    // Before there is a folder that a signal could leave behind.
    let signals = runtime.block_on(async { Ok((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)) });
    let signals = signals.map_err(|error: std::io::Error| Failure::input(format!("signals: {error}")))?;
    let folder = tempfile::Builder::new()
        .prefix("tagboat-demo-")
        .tempdir()
        .map_err(|error| Failure::input(format!("no temporary folder: {error}")).hint("Set TMPDIR to a folder that can be written."))?;
    let result = runtime.block_on(play(arguments.keep, folder.path(), signals, screen));
    // Whatever still works there has ended before the folder goes.
    runtime.shutdown_timeout(GRACE);
    let kept = folder.path().display().to_string();
    folder.close().map_err(|error| Failure::input(format!("the folder {kept} is left: {error}")))?;
    result
}

async fn play(keep: bool, folder: &Path, (mut interrupt, mut terminate): (Signal, Signal), screen: &mut Screen) -> Result<Exit, Failure> {
    let mut teller = Teller::new(screen);
    let told = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        told = tell(keep, folder, &mut teller) => Some(told),
    };
    let steps = teller.into_steps();
    let (stage, failure) = match told {
        Some(Ok(stage)) => (Some(stage), None),
        Some(Err(End::Failed(failure))) => (None, Some(failure)),
        Some(Err(End::Closed)) => return Ok(Exit::Done),
        None => (None, Some(Failure { exit: Exit::Partly, error: anyhow::anyhow!("interrupted; nothing is left behind"), hint: None })),
    };
    let kept = stage.filter(|_| keep);
    if screen.is_json() && failure.is_none() {
        let kept = kept
            .as_ref()
            .map(|stage| json!({"git": stage.clone_url(), "registry": format!("http://{}", stage.registry()), "config": stage.config()}));
        screen.json(&json!({"steps": steps, "kept": kept}));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let Some(stage) = kept {
        // A new tag, so that the commands below have something to do.
        stage.publish("shop/web", "1.5.2").await?;
        if screen.is_json() || screen.offer(guide(&stage, screen)) {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
    }
    Ok(Exit::Done)
}

/// The story between its first and its last line.
async fn tell(keep: bool, folder: &Path, teller: &mut Teller<'_>) -> Result<Stage, End> {
    let begun = std::time::Instant::now();
    teller.say(
        "tagboat demo: four days of a small shop, from its registry through Git.\n\
         Everything runs in this process and a temporary folder; the passes are those of `tagboat run`.\n\
         The clock of the story is put forward from step to step, so that nobody waits. Times are UTC.\n",
    )?;
    let stage = story::tell(folder, Timestamp::now(), teller).await?;
    teller.say(&format!("\nEverything happened as told, in {:.1} s.\n", begun.elapsed().as_secs_f64()))?;
    if !keep {
        teller.say("`tagboat demo --keep` leaves the servers running, to try the other commands on them.\n")?;
    }
    Ok(stage)
}

/// How to look at what is kept running.
fn guide(stage: &Stage, screen: &Screen) -> String {
    let registry = format!("http://{}/v2/shop/web", stage.registry());
    let config = stage.config().display();
    // As it was typed: the program need not be in the path.
    let tagboat = std::env::args().next().unwrap_or_else(|| "tagboat".to_owned());
    let command = |text: String| screen.paint(Color::Cyan, format_args!("  {text}\n"));
    [
        "\nThe servers keep running; web 1.5.2 has just been published. In another terminal:\n".to_owned(),
        "Look at the repository and the registry:\n".to_owned(),
        command(format!("git clone {}", stage.clone_url())),
        command(format!("curl {registry}/tags/list")),
        "See what a pass would change, make it, or let the daemon watch:\n".to_owned(),
        command(format!("{tagboat} plan -c {config}")),
        command(format!("{tagboat} run --once -c {config}")),
        command(format!("{tagboat} run -c {config}")),
        "Publish a further tag:\n".to_owned(),
        command(format!("curl {registry}/manifests/1.5.2 | curl -T - -H 'Content-Type: application/vnd.oci.image.index.v1+json' {registry}/manifests/1.5.3")),
        "Ctrl-C ends the servers and deletes the folder.\n".to_owned(),
    ]
    .concat()
}
