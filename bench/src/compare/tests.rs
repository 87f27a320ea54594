//! Runs that differ and runs that do not.

use super::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const FIGURES: usize = 25;

/// Asking for the compiler's version starts a process: once will do.
fn empty() -> Run {
    static EMPTY: std::sync::OnceLock<Run> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| crate::plan::Plan::smoke().new_run(Vec::new())).clone()
}

fn heavy(rng: &mut StdRng) -> f64 {
    let normal = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    // One sample in thirty hits a disturbance of up to ten times.
    if rng.random::<f64>() < 0.03 { normal.abs() * 10.0 } else { normal }
}

/// A run whose rounds share a mood of 4 %, whose samples scatter by 10 % with heavy tails, `slower` by a factor.
fn run(rng: &mut StdRng, slower: f64, rounds: usize) -> Run {
    let mut run = empty();
    let machine = (0.02 * heavy(rng).clamp(-3.0, 3.0)).exp();
    let control = (0..rounds).map(|_| vec![machine * (0.005 * heavy(rng)).exp()]).collect();
    run.add(series("control", 0, control));
    for figure in 0..FIGURES {
        let rounds = (0..rounds)
            .map(|_| {
                let level = slower * machine * (0.04 * heavy(rng)).exp();
                (0..15).map(|_| level * (0.1 * heavy(rng)).exp()).collect()
            })
            .collect();
        run.add(series("throughput", figure, rounds));
    }
    run
}

fn series(scenario: &str, figure: usize, rounds: Vec<Vec<f64>>) -> Series {
    let mut s = Series::new(scenario, &figure.to_string(), "mayfly", "latency", Unit::Us);
    s.rounds = rounds.into_iter().map(crate::record::Round::new).collect();
    s
}

#[test]
fn the_same_build_twice_is_no_difference_19_times_out_of_20() {
    let mut rng = StdRng::seed_from_u64(20);
    let trials = 200;
    let alarms = (0..trials)
        .filter(|_| compare(&run(&mut rng, 1.0, 6), &run(&mut rng, 1.0, 6)).differs())
        .count();
    assert!(alarms * 20 <= trials, "{alarms} false alarms in {trials}");
}

#[test]
fn a_build_that_is_a_third_slower_is_found_out() {
    let mut rng = StdRng::seed_from_u64(21);
    let trials = 100;
    let found = (0..trials)
        .filter(|_| {
            let c = compare(&run(&mut rng, 1.0, 8), &run(&mut rng, 1.33, 8));
            c.lines.iter().any(|l| l.verdict == Verdict::Worse)
                && !c.lines.iter().any(|l| l.verdict == Verdict::Better)
        })
        .count();
    assert!(found * 100 >= trials * 95, "{found} of {trials}");
}

fn one(figure: &str, unit: Unit, rounds: &[f64]) -> Run {
    let mut run = empty();
    let series = Series::new("micro", "hello", "mayfly", figure, unit);
    run.add(rounds.iter().fold(series, |s, x| s.round(vec![*x])));
    run
}

#[test]
fn a_figure_that_leaves_zero_is_a_difference() {
    for (unit, small, large) in
        [(Unit::Count, 0.3, 3.0), (Unit::Us, 0.5, 8.0), (Unit::Bytes, 100.0, 65_536.0)]
    {
        let verdict = |a: &[f64], b: &[f64]| {
            let found = compare(&one("faults", unit, a), &one("faults", unit, b));
            found.lines[0].verdict
        };
        let zero = [0.0; 6];
        assert_eq!(verdict(&zero, &[large; 6]), Verdict::Worse);
        assert_eq!(verdict(&[large; 6], &zero), Verdict::Better);
        // One round that was not quite zero hides nothing.
        let nearly = [0.0, 0.0, small, 0.0, 0.0, 0.0];
        assert_eq!(verdict(&nearly, &[large; 6]), Verdict::Worse);
        // Under the threshold, or not in every round: may be chance.
        assert_eq!(verdict(&zero, &[small; 6]), Verdict::Same);
        assert_eq!(verdict(&zero, &[large, large, large, large, large, 0.0]), Verdict::Same);
        assert_eq!(verdict(&zero, &zero), Verdict::Same);
    }
}

#[test]
fn what_one_run_lacks_is_said() {
    let a = one("life", Unit::Us, &[1.0; 6]);
    let mut b = one("call", Unit::Us, &[1.0; 6]);
    b.skip("throughput/hello/workerd", "not installed");
    let text = table(&compare(&a, &b), false);
    assert!(text.contains("1 series of A are not in B, as micro/hello/mayfly/life"), "{text}");
    assert!(text.contains("1 series of B are not in A, as micro/hello/mayfly/call"), "{text}");
    assert!(text.contains("throughput/hello/workerd: not installed"), "{text}");
    let few = one("life", Unit::Us, &[1.0]);
    let text = table(&compare(&few, &few), false);
    assert!(text.contains("no difference in 0 figures\n1 more have too few"), "{text}");
}

#[test]
fn what_moves_the_bare_server_as_well_is_the_machine() {
    let wire = |bare: f64, mayfly: f64| {
        let mut run = empty();
        for (subject, level) in [("bare-hyper", bare), ("mayfly", mayfly)] {
            let series = Series::new("throughput", "hello", subject, "requests", Unit::PerS);
            let rounds = [0.99, 1.0, 1.0, 1.01, 0.995, 1.005];
            run.add(rounds.iter().fold(series, |s, x| s.round(vec![x * level])));
        }
        run
    };
    let before = wire(150_000.0, 65_000.0);
    assert!(!compare(&before, &wire(123_000.0, 55_000.0)).differs());
    let slower = compare(&before, &wire(149_000.0, 55_000.0));
    assert_eq!(slower.lines[1].verdict, Verdict::Worse);
}

#[test]
fn exact_figures_need_no_statistics() {
    let size = |bytes: f64| {
        let mut run = empty();
        run.add(
            Series::new("figures", "hello", "mayfly", "file_size", Unit::Bytes).round(vec![bytes]),
        );
        run
    };
    assert!(!compare(&size(1000.0), &size(1005.0)).differs());
    let grown = compare(&size(1000.0), &size(1100.0));
    assert_eq!(grown.lines[0].verdict, Verdict::Worse);
    assert!(table(&grown, false).contains("WORSE"));
}
