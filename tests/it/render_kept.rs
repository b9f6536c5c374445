//! Renderings that outlive a process.

use super::{
    render::Fleet,
    render_support::{script, source},
};
use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tagboat::{
    events::{Event, EventSink, Recorder},
    io::render::{Rendered, Renderer},
};

const FILES: [(&str, &str); 4] = [
    ("x/kustomization.yaml", "resources: [a.yaml]\n"),
    ("x/a.yaml", "one\n"),
    ("y/kustomization.yaml", "resources: []\n"),
    (
        "plain/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
    ),
];

fn folder(fleet: &Fleet) -> PathBuf {
    fleet.sandbox.dir.path().join("renderings")
}

/// Renders a folder at the head in a new process, and returns how often a program ran.
fn render(fleet: &Fleet, path: &str) -> (Arc<Rendered>, u64) {
    let renderer: Renderer = fleet
        .renderer()
        .keeping(&folder(fleet), &Recorder::default());
    let rendered = renderer
        .render(&fleet.mirror, fleet.head(), &source(path))
        .unwrap();
    (rendered, renderer.runs())
}

#[test]
fn rendering_outlives_a_restart() {
    let mut fleet = Fleet::new(&FILES);
    let (first, runs) = render(&fleet, "x");
    assert_eq!(runs, 1);
    let (again, runs) = render(&fleet, "x");
    assert_eq!(runs, 0);
    assert_eq!(format!("{again:?}"), format!("{first:?}"));

    // Another commit with the same inputs, and a commit that changes them and is reverted.
    fleet.sandbox.person(&[("README.md", "words\n")], "words");
    assert_eq!(render(&fleet, "x").1, 0);
    fleet.sandbox.person(&[("x/a.yaml", "two\n")], "change");
    let (second, runs) = render(&fleet, "x");
    assert_eq!(runs, 1);
    assert_ne!(second.hash, first.hash);
    fleet.sandbox.person(&[("x/a.yaml", "one\n")], "revert");
    assert_eq!(render(&fleet, "x").1, 0);

    // Another program may render otherwise.
    let text = fs::read_to_string(&fleet.settings.kustomize).unwrap();
    fleet.settings.kustomize = script(fleet.sandbox.dir.path(), "other", &text);
    assert_eq!(render(&fleet, "x").1, 1);
}

#[test]
fn rendering_of_plain_manifests_is_not_kept() {
    let fleet = Fleet::new(&FILES);
    render(&fleet, "plain");
    assert!(!folder(&fleet).exists());
}

#[test]
fn rendering_that_cannot_be_kept_is_reported_once() {
    let fleet = Fleet::new(&FILES);
    // A file where the folder should be.
    fs::write(folder(&fleet), "").unwrap();
    let heard = Heard::default();
    let events = Recorder::new(vec![Box::new(heard.clone())]);
    let renderer = fleet.renderer().keeping(&folder(&fleet), &events);
    for path in ["x", "y"] {
        renderer
            .render(&fleet.mirror, fleet.head(), &source(path))
            .unwrap();
    }
    assert_eq!(renderer.runs(), 2);
    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(
        heard[0].starts_with("cannot keep renderings: "),
        "{heard:?}"
    );
}

/// The messages of events.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl EventSink for Heard {
    fn record(&self, event: &Event) {
        self.0.lock().unwrap().push(event.message.clone());
    }
}
