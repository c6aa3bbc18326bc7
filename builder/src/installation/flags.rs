//! The flags about this installation.

/// As the command line has them.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// Check gse's own files for modifications (-hc)
    #[arg(long, group = "action")]
    pub health_check: bool,
    /// Put back the default configuration; what was changed is kept aside (-rpn)
    #[arg(long, group = "action")]
    pub replace_new: bool,
}
