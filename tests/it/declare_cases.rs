//! Golden declarations: each file under `cases/declare` beside its expected findings.

use std::{fmt::Write, fs, path::Path};
use tagboat::spec;

#[test]
fn declaration_mistakes_have_line_and_column() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/declare");
    let mut cases = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs::read(&path).unwrap();
        let found = if name.starts_with("process") {
            match spec::settings::read(&name, std::str::from_utf8(&bytes).unwrap()) {
                Ok((_, warnings)) => format!("good\n{}", listed(&warnings)),
                Err(mistakes) => listed(&mistakes),
            }
        } else {
            let declared = spec::read([(name.as_str(), bytes.as_slice())], Some("main"));
            let mut text = listed(&declared.mistakes);
            for policy in declared.policies.values() {
                writeln!(
                    text,
                    "policy {} {} {}",
                    policy.name,
                    policy.image,
                    policy.choice.kind()
                )
                .unwrap();
            }
            for environment in declared.environments.values() {
                writeln!(
                    text,
                    "environment {} {:?}",
                    environment.name,
                    environment.paths.patterns()
                )
                .unwrap();
            }
            for application in declared.applications.values() {
                writeln!(text, "application {}", application.name).unwrap();
            }
            text
        };
        let expected_at = path.with_extension("txt");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected_at, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_at).unwrap_or_default();
        assert_eq!(
            found, expected,
            "{name}: set UPDATE_EXPECTED=1 to take the new text after reading it"
        );
        cases += 1;
    }
    assert!(cases >= 4, "only {cases} cases in {}", folder.display());
}

fn listed(mistakes: &[spec::Diagnostic]) -> String {
    mistakes
        .iter()
        .map(|mistake| format!("{mistake}\n"))
        .collect()
}
