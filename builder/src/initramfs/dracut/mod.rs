//! dracut's image: GSE's modules, written, and dracut run on them.
//!
//! A [`Plan`] is made of everything that can be read and checked; nothing is written before all of it is
//! known to be right.

mod contents;
mod place;
mod run;

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use gse_dracut::{Category, Files};
use serde::Serialize;

use self::run::Dracut;
use super::{Error, Input, Options, Output, tools};

/// What is to be written, and run.
#[derive(Debug)]
pub struct Plan {
    files: Files,
    /// The modules that dracut is to find in [`Self::files`].
    modules: Vec<&'static str>,
    /// Where the modules go, for who wants to use them elsewhere.
    modules_d: Option<PathBuf>,
    image: Option<(Dracut, PathBuf)>,
}

/// What was written.
#[derive(Debug, Default, Serialize)]
pub struct Built {
    /// The modules' directory; none where a single image was asked for.
    pub modules_d: Option<PathBuf>,
    /// The image; none where dracut is not wanted, or not there.
    pub image: Option<Image>,
}

/// An image of dracut's.
#[derive(Debug, Serialize)]
pub struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// How long dracut took, in seconds.
    pub seconds: f64,
}

/// Whether dracut is to make an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The modules alone.
    No,
    /// If it is installed.
    IfInstalled,
    /// It was asked for: a host without it is an error.
    Yes,
}

impl Plan {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Those of the controller's own image, and dracut missing where its image was asked for.
    pub fn new(options: &Options, wanted: Wanted) -> Result<Self, Error> {
        let input = Input::read(options)?;
        let contents = contents::contents(&input, options)?;
        let categories: Vec<Category> = Category::ALL
            .into_iter()
            .filter(|category| !options.local.without.contains(category))
            .collect();
        let files = gse_dracut::modules(&contents, &categories);
        let written =
            |category: &&Category| files.keys().any(|path| path.starts_with(&category.directory()));
        let modules = categories.iter().filter(written).map(|c| c.module()).collect();
        let release = &input.directory.release;
        let found = match wanted {
            Wanted::No => None,
            Wanted::IfInstalled => Dracut::find(&env::var_os("PATH").unwrap_or_default()),
            Wanted::Yes => Some(
                Dracut::find(&env::var_os("PATH").unwrap_or_default()).ok_or(Error::NoDracut)?,
            ),
        };
        if found.is_some() {
            tools::check_host(&input.config.filesystems())?;
        }
        let (modules_d, image) = match &options.output {
            Output::Dist(dist) => {
                let directory = dist.join("controller").join(release);
                (Some(directory.join("modules.d")), directory.join("initramfs-dracut.img"))
            }
            Output::File(file) => (None, file.clone()),
        };
        let plan = Self { files, modules, modules_d, image: found.map(|dracut| (dracut, image)) };
        plan.refuse_existing(options.force)?;
        Ok(plan)
    }

    fn refuse_existing(&self, force: bool) -> Result<(), Error> {
        let image = self.image.as_ref().map(|(_, path)| path);
        match [self.modules_d.as_ref(), image].into_iter().flatten().find(|p| p.exists()) {
            Some(path) if !force => Err(Error::Exists { path: path.clone() }),
            _ => Ok(()),
        }
    }

    /// Whether there will be an image.
    pub fn has_image(&self) -> bool {
        self.image.is_some()
    }

    /// Writes the modules and runs dracut.
    ///
    /// # Errors
    /// What could not be written; dracut's last lines, if it fails.
    pub fn build(&self, options: &Options) -> Result<Built, Error> {
        if let Some(directory) = &self.modules_d {
            place::replace_directory(directory, &self.files)?;
        }
        let image = match &self.image {
            Some((dracut, output)) => Some(self.image(dracut, output, options)?),
            None => None,
        };
        Ok(Built { modules_d: self.modules_d.clone(), image })
    }

    fn image(&self, dracut: &Dracut, output: &Path, options: &Options) -> Result<Image, Error> {
        let start = Instant::now();
        let directory = super::parent(output);
        fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
        let work = tempfile::Builder::new()
            .prefix(".dracut.")
            .tempdir_in(directory)
            .map_err(Error::io("making a directory in", directory))?;
        let base = work.path().join("base");
        place::base(&base, dracut.base(), &self.files, options.time)?;
        let made = work.path().join("initramfs.img");
        dracut.run(&base, &made, &self.modules, options)?;
        let size = place::publish(&made, output)?;
        Ok(Image { path: output.to_owned(), size, seconds: start.elapsed().as_secs_f64() })
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(directory) = &self.modules_d {
            writeln!(f, "{}: modules for dracut", directory.display())?;
        }
        if let Some(Image { path, size, seconds }) = &self.image {
            let kib = size.div_ceil(1024);
            writeln!(
                f,
                "{}: dracut's image\n  {:<11}{kib:>8} KiB  in {seconds:.2} s",
                path.display(),
                "image"
            )?;
        }
        Ok(())
    }
}
