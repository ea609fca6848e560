//! x
#[derive(clap::Subcommand)]
pub(crate) enum Task {
    /// x
    Kernel,
}
pub(crate) fn run(_p: &crate::paths::Paths, _t: Task) -> anyhow::Result<()> {
    Ok(())
}
