//! How a benchmark ends.

use std::process::ExitCode;

/// 0 when every limit was kept; what could not be measured is printed.
pub(crate) fn exit_code(kept: anyhow::Result<bool>) -> ExitCode {
    match kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
