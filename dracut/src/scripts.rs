//! The files of each module.

use crate::{Category, Contents, File, Files, Point, Priority};

/// A hook of the controller's.
struct OwnHook {
    name: &'static str,
    point: Point,
    priority: Priority,
    script: &'static str,
}

impl OwnHook {
    const fn new(name: &'static str, point: Point, priority: u8, script: &'static str) -> Self {
        Self { name, point, priority: Priority::own(priority), script }
    }
}

const PHASE: &str = include_str!("parts/phase.sh");

/// The root is claimed after dracut has read `root=` (at 10), and before its parsers of devices and servers
/// look at that (from 30 on). The phases run after what an
/// administrator does to the network at pre-mount 08, and mount before dracut's own `mount` hooks, which
/// have 99. No hook that dracut runs in an emergency comes before the controller's.
const HOOKS: [OwnHook; 6] = [
    OwnHook::new("cmdline", Point::CMDLINE, 20, include_str!("parts/cmdline.sh")),
    OwnHook::new("timeout", Point::TIMEOUT, 10, include_str!("parts/timeout.sh")),
    OwnHook::new("pre-mount", Point::PRE_MOUNT, 10, PHASE),
    OwnHook::new("mount", Point::MOUNT, 10, PHASE),
    OwnHook::new("pre-pivot", Point::PRE_PIVOT, 10, PHASE),
    OwnHook::new("emergency", Point::EMERGENCY, 0, include_str!("parts/emergency.sh")),
];

const SETUP: &str = "module-setup.sh";

/// `gse`: the controller, its hooks, and for systemd the unit that mounts the root.
pub(crate) fn controller(contents: &Contents, parts: &[Category]) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Controller.directory());
    let names: Vec<&str> = parts.iter().map(|part| part.module()).collect();
    let mut hooks = String::new();
    let mut files = Files::new();
    for OwnHook { name, point, priority, script } in &HOOKS {
        hooks += &format!("    inst_hook {point} {priority} \"$moddir/gse-{name}.sh\"\n");
        files.insert(at(&format!("gse-{name}.sh")), File::script(script.replace("@PHASE@", name)));
    }
    let setup = include_str!("parts/gse.sh")
        .replace("@PARTS@", &names.join(" "))
        .replace("    @HOOKS@\n", &hooks);
    files.insert(at(SETUP), File::script(setup));
    files.insert(at("gse-generator.sh"), File::script(include_str!("parts/generator.sh")));
    files.insert(at("mount.gse.sh"), File::script(include_str!("parts/mount.gse.sh")));
    if let Some(bytes) = &contents.controller {
        files.insert(at("gse-controller"), File { mode: 0o755, bytes: bytes.clone() });
    }
    files
}

/// `gse-config`: whatever lies in the module's `root` directory.
pub(crate) fn config(contents: &Contents) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Config.directory());
    let mut files = Files::from([(at(SETUP), File::script(include_str!("parts/config.sh")))]);
    files.extend(
        contents.config.iter().map(|(path, file)| (at(&format!("root/{path}")), file.clone())),
    );
    files
}

/// `gse-network`: drivers.
pub(crate) fn network(contents: &Contents) -> Files {
    let setup =
        include_str!("parts/network.sh").replace("@DRIVERS@", &list(&contents.network_drivers));
    Files::from([(format!("{}/{SETUP}", Category::Network.directory()), File::script(setup))])
}

/// `gse-storage`: drivers and programs.
pub(crate) fn storage(contents: &Contents) -> Files {
    let setup = include_str!("parts/storage.sh")
        .replace("@DRIVERS@", &list(&contents.storage_drivers))
        .replace("@TOOLS@", &list(&contents.tools));
    Files::from([(format!("{}/{SETUP}", Category::Storage.directory()), File::script(setup))])
}

/// `gse-local`: the administrator's own.
pub(crate) fn local(contents: &Contents) -> Files {
    let at = |name: &str| format!("{}/{name}", Category::Local.directory());
    let mut files = Files::new();
    let mut commands = String::new();
    for (number, hook) in (1..).zip(&contents.hooks) {
        let name = hook.file_name(number);
        commands += &format!("    inst_hook {} {} \"$moddir/{name}\"\n", hook.point, hook.priority);
        files.insert(at(&name), File { mode: 0o755, bytes: hook.script.clone() });
    }
    if let Some(options) = &contents.cmdline {
        commands += "    inst_simple \"$moddir/cmdline.conf\" /etc/cmdline.d/20-gse.conf\n";
        files.insert(at("cmdline.conf"), File::text(format!("{}\n", options.trim())));
    }
    if let Some(bytes) = &contents.modprobe {
        commands += "    inst_simple \"$moddir/modprobe.conf\" /etc/modprobe.d/gse-local.conf\n";
        files.insert(at("modprobe.conf"), File { mode: 0o644, bytes: bytes.clone() });
    }
    let setup = include_str!("parts/local.sh").replace("    @COMMANDS@\n", &commands);
    files.insert(at(SETUP), File::script(setup));
    files
}

/// Words for a shell command, one a line.
fn list(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
        .collect::<Vec<_>>()
        .join(" \\\n        ")
}
