//! [`ConfigFlag`]: the flag that names the configuration file.

use std::path::PathBuf;

/// The flag of commands that read the file.
#[derive(Debug, clap::Args)]
pub(crate) struct ConfigFlag {
    /// File with the values of serve's flags, in TOML, each under its flag's name with underscores. The command line
    /// wins over the environment, and the environment over the file.
    #[arg(long, env = "WALCAST_CONFIG", value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}
