//! The flags of `--build-controller` that are about what an administrator adds, and about dracut.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gse_dracut::{Category, Hook, Point, Priority, UnknownCategory};

use super::Error;

/// Which images are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Images {
    /// The controller's own initramfs.
    Own,
    /// The one that dracut makes of GSE's modules.
    Dracut,
    /// Both.
    Both,
}

/// The flags, as the command line has them.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// With --build-controller: which images; both, where dracut is installed, unless --output names one
    #[arg(long, value_name = "WHICH", requires = "build_controller")]
    pub image: Option<Images>,
    /// With --build-controller: kernel options that count wherever the boot loader gives no others
    #[arg(long, value_name = "OPTIONS", requires = "build_controller")]
    pub cmdline: Option<String>,
    /// With --build-controller: options of kernel modules, a file for /etc/modprobe.d/
    #[arg(long, value_name = "FILE", requires = "build_controller")]
    pub modules: Option<PathBuf>,
    /// With --build-controller: run a SCRIPT in dracut's image, such as --hook="pre-mount 30" vlan.sh
    #[arg(long = "hook", value_name = "POINT PRIORITY", requires = "build_controller")]
    pub hooks: Vec<String>,
    /// The scripts of --hook, in the same order
    #[arg(value_name = "SCRIPT", requires = "hooks")]
    pub scripts: Vec<PathBuf>,
    /// With --build-controller: a script for complex networks, at pre-mount 08 in dracut's image
    #[arg(long, value_name = "SCRIPT", requires = "build_controller")]
    pub net: Option<PathBuf>,
    /// With --build-controller: options for dracut
    #[arg(
        long = "dracut_opt",
        alias = "dracut-opt",
        value_name = "OPTIONS",
        allow_hyphen_values = true,
        requires = "build_controller"
    )]
    pub dracut_options: Vec<String>,
    /// With --build-controller: modules of GSE that dracut's image does without (gse-network, gse-storage, …)
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "build_controller")]
    pub without: Vec<String>,
}

/// What an administrator adds, read and checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// Kernel options, for both images.
    pub cmdline: Option<String>,
    /// A file of modprobe.d(5), for both images.
    pub modprobe: Option<Vec<u8>>,
    /// Scripts, for dracut's image.
    pub hooks: Vec<Hook>,
    /// Modules of GSE that dracut's image does without.
    pub without: Vec<Category>,
    /// Words for dracut's command line.
    pub arguments: Vec<String>,
}

impl Flags {
    /// Reads the files that they name.
    ///
    /// # Errors
    /// A hook at no point of dracut's, or without a script; a script or file that cannot be read; options
    /// with an open quote; a module that GSE does not have.
    pub fn read(&self) -> Result<Local, Error> {
        let mut hooks = self.hooks()?;
        if let Some(script) = &self.net {
            hooks.push(hook(Point::PRE_MOUNT, Priority::NETWORK, script)?);
        }
        let words = |text: &String| {
            shlex::split(text).ok_or_else(|| Error::DracutWords { text: text.clone() })
        };
        let arguments = self.dracut_options.iter().map(words).collect::<Result<Vec<_>, _>>()?;
        Ok(Local {
            cmdline: self.cmdline.clone(),
            modprobe: self.modules.as_deref().map(read).transpose()?,
            hooks,
            without: self.left_out()?,
            arguments: arguments.concat(),
        })
    }

    fn hooks(&self) -> Result<Vec<Hook>, Error> {
        if self.hooks.len() != self.scripts.len() {
            return Err(Error::HookPairs { pairs: pairs(&self.hooks, &self.scripts) });
        }
        let each = |(place, script): (&String, &PathBuf)| {
            let (point, priority) = Hook::parse_place(place)?;
            hook(point, priority, script)
        };
        self.hooks.iter().zip(&self.scripts).map(each).collect()
    }

    fn left_out(&self) -> Result<Vec<Category>, Error> {
        let parsed = self.without.iter().map(|name| name.parse());
        let categories = parsed.collect::<Result<Vec<Category>, UnknownCategory>>()?;
        if categories.contains(&Category::Controller) {
            return Err(Error::WithoutController);
        }
        Ok(categories)
    }
}

fn hook(point: Point, priority: Priority, script: &Path) -> Result<Hook, Error> {
    let name = script.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Hook { point, priority, name, script: read(script)? })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io("reading", path))
}

/// Which script goes with which hook, a line each.
fn pairs(hooks: &[String], scripts: &[PathBuf]) -> String {
    let pair = |at: usize| {
        let hook = hooks.get(at).map_or("(no --hook)".into(), |h| format!("--hook={h:?}"));
        let script = scripts.get(at).map_or("(no script)".into(), |s| s.display().to_string());
        format!("\n  {hook} {script}")
    };
    (0..hooks.len().max(scripts.len())).map(pair).collect()
}
