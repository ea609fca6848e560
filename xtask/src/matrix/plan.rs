//! Which combinations of kernel, hook and number of CPUs are run.

use std::fmt;

use crate::kernels::Series;

/// How the kernel programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Typed programs.
    Fentry,
    /// Probes.
    Kprobe,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        })
    }
}

impl Hook {
    /// The hooks that a kernel must offer. One that does not is a failure, not a reason to skip.
    pub(crate) fn of(series: &Series) -> &'static [Self] {
        if series.has_module_btf() { &[Self::Fentry, Self::Kprobe] } else { &[Self::Kprobe] }
    }
}

/// One guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Case {
    /// Its kernel.
    pub(crate) series: Series,
    /// The forced hook.
    pub(crate) hook: Hook,
    /// Number of CPUs.
    pub(crate) cpus: u32,
}

impl Case {
    /// Its name as a folder.
    pub(crate) fn folder(&self) -> String {
        format!("{}-{}-{}", self.series, self.hook, self.cpus)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} CPU{}", self.series, self.hook, self.cpus, if self.cpus == 1 { "" } else { "s" })
    }
}

/// Every combination.
pub(crate) fn all(kernels: &[Series]) -> Vec<Case> {
    kernels.iter().flat_map(of_kernel).collect()
}

/// One case per kernel; all pairs of hook and number of CPUs are as evenly spread over them as can be.
pub(crate) fn pairwise(kernels: &[Series]) -> Vec<Case> {
    let mut chosen: Vec<Case> = Vec::new();
    for kernel in kernels {
        let used = |case: &Case| {
            chosen.iter().filter(|other| (other.hook, other.cpus) == (case.hook, case.cpus)).count()
        };
        let next = of_kernel(kernel).min_by_key(used);
        chosen.extend(next);
    }
    chosen
}

/// Groups of cases that run at once: two guests with one CPU each where the host has two for them, others alone.
pub(crate) fn side_by_side(cases: &[Case], host_cpus: usize) -> Vec<Vec<&Case>> {
    let (small, big): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.cpus == 1);
    let pairs = small.chunks(if host_cpus > 1 { 2 } else { 1 }).map(<[_]>::to_vec);
    pairs.chain(big.into_iter().map(|case| vec![case])).collect()
}

fn of_kernel(series: &Series) -> impl Iterator<Item = Case> {
    let hooks = Hook::of(series).iter();
    hooks.flat_map(|&hook| [1, 2].map(|cpus| Case { series: series.clone(), hook, cpus }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::supported;

    #[test]
    fn everything_is_run_but_what_a_kernel_cannot_have() {
        let cases = all(&supported());
        assert_eq!(cases.len(), 18);
        let old: Vec<_> = cases.iter().filter(|case| case.series.to_string() == "5.10").collect();
        assert!(old.len() == 2 && old.iter().all(|case| case.hook == Hook::Kprobe));
    }

    #[test]
    fn the_selection_has_each_kernel_and_each_pair_of_hook_and_cpus() {
        let cases = pairwise(&supported());
        assert_eq!(cases.iter().map(|case| case.series.clone()).collect::<Vec<_>>(), supported());
        for hook in [Hook::Fentry, Hook::Kprobe] {
            for cpus in [1, 2] {
                assert!(cases.iter().any(|case| (case.hook, case.cpus) == (hook, cpus)), "{hook} {cpus}");
            }
        }
    }

    #[test]
    fn guests_run_at_once_only_where_each_of_their_cpus_has_one_of_the_host() {
        let cases = all(&supported());
        for host_cpus in [1, 2, 8] {
            let groups = side_by_side(&cases, host_cpus);
            assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), cases.len());
            let crowded = |group: &&Vec<&Case>| group.iter().map(|case| case.cpus).sum::<u32>() > 2;
            assert_eq!(groups.iter().find(crowded), None);
            assert_eq!(groups.len(), if host_cpus == 1 { 18 } else { 14 });
        }
    }
}
