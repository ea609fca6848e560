//! The command `conntally`.

fn main() -> std::process::ExitCode {
    conntally::cli::main()
}
