//! Applications that wait for one another in a circle: none of them would ever begin.

use crate::{core::name::Name, spec::Declarations};
use std::collections::BTreeMap;

/// Applications that wait for themselves, with the circle in words.
pub(crate) fn dependency_cycles(declared: &Declarations) -> BTreeMap<Name, String> {
    let needs = |name: &Name| {
        declared
            .applications
            .get(name)
            .map(|application| application.depends_on.as_slice())
            .unwrap_or_default()
    };
    let mut found = BTreeMap::new();
    for start in declared.applications.keys() {
        // The way back to the start, if there is one: each step remembers where it came from.
        let (mut from, mut open): (BTreeMap<&Name, &Name>, Vec<&Name>) =
            (BTreeMap::new(), vec![start]);
        while let Some(name) = open.pop() {
            for needed in needs(name) {
                if needed == start {
                    let mut way = vec![name];
                    while let Some(before) = way.last().and_then(|last| from.get(*last)) {
                        way.push(before);
                    }
                    let mut said: Vec<String> = way.iter().rev().map(ToString::to_string).collect();
                    said.push(start.to_string());
                    if said.first() != Some(&start.to_string()) {
                        said.insert(0, start.to_string());
                    }
                    found.insert(
                        start.clone(),
                        format!("dependsOn leads in a circle: {}", said.join(" -> ")),
                    );
                } else if !from.contains_key(needed) {
                    from.insert(needed, name);
                    open.push(needed);
                }
            }
        }
    }
    found
}
