use std::path::PathBuf;

/// The options that every binary shares: `#[command(flatten)] config: ConfigArgs`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// TOML file that overrides the built-in defaults
    #[arg(long, value_name = "PATH", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Print the effective settings, without secrets, and leave
    #[arg(long)]
    pub print_config: bool,
}
