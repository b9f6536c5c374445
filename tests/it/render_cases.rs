//! Golden renderings: each folder under `cases/render` beside its expected objects or errors.

use super::render_support::{settings, source};
use std::{fs, path::Path};
use tagboat::io::render::{RenderError, Renderer};

#[test]
fn render_cases_match_their_expected_output() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/render");
    let copies = tempfile::tempdir().unwrap();
    let renderer = Renderer::new(&settings(), copies.path());
    let mut seen = 0;
    for entry in fs::read_dir(&cases).unwrap() {
        let case = entry.unwrap().path();
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        // The rendered folder of the case is named after the `@`.
        let path = name
            .split_once('@')
            .map_or(String::new(), |(_, path)| path.replace('+', "/"));
        let found = match renderer.render_folder(&case.join("original"), &source(&path)) {
            Ok(rendered) => {
                let warnings = rendered
                    .warnings
                    .iter()
                    .map(|warning| format!("# warning: {warning}\n"));
                let left_out = rendered
                    .left_out
                    .iter()
                    .map(|(origin, key)| format!("# left out: {key} at {origin}\n"));
                let head: String = warnings.chain(left_out).collect();
                let objects = rendered.objects().into_iter().map(|object| {
                    format!(
                        "# {}\n{}",
                        object.origin.as_ref().unwrap(),
                        tagboat::objects::manifest::to_yaml_stream([object.value()])
                    )
                });
                format!("{head}{}", objects.collect::<String>())
            }
            Err(RenderError::Manifests(mistakes)) => mistakes
                .iter()
                .map(|mistake| format!("{mistake}\n"))
                .collect(),
            Err(error) => format!("{error}\n"),
        };
        let expected_at = case.join("expected.txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected_at, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_at).unwrap_or_default();
        assert_eq!(
            found, expected,
            "{name}: set UPDATE_EXPECTED=1 to take the new text after reading it"
        );
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} cases in {}", cases.display());
}
