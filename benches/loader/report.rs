//! The table: for every figure of a row the median of each target, and how they compare.
//!
//! It is Markdown, and lines up as it is. A ratio says how many times better a target is than
//! the first one: above one is better, whichever way the figure goes. Behind it stand the lowest
//! and the highest ratio of the single turns, in which the targets ran right after each other.

use super::figure::{Bar, Better, Figure, Kind};

/// The results of a target in a row, run by run.
pub type Runs = Vec<Vec<Figure>>;

const NAME_WIDTH: usize = 34;
const FIGURE_WIDTH: usize = 24;
const VALUE_WIDTH: usize = 12;
const RATIO_WIDTH: usize = 22;
const BAR_WIDTH: usize = 22;

/// The head of the table.
pub fn head(targets: &[&str]) -> String {
    let mut titles = vec![pad("row", NAME_WIDTH), pad("figure", FIGURE_WIDTH)];
    titles.extend(targets.iter().map(|target| pad_left(target, VALUE_WIDTH)));
    titles.extend(targets.iter().skip(1).map(|target| pad(&over(target, targets), RATIO_WIDTH)));
    titles.push(pad("must / goal", BAR_WIDTH));
    let rule: Vec<String> = titles.iter().map(|title| "-".repeat(title.chars().count())).collect();
    format!("{}\n{}", line(&titles), line(&rule))
}

fn over(target: &str, targets: &[&str]) -> String {
    format!("{target} vs {}", targets[0])
}

/// The lines of a row.
pub fn row(title: &str, targets: &[Runs], bars: &[Bar]) -> String {
    let Some(names) = targets.iter().find_map(|runs| runs.first()) else { return String::new() };
    let mut lines = Vec::new();
    for (index, figure) in names.iter().enumerate() {
        let title = if index == 0 { title } else { "" };
        let bar = bars.iter().find(|bar| bar.figure == figure.name);
        let mut cells = vec![pad(title, NAME_WIDTH), pad(figure.name, FIGURE_WIDTH)];
        let values: Vec<Vec<f64>> = targets.iter().map(|runs| values(runs, figure.name)).collect();
        let medians: Vec<Option<f64>> = values.iter().map(|values| median(values)).collect();
        for median in &medians {
            cells.push(pad_left(&median.map_or("failed".into(), round), VALUE_WIDTH));
        }
        for target in &values[1..] {
            cells.push(pad(&ratios(&values[0], target, figure.better), RATIO_WIDTH));
        }
        cells
            .push(pad(&bar.map_or(String::new(), |bar| verdict(bar, figure, &medians)), BAR_WIDTH));
        lines.push(line(&cells));
    }
    lines.join("\n")
}

fn values(runs: &Runs, name: &str) -> Vec<f64> {
    let value = |run: &Vec<Figure>| Some(run.iter().find(|figure| figure.name == name)?.value);
    runs.iter().filter_map(value).collect()
}

/// The ratio of the medians, and the extremes of the turns.
fn ratios(base: &[f64], target: &[f64], better: Better) -> String {
    let (Some(base_median), Some(target_median)) = (median(base), median(target)) else {
        return String::new();
    };
    let Some(ratio) = times_better(base_median, target_median, better) else {
        return String::new();
    };
    let turns = base.iter().zip(target).filter_map(|(base, it)| times_better(*base, *it, better));
    let (lowest, highest) =
        turns.fold((f64::MAX, f64::MIN), |(low, high), turn| (low.min(turn), high.max(turn)));
    if base.len() < 2 || lowest > highest {
        return format!("{ratio:.2}x");
    }
    format!("{ratio:.2}x ({lowest:.2}..{highest:.2})")
}

fn times_better(base: f64, target: f64, better: Better) -> Option<f64> {
    let ratio = match better {
        Better::Higher => target / base,
        Better::Lower => base / target,
        Better::Neither => return None,
    };
    ratio.is_finite().then_some(ratio)
}

/// What is asked, and whether the last target comes up to it.
fn verdict(bar: &Bar, figure: &Figure, medians: &[Option<f64>]) -> String {
    let asked = match bar.kind {
        Kind::Times => format!("{}x / {}x", bar.must, bar.goal),
        Kind::Below => format!("<{} / <{}", bar.must, bar.goal),
    };
    let (Some(Some(base)), Some(Some(last))) = (medians.first(), medians.last()) else {
        return asked;
    };
    if bar.kind == Kind::Times && medians.len() < 2 {
        return asked;
    }
    let reached = |level: f64| match bar.kind {
        Kind::Times => times_better(*base, *last, figure.better).is_some_and(|it| it >= level),
        Kind::Below => *last < level,
    };
    let word = if reached(bar.goal) {
        "goal"
    } else if reached(bar.must) {
        "must"
    } else {
        "missed"
    };
    format!("{asked} {word}")
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Three digits or more, and thousands set apart.
fn round(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let digits = text.len() - if decimals > 0 { decimals + 1 } else { 0 };
    let mut set_apart = String::new();
    for (index, digit) in text.chars().enumerate() {
        if index > 0 && index < digits && (digits - index) % 3 == 0 && digit != '-' {
            set_apart.push(' ');
        }
        set_apart.push(digit);
    }
    set_apart
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

fn pad(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

fn pad_left(text: &str, width: usize) -> String {
    format!("{text:>width$}")
}
