//! How often a flow of a certain age is reported.

use std::time::Duration;

/// The rate curve in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateCurve {
    /// Age and interval, by ascending age.
    steps: Vec<(u64, u64)>,
}

impl RateCurve {
    /// Makes it of steps: from which age on, how often. Their order does not matter.
    #[must_use]
    pub fn new(steps: &[(Duration, Duration)]) -> Self {
        let mut steps: Vec<_> =
            steps.iter().map(|(age, every)| (nanoseconds(*age), nanoseconds(*every))).collect();
        steps.sort_unstable();
        Self { steps }
    }

    /// Nanoseconds between two reports of a flow of this age (nanoseconds): those of the last step that it has
    /// reached, of the first one for younger flows. 0 without steps.
    #[must_use]
    pub fn every(&self, age_ns: u64) -> u64 {
        let reached = self.steps.iter().take_while(|(age, _)| *age <= age_ns).last();
        reached.or(self.steps.first()).map_or(0, |(_, every)| *every)
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(steps: &[(u64, u64)]) -> RateCurve {
        let seconds = |(age, every): &(u64, u64)| (Duration::from_secs(*age), Duration::from_secs(*every));
        RateCurve::new(&steps.iter().map(seconds).collect::<Vec<_>>())
    }

    #[test]
    fn the_interval_grows_with_the_age() {
        let curve = curve(&[(60, 20), (0, 5), (300, 60)]);
        let at = |age: u64| curve.every(age * 1_000_000_000) / 1_000_000_000;
        assert_eq!([at(0), at(59), at(60), at(299), at(300), at(90_000)], [5, 5, 20, 20, 60, 60]);
    }

    #[test]
    fn flows_younger_than_the_first_step_take_its_interval() {
        assert_eq!(curve(&[(10, 7)]).every(0), 7_000_000_000);
    }

    #[test]
    fn without_steps_every_dump_reports() {
        assert_eq!(curve(&[]).every(5), 0);
    }
}
