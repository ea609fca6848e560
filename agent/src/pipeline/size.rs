//! How large requests may be, as far as the server has told.

/// No server that is set up as it should be takes less: nothing smaller is learned from one that says so for a while.
const LEAST: usize = 64 << 10;

/// So many requests are taken before larger ones are tried again.
const PATIENCE: u32 = 100;

/// The same when larger ones were refused again and again.
const LONGEST_PATIENCE: u32 = 100_000;

/// Bytes of a request at most.
#[derive(Debug)]
pub(super) struct Size {
    configured: usize,
    most: usize,
    /// Requests taken since it changed.
    taken: u32,
    patience: u32,
}

impl Size {
    pub(super) const fn new(configured: usize) -> Self {
        Self { configured, most: configured, taken: 0, patience: PATIENCE }
    }

    pub(super) const fn most(&self) -> usize {
        self.most
    }

    /// A request of so many bytes is too large. Returns what is the most from now on, if that is less than before.
    pub(super) fn refused(&mut self, bytes: usize) -> Option<usize> {
        let half = (bytes / 2).max(LEAST).min(self.most);
        self.taken = 0;
        if half == self.most {
            return None;
        }
        self.most = half;
        Some(half)
    }

    /// A request is stored: the server, or a proxy before it, may take larger ones by now.
    pub(super) fn taken(&mut self) {
        if self.most == self.configured {
            return;
        }
        self.taken += 1;
        if self.taken >= self.patience {
            self.taken = 0;
            self.patience = self.patience.saturating_mul(2).min(LONGEST_PATIENCE);
            self.most = self.most.saturating_mul(2).min(self.configured);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn take(size: &mut Size, requests: u32) {
        (0..requests).for_each(|_| size.taken());
    }

    #[test]
    fn it_is_halved_down_to_a_least_and_told_once() {
        let mut size = Size::new(MIB);
        assert_eq!(size.refused(MIB), Some(MIB / 2));
        assert_eq!(size.refused(MIB), None, "what was on its way already");
        assert_eq!(size.refused(90_000), Some(LEAST));
        assert_eq!((size.refused(300), size.most()), (None, LEAST));
        let mut small = Size::new(1_000);
        assert_eq!((small.refused(1_000), small.most()), (None, 1_000), "as it is configured");
    }

    #[test]
    fn it_grows_back_and_ever_more_slowly_where_it_is_refused_again() {
        let mut size = Size::new(MIB);
        assert_eq!((size.refused(MIB), size.refused(MIB / 2)), (Some(MIB / 2), Some(MIB / 4)));
        take(&mut size, PATIENCE - 1);
        assert_eq!(size.most(), MIB / 4);
        take(&mut size, 1);
        assert_eq!(size.most(), MIB / 2);
        assert_eq!(size.refused(MIB / 2), Some(MIB / 4));
        take(&mut size, PATIENCE);
        assert_eq!(size.most(), MIB / 4);
        take(&mut size, PATIENCE);
        assert_eq!(size.most(), MIB / 2);
        take(&mut size, 4 * PATIENCE);
        assert_eq!(size.most(), MIB, "and no more than is configured");
        take(&mut size, 100 * PATIENCE);
        assert_eq!(size.most(), MIB);
    }
}
