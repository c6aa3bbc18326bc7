//! The flags about what is published.

/// As the command line has them.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Flags {
    /// List what is published in DIST
    #[arg(long, group = "action")]
    pub releases: bool,
    /// Compare two published versions: packages, files, sizes
    #[arg(long, value_names = ["OLD", "NEW"], num_args = 2, group = "action")]
    pub diff: Option<Vec<String>>,
    /// Make a version that is published the one that machines take next
    #[arg(long, value_name = "V", group = "action")]
    pub default: Option<String>,
    /// Offer a version no longer; if machines take it now, the newest other one takes its place
    #[arg(long, value_name = "V", group = "action")]
    pub withdraw: Option<String>,
    /// Show which images are no longer needed: withdrawn ones, and all but the default and the KEEP newest [default: 1].
    /// With --force, remove them
    #[arg(long, value_name = "KEEP", group = "action", num_args = 0..=1, require_equals = true)]
    pub prune: Option<Option<usize>>,
}
