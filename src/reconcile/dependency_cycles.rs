//! Cycles in `dependsOn`, whose members would wait for ever.

use crate::{core::name::Name, spec::Declarations};
use std::collections::{BTreeMap, HashMap};

/// Members of a cycle that a message names.
const NAMED: usize = 10;

/// Returns the Applications that depend on themselves, each with a description of its cycle.
///
/// Visits every dependency once (Tarjan's strongly connected components): a tenant may declare
/// thousands.
pub(crate) fn dependency_cycles(declared: &Declarations) -> BTreeMap<Name, String> {
    let graph = DependencyGraph::new(declared);
    let mut found = BTreeMap::new();
    for members in graph.components() {
        let depends_on_itself = |at: &usize| graph.edges[*at].contains(at);
        if members.len() == 1 && !depends_on_itself(&members[0]) {
            continue;
        }
        for member in &members {
            let text = graph.cycle_text(*member, &members);
            found.insert(graph.names[*member].clone(), text);
        }
    }
    found
}

/// The declared Applications by number, with the numbers of their dependencies.
struct DependencyGraph<'d> {
    names: Vec<&'d Name>,
    edges: Vec<Vec<usize>>,
}

/// An Application whose dependencies are being visited.
struct OpenVisit {
    at: usize,
    /// The dependencies that were visited.
    visited: usize,
}

impl<'d> DependencyGraph<'d> {
    fn new(declared: &'d Declarations) -> Self {
        let applications = &declared.applications;
        let names: Vec<&Name> = applications.keys().collect();
        let numbers: HashMap<&Name, usize> = names.iter().copied().zip(0..).collect();
        let edges = applications.values().map(|application| {
            let depends_on = application.depends_on.iter();
            depends_on.filter_map(|name| numbers.get(name).copied())
        });
        Self {
            edges: edges.map(Iterator::collect).collect(),
            names,
        }
    }

    /// Returns the strongly connected components.
    fn components(&self) -> Vec<Vec<usize>> {
        const UNSEEN: usize = usize::MAX;
        let count = self.names.len();
        let (mut order, mut low) = (vec![UNSEEN; count], vec![0; count]);
        let (mut on_stack, mut stack) = (vec![false; count], Vec::new());
        let (mut next, mut components) = (0, Vec::new());
        for start in 0..count {
            let mut open = Vec::new();
            if order[start] == UNSEEN {
                open.push(OpenVisit {
                    at: start,
                    visited: 0,
                });
            }
            while let Some(OpenVisit { at, visited }) = open.last_mut() {
                let at = *at;
                if *visited == 0 && order[at] == UNSEEN {
                    (order[at], low[at]) = (next, next);
                    next += 1;
                    stack.push(at);
                    on_stack[at] = true;
                }
                if let Some(&dependency) = self.edges[at].get(*visited) {
                    *visited += 1;
                    if order[dependency] == UNSEEN {
                        open.push(OpenVisit {
                            at: dependency,
                            visited: 0,
                        });
                    } else if on_stack[dependency] {
                        low[at] = low[at].min(order[dependency]);
                    }
                    continue;
                }
                open.pop();
                if let Some(dependent) = open.last() {
                    low[dependent.at] = low[dependent.at].min(low[at]);
                }
                if low[at] == order[at] {
                    let begin = stack.iter().rposition(|member| *member == at);
                    let members = stack.split_off(begin.unwrap_or_default());
                    members.iter().for_each(|member| on_stack[*member] = false);
                    components.push(members);
                }
            }
        }
        components
    }

    /// Returns a path from an Application back to itself: `a -> b -> a`. A long one is cut.
    fn cycle_text(&self, start: usize, members: &[usize]) -> String {
        if members.len() > NAMED {
            let text = "dependsOn forms cycles among";
            return format!(
                "{text} {} Applications, {} among them",
                members.len(),
                self.names[start]
            );
        }
        // Each visited Application, with the dependent that led to it.
        let mut dependents = BTreeMap::new();
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for dependency in self.edges[at].iter().filter(|at| members.contains(at)) {
                if *dependency == start {
                    let mut path = vec![start, at];
                    while let Some(dependent) = path.last().and_then(|last| dependents.get(last)) {
                        path.push(*dependent);
                    }
                    let names = path.iter().rev().map(|at| self.names[*at].to_string());
                    let names: Vec<String> = names.collect();
                    return format!("dependsOn forms a cycle: {}", names.join(" -> "));
                }
                if !dependents.contains_key(dependency) {
                    dependents.insert(*dependency, at);
                    open.push(*dependency);
                }
            }
        }
        format!("dependsOn of {} forms a cycle", self.names[start])
    }
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

    #[test]
    fn cycle_search_visits_each_dependency_once() {
        let mut text = "apiVersion: tagboat.dev/v1alpha1\nkind: Environment\nmetadata: {name: dev}\nspec: {paths: ['**'], update: {via: commit}}\n".to_owned();
        // The square of this number of steps takes minutes.
        const MANY: usize = 20_000;
        for number in 0..MANY {
            let needs = (number + 1) % MANY;
            text.push_str(&format!("---\napiVersion: tagboat.dev/v1alpha1\nkind: Application\nmetadata: {{name: a{number}, namespace: x}}\nspec: {{environment: dev, path: a, cluster: c, dependsOn: [x/a{needs}]}}\n"));
        }
        let declared = crate::spec::read([("apps.yaml", text.as_bytes())], None);
        let found = dependency_cycles(&declared);
        assert_eq!(found.len(), MANY);
        assert_eq!(
            found.values().next().unwrap(),
            "dependsOn forms cycles among 20000 Applications, x/a0 among them"
        );
    }
}
