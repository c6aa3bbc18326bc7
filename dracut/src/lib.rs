//! Generates the dracut modules that put the controller into an initramfs of dracut's.
//!
//! [`modules`] is pure: what an image is to contain goes in, files come out, for the caller to write. One
//! module is made for each [`Category`]; the module `gse` asks for the others that are there. Of the
//! controller only the names of its phases are known here. All shell is POSIX sh, because dracut's hooks
//! run in dash or busybox, and a hook is a single call of the controller.
//!
//! Of dracut nothing is used that versions 050 to 059 and dracut-ng do not share: `dracut.modules(7)`.

mod category;
mod hook;
mod scripts;

use std::collections::BTreeMap;

pub use category::{Category, UnknownCategory};
pub use hook::{Hook, HookError, Point, Priority};

/// A file of the modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Permission bits.
    pub mode: u32,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl File {
    /// A file that is read.
    pub fn text(text: impl Into<String>) -> Self {
        Self { mode: 0o644, bytes: text.into().into_bytes() }
    }

    /// A file that is executed.
    pub fn script(text: impl Into<String>) -> Self {
        Self { mode: 0o755, bytes: text.into().into_bytes() }
    }
}

/// Files by their path below `modules.d`.
pub type Files = BTreeMap<String, File>;

/// What the modules are to put into an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The controller's static binary. Without it the module `gse` takes the one that is installed on
    /// the machine where dracut runs.
    pub controller: Option<Vec<u8>>,
    /// The files of `/config.d`, and others that belong to the configuration, by their path in the image
    /// without the leading slash.
    pub config: BTreeMap<String, File>,
    /// Network drivers: names of modules, or directories of the kernel's sources as `=drivers/net/phy`.
    pub network_drivers: Vec<String>,
    /// Drivers of disks and filesystems, likewise.
    pub storage_drivers: Vec<String>,
    /// Programs without which the configured filesystems cannot be made or checked.
    pub tools: Vec<String>,
    /// Kernel options that hold whatever the boot loader says.
    pub cmdline: Option<String>,
    /// The administrator's own hooks.
    pub hooks: Vec<Hook>,
    /// The administrator's own options for kernel modules, as in `modprobe.d(5)`.
    pub modprobe: Option<Vec<u8>>,
}

impl Default for Contents {
    /// What any machine needs: nothing of an administrator's own, and no payload.
    fn default() -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            controller: None,
            config: BTreeMap::new(),
            network_drivers: owned(category::NETWORK_DRIVERS),
            storage_drivers: owned(category::STORAGE_DRIVERS),
            tools: owned(category::TOOLS),
            cmdline: None,
            hooks: Vec::new(),
            modprobe: None,
        }
    }
}

/// The modules of these categories. [`Category::Controller`] is always among them: without it, the others
/// have no purpose.
pub fn modules(contents: &Contents, categories: &[Category]) -> Files {
    let parts: Vec<Category> = Category::PARTS
        .into_iter()
        .filter(|part| categories.contains(part) && !part.is_empty(contents))
        .collect();
    let mut files = scripts::controller(contents, &parts);
    for part in parts {
        files.extend(match part {
            Category::Controller => Files::new(),
            Category::Config => scripts::config(contents),
            Category::Network => scripts::network(contents),
            Category::Storage => scripts::storage(contents),
            Category::Local => scripts::local(contents),
        });
    }
    files
}
