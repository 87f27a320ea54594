//! Quantiles, bootstrap intervals and the test behind `compare`.
//!
//! Samples of one round share a process, its memory layout and the machine's mood at that moment, so they are not
//! independent; rounds are. Everything here therefore resamples or compares rounds, never single samples.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Resamples of one bootstrap: the ends of a 95 % interval then rest on 25 of them each.
const RESAMPLES: usize = 1_000;

/// Quantile `q` (0 to 1) of ascending samples, interpolated linearly; 0 without samples.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let low = floor(place).min(last);
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// Median of samples in any order.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(&sorted(samples.to_vec()), 0.5)
}

/// Ascending.
#[must_use]
pub fn sorted(mut samples: Vec<f64>) -> Vec<f64> {
    samples.sort_unstable_by(f64::total_cmp);
    samples
}

/// The mean, or 0 without samples.
#[must_use]
pub fn mean(samples: &[f64]) -> f64 {
    if samples.is_empty() { 0.0 } else { samples.iter().sum::<f64>() / samples.len() as f64 }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "of a place in a slice"
)]
fn floor(x: f64) -> usize {
    x as usize
}

/// A figure and its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Quantile `q` over all rounds, with a bootstrap interval over rounds (over samples, if there is only one round or
/// each has one sample). `None` without samples.
#[must_use]
pub fn estimate(rounds: &[Vec<f64>], q: f64) -> Option<Estimate> {
    let rounds: Vec<&[f64]> = match rounds {
        [only] => only.chunks(1).collect(),
        many => many.iter().map(Vec::as_slice).filter(|r| !r.is_empty()).collect(),
    };
    // Each sample with its round, ascending once; a resample is then a weight per round and one walk.
    let mut tagged: Vec<(f64, usize)> = Vec::new();
    for (i, round) in rounds.iter().enumerate() {
        tagged.extend(round.iter().map(|x| (*x, i)));
    }
    tagged.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let value = quantile(&tagged.iter().map(|t| t.0).collect::<Vec<_>>(), q);
    tagged.first()?;
    let mut rng = StdRng::seed_from_u64(0x6d61_7966_6c79);
    let mut weights = vec![0u32; rounds.len()];
    let mut draws = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        weights.fill(0);
        for _ in 0..rounds.len() {
            weights[rng.random_range(0..rounds.len())] += 1;
        }
        draws.push(weighted_quantile(&tagged, &weights, q));
    }
    let draws = sorted(draws);
    Some(Estimate { value, low: quantile(&draws, 0.025), high: quantile(&draws, 0.975) })
}

fn weighted_quantile(tagged: &[(f64, usize)], weights: &[u32], q: f64) -> f64 {
    let total: u64 = tagged.iter().map(|(_, round)| u64::from(weights[*round])).sum();
    let wanted = q * (total.max(1) - 1) as f64;
    let mut passed = 0u64;
    for (value, round) in tagged {
        passed += u64::from(weights[*round]);
        if passed as f64 > wanted {
            return *value;
        }
    }
    tagged.last().map_or(0.0, |(value, _)| *value)
}

/// How much larger B is than A, as a factor, with an interval that holds at `confidence`.
///
/// Compares the logarithms of the rounds' medians by Welch's interval with Student's t, which stays honest with as few
/// as three rounds, where a bootstrap of so few is too narrow. `None` with fewer than two rounds on a side, or where
/// a median is not positive.
#[must_use]
pub fn factor(a: &[Vec<f64>], b: &[Vec<f64>], confidence: f64) -> Option<Estimate> {
    let logs = |rounds: &[Vec<f64>]| -> Option<Vec<f64>> {
        rounds.iter().map(|r| Some(median(r)).filter(|m| *m > 0.0).map(f64::ln)).collect()
    };
    let (a, b) = (logs(a)?, logs(b)?);
    if a.len() < 2 || b.len() < 2 {
        return None;
    }
    let (va, vb) = (variance(&a) / a.len() as f64, variance(&b) / b.len() as f64);
    let difference = mean(&b) - mean(&a);
    let spread = va + vb;
    if spread == 0.0 {
        let value = difference.exp();
        return Some(Estimate { value, low: value, high: value });
    }
    let freedom =
        spread * spread / (va * va / (a.len() as f64 - 1.0) + vb * vb / (b.len() as f64 - 1.0));
    let half = student_t(1.0 - (1.0 - confidence) / 2.0, freedom.max(1.0)) * spread.sqrt();
    Some(Estimate {
        value: difference.exp(),
        low: (difference - half).exp(),
        high: (difference + half).exp(),
    })
}

fn variance(x: &[f64]) -> f64 {
    let m = mean(x);
    x.iter().map(|v| (v - m).powi(2)).sum::<f64>() / (x.len() as f64 - 1.0).max(1.0)
}

/// Quantile of Student's t by bisection of its distribution function.
fn student_t(p: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        // P(T < t) = 1 - I(v / (v + t^2); v/2, 1/2) / 2 for t > 0.
        let tail = incomplete_beta(freedom / (freedom + middle * middle), freedom / 2.0, 0.5) / 2.0;
        if 1.0 - tail < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The regularised incomplete beta function, by its continued fraction (Lentz's method).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast only on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front =
        (a * x.ln() + b * (1.0 - x).ln() - (ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b))).exp() / a;
    let tiny = 1e-300;
    let keep_off_zero = |v: f64| if v.abs() < tiny { tiny } else { v };
    let (mut c, mut d) = (1.0, 1.0 / keep_off_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut sum = d;
    for m in 1..300u32 {
        let m = f64::from(m);
        for term in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / keep_off_zero(1.0 + term * d);
            c = keep_off_zero(1.0 + term / c);
            sum *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-12 {
            break;
        }
    }
    front * sum
}

/// Logarithm of the gamma function: Stirling's series, raised to where it is exact to 1e-12.
fn ln_gamma(x: f64) -> f64 {
    let (mut shift, mut z) = (0.0, x);
    while z < 10.0 {
        shift += z.ln();
        z += 1.0;
    }
    let series = 1.0 / (12.0 * z) - 1.0 / (360.0 * z.powi(3)) + 1.0 / (1260.0 * z.powi(5));
    (z - 0.5) * z.ln() - z + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_interpolate() {
        let x = [1.0, 2.0, 3.0, 4.0];
        assert_eq!((quantile(&x, 0.0), quantile(&x, 0.5), quantile(&x, 1.0)), (1.0, 2.5, 4.0));
        assert_eq!(quantile(&[], 0.5), 0.0);
    }

    #[test]
    fn students_t_matches_the_tables() {
        for (p, freedom, t) in [(0.975, 1.0, 12.706), (0.975, 9.0, 2.262), (0.995, 30.0, 2.750)] {
            let got = student_t(p, freedom);
            assert!((got - t).abs() < 1e-3, "t({p}, {freedom}) = {got}, not {t}");
        }
    }

    #[test]
    fn an_interval_covers_the_truth_about_as_often_as_it_says() {
        // 12 rounds whose level differs (5 %) and 20 samples in each (10 %): true median 1.
        let mut rng = StdRng::seed_from_u64(7);
        let trials = 300;
        let covered = (0..trials)
            .filter(|_| {
                let rounds = synthetic(&mut rng, 12, 20, 1.0);
                estimate(&rounds, 0.5).is_some_and(|e| e.low <= 1.0 && 1.0 <= e.high)
            })
            .count();
        // A bootstrap of 12 clusters runs a little narrow; 88 % is what theory gives for it.
        assert!(covered * 100 >= trials * 86, "{covered} of {trials}");
    }

    fn synthetic(rng: &mut StdRng, rounds: usize, samples: usize, level: f64) -> Vec<Vec<f64>> {
        let normal = |rng: &mut StdRng| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        (0..rounds)
            .map(|_| {
                let round = level * (0.05 * normal(rng)).exp();
                (0..samples).map(|_| round * (0.1 * normal(rng)).exp()).collect()
            })
            .collect()
    }
}
