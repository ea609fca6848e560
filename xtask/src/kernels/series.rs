//! The name of a kernel series, such as 6.12, and which package of the archive serves it.

use std::{fmt, str::FromStr};

/// A kernel series: the first two numbers of a version. Ordered by age.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    major: u32,
    minor: u32,
}

impl Series {
    /// The series of a release such as `6.12.115+deb13-cloud-amd64`.
    pub(crate) fn of_release(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self { major: numbers.next()?.parse().ok()?, minor: numbers.next()?.parse().ok()? })
    }

    /// Whether modules have type information of their own, without which no typed program can be attached to
    /// their functions. It came with 5.11.
    ///
    /// <https://github.com/torvalds/linux/commit/36e68442d1afd4f720704ee1ea8486331507e834>
    pub(crate) fn has_module_btf(&self) -> bool {
        *self >= Self { major: 5, minor: 11 }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of_release(text)
            .filter(|series| series.to_string() == text)
            .ok_or_else(|| anyhow::anyhow!("{text:?} is not a kernel series such as 6.12"))
    }
}

/// Of all package names, the image to boot for a series: of the series itself, else of the next newer one.
pub(crate) fn choose(names: &str, wanted: &Series) -> Option<String> {
    let images = || names.lines().filter_map(Image::parse);
    let series = images().map(|image| image.series).filter(|series| series >= wanted).min()?;
    let newest = images().filter(|image| image.series == series).max_by_key(Image::rank)?;
    Some(newest.name.to_owned())
}

/// A package that holds a bootable image.
struct Image<'a> {
    name: &'a str,
    series: Series,
    version: Vec<u32>,
}

impl<'a> Image<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix("linux-image-").or_else(|| name.strip_prefix("linux-binary-"))?;
        let version = rest.strip_suffix("-amd64")?;
        // A dot after the second number: meta packages such as linux-image-6.1-amd64 hold nothing.
        let other = ["dbg", "unsigned", "-rt", "-16k", "meta"].iter().any(|word| rest.contains(word));
        let series = Series::of_release(version).filter(|_| !other)?;
        version.strip_prefix(&format!("{series}."))?;
        let numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok());
        Some(Self { name, series, version: numbers.collect() })
    }

    /// Cloud images are small and have what guests need; among them the newest; of one version the package with
    /// the files rather than the one that depends on it.
    fn rank(&self) -> (bool, Vec<u32>, bool) {
        (self.name.contains("-cloud-"), self.version.clone(), self.name.starts_with("linux-binary"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-amd64\nlinux-image-5.10.0-9-cloud-amd64\nlinux-image-5.10.0-46-cloud-amd64\n\
        linux-image-5.10.0-46-amd64\nlinux-image-5.10.0-46-rt-amd64\nlinux-image-5.10-cloud-amd64\nlinux-image-6.12.115+deb13-cloud-amd64\n\
        linux-image-6.12.115+deb13-cloud-amd64-dbg\nlinux-image-6.12.115+deb13-cloud-amd64-unsigned\n\
        linux-image-7.2.12+deb14-cloud-amd64\nlinux-binary-7.2.12+deb14-cloud-amd64\nlinux-headers-6.12.115-amd64";

    fn chosen(series: &str) -> Option<String> {
        choose(NAMES, &series.parse().unwrap())
    }

    #[test]
    fn the_newest_cloud_image_of_the_series_is_chosen_by_number_not_by_text() {
        assert_eq!(chosen("5.10").unwrap(), "linux-image-5.10.0-46-cloud-amd64");
    }

    #[test]
    fn the_next_newer_series_takes_the_place_of_one_that_is_gone() {
        assert_eq!(chosen("6.1").unwrap(), "linux-image-6.12.115+deb13-cloud-amd64");
        assert_eq!(chosen("7.3"), None);
    }

    #[test]
    fn the_package_with_the_files_is_preferred() {
        assert_eq!(chosen("7.2").unwrap(), "linux-binary-7.2.12+deb14-cloud-amd64");
    }

    #[test]
    fn only_whole_series_are_names_of_series() {
        assert!("6.12".parse::<Series>().is_ok());
        for wrong in ["6", "", "6.12.1", "six.one", "6.x", "06.1"] {
            assert!(wrong.parse::<Series>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn series_are_ordered_by_number() {
        let series = |text: &str| text.parse::<Series>().unwrap();
        assert!(series("5.10") > series("5.9") && series("6.1") < series("6.12"));
        assert!(!series("5.10").has_module_btf() && series("6.1").has_module_btf());
    }
}
