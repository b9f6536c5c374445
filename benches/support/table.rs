//! The rows that every benchmark prints: the figure, its target, and what it is measured against.

/// The target of a row is a bound of its own: nothing else is measured in the same run.
#[allow(dead_code, reason = "some benchmarks have a peer in every row")]
pub(crate) const BOUND: &str = "a fixed bound";

/// Prints the names of the columns.
pub(crate) fn heading() {
    println!(
        "{:<58} {:>10} {:>10} {:<7} MEASURED AGAINST",
        "WHAT", "FIGURE", "TARGET", "VERDICT"
    );
}

/// Prints a figure beside its target: the most it may be.
pub(crate) fn row(what: &str, figure: f64, target: f64, against: &str) {
    let verdict = if figure <= target { "met" } else { "MISSED" };
    println!("{what:<58} {figure:>10.3} {target:>10.3} {verdict:<7} {against}");
}

/// Prints a figure that has no target.
#[allow(dead_code, reason = "some benchmarks have a target in every row")]
pub(crate) fn figure(what: &str, figure: f64) {
    println!("{what:<58} {figure:>10.3} {:>10} {:<7}", "-", "-");
}

/// Prints how a figure grows: one column a size, and the power of the size that it grows with from
/// the first column to the last. 1 is proportional to the size, 0 independent of it.
#[allow(dead_code, reason = "some benchmarks have one size")]
pub(crate) fn growth(what: &str, columns: &[(usize, f64)], most: f64) {
    let texts: Vec<String> = columns
        .iter()
        .map(|(size, figure)| format!("{size}: {figure:.3}"))
        .collect();
    let power = match columns {
        [(first, low), .., (last, high)] if *low > 0.0 => {
            (high / low).ln() / (*last as f64 / *first as f64).ln()
        }
        _ => 0.0,
    };
    row(
        &format!("{what}: power of the size"),
        power,
        most,
        &texts.join(", "),
    );
}
