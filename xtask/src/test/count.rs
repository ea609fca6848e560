//! How many tests passed and failed.

/// A sum of results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// What failed, in words.
    pub(crate) failures: Vec<String>,
}

impl Count {
    /// One test that passed.
    pub(crate) fn success() -> Self {
        Self { passed: 1, ..Self::default() }
    }

    /// One test that failed.
    pub(crate) fn failure(what: String) -> Self {
        Self { passed: 0, failed: 1, failures: vec![what] }
    }

    /// Adds other results.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }

    /// What `cargo test` printed: a `test result:` line per test program, a `test NAME ... FAILED` line per failure.
    pub(crate) fn of_cargo_test(text: &str) -> Self {
        let mut count = Self::default();
        for line in text.lines() {
            if let Some(result) = line.trim_start().strip_prefix("test result: ") {
                count.passed += number_before(result, " passed");
                count.failed += number_before(result, " failed");
            } else if let Some(name) =
                line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"))
            {
                count.failures.push(name.to_owned());
            }
        }
        count
    }
}

impl Count {
    /// What `conntally-sinks`, or a script in a guest, printed: a line `test NAME ... ok` or `test NAME ... FAILED` per case.
    pub(crate) fn of_tests(text: &str) -> Self {
        let mut count = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("test ")) {
            if line.ends_with(" ... ok") {
                count.add(Self::success());
            } else if let Some(name) = line.strip_suffix(" ... FAILED") {
                count.add(Self::failure(name.to_owned()));
            }
        }
        count
    }
}

fn number_before(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).map_or("", |(before, _)| before);
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let text = "running 2 tests\ntest a ... ok\ntest b::c ... FAILED\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.00s\n";
        let count = Count::of_cargo_test(text);
        assert_eq!((count.passed, count.failed), (13, 1));
        assert_eq!(count.failures, ["b::c"]);
    }

    #[test]
    fn cases_of_sinks_are_counted_one_by_one() {
        let text = "test a/b (1.0 s) ... ok\ntest a/c (2.0 s) ... FAILED\n    why\n\ntest a/d ... not applicable: x\n";
        let count = Count::of_tests(text);
        assert_eq!((count.passed, count.failed), (1, 1));
        assert_eq!(count.failures, ["a/c (2.0 s)"]);
    }

    #[test]
    fn text_without_results_counts_nothing() {
        assert_eq!(Count::of_cargo_test("error: could not compile"), Count::default());
    }
}
