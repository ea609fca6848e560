//! x
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_p: &crate::paths::Paths, _t: &Options) -> anyhow::Result<()> {
    Ok(())
}
