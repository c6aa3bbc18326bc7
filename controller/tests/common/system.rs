//! Systems as a machine has them: installed, and configured.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsFd as _,
    path::Path,
};

use gse_controller::{
    configure,
    install::{FileSource, Limits, install},
    log::Log,
};
use gse_protocol::config::{Machines, bundle, machines::Identity, system::Desired};

use super::pack::Image;

pub fn image_file(image: &Image) -> FileSource {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image.tar_zst).unwrap();
    FileSource::new(file)
}

pub fn install_on(image: &Image, root: &Path) {
    let directory = File::open(root).unwrap();
    let limits = Limits::default();
    install(&image.index, &mut image_file(image), directory.as_fd(), &|_| {}, &limits).unwrap();
}

/// Puts these files into an installed system, as phase 7 does.
pub fn configure(root: &Path, files: &[(&str, &str)]) {
    let gse = root.join(".gse");
    fs::create_dir_all(&gse).unwrap();
    configure_with(root, &gse, files);
}

/// As [`configure`], with the records in the folder `gse`.
pub fn configure_with(root: &Path, gse: &Path, files: &[(&str, &str)]) {
    let file = |text: &str| bundle::File { mode: 0o600, bytes: text.as_bytes().to_vec() };
    let files: bundle::Files =
        files.iter().map(|(path, text)| (format!("files/{path}"), file(text))).collect();
    let desired = Desired::new(&files, &Machines::default(), &Identity::default()).unwrap();
    let points = ["user-data".to_owned()];
    configure::bring(root, gse, &desired, &points, &Log::console()).unwrap();
}
