//! Cycles in `dependsOn`, whose members would wait for ever.

use crate::{core::name::Name, spec::Declarations};
use std::collections::BTreeMap;

/// Returns the Applications that depend on themselves, each with a description of its cycle.
pub(crate) fn dependency_cycles(declared: &Declarations) -> BTreeMap<Name, String> {
    declared
        .applications
        .keys()
        .filter_map(|start| Some((start.clone(), cycle(declared, start)?)))
        .collect()
}

/// Returns a path from an Application back to itself: `a -> b -> a`.
fn cycle(declared: &Declarations, start: &Name) -> Option<String> {
    // Each visited Application, with the dependent that led to it.
    let mut dependents: BTreeMap<&Name, &Name> = BTreeMap::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        let application = declared.applications.get(name);
        for dependency in application.iter().flat_map(|one| &one.depends_on) {
            if dependency == start {
                let mut path = vec![start, name];
                while let Some(dependent) = path.last().and_then(|last| dependents.get(*last)) {
                    path.push(dependent);
                }
                let path: Vec<String> = path.iter().rev().map(ToString::to_string).collect();
                return Some(format!("dependsOn forms a cycle: {}", path.join(" -> ")));
            }
            if !dependents.contains_key(dependency) {
                dependents.insert(dependency, name);
                open.push(dependency);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycle_is_named_from_each_member() {
        let mut text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
        for (name, needs) in [("a", "x/b"), ("b", "x/c"), ("c", "x/a"), ("d", "x/a")] {
            text.push_str(&format!("---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: x}}\nspec: {{environment: dev, path: {name}, cluster: c, dependsOn: [{needs}]}}\n"));
        }
        let declared = crate::spec::read([("apps.yaml", text.as_bytes())], None);
        let found: Vec<String> = dependency_cycles(&declared)
            .into_iter()
            .map(|(name, cycle)| format!("{name}: {}", cycle.split_once(": ").unwrap().1))
            .collect();
        assert_eq!(
            found,
            [
                "x/a: x/a -> x/b -> x/c -> x/a",
                "x/b: x/b -> x/c -> x/a -> x/b",
                "x/c: x/c -> x/a -> x/b -> x/c",
            ]
        );
    }
}
