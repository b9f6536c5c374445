//! The confinement of render programs. Shell scripts stand in for kustomize; `render_real` has the
//! real programs.

use super::render_support::{World, secret_server, settings, source, without_landlock};
use std::{fs, path::Path};
use tagboat::{
    core::error::Classify as _,
    io::render::{RenderError, sandbox_gap, sandbox_warning},
    spec::settings::{RenderSandbox, RenderSettings},
};

const SECRET: &str = "the-secret-of-the-bot";

/// A world whose stand-in runs `probe` and prints its output as the data of a ConfigMap.
fn probing(probe: &str, sandbox: RenderSandbox) -> (World, RenderSettings) {
    let world = World::new(&[("x/kustomization.yaml", "resources: [a.yaml]\n")]);
    fs::write(world.temporary.path().join("secret"), SECRET).unwrap();
    let probe = probe.replace("OUTSIDE", &world.temporary.path().display().to_string());
    let kustomize = world.script(
        "kustomize",
        &format!(
            "[ \"$1\" = version ] && echo v1 && exit\nfound=$({{ {probe}; }} 2>/dev/null)\n\
             printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {{name: a}}\\ndata: {{found: \"%s\"}}\\n' \"$found\""
        ),
    );
    let settings = RenderSettings {
        kustomize,
        sandbox,
        ..settings()
    };
    (world, settings)
}

/// Returns what a confined stand-in finds, and what one finds that is not confined.
fn found(probe: &str) -> [String; 2] {
    assert_eq!(sandbox_gap(false), None);
    [RenderSandbox::Required, RenderSandbox::Disabled].map(|sandbox| {
        let (world, settings) = probing(probe, sandbox);
        let rendered = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap();
        let data = rendered.objects()[0].value()["data"]["found"].clone();
        data.as_str().unwrap().to_owned()
    })
}

#[test]
fn program_reads_nothing_outside_its_copy() {
    for probe in [
        "cat OUTSIDE/secret",
        "ln -s OUTSIDE/secret \"$HOME/link\"; cat \"$HOME/link\"",
        "ln OUTSIDE/secret \"$HOME/link\"; cat \"$HOME/link\"",
        "cd OUTSIDE; cat secret",
    ] {
        assert_eq!(found(probe), ["", SECRET], "{probe}");
    }
    // The copy stays readable.
    assert_eq!(found("cat kustomization.yaml"), ["resources: [a.yaml]"; 2]);
}

#[test]
fn program_sees_no_other_process() {
    for probe in [
        "cat /proc/self/status | head -c 4",
        "head -c 4 /proc/$PPID/status",
        "head -c 4 /proc/1/status",
    ] {
        assert_eq!(found(probe), ["", "Name"], "{probe}");
    }
    let [confined, free] = found("kill -0 $PPID && echo reached");
    assert_eq!((confined.as_str(), free.as_str()), ("", "reached"));
}

#[test]
fn program_writes_only_to_its_scratch_folder() {
    for probe in [
        "echo no > OUTSIDE/new && echo wrote",
        "echo no > kustomization.yaml && echo wrote",
        "echo no >> OUTSIDE/secret && echo wrote",
        "mv OUTSIDE/secret OUTSIDE/gone && echo wrote",
    ] {
        assert_eq!(found(probe), ["", "wrote"], "{probe}");
    }
    assert_eq!(found("echo ok > \"$HOME/a\" && cat \"$HOME/a\""), ["ok"; 2]);
}

#[test]
fn program_changes_no_foreign_file_or_process() {
    for probe in [
        "chmod 640 OUTSIDE/secret && echo changed",
        "touch -d @86400 OUTSIDE/secret && echo changed",
        "chown $(id -u) OUTSIDE/secret && echo changed",
        "prlimit --pid $PPID --nofile > /dev/null && echo changed",
        "renice -n 1 -p $$ > /dev/null && echo changed",
        "setsid -w true && echo changed",
        "perl -e 'exit(setpgrp($$, $$) ? 0 : 1)' && echo changed",
    ] {
        assert_eq!(found(probe), ["", "changed"], "{probe}");
    }
}

#[test]
fn program_gets_no_file_of_the_caller() {
    let world = World::new(&[("x/kustomization.yaml", "resources: [a.yaml]\n")]);
    let secret = world.temporary.path().join("secret");
    fs::write(&secret, SECRET).unwrap();
    let kustomize = world.script(
        "kustomize",
        "[ \"$1\" = version ] && echo v1 && exit\nfound=$(cat <&9)\necho no >&8\n\
         printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: a}\\ndata: {found: \"%s\"}\\n' \"$found\"",
    );
    let tagboat = crate::servers::environment::tagboat();
    for sandbox in ["required", "disabled"] {
        let mut command = std::process::Command::new("/bin/sh");
        crate::servers::environment::clear(&mut command);
        let output = command
            .args(["-c", "exec 9< \"$1\" 8>> \"$1\"; shift; exec \"$@\"", "sh"])
            .arg(&secret)
            .arg(tagboat.get_program())
            .arg("render")
            .arg(world.root().join("x"))
            .args(["--sandbox", sandbox, "--kustomize"])
            .arg(&kustomize)
            .output()
            .unwrap();
        let text = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(text.contains("kind: ConfigMap"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
        assert_eq!(fs::read_to_string(&secret).unwrap(), SECRET);
    }
}

#[test]
fn script_finds_programs_of_the_system() {
    let world = World::new(&[("x/kustomization.yaml", "resources: [a.yaml]\n")]);
    let kustomize = world.script("kustomize", "");
    for interpreter in ["/bin/sh", "/usr/bin/env bash"] {
        let text = format!(
            "#!{interpreter}\n[ \"$1\" = version ] && echo v1 && exit\ncat <<END\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{found: \"$(ls)\"}}\nEND\n"
        );
        replace_program(&kustomize, &text);
        let settings = RenderSettings {
            kustomize: kustomize.clone(),
            sandbox: RenderSandbox::Required,
            ..settings()
        };
        let rendered = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap();
        let data = rendered.objects()[0].value()["data"]["found"].clone();
        assert_eq!(data, "kustomization.yaml", "{interpreter}");
    }
}

/// Replaces a program in one step, with the mode of the old one.
fn replace_program(program: &Path, text: &str) {
    let new = program.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::metadata(program).unwrap().permissions()).unwrap();
    fs::rename(&new, program).unwrap();
}

#[test]
fn program_outside_the_sandbox_gets_a_hint() {
    let world = World::new(&[("x/kustomization.yaml", "resources: [a.yaml]\n")]);
    let folder = world.temporary.path().join("linuxbrew");
    fs::create_dir(&folder).unwrap();
    let shell = folder.join("sh");
    fs::copy("/bin/sh", &shell).unwrap();
    let kustomize = world.script("kustomize", "");
    // An interpreter, and a program that a shim starts, where the sandbox does not reach.
    for text in [
        format!("#!{}\necho v1\n", shell.display()),
        format!("#!/bin/sh\nexec {} -c 'echo v1'\n", shell.display()),
    ] {
        replace_program(&kustomize, &text);
        let settings = RenderSettings {
            kustomize: kustomize.clone(),
            sandbox: RenderSandbox::Required,
            ..settings()
        };
        let error = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("(the sandbox may refuse it a file that it needs)"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("render.sandbox: disabled"));
    }
}

#[test]
fn program_has_no_network() {
    let server = secret_server(SECRET);
    let probe = format!(
        "bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; printf \"GET / HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3 | tail -n 1'",
        server.port()
    );
    assert_eq!(found(&probe), ["", SECRET]);
    assert_eq!(server.requests(), 1);
}

#[test]
fn program_exceeding_files_or_processes_is_stopped() {
    for (probe, says) in [
        (
            "for i in 1 2 3; do head -c 300000000 /dev/zero > \"$HOME/$i\"; done; sleep 60",
            "x: kustomize was stopped: it wrote more than 512 MiB",
        ),
        (
            "exec > /dev/null 2>&1; for i in 1 2 3; do head -c 300000000 /dev/zero > \"$HOME/$i\"; done; sleep 60",
            "x: kustomize was stopped: it wrote more than 512 MiB",
        ),
        (
            "cd \"$HOME\"; name=$(printf %0200d 1); i=0; while [ $i -lt 30 ]; do mkdir $name; cd -P $name; i=$((i+1)); done; sleep 60",
            "x: kustomize was stopped: it wrote more than 512 MiB",
        ),
        (
            "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done; wait",
            "x: kustomize was stopped: it ran more than 64 processes",
        ),
    ] {
        let (world, settings) = probing(probe, RenderSandbox::Auto);
        let error = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap_err();
        assert_eq!(error.to_string(), says);
        assert!(!error.may_pass());
        assert_eq!(world.left(), 0);
    }
}

#[test]
fn kernel_without_landlock_is_named() {
    without_landlock(|| {
        assert_eq!(
            sandbox_gap(false).as_deref(),
            Some("the kernel offers no Landlock")
        );
        let (world, settings) = probing("cat OUTSIDE/secret", RenderSandbox::Auto);
        assert_eq!(
            sandbox_warning(&settings).as_deref(),
            Some("kustomize and helm are not confined: the kernel offers no Landlock")
        );
        let rendered = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap();
        assert_eq!(rendered.objects()[0].value()["data"]["found"], SECRET);
        let (world, settings) = probing("cat OUTSIDE/secret", RenderSandbox::Required);
        let error = world
            .renderer(&settings)
            .render_folder(&world.root(), &source("x"))
            .unwrap_err();
        assert!(matches!(error, RenderError::Unconfined { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "x: kustomize is not run, because it cannot be confined: the kernel offers no Landlock"
        );
        assert!(error.hint().unwrap().contains("render.sandbox: auto"));
    });
}
